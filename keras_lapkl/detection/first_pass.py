"""Three ways to locate the five points of a face in a photo without labels.

Each way is a callable from a photo (H, W, 3) uint8 RGB to squares (n, 3) float64: center x, center
y and longer edge of the box of the five points, in photo pixels, as `crop_squares(…, crop_scale=1)`
gives them from labels; or (n, 4) with the angle by which the crop is to be rotated. It can be
pickled. `settings`, plain data, says all that decides what it
gives, `str` the same for people, and `default_workers` how many processes to run it in, None for
one on each core.
"""

import contextlib
import dataclasses
import functools
import hashlib
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_lapkl import confidence, pretrained
from keras_lapkl.data.cropping import (
    apply_transform,
    crop_squares,
    crop_transform,
    invert_transform,
    is_face,
    warp_crop,
)
from keras_lapkl.data.images import ImageError
from keras_lapkl.detection import detections, detectors, looks
from keras_lapkl.schemes import IBUG68

_FIRST_LOOKS = (1, 0.7, 0.5)  # parts of the photo's longer edge
_SURE = 0.85
"""Share of `Calibration.lost` up to which a face is taken. More than in `looks`, where what is
above is only looked at again: here it is left out."""


class FaceError(ImageError):
    """A photo in which no face was found, or none surely enough."""


@dataclasses.dataclass(frozen=True)
class ByBox:
    """One face a photo, its five points in the same place of each: for aligned sets.

    Args:
        box: (x0, y0, x1, y1) of the five points' box, in fractions of the photo's width and
            height.

    Raises:
        ValueError: a box without width or height, or outside the photo.

    Example:

    >>> ByBox((0.25, 0.25, 0.75, 0.75))(np.zeros((80, 80, 3), np.uint8))
    array([[39.5, 39.5, 40. ]])
    """

    box: tuple[float, float, float, float]
    default_workers = None

    def __post_init__(self):
        _check_box(self.box)

    def __call__(self, photo: NDArray[np.uint8]) -> NDArray[np.float64]:
        return _box_square(self.box, photo)[None]

    @property
    def settings(self) -> dict[str, Any]:
        """All that decides what it gives, as plain data."""
        return {"by": "box", "box": [float(edge) for edge in self.box]}

    def __str__(self):
        return f"by the box {_joined(self.box)} of each photo"


@dataclasses.dataclass(frozen=True)
class ByModel:
    """One face a photo, its five points by a first-pass model.

    The model runs on a first crop, then on the crop by the landmarks that it found, and so on
    until the square stays where it is. If that does not come about, or if the model is unsure in
    the end, a photo of a face is looked at again at rotations of 45, 90, … degrees, from which the
    surest goes on, and is refused if that is no better. That is no detector: the face should fill a
    good part of the photo.

    Args:
        model: a shipped model's name, or a .tflite file of `keras_lapkl.tflite.convert` that knows
            its crop rule.
        box: where to look first, as `ByBox`'s. None to look at the whole photo and at two smaller
            squares in its middle, and to go on from where the model is surest.
        max_scale: largest mean scale of the landmarks that counts as sure, pixels of the model's
            crop.
        settled: largest move of the square, and change of its size, that counts as none, in sides.
        passes: how often the model may run, the first runs counted as one.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a localizer, does not know its crop rule, or an argument is out of
            range.

    Example:

    >>> ByModel("fpn-eighth-300w.tflite")(photo).shape
    (1, 3)
    """

    model: Path | str
    box: tuple[float, float, float, float] | None = None
    max_scale: float = 1.6
    settled: float = 0.05
    passes: int = 8
    default_workers = None

    def __post_init__(self):
        if self.box is not None:
            _check_box(self.box)
        for name in ("max_scale", "settled", "passes"):
            if not getattr(self, name) > 0:
                raise ValueError(f"`{name}` must be > 0. Received: {getattr(self, name)}")
        localizer = self._localizer
        if localizer.crop_scale is None or localizer.scheme is None:
            raise ValueError(
                f"{self.model} does not say which crop it is right on, or which landmarks it "
                "gives. Set `crop_scale` and `scheme` of the Keras model, and convert it again."
            )
        if localizer.scheme.crop_from != "points":
            raise ValueError(
                f"{self.model} is right on crops from the {localizer.scheme.crop_from}, which its "
                "landmarks do not tell. Expected a model that is cropped by its points."
            )

    def __call__(self, photo: NDArray[np.uint8]) -> NDArray[np.float64]:
        firsts = self._first_squares(photo)
        try:
            return self._settle(photo, firsts)[None, :3]
        except FaceError as error:
            if not is_face(self._localizer.scheme):  # pyright: ignore[reportArgumentType]
                raise
            turns = [(0, 0, 1, angle) for angle in looks.ANGLES]
            rotated = [looks.squares_around(each, turns) for each in firsts]
            with contextlib.suppress(FaceError):
                return self._settle(photo, np.concatenate(rotated))[None]
            raise error

    def _settle(self, photo, firsts):
        """The square (4,) to which the surest of the first ones leads.

        Raises:
            FaceError: to none, or not to a sure one.
        """
        looks_at = [self._look(photo, square) for square in firsts]
        scale, sure, move, square = min(looks_at, key=lambda look: look[0])
        for _ in range(self.passes - 1):
            if move <= self.settled or move == math.inf:
                break
            scale, sure, move, square = self._look(photo, square)
        if move == math.inf:
            raise FaceError("no face found: all landmarks in one point, or not finite")
        if move > self.settled:
            raise FaceError(f"no face found: the square still moves by {move:.2f} of its side")
        if not scale <= self.max_scale:
            raise FaceError(
                f"no sure face found: mean scale {scale:.2f} px, at most {self.max_scale:g} wanted"
            )
        if not sure:
            raise FaceError("no sure face found: by its scales the model is lost, or nearly")
        return square

    def _look(self, photo, square):
        """Mean scale, whether the model is sure, how far the square moved, and where to."""
        localizer = self._localizer
        transform = crop_transform(square * (1, 1, localizer.crop_scale, 1), localizer.image_size)
        landmarks, scale = localizer(warp_crop(photo, transform, localizer.image_size))
        # In the square's own axes, for the rule of the labels knows no rotation.
        upright = crop_transform(
            (*square[:3] * (1, 1, localizer.crop_scale), 0), localizer.image_size
        )
        points = apply_transform(invert_transform(upright), landmarks)
        try:
            found = crop_squares(points[None], localizer.scheme, crop_scale=1)[0]  # pyright: ignore[reportArgumentType]
        except ValueError:  # all landmarks in one point, or not finite
            return math.inf, False, math.inf, square
        move = distance(square, found)
        (found,) = looks.squares_around(
            square, [(*(found[:2] - square[:2]) / square[2], found[2] / square[2], 0.0)]
        )
        return float(np.mean(scale)), self._is_sure(landmarks, scale), move, found

    def _is_sure(self, landmarks, scale):
        """Whether the model is far from lost; also where its calibration does not tell."""
        calibration = self._localizer.calibration
        if calibration is None or calibration.lost is None:
            return True
        relative = confidence.relative_error(landmarks, calibration.error(scale))
        return bool(relative <= _SURE * calibration.lost)

    def _first_squares(self, photo):
        if self.box is not None:
            return [np.append(_box_square(self.box, photo), 0.0)]
        height, width = photo.shape[:2]
        side = max(height, width) / self._localizer.crop_scale
        middle = (width - 1) / 2, (height - 1) / 2
        return [np.array([*middle, part * side, 0.0]) for part in _FIRST_LOOKS]

    @functools.cached_property
    def _localizer(self):
        from keras_lapkl.tflite.runner import TFLiteLocalizer

        return TFLiteLocalizer(self._path)

    @property
    def _path(self):
        return pretrained.resolve(self.model, (".tflite",))

    def __reduce__(self):
        # An interpreter can't be pickled; the copy opens its own.
        others = dataclasses.fields(self)[1:]
        # The process may run in another folder, or on a machine with its packages elsewhere.
        model = self.model if self.model in pretrained.NAMES else self._path.absolute()
        values = (model, *(getattr(self, field.name) for field in others))
        return _same_model, (values, self.settings)

    @property
    def settings(self) -> dict[str, Any]:
        """All that decides what it gives, as plain data."""
        return {
            "by": "model",
            "model_sha256": hashlib.sha256(self._path.read_bytes()).hexdigest(),
            "box": None if self.box is None else [float(edge) for edge in self.box],
            "max_scale": float(self.max_scale),
            "settled": float(self.settled),
            "passes": self.passes,
            "angles": len(looks.ANGLES) + 1,
        }

    def __str__(self):
        return f"by the model {self._path.name} where its mean scale is ≤ {self.max_scale:g}"


@dataclasses.dataclass(frozen=True)
class ByDetector:
    """All faces of a photo that are large and sure enough, by a face detector, left to right.

    Args:
        min_confidence: smallest confidence of a face; None for the detector's own default.
        min_size: smallest longer edge of a face's box, photo pixels.
        detector: its name, of `keras_lapkl.registries.DETECTORS`.

    Raises:
        ImportError: it is not installed.
        ValueError: there is none of that name, or an argument is out of range.

    Example:

    >>> ByDetector(min_size=100)(photo).shape      # two faces
    (2, 3)
    """

    min_confidence: float | None = None
    min_size: float = 40
    detector: str = "auto"

    def __post_init__(self):
        _ = self._detector  # raises what there is to raise

    def __call__(self, photo: NDArray[np.uint8]) -> NDArray[np.float64]:
        found = self._detector(photo)
        boxes, scores = (np.array([getattr(e, n) for e in found]) for n in ("box", "score"))
        # A detector may find half of a face as well. A much smaller one may be a child's.
        kept = detections.distinct(boxes.reshape(-1, 4), scores, of_smaller=True)
        squares = detections.squares([found[i] for i in kept], IBUG68, self._detector)
        return squares[np.lexsort(squares.T[::-1])]

    @functools.cached_property
    def _detector(self):
        return detectors.from_name(
            self.detector, min_confidence=self.min_confidence, min_size=self.min_size
        )

    @property
    def default_workers(self) -> int | None:
        """How many processes to run it in; None for one on each core."""
        return self._detector.default_workers

    @property
    def settings(self) -> dict[str, Any]:
        """All that decides what it gives, as plain data."""
        return {"by": "detector", **self._detector.settings}

    def __str__(self):
        return f"by {self._detector}"


def _same_model(values, settings):
    """A copy of `ByModel` in another process: on another machine a path may be another file's."""
    copy = ByModel(*values)
    if copy.settings != settings:
        raise ValueError(
            f"{copy.model} is not the file of this name on the machine that sent it: give all "
            "machines the same one."
        )
    return copy


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
    # The photo's left edge is at -0.5: pixel centers are at whole numbers.
    return np.array([(x0 + x1 - 1) / 2, (y0 + y1 - 1) / 2, max(x1 - x0, y1 - y0)])


def distance(square: NDArray[Any], other: NDArray[Any]) -> float:
    """How far two squares are apart: in sides, or as the logarithm of their ratio."""
    move = np.abs(other[:2] - square[:2]).max() / square[2]
    return float(max(move, abs(math.log(other[2] / square[2]))))
