"""Augmentation of images and landmarks together, as TensorFlow operations on whole batches.

Every number drawn follows from `seed`, so a batch is the same whenever it is made again. The
paper trains without augmentation.
"""

# TensorFlow's stubs are narrower than TensorFlow.
# pyright: reportArgumentType=false

import dataclasses
import math
from collections.abc import Sequence
from typing import Self

import tensorflow as tf

from keras_lapkl._support.types import Tensor


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """How strongly each augmentation acts; 0 turns one off.

    Attributes:
        rotation: largest angle in degrees, uniform in ±rotation.
        scale: largest relative change of size, log-uniform in [1/(1+scale), 1+scale].
        shift: largest shift along each axis, as a fraction of the image's side.
        mirror: probability of a mirrored face.
        color: largest change of contrast, as a fraction; brightness and each channel's gain change
            by at most half of it.
        gray: probability of a gray image.
        blur: probability of a blurred image.
        occlusion: probability of a rectangle of one color, of 10 to 40 % of the side.
        light: largest change of brightness at the edges, darker at one and brighter at the other,
            as a fraction.
        gamma: probability of a darker or brighter exposure, by an exponent in [1/3, 4].
        motion: probability of motion blur, over at most 10 % of the side.
        noise: probability of a sensor's noise, of a standard deviation of at most 0.2.
        jpeg: probability of JPEG compression, of quality 10 to 70.
        openings: share of the labeled faces whose eyes and mouth are drawn as far open as chance
            has it, where the scheme knows them (see `openings`); `augment` itself does not.
        eye_gain, mouth_gain: how much more than the faces' the labels' openings differ from the
            average ones, in [1, 3]; see `openings.widen`.

    Raises:
        ValueError: a number out of range: rotation in [0, 180], gains in [1, 3], others in [0, 1].

    Example:

    >>> Augmentation(rotation=30.0, gray=0.0).scaled(0.5).rotation
    15.0
    """

    rotation: float = 20.0
    scale: float = 0.15
    shift: float = 0.05
    mirror: float = 0.5
    color: float = 0.2
    gray: float = 0.1
    blur: float = 0.1
    occlusion: float = 0.2
    light: float = 0.0
    gamma: float = 0.0
    motion: float = 0.0
    noise: float = 0.0
    jpeg: float = 0.0
    openings: float = 0.0
    eye_gain: float = 1.0
    mouth_gain: float = 1.0

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            low, high = _RANGES.get(field.name, (0, 1))
            if not low <= value <= high:
                raise ValueError(f"`{field.name}` must be in [{low}, {high}]. Received: {value}")

    def scaled(self, strength: float) -> Self:
        """The same with moves, colors, blur and covers stronger or weaker by a factor."""
        changed = {name: strength * getattr(self, name) for name in _SCALED}
        return dataclasses.replace(self, **changed)

    def with_camera(self, strength: float) -> Self:
        """The same with what cameras do to photos: uneven and low light, motion, noise, JPEG."""
        changed = {name: strength * value for name, value in _CAMERA.items()}
        return dataclasses.replace(self, **changed)


_RANGES = {"rotation": (0, 180), "eye_gain": (1, 3), "mouth_gain": (1, 3)}
_SCALED = ("rotation", "scale", "shift", "color", "gray", "blur", "occlusion")
_CAMERA = {"light": 0.4, "gamma": 0.3, "motion": 0.2, "noise": 0.5, "jpeg": 0.2}


def augment(
    images: Tensor,
    landmarks: Tensor,
    seed: Tensor,
    augmentation: Augmentation,
    flip: Sequence[int] | None,
    image_size: int,
) -> tuple[Tensor, Tensor]:
    """A batch of images and landmarks, moved and recolored at random.

    Args:
        images: (B, S+2m, S+2m, 3), uint8 or float in [0, 1], with m spare pixels on each side that
            fill the corners of rotated faces.
        landmarks: (B, K, 3): x, y in pixels of the central S×S, and visibility; None if unknown.
        seed: (2,) integers; equal seeds give equal batches.
        augmentation: an `Augmentation`.
        flip: K indices, the scheme's mirror map; None mirrors nothing.
        image_size: S.

    Returns:
        Images (B, S, S, 3) float32 in [0, 1], and landmarks (B, K, 3) or None. A landmark that has
        left the image is hidden.
    """
    images, affine = _augmented(images, seed, augmentation, flip, image_size)
    if landmarks is not None:
        landmarks = _move(landmarks, *affine, flip, image_size)
    return images, landmarks


def augment_with_motion(
    images: Tensor,
    seed: Tensor,
    augmentation: Augmentation,
    flip: Sequence[int] | None,
    image_size: int,
) -> tuple[Tensor, Tensor]:
    """As `augment`, for faces whose landmarks are not known yet.

    Returns:
        Images (B, S, S, 3), and (B, 2, 3) the affines that moved them, on pixels of the central
        S×S; the determinant of one that mirrors is negative.
    """
    images, (matrix, shift, _) = _augmented(images, seed, augmentation, flip, image_size)
    center = (image_size - 1) / 2
    offset = shift + center - tf.reduce_sum(matrix, axis=-1) * center
    return images, tf.concat([matrix, offset[..., None]], axis=-1)


def _augmented(images, seed, augmentation, flip, image_size):
    """Images, and matrices, shifts and mirroring of `_draw_affine`."""
    if images.dtype == tf.uint8:
        images = tf.cast(images, tf.float32) / 255
    if flip is None:
        augmentation = dataclasses.replace(augmentation, mirror=0.0)
    seed = tf.cast(seed, tf.int32)
    seeds = tf.random.split(seed, num=4)
    affine = _draw_affine(tf.shape(images)[0], seeds[0], augmentation, image_size)
    images = _warp(images, *affine[:2], image_size)
    images = blur(images, seeds[1], augmentation.blur)
    images = recolor(images, seeds[2], augmentation.color, augmentation.gray)
    images = occlude(images, seeds[3], augmentation.occlusion)
    camera_seeds = tf.unstack(tf.random.split(seed + 1, num=5))
    for spoil, name, its_seed in zip(_CAMERA_STEPS, _CAMERA, camera_seeds, strict=True):
        strength = getattr(augmentation, name)
        images = spoil(images, its_seed, strength) if strength else images
    return images, affine


def blur(images: Tensor, seed: Tensor, probability: float) -> Tensor:
    """Blurs some images by a 5×5 binomial filter, each mixed in by a random share."""
    line = tf.constant([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
    kernel = tf.tile((line[:, None] * line[None, :])[:, :, None, None], [1, 1, 3, 1])
    padded = tf.pad(images, [[0, 0], [2, 2], [2, 2], [0, 0]], mode="SYMMETRIC")
    blurred = tf.nn.depthwise_conv2d(padded, kernel, [1, 1, 1, 1], "VALID")
    draws = _uniform(tf.shape(images)[0], 2, seed)
    share = draws[:, 0] * tf.cast(draws[:, 1] < probability, tf.float32)
    return images + share[:, None, None, None] * (blurred - images)


def recolor(images: Tensor, seed: Tensor, color: float, gray: float) -> Tensor:
    """Changes contrast by at most `color`, brightness and channel gains by half; grays some."""
    draws = _uniform(tf.shape(images)[0], 6, seed)
    change = (2 * draws[:, :5] - 1) * color
    mean = tf.reduce_mean(images, axis=(1, 2, 3), keepdims=True)
    contrast = 1 + change[:, 0, None, None, None]
    brightness = change[:, 1, None, None, None] / 2
    images = (images - mean) * contrast + mean + brightness
    images *= 1 + change[:, None, None, 2:5] / 2
    luma = tf.reduce_sum(images * tf.constant([0.299, 0.587, 0.114]), axis=-1, keepdims=True)
    grayed = draws[:, 5, None, None, None] < gray
    return tf.clip_by_value(tf.where(grayed, luma, images), 0.0, 1.0)


def occlude(images: Tensor, seed: Tensor, probability: float) -> Tensor:
    """Covers some images by a rectangle of one color, 10 to 40 % of the side long and wide."""
    draws = _uniform(tf.shape(images)[0], 8, seed)
    inside = draws[:, 7, None] < probability
    masks = []
    for axis, (center, length) in enumerate(((0, 1), (2, 3))):
        size = tf.cast(tf.shape(images)[1 + axis], tf.float32)
        half = (0.1 + 0.3 * draws[:, length, None]) * size / 2
        masks.append(tf.abs(tf.range(size)[None, :] - draws[:, center, None] * size) < half)
    mask = masks[0][:, :, None] & masks[1][:, None, :] & inside[:, :, None]
    return tf.where(mask[..., None], draws[:, None, None, 4:7], images)


def relight(images: Tensor, seed: Tensor, light: float) -> Tensor:
    """Light from a side: a gain that goes from edge to edge by at most 1 ± `light`."""
    draws = _uniform(tf.shape(images)[0], 2, seed)
    angle, change = draws[:, 0] * math.tau, draws[:, 1] * light
    rows, columns = (tf.linspace(-1.0, 1.0, images.shape[axis]) for axis in (1, 2))
    gain = (change * tf.cos(angle))[:, None, None] * columns[None, None, :]
    gain += (change * tf.sin(angle))[:, None, None] * rows[None, :, None]
    return tf.clip_by_value(images * (1 + gain[..., None]), 0.0, 1.0)


def expose(images: Tensor, seed: Tensor, probability: float) -> Tensor:
    """Darkens or brightens some images by an exponent, log-uniform in [1/3, 4]."""
    draws = _uniform(tf.shape(images)[0], 2, seed)
    low, high = math.log(1 / 3), math.log(4.0)
    exponent = tf.exp(low + (high - low) * draws[:, 0])
    exponent = tf.where(draws[:, 1] < probability, exponent, 1.0)
    return images ** exponent[:, None, None, None]


def move(images: Tensor, seed: Tensor, probability: float) -> Tensor:
    """Blurs some images along a line of at most 10 % of the side."""
    draws = _uniform(tf.shape(images)[0], 3, seed)
    side = images.shape[1]
    angle, length = draws[:, 0] * math.pi, draws[:, 1] * 0.1 * side
    path = tf.stack([tf.cos(angle), tf.sin(angle)], -1) * length[:, None]
    shares = tf.linspace(-0.5, 0.5, 5)[:, None]
    upright = tf.eye(2, batch_shape=[5])

    def moved(image, path):
        copies = tf.repeat(image[None], 5, 0)
        return tf.reduce_mean(_warp(copies, upright, path * shares, side), 0)

    return _some(images, draws[:, 2] < probability, moved, path)


def add_noise(images: Tensor, seed: Tensor, probability: float) -> Tensor:
    """Adds a sensor's noise to some images, of a standard deviation of at most 0.2.

    Its grain is of one or two pixels, as of a face that was brought to the size from a larger or a
    smaller one, and partly the same in all channels.
    """
    seeds = tf.random.split(seed)
    draws = _uniform(tf.shape(images)[0], 4, seeds[0])[:, None, None, :]
    deviation, chosen, grain, color = tf.split(draws, 4, axis=-1)
    deviation = 0.2 * tf.square(deviation) * tf.cast(chosen < probability, tf.float32)
    noise = tf.random.stateless_normal(tf.shape(images), seeds[1])
    # Each of the mixtures keeps the variance at 1.
    coarse = 2 * tf.nn.avg_pool2d(noise, 2, 1, "SAME")
    noise = tf.where(grain < 0.5, noise, coarse)
    gray = tf.sqrt(3.0) * tf.reduce_mean(noise, -1, keepdims=True)
    noise = tf.where(color < 0.5, noise, gray)
    return tf.clip_by_value(images + deviation * noise, 0.0, 1.0)


def compress(images: Tensor, seed: Tensor, probability: float) -> Tensor:
    """Some images as they come out of a JPEG file of quality 10 to 70."""
    draws = _uniform(tf.shape(images)[0], 2, seed)
    qualities = tf.cast(10 + 60 * draws[:, 0], tf.int32)
    return _some(images, draws[:, 1] < probability, tf.image.adjust_jpeg_quality, qualities)


def _some(images, chosen, change, arguments):
    """Images of which the chosen ones are changed, each by its argument."""

    def changed(each):
        image, chosen, argument = each
        return tf.cond(chosen, lambda: change(image, argument), lambda: image)

    out = tf.map_fn(changed, (images, chosen, arguments), fn_output_signature=tf.float32)
    return tf.ensure_shape(out, images.shape)


_CAMERA_STEPS = (relight, expose, move, add_noise, compress)


def _uniform(batch, count, seed):
    return tf.random.stateless_uniform([batch, count], seed)


def _draw_affine(batch, seed, augmentation, image_size):
    """Matrices (B, 2, 2) and shifts (B, 2) about the image's center, and who is mirrored (B,)."""
    draws = _uniform(batch, 5, seed)
    signed = 2 * draws - 1
    angle = signed[:, 0] * (augmentation.rotation * math.pi / 180)
    size = tf.exp(signed[:, 1] * tf.math.log(1.0 + augmentation.scale))
    shift = signed[:, 2:4] * augmentation.shift * image_size
    mirrored = draws[:, 4] < augmentation.mirror
    side = tf.where(mirrored, -1.0, 1.0)
    cos, sin = size * tf.cos(angle), size * tf.sin(angle)
    matrix = tf.stack([tf.stack([cos * side, -sin], -1), tf.stack([sin * side, cos], -1)], -2)
    return matrix, shift, mirrored


def _warp(images, matrix, shift, image_size):
    """Samples the S×S output from the larger input; corners beyond it repeat the border."""
    center = (image_size - 1) / 2
    margin = (images.shape[1] - image_size) / 2
    inverse = tf.linalg.inv(matrix)
    offset = center + margin - tf.linalg.matvec(inverse, shift + center)
    rows = tf.concat([inverse, offset[..., None]], axis=-1)
    flat = tf.reshape(rows, [-1, 6])
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=tf.pad(flat, [[0, 0], [0, 2]]),
        output_shape=[image_size, image_size],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="NEAREST",
    )


def _move(landmarks, matrix, shift, mirrored, flip, image_size):
    if flip is not None:
        other = tf.gather(landmarks, list(flip), axis=1)
        landmarks = tf.where(mirrored[:, None, None], other, landmarks)
    center = (image_size - 1) / 2
    moved = tf.einsum("bij,bkj->bki", matrix, landmarks[..., :2] - center)
    moved += shift[:, None, :] + center
    inside = tf.reduce_all((moved >= -0.5) & (moved <= image_size - 0.5), axis=-1)
    visible = landmarks[..., 2] * tf.cast(inside, landmarks.dtype)
    return tf.concat([moved, visible[..., None]], axis=-1)
