"""Predictions for all faces of a set, each by a model that was not trained on it."""

import contextlib
import dataclasses
import functools
import hashlib
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging
from numpy.typing import NDArray

from keras_lapkl._support import cluster, extensions
from keras_lapkl._support.files import replacing
from keras_lapkl._support.folders import owned
from keras_lapkl._support.names import natural_key
from keras_lapkl._support.tensorflow import quiet_tensorflow
from keras_lapkl._support.types import PathLike
from keras_lapkl.data.crops import Crops
from keras_lapkl.loading import load_model
from keras_lapkl.training.recipe import Recipe, read_recipe
from keras_lapkl.training.run import train
from keras_lapkl.training.run_folder import Identity

_BLOCK = 25
"""Faces in a block of neighbors, at least where there are enough: a second of a video."""
_BATCH_SIZE, _EPOCH = 8, 100
_SECONDS_A_STEP, _SECONDS_A_MODEL = 0.02, 20.0
"""On one core of a server, of the recipe by `small_recipe` on crops of 80 pixels."""
_FACES, _RESULTS = "faces.pickle", "results.json"


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
    for i in sorted(range(len(names)), key=lambda i: natural_key(names[i])):
        members.setdefault(units[i], []).append(i)
    if not 2 <= count <= len(members):
        raise ValueError(
            f"Expected 2 folds or more, and at most one for each picture that no other repeats. "
            f"Received: {count} folds of {len(members):,} pictures"
        )
    blocks = max(count, len(names) // _BLOCK // count * count)
    found, place, last, turn = np.zeros(len(names), np.int64), 0, -1, -1
    for left, unit in zip(range(len(members), 0, -1), members.values(), strict=True):
        # By turns, not by the number of the block: a picture or group may be larger than several.
        block = place * blocks // len(names)
        turn = max(turn + (block > last), count - left)
        found[unit] = turn % count
        place, last = place + len(unit), block
    return found


def _units(names, groups):
    """(N,) equal for faces that must stay together: those of one picture, or of one group."""
    first: dict[Any, int] = {}
    by_name = [first.setdefault(name, i) for i, name in enumerate(names)]
    return by_name if groups is None else [int(group) for group in groups]


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
    scheduler: PathLike | None = None,
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
        scheduler: address of a Dask scheduler, `tcp://host:8786`, or the .json file that it has
            written: its workers train the models, one each. They must see `output_dir` at the
            same path, to read the faces there.

    Returns:
        dict of `landmarks` and `scale`, each (N, K, 2) in crop pixels.

    Raises:
        ValueError, OSError, FloatingPointError: as `train`.
        ModuleNotFoundError: `scheduler` without the extra `cluster`.

    Example:

    >>> predict(crops, folds(crops.names), Recipe(epochs=5), "audit")["landmarks"].shape
    (2009, 68, 2)
    """
    found = {
        name: np.full((len(crops), crops.scheme.num_landmarks, 2), np.nan, np.float32)
        for name in ("landmarks", "scale")
    }
    count, start = int(fold_of.max()) + 1, time.monotonic()
    if scheduler is not None:
        _train_by_cluster(crops, fold_of, recipe, Path(output_dir), provenance, scheduler)
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


def _train_by_cluster(crops, fold_of, recipe, output_dir, provenance, scheduler):
    """Trains the models of all folds that are not finished, by workers, into their folders."""
    faces = output_dir / _FACES
    todo = [
        fold
        for fold in range(int(fold_of.max()) + 1)
        if not (output_dir / f"fold{fold}" / _RESULTS).exists()
    ]
    if not todo:
        return
    with contextlib.ExitStack() as held:
        for fold in todo:
            folder = held.enter_context(owned(output_dir / f"fold{fold}"))
            parts = crops.take(fold_of != fold), crops.take(fold_of == fold)
            Identity(recipe, *parts, None).claim(folder)
        content = pickle.dumps((crops, fold_of, recipe, provenance))
        held.callback(faces.unlink, missing_ok=True)
        with replacing(faces) as temporary:
            temporary.write_bytes(content)
        train_one = functools.partial(
            _trained, faces.absolute(), hashlib.sha256(content).hexdigest()
        )
        trained = held.enter_context(contextlib.closing(cluster.each(train_one, todo, scheduler)))
        for done, (fold, files) in enumerate(zip(todo, trained, strict=True), start=1):
            # What says that the run is finished comes last.
            for name in sorted(files, key=lambda name: name == _RESULTS):
                with replacing(output_dir / f"fold{fold}" / name) as temporary:
                    temporary.write_bytes(files[name])
            logging.info("Workers have trained %d of %d models.", done, len(todo))


def _trained(faces, sha256, fold):
    """On a worker: the files of a run that was trained on all folds but one, by their names.

    In a process of its own. Keras draws the first weights by Python's `random`, and the worker's
    other threads draw from it too: no two runs would be equal.
    """
    with tempfile.TemporaryDirectory() as scratch:
        run, error = Path(scratch, "run"), Path(scratch, "error")
        words = map(str, (faces, sha256, fold, run, error))
        child = subprocess.run([sys.executable, "-c", _CHILD, *words], stderr=subprocess.PIPE)
        if error.exists():
            raise pickle.loads(error.read_bytes())
        if child.returncode:
            said = child.stderr.decode(errors="replace").strip().rpartition("\n")[2]
            raise OSError(
                f"the process that trains fold {fold} ended by {child.returncode}: {said}"
            )
        return {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}


_CHILD = f"import sys, {__name__} as this; this._train_fold(*sys.argv[1:])"


def _train_fold(faces, sha256, fold, run, error):
    """In the process that `_trained` starts: trains, or leaves what was raised."""
    try:
        content = Path(faces).read_bytes()
        if hashlib.sha256(content).hexdigest() != sha256:
            raise OSError(f"{faces} is not what the machine that asked has there")
        quiet_tensorflow()
        extensions.load()
        crops, fold_of, recipe, provenance = pickle.loads(content)
        held = fold_of == int(fold)
        train(recipe, crops.take(~held), crops.take(held), run, provenance)
    except Exception as raised:  # raised again by the machine that asked
        Path(error).write_bytes(pickle.dumps(cluster.portable(raised)))
