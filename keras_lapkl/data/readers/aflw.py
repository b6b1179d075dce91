"""AFLW-19: 24,386 faces with those of 19 landmarks that can be seen, from one MATLAB file."""

import os
from pathlib import Path

import numpy as np

from keras_lapkl._support.pixels import FARTHEST
from keras_lapkl._support.types import PathLike
from keras_lapkl.data.annotations import Annotations, path_below
from keras_lapkl.data.matlab import read_matlab
from keras_lapkl.schemes import AFLW19
from keras_lapkl.training_data import LICENSES, DataSet

OFFICIAL_COUNTS = {"train": 20_000, "test": 4_386}
_FACES = sum(OFFICIAL_COUNTS.values())
_SHAPES = {
    "bbox": (_FACES, 4),
    "data": (_FACES, 2 * AFLW19.num_landmarks),
    "mask_new": (_FACES, AFLW19.num_landmarks),
    "nameList": (_FACES, 1),
    "ra": (1, _FACES),
}


def read_aflw(path: PathLike, split: str = "train", images: PathLike | None = None) -> Annotations:
    """The faces of one split of AFLW-19.

    Coordinates are taken as they stand in the file: they seem 0-based (visible ones lie at 0 and
    between 0 and 1), though no document says so. A landmark that is not marked
    visible is NaN: its numbers in the file are not an annotation.

    Args:
        path: `AFLWinfo_release.mat`, with `bbox` (xmin, xmax, ymin, ymax), `data` (19 x, then
            19 y), `mask_new`, `nameList` and `ra`, the 1-based order of the faces: the first
            20,000 train, the last 4,386 test.
        split: `"train"` or `"test"`.
        images: folder that the file's image names, such as `0/image05896.jpg`, start from. Where
            it holds none of them the annotations are still good, but nothing can be cropped;
            `source` says so.

    Returns:
        `Annotations` with face boxes. `metrics.hull_size` of the visible landmarks is the paper's
        normalizer, the size of the boxes the other one in use.

    Raises:
        FileNotFoundError: there is no such file, or some of the images are missing.
        ValueError: another split, or a file of another content.

    Example:

    >>> read_aflw("AFLWinfo_release.mat", "test").landmarks.shape
    (4386, 19, 2)
    """
    if split not in OFFICIAL_COUNTS:
        raise ValueError(f"AFLW has the splits {sorted(OFFICIAL_COUNTS)}. Received: {split!r}")
    path = Path(path)
    content = _load(path)
    order = content["ra"].ravel().astype(np.int64) - 1
    if not np.array_equal(np.sort(order), np.arange(_FACES)):
        raise ValueError(f"{path}: expected `ra` to hold each of 1..{_FACES} once.")
    first = OFFICIAL_COUNTS["train"]
    rows = order[:first] if split == "train" else order[first:]

    x, y = np.split(content["data"][rows].astype(np.float32), 2, axis=1)
    visible = content["mask_new"][rows] > 0
    landmarks = np.where(visible[..., None], np.stack([x, y], axis=-1), np.float32(np.nan))
    names = content["nameList"][rows, 0].tolist()
    try:
        paths = tuple(path_below(images or "", name) for name in names)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    note = _check_images(path, paths) if images is not None else "annotations only"
    return Annotations(
        name=f"AFLW {split}",
        scheme=AFLW19,
        paths=paths,
        landmarks=landmarks,
        visible=visible,
        boxes=content["bbox"][rows][:, [0, 2, 1, 3]].astype(np.float32),
        source=DataSet(
            f"AFLW {split}",
            len(rows),
            OFFICIAL_COUNTS[split],
            "official faces",
            license=LICENSES["AFLW"],
            detail=f", {visible.sum(1).mean():.1f} of 19 landmarks visible on average ({note})",
        ),
    )


def _load(path):
    if not path.is_file():
        raise FileNotFoundError(f"There is no AFLW annotation file at {path}.")
    content = read_matlab(path, _SHAPES)
    for key, shape in _SHAPES.items():
        received = content[key].shape if key in content else None
        if received != shape:
            raise ValueError(f"{path}: expected `{key}` of shape {shape}. Received: {received}")
        are_names = content[key].dtype.kind == "U"
        if are_names != (key == "nameList"):
            raise ValueError(f"{path}: expected names as `nameList`, and numbers as all else.")
        if not are_names and not (np.abs(content[key]) <= FARTHEST).all():
            raise ValueError(f"{path}: expected finite numbers as `{key}`, none above a million.")
    return content


def _check_images(path, paths):
    missing = [p for p in paths if not os.path.isfile(p)]
    if not missing:
        return "all images present"
    if len(missing) == len(paths):
        return "annotations only: none of the images is there"
    raise FileNotFoundError(
        f"{len(missing):,} of the {len(paths):,} images that {path} names are missing, such as "
        f"{missing[0]}. Expected all of them, or none for annotations only."
    )
