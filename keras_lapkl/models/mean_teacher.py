"""MeanTeacherLocalizer: a generator that learns unlabeled faces from the mean of its own past."""

from typing import Any, NamedTuple

import keras
from keras import ops

from keras_lapkl import heatmaps
from keras_lapkl._support.types import Tensor
from keras_lapkl.losses import laplace_kl_divergence
from keras_lapkl.models.localizer import LandmarkLocalizer, axes_alone, to_unit_range

REPORTS = ("localization_loss", "consistency_loss")
"""What `fit` reports for training batches, besides the total loss and the metrics."""


class Batch(NamedTuple):
    """One training batch, unpacked: images float32 in [0, 1], L labeled and U unlabeled."""

    images: Any
    landmarks: Any
    plain: Any
    moved: Any
    motion: Any
    sample_weight: Any


@keras.saving.register_keras_serializable("keras_lapkl")
class MeanTeacherLocalizer(LandmarkLocalizer):
    """Trains a generator on labeled faces, and on unlabeled ones by a slower copy of itself.

    The teacher's weights are a moving mean of the student's. It sees an unlabeled face as it is,
    and its mirror image; the student sees the face moved and recolored, and learns the teacher's
    landmarks, moved with it. The teacher's own distribution is the target, so that a landmark that
    it is not sure of teaches less::

        loss = (localization loss + w·KL(student ‖ Laplace(x, max(1, b)))) / (1 + w)

    with x and b of the teacher, and w = 0 until `consistency_start`.

    `fit` takes `((images, (plain, moved, motion)), landmarks)` of `mean_teacher_batches`, with
    optional sample weights, which weigh the localization loss only. `evaluate`, `predict` and
    validation data are as in `LandmarkLocalizer`, of the student, and on any backend; `val_loss` is
    the localization loss. `localizer()` gives the student alone.

    Args:
        generator: a Keras model from images (B, H, W, 3) to logits (B, H, W, K), such as
            `MobileFPN`.
        teacher: another one of the same weights; None for a copy of the generator.
        decay: share of the teacher that stays in a step, in [0, 1). In the first steps it is less,
            (t + 1)/(t + 10), so that the teacher soon forgets the random weights.
        consistency_weight: w ≥ 0.
        consistency_start: steps with w = 0 at first, while the teacher knows nothing.
        scheme, crop_scale, beta, trained_on, calibration: as in `LandmarkLocalizer`. Without the
            scheme's mirror map the teacher sees no mirror images, and nothing is learned from faces
            that are moved so.

    Raises:
        ValueError: an argument out of its range.

    Example:

    >>> model = MeanTeacherLocalizer(MobileFPN(68), scheme="ibug68", consistency_start=1000)
    >>> model.compile("adam", LaplaceKL())
    >>> model.fit(mean_teacher_batches(crops, unlabeled, 8, 16, moved=Augmentation()))
    >>> model.localizer().save("model.keras")

    Source: Tarvainen and Valpola, NeurIPS 2017; the target distribution: this project.
    """

    _parts = (*LandmarkLocalizer._parts, "teacher")
    _reported = REPORTS
    _takes_unlabeled = True

    def __init__(
        self,
        generator: keras.Model,
        teacher: keras.Model | None = None,
        decay: float = 0.998,
        consistency_weight: float = 1.0,
        consistency_start: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(generator, **kwargs)
        if not 0 <= decay < 1:
            raise ValueError(f"`decay` must be in [0, 1). Received: {decay}")
        for name, value in (
            ("consistency_weight", consistency_weight),
            ("consistency_start", consistency_start),
        ):
            if not value >= 0:
                raise ValueError(f"`{name}` must be ≥ 0. Received: {value}")
        self.teacher: Any = teacher
        if teacher is None:
            self.teacher = type(generator).from_config(generator.get_config())
            self.teacher.set_weights(generator.get_weights())
            for layer in self.teacher._flatten_layers():
                if hasattr(layer, "finalize_state"):  # what Normalization makes of its weights
                    layer.finalize_state()
        self.teacher.trainable = False
        self.decay = decay
        self.consistency_weight = consistency_weight
        self.consistency_start = consistency_start

    @property
    def optimized_variables(self) -> list[Any]:
        return self.generator.trainable_variables

    def train_step(self, *args: Any) -> Any:
        """One step on ((images, (plain, moved, motion)), landmarks[, sample_weight])."""
        if keras.backend.backend() != "tensorflow":
            raise NotImplementedError(
                "MeanTeacherLocalizer trains on the backend tensorflow. Received: "
                f"KERAS_BACKEND={keras.backend.backend()}"
            )
        import tensorflow as tf

        if tf.distribute.has_strategy():
            raise NotImplementedError("MeanTeacherLocalizer trains on one device.")
        batch = self.unpack(args[0])
        target, target_scale, visible = self.targets(batch)
        weight = self.consistency_weight_at(self.optimizer.iterations)
        forward = self._scored_forward()
        halves = [batch.images, batch.moved]
        with tf.GradientTape() as tape:
            logits = forward(tf.concat(halves, axis=0), training=True)
            logits, moved_logits = tf.split(logits, [tf.shape(half)[0] for half in halves])
            loss = self.compute_loss(
                batch.images, batch.landmarks, logits, batch.sample_weight, training=True
            )
            consistency = self.consistency_loss(moved_logits, target, target_scale, visible)
            total = (loss + weight * consistency) / (1 + weight)
            scaled = self.optimizer.scale_loss(total)
        variables = self.optimized_variables
        if variables:  # not if all layers are frozen
            gradients = tape.gradient(scaled, variables)
            self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        self._follow()
        labeled = ops.shape(batch.images)[0]
        self._loss_tracker.update_state(total, sample_weight=labeled)
        for metric, value in zip(self._reports, (loss, consistency), strict=True):
            metric.update_state(value, sample_weight=labeled)
        return self.compute_metrics(batch.images, batch.landmarks, logits, batch.sample_weight)

    def unpack(self, data: Any) -> Batch:
        """The `Batch` in what `fit` hands to the step."""
        x, landmarks, weight = keras.utils.unpack_x_y_sample_weight(data)
        if not (isinstance(x, (tuple, list)) and len(x) == 2 and len(x[1]) == 3):
            raise ValueError(
                "Expected ((images, (plain, moved, motion)), landmarks), as "
                "`mean_teacher_batches` gives them. Train on labeled images alone with "
                "`LandmarkLocalizer`."
            )
        images, (plain, moved, motion) = x
        images, plain, moved = map(to_unit_range, (images, plain, moved))
        return Batch(images, landmarks, plain, moved, motion, weight)

    def targets(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """What the student is to find in the moved faces.

        Returns:
            Landmarks and scales (U, K, 2) in pixels, scales ≥ 1, and (U, K) float32: which
            landmarks lie within the image.
        """
        flip = None if self.scheme is None else self.scheme.flip
        faces = batch.plain
        if flip is not None:
            faces = ops.concatenate([faces, ops.flip(faces, axis=2)])
        found, scale = self._teacher_finds(faces)
        if flip is not None:
            (found, mirrored), (scale, other) = ops.split(found, 2), ops.split(scale, 2)
            last = ops.cast(ops.shape(batch.plain)[2] - 1, "float32")
            mirrored = ops.take(mirrored, list(flip), axis=1)
            mirrored = ops.stack([last - mirrored[..., 0], mirrored[..., 1]], axis=-1)
            found = (found + mirrored) / 2
            scale = (scale + ops.take(other, list(flip), axis=1)) / 2
        target = move_landmarks(found, batch.motion, flip)
        if flip is not None:
            scale = _mirrored_where(scale, batch.motion, flip)
        height, width = ops.shape(batch.moved)[1:3]  # which data sets need not tell
        limit = ops.cast(ops.stack([width, height]), "float32") - 0.5
        inside = ops.all(ops.logical_and(target >= -0.5, target <= limit), axis=-1)
        if flip is None:  # which names the mirrored points have is not known
            inside = ops.logical_and(inside, ops.logical_not(_are_mirrored(batch.motion))[:, None])
        return target, ops.maximum(scale, 1.0), ops.cast(inside, "float32")

    def _teacher_finds(self, faces):
        forward: Any = axes_alone(self.teacher) or self.teacher
        return heatmaps.decode_logits(forward(faces, training=False), self.beta)

    def consistency_loss(
        self, logits: Tensor, target: Tensor, target_scale: Tensor, visible: Tensor
    ) -> Tensor:
        """KL of the student's distributions to the teacher's, a mean over landmarks and faces."""
        found, scale = heatmaps.decode_logits(logits, self.beta)
        divergence = ops.sum(laplace_kl_divergence(found - target, scale, target_scale), axis=-1)
        count = ops.maximum(ops.sum(visible, axis=1), 1.0)
        return ops.mean(ops.sum(divergence * visible, axis=1) / count)

    def consistency_weight_at(self, step: Tensor) -> Tensor:
        """w at a step."""
        begun = ops.cast(step, "float32") >= self.consistency_start
        return self.consistency_weight * ops.cast(begun, "float32")

    def _follow(self):
        """Moves the teacher toward the student, batch normalization's statistics included."""
        step = ops.cast(self.optimizer.iterations, "float32")  # counted already
        decay = ops.minimum(self.decay, step / (step + 9))
        decay = decay ** (1 / _batches_per_step(self.optimizer))
        for theirs, ours in zip(self.teacher.weights, self.generator.weights, strict=True):
            if keras.backend.is_float_dtype(theirs.dtype):
                theirs.assign(decay * theirs + (1 - decay) * ops.cast(ours, theirs.dtype))
            else:  # a counter
                theirs.assign(ours)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "teacher": keras.saving.serialize_keras_object(self.teacher),
            "decay": self.decay,
            "consistency_weight": self.consistency_weight,
            "consistency_start": self.consistency_start,
        }


def _batches_per_step(optimizer):
    """Of how many batches an optimizer adds the gradients up."""
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)  # of one that scales the loss
    return optimizer.gradient_accumulation_steps or 1


def move_landmarks(landmarks: Tensor, motion: Tensor, flip: Any = None) -> Tensor:
    """Landmarks where an affine takes them; those of a mirrored face exchange their names.

    Args:
        landmarks: (B, K, 2) pixels.
        motion: (B, 2, 3) affines; the determinant of one that mirrors is negative.
        flip: K indices, the scheme's mirror map; None where nothing is mirrored.

    Example:

    >>> move_landmarks([[[1.0, 2.0]]], [[[1.0, 0.0, 5.0], [0.0, 1.0, 0.0]]])
    [[[6.0, 2.0]]]
    """
    landmarks, motion = map(ops.convert_to_tensor, (landmarks, motion))
    if flip is not None:
        landmarks = _mirrored_where(landmarks, motion, flip)
    turned = ops.einsum("bij,bkj->bki", motion[..., :2], landmarks)
    return turned + motion[:, None, :, 2]


def _mirrored_where(values, motion, flip):
    mirrored = _are_mirrored(motion)[:, None, None]
    return ops.where(mirrored, ops.take(values, list(flip), axis=1), values)


def _are_mirrored(motion):
    motion = ops.convert_to_tensor(motion)
    return motion[:, 0, 0] * motion[:, 1, 1] - motion[:, 0, 1] * motion[:, 1, 0] < 0
