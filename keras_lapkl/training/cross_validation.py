"""Predictions for all faces of a set, each by a model that was not trained on it."""

import dataclasses
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging
from numpy.typing import NDArray

from keras_lapkl._support.types import PathLike
from keras_lapkl.data.crops import Crops
from keras_lapkl.loading import load_model
from keras_lapkl.training.recipe import Recipe, read_recipe
from keras_lapkl.training.run import train

_BLOCK = 25
"""Faces in a block of neighbors, at least where there are enough: a second of a video."""
_BATCH_SIZE, _EPOCH = 8, 100
_SECONDS_A_STEP, _SECONDS_A_MODEL = 0.02, 20.0
"""On one core of a server, of the recipe by `small_recipe` on crops of 80 pixels."""


def folds(
    names: Sequence[str], count: int = 5, groups: Sequence[int] | NDArray[Any] | None = None
) -> NDArray[np.int64]:
    """Deals faces out to folds by blocks of neighbors, frames of a video being nearly the same.

    In the order of their names, numbers in them as numbers, faces are cut into blocks of equal
    size, 25 faces or more where there are enough. The blocks go to the folds in turn. Faces of one
    picture stay together, and so do those of one group.

    Args:
        names: of the N pictures, with their folders; one comes again for each face in it.
        count: how many folds, from 2 on.
        groups: (N,) equal for pictures that are the same, as `duplicates.groups` gives them.

    Returns:
        (N,) the fold of each, from 0 on.

    Raises:
        ValueError: fewer different pictures than folds, or fewer than two folds.

    Example:

    >>> folds(["img1.png", "img10.png", "img2.png", "img11.png"], count=2)
    array([0, 1, 0, 1])
    """
    units = _units(names, groups)
    members: dict[int, list[int]] = {}
    for i in sorted(range(len(names)), key=lambda i: _natural(names[i])):
        members.setdefault(units[i], []).append(i)
    if not 2 <= count <= len(members):
        raise ValueError(
            f"Expected 2 folds or more, and at most one for each picture that no other repeats. "
            f"Received: {count} folds of {len(members):,} pictures"
        )
    blocks = max(count, len(names) // _BLOCK // count * count)
    found, place = np.zeros(len(names), np.int64), 0
    for left, unit in zip(range(len(members), 0, -1), members.values(), strict=True):
        # Groups may be larger than a block: what comes last must not be all in one fold.
        found[unit] = max(place * blocks // len(names), count - left) % count
        place += len(unit)
    return np.unique(found, return_inverse=True)[1]


def _units(names, groups):
    """(N,) equal for faces that must stay together: those of one picture, or of one group."""
    first: dict[Any, int] = {}
    by_name = [first.setdefault(name, i) for i, name in enumerate(names)]
    return by_name if groups is None else [int(group) for group in groups]


def _natural(name):
    """A key by which `img2` is before `img10`."""
    parts = enumerate(re.split(r"(\d+)", name))
    return [(int(part), "") if i % 2 else (-1, part) for i, part in parts]


def small_recipe(faces: int, steps: int) -> Recipe:
    """Recipe for models that need only be good enough to find gross faults: MobileFPN 1/8 by Muon.

    Args:
        faces: to train on.
        steps: of training, at least.

    Example:

    >>> small_recipe(1600, 1500).epochs
    15
    """
    epochs = max(1, round(steps / _EPOCH))
    return dataclasses.replace(
        read_recipe("few_labels"),
        epochs=epochs,
        steps_per_epoch=-(-steps // epochs),
        batch_size=min(_BATCH_SIZE, faces),
    )


def cost(folds: int, steps: int) -> str:
    """One line on what `predict` is about to do, by `small_recipe`."""
    minutes = folds * (steps * _SECONDS_A_STEP + _SECONDS_A_MODEL) / 60
    return (
        f"{folds} models of {steps:,} steps each, about {max(1, round(minutes))} minutes on an "
        "idle server; what is finished is not trained again."
    )


def predict(
    crops: Crops,
    fold_of: NDArray[Any],
    recipe: Recipe,
    output_dir: PathLike,
    provenance: dict[str, Any] | None = None,
) -> dict[str, NDArray[Any]]:
    """Trains a model for each fold on all other folds, and has it predict its own.

    Each is a run of `train` in a folder of its own: stopped and called again, it goes on, and what
    is finished is not trained again.

    Args:
        crops: the N `Crops`.
        fold_of: (N,) as `folds` gives it.
        recipe: a `Recipe`, for labeled faces alone.
        output_dir: folder of the folders `fold0`, `fold1`, ….
        provenance: kept in the runs' `results.json`.

    Returns:
        dict of `landmarks` and `scale`, each (N, K, 2) in crop pixels.

    Raises:
        ValueError, OSError, FloatingPointError: as `train`.

    Example:

    >>> predict(crops, folds(crops.names), Recipe(epochs=5), "audit")["landmarks"].shape
    (2009, 68, 2)
    """
    found = {
        name: np.full((len(crops), crops.scheme.num_landmarks, 2), np.nan, np.float32)
        for name in ("landmarks", "scale")
    }
    count, start = int(fold_of.max()) + 1, time.monotonic()
    for fold in range(count):
        held = fold_of == fold
        folder = Path(output_dir) / f"fold{fold}"
        logging.info(
            "Fold %d of %d after %.0f s: %d faces to be judged by a model of the %d others.",
            *(fold + 1, count, time.monotonic() - start, held.sum(), (~held).sum()),
        )
        train(recipe, crops.take(~held), crops.take(held), folder, provenance)
        predicted = load_model(folder / "model.keras").predict(crops.central()[held], verbose=0)
        for name, values in found.items():
            values[held] = predicted[name]
    return found
