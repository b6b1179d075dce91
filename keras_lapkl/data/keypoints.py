"""Keypoints of anything: CSV files and COCO keypoint files as labeled sources, any K.

Coordinates are pixels, x first, 0-based, pixel centres at whole numbers, in the upright picture. A
keypoint whose position is not known is no label; one that is labeled though hidden is a label.
"""

import collections
import csv
import dataclasses
import io
import re
from pathlib import Path

import numpy as np
from absl import logging

from keras_lapkl import runs, schemes
from keras_lapkl.data.annotations import Annotations
from keras_lapkl.data.crops import can_crop

BOX = ("box_x0", "box_y0", "box_x1", "box_y1")
"""Columns of a CSV file for a box of the object."""

NAME = "custom"
"""Name of a scheme that is made of a CSV file."""

_FARTHEST = 1e6  # pixels; no picture is so large
_COLUMN = re.compile(r"(?P<name>.+)_(?P<value>x|y|visible)|(?P<short>[xyv])(?P<number>\d+)")
_SHORT = {"x": "x", "y": "y", "v": "visible"}
_SHOWN = 60


class KeypointError(ValueError):
    """A file of keypoints that can't be understood or used."""


def read_csv(path, images=None, scheme=None, crop_from=None, missing_ok=False):
    """Keypoints from a CSV file, one line an object.

    A line has the picture's path, then x and y of each point: `a.png,10.5,20,30,40`. The first line
    may be a header, whose first column is the path; the others are `x1,y1,x2,y2,…`, or
    `NOSE_x,NOSE_y,…` by the names of the points, optionally with `v1` or `NOSE_visible`, and
    `box_x0,box_y0,box_x1,box_y1` for a box of the object, in any order. Empty cells of a point say
    that it is not annotated; a visibility of 0 hides it, 1 and 2 show it.

    Args:
        path: the file, UTF-8, separated by commas.
        images: folder that the paths start from; None for the file's own.
        scheme: which points these are, as `schemes.get` takes it: columns go to its points by
            name, or by order where the file has no names. None to make one of the file, mirrored
            by "left" and "right" in the names.
        crop_from: what crops are cut by, one of `schemes.CROP_FROM`; None for what the scheme says.
        missing_ok: whether pictures may be missing, to be left out when they are read.

    Returns:
        `Annotations`, in the order of the lines. Those without a labeled point are left out, and
        counted in `summary`.

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
    rows = _csv_rows(path)
    columns, has_header = _csv_columns(path, rows)
    objects = [_csv_object(path, columns, *row) for row in rows[has_header:]]
    if not objects:
        raise KeypointError(f"{path}: expected lines of keypoints. Received: a header alone")
    if not columns.names:
        _check_no_visibility(path, objects)
    order, scheme = _scheme(
        path, scheme, crop_from, {"name": NAME, **_own_names(columns)}, columns.named
    )
    return _annotations(path, "csv", objects, order, scheme, [images or path.parent], missing_ok)


def read_coco(path, images=None, scheme=None, crop_from=None, category=None, missing_ok=False):
    """Keypoints from a COCO keypoint file (JSON).

    Positions are labels where v > 0, whether hidden (1) or seen (2), as usual in training on COCO.
    Crowds and objects without such a point are left out, and counted in `summary`. Keypoints count
    whole pixels, and are taken as they are; boxes are measured from the corner of the first pixel,
    which lies at -0.5.

    Args:
        path: the file.
        images: folder that the pictures' names start from, or one whose folder `images` or
            `<stem of the file>` or `<what follows the last _ of it>` they do (`train2017` for
            `person_keypoints_train2017.json`); None for the file's own.
        scheme, crop_from, missing_ok: as in `read_csv`. The category's names and skeleton make a
            scheme of its name.
        category: name of the category; None if there is but one with keypoints, or one of the
            scheme's name.

    Returns:
        `Annotations` with boxes, in the order of the file.

    Raises:
        KeypointError: with file and the annotation's id, what was expected and what is there.
        FileNotFoundError: there is no such file, or a picture is missing.

    Source: https://cocodataset.org/#format-data
    """
    path = Path(path)
    content = _coco_content(path)
    scheme = None if scheme is None else schemes.get(scheme)
    category = _coco_category(path, content["categories"], category, scheme)
    pictures = _coco_pictures(path, content["images"])
    found = [
        _coco_object(path, pictures, each)
        for each in _coco_annotations(path, content["annotations"], category["id"])
    ]
    left_out = collections.Counter(each for each in found if isinstance(each, str))
    objects = [each for each in found if not isinstance(each, str)]
    if not objects:
        raise KeypointError(
            f"{path}: expected objects of category {category['name']!r} with labeled keypoints. "
            f"Received: none in {len(found):,} annotations of it"
        )
    config = _coco_scheme(path, category, objects)
    _check_equal_counts(path, objects, config)
    order, scheme = _scheme(path, scheme, crop_from, config, "names" in config)
    base = Path(images or path.parent)
    folders = [base, base / "images", base / path.stem, base / path.stem.rpartition("_")[2]]
    return _annotations(path, "coco", objects, order, scheme, folders, missing_ok, left_out)


def croppable(annotations):
    """The annotations that the scheme's rule has a crop for.

    Args:
        annotations: `Annotations` by `read_csv` or `read_coco`.

    Returns:
        `Annotations` without objects of too few visible points, if crops are cut by the points.
        `summary` counts them.

    Raises:
        KeypointError: crops are cut by the points and there is but one, or none is left; or they
            are cut by boxes, and an object has none.
    """
    scheme = annotations.scheme
    if scheme.crop_from == "image":
        return annotations
    good = can_crop(annotations.landmarks, scheme, annotations.visible, annotations.boxes)
    if good.all():
        return annotations
    first = annotations.place(int(np.argmin(good)))
    if scheme.crop_from == "box":
        raise KeypointError(
            f"{first}: expected a box of the object, to crop by it. Received: none, or one without "
            "extent"
        )
    if scheme.num_landmarks == 1 or not good.any():
        raise KeypointError(
            f"{first}: expected two distinct points or more, to crop by them. Received: fewer, in "
            f"{(~good).sum():,} of {len(good):,} objects. Crop from a box or the image instead."
        )
    note = f"{(~good).sum():,} with fewer than two points to crop by left out"
    summary = f"{annotations.summary}; {note}"
    return dataclasses.replace(annotations.take(good), summary=summary)


@dataclasses.dataclass(frozen=True)
class _Object:
    """One object as a file has it.

    Attributes:
        where: line or id, for messages.
        picture: path as in the file.
        points: (K, 2), NaN where not annotated.
        visible: (K,) bool.
        box: (4,), NaN where there is none.
        size: width and height of the picture, 0 where the file does not say.
    """

    where: str
    picture: str
    points: np.ndarray
    visible: np.ndarray
    box: np.ndarray
    size: tuple[int, int] = (0, 0)


@dataclasses.dataclass(frozen=True)
class _Columns:
    """Where in a line of CSV is what.

    Attributes:
        points: indices of x, y and visibility, or None, of each point.
        box: four indices, or None.
        names: K names, empty without a header.
        named: whether these are names, not numbers.
        count: cells in a line.
        heads: the header's cells, or what a message may call them.
    """

    points: tuple[tuple[int, int, int | None], ...]
    box: tuple[int, ...] | None
    names: tuple[str, ...]
    named: bool
    count: int
    heads: tuple[str, ...]


def _csv_rows(path):
    """(line number, cells) of the lines that are not blank."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise KeypointError(f"{path}: expected UTF-8 text. Received: {error}") from error
    first = next(filter(str.strip, re.split(r"[\r\n]", text)), "")
    separator = max(";\t,", key=first.count)  # ;1,5;2,5 has as many decimal commas
    if separator != "," and separator in first:
        raise KeypointError(
            f"{path}: expected cells separated by commas, and decimal points. Received: cells "
            f"separated by {separator!r} in {first[:_SHOWN]!r}"
        )
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, skipinitialspace=True)
    rows = []
    try:
        for cells in reader:
            cells = [cell.strip() for cell in cells]
            if any(cells):
                rows.append((reader.line_num, cells))
    except csv.Error as error:
        raise KeypointError(f"{path}, line {reader.line_num}: no CSV: {error}") from error
    if not rows:
        raise KeypointError(f"{path}: expected lines of path,x1,y1,… Received: an empty file")
    return rows


def _csv_columns(path, rows):
    """`_Columns`, and whether the first line is a header: its second cell is then no number."""
    line, cells = rows[0]
    if len(cells) > 1 and cells[1] and not _is_number(cells[1]):
        return _csv_header(path, line, cells), True
    if len(cells) < 3 or len(cells) % 2 == 0:
        raise KeypointError(
            f"{path}, line {line}: expected a path and pairs x, y, an odd number of cells. "
            f"Received: {len(cells)} in {_shown(cells)}. Further columns need a header."
        )
    count = len(cells)
    points = tuple((i, i + 1, None) for i in range(1, count, 2))
    heads = ("path", *(f"{axis}{i}" for i in range(1, len(points) + 1) for axis in "xy"))
    return _Columns(points, None, (), False, count, heads), False


def _csv_header(path, line, cells):
    where = f"{path}, line {line}"
    twice = [cell for cell, count in collections.Counter(cells).items() if count > 1]
    if twice:
        raise KeypointError(f"{where}: expected each column once. Received {twice[0]!r} twice.")
    places = collections.defaultdict(dict)
    box, numbered = {}, set()
    for index, cell in enumerate(cells[1:], start=1):
        column = _COLUMN.fullmatch(cell)
        if cell in BOX:
            box[cell] = index
        elif column is None:
            raise KeypointError(
                f"{where}: expected columns x1,y1,… or NAME_x,NAME_y, with v1 or NAME_visible, or "
                f"{','.join(BOX)}, for the second cell of this line is no number. Received: "
                f"{cell[:_SHOWN]!r}"
            )
        elif column["name"] is not None:
            places[column["name"]][column["value"]] = index
        else:
            name = f"point_{column['number']}"
            numbered.add(name)
            places[name][_SHORT[column["short"]]] = index
    for name, values in places.items():
        if not {"x", "y"} <= set(values):
            raise KeypointError(f"{where}: expected x and y of {name!r}. Received: {_and(values)}")
    if not places:
        raise KeypointError(f"{where}: expected columns of points. Received: {_shown(cells)}")
    if box and len(box) < len(BOX):
        raise KeypointError(f"{where}: expected all of {','.join(BOX)}. Received: {_and(box)}")
    return _Columns(
        points=tuple((v["x"], v["y"], v.get("visible")) for v in places.values()),
        box=tuple(box[name] for name in BOX) if box else None,
        names=tuple(places),
        named=numbered != set(places),
        count=len(cells),
        heads=tuple(cells),
    )


def _own_names(columns):
    return {"names": columns.names} if columns.names else {"num_landmarks": len(columns.points)}


def _csv_object(path, columns, line, cells):
    where = f"line {line}"
    if len(cells) != columns.count or not cells[0]:
        raise KeypointError(
            f"{path}, {where}: expected a path and {columns.count - 1} more cells, as the first "
            f"line has. Received: {len(cells)} cells, {_shown(cells)}"
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
            f"{_shown([cells[i] for i in columns.box])}"
        )
    return _Object(where, cells[0], points, visible, box)


def _csv_number(path, where, head, text):
    """A number, None for an empty cell."""
    if not text:
        return None
    if not _is_number(text) or not abs(float(text)) <= _FARTHEST:
        raise KeypointError(
            f"{path}, {where}: expected a number of pixels for {head}, or an empty cell. Received: "
            f"{text[:_SHOWN]!r}"
        )
    return float(text)


def _is_number(text):
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text  # Python takes 1_000


def _check_no_visibility(path, objects):
    """Refuses x, y, visibility without a header: they would be read as other points."""
    values = np.array([each.points.ravel() for each in objects])
    thirds = values[:, 2::3]
    if values.shape[1] % 3 == 0 and np.isin(thirds, (0, 1, 2)).all():
        raise KeypointError(
            f"{path}: each third number is 0, 1 or 2, as visibilities are. Say by a header which "
            "columns these are, such as path,x1,y1,v1,x2,y2,v2"
        )


def _coco_content(path):
    try:
        content = runs.read_json(path)
    except ValueError as error:
        raise KeypointError(str(error)) from error
    keys = ("images", "annotations", "categories")
    is_object = isinstance(content, dict)
    if not is_object or not all(isinstance(content.get(key), list) for key in keys):
        received = f"keys {sorted(content)[:9]}" if is_object else _shown(content)
        raise KeypointError(
            f"{path}: expected a COCO keypoint file, an object with lists {_and(keys)}. Received: "
            f"{received}"
        )
    return content


def _coco_category(path, categories, wanted, scheme):
    known = {}
    for each in categories:
        named = isinstance(each, dict) and isinstance(each.get("name"), str) and "id" in each
        if not named or not isinstance(each.get("keypoints", []), list):
            raise KeypointError(
                f"{path}: expected categories with id, name and a list of keypoints' names. "
                f"Received: {_shown(each)}"
            )
        if each["name"] in known:
            raise KeypointError(f"{path}: expected category {each['name']!r} once, not twice.")
        known[each["name"]] = each
    posed = {name: each for name, each in known.items() if each.get("keypoints")} or known
    if wanted is None and len(posed) == 1:
        (wanted,) = posed
    elif wanted is None and scheme is not None:
        wanted = scheme.name
    if wanted not in known:
        raise KeypointError(
            f"{path}: expected `category` to be one of {sorted(posed)}. Received: {wanted!r}"
        )
    return known[wanted]


def _coco_pictures(path, images):
    """{id: (file name, width and height)}."""
    pictures = {}
    for each in images:
        right = isinstance(each, dict) and isinstance(each.get("file_name"), str)
        if not right or not isinstance(each.get("id"), (int, str)):
            raise KeypointError(
                f"{path}: expected images with id and file_name. Received: {_shown(each)}"
            )
        if each["id"] in pictures:
            raise KeypointError(f"{path}: expected image id {each['id']} once, not twice.")
        size = each.get("width"), each.get("height")
        known = all(isinstance(side, int) and 0 < side <= _FARTHEST for side in size)
        pictures[each["id"]] = each["file_name"], size if known else (0, 0)
    return pictures


def _coco_annotations(path, annotations, category):
    for index, each in enumerate(annotations):
        if not isinstance(each, dict) or not {"image_id", "category_id"} <= set(each):
            raise KeypointError(
                f"{path}: expected annotations with image_id and category_id. Received: "
                f"{_shown(each)} at index {index}"
            )
        if each["category_id"] == category:
            yield {"id": f"at index {index}", **each}


def _coco_object(path, pictures, annotation):
    """An `_Object`, or why there is none."""
    where = f"annotation id {annotation['id']}"
    if annotation.get("iscrowd"):
        return "crowds"
    if not isinstance(annotation["image_id"], (int, str)) or annotation["image_id"] not in pictures:
        raise KeypointError(
            f"{path}, {where}: expected an image_id of `images`. Received: "
            f"{_shown(annotation['image_id'])}"
        )
    values = _coco_numbers(path, where, annotation, "keypoints")
    if len(values) % 3:
        raise KeypointError(
            f"{path}, {where}: expected keypoints x, y, v of each point. Received: {len(values)} "
            "numbers, no multiple of 3"
        )
    points, visible = values.reshape(-1, 3)[:, :2], values[2::3] > 0
    if not ((values[2::3] >= 0) & (values[2::3] <= 2)).all():
        raise KeypointError(
            f"{path}, {where}: expected visibilities v of 0, 1 or 2. Received: "
            f"{_shown(values[2::3].tolist())}"
        )
    if not visible.any():
        return "without a labeled point"
    box = np.full(4, np.nan)
    if annotation.get("bbox"):
        x, y, width, height = _coco_numbers(path, where, annotation, "bbox", 4)
        if width > 0 and height > 0:
            box = np.array([x, y, x + width, y + height]) - 0.5
    picture, size = pictures[annotation["image_id"]]
    points = np.where(visible[:, None], points, np.nan)
    return _Object(where, picture, points, visible, box, size)


def _coco_numbers(path, where, annotation, key, count=None):
    """Finite numbers (n,); none where the key is missing."""
    values = annotation.get(key) or []
    numbers = isinstance(values, list) and all(
        isinstance(v, (int, float)) and abs(v) <= _FARTHEST for v in values
    )
    if not numbers or count not in (None, len(values)):
        raise KeypointError(
            f"{path}, {where}: expected {count or 'a list of'} numbers of pixels for {key}. "
            f"Received: {_shown(values)}"
        )
    return np.array(values, np.float64)


def _coco_scheme(path, category, objects):
    """Plain data of a scheme."""
    names = category.get("keypoints")
    config = {"name": category["name"]}
    if not names:
        return {**config, "num_landmarks": len(objects[0].points)}
    pairs = category.get("skeleton") or []
    k = len(names)
    for pair in pairs:
        right = isinstance(pair, list) and len(pair) == 2
        if not right or not all(isinstance(i, int) and 1 <= i <= k for i in pair):
            raise KeypointError(
                f"{path}, category {category['name']!r}: expected skeleton pairs of 1..{k}, the "
                f"first point's number being 1. Received: {_shown(pair)}"
            )
    return {**config, "names": names, "edges": [[a - 1, b - 1] for a, b in pairs]}


def _check_equal_counts(path, objects, config):
    k = len(config["names"]) if "names" in config else config["num_landmarks"]
    for each in objects:
        if len(each.points) != k:
            raise KeypointError(
                f"{path}, {each.where}: expected {k} keypoints. Received: {len(each.points)}"
            )


def _scheme(path, scheme, crop_from, config, named):
    """Indices that put a file's points in the order of a scheme, and the scheme.

    Args:
        scheme: what the caller gave, or None.
        config: what the file makes, plain data.
        named: whether the file names its points.
    """
    try:
        own = schemes.Scheme.from_config(config)
    except ValueError as error:
        raise KeypointError(f"{path}: {error}") from error
    scheme = own if scheme is None else schemes.get(scheme)
    order = range(own.num_landmarks)
    if own.num_landmarks != scheme.num_landmarks:
        raise KeypointError(
            f"{path}: expected the {scheme.num_landmarks} points of scheme {scheme.name!r}. "
            f"Received: {own.num_landmarks}"
        )
    if named:
        if set(own.names) != set(scheme.names):
            strange = sorted(set(own.names) - set(scheme.names))
            missing = sorted(set(scheme.names) - set(own.names))
            raise KeypointError(
                f"{path}: expected the points of scheme {scheme.name!r}, with {_and(missing[:5])}. "
                f"Received: {_and(strange[:5])}"
            )
        order = [own.names.index(name) for name in scheme.names]
    return list(order), dataclasses.replace(scheme, crop_from=crop_from or scheme.crop_from)


def _annotations(path, kind, objects, order, scheme, folders, missing_ok, left_out=None):
    """`Annotations` of the objects that have a labeled point."""
    left_out = collections.Counter(left_out)
    left_out["without a labeled point"] += sum(not each.visible.any() for each in objects)
    objects = [each for each in objects if each.visible.any()]
    if not objects:
        raise KeypointError(f"{path}: expected objects with labeled points. Received: none")
    landmarks = np.array([each.points for each in objects], np.float64)[:, order]
    visible = np.array([each.visible for each in objects])[:, order]
    _check_pixels(path, landmarks, visible)
    boxes = np.array([each.box for each in objects], np.float32)
    sizes = np.array([each.size for each in objects], np.int32)
    folder = _folder(folders, objects)
    annotations = Annotations(
        name=f"{kind} {path.stem}",
        scheme=scheme,
        paths=tuple(folder / each.picture for each in objects),
        landmarks=landmarks.astype(np.float32),
        visible=visible,
        boxes=boxes if np.isfinite(boxes).any() else None,
        sizes=sizes if sizes.any() else None,
        places=tuple(f"{path}, {each.where}" for each in objects),
    )
    if not missing_ok:
        _check_pictures(annotations)
    summary = (
        f"{kind} {path.stem}: {len(objects):,} objects in {len(set(annotations.paths)):,} images, "
        f"{visible.sum(1).mean():.3g} of {scheme.num_landmarks} points labeled on average"
    )
    notes = [f"{count:,} {what} left out" for what, count in left_out.items() if count]
    return dataclasses.replace(annotations, summary="; ".join([summary, *notes]))


def _check_pixels(path, landmarks, visible):
    """Refuses fractions of the picture; points at the origin are only suspicious."""
    known = landmarks[visible]
    if len(known) > 1 and (known >= 0).all() and (known <= 1).all():
        raise KeypointError(
            f"{path}: expected pixels. Received: all {len(known):,} points in 0..1, like fractions "
            "of the picture. Multiply them by its width and height."
        )
    origin = int((known == 0).all(1).sum())
    if origin:
        logging.warning(
            "%s: %d points lie at exactly (0, 0). If they are missing, leave their cells empty, or "
            "set their visibility to 0.",
            path,
            origin,
        )


def _folder(folders, objects):
    """The first folder that holds the first picture, else the first."""
    first = objects[0].picture
    return next((Path(each) for each in folders if Path(each, first).is_file()), Path(folders[0]))


def _check_pictures(annotations):
    known = {}
    for i, picture in enumerate(annotations.paths):
        if picture not in known:
            known[picture] = None if picture.is_file() else i
    missing = [i for i in known.values() if i is not None]
    if missing:
        first = missing[0]
        raise FileNotFoundError(
            f"{annotations.place(first)}: there is no picture {annotations.paths[first]}; "
            f"{len(missing):,} of {len(known):,} are missing. Paths start from the folder of the "
            "data, or else of this file."
        )


def _and(words):
    return ", ".join(map(str, words)) or "none of them"


def _shown(value):
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "…")
