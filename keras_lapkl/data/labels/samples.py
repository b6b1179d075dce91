"""A picture of some labeled objects, to see whether points and names are where they should be."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from keras_lapkl.data import contact_sheets
from keras_lapkl.data.images import read_image
from keras_lapkl.data.labels.found import HIDDEN

_FEW = 24
"""Points up to which names are legible; of more, every fifth has its number."""


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
    contact_sheets.write(path, cells)


def _cell(photo, points, visibility, box, names):
    """The square about an object, scaled to a cell, drawn into."""
    known = visibility > 0
    ends = np.concatenate([points[known], box.reshape(2, 2)[np.isfinite(box).reshape(2, 2).all(1)]])
    cell, to_cell = contact_sheets.cut(photo, ends)
    at = points @ to_cell[:, :2].T + to_cell[:, 2]
    if np.isfinite(box).all():
        contact_sheets.draw_box(cell, *(box.reshape(2, 2) @ to_cell[:, :2].T + to_cell[:, 2]))
    colors = _colors(len(points))
    for k in np.flatnonzero(known):
        contact_sheets.draw_point(cell, at[k], colors[k], ring=visibility[k] == HIDDEN)
    for k in np.flatnonzero(known):
        if len(points) <= _FEW or k % 5 == 0:
            text = names[k] if len(points) <= _FEW else str(k + 1)
            contact_sheets.draw_text(cell, text[:20], at[k] + (7, -5))
    return cell


def _colors(count):
    hues = np.linspace(0, 170, count, endpoint=False).astype(np.uint8)
    full = np.full_like(hues, 255)
    return cv2.cvtColor(np.stack([hues, full, full], -1)[None], cv2.COLOR_HSV2RGB)[0].tolist()
