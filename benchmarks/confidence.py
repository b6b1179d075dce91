"""What a model's confidence is worth: coverage and selection on unseen and on degraded faces.

    python benchmarks/confidence.py --model=fpn-eighth-300w --data_dir=300w \\
        --picture=docs/confidence.png --output=confidence.json

Faces of 300-W's common set as they are, and the same blurred, darkened, rotated and covered: a
model that knows how far off it is expects a larger error on each of these. --model is a shipped
model, whose int8 file is taken, or a file that is calibrated.
"""

import sys

from absl import flags

from keras_lapkl import pretrained
from keras_lapkl._support import app, console
from keras_lapkl._support.tensorflow import quiet_tensorflow

_MODEL = flags.DEFINE_string("model", pretrained.NAMES[0], "A shipped model's name, or a file.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder of 300-W.", required=True)
_SPLIT = flags.DEFINE_string("split", "common", "Split of 300-W.")
_PICTURE = flags.DEFINE_string("picture", None, "PNG file to write.")
_OUTPUT = flags.DEFINE_string("output", None, "JSON file to write.")

MARGIN = 16


def main(_):
    quiet_tensorflow()
    from keras_lapkl import load_model
    from keras_lapkl._support.files import write_json
    from keras_lapkl._support.provenance import run_provenance
    from keras_lapkl.data import datasets
    from keras_lapkl.evaluation import model_report, model_scores, plots

    name = _MODEL.value
    model = load_model(name, (".tflite", ".keras"))
    if model.calibration is None:
        raise ValueError(f"--model={name} is not calibrated: train or convert it anew.")
    crops = datasets.load(
        "300w",
        _DATA_DIR.value,
        _SPLIT.value,
        image_size=model.image_size,
        crop_scale=model.crop_scale,
        margin=MARGIN,
    )
    whole, _ = model_scores.evaluate_model(model, crops)
    print(model_report.table([whole]))
    print(model_report.conditions(whole))
    print(model_report.confidence_lines(whole))
    rows = [{"faces": title, **_score(model, crops)} for title, crops in _spoiled(crops)]
    columns = {
        "faces": "faces",
        "nme": "NME %",
        "expected": "expected px",
        "measured": "measured px",
        "coverage": "within 90 % radius",
    }
    cells = [[f"{r[c]:.2f}" if c != "faces" else r[c] for c in columns] for r in rows]
    print(console.aligned([tuple(columns.values()), *cells]))
    if _PICTURE.value:
        plots.confidence(whole["confidence"], _PICTURE.value)
    if _OUTPUT.value:
        write_json(
            _OUTPUT.value,
            {
                "whole": whole,
                "spoiled": rows,
                "provenance": run_provenance(),
            },
        )


def _score(model, crops):
    """NME, expected and measured error and coverage on crops, as plain numbers."""
    from keras_lapkl import confidence
    from keras_lapkl.evaluation import model_scores

    predicted = model.predict(crops.central(), verbose=0)
    errors = model_scores.landmark_errors(predicted["landmarks"], crops)
    inside = confidence.within(model.calibration, errors, predicted["scale"], 0.9)
    return {
        "nme": model_scores.score(**predicted, crops=crops)["nme"],
        "expected": float(model.calibration.error(predicted["scale"]).mean()),
        "measured": confidence.mean_known(errors),
        "coverage": confidence.mean_known(inside),
    }


def _spoiled(crops):
    """(what was done, crops) of crops with a margin."""
    import cv2
    import numpy as np

    rng = np.random.default_rng(0)
    size, margin = crops.image_size, crops.margin

    def changed(function):
        return _replaced(crops, np.stack([function(image) for image in crops.images]))

    yield "as they are", crops
    for sigma in (1, 2, 4):
        title = f"blurred, sigma {sigma} px"
        yield title, changed(lambda image, s=sigma: cv2.GaussianBlur(image, (0, 0), s))
    for light in (0.5, 0.25, 0.1):
        title = f"darkened to {light:.0%}"
        yield title, changed(lambda image, part=light: (image * part).astype(np.uint8))
    for angle in (20, 45, 90):
        yield f"turned by {angle} degrees", _turned(crops, angle)
    for part in (0.25, 0.5):
        side = round(part * size)

        def covered(image, side=side):
            x, y = margin + rng.integers(0, size - side, 2)
            image = image.copy()
            image[y : y + side, x : x + side] = rng.integers(0, 256, 3)
            return image

        yield f"covered, a square of {part:.0%} of the side", changed(covered)


def _turned(crops, degrees):
    """Crops turned about their center; landmarks that leave the picture are hidden."""
    import cv2
    import numpy as np

    side = crops.images.shape[1]
    matrix = cv2.getRotationMatrix2D(((side - 1) / 2, (side - 1) / 2), degrees, 1)
    images = np.stack(
        [
            cv2.warpAffine(image, matrix, (side, side), borderMode=cv2.BORDER_REPLICATE)
            for image in crops.images
        ]
    )
    points = (crops.landmarks + crops.margin) @ matrix[:, :2].T + matrix[:, 2] - crops.margin
    return _replaced(crops, images, points.astype(np.float32))


def _replaced(crops, images, landmarks=None):
    import dataclasses

    landmarks = crops.landmarks if landmarks is None else landmarks
    inside = ((landmarks >= -0.5) & (landmarks <= crops.image_size - 0.5)).all(-1)
    return dataclasses.replace(
        crops, images=images, landmarks=landmarks, visible=crops.visible & inside
    )


if __name__ == "__main__":
    sys.exit(app.run_main(main))
