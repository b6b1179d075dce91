"""The contact sheet of an audit: its first faces, labels beside what the model has."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_lapkl._support.types import PathLike
from keras_lapkl.data import contact_sheets
from keras_lapkl.data.crops import Crops
from keras_lapkl.data.images import read_image
from keras_lapkl.evaluation.label_audit import Suspect
from keras_lapkl.evaluation.model_scores import in_photos

LABEL, MODEL = (255, 60, 60), (60, 220, 255)
"""Colors, RGB: labels are red disks, what the model has are blue rings, a line joins the two."""
_NAMED = 6
"""Points of a fault up to which their names are written."""


def write(
    path: PathLike,
    crops: Crops,
    predicted: Mapping[str, NDArray[Any]],
    found: Sequence[Suspect],
) -> None:
    """Writes a PNG or JPEG with a cell a face: rank, kind and score above, the file below.

    Args:
        path: of the picture, `.png` or `.jpg`.
        crops: as `label_audit.audit` takes them, of picture files.
        predicted: dict of `landmarks` (N, K, 2), crop pixels.
        found: the faces to show, one at least; their ranks are counted from 1.

    Raises:
        OSError: a picture can't be read, or the sheet not written.
    """
    model = in_photos(predicted["landmarks"], crops)
    labels = in_photos(crops.landmarks, crops)
    known = crops.known & np.isfinite(model).all(-1)
    cells = []
    for rank, each in enumerate(found, start=1):
        i, photo = each.face, read_image(crops.names[each.face])
        shown = np.flatnonzero(known[i])
        ends = np.concatenate([labels[i, shown], model[i, shown]])
        cell, to_cell = contact_sheets.cut(photo, ends)
        ours, theirs = (p[i] @ to_cell[:, :2].T + to_cell[:, 2] for p in (labels, model))
        for k in shown:
            contact_sheets.draw_line(cell, ours[k], theirs[k], contact_sheets.WHITE)
        for k in shown:
            contact_sheets.draw_point(cell, theirs[k], MODEL, ring=True)
            contact_sheets.draw_point(cell, ours[k], LABEL)
        for k in each.points if len(each.points) <= _NAMED else ():
            name = crops.scheme.names[k][:20]
            contact_sheets.draw_text(cell, name, ours[k] + (7, -5))
        contact_sheets.draw_text(cell, f"{rank}  {each.kind}  {each.score:.1f}", (6, 20), 0.6)
        name = crops.names[i].replace("\\", "/").rpartition("/")[2]
        contact_sheets.draw_text(cell, name[-48:], (6, contact_sheets.CELL - 8), 0.45)
        cells.append(cell)
    contact_sheets.write(path, cells)
