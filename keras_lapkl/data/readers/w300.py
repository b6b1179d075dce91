"""300-W: 68 points on the faces of AFW, HELEN, LFPW and iBUG, in the layout of its download.

root/afw, root/helen/{trainset,testset}, root/lfpw/{trainset,testset}, root/ibug, each with images
and a `.pts` file of the same stem, and optionally root/splits with lists of stems.
"""

import os
from collections import Counter
from pathlib import Path

import numpy as np

from keras_lapkl._support.reading import read_text
from keras_lapkl._support.types import PathLike
from keras_lapkl.data.annotations import Annotations, path_below
from keras_lapkl.data.pts import read_pts
from keras_lapkl.schemes import IBUG68
from keras_lapkl.training_data import LICENSES, DataSet

OFFICIAL_COUNTS = {
    "afw": 337,
    "helen/trainset": 2000,
    "lfpw/trainset": 811,
    "helen/testset": 330,
    "lfpw/testset": 224,
    "ibug": 135,
}
"""Faces in each folder of the official download."""

OFFICIAL_FOLDERS = {
    "train": ("afw", "helen/trainset", "lfpw/trainset"),
    "common": ("helen/testset", "lfpw/testset"),
    "challenge": ("ibug",),
    "full": ("helen/testset", "lfpw/testset", "ibug"),
}
"""Folders of each official set: 3,148, 554, 135 and 689 faces."""

SPLIT_FILES = {
    "train": "train.txt",
    "validation": "validation.txt",
    "common": "test_common.txt",
    "challenge": "test_challenge.txt",
    "full": "test_full.txt",
}
"""Lists in root/splits that, where present, stand before the official folders."""

_SUFFIXES = (".jpg", ".png")


def read_300w(root: PathLike, split: PathLike) -> Annotations:
    """Reads one split of 300-W, without opening its images.

    A list in `root/splits` (see `SPLIT_FILES`) decides what is in the split; without one, the
    official folders do, less the mirrored copies (`*_mirror.*`) of some downloads, and for
    training less the list for validation, if there is one.

    Args:
        root: folder of the download.
        split: `"train"`, `"validation"`, `"common"`, `"challenge"`, `"full"` (common and
            challenge), or a text file with one stem a line, below `root` and relative to it, no
            suffix.

    Returns:
        `Annotations` of scheme `ibug68`, all points visible. Their `source` counts the faces
        against the official ones.

    Raises:
        ValueError: an unknown split, a list with stems twice or none, more faces than there are
            officially, or a `.pts` file that can't be understood.
        FileNotFoundError: the folder, the list, an image or a `.pts` file is not there.

    Example:

    >>> read_300w("faces/300w", "train").summary  # doctest: +SKIP
    '300-W train: 1,809 of 3,148 official training faces (afw 277 of 337, ...)'
    """
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"Expected the folder of 300-W. There is none at {root}")
    stems, label = _stems(root, split)
    try:
        paths = [path_below(root, stem) for stem in stems]
    except ValueError as error:
        raise ValueError(f"{root}, stems of {label}: {error}") from error
    images = [_file(path, _SUFFIXES) for path in paths]
    annotations = [_file(path, (".pts",)) for path in paths]
    pairs = zip(stems, images, annotations, strict=True)
    missing = [stem for stem, image, pts in pairs if image is None or pts is None]
    if missing:
        raise FileNotFoundError(
            f"{root}: expected an image ({' or '.join(_SUFFIXES)}) and a .pts file for each stem "
            f"of {label}. {_some(missing)} lack one"
        )
    landmarks = np.stack([read_pts(path, IBUG68.num_landmarks) for path in annotations])  # pyright: ignore[reportArgumentType]  none is missing
    return Annotations(
        name=f"300-W {label}",
        scheme=IBUG68,
        paths=tuple(images),  # pyright: ignore[reportArgumentType]  none is missing
        landmarks=landmarks,
        visible=np.ones(landmarks.shape[:2], bool),
        source=_source(root, label, stems),
    )


def _stems(root, split):
    """The stems of a split and its name for messages."""
    if split not in SPLIT_FILES:
        if not Path(split).is_file():
            raise ValueError(
                f"`split` must be one of {tuple(SPLIT_FILES)} or a text file with one stem a line. "
                f"Received: {str(split)!r}"
            )
        return _read_list(Path(split)), Path(split).stem
    file = root / "splits" / SPLIT_FILES[split]
    if file.is_file():
        return _read_list(file), split
    if split == "full":
        return [s for part in ("common", "challenge") for s in _stems(root, part)[0]], split
    if split == "validation":
        raise ValueError(
            f"300-W has no official validation split and there is no {file}. Write one stem a line "
            "into it (such as afw/134212_1) and the rest of the training faces into "
            f"{file.with_name(SPLIT_FILES['train'])}, or pass the path of another list."
        )
    held_out = root / "splits" / SPLIT_FILES["validation"]
    left_out = set(_read_list(held_out)) if split == "train" and held_out.is_file() else ()
    stems = (stem for folder in OFFICIAL_FOLDERS[split] for stem in _list(root, folder))
    return [stem for stem in stems if stem not in left_out], split


def _read_list(file):
    stems = [line.strip() for line in read_text(file).splitlines()]
    stems = [stem for stem in stems if stem]
    twice = [stem for stem, count in Counter(stems).items() if count > 1]
    if twice or not stems:
        raise ValueError(
            f"{file}: expected each stem once, and at least one. Received: {len(stems)} stems"
            + (f"; twice or more: {_some(twice)}" if twice else "")
        )
    return stems


def _list(root, folder):
    """Stems of the images in an official folder, which must not be missing."""
    if not (root / folder).is_dir():
        raise FileNotFoundError(
            f"Expected the official folder {folder}/ of 300-W in {root}. It is not there; unpack "
            "that part of the download, or pass a list of stems as `split`."
        )
    names = sorted(path for path in (root / folder).iterdir() if path.suffix.lower() in _SUFFIXES)
    stems = sorted({f"{folder}/{path.stem}" for path in names if not path.stem.endswith("_mirror")})
    if not stems:
        raise FileNotFoundError(f"{root / folder}: expected images of faces. Received: no faces")
    if len(stems) > OFFICIAL_COUNTS[folder]:
        raise ValueError(
            f"{root / folder}: expected at most the {OFFICIAL_COUNTS[folder]:,} official faces. "
            f"Received: {len(stems):,}. Take the others away, or pass a list of stems as `split`."
        )
    return stems


def _file(stem, suffixes):
    """The file of a stem with one of the suffixes, in lower or upper case, or None."""
    candidates = [_with_suffix(stem, s) for suffix in suffixes for s in (suffix, suffix.upper())]
    return next(filter(os.path.isfile, candidates), None)


def _with_suffix(stem, suffix):
    return stem.with_name(stem.name + suffix)  # Path.with_suffix would cut "a.b" to "a"


def _source(root, label, stems):
    """How many faces there are, of how many officially, in all and by folder."""
    folders = OFFICIAL_FOLDERS.get({"validation": "train"}.get(label, label), ())  # pyright: ignore[reportCallIssue, reportArgumentType]
    found = Counter(Path(stem).parent.as_posix() for stem in stems)
    parts = [f"{folder} {found[folder]:,} of {OFFICIAL_COUNTS[folder]:,}" for folder in folders]
    parts += [f"{folder} {count:,}" for folder, count in found.items() if folder not in folders]
    kind = "training" if label in ("train", "validation") else label
    held_out = root / "splits" / SPLIT_FILES["validation"]
    notes = ()
    if label == "train" and held_out.is_file():
        notes = (f"{len(_read_list(held_out)):,} more held out for validation",)
    return DataSet(
        f"300-W {label}",
        len(stems),
        sum(OFFICIAL_COUNTS[folder] for folder in folders) if folders else None,
        f"official {kind} faces" if folders else "faces",
        license=LICENSES["300-W"],
        detail=f" ({', '.join(parts)})",
        notes=notes,
    )


def _some(names):
    shown = ", ".join(names[:5])
    return f"{len(names):,} ({shown}{', …' if len(names) > 5 else ''})"
