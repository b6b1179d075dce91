"""Flags that several commands have; apart from `data_flags`, which load OpenCV.

Each function defines one, or some that belong together, for a command by its `__name__`.
"""

from typing import Any

from absl import flags

from keras_lapkl import pretrained
from keras_lapkl.registries import DETECTORS


def model_to_run(module: str) -> flags.FlagHolder:
    """Defines --model of commands that find landmarks with it, by default the first shipped one."""
    return flags.DEFINE_string(
        "model",
        pretrained.NAMES[0],
        "A shipped model's name, or a .tflite or .keras file.",
        **_of(module),
    )


def output_dir(module: str) -> flags.FlagHolder:
    """Defines --output_dir of commands that write several files of results."""
    return flags.DEFINE_string(
        "output_dir", None, "Folder of the results.", required=True, **_of(module)
    )


def detector(module: str, default: str = "auto") -> flags.FlagHolder:
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
        **_of(module),
    )


def passes(module: str) -> flags.FlagHolder:
    """Defines --passes; `module` is the `__name__` of the command, whose flag it is."""
    return flags.DEFINE_integer(
        "passes",
        2,
        "Passes over a face of a photo or of a video's frame, each on a better crop; the mean of "
        "those that agree is given.",
        1,
        **_of(module),
    )


def flip_average(module: str) -> flags.FlagHolder:
    """Defines --flip_average."""
    return flags.DEFINE_bool(
        "flip_average",
        False,
        "Average with the mirrored face; takes twice the time.",
        **_of(module),
    )


def crops(module: str) -> tuple[flags.FlagHolder, flags.FlagHolder, flags.FlagHolder]:
    """Defines --scheme, --crop_from and --image_size of labels that are trained on."""
    scheme = flags.DEFINE_string(
        "scheme",
        None,
        "Names, mirror pairs, edges: a .json file, ibug68 or aflw19; default the data's.",
        **_of(module),
    )
    crop_from = flags.DEFINE_enum(
        "crop_from",
        None,
        ["points", "box", "image"],
        "What keypoints are cropped by; default points.",
        **_of(module),
    )
    image_size = flags.DEFINE_integer(
        "image_size", 80, "Side of the crops, a multiple of 16.", **_of(module)
    )
    return scheme, crop_from, image_size


def scheduler(module: str, task: str = "do the work, on many machines") -> flags.FlagHolder:
    """Defines --scheduler.

    Args:
        module: `__name__` of the command, whose flag it is.
        task: what the workers do, for the help.
    """
    return flags.DEFINE_string(
        "scheduler",
        None,
        f"Address of a Dask scheduler, or its .json file: its workers {task}.",
        **_of(module),
    )


def resume(module: str) -> flags.FlagHolder:
    """Defines --resume."""
    return flags.DEFINE_bool(
        "resume",
        False,
        "Take over --output_dir from a machine that was lost: its process has ended.",
        **_of(module),
    )


def timing(module: str, judged: str) -> tuple[flags.FlagHolder, ...]:
    """Defines --model, --threads, --runs, --warmup and --budget_ms of commands that time files.

    Args:
        module: `__name__` of the command, whose flags they are.
        judged: what is held against the budget, such as `"mean"`.
    """
    model = flags.DEFINE_list(
        "model",
        None,
        ".tflite files or shipped models' names, by commas.",
        required=True,
        **_of(module),
    )
    threads = flags.DEFINE_list(
        "threads", ["1"], "One or more numbers of threads, by commas.", **_of(module)
    )
    flags.register_validator(
        "threads",
        lambda values: values and all(v.strip().isdecimal() and int(v) > 0 for v in values),
        "must be whole numbers from 1 on, by commas, such as 1,2",
    )
    runs = flags.DEFINE_integer("runs", 200, "Timed runs of each.", lower_bound=1, **_of(module))
    warmup = flags.DEFINE_integer(
        "warmup", 20, "Runs of each before them.", lower_bound=0, **_of(module)
    )
    budget = flags.DEFINE_float(
        "budget_ms", None, f"Exit with 1 if a {judged} is over it.", lower_bound=0, **_of(module)
    )
    return model, threads, runs, warmup, budget


def _of(module) -> dict[str, Any]:
    """Whose flag it is, for the help; the types of absl leave the argument out."""
    return {"module_name": module}
