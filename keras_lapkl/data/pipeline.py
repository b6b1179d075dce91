"""tf.data pipelines from crops in memory to batches, the same at each step of a seed.

The training stream is a function of (seed, step): a run that resumes at step n sees what the
unbroken run would have seen, without going through the first n batches.
"""

import numpy as np
import tensorflow as tf

from keras_lapkl.data.augment import augment


def labels(crops):
    """(N, K, 3) float32: x, y in crop pixels (0 where not annotated) and visibility, 0 or 1."""
    visible = crops.visible & np.isfinite(crops.landmarks).all(-1)
    landmarks = np.where(visible[..., None], crops.landmarks, 0)
    return np.concatenate([landmarks, visible[..., None]], axis=-1).astype(np.float32)


def steps_per_epoch(crops, batch_size):
    """Whole batches in an epoch; the faces left over differ from epoch to epoch."""
    if not 1 <= batch_size <= len(crops):
        raise ValueError(
            f"`batch_size` must be in 1..{len(crops)}, the number of faces in {crops.name}. "
            f"Received: {batch_size}"
        )
    return len(crops) // batch_size


def training_batches(crops, batch_size, seed=0, augmentation=None, first_step=0):
    """An endless stream of shuffled, optionally augmented batches, beginning at any step.

    Args:
        crops: `Crops`.
        batch_size: faces in a batch, at most the number of crops.
        seed: an int; equal seeds give equal streams.
        augmentation: an `Augmentation`, or None for the crops as they are.
        first_step: number of batches to be thought of as already taken.

    Returns:
        tf.data.Dataset of images (B, S, S, 3), uint8 or, augmented, float32 in [0, 1], and
        landmarks (B, K, 3) with visibility last.
    """
    steps = steps_per_epoch(crops, batch_size)
    images = crops.images if augmentation else np.ascontiguousarray(crops.central())
    with tf.device("CPU"):
        images, landmarks = tf.constant(images), tf.constant(labels(crops))
    last = tf.constant(len(crops) - 1, tf.int64)

    def batch(step):
        epoch, position = step // steps, step % steps
        order = position * batch_size + tf.range(batch_size, dtype=tf.int64)
        key = tf.stack([tf.constant(seed, tf.int64), epoch])
        index = tf.random.experimental.index_shuffle(order, tf.cast(key, tf.uint32), last)
        x, y = tf.gather(images, index), tf.gather(landmarks, index)
        if augmentation is None:
            return x, y
        step_seed = tf.stack([tf.constant(seed, tf.int64), step])
        return augment(x, y, step_seed, augmentation, crops.scheme.flip, crops.image_size)

    stream = tf.data.Dataset.range(first_step, np.iinfo(np.int64).max)
    return stream.map(batch, num_parallel_calls=2, deterministic=True).prefetch(4)


def evaluation_batches(crops, batch_size=32):
    """Each crop once, in order: images uint8 (B, S, S, 3) and landmarks (B, K, 3)."""
    data = tf.data.Dataset.from_tensor_slices((crops.central(), labels(crops)))
    return data.batch(batch_size).prefetch(2)
