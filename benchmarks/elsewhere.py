"""What a model's promised radius is worth on collections of faces that it was not calibrated on.

    python benchmarks/elsewhere.py --models=fpn-eighth-300w-int8,fpn-quarter-112-300w-int8 \\
        --data_dir=mtfl

The data are MTFL's: faces with eyes, nose tip and mouth corners, `five_train.csv` and
`five_test.csv`, of three collections. Nose tip and mouth corners are points of the 68 as well, and
are compared; the eyes' centers are not. Beside the promise of a model stands what a
calibration on 50 faces of the collection makes of it for all others, as `lapkl calibrate` fits it:
the mean of 20 draws of the fifty.
"""

import dataclasses
import pathlib
import sys

from absl import flags

from keras_lapkl import pretrained
from keras_lapkl._support import app, console

_MODELS = flags.DEFINE_list("models", [f"{pretrained.NAMES[0]}-int8"], "Shipped models, or files.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder of MTFL.", required=True)
_OUTPUT = flags.DEFINE_string("output", None, "JSON file to write.")

POINTS = {2: 30, 3: 48, 4: 54}
"""Nose tip and mouth corners: of the five, and of ibug68."""
LABELED, DRAWS, ASKED = 50, 20, 0.9


def main(_):
    from keras_lapkl import load_model
    from keras_lapkl._support.files import write_json
    from keras_lapkl._support.provenance import run_provenance

    rows = []
    for name in _MODELS.value:
        model = load_model(name, (".tflite", ".keras"))
        for title, crops in _collections(_DATA_DIR.value, model):
            rows.append({"model": name, "faces of": title, **_measured(model, crops)})
    columns = list(rows[0])
    print(console.aligned([columns, *([_cell(row[c]) for c in columns] for row in rows)]))
    if _OUTPUT.value:
        found = {"rows": rows, "labeled": LABELED, "draws": DRAWS}
        write_json(_OUTPUT.value, {**found, "provenance": run_provenance()})


def _collections(folder, model):
    """(name, crops) of the faces in each folder of pictures; only `POINTS` of 68 are labeled."""
    import numpy as np

    from keras_lapkl import data

    five = {"name": "five", "names": ["left_eye", "right_eye", "nose", "left_mouth", "right_mouth"]}
    for part in ("train", "test"):
        faces = data.read_csv(pathlib.Path(folder) / f"five_{part}.csv", scheme=five)
        folders = np.array([pathlib.Path(path).parent.name for path in faces.paths])
        for title in sorted(set(folders)):
            yield title, _compared(faces.take(np.flatnonzero(folders == title)), model)


def _compared(faces, model):
    """Crops by the five points, with those of `POINTS` as points of ibug68."""
    import numpy as np

    from keras_lapkl import data, schemes

    crops = data.load_crops(faces, model.image_size, model.crop_scale, progress=False)
    landmarks = np.full((len(crops), schemes.IBUG68.num_landmarks, 2), np.nan, np.float32)
    landmarks[:, list(POINTS.values())] = crops.landmarks[:, list(POINTS)]
    visible = np.isfinite(landmarks).all(-1)
    return dataclasses.replace(crops, landmarks=landmarks, visible=visible, scheme=schemes.IBUG68)


def _measured(model, crops):
    """Shares within the radius, in percent, and errors in pixels, as plain numbers."""
    import numpy as np

    from keras_lapkl import confidence
    from keras_lapkl.evaluation import model_scores

    predicted = model.predict(crops.central(), verbose=0)
    errors = model_scores.landmark_errors(predicted["landmarks"], crops)
    own = _shares(model.calibration, errors, predicted["scale"])
    rng, refitted = np.random.default_rng(0), []
    for _ in range(DRAWS):
        order = rng.permutation(len(crops))
        fitted, others = order[:LABELED], order[LABELED:]
        calibration = confidence.fit(
            errors[fitted], predicted["scale"][fitted], start=model.calibration
        )
        refitted.append(_shares(calibration, errors[others], predicted["scale"][others]))
    return {
        "faces": len(crops),
        "measured px": float(np.nanmean(errors)),
        **{f"own: {key}": value for key, value in own.items()},
        **{f"of {LABELED}: {key}": float(np.mean([each[key] for each in refitted])) for key in own},
    }


def _shares(calibration, errors, scale):
    import numpy as np

    from keras_lapkl import confidence

    expected = calibration.error(scale)
    inside = confidence.within(calibration, errors, scale, ASKED)
    means = np.nanmean(errors, axis=1), expected.mean(1)
    hardest, unsure = (100 * confidence.by_tenth(inside, each)[-1] for each in means)
    return {
        "expected px": float(expected[np.isfinite(errors)].mean()),
        "within": 100 * confidence.mean_known(inside),
        "tenth by expected": float(unsure),
        "tenth by error": float(hardest),
    }


def _cell(value):
    return f"{value:.2f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.exit(app.run_main(main))
