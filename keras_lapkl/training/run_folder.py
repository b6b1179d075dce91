"""What a training run keeps in its folder."""

import contextlib
import csv
import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from keras_lapkl import schemes
from keras_lapkl._support.files import (
    is_whole_zip,
    read_arrays,
    read_json,
    replacing,
    write_json,
)
from keras_lapkl._support.folders import (
    OtherDataError,
    claim,
    compare,
    first_fitting,
    foreign,
    read_claim,
)
from keras_lapkl._support.locks import check_owned
from keras_lapkl._support.types import PathLike
from keras_lapkl.data.crops import Crops
from keras_lapkl.data.origins import RUN
from keras_lapkl.data.unlabeled.crops import UnlabeledCrops
from keras_lapkl.loading import load_model
from keras_lapkl.training import distillation, distributed, run_data
from keras_lapkl.training.recipe import Recipe

LAST, PREVIOUS = "last.keras", "last.previous.keras"
MEANS = "last.means.npz"
"""Of the epoch's steps so far, if `LAST` was written within an epoch."""
TEACHERS = ("teacher", "supervised_teacher")
"""Folders of the wider networks' runs, whose models label the faces without labels."""
OUTPUTS = (
    *("model.keras", "adversarial.keras", LAST, PREVIOUS, MEANS),
    *("history.csv", "results.json", "pseudo_labels.npy", "pseudo_labels.parts"),
)
"""What a run writes, beside its settings and its crops."""
_OTHER = "a run with other settings"
_IN_RESULTS = {"validation", "parameters", "seconds_of_training", "epochs_in_those_seconds"}
"""What those who train need of a `results.json`."""


class Identity:
    """What tells a run from others: its settings, and the data that it has.

    Args:
        recipe, crops, validation, unlabeled: as `train` takes them.
    """

    def __init__(
        self, recipe: Recipe, crops: Crops, validation: Crops, unlabeled: UnlabeledCrops | None
    ) -> None:
        self.settings = _settings(recipe, crops)
        self.summaries = {
            "data": crops.summary,
            "unlabeled_data": unlabeled and unlabeled.summary,
            "validation_data": validation.summary,
        }
        self.data = run_data.of_run(recipe, crops, validation, unlabeled)

    def check(self, folder: Path) -> dict[str, Any]:
        """Refuses a folder that holds another run; the content of its `RUN`.

        Raises:
            OtherDataError: it is one of the same settings on other data, or can't tell on which.
            OtherSettingsError: its settings are others.
        """
        path = folder / RUN
        # Runs of earlier versions have one line on their data among the settings, and no digest.
        ours = {**self.settings, **self.summaries} if _is_old(read_claim(path)) else self._record
        held = compare(path, ours, _OTHER)
        clause = run_data.difference(folder, held.get("digests"), self.data)
        if clause is not None:
            raise OtherDataError(f"{folder} {clause}")
        return held

    def claim(self, folder: Path) -> None:
        """Marks a folder as that of this run, or refuses it, as `check` does.

        Raises:
            ValueError: as `check`, or it holds files that the run would replace.
        """
        path = folder / RUN
        if not path.exists():
            claim(path, self._record, _OTHER, OUTPUTS)
        held = self.check(folder)
        if (folder / "results.json").exists():
            return  # it is only read
        if not (folder / run_data.FACES).exists():
            run_data.write_faces(folder, self.data)
        if held["loaded"] != self.data.loaded:  # the same data, from another place
            write_json(path, {**held, "loaded": self.data.loaded})

    @property
    def _record(self) -> dict[str, Any]:
        return {
            "settings": self.settings,
            "data": self.summaries,
            "digests": self.data.totals(),
            "loaded": self.data.loaded,
        }


def _settings(recipe, crops):
    return {
        **dataclasses.asdict(recipe),
        "crop_scale": crops.crop_scale,
        "image_size": crops.image_size,
        "scheme": None if crops.scheme in schemes.BUILT_IN else crops.scheme.to_config(),
    }


def _is_old(held):
    return "settings" not in held


def check_settings(
    output_dir: PathLike, recipe: Recipe, crops: Crops, others: Sequence[Recipe] = ()
) -> None:
    """Refuses a folder that holds a run with other settings, before any work is done for it.

    Args:
        output_dir: the folder.
        recipe, crops: as `train` takes them.
        others: as in `choose_folder`.

    Raises:
        OtherSettingsError: with each setting that differs from the recipe's.
    """
    path = Path(output_dir) / RUN
    if not path.exists() or _is_old(read_claim(path)) or _holds_one(path, others, crops):
        return
    compare(path, {"settings": _settings(recipe, crops)}, _OTHER)


def _holds_one(path, recipes, crops):
    """Whether the run of a file has the settings of one of these recipes."""
    for each in recipes:
        with contextlib.suppress(ValueError):
            compare(path, {"settings": _settings(each, crops)}, _OTHER)
            return True
    return False


def choose_folder(
    output_dir: PathLike,
    recipe: Recipe,
    crops: Crops,
    validation: Crops,
    unlabeled: UnlabeledCrops | None = None,
    others: Sequence[Recipe] = (),
) -> tuple[Path, str | None]:
    """The folder for a run: the one given, or beside it one for mended data.

    That is the first of `run`, `run-2`, `run-3` and so on that holds this very run, or none. A
    folder whose run had the same settings and other data is left as it is, and so is one of the
    settings that the same command takes for another number of labels.

    Args:
        output_dir: the folder given.
        recipe, crops, validation, unlabeled: as `train` takes them.
        others: the recipes of the same command for other numbers of labels, where it chooses one.

    Returns:
        The folder; and if it is not the one given, what differs there, one line.

    Raises:
        OtherSettingsError: the folder given holds a run with other settings.

    Example:

    >>> choose_folder("runs/first", recipe, crops, validation)
    (PosixPath('runs/first-2'), 'runs/first holds a run on other labels: …')
    """
    identity = Identity(recipe, crops, validation, unlabeled)

    def check(folder, given):
        if not (folder / RUN).exists():
            found = given is not None and foreign(folder, OUTPUTS)
            return f"{folder} holds files of another run." if found else None
        try:
            identity.check(folder)
        except OtherDataError as error:
            return str(error)
        except ValueError:
            if given is None and not _holds_one(folder / RUN, others, crops):
                raise
            return (
                f"{folder} holds a run with the settings for another number of labels than "
                f"{len(crops):,}."
            )
        return None

    return first_fitting(output_dir, check)


def load_pseudo_labels(recipe, unlabeled, output_dir, scheduler):
    """What the teachers find, kept in the run's folder: a run that goes on has the same.

    It is read as it is needed. Of several processes the first one has the faces labeled. Faces that
    come in another order, as where pictures were renamed, are labeled again, as those of a damaged
    file are.
    """
    path = output_dir / "pseudo_labels.npy"

    def read():
        return distillation.read_pseudo_labels(path, unlabeled)

    if distributed.is_chief() and read() is None:
        if path.exists():
            logging.warning(
                "%s is damaged, or has labels of faces in another order: they are made again.", path
            )
        teachers = [load_model(each) for each in recipe.teacher.models]
        distillation.write_pseudo_labels(
            path, teachers, unlabeled, recipe.teacher.max_scale, scheduler, distributed.wait
        )
    while distributed.any_process((labels := read()) is None):
        time.sleep(0.1)
    return labels


def last_checkpoint(output_dir):
    """The checkpoint to go on from, None in a new folder; the one before `LAST` if that is damaged.

    Raises:
        ValueError: there are checkpoints, and none is whole.
    """
    last, previous = output_dir / LAST, output_dir / PREVIOUS
    if is_whole_zip(last):
        return last
    if not last.exists() and not previous.exists():
        return None
    if not is_whole_zip(previous):
        raise ValueError(
            f"{last} and {previous.name}, the checkpoint before it, are damaged or gone: "
            "delete what is there of both, and the same command trains from the beginning."
        )
    if last.exists():
        logging.warning("%s is damaged: going on from the checkpoint before it.", last)
    return previous


def read_finished(output_dir):
    """The content of `results.json`, by which a run is finished.

    Raises:
        ValueError: it is damaged, or the model is.
    """
    results, model = output_dir / "results.json", output_dir / "model.keras"
    mend = f"Delete {results}, and the same command trains again"
    try:
        found = read_json(results)
    except ValueError as error:
        raise ValueError(f"{error}. {mend}.") from error
    right = isinstance(found, dict) and found.keys() >= _IN_RESULTS
    if not right or not isinstance(found["validation"], dict) or "nme" not in found["validation"]:
        raise ValueError(f"{results} is damaged: it is not as lapkl writes it. {mend}.")
    if not is_whole_zip(model):
        raise ValueError(f"{model} is damaged or gone. {mend}, and replaces the model.")
    return found


def write_means(output_dir, step, means):
    """Keeps the state of a model's metrics after a step."""
    with replacing(output_dir / MEANS) as temporary:
        np.savez(temporary, *means, step=step)


def read_means(output_dir, step):
    """The state of the metrics after this very step; empty if none was kept."""
    stored = read_arrays(output_dir / MEANS) or {}
    if stored.pop("step", None) != step:
        return []
    return [stored[f"arr_{i}"] for i in range(len(stored))]


def remove_checkpoints(output_dir):
    """What a finished run needs no more."""
    for path in (output_dir / PREVIOUS, output_dir / MEANS, output_dir / LAST):
        if path.exists():  # else nothing is written to a folder that may be read-only
            path.unlink()


def trim_history(path, epochs):
    """Drops the rows of epochs that will be trained again: a kill can leave one too many.

    A power cut can leave the beginning of one. Keras then adds to the file, through any link.
    """
    check_owned(path)
    if not path.exists():
        return
    with path.open(newline="", errors="replace") as file:
        header, *rows = list(csv.reader(line.replace("\0", "") for line in file)) or [[]]
    if not header:  # stopped in the first epoch; a line of nothing would pass for a header
        path.unlink()
        return
    kept = [row for row in rows if len(row) == len(header) and row[0].isdecimal()]
    with replacing(path) as temporary, temporary.open("w", newline="") as file:
        csv.writer(file).writerows([header, *(row for row in kept if int(row[0]) < epochs)])
