"""Landmarks refined by the whole shape: a linear map that is fitted after the training."""

from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from keras_lapkl._support.types import Tensor

_RIDGES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Square pixels. Above, hardly more than the mean error is taken away."""

_MOST_LANDMARKS = 1000


@keras.saving.register_keras_serializable("keras_lapkl")
class ShapeRefinement(keras.layers.Layer):
    """Moves each landmark by a linear map of all of them: l + A(l − mean(l)) + c.

    A network finds each landmark by what is near it, and errs at each for itself; what the others
    say tells a part of that error. It is one matrix product, of 4K² multiply-adds, and moves with
    the face. The first step of cascaded shape regression, with the shape itself as its features.

    Args:
        num_landmarks: K, 1 to 1,000: A has 4K² numbers.

    Raises:
        ValueError: another K.

    Example:

    >>> refinement = fit(predicted, labels, fold)     # (N, K, 2), (N, K, 2), (N,)
    >>> refinement(predicted[:1]).shape
    TensorShape([1, 68, 2])
    """

    def __init__(self, num_landmarks: int, **kwargs: Any) -> None:
        # Of no other type: in half floats landmarks lie on steps of 0.06 pixels.
        super().__init__(trainable=False, **{"dtype": "float32", **kwargs})
        if not 1 <= num_landmarks <= _MOST_LANDMARKS:
            raise ValueError(
                f"`num_landmarks` must be 1 to {_MOST_LANDMARKS:,}. Received: {num_landmarks}"
            )
        self.num_landmarks = num_landmarks
        side = 2 * num_landmarks
        # x and y of a landmark stand beside each other; that rows of an axis sum to 0 makes A
        # blind to where the face is.
        self.matrix = self.add_weight((side, side), "zeros", name="matrix", trainable=False)
        self.offset = self.add_weight((side,), "zeros", name="offset", trainable=False)
        self.built = True

    def call(self, landmarks: Tensor) -> Tensor:
        """Landmarks (B, K, 2) in pixels of the model's crop → the same, refined."""
        flat = ops.reshape(landmarks, (-1, 2 * self.num_landmarks))
        # A product and a sum: of a matrix product TFLite rounds the landmarks to a byte. Of as many
        # axes: its GPU delegate stretches no others.
        moved = flat + ops.sum(flat[:, :, None] * self.matrix[None], axis=1) + self.offset[None]
        return ops.reshape(moved, (-1, self.num_landmarks, 2))

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, "dtype": "float32", "num_landmarks": self.num_landmarks}


def fit(predicted: NDArray[Any], labels: NDArray[Any], fold: NDArray[Any]) -> ShapeRefinement:
    """The refinement that takes predictions nearest to labels, by ridge regression.

    The ridge is chosen among 1e-3 to 10 px² by the mean distance on faces left out.

    Args:
        predicted: (N, K, 2) pixels of the crop, of faces that are moved and recolored as in
            training: of crops that were cut by their labels the position alone would tell much.
        labels: (N, K, 2), NaN where unknown.
        fold: (N,) whole numbers, two or more: faces with the same are left out together, as all
            copies of a picture must be.

    Returns:
        `ShapeRefinement` of K landmarks. One that is never labeled stays as it is.

    Raises:
        ValueError: other shapes, or less than two folds.

    Example:

    >>> fit(predicted, labels, np.arange(len(labels)) % 5).offset.shape
    (136,)
    """
    if predicted.ndim != 3 or predicted.shape[2] != 2 or predicted.shape != labels.shape:
        raise ValueError(
            f"Expected predictions and labels of one shape (N, K, 2). Received: {predicted.shape} "
            f"and {labels.shape}"
        )
    folds = np.unique(fold)
    if len(folds) < 2 or len(fold) != len(predicted):
        raise ValueError(
            f"Expected a fold of each of {len(predicted)} faces, two or more of them. Received: "
            f"{len(fold)} numbers, {len(folds)} different"
        )
    errors = [
        np.nanmean(
            np.concatenate(
                [
                    _distances(_moved(predicted[fold == each], *found), labels[fold == each])
                    for each, found in zip(folds, fitted, strict=True)
                ]
            )
        )
        for fitted in zip(
            *(_ridges(predicted[fold != each], labels[fold != each], _RIDGES) for each in folds),
            strict=True,
        )
    ]
    ridge = _RIDGES[int(np.argmin(errors))]
    ((matrix, offset),) = _ridges(predicted, labels, (ridge,))
    refinement = ShapeRefinement(predicted.shape[1])
    refinement.set_weights([matrix, offset])
    return refinement


def _ridges(predicted, labels, ridges):
    """(matrix, offset) by each ridge."""
    count = predicted.shape[1]
    shapes = (predicted - predicted.mean(1, keepdims=True)).reshape(len(predicted), -1)
    shapes = shapes.astype(np.float64)
    residuals = (labels - predicted).astype(np.float64)
    known = np.isfinite(residuals).all(-1)
    matrices = np.zeros((len(ridges), 2 * count, count, 2))
    offsets = np.zeros((len(ridges), count, 2))
    # Landmarks that are labeled in the same faces share their equations.
    alike, kind = np.unique(known, axis=1, return_inverse=True)
    for number, rows in enumerate(alike.T):
        if not rows.any():
            continue
        landmarks = np.flatnonzero(kind.ravel() == number)
        mean, left = shapes[rows].mean(0), residuals[rows][:, landmarks]
        target = left.reshape(len(left), -1)
        x, y = shapes[rows] - mean, target - target.mean(0)
        gram, moments = x.T @ x / len(x), x.T @ y / len(x)
        for i, ridge in enumerate(ridges):
            solved = np.linalg.solve(gram + ridge * np.eye(len(gram)), moments)
            offset = target.mean(0) - mean @ solved
            matrices[i][:, landmarks] = solved.reshape(2 * count, -1, 2)
            offsets[i][landmarks] = offset.reshape(-1, 2)
    # What is taken from the mean of the landmarks is taken in the matrix.
    centered = matrices.reshape(len(ridges), count, 2, -1)
    centered = centered - centered.mean(1, keepdims=True)
    return list(
        zip(
            centered.reshape(len(ridges), 2 * count, 2 * count),
            offsets.reshape(len(ridges), -1),
            strict=True,
        )
    )


def _moved(landmarks, matrix, offset):
    flat = landmarks.reshape(len(landmarks), -1)
    return (flat + flat @ matrix + offset).reshape(landmarks.shape)


def _distances(landmarks, labels):
    return np.linalg.norm(landmarks - labels, axis=-1)
