"""Which arguments of `convert`, and flags of `lapkl convert`, go together.

Neither TensorFlow nor Keras is imported, so that the command can refuse them at once.
"""

from typing import Any

from keras_lapkl.export.modes import MODES
from keras_lapkl.tflite.runner import BYTES

INPUTS = ("float32", *BYTES)
"""Types that the image may have."""

OUTPUTS = ("float32", "int8")
"""Types that what the file gives may have."""

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


def check_choices(
    mode: str,
    *,
    input_dtype: str = "float32",
    output_dtype: str = "float32",
    with_heatmaps: bool = False,
    decode: bool = True,
    flip_average: bool = False,
    target: str | None = None,
) -> None:
    """ValueError unless these say a file that can be made.

    Args:
        mode, input_dtype, output_dtype, with_heatmaps, decode, flip_average, target: as
            `convert` takes them.

    Example:

    >>> check_choices("int8", output_dtype="int8", decode=False)
    """
    for name, value, allowed in (
        ("mode", mode, tuple(MODES)),
        ("input_dtype", input_dtype, INPUTS),
        ("output_dtype", output_dtype, OUTPUTS),
        ("target", target, (None, *CHOICES)),
    ):
        if value not in allowed:
            raise ValueError(f"`{name}` must be one of {allowed}. Received: {value!r}")
    if with_heatmaps and not decode:
        raise ValueError(
            "With --no_decode (`decode=False`) the file gives logits alone: drop --heatmaps "
            "(`with_heatmaps`)."
        )
    if flip_average and (with_heatmaps or not decode):
        logits = "--no_decode, or a --target that gives logits (`decode=False`)"
        other = "--heatmaps (`with_heatmaps`)" if with_heatmaps else logits
        raise ValueError(
            "--flip_average (`flip_average`) gives landmarks and scales alone, no heatmaps and no "
            f"logits: drop {other}."
        )
    if output_dtype == "int8" and (mode != "int8" or decode):
        raise ValueError(
            "--output_dtype=int8 (`output_dtype`) needs --mode=int8 (`mode`) and --no_decode "
            "(`decode=False`): an int8 softmax would be wrong by pixels. Received: mode "
            f"{mode!r}, decode={decode}"
        )
