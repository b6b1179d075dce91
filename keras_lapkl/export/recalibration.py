"""A model's confidence fitted anew, to labels from where it will be used."""

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_lapkl import confidence
from keras_lapkl._support.files import check_outputs, replacing
from keras_lapkl._support.types import PathLike
from keras_lapkl.confidence import Calibration
from keras_lapkl.data.crops import Crops
from keras_lapkl.evaluation import model_scores
from keras_lapkl.export import flatbuffer_writer
from keras_lapkl.loading import load_model
from keras_lapkl.tflite import flatbuffer, metadata

_FOLDS = 5
_SEED = 0


@dataclasses.dataclass(frozen=True)
class Recalibrated:
    """What a calibration is worth on labels of one's own, before and after it was fitted to them.

    Attributes:
        calibration: the new one.
        before: share of the points within their radius, by the probability asked for, of the
            model's own calibration, NaN where no radius is known; empty if it had none.
        after: the same of the new one, each face judged by a fit to the others' four fifths.
        error: mean distance from the labels, crop pixels.
        expected_before, expected_after: what the model expected, likewise; None if it had no
            calibration.
    """

    calibration: Calibration
    before: dict[float, float]
    after: dict[float, float]
    error: float
    expected_before: float | None
    expected_after: float


def recalibrate(path: PathLike, output: PathLike, crops: Crops) -> Recalibrated:
    """Copies a model file with a calibration fitted to labels that it was not trained on.

    Weights and answers stay as they are; radii, expected errors and what counts as lost change. The
    form of the curve from scale to error stays that of the model's own calibration, if it has one:
    few labels cannot tell it.

    Args:
        path: a .keras or .tflite file of this package.
        output: the file to write, of the same kind.
        crops: labeled `Crops` of the model's crop rule, best 50 faces or more. A point without
            labels gets no radius.

    Raises:
        ValueError: fewer faces than two for each of five parts, output and path of other kinds or
            the same, or what `load_model` refuses.

    Example:

    >>> found = recalibrate("model.tflite", "ours.tflite", crops)
    >>> found.before[0.9], found.after[0.9]
    (0.71, 0.9)
    """
    path, output = str(path), str(output)
    check_outputs([output], [path])
    if path.rpartition(".")[2] != output.rpartition(".")[2]:
        raise ValueError(f"Expected an output of the same kind as {path}. Received: {output}")
    if len(crops) < 2 * _FOLDS:
        raise ValueError(
            f"Expected {2 * _FOLDS} labeled faces or more to calibrate on, best 50. Received: "
            f"{len(crops)} of {crops.name}"
        )
    model = load_model(path)
    predicted = model.predict(crops.central(), verbose=0)
    found = assess(model.calibration, predicted, crops)
    if path.endswith(".keras"):
        model.calibration = found.calibration
        with replacing(output) as temporary:
            model.save(temporary)
        return found
    content = flatbuffer.read(path)
    about = metadata.read(content, path)
    if about is None:
        raise ValueError(f"{path} has no metadata of this package to keep a calibration in.")
    about = dataclasses.replace(about, calibration=found.calibration.to_config())
    flatbuffer_writer.add_metadata(content, about)
    with replacing(output) as temporary:
        temporary.write_bytes(flatbuffer_writer.pack(content))
        load_model(temporary)
    return found


def assess(
    calibration: Calibration | None, predicted: dict[str, NDArray[Any]], crops: Crops
) -> Recalibrated:
    """Fits a calibration to predictions, and compares it with the one before.

    Args:
        calibration: the model's own, or None.
        predicted: `landmarks` and `scale`, each (N, K, 2), crop pixels.
        crops: the N `Crops`.
    """
    errors = model_scores.landmark_errors(predicted["landmarks"], crops)
    scale = predicted["scale"]
    fold = np.random.default_rng(_SEED).permutation(len(crops)) % _FOLDS
    inside: dict[float, list[Any]] = {asked: [] for asked in confidence.COVERAGES}
    expected = np.full(errors.shape, np.nan)
    for number in range(_FOLDS):
        kept, left = fold != number, fold == number
        fitted = confidence.fit(errors[kept], scale[kept], start=calibration)
        expected[left] = fitted.error(scale[left])
        for asked, hits in inside.items():
            hits.append(confidence.within(fitted, errors[left], scale[left], asked))
    known = np.isfinite(errors)
    own = calibration is not None
    return Recalibrated(
        model_scores.calibrate(predicted, crops, calibration),
        {c: s for c, (s, _) in confidence.coverage(calibration, errors, scale).items()}
        if own
        else {},
        {asked: confidence.mean_known(np.concatenate(hits)) for asked, hits in inside.items()},
        float(errors[known].mean()),
        float(calibration.error(scale)[known].mean()) if own else None,
        float(expected[known].mean()),
    )
