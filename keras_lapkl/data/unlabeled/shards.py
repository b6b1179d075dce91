"""Faces without labels: cut out of folders of photos into shards, and read back in any order.

A folder of shards has, for each few thousand photos in sorted order,

    faces-00000-of-00012.tfrecord   one `tf.train.Example` a face: `image`, a PNG of S+2m pixels a
                                    side; `source`, the photo's path in the folder of photos;
                                    `square`, center x, center y and longer edge of the box of the
                                    five points, in photo pixels; of a rotated crop also
                                    `angle`, radians from the x axis to the y axis
    faces-00000-of-00012.npz        where each image lies in it, and the photos left out

and, for all, `shards.json` with settings and counts, and `skipped.csv`. The images are PNG, since
a discriminator could tell faces without labels from those with labels, which are cropped anew and
never stored, by what a JPEG leaves in them.
"""

import collections
import contextlib
import csv
import dataclasses
import datetime
import functools
import hashlib
import itertools
import json
import os
import re
from typing import Any, NamedTuple, Protocol

import numpy as np
from absl import logging
from numpy.typing import NDArray

from keras_lapkl._support import cluster, console, extras, stores
from keras_lapkl._support.csv_names import quote_name
from keras_lapkl._support.files import read_arrays, read_json, replacing, write_json
from keras_lapkl._support.folders import OtherDataError, claim, owned, read_claim
from keras_lapkl._support.reading import byte_size
from keras_lapkl._support.stores import StoreError, StorePath
from keras_lapkl._support.types import PathLike
from keras_lapkl._support.workers import map_in_order
from keras_lapkl.data.cropping import check_squares, crop_transform, picture_squares, warp_crop
from keras_lapkl.data.crops import Crops
from keras_lapkl.data.images import (
    IMAGE_SUFFIXES,
    MAX_SIDE,
    OTHER_PICTURES,
    ImageError,
    read_image,
    walk_listed,
)
from keras_lapkl.data.unlabeled import records
from keras_lapkl.data.unlabeled.crops import INDEX, InMemory, InShards, UnlabeledCrops
from keras_lapkl.data.unlabeled.listing import Listing, state_of
from keras_lapkl.training_data import DataSet

SETTINGS = "shards.json"
SKIPPED = "skipped.csv"
_OUTPUTS = ("faces-*-of-*", SKIPPED, "results.json")
_OVERLAY = re.compile(r"(^|/)overlays/.*\.overlay\.jpg$", re.DOTALL)
_FORMAT = 2  # raise it when the same photos and settings give other bytes


class Locator(Protocol):
    """Tells where the five points of the faces of a photo lie, as `detection.first_pass` does.

    It can be pickled, and `str` says in words what it does.

    Attributes:
        settings: plain data, all that decides what it gives.
        default_workers: how many processes to run it in; None for one on each core.
    """

    @property
    def settings(self) -> dict[str, Any]: ...

    @property
    def default_workers(self) -> int | None: ...

    def __call__(self, photo: NDArray[np.uint8], /) -> NDArray[np.float64]:
        """Squares (n, 3) in a photo (H, W, 3): center x, center y and side, photo pixels."""
        ...


class WholePictures:
    """A `Locator` for schemes that crop from the image: the one square is about the whole picture.

    Example:

    >>> WholePictures()(np.zeros((480, 640, 3), np.uint8))
    array([[319.5, 239.5, 640. ]])
    """

    default_workers = None

    @property
    def settings(self) -> dict[str, Any]:
        """All that decides what it gives, as plain data."""
        return {"by": "image"}

    def __call__(self, photo: NDArray[np.uint8]) -> NDArray[np.float64]:
        return picture_squares([photo.shape[1::-1]])

    def __str__(self):
        return "as whole pictures"


def from_crops(crops: Crops) -> UnlabeledCrops:
    """The faces of labeled `Crops` without their labels, as `UnlabeledCrops`.

    Args:
        crops: `Crops`, with their margin.
    """
    return UnlabeledCrops(
        InMemory(crops.images),
        crops.image_size,
        crops.margin,
        crops.crop_scale,
        crops.name,
        _without_labels(crops),
        crops.crop_from,
    )


def _without_labels(crops: Crops) -> DataSet:
    source = crops.source or DataSet(crops.name, len(crops))
    return dataclasses.replace(source.noted("without their labels"), labeled=False)


def is_shard_folder(path: PathLike | StorePath) -> bool:
    """Whether `crop_folder` has begun to write into this folder."""
    return (stores.at(path) / SETTINGS).is_file()


def read_shards(folder: PathLike | StorePath, memory_mb: float = 4096) -> UnlabeledCrops:
    """Opens a folder that `crop_folder` wrote.

    Only the index is read: 20 bytes a face. Faces are read and decoded when they are asked for, and
    the first ones of the set, as many as fit, are kept.

    Args:
        folder: of the shards; of a store, such as s3://bucket/faces, with the extra `stores`.
        memory_mb: megabytes (2²⁰ bytes) of decoded faces to keep.

    Returns:
        `UnlabeledCrops`, in the order of the photos.

    Raises:
        FileNotFoundError: this is not a folder of shards.
        OSError: a store can't be reached, or refuses.
        ValueError: it is not finished, or damaged.

    Example:

    >>> read_shards("faces", memory_mb=512).image_size
    80
    """
    folder = stores.at(folder)
    if not is_shard_folder(folder):
        raise FileNotFoundError(
            f"Expected shards of faces in {folder}. There is no {SETTINGS}: crop the photos with "
            "lapkl crop."
        )
    about = _read_about(folder)
    settings = about["settings"]
    files = _shard_files(folder, settings)
    parts = []
    for file in files:
        part = _read_index(file, _digest(settings))
        if part is None:
            raise ValueError(
                f"{file} is damaged, missing, or of another run. Delete it and give the command "
                "that made it again: only what is missing is made."
            )
        parts.append(part)
    index = np.concatenate([images for images, *_ in parts])
    shard = np.repeat(np.arange(len(files)), [len(images) for images, *_ in parts])
    size, margin = settings["image_size"], settings["margin"]
    name = about["name"]
    source = DataSet(
        name,
        len(index),
        kind="faces without labels",
        labeled=False,
        detail=f" from {settings['photos']:,} photos, cropped {about['located']}",
        notes=(f"{about['skipped']:,} photos skipped",),
    )
    faces = InShards(files, shard.astype(np.uint32), index, size + 2 * margin, memory_mb)
    crop_from = "image" if settings["locate"] == WholePictures().settings else "points"
    return UnlabeledCrops(faces, size, margin, settings["crop_scale"], name, source, crop_from)


def _read_about(folder):
    """What `_finish` has written."""
    path = folder / SETTINGS
    about = read_json(path)
    settings: Any = about.get("settings") if isinstance(about, dict) else None
    least = {"image_size": 1, "margin": 0, "photos": 1, "shard_size": 1}
    good = (
        isinstance(settings, dict)
        and all(_is_count(settings.get(name), low) for name, low in least.items())
        and isinstance(settings.get("locate"), dict)
        and settings["image_size"] + 2 * settings["margin"] <= MAX_SIDE
        and isinstance(settings.get("crop_scale"), float)
        and 0 < settings["crop_scale"] < float("inf")
        and all(isinstance(about.get(name), str) for name in ("name", "located"))
    )
    if good and "faces" not in about:
        raise ValueError(
            f"{folder} is not finished: give the command that began it again, and it goes on."
        )
    # The names of more shards than can be there might take all memory.
    most = len(list(folder.glob("*")))
    if not (
        good
        and _is_count(about.get("skipped"), 0)
        and settings["photos"] <= settings["shard_size"] * most
    ):
        raise ValueError(
            f"{path} is damaged: expected what `lapkl crop` writes. Crop the photos into a new "
            "folder."
        )
    return about


def _is_count(value, least):
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def crop_folder(
    input_dir: PathLike | StorePath,
    output_dir: PathLike | StorePath,
    locate: Locator,
    image_size: int = 80,
    margin: int = 16,
    crop_scale: float = 3.0,
    shard_size: int = 4096,
    workers: int | None = None,
    progress: bool = True,
    scheduler: PathLike | None = None,
    resume: bool = False,
) -> dict[str, Any]:
    """Cuts the faces out of all photos in a folder and below it, into shards.

    The files written are the same for any number of workers and machines. Killed at any moment,
    the same call goes on after the last finished shard. A photo that can't be used is left out, and
    listed with the reason in `skipped.csv`; so is one of several faces of a photo.

    Args:
        input_dir: folder of photos, as `find_images` reads it. Pictures of kinds that are not read,
            such as TIFF, are listed too. With the extra `stores` and the store's package it may be
            an address, such as s3://bucket/photos; then an error of the store, other than that a
            photo is gone, ends the call.
        output_dir: folder for the shards: a new one, or one that the same call has begun; or the
            address of one in an object store.
        locate: where the five points are: `ByBox`, `ByModel` or `ByDetector` of
            `keras_lapkl.detection.first_pass`; or `WholePictures`.
        image_size: S, side of the crops in pixels.
        margin: m, spare pixels on each side, for augmentation.
        crop_scale: side of the crop in longer edges of the box of the five points.
        shard_size: photos in a shard, the last one excepted.
        workers: processes; None for as many as `locate` does well with, mostly one on each core. A
            script that calls this needs `if __name__ == "__main__":`.
        progress: write lines to stderr if it takes longer than two seconds.
        scheduler: address of a Dask scheduler, `tcp://host:8786`, or the .json file that it has
            written: its workers do the work instead of processes of this machine. They must see the
            folder of photos and the model at the same paths.
        resume: whether to take over a folder that a process of another machine held, which is known
            to have ended.

    Returns:
        dict, as in `shards.json`: settings; the numbers of `faces`, and of `used` and `skipped`
            photos, which are all; and other files by suffix, `passed_by`.

    Raises:
        NotADirectoryError: there is no such folder of photos.
        ImageError: it holds no images.
        ValueError: the output folder is another call's, or holds files of something else, an
            argument is out of range, or no face was found at all.
        OSError: another process crops into the folder, the disk is full, or the cluster or a store
            fails.
        ModuleNotFoundError: `scheduler` without the extra `cluster`, or a store without its
            package.

    Example:

    >>> about = crop_folder("photos", "faces", ByModel("fpn-eighth-300w.tflite"))
    >>> len(read_shards("faces")) == about["faces"]
    True
    """
    for name, value, least in (
        ("image_size", image_size, 1),
        ("margin", margin, 0),
        ("shard_size", shard_size, 1),
        ("workers", 1 if workers is None else workers, 1),
    ):
        if value < least:
            raise ValueError(f"`{name}` must be at least {least}. Received: {value}")
    if scheduler is not None and workers is not None:
        raise ValueError("`workers` are of this machine, and `scheduler` has its own: drop one.")
    if scheduler is not None:
        extras.require("`scheduler`", "distributed")
    if not 0 < crop_scale < float("inf"):
        raise ValueError(f"`crop_scale` must be a positive number. Received: {crop_scale}")
    input_dir, output_dir = stores.at(input_dir).absolute(), stores.at(output_dir)
    passed_by = collections.Counter()
    listed = walk_listed(input_dir, IMAGE_SUFFIXES + OTHER_PICTURES, passed_by)
    photos = Listing(input_dir, _photographed(listed, passed_by), shard_size)
    if not len(photos):
        raise ValueError(f"Expected photos in {input_dir}. Received: overlays of lapkl predict.")
    logging.info("Found %s photos in %s.", f"{len(photos):,}", input_dir)
    settings = {
        "format": _FORMAT,
        "image_size": image_size,
        "margin": margin,
        "crop_scale": float(crop_scale),
        "locate": locate.settings,
        "photos": len(photos),
        "shard_size": shard_size,
        "listing": photos.digest,
    }
    about = {"name": input_dir.resolve().name, "located": str(locate), "settings": settings}
    with owned(output_dir, resume=resume):
        if (output_dir / SETTINGS).exists():
            _check_photos(output_dir, settings)
        claim(output_dir / SETTINGS, about, "faces of other photos or settings", _OUTPUTS)
        digest = _digest(settings)
        files = _shard_files(output_dir, settings)
        todo = [n for n, file in enumerate(files) if _read_index(file, digest) is None]
        cut = functools.partial(_cut, input_dir, locate, image_size, margin, crop_scale)
        batches = itertools.chain.from_iterable(map(photos.batches, todo))
        if scheduler is not None:
            results = cluster.map_in_order(cut, batches, scheduler, _died, lambda cut: cut.doubt)
        else:
            processes = workers or locate.default_workers or os.cpu_count() or 1
            results = map_in_order(cut, batches, processes, _died)
        watched: Any = _watched(results, sum(map(photos.count, todo))) if progress else results
        with contextlib.closing(results), contextlib.closing(watched):
            for number in todo:
                found = itertools.islice(map(_answered, watched), photos.count(number))
                _write_shard(files[number], digest, photos.names(number), found)
        return _finish(output_dir, about, files, digest, passed_by)


def _check_photos(folder, settings):
    """Says plainly that only photos have changed: a `listing` is of names, sizes and times."""
    held = read_claim(folder / SETTINGS).get("settings")
    if held is None or held.get("listing") == settings["listing"]:
        return
    of_photos = {"photos": settings["photos"], "listing": settings["listing"]}
    if {**held, **of_photos} == settings:
        raise OtherDataError(
            f"{folder} holds faces of other photos: some of them were added, removed or changed "
            f"since, {held.get('photos')} there, {settings['photos']} now."
        )


def _photographed(listed, passed_by):
    """Without the copies that `lapkl predict` draws on: they would teach its dots."""
    for name, state in listed:
        if _OVERLAY.search(name):
            passed_by["overlays of lapkl predict"] += 1
        else:
            yield name, state


class _Cut(NamedTuple):
    """What comes of a photo.

    Attributes:
        faces: each framed for a TFRecord file, and indexed.
        left_out: (part, reason) each; no part is the whole photo.
        doubt: what this machine could not read, if the photo may not be to blame.
        unanswered: what a store did not answer: to leave the photo out would be wrong.
    """

    faces: list[Any]
    left_out: list[tuple[str, str]]
    doubt: str = ""
    unanswered: str = ""


def _cut(input_dir, locate, image_size, margin, crop_scale, photo):
    """The faces of a photo, a `_Cut`."""
    name, listed = photo
    path = input_dir / name
    if isinstance(path, StorePath):
        path = dataclasses.replace(path, size=listed[0])  # not to be asked for again
    try:
        image = read_image(path)
        if state_of(path) != listed:
            reason = "changed after it was listed"
            return _Cut([], [("", reason)], f"{path}: {reason}")
        squares = locate(image)
        faces, left_out = [], []
        for i, square in enumerate(squares):
            box = square * (1, 1, crop_scale, 1)[: len(square)]
            try:
                check_squares([box], *image.shape[1::-1])
            except ValueError as error:
                left_out.append((f"face {i + 1} of {len(squares)}", str(error)))
                continue
            transform = crop_transform(box, image_size, margin)
            crop = warp_crop(image, transform, image_size + 2 * margin)
            faces.append(records.face(crop, name, square))
    except StoreError as error:
        return _Cut([], [], str(error), str(error))
    except Exception as error:  # whatever a photo does to a library must not end the run
        reason = _reason(error, path)
        return _Cut([], [("", reason)], f"{path}: {reason}" if cluster.is_of_machine(error) else "")
    if not faces:
        return _Cut([], [("", left_out[0][1] if left_out else "no face found")])
    return _Cut(faces, left_out)


def _answered(cut):
    """What came of a photo, if it was there to be read."""
    if cut.unanswered:
        raise StoreError(cut.unanswered)
    return cut


def _died(photo):
    return _Cut([], [("", "the process that read it died")])


def _reason(error, path):
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if isinstance(error, ImageError):
        return str(error).removeprefix(f"{path}: ")
    return f"{type(error).__name__}: {error}"


def _watched(results, total):
    """Hands the results of `_cut` through, and tells stderr how far it is."""
    skipped = 0

    def counted():
        nonlocal skipped
        for result in results:
            skipped += not result[0]  # no faces
            yield result

    def line(done, seconds):
        each = seconds / max(done - 1, 1)  # the clock starts with the first
        left = datetime.timedelta(seconds=round((total - done) * each))
        return (
            f"cropped {done:,} of {total:,} photos, {skipped:,} skipped, "
            f"{1 / max(each, 1e-9):.1f} photos/s, {left} left"
        )

    return console.reported(counted(), total, line)


def _shard_files(folder, settings):
    shards = -(-settings["photos"] // settings["shard_size"])
    return [folder / f"faces-{n:05d}-of-{shards:05d}.tfrecord" for n in range(shards)]


def _digest(settings):
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def _write_shard(file, digest, names, results):
    """Writes a shard, and its index last: a shard with an index is whole."""
    index, skipped, doubts, size = [], [], [], 0
    with replacing(file) as temporary, temporary.open("wb") as stream:
        for name, result in zip(names, results, strict=True):
            skipped += [(name, *each) for each in result.left_out]
            doubts += [f"{quote_name(name)}: {result.left_out[0][1]}"] if result.doubt else []
            for framed, (offset, length, crc) in result.faces:
                stream.write(framed)
                index.append((size + offset, length, crc))
                size += len(framed)
    about = {"digest": digest, "size": size, "skipped": skipped, "doubts": doubts}
    with replacing(file.with_suffix(".npz")) as temporary, temporary.open("wb") as stream:
        np.savez(stream, images=np.array(index, INDEX), about=json.dumps(about))


def _read_index(file, digest):
    """Index, skipped photos and doubts of a shard; None of one that is not whole, or another's."""
    stored = read_arrays(file.with_suffix(".npz")) or {}
    try:
        about = json.loads(str(stored["about"]))
        images, size = stored["images"], byte_size(file)
        whole = about["digest"] == digest and about["size"] == size
        if whole and _is_index(images, size) and _are_reasons(about["skipped"]):
            doubts = about.get("doubts", [])  # an earlier version kept none
            return images, about["skipped"], [str(each) for each in doubts]
    except StoreError:
        raise
    except (KeyError, OSError, TypeError, ValueError):  # TypeError: other JSON
        pass
    return None


def _is_index(images, size):
    """Whether each image lies within a file of this size."""
    if images.dtype != INDEX or images.ndim != 1:
        return False
    offset, length = images["offset"], images["length"]
    return bool((offset <= size).all() and (length <= size - offset).all())


def _are_reasons(skipped):
    return isinstance(skipped, list) and all(
        isinstance(each, list) and len(each) == 3 and all(isinstance(text, str) for text in each)
        for each in skipped
    )


def _finish(folder, about, files, digest, passed_by):
    """Counts all shards, lists what was skipped, and marks the folder as finished."""
    faces, whole, first, doubted = 0, 0, None, {}
    with (
        replacing(folder / SKIPPED) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as stream,
    ):
        rows = csv.writer(stream, lineterminator="\n")
        rows.writerow(["photo", "part", "reason"])
        for file in files:
            images, skipped, doubts = _read_index(file, digest)  # pyright: ignore[reportGeneralTypeIssues]  all are there
            faces += len(images)
            whole += sum(not part for _, part, _ in skipped)
            first = first or next(iter(skipped), None)
            rows.writerows(map(quote_name, row) for row in skipped)
            if doubts:
                doubted[file] = doubts
    photos = about["settings"]["photos"]
    if not faces:
        assert first, "each photo without a face has a reason"
        for file in doubted:  # the same command tries these again
            index = file.with_suffix(".npz")
            index.remove() if isinstance(index, StorePath) else index.unlink()
        raise ValueError(
            f"No face in any of {photos:,} photos; {folder / SKIPPED} lists them. The first: "
            f"{first[0]}: {first[-1]}"
        )
    if doubted:
        logging.warning(
            "Photos that could not be read, which may not be their fault: %s, such as %s. To try "
            "them again, delete %s.",
            f"{sum(map(len, doubted.values())):,}",
            next(iter(doubted.values()))[0],
            folder,
        )
    counts = {"faces": faces, "used": photos - whole, "skipped": whole}
    about = {**about, **counts, "passed_by": dict(sorted(passed_by.items()))}
    write_json(folder / SETTINGS, about)
    return about
