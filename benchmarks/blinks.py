"""How well a model follows eyes that close: made clips of blinks, and the ratios that come out.

    python benchmarks/blinks.py --photos_dir=300w --stems=300w/splits/validation.txt \\
        --output_dir=blinks

Each photo has a .pts file with 68 landmarks of one of its faces, and becomes a clip of two seconds
in which both eyes close twice: the skin around them is warped, so how far they are open is known. A
tracker follows the face. Printed are the slope and the correlation of the found ratios on the true
ones (see `keras_lapkl.apertures`), of all frames, and within each face, and the share of the blinks
that a threshold halfway between a face's open and closed ratio finds. `blinks.png` shows the
face with the median correlation, `results.json` has the numbers.
"""

import pathlib
import sys

import cv2
import numpy as np
from absl import flags, logging
from labeled_photos import labeled

from keras_lapkl._support import app, console
from keras_lapkl._support.files import replacing, write_json
from keras_lapkl._support.provenance import run_provenance
from keras_lapkl.apertures import apertures, ratios
from keras_lapkl.data.cropping import crop_squares
from keras_lapkl.data.images import read_image
from keras_lapkl.detection.landmark_detector import LandmarkDetector
from keras_lapkl.detection.tracking import LandmarkTracker
from keras_lapkl.evaluation import plots
from keras_lapkl.schemes import IBUG68
from keras_lapkl.training.openings import close

_PHOTOS_DIR = flags.DEFINE_string("photos_dir", None, "Photos and .pts files.", required=True)
_STEMS = flags.DEFINE_string("stems", None, "File with one photo a line, without suffix.")
_MODELS = flags.DEFINE_list(
    "models", ["fpn-eighth-300w", "fpn-quarter-112-300w"], "Shipped models, or .tflite files."
)
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Folder of what is found.", required=True)

_RATE, _SECONDS, _BLINKS = 30, 2, (0.5, 1.4)
_HALF = 0.15
"""Half the length of a blink, seconds."""
_OPEN = 0.2
"""Faces whose eyes are less open by the labels make no clip."""
_EYES = ("right_eye", "left_eye")
_SIDE = 400
"""Pixels of the clip's frames."""


def main(_):
    cv2.setNumThreads(1)
    output_dir = pathlib.Path(_OUTPUT_DIR.value)
    photos = [
        (read_image(path), points)
        for path, points in labeled(pathlib.Path(_PHOTOS_DIR.value), _STEMS.value)
        if _eyes(points) > _OPEN
    ]
    rows, curves = [], {}
    for model in _MODELS.value:
        detector = LandmarkDetector.from_pretrained(model, "blazeface")
        found = [_followed(detector, *_clip(photo, points)) for photo, points in photos]
        rows.append({"model": model, "clips": len(found), **_score(found)})
        logging.info("%s", console.aligned([[_cell(v) for v in rows[-1].values()]]))
        kept = [each for each in found if np.isfinite(each[1]).all()]
        kept.sort(key=lambda each: np.corrcoef(each)[0, 1])
        curves[model] = kept[len(kept) // 2]
    print(console.aligned([list(rows[0]), *([_cell(v) for v in r.values()] for r in rows)]))
    output_dir.mkdir(parents=True, exist_ok=True)
    _draw(curves, output_dir / "blinks.png")
    provenance = run_provenance()
    write_json(output_dir / "results.json", {"rows": rows, "provenance": provenance})


def _clip(photo, points):
    """Frames of a face that blinks, and its landmarks in each."""
    x, y, side = crop_squares(points[None], IBUG68, 4.0)[0]
    move = np.array([[1, 0, side / 2 - x], [0, 1, side / 2 - y]]) * _SIDE / side
    photo = cv2.warpAffine(photo, move, (_SIDE, _SIDE), borderMode=cv2.BORDER_REPLICATE)
    points = points @ move[:, :2].T + move[:, 2]
    frames, labels = [], []
    for time in np.arange(_RATE * _SECONDS) / _RATE:
        nearest = min(abs(time - each) for each in _BLINKS)
        closing = max(0.0, np.cos(np.pi / 2 * min(nearest / _HALF, 1)))
        frame, moved = photo.copy(), points.copy()
        for name in _EYES:
            close(frame, moved, apertures(IBUG68)[name], closing)
        frames.append(frame)
        labels.append(moved)
    return frames, np.array(labels)


def _followed(detector, frames, labels):
    """(2, frames): the true ratio, and that of the face that is followed; NaN where none is."""
    tracker = LandmarkTracker(detector)
    found = []
    for i, frame in enumerate(frames):
        faces = tracker(frame, i / _RATE)
        middle = labels[i].mean(0)
        best = min(faces, key=lambda f: np.linalg.norm(f.landmarks.mean(0) - middle), default=None)
        found.append(np.nan if best is None else _eyes(best.landmarks))
    return np.stack([_eyes(labels), found])


def _eyes(landmarks):
    found = ratios(landmarks, IBUG68)
    return np.mean([found[name] for name in _EYES], 0)


def _score(found):
    kept = [each for each in found if np.isfinite(each[1]).all()]
    true, seen = np.concatenate(kept, 1)
    inner = [each - each.mean(1, keepdims=True) for each in kept]
    x, y = np.concatenate(inner, 1)
    blinks = 0
    for truth, ratio in kept:
        below = ratio < (truth.max() + truth.min()) / 2
        blinks += np.count_nonzero(np.diff(below.astype(int)) == 1) == len(_BLINKS)
    return {
        "followed": len(kept),
        "slope": np.polyfit(true, seen, 1)[0],
        "correlation": np.corrcoef(true, seen)[0, 1],
        "slope in a face": (x * y).sum() / (x * x).sum(),
        "correlation in a face": np.corrcoef(x, y)[0, 1],
        "both blinks found %": 100 * blinks / len(kept),
    }


def _draw(curves, path):
    sheet = plots.figure(8, 2.2 * len(curves))
    for row, (model, (truth, found)) in enumerate(curves.items()):
        axes = sheet.add_subplot(len(curves), 1, row + 1)
        seconds = np.arange(len(truth)) / _RATE
        axes.plot(seconds, truth, color=plots.TRUE, label="true")
        axes.plot(seconds, found, color=plots.PREDICTED, label=model)
        axes.set(ylim=(0, None), ylabel="eye aspect ratio")
        axes.legend(loc="lower center")
    axes.set_xlabel("seconds")
    with replacing(path) as temporary:
        sheet.savefig(temporary, format="png", dpi=120)


def _cell(value):
    return f"{value:.3g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.exit(app.run_main(main))
