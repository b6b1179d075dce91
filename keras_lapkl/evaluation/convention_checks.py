"""Signs that predictions follow another convention than the labels.

Coordinates counted from 1 or from pixels' corners, x and y swapped, left and right exchanged,
another scale, a crop's coordinates. Found and said, never corrected: an error that someone tuned
away silently would be worth nothing.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_lapkl.evaluation import scoring
from keras_lapkl.schemes import Scheme

_NEAR = 0.4
"""How near to a convention's offset the measured one must be, as a share of it: good models lie off
by half a pixel of their own, or of the labels'."""
_CLEAR = 5.0
"""Standard errors that an offset must lie from 0."""
_BETTER = 0.5
"""Of the median error; what a correction must get below."""
_FAR = 25.0
"""Median error in percent from which coordinates may be of something else than the photos."""
_FITTED = 0.25
"""The same for a fit of each face, which takes a share of any error away."""
_FRACTION = 1.5
"""Largest coordinate of a fraction of a picture; a landmark may lie outside of it."""
_EQUAL = 0.01
"""Median error in percent below which there is none but that of rounding."""

_OFFSETS = {
    "pts": {
        1.0: "as if 1 had been added twice: .pts files count from 1",
        -1.0: "as 0-based numbers in .pts files do, which count from 1",
    },
    "other": {
        1.0: "as 1-based coordinates do; 0-based ones are expected",
        -1.0: "as if 1 had been subtracted from coordinates that were 0-based already",
    },
}
_HALVES = {
    0.5: "as coordinates do that count from a pixel's corner, with the first pixel's center at 0.5",
    -0.5: "as if 0.5 had been subtracted from coordinates that count from pixels' centers already",
}


def mean_offset(
    predicted: NDArray[Any], landmarks: NDArray[Any], visible: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How far predictions lie from the labels on the whole, and how well that is known.

    Args:
        predicted: (N, K, 2) pixels, NaN for none.
        landmarks: (N, K, 2) pixels.
        visible: (N, K) bool.

    Returns:
        Median over faces of the mean offset of a face's points, (2,) pixels, and its standard
        error, (2,), by the median absolute deviation: √(π/2) · 1.4826 · MAD / √n; NaN of one face.

    Example:

    >>> truth = np.zeros((5, 2, 2))
    >>> mean_offset(truth + 1, truth, np.ones((5, 2), bool))
    (array([1., 1.]), array([0., 0.]))
    """
    offsets = np.where(visible[..., None], predicted - landmarks, 0).sum(1)
    offsets = offsets / np.maximum(visible.sum(1), 1)[:, None]
    offsets = offsets[np.isfinite(offsets).all(1) & visible.any(1)]
    if not len(offsets):
        return np.full(2, np.nan), np.full(2, np.nan)
    median = np.median(offsets, axis=0)
    if len(offsets) < 2:
        return median, np.full(2, np.nan)
    deviation = 1.4826 * np.median(np.abs(offsets - median), axis=0)
    return median, np.sqrt(np.pi / 2) * deviation / np.sqrt(len(offsets))


def suspected_convention(
    predicted: NDArray[Any],
    landmarks: NDArray[Any],
    visible: NDArray[Any],
    distance: NDArray[Any],
    scheme: Scheme,
    form: str,
) -> dict[str, Any] | None:
    """What it looks like if predictions follow another convention.

    An offset is reported if it is within 40 % of ±1 or ±½ px on both axes, and 5 standard errors
    from 0. Any other convention is reported if undoing it would more than halve the
    median error.

    Args:
        predicted: (N, K, 2) pixels, NaN for none.
        landmarks: (N, K, 2) pixels.
        visible: (N, K) bool.
        distance: (N,) the normalizing d, pixels.
        scheme: `Scheme` of the landmarks.
        form: `"pts"`, `"csv"` or `"json"`, what they were read from.

    Returns:
        dict of `kind`, `text`, and `nme`, the mean error in percent as it would be without, or None
        where that is not known; None where nothing is suspected.
    """
    errors = scoring.face_errors(predicted, landmarks, visible, distance)
    usable = np.isfinite(errors)
    if not usable.any():
        return None
    predicted, truth, visible, distance = (
        np.asarray(each)[usable] for each in (predicted, landmarks, visible, distance)
    )
    error = np.median(errors[usable])

    def nmes(corrected):
        return scoring.face_errors(corrected, truth, visible, distance)

    if error < _EQUAL:
        return _said("labels", "the predictions equal the labels, and may be the labels")
    offset, deviation = mean_offset(predicted, truth, visible)
    convention = _near_convention(offset, deviation, form)
    if convention is not None:
        size, text = convention
        return _said(f"offset {size:+g}", f"they lie off {text}", nmes(predicted - size))
    if error > _FAR and np.abs(predicted).max() <= _FRACTION:
        text = "coordinates lie between -1.5 and 1.5, as fractions of the picture do; pixels count"
        return _said("fractions", text)
    undone = [
        (kind, text, nmes(corrected))
        for kind, text, corrected in _hypotheses(predicted, truth, visible, scheme, offset)
    ]
    kind, text, corrected = min(undone, key=lambda each: np.median(each[2]))
    if np.median(corrected) < _BETTER * error:
        if kind == "shifted":
            text = f"all lie off by about ({offset[0]:+.2f}, {offset[1]:+.2f}) px"
        return _said(kind, text, corrected)
    # A shift and a scale fit any two points well, and one without an error.
    enough = visible.sum(1) > 2
    if error > _FAR and enough.any():
        before, after = errors[usable][enough], nmes(_fitted(predicted, truth, visible))[enough]
        if np.median(after) < _FITTED * np.median(before):
            text = (
                "coordinates seem to be of crops, or of pictures of another size each, not of the "
                "photos: each face, shifted and scaled by numbers of its own, would fit the labels"
            )
            return _said("crops", text)
    return None


def _said(kind, text, nmes=None):
    return {"kind": kind, "text": text, "nme": None if nmes is None else float(nmes.mean())}


def _near_convention(offset, deviation, form):
    """The offset of a convention and its text, if the measured one looks like it."""
    known = {**_OFFSETS.get(form, _OFFSETS["other"]), **_HALVES}
    apart = {size: np.abs(offset / size - 1).max() for size in known}
    nearest = min(apart, key=lambda size: apart[size])
    is_clear = (np.abs(offset) > _CLEAR * deviation).all()
    return (nearest, known[nearest]) if apart[nearest] <= _NEAR and is_clear else None


def _hypotheses(predicted, truth, visible, scheme, offset):
    """(kind, what it looks like, predictions without it)."""
    yield "swapped", "x and y seem to be swapped", predicted[..., ::-1]
    if scheme.flip is not None:
        text = "left and right points seem to be exchanged, as in mirrored pictures"
        yield "mirrored", text, predicted[:, list(scheme.flip)]
    if visible.sum() <= 2:  # any two points are shifted or scaled to fit
        return
    yield "shifted", "", predicted - offset
    shown = np.where(visible[..., None], truth, 0)
    ratio = np.median((predicted * shown).sum((1, 2)) / np.maximum((shown**2).sum((1, 2)), 1e-9))
    if ratio > 0:
        text = f"coordinates seem to be of pictures {ratio:.4g} times as large as the photos"
        yield "scaled", text, predicted / ratio


def _fitted(predicted, truth, visible):
    """Predictions, each face shifted and scaled to fit the labels best: (N, K, 2)."""
    weight = visible[..., None] / np.maximum(visible.sum(1), 1)[:, None, None]
    truth = np.where(visible[..., None], truth, 0)
    a, b = (each - (weight * each).sum(1, keepdims=True) for each in (predicted, truth))
    spread = (weight * a**2).sum((1, 2))
    scale = (weight * a * b).sum((1, 2)) / np.where(spread > 0, spread, 1)
    return scale[:, None, None] * a + (weight * truth).sum(1, keepdims=True)
