"""tf.data pipelines from crops in memory to batches, the same at each step of a seed.

The training stream is a function of (seed, step): a run that resumes at step n sees what the
unbroken run would have seen, without going through the first n batches.
"""

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from keras_lapkl.apertures import apertures
from keras_lapkl.data.crop_rule import check_crop_rule
from keras_lapkl.data.crops import Crops
from keras_lapkl.data.unlabeled.crops import UnlabeledCrops
from keras_lapkl.training.augmentation import Augmentation, augment, augment_with_motion
from keras_lapkl.training.openings import mean_ratios, vary_openings, widen

_raised: list[Exception] = []
"""What functions that a stream calls have raised since `plain_errors` began."""


@contextlib.contextmanager
def plain_errors() -> Iterator[None]:
    """What reading the faces of a stream raises, as it is: TensorFlow buries it in its own error.

    Raises:
        ValueError, OSError: a face can't be read.
    """
    _raised.clear()
    try:
        yield
    except tf.errors.OpError as error:
        # A stream that is no longer read may still raise in its threads.
        for each in _raised:
            if str(each) in error.message:
                raise each from None
        raise


def _called(function, inputs, types):
    """Tensors of a function of arrays, without state, whose errors are noted."""

    @functools.wraps(function)
    def noted(*arrays):
        try:
            return function(*arrays)
        except Exception as error:
            _raised.append(error)
            raise

    return tf.numpy_function(noted, inputs, types, stateful=False)


def label_array(crops: Crops) -> NDArray[np.float32]:
    """(N, K, 3) float32: x, y in crop pixels (0 where not annotated) and visibility, 0 or 1.

    Args:
        crops: N `Crops`.
    """
    visible = crops.known
    landmarks = np.where(visible[..., None], crops.landmarks, 0)
    return np.concatenate([landmarks, visible[..., None]], axis=-1).astype(np.float32)


def steps_per_epoch(crops: Crops, batch_size: int) -> int:
    """Whole batches in an epoch; the faces left over differ from epoch to epoch.

    Args:
        crops: `Crops`, or anything with a length and a name.
        batch_size: faces in a batch, in 1..N.

    Raises:
        ValueError: a batch size out of range.
    """
    if not 1 <= batch_size <= len(crops):
        raise ValueError(
            f"The batch size must be in 1..{len(crops)}, the number of faces in {crops.name}. "
            f"Received: {batch_size}. Lower `batch_size`, or `unlabeled_batch_size` of faces "
            "without labels"
        )
    return len(crops) // batch_size


def training_batches(
    crops: Crops,
    batch_size: int,
    seed: int = 0,
    augmentation: Augmentation | None = None,
    first_step: int = 0,
) -> "tf.data.Dataset[Any]":
    """An endless stream of shuffled, optionally augmented batches, beginning at any step.

    Args:
        crops: `Crops`.
        batch_size: faces in a batch, at most the number of crops.
        seed: an int; equal seeds give equal streams.
        augmentation: an `Augmentation`, or None for the crops as they are. Crops whose scheme has
            no mirror map (`flip`) are not mirrored.
        first_step: number of batches to be thought of as already taken.

    Returns:
        tf.data.Dataset of images (B, S, S, 3), uint8 or, augmented, float32 in [0, 1], and
        landmarks (B, K, 3) with visibility last.

    Raises:
        ValueError: a batch larger than the set.

    Example:

    >>> images, landmarks = next(iter(training_batches(crops, batch_size=8)))
    >>> images.shape, landmarks.shape
    (TensorShape([8, 80, 80, 3]), TensorShape([8, 68, 3]))
    """
    return _stream(_labeled(crops, batch_size, seed, augmentation), first_step)


def semi_supervised_batches(
    crops: Crops,
    unlabeled: UnlabeledCrops,
    batch_size: int,
    unlabeled_batch_size: int | None = None,
    seed: int = 0,
    augmentation: Augmentation | None = None,
    first_step: int = 0,
) -> "tf.data.Dataset[Any]":
    """As `training_batches`, each batch with unlabeled faces beside, for `AdversarialLocalizer`.

    The labeled half is the stream that `training_batches` gives. The unlabeled faces go through
    epochs of their own, shuffled anew in each, and are augmented as the labeled ones. Neither is
    mirrored where the labeled ones' scheme does not say how (`flip`).

    Args:
        crops: labeled `Crops`.
        unlabeled: `UnlabeledCrops` of the same image size.
        batch_size: labeled faces in a batch.
        unlabeled_batch_size: unlabeled faces in a batch; None for as many.
        seed, augmentation, first_step: as in `training_batches`.

    Returns:
        tf.data.Dataset of ((images, unlabeled_images), landmarks).

    Raises:
        ValueError: fewer faces than a batch, or crops that differ in size or crop rule.

    Example:

    >>> batches = semi_supervised_batches(crops, unlabeled, 8, augmentation=Augmentation())
    >>> (images, unlabeled_images), landmarks = next(iter(batches))
    """
    check_crop_rule(crops, crops.name, unlabeled)
    labeled = _labeled(crops, batch_size, seed, augmentation)
    flip = crops.scheme.flip
    other = _unlabeled(unlabeled, unlabeled_batch_size or batch_size, seed, augmentation, flip)

    def batch(step):
        images, landmarks = labeled(step)
        return (images, other(step)[0]), landmarks

    return _stream(batch, first_step)


def self_training_batches(
    crops: Crops,
    unlabeled: UnlabeledCrops,
    pseudo_labels: NDArray[Any],
    batch_size: int,
    unlabeled_batch_size: int | None = None,
    seed: int = 0,
    augmentation: Augmentation | None = None,
    first_step: int = 0,
) -> "tf.data.Dataset[Any]":
    """As `training_batches`, with faces in between whose labels are a teacher's.

    Args:
        crops, unlabeled: as in `semi_supervised_batches`.
        pseudo_labels: (N, K, 3) of the unlabeled faces, as `distillation.pseudo_labels` gives them.
        batch_size, unlabeled_batch_size, seed, augmentation, first_step: as there.

    Returns:
        tf.data.Dataset of images (B + U, S, S, 3) and landmarks (B + U, K, 3).

    Raises:
        ValueError: as there, or labels of other faces.

    Example:

    >>> labels = distillation.pseudo_labels([load_model("fpn-quarter-112-300w")], unlabeled)
    >>> images, landmarks = next(iter(self_training_batches(crops, unlabeled, labels, 8)))
    >>> images.shape
    TensorShape([16, 80, 80, 3])
    """
    check_crop_rule(crops, crops.name, unlabeled)
    expected = (len(unlabeled), crops.scheme.num_landmarks, 3)
    if pseudo_labels.shape != expected:
        raise ValueError(
            f"`pseudo_labels` must have shape {expected}. Received: {pseudo_labels.shape}"
        )
    labeled = _labeled(crops, batch_size, seed, augmentation)
    size = unlabeled_batch_size or batch_size
    other = _unlabeled(unlabeled, size, seed, augmentation, crops.scheme.flip, pseudo_labels)
    # Mixed evenly: several devices each take a run of neighbors, and should have faces of both.
    places = np.concatenate([np.arange(n) / n for n in (batch_size, size)])
    order = np.argsort(places, kind="stable")

    def batch(step):
        pairs = zip(labeled(step), other(step), strict=True)
        return tuple(tf.gather(tf.concat(pair, 0), order) for pair in pairs)

    return _stream(batch, first_step)


def mean_teacher_batches(
    crops: Crops,
    unlabeled: UnlabeledCrops,
    batch_size: int,
    unlabeled_batch_size: int | None = None,
    seed: int = 0,
    augmentation: Augmentation | None = None,
    moved: Augmentation | None = None,
    first_step: int = 0,
) -> "tf.data.Dataset[Any]":
    """As `training_batches`, each batch with unlabeled faces beside, for `MeanTeacherLocalizer`.

    Args:
        crops, unlabeled, batch_size, unlabeled_batch_size, seed, augmentation, first_step: as in
            `semi_supervised_batches`.
        moved: how the student's unlabeled faces are moved and recolored; None as by default.

    Returns:
        tf.data.Dataset of ((images, (plain, moved, motion)), landmarks): unlabeled faces as they
        are (U, S, S, 3) uint8, the same ones moved, float32, and the affines (U, 2, 3) between.

    Raises:
        ValueError: as there.

    Example:

    >>> batches = mean_teacher_batches(crops, unlabeled, 8, 16, augmentation=Augmentation())
    >>> (images, (plain, moved, motion)), landmarks = next(iter(batches))
    >>> moved.shape, motion.shape
    (TensorShape([16, 80, 80, 3]), TensorShape([16, 2, 3]))
    """
    check_crop_rule(crops, crops.name, unlabeled)
    labeled = _labeled(crops, batch_size, seed, augmentation)
    size = unlabeled_batch_size or batch_size
    faces = _gathered(unlabeled, size, seed + _UNLABELED)
    inner = unlabeled.inner

    def batch(step):
        images, landmarks = labeled(step)
        x, _ = faces(step)
        step_seed = tf.stack([tf.constant(seed + _UNLABELED, tf.int64), step])
        other, motion = augment_with_motion(
            x, step_seed, moved or Augmentation(), crops.scheme.flip, crops.image_size
        )
        return (images, (x[:, inner, inner], other, motion)), landmarks

    return _stream(batch, first_step)


def evaluation_batches(crops: Crops, batch_size: int = 32) -> "tf.data.Dataset[Any]":
    """Each crop once, in order: images uint8 (B, S, S, 3) and landmarks (B, K, 3)."""
    data = tf.data.Dataset.from_tensor_slices((crops.central(), label_array(crops)))
    return _untuned(data.batch(batch_size).prefetch(2))


def _stream(batch, first_step):
    steps = tf.data.Dataset.range(first_step, np.iinfo(np.int64).max)
    return _untuned(steps.map(batch, num_parallel_calls=2, deterministic=True).prefetch(4))


def _untuned(data):
    """Without tf.data's tuning: there is nothing to tune, and its thread can miss its end.

    A process then ends up to a minute late (TensorFlow 2.21).
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return data.with_options(options)


def _labeled(crops, batch_size, seed, augmentation):
    """Function from a step to its images and landmarks."""
    steps = steps_per_epoch(crops, batch_size)
    images = crops.images if augmentation else np.ascontiguousarray(crops.central())
    with tf.device("CPU"):
        images, landmarks = tf.constant(images), tf.constant(label_array(crops))
    vary = None if augmentation is None else _openings(crops, augmentation)

    def batch(step):
        index = _shuffled(step, steps, batch_size, len(crops), seed)
        x, y = tf.gather(images, index), tf.gather(landmarks, index)
        if augmentation is None:
            return x, y
        step_seed = tf.stack([tf.constant(seed, tf.int64), step])
        if vary is not None:
            x, y = vary(x, y, step_seed)
        return augment(x, y, step_seed, augmentation, crops.scheme.flip, crops.image_size)

    return batch


def _openings(crops, augmentation):
    """What is done to faces' eyes and mouths; None for nothing."""
    openings = apertures(crops.scheme)
    gains = {"right_eye": augmentation.eye_gain, "left_eye": augmentation.eye_gain}
    gains["mouth"] = augmentation.mouth_gain
    gains = {name: gain for name, gain in gains.items() if name in openings and gain != 1}
    share = augmentation.openings
    if not openings or not (share or gains):
        return None
    known = np.where(crops.known[..., None], crops.landmarks, np.nan)
    means = mean_ratios(known, openings)

    def change(x, y, seed):
        x, y = vary_openings(x, y, seed, openings, share, crops.margin)
        return x, widen(y, openings, gains, means)

    def vary(x, y, seed):
        types = x.dtype, y.dtype
        images, landmarks = _called(change, [x, y, seed], types)
        return tf.ensure_shape(images, x.shape), tf.ensure_shape(landmarks, y.shape)

    return vary


def _unlabeled(crops, batch_size, seed, augmentation, flip, pseudo_labels=None):
    """Function from a step to its images and their labels or None."""
    seed += _UNLABELED
    faces = _gathered(crops, batch_size, seed)
    inner = crops.inner

    def batch(step):
        x, index = faces(step)
        y = None if pseudo_labels is None else _rows(pseudo_labels, index)
        if augmentation is None:
            return x[:, inner, inner], y
        step_seed = tf.stack([tf.constant(seed, tf.int64), step])
        return augment(x, y, step_seed, augmentation, flip, crops.image_size)

    return batch


def _gathered(crops, batch_size, seed):
    """Function from a step to its images, read as they are needed, and their indices."""
    steps = steps_per_epoch(crops, batch_size)
    side = crops.image_size + 2 * crops.margin

    def faces(step):
        index = _shuffled(step, steps, batch_size, len(crops), seed)
        x = _called(crops.gather, [index], tf.uint8)
        return tf.ensure_shape(x, (batch_size, side, side, 3)), index

    return faces


def _rows(labels, index):
    """Labels at indices, which may be those of a file that is larger than memory."""
    y = _called(labels.__getitem__, [index], tf.float32)
    return tf.ensure_shape(y, (index.shape[0], *labels.shape[1:]))


_UNLABELED = 128
"""Added to the seed for the unlabeled stream, so that equal sets do not come in equal order."""


def _shuffled(step, steps, batch_size, count, seed):
    """Indices of the faces of a step, in the order of its epoch."""
    epoch, position = step // steps, step % steps
    order = position * batch_size + tf.range(batch_size, dtype=tf.int64)
    # Of each word of the key `index_shuffle` reads but the lowest bits: eight, of more than 65,536
    # faces a few more. So that orders do not repeat after 256 epochs, the other word changes then.
    key = tf.stack([tf.constant(seed, tf.int64) + epoch // 256, epoch])
    last = tf.constant(count - 1, tf.int64)
    return tf.random.experimental.index_shuffle(order, tf.cast(key, tf.uint32), last)  # pyright: ignore[reportAttributeAccessIssue]  not in the stubs
