"""What a training run keeps in its folder."""

import csv

import numpy as np
from absl import logging

from keras_lapkl._support.files import is_whole_zip, replacing
from keras_lapkl.loading import load_model
from keras_lapkl.training import distillation, distributed

LAST, PREVIOUS = "last.keras", "last.previous.keras"
OUTPUTS = (
    *("model.keras", "adversarial.keras", LAST, PREVIOUS),
    *("history.csv", "results.json", "pseudo_labels.npy"),
)
"""What a run writes, beside its settings and its crops."""


def load_pseudo_labels(recipe, unlabeled, output_dir):
    """What the teacher finds, kept in the run's folder: a run that goes on has the same."""
    path = output_dir / "pseudo_labels.npy"
    if path.exists():
        return np.load(path)
    labels = distillation.pseudo_labels(
        load_model(recipe.teacher.model), unlabeled, recipe.teacher.max_scale
    )
    if distributed.is_chief():
        with replacing(path) as temporary:
            np.save(temporary, labels)
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
            f"{last} is damaged, and there is no whole checkpoint before it: delete it, and the "
            "same command trains from the beginning."
        )
    if last.exists():
        logging.warning("%s is damaged: going on from the checkpoint before it.", last)
    return previous


def remove_checkpoints(output_dir):
    """What a finished run needs no more."""
    for path in (output_dir / PREVIOUS, output_dir / LAST):
        if path.exists():  # else nothing is written to a folder that may be read-only
            path.unlink()


def trim_history(path, epochs):
    """Drops the rows of epochs that will be trained again: a kill can leave one too many.

    A power cut can leave the beginning of one.
    """
    if not path.exists():
        return
    with path.open(newline="", errors="replace") as file:
        header, *rows = list(csv.reader(line.replace("\0", "") for line in file)) or [[]]
    kept = [row for row in rows if len(row) == len(header) and row[0].isdecimal()]
    with replacing(path) as temporary, temporary.open("w", newline="") as file:
        csv.writer(file).writerows([header, *(row for row in kept if int(row[0]) < epochs)])
