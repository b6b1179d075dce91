"""What the values and the places of pixels may be."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

FARTHEST = 1e6
"""Pixels from a picture's corner, further than any point or box of it."""


def check_pixels(images: NDArray[Any]) -> None:
    """Refuses what is neither uint8 nor float in [0, 1].

    Args:
        images: of any shape.

    Raises:
        ValueError: another type, or values that are not finite or out of range.

    Example:

    >>> check_pixels(np.full((80, 80, 3), 0.5))
    """
    if images.dtype == np.uint8 or not images.size:
        return
    if "float" not in images.dtype.name:  # NumPy does not know bfloat16
        raise ValueError(f"Expected uint8, or float in [0, 1]. Received: {images.dtype}")
    low, high = images.min(), images.max()
    if not (low >= 0 and high <= 1):  # so is NaN
        raise ValueError(
            f"Expected float values in [0, 1]. Received: from {low:g} to {high:g}. Divide by "
            "255, or give uint8."
        )


def check_labels(landmarks: NDArray[Any]) -> None:
    """Refuses labels in [0, 1]: shares of a picture in place of its pixels.

    Args:
        landmarks: (B, K, 2), or (B, K, 3) with visibility last.

    Raises:
        ValueError: all known ones lie in [0, 1], and not all on whole pixels.

    Example:

    >>> check_labels(np.array([[[40.5, 31.0]]]))
    """
    shown = np.isfinite(landmarks).all(-1)
    if landmarks.shape[-1] == 3:
        shown &= landmarks[..., 2] > 0
    known = landmarks[..., :2][shown]
    if known.size and known.min() >= 0 and known.max() <= 1 and (known != known.round()).any():
        raise ValueError(
            "Expected labels in pixels of the crops. Received: all of them in [0, 1]. Multiply "
            "shares of a crop by its side."
        )
