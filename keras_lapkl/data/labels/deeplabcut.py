"""DeepLabCut: CollectedData_*.csv with its three header rows, or four with several animals.

Positions are those of napari and matplotlib, whose pixel centers are whole numbers: not shifted.
"""

import collections
import itertools

from keras_lapkl.data.keypoints import KeypointError, shortened
from keras_lapkl.data.labels.found import SEEN, Labeled, Labels, Source, in_order, number
from keras_lapkl.data.tables import numeric_rows

_HEADS = (("scorer", "bodyparts", "coords"), ("scorer", "individuals", "bodyparts", "coords"))
_TABLES = ("labeled-data/*/CollectedData_*.csv", "CollectedData*.csv")
"""In a project folder; the second as Lightning Pose has them."""


def matches(source: Source) -> bool:
    if source.is_folder:
        return bool(_tables(source))
    return source.head.removeprefix(b"\xef\xbb\xbf").lstrip(b' "\r\n').startswith(b"scorer")


def read(source: Source) -> Labels:
    """All tables of a project folder, one of each video, or one table."""
    if not source.is_folder:
        objects, names = _table(source)
        above = source.path.absolute().parents
        return Labels(objects, names, (source.folder, *above[1:3]))
    paths = _tables(source)
    for folder, own in itertools.groupby(paths, lambda path: path.parent):
        if len(names := [path.name for path in own]) > 1:
            raise KeypointError(
                f"{folder}: expected one table of labels. Received: {', '.join(names)}. Give one "
                "of them as the input, or move the others away."
            )
    tables = [_table(Source(path)) for path in paths]
    names = collections.defaultdict(tuple)
    for category, known in itertools.chain.from_iterable(own.items() for _, own in tables):
        names[category] = in_order((*names[category], *known))
    return Labels([each for objects, _ in tables for each in objects], names, (source.folder,))


def _tables(source):
    found = (sorted(source.folder.glob(pattern)) for pattern in _TABLES)
    return next(filter(None, found), [])


def _table(source):
    path = source.path
    try:
        rows = numeric_rows(path, source.text)
    except ValueError as error:
        raise KeypointError(str(error)) from error
    heads = next((h for h in _HEADS if [row[0] for _, row in rows[: len(h)]] == [*h]), None)
    if heads is None:
        begun = [row[0] for _, row in rows[:4]]
        raise KeypointError(
            f"{path}: expected DeepLabCut's header rows {', '.join(_HEADS[0])}, or with "
            f"individuals after the scorer. Received rows that begin with {shortened(begun)}"
        )
    header = {head: row for head, (_, row) in zip(heads, rows, strict=False)}
    width = len(header["coords"])
    if any(len(cells) != width for _, cells in rows):
        line, cells = next(each for each in rows if len(each[1]) != width)
        raise KeypointError(
            f"{path}, line {line}: expected {width} cells, as in the others. Received: {len(cells)}"
        )
    if "likelihood" in header["coords"]:
        raise KeypointError(
            f"{path}: expected labels of DeepLabCut. Received: its predictions, with likelihoods. "
            "Labels are in labeled-data/*/CollectedData_*.csv"
        )
    first = next((i for i, axis in enumerate(header["coords"]) if axis == "x"), width)
    # One cell of a path, or three: labeled-data, video, picture.
    if first == width or any(header["coords"][1:first]):
        raise KeypointError(
            f"{path}: expected x and y in the row `coords`. Received: {shortened(header['coords'])}"
        )
    columns: dict[tuple[str, str], dict[str, int]] = collections.defaultdict(dict)
    for i in range(first, width):
        individual = header["individuals"][i] if "individuals" in header else ""
        axis = header["coords"][i]
        point = columns[individual, header["bodyparts"][i]]
        if axis not in ("x", "y") or axis in point or not header["bodyparts"][i]:
            raise KeypointError(
                f"{path}: expected x and y once for each of the bodyparts. Received: {axis!r} of "
                f"{header['bodyparts'][i]!r} in column {i + 1}"
            )
        point[axis] = i
    if any(len(point) < 2 for point in columns.values()):
        raise KeypointError(f"{path}: expected both x and y of each of the bodyparts")
    names = _categories(columns)
    objects = []
    for line, cells in rows[len(heads) :]:
        picture = "/".join(filter(None, cells[:first]))
        if not picture:
            raise KeypointError(f"{path}, line {line}: expected the path of a picture first")
        for category, individual in dict.fromkeys(
            (_category(individual), individual) for individual, _ in columns
        ):
            points = {
                name: point
                for (owner, name), axes in columns.items()
                if owner == individual
                and (point := _point(f"{path}, line {line}", name, cells, axes)) is not None
            }
            if points or "individuals" not in header:  # an animal that is not there is no gap
                objects.append(Labeled(f"{path}, line {line}", picture, points, category=category))
    return objects, names


def _point(where, name, cells, axes):
    x, y = cells[axes["x"]], cells[axes["y"]]
    if (not x or x.lower() == "nan") and (not y or y.lower() == "nan"):
        return None
    return number(where, f"x of {name}", x), number(where, f"y of {name}", y), SEEN


def _category(individual):
    """Animals share their points; those of `single` are of none of them, and have other names."""
    return individual if individual in ("", "single") else "individuals"


def _categories(columns):
    names = collections.defaultdict(list)
    for individual, name in columns:
        names[_category(individual)].append(name)
    return {category: in_order(each) for category, each in names.items()}
