"""What a model's scale says of its error: calibrated on validation faces, checked on others.

A `Calibration` turns the scale b of a landmark into an expected error and into a radius that holds
the true point with a stated probability. It travels with the model, in `.keras` and in `.tflite`.
NumPy alone.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, Self, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

COVERAGES = (0.5, 0.8, 0.9, 0.95)
"""Probabilities for which a calibration keeps quantiles."""

_BINS = 12
_IN_A_BIN = 100
_DIGITS = 4
_GROUPS = 10
_LEAST_FOR_LOST = 50
"""Faces from which on the spread of their relative errors is known to a tenth."""
_PRIOR_FACES, _SPREAD = 10, 0.2
"""Faces that count beside the real ones and say that the exponents need no change, and the
standard deviation of the logarithm of their expected errors."""
_STEPS = 20
_DEVIATIONS = 3.0
"""Standard deviations above the mean logarithm of the relative error at which a face is lost: of a
normal distribution 0.13 % lie beyond, of the heavier tail of real faces up to 0.5 %."""


@dataclasses.dataclass(frozen=True)
class Calibration:
    """From scales to errors, both in pixels of the crop.

    With s the mean of a landmark's two scales, g non-decreasing and piecewise linear, f_k one
    number for each landmark, and ē the mean of e_k over the face:

        expected error e_k = f_k · g(s)
        radius         r_k(c) = q_k(c) · e_k · (ē / typical)^across · (e_k / ē)^within

    where q_k(c) is the ⌈(n+1)·c⌉-th smallest of the n ratios of error and r_k / q_k on the
    calibration faces: split-conformal prediction with a normalized score, which covers a new
    face's landmark with probability ≥ c if that face is drawn as the calibration faces were. (All
    else is fitted on the same faces, which costs a little of it; the tests measure how much.)
    Errors differ more from face to face than the scales do, and less within a face.

    Attributes:
        scales, errors: the knots of g, in pixels; beyond the last, g goes on in proportion.
        factors: f, K numbers.
        quantiles: q, for each coverage K numbers; infinite where the faces are too few.
        data: what it was fitted on, one line.
        faces: how many.
        lost: the `relative_error` above which landmarks are lost: on what is not what the
            model knows, or elsewhere. None where the faces were too few to tell.
        typical, across, within: of the radius; the first in pixels, the others in [-1, 1], and 0
            where r_k = q_k · e_k, as in files of before.

    Raises:
        ValueError: knots that do not rise, quantiles that do not fit them, `typical` or `lost` not
            above 0, or an exponent beyond 1.

    Example:

    >>> known = Calibration((1.0, 2.0), (1.5, 3.0), (1.0,), {0.9: (2.0,)}, "two faces", 2)
    >>> scale = np.full((1, 2), 1.0)
    >>> known.error(scale), known.radius(scale, 0.9)
    (array([1.5]), array([3.]))

    Source: the score of Lei et al., JASA 2018, §5.2; g by pool-adjacent-violators on at most 12
    quantile bins; the exponents by regression on errors of a gamma distribution.
    """

    scales: tuple[float, ...]
    errors: tuple[float, ...]
    factors: tuple[float, ...]
    quantiles: dict[float, tuple[float, ...]]
    data: str
    faces: int
    lost: float | None = None
    typical: float = 1.0
    across: float = 0.0
    within: float = 0.0

    def __post_init__(self):
        if not (0 < self.typical < math.inf and abs(self.across) <= 1 and abs(self.within) <= 1):
            raise ValueError(
                "Expected `typical` above 0, `across` and `within` in [-1, 1]. Received: "
                f"{self.typical}, {self.across}, {self.within}"
            )
        if self.lost is not None and not 0 < self.lost < math.inf:
            raise ValueError(f"Expected `lost` above 0, or None. Received: {self.lost}")
        knots, k = len(self.scales), len(self.factors)
        rising = np.all(np.diff(self.scales) > 0) and np.all(np.diff(self.errors) >= 0)
        if not knots or len(self.errors) != knots or not rising or self.scales[0] < 0:
            raise ValueError(
                "Expected as many errors as scales, one at least, neither of them falling. "
                f"Received: {self.scales}, {self.errors}"
            )
        lengths = {c: len(q) for c, q in self.quantiles.items() if len(q) != k or not 0 < c < 1}
        if lengths:
            raise ValueError(
                f"Expected coverages in (0, 1) with {k} quantiles each. Received: {lengths}"
            )

    def error(self, scale: ArrayLike) -> NDArray[np.float64]:
        """Expected distances from the true points, (…, K), for scales (…, K, 2); same unit.

        Pixels of the crop in, pixels of the crop out.
        """
        scale = np.asarray(scale, np.float64)
        if scale.shape[-2:] != (len(self.factors), 2):
            raise ValueError(
                f"Expected scales of shape (…, {len(self.factors)}, 2). Received: {scale.shape}"
            )
        return np.array(self.factors) * _curve(scale.mean(-1), self.scales, self.errors)

    def radius(self, scale: ArrayLike, coverage: float = 0.9) -> NDArray[np.float64]:
        """Radii (…, K) around the landmarks that hold the true points with a probability.

        Args:
            scale: (…, K, 2), pixels of the crop.
            coverage: one of the kept probabilities (`COVERAGES`).
        """
        if coverage not in self.quantiles:
            raise ValueError(
                f"`coverage` must be one of {tuple(self.quantiles)}. Received: {coverage}"
            )
        return self._width(self.error(scale)) * np.array(self.quantiles[coverage])

    def _width(self, error):
        """Radii by their quantiles, (…, K), from expected errors."""
        face, own = _relations(error, self.typical)
        return np.maximum(error, 1e-9) * np.exp(self.across * face + self.within * own)

    def to_config(self) -> dict[str, Any]:
        """Plain data that JSON and `from_config` take."""
        return {
            **dataclasses.asdict(self),
            "quantiles": {
                str(c): [None if math.isinf(q) else q for q in qs]
                for c, qs in self.quantiles.items()
            },
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """A calibration from what `to_config` gave."""
        quantiles = {
            float(c): tuple(math.inf if q is None else q for q in qs)
            for c, qs in config["quantiles"].items()
        }
        plain = {name: tuple(config[name]) for name in ("scales", "errors", "factors")}
        return cls(**{**config, **plain, "quantiles": quantiles})


CalibrationLike: TypeAlias = Calibration | Mapping[str, Any]
"""A calibration or its plain data."""


def get(calibration: CalibrationLike | None) -> Calibration | None:
    """A `Calibration` from itself or its plain data; None from None.

    Args:
        calibration: a `Calibration`, the dict of its `to_config`, or None.
    """
    if calibration is None or isinstance(calibration, Calibration):
        return calibration
    return Calibration.from_config(calibration)


def fit(
    errors: ArrayLike,
    scale: ArrayLike,
    data: str = "",
    landmarks: ArrayLike | None = None,
    start: Calibration | None = None,
) -> Calibration:
    """A `Calibration` from faces whose landmarks are known, and which the model was not trained on.

    Args:
        errors: (N, K) distances of the landmarks from the true ones, crop pixels; NaN where a
            landmark is hidden.
        scale: (N, K, 2) their scales.
        data: one line on the faces.
        landmarks: (N, K, 2) predicted, crop pixels, from which it is told when a face is lost; None
            leaves that out, and so do fewer than 50 faces.
        start: a calibration of the same model to go on from, where the faces are few: the form of
            its curve stays, factors, exponents and quantiles are fitted; of fewer than 50 faces,
            its `lost` becomes as much larger as the errors are.

    Raises:
        ValueError: shapes that do not fit, or no face with a known landmark.

    Example:

    >>> fit(np.ones((200, 3)), np.full((200, 3, 2), 0.5)).error(np.full((3, 2), 0.5))
    array([1., 1., 1.])
    """
    errors, scale = np.asarray(errors, np.float64), np.asarray(scale, np.float64)
    if errors.ndim != 2 or scale.shape != (*errors.shape, 2):
        raise ValueError(
            f"Expected errors (N, K) and scales (N, K, 2). Received: {errors.shape}, {scale.shape}"
        )
    spread = scale.mean(-1)
    known = np.isfinite(errors) & np.isfinite(spread)
    if not known.any():
        raise ValueError("Expected at least one known landmark to calibrate on. Received: none")
    if start is None:
        scales, curve = _fit_curve(spread[known], errors[known])
        expected, before = _curve(spread, scales, curve), np.ones(errors.shape[1])
    else:
        scales, curve = np.array(start.scales), np.array(start.errors)
        expected, before = start.error(scale), np.array(start.factors)
    masked = np.where(known, errors, np.nan)
    overall = errors[known].mean() / max(expected[known].mean(), 1e-9)
    sums = np.nansum(masked, 0), np.where(known, expected, 0).sum(0)
    factors = np.where(known.any(0), sums[0] / np.maximum(sums[1], 1e-9), overall)
    expected = expected / before
    factors = np.maximum(np.round(factors * before, _DIGITS), 10.0**-_DIGITS)
    expected = factors * expected
    shape = _fit_shape(masked, expected, start)
    bare = Calibration(
        scales=tuple(scales.tolist()),
        errors=tuple(curve.tolist()),
        factors=tuple(factors.tolist()),
        quantiles={},
        data=data,
        faces=len(errors),
        **shape,
    )
    # What is infinitely far off tells nothing of the curve, and lies beyond all radii.
    ranked = np.where(np.isfinite(spread) & ~np.isnan(errors), errors, np.nan)
    ratios = ranked / np.maximum(bare._width(expected), 1e-9)
    quantiles = {c: tuple(conformal_quantile(column, c) for column in ratios.T) for c in COVERAGES}
    found = dataclasses.replace(bare, quantiles=quantiles)
    if landmarks is None:
        return found
    lost = _lost(relative_error(landmarks, found.error(scale)))
    if lost is None and start is not None and start.lost is not None:
        lost = round(start.lost * float(overall), _DIGITS)  # as much larger as the errors are
    return dataclasses.replace(found, lost=lost)


def _fit_shape(errors, expected, start=None):
    """`typical`, `across` and `within` by name, of errors (N, K), NaN where not known.

    Errors as a gamma distribution with a mean of exp(constant) · e_k · (…)^across · (…)^within,
    fitted by reweighted least squares, and drawn to those of `start`, or to 0, as by
    `_PRIOR_FACES` faces of their own.
    """
    faces = expected.mean(-1)
    typical = max(round(float(np.nanmedian(faces)), _DIGITS), 10**-_DIGITS)
    face, own = _relations(expected, typical)
    known = np.isfinite(errors) & np.isfinite(face + own)
    origin = np.array([0.0, 0.0, 0.0] if start is None else [0.0, start.across, start.within])
    plain = {"typical": typical, "across": float(origin[1]), "within": float(origin[2])}
    if not errors[known].any():
        return plain
    columns = np.stack([np.ones_like(own), face + 0 * own, own], -1)[known]
    ratios = errors[known] / np.maximum(expected[known], 1e-9)
    prior = _PRIOR_FACES * known.sum() / max(known.any(1).sum(), 1) * _SPREAD**2
    matrix = columns.T @ columns + np.diag([0, prior, prior])
    weights = origin + [np.log(ratios.mean()), 0, 0]
    for _ in range(_STEPS):
        step = ratios * np.exp(-columns @ weights) - 1
        pull = columns.T @ step - np.array([0, prior, prior]) * (weights - origin)
        weights = weights + np.linalg.solve(matrix, pull)
        weights[1:] = np.clip(weights[1:], -1, 1)
    across, within = (round(float(each), _DIGITS) for each in weights[1:])
    return {**plain, "across": across, "within": within}


def _relations(error, typical):
    """Logarithms of ē / typical, (…, 1), and of e_k / ē, (…, K)."""
    error = np.maximum(error, 1e-9)
    face = error.mean(-1, keepdims=True)
    return np.log(face / typical), np.log(error / face)


def _lost(relative):
    """The relative error from which a face is lost, from those (N,) of known faces, or None."""
    logs = np.log(relative[np.isfinite(relative) & (relative > 0)])
    if len(logs) < _LEAST_FOR_LOST:
        return None
    return max(round(float(np.exp(logs.mean() + _DEVIATIONS * logs.std())), _DIGITS), 10**-_DIGITS)


def relative_error(landmarks: ArrayLike, error: ArrayLike) -> NDArray[np.float64]:
    """Mean expected error of a face by how far its landmarks spread:

        mean_k e_k / √(mean_k |landmark_k − center|²),   center the mean of the landmarks

    The same at any size and rotation; infinite where all landmarks are in one point.

    Args:
        landmarks: (…, K, 2) pixels.
        error: (…, K) expected errors, `Calibration.error`, in the same pixels.

    Returns:
        (…) float64.

    Example:

    >>> relative_error([(0.0, 0.0), (6.0, 8.0)], [1.0, 2.0])    # both 5 px from the center
    array(0.3)
    """
    landmarks, error = np.asarray(landmarks, np.float64), np.asarray(error, np.float64)
    spread = np.sqrt(np.var(landmarks, axis=-2).sum(-1))
    far = np.full(spread.shape, np.inf)
    return np.divide(error.mean(-1), spread, out=far, where=spread > 0)


def faces_wanted(coverage: float = 0.9) -> int:
    """How many known values a radius of some coverage takes: fewer give none.

    Example:

    >>> faces_wanted(0.9), faces_wanted(0.95)
    (9, 19)
    """
    return math.ceil(coverage / (1 - coverage) - 1e-9)


def conformal_quantile(scores: ArrayLike, coverage: float) -> float:
    """The ⌈(n+1)·coverage⌉-th smallest of n scores, NaN left out; infinite if there is none.

    Args:
        scores: (n,) numbers.
        coverage: probability in (0, 1).

    Example:

    >>> conformal_quantile([0.3, 0.1, 0.2, 0.4], 0.5)
    0.3
    """
    scores = np.sort(scores)
    scores = scores[~np.isnan(scores)]
    rank = math.ceil((len(scores) + 1) * coverage - 1e-9)
    if rank > len(scores):
        return math.inf
    found = float(scores[rank - 1])
    rounded = round(found, _DIGITS)
    # Never down: a smaller radius would cover less.
    return rounded if rounded >= found else round(rounded + 10**-_DIGITS, _DIGITS)


def reliability(
    calibration: Calibration, errors: ArrayLike, scale: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Expected beside measured error, in ten groups of equally many landmarks by expected error.

    Args:
        calibration: a `Calibration`.
        errors: (N, K) distances from the true points, crop pixels; NaN where hidden.
        scale: (N, K, 2).

    Returns:
        (expected, measured), each (10,), pixels: means of each group; of fewer landmarks as many.

    Example:

    >>> expected, measured = reliability(model.calibration, errors, found["scale"])
    >>> expected.shape
    (10,)
    """
    known = np.isfinite(errors)
    expected, errors = calibration.error(scale)[known], np.asarray(errors)[known]
    order = np.argsort(expected, kind="stable")
    groups = np.array_split(order, max(1, min(_GROUPS, len(order))))
    means = [np.array([each[group].mean() for group in groups]) for each in (expected, errors)]
    return means[0], means[1]


def coverage(
    calibration: Calibration, errors: NDArray[Any], scale: ArrayLike
) -> dict[float, tuple[float, NDArray[np.float64]]]:
    """Share of landmarks within their radius, for each probability that was asked for.

    Args:
        calibration: a `Calibration`.
        errors: (N, K) distances from the true points, crop pixels; NaN where hidden.
        scale: (N, K, 2) predicted, crop pixels.

    Returns:
        dict from probability to (share of all, share of each landmark (K,)); NaN where no radius
        is known.

    Example:

    >>> share, of_each = coverage(model.calibration, errors, found["scale"])[0.9]
    >>> of_each.shape
    (68,)
    """
    found = {}
    for asked in calibration.quantiles:
        inside = within(calibration, errors, scale, asked)
        found[asked] = mean_known(inside), np.array([mean_known(each) for each in inside.T])
    return found


def within(
    calibration: Calibration, errors: NDArray[Any], scale: ArrayLike, asked: float
) -> NDArray[np.float64]:
    """Which landmarks lie within their radius, (N, K): 1 or 0, NaN where that is unknown.

    Args:
        calibration, errors, scale: as of `coverage`.
        asked: probability of the radius.
    """
    radius = calibration.radius(scale, asked)
    known = ~np.isnan(errors) & np.isfinite(radius)
    return np.where(known, errors <= radius, np.nan)


def mean_known(values: ArrayLike) -> float:
    """Mean of the values that are not NaN; NaN if there is none."""
    values = np.asarray(values, np.float64)
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else math.nan


def selective(
    errors: ArrayLike, expected: ArrayLike, shares: Sequence[float] = (0.25, 0.5, 0.75, 0.9, 1.0)
) -> NDArray[np.float64]:
    """Mean error of the surest faces, for shares of them.

    Args:
        errors: (N,) errors of faces, any unit.
        expected: (N,) what the model expects of them.
        shares: of the faces, in (0, 1].

    Returns:
        (len(shares),) means.

    Example:

    >>> selective([3.0, 1.0], [0.5, 0.2], shares=(0.5, 1.0))
    array([1., 2.])
    """
    order = np.argsort(expected, kind="stable")
    ranked = np.asarray(errors, np.float64)[order]
    return np.array([ranked[: max(1, round(share * len(ranked)))].mean() for share in shares])


def negative_log_likelihood(errors: ArrayLike, expected: ArrayLike) -> float:
    """Mean over points of −log p, p a density in the plane whose mean distance is the expected one:

        p(x) = exp(−‖x − μ‖ / b) / (2π b²),  b = e / 2
        −log p = log(π e² / 2) + 2 · error / e

    The Laplace density that looks the same in all directions, in nats for pixels: lower is better,
    and it is least on average where e is the mean of the errors. Pixels of larger crops give more.

    Args:
        errors: distances from the true points, pixels; NaN where hidden.
        expected: e, `Calibration.error`, of the same shape and in the same pixels.

    Example:

    >>> round(negative_log_likelihood([1.0], [1.0]), 4)    # log(π / 2) + 2
    2.4516
    """
    errors, expected = np.asarray(errors, np.float64), np.asarray(expected, np.float64)
    known = np.isfinite(errors)
    errors, expected = errors[known], np.maximum(expected[known], 1e-9)
    return float(np.mean(np.log(np.pi / 2 * expected**2) + 2 * errors / expected))


def sparsification_error(errors: ArrayLike, expected: ArrayLike) -> tuple[float, float]:
    """Area under the sparsification error: how much worse than the best the order of trust is.

        AUSE = 1/n · Σ_i (S_i − S*_i) / S_n

    S_i is the mean error of the i of n values with the smallest expected error, S*_i of the i with
    the smallest error. 0 is the best order.

    Args:
        errors: (n,) distances or errors of faces, any unit.
        expected: (n,) what was expected of them.

    Returns:
        The area, and what it is on average in random order.

    Example:

    >>> sparsification_error([1.0, 2.0, 3.0], [0.1, 0.5, 0.9])    # the best order
    (0.0, 0.25)

    Source: Ilg et al., ECCV 2018, §4.
    """
    errors = np.asarray(errors, np.float64)

    def kept(order):
        """Mean over i of S_i, by S_n."""
        sums = np.cumsum(errors[np.argsort(order, kind="stable")])
        return float(np.mean(sums / np.arange(1, len(sums) + 1)) / max(sums[-1] / len(sums), 1e-9))

    best = kept(errors)
    return kept(np.asarray(expected)) - best, 1.0 - best


def by_tenth(inside: ArrayLike, key: ArrayLike) -> NDArray[np.float64]:
    """Share within the radius in ten groups of equally many, by a key that rises.

    Args:
        inside: (n, …) 1 within, 0 outside, NaN where not known.
        key: (n,) what the groups are made by, such as the expected error.

    Returns:
        (10,) shares, (n,) if there are fewer than ten; NaN where none is known.

    Example:

    >>> by_tenth([1.0, 1.0, 0.0], [0.2, 0.1, 0.3])
    array([1., 1., 0.])
    """
    inside, order = np.asarray(inside, np.float64), np.argsort(key, kind="stable")
    groups = np.array_split(order, max(1, min(10, len(order))))
    return np.array([mean_known(inside[group]) for group in groups], np.float64)


def _fit_curve(scales, errors):
    """Knots of a curve that never falls: means of quantile bins, pooled where they do."""
    order = np.argsort(scales, kind="stable")
    pools = []
    # A curve of few points would follow them, and promise too much of others.
    for part in np.array_split(order, max(1, min(_BINS, len(order) // _IN_A_BIN))):
        pool = np.array([scales[part].sum(), errors[part].sum(), len(part)])
        while pools and not _rises(pools[-1], pool):
            pool = pool + pools.pop()
        pools.append(pool)
    sums = np.array(pools)
    return np.round(sums[:, :2] / sums[:, 2:], _DIGITS).T


def _rises(pool, following):
    """Whether mean scale and mean error do; both as they will be rounded."""
    first, second = (np.round(p[:2] / p[2], _DIGITS) for p in (pool, following))
    return second[0] > first[0] and second[1] >= first[1]


def _curve(scale, scales, errors):
    """g: linear between knots, level before the first, in proportion beyond the last."""
    inside = np.interp(scale, scales, errors)
    return np.where(scale > scales[-1], errors[-1] * scale / max(scales[-1], 1e-9), inside)
