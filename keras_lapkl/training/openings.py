"""Eyes and mouths of any opening: faces warped for training, and labels that undo the shrinkage.

Photos show few closed eyes, and a network that is unsure answers with an opening between the face's
and the average one.
"""

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from keras_lapkl.apertures import Aperture

_ABOVE, _BELOW = 0.6, 0.5
"""How far from an opening its skin moves along, in distances of its corners."""

_SMALLEST = 4.0
"""Openings between corners that are nearer are left, in pixels."""


def vary_openings(
    images: NDArray[np.uint8],
    landmarks: NDArray[np.float32],
    seed: NDArray[np.integer[Any]],
    openings: Mapping[str, Aperture],
    share: float,
    margin: int,
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Some faces of a batch with eyes and mouth as far open as drawn.

    Args:
        images: (B, S+2m, S+2m, 3) uint8.
        landmarks: (B, K, 3): x, y in pixels of the central S×S, and visibility.
        seed: (2,) integers; equal seeds give equal batches.
        openings: of the scheme, see `apertures.apertures`.
        share: of the faces that are changed, in [0, 1].
        margin: m.

    Returns:
        Images and landmarks of the same shapes and types.
    """
    rng = np.random.default_rng([int(value) for value in seed])
    images, landmarks = images.copy(), landmarks.copy()
    for image, points in zip(images, landmarks, strict=True):
        chosen, alike = rng.random() < share, rng.random() < _ALIKE
        closings = {name: _closing(rng) for name in openings}
        if not chosen:
            continue
        if alike and {"right_eye", "left_eye"} <= closings.keys():
            closings["left_eye"] = closings["right_eye"]
        for name, opening in openings.items():
            around = [*opening.corners, *opening.upper, *opening.lower]
            if points[around, 2].all():
                rise = _RISE_OF_MOUTH if name == "mouth" else _RISE
                close(image, points[:, :2], opening, closings[name], rise, margin)
    return images, landmarks


_ALIKE = 0.8
"""Share of the faces whose eyes do the same."""

_RISE, _RISE_OF_MOUTH = 0.15, 0.7
"""The part of the way that the lower edge makes."""


def _closing(rng):
    """Wider, shut or anything between: -0.6 to 1; as many wider as there are nearly shut."""
    kind = rng.random()
    return rng.uniform(-0.6, 0) if kind < 0.4 else 1.0 if kind < 0.6 else rng.uniform(0, 1)


def close(
    image: NDArray[np.uint8],
    points: NDArray[np.floating[Any]],
    opening: Aperture,
    closing: float,
    rise: float = _RISE,
    margin: int = 0,
) -> None:
    """Closes an opening of a face in place, and moves the landmarks with the skin.

    Args:
        image: (H, W, 3) uint8, changed.
        points: (K, 2) pixels without the margin, changed.
        opening: indices of its landmarks.
        closing: 1 shuts it, 0 leaves it, -1 opens it twice as far.
        rise: the part of the way that the lower edge makes, in [0, 1].
        margin: added to the points to be pixels of the image.

    Example:

    >>> close(image, points, apertures(IBUG68)["right_eye"], 1.0)   # and its ratio is 0
    """
    first, last = (points[i].astype(np.float64) for i in opening.corners)
    width = np.linalg.norm(last - first)
    if not width >= _SMALLEST:
        return
    along = (last - first) / width
    axes = np.stack([along, (-along[1], along[0])], 1)  # across points down
    places = (points - first) @ axes
    upper, lower = (_edge(places, part, width) for part in (opening.upper, opening.lower))

    height, breadth = image.shape[:2]
    center, half = (first + last) / 2 + margin, width * (0.5 + _ABOVE + _BELOW)
    x0, y0 = np.maximum(np.floor(center - half), 0).astype(int)
    x1, y1 = np.minimum(np.ceil(center + half) + 1, (breadth, height)).astype(int)
    if x1 - x0 < 2 or y1 - y0 < 2:
        return
    grid = np.stack(np.meshgrid(np.arange(x0, x1), np.arange(y0, y1)), -1) - margin
    pixels = (grid - first) @ axes
    knots, moved = _knots(pixels[..., 0], upper, lower, width, closing, rise)
    pixels[..., 1] = _interpolated(pixels[..., 1], moved, knots)
    source = (first + pixels @ axes.T + margin).astype(np.float32)
    image[y0:y1, x0:x1] = cv2.remap(
        image, source[..., 0], source[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    knots, moved = _knots(places[:, 0], upper, lower, width, closing, rise)
    places[:, 1] = _interpolated(places[:, 1], knots, moved)
    points[:] = first + places @ axes.T


def mean_ratios(
    landmarks: NDArray[Any], openings: Mapping[str, Aperture]
) -> dict[str, NDArray[np.float64]]:
    """How far opposite landmarks are apart on average, in distances of their opening's corners.

    Args:
        landmarks: (N, K, 2), NaN where hidden.
        openings: of the scheme, see `apertures.apertures`.

    Returns:
        One array by name of the opening, of as many numbers as it has pairs of landmarks; 0 where
        no face shows them.
    """
    found = {}
    for name, each in openings.items():
        normal, halves = _halves(landmarks, each)
        length = np.sum(normal**2, -1)
        with np.errstate(invalid="ignore", divide="ignore"):
            ratio = 2 * np.sum(halves * normal[:, None], -1) / length[:, None]
        known = np.isfinite(ratio)
        count = np.maximum(known.sum(0), 1)
        found[name] = np.where(known, ratio, 0).sum(0) / count
    return found


def widen(
    landmarks: NDArray[np.float32],
    openings: Mapping[str, Aperture],
    gains: Mapping[str, float],
    means: Mapping[str, NDArray[np.float64]],
) -> NDArray[np.float32]:
    """Labels whose openings differ from the average ones by a factor more than the face's.

    A network answers with E[opening | image], which varies less than the opening itself: of slope
    s on it. Trained on labels that vary by 1/s as much, it answers with the opening itself on
    average over the images of faces that have it.

    Args:
        landmarks: (N, K, 3): x, y in any pixels, and visibility.
        openings: of the scheme, see `apertures.apertures`.
        gains: the factor by name of the opening; 1 where there is none.
        means: of `mean_ratios`.

    Returns:
        Landmarks of the same shape; each pair keeps its middle, and none of them cross. A pair of
        which a point or a corner is hidden stays.
    """
    landmarks = landmarks.copy()
    for name, gain in gains.items():
        each = openings[name]
        normal, halves = _halves(landmarks[..., :2], each)
        away = halves - means[name][:, None] / 2 * normal[:, None]
        change = (gain - 1) * away
        # How far open it would be, along the normal: what would cross is shut.
        length = np.maximum(np.sum(normal**2, -1), 1e-12)[:, None]
        left = np.sum((halves + change) * normal[:, None], -1) / length
        change += np.maximum(-left, 0)[..., None] * normal[:, None]
        visible = landmarks[..., 2]
        corners = visible[:, each.corners].min(1, keepdims=True)
        known = np.minimum(corners, np.minimum(visible[:, each.upper], visible[:, each.lower])) > 0
        change = np.where(known[..., None], change, 0).astype(landmarks.dtype)
        landmarks[:, each.upper, :2] += change
        landmarks[:, each.lower, :2] -= change
    return landmarks


def _halves(landmarks, opening):
    """Normals (N, 2) as long as the corners are apart, upward; and half of each pair, upward."""
    first, last = (landmarks[:, i] for i in opening.corners)
    across = last - first
    normal = np.stack([across[:, 1], -across[:, 0]], -1)
    return normal, (landmarks[:, opening.upper] - landmarks[:, opening.lower]) / 2


def _edge(places, indices, width):
    """(n, 2) points of an edge from corner to corner, rising along it."""
    inner = places[list(indices)]
    edge = np.concatenate([[(0, 0)], inner[np.argsort(inner[:, 0])], [(width, 0)]])
    edge[:, 0] = np.maximum.accumulate(edge[:, 0])
    return edge


def _knots(along, upper, lower, width, closing, rise):
    """Where skin above, both edges and skin below are, across, before and after; (4, …) each."""
    up, low = (np.interp(along, edge[:, 0], edge[:, 1]) for edge in (upper, lower))
    low = np.maximum(low, up)
    way = closing * (low - up)
    before = np.stack([up - _ABOVE * width, up, low, low + _BELOW * width])
    after = before + np.stack([0 * way, (1 - rise) * way, -rise * way, 0 * way])
    return before, after


def _interpolated(values, knots, images):
    """Piecewise linear from knots to their images; what lies beyond stays."""
    result = np.array(values, np.float64)
    for low, high, start, end in zip(knots, knots[1:], images, images[1:], strict=False):
        inside = (values >= low) & (values <= high)
        share = (values - low) / np.maximum(high - low, 1e-9)
        result = np.where(inside, start + share * (end - start), result)
    return result
