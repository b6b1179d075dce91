"""A picture of some labeled objects, to see whether points and names are where they should be."""

import math
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from keras_lapkl._support.files import replacing
from keras_lapkl.data.images import read_image
from keras_lapkl.data.labels.found import HIDDEN

_CELL, _COLUMNS, _MARGIN, _GAP = 420, 5, 0.35, 8
_FEW = 24
"""Points up to which names are legible; of more, every fifth has its number."""

_WHITE, _BLACK = (255, 255, 255), (0, 0, 0)
_SUBPIXEL = 4


def write(
    path: Path,
    photos: Sequence[Path],
    landmarks: NDArray[np.float64],
    visibility: NDArray[np.int64],
    boxes: NDArray[np.float64],
    names: Sequence[str],
) -> None:
    """Writes a JPEG with a cell an object: its part of the picture, points and box.

    Points have a color each, the same in all cells; hidden ones are rings.

    Args:
        path: of the JPEG.
        photos: N picture files.
        landmarks: (N, K, 2) in pixels.
        visibility: (N, K), 0 not labeled, 1 hidden, 2 seen.
        boxes: (N, 4), NaN where there is none.
        names: K names.
    """
    cells = [
        _cell(read_image(photo), points, seen, box, names)
        for photo, points, seen, box in zip(photos, landmarks, visibility, boxes, strict=True)
    ]
    columns = min(_COLUMNS, len(cells))
    rows = math.ceil(len(cells) / columns)
    side = _CELL + _GAP
    sheet = np.full((rows * side - _GAP, columns * side - _GAP, 3), 255, np.uint8)
    for i, cell in enumerate(cells):
        y, x = i // columns * side, i % columns * side
        sheet[y : y + _CELL, x : x + _CELL] = cell
    with replacing(path) as temporary:
        if not cv2.imwrite(str(temporary), sheet[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92]):
            raise OSError(f"{path} could not be written")


def _cell(photo, points, visibility, box, names):
    """The square about an object, scaled to a cell, drawn into."""
    known = visibility > 0
    ends = np.concatenate([points[known], box.reshape(2, 2)[np.isfinite(box).reshape(2, 2).all(1)]])
    low, high = ends.min(0), ends.max(0)
    extent = np.array(photo.shape[1::-1], np.float64)
    side = min(max((high - low).max() * (1 + 2 * _MARGIN), 48), extent.max())
    scale = _CELL / side
    # Inside of the picture, where it is large enough.
    spare = np.maximum(extent - side, 0)
    start = np.clip((low + high - side) / 2, np.minimum(extent - side, 0) / 2, spare) - 0.5
    to_cell = np.array([[scale, 0, 0], [0, scale, 0]])
    to_cell[:, 2] = -scale * start
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    cell = cv2.warpAffine(photo, to_cell, (_CELL, _CELL), flags=how, borderValue=(90, 90, 90))
    at = points @ to_cell[:, :2].T + to_cell[:, 2]
    if np.isfinite(box).all():
        corners = box.reshape(2, 2) @ to_cell[:, :2].T + to_cell[:, 2]
        start, end = map(_fixed, corners)
        cv2.rectangle(cell, start, end, _WHITE, 1, cv2.LINE_AA, _SUBPIXEL)
    colors = _colors(len(points))
    for k in np.flatnonzero(known):
        thickness = 2 if visibility[k] == HIDDEN else -1
        center = _fixed(at[k])
        cv2.circle(cell, center, 5 << _SUBPIXEL, _BLACK, thickness, cv2.LINE_AA, _SUBPIXEL)
        cv2.circle(cell, center, 4 << _SUBPIXEL, colors[k], thickness, cv2.LINE_AA, _SUBPIXEL)
    for k in np.flatnonzero(known):
        if len(points) <= _FEW or k % 5 == 0:
            text = names[k] if len(points) <= _FEW else str(k + 1)
            _write(cell, text[:20], at[k] + (7, -5))
    return cell


def _colors(count):
    hues = np.linspace(0, 170, count, endpoint=False).astype(np.uint8)
    full = np.full_like(hues, 255)
    return cv2.cvtColor(np.stack([hues, full, full], -1)[None], cv2.COLOR_HSV2RGB)[0].tolist()


def _write(cell, text, at):
    text = text.encode(errors="replace").decode()  # a lone surrogate ends OpenCV's process
    (width, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.4, 1)
    x, y = np.rint(np.clip(at, 0, (_CELL - width, _CELL))).astype(int).tolist()
    for dx, dy, color in ((1, 1, _BLACK), (-1, 0, _BLACK), (0, 0, _WHITE)):
        where = (x + dx, y + dy)
        cv2.putText(cell, text, where, cv2.FONT_HERSHEY_SIMPLEX, 0.4, color, 1, cv2.LINE_AA)


def _fixed(point):
    return np.clip(np.rint(point * 2**_SUBPIXEL), -(2**28), 2**28).astype(int).tolist()
