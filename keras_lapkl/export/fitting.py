"""What `convert` chooses so that a file fits a target, and whether it does."""

from typing import Any

from keras_lapkl._support.types import PathLike
from keras_lapkl.export.verify import ConversionError
from keras_lapkl.tflite import compatibility
from keras_lapkl.tflite.targets import TARGETS

_FLOAT = {"mode": "float16"}
_INT8 = {"mode": "int8", "input_dtype": "int8", "output_dtype": "int8", "decode": False}

CHOICES: dict[str, dict[str, Any]] = {
    name: {**choices, "target": name}
    for name, choices in {
        "xnnpack": _FLOAT,
        "gpu": _FLOAT,
        "coreml": _FLOAT,
        "nnapi": _FLOAT,
        "qualcomm": _FLOAT,
        "edgetpu": _INT8,
        "micro": _INT8,
        "cmsis-nn": _INT8,
        "ethos-u": _INT8,
    }.items()
}
"""Arguments of `convert` by the names of `TARGETS`."""

_BESIDE = {"xnnpack": None, "cmsis-nn": "micro"}
"""Whose list must hold all, where kernels of the same program run the rest: None for anything."""


def check_name(target: str | None) -> None:
    """ValueError unless it is None or the name of a target."""
    if target is not None and target not in CHOICES:
        raise ValueError(f"`target` must be one of {tuple(CHOICES)}. Received: {target!r}")


def check(path: PathLike, target: str) -> dict[str, Any]:
    """What `compatibility.check` finds of a file, with what the target's own tools say.

    Args:
        path: a .tflite file.
        target: a name in `CHOICES`.

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
