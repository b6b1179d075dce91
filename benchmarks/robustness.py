"""What rotation, noise, JPEG, blur, light, covers, size and wrong boxes cost a model.

    python benchmarks/robustness.py --photos_dir=300w --stems=300w/splits/validation.txt
    python benchmarks/robustness.py --photos_dir=300w --stems=300w/splits/validation.txt \\
        --nolook_around
    python benchmarks/robustness.py --photos_dir=300w --stems=300w/splits/validation.txt --lost

Each photo has a .pts file with 68 landmarks of one of its faces, which is found if a box and the
labels' box have 0.3 of their union in common. For each way of spoiling the photos and each model
and detector: share of the faces found; NME of those, in percent of the distance of the outer eye
corners; share of those that are said to be lost; and share of the landmarks of the others within
their 90 % radius. The last rows have no detector, but the labels' box, moved or of another size.
dlib is beside where it and its model are installed: `pip install dlib-bin face_recognition_models`.

--nolook_around leaves out what is done for faces that the model is unsure of. --lost measures the
flag instead: on upright faces, on faces whose points are a quarter of the face away, and on what
is no face; and --times how long a photo takes with and without looking around, in turns.
"""

import dataclasses
import importlib.util
import pathlib
import sys
import time

import cv2
import numpy as np
from absl import flags, logging
from labeled_photos import OVERLAP, labeled, nme, overlap, shrunk

from keras_lapkl._support import app, console
from keras_lapkl._support.files import write_json
from keras_lapkl._support.provenance import run_provenance
from keras_lapkl.confidence import relative_error
from keras_lapkl.data.cropping import face_square
from keras_lapkl.data.images import read_image
from keras_lapkl.detection import looks
from keras_lapkl.detection.landmark_detector import LandmarkDetector
from keras_lapkl.schemes import IBUG68

_PHOTOS_DIR = flags.DEFINE_string("photos_dir", None, "Photos and .pts files.", required=True)
_STEMS = flags.DEFINE_string("stems", None, "File with one photo a line, without suffix.")
_MODELS = flags.DEFINE_list(
    "models", ["fpn-eighth-300w", "fpn-quarter-112-300w"], "Shipped models, or .tflite files."
)
_DETECTORS = flags.DEFINE_list("detectors", ["auto"], "Face detectors.")
_LOOK_AROUND = flags.DEFINE_bool("look_around", True, "Look around where the model is unsure.")
_ROWS = flags.DEFINE_list("rows", None, "Ways to spoil photos to measure; default all.")
_LOST = flags.DEFINE_bool("lost", False, "Measure the lost flag instead.")
_TIMES = flags.DEFINE_bool("times", False, "Measure times instead.")
_OUTPUT = flags.DEFINE_string("output", None, "JSON file to write.")

_NO_FACES = 400  # of each kind
_TURNS = 5


def main(_):
    cv2.setNumThreads(1)
    folder, stems = _PHOTOS_DIR.value, _STEMS.value
    faces = [(read_image(path), labels) for path, labels in labeled(pathlib.Path(folder), stems)]
    if _LOST.value:
        results = _lost(faces)
    elif _TIMES.value:
        results = _times(faces)
    else:
        results = _spoiled(faces)
    print(console.aligned([list(results[0]), *([_cell(v) for v in r.values()] for r in results)]))
    if _OUTPUT.value:
        found = {"faces": len(faces), "rows": results}
        write_json(_OUTPUT.value, {**found, "provenance": run_provenance()})


# ---- Photos that are spoiled


def _rotated(degrees):
    def spoil(photo, labels, rng):
        if not degrees:
            return photo, labels
        height, width = photo.shape[:2]
        turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1)
        turned = cv2.warpAffine(photo, turn, (width, height), borderMode=cv2.BORDER_REPLICATE)
        return turned, labels @ turn[:, :2].T + turn[:, 2]

    return spoil


def _noisy(sigma):
    return lambda photo, labels, rng: (_bytes(photo + sigma * rng.normal(size=photo.shape)), labels)


def _jpeg(quality):
    def spoil(photo, labels, rng):
        data = cv2.imencode(".jpg", photo[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        return np.ascontiguousarray(cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1]), labels

    return spoil


def _moved(share):
    """Motion blur over a share of the face's edge, in a random direction."""

    def spoil(photo, labels, rng):
        length = max(1, round(share * np.ptp(labels, axis=0).max()))
        angle, ticks = rng.uniform(0, np.pi), np.arange(length) - (length - 1) / 2
        side = length + 1 - length % 2
        kernel = np.zeros((side, side), np.float32)
        columns, rows = (np.rint(f(angle) * ticks).astype(int) for f in (np.cos, np.sin))
        kernel[rows + side // 2, columns + side // 2] = 1
        return cv2.filter2D(
            photo, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REPLICATE
        ), labels

    return spoil


def _gamma(power):
    return lambda photo, labels, rng: (_bytes(255 * (photo / 255) ** power), labels)


def _dark(share):
    """Light and noise of a camera in the dark."""
    return lambda photo, labels, rng: (
        _bytes(share * photo + 5 * rng.normal(size=photo.shape)),
        labels,
    )


def _colored(red, green, blue):
    return lambda photo, labels, rng: (_bytes(photo * np.array([red, green, blue])), labels)


def _faded(share):
    """Fog: a share of the contrast, on white."""
    return lambda photo, labels, rng: (_bytes(255 - share * (255.0 - photo)), labels)


def _peppered(share):
    """Half of the share of the pixels black, half white."""

    def spoil(photo, labels, rng):
        drawn, peppered = rng.random(photo.shape[:2]), photo.copy()
        peppered[drawn < share / 2] = 0
        peppered[drawn > 1 - share / 2] = 255
        return peppered, labels

    return spoil


def _blurred(share):
    """A Gaussian whose standard deviation is a share of the face's edge."""

    def spoil(photo, labels, rng):
        deviation = share * np.ptp(labels, axis=0).max()
        return cv2.GaussianBlur(photo, (0, 0), deviation), labels

    return spoil


def _covered(share):
    """A gray square, its side a share of the face's edge, somewhere on the face."""

    def spoil(photo, labels, rng):
        first, last = labels.min(0), labels.max(0)
        side = share * (last - first).max()
        x, y = rng.uniform(first, np.maximum(last - side, first + 1)).astype(int)
        covered = photo.copy()
        covered[max(y, 0) : y + round(side), max(x, 0) : x + round(side)] = 128
        return covered, labels

    return spoil


def _sized(edge):
    return lambda photo, labels, rng: shrunk(photo, labels, edge)


def _grouped(edge):
    """Twelve of it in a photo of 1600x1200 pixels, one of which counts."""

    def spoil(photo, labels, rng):
        photo, labels = shrunk(photo, labels, edge)
        row, column = divmod(int(rng.integers(12)), 4)
        part = photo[90:390, 120:520]
        return np.tile(part, (3, 4, 1)), labels + (400 * column - 120, 300 * row - 90)

    return spoil


def _bytes(values):
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


PHOTOS = {
    **{f"rotation {degrees}°": _rotated(degrees) for degrees in range(0, 181, 30)},
    **{f"noise σ {sigma}": _noisy(sigma) for sigma in (10, 20, 40)},
    **{f"salt and pepper {share:.0%}": _peppered(share) for share in (0.05, 0.2)},
    **{f"JPEG quality {quality}": _jpeg(quality) for quality in (30, 10)},
    **{f"blur {share:.0%}": _blurred(share) for share in (0.02, 0.04)},
    **{f"motion blur {share:.0%}": _moved(share) for share in (0.05, 0.1)},
    **{f"gamma {power}": _gamma(power) for power in (0.5, 2, 4)},
    **{f"dark {share:.0%}": _dark(share) for share in (0.3, 0.15)},
    "red light": _colored(1, 0.3, 0.2),
    "green light": _colored(0.3, 1, 0.3),
    "fog 20%": _faded(0.2),
    **{f"cover {share:.0%}": _covered(share) for share in (0.25, 0.5)},
    **{f"size {edge} px": _sized(edge) for edge in (80, 56, 40, 32, 24)},
    **{f"group of {edge} px": _grouped(edge) for edge in (100, 60, 40)},
}
BOXES = {
    "box as it is": (0, 1),
    **{f"box shift {shift:.0%}": (shift, 1) for shift in (0.1, 0.2, 0.3)},
    **{f"box scale {ratio:g}": (0, ratio) for ratio in (0.6, 0.8, 1.25, 1.6)},
}


def _spoiled(faces):
    ways = {f"{model} {name}": way for model in _MODELS.value for name, way in _ways(model).items()}
    ways |= _dlib()
    rows = []
    for name in _ROWS.value or (*PHOTOS, *BOXES):
        if name not in PHOTOS and name not in BOXES:
            raise ValueError(f"--rows: expected some of {[*PHOTOS, *BOXES]}. Received: {name!r}")
        rng = np.random.default_rng(0)
        answers = {way: [] for way in ways}
        for photo, labels in faces:
            box = None
            if name in PHOTOS:
                photo, labels = PHOTOS[name](photo, labels, rng)
            else:
                box = _wrong_box(labels, *BOXES[name], rng)
            for way, look in ways.items():
                answers[way].append((look(photo, box), labels))
        rows += [{"photos": name, "by": way, **_score(found)} for way, found in answers.items()]
        logging.info(
            "%s", console.aligned([[_cell(v) for v in r.values()] for r in rows[-len(ways) :]])
        )
    return rows


def _ways(model):
    """Functions from photo and box to faces, (box, landmarks, radius, lost) each."""
    found = {}
    for name in _DETECTORS.value:
        try:
            detect = _detector(model, name, _LOOK_AROUND.value)
        except ImportError as error:
            logging.warning("%s", error)
            continue

        def look(photo, box, detect=detect):
            faces = detect(photo, None if box is None else box[None])
            return [(each.box, each.landmarks, each.radius, each.lost) for each in faces]

        found[name] = look
    return found


def _detector(model, name, look_around):
    """A `LandmarkDetector`; without looking around as it was before it could."""
    detect = LandmarkDetector.from_pretrained(model, name)
    if not look_around:
        calibration = dataclasses.replace(detect.localizer.calibration, lost=None)
        detect.localizer.calibration = calibration
        detect.any_angle = False
    return detect


def _dlib():
    """dlib's detector and shape predictor, or nothing."""
    package = importlib.util.find_spec("face_recognition_models")
    if package is None or importlib.util.find_spec("dlib") is None:
        logging.warning("Without dlib: pip install dlib-bin face_recognition_models")
        return {}
    import dlib

    models = pathlib.Path(package.origin).parent / "models"
    predictor = dlib.shape_predictor(str(models / "shape_predictor_68_face_landmarks.dat"))
    detect = dlib.get_frontal_face_detector()

    def look(photo, box):
        photo = np.ascontiguousarray(photo)
        boxes = detect(photo) if box is None else [dlib.rectangle(*map(round, _squared(box)))]
        found = []
        for each in boxes:
            points = [(p.x, p.y) for p in predictor(photo, each).parts()]
            corners = (each.left(), each.top(), each.right(), each.bottom())
            found.append((np.array(corners, float), np.array(points, float), None, None))
        return found

    return {"dlib": look}


def _squared(box):
    """The square with the longer edge of a box: dlib's own boxes are squares."""
    center, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]).max() / 2
    return [*(center - half), *(center + half)]


def _wrong_box(labels, shift, ratio, rng):
    first, last = labels.min(0), labels.max(0)
    angle, edges = rng.uniform(0, 2 * np.pi), last - first
    center = (first + last) / 2 + shift * edges.max() * np.array([np.cos(angle), np.sin(angle)])
    return np.concatenate([center - ratio * edges / 2, center + ratio * edges / 2])


def _score(answers):
    """Of all faces those that were found, and of these the others."""
    errors, lost, inside = [], [], []
    for faces, labels in answers:
        best = max(faces, key=lambda face: overlap(face[0], labels), default=None)
        if best is None or overlap(best[0], labels) < OVERLAP:
            continue
        _, landmarks, radius, gone = best
        errors.append(nme(landmarks, labels))
        lost.append(gone)
        if radius is not None and not gone:
            inside.append(np.mean(np.linalg.norm(landmarks - labels, axis=1) <= radius))
    flagged = [each for each in lost if each is not None]
    sure = [error for error, gone in zip(errors, lost, strict=True) if not gone]
    return {
        "found %": 100 * len(errors) / len(answers),
        "NME %": np.mean(errors) if errors else None,
        "lost %": 100 * np.mean(flagged) if flagged else None,
        "NME % not lost": np.mean(sure) if flagged and sure else None,
        "coverage %": 100 * np.mean(inside) if inside else None,
    }


# ---- The lost flag


def _lost(faces):
    rows = []
    for model in _MODELS.value:
        detect = LandmarkDetector.from_pretrained(model, None)
        limit = detect.localizer.calibration.lost
        upright, missed, far = [], [], []
        others = {"crops beside faces": [], "textures": []}
        rng = np.random.default_rng(0)
        for photo, labels in faces:
            square = face_square(labels, IBUG68)
            relative, landmarks = _relative(detect, photo, square)
            upright.append(relative)
            if relative > limit:
                missed.append(nme(landmarks, labels))
            turns = [(0, 0, 1, angle) for angle in np.radians(range(30, 360, 30))]
            moves = [(*_direction(rng, 1.0), 1, 0), (0, 0, 0.4, 0), (0, 0, 2.5, 0)]
            for wrong in looks.squares_around(square, turns + moves):
                relative, landmarks = _relative(detect, photo, wrong)
                if _distance(landmarks, labels) > 0.25:
                    far.append(relative)
            others["crops beside faces"].append(_beside(detect, photo, labels, rng))
        others["textures"] = [
            _relative(detect, _texture(rng), _middle())[0] for _ in range(_NO_FACES)
        ]
        row = {
            "model": model,
            "lost from": limit,
            "upright faces": len(upright),
            "upright, lost %": 100 * len(missed) / len(upright),
            "NME % of these": np.mean(missed) if missed else None,
            "far off": len(far),
            "far off, lost %": 100 * np.mean(np.array(far) > limit),
            "far off, AUROC": _auroc(far, upright),
        }
        for name, values in others.items():
            values = [each for each in values if each is not None]
            row |= {f"{name}, lost %": 100 * np.mean(np.array(values) > limit)}
            row |= {f"{name}, AUROC": _auroc(values, upright)}
        rows.append(row)
    return rows


def _relative(detect, photo, square):
    (face,) = detect.localize(photo, square, detect.passes)
    return float(relative_error(face.landmarks, face.error)), face.landmarks


def _distance(landmarks, labels):
    """Mean distance, in edges of a square as large as the labels' box."""
    edge = np.sqrt(np.ptp(labels, axis=0).prod())
    return np.linalg.norm(landmarks - labels, axis=1).mean() / edge


def _direction(rng, length):
    angle = rng.uniform(0, 2 * np.pi)
    return length * np.cos(angle), length * np.sin(angle)


def _beside(detect, photo, labels, rng):
    """Of a square in a corner of the photo, with no landmark in its crop; None without such one."""
    height, width = photo.shape[:2]
    for _ in range(20):
        side = rng.uniform(0.1, 0.5) * min(height, width)
        x, y = rng.uniform(side / 2, width - side / 2), rng.uniform(side / 2, height - side / 2)
        if (np.abs(labels - (x, y)).max(1) > side / 2).all():
            square = np.array([x, y, side / detect.localizer.crop_scale, 0])
            return _relative(detect, photo, square)[0]
    return None


def _texture(rng, side=240):
    """Noise of a random color and fineness, in half of the cases with stripes."""
    coarse = rng.integers(2, side)
    noise = rng.uniform(0, 255, (coarse, coarse, 3)).astype(np.float32)
    texture = cv2.resize(noise, (side, side), interpolation=cv2.INTER_CUBIC)
    if rng.random() < 0.5:
        x, y = np.meshgrid(np.arange(side), np.arange(side))
        wave = np.sin((x * rng.normal() + y * rng.normal()) * rng.uniform(0.02, 0.6))
        texture = 0.5 * texture + 64 * (1 + wave[..., None])
    return _bytes(texture)


def _middle(side=240):
    return np.array([(side - 1) / 2, (side - 1) / 2, side / 4, 0])


def _auroc(higher, lower):
    """Probability that one of the first is above one of the second."""
    lower = np.sort(lower)
    places = np.searchsorted(lower, higher, "left") + np.searchsorted(lower, higher, "right")
    return float(np.mean(places) / (2 * len(lower)))


# ---- Times


def _times(faces):
    """Milliseconds of whole photos, upright ones, without and with looking around, in turns."""
    rows = []
    for model in _MODELS.value:
        for name in _DETECTORS.value:
            try:
                ways = [_detector(model, name, look_around) for look_around in (False, True)]
            except ImportError as error:
                logging.warning("%s", error)
                continue
            seconds = np.empty((len(faces), len(ways), _TURNS))
            for i, (photo, _) in enumerate(faces):
                for turn in range(_TURNS):
                    for j in (0, 1) if turn % 2 else (1, 0):
                        start = time.perf_counter()
                        ways[j](photo)
                        seconds[i, j, turn] = time.perf_counter() - start
            before, after = np.median(seconds, axis=2).T
            rows.append(
                {
                    "model": model,
                    "detector": name,
                    "ms before": 1000 * np.median(before),
                    "ms after": 1000 * np.median(after),
                    "median of ratios": np.median(after / before),
                    "ratio of sums": after.sum() / before.sum(),
                }
            )
    return rows


def _cell(value):
    if value is None or isinstance(value, str):
        return value or "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


if __name__ == "__main__":
    sys.exit(app.run_main(main))
