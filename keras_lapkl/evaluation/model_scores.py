"""How good a model is on crops: the numbers of the papers' tables, which `scoring` defines."""

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_lapkl import apertures, confidence
from keras_lapkl._support import cluster
from keras_lapkl._support.types import PathLike
from keras_lapkl.confidence import Calibration
from keras_lapkl.data.cropping import apply_transform, invert_transform
from keras_lapkl.data.crops import Crops
from keras_lapkl.evaluation import scoring
from keras_lapkl.schemes import IBUG68, Scheme
from keras_lapkl.tflite.localizer import Localizer


class NoPredictionError(ValueError):
    """A model that finds nothing: no prediction is finite."""


SHARES = (0.25, 0.5, 0.75, 0.9, 1.0)
"""Shares of the faces, the surest first, for which the mean error is reported."""


_FEWEST_FOR_FIFTHS = 50

_KERAS_BATCH = 32
"""What Keras predicts at once: parts of so many, and of a multiple, give the same numbers."""
_MOST_BYTES = 4 << 20
"""Of images that are sent to a worker at once."""

_ASKED = 0.9
"""The radius whose coverage is told in parts."""


def evaluate_model(
    model: Localizer,
    crops: Crops,
    normalizer: str | None = None,
    flip_average: bool = False,
    scheduler: PathLike | None = None,
) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Scores a `LandmarkLocalizer` or a `TFLiteLocalizer` on crops; see `score`.

    Args:
        model: the localizer.
        crops: `Crops`.
        normalizer: see `score`.
        flip_average: whether to score `predict_flip_averaged` instead of the model's own answer.
        scheduler: as in `predict`.

    Returns:
        The dict of `score` with `trained_on`, one line, and the same as plain data in
        `training_data`; `apertures` of `apertures.agreement` and `cheeks` of `by_cheeks`, which are
        empty for schemes without eyes and mouth; `confidence` if the model is calibrated (see
        `check_confidence`), which its mean with the mirrored face is not; and the predictions.

    Raises:
        ValueError: as `score` and `predict_flip_averaged`.
        OSError, ModuleNotFoundError: as `predict`.

    Example:

    >>> result, predicted = evaluate_model(load_model("fpn-eighth-300w"), crops)
    >>> predicted["landmarks"].shape
    (554, 68, 2)
    """
    check_normalizer(normalizer or default_normalizer(crops.scheme), crops)
    predicted = predict(model, crops.central(), flip_average, scheduler)
    result = score(predicted["landmarks"], predicted["scale"], crops, normalizer)
    result["trained_on"] = model.trained_on
    data = model.training_data
    result["training_data"] = None if data is None else data.to_config()
    faces = np.where(crops.known[..., None], crops.landmarks, np.nan)
    result["apertures"] = apertures.agreement(predicted["landmarks"], faces, crops.scheme)
    result["cheeks"] = by_cheeks(predicted["landmarks"], crops, result["normalizer"])
    if model.calibration is not None and not flip_average:
        result["confidence"] = check_confidence(model.calibration, predicted, crops)
    return result, predicted


def predict(
    model: Localizer,
    images: NDArray[Any],
    flip_average: bool = False,
    scheduler: PathLike | None = None,
) -> dict[str, NDArray[Any]]:
    """What a model finds in images, by this process or by a cluster, the same numbers.

    Args:
        model: a localizer.
        images: (N, S, S, 3) RGB, uint8 or float in [0, 1].
        flip_average: whether to take `predict_flip_averaged`.
        scheduler: address of a Dask scheduler, `tcp://host:8786`, or the .json file that it has
            written: its workers are sent images and find the model's file at the same path.

    Returns:
        dict of `landmarks` and `scale`, each (N, K, 2).

    Raises:
        ValueError: as the model's `predict` and `predict_flip_averaged`.
        OSError: the cluster fails.
        ModuleNotFoundError: `scheduler` without the extra `cluster`.

    Example:

    >>> predict(load_model("fpn-eighth-300w"), crops.central(), scheduler="tcp://host:8786")
    """
    find = functools.partial(predict_flip_averaged if flip_average else _predict, model)
    if scheduler is None or not len(images):
        return find(images)
    count = _KERAS_BATCH * max(1, _MOST_BYTES // (_KERAS_BATCH * images[0].nbytes))
    parts = (images[start : start + count] for start in range(0, len(images), count))
    found = list(cluster.each(find, parts, scheduler))
    return {name: np.concatenate([part[name] for part in found]) for name in found[0]}


def predict_flip_averaged(model: Localizer, images: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Means of what a model finds in images and in their mirror images, at twice the time.

    Args:
        model: a localizer whose scheme knows how its landmarks mirror.
        images: (N, H, W, 3).

    Returns:
        dict of `landmarks` and `scale`, each (N, K, 2), as `predict` gives it.

    Raises:
        ValueError: it is not known how the landmarks mirror.

    Example:

    >>> predict_flip_averaged(model, crops.central())["scale"].shape
    (554, 68, 2)
    """
    if model.scheme is None or model.scheme.flip is None:
        raise ValueError(
            "Mirroring needs a scheme with `flip`. Received a model of "
            f"{'no scheme' if model.scheme is None else model.scheme.name!r}."
        )
    found = _predict(model, images)
    mirrored = _predict(model, np.ascontiguousarray(images[:, :, ::-1]))
    back = {name: value[:, list(model.scheme.flip)] for name, value in mirrored.items()}
    back["landmarks"] = (images.shape[2] - 1, 0) - back["landmarks"] * (1, -1)
    return {name: ((value + back[name]) / 2).astype(value.dtype) for name, value in found.items()}


def _predict(model, images):
    return model.predict(images, verbose=0)


def landmark_errors(landmarks: NDArray[Any], crops: Crops) -> NDArray[np.float64]:
    """Of landmarks (N, K, 2) from the true ones, (N, K) crop pixels; NaN where hidden.

    Args:
        landmarks: (N, K, 2) predicted, crop pixels.
        crops: `Crops` with the truth.
    """
    apart = np.linalg.norm(landmarks - crops.landmarks, axis=-1)
    return np.where(crops.known, apart, np.nan)


def in_photos(landmarks: NDArray[Any], crops: Crops) -> NDArray[np.float64]:
    """Landmarks (N, K, 2) in crop pixels as they lie in the photos, float64 pixels.

    Args:
        landmarks: (N, K, 2) crop pixels.
        crops: the `Crops` that they were found in.
    """
    return apply_transform(invert_transform(crops.transforms), landmarks)


def point_errors(landmarks: NDArray[Any], crops: Crops) -> list[dict[str, Any]]:
    """How far each point is from its label, in pixels of the pictures.

    Args:
        landmarks: (N, K, 2) predicted, crop pixels.
        crops: `Crops` with the truth.

    Returns:
        K dicts: `point`, its name; `labeled`, in how many pictures; `mean`, `median` and `90 %`,
        the distance that 90 % stay below, of finite predictions; None where there is none.

    Example:

    >>> point_errors(predicted["landmarks"], crops)[0]
    {'point': 'nose', 'labeled': 18, 'mean': 2.1, 'median': 1.8, '90 %': 3.9}
    """
    apart = np.linalg.norm(in_photos(landmarks, crops) - in_photos(crops.landmarks, crops), axis=-1)
    rows = []
    for name, far, known in zip(crops.scheme.names, apart.T, crops.known.T, strict=True):
        labeled, far = int(known.sum()), far[known & np.isfinite(far)]
        found = [np.mean(far), np.median(far), np.quantile(far, 0.9)] if len(far) else 3 * [None]
        numbers = [None if value is None else round(float(value), 3) for value in found]
        named = dict(zip(("mean", "median", "90 %"), numbers, strict=True))
        rows.append({"point": name, "labeled": labeled, **named})
    return rows


def calibrate(
    predicted: Mapping[str, NDArray[Any]], crops: Crops, start: Calibration | None = None
) -> Calibration:
    """`confidence.Calibration` from predictions on crops that the model was not trained on.

    Args:
        predicted: dict of `landmarks` and `scale`, each (N, K, 2) crop pixels.
        crops: the N `Crops`, with the truth.
        start: a calibration of the same model to go on from, where the crops are few.

    Raises:
        ValueError: no known landmark.

    Example:

    >>> model.calibration = calibrate(model.predict(validation.central()), validation)
    """
    landmarks = predicted["landmarks"]
    errors = landmark_errors(landmarks, crops)
    scale = predicted["scale"]
    return confidence.fit(errors, scale, _line(crops), landmarks=landmarks, start=start)


def _line(crops):
    """What a calibration says of the crops that it was fitted to."""
    return f"{crops.summary}; crop scale {crops.crop_scale:g}, {crops.image_size} pixels"


def without_radius(validation: Crops) -> str | None:
    """Which landmarks too few validation faces have for a 90 % radius, a line; None if none is.

    Args:
        validation: `Crops` to calibrate on.
    """
    counts, wanted = validation.known.sum(0), confidence.faces_wanted()
    few = np.flatnonzero(counts < wanted)
    if not len(few):
        return None
    shown = ", ".join(f"{validation.scheme.names[k]} ({counts[k]})" for k in few[:5])
    more = "" if len(few) <= 5 else f" and {len(few) - 5} more"
    return (
        f"{wanted} or more validation objects with a point are wanted for its 90 % radius, which "
        f"stays unknown for {shown}{more}."
    )


def check_confidence(
    calibration: Calibration, predicted: Mapping[str, NDArray[Any]], crops: Crops
) -> dict[str, Any]:
    """What a calibration is worth on crops, best those that it was not fitted on.

    Args:
        calibration: a `Calibration`.
        predicted: dict of `landmarks` and `scale`, each (N, K, 2) crop pixels.
        crops: the N `Crops`, with the truth.

    Returns:
        dict of plain data: `calibrated_on`; `in_sample`, whether these are the very crops, so that
        all else is better than on others; `coverage`, the share of landmarks within their radius
        by the probability asked for; `reliability`, expected and measured error in ten groups,
        pixels; `selective`, mean error in pixels of the surest share of the faces;
        `negative_log_likelihood` and `sparsification_error`, of `points` and of `faces`, each
        `area` and `random`, as `confidence` defines them; and `radius`, of that asked to hold
        `asked`, 90 %: shares within it in tenths of the faces and points, the largest last
        (`faces_by_expected_error`, `faces_by_error`, `points_by_expected_error`), and by
        `group` of points. A tenth by error is known only afterwards, and outside more often by that
        choice alone.

    Example:

    >>> sorted(check_confidence(model.calibration, predicted, test)["coverage"])
    ['0.5', '0.8', '0.9', '0.95']
    """
    errors = landmark_errors(predicted["landmarks"], crops)
    scale = predicted["scale"]
    expected = calibration.error(scale)
    known, scored = np.isfinite(errors), np.isfinite(errors).any(1)
    faces = np.nanmean(errors[scored], axis=1), expected[scored].mean(1)
    reliable = confidence.reliability(calibration, errors, scale)
    found = confidence.coverage(calibration, errors, scale)
    areas = {
        "points": confidence.sparsification_error(errors[known], expected[known]),
        "faces": confidence.sparsification_error(*faces),
    }
    return {
        "calibrated_on": calibration.data,
        "in_sample": calibration.data == _line(crops),
        "coverage": {str(asked): _known(share) for asked, (share, _) in found.items()},
        "radius": _within(calibration, errors[scored], scale[scored], faces, crops.scheme),
        "reliability": {"expected": reliable[0].tolist(), "measured": reliable[1].tolist()},
        "selective": dict(
            zip(map(str, SHARES), confidence.selective(*faces, SHARES).tolist(), strict=True)
        ),
        "negative_log_likelihood": confidence.negative_log_likelihood(errors, expected),
        "sparsification_error": {
            of: {"area": area, "random": random} for of, (area, random) in areas.items()
        },
    }


def _within(calibration, errors, scale, faces, scheme):
    """Shares within the radius of about 90 %: of the tenths of faces and points, and by group."""
    asked = min(calibration.quantiles, key=lambda each: abs(each - _ASKED))
    inside, expected = (
        confidence.within(calibration, errors, scale, asked),
        calibration.error(scale),
    )
    known = np.isfinite(inside)
    measured, hoped = faces
    tenths = {
        "faces_by_expected_error": (inside, hoped),
        "faces_by_error": (inside, measured),
        "points_by_expected_error": (inside[known], expected[known]),
    }
    return {
        "asked": asked,
        **{of: [*map(_known, confidence.by_tenth(*pair))] for of, pair in tenths.items()},
        "group": {
            name: confidence.mean_known(inside[:, points])
            for name, points in scoring.groups(scheme).items()
            if known[:, points].any()
        },
    }


def _known(share):
    return None if np.isnan(share) else float(share)


def score(
    landmarks: NDArray[Any], scale: NDArray[Any], crops: Crops, normalizer: str | None = None
) -> dict[str, Any]:
    """NME, failure rates, areas under the CED and mean spread of predictions on crops.

    Args:
        landmarks: (N, K, 2) predicted, in crop pixels.
        scale: (N, K, 2) predicted, in crop pixels.
        crops: `Crops` with the truth.
        normalizer: a name of `scoring.NORMALIZER_MEANINGS`; None takes `default_normalizer`.

    Returns:
        dict: `nme` (percent, mean over faces), `nme_std` and `nme_median` (over faces), `spread`
        (pixels), and at each t of `scoring.THRESHOLDS` `failure_rate_t` (percent of faces) and
        `auc_t` (0 to 1); `nme_interval` and so on, the bootstrap's 95 % intervals; and, to be read
        beside them, `data`, `faces`, `missing` (faces without finite prediction), `unscored` (left
        out), `small_distances` (whose normalizing distance is under a quarter of the median),
        `crop_scale`, `image_size` and `normalizer`.

    Raises:
        NoPredictionError: no prediction is finite.
        ValueError: no face can be scored.

    Example:

    >>> score(crops.landmarks, np.ones_like(crops.landmarks), crops)["nme"]   # the truth itself
    0.0
    """
    normalizer = normalizer or default_normalizer(crops.scheme)
    errors = face_errors(landmarks, crops, normalizer)
    if not np.isfinite(errors).any():
        check_scorable(crops, normalizer)
        raise NoPredictionError(f"No face of {crops.name} can be scored: no prediction is finite.")
    visible = crops.known
    seen = visible.any(1)
    spread = np.asarray(scale, np.float64).mean(-1)[seen].mean(-1, where=visible[seen])
    return {
        "data": crops.name,
        **scoring.counts(errors),
        "small_distances": scoring.small_distances(_distances(crops, normalizer)),
        "crop_scale": crops.crop_scale,
        "image_size": crops.image_size,
        "normalizer": normalizer,
        "spread": float(spread[np.isfinite(spread)].mean()),
        **scoring.summary(scoring.estimates(scoring.statistics(errors))),
    }


def check_scorable(crops: Crops, normalizer: str | None = None) -> None:
    """Refuses crops of which no prediction could be scored.

    Args:
        crops: `Crops` with the truth.
        normalizer: a name of `scoring.NORMALIZER_MEANINGS`; None takes `default_normalizer`.

    Raises:
        ValueError: no face has the labels that the normalizer needs.
    """
    normalizer = normalizer or default_normalizer(crops.scheme)
    scorable = np.isfinite(face_errors(crops.landmarks, crops, normalizer))
    scoring.check_scorable(scorable, crops.name, normalizer)


def default_normalizer(scheme: Scheme) -> str:
    """`"interocular"` where the scheme has eye corners, else `"hull"`.

    One point has no hull, and that of two has no area where they are level: `"crop"`, then.

    Args:
        scheme: `Scheme` of the landmarks.

    Example:

    >>> default_normalizer(IBUG68)
    'interocular'
    """
    if scheme.eye_corners is not None:
        return "interocular"
    return "hull" if scheme.num_landmarks > 2 else "crop"


def check_normalizer(normalizer: str, crops: Crops) -> None:
    """As `scoring.check_normalizer`, of crops, which also have a side.

    Args:
        normalizer: a name of `scoring.NORMALIZER_MEANINGS`.
        crops: `Crops` with the truth.
    """
    scoring.check_normalizer(normalizer, crops.scheme, crops.boxes, crops.image_size)


def face_errors(landmarks: NDArray[Any], crops: Crops, normalizer: str) -> NDArray[np.float64]:
    """`scoring.face_errors` of predictions (N, K, 2) in crop pixels: percent, (N,).

    Args:
        landmarks: (N, K, 2) predicted, crop pixels.
        crops: `Crops` with the truth.
        normalizer: a name of `scoring.NORMALIZER_MEANINGS`.

    Raises:
        ValueError: a normalizer that the scheme or the crops do not allow.
    """
    distance = _distances(crops, normalizer)
    return scoring.face_errors(landmarks, crops.landmarks, crops.known, distance)


def _distances(crops, normalizer):
    """The normalizing distance of each face, (N,) crop pixels."""
    boxes = None if crops.boxes is None else crops.cropped_boxes()
    return scoring.normalizing_distances(
        normalizer, crops.landmarks, crops.known, crops.scheme, boxes, crops.image_size
    )


def by_cheeks(landmarks: NDArray[Any], crops: Crops, normalizer: str) -> dict[str, Any]:
    """Error by how bright the cheeks are, of a fifth of the faces each, the darkest first.

    It is the brightness in the picture: that of the light as well as that of the skin.

    Args:
        landmarks: (N, K, 2) predicted, crop pixels.
        crops: `Crops` with the truth.
        normalizer: a name of `scoring.NORMALIZER_MEANINGS`.

    Returns:
        dict: `nme` and mean `luminance` (0 to 255) of each fifth; `ratio`, how many times the
        lightest fifth's error the darkest's is, and `ratio_interval`, the bootstrap's 95 % interval
        over faces; None where the lightest's is 0. Empty for other schemes than ibug68's points,
        and for fewer than 50 faces that can be scored.
    """
    if crops.scheme.names != IBUG68.names:
        return {}
    errors = face_errors(landmarks, crops, normalizer)
    faces = zip(crops.central(), crops.landmarks, strict=True)
    luminance = np.array([_cheeks(*each) for each in faces])
    known = np.flatnonzero(np.isfinite(errors) & np.isfinite(luminance))
    if len(known) < _FEWEST_FOR_FIFTHS:
        return {}
    parts = np.array_split(known[np.argsort(luminance[known], kind="stable")], 5)
    nme = [float(errors[part].mean()) for part in parts]
    means = [float(luminance[part].mean()) for part in parts]
    ratio, interval = None, None
    if nme[-1]:
        ratio, interval = nme[0] / nme[-1], _ratio_interval(errors[parts[0]], errors[parts[-1]])
    return {"nme": nme, "luminance": means, "ratio": ratio, "ratio_interval": interval}


def _ratio_interval(above, below):
    """Bootstrap interval of the ratio of two groups' means, each resampled by itself."""
    random = np.random.default_rng(0)
    draws = (random.choice(each, (scoring.RESAMPLES, len(each))).mean(1) for each in (above, below))
    tails = (1 - scoring.LEVEL) / 2, (1 + scoring.LEVEL) / 2
    return np.quantile(np.divide(*draws), tails).tolist()


def _cheeks(image, landmarks):
    """Mean luma of two squares, each between lower lid, corner of the mouth and jaw."""
    half = np.linalg.norm(landmarks[36] - landmarks[45]) / 10
    found = []
    for around in ((41, 48, 3), (46, 54, 13)):
        center = landmarks[list(around)].mean(0)
        if np.isfinite([*center, half]).all():
            (x0, y0), (x1, y1) = (np.rint(center + s * half).astype(int) for s in (-1, 1))
            patch = image[max(y0, 0) : y1 + 1, max(x0, 0) : x1 + 1]
            found += [patch.reshape(-1, 3).mean(0)] if patch.size else []
    return np.mean(found, 0) @ (0.299, 0.587, 0.114) if found else np.nan
