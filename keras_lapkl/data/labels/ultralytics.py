"""Ultralytics' pose labels: data.yaml, and a .txt file for each picture with fractions of it.

0 and 1 are the picture's edges: half a pixel is subtracted. A point of visibility 0, or without
one at (0, 0) or below 0, is not labeled. `path`, `train`, `val` and `test` say which labels are
meant: in folders of pictures, or of the pictures in a list (docs.ultralytics.com/datasets/pose).
"""

import collections
import contextlib
import itertools
import os
from pathlib import Path
from typing import Any

from keras_lapkl._support import extras, reading
from keras_lapkl.data.annotations import path_below
from keras_lapkl.data.images import IMAGE_SUFFIXES
from keras_lapkl.data.keypoints import KeypointError, shortened
from keras_lapkl.data.labels.found import HIDDEN, SEEN, Labeled, Labels, Source, gather

_SHAPE = "kpt_shape"
_SPLITS = ("train", "val", "validation", "test")
_MAX_YAML = 1 << 18
_MOST_POINTS = 10_000
_OUTSIDE = 0.01  # what rounding may add
_SUFFIXES = [each for suffix in IMAGE_SUFFIXES for each in (suffix, suffix.upper())]


def matches(source: Source) -> bool:
    """The .yaml file with `kpt_shape`, or the folder that holds it."""
    return _yaml(source) is not None


def read(source: Source) -> Labels:
    path = _yaml(source) or source.path
    data = _settings(path)
    shape, classes = _shape(path, data), data.get("names")
    classes = dict(enumerate(classes)) if isinstance(classes, list) else classes
    if not isinstance(classes, dict) or not classes:
        raise KeypointError(
            f"{path}: expected `names` of the classes. Received: {shortened(classes)}"
        )
    classes = {number: str(name) for number, name in classes.items()}
    names = {name: _point_names(path, data, key, shape[0]) for key, name in classes.items()}
    left_out = collections.Counter()
    there = [
        file
        for file in sorted(path.parent.rglob("*.txt"))
        if "labels" in file.relative_to(path.parent).parts[:-1]
    ]
    if not there:
        raise KeypointError(
            f"{path}: expected .txt files of labels in folders `labels` below {path.parent}. "
            "Received: none"
        )
    files = _of_splits(path, data, there)
    left_out[f"files of labels that are of no split of {path.name}"] = len(there) - len(files)

    def objects_of(file):
        picture = _picture(path.parent, file, source.images)
        return [
            _object(f"{file}, line {line}", picture, text.split(), shape, classes, names)
            for line, text in enumerate(_text(file).splitlines(), 1)
            if text.strip()
        ]

    objects = gather(files, objects_of, left_out)
    return Labels(objects, names, (path.parent,), left_out, fractions=True)


def _shape(path, data) -> tuple[int, int]:
    """How many points there are, of how many numbers each."""
    shape = data.get(_SHAPE)
    pair = isinstance(shape, list) and len(shape) == 2 and all(type(n) is int for n in shape)
    if not pair or not 0 < shape[0] <= _MOST_POINTS or shape[1] not in (2, 3):
        raise KeypointError(
            f"{path}: expected {_SHAPE}: [points, 2 or 3]. Received: {shortened(shape)}"
        )
    return shape[0], shape[1]


def _of_splits(path, data, files):
    """The files of labels that a split has; all where none of the splits is here.

    A split is a folder of pictures or a list of them. The pictures may lie elsewhere, and the
    folder's path be another machine's: then the last two names of that of its labels count.
    """
    home = Path(os.path.abspath(path.parent))
    below = {file: Path(os.path.abspath(file)).relative_to(home) for file in files}
    root = home
    with contextlib.suppress(ValueError, TypeError):
        below_home = path_below(home, data.get("path"))
        root = below_home if os.path.isdir(below_home) else home
    folders, ends, listed = [], [], set()
    for entry in itertools.chain.from_iterable(_entries(data.get(split)) for split in _SPLITS):
        # In the archives of Roboflow all begin with `../`, and none lies there.
        names = entry.replace("\\", "/"), entry.replace("\\", "/").removeprefix("../")
        places = [Path(os.path.normpath(root / name)) for name in names]
        lists = [each for each in places if each.suffix == ".txt" and os.path.isfile(each)]
        if lists:
            lines = map(str.strip, _text(lists[0]).replace("\\", "/").split("\n"))
            listed.update(_key(Path(line), "images") for line in lines if Path(line).name)
            continue
        here = [form for each in places for form in (each, _with_last(each, "images", "labels"))]
        here = [each.relative_to(home) for each in here if each.is_relative_to(home)]
        folders += [each for each in here if os.path.isdir(home / each)]
        if not any(os.path.isdir(home / each) for each in here):
            ends.append(_with_last(Path(names[0]), "images", "labels").parts[-2:])
    kept = [
        file
        for file, place in below.items()
        if _key(place, "labels") in listed
        or any(map(place.is_relative_to, folders))
        or any(_has_part(place.parts, end) for end in ends)
    ]
    return kept if folders or listed else kept or files


def _has_part(parts, part):
    return any(parts[i : i + len(part)] == part for i in range(len(parts) - len(part)))


def _entries(value):
    return [
        each for each in (value if isinstance(value, list) else [value]) if isinstance(each, str)
    ]


def _with_last(path, part, other):
    """A path whose last folder of a name has another name; as it is where there is none."""
    parts = list(path.parts)
    if part in parts:
        parts[len(parts) - 1 - parts[::-1].index(part)] = other
    return Path(*parts)


def _key(path, part):
    """What a picture and its labels have in common: the names below the last folder of a name."""
    parts = path.with_suffix("").parts
    return parts[len(parts) - parts[::-1].index(part) :] if part in parts else parts


def _yaml(source) -> Path | None:
    """The file that says what the points are."""
    paths = sorted(source.path.glob("*.y*ml")) if source.is_folder else [source.path]
    yamls = (path for path in paths if path.suffix.lower() in (".yaml", ".yml"))
    return next((path for path in yamls if _has_shape(path)), None)


def _has_shape(path):
    try:
        return f"{_SHAPE}:" in _text(path, _MAX_YAML)
    except KeypointError:  # larger, or no text
        return False


def _text(path, limit=reading.MAX_TEXT):
    try:
        return reading.read_text(path, limit)
    except ValueError as error:
        raise KeypointError(str(error)) from error


def _settings(path) -> dict[Any, Any]:
    with extras.needed_by("The YAML file of Ultralytics"):
        import yaml

    text = _text(path, _MAX_YAML)
    try:
        # An alias may stand for more than memory holds.
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text)):
            raise KeypointError(f"{path}: expected YAML without aliases. Received: one")
        data = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        if isinstance(error, KeypointError):
            raise
        said = " ".join(str(error).split())
        raise KeypointError(f"{path} is not valid YAML: {said}") from error
    if not isinstance(data, dict):
        raise KeypointError(f"{path}: expected a mapping. Received: {shortened(data)}")
    return data


def _point_names(path, data, key, count):
    names = data.get("kpt_names", data.get("node_names"))  # sleap-io writes the latter
    if names is None:
        return tuple(range(1, count + 1))
    if isinstance(names, dict):
        names = names.get(key)
    elif isinstance(names, list) and names and isinstance(names[0], list):
        names = names[key] if type(key) is int and 0 <= key < len(names) else None
    if not isinstance(names, list) or len({str(n) for n in names}) != count or len(names) != count:
        raise KeypointError(
            f"{path}: expected {count} different names in kpt_names. Received: {shortened(names)}"
        )
    return tuple(map(str, names))


def _picture(folder, file, images):
    """The picture of a file of labels: its name in the folder `images` beside `labels`.

    If it is not there, it has the suffix that it has in `images`, by as many of its folders as are
    there.
    """
    below = _with_last(file.relative_to(folder).with_suffix(""), "labels", "images")
    places = [folder / below]
    if images is not None:
        places += [Path(images, *below.parts[start:]) for start in range(len(below.parts))]
    # A name may have dots: `with_suffix` would cut them too.
    found = (s for place in places for s in _SUFFIXES if os.path.isfile(f"{place}{s}"))
    return f"{below}{next(found, _SUFFIXES[0])}"


def _object(where, picture, cells, shape, classes, names):
    count, dims = shape
    try:
        category, *values = map(float, cells)
    except ValueError as error:
        raise KeypointError(f"{where}: expected numbers. Received: {shortened(cells)}") from error
    if len(values) != 4 + count * dims:
        raise KeypointError(
            f"{where}: expected a class, a box of 4 numbers and {count} points of {dims}, as "
            f"{_SHAPE} says. Received: {len(cells)} numbers"
        )
    if category not in classes:
        raise KeypointError(
            f"{where}: expected a class of {shortened(list(classes))}. Received: {cells[0]}"
        )
    x, y, width, height = values[:4]
    if not all(0 <= value <= 1 + _OUTSIDE for value in values[:4]):
        raise KeypointError(
            f"{where}: expected a box in fractions of the picture. Received: "
            f"{shortened(cells[1:5])}"
        )
    points = {}
    own = names[classes[int(category)]]
    for k, name in enumerate(own):
        at = values[4 + k * dims : 4 + (k + 1) * dims]
        if dims == 3 and at[2] not in (0, HIDDEN, SEEN):
            raise KeypointError(
                f"{where}: expected visibilities 0, 1 or 2. Received: {at[2]:g} of {name!r}"
            )
        missing = at[2] == 0 if dims == 3 else at == [0, 0] or min(at) < 0
        if missing:
            continue
        if not all(-_OUTSIDE <= value <= 1 + _OUTSIDE for value in at[:2]):
            raise KeypointError(
                f"{where}: expected points in fractions of the picture. Received: "
                f"{at[0]:g} and {at[1]:g} of {name!r}"
            )
        points[name] = at[0], at[1], int(at[2]) if dims == 3 else SEEN
    box = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    has_area = width > 0 and height > 0
    return Labeled(
        where, picture, points, box if has_area else None, category=classes[int(category)]
    )
