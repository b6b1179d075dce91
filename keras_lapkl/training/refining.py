"""A trained model's landmarks refined by the whole shape, fitted to its training faces."""

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_lapkl._support import console
from keras_lapkl.data.crop_rule import check_crop_rule
from keras_lapkl.data.crops import Crops
from keras_lapkl.evaluation import model_scores, scoring
from keras_lapkl.models import refinement
from keras_lapkl.models.localizer import LandmarkLocalizer
from keras_lapkl.training import cross_validation
from keras_lapkl.training.augmentation import Augmentation
from keras_lapkl.training.batches import training_batches
from keras_lapkl.training_data import DataSet, TrainingData

_FACES = 10_000
"""Moved faces to fit to, of each picture as many as that takes."""
_MOST_COPIES = 100
"""Of a picture."""
_FOLDS = 5
_BATCH = 8
_TOGETHER = 256
"""Faces that are predicted at once."""


@dataclasses.dataclass(frozen=True)
class Refined:
    """What a refinement is worth on faces that it was not fitted to.

    Attributes:
        before, after: result of `evaluation.evaluate_model` without and with it.
        change: by how many percent the error grows, mean and ends of its paired 95 % interval over
            faces; below 0 it falls.
    """

    before: dict[str, Any]
    after: dict[str, Any]
    change: tuple[float, float, float]


def refine(
    model: LandmarkLocalizer,
    train: Crops,
    validation: Crops,
    augmentation: Augmentation | None = None,
    seed: int = 0,
) -> Refined:
    """Gives a model a `ShapeRefinement`, and scales that are calibrated anew.

    Args:
        model: a trained `LandmarkLocalizer`, changed; a refinement that it has is replaced.
        train: `Crops` that it was trained on, with a margin. Others become a part of its
            `training_data`.
        validation: `Crops` without those pictures, for the calibration and to tell the change.
        augmentation: how the faces are moved and recolored; default `Augmentation().scaled(0.75)`.
        seed: of the augmentation.

    Returns:
        `Refined`. The model is refined also where its error does not fall.

    Raises:
        ValueError: fewer different pictures than five, or crops of another rule than the model's.

    Example:

    >>> found = refine(model, train, validation)
    >>> found.before["nme"], found.after["nme"]
    (4.0, 3.8)
    """
    for crops in (train, validation):
        check_crop_rule(model, "the model", crops)
    model.refinement = None
    before, predicted = model_scores.evaluate_model(model, validation)
    errors = _errors(predicted, validation, before)
    augmentation = augmentation or Augmentation().scaled(0.75)
    seen, labels, fold = _answers(model, train, augmentation, seed)
    model.refinement = refinement.fit(seen, labels, fold)
    model.training_data = _with_data(model.training_data, train)
    model.calibration = model_scores.calibrate(
        model.predict(validation.central(), verbose=0), validation, model.calibration
    )
    after, predicted = model_scores.evaluate_model(model, validation)
    growth = 100 * (_errors(predicted, validation, after) - errors) / np.nanmean(errors)
    return Refined(before, after, scoring.estimates({"change": growth})["change"])


def _with_data(before, crops):
    """A model's training data with those that it is refined on, if they are others."""
    source = crops.source or DataSet(crops.name, len(crops))
    if before is not None and str(source) in map(str, before.labeled):
        return before
    return TrainingData((source,), initial_model=before)


def _errors(predicted, crops, result):
    return model_scores.face_errors(predicted["landmarks"], crops, result["normalizer"])


def _answers(model, crops, augmentation, seed):
    """Landmarks (N, K, 2) of moved faces, their labels, NaN where hidden, and folds (N,)."""
    fold_of = cross_validation.folds(crops.names, _FOLDS)
    copies = int(np.clip(-(-_FACES // len(crops)), 1, _MOST_COPIES))
    parts: list[tuple[NDArray[Any], ...]] = []
    found = _predicted(model, crops, fold_of, augmentation, copies, seed)

    def progress(done, _):
        return f"located {sum(len(part[0]) for part in parts):,} moved faces"

    for part in console.reported(found, None, progress):
        parts.append(part)
    landmarks, labels, fold = (np.concatenate(each) for each in zip(*parts, strict=True))
    return landmarks, np.where(labels[..., 2:] > 0, labels[..., :2], np.nan), fold


def _predicted(model, crops, fold_of, augmentation, copies, seed):
    for fold in range(fold_of.max() + 1):
        faces = crops.take(fold_of == fold)
        size = min(_BATCH, len(faces))
        steps = -(-copies * len(faces) // size)
        batches = training_batches(faces, size, seed, augmentation).take(steps)
        for images, labels in batches.unbatch().batch(_TOGETHER).as_numpy_iterator():
            found = model.predict(images, verbose=0)["landmarks"]
            yield found, labels, np.full(len(found), fold)
