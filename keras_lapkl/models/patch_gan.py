"""PatchGAN, the discriminator: tells true heatmaps from generated ones, patch by patch."""

from typing import Any, Self

import keras
from keras import layers

from keras_lapkl.models.arguments import check_precision
from keras_lapkl.models.layers import GaussianNoise
from keras_lapkl.models.networks import network_config, network_from_config

LEAK = 0.2
IMAGE_CHANNELS = 3


@keras.saving.register_keras_serializable("keras_lapkl")
class PatchGAN(keras.Model):
    """Fully convolutional discriminator: (B, H, W, K+3) → one logit a patch, (B, H/16, W/16, 1).

    Its input is an image in [0, 1] with the K heatmaps of its landmarks behind it. Four 4×4
    convolutions of stride 2, 64-128-256-1 channels; before each, Gaussian noise while training;
    batch normalization in the second and third; leaky ReLU 0.2 after all but the last. No
    activation at the end: a logit > 0 means that the patch is taken for true.

    Args:
        num_landmarks: K ≥ 1.
        filters: channels of the first convolution, ≥ 1; the next have two and four times as many.
        noise: standard deviation of the noise, ≥ 0.

    Raises:
        ValueError: an argument out of its range.

    Example:

    >>> PatchGAN(num_landmarks=68)(np.zeros((2, 80, 80, 71))).shape
    (2, 5, 5, 1)

    Source: Robinson et al., ICCV 2019, Section 3.2: four layers, noise, K + 3 channels in. The
    numbers of channels are inferred.
    """

    def __init__(
        self, num_landmarks: int = 68, filters: int = 64, noise: float = 0.2, **kwargs: Any
    ) -> None:
        for name, value in (("num_landmarks", num_landmarks), ("filters", filters)):
            if value < 1:
                raise ValueError(f"`{name}` must be at least 1. Received: {value}")
        if not noise >= 0:
            raise ValueError(f"`noise` must be ≥ 0. Received: {noise}")
        check_precision(kwargs)

        # === Functional Model ===
        # Under tf.distribute the moments are those of the whole batch; JAX's always are.
        synchronized = keras.backend.backend() == "tensorflow"
        inputs = keras.Input(
            (None, None, IMAGE_CHANNELS + num_landmarks), name="image_and_heatmaps"
        )
        x = inputs
        for i, channels in enumerate((filters, 2 * filters, 4 * filters), start=1):
            normalized = i > 1
            x = GaussianNoise(noise, name=f"noise{i}")(x)
            x = layers.Conv2D(
                channels, 4, 2, padding="same", use_bias=not normalized, name=f"convolution{i}"
            )(x)
            if normalized:
                x = layers.BatchNormalization(
                    momentum=0.9, epsilon=1e-5, synchronized=synchronized, name=f"normalization{i}"
                )(x)
            x = layers.LeakyReLU(LEAK, name=f"activation{i}")(x)
        x = GaussianNoise(noise, name="noise4")(x)
        # Logits stay float32 under mixed precision, as the losses that read them.
        logits = layers.Conv2D(1, 4, 2, padding="same", dtype="float32", name="logits")(x)
        super().__init__(inputs=inputs, outputs=logits, **kwargs)

        # === Config ===
        self.num_landmarks = num_landmarks
        self.filters = filters
        self.noise = noise

    def get_config(self) -> dict[str, Any]:
        return network_config(self, "num_landmarks", "filters", "noise")

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> Self:
        return network_from_config(cls, config)
