"""The flag by which commands name a face detector; apart from `data_flags`, which load OpenCV."""

from absl import flags

from keras_lapkl.registries import DETECTORS


def define(module: str, default: str = "auto") -> flags.FlagHolder:
    """Defines --detector.

    Args:
        module: `__name__` of the command, whose flag it is.
        default: a name in `DETECTORS`.
    """
    return flags.DEFINE_enum(
        "detector",
        default,
        list(DETECTORS),
        "Finds the faces; auto is BlazeFace, and YuNet where there may be small faces.",
        module_name=module,
    )
