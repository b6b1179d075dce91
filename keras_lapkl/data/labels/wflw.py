"""WFLW's lists: in a line x, y of 98 points, and the picture's path; or a box and attributes too.

Lists of that form with another number of points are read as well. Positions are taken as they are.
"""

from keras_lapkl.data.images import IMAGE_SUFFIXES
from keras_lapkl.data.keypoints import KeypointError
from keras_lapkl.data.labels.found import SEEN, Labeled, Labels, Source, number

_POINTS = 98
_BOX, _ATTRIBUTES = 4, 6  # pose, expression, illumination, make-up, occlusion, blur


def matches(source: Source) -> bool:
    """Whether the first line has pairs of numbers, blanks between, then a picture's name."""
    lines = source.head.decode("utf-8", "replace").lstrip("\ufeff").splitlines()
    first = next(filter(str.strip, lines), "").strip()
    count = _numbers(first.split())
    if b"\0" in source.head:
        return False
    return first.lower().endswith(IMAGE_SUFFIXES) and count >= 4 and count % 2 == 0


def read(source: Source) -> Labels:
    lines = [(i, line) for i, line in enumerate(source.text.splitlines(), 1) if line.strip()]
    tokens = lines[0][1].split()
    numbers = _numbers(tokens)
    # 98 points alone have no place for more; of others, the attributes are 0 or 1.
    alone = numbers == 2 * _POINTS or numbers <= _BOX + _ATTRIBUTES
    marked = set(tokens[numbers - _ATTRIBUTES : numbers]) <= {"0", "1"}
    extra = _BOX + _ATTRIBUTES if marked and not alone else 0
    count = numbers - extra
    objects = [_object(source.path, i, line, count, extra) for i, line in lines]
    above = (source.folder, *source.folder.absolute().parents[:2])
    folders = (source.folder, *(folder / "WFLW_images" for folder in above))
    return Labels(objects, {"": tuple(range(1, count // 2 + 1))}, folders)


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
