"""The models that are shipped in this package, by name."""

import pathlib

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

SUFFIXES = (".keras", ".tflite", "-int8.tflite", ".md")


def path(name, suffix=".keras"):
    """The file of a shipped model.

    Args:
        name: one of `NAMES`.
        suffix: `".keras"`, float32; `".tflite"`, float16 weights and float32 values, as exact as
            Keras; `"-int8.tflite"`, int8 throughout but for the decoding, the fastest; or `".md"`,
            the model's card with the errors of each.

    Raises:
        ValueError: no such model or suffix.

    Example:

    >>> path("fpn-eighth-300w", ".tflite").name
    'fpn-eighth-300w.tflite'
    """
    if name not in NAMES or suffix not in SUFFIXES:
        raise ValueError(
            f"Expected a model of {NAMES} and a suffix of {SUFFIXES}. Received: {name!r}, "
            f"{suffix!r}"
        )
    return pathlib.Path(__file__).resolve().parent / "weights" / f"{name}{suffix}"
