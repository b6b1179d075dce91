"""What a face detector finds, and the squares of the first crops."""

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from keras_lapkl._support.pixels import FARTHEST
from keras_lapkl.data.cropping import FIVE_BELOW_FACE_BOX, FIVE_BY_FACE_BOX, is_face, rotated_square
from keras_lapkl.schemes import Scheme

OVERLAP = 0.3
"""Intersection over union from which two boxes are one face."""
LARGEST_FRACTION = 1.5
"""A box in fractions may reach beyond the picture; in pixels one so small has nothing to see."""


@dataclasses.dataclass(frozen=True, eq=False)
class Detection:
    """One face found, in pixels of the photo: x first, pixel centers at whole numbers from 0.

    Args:
        box: (4,) x0, y0, x1, y1.
        score: the detector's confidence in [0, 1], or None.
        points: (5, 2) eye centers, tip of the nose, corners of the mouth, picture-left first in an
            upright face; None if the detector does not know them.
        angle: by which the face is rotated where no points say so, radians from the x axis to the y
            axis.

    Raises:
        ValueError: a box without x0 < x1 and y0 < y1, another shape, or numbers that are not
            finite, or pixels further than 1e6.

    Example:

    >>> Detection((10, 20, 50, 60)).box
    array([10., 20., 50., 60.])
    """

    box: NDArray[np.float64]
    score: float | None = None
    points: NDArray[np.float64] | None = None
    angle: float = 0.0

    if TYPE_CHECKING:  # what it takes is wider than what it keeps

        def __init__(
            self,
            box: ArrayLike,
            score: float | None = None,
            points: ArrayLike | None = None,
            angle: float = 0.0,
        ) -> None: ...

    def __post_init__(self):
        box = np.array(self.box, np.float64)  # a copy: who gave it may go on writing there
        if box.shape != (4,) or not are_boxes(box[None]):
            raise ValueError(
                "Expected a box x0, y0, x1, y1 with x0 < x1 and y0 < y1. Received: "
                f"{np.array2string(box, separator=', ')}"
            )
        object.__setattr__(self, "box", box)
        if self.score is not None:
            object.__setattr__(self, "score", float(self.score))
            if not math.isfinite(self.score):
                raise ValueError(f"Expected a finite score, or None. Received: {self.score}")
        if self.points is not None:
            points = np.array(self.points, np.float64)
            if points.shape != (5, 2) or not (np.abs(points) <= FARTHEST).all():
                raise ValueError(
                    "Expected five points (5, 2), or None. Received: "
                    f"{np.array2string(points, separator=', ')}"
                )
            object.__setattr__(self, "points", points)


class FaceDetector(Protocol):
    """Finds the faces of a photo: any callable, such as those of `keras_lapkl.detectors`.

    Example:

    >>> def whole(photo):                            # one face fills the photo
    ...     return [Detection((0, 0, photo.shape[1] - 1, photo.shape[0] - 1))]
    >>> LandmarkDetector(localizer, whole)(photo)[0].box
    array([ 0.,  0., 79., 79.])
    """

    def __call__(self, photo: NDArray[np.uint8], /) -> Sequence[Detection]:
        """The faces in a photo (H, W, 3) uint8 RGB."""
        ...


def squares(
    detections: Sequence[Detection], scheme: Scheme, detector: FaceDetector | None = None
) -> NDArray[np.float64]:
    """Where the first crop of each face goes.

    The square about the five points where they are known, otherwise about the part of the box where
    this detector's faces have theirs; of a detector that does not say, where AFLW's face boxes do.
    Of a scheme without five points the square about the box.

    Args:
        detections: n `Detection`.
        scheme: `Scheme` of the landmarks that are to be found.
        detector: what found them, for its `five_by_box` and `five_below_box`: longer edge of the
            five points' box, and how far its center lies below that of the face box, both in longer
            edges of the face box.

    Returns:
        (n, 3) float64: center x, center y and side, as `LandmarkDetector.localize` takes them.

    Example:

    >>> squares([Detection((0, 0, 100, 80))], IBUG68)
    array([[50., 39., 42.]])
    """
    by_box = getattr(detector, "five_by_box", FIVE_BY_FACE_BOX)
    below = getattr(detector, "five_below_box", FIVE_BELOW_FACE_BOX)
    found = np.empty((len(detections), 3))
    for i, each in enumerate(detections):
        if scheme.five_points and each.points is not None and np.ptp(each.points, axis=0).any():
            found[i] = square((*each.points.min(0), *each.points.max(0)))
        else:
            found[i] = square(each.box)
            if scheme.five_points:
                found[i] = (found[i] + (0, below * found[i, 2], 0)) * (1, 1, by_box)
    return found


def rotated_squares(
    detections: Sequence[Detection], scheme: Scheme, detector: FaceDetector | None = None
) -> NDArray[np.float64]:
    """As `squares`, but rotated as the faces are, where their five points say so.

    Args:
        detections, scheme, detector: as in `squares`.

    Returns:
        (n, 4) float64: center x, center y, side and angle, as `LandmarkDetector.localize` takes
        them; radians from the x axis to the y axis, 0 where it is not known.
    """
    found = np.zeros((len(detections), 4))
    found[:, :3] = squares(detections, scheme, detector)
    for i, each in enumerate(detections):
        if not is_face(scheme):
            continue
        if each.points is not None and np.ptp(each.points, axis=0).any():
            found[i] = rotated_square(each.points)
        elif each.angle:
            # What lies below the box's middle in an upright face lies elsewhere in this one.
            middle = square(each.box)[:2]
            x, y = found[i, :2] - middle
            cos, sin = math.cos(each.angle), math.sin(each.angle)
            found[i, :2] = middle + (cos * x - sin * y, sin * x + cos * y)
            found[i, 3] = each.angle
    return found


def turned_back(detection: Detection, quarters: int, width: int, height: int) -> Detection:
    """A detection in a copy of a photo that was turned, in the photo.

    Args:
        detection: in the copy, `np.rot90(photo, quarters)`.
        quarters: 0 to 3 quarter turns to the left.
        width, height: of the photo, pixels.

    Example:

    >>> turned_back(Detection((0, 0, 10, 20)), 1, width=100, height=50).box
    array([79.,  0., 99., 10.])
    """

    def back(points):
        x, y = np.reshape(points, (-1, 2)).T
        turned = {0: (x, y), 1: (width - 1 - y, x), 3: (y, height - 1 - x)}
        return np.column_stack(turned.get(quarters, (width - 1 - x, height - 1 - y)))

    corners = back(detection.box)
    return dataclasses.replace(
        detection,
        box=np.concatenate([corners.min(0), corners.max(0)]),
        points=None if detection.points is None else back(detection.points),
        angle=detection.angle + quarters * math.pi / 2,
    )


def distinct(
    boxes: NDArray[Any], scores: NDArray[Any], of_smaller: bool = False
) -> NDArray[np.int64]:
    """Which boxes overlap with no surer one, by more than 0.3 of their union.

    Args:
        boxes: (n, 4) x0, y0, x1, y1. What is no box is left out.
        scores: (n,), the surest highest.
        of_smaller: whether a box also overlaps if more than half of the smaller one lies in the
            other, and its side is more than half of that one's.

    Returns:
        (m,) indices, the surest first.

    Example:

    >>> distinct(np.array([[0, 0, 10, 10], [1, 0, 11, 10], [50, 0, 60, 10]]), np.array([1, 2, 0]))
    array([1, 2])
    """
    sizes = boxes[:, 2:] - boxes[:, :2]
    kept = []
    for i in np.argsort(-scores, kind="stable"):
        if not are_boxes(boxes[i : i + 1]):
            continue
        first = np.maximum(boxes[kept, :2], boxes[i, :2])
        last = np.minimum(boxes[kept, 2:], boxes[i, 2:])
        common = np.maximum(last - first, 0).prod(1)
        areas = sizes[kept].prod(1), sizes[i].prod()
        overlaps = common > OVERLAP * (sum(areas) - common)
        if of_smaller:
            smaller, larger = np.minimum(*areas), np.maximum(*areas)
            overlaps |= (common > smaller / 2) & (smaller > larger / 4)
        if not overlaps.any():
            kept.append(i)
    return np.array(kept, np.int64)


def are_same(square: NDArray[Any], other: NDArray[Any], reach: float = 0.5) -> bool:
    """Whether squares by the five points of faces are of one face.

    They are if their centers are within half of the larger one's side.

    Args:
        square, other: (3,) or (4,), as `square` gives them.
        reach: how near the centers must be, in sides of the larger one.

    Example:

    >>> are_same(np.array([50, 40, 100]), np.array([90, 40, 30]))
    True
    """
    return bool(np.abs(square[:2] - other[:2]).max() <= reach * max(square[2], other[2]))


def square(box: ArrayLike) -> NDArray[np.float64]:
    """Center x, center y and longer edge of a box (4,), as (3,) float64.

    Example:

    >>> square((0, 0, 100, 80))
    array([ 50.,  40., 100.])
    """
    x0, y0, x1, y1 = np.asarray(box, np.float64)
    return np.array([(x0 + x1) / 2, (y0 + y1) / 2, max(x1 - x0, y1 - y0)])


def as_photo(photo: ArrayLike) -> NDArray[np.uint8]:
    """A photo as an array; ValueError unless it is (H, W, 3) uint8.

    Args:
        photo: (H, W, 3) uint8 RGB; a picture of Pillow is one if its mode is RGB.

    Raises:
        ValueError: another shape or type, or another mode, as HSV, whose array looks the same.
    """
    # Of arrays, those that are mapped from a file have a `mode` too.
    mode = "RGB" if isinstance(photo, np.ndarray) else getattr(photo, "mode", "RGB")
    if mode != "RGB":
        raise ValueError(
            f"Expected a photo in RGB. Received: a picture of mode {mode}. Call its convert('RGB')."
        )
    photo = np.asarray(photo)
    if photo.ndim != 3 or photo.shape[2] != 3 or photo.dtype != np.uint8 or not photo.size:
        raise ValueError(
            "Expected a photo (H, W, 3) of uint8 in RGB order. Received: "
            f"{photo.shape} {photo.dtype}"
        )
    return photo


def as_boxes(boxes: ArrayLike) -> NDArray[np.float64]:
    """Boxes as (n, 4) float64; ValueError unless each has x0 < x1 and y0 < y1.

    Args:
        boxes: (n, 4), or (4,) of one: x0, y0, x1, y1 in pixels.

    Raises:
        ValueError: another shape, an empty box, or numbers that are not finite, or pixels further
            than 1e6.

    Example:

    >>> as_boxes((10, 20, 50, 60))
    array([[10., 20., 50., 60.]])
    """
    boxes = np.asarray(boxes, np.float64)
    boxes = boxes.reshape(-1, 4) if boxes.size == 0 or boxes.shape == (4,) else boxes
    if boxes.ndim != 2 or boxes.shape[1] != 4 or not are_boxes(boxes):
        raise ValueError(
            "Expected boxes (n, 4) of x0, y0, x1, y1 in pixels, with x0 < x1 and y0 < y1. "
            f"Received: {boxes.tolist()}"
        )
    return boxes


def are_boxes(boxes: NDArray[Any]) -> bool:
    """Whether all of (n, 4) are boxes x0, y0, x1, y1 as a picture may have them."""
    return bool((np.abs(boxes) <= FARTHEST).all() and (boxes[:, :2] < boxes[:, 2:]).all())


def left_to_right(box: NDArray[Any]) -> tuple[float, ...]:
    """What to sort boxes (4,) by: their centers from left to right, then all else."""
    return (*(box[:2] + box[2:]), *box)


def beside(boxes: NDArray[Any], photo: NDArray[Any]) -> NDArray[np.bool_]:
    """Which boxes (n, 4) have no pixel of a photo (H, W, 3): (n,) bool."""
    last = np.array(photo.shape[1::-1]) - 0.5
    return np.any(boxes[:, 2:] <= -0.5, 1) | np.any(boxes[:, :2] >= last, 1)


def check_beside(detections: Sequence[Detection], photo: NDArray[Any]) -> None:
    """ValueError if the box of a face has no pixel of the photo, or is in fractions of it."""
    boxes = np.array([each.box for each in detections]).reshape(-1, 4)
    if (small := (np.abs(boxes) <= LARGEST_FRACTION).all(1)).any():
        raise ValueError(
            f"Expected boxes in pixels. Received: {boxes[small][0].tolist()}, like fractions of "
            f"the picture. Multiply them by its width and height, {photo.shape[1]}x"
            f"{photo.shape[0]}."
        )
    if (out := beside(boxes, photo)).any():
        raise ValueError(
            f"Expected boxes about a part of the photo, which has {photo.shape[1]}x"
            f"{photo.shape[0]} pixels. Received: {boxes[out][0].tolist()}"
        )
