"""Metrics of landmark localization. All take labels as the losses do, and average over faces.

`y_true` is (B, K, 2), or (B, K, 3) with visibility last, in pixels; `y_pred` is either the logits
(B, H, W, K), or those of `heatmaps.join_axes`, so that the metrics stand beside the losses in
`compile`, or predicted landmarks (B, K, 2) in pixels. Hidden landmarks weigh nothing; a face with
none visible does not count, and the mean over no face is NaN.
"""

import math
import numbers
from collections.abc import Callable
from typing import Any, ClassVar, Literal, Self, TypeAlias

from keras_lapkl import schemes
from keras_lapkl._support import extras
from keras_lapkl._support.types import Tensor
from keras_lapkl.schemes import SchemeLike

with extras.needed_by(__name__):
    import keras
    from keras import ops

    from keras_lapkl import heatmaps
    from keras_lapkl.heatmaps import Distribution
    from keras_lapkl.losses import (
        check_face_weights,
        check_positive,
        float32_only,
        split_visible,
    )

NORMALIZERS = ("interocular", "hull", "box")

Normalizer: TypeAlias = (
    Literal["interocular", "hull", "box"] | float | Callable[[Tensor, Tensor], Tensor]
)


def interocular_distance(
    landmarks: Tensor, visible: Tensor, eye_corners: tuple[int, int]
) -> Tensor:
    """Distance of the outer eye corners, 0 where one is hidden: (B, K, 2), (B, K) → (B,).

    Args:
        landmarks: pixels.
        visible: 1 or 0.
        eye_corners: the two indices of the scheme.
    """
    left, right = eye_corners
    gap = landmarks[:, left] - landmarks[:, right]
    return visible[:, left] * visible[:, right] * ops.sqrt(ops.sum(ops.square(gap), axis=-1))


@keras.saving.register_keras_serializable("keras_lapkl")
def hull_size(landmarks: Tensor, visible: Tensor) -> Tensor:
    """√(w·h) of the box of the visible landmarks: (B, K, 2), (B, K) → (B,), 0 if none is.

    Args:
        landmarks: pixels.
        visible: 1 or 0.
    """
    shown = visible[..., None] > 0
    low = ops.min(ops.where(shown, landmarks, float("inf")), axis=1)
    high = ops.max(ops.where(shown, landmarks, float("-inf")), axis=1)
    return ops.sqrt(ops.prod(ops.maximum(high - low, 0.0), axis=-1))


def face_errors(
    landmarks: Tensor, visible: Tensor, location: Tensor, distance: Tensor
) -> tuple[Tensor, Tensor]:
    """Each face's NME in percent, `100 · mean over visible points of ‖s̃ − s‖₂ / d`.

    Args:
        landmarks, visible: (B, K, 2) pixels and (B, K), as `losses.split_visible` gives them.
        location: (B, K, 2) predicted, pixels.
        distance: (B,) the normalizing d, pixels, or one number.

    Returns:
        NME (B,), 0 where it is not defined, and a bool (B,) of where it is: at least one visible
        landmark and d > 0.

    Raises:
        ValueError: distances of another shape, which would be broadcast.
    """
    distance = ops.cast(distance, "float32")
    if len(distance.shape) > 1 or distance.shape[:1] not in ((), (None,), location.shape[:1]):
        raise ValueError(
            "Expected distances of shape (B,), one for each face. Received: "
            f"{tuple(distance.shape)}"
        )
    error = ops.sqrt(ops.sum(ops.square(location - landmarks), axis=-1))
    count = ops.sum(visible, axis=1)
    usable = ops.logical_and(count > 0, distance > 0)
    nme = 100 * ops.sum(error * visible, axis=1) / ops.maximum(count, 1.0)
    return ops.where(usable, nme / ops.where(usable, distance, 1.0), 0.0), usable


class _FaceMean(keras.metrics.Mean):
    """Mean over faces; NaN while there is none, where Keras's own is 0, the best error."""

    _direction = "down"  # what `ModelCheckpoint` reads under mode="auto"

    def result(self) -> Tensor:
        return ops.where(self.count > 0, super().result(), float("nan"))


class _FaceMetric(_FaceMean):
    """Mean over faces of a function of each face's NME; what the three error metrics share."""

    _default_name: ClassVar[str]

    def __init__(
        self,
        normalizer: Normalizer = "interocular",
        scheme: SchemeLike = "ibug68",
        beta: float = 1.0,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(name=name or self._default_name, dtype=float32_only(dtype))
        if isinstance(normalizer, str) and normalizer not in NORMALIZERS:
            raise ValueError(
                f"`normalizer` must be one of {NORMALIZERS}, a function of (landmarks, visible), "
                f"or a number of pixels. Received: {normalizer!r}"
            )
        if isinstance(normalizer, numbers.Real) and not 0 < float(normalizer) < math.inf:
            raise ValueError(f"`normalizer` must be > 0 pixels. Received: {normalizer}")
        self.normalizer = normalizer
        self.scheme = schemes.get(scheme)
        if normalizer == "interocular" and self.scheme.eye_corners is None:
            raise ValueError(
                f"Scheme {self.scheme.name!r} has no `eye_corners`, which the inter-ocular "
                "normalizer needs; use `normalizer='hull'`."
            )
        self.beta = check_positive("beta", beta)

    def update_state(
        self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor = None, distance: Tensor = None
    ) -> None:
        """Adds a batch.

        Args:
            y_true: (B, K, 2|3) landmarks in pixels.
            y_pred: (B, H, W, K) logits, or (B, 2·S, K) of `heatmaps.join_axes`, or (B, K, 2)
                landmarks in pixels.
            sample_weight: (B,), ≥ 0.
            distance: (B,) normalizing distances in pixels, in place of the normalizer's;
                `normalizer="box"` needs it, since a face box can't be read off the landmarks.
        """
        landmarks, visible = split_visible(y_true)
        if distance is None:
            self._check_points(landmarks.shape[1])
            distance = self._distance(landmarks, visible)
        location = _location(y_pred, landmarks.shape[1], self.beta)
        nme, usable = face_errors(landmarks, visible, location, distance)
        super().update_state(self._value(nme), _face_weight(usable, sample_weight))

    def _check_points(self, count):
        if self.normalizer == "interocular" and count not in (None, self.scheme.num_landmarks):
            raise ValueError(
                f"The eyes of scheme {self.scheme.name!r}, of {self.scheme.num_landmarks} "
                f"landmarks, are not those of {count}: give the labels' own `scheme`, or "
                "another `normalizer`."
            )

    def _distance(self, landmarks, visible):
        if self.normalizer == "interocular":
            return interocular_distance(landmarks, visible, self.scheme.eye_corners)  # pyright: ignore[reportArgumentType]
        if self.normalizer == "hull":
            return hull_size(landmarks, visible)
        if self.normalizer == "box":
            raise ValueError(
                "`normalizer='box'` needs the boxes' sizes: call `update_state(y_true, y_pred, "
                "distance=√(w·h))` with (B,) pixels."
            )
        if callable(self.normalizer):
            return self.normalizer(landmarks, visible)
        return ops.full((ops.shape(landmarks)[0],), float(self.normalizer))

    def _value(self, nme):
        return nme

    def get_config(self) -> dict[str, Any]:
        normalizer = self.normalizer
        if callable(normalizer):
            name = getattr(normalizer, "__name__", None)
            if name is None or keras.saving.get_registered_name(normalizer) == name:
                raise ValueError(
                    f"A file with the `normalizer` {name or normalizer!r} could not be loaded: it "
                    "must be a function under keras.saving.register_keras_serializable()."
                )
            normalizer = keras.saving.serialize_keras_object(normalizer)
        return {
            "name": self.name,
            "dtype": self.dtype,
            "normalizer": normalizer,
            "scheme": self.scheme.to_config(),
            "beta": self.beta,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        if isinstance(config["normalizer"], dict):
            normalizer = keras.saving.deserialize_keras_object(config["normalizer"])
            config = {**config, "normalizer": normalizer}
        return cls(**config)


@keras.saving.register_keras_serializable("keras_lapkl")
class NormalizedMeanError(_FaceMetric):
    """NME in percent: `100 · mean over faces of (mean over visible points of ‖s̃ − s‖₂ / d)`.

    Args:
        normalizer: d of each face: `"interocular"` (distance of the scheme's outer eye corners),
            `"hull"` (√(w·h) of the box of the visible points, the paper's on AFLW), `"box"` (a
            face box's √(w·h), given to `update_state`), a function of (landmarks (B, K, 2),
            visible (B, K)) that gives (B,) pixels, or one number of pixels.
        scheme: name, mapping or `Scheme`; only `"interocular"` reads it.
        beta: inverse temperature of the softmax when `y_pred` is logits.

    Raises:
        ValueError: an unknown normalizer, or `"interocular"` with a scheme without eyes.

    Example:

    >>> metric = NormalizedMeanError(normalizer=50)
    >>> metric(np.array([[[0.0, 0.0], [9.0, 9.0]]]), np.array([[[3.0, 4.0], [9.0, 9.0]]]))
    5.0
    """

    _default_name = "nme"


class _ThresholdMetric(_FaceMetric):
    def __init__(
        self,
        threshold: float = 8.0,
        normalizer: Normalizer = "interocular",
        scheme: SchemeLike = "ibug68",
        beta: float = 1.0,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(normalizer, scheme, beta, name, dtype)
        if not threshold > 0:
            raise ValueError(f"`threshold` must be > 0 percent. Received: {threshold}")
        self.threshold = threshold

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "threshold": self.threshold}


@keras.saving.register_keras_serializable("keras_lapkl")
class FailureRate(_ThresholdMetric):
    """Percent of faces whose NME is above a threshold.

    Args:
        threshold: NME in percent above which a face has failed.
        normalizer, scheme, beta: as in `NormalizedMeanError`.

    Example:

    >>> metric = FailureRate(threshold=8, normalizer=100)
    >>> metric(np.zeros((2, 1, 2)), np.array([[[9.0, 0.0]], [[7.0, 0.0]]]))
    50.0
    """

    _default_name = "failure_rate"

    def _value(self, nme):
        # A NaN has failed.
        return 100 * ops.cast(ops.logical_not(nme <= self.threshold), "float32")


@keras.saving.register_keras_serializable("keras_lapkl")
class AreaUnderCED(_ThresholdMetric):
    """Area under the cumulative error distribution up to a threshold, in [0, 1].

    The mean over faces of `max(0, 1 − NME / threshold)`: the exact integral of the step curve of
    the share of faces with at most a given NME, so no bins are needed.

    Args:
        threshold: NME in percent at which the curve is cut.
        normalizer, scheme, beta: as in `NormalizedMeanError`.

    Example:

    >>> metric = AreaUnderCED(threshold=10, normalizer=100)
    >>> metric(np.zeros((2, 1, 2)), np.array([[[12.0, 0.0]], [[4.0, 0.0]]]))
    0.3
    """

    _default_name = "auc"
    _direction = "up"

    def _value(self, nme):
        # A NaN has failed.
        return ops.where(nme <= self.threshold, 1 - nme / self.threshold, 0.0)


@keras.saving.register_keras_serializable("keras_lapkl")
class HeatmapSpread(_FaceMean):
    """Mean scale of the heatmaps in pixels, over the visible landmarks and both axes.

    Args:
        distribution: `"laplace"` (mean absolute deviation b) or `"gaussian"` (σ).
        beta: inverse temperature of the softmax when `y_pred` is logits.

    Raises:
        ValueError: an unknown distribution.

    Example:

    >>> HeatmapSpread()(np.zeros((1, 1, 2)), np.zeros((1, 5, 5, 1)))   # a constant map: 6/5
    1.2
    """

    def __init__(
        self,
        distribution: Distribution = "laplace",
        beta: float = 1.0,
        name: str | None = "spread",
        dtype: Any = None,
    ) -> None:
        super().__init__(name=name, dtype=float32_only(dtype))
        if distribution not in heatmaps.DISTRIBUTIONS:
            raise ValueError(
                f"`distribution` must be one of {heatmaps.DISTRIBUTIONS}. Received: "
                f"{distribution!r}"
            )
        self.distribution: Distribution = distribution
        self.beta = check_positive("beta", beta)

    def update_state(self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor = None) -> None:
        """Adds a batch: `y_pred` is logits, as the error metrics take them, or scales (B, K, 2)."""
        landmarks, visible = split_visible(y_true)
        scale = ops.convert_to_tensor(y_pred)
        if heatmaps.are_logits(scale, landmarks.shape[1]):
            _, scale = heatmaps.decode_logits(scale, self.beta, self.distribution)
        scale = ops.cast(scale, "float32")
        count = ops.sum(visible, axis=1)
        spread = ops.sum(ops.mean(scale, axis=-1) * visible, axis=1) / ops.maximum(count, 1.0)
        super().update_state(spread, _face_weight(count > 0, sample_weight))

    def get_config(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "dtype": self.dtype,
            "distribution": self.distribution,
            "beta": self.beta,
        }


def _location(y_pred, num_landmarks, beta):
    y_pred = ops.convert_to_tensor(y_pred)
    if heatmaps.are_logits(y_pred, num_landmarks):
        return heatmaps.decode_logits(y_pred, beta)[0]
    if len(y_pred.shape) == 3 and y_pred.shape[-1] == 2:
        return ops.cast(y_pred, "float32")
    raise ValueError(
        f"Expected logits of shape (B, H, W, {num_landmarks}) or landmarks of shape "
        f"(B, {num_landmarks}, 2), as y_true has. Received: {tuple(y_pred.shape)}"
    )


def _face_weight(usable, sample_weight):
    weight = ops.cast(usable, "float32")
    if sample_weight is None:
        return weight
    return weight * ops.reshape(check_face_weights(sample_weight), (-1,))


METRICS = (NormalizedMeanError, FailureRate, AreaUnderCED, HeatmapSpread)
"""All of them: `LandmarkLocalizer` knows by it what reads joined axes."""
