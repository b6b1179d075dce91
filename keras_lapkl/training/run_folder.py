"""What a training run keeps in its folder."""

import csv

import numpy as np

from keras_lapkl._support.files import replacing
from keras_lapkl.loading import load_model
from keras_lapkl.training import distillation, distributed


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


def trim_history(path, epochs):
    """Drops the rows of epochs that will be trained again: a kill can leave one too many."""
    if not path.exists():
        return
    with path.open(newline="") as file:
        rows = list(csv.reader(file))
    kept = [row for i, row in enumerate(rows) if i == 0 or int(row[0]) < epochs]
    with replacing(path) as temporary, temporary.open("w", newline="") as file:
        csv.writer(file).writerows(kept)
