"""Converts a localizer to int8: what stays in float is chosen by measured error."""

import functools
import math
import pathlib
import tempfile
import warnings
from typing import NamedTuple

import keras
import numpy as np
from absl import logging
from keras import ops

from keras_lapkl._support import console
from keras_lapkl.export import equalization, ranges, rounding, verify
from keras_lapkl.export.graph import graph_converter, readout_model
from keras_lapkl.export.verify import predict_by_file
from keras_lapkl.models.costs import multiply_adds
from keras_lapkl.models.localizer import to_unit_range
from keras_lapkl.tflite import flatbuffer, inspection

_NEGLIGIBLE = 0.1


def int8_layers(generator, float_layers=()):
    """Names of a generator's layers, but for those that begin with one of `float_layers`."""
    names = [
        layer.name for layer in generator.layers if not isinstance(layer, keras.layers.InputLayer)
    ]
    return tuple(name for name in names if not name.startswith(tuple(float_layers)))


class StageError(NamedTuple):
    """What one stage alone in int8 does: mean distance of the landmarks, pixels; share of work."""

    stage: str
    error: float
    work: float


class Int8Converter:
    """Converts one model to int8: called, gives the bytes of a file.

    Attributes:
        generator: the equalized copy that the file is made of.
        stage_errors: of each stage alone, once `candidates` has come to them.
    """

    def __init__(self, model, images, outputs, flip_average):
        self._model, self._outputs, self._flip_average = model, outputs, flip_average
        self._images = ops.convert_to_numpy(to_unit_range(images))
        self.generator = equalization.equalized(model.generator, self._images)
        floors = equalization.map_floors(readout_model(self.generator), self._images, model.beta)
        self._floors = None if equalization.cut_maps(self.generator, floors) else floors
        self.stage_errors: list[StageError] = []

    @functools.cached_property
    def reference(self):
        """The bytes of a float32 file that does the same, by tensors of the same names."""
        with self._converter() as converter:
            return converter.convert()

    @functools.cached_property
    def _written(self):
        """Its operators: nodes go by the names of the tensors that they write."""
        return inspection.operators(flatbuffer.parse(self.reference))

    def candidates(self, images, expected, whole=False):
        """Yields what stays in float and the bytes: nothing, then stages, the most harmful first.

        Before any does, the weights learn how to be rounded, and keep it where it helps. Rounding
        errors are nearly independent: their squares add, and a stage's own is seen best where it
        alone is int8. One stage is int8 in the last: with none it would be a float file. `whole`:
        nothing is float.
        """
        logging.info("Measuring int8's ranges on %d images.", len(self._images))
        make = self.whole if whole else self
        nearest = make()
        yield (), nearest
        weights = self.generator.get_weights()
        rounding.learn_rounding(self.generator, self._images, self._model.beta)
        self.__dict__.pop("_calibrated", None)
        learned = make()
        yield (), learned
        if whole:
            return
        if self._error(learned, images, expected) > self._error(nearest, images, expected):
            self.generator.set_weights(weights)
            self.__dict__.pop("_calibrated", None)
        logging.info("Measuring on %d images the error of each stage alone in int8.", len(images))
        stages = self._stages()
        work = {name: sum(map(_work, layers)) for name, layers in stages.items()}
        errors = {}
        for stage in stages:
            errors[stage] = self._error_alone(stage, stages, images, expected)
            found = StageError(stage, errors[stage], work[stage] / sum(work.values()))
            self.stage_errors.append(found)
            logging.info("%s: %.3f px, %.1f %% of the work.", stage, found.error, 100 * found.work)
        least = _NEGLIGIBLE * max(errors.values())
        harmful = [name for name in stages if errors[name] > least]
        harmful.sort(key=errors.__getitem__, reverse=True)
        for count in range(1, min(len(harmful), len(stages) - 1) + 1):
            spared = tuple(harmful[:count])
            logging.info("Trying int8 but for %s.", ", ".join(spared))
            yield spared, self(spared)

    def _stages(self):
        """{beginning of their names: layers} of what the file computes, in order."""
        stages = {}
        for layer in self.generator.layers:
            stages.setdefault(layer.name.split("_")[0], []).append(layer)
        return {
            name: layers
            for name, layers in stages.items()
            if any(verify.of_layers(o, [x.name for x in layers]) for o in self._written)
        }

    def _error_alone(self, stage, stages, images, expected):
        others = tuple(name for name in stages if name != stage)
        return self._error(self(others), images, expected)

    def _error(self, content, images, expected):
        """Mean distance of the landmarks of a file of these bytes, in pixels."""
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "candidate.tflite"
            path.write_bytes(content)
            found = predict_by_file(path, images, self._model.beta)["landmarks"]
        return float(np.linalg.norm(found - expected, axis=-1).mean())

    def whole(self):
        """The bytes of a file that is int8 from its image's QUANTIZE to its logits."""
        import tensorflow as tf

        with self._converter(square=True) as converter:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = self._batches
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.inference_output_type = tf.int8
            return converter.convert()

    def _batches(self):
        images = self._images
        if images.min() > 0 or images.max() < 1:
            # A copy with a black and a white pixel, else brighter ones than these would be clipped.
            full = images[0].copy()
            full[0, :2] = [[0], [1]]
            images = [*images, full]
        return ([image[None]] for image in images)

    def layer_errors(self, path, images):
        """`verify.layer_errors` of a file that this has made."""
        with tempfile.TemporaryDirectory() as folder:
            reference = pathlib.Path(folder) / "reference.tflite"
            reference.write_bytes(self.reference)
            return verify.layer_errors(path, reference, images)

    @functools.cached_property
    def _calibrated(self):
        """The ranges of all tensors, measured once for all choices of what stays in float."""
        import tensorflow as tf

        with self._converter() as converter:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = self._batches
            # Named for debugging, but TensorFlow's one way to leave some operators in float.
            calibrated = tf.lite.experimental.QuantizationDebugger(
                converter=converter, debug_dataset=self._batches
            )
        calibrated.calibrated_model = ranges.narrowed(calibrated.calibrated_model, self._images)
        return calibrated

    def __call__(self, float_layers=()):
        """The generator in int8, but for layers whose names begin with some."""
        import tensorflow as tf

        body = int8_layers(self.generator, float_layers)
        calibrated = self._calibrated
        with console.held_stderr(), warnings.catch_warnings(action="ignore"):
            calibrated.options = tf.lite.experimental.QuantizationDebugOptions(
                denylisted_nodes=[o.result for o in self._written if not verify.of_layers(o, body)]
            )
            return calibrated.get_nondebug_quantized_model()

    def _converter(self, square=False):
        return graph_converter(
            self.generator, self._model, self._outputs, self._flip_average, self._floors, square
        )


def _work(layer):
    """Multiply-adds; of other layers than convolutions, the values that they write."""
    return multiply_adds(layer) or math.prod(layer.output.shape[1:])
