"""How many images a core gets through in each stage of cropping faces and reading them back.

    python benchmarks/crop.py --input_dir=photos --model=runs/w300/tflite/float32.tflite

Seconds are the processor's, on one core, so that a busy machine counts little; waiting for a disk
is not in them. The last columns are what ten million images would take.
"""

import collections
import os
import pathlib
import resource
import sys
import tempfile

import cv2
import numpy as np
from absl import flags

from keras_lapkl._support import app, console
from keras_lapkl.data.cropping import crop_transform, warp_crop
from keras_lapkl.data.images import (
    IMAGE_SUFFIXES,
    ImageError,
    find_images,
    read_image,
    walk_listed,
)
from keras_lapkl.data.unlabeled import records, shards
from keras_lapkl.data.unlabeled.listing import Listing
from keras_lapkl.detection import first_pass

_INPUT_DIR = flags.DEFINE_string("input_dir", None, "Folder of photos.", required=True)
_MODEL = flags.DEFINE_string("model", None, "A .tflite file by tools/convert.py.", required=True)
_NUM_PHOTOS = flags.DEFINE_integer("num_photos", 1000, "Photos to measure with.", lower_bound=1)
_NUM_DETECTED = flags.DEFINE_integer("num_detected", 100, "Photos for the detector.", lower_bound=1)

_SIZE, _MARGIN, _CROP_SCALE = 80, 16, 3
_SIDE = _SIZE + 2 * _MARGIN
_BATCH = 8
_MANY = 10_000_000


def main(_):
    cv2.setNumThreads(1)
    listed = find_images(_INPUT_DIR.value)
    chosen = np.random.default_rng(0).permutation(len(listed))[: _NUM_PHOTOS.value]
    photos = [listed[i] for i in np.sort(chosen)]
    with tempfile.TemporaryDirectory() as folder:
        rows = [
            ("stage", "images/s", "core hours for 10 million", "GB for 10 million"),
            _row(
                "list",
                len(listed),
                lambda: Listing(
                    pathlib.Path(_INPUT_DIR.value),
                    walk_listed(_INPUT_DIR.value, IMAGE_SUFFIXES, collections.Counter()),
                    4096,
                ),
            ),
            *_stage_rows(photos),
            *_whole_rows(photos, pathlib.Path(folder)),
        ]
    print(console.aligned(rows))


def _stage_rows(photos):
    """Each stage of cropping on its own, in this process."""
    model = first_pass.ByModel(_MODEL.value)
    images, faces, crops = [], [], []

    def find():
        for image in images:
            try:
                faces.extend((image, square) for square in model(image))
            except ImageError:  # takes its time, too
                continue

    def warp():
        for image, square in faces:
            scaled = np.append(square, 0)[:4] * (1, 1, _CROP_SCALE, 1)  # a rotated one has an angle
            transform = crop_transform(scaled, _SIZE, _MARGIN)
            crops.append(warp_crop(image, transform, _SIDE))

    def encode():
        for crop in crops:
            records.face(crop, "photo.jpg", (0, 0, 1))

    yield _row("read and decode", len(photos), lambda: images.extend(map(read_image, photos)))
    yield _row("find by model", len(images), find)
    yield _detector_row(images[: _NUM_DETECTED.value])
    yield _row("warp", len(faces), warp)
    yield _row("encode, checksums", len(crops), encode)


def _detector_row(images):
    detector = first_pass.ByDetector()
    detector(images[0])  # makes its interpreter
    return _row("find by detector", len(images), lambda: list(map(detector, images)))


def _whole_rows(photos, folder):
    """Cropping as the tool does it, all processes counted, and reading what it wrote."""
    (folder / "in").mkdir()
    for i, photo in enumerate(photos):
        os.symlink(photo.absolute(), folder / "in" / f"{i}{photo.suffix}")
    out = folder / "out"
    model = first_pass.ByModel(_MODEL.value)
    yield _row(
        "all, by model",
        len(photos),
        lambda: shards.crop_folder(
            folder / "in", out, model, _SIZE, _MARGIN, _CROP_SCALE, workers=1, progress=False
        ),
        out,
    )
    faces = shards.read_shards(out)
    order = np.random.default_rng(0).permutation(len(faces))
    batches = [order[i : i + _BATCH] for i in range(0, len(order), _BATCH)]

    def gather(source):
        for batch in batches:
            source.gather(batch)

    yield _row("open", len(faces), lambda: shards.read_shards(out))
    unheld = shards.read_shards(out, memory_mb=0)
    yield _row(f"gather {_BATCH} from disk", len(faces), lambda: gather(unheld))
    gather(faces)
    yield _row(f"gather {_BATCH} from memory", len(faces), lambda: gather(faces))


def _row(stage, count, work, written=None):
    start = _seconds()
    work()
    rate = count / (_seconds() - start)
    size = ""
    if written is not None:
        size = f"{sum(p.stat().st_size for p in written.iterdir()) / count * _MANY / 1e9:,.0f}"
    return stage, f"{rate:,.0f}", f"{_MANY / rate / 3600:,.2f}", size


def _seconds():
    """Processor time of this process and of those of it that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


if __name__ == "__main__":
    sys.exit(app.run_main(main))
