"""Landmarks from the logits of half an image's columns and rows: what a microcontroller leaves."""

import numpy as np
from numpy.typing import NDArray

MIN_SCALE = 1e-3
"""As that of `heatmaps`: no scale is smaller, in pixels."""


def decode(
    columns: NDArray[np.float32], rows: NDArray[np.float32], beta: float = 1.0
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Landmarks and scales from the maxima of columns and rows, as `lapkl micro`'s C code does.

    Each axis is brought to twice its length by linear interpolation between pixel centers; of its
    softmax, the mean is the location and the mean distance from it the scale.

    Args:
        columns: (W/2, K) logits of the x axis.
        rows: (H/2, K) logits of the y axis.
        beta: inverse temperature of the softmax.

    Returns:
        Landmarks and scale, each (K, 2) float32 pixels of the image, x first.

    Example:

    >>> decode(np.zeros((2, 1)), np.zeros((2, 1)))
    (array([[1.5, 1.5]], dtype=float32), array([[1., 1.]], dtype=float32))
    """
    found = [_decode_axis(beta * np.asarray(axis, np.float32)) for axis in (columns, rows)]
    landmarks, scale = (np.stack(each, axis=-1) for each in zip(*found, strict=True))
    return landmarks, np.maximum(scale, np.float32(MIN_SCALE))


def _decode_axis(logits):
    """(N, K) → mean and mean distance from it, each (K,)."""
    before = np.concatenate([logits[:1], logits[:-1]])
    after = np.concatenate([logits[1:], logits[-1:]])
    doubled = np.stack([3 * logits + before, 3 * logits + after], axis=1) / 4
    doubled = doubled.reshape(-1, logits.shape[1])
    weights = np.exp(doubled - doubled.max(0))
    weights /= weights.sum(0)
    pixels = np.arange(len(weights), dtype=np.float32)[:, None]
    mean = (weights * pixels).sum(0)
    return mean, (weights * np.abs(pixels - mean)).sum(0)
