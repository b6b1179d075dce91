"""Whether a written .tflite file is what was asked for: types, operators, signature, parity."""

import numpy as np

from keras_lapkl.tflite import flatbuffer, inspect, runner

BODY = ("CONCATENATION", "CONV_2D", "LEAKY_RELU", "MAX_POOL_2D", "RESIZE_BILINEAR")
"""Operators of the network itself; all others belong to the decoding of its heatmaps."""

_REDUCED = {"float16", "int8", "uint8", "int16", "int4"}


class ConversionError(ValueError):
    """A conversion gave a file that is not what was asked for; the file was not put in place."""


def check_signature(path, image_size, num_landmarks):
    """ConversionError unless the file maps `image` to `landmarks` and `scale` in float32."""
    found = inspect.describe(path)
    expected = {
        "signature": runner.SIGNATURE,
        "inputs": [_float(runner.INPUT, [1, image_size, image_size, 3])],
        "outputs": [_float(name, [num_landmarks, 2]) for name in runner.OUTPUTS],
    }
    for key, value in expected.items():
        if found[key] != value:
            raise ConversionError(f"{key}: expected {value}. Received: {found[key]}")


def of_layers(operator, layers):
    """Whether an operator comes from a Keras layer whose name begins with one of `layers`."""
    return any(f"/{layer}" in operator.result for layer in layers)


def check_operators(path, mode, float_layers=()):
    """ConversionError unless all operators are TFLite's own and of the types that `mode` means.

    `"float32"`: no reduced type anywhere. `"int8"`: convolutions with int8 values, int8 weights
    and int8 results, the other operators of `BODY` with int8 values, and the rest float, as are
    the layers whose names begin with one of `float_layers`.
    """
    operators = inspect.operators(flatbuffer.read(path))
    wrong = [o for o in operators if o.custom or not _fits(o, mode, float_layers)]
    if not any(o.name == "CONV_2D" for o in operators):
        raise ConversionError("Expected convolutions in the file. Received none.")
    if wrong:
        lines = [
            f"  {'custom ' if o.custom else ''}{o.name}: {', '.join(o.inputs)} -> "
            f"{', '.join(o.outputs)}"
            for o in wrong
        ]
        raise ConversionError(
            f"Expected TFLite's own operators with the types of mode {mode!r}. Received "
            f"{len(wrong)} others:\n" + "\n".join(lines)
        )


def parity(path, images, expected):
    """Distances between the file's outputs and expected ones, in pixels.

    Args:
        path: a .tflite file.
        images: (N, S, S, 3), as `TFLiteLocalizer.predict` takes them.
        expected: dict of `landmarks` and `scale`, each (N, K, 2): Keras's `predict`.

    Returns:
        dict: `images`, their number; `landmarks` and `scale`, each a dict of `mean` and `max`.
    """
    received = runner.TFLiteLocalizer(path).predict(images)
    distances = {
        name: np.linalg.norm(received[name] - expected[name], axis=-1) for name in runner.OUTPUTS
    }
    return {
        "images": len(images),
        **{n: {"mean": float(d.mean()), "max": float(d.max())} for n, d in distances.items()},
    }


def out_of_bounds(measured, bounds):
    """What is wrong with a `parity`, or None if each of `bounds`, by `mean` or `max`, holds."""
    for name in runner.OUTPUTS:
        for statistic, bound in bounds.items():
            value = measured[name][statistic]
            if not value <= bound:  # so that NaN fails
                return (
                    f"Parity of {name} with Keras on {measured['images']} images: expected a "
                    f"{statistic} distance of at most {bound:g} px. Received: {value:.4g} px"
                )
    return None


def _float(name, shape):
    return {"name": name, "shape": shape, "dtype": "float32"}


def _fits(operator, mode, float_layers):
    dtypes = (*operator.inputs, *operator.outputs)
    if operator.name in ("QUANTIZE", "DEQUANTIZE"):
        return mode == "int8"
    if mode == "float32" or of_layers(operator, float_layers):
        return not _REDUCED & set(dtypes)
    if operator.name == "CONV_2D":
        return (*operator.inputs[:2], *operator.outputs) == ("int8",) * 3
    if operator.name in BODY:
        return (operator.inputs[0], *operator.outputs) == ("int8", "int8")
    return not _REDUCED & set(dtypes)
