"""What a crop of a large face costs, and how far its landmarks are from those of the exact mean.

    python benchmarks/large_faces.py --photos_dir=300w --stems=300w/splits/validation.txt \\
        --sides=500,700,1000,1400,2000
    python benchmarks/large_faces.py --photos_dir=photos

Beside `warp_crop` stand one reading of the square's pixels, which is OpenCV's halving, the mean of
a sample of every pixel or more, as crops were cut before, and `mobile/localize.py`. Times are the
processor's, interleaved, so that a busy machine counts little. Landmarks are compared on squares
rotated by up to 17°, about the faces as they are, or scaled by OpenCV so that the square has the
next of --sides pixels. Squares that are cut as before are left out.
"""

import math
import pathlib
import runpy
import sys
import time

import cv2
import numpy as np
from absl import flags
from labeled_photos import labeled, nme

from keras_lapkl import load_model, pretrained
from keras_lapkl._support import app, console
from keras_lapkl._support.files import write_json
from keras_lapkl._support.provenance import run_provenance
from keras_lapkl.data.cropping import apply_transform, crop_squares, crop_transform, warp_crop
from keras_lapkl.data.images import read_image
from keras_lapkl.schemes import IBUG68

_PHOTOS_DIR = flags.DEFINE_string("photos_dir", None, "Photos and .pts files.", required=True)
_STEMS = flags.DEFINE_string("stems", None, "File with one photo a line, without suffix.")
_SIDES = flags.DEFINE_list("sides", [], "Pixels of the scaled squares; default as they are.")
_MODELS = flags.DEFINE_list("models", list(pretrained.NAMES), "Shipped models, by commas.")
_ROUNDS = flags.DEFINE_integer("rounds", 30, "Timed rounds.", lower_bound=1)
_OUTPUT = flags.DEFINE_string("output", None, "JSON file to write.")

_TIMED = (100, 250, 500, 1000, 2000)
_ANGLE = 0.3  # radians


def main(_):
    cv2.setNumThreads(1)
    faces = labeled(pathlib.Path(_PHOTOS_DIR.value), _STEMS.value)
    rows = [_row(name, _squares(faces)) for name in _MODELS.value]
    print(console.aligned([list(rows[0]), *([_cell(v) for v in row.values()] for row in rows)]))
    times = _times()
    if _OUTPUT.value:
        provenance = run_provenance()
        write_json(_OUTPUT.value, {"landmarks": rows, "ms": times, "provenance": provenance})


def _squares(faces):
    """(photo, landmarks) of each face, scaled to the next of the sides if there are any."""
    sides = list(map(float, _SIDES.value))
    for i, (path, points) in enumerate(faces):
        photo = read_image(path)
        if sides:
            x, y, edge = crop_squares(points[None], IBUG68, 3.0)[0]
            left, top = max(0, int(x - 0.8 * edge)), max(0, int(y - 0.8 * edge))
            part = photo[top : int(y + 0.8 * edge), left : int(x + 0.8 * edge)]
            size = np.rint(sides[i % len(sides)] / edge * np.array(part.shape[1::-1])).astype(int)
            photo = cv2.resize(part, size.tolist(), interpolation=cv2.INTER_CUBIC)
            points = (points - (left, top) + 0.5) * size / part.shape[1::-1] - 0.5
        yield photo, points


def _row(name, faces):
    """Errors by both crops, and how far apart their landmarks are."""
    model, rng = load_model(name, (".tflite",)), np.random.default_rng(0)
    size, apart, before, after = model.image_size, [], [], []
    for photo, points in faces:
        square = crop_squares(points[None], IBUG68, model.crop_scale)[0]
        if square[2] <= 3 * size:
            continue
        transform = crop_transform(np.append(square, rng.uniform(-_ANGLE, _ANGLE)), size)
        truth = apply_transform(transform, points)
        exact, _ = model(_exact_mean(photo, transform, size))
        found, _ = model(warp_crop(photo, transform, size))
        apart.append(np.linalg.norm(found - exact, axis=1).mean())
        before.append(nme(exact, truth))
        after.append(nme(found, truth))
    if not apart:
        raise ValueError(f"{_PHOTOS_DIR.value}: expected large faces. Received: none")
    return {
        "model": name,
        "faces": len(apart),
        "apart, px of the crop": float(np.mean(apart)),
        "NME % by the exact mean": float(np.mean(before)),
        "NME %": float(np.mean(after)),
    }


def _exact_mean(photo, transform, size):
    """As `warp_crop`, by as many samples as there are pixels."""
    count = math.ceil(1 / math.sqrt(np.linalg.det(transform[:, :2])))
    finer = count * transform + [[0, 0, (count - 1) / 2]]
    fine = cv2.warpAffine(photo, finer, (count * size,) * 2, borderMode=cv2.BORDER_REPLICATE)
    return cv2.resize(fine, (size, size), interpolation=cv2.INTER_AREA)


def _times():
    """Milliseconds of reading and of each way to cut, printed too."""
    import timing

    localize = runpy.run_path(str(pathlib.Path(__file__).parents[1] / "mobile/localize.py"))
    photo = np.random.default_rng(0).integers(0, 256, (3000, 3000, 3), np.uint8)
    found = {}
    for side in _TIMED:
        for angle in (0.0, _ANGLE):
            transform = crop_transform((1500, 1500, side, angle), 80)
            part, half = photo[:side, :side], (side // 2, side // 2)
            work = {
                "reading": lambda part=part, half=half: cv2.resize(
                    part, half, interpolation=cv2.INTER_AREA
                ),
                "exact mean": lambda to=transform: _exact_mean(photo, to, 80),
                "warp_crop": lambda to=transform: warp_crop(photo, to, 80),
                "localize.py": lambda side=side, angle=angle: localize["cut"](
                    photo, (1500, 1500, side), 80, angle
                ),
            }
            seconds = timing.take_turns(
                {name: _timed(step) for name, step in work.items()}, _ROUNDS.value
            )
            found[f"{side} px, {angle} rad"] = {
                name: timing.summary(1000 * taken) for name, taken in seconds.items()
            }
    columns = {name: {row: of[name] for row, of in found.items()} for name in work}
    print(timing.table("ms", columns))
    print(timing.where(run_provenance(), 1))
    return found


def _timed(step):
    def work():
        step()  # not timed: the one before has left other things in the caches
        start = time.process_time()
        step()
        return time.process_time() - start

    return work


def _cell(value):
    return f"{value:.4f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.exit(app.run_main(main))
