"""Keypoints of anything, from a CSV file."""

import dataclasses
from pathlib import Path

import numpy as np

from keras_lapkl import schemes
from keras_lapkl._support.csv_names import read_name
from keras_lapkl._support.pixels import FARTHEST
from keras_lapkl._support.types import PathLike
from keras_lapkl.data import tables
from keras_lapkl.data.annotations import Annotations
from keras_lapkl.data.keypoints import (
    BOX,
    NAME,
    SHOWN,
    KeypointError,
    KeypointObject,
    fitting_scheme,
    joined,
    shortened,
    to_annotations,
)
from keras_lapkl.data.tables import fold
from keras_lapkl.schemes import CropFrom, SchemeLike


def read_csv(
    path: PathLike,
    images: PathLike | None = None,
    scheme: SchemeLike | None = None,
    crop_from: CropFrom | None = None,
    missing_ok: bool = False,
) -> Annotations:
    """Keypoints from a CSV file, one line an object.

    A line has the picture's path, then x and y of each point: `a.png,10.5,20,30,40`. The first line
    may be a header: a column `path`, `file`, `image` or the like, or else the first one, is the
    path; the others are `x1,y1,x2,y2,…` (or `x_1` or `1_x`, from 0 or from 1), or
    `NOSE_x,NOSE_y,…` by the names of the points, optionally with `v1` or `NOSE_visible`, and
    `box_x0,box_y0,box_x1,box_y1` for a box of the object, in any order and case. A point is known
    by its number or name, wherever its columns stand. Empty cells of a point say
    that it is not annotated; a visibility of 0 hides it, 1 and 2 show it. An apostrophe before `=`,
    `+`, `-` or `@` of a path or name is for spreadsheets, and not read.

    Args:
        path: the file, UTF-8, separated by commas, or by semicolons or tabs; where commas do not
            separate, they may be decimal.
        images: folder that the paths start from, and may not leave by `..` or as absolute ones;
            None for the file's own. Links in it are followed.
        scheme: which points these are, as `schemes.get` takes it: columns go to its points by
            name, in any case, or by number where the file has no names. None to make one of the
            file, mirrored by "left" and "right" in the names.
        crop_from: what crops are cut by, one of `schemes.CROP_FROM`; None for what the scheme says.
        missing_ok: whether pictures may be missing, to be left out when they are read.

    Returns:
        `Annotations`, in the order of the lines. Those without a labeled point are left out, and
        counted in `source`.

    Raises:
        KeypointError: with file and line, what was expected and what is there.
        FileNotFoundError: there is no such file, or a picture is missing.

    Example:

    >>> _ = Path("pair.csv").write_text("a.png,1,2,3,4\\n")
    >>> read_csv("pair.csv", missing_ok=True).landmarks
    array([[[1., 2.],
            [3., 4.]]], dtype=float32)
    """
    path = Path(path)
    scheme = None if scheme is None else schemes.get(scheme)
    try:
        table = tables.read_table(path)
        columns = _csv_columns(table, scheme)
    except ValueError as error:
        raise KeypointError(str(error)) from error
    objects = [_csv_object(path, columns, *row) for row in table.rows]
    if not objects:
        raise KeypointError(f"{path}: expected lines of keypoints. Received: a header alone")
    if not columns.names:
        _check_no_visibility(path, objects)
    order, scheme = fitting_scheme(
        path, scheme, crop_from, {"name": NAME, **_own_names(columns)}, columns.named
    )
    return to_annotations(path, "csv", objects, order, scheme, [images or path.parent], missing_ok)


def is_csv(path: PathLike) -> bool:
    """Whether a file is a table whose columns `read_csv` understands, whatever is in its lines."""
    if Path(path).suffix.lower() != ".csv":
        return False
    try:
        _csv_columns(tables.read_table(path), None)
    except ValueError:
        return False
    return True


@dataclasses.dataclass(frozen=True)
class _Columns:
    """Where in a line of CSV is what.

    Attributes:
        picture: index of the picture's path.
        points: indices of x, y and visibility, or None, of each point.
        box: four indices, or None.
        names: K names, empty without a header.
        named: whether these are names, not numbers.
        count: cells in a line.
        heads: the header's cells, or what a message may call them.
    """

    picture: int
    points: tuple[tuple[int, int, int | None], ...]
    box: tuple[int, ...] | None
    names: tuple[str, ...]
    named: bool
    count: int
    heads: tuple[str, ...]


def _csv_columns(table, scheme):
    if table.header is not None:
        return _csv_header(table, table.header, scheme)
    if not table.rows:
        raise ValueError(f"{table.path}: expected lines of path,x1,y1,… Received: an empty file")
    cells = table.rows[0][1]
    count = len(cells)
    if count < 3 or count % 2 == 0:
        raise ValueError(
            f"{table.top}: expected a path and pairs x, y, an odd number of cells. "
            f"Received: {count} in {shortened(cells)}. Further columns need a header."
        )
    points = tuple((i, i + 1, None) for i in range(1, count, 2))
    heads = ("path", *(f"{axis}{i}" for i in range(1, len(points) + 1) for axis in "xy"))
    return _Columns(0, points, None, (), False, count, heads)


def _csv_header(table, cells, scheme):
    picture = tables.picture_column(table)
    box = {fold(cell): i for i, cell in enumerate(cells) if fold(cell) in BOX}
    if box and len(box) < len(BOX):
        raise ValueError(f"{table.top}: expected all of {','.join(BOX)}. Received: {joined(box)}")
    places = tables.point_columns(table, {picture, *box.values()})
    known = {picture, *box.values(), *(i for each in places.values() for i in each.values())}
    twice = [cell for i, cell in enumerate(cells) if cell and fold(cell) in map(fold, cells[:i])]
    if twice:
        raise ValueError(f"{table.top}: expected each column once. Received {twice[0]!r} twice.")
    for index, cell in enumerate(cells):
        if index not in known and not tables.is_index(cell):
            raise ValueError(
                f"{table.top}: expected columns x1,y1,… or NAME_x,NAME_y, with v1 or NAME_visible, "
                f"or {','.join(BOX)}, and none else. Received: {cell[:SHOWN]!r}"
            )
    numbers = tables.by_number(table, places)
    named = len(numbers) < len(places)
    if not named:
        places = {key: places[key] for key in numbers.values()}
    # Schemes may call their points "1" and "2"; others get names that are none of a number.
    wanted = () if scheme is None else scheme.names
    form = "{}" if {str(key) for key in places} == set(wanted) else "point_{}"
    names = tuple(form.format(key) if isinstance(key, int) else key for key in places)
    for name, values in zip(names, places.values(), strict=True):
        if not {"x", "y"} <= set(values):
            received = joined(values)
            raise ValueError(f"{table.top}: expected x and y of {name!r}. Received: {received}")
    if not places:
        raise ValueError(f"{table.top}: expected columns of points. Received: {shortened(cells)}")
    if not named:
        tables.check_numbers(table, numbers)
    elif [key for key in places if isinstance(key, int)] == [0, 1]:
        raise ValueError(
            f"{table.top}: x0,y0,x1,y1 beside named points may be a box or two points. Expected a "
            f"box as {','.join(BOX)}, and names for points"
        )
    return _Columns(
        picture=picture,
        points=tuple((v["x"], v["y"], v.get("visible")) for v in places.values()),
        box=tuple(box[name] for name in BOX) if box else None,
        names=names,
        named=named,
        count=len(cells),
        heads=tuple(cells),
    )


def _own_names(columns):
    return {"names": columns.names} if columns.names else {"num_landmarks": len(columns.points)}


def _csv_object(path, columns, line, cells):
    where = f"line {line}"
    picture = cells[columns.picture] if len(cells) == columns.count else ""
    if not picture:
        raise KeypointError(
            f"{path}, {where}: expected a path and {columns.count - 1} more cells, as the first "
            f"line has. Received: {len(cells)} cells, {shortened(cells)}"
        )

    def value(index):
        return _csv_number(path, where, columns.heads[index], cells[index])

    points = np.full((len(columns.points), 2), np.nan)
    visible = np.zeros(len(columns.points), bool)
    for k, (x, y, v) in enumerate(columns.points):
        point = value(x), value(y)
        shown = 1.0 if v is None else value(v)
        if (point[0] is None) != (point[1] is None):
            raise KeypointError(
                f"{path}, {where}: expected both {columns.heads[x]} and {columns.heads[y]}, or "
                f"neither. Received: {cells[x]!r} and {cells[y]!r}"
            )
        if v is not None and shown not in (None, 0, 1, 2):
            raise KeypointError(
                f"{path}, {where}: expected 0, 1 or 2 for {columns.heads[v]}. Received: {cells[v]}"
            )
        if point[0] is None:
            if v is not None and shown:
                raise KeypointError(
                    f"{path}, {where}: expected a position of a point that is visible. Received: "
                    f"{columns.heads[v]} {cells[v]} and empty {columns.heads[x]}"
                )
            continue
        if point == (-1, -1):
            raise KeypointError(
                f"{path}, {where}: expected empty cells for a point that is not annotated. "
                f"Received: -1 for {columns.heads[x]} and {columns.heads[y]}"
            )
        points[k] = point
        visible[k] = shown is None or shown > 0
    box = [None if columns.box is None else value(i) for i in columns.box or range(4)]
    box = np.array([np.nan if edge is None else edge for edge in box])
    if np.isfinite(box).any() and not (box[:2] < box[2:]).all():
        raise KeypointError(
            f"{path}, {where}: expected a box with x0 < x1 and y0 < y1, or empty cells. Received: "
            f"{shortened([cells[i] for i in columns.box])}"  # pyright: ignore[reportOptionalIterable]
        )
    return KeypointObject(where, read_name(picture), points, visible, box)


def _csv_number(path, where, head, text):
    """A number, None for an empty cell."""
    if not text:
        return None
    if not tables.is_number(text) or not abs(float(text)) <= FARTHEST:
        raise KeypointError(
            f"{path}, {where}: expected a number of pixels for {head}, or an empty cell. Received: "
            f"{text[:SHOWN]!r}"
        )
    return float(text)


def _check_no_visibility(path, objects):
    """Refuses x, y, visibility or score without a header: they would be other points."""
    values = np.array([each.points.ravel() for each in objects])
    thirds = values[:, 2::3]
    shares = np.isfinite(thirds).any() and not ((thirds < 0) | (thirds > 1)).any()
    if values.shape[1] % 3 == 0 and (shares or np.isin(thirds, (0, 1, 2)).all()):
        raise KeypointError(
            f"{path}: each third number is 0, 1 or 2, or in 0..1, as visibilities are. Say by a "
            "header which columns these are, such as path,x1,y1,v1,x2,y2,v2"
        )
