"""MobileFPN, a generator for phones: a feature pyramid of inverted residuals."""

from typing import Any, Self

import keras
import numpy as np
from keras import layers

from keras_lapkl.models.arguments import check_generator, check_precision
from keras_lapkl.models.layers import BatchNormalization, Conv2D
from keras_lapkl.models.networks import network_config, network_from_config

STRIDE = 16
_LEVELS = (2, 3, 4, 6)
_DECODER = 2
_EXPANSION = 2
_MOMENTUM = 0.98
_MEAN, _GAIN = 0.45, 4.0
_START = 8.0


@keras.saving.register_keras_serializable("keras_lapkl")
class MobileFPN(keras.Model):
    """Small feature pyramid network: images (B, H, W, 3) in [0, 1] → heatmap logits (B, H, W, K).

    A 3×3 convolution of stride 2, then inverted residual blocks (1×1 to twice the channels, 3×3 by
    depth, 1×1 back) at 1/2, 1/4, 1/8 and 1/16 of the image; on the way back, bilinear ×2, the
    encoder's values of that size added by a 1×1 convolution, and a block of 5×5 by depth. K maps
    end it, of half the image's size and never negative, which keeps their range small enough for
    int8; and of these only the largest value in each column and in each row. Bilinear ×2 of those
    are the logits of the two axes, and a heatmap is their sum. So its softmax is the product of its
    marginals, which is all that LaplaceKL uses, and a decoder reads 2·W·K numbers instead of
    W·H·K.

    Each convolution but the last is followed by batch normalization, which `folded` moves into its
    weights. At K = 68 and 80×80 pixels, c = 64·width, the levels have 2c, 3c, 4c and 6c channels:

    | width                 | 1         | 1/2     | 1/4     | 1/8    | 1/16   |
    | --------------------- | --------- | ------- | ------- | ------ | ------ |
    | parameters, folded    | 2,035,652 | 526,340 | 140,324 | 39,476 | 12,092 |
    | million multiply-adds | 552.4     | 148.1   | 42.0    | 13.0   | 4.5    |

    Args:
        num_landmarks: K, 1 to 10,000.
        width: fraction of 64 channels, in (0, 4]; 64·width is rounded, at least to 1.
        image_size: side of the square input in pixels, divisible by 16, at most 4096.
        batch_norm: whether there is batch normalization; without, convolutions have biases instead.

    Raises:
        ValueError: an argument out of its range.

    Example:

    >>> MobileFPN(num_landmarks=68, width=1 / 8).folded().count_params()
    39476

    Source: this project. Its parts: Sandler et al., CVPR 2018 (inverted residuals); Lin et al.,
    CVPR 2017 (feature pyramids).
    """

    def __init__(
        self,
        num_landmarks: int = 68,
        width: float = 1 / 8,
        image_size: int = 80,
        batch_norm: bool = True,
        **kwargs: Any,
    ) -> None:
        check_generator(num_landmarks, width, image_size, STRIDE)
        check_precision(kwargs)

        # === Functional Model ===
        channels = max(1, round(64 * width))
        net = _Layers(batch_norm)
        inputs = keras.Input((image_size, image_size, 3), name="image")
        x = layers.Rescaling(_GAIN, -_GAIN * _MEAN, name="normalize")(inputs)
        x = net.convolution(x, _LEVELS[0] * channels, 3, "stem", strides=2)
        skips = []
        for level, factor in enumerate(_LEVELS, 1):
            name = f"encoder{level}"
            if level > 1:
                x = net.block(x, factor * channels, 3, f"{name}_down", strides=2)
            x = net.block(x, factor * channels, 3, name)
            skips.append(x)
        x = net.convolution(skips.pop(), _DECODER * channels, 1, "decoder4", activate=False)
        for level in range(len(skips), 0, -1):
            name = f"decoder{level}"
            x = layers.UpSampling2D(2, interpolation="bilinear", name=f"{name}_up")(x)
            skip = net.convolution(
                skips.pop(), _DECODER * channels, 1, f"{name}_skip", activate=False
            )
            x = layers.Add(name=f"{name}_sum")([x, skip])
            x = net.block(x, _DECODER * channels, 5, name)
        x = layers.ReLU(name="decoder1_activation")(x)
        # Above 0 at first: where all of a column is below, nothing would be learned of it.
        start = keras.initializers.Constant(_START)
        maps = Conv2D(num_landmarks, 1, bias_initializer=start, name="maps")(x)
        maps = layers.ReLU(name="maps_activation")(maps)
        half = image_size // 2
        axes = [
            # The logits stay float32 under mixed precision: a softmax needs it.
            layers.UpSampling2D(up, interpolation="bilinear", dtype="float32", name=name)(
                layers.MaxPooling2D(pool, name=f"maps_{name}")(maps)
            )
            for name, pool, up in (("columns", (half, 1), (1, 2)), ("rows", (1, half), (2, 1)))
        ]
        logits = layers.Add(dtype="float32", name="logits")(axes)
        super().__init__(inputs=inputs, outputs=logits, **kwargs)

        # === Config ===
        self.num_landmarks = num_landmarks
        self.width = width
        self.image_size = image_size
        self.batch_norm = batch_norm

    @property
    def axis_logits(self) -> keras.Model:
        """Model from images to the logits of columns (B, 1, W, K) and of rows (B, H, 1, K)."""
        outputs = [self.get_layer(name).output for name in ("columns", "rows")]
        return keras.Model(self.input, outputs, name="axes")

    def folded(self) -> Self:
        """The same function without batch normalization: γ/σ in the weights, β − μ·γ/σ as bias."""
        config = {**self.get_config(), "batch_norm": False}
        copy = type(self).from_config(config)
        for layer in copy.layers:
            if not layer.weights:
                continue
            source = self.get_layer(layer.name)
            weights = source.get_weights()
            if self.batch_norm and layer.name != "maps":
                norm = self.get_layer(f"{layer.name}_norm")
                gamma, beta, mean, variance = norm.get_weights()
                factor = gamma / np.sqrt(variance + norm.epsilon)
                depthwise = isinstance(layer, layers.DepthwiseConv2D)
                kernel = weights[0] * (factor[:, None] if depthwise else factor)
                weights = [kernel, beta - mean * factor]
            layer.set_weights(weights)
        return copy

    def get_config(self) -> dict[str, Any]:
        return network_config(self, "num_landmarks", "width", "image_size", "batch_norm")

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> Self:
        return network_from_config(cls, config)


class _Layers:
    """Convolutions and blocks, with or without batch normalization."""

    def __init__(self, batch_norm):
        self._batch_norm = batch_norm

    def convolution(self, x, filters, kernel_size, name, strides=1, activate=True):
        layer = Conv2D(
            filters,
            kernel_size,
            strides=strides,
            padding="same",
            use_bias=not self._batch_norm,
            name=name,
        )
        return self._finish(layer(x), name, activate)

    def block(self, x, filters, kernel_size, name, strides=1):
        expanded = _EXPANSION * x.shape[-1]
        y = self.convolution(x, expanded, 1, f"{name}_expand")
        depthwise = layers.DepthwiseConv2D(
            kernel_size,
            strides=strides,
            padding="same",
            use_bias=not self._batch_norm,
            name=f"{name}_depthwise",
        )
        y = self._finish(depthwise(y), f"{name}_depthwise", True)
        y = self.convolution(y, filters, 1, f"{name}_project", activate=False)
        return y if strides > 1 else layers.Add(name=f"{name}_residual")([x, y])

    def _finish(self, x, name, activate):
        if self._batch_norm:
            x = BatchNormalization(momentum=_MOMENTUM, name=f"{name}_norm")(x)
        return layers.ReLU(name=f"{name}_activation")(x) if activate else x
