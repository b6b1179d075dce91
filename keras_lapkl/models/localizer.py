"""LandmarkLocalizer: a generator of heatmaps, trained on labeled images and read as landmarks."""

import contextlib
import functools
import os
import warnings
from collections.abc import Callable
from typing import Any, ClassVar, Self

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from keras_lapkl import confidence, heatmaps, losses, metrics, schemes, training_data
from keras_lapkl._support.pixels import check_labels, check_pixels
from keras_lapkl._support.threads import Lock
from keras_lapkl._support.types import PathLike, Tensor
from keras_lapkl.confidence import Calibration, CalibrationLike
from keras_lapkl.models.arguments import checked
from keras_lapkl.models.refinement import ShapeRefinement
from keras_lapkl.registries import LOSSES
from keras_lapkl.schemes import Scheme, SchemeLike
from keras_lapkl.training_data import TrainingData, TrainingDataLike


def _readers():
    """The classes of losses and metrics that read landmarks from logits as the model does."""
    named = (e.func if isinstance(e, functools.partial) else e for e in LOSSES.values())
    return (*(each for each in named if isinstance(each, type)), *metrics.METRICS)


@keras.saving.register_keras_serializable("keras_lapkl")
class LandmarkLocalizer(keras.Model):
    """Trains a heatmap generator with `fit`, and predicts landmarks with their scales.

    Called, it gives the generator's logits (B, H, W, K): losses and metrics of this package take
    them as they are. `predict` gives `{"landmarks": (N, K, 2), "scale": (N, K, 2)}` in pixels of
    the input, `predict_heatmaps` the maps. Threads that share one take turns in `predict`. A copy
    by pickle is what `save` and `load_model` give.

    Args:
        generator: a functional or sequential Keras model from images (B, H, W, 3) in [0, 1] to
            logits (B, H, W, K), such as `RCN` or `MobileFPN`.
        scheme: which K landmarks: a name, a mapping or a `Scheme`; None if unknown.
        crop_scale: the crop rule that the model is right on: side of the crop in longer edges of
            the box of the five points; None if unknown.
        beta: inverse temperature of the softmax; the loss must have the same.
        trained_on: the training faces, kept in the file and printed beside every error: one line, a
            `training_data.DataSet` or a `TrainingData`; None if unknown. The attribute
            `training_data` has them as a `TrainingData`, `trained_on` as one line.
        calibration: `confidence.Calibration` of its scales, or its plain data; None if unknown.
        refinement: `models.ShapeRefinement` of what `predict` gives, fitted to this generator as it
            is; None for none.

    Raises:
        ValueError: a generator that does not know its shapes, or whose maps are of another size
            than its images; a scheme, calibration or refinement with another K than the
            generator's, also where one is set later; a crop scale that is not in (0, 100], a beta
            not in (0, 1e6], a `trained_on` of several lines; in `compile`, a loss or metric of this
            package with another beta, or a metric with other eyes.

    Example:

    >>> model = LandmarkLocalizer(RCN(num_landmarks=68, width=1 / 8), scheme="ibug68")
    >>> model.compile("adam", loss=LaplaceKL(), metrics=[NormalizedMeanError()])
    >>> model.fit(images, landmarks)                  # (N, 80, 80, 3), (N, 68, 2)
    >>> model.predict(images)["scale"].shape
    (N, 68, 2)
    """

    _parts: ClassVar[tuple[str, ...]] = ("generator", "refinement")
    """What of the configuration are Keras objects."""
    _reported: ClassVar[tuple[str, ...]] = ()
    """Names of the means of training batches, which an evaluation leaves empty."""
    _takes_unlabeled: ClassVar[bool] = False
    """Whether `fit` takes images beside the labeled ones, in tuples or dicts."""

    def __init__(
        self,
        generator: keras.Model,
        scheme: SchemeLike | None = None,
        crop_scale: float | None = None,
        beta: float = 1.0,
        trained_on: TrainingDataLike | None = None,
        calibration: CalibrationLike | None = None,
        refinement: ShapeRefinement | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        _check_maps(generator)
        self.generator = generator
        self.scheme = scheme
        self.crop_scale = crop_scale
        self._beta = checked("beta", beta)
        self.training_data = trained_on
        self.calibration = calibration
        self.refinement = refinement
        self._reports = [keras.metrics.Mean(name=name) for name in self._reported]
        self._predicting = Lock()
        self.built = True  # it has no variables of its own

    @property
    def training_data(self) -> TrainingData | None:
        """Faces that it was trained on; set to what `trained_on` takes, or None."""
        return self._training_data

    @training_data.setter
    def training_data(self, value: TrainingDataLike | None) -> None:
        found = training_data.get(value)
        checked("trained_on", None if found is None else str(found))
        self._training_data = found

    @property
    def trained_on(self) -> str | None:
        """The same as one line."""
        return None if self.training_data is None else str(self.training_data)

    @property
    def scheme(self) -> Scheme | None:
        """Which K landmarks; set to a name, a mapping or a `Scheme` of as many, or None."""
        return self._scheme

    @scheme.setter
    def scheme(self, value: SchemeLike | None) -> None:
        found = None if value is None else schemes.get(value)
        if found is not None and found.num_landmarks != self.num_landmarks:
            raise ValueError(
                f"Scheme {found.name!r} has {found.num_landmarks} landmarks. Received a generator "
                f"of {self.num_landmarks}."
            )
        self._scheme = found

    @property
    def crop_scale(self) -> float | None:
        """Side of the crop in longer edges of the box of the five points; set to one, or None."""
        return self._crop_scale

    @crop_scale.setter
    def crop_scale(self, value: float | None) -> None:
        self._crop_scale = checked("crop_scale", value)

    @property
    def calibration(self) -> Calibration | None:
        """Of its scales; set to a `Calibration` of K landmarks or its plain data, or None."""
        return self._calibration

    @calibration.setter
    def calibration(self, value: CalibrationLike | None) -> None:
        found = confidence.get(value)
        if found is not None and len(found.factors) != self.num_landmarks:
            raise ValueError(
                f"The calibration is of {len(found.factors)} landmarks. Received a generator of "
                f"{self.num_landmarks}."
            )
        self._calibration = found

    @property
    def refinement(self) -> ShapeRefinement | None:
        """Of what `predict` gives; set to a `ShapeRefinement` of K landmarks, or None.

        It is of the weights that it was fitted to: after more training it is wrong.
        """
        return self._refinement

    @refinement.setter
    def refinement(self, value: ShapeRefinement | None) -> None:
        if value is not None and value.num_landmarks != self.num_landmarks:
            raise ValueError(
                f"The refinement is of {value.num_landmarks} landmarks. Received a generator of "
                f"{self.num_landmarks}."
            )
        self._refinement = value
        self.predict_function = None  # what is compiled has the refinement of before

    @property
    def beta(self) -> float:
        """Inverse temperature of the softmax, as it was made with: the loss was checked by it."""
        return self._beta

    @property
    def num_landmarks(self) -> int:
        """K, the number of landmarks."""
        return self.generator.output_shape[-1]

    @property
    def image_size(self) -> int | None:
        """Side of the crop in pixels; None if the generator takes any."""
        return self.generator.input_shape[1]

    def call(self, images: Tensor, training: bool = False) -> Tensor:
        """Images (B, H, W, 3), uint8 or float in [0, 1] → logits (B, H, W, K)."""
        return self.generator(to_unit_range(images), training=training)

    def compile(
        self, optimizer: Any = "adam", loss: Any = None, *, jit_compile: Any = None, **kwargs: Any
    ) -> None:
        """As `keras.Model.compile`; checks that loss and metrics read heatmaps as this model does.

        `loss` may be a name in `registries.LOSSES`, such as `"laplace_kl"`; it has the model's β.
        `jit_compile` is on where a GPU is seen and off elsewhere: on a CPU, TensorFlow's XLA makes
        a step of this network 11 times slower, and under a `tf.distribute` strategy it fails.
        """
        if isinstance(loss, str):
            loss = _loss_by_name(loss, self.beta)
        readers = keras.tree.flatten([loss, kwargs.get("metrics"), kwargs.get("weighted_metrics")])
        known = _readers()
        for reader in readers:
            self._check_reader(reader, known)
        self._given_jit_compile = jit_compile
        if jit_compile is None:
            off = keras.backend.backend() == "tensorflow" and (_is_distributed() or not _sees_gpu())
            jit_compile = False if off else "auto"
        super().compile(optimizer=optimizer, loss=loss, jit_compile=jit_compile, **kwargs)
        self._reads_axes = all(
            type(reader) in known or reader in losses.FUNCTIONS
            for reader in readers
            if reader is not None
        )
        if hasattr(self.optimizer, "build") and not self.optimizer.built:
            # Built here, so that a reloaded model finds the optimizer's state to restore.
            self.optimizer.build(self.optimized_variables)

    @property
    def optimized_variables(self) -> list[Any]:
        """What `optimizer` changes in training."""
        return self.trainable_variables

    def _check_reader(self, reader, known):
        """ValueError for a loss or metric that reads other landmarks than `predict` gives."""
        name = getattr(reader, "name", None) or getattr(reader, "__name__", type(reader).__name__)
        is_function = reader in losses.FUNCTIONS
        if not is_function and not isinstance(reader, known):
            return  # of another package, whose words mean other things
        beta = 1.0 if is_function else getattr(reader, "beta", self.beta)
        if beta != self.beta:
            raise ValueError(
                f"{name!r} has beta {beta} and the model {self.beta}: it would read other "
                "landmarks than the model gives. Give both the same."
            )
        if getattr(reader, "normalizer", None) != "interocular" or self.scheme is None:
            return
        if reader.scheme.eye_corners != self.scheme.eye_corners:
            raise ValueError(
                f"{name!r} takes the eyes of scheme {reader.scheme.name!r}, and the model has "
                f"{self.scheme.name!r}: give the metric that scheme, or another `normalizer`."
            )

    def get_compile_config(self) -> Any:
        """As it was given: what a machine without a GPU decides is not for one that has it."""
        config = super().get_compile_config()
        return config and {**config, "jit_compile": self._given_jit_compile}

    def compile_from_config(self, config: dict[str, Any]) -> None:
        self.compile(**keras.saving.deserialize_keras_object(config))

    def fit(self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        """As `keras.Model.fit`; arrays are checked as `predict` checks them.

        Raises:
            ValueError: images of another shape, type or range, or labels that are no pixels.
        """
        self._check_arrays(x, y)
        self._check_arrays(*_pair(kwargs.get("validation_data")))
        return super().fit(x, y, *args, **kwargs)

    def evaluate(self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        """As `keras.Model.evaluate`; arrays are checked as in `fit`."""
        self._check_arrays(x, y)
        return super().evaluate(x, y, *args, **kwargs)

    def train_on_batch(self, x: Any, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        """As `keras.Model.train_on_batch`; arrays are checked as in `fit`."""
        self._check_arrays(x, y)
        return super().train_on_batch(x, y, *args, **kwargs)

    def _check_arrays(self, images, landmarks):
        if hasattr(images, "__array__"):
            self._check_images(np.asarray(images))
        elif self._takes_unlabeled:
            for each in keras.tree.flatten(images):
                if hasattr(each, "__array__") and np.ndim(each) == 4:
                    check_pixels(np.asarray(each))
        if hasattr(landmarks, "__array__"):
            check_labels(np.asarray(landmarks))

    def train_step(self, *args: Any) -> Any:
        """One step on (images, landmarks[, sample_weight]); see `keras.Model.train_step`.

        On TensorFlow from (data) to logs. On JAX from (state, data) to (logs, state), all without
        side effects: a subclass takes and gives the same.
        """
        if keras.backend.backend() != "tensorflow":
            return super().train_step(*args)
        import tensorflow as tf

        images, landmarks, weight = keras.utils.unpack_x_y_sample_weight(args[0])
        forward = self._scored_forward()
        with tf.GradientTape() as tape:
            logits = forward(images, training=True)
            loss = self.compute_loss(images, landmarks, logits, weight, training=True)
            scaled = self.optimizer.scale_loss(loss)
        variables = self.optimized_variables
        if variables:
            gradients = tape.gradient(scaled, variables)
            self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        else:  # as Keras has it
            warnings.warn("All layers are frozen: nothing is trained.", stacklevel=2)
        # The loss comes divided by the number of replicas, whose gradients are summed.
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        self._loss_tracker.update_state(loss * replicas, sample_weight=ops.shape(images)[0])
        return self.compute_metrics(images, landmarks, logits, weight)

    def test_step(self, *args: Any) -> Any:
        """As `keras.Model.test_step`, without maps where `train_step` has none."""
        if keras.backend.backend() != "tensorflow":
            found = super().test_step(*args)
            if keras.backend.backend() != "jax":
                return self._without_reports(found)
            logs, state = found
            return self._without_reports(logs), state
        import tensorflow as tf

        images, landmarks, weight = keras.utils.unpack_x_y_sample_weight(args[0])
        logits = self._scored_forward()(images, training=False)
        loss = self._compute_loss(images, landmarks, logits, weight, training=False)
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        # The images of a subclass may be a pair.
        self._loss_tracker.update_state(loss * replicas, sample_weight=ops.shape(logits)[0])
        return self._without_reports(self.compute_metrics(images, landmarks, logits, weight))

    def _without_reports(self, logs):
        return {name: value for name, value in logs.items() if name not in self._reported}

    def _get_metrics_result_or_logs(self, logs):
        # For want of the reports Keras would keep the logs of an evaluation, which under a
        # distribution strategy are means over devices, whatever the number of faces of each.
        found = self._without_reports(self.get_metrics_result())
        same = isinstance(logs, dict) and logs.keys() == found.keys()
        return found if same else super()._get_metrics_result_or_logs(logs)

    def _scored_forward(self):
        """From images to what loss and metrics take: `_forward`, if these are this package's."""
        overridden = any(
            getattr(type(self), name) is not getattr(LandmarkLocalizer, name)
            for name in ("compute_loss", "compute_metrics")
        )
        return self if overridden or not self._reads_axes else self._forward()

    def _forward(self):
        """From images to logits, for `heatmaps.decode_logits`.

        Where the generator makes its maps of their axes, these alone: a map that is never built
        takes no time, which is a fifth of a training step of `MobileFPN`.
        """
        axes = axes_alone(self.generator)
        if axes is None or type(self).call is not LandmarkLocalizer.call:
            return self
        return lambda images, training: axes(to_unit_range(images), training)

    def predict(
        self,
        x: Any,
        batch_size: int | None = None,
        verbose: Any = "auto",
        steps: int | None = None,
        callbacks: Any = None,
    ) -> dict[str, NDArray[np.float32]]:
        """Landmarks and scales of images, as `keras.Model.predict` takes them.

        Args:
            x: (N, S, S, 3) RGB, uint8 or float in [0, 1]; or a data set or generator of batches of
                such, whose values are not checked.
            batch_size, verbose, steps, callbacks: as Keras has them.

        Returns:
            dict of `landmarks` and `scale`, each (N, K, 2) float32 in pixels of the input.

        Raises:
            ValueError: another shape, type or range, as `TFLiteLocalizer` has it.
        """
        if hasattr(x, "__array__"):
            self._check_images(np.asarray(x))
            if not len(x):  # which Keras's own fails on
                none = np.empty((0, self.num_landmarks, 2), np.float32)
                return {"landmarks": none, "scale": none.copy()}
        with self._predicting:
            return super().predict(x, batch_size, verbose, steps, callbacks)

    def _check_images(self, images):
        expected = self.generator.input_shape[1:]
        fits = images.ndim == 4 and all(
            side in (None, received)
            for side, received in zip(expected, images.shape[1:], strict=True)
        )
        if not fits:
            sides = ", ".join("any" if side is None else str(side) for side in expected)
            raise ValueError(f"Expected RGB crops of shape (N, {sides}). Received: {images.shape}.")
        check_pixels(images)

    def predict_step(self, *args: Any) -> Any:
        """Landmarks and scales of a batch; on JAX with the state, as `fit`'s step has it."""
        if keras.backend.backend() == "tensorflow":
            images, _, _ = keras.utils.unpack_x_y_sample_weight(args[0])
            logits, state = self._forward()(images, training=False), ()
        else:
            found = super().predict_step(*args)
            logits, *state = found if keras.backend.backend() == "jax" else (found,)
        location, scale = heatmaps.decode_logits(logits, self.beta)
        if self.refinement is not None:
            with _values_of_state(self, args[0] if state else None):
                location = self.refinement(location)
        landmarks = {"landmarks": location, "scale": scale}
        return (landmarks, *state) if state else landmarks

    def predict_heatmaps(self, images: Tensor, batch_size: int = 32) -> NDArray[np.float32]:
        """Heatmaps of images (N, H, W, 3), as `predict` takes them: float32 (N, H, W, K), sum 1."""
        self._check_images(np.asarray(images))
        batches = [
            ops.convert_to_numpy(
                heatmaps.probabilities(self(images[i : i + batch_size]), self.beta)
            )
            for i in range(0, len(images), batch_size)
        ]
        if not batches:
            return np.empty((*np.shape(images)[:3], self.num_landmarks), np.float32)
        return np.concatenate(batches)

    def true_heatmaps(self, landmarks: Tensor, height: int, width: int) -> Tensor:
        """ω(landmarks): the distributions that the loss aims at, (B, height, width, K).

        Args:
            landmarks: (B, K, 2|3) pixels; a hidden one gets the uniform map.
        """
        landmarks, visible = losses.split_visible(landmarks)
        distribution, scale = losses.target_distribution(self.loss)
        return heatmaps.render(
            landmarks, height, width, scale=scale, visible=visible, distribution=distribution
        )

    def export(
        self,
        filepath: PathLike,
        format: str = "tf_saved_model",
        verbose: bool | None = None,
        input_signature: Any = None,
        **kwargs: Any,
    ) -> Any:
        """As `keras.Model.export`: an artifact from images in [0, 1] to logits, unchecked.

        Keras can't tell the signature of a model that is made of another one: it is the
        generator's, of one image for LiteRT, whose operators on shapes run slowly otherwise.
        `keras_lapkl.tflite.convert` writes files that give landmarks, and checks them.
        """
        if input_signature is None:
            batch = 1 if format == "litert" else None
            shape = (batch, *self.generator.input_shape[1:])
            input_signature = [keras.InputSpec(shape=shape, dtype="float32", name="image")]
        return super().export(
            os.fspath(filepath), format, verbose, input_signature=input_signature, **kwargs
        )

    def save_own_variables(self, store: Any) -> None:
        """Keeps dropout's random states too, which Keras does not: a resumed run needs them."""
        super().save_own_variables(store)
        for i, state in enumerate(self._seed_states()):
            store[f"seed_state_{i}"] = ops.convert_to_numpy(state)

    def load_own_variables(self, store: Any) -> None:
        saved = set(store.keys())
        # It has none, they are the generator's; a subclass may.
        super().load_own_variables({n: store[n] for n in saved if not n.startswith("seed_state_")})
        for i, state in enumerate(self._seed_states()):
            if f"seed_state_{i}" in saved:  # not where the weights were trained without dropout
                state.assign(store[f"seed_state_{i}"])

    def _seed_states(self):
        layers = self._flatten_layers(include_self=False)
        return [layer.seed_generator.state for layer in layers if hasattr(layer, "seed_generator")]

    def __reduce__(self):
        # Keras finds a class by its name where its module is imported; naming it here does that.
        load, arguments = super().__reduce__()
        parts = (*self._flatten_layers(), getattr(self, "optimizer", None))
        classes = sorted({type(each) for each in parts}, key=repr)
        return _unpickled, (classes, load, arguments)

    def localizer(self) -> "LandmarkLocalizer":
        """The `LandmarkLocalizer` of the same generator alone, to save, evaluate and convert."""
        return LandmarkLocalizer(
            self.generator,
            self.scheme,
            self.crop_scale,
            self.beta,
            self.training_data,
            self.calibration,
            self.refinement,
        )

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "generator": keras.saving.serialize_keras_object(self.generator),
            "scheme": None if self.scheme is None else self.scheme.to_config(),
            "crop_scale": self.crop_scale,
            "beta": self.beta,
            "trained_on": None if self.training_data is None else self.training_data.to_config(),
            "calibration": None if self.calibration is None else self.calibration.to_config(),
            "refinement": None
            if self.refinement is None
            else keras.saving.serialize_keras_object(self.refinement),
        }

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> Self:
        made = {
            name: keras.saving.deserialize_keras_object(config[name], custom_objects)
            for name in cls._parts
            if config.get(name)
        }
        return cls(**{**config, **made})


def _loss_by_name(name, beta):
    if name not in LOSSES:
        raise ValueError(
            "Expected a loss that reads heatmaps, such as keras_lapkl.LaplaceKL(), or one of "
            f"{sorted(LOSSES)}. Received: {name!r}"
        )
    return LOSSES[name](beta=beta)


def _check_maps(generator):
    """ValueError for a generator that tells no shapes, or has maps of another size than images."""
    taken, given = (getattr(generator, f"{end}_shape", None) for end in ("input", "output"))
    if not (
        isinstance(taken, tuple) and isinstance(given, tuple) and len(taken) == len(given) == 4
    ):
        raise ValueError(
            "`generator` must be a functional or sequential model from images (B, H, W, 3) to "
            f"logits (B, H, W, K). Received: {type(generator).__name__} from {taken} to {given}. "
            "keras.Model(inputs, generator(inputs)) makes a functional one of a model of your own."
        )
    sides = zip(taken[1:3], given[1:3], strict=True)
    if any(None not in pair and pair[0] != pair[1] for pair in sides):
        raise ValueError(
            "`generator` must have maps as large as its images, for landmarks are in pixels of the "
            f"image. Received: from {taken} to {given}. Let its last layers enlarge the maps."
        )


def axes_alone(generator: keras.Model) -> Callable[[Tensor, bool], Tensor] | None:
    """From images in [0, 1] to the logits of both axes, joined, of a generator of square maps.

    Args:
        generator: one that makes its maps of their axes has them as `axis_logits`.

    Returns:
        A function of images and whether it is training, or None.
    """
    axes = getattr(generator, "axis_logits", None)
    if axes is None:
        return None
    (_, _, width, _), (_, height, _, _) = axes.output_shape
    if width is None or width != height:
        return None

    def joined(images, training):
        columns, rows = axes(images, training=training)
        return heatmaps.join_axes(columns[:, 0], rows[:, :, 0])

    return joined


def _unpickled(classes, load, arguments):
    return load(*arguments)


def _pair(data):
    """Images and labels of what `fit` validates on, if these are arrays."""
    return data[:2] if isinstance(data, tuple) and len(data) > 1 else (None, None)


def _is_distributed():
    import tensorflow as tf

    return tf.distribute.has_strategy()


def _sees_gpu():
    import tensorflow as tf

    return bool(tf.config.list_physical_devices("GPU"))


def _values_of_state(model, state):
    """Where variables have the values of JAX's state: `predict` has taken theirs away meanwhile."""
    if state is None:
        return contextlib.nullcontext()
    variables = (*model.trainable_variables, *model.non_trainable_variables)
    return keras.StatelessScope(list(zip(variables, (*state[0], *state[1]), strict=True)))


def to_unit_range(images: Tensor) -> Tensor:
    """uint8 images → float32 in [0, 1]; float images as they are.

    Args:
        images: of any shape.
    """
    images = ops.convert_to_tensor(images)
    if keras.backend.standardize_dtype(images.dtype) == "uint8":
        return ops.cast(images, "float32") / 255
    return images
