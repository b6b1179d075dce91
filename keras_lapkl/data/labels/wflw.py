"""WFLW's lists: in a line x, y of 98 points, and the picture's path; or a box and attributes too.

Lists of that form with another number of points are read as well. Positions are taken as they are.
"""

import collections

from keras_lapkl.data.keypoints import KeypointError
from keras_lapkl.data.labels.found import SEEN, Labeled, Labels, Source, number

_POINTS = 98
_BOX, _ATTRIBUTES = 4, 6  # pose, expression, illumination, make-up, occlusion, blur


def matches(source: Source) -> bool:
    """Whether the first line has many numbers, blanks between, then a name that is none."""
    lines = source.head.decode("utf-8", "replace").lstrip("\ufeff").splitlines()
    first = next(filter(str.strip, lines), "").split()
    return len(first) >= 1 + 2 * 2 and _numbers(first) in (len(first) - 1, 2 * _POINTS)


def read(source: Source) -> Labels:
    lines = [(i, line) for i, line in enumerate(source.text.splitlines(), 1) if line.strip()]
    tokens = lines[0][1].split()
    numbers = _numbers(tokens)
    attributes = tokens[numbers - _ATTRIBUTES : numbers]
    # 98 points alone have no place for more; of others the six attributes are 0 or 1.
    extra = 0 if numbers == 2 * _POINTS or not set(attributes) <= {"0", "1"} else _BOX + _ATTRIBUTES
    count = numbers - extra
    if count < 2 or count % 2:
        raise KeypointError(
            f"{source.path}, line {lines[0][0]}: expected pairs x, y, and behind them a path, or a "
            f"box of 4 numbers, 6 attributes and a path. Received: {numbers} numbers"
        )
    objects = [_object(source.path, i, line, count, extra) for i, line in lines]
    folders = (source.folder, source.folder / "WFLW_images", source.folder.parent / "WFLW_images")
    above = source.folder.parent.parent / "WFLW_images"
    return Labels(
        objects, {"": tuple(range(1, count // 2 + 1))}, (*folders, above), collections.Counter()
    )


def _object(path, line, text, count, extra):
    where = f"{path}, line {line}"
    *cells, picture = text.strip().split(maxsplit=count + extra)
    if len(cells) != count + extra or _numbers(cells) != len(cells):
        raise KeypointError(
            f"{where}: expected {count + extra} numbers and a path, as in the first line. "
            f"Received: {_numbers(text.split())} numbers"
        )
    values = [number(where, "a point or box", cell) for cell in cells]
    points = {k + 1: (values[2 * k], values[2 * k + 1], SEEN) for k in range(count // 2)}
    box = tuple(values[count : count + _BOX]) if extra else None
    return Labeled(where, picture, points, box)


def _numbers(tokens):
    """How many tokens there are before the first that is no number."""
    for i, token in enumerate(tokens):
        try:
            float(token)
        except ValueError:
            return i
    return len(tokens)
