"""How good predicted landmarks are: the numbers of the papers' tables, from a model or arrays."""

import numpy as np
from keras import ops

from keras_lapkl import confidence, console, metrics
from keras_lapkl.data.pipeline import labels
from keras_lapkl.losses import split_visible

SHARES = (0.25, 0.5, 0.75, 0.9, 1.0)
"""Of the faces, the surest first, for which the mean error is told."""

THRESHOLDS = (8, 10)
"""NME in percent at which the failure rate and the area under the CED are taken."""


def evaluate_model(model, crops, normalizer=None):
    """Scores a `LandmarkLocalizer` or a `TFLiteLocalizer` on crops; see `score`.

    Returns:
        The dict of `score` with `trained_on`, and `confidence` if the model is calibrated (see
        `check_confidence`); and the predictions.
    """
    predicted = model.predict(crops.central(), verbose=0)
    result = score(predicted["landmarks"], predicted["scale"], crops, normalizer)
    result["trained_on"] = model.trained_on
    if model.calibration is not None:
        result["confidence"] = check_confidence(model.calibration, predicted, crops)
    return result, predicted


def distances(landmarks, crops):
    """Of landmarks (N, K, 2) from the true ones, (N, K) crop pixels; NaN where hidden."""
    truth, visible = (ops.convert_to_numpy(each) for each in split_visible(labels(crops)))
    return np.where(visible > 0, np.linalg.norm(landmarks - truth, axis=-1), np.nan)


def calibrate(predicted, crops):
    """`confidence.Calibration` from predictions on crops that the model was not trained on."""
    data = f"{crops.summary}; crop scale {crops.crop_scale:g}, {crops.image_size} pixels"
    return confidence.fit(distances(predicted["landmarks"], crops), predicted["scale"], data)


def check_confidence(calibration, predicted, crops):
    """What a calibration is worth on crops that it was not fitted on.

    Returns:
        dict of plain data: `calibrated_on`; `coverage`, the share of landmarks within their radius
        by the probability asked for; `reliability`, expected and measured error in ten groups,
        pixels; `selective`, mean error in pixels of the surest share of the faces.
    """
    errors = distances(predicted["landmarks"], crops)
    scale = predicted["scale"]
    scored = np.isfinite(errors).any(1)
    faces = np.nanmean(errors[scored], axis=1), calibration.error(scale[scored]).mean(1)
    expected, measured = confidence.reliability(calibration, errors, scale)
    found = confidence.coverage(calibration, errors, scale)
    return {
        "calibrated_on": calibration.data,
        "coverage": {str(asked): share for asked, (share, _) in found.items()},
        "reliability": {"expected": expected.tolist(), "measured": measured.tolist()},
        "selective": dict(
            zip(map(str, SHARES), confidence.selective(*faces, SHARES).tolist(), strict=True)
        ),
    }


def score(landmarks, scale, crops, normalizer=None):
    """NME, failure rates, areas under the CED and mean spread of predictions on crops.

    Args:
        landmarks: (N, K, 2) predicted, in crop pixels.
        scale: (N, K, 2) predicted, in crop pixels.
        crops: `Crops` with the truth.
        normalizer: `"interocular"`, `"hull"` or `"box"`; None takes the first that the scheme
            allows.

    Returns:
        dict: `nme` (percent, mean over faces), `nme_std` (over faces), `spread` (pixels),
        `failure_rate_8`, `failure_rate_10` (percent of faces), `auc_8`, `auc_10` (0 to 1); and,
        to be read beside them, `data`, `faces`, `crop_scale`, `image_size` and `normalizer`.

    Raises:
        ValueError: no face can be scored.
    """
    normalizer = normalizer or default_normalizer(crops.scheme)
    errors = face_errors(landmarks, crops, normalizer)
    scored = errors[np.isfinite(errors)]
    if not scored.size:
        raise ValueError(
            f"No face of {crops.name} can be scored with the {normalizer} normaliser: none has "
            "the landmarks that it needs."
        )
    result = {
        "data": crops.name,
        "faces": int(scored.size),
        "crop_scale": crops.crop_scale,
        "image_size": crops.image_size,
        "normalizer": normalizer,
        "nme": float(scored.mean()),
        "nme_std": float(scored.std()),
        "spread": float(metrics.HeatmapSpread()(labels(crops), scale)),
    }
    for threshold in THRESHOLDS:
        result[f"failure_rate_{threshold}"] = float(100 * (scored > threshold).mean())
        result[f"auc_{threshold}"] = float(np.maximum(0, 1 - scored / threshold).mean())
    return result


def default_normalizer(scheme):
    """`"interocular"` where the scheme has eye corners, else `"hull"`."""
    return "hull" if scheme.eye_corners is None else "interocular"


def face_errors(landmarks, crops, normalizer):
    """NME of each face in percent, (N,); NaN where the normaliser's points are hidden."""
    truth, visible = split_visible(labels(crops))
    if normalizer == "interocular":
        distance = metrics.interocular_distance(truth, visible, crops.scheme.eye_corners)
    elif normalizer == "hull":
        distance = metrics.hull_size(truth, visible)
    else:
        distance = crops.box_sizes()
    nme, usable = metrics.face_errors(truth, visible, landmarks, distance)
    return np.where(ops.convert_to_numpy(usable), ops.convert_to_numpy(nme), np.nan)


def table(results):
    """Lines of text, one for each dict of `score`, aligned under their headings."""
    columns = ("data", "faces", "nme", "nme_std", "spread", "failure_rate_8", "auc_8")
    headings = ("data", "faces", "NME %", "± faces", "spread px", "FR@8 %", "AUC@8")
    rows = [
        tuple(f"{r[c]:.3f}" if isinstance(r[c], float) else str(r[c]) for c in columns)
        for r in results
    ]
    return console.aligned([headings, *rows])


def confidence_lines(result):
    """Lines of text on `confidence` of a result."""
    found = result["confidence"]
    covered = ", ".join(f"{float(c):.0%}: {share:.1%}" for c, share in found["coverage"].items())
    surest = ", ".join(f"{float(s):.0%}: {error:.2f}" for s, error in found["selective"].items())
    return (
        f"Landmarks within the radius that is to hold … of them: {covered}.\n"
        f"Mean error in pixels of the surest … of the faces: {surest}.\n"
        f"Calibrated on {found['calibrated_on']}."
    )


def conditions(result):
    """One line with what an error means nothing without: training faces, crop and normaliser."""
    return (
        f"Trained on {result['trained_on'] or 'faces unknown'}. "
        f"Crop scale {result['crop_scale']:g}, {result['image_size']}x{result['image_size']} "
        f"pixels; error in percent of the {_MEANING[result['normalizer']]}."
    )


_MEANING = {
    "interocular": "distance of the outer eye corners",
    "hull": "size √(w·h) of the visible landmarks' box",
    "box": "size √(w·h) of the face box",
}
