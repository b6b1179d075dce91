"""The data sets by the names that the tools' `--dataset` takes, as crops ready for training."""

import dataclasses
import os
import pathlib
from typing import Any, Literal

import numpy as np
from absl import logging

from keras_lapkl import schemes
from keras_lapkl._support import console
from keras_lapkl._support.folders import OtherDataError, OtherSettingsError, first_fitting, owned
from keras_lapkl._support.names import shortened
from keras_lapkl._support.types import PathLike
from keras_lapkl.data.annotations import Annotations
from keras_lapkl.data.cropping import (
    apply_transform,
    default_crop_scale,
    default_margin,
    invert_transform,
)
from keras_lapkl.data.crops import Crops, load_crops, recorded
from keras_lapkl.data.keypoints import KeypointError, croppable
from keras_lapkl.data.labels import formats
from keras_lapkl.data.prediction_files import CocoNames
from keras_lapkl.data.readers.aflw import read_aflw
from keras_lapkl.data.readers.coco import read_coco, read_coco_names
from keras_lapkl.data.readers.keypoint_csv import read_csv
from keras_lapkl.data.readers.w300 import read_300w
from keras_lapkl.data.tables import CONVERT
from keras_lapkl.data.unlabeled import shards
from keras_lapkl.data.unlabeled.crops import UnlabeledCrops
from keras_lapkl.data.unlabeled.shards import Locator
from keras_lapkl.schemes import CropFrom, Scheme, SchemeLike
from keras_lapkl.training_data import LICENSES, DataSet

OWN = {"csv": ".csv", "coco": ".json"}
"""The data sets of keypoints of anything, with how their files end."""
SYNTHETIC_SPLITS = {"train": 0, "validation": 1, "test": 2, "unlabeled": 3}
"""Seed of each synthetic split: no face is in two of them."""
SYNTHETIC_CROP_SCALE = 3.0
SPLITS = ("train", "validation", "test", "common", "challenge", "full")
"""Those that official data sets have by name; others are files."""
HOLD_OUT = 10
_CHUNK = 100


def load(
    dataset: str,
    data_dir: PathLike | None = None,
    split: PathLike = "train",
    *,
    image_size: int = 80,
    crop_scale: float | Literal["auto"] | None = "auto",
    margin: int = 0,
    scheme: SchemeLike | None = None,
    crop_from: CropFrom | None = None,
    category: str | None = None,
    num_synthetic: int | None = None,
    skip_bad: bool = False,
    cache_dir: PathLike | None = None,
    hold_out: bool = True,
) -> Crops:
    """The crops of one split of a data set.

    Where a data set has no validation split of its own, each tenth training image is one.

    Args:
        dataset: one of `dataset_names()`.
        data_dir: folder of the data; not for `"synthetic"`. Keypoint files need none where `split`
            is a file that their images' paths start from.
        split: `"train"`, `"validation"`, `"test"` (AFLW, synthetic), `"common"`, `"challenge"`,
            `"full"` (300-W), a file with one stem a line (300-W), or a keypoint file or the stem of
            one in the folder (csv, coco).
        image_size: side of the crops in pixels.
        crop_scale: side of the crop in longer edges of the box of the five points, or of what the
            scheme crops from; `"auto"` for `default_crop_scale`.
        margin: spare pixels on each side, for augmentation; synthetic faces have none.
        scheme: which landmarks are expected and how they are cropped, such as that of a model; as
            `schemes.get` takes it. None for the data's own.
        crop_from: what keypoints are cropped from, one of `schemes.CROP_FROM`; None for what the
            scheme says.
        category: which of the categories of a COCO file, by name.
        num_synthetic: how many synthetic faces.
        skip_bad: leave out images that can't be read, and say which, instead of stopping.
        cache_dir: folder to keep crops in between runs.
        hold_out: as in `read`.

    Raises:
        ValueError: arguments that do not fit together, or data that can't be read.
        FileNotFoundError: data that is not there.

    Example:

    >>> load("synthetic", split="test", num_synthetic=3).images.shape
    (3, 80, 80, 3)
    """
    crop_scale = known_crop_scale(crop_scale)
    scheme = None if scheme is None else schemes.get(scheme)
    _check_fit(dataset, crop_from, category, num_synthetic)
    if dataset == "synthetic":
        if data_dir:
            raise ValueError("Synthetic faces are made, not read: drop `data_dir`.")
        if scheme is not None and scheme != schemes.IBUG68:
            raise ValueError(
                f"Synthetic faces have scheme {schemes.IBUG68.name!r}. Received: {scheme.name!r}"
            )
        return _synthetic(split, num_synthetic, image_size, crop_scale)
    annotations = read(
        dataset,
        data_dir,
        split,
        scheme=scheme,
        crop_from=crop_from,
        category=category,
        missing_ok=skip_bad,
        hold_out=hold_out,
    )
    if dataset in OWN:
        annotations = croppable(annotations)
    cache = None
    if cache_dir is not None:
        name = shortened(f"{dataset}-{pathlib.Path(split).stem}-{image_size}+{margin}")
        cache = pathlib.Path(cache_dir) / f"{name}.npz"
    return cut(
        annotations,
        image_size,
        crop_scale,
        margin,
        skip_bad,
        cache,
        tell_outside=dataset in OWN,
        loaded=_arguments(dataset, data_dir, split, category, skip_bad, hold_out),
    )


def cut(
    annotations: Annotations,
    image_size: int = 80,
    crop_scale: float | Literal["auto"] = "auto",
    margin: int = 0,
    skip_bad: bool = False,
    cache: PathLike | None = None,
    tell_outside: bool = True,
    loaded: dict[str, Any] | None = None,
) -> Crops:
    """The crops of labels by `read`, which `croppable` has seen if they are keypoints.

    Args:
        annotations, cache, loaded: as in `load_crops`.
        image_size, crop_scale, margin, skip_bad: as in `load`.
        tell_outside: whether to tell of some landmarks outside of their images.

    Raises:
        ValueError: as `load_crops`, or landmarks that are mostly outside of their images.
    """
    known_crop_scale(crop_scale)
    if crop_scale == "auto":
        crop_scale = default_crop_scale(annotations.scheme)
    crops = load_crops(annotations, image_size, crop_scale, margin, skip_bad, cache, loaded=loaded)
    for path, reason in crops.skipped:
        logging.warning("Left out %s: %s", path, reason)
    _check_inside(crops, tell_outside)
    return crops


def known_crop_scale(crop_scale: float | Literal["auto"] | None) -> float | Literal["auto"]:
    """A crop scale; ValueError for None, which is that of a model that does not say it."""
    if crop_scale is None:
        raise ValueError(
            "`crop_scale` is not known: this model does not say which crop it is right on. Set the "
            "`crop_scale` of the loaded model, and save it."
        )
    return crop_scale


def _arguments(dataset, data_dir, split, category, skip_bad, hold_out):
    """What `load` must be given to read the same again, from whatever folder it is called."""
    is_file = is_own_file(dataset, split) if dataset in OWN else split not in SPLITS
    if is_file:
        split = os.path.abspath(split)
    found = {
        "dataset": dataset,
        "data_dir": None if data_dir is None else os.path.abspath(data_dir),
        "split": os.fspath(split),
        "category": category,
        "skip_bad": skip_bad,
    }
    return found if hold_out else {**found, "hold_out": False}


def read(
    dataset: str,
    data_dir: PathLike | None,
    split: PathLike = "train",
    *,
    scheme: SchemeLike | None = None,
    crop_from: CropFrom | None = None,
    category: str | None = None,
    missing_ok: bool = True,
    hold_out: bool = True,
) -> Annotations:
    """The labels of one split of a data set, in pixels of its photos, which are not opened.

    Args:
        dataset, data_dir, split, scheme, crop_from, category: as in `load`; synthetic faces have no
            photos.
        missing_ok: whether photos of keypoint files may be missing.
        hold_out: whether `"train"` of data without a validation split lacks the tenth that is held
            out; False for all of it.

    Returns:
        `Annotations`.

    Raises:
        ValueError: arguments that do not fit together, or labels that can't be read.
        FileNotFoundError: data that is not there.

    Example:

    >>> read("300w", "300w", "common").landmarks.shape
    (554, 68, 2)
    """
    if dataset == "synthetic":
        raise ValueError("Synthetic faces are made as crops and have no photos: name a data set.")
    scheme = None if scheme is None else schemes.get(scheme)
    _check_fit(dataset, crop_from, category)
    if dataset in OWN:
        file, is_part = _own_file(dataset, data_dir, split)
        found = _annotations_own(file, dataset, data_dir, scheme, crop_from, category, missing_ok)
        return _part(found, split, hold_out, missing_ok) if is_part else found
    if dataset not in READERS:
        raise ValueError(f"`dataset` must be one of {dataset_names()}. Received: {dataset!r}")
    if not data_dir:
        raise ValueError(f"`data_dir` must name the folder of {dataset}.")
    folder = pathlib.Path(data_dir)
    lacks = LACKS_VALIDATION.get(dataset)
    if split not in ("train", "validation") or lacks is None or not lacks(folder):
        return _as(scheme, READERS[dataset](folder, split))
    return _as(scheme, _part(READERS[dataset](folder, "train"), split, hold_out))


def _check_fit(dataset, crop_from=None, category=None, num_synthetic=None):
    for name, value, allowed in (
        ("num_synthetic", num_synthetic, ("synthetic",)),
        ("crop_from", crop_from, tuple(OWN)),
        ("category", category, ("coco",)),
    ):
        if value is not None and dataset not in allowed:
            raise ValueError(f"`{name}` does not go with dataset {dataset!r}.")


def shared_images(crops: Crops, validation: Crops) -> str | None:
    """Tells of images that are in both: an error on them says little of others. None if none is."""
    shared = sorted(set(crops.names) & set(validation.names))
    if not shared:
        return None
    return (
        f"{len(shared)} images of {validation.name} are among those of {crops.name}, such as "
        f"{shared[0]}: their error says little of others."
    )


def count_in(crops: Crops, folder: PathLike) -> int:
    """How many of the pictures of crops lie in a folder of photos; 0 for one of shards.

    Args:
        crops: of files.
        folder: a folder of this machine.
    """
    if shards.is_shard_folder(folder):
        return 0
    home = pathlib.Path(os.path.realpath(folder))
    names = (os.path.realpath(name) for name in set(crops.names))
    return sum(pathlib.Path(name).is_relative_to(home) for name in names)


def is_unlabeled_asked(
    unlabeled_dir: PathLike | None, num_unlabeled: int | None, labeled_as_unlabeled: bool
) -> bool:
    """Whether arguments of `load_unlabeled` ask for faces without labels.

    Raises:
        ValueError: arguments that do not fit together.
    """
    if unlabeled_dir and labeled_as_unlabeled:
        raise ValueError("Give `unlabeled_dir` or `labeled_as_unlabeled`, not both.")
    if num_unlabeled is not None and num_unlabeled < 0:
        raise ValueError(f"`num_unlabeled` must be ≥ 0. Received: {num_unlabeled}")
    if num_unlabeled is None:
        return bool(unlabeled_dir) or labeled_as_unlabeled
    return num_unlabeled > 0


def load_unlabeled(
    crops: Crops,
    unlabeled_dir: PathLike | None = None,
    num_unlabeled: int | None = None,
    labeled_as_unlabeled: bool = False,
    locate: Locator | None = None,
    cache_dir: PathLike | None = None,
    memory_mb: float = 4096,
) -> UnlabeledCrops | None:
    """The faces without labels that go with labeled crops.

    They come from a folder of shards by `lapkl crop`, or of photos, which are then cropped as
    `locate` says, or whole where the labeled ones are; or are the labeled faces themselves, the
    paper's control; or, beside synthetic faces, further synthetic ones.

    Args:
        crops: the labeled `Crops`.
        unlabeled_dir: folder of shards or of photos, one face in each.
        num_unlabeled: how many; None for all there are, 0 for none. A smaller number's faces are
            among a larger one's.
        labeled_as_unlabeled: take the labeled faces.
        locate: what finds the five points of the faces in photos, such as `ByModel`.
        cache_dir: folder for the crops of photos, which need one. They are made by several
            processes: a script that calls this needs `if __name__ == "__main__":`.
        memory_mb: megabytes of decoded faces to hold; what does not fit is read when needed.

    Returns:
        `UnlabeledCrops`, or None for none.

    Raises:
        ValueError: arguments that do not fit together, or fewer faces than asked.

    Example:

    >>> labeled = load("synthetic", num_synthetic=10)
    >>> len(load_unlabeled(labeled, num_unlabeled=20))
    20
    """
    if not is_unlabeled_asked(unlabeled_dir, num_unlabeled, labeled_as_unlabeled):
        return None
    if unlabeled_dir and crops.crop_from == "box":
        raise ValueError(
            "Images without labels are cropped whole, or by the landmarks that are found in them. "
            "These labeled ones are cropped from their boxes: a model is only right on one crop "
            "rule."
        )
    if labeled_as_unlabeled:
        found = shards.from_crops(crops)
    elif unlabeled_dir:
        if not shards.is_shard_folder(unlabeled_dir):
            unlabeled_dir = _crop_photos(crops, unlabeled_dir, locate, cache_dir)
        found = shards.read_shards(unlabeled_dir, memory_mb)
    elif crops.source is not None and crops.source.is_synthetic:
        found = shards.from_crops(
            _synthetic("unlabeled", num_unlabeled, crops.image_size, crops.crop_scale)
        )
    else:
        raise ValueError("`num_unlabeled` needs `unlabeled_dir`, the folder of the faces.")
    return found if num_unlabeled is None else found.take(num_unlabeled)


def _crop_photos(crops, photos, locate, cache_dir):
    """The folder of shards of the photos, cropped as the labeled faces are."""
    if crops.crop_from == "image":
        locate = shards.WholePictures()
    if cache_dir is None:
        raise ValueError(f"{photos} holds photos: name a folder for their crops by `cache_dir`.")
    if locate is None:
        raise ValueError(
            f"{photos} holds photos, and scheme {crops.scheme.name!r} of {crops.name} does not say "
            "how to crop them. Give whole pictures (crop_from='image'), a scheme of faces such as "
            "'ibug68', a first-pass model (.tflite) that finds them, or shards of `lapkl crop`."
        )
    size = crops.image_size

    def crop(folder, given):
        """Crops into a folder, or says why not."""
        if given is not None and not folder.exists():
            logging.warning("%s These photos are cropped anew.", given)
        try:
            shards.crop_folder(photos, folder, locate, size, default_margin(size), crops.crop_scale)
        except OtherDataError as error:
            return str(error)
        except OtherSettingsError:
            return f"{folder} holds faces that were cut in another way."
        return None

    with owned(cache_dir, wait=True):  # the processes of one training all come here
        return first_fitting(pathlib.Path(cache_dir) / "unlabeled", crop)[0]


def _synthetic(split, count, image_size, crop_scale):
    from keras_lapkl.data.synthetic.faces import synthetic_faces

    if split not in SYNTHETIC_SPLITS:
        raise ValueError(
            f"Synthetic faces have the splits {sorted(SYNTHETIC_SPLITS)}. Received: {split!r}"
        )
    if crop_scale == "auto":
        crop_scale = SYNTHETIC_CROP_SCALE
    if crop_scale != SYNTHETIC_CROP_SCALE:
        raise ValueError(
            f"Synthetic faces are framed at crop scale {SYNTHETIC_CROP_SCALE:g}. Received: "
            f"{crop_scale:g}"
        )
    if count is None:
        count = 6000 if split == "train" else 500
    if count < 1:
        raise ValueError(f"`num_synthetic` must be at least 1. Received: {count}")

    def made(done, _):
        return f"made {min(done * _CHUNK, count):,} of {count:,} faces"

    parts = (
        synthetic_faces(min(_CHUNK, count - start), SYNTHETIC_SPLITS[split], image_size, start)
        for start in range(0, count, _CHUNK)
    )
    parts = zip(*console.reported(parts, None, made), strict=True)
    images, landmarks = map(np.concatenate, parts)
    crops = Crops(
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
        source=DataSet(
            "synthetic faces", count, kind="synthetic faces", license=LICENSES["synthetic"]
        ),
    )
    return recorded(crops, {"dataset": "synthetic", "split": split, "num_synthetic": count})


def _annotations_aflw(folder, split):
    if split not in ("train", "test"):
        raise ValueError(f"AFLW has train, validation and test. Received: {split!r}")
    return read_aflw(folder / "AFLWinfo_release.mat", split, folder)


def _annotations_own(file, dataset, data_dir, scheme, crop_from, category, missing_ok):
    common = {"scheme": scheme, "crop_from": crop_from, "missing_ok": missing_ok}
    try:
        if dataset == "csv":
            return read_csv(file, data_dir, **common)
        return read_coco(file, data_dir, category=category, **common)
    except KeypointError as error:
        hint = _of_another_tool(file, dataset)
        said = str(error).replace(CONVERT, "").rstrip() if hint else str(error)
        raise KeypointError(said + hint) from error


def _of_another_tool(file, dataset):
    """What to do with labels of another tool; nothing to say of others."""
    try:
        found = formats.recognize(file)
    except (OSError, ValueError):
        return ""
    if found is None or found[0].name.lower() == dataset:
        return ""
    if found[0].name == "CSV":
        return " This is a file for --dataset=csv."
    return (
        f" These are labels of {found[0].name}: lapkl labels --input={file} --output=labels.csv "
        "makes a file for --dataset=csv of them."
    )


def coco_names(
    data_dir: PathLike | None, split: PathLike, scheme: Scheme, category: str | None = None
) -> CocoNames:
    """What COCO results mean by their numbers, by the labels of a split.

    Args:
        data_dir, split, category: as in `read`, of dataset `"coco"`.
        scheme: that of the labels as they were read.

    Example:

    >>> coco_names("hands", "test", annotations.scheme).category
    '1'
    """
    return read_coco_names(_own_file("coco", data_dir, split)[0], data_dir, scheme, category)


def is_own_file(dataset: str, split: PathLike) -> bool:
    """Whether a split is the path of a keypoint file, of one of `OWN`."""
    return str(split).lower().endswith(OWN[dataset])


def _own_file(dataset, data_dir, split):
    """The keypoint file of a split, and whether the split is a part of it."""
    suffix = OWN[dataset]
    if is_own_file(dataset, split):
        if not os.path.exists(split) and os.path.exists(os.path.join(data_dir or "", split)):
            raise FileNotFoundError(
                f"There is no {split} in {os.getcwd()}, where the path of a split begins. There is "
                f"one in {data_dir}: give {os.path.join(data_dir, split)}."
            )
        return pathlib.Path(split), False
    if pathlib.Path(split).suffix and pathlib.Path(split).is_file():
        raise ValueError(
            f"`split` must be a {suffix} file of dataset {dataset!r}. Received: {str(split)!r}. "
            f"{CONVERT}"
        )
    if not data_dir:
        raise ValueError(
            f"Expected `data_dir`, the folder of train{suffix}, or a {suffix} file as the split. "
            f"Received: no folder and split {str(split)!r}"
        )
    folder = pathlib.Path(data_dir)
    if not folder.is_dir():
        raise NotADirectoryError(
            f"`data_dir` must be the folder of {dataset} files and their images; a single file is "
            f"given as the split. Received: {data_dir}"
        )
    train, is_divided = _own_train(folder, suffix)
    file = folder / f"{split}{suffix}"
    if split in ("train", "validation") and is_divided and train.is_file():
        others = [f"{name}{suffix}" for name in ("val", "valid", "dev")]
        if split == "validation" and (there := [n for n in others if (folder / n).is_file()]):
            logging.warning(
                "Each tenth image of %s validates, not %s beside it: name that as the validation "
                "split for its labels.",
                train,
                there[0],
            )
        return train, True
    if not file.is_file():
        raise FileNotFoundError(
            f"There is no {file.name} in {folder}. Name the file so, or give its path as the split."
        )
    return file, False


def _own_train(folder, suffix):
    """The file of a folder's training labels, and whether a tenth of it is to validate."""
    train, validation = (folder / f"{name}{suffix}" for name in ("train", "validation"))
    return train, not validation.is_file()


def refuse_all_to_train(dataset: str, data_dir: PathLike | None, split: PathLike) -> None:
    """ValueError where all of the labels of which a tenth validates would be trained on.

    Args:
        dataset, data_dir: as in `load`, of the training labels and of those that validate.
        split: that of the training labels; the other one is `"validation"`.
    """
    if dataset not in OWN or not data_dir:
        return
    train, is_divided = _own_train(pathlib.Path(data_dir), OWN[dataset])
    given = pathlib.Path(split)
    if given.suffix == train.suffix and is_divided and given.resolve() == train.resolve():
        raise ValueError(
            f"All of {given} would be trained on, a tenth of it validated on too: give "
            "--train_split=train, which leaves that tenth out, or other labels as "
            "--validation_split."
        )


def _as(scheme, annotations):
    """Annotations of the very points of a scheme, to be cropped by its rule."""
    if scheme is None:
        return annotations
    if scheme.names != annotations.scheme.names:
        raise ValueError(
            f"{annotations.name} has the points of scheme {annotations.scheme.name!r}. Expected "
            f"are those of {scheme.name!r}."
        )
    return dataclasses.replace(annotations, scheme=scheme)


def _check_inside(crops, tell):
    """Refuses landmarks that are mostly outside of their images; tells of any that are.

    Those of one face are never all outside. Official sets have some that are.
    """
    points = apply_transform(invert_transform(crops.transforms), crops.landmarks)
    inside = ((points > -0.6) & (points < crops.sizes[:, None] - 0.4)).all(-1)
    outside = np.argwhere(crops.visible & ~inside)
    if not len(outside):
        return
    i, k = outside[0]
    (x, y), (width, height) = points[i, k], crops.sizes[i]
    text = (
        f"{crops.name}: {len(outside):,} of {crops.visible.sum():,} points lie outside of their "
        f"images, such as {crops.scheme.names[k]} at ({x:.6g}, {y:.6g}) of {crops.names[i]}, "
        f"{width}x{height}. Expected are pixels from 0, x first, in the upright picture, and "
        "no position of a point that is not annotated."
    )
    if 2 * len(outside) > crops.visible.sum():
        raise ValueError(text)
    lost = np.flatnonzero(crops.visible.any(1) & ~(crops.visible & inside).any(1))
    if len(lost):
        raise ValueError(
            f"{crops.name}: expected a point inside of each image. Received: none inside of "
            f"{crops.names[lost[0]]}, {len(lost):,} such in all"
        )
    if tell:
        logging.warning("%s", text)


def _part(annotations, split, hold_out, missing_ok=False):
    """All of each tenth image for validation, the others for training, or all.

    The tenths are those of the file, whichever images are there: those that come back later must
    not change sides. Only where none of them is there, each tenth of the others is taken.
    """
    if split == "train" and not hold_out:
        return annotations
    paths = list(dict.fromkeys(annotations.paths))
    tenths = set(paths[::HOLD_OUT])
    if missing_ok and not any(map(os.path.isfile, tenths)):
        there = list(filter(os.path.isfile, paths))
        tenths = set(there[::HOLD_OUT]) if len(there) > 1 else tenths
    held = np.array([path in tenths for path in annotations.paths])
    kept = held if split == "validation" else ~held
    if not kept.any():
        raise ValueError(
            f"{annotations.name}: expected two images or more, to hold out one for validation. "
            f"Received: {len(paths)}"
        )
    note = f"the {split} part of {len(annotations):,}, each tenth held out for validation"
    name = f"{annotations.name} ({split})"
    return dataclasses.replace(annotations.part(kept, note), name=name)


READERS = {"300w": read_300w, "aflw": _annotations_aflw}
"""Data sets with a layout of their own: functions from their folder and the name of a split to
`Annotations`."""

LACKS_VALIDATION = {
    "300w": lambda folder: not (folder / "splits" / "validation.txt").is_file(),
    "aflw": lambda folder: True,
}
"""Those of `READERS` that may have no validation split: whether the data in a folder have none."""


def dataset_names() -> tuple[str, ...]:
    """The names that `load` and `--dataset` take."""
    return ("synthetic", *READERS, *OWN)
