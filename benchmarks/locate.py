"""How well each way locates the five points, on photos with 68 landmarks beside them.

    python benchmarks/locate.py --photos_dir=photos --model=runs/w300/tflite/float32.tflite

Each photo has one .pts file, of one of its faces. A photo is kept if a face is found, and wrong if
none that was found has its center within a quarter of the labeled square's side and a side within
a factor exp(1/4).
"""

import pathlib
import sys

import numpy as np
from absl import flags
from labeled_photos import labeled

from keras_lapkl import schemes
from keras_lapkl._support import app, console
from keras_lapkl.data.cropping import crop_squares
from keras_lapkl.data.images import ImageError, read_image
from keras_lapkl.detection import first_pass

_PHOTOS_DIR = flags.DEFINE_string("photos_dir", None, "Photos and .pts files.", required=True)
_STEMS = flags.DEFINE_string("stems", None, "File with one photo a line, without suffix.")
_MODEL = flags.DEFINE_string("model", None, "A .tflite file by tools/convert.py.", required=True)
_MAX_SCALES = flags.DEFINE_list("max_scales", [1.4, 1.6, 1.8, 2.0, 99], "To compare, pixels.")
_WRONG = 0.25


def main(_):
    photos = [
        (read_image(path), crop_squares(points[None], schemes.IBUG68, 1)[0])
        for path, points in labeled(pathlib.Path(_PHOTOS_DIR.value), _STEMS.value)
    ]
    ways = [
        (f"model, scale ≤ {s}", first_pass.ByModel(_MODEL.value, max_scale=float(s)))
        for s in _MAX_SCALES.value
    ]
    rows = [("found by", "kept %", "wrong among the kept %", "median distance %")]
    rows += [_row(name, way, photos) for name, way in ways]
    rows.append(_row("detector", first_pass.ByDetector(), photos))
    print(console.aligned(rows))
    print(f"{len(photos):,} photos. Distance in percent of the side of the labeled square.")


def _row(name, find, photos):
    distances = np.array([_distance(find, image, square) for image, square in photos])
    kept = distances[np.isfinite(distances)]
    if not kept.size:
        return name, "0", "", ""
    return (
        name,
        f"{100 * len(kept) / len(distances):.1f}",
        f"{100 * np.mean(kept > _WRONG):.1f}",
        f"{100 * np.median(kept):.1f}",
    )


def _distance(find, image, square):
    """Of the nearest face found; infinite if there is none."""
    try:
        found = find(image)
    except ImageError:
        return np.inf
    return min((first_pass.distance(square, other) for other in found), default=np.inf)


if __name__ == "__main__":
    sys.exit(app.run_main(main))
