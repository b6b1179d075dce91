"""The models that are shipped in this package, by name."""

import pathlib
from collections.abc import Sequence

from keras_lapkl._support.types import PathLike

NAMES = (
    "fpn-eighth-300w",
    "fpn-sixteenth-300w",
    "fpn-eighth-112-300w",
    "fpn-sixteenth-112-300w",
    "fpn-quarter-112-300w",
)
"""MobileFPN of width 1/8, 1/16 and 1/4, 68 points, 300-W: for non-commercial research only.

Those with 112 take crops of 112×112 pixels in place of 80×80: at the same width twice the work
and a smaller error.
"""

MICRO_NAMES = ("fpn-sixteenth-micro",)
"""Models cut for microcontrollers, 80×80: a `.tflite` file in int8 and a card alone."""

SUFFIXES = (".keras", ".tflite", "-int8.tflite", ".md")
MICRO_SUFFIXES = (".tflite", ".md")
KINDS = (".keras", ".tflite")
_WEIGHTS = pathlib.Path(__file__).resolve().parent / "weights"


def path(name: str, suffix: str = ".keras") -> pathlib.Path:
    """The file of a shipped model.

    Args:
        name: one of `NAMES`, or of `MICRO_NAMES`, which have `MICRO_SUFFIXES` alone.
        suffix: `".keras"`, float32; `".tflite"`, float16 weights and float32 values, as exact as
            Keras; `"-int8.tflite"`, int8 but for the decoding and stages that it would harm, the
            smallest; or `".md"`, the model's card with the errors of each.

    Raises:
        ValueError: no such model or suffix.

    Example:

    >>> path("fpn-eighth-300w", ".tflite").name
    'fpn-eighth-300w.tflite'
    """
    suffixes = MICRO_SUFFIXES if name in MICRO_NAMES else SUFFIXES
    if name not in (*NAMES, *MICRO_NAMES) or suffix not in suffixes:
        raise ValueError(
            f"Expected a model of {(*NAMES, *MICRO_NAMES)} and a suffix of {suffixes}. Received: "
            f"{name!r}, {suffix!r}"
        )
    return _WEIGHTS / f"{name}{suffix}"


def resolve(name_or_path: PathLike, kinds: Sequence[str] = KINDS) -> pathlib.Path:
    """The file of a model that is given by a shipped model's name or by a path.

    Args:
        name_or_path: one of `NAMES`, with `-int8` at its end for the int8 file, or with the suffix
            of the file that is meant; or the path of a file. A file that exists goes first.
        kinds: some of `KINDS` that will do, the preferred one first.

    Raises:
        FileNotFoundError: a path of no file.
        ValueError: neither a shipped model nor a path with one of the suffixes.

    Example:

    >>> resolve("fpn-eighth-300w-int8").name
    'fpn-eighth-300w-int8.tflite'
    """
    given = pathlib.Path(name_or_path)
    if given.suffix in kinds and given.is_file():
        return given
    for suffix in ("", *kinds):
        name = f"{name_or_path}{suffix}"
        if name in _files(kinds):
            return _WEIGHTS / name
    shipped = f"Shipped models: {', '.join(NAMES)}" + (
        f", with -int8 at the end for int8; and {', '.join(MICRO_NAMES)}."
        if ".tflite" in kinds
        else "."
    )
    if given.suffix in kinds:
        raise FileNotFoundError(f"There is no model at {given}. {shipped}")
    raise ValueError(
        f"Expected a {' or '.join(kinds)} file, or a shipped model's name. Received: "
        f"{str(name_or_path)!r}. {shipped}"
    )


def _files(kinds):
    """Names of the shipped files of some kinds."""
    whole = {f"{name}{suffix}" for name in NAMES for suffix in SUFFIXES}
    micro = {f"{name}{suffix}" for name in MICRO_NAMES for suffix in MICRO_SUFFIXES}
    return {file for file in whole | micro if file.endswith(tuple(kinds))}
