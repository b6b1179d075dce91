"""labelme: a JSON file beside each picture, with points, and boxes of rectangles.

Its canvas begins at the edge of the first pixel: half a pixel is subtracted. Points and a
rectangle of one `group_id` make an object. A rectangle has two opposite corners, or all four, as
X-AnyLabeling writes.
"""

import collections
import os
import unicodedata
import urllib.parse
from pathlib import Path

from keras_lapkl.data.images import IMAGE_SUFFIXES
from keras_lapkl.data.keypoints import KeypointError, shortened
from keras_lapkl.data.labels import loose
from keras_lapkl.data.labels.found import (
    EDGE,
    SEEN,
    Labels,
    Source,
    gather,
    names_of,
    number,
    size_of,
)

_TRIED = 20


def matches(source: Source) -> bool:
    """A file, or a folder in or below which one of the first JSON files is one."""
    if source.is_folder:
        return any(_is_one(Source(path)) for path in _files(source)[:_TRIED])
    return isinstance(source.json, dict) and {"shapes", "imagePath"} <= source.json.keys()


def read(source: Source) -> Labels:
    left_out = collections.Counter()
    own = _own(source, left_out) if source.is_folder else [source]
    objects = gather(own, lambda each: _objects(each, source.folder, left_out), left_out)
    return Labels(objects, names_of(objects), (source.folder,), left_out)


def _is_one(source):
    try:
        return matches(source)
    except KeypointError:  # no JSON
        return False


def _own(source, left_out):
    """Those of a folder's files, one at a time: their JSON may have the picture in it."""
    for path in _files(source):
        each = Source(path)
        try:
            is_one = matches(each)
        except KeypointError:  # no JSON, as when it was half written: told where it is read
            is_one = True
        if is_one:
            yield each
        else:
            left_out["JSON files that are not labelme's"] += 1


def _files(source):
    return sorted(source.folder.rglob("*.json"))


def _objects(source, folder, left_out):
    data, where = source.json, str(source.path)
    shapes = data["shapes"]
    if not isinstance(data["imagePath"], str) or not isinstance(shapes, list):
        raise KeypointError(f"{where}: expected an imagePath and a list of shapes")
    width, height = data.get("imageWidth"), data.get("imageHeight")
    size = None if width is None or height is None else size_of(where, width, height)
    points, boxes = [], []
    for shape in shapes:
        positions = shape.get("points") if isinstance(shape, dict) else None
        if not isinstance(positions, list) or not isinstance(shape.get("label"), str):
            raise KeypointError(
                f"{where}: expected shapes with label and points. Received: {shortened(shape)}"
            )
        kind, group = shape.get("shape_type", "polygon"), shape.get("group_id")
        if kind not in ("point", "rectangle"):
            left_out[f"shapes of the kind {kind!r}"] += 1
            continue
        positions = [_position(where, each) for each in positions]
        counts = (1,) if kind == "point" else (2, 4)
        if len(positions) not in counts or isinstance(group, (list, dict)):
            raise KeypointError(
                f"{where}: expected one position of a point, and two or four of a rectangle. "
                f"Received: {len(positions)} of {shape['label']!r}"
            )
        if kind == "point":
            points.append(loose.Point(shape["label"], positions[0], SEEN, group))
        else:
            xs, ys = zip(*positions, strict=True)
            if len(positions) == 4 and not (len(set(xs)) == len(set(ys)) == 2):
                left_out["boxes that are rotated"] += 1
                continue
            edges = (min(xs), min(ys), max(xs), max(ys))
            boxes.append(loose.Box(edges, shape["label"], group))
    # Its path starts from its own file's folder.
    image_path = data["imagePath"].replace("\\", "/")
    _check_own(source.path, image_path)
    picture = source.path.parent.relative_to(folder) / image_path
    return loose.objects(where, picture.as_posix(), points, boxes, size, left_out)


def _check_own(path, image_path):
    """Refuses the name of another picture, which stays when files are renamed by other programs.

    A picture of this file's own name must be there. It may be a mask; not so if it is of the same
    format, or if the named one has labels of its own.
    """
    named = Path(image_path)
    if len(named.parts) != 1 or _plain(named.stem) == _plain(path.stem):
        return
    cased = [form for suffix in IMAGE_SUFFIXES for form in (suffix, suffix.upper())]
    own = [each for each in map(path.with_suffix, cased) if os.path.exists(each)]
    same = [each for each in own if each.suffix.lower() == named.suffix.lower()]
    if same or (own and os.path.exists(path.with_name(f"{named.stem}.json"))):
        raise KeypointError(
            f"{path}: expected the picture of its own name as imagePath. Received: {image_path!r}, "
            f"while {(same or own)[0].name} is there. If files were renamed, correct imagePath"
        )


def _plain(stem):
    return unicodedata.normalize("NFC", urllib.parse.unquote(stem)).casefold()


def _position(where, value):
    if not isinstance(value, list) or len(value) != 2:
        raise KeypointError(f"{where}: expected positions [x, y]. Received: {shortened(value)}")
    return tuple(number(where, "a point", each) - EDGE for each in value)
