"""Pure functions on heatmaps (B, H, W, K): from logits to locations and scales, and back.

A heatmap is a distribution over the H×W pixels, one for each of K landmarks. Everything that the
losses and the decoder need follows from its two marginals, the sums over rows and over columns, so
no (B, H, W, K, 2) tensor is ever built. Pixel centers are whole numbers, x comes first, and all is
computed in float32 whatever the type of the input.

Source: Robinson et al., ICCV 2019, Section 3.1.
"""

from typing import Literal, TypeAlias, get_args

from keras_lapkl._support import extras

with extras.needed_by(__name__):
    from keras import ops

from keras_lapkl._support.types import Tensor

MIN_SCALE = 1e-3
"""Smallest scale in pixels: a one-hot map has scale 0, whose logarithm a loss could not take."""

Distribution: TypeAlias = Literal["laplace", "gaussian"]
DISTRIBUTIONS: tuple[Distribution, ...] = get_args(Distribution)

ScaleOf: TypeAlias = Literal["axis", "joint"]
"""Whether each axis has a scale of its own, or both have one."""
SCALES: tuple[ScaleOf, ...] = get_args(ScaleOf)


def probabilities(logits: Tensor, beta: float = 1.0) -> Tensor:
    """Heatmaps that sum to 1 over H×W: `softmax(beta * logits)` over the pixels.

    Args:
        logits: (B, H, W, K), any float type.
        beta: inverse temperature, > 0. Larger is sharper.

    Returns:
        (B, H, W, K) float32.

    Raises:
        ValueError: another number of axes.

    Example:

    >>> probabilities(np.zeros((1, 2, 2, 1)))[0, :, :, 0]
    [[0.25, 0.25], [0.25, 0.25]]
    """
    weights = ops.exp(_energy(logits, beta))
    # Not divided: the gradient of a quotient would pass over the map three times more.
    return weights * (1 / ops.sum(weights, axis=(1, 2), keepdims=True))


def location(heatmaps: Tensor) -> Tensor:
    """Softargmax: the mean pixel of each heatmap, `Σ p·(x, y)` (Eq. 1).

    Args:
        heatmaps: (B, H, W, K), each summing to 1 over H×W.

    Returns:
        (B, K, 2) float32 pixels, x first.

    Example:

    >>> corner = np.zeros((1, 4, 6, 1)); corner[0, 3, 5, 0] = 1.0
    >>> location(corner)
    [[[5.0, 3.0]]]
    """
    return ops.stack([_mean(axis) for axis in _marginals(heatmaps)], axis=-1)


def scale(
    heatmaps: Tensor, distribution: Distribution = "laplace", reduce: ScaleOf = "axis"
) -> Tensor:
    """How far each heatmap spreads about its own mean, in pixels.

    Laplace, per axis: `b = Σ p·|x − x̄|`. Gaussian, per axis: `σ = √(Σ p·(x − x̄)²)`. The joint
    scale is one number for both axes, given on both: the mean of the two b (half of the paper's
    τ = Σ p·‖x − x̄‖₁, so that it estimates the same b), or the root of the mean of the two σ².

    Args:
        heatmaps: (B, H, W, K), each summing to 1 over H×W.
        distribution: `"laplace"` or `"gaussian"`.
        reduce: `"axis"` or `"joint"`. The paper does not say which it uses.

    Returns:
        (B, K, 2) float32, at least `MIN_SCALE`.

    Example:

    >>> two = np.zeros((1, 1, 3, 1)); two[0, 0, [0, 2], 0] = 0.5
    >>> scale(two)
    [[[1.0, 0.001]]]
    """
    marginals = _marginals(heatmaps)
    return _scale(marginals, [_mean(axis) for axis in marginals], distribution, reduce)


def decode(
    logits: Tensor,
    beta: float = 1.0,
    distribution: Distribution = "laplace",
    reduce: ScaleOf = "axis",
) -> tuple[Tensor, Tensor]:
    """Location and scale of every landmark from logits, in one pass over the two marginals.

    Equal to `location` and `scale` of `probabilities(logits, beta)`, but cheaper: only the
    marginals are normalized, never the map.

    Args:
        logits: (B, H, W, K), any float type.
        beta: inverse temperature of the softmax, > 0.
        distribution, reduce: as in `scale`.

    Returns:
        Location and scale, each (B, K, 2) float32 pixels, x first.

    Example:

    >>> decode(np.zeros((1, 5, 5, 1)))   # a constant map: its center, and mean |x − 2| = 6/5
    ([[[2.0, 2.0]]], [[[1.2, 1.2]]])
    """
    sums = _sums_of_exp(_energy(logits, beta))
    marginals = [m / ops.sum(m, axis=1, keepdims=True) for m in sums]
    means = [_mean(axis) for axis in marginals]
    return ops.stack(means, axis=-1), _scale(marginals, means, distribution, reduce)


def decode_axes(
    columns: Tensor,
    rows: Tensor,
    beta: float = 1.0,
    distribution: Distribution = "laplace",
    reduce: ScaleOf = "axis",
) -> tuple[Tensor, Tensor]:
    """Location and scale from the logits of each axis, whose sum is the map's.

    Equal to `decode(columns[:, None] + rows[:, :, None])`: such a map's softmax is the product of
    its axes' softmaxes, which are its marginals. No map is built.

    Args:
        columns: (B, W, K) logits of the x axis.
        rows: (B, H, K) logits of the y axis.
        beta, distribution, reduce: as in `decode`.

    Returns:
        Location and scale, each (B, K, 2) float32 pixels, x first.

    Example:

    >>> decode_axes(np.zeros((1, 5, 1)), np.zeros((1, 3, 1)))
    ([[[2.0, 1.0]]], [[[1.2, 0.6667]]])
    """
    marginals = [ops.softmax(beta * ops.cast(axis, "float32"), axis=1) for axis in (columns, rows)]
    means = [_mean(axis) for axis in marginals]
    return ops.stack(means, axis=-1), _scale(marginals, means, distribution, reduce)


def join_axes(columns: Tensor, rows: Tensor) -> Tensor:
    """The logits of both axes of square maps as one tensor, for this package's losses and metrics.

    They take it for the maps `columns[:, None] + rows[:, :, None]`, which need not be built.

    Args:
        columns: (B, S, K) logits of the x axis.
        rows: (B, S, K) logits of the y axis.

    Returns:
        (B, 2·S, K).

    Raises:
        ValueError: axes of different lengths.

    Example:

    >>> join_axes(np.zeros((1, 5, 3)), np.zeros((1, 5, 3))).shape
    (1, 10, 3)
    """
    if columns.shape[1] != rows.shape[1]:
        raise ValueError(
            f"Expected the axes of square maps. Received: {columns.shape}, {rows.shape}"
        )
    return ops.concatenate([columns, rows], axis=1)


def are_logits(values: Tensor, num_landmarks: int) -> bool:
    """Whether a tensor is logits (B, H, W, K), or what `join_axes` gives, and no landmarks.

    Args:
        values: any tensor.
        num_landmarks: K.
    """
    shape = values.shape
    is_joined = len(shape) == 3 and shape[1] is not None and shape[1] > 2 and shape[1] % 2 == 0
    return (is_joined or len(shape) == 4) and shape[-1] == num_landmarks


def decode_logits(
    logits: Tensor,
    beta: float = 1.0,
    distribution: Distribution = "laplace",
    reduce: ScaleOf = "axis",
) -> tuple[Tensor, Tensor]:
    """`decode` of logits (B, H, W, K), or `decode_axes` of what `join_axes` gives.

    Args:
        logits: (B, H, W, K) or (B, 2·S, K).
        beta, distribution, reduce: as in `decode`.

    Returns:
        Location and scale, each (B, K, 2) float32 pixels, x first.
    """
    if len(logits.shape) == 3:
        size = ops.shape(logits)[1] // 2
        axes = logits[:, :size], logits[:, size:]
        return decode_axes(*axes, beta, distribution, reduce)
    return decode(logits, beta, distribution, reduce)


def render(
    landmarks: Tensor,
    height: int,
    width: int,
    scale: Tensor = 1.0,
    visible: Tensor = None,
    distribution: Distribution = "laplace",
) -> Tensor:
    """ω(s): the heatmaps of known landmarks, a distribution sampled at the pixel centers.

    Laplace: `p(x, y) ∝ exp(−(|x − s_x| + |y − s_y|) / scale)`, normalized to sum 1; Gaussian:
    `p ∝ exp(−‖(x, y) − s‖² / (2·scale²))`. Sampling keeps the mean to 0.015 px away from the
    border, and moves it inwards near the border (a landmark at 0 gets mean 0.58). The paper does
    not give ω: this choice is inferred.

    Args:
        landmarks: (B, K, 2) pixels, x first.
        height, width: H and W.
        scale: pixels, > 0: a number or (B, K, 2).
        visible: (B, K), or None for all. A landmark that is not visible gets the uniform map.
        distribution: `"laplace"` or `"gaussian"`.

    Returns:
        (B, H, W, K) float32.

    Raises:
        ValueError: an unknown distribution.

    Example:

    >>> maps = render(np.array([[[2.0, 1.0]]]), height=3, width=5)
    >>> np.argmax(maps[0, :, :, 0])   # pixel (2, 1)
    7
    """
    _check("distribution", distribution, DISTRIBUTIONS)
    landmarks = ops.cast(landmarks, "float32")
    if visible is not None:
        visible = ops.cast(visible, "bool")[..., None]
        landmarks = ops.where(visible, landmarks, 0.0)
    scale = ops.broadcast_to(ops.cast(scale, "float32"), ops.shape(landmarks))
    axes = []
    for i, size in enumerate((width, height)):
        distance = ops.abs(_pixels(size)[:, None] - landmarks[:, None, :, i]) / scale[:, None, :, i]
        energy = distance if distribution == "laplace" else ops.square(distance) / 2
        axis = ops.softmax(-energy, axis=1)
        if visible is not None:
            axis = ops.where(visible[:, None, :, 0], axis, 1.0 / ops.cast(size, "float32"))
        axes.append(axis)
    columns, rows = axes
    return rows[:, :, None, :] * columns[:, None, :, :]


def _check(name, value, allowed):
    if value not in allowed:
        raise ValueError(f"`{name}` must be one of {allowed}. Received: {value!r}")


def _energy(logits, beta):
    """β·(logits − max), whose exp is the softmax before its normalization, safe from overflow."""
    logits = ops.cast(logits, "float32")
    if len(logits.shape) != 4:
        raise ValueError(
            f"Expected heatmaps of shape (B, H, W, K). Received: {logits.shape}. Two joined axes "
            "(B, 2·S, K) are read by `decode_logits` alone."
        )
    peak = ops.stop_gradient(ops.max(logits, axis=(1, 2), keepdims=True))
    return beta * (logits - peak)


@ops.custom_gradient
def _sums_of_exp(energy):
    """`_sums(exp(energy))`; its gradient is taken in two passes over the map instead of four."""
    weights = ops.exp(energy)

    def gradient(*upstream):
        columns, rows = upstream if len(upstream) == 2 else upstream[0]  # TensorFlow's, or JAX's
        return weights * (columns[:, None] + rows[:, :, None])

    return _sums(weights), gradient


def _sums(heatmaps):
    """The map summed onto the x axis (B, W, K) and onto the y axis (B, H, K)."""
    return ops.sum(heatmaps, axis=1), ops.sum(heatmaps, axis=2)


def _marginals(heatmaps):
    heatmaps = ops.cast(heatmaps, "float32")
    if len(heatmaps.shape) != 4:
        raise ValueError(f"Expected heatmaps of shape (B, H, W, K). Received: {heatmaps.shape}")
    return _sums(heatmaps)


def _pixels(size):
    return ops.arange(size, dtype="float32")


def _mean(marginal):
    """(B, N, K) → (B, K)."""
    return ops.sum(marginal * _pixels(ops.shape(marginal)[1])[None, :, None], axis=1)


def _scale(marginals, means, distribution, reduce):
    _check("distribution", distribution, DISTRIBUTIONS)
    _check("reduce", reduce, SCALES)
    spreads = []
    for marginal, mean in zip(marginals, means, strict=True):
        offset = _pixels(ops.shape(marginal)[1])[None, :, None] - mean[:, None, :]
        deviation = ops.abs(offset) if distribution == "laplace" else ops.square(offset)
        spreads.append(ops.sum(marginal * deviation, axis=1))
    if reduce == "joint":
        spreads = [(spreads[0] + spreads[1]) / 2] * 2
    spread = ops.stack(spreads, axis=-1)
    if distribution == "laplace":
        return ops.maximum(spread, MIN_SCALE)
    # Clamped before the root, whose gradient at 0 is infinite.
    return ops.sqrt(ops.maximum(spread, MIN_SCALE**2))
