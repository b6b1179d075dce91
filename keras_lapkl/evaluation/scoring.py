"""How far landmarks are from the true ones: NME, failure rate, AUC, CED and their intervals.

NumPy alone. Landmarks are (N, K, 2) pixels of any picture, x first. A face's error is in percent:
NaN where it can't be scored, since a point that the normalizer needs is hidden, and infinite where
it has no prediction. What is infinite has failed, and counts so in the failure rate, the area under
the CED and the CED itself, but has no place in a mean error.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from keras_lapkl.schemes import Scheme

NORMALIZER_MEANINGS = {
    "interocular": "distance of the outer eye corners",
    "interpupil": "distance of the eyes' centers",
    "hull": "size √(w·h) of the visible landmarks' box",
    "hull_diagonal": "diagonal √(w² + h²) of the visible landmarks' box",
    "box": "size √(w·h) of the face box",
    "box_diagonal": "diagonal √(w² + h²) of the face box",
    "crop": "side of the crop",
}
"""What an error is a percentage of, by normalizer."""

NORMALIZERS = tuple(NORMALIZER_MEANINGS)

THRESHOLDS = (5, 7, 8, 10)
"""Errors in percent at which the failure rate and the area under the CED are taken."""

LEVEL = 0.95
RESAMPLES = 2000
_CHUNK = 2**22  # numbers drawn at a time


def normalizers(
    scheme: Scheme, boxes: NDArray[Any] | None = None, crop_side: float | None = None
) -> tuple[str, ...]:
    """The names of `NORMALIZER_MEANINGS` that go with a scheme, the customary one first.

    Args:
        scheme: `Scheme`. The eyes' centers are the first two of its five points.
        boxes: face boxes, or None.
        crop_side: of the square crops that the faces are in, pixels; None for photos.
    """
    has_eyes = scheme.eye_corners is not None
    allowed = {
        "interocular": has_eyes,
        "interpupil": has_eyes and len(scheme.five_points) == 5,
        "hull": scheme.num_landmarks > 2,
        "hull_diagonal": scheme.num_landmarks > 1,
        "box": boxes is not None,
        "box_diagonal": boxes is not None,
        "crop": crop_side is not None,
    }
    return tuple(name for name, is_allowed in allowed.items() if is_allowed)


def check_normalizer(
    normalizer: str,
    scheme: Scheme,
    boxes: NDArray[Any] | None = None,
    crop_side: float | None = None,
) -> None:
    """ValueError unless the scheme and the faces have what a normalizer needs.

    Args:
        normalizer: a name.
        scheme, boxes, crop_side: as in `normalizers`.
    """
    allowed = normalizers(scheme, boxes, crop_side)
    if normalizer not in allowed:
        raise ValueError(
            f"`normalizer` must be one of {allowed} for scheme {scheme.name!r} "
            f"{'without' if boxes is None else 'with'} face boxes. Received: {normalizer!r}"
        )


def check_scorable(scorable: NDArray[Any], name: str, normalizer: str) -> None:
    """ValueError unless one face or more can be scored.

    Args:
        scorable: (N,) bool, of each face whether it has the labels that the normalizer needs.
        name: of the data.
        normalizer: a name of `NORMALIZER_MEANINGS`.
    """
    if not scorable.any():
        raise ValueError(
            f"No face of {name} can be scored with the {normalizer} normalizer: none has the "
            f"labels that it needs, {NORMALIZER_MEANINGS[normalizer]}."
        )


def normalizing_distances(
    normalizer: str,
    landmarks: NDArray[Any],
    visible: NDArray[Any],
    scheme: Scheme,
    boxes: NDArray[Any] | None = None,
    crop_side: float | None = None,
) -> NDArray[np.float64]:
    """The normalizing distance of each face.

    Args:
        normalizer: a name of `NORMALIZER_MEANINGS`.
        landmarks: (N, K, 2) true ones, pixels.
        visible: (N, K) bool.
        scheme: `Scheme` of the landmarks.
        boxes: (N, 4) face boxes x0, y0, x1, y1 in pixels; `"box"` and `"box_diagonal"` need them.
        crop_side: pixels; `"crop"` needs it.

    Returns:
        (N,) float64 pixels; NaN where a point or box that it needs is not there, or it is 0.

    Raises:
        ValueError: the scheme or the faces do not have what the normalizer needs.

    Example:

    >>> square = np.array([[[0.0, 0], [3, 0], [3, 4], [0, 4]]])
    >>> scheme = Scheme.from_config({"name": "square", "num_landmarks": 4})
    >>> normalizing_distances("hull_diagonal", square, np.ones((1, 4), bool), scheme)
    array([5.])
    """
    check_normalizer(normalizer, scheme, boxes, crop_side)
    if crop_side is not None and normalizer == "crop":
        return np.full(len(landmarks), float(crop_side))
    points = np.where(visible[..., None], np.asarray(landmarks, np.float64), np.nan)
    if normalizer == "interocular":
        left, right = scheme.eye_corners  # pyright: ignore[reportGeneralTypeIssues]  there are some
        found = np.linalg.norm(points[:, left] - points[:, right], axis=-1)
    elif normalizer == "interpupil":
        left, right = (points[:, list(eye)].mean(1) for eye in scheme.five_points[:2])
        found = np.linalg.norm(left - right, axis=-1)
    else:
        if normalizer.startswith("hull"):
            sides = np.fmax.reduce(points, axis=1) - np.fmin.reduce(points, axis=1)
        else:
            boxes = np.asarray(boxes, np.float64)
            sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 0)
        diagonal = normalizer.endswith("diagonal")
        found = np.hypot(*sides.T) if diagonal else np.sqrt(sides.prod(-1))
    return np.where(found > 0, found, np.nan)


def face_errors(
    predicted: ArrayLike, landmarks: NDArray[Any], visible: NDArray[Any], distance: NDArray[Any]
) -> NDArray[np.float64]:
    """Each face's NME in percent, `100 · mean over visible points of ‖s̃ − s‖₂ / d`.

    Args:
        predicted: (N, K, 2) pixels. A face with a NaN in place of a visible point has none.
        landmarks: (N, K, 2) true ones, pixels; hidden ones may be NaN.
        visible: (N, K) bool.
        distance: (N,) the normalizing d in pixels, NaN where there is none.

    Returns:
        (N,) float64: NaN without d or without visible points, infinite without prediction.

    Example:

    >>> truth = np.zeros((1, 2, 2))
    >>> face_errors(truth + [[[3, 4]]], truth, np.ones((1, 2), bool), np.array([50.0]))
    array([10.])
    """
    apart = np.linalg.norm(np.asarray(predicted, np.float64) - landmarks, axis=-1)
    count = visible.sum(1)
    mean = np.where(visible, apart, 0).sum(1) / np.maximum(count, 1)
    errors = 100 * np.where(np.isfinite(mean), mean, np.inf) / distance
    return np.where(count > 0, errors, np.nan)


def groups(scheme: Scheme) -> dict[str, list[int]]:
    """Indices of a scheme's points by their names without number: `{"jaw": [0, …, 16], …}`."""
    found = {}
    for i, name in enumerate(scheme.names):
        found.setdefault(re.sub(r"_?\d+$", "", name) or name, []).append(i)
    return found


def group_errors(
    predicted: NDArray[Any],
    landmarks: NDArray[Any],
    visible: NDArray[Any],
    distance: NDArray[Any],
    scheme: Scheme,
) -> dict[str, NDArray[np.float64]]:
    """`face_errors` of each of the `groups` of a scheme alone: dict from name to (N,)."""
    return {
        name: face_errors(predicted[:, points], landmarks[:, points], visible[:, points], distance)
        for name, points in groups(scheme).items()
    }


def statistics(errors: NDArray[Any]) -> dict[str, NDArray[np.float64]]:
    """What the means over faces of are the numbers of a table.

    With e a face's error and t one of `THRESHOLDS`, both in percent:

        nme = e,    failure_rate_t = 100 if e > t else 0,    auc_t = max(0, 1 − e / t)

    The mean of the last is the exact area, from 0 to 1, under the step curve of the share of faces
    with at most a given error, up to t.

    Args:
        errors: (N,) as `face_errors` gives them.

    Returns:
        dict from name to (N,), NaN where a face does not count.

    Example:

    >>> found = statistics(np.array([4.0, np.inf]))
    >>> found["nme"], found["failure_rate_8"], found["auc_8"]
    (array([ 4., nan]), array([  0., 100.]), array([0.5, 0. ]))
    """
    found = {"nme": np.where(np.isfinite(errors), errors, np.nan)}
    scored = np.where(np.isnan(errors), np.nan, 1)
    for threshold in THRESHOLDS:
        found[f"failure_rate_{threshold}"] = 100 * (errors > threshold) * scored
    for threshold in THRESHOLDS:
        found[f"auc_{threshold}"] = np.maximum(0, 1 - errors / threshold) * scored
    return found


def ced(errors: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The cumulative error distribution: which share of the faces has at most which error.

    Args:
        errors: (N,) as `face_errors` gives them.

    Returns:
        Errors (n,) in percent, ascending, and shares (n,) in (0, 1], of all faces that can be
        scored: faces without prediction keep the last one below 1.

    Example:

    >>> ced(np.array([3.0, np.nan, 2.0, np.inf]))
    (array([2., 3.]), array([0.33333333, 0.66666667]))
    """
    scored = np.sort(errors[~np.isnan(errors)])
    shares = np.arange(1, len(scored) + 1) / max(1, len(scored))
    found = np.isfinite(scored)
    return scored[found], shares[found]


def estimates(columns: Mapping[Any, ArrayLike]) -> dict[Any, tuple[float, float, float]]:
    """Means over faces with bootstrap intervals, all from the same resamples of the faces.

    Each of the `RESAMPLES` draws N faces of the N with replacement. An interval reaches from the
    (1 − `LEVEL`)/2 to the (1 + `LEVEL`)/2 quantile of the resampled means. So a column of
    differences of two methods on the same faces gives the paired interval of the difference.

    Args:
        columns: dict from any key to (N,) values, NaN where a face does not count.

    Returns:
        dict from key to (mean, low, high), floats; NaN where no face counts.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, section 13.3.

    Example:

    >>> estimates({"nme": np.array([4.0, 4.0, np.nan])})
    {'nme': (4.0, 4.0, 4.0)}
    """
    if not columns:
        return {}
    values = np.stack([np.asarray(column, np.float64) for column in columns.values()], axis=1)
    counted = ~np.isnan(values)
    values = np.where(counted, values, 0)
    weights = counted.astype(np.float64)
    n = len(values)
    means = _ratio(values.sum(0), weights.sum(0))
    random = np.random.default_rng(0)
    drawn = np.empty((RESAMPLES, len(columns)))
    step = max(1, _CHUNK // max(1, n))
    for start in range(0, RESAMPLES, step):
        rows = min(step, RESAMPLES - start)
        faces = random.integers(n, size=(rows, n)) + n * np.arange(rows)[:, None]
        counts = np.bincount(faces.ravel(), minlength=rows * n).reshape(rows, n).astype(np.float64)
        drawn[start : start + rows] = _ratio(counts @ values, counts @ weights)
    tails = (1 - LEVEL) / 2, (1 + LEVEL) / 2
    found = {}
    for i, key in enumerate(columns):
        usable = drawn[:, i][~np.isnan(drawn[:, i])]
        ends = np.quantile(usable, tails) if usable.size else (np.nan, np.nan)
        found[key] = float(means[i]), float(ends[0]), float(ends[1])
    return found


def summary(estimated: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """The dict of `estimates` as plain data: `nme`, `nme_interval` and so on; None for NaN."""
    found = {}
    for name, (mean, *ends) in estimated.items():
        found[name] = None if np.isnan(mean) else mean
        found[f"{name}_interval"] = None if np.isnan(mean) else ends
    return found


def counts(errors: NDArray[Any]) -> dict[str, Any]:
    """How many faces are `faces`, scored, and how many of them are `missing`, without prediction.

    `unscored` are those that count nowhere, for want of labels or of what the normalizer needs.
    `nme_median`, which no face far off moves, counts the missing as infinitely far: None if it is.
    """
    scored = errors[~np.isnan(errors)]
    found = scored[np.isfinite(scored)]
    median = float(np.median(scored)) if scored.size else np.inf
    return {
        "faces": int(scored.size),
        "missing": int(scored.size - found.size),
        "unscored": int(errors.size - scored.size),
        "nme_std": float(found.std()) if found.size else None,
        "nme_median": median if np.isfinite(median) else None,
    }


def small_distances(distance: NDArray[Any]) -> int:
    """How many faces have a normalizing d below a quarter of the median: their errors are large.

    So are those of objects whose few labeled points lie near to each other, or in a line.

    Args:
        distance: (N,) as `distances` gives it.

    Example:

    >>> small_distances(np.array([40.0, 44, 9, np.nan]))
    1
    """
    known = distance[np.isfinite(distance)]
    return int((known < np.median(known) / 4).sum()) if known.size else 0


def told(unscored: int, small: int, meaning: str) -> list[str]:
    """Sentences about faces that say little of a model, those of `counts` and `small_distances`.

    Args:
        unscored, small: how many.
        meaning: of the normalizer, in words.
    """
    lines = []
    if unscored:
        lines.append(
            f"{unscored:,} of the labeled ones can't be scored and are left out: they have no "
            f"label, or not what the normalizer needs, {meaning}."
        )
    if small:
        lines.append(
            f"CAUTION: for {small:,} of the labeled ones the {meaning} is under a quarter of the "
            "median: their errors are large by that alone, and may make most of the mean. Look at "
            "the median, or take another --normalizer."
        )
    return lines


def _ratio(total, weight):
    return np.divide(total, weight, out=np.full(np.shape(total), np.nan), where=weight > 0)
