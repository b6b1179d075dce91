"""Batches from arrays in memory, on any Keras backend and without TensorFlow."""

import functools
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray


class SemiSupervisedArrays(keras.utils.PyDataset):
    """Labeled and unlabeled arrays as batches for `AdversarialLocalizer.fit`, in shuffled epochs.

    An epoch goes once through the labeled images, but for those that fill no batch. The unlabeled
    ones go through epochs of their own, so that none is seen twice before all were seen. Batches
    are a function of the seed and the step: a resumed run gives its first step.

    Args:
        images: (N, S, S, 3), uint8 or float in [0, 1].
        landmarks: (N, K, 2), or (N, K, 3) with visibility last, in pixels.
        unlabeled: (M, S, S, 3), as `images`.
        batch_size: labeled images in a batch.
        unlabeled_batch_size: unlabeled images in a batch; None for as many.
        seed: an int; equal seeds give equal batches.
        first_step: number of batches to be thought of as already taken.

    Raises:
        ValueError: fewer images than a batch, or arrays that do not fit together.

    Example:

    >>> batches = SemiSupervisedArrays(images, landmarks, unlabeled, batch_size=8)
    >>> (x, u), y = batches[0]
    >>> x.shape, u.shape, y.shape
    ((8, 80, 80, 3), (8, 80, 80, 3), (8, 68, 2))
    >>> model.fit(batches, epochs=10, shuffle=False)
    """

    def __init__(
        self,
        images: NDArray[Any],
        landmarks: NDArray[Any],
        unlabeled: NDArray[Any],
        batch_size: int,
        unlabeled_batch_size: int | None = None,
        seed: int = 0,
        first_step: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        unlabeled_batch_size = unlabeled_batch_size or batch_size
        if len(images) != len(landmarks):
            raise ValueError(
                f"Expected landmarks for each image. Received: {len(images)} images, "
                f"{len(landmarks)} landmarks"
            )
        if images.shape[1:] != unlabeled.shape[1:]:
            raise ValueError(
                "Labeled and unlabeled images must have one size. Received: "
                f"{images.shape[1:]} and {unlabeled.shape[1:]}"
            )
        for name, array, size in (
            ("images", images, batch_size),
            ("unlabeled", unlabeled, unlabeled_batch_size),
        ):
            if not 1 <= size <= len(array):
                raise ValueError(
                    f"The batch size must be in 1..{len(array)}, the number of `{name}`. "
                    f"Received: {size}"
                )
        self._images, self._landmarks, self._unlabeled = images, landmarks, unlabeled
        self._sizes = batch_size, unlabeled_batch_size
        self._seed = seed
        self._step = first_step

    @property
    def num_batches(self) -> int:
        return len(self._images) // self._sizes[0]

    def __getitem__(self, index: int) -> tuple[tuple[NDArray[Any], NDArray[Any]], NDArray[Any]]:
        step = self._step + index
        labeled = _shuffled(step, self._sizes[0], len(self._images), (self._seed, 0))
        other = _shuffled(step, self._sizes[1], len(self._unlabeled), (self._seed, 1))
        return (self._images[labeled], self._unlabeled[other]), self._landmarks[labeled]

    def on_epoch_end(self) -> None:
        self._step += self.num_batches


def _shuffled(step, batch_size, count, seed):
    """Indices of the images of a step, in the order of its epoch."""
    epoch, position = divmod(step, count // batch_size)
    return _order(count, (*seed, epoch))[position * batch_size :][:batch_size]


@functools.lru_cache(maxsize=4)
def _order(count, seed):
    """The images of an epoch, for all its steps: a permutation of a million takes 50 ms."""
    order = np.random.default_rng(seed).permutation(count)
    order.setflags(write=False)
    return order
