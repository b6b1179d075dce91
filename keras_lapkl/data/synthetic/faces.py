"""Procedural faces with exact iBUG-68 landmarks: the labeled data set that ships with the package.

A 3-D head (`head.py`) gets an identity, an expression and a pose. Its landmarks are
projected, and the picture is painted through the projected points, so that label and drawing cannot
disagree.
"""

import operator

import cv2
import numpy as np
from numpy.typing import NDArray

from keras_lapkl.data.synthetic.canvas import Canvas
from keras_lapkl.data.synthetic.features import (
    paint_face,
    sample_look,
    shade_details,
    shade_surface,
)
from keras_lapkl.data.synthetic.head import Head, sample_head
from keras_lapkl.data.synthetic.styles import (
    STYLES,
    paint_beard,
    paint_behind,
    paint_body,
    paint_glasses,
    paint_hair,
    paint_hat,
    paint_occluder,
    paint_scene,
)


def _develop(image, rng):
    """What a camera does: exposure, contrast, cast, gray, blur, noise, compression."""
    size = len(image)
    level = np.linspace(0, 1, 256)[:, None] ** np.exp(rng.normal(0, 0.2))
    level = level * rng.uniform(0.65, 1.25) * (1 + rng.normal(0, 0.06, 3))
    level = 0.4 + (level - 0.4) * rng.uniform(0.75, 1.3) + rng.normal(0, 0.05)
    image = cv2.LUT(image, np.clip(level * 255, 0, 255).astype(np.uint8)[:, None])
    if rng.random() < 0.15:
        image = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    lens = rng.random()
    if lens < 0.45:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.003, 0.013) * size)
    elif lens < 0.53:
        reach = max(round(rng.uniform(1, 2) * size / 80), 1)
        kernel = np.zeros((2 * reach + 1, 2 * reach + 1), np.float32)
        # Through the center, so that the picture does not move away from its landmarks.
        a = rng.integers(0, 2 * reach + 1, 2)
        cv2.line(kernel, a.tolist(), (2 * reach - a).tolist(), 1.0)
        image = cv2.filter2D(image, -1, kernel / kernel.sum())
    if rng.random() < 0.6:
        noise = rng.standard_normal((size, size, 1), np.float32)
        noise = noise * rng.uniform(1, 9, 3).astype(np.float32)
        image = cv2.add(image, noise, dtype=cv2.CV_8U)
    if rng.random() < 0.15:
        quality = cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 80))
        # cv2 reads and writes BGR, and so gives back the channels in the order that it got.
        image = cv2.imdecode(cv2.imencode(".jpg", image, quality)[1], cv2.IMREAD_COLOR)
    return image


def paint_head(head: Head, size: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """The picture (S, S, 3) of a posed head, before any camera: uint8 RGB.

    A generator in the same state gives the same person, clothes and light under every pose.
    """
    look = sample_look(rng)
    style = rng.choice(list(STYLES), p=list(STYLES.values()))
    canvas = Canvas(np.empty((2 * size, 2 * size, 3), np.uint8), 2)
    shade = Canvas(np.full((size, size, 3), 128, np.uint8), 1)  # 128: colors stay as they are
    paint_scene(canvas, rng)
    paint_behind(canvas, shade, head, look, style, rng)
    paint_body(canvas, shade, head, look, style, rng)
    paint_face(canvas, head, look)
    if style in ("short", "buzz", "bald") and rng.random() < 0.35:
        paint_beard(canvas, head, look, rng)
    shade_surface(shade, head, rng)
    shade_details(shade, head, rng)
    light = cv2.resize(shade.pixels, canvas.pixels.shape[:2])
    cv2.multiply(canvas.pixels, light, canvas.pixels, 1 / 128)
    if style != "bald":
        paint_hair(canvas, head, look, style, rng)
    if rng.random() < 0.07:
        paint_hat(canvas, head, rng)
    if rng.random() < 0.16:
        paint_glasses(canvas, head, rng)
    if rng.random() < 0.12:
        paint_occluder(canvas, head, look, rng)
    return cv2.resize(canvas.pixels, (size, size), interpolation=cv2.INTER_AREA)  # pyright: ignore[reportReturnType]


def paint_background(size: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """What is behind the faces, alone: (S, S, 3) uint8 RGB."""
    canvas = Canvas(np.empty((2 * size, 2 * size, 3), np.uint8), 2)
    paint_scene(canvas, rng)
    return cv2.resize(canvas.pixels, (size, size), interpolation=cv2.INTER_AREA)  # pyright: ignore[reportReturnType]


def _render(rng, size):
    """One image (S, S, 3) and its landmarks (68, 2)."""
    head = sample_head(rng, size)
    return _develop(paint_head(head, size, rng), rng), head.marks


def synthetic_faces(
    count: int, seed: int = 0, image_size: int = 80, start: int = 0
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Faces `start` to `start + count - 1` of a seeded, endless sequence, with their landmarks.

    Args:
        count: N ≥ 0, how many faces.
        seed: int ≥ 0. Face i of a seed is the same whatever `start` and `count` are.
        image_size: side S ≥ 16 of the square images, pixels.
        start: int ≥ 0, index of the first face.

    Returns:
        images (N, S, S, 3), uint8 RGB; and landmarks (N, 68, 2), float32 pixels in iBUG-68 order,
        x first, 0-based, pixel centers at whole numbers.

    Raises:
        ValueError: an argument is not an integer, or below its minimum.

    Example:

    >>> images, landmarks = synthetic_faces(2, seed=7)
    >>> images.shape, landmarks.shape
    ((2, 80, 80, 3), (2, 68, 2))
    """
    for name, value, least in (
        ("count", count, 0),
        ("seed", seed, 0),
        ("image_size", image_size, 16),
        ("start", start, 0),
    ):
        try:
            valid = operator.index(value) >= least
        except TypeError:
            valid = False
        if not valid:
            raise ValueError(f"`{name}` must be an integer ≥ {least}. Received: {value!r}")
    images = np.empty((count, image_size, image_size, 3), np.uint8)
    landmarks = np.empty((count, 68, 2), np.float32)
    for i in range(count):
        rng = np.random.default_rng([seed, start + i])
        images[i], landmarks[i] = _render(rng, image_size)  # pyright: ignore[reportCallIssue, reportArgumentType]
    return images, landmarks
