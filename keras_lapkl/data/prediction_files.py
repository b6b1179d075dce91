"""Landmarks that any program predicted, from its files: `.pts`, CSV and JSON. NumPy alone.

Coordinates are pixels of the photo, x first. In CSV and JSON they are 0-based, in `.pts` files
1-based, as that format has it; in memory they are 0-based.
"""

import contextlib
import dataclasses
import itertools
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from keras_lapkl._support.csv_names import read_name
from keras_lapkl._support.files import naming, read_json, replacing
from keras_lapkl._support.names import first_stem
from keras_lapkl._support.pixels import FARTHEST
from keras_lapkl._support.types import PathLike
from keras_lapkl.data import tables
from keras_lapkl.data.pts import read_pts
from keras_lapkl.schemes import Scheme

UNITS = "pixels of the picture, x first, pixel centers at whole numbers from 0"

_FRAME = re.compile(r"/[0-9]{6,}$")
_JSON_FORMS = (
    'expected {"pictures": [{"file": …, "faces": [{"landmarks": [[x, y], …]}, …]}, …]} as '
    "lapkl predict writes it, or a list of such {file, landmarks}, or an object from file names "
    "to landmarks"
)


@dataclasses.dataclass(frozen=True)
class Predictions:
    """M predicted faces.

    Attributes:
        source: file or folder that they were read from.
        form: `"pts"`, `"csv"` or `"json"`.
        names: M names of photos as the files have them; one with several faces is there as often.
        landmarks: (M, K, 2) float64 pixels, 0-based; NaN where the file says that the photo has
            no face.

    Example:

    >>> Predictions("found.csv", "csv", ("a.jpg",), np.zeros((1, 68, 2))).names
    ('a.jpg',)
    """

    source: str
    form: str
    names: tuple[str, ...]
    landmarks: NDArray[Any]

    def __len__(self) -> int:
        return len(self.names)


@dataclasses.dataclass(frozen=True)
class CocoNames:
    """What COCO results mean by their numbers, as the labels in a COCO file say.

    Attributes:
        pictures: path of each picture, by its id as `coco_id` gives it.
        category: id of the objects' category.
        order: K indices that put the category's keypoints in the order of the scheme.

    Example:

    >>> CocoNames({"7": "a.png"}, "1", (0, 1)).pictures["7"]
    'a.png'
    """

    pictures: Mapping[str, str]
    category: str
    order: tuple[int, ...]


def coco_id(value: object) -> str | None:
    """An id of COCO as text, for it may be a number in one list and text in another; or None.

    Example:

    >>> coco_id(7), coco_id("7"), coco_id(7.0), coco_id(None)
    ('7', '7', '7', None)
    """
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        return None
    return str(value).strip()


def read_predictions(path: PathLike, scheme: Scheme, coco: CocoNames | None = None) -> Predictions:
    """Predictions of the points of a scheme.

    A folder holds one `.pts` file a face, named as the photo, in folders as the photos are or not;
    `x.face1.pts` and so on beside `x.pts` are further faces of photo x. A CSV file has one line a
    face: the photo, and x and y of each point. Its header names columns `<point>_x,<point>_y` by
    the scheme's names, or `x0,y0,x1,…`, or `x1,y1,x2,…`, in any order and case; the photo is the
    column `file`, `path`, `image` or the like, or else the first; other columns are left alone.
    Without header, there is the photo, and nothing else but x, y, x, y. A JSON file is as `lapkl
    predict` writes it, or a list of `{"file": …, "landmarks": …}`, or an object from file names to
    landmarks or lists of those. Frames of videos are named `<video>/<frame>`, with six digits.

    COCO results, a list of `{"image_id": …, "category_id": …, "keypoints": [x, y, score, …]}`, are
    read where `coco` is given; those of other categories are left alone.

    Args:
        path: folder or file.
        scheme: `Scheme` of the points.
        coco: `CocoNames` of labels in a COCO file.

    Returns:
        `Predictions`.

    Raises:
        ValueError: with file, and line or entry, what was expected and what is there: another
            number of points, numbers that are not finite, or another form.
        FileNotFoundError: there is nothing at `path`.

    Example:

    >>> _ = Path("found.json").write_text('{"a.jpg": [[1, 2], [3, 4]]}')
    >>> scheme = schemes.get({"name": "pair", "num_landmarks": 2})
    >>> read_predictions("found.json", scheme).landmarks
    array([[[1., 2.],
            [3., 4.]]])
    """
    path = Path(path)
    if path.is_dir():
        form, faces = "pts", _pts_faces(path, scheme)
    elif not path.exists():
        raise FileNotFoundError(f"There is no file or folder of predictions at {path}.")
    elif path.suffix.lower() == ".csv":
        form, faces = "csv", _csv_faces(path, scheme)
    elif path.suffix.lower() == ".json":
        form, faces = "json", _json_faces(path, scheme, coco)
    else:
        raise ValueError(
            f"{path}: expected a folder of .pts files, a .csv or a .json file of predictions."
        )
    names, landmarks = zip(*faces, strict=True) if faces else ((), ())
    shape = (len(names), scheme.num_landmarks, 2)
    found = np.array(landmarks, np.float64).reshape(shape)
    known = found.reshape(-1, 2)
    if tables.are_fractions(known[np.isfinite(known).all(1)]):
        raise ValueError(
            f"{path}: expected pixels. Received: all points in -2..2, like fractions of the "
            "picture. Multiply them by its width and height."
        )
    return Predictions(str(path), form, names, found)


@contextlib.contextmanager
def _replaced(path):
    with (
        replacing(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        yield file


@contextlib.contextmanager
def json_writer(
    path: PathLike,
    scheme: Scheme,
    about: Mapping[str, Any] | None = None,
    opened: contextlib.AbstractContextManager[TextIO] | None = None,
) -> Iterator[Callable[..., None]]:
    """Writes predictions as JSON, picture by picture: whole in the end, or not at all.

    Args:
        path: file to write.
        scheme: `Scheme` of the landmarks.
        about: dict of plain data to stand at the head.
        opened: what opens the text to write, which may hold what the same call has written before
            it was stopped; None for a new file, put in place at the end.

    Yields:
        Function from a file name, a list of dicts with `landmarks` (K lists of x and y in pixels)
        and whatever else there is of a face, and optionally more data of the picture.
    """
    head = {"units": UNITS, **(about or {}), "scheme": scheme.to_config()}
    begin = json.dumps(head)[:-1] + ', "pictures": ['  # ASCII
    with opened or _replaced(path) as file:
        if not file.tell():
            file.write(begin)
        first = ["\n"] if file.tell() == len(begin) else []
        separators = itertools.chain(first, itertools.repeat(",\n"))

        def write(name, faces, **place):
            line = {"file": name, **place, "faces": faces}
            with naming(path):
                file.write(next(separators) + json.dumps(line, allow_nan=False))

        yield write
        file.write("\n]}\n")


def write_predictions(
    path: PathLike, scheme: Scheme, names: Sequence[str], landmarks: NDArray[Any]
) -> None:
    """Writes landmarks (N, K, 2) of N faces, to a thousandth of a pixel, with names of photos.

    Landmarks that are not finite are written as a photo without a face.
    """
    with json_writer(path, scheme) as write:
        for name, points in zip(names, np.round(landmarks, 3), strict=True):
            write(name, [{"landmarks": points.tolist()}] if np.isfinite(points).all() else [])


def _pts_faces(folder, scheme):
    paths = sorted(path for path in folder.rglob("*.[pP][tT][sS]") if path.is_file())
    if not paths:
        others = sorted(p.name for ending in ("csv", "json") for p in folder.glob(f"*.{ending}"))
        hint = f" It holds {others[0]}: name that file, not the folder." if others else ""
        raise ValueError(f"{folder}: expected .pts files in it or below it.{hint}")
    stems = {path: path.relative_to(folder).as_posix()[: -len(".pts")] for path in paths}
    found = set(stems.values())
    faces = []
    for path, stem in stems.items():
        first = first_stem(stem)
        # A frame of a video may have its second face alone.
        known = first in found or _FRAME.search(first)
        faces.append((first if known else stem, read_pts(path, scheme.num_landmarks)))
    return faces


def _csv_faces(path, scheme):
    table = tables.read_table(path)
    columns, file_column, frame_column = _csv_columns(table, scheme)
    faces = []
    for number, row in table.rows:
        where = f"{path}, line {number}"
        if len(row) != len(table.header or table.rows[0][1]):
            raise ValueError(
                f"{where}: expected {len(table.rows[0][1])} cells, as in line {table.line}. "
                f"Received: {len(row)}"
            )
        frame = "" if frame_column is None else row[frame_column]
        name = _name(where, read_name(row[file_column]), frame or None)
        faces.append((name, _points(where, [[row[x], row[y]] for x, y in columns], scheme)))
    return faces


def _csv_columns(table, scheme):
    """Of a CSV: indices of x and y of each point, of the photo, and of the frame or None.

    Without header, the first cell is the photo, and the others x and y of each point.
    """
    k = scheme.num_landmarks
    if table.header is None:
        if not table.rows:
            raise ValueError(f"{table.path}: expected lines of predictions. Received: none")
        count = len(table.rows[0][1])
        if count != 1 + 2 * k:
            raise ValueError(
                f"{table.top}: expected the photo and x and y of {k} points, {1 + 2 * k} cells. "
                f"Received: {count} cells, and no header"
            )
        return [(1 + 2 * i, 2 + 2 * i) for i in range(k)], 0, None
    photo = tables.picture_column(table)
    frames = [i for i, name in enumerate(table.header) if tables.fold(name) == "frame"]
    places = tables.point_columns(table, [photo, *frames])
    complete = {key: each for key, each in places.items() if {"x", "y"} <= set(each)}
    named = {tables.fold(key): each for key, each in complete.items() if isinstance(key, str)}
    keys = [tables.fold(name) for name in scheme.names]
    numbers = {}
    if not set(keys) <= set(named):
        numbers = tables.by_number(table, complete)
        if [*numbers] not in ([*range(k)], [*range(1, k + 1)]):
            names = [key for key in complete if isinstance(key, str) and not key.isdecimal()]
            received = f"{len(names)} points by name, such as {names[0]}" if names else "no names"
            raise ValueError(
                f"{table.top}: expected columns {scheme.names[0]}_x, {scheme.names[0]}_y and so on "
                f"for the {k} points of scheme {scheme.name!r}, or x0, y0 to x{k - 1}, y{k - 1}. "
                f"Received: {received}, {len(numbers)} by number"
            )
    points = [complete[key] for key in numbers.values()] or [named[key] for key in keys]
    return [(p["x"], p["y"]) for p in points], photo, frames[0] if frames else None


def _json_faces(path, scheme, coco):
    content = read_json(path)
    order = None
    if isinstance(content, dict) and {"images", "annotations"} <= set(content):
        raise ValueError(f"{path}: {_JSON_FORMS}. Received: labels in a COCO file")
    if isinstance(content, dict) and "pictures" in content:
        order = _json_order(path, content.get("scheme"), scheme)
        entries = [("pictures", each) for each in _list(path, "pictures", content["pictures"])]
    elif isinstance(content, dict):
        return [
            (_name(path, name, None), _points(f"{path}, {name!r}, face {i}", points, scheme))
            for name, faces in content.items()
            for i, points in enumerate(_faces_of(f"{path}, {name!r}", faces))
        ]
    elif isinstance(content, list) and content and _is_coco_result(content[0]):
        return _coco_faces(path, content, scheme, coco)
    elif isinstance(content, list):
        entries = [("entry", each) for each in content]
    else:
        raise ValueError(f"{path}: {_JSON_FORMS}. Received: a {type(content).__name__}")
    faces = []
    for i, (kind, entry) in enumerate(entries):
        where = f"{path}, {kind} {i}"
        if not isinstance(entry, dict) or not {"faces", "landmarks"} & set(entry):
            raise ValueError(f"{where}: {_JSON_FORMS}. Received: {str(entry)[:80]}")
        name = _name(where, entry.get("file"), entry.get("frame"))
        found = _list(where, "faces", entry["faces"]) if "faces" in entry else [entry]
        for j, face in enumerate(found):
            if not isinstance(face, dict) or "landmarks" not in face:
                raise ValueError(f"{where}, face {j}: {_JSON_FORMS}. Received: {face!r:.80}")
            points = _points(f"{where} ({name}), face {j}", face["landmarks"], scheme)
            faces.append((name, points if order is None else points[order]))
        if not found:
            faces.append((name, _nothing(scheme)))
    return faces


def _is_coco_result(entry):
    return isinstance(entry, dict) and {"image_id", "category_id"} <= set(entry)


def _coco_faces(path, entries, scheme, coco):
    if coco is None:
        raise ValueError(
            f"{path}: expected a list of {{file, landmarks}}. Received: COCO results, in which "
            "pictures have numbers alone. Evaluate on labels in a COCO file, which names them, or "
            "write the file_name of each image_id as file, and x and y of each point"
        )
    for i, entry in enumerate(entries):
        if not _is_coco_result(entry) or not isinstance(entry.get("keypoints"), list):
            raise ValueError(
                f"{path}, entry {i}: expected image_id, category_id and a list of keypoints, as "
                f"all COCO results of keypoints have. Received: {str(entry)[:80]}"
            )
    categories = {coco_id(entry["category_id"]) for entry in entries}
    if len(categories) > 1 and coco.category not in categories:
        raise ValueError(
            f"{path}: expected results of category {coco.category}. Received: categories "
            f"{', '.join(sorted(map(str, categories)))}"
        )
    faces = []
    for i, entry in enumerate(entries):
        # Tools that know one category number it by their own.
        if len(categories) > 1 and coco_id(entry["category_id"]) != coco.category:
            continue
        where, number = f"{path}, entry {i}", coco_id(entry["image_id"])
        if not number:
            raise ValueError(f"{where}: expected an image_id. Received: {entry['image_id']!r:.80}")
        values = entry["keypoints"]
        if len(values) != 3 * scheme.num_landmarks:
            raise ValueError(
                f"{where}: expected x, y and score of {scheme.num_landmarks} keypoints, "
                f"{3 * scheme.num_landmarks} numbers. Received: {len(values)}"
            )
        pairs = list(zip(values[::3], values[1::3], strict=True))
        points = _points(where, [pairs[k] for k in coco.order], scheme)
        faces.append((coco.pictures.get(number, number), points))
    return faces


def _json_order(path, config, scheme):
    """Where the scheme's points stand among those of the file's own scheme; None if as they are."""
    names = config.get("names") if isinstance(config, dict) else None
    if not isinstance(names, list) or names == list(scheme.names):
        return None
    if sorted(map(str, names)) != sorted(scheme.names):
        raise ValueError(
            f"{path}: expected the points of scheme {scheme.name!r}. Received: {len(names)} points "
            f"of scheme {config.get('name')!r}"
        )
    return [names.index(name) for name in scheme.names]


def _faces_of(where, value):
    """The faces of an object's value: landmarks of one, or a list of those of several."""
    if value is None or value == []:
        return [None]
    if not isinstance(value, list):
        raise ValueError(
            f"{where}: expected landmarks [[x, y], …], a list of several faces' or null. "
            f"Received: {value!r:.80}"
        )
    first = value[0]
    several = first is None or (isinstance(first, list) and first and isinstance(first[0], list))
    return value if several else [value]


def _list(where, key, value):
    if not isinstance(value, list):
        raise ValueError(f"{where}: expected a list as {key!r}. Received: {value!r:.80}")
    return value


def _name(where, name, frame):
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"{where}: expected the name of a photo. Received: {name!r:.80}")
    if frame is None:
        return name
    try:
        return f"{name}/{int(frame):06d}"
    except (OverflowError, TypeError, ValueError) as error:
        raise ValueError(
            f"{where}: expected a whole number as frame. Received: {frame!r:.80}"
        ) from error


def _points(where, points, scheme):
    """Landmarks (K, 2) from text or numbers; NaN if none is given, an error if some are."""
    if points is None or points == []:
        return _nothing(scheme)
    shape = (scheme.num_landmarks, 2)
    try:
        found = np.array([[_number(x), _number(y)] for x, y in points], np.float64)
    except (OverflowError, TypeError, ValueError) as error:
        raise ValueError(
            f"{where}: expected {shape[0]} points, x and y of each. Received: {str(points)[:80]}"
        ) from error
    if found.shape != shape:
        raise ValueError(f"{where}: expected {shape[0]} points. Received: {len(found)}")
    if np.isnan(found).all():
        return found
    bad = np.flatnonzero(~(np.abs(found) <= FARTHEST).all(1))
    if bad.size:
        raise ValueError(
            f"{where}: expected finite numbers, none further than {FARTHEST:.0f} pixels, or none "
            "at all where there is no face. Received: "
            f"({found[bad[0], 0]:g}, {found[bad[0], 1]:g}) at {scheme.names[bad[0]]}, {bad.size} "
            "such in all"
        )
    return found


def _nothing(scheme):
    return np.full((scheme.num_landmarks, 2), np.nan)


def _number(value):
    """A float of text or a number; NaN of an empty cell or null."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return math.nan
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError(f"not a number: {value!r}")
    return float(value)
