"""Which labeled data a model had: kept beside its file, for the steps that come after training."""

import dataclasses
from pathlib import Path
from typing import Any

from keras_lapkl._support.files import read_json
from keras_lapkl._support.types import PathLike

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
    digests = data.get("digests")
    digests = digests if isinstance(digests, dict) else {}
    known = {part: each for part, each in loaded.items() if each is not None}
    return Origin(file, known, {part: str(digests.get(part)) for part in known if part in digests})


def _is_loaded(part):
    return (
        isinstance(part, dict)
        and {"dataset", "split"} <= set(part)
        and all(name in _KINDS and isinstance(value, _KINDS[name]) for name, value in part.items())
    )
