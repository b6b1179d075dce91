"""What a crop of a large face costs, and how far its landmarks are from those of the exact mean.

    python benchmarks/large_faces.py --data_dir=300w --photos_dir=photos --output=large_faces.json

Beside `warp_crop` stand one reading of the square's pixels (OpenCV's halving) and the mean of at
least one sample of every pixel, as crops were cut before. Times are of one thread, interleaved.
Landmarks are compared on rotated squares about faces of 300-W, scaled to --sides pixels of the
square by OpenCV, and of the photos in --photos_dir as they are, with .pts files beside them.
"""

import math
import sys

import cv2
import numpy as np
from absl import flags

from keras_lapkl import load_model, pretrained, schemes
from keras_lapkl._support import app, console
from keras_lapkl._support.files import write_json
from keras_lapkl._support.provenance import run_provenance
from keras_lapkl.data import datasets, read_pts
from keras_lapkl.data.cropping import apply_transform, crop_squares, crop_transform, warp_crop
from keras_lapkl.data.images import find_images, read_image

_DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder of 300-W.", required=True)
_PHOTOS_DIR = flags.DEFINE_string("photos_dir", None, "Photos of large faces, with .pts files.")
_MODELS = flags.DEFINE_list("models", list(pretrained.NAMES), "Shipped models, by commas.")
_SIDES = flags.DEFINE_list("sides", ["500", "700", "1000", "1400", "2000"], "Pixels, by commas.")
_FACES = flags.DEFINE_integer("faces", 40, "Faces of 300-W validation.", lower_bound=1)
_ROUNDS = flags.DEFINE_integer("rounds", 30, "Timed rounds.", lower_bound=1)
_OUTPUT = flags.DEFINE_string("output", None, "JSON file to write.")

_TIMED = (100, 250, 500, 1000, 2000)
_ANGLE = 0.3  # radians; up to it squares are rotated to both sides


def main(_):
    cv2.setNumThreads(1)
    sides = list(map(int, _SIDES.value))
    times = _times()
    rows = [_row(name, "scaled", _scaled(sides)) for name in _MODELS.value]
    if _PHOTOS_DIR.value:
        rows += [_row(name, "photos", _photos()) for name in _MODELS.value]
    print(console.aligned([list(rows[0]), *([_cell(v) for v in row.values()] for row in rows)]))
    if _OUTPUT.value:
        provenance = run_provenance(app.resolved_flags())
        write_json(_OUTPUT.value, {"ms": times, "landmarks": rows, "provenance": provenance})


def _times():
    """Milliseconds of reading, of the exact mean and of `warp_crop`, printed too."""
    import timing

    photo = np.random.default_rng(0).integers(0, 256, (3000, 3000, 3), np.uint8)
    found = {}
    for side in _TIMED:
        for angle in (0.0, _ANGLE):
            transform = crop_transform((1500, 1500, side, angle), 80)
            part, half = photo[:side, :side], (side // 2,) * 2
            work = {
                "reading": lambda part=part, half=half: cv2.resize(
                    part, half, interpolation=cv2.INTER_AREA
                ),
                "exact mean": lambda to=transform: _exact_mean(photo, to, 80),
                "warp_crop": lambda to=transform: warp_crop(photo, to, 80),
            }
            steps = {name: timing.repeated(step, 1) for name, step in work.items()}
            seconds = timing.take_turns(steps, _ROUNDS.value)
            found[f"{side} px, {angle} rad"] = {
                name: timing.summary(1000 * taken) for name, taken in seconds.items()
            }
    columns = {name: {row: of[name] for row, of in found.items()} for name in work}
    print(timing.table("ms", columns))
    print(timing.where(run_provenance(app.resolved_flags()), 1), "\n")
    return found


def _exact_mean(photo, transform, size):
    """As `warp_crop`, by as many samples as there are pixels."""
    count = math.ceil(1 / math.sqrt(np.linalg.det(transform[:, :2])))
    finer = count * transform + [[0, 0, (count - 1) / 2]]
    fine = cv2.warpAffine(photo, finer, (count * size,) * 2, borderMode=cv2.BORDER_REPLICATE)
    return cv2.resize(fine, (size, size), interpolation=cv2.INTER_AREA)


def _row(name, faces, pairs):
    """Errors by both crops, and how far apart their landmarks are."""
    model, rng = load_model(name, (".tflite",)), np.random.default_rng(0)
    moved, before, after = [], [], []
    for photo, points in pairs:
        square = crop_squares(points[None], schemes.IBUG68, model.crop_scale)[0]
        if square[2] <= 3 * model.image_size:  # cut as before
            continue
        square = np.append(square, rng.uniform(-_ANGLE, _ANGLE))
        transform = crop_transform(square, model.image_size)
        truth = apply_transform(transform, points)
        eyes = np.linalg.norm(np.subtract(*truth[list(schemes.IBUG68.eye_corners)]))
        exact, _ = model(_exact_mean(photo, transform, model.image_size))
        found, _ = model(warp_crop(photo, transform, model.image_size))
        moved.append(_distance(found, exact))
        before.append(100 * _distance(exact, truth) / eyes)
        after.append(100 * _distance(found, truth) / eyes)
    return {
        "model": name,
        "faces": faces,
        "number": len(moved),
        "apart, px of the crop": float(np.mean(moved)),
        "NME % by the exact mean": float(np.mean(before)),
        "NME %": float(np.mean(after)),
    }


def _distance(points, others):
    return np.linalg.norm(points - others, axis=1).mean()


def _cell(value):
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _scaled(sides):
    """Faces of 300-W validation and what is around them, each at the next of the sides."""
    faces = datasets.read("300w", _DATA_DIR.value, "validation")
    chosen = np.random.default_rng(0).permutation(len(faces.paths))[: _FACES.value]
    for i in chosen:
        photo, points = read_image(faces.paths[i]), faces.landmarks[i]
        x, y, edge = crop_squares(points[None], faces.scheme, 3.0)[0]
        left, top = max(0, int(x - 0.8 * edge)), max(0, int(y - 0.8 * edge))
        part = photo[top : int(y + 0.8 * edge), left : int(x + 0.8 * edge)]
        for side in sides:
            width, height = (round(side / edge * length) for length in part.shape[1::-1])
            larger = cv2.resize(part, (width, height), interpolation=cv2.INTER_CUBIC)
            ratio = np.array([width / part.shape[1], height / part.shape[0]])
            yield larger, (points - (left, top) + 0.5) * ratio - 0.5


def _photos():
    for path in find_images(_PHOTOS_DIR.value):
        labels = path.with_suffix(".pts")
        if labels.is_file():
            yield read_image(path), read_pts(labels)


if __name__ == "__main__":
    sys.exit(app.run_main(main))
