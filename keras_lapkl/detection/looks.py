"""How else to look for a face that the model is not sure of.

First the same square is cut out in other ways, `CUTS`: for the dark, for black and white pixels,
and for what is out of focus. A look elsewhere is (right, down, ratio, angle): how far the square
moves along its own axes, in its sides; how much larger it becomes; and by how much it is rotated,
radians. All of it was chosen on validation faces of 300-W: see the notes on robustness. The
one-file runner and the page have it too, and tests hold them equal.
"""

import math

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from keras_lapkl.data.cropping import warp_crop

ANGLES = tuple(math.radians(degrees) for degrees in range(45, 360, 45))
"""Radians: the model is right on faces rotated by up to half of the steps."""
_MOVES = ((0.5, 0.0, 1.0), (-0.5, 0.0, 1.0), (0.0, 0.5, 1.0), (0.0, -0.5, 1.0), (0.0, 0.0, 1.5))
RINGS = (
    (*((0.0, 0.0, 1.0, angle) for angle in ANGLES), *((*move, 0.0) for move in _MOVES)),
    tuple((*move, angle) for move in _MOVES for angle in ANGLES),
)
"""The looks: first one change each; then a move and a rotation, for what is still lost."""
KEPT = 2
"""From how many of the surest looks of a ring it goes on by the landmarks."""
UNSURE = 0.78
"""Share of `Calibration.lost` up to which a face is left as it is. A face that is upside down may
lie between, as 2 to 6 % of upright ones do."""

AGREED = 1.0
"""How far apart the landmarks of two passes may lie to agree, on average, in expected errors. Those
of 98 % of upright faces lie within 0.7, those of 95 % of faces upside down beyond 1.2."""
MORE = 2
"""How many more passes there are at most until two agree: from a square that was far off."""

RESIZED = 3.0
"""How much larger or smaller the square by the landmarks of a pass may be than that of the pass:
landmarks that shrink to a point would else seem sure, in pixels."""

ENDS = (0.01, 0.99)
"""Shares of a crop's pixels that become black and full in `stretched`."""
NARROWEST = 8
"""Gray levels: what has fewer is not stretched further, for it is flat, and the rest noise."""
BLUR = 1 / 40
"""Standard deviation of the Gaussian of `sharpened`, in sides of the crop."""
SHARPNESS = 3.0
"""How often `sharpened` adds what that Gaussian takes away."""


def stretched(crop: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A crop whose three channels each fill the gray levels: for the dark, fog and colored light.

    From x it makes 255·(x − low)/(high − low), where low and high are the gray levels at `ENDS` of
    the channel's sorted pixels. What is black in all channels does not count: it is a bar or a
    corner without picture.

    Args:
        crop: (S, S, 3).

    Example:

    >>> stretched(np.uint8([[[10, 20, 30], [60, 120, 230]]]))
    array([[[  0,   0,   0],
            [255, 255, 255]]], dtype=uint8)
    """
    seen = crop[crop.any(-1)]
    if not len(seen):
        return crop
    places = [int(end * (len(seen) - 1) + 0.5) for end in ENDS]
    counts = np.stack([np.bincount(channel, minlength=256) for channel in seen.T])
    ends = [np.searchsorted(each, places, side="right") for each in counts.cumsum(1)]
    low, high = np.transpose(ends)
    levels = (np.arange(256)[:, None] - low) * (255 / np.maximum(high - low, NARROWEST))
    table = np.floor(levels.clip(0, 255) + 0.5).astype(np.uint8)
    return np.asarray(cv2.LUT(crop, table[None]), np.uint8)


def sharpened(crop: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A crop with its edges made steeper, for what is out of focus: x + `SHARPNESS`·(x − G∗x).

    G is a Gaussian of standard deviation `BLUR` sides, up to three of them away. Outside the crop
    its border pixels are repeated. The result is rounded and kept within 0 and 255.

    Args:
        crop: (S, S, 3).

    Example:

    >>> crop = np.full((80, 80, 3), 50, np.uint8)
    >>> crop[:, 40:] = 70
    >>> sharpened(crop)[0, 36:44, 0]
    array([48, 44, 37, 26, 94, 83, 76, 72], dtype=uint8)
    """
    deviation = BLUR * len(crop)
    reach = math.ceil(3 * deviation)
    weights = np.exp(-0.5 * np.square(np.arange(-reach, reach + 1) / deviation))
    weights /= weights.sum()
    pixels = crop.astype(np.float32)
    blurred = cv2.sepFilter2D(pixels, -1, weights, weights, borderType=cv2.BORDER_REPLICATE)
    return np.rint(pixels + SHARPNESS * (pixels - blurred)).clip(0, 255).astype(np.uint8)


def _cut_stretched(photo, transform, size):
    return stretched(warp_crop(photo, transform, size))


def _cut_despeckled(photo, transform, size):
    return stretched(warp_crop(photo, transform, size, despeckle=True))


def _cut_sharpened(photo, transform, size):
    return sharpened(_cut_stretched(photo, transform, size))


CUTS = (_cut_stretched, _cut_despeckled, _cut_sharpened)
"""Other ways to cut out a square, called as `warp_crop`."""


def squares_around(square: ArrayLike, looks: ArrayLike) -> NDArray[np.float64]:
    """The squares of looks around another square.

    Args:
        square: (4,) center x, center y, side and angle, radians from the x axis to the y axis.
        looks: (n, 4), as those of `RINGS`.

    Returns:
        (n, 4) float64.

    Example:

    >>> squares_around((10, 20, 4, 0), [(0.5, 0, 1, 0), (0, 0, 1.5, 0)])
    array([[12., 20.,  4.,  0.],
           [10., 20.,  6.,  0.]])
    """
    x, y, side, angle = np.asarray(square, np.float64)
    right, down, ratio, turn = np.asarray(looks, np.float64).reshape(-1, 4).T
    cos, sin = math.cos(angle), math.sin(angle)
    return np.column_stack(
        [
            x + side * (cos * right - sin * down),
            y + side * (sin * right + cos * down),
            side * ratio,
            angle + turn,
        ]
    )
