"""Pseudo-labels: landmarks that teachers find in faces without labels, for a student to learn.

Source: Hinton et al., arXiv 1503.02531 (distillation); Radosavovic et al., CVPR 2018 (labels by
the mean over transformed images).
"""

import contextlib
import functools
import itertools
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from absl import logging
from numpy.typing import NDArray

from keras_lapkl._support import cluster, console
from keras_lapkl._support.files import read_arrays, replacing
from keras_lapkl._support.types import PathLike
from keras_lapkl.data.crop_rule import check_crop_rule
from keras_lapkl.data.crops import Crops
from keras_lapkl.data.unlabeled.crops import UnlabeledCrops
from keras_lapkl.evaluation import model_scores
from keras_lapkl.tflite.localizer import Localizer, check_localizer

_BATCH = 256
"""Faces that are labeled at once, by this process or a worker."""
_PART = 64
"""Batches in a file of what is not finished."""
_PAUSE = 5.0
"""Seconds between two calls of `meanwhile`."""


def pseudo_labels(
    teachers: Sequence[Localizer],
    unlabeled: UnlabeledCrops,
    max_scale: float | None = None,
    scheduler: PathLike | None = None,
) -> NDArray[np.float32]:
    """What teachers find in faces without labels, as the labels of training.

    A label is the mean of what all teachers find in the face and, where their scheme knows how
    faces mirror, in its mirror image. A teacher of another image size sees the faces resized.

    Args:
        teachers: localizers: `LandmarkLocalizer` or `TFLiteLocalizer`; one or more.
        unlabeled: `UnlabeledCrops`, cut by the teachers' crop rule.
        max_scale: landmarks whose scale, the mean over both axes and all teachers, is above are
            hidden: pixels of a teacher's own crop; None hides none.
        scheduler: address of a Dask scheduler, `tcp://host:8786`, or the .json file that it has
            written: its workers label the faces. They must see shards and teachers at the same
            paths.

    Returns:
        (N, K, 3) float32: x, y in pixels of the faces without margin, and visibility, 0 or 1. The
        same bytes for any number of workers.

    Raises:
        ValueError: no teacher, faces of another crop rule than a teacher's, or no landmark that
            is sure enough.
        OSError: a shard that can't be opened, or the cluster fails.
        ModuleNotFoundError: `scheduler` without the extra `cluster`.
    """
    starts = range(0, len(unlabeled), _BATCH)
    labels = np.concatenate(list(_labeled(teachers, unlabeled, max_scale, scheduler, starts)))
    _tell(len(labels), labels[..., 2].sum(), labels[..., 2].size, max_scale)
    return labels


def write_pseudo_labels(
    path: PathLike,
    teachers: Sequence[Localizer],
    unlabeled: UnlabeledCrops,
    max_scale: float | None = None,
    scheduler: PathLike | None = None,
    meanwhile: Callable[[], object] = bool,
) -> None:
    """Writes `pseudo_labels` to an .npy file; what is labeled is not labeled again.

    A row has two fields, `face`, the digest of the face, and `label`, (K, 3): `read_pseudo_labels`
    tells by the first whether labels are those of its faces.

    Killed at any moment, the same call goes on from the files of 16,384 faces each that stand in a
    folder beside `path` until all are labeled. Labels take no memory beyond one of these.

    Args:
        path: the file, named `.npy`; in a folder that is of these teachers and faces alone.
        teachers, unlabeled, max_scale, scheduler: as in `pseudo_labels`.
        meanwhile: what to call every few seconds.

    Raises:
        ValueError, OSError, ModuleNotFoundError: as `pseudo_labels`.
    """
    path = Path(path)
    folder, step = path.with_suffix(".parts"), _BATCH * _PART
    firsts = range(0, len(unlabeled), step)
    files = {first: folder / f"{first // step:05d}.npz" for first in firsts}
    counts = {first: min(step, len(unlabeled) - first) for first in firsts}
    digests, row = unlabeled.digests(), _row_type(teachers[0].num_landmarks)
    faces = {first: digests[first : first + counts[first]] for first in firsts}
    todo = [first for first in firsts if _read(files[first], faces[first], row) is None]
    if len(todo) < len(files):
        done = sum(counts.values()) - sum(counts[first] for first in todo)
        logging.info("The teacher has labeled %s faces before.", f"{done:,}")
    starts = [s for first in todo for s in range(first, first + counts[first], _BATCH)]
    with contextlib.closing(_labeled(teachers, unlabeled, max_scale, scheduler, starts)) as found:
        calling = _now_and_then(found, meanwhile)
        for first in todo:
            part = np.empty(counts[first], row)
            part["face"] = faces[first]
            part["label"] = np.concatenate(
                list(itertools.islice(calling, -(-counts[first] // _BATCH)))
            )
            with replacing(files[first]) as temporary:
                np.savez(temporary, rows=part)
    shown = 0
    shape = (len(unlabeled),)
    header = {"descr": np.lib.format.dtype_to_descr(row), "fortran_order": False, "shape": shape}
    with replacing(path) as temporary:
        with temporary.open("wb") as file:  # not by a map: a full disk would kill the process
            np.lib.format.write_array_header_1_0(file, header)
            for first in firsts:
                part = _read_whole(files[first], faces[first], row)
                file.write(part.tobytes())
                shown += int(part["label"][..., 2].sum())
        _tell(len(unlabeled), shown, len(unlabeled) * row["label"].shape[0], max_scale)
    shutil.rmtree(folder)


def read_pseudo_labels(path: PathLike, unlabeled: UnlabeledCrops) -> NDArray[np.float32] | None:
    """The labels (N, K, 3) in a file of `write_pseudo_labels`, read from it as they are needed.

    Args:
        path: the file.
        unlabeled: the faces that they must be of, in this order.

    Returns:
        The labels; None if there is no file, or one that is damaged, of other faces or in another
        order.

    Raises:
        OSError: a file that can't be opened.
    """
    if not Path(path).exists():
        return None
    try:
        rows = np.load(path, mmap_mode="r")
    except (EOFError, ValueError):  # its head is not whole, or the rest
        return None
    names = rows.dtype.names or ()
    if "face" not in names or not np.array_equal(rows["face"], unlabeled.digests()):
        return None
    return rows["label"]


def _row_type(num_landmarks):
    return np.dtype([("face", "<u8"), ("label", "<f4", (num_landmarks, 3))])


def _now_and_then(found, call):
    """Hands results through, and calls a function every few seconds."""
    called = time.monotonic()
    for each in found:
        if time.monotonic() - called > _PAUSE:
            call()
            called = time.monotonic()
        yield each


def _read(path, faces, row):
    """The rows in a file, whose checksum is right; None if they are not those of these faces."""
    rows = (read_arrays(path) or {}).get("rows")
    good = rows is not None and rows.dtype == row and np.array_equal(rows["face"], faces)
    return rows if good else None


def _read_whole(path, faces, row):
    rows = _read(path, faces, row)
    if rows is None:
        raise ValueError(f"{path} has been damaged. The same command labels these faces again.")
    return rows


def _labeled(teachers, unlabeled, max_scale, scheduler, starts):
    """Labels of the batches of faces that start there."""
    if not teachers:
        raise ValueError("Expected one teacher or more. Received: none.")
    for each in teachers:
        check_crop_rule(each, "the teacher", unlabeled, any_size=True)
    batches = (unlabeled.part(s, min(s + _BATCH, len(unlabeled))) for s in starts)
    found = cluster.each(functools.partial(_label, teachers, max_scale), batches, scheduler)
    total = min(len(unlabeled), _BATCH * len(starts))

    def progress(done, _):
        return f"the teacher labeled {min(done * _BATCH, total):,} of {total:,} faces"

    return console.reported(found, None, progress)


def _label(teachers, max_scale, faces):
    """Labels (n, K, 3) of `UnlabeledCrops`."""
    images = faces.gather(np.arange(len(faces)))[:, faces.inner, faces.inner]
    found = [_found(each, images) for each in teachers]
    landmarks, scale = (np.mean(part, 0) for part in zip(*found, strict=True))
    visible: Any = np.isfinite(landmarks).all(-1)
    if max_scale is not None:
        visible &= scale <= max_scale
    labels = np.concatenate([np.nan_to_num(landmarks), visible[..., None]], -1)
    return labels.astype(np.float32)


def _found(teacher, images):
    """Landmarks (n, K, 2) in pixels of the images, and scales (n, K) in those of the teacher's."""
    mirrors = teacher.scheme is not None and teacher.scheme.flip is not None
    found = model_scores.predict(
        teacher, _resized(images, teacher.image_size), flip_average=mirrors
    )
    factor = images.shape[1] / teacher.image_size
    return (found["landmarks"] + 0.5) * factor - 0.5, found["scale"].mean(-1)


def _tell(faces, shown, points, max_scale):
    if not shown:
        raise ValueError(
            "The teachers find no finite landmark in any face."
            if max_scale is None
            else f"`max_scale` {max_scale} hides all that the teachers find: it is in pixels of "
            "their crop. Give a larger one."
        )
    share = 100 * shown / points
    logging.info("The teacher labeled %d faces, %.1f %% of their landmarks.", faces, share)


def check_teacher(teacher: Localizer, crops: Crops) -> None:
    """Refuses a teacher that can't label faces for these, before it labels a folder for nothing.

    Args:
        teacher: a localizer.
        crops: the labeled `Crops` that its faces are to stand beside.

    Raises:
        ValueError: a teacher of other points, of another crop rule or of any size; or no localizer.
    """
    check_localizer(teacher)
    theirs, ours = teacher.scheme, crops.scheme
    if theirs is None or theirs.names != ours.names:
        raise ValueError(
            "Expected a teacher of the same points in the same order as in "
            f"{crops.name}, scheme {ours.name!r}. Received: "
            f"{'one that does not say' if theirs is None else f'scheme {theirs.name!r}'}"
        )
    check_crop_rule(teacher, "the teacher", crops, any_size=True)


def _resized(faces, size):
    if faces.shape[1] == size:
        return np.ascontiguousarray(faces)
    how = cv2.INTER_AREA if size < faces.shape[1] else cv2.INTER_LINEAR
    return np.stack([cv2.resize(face, (size, size), interpolation=how) for face in faces])
