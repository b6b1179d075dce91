"""RCN, the generator: a small encoder-decoder from a face to one heatmap for each landmark."""

from typing import Any, Literal, Self

import keras
from keras import layers

from keras_lapkl.models.arguments import check_generator, check_precision
from keras_lapkl.models.layers import Conv2D, Dropout
from keras_lapkl.models.networks import HEADS, network_config, network_from_config

POOLINGS = 4
LEAK = 0.2
WINDOWS = 16
MEAN, GAIN = 0.45, 4.0


@keras.saving.register_keras_serializable("keras_lapkl")
class RCN(keras.Model):
    """Recombinator network: images (B, H, W, 3) in [0, 1] → heatmap logits (B, H, W, K).

    Four 3×3 convolutions with 2×2 max-pooling, two more at the smallest size, then four times:
    1×1 convolution, bilinear ×2, concatenation with the encoder's values of that size, 5×5
    convolution; three 1×1 convolutions make the K maps. Leaky ReLU 0.2 after all but the last.
    At K = 68 it has 452c² + 181c + 9452 parameters with c = 64·width channels:

    | width      | 1         | 1/2     | 1/4     | 1/8    | 1/16   |
    | ---------- | --------- | ------- | ------- | ------ | ------ |
    | parameters | 1,872,428 | 478,092 | 128,060 | 39,828 | 17,408 |

    Args:
        num_landmarks: K, 1 to 10,000.
        width: fraction of 64 channels, in (0, 4]; 64·width is rounded, at least to 1.
        image_size: side of the square input in pixels, divisible by 16, at most 4096.
        dropout: rate in [0, 1) after every activation but the first and the last.
        head: what makes the K maps. `"paper"`: three 1×1 convolutions, half of all
            multiply-adds at width 1/8 and K = 68. `"linear"`: the last of them alone.
            `"marginal"`: for each axis, every channel is weighed along the other axis by 16 learned
            windows, from which a 1×1 convolution makes K logits; a map is the sum of its two axes'
            logits, so its softmax is the product of its marginals, and a decoder needs only those
            (`axis_logits`).
        normalize: whether to make the image 4·(image − 0.45) first, about zero mean and unit
            variance. The paper does not say that it does; it trains faster so.

    Raises:
        ValueError: an argument out of its range.

    Example:

    >>> RCN(num_landmarks=68, width=1 / 8).count_params()
    39828

    Source: Robinson et al., ICCV 2019, Tables 1 and 3. The place of the two convolutions at the
    smallest size is inferred; the parameter counts of Table 3 fit at all five widths.
    """

    def __init__(
        self,
        num_landmarks: int = 68,
        width: float = 1.0,
        image_size: int = 80,
        dropout: float = 0.2,
        head: Literal["paper", "linear", "marginal"] = "paper",
        normalize: bool = False,
        **kwargs: Any,
    ) -> None:
        check_generator(num_landmarks, width, image_size, 2**POOLINGS)
        check_precision(kwargs)
        if not 0 <= dropout < 1:
            raise ValueError(f"`dropout` must be in [0, 1). Received: {dropout}")
        if head not in HEADS:
            raise ValueError(f"`head` must be one of {HEADS}. Received: {head!r}")

        # === Functional Model ===
        channels = max(1, round(64 * width))
        inputs = keras.Input((image_size, image_size, 3), name="image")
        x, skips = inputs, []
        if normalize:
            x = layers.Rescaling(GAIN, -GAIN * MEAN, name="normalize")(x)
        for level in range(1, POOLINGS + 1):
            x = _convolution(x, channels, 3, f"encoder{level}", dropout if level > 1 else 0)
            skips.append(x)
            x = layers.MaxPooling2D(2, name=f"encoder{level}_pool")(x)
        for i in (1, 2):
            x = _convolution(x, channels, 3, f"bottleneck{i}", dropout)
        for level in range(POOLINGS, 0, -1):
            x = _convolution(x, channels, 1, f"decoder{level}_reduce", dropout)
            x = layers.UpSampling2D(2, interpolation="bilinear", name=f"decoder{level}_up")(x)
            x = layers.Concatenate(name=f"decoder{level}_concat")([x, skips[level - 1]])
            x = _convolution(x, 2 * channels, 5, f"decoder{level}", dropout)
        if head == "paper":
            x = _convolution(x, num_landmarks, 1, "head1", dropout)
            x = _convolution(x, num_landmarks, 1, "head2", 0)
        # The logits stay float32 under mixed precision: a softmax over 6,400 pixels needs it.
        if head == "marginal":
            columns = _axis_logits(x, num_landmarks, 1, dropout)
            rows = _axis_logits(x, num_landmarks, 2, dropout)
            logits = layers.Add(dtype="float32", name="logits")([columns, rows])
        else:
            logits = Conv2D(num_landmarks, 1, dtype="float32", name="logits")(x)
        super().__init__(inputs=inputs, outputs=logits, **kwargs)

        # === Config ===
        self.num_landmarks = num_landmarks
        self.width = width
        self.image_size = image_size
        self.dropout = dropout
        self.head = head
        self.normalize = normalize

    @property
    def axis_logits(self) -> keras.Model | None:
        """Model from images to the logits of columns (B, 1, W, K) and of rows (B, H, 1, K).

        None unless the head is `"marginal"`.
        """
        if self.head != "marginal":
            return None
        outputs = [self.get_layer(name).output for name in ("columns", "rows")]
        return keras.Model(self.input, outputs, name="axes")

    def get_config(self) -> dict[str, Any]:
        arguments = ("num_landmarks", "width", "image_size", "dropout", "head", "normalize")
        return network_config(self, *arguments)

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> Self:
        return network_from_config(cls, config)


def _convolution(x, filters, kernel_size, name, dropout):
    x = Conv2D(filters, kernel_size, padding="same", name=name)(x)
    x = layers.LeakyReLU(LEAK, name=f"{name}_activation")(x)
    return Dropout(dropout, name=f"{name}_dropout")(x) if dropout else x


def _axis_logits(x, filters, along, dropout):
    """Logits of the columns, (B, 1, W, K), from sums along axis 1; or of the rows, along axis 2."""
    name = "columns" if along == 1 else "rows"
    size = x.shape[3 - along]
    x = layers.Permute((3 - along, 3, along), name=f"{name}_permute")(x)
    x = _convolution(x, WINDOWS, 1, f"{name}_windows", dropout)
    shape = (1, size, -1) if along == 1 else (size, 1, -1)
    x = layers.Reshape(shape, name=f"{name}_flat")(x)
    return Conv2D(filters, 1, dtype="float32", name=name)(x)
