"""Losses on heatmap logits: softargmax, and the two KL divergences that also see the spread.

Each takes `y_true` (B, K, 2), or (B, K, 3) with visibility last, in pixels of the heatmap, and
`y_pred`, the logits (B, H, W, K), or those of `heatmaps.join_axes`. A landmark that is invisible,
or has a NaN coordinate, weighs nothing and passes no gradient; a face is the mean over its visible
landmarks, 0 if it has none.

Source: Robinson et al., ICCV 2019, Section 3.1.
"""

from typing import Any, ClassVar, Literal

from keras_lapkl._support import extras
from keras_lapkl._support.types import Tensor
from keras_lapkl.registries import ADVERSARIAL_LOSSES

with extras.needed_by(__name__):
    import keras
    from keras import ops

    from keras_lapkl import heatmaps
    from keras_lapkl.heatmaps import ScaleOf


def split_visible(y_true: Tensor) -> tuple[Tensor, Tensor]:
    """Landmarks with 0 in place of what is hidden, and a float mask of what is visible.

    Args:
        y_true: (B, K, 2), or (B, K, 3) whose last column is visibility (> 0 is visible). NaN
            coordinates are hidden.

    Returns:
        Landmarks (B, K, 2) and mask (B, K), float32.

    Raises:
        ValueError: another shape.

    Example:

    >>> split_visible(np.array([[[3.0, 4.0, 1.0], [5.0, 6.0, 0.0]]]))
    ([[[3.0, 4.0], [0.0, 0.0]]], [[1.0, 0.0]])
    """
    y_true = ops.cast(y_true, "float32")
    if len(y_true.shape) != 3 or y_true.shape[-1] not in (2, 3):
        raise ValueError(
            "Expected landmarks of shape (B, K, 2), or (B, K, 3) with visibility last. Received: "
            f"{y_true.shape}"
        )
    landmarks = y_true[..., :2]
    visible = ops.all(ops.isfinite(landmarks), axis=-1)
    if y_true.shape[-1] == 3:
        visible = ops.logical_and(visible, y_true[..., 2] > 0)
    return ops.where(visible[..., None], landmarks, 0.0), ops.cast(visible, "float32")


def laplace_kl_divergence(delta: Tensor, scale: Tensor, target_scale: Tensor = 1.0) -> Tensor:
    """KL(Laplace(s + δ, b) ‖ Laplace(s, b₀)) = ln(b₀/b) + (b·exp(−|δ|/b) + |δ|)/b₀ − 1.

    Args:
        delta: difference of the two locations, pixels, any shape.
        scale: b > 0, pixels, of the same shape.
        target_scale: b₀ > 0, pixels.

    Example:

    >>> laplace_kl_divergence(2.0, 1.0)   # 0 + e⁻² + 2 − 1
    1.1353353
    """
    distance = ops.abs(delta)
    return (
        ops.log(target_scale / scale)
        + (scale * ops.exp(-distance / scale) + distance) / target_scale
        - 1
    )


def gaussian_kl_divergence(delta: Tensor, scale: Tensor, target_scale: Tensor = 1.0) -> Tensor:
    """KL(Normal(s + δ, σ) ‖ Normal(s, σ₀)) = ln(σ₀/σ) + (σ² + δ²)/(2σ₀²) − 1/2.

    Args:
        delta: difference of the two locations, pixels, any shape.
        scale: σ > 0, pixels, of the same shape.
        target_scale: σ₀ > 0, pixels.

    Example:

    >>> gaussian_kl_divergence(2.0, 1.0)   # 0 + (1 + 4)/2 − 1/2
    2.0
    """
    return (
        ops.log(target_scale / scale)
        + (ops.square(scale) + ops.square(delta)) / (2 * target_scale**2)
        - 0.5
    )


@keras.saving.register_keras_serializable("keras_lapkl")
def softargmax_loss(y_true: Tensor, y_pred: Tensor, beta: float = 1.0) -> Tensor:
    """Distance of the softargmax to the label, ‖s̃ − s‖₂ in pixels, a mean over landmarks (Eq. 2).

    Args:
        y_true: (B, K, 2|3) landmarks in pixels.
        y_pred: (B, H, W, K) logits, or (B, 2·S, K) of `heatmaps.join_axes`.
        beta: inverse temperature of the softmax.

    Returns:
        (B,) float32.

    Example:

    >>> softargmax_loss(np.array([[[5.0, 6.0]]]), np.zeros((1, 5, 5, 1)))   # from (2, 2)
    [5.0]
    """
    y_pred = _with_maps(y_true, y_pred)
    landmarks, visible = _labels(y_true, y_pred)
    location, _ = heatmaps.decode_logits(y_pred, beta)
    squared = ops.sum(ops.square(location - landmarks), axis=-1)
    # The root's gradient at 0 is infinite: a perfect landmark passes none instead.
    moved = squared > 0
    distance = ops.where(moved, ops.sqrt(ops.where(moved, squared, 1.0)), 0.0)
    return _mean_visible(distance, visible)


@keras.saving.register_keras_serializable("keras_lapkl")
def laplace_kl(
    y_true: Tensor,
    y_pred: Tensor,
    target_scale: float = 1.0,
    scale: ScaleOf = "axis",
    beta: float = 1.0,
) -> Tensor:
    """KL of the heatmap's Laplace distribution to the label's, summed over both axes.

    `KL(Laplace(s̃, b) ‖ Laplace(s, target_scale))` with s̃ and b of `heatmaps.decode`; see
    `laplace_kl_divergence` for the formula. The b that minimizes it grows with the error that is
    left (b = 1 at no error, 1.24 at 1 px, 2.48 at 5 px): the scale learns to estimate the error.

    Args:
        y_true: (B, K, 2|3) landmarks in pixels.
        y_pred: (B, H, W, K) logits, or (B, 2·S, K) of `heatmaps.join_axes`.
        target_scale: b₀ in pixels, > 0; the paper's is 1.
        scale: `"axis"` or `"joint"`: one b for each axis, or one for both.
        beta: inverse temperature of the softmax.

    Returns:
        (B,) float32.

    Example:

    >>> laplace_kl(np.array([[[2.0, 2.0]]]), np.zeros((1, 5, 5, 1)))   # 2·(ln(5/6) + 6/5 − 1)
    [0.0353569]
    """
    return _kl(laplace_kl_divergence, "laplace", y_true, y_pred, target_scale, scale, beta)


@keras.saving.register_keras_serializable("keras_lapkl")
def gaussian_kl(
    y_true: Tensor,
    y_pred: Tensor,
    target_scale: float = 1.0,
    scale: ScaleOf = "axis",
    beta: float = 1.0,
) -> Tensor:
    """KL of the heatmap's normal distribution to the label's, summed over both axes.

    As `laplace_kl`, with `gaussian_kl_divergence`.

    Args:
        y_true, y_pred, target_scale, scale, beta: as in `laplace_kl`; target_scale is σ₀.

    Returns:
        (B,) float32.

    Example:

    >>> gaussian_kl(np.array([[[2.0, 2.0]]]), np.zeros((1, 5, 5, 1)))   # 2·(−ln(2)/2 + 2/2 − 1/2)
    [0.3068528]
    """
    return _kl(gaussian_kl_divergence, "gaussian", y_true, y_pred, target_scale, scale, beta)


def _kl(divergence, distribution, y_true, y_pred, target_scale, scale, beta):
    y_pred = _with_maps(y_true, y_pred)
    landmarks, visible = _labels(y_true, y_pred)
    location, spread = heatmaps.decode_logits(y_pred, beta, distribution, scale)
    delta = (location - landmarks) * visible[..., None]
    return _mean_visible(ops.sum(divergence(delta, spread, target_scale), axis=-1), visible)


def _with_maps(y_true, y_pred):
    """Logits with their axis of maps, which Keras takes from functions where there is but one."""
    is_squeezed = y_true.shape[1] == 1 and len(y_pred.shape) == 3 and y_pred.shape[-1] != 1
    return y_pred[..., None] if is_squeezed else y_pred


def _labels(y_true, y_pred):
    if y_true.shape[1] is None:
        raise ValueError(
            "Expected labels that say how many points they have. Received: shape "
            f"{tuple(y_true.shape)}. Give those of a data set their shape, by `tf.ensure_shape` or "
            "by the `output_signature` of `from_generator`."
        )
    if not heatmaps.are_logits(y_pred, y_true.shape[1]):
        raise ValueError(
            "Expected logits of shape (B, H, W, K) for landmarks of shape (B, K, 2|3). Received: "
            f"y_true {tuple(y_true.shape)}, y_pred {tuple(y_pred.shape)}"
        )
    return split_visible(y_true)


def _mean_visible(values, visible):
    """Mean over the visible landmarks: (B, K) → (B,)."""
    return ops.sum(values * visible, axis=1) / ops.maximum(ops.sum(visible, axis=1), 1.0)


def check_positive(name: str, value: float) -> float:
    """An argument of that name, if it is a number above 0.

    Raises:
        ValueError: it is not.

    Example:

    >>> check_positive("beta", 2.0)
    2.0
    """
    if not value > 0:
        raise ValueError(f"`{name}` must be > 0. Received: {value!r}")
    return value


def float32_only(dtype: Any) -> str:
    """The type of a loss or metric: half floats would round labels to half a pixel.

    Args:
        dtype: as Keras takes it; None is float32, whatever the global type.

    Raises:
        ValueError: another type.

    Example:

    >>> float32_only(None)
    'float32'
    """
    if dtype is not None and keras.dtype_policies.get(dtype).compute_dtype != "float32":
        raise ValueError(
            "Losses and metrics compute in float32, also under mixed precision: drop `dtype`. "
            f"Received: {dtype!r}"
        )
    return "float32"


def check_face_weights(sample_weight: Tensor) -> Tensor:
    """Weights of faces as float32; Keras would broadcast those of points where B and K are equal.

    Args:
        sample_weight: (B,) or (B, 1).

    Raises:
        ValueError: another shape.
    """
    sample_weight = ops.convert_to_tensor(sample_weight, "float32")
    shape = tuple(sample_weight.shape)
    if any(side not in (1, None) for side in shape[1:]):
        raise ValueError(
            "Expected `sample_weight` of shape (B,), one for each face. Received: "
            f"{shape}. To leave points out, give labels (B, K, 3) with visibility 0."
        )
    return sample_weight


class _FaceLoss(keras.losses.Loss):
    """A loss of one number a face; what all three share."""

    def __call__(self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor = None) -> Tensor:
        if sample_weight is not None:
            sample_weight = check_face_weights(sample_weight)
        return super().__call__(y_true, y_pred, sample_weight)


@keras.saving.register_keras_serializable("keras_lapkl")
class SoftArgmaxLoss(_FaceLoss):
    """Distance of the softargmax to the label in pixels; see `softargmax_loss`.

    Args:
        beta: inverse temperature of the softmax, > 0.

    Raises:
        ValueError: `beta` ≤ 0, or shapes that do not fit.

    Example:

    >>> flat = np.zeros((1, 5, 5, 1))            # its mean is the center, (2, 2)
    >>> SoftArgmaxLoss()(np.array([[[5.0, 6.0]]]), flat)
    5.0
    """

    def __init__(
        self,
        beta: float = 1.0,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "softargmax",
        dtype: Any = None,
    ) -> None:
        super().__init__(name=name, reduction=reduction, dtype=float32_only(dtype))
        self.beta = check_positive("beta", beta)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return softargmax_loss(y_true, y_pred, self.beta)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "beta": self.beta}


class _KLLoss(_FaceLoss):
    """What LaplaceKL and GaussianKL share: the arguments and their config."""

    _function: ClassVar[Any]

    def __init__(
        self,
        target_scale: float = 1.0,
        scale: ScaleOf = "axis",
        beta: float = 1.0,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        name = name or self._function.__name__
        super().__init__(name=name, reduction=reduction, dtype=float32_only(dtype))
        if scale not in heatmaps.SCALES:
            raise ValueError(f"`scale` must be one of {heatmaps.SCALES}. Received: {scale!r}")
        self.target_scale = check_positive("target_scale", target_scale)
        self.scale = scale
        self.beta = check_positive("beta", beta)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        function = type(self)._function
        return function(y_true, y_pred, self.target_scale, self.scale, self.beta)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "target_scale": self.target_scale,
            "scale": self.scale,
            "beta": self.beta,
        }


@keras.saving.register_keras_serializable("keras_lapkl")
class LaplaceKL(_KLLoss):
    """KL divergence of Laplace(location, b) to Laplace(label, target_scale); see `laplace_kl`.

    Args:
        target_scale: b₀ in pixels, > 0; the paper's is 1.
        scale: `"axis"` (one b for each axis) or `"joint"` (one for both).
        beta: inverse temperature of the softmax, > 0.

    Raises:
        ValueError: an argument out of its range, or shapes that do not fit.

    Example:

    >>> flat = np.zeros((1, 5, 5, 1))            # location (2, 2), b = 6/5 on both axes
    >>> LaplaceKL()(np.array([[[2.0, 2.0]]]), flat)   # 2·(ln(5/6) + 6/5 − 1)
    0.0353569
    """

    distribution = "laplace"
    _function = staticmethod(laplace_kl)


@keras.saving.register_keras_serializable("keras_lapkl")
class GaussianKL(_KLLoss):
    """KL divergence of Normal(location, σ) to Normal(label, target_scale); see `gaussian_kl`.

    Args:
        target_scale: σ₀ in pixels, > 0.
        scale: `"axis"` (one σ for each axis) or `"joint"` (one for both).
        beta: inverse temperature of the softmax, > 0.

    Raises:
        ValueError: an argument out of its range, or shapes that do not fit.

    Example:

    >>> flat = np.zeros((1, 5, 5, 1))            # location (2, 2), σ² = 2 on both axes
    >>> GaussianKL()(np.array([[[2.0, 2.0]]]), flat)   # 2·(−ln(2)/2 + 2/2 − 1/2)
    0.3068528
    """

    distribution = "gaussian"
    _function = staticmethod(gaussian_kl)


FUNCTIONS = (softargmax_loss, laplace_kl, gaussian_kl)
"""Those that Keras takes as a loss; each then has its defaults."""


def target_distribution(loss: Any) -> tuple[Literal["laplace", "gaussian"], float]:
    """The distribution that a loss aims at, and its scale in pixels.

    Args:
        loss: as `keras.Model.compile` takes it: one of this module's, or a list or dict of it.
            Softargmax, which has none, and losses of others count as Laplace with scale 1.

    Example:

    >>> target_distribution([GaussianKL(target_scale=2)]), target_distribution(gaussian_kl)
    (('gaussian', 2.0), ('gaussian', 1.0))
    """
    parts = keras.tree.flatten(loss)
    loss = parts[0] if len(parts) == 1 else None
    if loss is gaussian_kl:
        return "gaussian", 1.0
    return getattr(loss, "distribution", "laplace"), float(getattr(loss, "target_scale", 1.0))


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """−E log D(real) − E log(1 − D(fake)), D = sigmoid(logit): what D descends (Eq. 5, negated).

    Args:
        real_logits, fake_logits: D's logits of true and of generated heatmaps, any shapes.

    Example:

    >>> discriminator_loss(np.zeros((1, 5, 5, 1)), np.zeros((1, 5, 5, 1)))   # 2·ln 2
    1.3862944
    """
    return ops.mean(ops.softplus(-real_logits)) + ops.mean(ops.softplus(fake_logits))


def generator_loss(
    fake_logits: Tensor, kind: Literal["minimax", "non_saturating"] = "minimax"
) -> Tensor:
    """What D's opinion of its heatmaps makes G descend.

    Args:
        fake_logits: D's logits of generated heatmaps, any shape.
        kind: `"minimax"`, E log(1 − D(fake)), as the paper writes it; or `"non_saturating"`,
            −E log D(fake), whose gradient does not vanish while D wins.

    Raises:
        ValueError: another `kind`.

    Example:

    >>> generator_loss(np.zeros((1, 5, 5, 1)))
    -0.6931472
    """
    if kind not in ADVERSARIAL_LOSSES:
        raise ValueError(f"`kind` must be one of {ADVERSARIAL_LOSSES}. Received: {kind!r}")
    if kind == "minimax":
        return -ops.mean(ops.softplus(fake_logits))
    return ops.mean(ops.softplus(-fake_logits))
