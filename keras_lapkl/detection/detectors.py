"""Finds the faces of a photo: a small protocol, and detectors that come with their weights.

A detector is any callable from a photo (H, W, 3) uint8 RGB to a list of `Detection`. If it has the
attributes `five_by_box` and `five_below_box`, these say where in its boxes the five points lie
(`squares`). Those here can be pickled, may be called by several threads and never ask a network.
BlazeFace, the fastest, and YuNet, which finds the smallest faces, come with this package, and so
does what takes both: `AutoDetector`, the default. MTCNN is an optional extra.
"""

import dataclasses
import functools
import importlib.metadata
import inspect
import math
import os
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from keras_lapkl._support import console, extras
from keras_lapkl._support.threads import Pool
from keras_lapkl.detection.detections import (
    OVERLAP,
    Detection,
    as_photo,
    beside,
    distinct,
    left_to_right,
)
from keras_lapkl.registries import DETECTORS

_WEIGHTS = Path(__file__).resolve().parent / "weights"


@dataclasses.dataclass(frozen=True)
class _Detector:
    """What the detectors have in common.

    Args:
        min_confidence: smallest score of a face; what a number means is each detector's own.
        min_size: smallest longer edge of a face's box in photo pixels. Where small faces cost time,
            it falls with the square of this.
    """

    min_confidence: float
    min_size: float

    default_workers: ClassVar[int | None] = None
    _name: ClassVar[str]
    _version: ClassVar[str]
    _smallest: ClassVar[int] = 1

    def __post_init__(self):
        if not 0 <= self.min_confidence <= 1:
            raise ValueError(f"`min_confidence` must be in [0, 1]. Received: {self.min_confidence}")
        if not self._smallest <= self.min_size < math.inf:
            raise ValueError(
                f"`min_size` must be at least {self._smallest}. Received: {self.min_size}"
            )

    def __call__(self, photo: ArrayLike) -> list[Detection]:
        photo = as_photo(photo)
        found = [
            each
            for each in self._look(photo)
            if each.score >= self.min_confidence
            and (each.box[2:] - each.box[:2]).max() >= self.min_size
            and not beside(each.box[None], photo)[0]
        ]
        return sorted(found, key=lambda each: left_to_right(each.box))

    def __reduce__(self):
        # A loaded network can't be pickled; the copy loads its own.
        return type(self), (self.min_confidence, self.min_size)

    @property
    def settings(self) -> dict[str, Any]:
        """All that decides what is found, as plain data."""
        return {
            self._name: self._version,
            "min_confidence": float(self.min_confidence),
            "min_size": float(self.min_size),
        }

    def __str__(self):
        return (
            f"{type(self).__name__} where its confidence is ≥ {self.min_confidence:g} and the face "
            f"≥ {self.min_size:g} pixels"
        )

    def _look(self, photo) -> list[Any]:
        """Detections with their scores, however small and unsure."""
        raise NotImplementedError

    @functools.cached_property
    def _networks(self) -> Pool[Any]:
        # Two threads may each make a pool at first, and each uses its own.
        return Pool(self._load)

    def _load(self) -> Any:
        """A network, which one thread at a time may use."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class YuNet(_Detector):
    """Faces from 10 to thousands of pixels with five points, by OpenCV.

    Wu, Peng, Yu: YuNet, a tiny millisecond-level face detector, 2023; the weights of March 2023
    come with this package. The network sees faces of 30 to 500 pixels well: photos are shrunk until
    the smallest wanted have 32, where these are larger, and those that are still large are looked
    at once more, much smaller, for the faces that fill them. With the default of 20 pixels no photo
    is shrunk at first; with 40 it takes 0.65 times as long, and finds a fifth of the faces of 32
    pixels.

    Raises:
        ValueError: an argument out of range.

    Example:

    >>> YuNet(min_size=40)(photo)[0].points.shape
    (5, 2)
    """

    min_confidence: float = 0.6
    min_size: float = 20

    _name = "yunet"
    _version = "2023mar"
    _smallest = 10
    _sees = 32  # pixels
    _large = 640
    _second = 320
    _most = 1000  # boxes, the surest: of noise there are many, and each is compared with all

    def _look(self, photo):
        side = max(photo.shape[:2])
        found = self.find_small(photo)
        if self._shrink * side > self._large:
            found = found + self._find_in(photo, self._second / side)
        return _distinct(found, [each.score for each in found])

    def find_small(self, photo: NDArray[np.uint8], max_side: float = math.inf) -> list[Detection]:
        """All but the largest faces of a photo, which is shrunk to `max_side` pixels at most."""
        return self._find_in(photo, min(self._shrink, max_side / max(photo.shape[:2])))

    @property
    def _shrink(self):
        return min(1, self._sees / self.min_size)

    def _find_in(self, photo, shrink):
        """What it finds in a smaller copy, in pixels of the photo."""
        small, ratios = _resized(photo, shrink)
        with self._networks.borrowed() as network:
            network.setInputSize(small.shape[1::-1])
            _, found = network.detect(cv2.cvtColor(small, cv2.COLOR_RGB2BGR))
        rows = np.empty((0, 15)) if found is None else found.astype(np.float64)
        rows[:, 2:4] += rows[:, :2]
        # The network's zero is a pixel's edge.
        rows[:, :14] = rows[:, :14] * np.tile(ratios, 7) - 0.5
        return [
            Detection(row[:4], row[14], row[4:14].reshape(5, 2))
            for row in rows[distinct(rows[:, :4], rows[:, 14])]
        ]

    def _load(self):
        with console.held_stderr():  # OpenCV 5 warns that it has no choice of target
            return cv2.FaceDetectorYN.create(
                str(_WEIGHTS / "yunet_2023mar.onnx"),
                "",
                (320, 320),
                score_threshold=self.min_confidence,
                nms_threshold=OVERLAP,
                top_k=self._most,
            )


@dataclasses.dataclass(frozen=True)
class BlazeFace(_Detector):
    """Faces that fill a tenth of the photo or more, rotated ones too, by LiteRT.

    Bazarevsky et al.: BlazeFace, 2019; MediaPipe's weights for back cameras, which come with this
    package. The whole photo is brought to 256 pixels, whatever its size and whatever `min_size`.
    Where it finds nothing, it looks at a smoothed copy of half the size, and then at one without
    single bright and dark pixels: noise and blur hide faces, and shrink with them.
    The network knows the middle of the mouth, not its corners: the last two of the five points are
    the same.

    Raises:
        ValueError: an argument out of range.

    Example:

    >>> BlazeFace()(photo)[0].points.shape
    (5, 2)
    """

    min_confidence: float = 0.6
    min_size: float = 20

    _name = "blazeface"
    _version = "back, MediaPipe; then halves"
    _side = 256
    _smoothing = 1.0  # standard deviation in pixels of half of these
    _median = 5  # side in pixels of these
    _strides = ((16, 2), (32, 6))  # pixels, and outputs for each cell
    _points = (0, 1, 2, 3, 3)  # eyes, nose and mouth, of the network's six

    def _look(self, photo):
        return self.find_clear(photo) or self.find_hidden(photo)

    def find_clear(self, photo: NDArray[np.uint8]) -> list[Detection]:
        """The faces of a photo as it is."""
        small, ratios = self._resized(photo)
        height, width = small.shape[:2]
        beside = 0, self._side - height, 0, self._side - width
        return self._find_in(cv2.copyMakeBorder(small, *beside, cv2.BORDER_CONSTANT), ratios)

    def find_hidden(self, photo: NDArray[np.uint8]) -> list[Detection]:
        """The faces under noise or blur, in two copies of half the size."""
        small, ratios = self._resized(photo)
        return self._find_in_half(
            small, ratios, lambda half: cv2.GaussianBlur(half, (0, 0), self._smoothing)
        ) or self._find_in_half(cv2.medianBlur(small, self._median), ratios)

    def _resized(self, photo):
        return _resized(photo, self._side / max(photo.shape[:2]))

    def _find_in_half(self, small, ratios, smooth=lambda half: half):
        """What it finds in the middle of the canvas, with the border's pixels around."""
        half, twice = _resized(small, 0.5)
        height, width = half.shape[:2]
        left, top = (self._side - width) // 2, (self._side - height) // 2
        beside = top, self._side - height - top, left, self._side - width - left
        canvas = cv2.copyMakeBorder(smooth(half), *beside, cv2.BORDER_REPLICATE)
        return self._find_in(canvas, ratios * twice, (left, top))

    def _find_in(self, canvas, ratios, corner=(0, 0)):
        """What it finds in its picture, in pixels of the photo whose corner lies there."""
        with self._networks.borrowed() as network:
            values, logits = network(canvas / np.float32(127.5) - 1)
        scores = 1 / (1 + np.exp(-np.clip(logits[:, 0].astype(np.float64), -80, 80)))
        likely = scores >= self.min_confidence
        # Center, size and six points, all but the size from the anchor.
        pairs = values[likely].reshape(-1, 8, 2).astype(np.float64)
        pairs[:, [0, *range(2, 8)]] += self._anchors[likely, None] - corner
        centers, sizes = ratios * pairs[:, 0] - 0.5, ratios * pairs[:, 1]
        boxes = np.concatenate([centers - sizes / 2, centers + sizes / 2], axis=1)
        points = ratios * pairs[:, 2:][:, self._points] - 0.5
        scores = scores[likely]
        kept = distinct(boxes, scores)
        return [Detection(boxes[i], scores[i], points[i]) for i in kept]

    @functools.cached_property
    def _anchors(self):
        """Where in the network's picture each of its outputs looks, (896, 2)."""
        found = []
        for stride, count in self._strides:
            ticks = (np.arange(self._side // stride) + 0.5) * stride
            cells = np.stack(np.meshgrid(ticks, ticks), axis=-1).reshape(-1, 2)
            found.append(np.repeat(cells, count, axis=0))
        return np.concatenate(found)

    def _load(self):
        from keras_lapkl.tflite.runner import load_interpreter

        interpreter = load_interpreter(_WEIGHTS / "blazeface_back.tflite")
        (image,) = interpreter.get_input_details()
        # Where the box is, (896, 16), and how sure it is, (896, 1).
        outputs = sorted(interpreter.get_output_details(), key=lambda each: -each["shape"][-1])

        def run(canvas):
            interpreter.set_tensor(image["index"], canvas[None])
            interpreter.invoke()
            return [interpreter.get_tensor(each["index"])[0] for each in outputs]

        return run


@dataclasses.dataclass(frozen=True)
class MTCNN(_Detector):
    """Faces with five points, by the package mtcnn: the paper's detector.

    Zhang et al.: Joint face detection and alignment using multi-task cascaded convolutional
    networks, 2016. Each process imports TensorFlow and takes about 1 GB, so one is the default.

    Args:
        min_confidence: smallest confidence of a face.
        min_size: smallest longer edge of a face's box, photo pixels, ≥ 20. A face of 40 pixels has
            a five-point square of about 17. Time falls with its square.

    Raises:
        ModuleNotFoundError: mtcnn is not installed.
        ValueError: an argument out of range.

    Example:

    >>> MTCNN(min_size=80)(photo)[0].points.shape
    (5, 2)
    """

    min_confidence: float = 0.95
    min_size: float = 40

    default_workers = 1
    _name = "mtcnn"
    _smallest = 20  # px; its 1.0.0 finds nothing, without an error, if this is larger
    _field = 12  # px; its first network takes no smaller photo

    def __post_init__(self):
        super().__post_init__()
        _ = self._version  # raises if it is not installed

    @property
    def _version(self):  # pyright: ignore[reportIncompatibleVariableOverride]  that of the package
        with extras.needed_by("Finding faces by MTCNN"):
            return importlib.metadata.version("mtcnn")

    def _look(self, photo):
        shrink = self._smallest / self.min_size
        if min(photo.shape[:2]) * shrink < self._field:
            return []
        small, ratios = _resized(photo, shrink)
        with self._networks.borrowed() as network:
            found = network.detect_faces(
                small, fit_to_image=False, box_format="xyxy", output_type="numpy"
            )
        # Columns: photo; box x0, y0, x1, y1; confidence; the five x; the five y.
        boxes = (found[:, 1:5] + 0.5) * np.tile(ratios, 2) - 0.5
        points = (found[:, 6:16].reshape(-1, 2, 5).swapaxes(1, 2) + 0.5) * ratios - 0.5
        return [Detection(*each) for each in zip(boxes, found[:, 5], points, strict=True)]

    def _load(self):
        # One thread: a second one makes it slower, and processes are the way to take more cores.
        os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        with console.held_stderr():
            import mtcnn

            return mtcnn.MTCNN()


@dataclasses.dataclass(frozen=True)
class AutoDetector(_Detector):
    """BlazeFace, and YuNet where there may be small faces: the default.

    BlazeFace is fast, and sees faces that are rotated or hard to see, but the smaller a face is
    below a twelfth of the photo's longer edge, the more often it misses it. So YuNet looks too,
    unless a face fills a third of that edge and none is small. It sees the photo shrunk to 1,280
    pixels at most, and finds faces from 2 % of it on. Of a small face that both find, YuNet's box
    and points are taken. Where neither finds any, BlazeFace looks at its copies of half the size.

    Raises:
        ValueError: an argument out of range.

    Example:

    >>> len(AutoDetector()(photo)), len(BlazeFace()(photo))   # a group of 12
    (12, 3)
    """

    min_confidence: float = 0.6
    min_size: float = 20

    _name = "auto"
    _version = "small below 0.12, large from 0.33, 1280 pixels"
    _small, _large = 0.12, 0.33  # longer edge of a face's box, of the photo's longer edge
    _side = 1280  # pixels

    @property
    def settings(self) -> dict[str, Any]:
        """All that decides what is found, as plain data."""
        return {**self._yunet.settings, **self._blazeface.settings, **super().settings}

    def _look(self, photo):
        found = self._blazeface.find_clear(photo)
        edges = [max(each.box[2:] - each.box[:2]) / max(photo.shape[:2]) for each in found]
        small = [edge < self._small for edge in edges]
        if max(edges, default=0) >= self._large and not any(small):
            return found
        more = self._yunet.find_small(photo, self._side)
        # A large face by BlazeFace, a small one by YuNet, else what there is.
        ranks = [0 if is_small else 2 for is_small in small] + [1] * len(more)
        return _distinct(found + more, ranks) or self._blazeface.find_hidden(photo)

    @functools.cached_property
    def _blazeface(self):
        return BlazeFace(self.min_confidence, self.min_size)

    @functools.cached_property
    def _yunet(self):
        return YuNet(self.min_confidence, max(self.min_size, YuNet._smallest))


def from_name(name: str, **settings: Any) -> AutoDetector | BlazeFace | YuNet | MTCNN:
    """A detector by its name.

    Args:
        name: one of `registries.DETECTORS`.
        settings: of the detector; its own defaults where left out or None.

    Raises:
        ImportError: it is not installed.
        ValueError: there is none of that name, or it is no `registries.MakesDetector`.

    Example:

    >>> from_name("yunet", min_size=100).min_size
    100
    """
    if name not in DETECTORS:
        raise ValueError(
            f"Expected a face detector among {', '.join(DETECTORS)}. Received: {name!r}"
        )
    make = DETECTORS[name]
    try:
        for given in ({}, {"min_confidence": 0.5, "min_size": 20}):
            inspect.signature(make).bind(**given)
    except TypeError as error:
        raise _no_maker(name, error) from error
    found = make(**{k: value for k, value in settings.items() if value is not None})
    for attribute in ("settings", "default_workers"):
        if not hasattr(found, attribute):
            raise _no_maker(name, f"a {type(found).__name__} without `{attribute}`")
    return found


def _no_maker(name, received):
    return ValueError(
        f"Face detector {name!r}: expected a `keras_lapkl.registries.MakesDetector`. Called with "
        "`min_confidence` and `min_size`, or without, it gives a detector with `settings` and "
        f"`default_workers`. Received: {received}"
    )


def _distinct(found, scores):
    """Of the detections whose boxes overlap the one of the highest score."""
    boxes = np.array([each.box for each in found]).reshape(-1, 4)
    return [found[i] for i in distinct(boxes, np.array(scores))]


def _resized(photo, ratio):
    """A photo shrunk (or enlarged) and the exact ratios x, y of the photo to it."""
    if ratio == 1:
        return photo, np.ones(2)
    height, width = photo.shape[:2]
    size = max(1, round(ratio * width)), max(1, round(ratio * height))
    how = cv2.INTER_AREA if ratio < 1 else cv2.INTER_LINEAR
    return cv2.resize(photo, size, interpolation=how), np.array([width, height]) / size
