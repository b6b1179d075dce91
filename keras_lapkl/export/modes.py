"""The quantization modes by the names that `convert` and `--mode` take: one entry says all of one.

Neither TensorFlow nor Keras is imported before a mode is used.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from keras_lapkl.tflite.inspection import Operator
from keras_lapkl.tflite.runner import BYTES

CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D")

_BOUNDED = 80
"""Largest size of the images for which `Mode.bounds` are."""
_REDUCED = {"float16", "int8", "uint8", "int16", "int4"}


@dataclasses.dataclass(frozen=True)
class Mode:
    """Numbers of a file: how they are made, what is checked, and how far they may be from Keras.

    Attributes:
        meaning: a few words, for `--help`.
        bounds: what is allowed by default: by `"mean"` or `"max"`, the distance from Keras in
            pixels of an image of 80 or less, for landmarks and for scale; by `"nme"`, growth of the
            NME as a share of Keras's, where labels are known.
        fits: function from an operator of the file, and whether a layer that is to be int8 made
            it, to whether its types are right.
        missing: function from all operators of the file to what should be there and is not, in
            words, or None.
        options: function that sets the options of a `tf.lite.TFLiteConverter`.
        integers: whether it computes with integers, so that `--mean_bound` is for it.
        calibrated: whether step sizes are fitted to representative images, by `Int8Converter`,
            which does without `options`.
    """

    meaning: str
    bounds: dict[str, float]
    fits: Callable[[Operator, bool], bool]
    missing: Callable[[Sequence[Operator]], str | None] = lambda operators: None
    options: Callable[[Any], None] = lambda converter: None
    integers: bool = False
    calibrated: bool = False

    def bounds_for(self, image_size: int) -> dict[str, float]:
        """`bounds` for images of a size: above 80 pixels grow with it, a share does not."""
        factor = max(1.0, image_size / _BOUNDED)
        return {k: v if k == "nme" else factor * v for k, v in self.bounds.items()}


def fits_float(operator, of_int8=False):
    """Whether nothing in an operator is reduced, but for an image of bytes."""
    if operator.name == "DEQUANTIZE":
        return _reads_bytes(operator) and operator.of_input
    return operator.name != "QUANTIZE" and not _REDUCED & {*operator.inputs, *operator.outputs}


def fits_float16(operator, of_int8=False):
    """As `fits_float`, and weights may be restored from float16."""
    if operator.name == "DEQUANTIZE" and not _reads_bytes(operator):
        return True
    return fits_float(operator)


def fits_dynamic(operator, of_int8=False):
    """As `fits_float`, and convolutions may have reduced weights."""
    if operator.name in CONVOLUTIONS:
        return not _REDUCED & {operator.inputs[0], *operator.outputs}
    return fits_float(operator)


def fits_int8(operator, of_int8):
    """Values, weights and results in int8 where a layer is to be int8, else float.

    The table of a refinement may be restored from float16.
    """
    if operator.name == "DEQUANTIZE":
        return _reads_bytes(operator) or (operator.inputs == ("float16",) and not of_int8)
    if operator.name == "QUANTIZE":
        return True
    if not of_int8:
        return fits_float(operator)
    if operator.name in CONVOLUTIONS:
        return (*operator.inputs[:2], *operator.outputs) == ("int8",) * 3
    return {*operator.inputs, *operator.outputs} <= {"int8", "int32"}  # of shapes and biases


def fits_int8_only(operator, of_int8=True):
    """No float at all, but for an image of floats that is quantized first."""
    floats = "float32" in operator.outputs or "float32" in operator.inputs
    return not floats or (operator.name == "QUANTIZE" and operator.of_input)


def missing_float16(operators):
    """Each convolution's weights are float16 in the file."""
    convolutions = sum(o.name in CONVOLUTIONS for o in operators)
    halves = sum(o.name == "DEQUANTIZE" and o.inputs == ("float16",) for o in operators)
    if halves < convolutions:
        return f"Expected float16 weights in {convolutions} convolutions. Received: {halves}"
    return None


def missing_int8_weights(operators):
    """Some convolution has int8 weights; TensorFlow leaves those with few weights in float."""
    if any(o.name in CONVOLUTIONS and o.inputs[1] == "int8" for o in operators):
        return None
    return "Expected convolutions with int8 weights. Received none."


def reduce_weights(converter):
    """Int8 weights, of which TensorFlow restores or quantizes what it computes with."""
    import tensorflow as tf

    converter.optimizations = [tf.lite.Optimize.DEFAULT]


def reduce_weights_to_float16(converter):
    """Float16 weights."""
    import tensorflow as tf

    reduce_weights(converter)
    converter.target_spec.supported_types = [tf.float16]


MODES = {
    "float32": Mode("float32 throughout", {"max": 1e-3, "nme": 1e-3}, fits_float),
    "float16": Mode(
        "float16 weights, the same computation",
        {"mean": 0.02, "nme": 2e-3},
        fits_float16,
        missing_float16,
        reduce_weights_to_float16,
    ),
    "dynamic": Mode(
        "int8 weights, inputs of convolutions quantized as they come",
        {"mean": 0.3, "nme": 0.02},
        fits_dynamic,
        missing_int8_weights,
        reduce_weights,
        integers=True,
    ),
    "int8": Mode(
        "int8 weights and values, fitted to representative images",
        {"mean": 0.15, "nme": 0.01},
        fits_int8,
        integers=True,
        calibrated=True,
    ),
}


def _reads_bytes(operator):
    return operator.inputs[0] in BYTES
