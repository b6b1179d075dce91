"""The data sets by the names that the tools' `--dataset` takes, as crops ready for training."""

import dataclasses
import pathlib

import numpy as np
from absl import logging

from keras_lapkl import schemes
from keras_lapkl.data import locate, shards
from keras_lapkl.data.crops import Crops, load_crops

DATASETS = ("synthetic", "300w", "aflw")
SYNTHETIC_SPLITS = {"train": 0, "validation": 1, "test": 2, "unlabeled": 3}
"""Seed of each synthetic split: no face is in two of them."""
SYNTHETIC_CROP_SCALE = 3.0
HOLD_OUT = 10
_LICENCES = {
    "300-W": "300-W: non-commercial research only",
    "AFLW": "AFLW: non-commercial research only",
    "synthetic": "synthetic faces: none",
}
_CHUNK = 100


def load(
    dataset,
    data_dir=None,
    split="train",
    *,
    image_size=80,
    crop_scale=3.0,
    margin=0,
    num_synthetic=None,
    skip_bad=False,
    cache_dir=None,
):
    """The crops of one split of a data set.

    Where a data set has no validation split of its own, each tenth training face is one.

    Args:
        dataset: a name in `DATASETS`.
        data_dir: folder of the data; not for `"synthetic"`.
        split: `"train"`, `"validation"`, `"test"` (AFLW, synthetic), `"common"`, `"challenge"`,
            `"full"` (300-W), or a file with one stem a line (300-W).
        image_size: side of the crops in pixels.
        crop_scale: side of the crop in longer edges of the box of the five points.
        margin: spare pixels on each side, for augmentation; synthetic faces have none.
        num_synthetic: how many synthetic faces.
        skip_bad: leave out images that can't be read, and say which, instead of stopping.
        cache_dir: folder to keep crops in between runs.

    Raises:
        ValueError: arguments that do not fit together, or data that can't be read.
        FileNotFoundError: data that is not there.
    """
    if crop_scale is None:
        raise ValueError(
            "`crop_scale` is not known: this model does not say which crop it is right on. Set the "
            "`crop_scale` of the loaded model, and save it."
        )
    if dataset == "synthetic":
        if data_dir:
            raise ValueError("Synthetic faces are made, not read: drop `data_dir`.")
        return _synthetic(split, num_synthetic, image_size, crop_scale)
    if num_synthetic is not None:
        raise ValueError(f"`num_synthetic` does not go with dataset {dataset!r}.")
    annotations = read(dataset, data_dir, split)
    cache = None
    if cache_dir is not None:
        name = pathlib.Path(split).stem
        cache = pathlib.Path(cache_dir) / f"{dataset}-{name}-{image_size}+{margin}.npz"
    crops = load_crops(annotations, image_size, crop_scale, margin, skip_bad=skip_bad, cache=cache)
    for path, reason in crops.skipped:
        logging.warning("Left out %s: %s", path, reason)
    return crops


def read(dataset, data_dir, split="train"):
    """The labels of one split of a data set, in pixels of its photos, which are not opened.

    Args:
        dataset, data_dir, split: as in `load`; synthetic faces have no photos.

    Returns:
        `Annotations`.

    Raises:
        ValueError: arguments that do not fit together, or labels that can't be read.
        FileNotFoundError: data that is not there.
    """
    if dataset == "synthetic":
        raise ValueError("Synthetic faces are made as crops and have no photos: name a data set.")
    readers = {"300w": _annotations_300w, "aflw": _annotations_aflw}
    if dataset not in readers:
        raise ValueError(f"`dataset` must be one of {DATASETS}. Received: {dataset!r}")
    if not data_dir:
        raise ValueError(f"`data_dir` must name the folder of {dataset}.")
    return readers[dataset](pathlib.Path(data_dir), split)


def licence(trained_on):
    """The limit that training data set to a model's use, by its line on them; None if unknown."""
    limits = {name: text for name, text in _LICENCES.items() if name in (trained_on or "")}
    return "; ".join(limits.values()) or None


def load_unlabeled(
    crops,
    unlabeled_dir=None,
    num_unlabeled=None,
    labeled_as_unlabeled=False,
    first_pass=None,
    cache_dir=None,
    memory_mb=4096,
):
    """The faces without labels that go with labeled crops.

    They come from a folder of shards by `tools/crop.py`, or of photos, which are then cropped by a
    first-pass model; or are the labeled faces themselves, the paper's control; or, beside
    synthetic faces, further synthetic ones.

    Args:
        crops: the labeled `Crops`.
        unlabeled_dir: folder of shards or of photos, one face in each.
        num_unlabeled: how many; None for all there are, 0 for none. A smaller number's faces are
            among a larger one's.
        labeled_as_unlabeled: take the labeled faces.
        first_pass: .tflite model that finds the faces in photos.
        cache_dir: folder for the crops of photos.
        memory_mb: megabytes of decoded faces to hold; what does not fit is read when needed.

    Returns:
        `UnlabeledCrops`, or None for none.

    Raises:
        ValueError: arguments that do not fit together, or fewer faces than asked.
    """
    if unlabeled_dir and labeled_as_unlabeled:
        raise ValueError("Give `unlabeled_dir` or `labeled_as_unlabeled`, not both.")
    if num_unlabeled is not None and num_unlabeled < 0:
        raise ValueError(f"`num_unlabeled` must be ≥ 0. Received: {num_unlabeled}")
    if num_unlabeled == 0:
        return None
    if labeled_as_unlabeled:
        found = shards.from_crops(crops)
    elif unlabeled_dir:
        if not shards.is_shard_folder(unlabeled_dir):
            unlabeled_dir = _crop_photos(crops, unlabeled_dir, first_pass, cache_dir)
        found = shards.read_shards(unlabeled_dir, memory_mb)
    elif num_unlabeled is None:
        return None
    elif crops.name.startswith("synthetic"):
        found = shards.from_crops(
            _synthetic("unlabeled", num_unlabeled, crops.image_size, crops.crop_scale)
        )
    else:
        raise ValueError("`num_unlabeled` needs `unlabeled_dir`, the folder of the faces.")
    return found if num_unlabeled is None else found.take(num_unlabeled)


def _crop_photos(crops, photos, first_pass, cache_dir):
    """The folder of shards of the photos, cropped as the labeled faces are."""
    if first_pass is None or cache_dir is None:
        raise ValueError(
            f"{photos} holds no shards. Cut its photos by tools/crop.py first, or name a "
            "first-pass model (.tflite) that finds the faces in them."
        )
    folder = pathlib.Path(cache_dir) / "unlabeled"
    find = locate.ByModel(first_pass)
    size = crops.image_size
    shards.crop_folder(photos, folder, find, size, size // 5, crops.crop_scale)
    return folder


def _synthetic(split, count, image_size, crop_scale):
    from keras_lapkl.data.synthetic import synthetic_faces

    if split not in SYNTHETIC_SPLITS:
        raise ValueError(
            f"Synthetic faces have the splits {sorted(SYNTHETIC_SPLITS)}. Received: {split!r}"
        )
    if crop_scale != SYNTHETIC_CROP_SCALE:
        raise ValueError(
            f"Synthetic faces are framed at crop scale {SYNTHETIC_CROP_SCALE:g}. Received: "
            f"{crop_scale:g}"
        )
    if count is None:
        count = 6000 if split == "train" else 500
    if count < 1:
        raise ValueError(f"`num_synthetic` must be at least 1. Received: {count}")
    parts = []
    for start in range(0, count, _CHUNK):
        logging.log_every_n_seconds(logging.INFO, "Made %d of %d faces.", 5, start, count)
        size = min(_CHUNK, count - start)
        parts.append(synthetic_faces(size, SYNTHETIC_SPLITS[split], image_size, start))
    images, landmarks = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Crops(
        images=images,
        landmarks=landmarks,
        visible=np.ones(landmarks.shape[:2], bool),
        transforms=np.tile(np.eye(2, 3), (count, 1, 1)),
        names=tuple(f"{split}/{i}" for i in range(count)),
        scheme=schemes.IBUG68,
        image_size=image_size,
        margin=0,
        crop_scale=crop_scale,
        name=f"synthetic {split}",
        summary=f"{count:,} synthetic faces",
    )


def _annotations_300w(folder, split):
    from keras_lapkl.data.w300 import read_300w

    has_list = (folder / "splits" / "validation.txt").is_file()
    if split not in ("train", "validation") or has_list:
        return read_300w(folder, split)
    return _hold_out(read_300w(folder, "train"), split)


def _annotations_aflw(folder, split):
    from keras_lapkl.data.aflw import read_aflw

    file = folder / "AFLWinfo_release.mat"
    if split == "test":
        return read_aflw(file, "test", folder)
    if split not in ("train", "validation"):
        raise ValueError(f"AFLW has train, validation and test. Received: {split!r}")
    return _hold_out(read_aflw(file, "train", folder), split)


def _hold_out(annotations, split):
    """Each tenth face for validation, the others for training."""
    held = np.arange(len(annotations)) % HOLD_OUT == 0
    kept = annotations.take(held if split == "validation" else ~held)
    note = f"{len(kept):,} of them for {split}, each tenth held out for validation"
    return dataclasses.replace(
        kept, name=f"{annotations.name} ({split})", summary=f"{annotations.summary}; {note}"
    )
