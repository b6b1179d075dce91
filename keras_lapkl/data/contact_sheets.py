"""Sheets of small pictures with points drawn into them, to look at many labels at once."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from keras_lapkl._support.files import replacing
from keras_lapkl._support.types import PathLike

CELL = 420
"""Side of a cell, pixels."""
WHITE, BLACK = (255, 255, 255), (0, 0, 0)
SUBPIXEL = 4
"""Fractional bits of a coordinate as OpenCV takes it."""
_COLUMNS, _MARGIN, _GAP, _LEAST = 5, 0.35, 8, 48


def cut(
    photo: NDArray[np.uint8], ends: NDArray[Any]
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """The square about some points, scaled to a cell.

    Args:
        photo: (H, W, 3) uint8.
        ends: (n, 2) points that are to be seen, one at least.

    Returns:
        The cell (`CELL`, `CELL`, 3), and the affine (2, 3) from the photo to it.
    """
    low, high = ends.min(0), ends.max(0)
    extent = np.array(photo.shape[1::-1], np.float64)
    side = min(max((high - low).max() * (1 + 2 * _MARGIN), _LEAST), extent.max())
    scale = CELL / side
    # Inside of the picture, where it is large enough.
    spare = np.maximum(extent - side, 0)
    start = np.clip((low + high - side) / 2, np.minimum(extent - side, 0) / 2, spare) - 0.5
    to_cell = np.array([[scale, 0, 0], [0, scale, 0]])
    to_cell[:, 2] = -scale * start
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    cell = cv2.warpAffine(photo, to_cell, (CELL, CELL), flags=how, borderValue=(90, 90, 90))
    return cell, to_cell  # pyright: ignore[reportReturnType]  OpenCV does not tell its types


def draw_point(cell: NDArray[np.uint8], at: NDArray[Any], color: Any, ring: bool = False) -> None:
    """Draws a disk with a black rim, or a ring."""
    thickness, center = 2 if ring else -1, fixed(at).tolist()
    cv2.circle(cell, center, 5 << SUBPIXEL, BLACK, thickness, cv2.LINE_AA, SUBPIXEL)
    cv2.circle(cell, center, 4 << SUBPIXEL, color, thickness, cv2.LINE_AA, SUBPIXEL)


def draw_line(cell: NDArray[np.uint8], start: NDArray[Any], end: NDArray[Any], color: Any) -> None:
    cv2.line(cell, fixed(start).tolist(), fixed(end).tolist(), color, 1, cv2.LINE_AA, SUBPIXEL)


def draw_box(cell: NDArray[np.uint8], start: NDArray[Any], end: NDArray[Any]) -> None:
    cv2.rectangle(cell, fixed(start).tolist(), fixed(end).tolist(), WHITE, 1, cv2.LINE_AA, SUBPIXEL)


def draw_text(
    image: NDArray[np.uint8], text: str, at: Any, size: float = 0.4, inside: bool = True
) -> None:
    """Writes from a place on, or `inside` the image near it, in white with a black shadow.

    What OpenCV's letters can't write is written as question marks.
    """
    text = text.encode(errors="replace").decode()  # a lone surrogate ends OpenCV's process
    if inside:
        (width, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size, 1)
        at = np.clip(at, 0, (max(image.shape[1] - width, 0), image.shape[0]))
    x, y = np.clip(np.rint(at), -(2**20), 2**20).astype(int).tolist()
    # A thicker text would be a wider one.
    for dx, dy, color in ((1, 1, BLACK), (-1, 1, BLACK), (1, -1, BLACK), (0, 0, WHITE)):
        where = (x + dx, y + dy)
        cv2.putText(image, text, where, cv2.FONT_HERSHEY_SIMPLEX, size, color, 1, cv2.LINE_AA)


def write(path: PathLike, cells: Sequence[NDArray[np.uint8]]) -> None:
    """Writes cells in rows of five, as JPEG or PNG by the name.

    Raises:
        OSError: it could not be written.
    """
    columns = min(_COLUMNS, len(cells))
    rows = math.ceil(len(cells) / columns)
    side = CELL + _GAP
    sheet = np.full((rows * side - _GAP, columns * side - _GAP, 3), 255, np.uint8)
    for i, cell in enumerate(cells):
        y, x = i // columns * side, i % columns * side
        sheet[y : y + CELL, x : x + CELL] = cell
    is_png = Path(path).suffix == ".png"
    options = [] if is_png else [cv2.IMWRITE_JPEG_QUALITY, 92]
    _, data = cv2.imencode(".png" if is_png else ".jpg", sheet[..., ::-1], options)
    with replacing(path) as temporary:
        temporary.write_bytes(data.tobytes())


def fixed(points: NDArray[Any]) -> NDArray[np.int32]:
    """Points as OpenCV takes them, in sixteenths of a pixel."""
    return np.clip(np.rint(points * 2**SUBPIXEL), -(2**28), 2**28).astype(np.int32)
