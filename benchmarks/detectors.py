"""From photo to landmarks with each face detector: what is found, how far off, how long it takes.

    python benchmarks/detectors.py --photos_dir=photos
    python benchmarks/detectors.py --photos_dir=300w --stems=300w/splits/validation.txt \\
        --proportions --wrong_squares

Each photo has one .pts file with 68 landmarks of one of its faces. That face is found if a box and
the labels' box have 0.3 of their union in common; the box that has most is taken. Other faces have
no labels, so nothing is said of false ones.

NME in percent of the distance of the outer eye corners, after 1, 2 and 3 passes, of the faces that
the detector found; "perfect crops" is the error of the same faces from the squares by the labels.
Both crops are rotated as the face is.
`labels' box` stands for a box of the user's own. Times are of one thread and a photo: the median of
the detector's, and the mean of crop and network in each pass.

--proportions shows where the five points lie in each detector's boxes, and --wrong_squares what it
costs if the first square is beside the face, of another size or rotated.
"""

import pathlib
import sys
import time

import cv2
import numpy as np
from absl import flags
from labeled_photos import OVERLAP, labeled, nme, overlap, shrunk

from keras_lapkl import pretrained
from keras_lapkl._support import app, console
from keras_lapkl._support.files import write_json
from keras_lapkl._support.provenance import run_provenance
from keras_lapkl.data.cropping import crop_squares, face_square
from keras_lapkl.data.images import read_image
from keras_lapkl.detection import detections, detectors
from keras_lapkl.detection.landmark_detector import LandmarkDetector
from keras_lapkl.registries import DETECTORS
from keras_lapkl.schemes import IBUG68
from keras_lapkl.tflite import TFLiteLocalizer

_PHOTOS_DIR = flags.DEFINE_string("photos_dir", None, "Photos and .pts files.", required=True)
_STEMS = flags.DEFINE_string("stems", None, "File with one photo a line, without suffix.")
_MODEL = flags.DEFINE_string("model", pretrained.NAMES[0], "A shipped model, or a .tflite file.")
_DETECTORS = flags.DEFINE_list("detectors", list(DETECTORS), "To compare.")
_TURN = flags.DEFINE_float("turn", 0, "Turn each photo about its middle, degrees.")
_SIZE = flags.DEFINE_float(
    "size", None, "Shrink each photo until its labels' box is as large, and put it on gray 640x480."
)
_PROPORTIONS = flags.DEFINE_bool("proportions", False, "Where the five points lie in the boxes.")
_WRONG_SQUARES = flags.DEFINE_bool("wrong_squares", False, "What a wrong first square costs.")
_OUTPUT = flags.DEFINE_string("output", None, "JSON file to write.")

ROUNDS = (1, 2, 3)
SHIFTS = (0, 0.1, 0.2, 0.3, 0.4, 0.5)  # in sides of the square
RATIOS = (0.6, 0.7, 0.8, 0.9, 1.1, 1.25, 1.4, 1.7)
ANGLES = (10, 20, 30, 45, 60, 90)
_DIRECTIONS = 8


def main(_):
    cv2.setNumThreads(1)
    faces = [_prepared(*each) for each in labeled(pathlib.Path(_PHOTOS_DIR.value), _STEMS.value)]
    detect = LandmarkDetector(TFLiteLocalizer(_model()))
    perfect = _errors(detect, faces, [face_square(labels, IBUG68) for _, labels in faces])
    ways = {"labels' box": lambda _, labels: [_labels_box(labels)]}
    by_name = {}
    for name in _DETECTORS.value:
        try:
            by_name[name] = detectors.from_name(name)
        except ImportError as error:
            print(error, file=sys.stderr)
            continue
        by_name[name](faces[0][0])  # not timed: it loads its network
        ways[name] = lambda photo, _, find=by_name[name]: find(photo)

    rows, proportions = [], []
    for name, find in ways.items():
        seconds, found = _find(find, faces)
        row = _end_to_end(detect, by_name.get(name), found, faces, perfect)
        row["ms detector"] = 1000 * np.median(seconds) if name in by_name else 0
        rows.append({"boxes by": name, **row})
        if found:
            proportions.append({"boxes by": name, **_proportions(found, faces)})
    _show(f"{len(faces):,} photos; NME % from perfect crops {_cell(perfect.mean(0))}.", rows)
    results = {"photos": len(faces), "perfect": perfect.mean(0), "end_to_end": rows}
    if _PROPORTIONS.value:
        results["proportions"] = proportions
        text = (
            "Five points' true square: size and center by the box, in its longer edges; and size by"
        )
        _show(f"{text} the detector's five points. Medians and standard deviations.", proportions)
    if _WRONG_SQUARES.value:
        results["wrong_squares"] = _wrong_squares(detect, faces)
        _show("NME % by a wrong first square, on all faces:", results["wrong_squares"])
    if _OUTPUT.value:
        provenance = run_provenance()
        write_json(_OUTPUT.value, {**_plain(results), "provenance": provenance})


def _model():
    return str(pretrained.resolve(_MODEL.value, (".tflite",)))


def _prepared(path, labels):
    """Photo and landmarks, turned and shrunk as the flags say."""
    photo = read_image(path)
    height, width = photo.shape[:2]
    if _TURN.value:
        turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), _TURN.value, 1)
        photo = cv2.warpAffine(photo, turn, (width, height), borderMode=cv2.BORDER_REPLICATE)
        labels = labels @ turn[:, :2].T + turn[:, 2]
    if _SIZE.value:
        photo, labels = shrunk(photo, labels, _SIZE.value)
    return photo, labels


def _true_square(labels):
    return crop_squares(labels[None], IBUG68, crop_scale=1)[0]


def _labels_box(labels):
    return detections.Detection(np.concatenate([labels.min(0), labels.max(0)]))


def _find(find, faces):
    """Seconds of each photo, and the labeled face's `Detection` by its photo's index."""
    seconds, found = [], {}
    for i, (photo, labels) in enumerate(faces):
        start = time.perf_counter()
        detections = find(photo, labels)
        seconds.append(time.perf_counter() - start)
        best = max(detections, key=lambda each: overlap(each.box, labels), default=None)
        if best is not None and overlap(best.box, labels) >= OVERLAP:
            found[i] = best
    return seconds, found


def _end_to_end(detect, detector, found, faces, perfect):
    indices = list(found)
    squares = detections.rotated_squares(found.values(), IBUG68, detector)
    detect.seconds.clear()
    errors = _errors(detect, [faces[i] for i in indices], squares)
    looks = sum(ROUNDS) * max(1, len(indices))
    return {
        "found %": 100 * len(indices) / len(faces),
        "NME %": errors.mean(0) if indices else None,
        "perfect crops": perfect[indices].mean(0) if indices else None,
        "ms round": 1000 * (detect.seconds["crop"] + detect.seconds["net"]) / looks,
    }


def _errors(detect, faces, squares):
    """NME of each face after each number of passes, percent, (n, 3)."""
    found = np.empty((len(faces), len(ROUNDS)))
    for row, (photo, labels), square in zip(found, faces, squares, strict=True):
        for j, passes in enumerate(ROUNDS):
            (face,) = detect.localize(photo, square, passes)
            row[j] = nme(face.landmarks, labels)
    return found


def _proportions(found, faces):
    """Where the true squares are, by the boxes and by the five points of the detections."""
    true = np.array([_true_square(faces[i][1]) for i in found])
    box = np.array([detections.square(each.box) for each in found.values()])
    columns = {
        "size": true[:, 2] / box[:, 2],
        "right": (true[:, 0] - box[:, 0]) / box[:, 2],
        "below": (true[:, 1] - box[:, 1]) / box[:, 2],
    }
    if all(each.points is not None for each in found.values()):
        points = np.array([detections.squares([each], IBUG68)[0] for each in found.values()])
        columns["size by points"] = true[:, 2] / points[:, 2]
        columns["right of points"] = (true[:, 0] - points[:, 0]) / points[:, 2]
        columns["below points"] = (true[:, 1] - points[:, 1]) / points[:, 2]
    return {name: [np.median(values), np.std(values)] for name, values in columns.items()}


def _wrong_squares(detect, faces):
    squares = np.array([face_square(labels, IBUG68) for _, labels in faces])
    angles = 2 * np.pi * np.arange(len(faces)) / _DIRECTIONS
    away = np.column_stack([np.cos(angles), np.sin(angles)]) * squares[:, 2:3]
    rows = []
    for shift in SHIFTS:
        moved = squares.copy()
        moved[:, :2] += shift * away
        rows.append({"first square": f"moved by {shift:g}", "NME %": _mean(detect, faces, moved)})
    for angle in ANGLES:
        turned = squares + (0, 0, 0, np.radians(angle))
        rows.append({"first square": f"turned by {angle}°", "NME %": _mean(detect, faces, turned)})
    for ratio in RATIOS:
        sized = squares * (1, 1, ratio, 1)
        rows.append({"first square": f"{ratio:g} as large", "NME %": _mean(detect, faces, sized)})
    return rows


def _mean(detect, faces, squares):
    return _errors(detect, faces, squares).mean(0)


def _show(title, rows):
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = [[_cell(row.get(name)) for name in names] for row in rows]
    print(f"{title}\n{console.aligned([names, *cells])}\n")


def _cell(value):
    if value is None or isinstance(value, str):
        return value or "–"
    if np.ndim(value):
        return " / ".join(f"{each:.2f}" for each in value)
    return f"{value:.1f}"


def _plain(value):
    """Arrays as lists."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


if __name__ == "__main__":
    sys.exit(app.run_main(main))
