"""Which labeled data a model had: kept beside its file, for the steps that come after training."""

import contextlib
import dataclasses
from pathlib import Path
from typing import Any

from absl import logging

from keras_lapkl._support.files import read_json, write_json
from keras_lapkl._support.locks import refuse_link
from keras_lapkl._support.types import PathLike
from keras_lapkl.data import digests

RUN = "run.json"
"""The file of a run's settings and data, beside its models."""
_MODELS = ("model.keras", "adversarial.keras", "last.keras", "last.previous.keras")
_KINDS = {
    "dataset": str,
    "data_dir": (str, type(None)),
    "split": str,
    "category": (str, type(None)),
    "skip_bad": bool,
    "num_synthetic": int,
    "hold_out": bool,
}


@dataclasses.dataclass(frozen=True)
class Origin:
    """The data of a model.

    Attributes:
        file: where it stands.
        loaded: by `training` and `validation`, the arguments of `data.load` that gave them.
        digests: of the same, as `Digests.total` gives them; empty where they are not known.
    """

    file: Path
    loaded: dict[str, dict[str, Any]]
    digests: dict[str, str]


def read(path: PathLike) -> Origin | None:
    """Which data a model's file had: by its run's `run.json`, or the report of its conversion.

    Args:
        path: of a .keras file of a run, or of a .tflite file by `lapkl convert`.

    Returns:
        An `Origin`; None where nothing is known, such as of a model that was moved away alone.

    Raises:
        ValueError: the record is damaged.

    Example:

    >>> read("runs/mine/model.keras").loaded["training"]["split"]
    'train'
    """
    path = Path(path)
    file = Path(f"{path}.json") if path.suffix == ".tflite" else path.with_name(RUN)
    if (path.suffix != ".tflite" and path.name not in _MODELS) or not file.is_file():
        return None
    data = read_json(file)
    written = data.get("digest") if isinstance(data, dict) else None  # of a run there is none
    if written is not None and written != f"{digests.of_file(path):016x}":
        logging.warning("%s is of another file than %s, and is not used.", file, path)
        return None
    loaded = data.get("loaded") if isinstance(data, dict) else None
    if loaded is None:  # of an earlier version
        return None
    if not isinstance(loaded, dict) or not all(
        part is None or _is_loaded(part) for part in loaded.values()
    ):
        raise ValueError(
            f"{file} is damaged: expected in `loaded` how the data of {path.name} were loaded. "
            "Name them by --dataset and --data_dir, and move that file away."
        )
    found = data.get("digests")
    found = found if isinstance(found, dict) else {}
    known = {part: each for part, each in loaded.items() if each is not None}
    return Origin(file, known, {part: str(found.get(part)) for part in known if part in found})


def check_report(path: PathLike) -> None:
    """Refuses, before the work, a file beside a .tflite file that `write` would replace.

    Raises:
        ValueError: there is a file of the report's name, and it is no report.
    """
    file = Path(f"{path}.json")
    if not file.exists():
        return
    with contextlib.suppress(ValueError):
        data = read_json(file)
        if isinstance(data, dict) and {"digest", "loaded"} <= data.keys():
            return
    raise ValueError(f"{file} is there already, and would be replaced: move it away.")


def write(path: PathLike, report: dict[str, Any]) -> None:
    """Writes the report of a conversion beside a .tflite file, with what tells it from others.

    Args:
        path: of the .tflite file, which is there.
        report: with `loaded`, as `Origin` has it.
    """
    refuse_link(f"{path}.json")
    write_json(f"{path}.json", {**report, "digest": f"{digests.of_file(path):016x}"})


def _is_loaded(part):
    return (
        isinstance(part, dict)
        and {"dataset", "split"} <= set(part)
        and all(name in _KINDS and isinstance(value, _KINDS[name]) for name, value in part.items())
    )
