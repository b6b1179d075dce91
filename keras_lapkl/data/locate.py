"""Where the five points of a face lie in a photo without labels, by three ways to tell.

Each way is a callable from a photo (H, W, 3) uint8 RGB to squares (n, 3) float64: centre x, centre
y and longer edge of the box of the five points, in photo pixels, as `crop_box(…, crop_scale=1)`
gives them from labels. It can be pickled. `settings`, plain data, says all that decides what it
gives, `str` the same for people, and `default_workers` how many processes to run it in, None for
one on each core.
"""

import dataclasses
import functools
import hashlib
import importlib.metadata
import math
import os
from pathlib import Path

import cv2
import numpy as np

from keras_lapkl import console
from keras_lapkl.data.crops import (
    apply_transform,
    crop_box,
    crop_transform,
    invert_transform,
    warp_crop,
)
from keras_lapkl.data.images import ImageError

_MTCNN_SMALLEST = 20  # px; its 1.0.0 finds nothing, without an error, when told a larger one
_MTCNN_FIELD = 12  # px; its first network takes no smaller photo
_FIRST_LOOKS = (1, 0.7, 0.5)  # parts of the photo's longer edge


class FaceError(ImageError):
    """A photo in which no face was found, or none surely enough."""


@dataclasses.dataclass(frozen=True)
class ByBox:
    """One face a photo, its five points in the same place of each: for aligned sets.

    Args:
        box: (x0, y0, x1, y1) of the five points' box, in fractions of the photo's width and
            height.

    Raises:
        ValueError: a box that is no box, or outside the photo.

    Example:

    >>> ByBox((0.25, 0.25, 0.75, 0.75))(np.zeros((80, 80, 3), np.uint8))
    array([[39.5, 39.5, 40. ]])
    """

    box: tuple[float, float, float, float]
    default_workers = None

    def __post_init__(self):
        _check_box(self.box)

    def __call__(self, photo):
        return _box_square(self.box, photo)[None]

    @property
    def settings(self):
        return {"by": "box", "box": [float(edge) for edge in self.box]}

    def __str__(self):
        return f"by the box {_joined(self.box)} of each photo"


@dataclasses.dataclass(frozen=True)
class ByModel:
    """One face a photo, its five points by a first-pass model.

    The model looks at a first crop, then at the crop by the landmarks that it found, and so on
    until the square stays where it is. A photo is refused if that does not come about, or if the
    model is unsure in the end. That is no detector: the face should fill a good part of the photo.
    `benchmarks/locate.py` measures what is kept and what is wrong, by `max_scale`.

    Args:
        model: a .tflite file of `keras_lapkl.tflite.convert` that knows its crop rule.
        box: where to look first, as `ByBox`'s. None to look at the whole photo and at two smaller
            squares in its middle, and to go on from where the model is surest.
        max_scale: largest mean scale of the landmarks that counts as sure, pixels of the model's
            crop.
        settled: largest move of the square, and change of its size, that counts as none, in sides.
        rounds: how often the model may look, the first looks counted as one.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no localizer, does not know its crop rule, or an argument is out of range.
    """

    model: Path | str
    box: tuple[float, float, float, float] | None = None
    max_scale: float = 1.6
    settled: float = 0.05
    rounds: int = 8
    default_workers = None

    def __post_init__(self):
        if self.box is not None:
            _check_box(self.box)
        for name in ("max_scale", "settled", "rounds"):
            if not getattr(self, name) > 0:
                raise ValueError(f"`{name}` must be > 0. Received: {getattr(self, name)}")
        localizer = self._localizer
        if localizer.crop_scale is None or localizer.scheme is None:
            raise ValueError(
                f"{self.model} does not say which crop it is right on, or which landmarks it "
                "gives. Set `crop_scale` and `scheme` of the Keras model, and convert it again."
            )

    def __call__(self, photo):
        looks = [self._look(photo, square) for square in self._first_squares(photo)]
        scale, move, square = min(looks, key=lambda look: look[0])
        for _ in range(self.rounds - 1):
            if move <= self.settled or move == math.inf:
                break
            scale, move, square = self._look(photo, square)
        if move == math.inf:
            raise FaceError("no face found: all landmarks in one point, or not finite")
        if move > self.settled:
            raise FaceError(f"no face found: the square still moves by {move:.2f} of its side")
        if not scale <= self.max_scale:
            raise FaceError(
                f"no sure face found: mean scale {scale:.2f} px, at most {self.max_scale:g} wanted"
            )
        return square[None]

    def _look(self, photo, square):
        """Mean scale, how far the square moved, and where to."""
        localizer = self._localizer
        transform = crop_transform(square * (1, 1, localizer.crop_scale), localizer.image_size)
        landmarks, scale = localizer(warp_crop(photo, transform, localizer.image_size))
        points = apply_transform(invert_transform(transform), landmarks)
        try:
            found = crop_box(points[None], localizer.scheme, crop_scale=1)[0]
        except ValueError:  # all landmarks in one point, or not finite
            return math.inf, math.inf, square
        return float(np.mean(scale)), distance(square, found), found

    def _first_squares(self, photo):
        if self.box is not None:
            return [_box_square(self.box, photo)]
        height, width = photo.shape[:2]
        side = max(height, width) / self._localizer.crop_scale
        return [np.array([(width - 1) / 2, (height - 1) / 2, part * side]) for part in _FIRST_LOOKS]

    @functools.cached_property
    def _localizer(self):
        from keras_lapkl.tflite.runner import TFLiteLocalizer

        with console.held_stderr():  # LiteRT greets
            return TFLiteLocalizer(self.model)

    def __reduce__(self):
        # An interpreter can't be pickled; the copy opens its own.
        values = (getattr(self, field.name) for field in dataclasses.fields(self))
        return type(self), tuple(values)

    @property
    def settings(self):
        return {
            "by": "model",
            "model_sha256": hashlib.sha256(Path(self.model).read_bytes()).hexdigest(),
            "box": None if self.box is None else [float(edge) for edge in self.box],
            "max_scale": float(self.max_scale),
            "settled": float(self.settled),
            "rounds": self.rounds,
        }

    def __str__(self):
        return f"by the model {Path(self.model).name} where its mean scale is ≤ {self.max_scale:g}"


@dataclasses.dataclass(frozen=True)
class ByDetector:
    """All faces of a photo that are large and sure enough, by the package mtcnn, left to right.

    Each process imports TensorFlow and takes about 1 GB, so one is the default.

    Args:
        min_confidence: smallest confidence of a face.
        min_size: smallest longer edge of a face's box, photo pixels, ≥ 20. A face of 40 pixels has
            a five-point square of about 17. Time falls with its square.

    Raises:
        ImportError: mtcnn is not installed.
        ValueError: an argument out of range.
    """

    min_confidence: float = 0.95
    min_size: float = 40
    default_workers = 1

    def __post_init__(self):
        if not 0 <= self.min_confidence <= 1:
            raise ValueError(f"`min_confidence` must be in [0, 1]. Received: {self.min_confidence}")
        if not _MTCNN_SMALLEST <= self.min_size < math.inf:
            raise ValueError(
                f"`min_size` must be at least {_MTCNN_SMALLEST}. Received: {self.min_size}"
            )
        try:
            importlib.metadata.version("mtcnn")
        except importlib.metadata.PackageNotFoundError as error:
            raise ImportError(
                "Finding faces needs mtcnn: pip install 'keras_lapkl[mtcnn]'"
            ) from error

    def __call__(self, photo):
        shrink = _MTCNN_SMALLEST / self.min_size
        if min(photo.shape[:2]) * shrink < _MTCNN_FIELD:
            return np.empty((0, 3))
        small = cv2.resize(photo, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
        found = self._detector.detect_faces(
            small, fit_to_image=False, box_format="xyxy", output_type="numpy"
        )
        # Columns: photo; box x0, y0, x1, y1; confidence; the five x; the five y.
        edges = (found[:, 3:5] - found[:, 1:3]).max(1) / shrink
        found = found[(found[:, 5] >= self.min_confidence) & (edges >= self.min_size)]
        points = found[:, 6:16].reshape(-1, 2, 5).swapaxes(1, 2)
        ratio = np.array(photo.shape[1::-1]) / small.shape[1::-1]
        points = (points + 0.5) * ratio - 0.5
        first, last = points.min(1), points.max(1)
        squares = np.column_stack([(first + last) / 2, (last - first).max(1)])
        return squares[np.lexsort(squares.T[::-1])]

    @functools.cached_property
    def _detector(self):
        # One thread: a second one makes it slower, and processes are the way to take more cores.
        os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        with console.held_stderr():
            from mtcnn import MTCNN

            return MTCNN()

    def __reduce__(self):
        return type(self), (self.min_confidence, self.min_size)

    @property
    def settings(self):
        return {
            "by": "detector",
            "mtcnn": importlib.metadata.version("mtcnn"),
            "min_confidence": float(self.min_confidence),
            "min_size": float(self.min_size),
        }

    def __str__(self):
        return (
            f"by MTCNN where its confidence is ≥ {self.min_confidence:g} and the face ≥ "
            f"{self.min_size:g} pixels"
        )


def _check_box(box):
    if len(box) != 4 or not (0 <= box[0] < box[2] <= 1 and 0 <= box[1] < box[3] <= 1):
        raise ValueError(
            "`box` must be (x0, y0, x1, y1) in fractions of the photo, 0 ≤ x0 < x1 ≤ 1 and 0 ≤ y0 "
            f"< y1 ≤ 1. Received: {_joined(box)}"
        )


def _joined(box):
    return ",".join(f"{edge:g}" for edge in box)


def _box_square(box, photo):
    height, width = photo.shape[:2]
    x0, y0, x1, y1 = np.multiply(box, (width, height, width, height))
    # The photo's left edge is at -0.5: pixel centres are at whole numbers.
    return np.array([(x0 + x1 - 1) / 2, (y0 + y1 - 1) / 2, max(x1 - x0, y1 - y0)])


def distance(square, other):
    """How far two squares are apart: in sides, or as the logarithm of their ratio."""
    move = np.abs(other[:2] - square[:2]).max() / square[2]
    return float(max(move, abs(math.log(other[2] / square[2]))))
