"""AdversarialLocalizer: a generator that also learns from faces without labels."""

from typing import Any, Literal, NamedTuple

import keras
from keras import ops

from keras_lapkl import heatmaps
from keras_lapkl._support.types import Tensor
from keras_lapkl.losses import discriminator_loss, split_visible
from keras_lapkl.models.localizer import LandmarkLocalizer, to_unit_range
from keras_lapkl.models.patch_gan import IMAGE_CHANNELS
from keras_lapkl.registries import ADVERSARIAL_LOSSES

REPORTS = (
    "localization_loss",
    "adversarial_loss",
    "discriminator_loss",
    "discriminator_accuracy_real",
    "discriminator_accuracy_fake",
)
"""What `fit` reports for training batches, besides the total loss and the metrics."""


class Batch(NamedTuple):
    """One training batch, unpacked: images float32 in [0, 1], L labeled and U unlabeled."""

    images: Any
    landmarks: Any
    unlabeled: Any
    sample_weight: Any


@keras.saving.register_keras_serializable("keras_lapkl")
class AdversarialLocalizer(LandmarkLocalizer):
    """Trains a generator on labeled faces and, against a discriminator, on unlabeled ones.

    D learns to tell `[image, ω(landmarks)]` of labeled faces from `[image, heatmaps]` of unlabeled
    ones; G descends `localization loss + λ·E log(1 − D(fake))`. Both gradients of a step are taken
    at the same weights, from one forward pass of G over both halves (Algorithm 1).

    `fit` takes `((images, unlabeled_images), landmarks)` or `({"labeled": images, "unlabeled":
    unlabeled_images}, landmarks)`, with optional sample weights, which weigh the localization loss
    only. The two halves of a batch may differ in size. `evaluate`, `predict` and validation data
    are as in `LandmarkLocalizer`; `val_loss` is the localization loss. `localizer()` gives the
    trained localizer without the discriminator.

    Hidden landmarks: their true heatmap is the uniform map. So that this does not give away which
    heatmaps are true, the generated maps of each unlabeled face are hidden by the visibility of a
    labeled face of the batch; hidden maps pass no gradient.

    Args:
        generator: a Keras model from images (B, H, W, 3) to logits (B, H, W, K), such as `RCN`.
        discriminator: a Keras model from (B, H, W, K+3) to logits of any shape, such as
            `PatchGAN`.
        adversarial_weight: λ ≥ 0; the paper's is 0.001.
        adversarial_loss: `"minimax"` or `"non_saturating"`; see `generator_loss`.
        adversarial_start: steps with λ = 0 at first, while D already learns.
        adversarial_warmup: steps after these in which λ rises linearly to its value.
        heatmap_gain: D sees heatmaps times this, > 0. They sum to 1 over all pixels, and so peak
            at 0.21 where the scale is 1 px.
        image_gain: D sees images times this, ≥ 0. Where labeled and unlabeled photos are of other
            sources, D can learn these and ignore the heatmaps: 0 hides the images.
        scheme, crop_scale, beta, trained_on: as in `LandmarkLocalizer`.

    Raises:
        ValueError: an argument out of its range, or another K in D than in G.

    Example:

    >>> model = AdversarialLocalizer(RCN(68, width=1 / 8), PatchGAN(68), scheme="ibug68")
    >>> model.compile("adam", LaplaceKL(), discriminator_optimizer="adam")
    >>> model.fit(batches)          # ((images, unlabeled_images), landmarks) each
    >>> model.localizer().save("model.keras")

    Source: Robinson et al., ICCV 2019, Sections 3.2 and 3.3, Eq. 4–7, Algorithm 1.
    """

    _parts = (*LandmarkLocalizer._parts, "discriminator")
    _reported = REPORTS
    _takes_unlabeled = True

    def __init__(
        self,
        generator: keras.Model,
        discriminator: keras.Model,
        adversarial_weight: float = 1e-3,
        adversarial_loss: Literal["minimax", "non_saturating"] = "minimax",
        adversarial_start: int = 0,
        adversarial_warmup: int = 0,
        heatmap_gain: float = 1.0,
        image_gain: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(generator, **kwargs)
        if adversarial_loss not in ADVERSARIAL_LOSSES:
            raise ValueError(
                f"`adversarial_loss` must be one of {ADVERSARIAL_LOSSES}. Received: "
                f"{adversarial_loss!r}"
            )
        for name, value in (
            ("adversarial_weight", adversarial_weight),
            ("adversarial_start", adversarial_start),
            ("adversarial_warmup", adversarial_warmup),
            ("image_gain", image_gain),
        ):
            if not value >= 0:
                raise ValueError(f"`{name}` must be ≥ 0. Received: {value}")
        if not heatmap_gain > 0:
            raise ValueError(f"`heatmap_gain` must be > 0. Received: {heatmap_gain}")
        channels = self.num_landmarks + IMAGE_CHANNELS
        if discriminator.input_shape[-1] != channels:
            raise ValueError(
                f"The generator has {self.num_landmarks} landmarks, so the discriminator must take "
                f"{channels} channels: 3 of the image and one for each. Received a discriminator "
                f"of {discriminator.input_shape[-1]}."
            )
        self.discriminator = discriminator
        self.adversarial_weight = adversarial_weight
        self.adversarial_loss = adversarial_loss
        self.adversarial_start = adversarial_start
        self.adversarial_warmup = adversarial_warmup
        self.heatmap_gain = heatmap_gain
        self.image_gain = image_gain
        self.discriminator_optimizer = None

    def call(self, images: Tensor, training: bool = False) -> Tensor:
        """Images, or a training batch's pair, of which the labeled half → logits (B, H, W, K)."""
        if isinstance(images, (tuple, list, dict)):
            images, _ = _halves(images)
        return super().call(images, training=training)

    def compile(
        self,
        optimizer: Any = "adam",
        loss: Any = None,
        discriminator_optimizer: Any = None,
        **kwargs: Any,
    ) -> None:
        """As `LandmarkLocalizer.compile`, with a second optimizer.

        Args:
            optimizer: the generator's.
            loss: of the labeled half; ω is its target distribution.
            discriminator_optimizer: the discriminator's; None is Adam(2e-4, beta_1=0.5).
        """
        super().compile(optimizer=optimizer, loss=loss, **kwargs)
        if discriminator_optimizer is None:
            discriminator_optimizer = keras.optimizers.Adam(2e-4, beta_1=0.5)
        self.discriminator_optimizer = keras.optimizers.get(discriminator_optimizer)
        # Built here, as the generator's: a reloaded model finds its state to restore, and a
        # distribution strategy its scope.
        self.discriminator_optimizer.build(self.discriminator.trainable_variables)

    def get_compile_config(self) -> dict[str, Any]:
        config = super().get_compile_config()
        optimizer = keras.saving.serialize_keras_object(self.discriminator_optimizer)
        return config and {**config, "discriminator_optimizer": optimizer}

    @property
    def non_trainable_variables(self) -> list[Any]:
        """With the state of D's optimizer: what is in no list, JAX's trainer does not keep."""
        optimizer = self.discriminator_optimizer
        return super().non_trainable_variables + ([] if optimizer is None else optimizer.variables)

    @property
    def losses(self) -> list[Any]:
        """The generator's own, such as its regularizers; the discriminator descends its own."""
        return self.generator.losses

    @property
    def optimized_variables(self) -> list[Any]:
        return self.generator.trainable_variables

    def fit(self, *args: Any, **kwargs: Any) -> Any:
        """As `LandmarkLocalizer.fit`.

        Raises:
            ValueError: as there; a loss that is not reduced to one number; or `use_ema` of the
                discriminator's optimizer, or on JAX of any, whose averages Keras would not put into
                the network.
        """
        self._check_compiled()
        return super().fit(*args, **kwargs)

    def train_step(self, *args: Any) -> Any:
        """One step of both networks on ((images, unlabeled), landmarks[, sample_weight])."""
        backend = keras.backend.backend()
        if backend == "tensorflow":
            from keras_lapkl.models.adversarial_tensorflow import train_step
        elif backend == "jax":
            from keras_lapkl.models.adversarial_jax import train_step
        else:
            raise NotImplementedError(
                f"AdversarialLocalizer trains on the backends tensorflow and jax. Received: "
                f"KERAS_BACKEND={backend}"
            )
        return train_step(self, *args)

    def _check_compiled(self):
        for each in keras.tree.flatten(self.loss):
            if isinstance(each, keras.losses.Loss) and each.reduction in (None, "none"):
                raise ValueError(
                    "Expected a loss of one number a batch, which is added to the discriminator's "
                    f"part. Received: {each.name!r} with reduction={each.reduction!r}"
                )
        refused = {"discriminator_optimizer": self.discriminator_optimizer}
        if keras.backend.backend() == "jax":
            refused["optimizer"] = self.optimizer
        for name, each in refused.items():
            each = getattr(each, "inner_optimizer", each)  # of one that scales the loss
            if getattr(each, "use_ema", False):
                raise ValueError(
                    f"`{name}` has use_ema, whose averages would not reach the network: train "
                    "without it."
                )

    def unpack(self, data: Any) -> Batch:
        """The `Batch` in what `fit` hands to the step."""
        pair, landmarks, weight = keras.utils.unpack_x_y_sample_weight(data)
        images, unlabeled = (to_unit_range(half) for half in _halves(pair))
        if landmarks is None:
            raise ValueError("Expected ((images, unlabeled_images), landmarks). Received no labels")
        if images.shape[1:] != unlabeled.shape[1:]:
            raise ValueError(
                "Labeled and unlabeled images must have one size. Received: "
                f"{tuple(images.shape)} and {tuple(unlabeled.shape)}"
            )
        return Batch(images, landmarks, unlabeled, weight)

    def true_pairs(self, batch: Batch) -> Tensor:
        """[image, ω(landmarks)] of the labeled half: (L, H, W, 3+K)."""
        true = self.true_heatmaps(batch.landmarks, *ops.shape(batch.images)[1:3])
        return self._pairs(batch.images, true)

    def generated_pairs(self, batch: Batch, logits: Tensor) -> Tensor:
        """[image, heatmaps] of the unlabeled half, from its logits: (U, H, W, 3+K)."""
        maps = heatmaps.probabilities(logits, self.beta)
        _, visible = split_visible(batch.landmarks)
        index = ops.arange(ops.shape(maps)[0]) % ops.shape(visible)[0]
        shown = ops.take(visible, index, axis=0)[:, None, None, :] > 0
        height, width = ops.shape(maps)[1:3]
        uniform = 1 / ops.cast(height * width, "float32")
        return self._pairs(batch.unlabeled, ops.where(shown, maps, uniform))

    def _pairs(self, images, maps):
        return ops.concatenate([self.image_gain * images, self.heatmap_gain * maps], axis=-1)

    def adversarial_weight_at(self, step: Tensor) -> Tensor:
        """λ at a step: 0 until `adversarial_start`, then rising for `adversarial_warmup` steps."""
        begun = ops.cast(step, "float32") - self.adversarial_start
        if self.adversarial_warmup:
            share = ops.clip(begun / self.adversarial_warmup, 0.0, 1.0)
        else:
            share = ops.cast(begun >= 0, "float32")
        return self.adversarial_weight * share

    def report(
        self,
        batch: Batch,
        logits: Tensor,
        loss: Tensor,
        adversarial: Tensor,
        weight: Tensor,
        real_logits: Tensor,
        fake_logits: Tensor,
    ) -> dict[str, Tensor]:
        """Updates every metric by one step; the logs that `fit` shows."""
        labeled = ops.shape(batch.images)[0]
        self._loss_tracker.update_state(loss + weight * adversarial, sample_weight=labeled)
        values = (
            loss,
            adversarial,
            discriminator_loss(real_logits, fake_logits),
            ops.mean(ops.cast(real_logits > 0, "float32")),
            ops.mean(ops.cast(fake_logits <= 0, "float32")),
        )
        for metric, value in zip(self._reports, values, strict=True):
            metric.update_state(value, sample_weight=labeled)
        return self.compute_metrics(batch.images, batch.landmarks, logits, batch.sample_weight)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "discriminator": keras.saving.serialize_keras_object(self.discriminator),
            "adversarial_weight": self.adversarial_weight,
            "adversarial_loss": self.adversarial_loss,
            "adversarial_start": self.adversarial_start,
            "adversarial_warmup": self.adversarial_warmup,
            "heatmap_gain": self.heatmap_gain,
            "image_gain": self.image_gain,
        }


def _halves(pair):
    """Labeled and unlabeled images of a pair, a list or a dict."""
    if isinstance(pair, dict) and set(pair) == {"labeled", "unlabeled"}:
        return pair["labeled"], pair["unlabeled"]
    if isinstance(pair, (tuple, list)) and len(pair) == 2:
        return tuple(pair)
    kind = f"a dict of {sorted(pair)}" if isinstance(pair, dict) else type(pair).__name__
    raise ValueError(
        "Expected (images, unlabeled_images), or a dict of 'labeled' and 'unlabeled'. Received: "
        f"{kind}. Train on labeled images alone with `LandmarkLocalizer`."
    )
