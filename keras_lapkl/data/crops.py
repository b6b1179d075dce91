"""Whole data sets as crops in memory, kept in a file between runs."""

import concurrent.futures
import dataclasses
import functools
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

import cv2
import numpy as np
from absl import logging
from numpy.typing import NDArray

from keras_lapkl._support import cluster, console
from keras_lapkl._support.files import read_arrays, replacing
from keras_lapkl._support.names import names_below
from keras_lapkl._support.types import PathLike
from keras_lapkl.data.annotations import Annotations, check_shapes, known_points
from keras_lapkl.data.cropping import (
    apply_transform,
    check_crop_scale,
    check_squares,
    crop_squares,
    crop_transform,
    picture_squares,
    warp_crop,
)
from keras_lapkl.data.digests import Digests, of_arrays, of_boxes, of_file, of_labels
from keras_lapkl.data.images import ImageError, read_image
from keras_lapkl.schemes import CropFrom, Scheme
from keras_lapkl.training_data import DataSet

_CACHE_VERSION = 4  # raise it when the same photo and box give other pixels
_Crops = TypeVar("_Crops", bound="Crops")


@dataclasses.dataclass(frozen=True)
class Crops:
    """N faces in memory, cut to one size.

    Attributes:
        images: (N, S+2m, S+2m, 3) uint8, with a margin of m pixels for augmentation.
        landmarks: (N, K, 2) float32, pixels of the S by S crop without margin: a landmark lies at
            image index landmark + m. NaN where not annotated.
        visible: (N, K) bool.
        transforms: (N, 2, 3) float64, affines from the photo to the S by S crop.
        names: N image paths, or other names.
        scheme: which K points these are.
        image_size: S.
        margin: m.
        crop_scale: side of the crop in longer edges of the box of the five points.
        name: what these are, for messages and tables.
        boxes: (N, 4) face boxes (x0, y0, x1, y1) in photo pixels, or None.
        sizes: (N, 2) width and height of the photos, or None.
        skipped: (path, reason) of each image that was left out.
        source: what was found, what is missing, and the limit that it sets, as a `DataSet`; or
            None.
        places: N places in the file of labels, for messages; None where each file has one.
        loaded: the arguments of `data.load` that gave them, as plain data; None if it did not.

    Those of `load_crops` know the digests of their files and labels; their arrays are read-only, so
    that these stay right. `dataclasses.replace` gives changed ones, which are digested anew.

    Raises:
        ValueError: arrays that do not fit the number of names, the scheme and the size.

    Example:

    >>> crops = keras_lapkl.data.load("synthetic", num_synthetic=2)
    >>> crops.images.shape, crops.landmarks.shape
    ((2, 80, 80, 3), (2, 68, 2))
    """

    images: NDArray[np.uint8]
    landmarks: NDArray[Any]
    visible: NDArray[np.bool_]
    transforms: NDArray[Any]
    names: tuple[str, ...]
    scheme: Scheme
    image_size: int
    margin: int
    crop_scale: float
    name: str
    boxes: NDArray[Any] | None = None
    sizes: NDArray[Any] | None = None
    skipped: tuple[tuple[str, str], ...] = ()
    source: DataSet | None = None
    places: tuple[str, ...] | None = None
    loaded: dict[str, Any] | None = dataclasses.field(default=None, init=False, repr=False)
    _digests: Digests | None = dataclasses.field(default=None, init=False, repr=False)

    def __post_init__(self):
        n, side = len(self.names), self.image_size + 2 * self.margin
        check_shapes(
            self,
            f"crops of {self.image_size} + 2*{self.margin} pixels",
            images=(n, side, side, 3),
            transforms=(n, 2, 3),
        )

    @property
    def summary(self) -> str:
        """One line that says what was found and what is missing."""
        return self.name if self.source is None else str(self.source)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def known(self) -> NDArray[np.bool_]:
        """(N, K) bool: which landmarks are visible and have finite numbers."""
        return known_points(self.landmarks, self.visible)

    @property
    def crop_from(self) -> CropFrom:
        """What they are cropped from, one of `schemes.CROP_FROM`."""
        return self.scheme.crop_from

    @property
    def inner(self) -> slice:
        """Rows and columns of the images that are no margin."""
        return slice(self.margin, self.margin + self.image_size)

    def take(self, indices: Sequence[int] | NDArray[Any]) -> Self:
        """The same crops, only those at `indices` (a sequence of ints or a bool mask).

        How the whole was loaded is not known of a part: a model that was trained on it would later
        be measured on the whole.
        """
        indices = np.arange(len(self))[list(indices)]
        found = dataclasses.replace(
            self,
            images=self.images[indices],
            landmarks=self.landmarks[indices],
            visible=self.visible[indices],
            transforms=self.transforms[indices],
            names=tuple(self.names[i] for i in indices),
            boxes=None if self.boxes is None else self.boxes[indices],
            sizes=None if self.sizes is None else self.sizes[indices],
            source=None if self.source is None else self.source.taken(len(indices)),
            places=None if self.places is None else tuple(self.places[i] for i in indices),
        )
        known = None if self._digests is None else self._digests.take(indices)
        return recorded(found, None, known)

    def spread(self, count: int) -> Self:
        """At most `count` (≥ 1) of the crops, spread over all: every nth, from the first."""
        found = self.take(range(0, len(self), -(-len(self) // count)))
        return recorded(found, self.loaded, found._digests)

    def digests(self) -> Digests:
        """Of each face's labels, box and picture, to tell whether data are the same.

        Those of `load_crops` have them from photos and labels as they were read; of others they
        are made of the arrays.
        """
        if self._digests is not None:
            return self._digests
        labels = of_labels(self.landmarks, self.visible)
        boxes = of_boxes(self.boxes, len(self))
        pictures = of_arrays(self.images)
        return Digests(self.names, np.stack([labels, boxes, pictures], 1))

    def central(self) -> NDArray[np.uint8]:
        """The images without their margin, (N, S, S, 3); a view."""
        return self.images[:, self.inner, self.inner]

    def cropped_boxes(self) -> NDArray[np.float64]:
        """The face boxes (N, 4), x0, y0, x1, y1, in crop pixels.

        Raises:
            ValueError: there are no boxes.
        """
        if self.boxes is None:
            raise ValueError(f"{self.name} has no face boxes, which `cropped_boxes` needs.")
        return apply_transform(self.transforms, self.boxes.reshape(-1, 2, 2)).reshape(-1, 4)


def recorded(crops: _Crops, loaded: dict[str, Any] | None, known: Digests | None = None) -> _Crops:
    """Gives crops where they are from and their digests, which hold while the arrays do."""
    object.__setattr__(crops, "loaded", loaded)
    object.__setattr__(crops, "_digests", known)
    if known is not None:
        for array in (crops.images, crops.landmarks, crops.visible, crops.boxes, crops.transforms):
            if array is not None:
                array.setflags(write=False)
    return crops


def load_crops(
    annotations: Annotations,
    image_size: int = 80,
    crop_scale: float = 3.0,
    margin: int = 0,
    skip_bad: bool = False,
    cache: PathLike | None = None,
    progress: bool = True,
    loaded: dict[str, Any] | None = None,
) -> Crops:
    """Reads and crops the photos of annotations.

    Args:
        annotations: `Annotations`.
        image_size: S, side of the crops in pixels.
        crop_scale: side of the crop in longer edges of the box of the five points (`crop_squares`).
        margin: further pixels on each side, for augmentation.
        skip_bad: leave out images that can't be read, and list them in `skipped`, instead of
            stopping at the first.
        cache: an .npz file to keep the pixels in. Used again while images, labels and arguments
            are the same, otherwise written anew.
        progress: write a line to stderr if it takes longer than two seconds.
        loaded: `Crops.loaded`.

    Returns:
        `Crops`, in the order of the annotations.

    Raises:
        ImageError: an image can't be used; with `skip_bad`, only if none can.
        OSError: an image can't be opened; likewise.
        ValueError: there are no annotations, a face without box (`crop_squares`), or two objects
            in a picture that is taken as a whole.

    Example:

    >>> crops = load_crops(read_300w("300w", "common"), image_size=80)
    >>> crops.central().shape
    (554, 80, 80, 3)
    """
    if not len(annotations):
        raise ValueError(f"{annotations.name}: expected annotations to crop. Received: none")
    rule = annotations.scheme.crop_from
    squares = None  # the pictures decide
    if rule == "image":
        check_crop_scale(crop_scale)
        _check_one_each(annotations)
    else:
        squares = crop_squares(
            annotations.landmarks,
            annotations.scheme,
            crop_scale,
            annotations.visible,
            annotations.boxes,
        )
    fingerprint = _fingerprint(
        annotations, crop_scale if squares is None else squares, image_size, margin, skip_bad
    )
    cached = None if cache is None else _read_cache(Path(cache), fingerprint)
    if cached is None:
        images, sizes, pictures, errors = _cut(
            annotations, squares, crop_scale, image_size, margin, skip_bad, progress
        )
        kept = np.array([i for i in range(len(annotations)) if i not in errors], np.int64)
        reasons = {str(annotations.paths[i]): str(error) for i, error in errors.items()}
        if errors:
            images, sizes, pictures = images[kept], sizes[kept], pictures[kept]
        # What can be read by a later run must be tried again by it.
        if cache is not None and not any(map(_may_pass, errors.values())):
            _write_cache(Path(cache), fingerprint, images, sizes, pictures, kept, reasons)
    else:
        images, sizes, pictures, kept, reasons = cached

    squares = picture_squares(sizes) * (1, 1, crop_scale) if squares is None else squares[kept]
    transforms = crop_transform(squares, image_size)
    notes = {"points": (), "box": ("cut by their boxes",), "image": ("whole pictures",)}[rule]
    if reasons:
        notes += (f"{len(reasons):,} unreadable images left out",)
    found = annotations.part(kept, *notes)
    labels, boxed = of_labels(found.landmarks, found.visible), of_boxes(found.boxes, len(found))
    names = names_below(found.paths)  # the same wherever the folder lies
    known = Digests(names, np.stack([labels, boxed, pictures], 1))
    crops = Crops(
        images=images,
        landmarks=apply_transform(transforms, found.landmarks).astype(np.float32),
        visible=found.known,
        transforms=transforms,
        names=tuple(str(path) for path in found.paths),
        scheme=found.scheme,
        image_size=image_size,
        margin=margin,
        crop_scale=crop_scale,
        name=found.name,
        boxes=found.boxes,
        sizes=sizes,
        skipped=tuple(reasons.items()),
        source=found.source,
        places=found.places,
    )
    return recorded(crops, loaded, known)


def _check_one_each(annotations):
    """Two objects of a whole picture would have one crop: no net could tell which is meant."""
    first = {}
    for i, path in enumerate(annotations.paths):
        if path in first:
            raise ValueError(
                f"{annotations.place(i)}: expected one object in each picture, for the whole "
                f"picture is the crop. Received: a second one in {path}, beside "
                f"{annotations.place(first[path])}. Crop from the points or a box instead."
            )
        first[path] = i


def _cut(annotations, squares, crop_scale, image_size, margin, skip_bad, progress):
    """Crops, sizes and digests of all photos, and the errors by index.

    Errors are there only with `skip_bad`, and never of all.
    """
    paths, side = annotations.paths, image_size + 2 * margin
    images = np.zeros((len(paths), side, side, 3), np.uint8)
    sizes = np.zeros((len(paths), 2), np.int32)
    pictures = np.zeros(len(paths), np.uint64)
    digest = functools.cache(of_file)  # several faces may be in one

    def cut(index):
        try:
            image = read_image(paths[index])
            pictures[index] = digest(paths[index])
            sizes[index] = image.shape[1::-1]
            annotations.check_size(index, sizes[index])
            if squares is None:
                (square,) = picture_squares(sizes[index]) * (1, 1, crop_scale)
            else:
                square = squares[index]
            if annotations.scheme.crop_from == "box":  # a crop by points has these in it
                check_squares([square], *sizes[index])
            transform = crop_transform(square, image_size, margin)
            images[index] = warp_crop(image, transform, side)
        except (ImageError, OSError) as error:
            return error
        except (ValueError, MemoryError, cv2.error) as error:
            reason = " ".join(str(error).split()) or "not enough memory for it"
            refused = ImageError(f"{annotations.place(index)}: {reason}")
            refused.__cause__ = error
            return refused
        return None

    errors = {}
    # OpenCV lets other threads run while it decodes and warps.
    pool = concurrent.futures.ThreadPoolExecutor(min(8, os.cpu_count() or 1))
    try:
        results = pool.map(cut, range(len(paths)))
        if progress:
            results = console.reported(results, len(paths), "cropped {} of {} images")
        for index, error in enumerate(results):
            if error is None:
                continue
            errors[index] = error
            if not skip_bad or len(errors) == len(paths):
                raise error
    finally:
        pool.shutdown(cancel_futures=True)
    return images, sizes, pictures, errors


def _may_pass(error):
    """Whether the same picture may be read another time. One that is missing is the same again."""
    return cluster.is_of_machine(error) and not isinstance(error, FileNotFoundError)


def _fingerprint(annotations, squares, image_size, margin, skip_bad):
    """A hash of all that decides what the pixels are, and whether they are refused."""
    settings = (_CACHE_VERSION, image_size, margin, skip_bad)
    files = [(str(path), *_state(path)) for path in annotations.paths]
    digest = hashlib.sha256(json.dumps([settings, files]).encode())
    for values in (squares, annotations.sizes):
        digest.update(b"" if values is None else np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


def _state(path):
    """Size and times of a file, nothing if it is not there.

    Tools may set the time of the content, but not that of the last change of any kind.
    """
    try:
        state = path.stat()
    except OSError:
        return ()
    return state.st_size, state.st_mtime_ns, state.st_ctime_ns


def _write_cache(file, fingerprint, images, sizes, pictures, kept, reasons):
    with replacing(file) as temporary, temporary.open("wb") as stream:
        np.savez(
            stream,
            fingerprint=fingerprint,
            images=images,
            sizes=sizes,
            pictures=pictures,
            kept=kept,
            reasons=json.dumps(reasons),
        )


def _read_cache(file, fingerprint):
    """Images, sizes, digests, kept indices and reasons; None if of something else or damaged."""
    if not file.is_file():
        return None
    stored = read_arrays(file) or {}
    try:
        if str(stored["fingerprint"]) != fingerprint:
            return None
        arrays = (stored[name] for name in ("images", "sizes", "pictures", "kept"))
        return *arrays, json.loads(str(stored["reasons"]))
    except (KeyError, ValueError):
        logging.warning("Crops in %s cannot be read; making them again.", file)
        return None
