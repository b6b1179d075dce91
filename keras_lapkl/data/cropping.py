"""The square crop around a face: its square, its affine with the inverse, and its pixels.

A crop box (cx, cy, side) is a square in the photo. Pixel centers are at whole numbers in photo and
crop; the S by S pixels of the crop tile the box if photo pixel x and crop pixel x' go together as

    x' = (x - cx + side/2)·S/side - 1/2

One affine does this for points and pixels alike.
"""

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from keras_lapkl._support.pixels import FARTHEST
from keras_lapkl.schemes import Scheme

# The five points' box from less, for faces that do not show all five: medians over the 7,149 faces
# of AFLW with all 19 points visible, of longer edge by longer edge, and of the centers' offset in y
# by the longer edge. (x: 0.00. On the 68 points of 300-W: 0.50 and -0.07.)
FIVE_BY_FACE_BOX = 0.42
FIVE_BELOW_FACE_BOX = -0.01
FIVE_BY_VISIBLE_BOX = 0.56
FIVE_BELOW_VISIBLE_BOX = -0.08

FIVE_POINTS_CROP_SCALE = 3.0
CROP_SCALES = {"points": 1.5, "box": 1.25, "image": 1.0}
"""Default crop scale of schemes without five points, by what the crop is cut from. Points in the
corners of their box stay in a crop of 1.5 when it is rotated, scaled and shifted as augmentation
does, but for the extremes of all three; a box of the object has air about the points already."""
# How a crop is sampled; the laboratory notes have what other numbers cost.
_MOST_SHRINK = 6  # photo pixels to a crop pixel, above which the photo is reduced first
_MOST_SAMPLES = 3  # along a crop pixel
_MAX_SAMPLED_SIDE = 4096
# Photos of so few pixels are sampled whole. The offset of a part changes OpenCV's rounding by a
# gray level in one pixel of a million; crops of 300-W shall stay the bytes that models are
# trained on.
_SMALL_PHOTO = 512 * 512


def crop_squares(
    landmarks: ArrayLike,
    scheme: Scheme,
    crop_scale: float = 3.0,
    visible: ArrayLike | None = None,
    boxes: ArrayLike | None = None,
) -> NDArray[np.float64]:
    """The square to cut out around each face.

    The box of the scheme's five points is made square about its own center, with side
    `crop_scale` times its longer edge. A face that hides a landmark of the five points gets that
    box from its face box, or without one from the box of its visible landmarks, by AFLW's median
    proportions (`FIVE_BY_FACE_BOX` and so on). Where the scheme has no five points, the box of all
    visible landmarks is taken as it is. A scheme with `crop_from="box"` takes the given boxes
    instead; one with `"image"` takes `picture_squares`, and nothing here.

    Args:
        landmarks: (N, K, 2) photo pixels, NaN where not annotated.
        scheme: `Scheme` of the landmarks.
        crop_scale: side of the crop in longer edges. Of the landmarks of 300-W common, the paper's
            2 cuts off 9.6 %, 3 cuts off 0.04 %.
        visible: (N, K) bool, or None where all are. NaN landmarks are never visible.
        boxes: (N, 4) face boxes (x0, y0, x1, y1), or None. NaN rows are no boxes.

    Returns:
        (N, 3) float64: center x, center y, side.

    Raises:
        ValueError: faces without two distinct visible landmarks and without a box; objects without
            a box, or a scheme for whole pictures.

    Example:

    >>> pair = Scheme("pair", ("a", "b"), flip=(1, 0))
    >>> crop_squares(np.array([[[10.0, 40.0], [30.0, 40.0]]]), pair, crop_scale=2)
    array([[20., 40., 40.]])
    """
    check_crop_scale(crop_scale)
    squares = _squares(landmarks, scheme, visible, boxes)
    bad = np.flatnonzero(~_is_valid(squares))
    if bad.size:
        expected = "at least two distinct visible landmarks, or a face box, for every face"
        if scheme.crop_from == "box":
            expected = "a box x0, y0, x1, y1 with x0 < x1 and y0 < y1 of every object"
        raise ValueError(
            f"Expected {expected}. Received {bad.size} without, at index "
            f"{', '.join(map(str, bad[:5]))}{', …' if bad.size > 5 else ''}"
        )
    return squares * (1, 1, crop_scale)


def can_crop(
    landmarks: ArrayLike,
    scheme: Scheme,
    visible: ArrayLike | None = None,
    boxes: ArrayLike | None = None,
) -> NDArray[np.bool_]:
    """Which of N objects `crop_squares` has a square for: (N,) bool. Arguments as there."""
    return _is_valid(_squares(landmarks, scheme, visible, boxes))


def picture_squares(sizes: ArrayLike) -> NDArray[np.float64]:
    """The squares about whole pictures, as `crop_squares(…, crop_scale=1)` gives them of objects.

    Args:
        sizes: (N, 2) width and height in pixels.

    Returns:
        (N, 3) float64: center x, center y, longer edge.

    Example:

    >>> picture_squares([(640, 480)])
    array([[319.5, 239.5, 640. ]])
    """
    sizes = np.asarray(sizes, np.float64).reshape(-1, 2)
    return np.column_stack([(sizes - 1) / 2, sizes.max(1)])


def default_crop_scale(scheme: Scheme) -> float:
    """The crop scale to train on if none is given: 3 by five points, else of `CROP_SCALES`."""
    if scheme.crop_from == "points" and scheme.five_points:
        return FIVE_POINTS_CROP_SCALE
    return CROP_SCALES[scheme.crop_from]


def default_margin(image_size: int) -> int:
    """Spare pixels on each side of a crop, for augmentation: a fifth of its side.

    Example:

    >>> default_margin(80)
    16
    """
    return image_size // 5


def _squares(landmarks, scheme, visible, boxes):
    """`crop_squares` at crop scale 1, not valid (`_is_valid`) where there is none."""
    if scheme.crop_from == "image":
        raise ValueError(
            f"Scheme {scheme.name!r} takes whole pictures, wherever its landmarks are: "
            "`picture_squares` gives their crops."
        )
    landmarks, boxes = _known(landmarks), None if boxes is None else _known(boxes)
    if scheme.crop_from == "box":
        boxes = np.full((len(landmarks), 4), np.nan) if boxes is None else boxes
        first, last = np.split(boxes, 2, axis=1)
        return np.where((last > first).all(1)[:, None], _square(first, last), np.nan)  # pyright: ignore[reportIndexIssue]  (N,)
    usable = np.isfinite(landmarks).all(-1)
    if visible is not None:
        usable &= visible
    landmarks = np.where(usable[..., None], landmarks, np.nan)  # pyright: ignore[reportIndexIssue]  (N, K)
    squares = seen = _square(*_ranges(landmarks, np.fmin, np.fmax))
    if scheme.five_points:
        # NaN in a landmark is NaN in its point, and so in the box: those faces fall back.
        squares = _square(*_ranges(scheme.anchor_points(landmarks), np.minimum, np.maximum))
        if boxes is not None:
            first, last = np.split(boxes, 2, axis=1)
            face = _within(_square(first, last), FIVE_BY_FACE_BOX, FIVE_BELOW_FACE_BOX)
            squares = _first_valid(squares, face)
        seen = _within(seen, FIVE_BY_VISIBLE_BOX, FIVE_BELOW_VISIBLE_BOX)
        squares = _first_valid(squares, seen)
    return squares


def _known(places):
    """Places in pixels as float64, NaN where they are not finite or too far to be meant."""
    places = np.asarray(places, np.float64)
    return np.where(np.abs(places) <= FARTHEST, places, np.nan)


def covers_picture(squares: ArrayLike, width: int, height: int) -> NDArray[np.bool_]:
    """Which squares have a pixel of their picture, and so can be cut out.

    Args:
        squares: (N, 3) center x, center y and side, as `crop_squares` gives them; or (N, 4) with
            the angle.
        width, height: of the picture, pixels.

    Returns:
        (N,) bool; False also for squares without extent or not finite.
    """
    squares = np.asarray(squares, np.float64)
    half = squares[:, 2:3] / 2
    if squares.shape[1] == 4:  # rotated it reaches further
        half = half * (np.abs(np.cos(squares[:, 3:])) + np.abs(np.sin(squares[:, 3:])))
    first, last = squares[:, :2] - half, squares[:, :2] + half
    inside = (last > -0.5) & (first < np.array([width, height]) - 0.5)
    return _is_valid(squares) & inside.all(1)


def check_squares(squares: ArrayLike, width: int, height: int) -> None:
    """ValueError unless `covers_picture` is true of all squares; arguments as there."""
    bad = np.asarray(squares, np.float64)[~covers_picture(squares, width, height)]
    if len(bad):
        x, y, side = bad[0, :3]
        raise ValueError(
            f"Expected a square about a part of the picture, which has {width}x{height} pixels. "
            f"Received: center ({x:.6g}, {y:.6g}), side {side:.6g}"
        )


def check_crop_scale(crop_scale: float) -> None:
    if not crop_scale > 0 or not math.isfinite(crop_scale):
        raise ValueError(f"`crop_scale` must be a positive number. Received: {crop_scale}")


def _ranges(points, low, high):
    """First and last corner (N, 2) of the box of points (N, P, 2), by two NumPy ufuncs."""
    return low.reduce(points, axis=1), high.reduce(points, axis=1)


def _square(first, last):
    """(cx, cy, longer edge) of boxes with these corners, (N, 3)."""
    return np.column_stack([(first + last) / 2, (last - first).max(-1)])


def _within(squares, ratio, below):
    """Squares `ratio` as large, with the center moved down by `below` of the old side."""
    x, y, side = squares.T
    return np.column_stack([x, y + below * side, ratio * side])


def _is_valid(squares):
    return (np.abs(squares) <= FARTHEST).all(-1) & (squares[:, 2] > 0)  # nor NaN


def _first_valid(squares, fallback):
    return np.where(_is_valid(squares)[:, None], squares, fallback)


def crop_transform(box: ArrayLike, image_size: int = 80, margin: int = 0) -> NDArray[np.float64]:
    """The affine from photo pixels to pixels of the crop of a box.

    Args:
        box: (…, 3) center x, center y, side, as `crop_squares` gives them; or (…, 4) with the
            angle by which the crop is rotated, radians from the x axis to the y axis.
        image_size: S, pixels along a side of the box.
        margin: m further pixels on each side, in the same resolution; adds m to x' and y'.

    Returns:
        (…, 2, 3) float64.

    Example:

    >>> crop_transform((20, 40, 40), image_size=80)
    array([[  2. ,   0. ,  -0.5],
           [  0. ,   2. , -40.5]])
    """
    box = np.asarray(box, np.float64)
    x, y, side = np.moveaxis(box[..., :3], -1, 0)
    scale = image_size / side
    transform = np.zeros((*scale.shape, 2, 3))
    transform[..., 0, 0] = transform[..., 1, 1] = scale
    transform[..., 0, 2] = (side / 2 - x) * scale - 0.5 + margin
    transform[..., 1, 2] = (side / 2 - y) * scale - 0.5 + margin
    if box.shape[-1] == 4:
        back, center = _rotation(-box[..., 3]), box[..., :2, None]
        transform[..., 2:] += transform[..., :2] @ (center - back @ center)
        transform[..., :2] = transform[..., :2] @ back
    return transform


def rotated_square(points: ArrayLike) -> NDArray[np.float64]:
    """The square about the five points of a face, rotated as the face is.

    Eyes and mouth give the angle together, so that it is right in profile views as well:

        v = (eye₂ − eye₁) + R(−90°)(mouth − eyes)        angle = atan2(v_y, v_x)

    Args:
        points: (5, 2) both eye centers, nose tip, both mouth corners; picture-left first in an
            upright face.

    Returns:
        (4,) float64: center x, center y, longer edge of the points' box in the rotated picture, and
        angle in radians from the x axis to the y axis.

    Example:

    >>> rotated_square([[5, 0], [5, 4], [3, 2], [1, 0], [1, 4]])  # a quarter to the right
    array([3.        , 2.        , 4.        , 1.57079633])
    """
    points = np.asarray(points, np.float64)
    eyes, (x, y) = points[1] - points[0], points[3:].mean(0) - points[:2].mean(0)
    angle = np.arctan2(eyes[1] - x, eyes[0] + y)
    rotation = _rotation(angle)
    # Points as rows: their product with R(a) turns them by -a.
    square = _square(*_ranges((points @ rotation)[None], np.minimum, np.maximum))[0]
    return np.array([*(rotation @ square[:2]), square[2], angle])


def face_square(landmarks: NDArray[Any], scheme: Scheme) -> NDArray[np.float64]:
    """`rotated_square` of a face's landmarks; of other schemes `crop_squares`, unrotated.

    Args:
        landmarks: (K, 2) photo pixels.
        scheme: `Scheme` of the landmarks.

    Returns:
        (4,) float64: center x, center y, side at crop scale 1, angle in radians.

    Raises:
        ValueError: all landmarks in one point, or not finite.
    """
    if is_face(scheme):
        found = rotated_square(scheme.anchor_points(landmarks))
        if _is_valid(found[None, :3])[0]:
            return found
    return np.append(crop_squares(np.asarray(landmarks)[None], scheme, crop_scale=1)[0], 0.0)


def is_face(scheme: Scheme) -> bool:
    """Whether crops are cut by a face's five points, which say what is up."""
    return (
        scheme.crop_from == "points"
        and scheme.eye_corners is not None
        and len(scheme.five_points) == 5
    )


def _rotation(angle):
    """(…, 2, 2) matrices that turn columns from the x axis to the y axis."""
    cos, sin = np.cos(angle), np.sin(angle)
    return np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], -2)


def invert_transform(transform: ArrayLike) -> NDArray[np.float64]:
    """The affine that undoes another, (…, 2, 3)."""
    transform = np.asarray(transform, np.float64)
    linear = np.linalg.inv(transform[..., :2])
    return np.concatenate([linear, -linear @ transform[..., 2:]], axis=-1)  # pyright: ignore[reportReturnType]


def apply_transform(transform: ArrayLike, points: ArrayLike) -> NDArray[np.float64]:
    """Points (…, K, 2) under affines (…, 2, 3); float64.

    Example:

    >>> apply_transform([[2, 0, -0.5], [0, 2, -40.5]], [[20.0, 40.0]])
    array([[39.5, 39.5]])
    """
    transform = np.asarray(transform, np.float64)
    linear = np.asarray(points, np.float64) @ np.swapaxes(transform[..., :2], -1, -2)
    return linear + transform[..., None, :, 2]


def warp_crop(
    image: NDArray[np.uint8], transform: NDArray[Any], size: int, despeckle: bool = False
) -> NDArray[np.uint8]:
    """The size by size picture that an affine makes of a photo, antialiased where it shrinks.

    The mean over each crop pixel's square of bilinear samples: one or more for each photo pixel,
    but at most 3 by 3. Where a crop pixel is more than 6 photo pixels wide, the samples are taken
    from a copy of the photo reduced by a power of two. Outside the photo its border pixels are
    repeated. The preprocessing contract has the rule step by step.

    Args:
        image: (H, W, 3) uint8.
        transform: (2, 3) affine from photo to crop pixels.
        size: side of the crop, margin included.
        despeckle: whether to take the median of each 3 by 3 pixels of the photo, or of its reduced
            copy, first.

    Returns:
        (size, size, 3) uint8.
    """
    transform = np.asarray(transform, np.float64)
    # Rounded, so that a ratio of whole numbers is not beyond a step by its last bit.
    shrink = round(1 / math.sqrt(abs(np.linalg.det(transform[:, :2]))), 9)
    factor = _reduction(shrink, image)
    part, first = _reduced_part(image, transform, size, factor, despeckle)
    # From pixels of the part, whose centers are at factor·(first + x) + (factor - 1)/2.
    linear = transform[:, :2]
    shift = linear @ (factor * first + (factor - 1) / 2) + transform[:, 2]
    transform = np.column_stack([factor * linear, shift])
    samples = max(1, min(math.ceil(shrink / factor), _MOST_SAMPLES, _MAX_SAMPLED_SIDE // size))
    # A crop pixel becomes samples by samples finer ones that tile it.
    finer = samples * transform + [[0, 0, (samples - 1) / 2]]
    # OpenCV gets the same bytes of four channels in half the time of three.
    crop = cv2.warpAffine(
        cv2.cvtColor(part, cv2.COLOR_RGB2RGBA),
        finer,
        (samples * size, samples * size),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return cv2.cvtColor(_block_means(crop, samples, size), cv2.COLOR_RGBA2RGB)  # pyright: ignore[reportReturnType]  OpenCV does not tell its types


def _block_means(picture, samples, size):
    """The size by size means of samples by samples pixels each."""
    if samples == 1:
        return picture
    if samples == 3:  # the same bytes as by INTER_AREA, of which OpenCV is fast for 2 only
        picture = cv2.blur(picture, (3, 3), anchor=(0, 0))
        return cv2.resize(picture, (size, size), interpolation=cv2.INTER_NEAREST)
    return cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA)


def _reduction(shrink, image):
    """The power of two by which a photo is reduced before it is sampled."""
    factor = 1
    while shrink > _MOST_SHRINK * factor and 2 * factor <= min(image.shape[:2]):
        factor *= 2
    return factor


def _reduced_part(image, transform, size, factor, despeckle):
    """What a crop needs of a photo that is reduced, and its first pixel (x, y) there.

    The pixels of the reduced photo are means of factor by factor pixels from the photo's first on,
    so that they do not depend on the crop. The photo is filled up by its border's pixels.
    """
    height, width = image.shape[:2]
    if factor == 1 and not despeckle and height * width <= _SMALL_PHOTO:
        return image, np.zeros(2)
    corners = np.array([[-0.5, -0.5], [size - 0.5, -0.5], [-0.5, size - 0.5], [size - 0.5] * 2])
    corners = apply_transform(invert_transform(transform), corners) / factor
    count = -(-np.array([width, height]) // factor)
    first = np.clip(np.floor(corners.min(0)) - 1, 0, count - 1).astype(int)
    end = np.clip(np.floor(corners.max(0)) + 3, first + 1, count).astype(int)
    (left, top), (right, bottom) = factor * first, factor * end
    part = image[top:bottom, left:right]
    below, beside = max(bottom - height, 0), max(right - width, 0)
    if below or beside:
        part = cv2.copyMakeBorder(part, 0, below, 0, beside, cv2.BORDER_REPLICATE)
    repeatedly = factor > 2
    while factor > 1:  # by OpenCV only halving is about as fast as reading
        half, factor = (part.shape[1] // 2, part.shape[0] // 2), factor // 2
        part = cv2.resize(part, half, interpolation=cv2.INTER_AREA)
        # It rounds halves up, and so brightens. The last time it is done on the negative.
        if repeatedly and factor <= 2:
            part = cv2.bitwise_not(part, part)
    return (cv2.medianBlur(part, 3) if despeckle else part), first
