"""CSV files of labels, boxes and predictions, whichever program wrote them: cells and columns.

The same rules hold for all three: cells are separated by commas, semicolons or tabs; numbers have
decimal points, or decimal commas where commas do not separate; a header is known by its whole line,
and columns by their names or numbers, in any order and case. What may mean two things is refused.
"""

import csv
import dataclasses
import io
import itertools
import re
import unicodedata
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_lapkl._support.csv_names import read_name
from keras_lapkl._support.reading import read_text
from keras_lapkl._support.types import PathLike

Columns = dict[str | int, dict[str, int]]
"""Indices of columns by axis, `x`, `y` or `visible`, of each point: by its name, or the number of
`x1`. That of `1_x` is a name, which may be a number."""

CONVERT = "Convert labels of other tools by: lapkl labels --input=FILE --output=labels.csv"

_SEPARATORS = ",;\t"
_SAMPLE = 20  # lines that the separator is chosen by
_WIDEST = 32_766  # pixels, of any picture that is read

_AXES = {"x": "x", "y": "y"} | dict.fromkeys(("v", "vis", "visible", "visibility"), "visible")
_AXIS = f"(?P<axis>{'|'.join(_AXES)})"
_POINT = tuple(
    re.compile(form, re.IGNORECASE)
    for form in (
        rf"{_AXIS}[_. -]?(?P<key>\d{{1,5}})",
        rf"(?P<key>\d{{1,5}})[_. -]?{_AXIS}",
        rf"(?P<key>.*[^_. -])[_. -]{_AXIS}",
    )
)
_BOXES = (
    ("box_x0", "box_y0", "box_x1", "box_y1"),
    ("x0", "y0", "x1", "y1"),
    ("x1", "y1", "x2", "y2"),
    ("xmin", "ymin", "xmax", "ymax"),
    ("x_min", "y_min", "x_max", "y_max"),
    ("left", "top", "right", "bottom"),
)
_FILES = ("file", "image", "img", "picture", "photo")
_FILES = (*_FILES, *(f"{file}_{part}" for file in _FILES for part in ("name", "path", "file")))
_FILES = (*_FILES, "path", "filename", "filepath", "imagename", "imagepath")
_PICTURE = re.compile(
    r".*\.(jpe?g|jpe|jfif|png|bmp|webp|gif|tiff?|avif|heic|heif|p[gnp]m|mp4|avi|mov|mkv|webm)",
    re.IGNORECASE | re.DOTALL,
)
_DECIMAL = re.compile(r"[+-]?(?P<whole>\d*)(?P<mark>[.,])(?P<part>\d+)(?P<power>[eE][+-]?\d+)?")
_FOREIGN_COLUMNS = {
    "a list of HRNet's": {"scale", "center_w", "center_h"},
    "a CSV file of VGG Image Annotator": {"region_shape_attributes"},
    "an analysis file of SLEAP": {"frame_idx", "instance_score"},
}
_FOREIGN_STARTS = {
    r"<(.*<)?(imglab|dataset|images)\b": "XML of dlib",
    r"<(.*<)?annotations\b": "XML of CVAT",
    r"<(.*<)?annotation\b": "XML of Pascal VOC",
    r"<[?!\w]": "XML",
    r"\{\s*[\"}]|\[\s*[\[{\]]": "JSON",
    r"(version|n_points)\s*:": "a .pts file",
}


@dataclasses.dataclass(frozen=True)
class Table:
    """The cells of a file, as text without space around it.

    Attributes:
        path: of the file, for messages.
        line: number of the first line that is not blank.
        header: names of the columns; None if there is no header.
        rows: the other lines, each with its number. With a header, all have as many cells.
    """

    path: PathLike
    line: int
    header: tuple[str, ...] | None
    rows: list[tuple[int, list[str]]]

    @property
    def top(self) -> str:
        """Where the first line is, for messages."""
        return f"{self.path}, line {self.line}"


def read_table(path: PathLike) -> Table:
    """Reads a CSV file.

    Args:
        path: UTF-8, with or without a byte order mark; separated by commas, semicolons or tabs, of
            which the one is taken that makes most cells of the first lines numbers.

    Returns:
        `Table`, whose numbers have decimal points. Columns at the end that have neither name nor
        content are left out.

    Raises:
        ValueError: with file and line: text that is no CSV, another format, a first line that may
            be a header or not, or numbers that may mean two things.
        OSError: the file can't be opened.

    Example:

    >>> _ = Path("found.csv").write_text("file;x1;y1\\na.png;1,5;2,5\\n")
    >>> read_table("found.csv").rows
    [(2, ['a.png', '1.5', '2.5'])]
    """
    text = read_text(path)
    _refuse_other_formats(path, text)
    rows = numeric_rows(path, text)
    if not rows:
        return Table(path, 1, None, [])
    line, first = rows[0]
    _refuse_lists(f"{path}, line {line}", first)
    if not _is_header(f"{path}, line {line}", first):
        # A picture and pairs of x and y: one empty cell more is a separator at the line's end.
        ends = [len(row) - (len(row) % 2 == 0 and not row[-1]) for _, row in rows]
        rows = [(number, row[:end]) for (number, row), end in zip(rows, ends, strict=True)]
        return Table(path, line, None, rows)
    header = [unicodedata.normalize("NFC", read_name(cell)) for cell in first]
    rows = rows[1:]
    for number, row in rows:
        while len(row) > len(header) and not row[-1]:  # separators at the end of the line
            row.pop()
        if len(row) != len(header):
            raise ValueError(
                f"{path}, line {number}: expected {len(header)} cells, as the header in line "
                f"{line} has. Received: {len(row)} cells"
            )
    while not header[-1] and not any(row[-1] for _, row in rows):
        header.pop()
        rows = [(number, row[:-1]) for number, row in rows]
    _refuse_foreign_columns(path, header)
    return Table(path, line, tuple(header), rows)


def picture_column(table: Table) -> int:
    """Index of the column that names pictures: the first one, or the one that says so.

    Raises:
        ValueError: there is none or more than one, or it counts lines or holds pixels.
    """
    if table.header is None:
        return 0
    named = [i for i, cell in enumerate(table.header) if _folded(cell) in _FILES]
    named = named or [i for i, cell in enumerate(table.header) if _folded(cell) == "name"]
    if len(named) > 1:
        names = ", ".join(table.header[i] for i in named)
        raise ValueError(
            f"{table.top}: expected one column of pictures' paths. Received: {names}. Keep one"
        )
    index = named[0] if named else 0
    if not named and _point_of(table.header[0]):
        raise ValueError(
            f"{table.top}: expected a column of pictures' paths, such as `path`. Received: "
            f"{table.header[0]!r} as the first, and none of that name"
        )
    cells = [row[index] for _, row in table.rows]
    if not named and len(cells) > 1 and _counts([cell.strip() for cell in cells]):
        raise ValueError(
            f"{table.top}: expected a column of pictures' paths. The first, "
            f"{table.header[0]!r}, counts lines: name another one `path`"
        )
    for line, row in table.rows:
        numbers = row[index].split()
        if len(numbers) > 2 and all(map(is_number, numbers)):
            raise ValueError(
                f"{table.path}, line {line}: expected the path of a picture. Received: "
                f"{len(numbers)} numbers, such as the pixels in Kaggle's facial keypoints. Write "
                "them as picture files, and name these"
            )
    return index


def is_index(name: str) -> bool:
    """Whether a column is the one that pandas writes to count lines."""
    return not name or bool(re.fullmatch(r"unnamed:_?\d+|index", _folded(name)))


def point_columns(table: Table, skipped: Iterable[int] = ()) -> Columns:
    """Which columns hold points, by a header.

    Points have numbers, as in `x1`, `x_1` and `1_x`, or names, as in `NOSE_x`, `nose.x` and
    `Nose X`. Visibilities are `v1`, `nose_v` or `nose_visible`.

    Args:
        table: with a header.
        skipped: indices of columns that are known to hold other things.

    Returns:
        `Columns`; those by number first and in the order of their numbers.

    Raises:
        ValueError: two columns that mean the same.
    """
    skipped = set(skipped)
    places, spelled = {}, {}
    assert table.header is not None
    for index, cell in enumerate(table.header):
        point = None if index in skipped else _point_of(cell)
        if point is None:
            continue
        key, axis = point
        key = key if isinstance(key, int) else spelled.setdefault(_folded(key), key)
        values = places.setdefault(key, {})
        if axis in values:
            raise ValueError(
                f"{table.top}: expected each column once. Received {cell!r} twice, as "
                f"{table.header[values[axis]]!r} too: both are {axis} of {key!r}"
            )
        values[axis] = index
    numbers = sorted(key for key in places if isinstance(key, int))
    names = [key for key in places if not isinstance(key, int)]
    return {key: places[key] for key in (*numbers, *names)}


def by_number(table: Table, columns: Columns) -> dict[int, str | int]:
    """Points by number, in the order of these: dict to their keys in `columns`.

    Raises:
        ValueError: two points have one number, as `x1` and `01_x` do.
    """
    found = {}
    for key in columns:
        if isinstance(key, int) or key.isdecimal():
            if int(key) in found:
                raise ValueError(f"{table.top}: expected point {int(key)} once, not twice")
            found[int(key)] = key
    return dict(sorted(found.items()))


def check_numbers(table: Table, numbers: Iterable[int]) -> None:
    """Refuses points by number that do not count from 0 or 1 without a gap."""
    numbers = set(numbers)
    first, last = min(numbers), max(numbers)
    missing = sorted(set(range(min(first, 1), min(last, 10_000))) - numbers)
    if missing or last >= 10_000:
        shown = ", ".join(map(str, missing[:5]))
        raise ValueError(
            f"{table.top}: expected points by number from 0 or 1 on, without a gap. Received: "
            f"{len(numbers)} points up to number {last}, without {shown}. If none is missing, name "
            "them, such as NOSE_x,NOSE_y"
        )


def box_columns(table: Table) -> tuple[int, ...]:
    """Indices of x0, y0, x1, y1 of the boxes, by a header.

    Raises:
        ValueError: no columns of two corners.
    """
    assert table.header is not None
    folded = [_folded(cell) for cell in table.header]
    for names in _BOXES:
        if set(names) <= set(folded):
            twice = next((name for name in names if folded.count(name) > 1), None)
            if twice:
                raise ValueError(f"{table.top}: expected each column once. Received {twice} twice")
            numbers = [key for key in point_columns(table) if isinstance(key, int)]
            if len(numbers) > 2 and names[0] in ("x0", "x1"):
                break  # landmarks
            return tuple(folded.index(name) for name in names)
    sizes = sorted({"w", "h", "width", "height"} & set(folded))
    hint = f", with {', '.join(sizes)}: write the other corner instead" if sizes else ""
    raise ValueError(
        f"{table.top}: expected columns x0, y0, x1, y1 of a box's corners, and no points. "
        f"Received: {','.join(table.header)[:80]!r}{hint}"
    )


def are_fractions(points: NDArray[Any]) -> bool:
    """Whether positions (n, 2) in a picture are more likely shares of its sides than pixels.

    All lie within a pixel of the picture's corner, or nearly all and the others not far from it.
    """
    points = np.abs(np.asarray(points, np.float64))
    if len(points) < 2:
        return False
    return bool((points <= 2).all() and (points <= 1).mean() >= 0.95)


def is_number(text: str) -> bool:
    """Whether a cell is a number with a decimal point."""
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text  # Python takes 1_000


def fold(name: str) -> str:
    """A name without its case, spaces around it, and ways to write one letter."""
    return unicodedata.normalize("NFC", name.strip()).casefold()


def _folded(cell):
    return re.sub(r"[ .-]", "_", fold(cell))


def _point_of(cell):
    """(name or number, axis) of the column of a point, or None."""
    if _folded(cell) in _BOXES[0]:
        return None
    for form in _POINT:
        if match := form.fullmatch(cell):
            key, axis = match["key"], _AXES[match["axis"].lower()]
            return (int(key) if form is _POINT[0] else key), axis
    return None


def numeric_rows(path: PathLike, text: str) -> list[tuple[int, list[str]]]:
    """The lines of CSV that are not blank: number, and cells with decimal points.

    Args:
        path: of the file, for messages.
        text: all that is in it, separated as `read_table` takes it.

    Raises:
        ValueError: a line that is no CSV, or numbers that may mean two things.
    """
    start = 0
    if match := re.match(r"\s*sep=([,;\t|])\r?\n", text):  # Excel's word for the separator
        text, start = text[match.end() :], match[0].count("\n")
    separator = match[1] if match else _separator(text)
    rows = [(line + start, cells) for line, cells in _csv_rows(path, text, separator)]
    return rows if separator == "," else _with_decimal_points(path, rows)


def _reader(text, separator):
    return csv.reader(
        io.StringIO(text, newline=""), delimiter=separator, strict=True, skipinitialspace=True
    )


def _csv_rows(path, text, separator):
    """The lines of CSV that are not blank: number, and cells without space around them.

    Args:
        path: of the file, for messages.
        text: all that is in it.
        separator: of cells.

    Raises:
        ValueError: a line that is no CSV, such as one within an open quote.
    """
    reader = _reader(text, separator)
    try:
        rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except csv.Error as error:
        raise ValueError(
            f"{path}, line {reader.line_num}: no CSV: {error}. Expected comma-separated text"
        ) from error
    return [(line, row) for line, row in rows if any(row)]


def _separator(text):
    """The one that makes most cells of the first lines numbers; a comma if none does."""
    sample = text[: 1 << 20]
    first = next(filter(str.strip, re.split(r"[\r\n]", sample)), "")
    return max(_SEPARATORS, key=lambda each: each in first and _share_of_numbers(sample, each))


def _share_of_numbers(text, separator):
    """Of the cells after the first, in the lines after the first; above 0 and below 2."""
    rows = []
    try:
        for row in itertools.islice(_reader(text, separator), _SAMPLE):
            rows.append([cell.strip() for cell in row])
    except csv.Error:
        pass  # `_csv_rows` tells of it
    rows = [row for row in rows if any(row)]
    cells = [cell for row in rows[1:] or rows for cell in row[1:]]

    def good(cell):
        with_comma = separator != "," and _DECIMAL.fullmatch(cell)
        return bool(not cell or is_number(cell) or with_comma)

    # Where no line has numbers, the header's many cells decide.
    widest = max((len(row) for row in rows), default=0)
    return sum(map(good, cells)) / max(len(cells), 1) + 1 - 1 / (1 + widest)


def _with_decimal_points(path, rows):
    """The rows with decimal commas replaced; refuses what may be thousands."""
    first, unseen, sure = {}, set(".,"), False
    for line, row in rows:
        for cell in row:
            if sure and not any(mark in cell for mark in unseen):
                continue
            if match := _DECIMAL.fullmatch(cell):
                whole, mark, part = match["whole"], match["mark"], match["part"]
                first.setdefault(mark, (line, cell))
                unseen = set(".,") - set(first)
                thousands = 1 <= len(whole) <= 3 and whole[0] != "0" and len(part) == 3
                sure = sure or not thousands or bool(match["power"]) or int(whole + part) > _WIDEST
    if len(first) > 1:
        raise ValueError(
            f"{path}: expected decimal points, or else decimal commas. Received: {first[','][1]!r} "
            f"in line {first[','][0]} and {first['.'][1]!r} in line {first['.'][0]}"
        )
    if first and not sure:
        ((line, cell),) = first.values()
        raise ValueError(
            f"{path}, line {line}: {cell!r} may be a number below ten or one above a thousand, as "
            "all others in this file. Expected cells separated by commas, with decimal points"
        )
    if "," not in first:
        return rows
    return [(line, [_with_point(cell) for cell in row]) for line, row in rows]


def _with_point(cell):
    with_point = cell.replace(",", ".", 1)
    return with_point if "," in cell and is_number(with_point) else cell


def _is_header(where, cells):
    """Whether the first line is a header and no object; an error if that can't be said."""
    pictures = [i for i, cell in enumerate(cells) if _PICTURE.fullmatch(read_name(cell))]
    others = [cell for cell in cells[1:] if cell and not is_number(cell)]
    if pictures and pictures[0] > 0:
        raise ValueError(
            f"{where}: expected the picture as the first cell, or a header. Received: "
            f"{cells[pictures[0]]!r} as number {pictures[0] + 1} of {len(cells)} cells"
        )
    if pictures and others:
        raise ValueError(
            f"{where}: expected columns' names, or a picture and nothing but numbers. Received: "
            f"the picture {cells[0][:60]!r} and what is not a number, {others[0][:60]!r}"
        )
    if pictures or not any(cells[1:]):
        return False
    if others:
        return True
    if _folded(cells[0]) in (*_FILES, "name") or _counts(cells[1:]):
        raise ValueError(
            f"{where}: this looks like a header that numbers the columns, as pandas does. Name "
            f"them path,x1,y1,…, or remove the line. Received: {','.join(cells)[:60]!r}"
        )
    return False


def _counts(cells):
    """Whether cells count 0, 1, 2, … or 1, 2, 3, …."""
    if not all(map(is_number, cells)):
        return False
    numbers = [float(cell) for cell in cells]
    return len(numbers) > 0 and numbers in (
        [*range(len(numbers))],
        [*range(1, len(numbers) + 1)],
    )


def _refuse_other_formats(path, text):
    start = text[:4096].lstrip()
    for form, name in _FOREIGN_STARTS.items():
        if re.match(form, start, re.DOTALL | re.IGNORECASE):
            raise _foreign(path, name)


def _refuse_lists(where, cells):
    """Refuses formats that a first line of theirs tells."""
    if fold(cells[0]) == "scorer":
        raise _foreign(where, "a header of three lines, as DeepLabCut writes")
    words = cells[0].split()
    if len(cells) > 1 or len(words) < 3:
        return
    numbers = sum(map(is_number, words))
    if _PICTURE.fullmatch(words[-1]) and numbers == len(words) - 1:
        raise _foreign(where, "numbers, then the picture, separated by spaces, as WFLW's lists")
    if numbers == len(words) - 1 and not is_number(words[0]):
        raise _foreign(where, "a picture, then numbers, separated by spaces, as PFLD's lists")
    if numbers == len(words):
        raise _foreign(where, "numbers separated by spaces, as in .pts files or YOLO's labels")
    raise _foreign(where, "cells separated by spaces")


def _refuse_foreign_columns(path, header):
    folded = {_folded(cell) for cell in header}
    for name, columns in _FOREIGN_COLUMNS.items():
        if columns <= folded:
            raise _foreign(path, name)


def _foreign(where, name):
    return ValueError(
        f"{where}: expected CSV, one object a line: path,x1,y1,x2,y2,… Received: {name}. {CONVERT}"
    )
