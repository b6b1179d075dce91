"""How far eyes and mouth are open: ratios of landmark distances, for blinks, yawns and speech.

The ratio of an eye is the eye aspect ratio. Source: Soukupová and Čech, Real-Time Eye Blink
Detection using Facial Landmarks, CVWW 2016, Eq. 1; the mouth's is the same on its inner contour.
"""

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from keras_lapkl.schemes import IBUG68, Scheme

CLOSED = 0.15
"""An eye whose ratio is below counts as closed; half open it has about that."""


@dataclasses.dataclass(frozen=True)
class Aperture:
    """Indices of the landmarks around an opening.

    Attributes:
        corners: the two that do not move when it opens, the left one in the image first.
        upper, lower: those of its two edges, opposite ones at the same place, in the same order.
    """

    corners: tuple[int, int]
    upper: tuple[int, ...]
    lower: tuple[int, ...]


_OF_IBUG68 = {
    "right_eye": Aperture((36, 39), (37, 38), (41, 40)),
    "left_eye": Aperture((42, 45), (43, 44), (47, 46)),
    "mouth": Aperture((60, 64), (61, 62, 63), (67, 66, 65)),
}


def apertures(scheme: Scheme | None) -> dict[str, Aperture]:
    """The openings of a scheme: the person's right eye, left eye and mouth of the 68 points.

    Args:
        scheme: a `Scheme`; others than ibug68's points have none, and None has none.

    Example:

    >>> list(apertures(IBUG68))
    ['right_eye', 'left_eye', 'mouth']
    """
    return _OF_IBUG68 if scheme is not None and scheme.names == IBUG68.names else {}


def ratios(landmarks: ArrayLike, scheme: Scheme) -> dict[str, NDArray[np.float64]]:
    """Mean distance of opposite landmarks of each opening, in distances of its corners.

    Args:
        landmarks: (…, K, 2), in any pixels.
        scheme: `Scheme` of the landmarks.

    Returns:
        An array (…) by name of the opening; NaN where a landmark of it is. An open eye has about
        0.3, a closed one 0.05; a closed mouth 0.

    Raises:
        ValueError: landmarks of another shape.

    Example:

    >>> face = np.zeros((68, 2))
    >>> face[[36, 39]] = (0, 0), (30, 0)
    >>> face[[37, 38, 41, 40]] = (10, -4), (20, -4), (10, 5), (20, 5)
    >>> ratios(face, IBUG68)["right_eye"]
    0.3
    """
    landmarks = np.asarray(landmarks, np.float64)
    if landmarks.ndim < 2 or landmarks.shape[-2:] != (scheme.num_landmarks, 2):
        raise ValueError(
            f"Expected landmarks of shape (…, {scheme.num_landmarks}, 2) of scheme "
            f"{scheme.name!r}. Received: {landmarks.shape}"
        )
    return {name: _ratio(landmarks, each) for name, each in apertures(scheme).items()}


def _ratio(landmarks, aperture):
    first, last = (landmarks[..., i, :] for i in aperture.corners)
    open_ = landmarks[..., aperture.upper, :] - landmarks[..., aperture.lower, :]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.linalg.norm(open_, axis=-1).mean(-1) / np.linalg.norm(last - first, axis=-1)


def agreement(found: ArrayLike, truth: ArrayLike, scheme: Scheme) -> dict[str, dict[str, Any]]:
    """How the ratios of predictions follow those of labels.

    A model that is unsure answers with an opening between that of the face and the average one:
    its slope is below 1.

    Args:
        found, truth: (N, K, 2) landmarks in the same pixels.
        scheme: `Scheme` of the landmarks.

    Returns:
        By `eyes` (both together) and `mouth`: `slope` of the line of found on true ratios by least
        squares, `correlation`, `mean_error`, and `count`; of eyes that are closed by the labels
        (below `CLOSED`) `closed`, their number, with the mean ratios `closed_true` and
        `closed_found`, or None. Empty where the scheme has no openings or fewer than two faces
        have them.

    Raises:
        ValueError: as `ratios`.
    """
    by_labels, by_model = ratios(truth, scheme), ratios(found, scheme)
    if not by_labels:
        return {}
    groups = {"eyes": ("right_eye", "left_eye"), "mouth": ("mouth",)}
    result = {}
    for group, names in groups.items():
        x, y = (np.concatenate([np.ravel(r[n]) for n in names]) for r in (by_labels, by_model))
        known = np.isfinite(x) & np.isfinite(y)
        x, y = x[known], y[known]
        if len(x) < 2 or np.ptp(x) == 0:
            continue
        varies = np.ptp(y) > 0
        result[group] = {
            "slope": float(np.cov(x, y)[0, 1] / np.var(x, ddof=1)),
            "correlation": float(np.corrcoef(x, y)[0, 1]) if varies else None,
            "mean_error": float(np.abs(y - x).mean()),
            "count": len(x),
        }
        if group == "eyes":
            closed = x < CLOSED
            means = (float(v[closed].mean()) if closed.any() else None for v in (x, y))
            result[group] |= {"closed": int(closed.sum())}
            result[group] |= dict(zip(("closed_true", "closed_found"), means, strict=True))
    return result
