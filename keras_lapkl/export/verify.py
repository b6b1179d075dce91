"""Whether a written .tflite file is what was asked for: types, operators, signature, parity."""

import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from keras_lapkl import heatmaps
from keras_lapkl._support.types import PathLike
from keras_lapkl.export.modes import CONVOLUTIONS, MODES, fits_int8_only
from keras_lapkl.tflite import compatibility, flatbuffer, inspection, runner
from keras_lapkl.tflite.targets import TARGETS

_BESIDE = {"xnnpack": None, "cmsis-nn": "micro"}
"""Whose list must hold all, where kernels of the same program run the rest: None for anything."""


class ConversionError(ValueError):
    """A conversion gave a file that is not what was asked for; the file was not put in place.

    Example:

    >>> try:
    ...     convert(model, "model.tflite", "float16", faces=validation, bounds={"max": 0.0})
    ... except ConversionError as error:
    ...     print(error)
    """


def check_signature(
    path: PathLike,
    input_dtype: str,
    image_size: int,
    outputs: Mapping[str, Any],
    output_dtype: str = "float32",
) -> None:
    """ConversionError unless the file maps `image` to outputs of some shapes and one type.

    Args:
        path: a .tflite file.
        input_dtype: of the image, (1, image_size, image_size, 3).
        image_size: S.
        outputs: dict of shapes.
        output_dtype: of all outputs.
    """
    found = inspection.describe(path)
    image = {"name": runner.INPUT, "shape": [1, image_size, image_size, 3], "dtype": input_dtype}
    expected = {"signature": runner.SIGNATURE, "inputs": [image]}
    for key, value in expected.items():
        if found[key] != value:
            raise ConversionError(f"{key}: expected {value}. Received: {found[key]}")
    received = {o["name"]: (o["shape"], o["dtype"]) for o in found["outputs"]}
    wanted = {name: (list(shape), output_dtype) for name, shape in outputs.items()}
    if received != wanted:
        raise ConversionError(f"outputs: expected {wanted}. Received: {received}")


def of_layers(operator: inspection.Operator, layers: Iterable[str]) -> bool:
    """Whether an operator comes from a Keras layer whose name begins with one of `layers`."""
    return any(f"/{layer}" in operator.result for layer in layers)


def check_operators(
    path: PathLike, mode: str, int8_layers: Sequence[str] = (), whole: bool = False
) -> None:
    """ConversionError unless all operators are TFLite's own and of the types that `mode` means.

    Args:
        path: a .tflite file.
        mode: a name in `MODES`.
        int8_layers: how the names of the layers begin that are to be int8, in mode `"int8"`.
        whole: whether nothing may be float, in mode `"int8"`.
    """
    operators = inspection.operators(flatbuffer.read(path))
    fits = fits_int8_only if whole else MODES[mode].fits
    wrong = [o for o in operators if o.custom or not fits(o, of_layers(o, int8_layers))]
    if not any(o.name in CONVOLUTIONS for o in operators):
        raise ConversionError("Expected convolutions in the file. Received none.")
    missing = MODES[mode].missing(operators)
    if missing:
        raise ConversionError(missing)
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


def check_target(path: PathLike, target: str) -> dict[str, Any]:
    """What `compatibility.check` finds of a file, with what the target's own tools say.

    Args:
        path: a .tflite file.
        target: a name in `TARGETS`.

    Returns:
        As `compatibility.check` of this target, with `own_tools`.

    Raises:
        ConversionError: operators fall back that the target does not run; with the table of them.
    """
    found = compatibility.check(path, [target], own_tools=True)
    needed = _BESIDE.get(target, target)
    if needed is not None:
        needs = found if needed == target else compatibility.check(path, [needed])
        if compatibility.falls_back(needs):
            raise ConversionError(
                f"The file does not fit {TARGETS[needed].title}:\n{compatibility.page(needs)}"
            )
    return found


def predict_by_file(path: PathLike, images: NDArray[Any], beta: float) -> dict[str, NDArray[Any]]:
    """Landmarks and scales by a file, whatever of the two or logits it gives."""
    if inspection.describe(path)["outputs"][0]["name"] != runner.LOGITS:
        return runner.TFLiteLocalizer(path).predict(images)
    interpreter = runner.load_interpreter(path)
    (image,), (logits,) = interpreter.get_input_details(), interpreter.get_output_details()
    found = []
    for each in images:
        interpreter.set_tensor(image["index"], runner.as_input(each, image))
        interpreter.invoke()
        maps = runner.dequantized(interpreter.get_tensor(logits["index"]), logits)
        found.append([value[0] for value in heatmaps.decode(maps[None], beta)])
    return dict(zip(runner.OUTPUTS, np.swapaxes(found, 0, 1), strict=True))


def parity(
    received: Mapping[str, NDArray[Any]], expected: Mapping[str, NDArray[Any]]
) -> dict[str, Any]:
    """Distances between a file's outputs and expected ones, in pixels.

    Args:
        received, expected: dicts of `landmarks` and `scale`, each (N, K, 2).

    Returns:
        dict: `images`, their number; `landmarks` and `scale`, each a dict of `mean` and `max`.
    """
    distances = {
        name: np.linalg.norm(received[name] - expected[name], axis=-1) for name in runner.OUTPUTS
    }
    return {
        "images": len(received["landmarks"]),
        **{n: {"mean": float(d.mean()), "max": float(d.max())} for n, d in distances.items()},
    }


class LayerError(NamedTuple):
    """How far the values of a layer in a file are from a reference's, as a share of their size."""

    layer: str
    dtype: str
    error: float


def layer_errors(path: PathLike, reference: PathLike, images: NDArray[Any]) -> list[LayerError]:
    """Errors of the convolutions of a file, in the order in which they run.

    Each is √(Σ(received − reference)² / Σ reference²) over the images, of all that the layer and
    those before it lost: where it rises, the loss is made.

    Args:
        path, reference: .tflite files whose tensors have the same names.
        images: (N, S, S, 3), as `TFLiteLocalizer.predict` takes them; a few are enough.

    Returns:
        A list of `LayerError`.
    """
    operators = inspection.operators(flatbuffer.read(path))
    convolutions = [o for o in operators if o.name in CONVOLUTIONS]
    squares = np.zeros((2, len(convolutions)))
    both = [_results(file, convolutions, images) for file in (path, reference)]
    for found, expected in zip(*both, strict=True):
        for i, (received, truth) in enumerate(zip(found, expected, strict=True)):
            squares[:, i] += np.sum((received - truth) ** 2), np.sum(truth**2)
    return [
        LayerError(_layer(o.result), o.outputs[0], float(np.sqrt(lost / size)))
        for o, (lost, size) in zip(convolutions, squares.T, strict=True)
    ]


def _results(path, operators, images):
    """For each image, what operators wrote, by the names of their results: a list of arrays."""
    with warnings.catch_warnings(action="ignore"):  # it is slow: so it may be
        interpreter = runner.load_interpreter(path, experimental_preserve_all_tensors=True)
    by_name = {tensor["name"]: tensor for tensor in interpreter.get_tensor_details()}
    (image,) = interpreter.get_input_details()
    for each in images:
        interpreter.set_tensor(image["index"], runner.as_input(each, image))
        interpreter.invoke()
        values = []
        for operator in operators:
            tensor = by_name[operator.result]
            value = interpreter.get_tensor(tensor["index"]).astype(np.float32)
            values.append(runner.dequantized(value, tensor))
        yield values


def _layer(result):
    """Name of the Keras layer that wrote a tensor, from the tensor's."""
    return re.sub(r"_\d+$", "", result.split("/")[1])


def out_of_bounds(measured: Mapping[str, Any], bounds: Mapping[str, float]) -> str | None:
    """What is wrong with a `parity`, or None if each of `bounds` holds.

    Args:
        measured: as `parity` gives it, with `nme` and `nme_keras` if labels are known.
        bounds: by `"mean"` or `"max"`, pixels; by `"nme"`, the growth of the error that is allowed,
            as a share of Keras's.
    """
    if "nme" in bounds and "nme" in measured:
        growth = measured["nme"] / measured["nme_keras"] - 1
        if not growth <= bounds["nme"]:
            return (
                f"NME on {measured['images']} faces: expected at most {100 * bounds['nme']:g} % "
                f"above Keras's {measured['nme_keras']:.3f} %. Received: {measured['nme']:.3f} %, "
                f"{100 * growth:.2g} % above"
            )
    for name in runner.OUTPUTS:
        for statistic in ("mean", "max"):
            bound, value = bounds.get(statistic), measured[name][statistic]
            if statistic in bounds and not value <= bound:  # so that NaN fails
                return (
                    f"Parity of {name} with Keras on {measured['images']} images: expected a "
                    f"{statistic} distance of at most {bound:g} px. Received: {value:.4g} px"
                )
    return None
