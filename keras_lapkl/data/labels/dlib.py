"""dlib's XML, as imglab writes it: images, boxes, and parts with names.

Its numbers are indices of pixels, so points are not shifted. A box of width 1 is one pixel: it
reaches from half a pixel before its left to half a pixel before left + width.
"""

import collections

from keras_lapkl.data.keypoints import KeypointError
from keras_lapkl.data.labels.found import (
    EDGE,
    SEEN,
    Labeled,
    Labels,
    Source,
    gather,
    names_of,
    number,
    size_of,
)


def matches(source: Source) -> bool:
    return source.xml is not None and source.xml.tag == "dataset"


def read(source: Source) -> Labels:
    left_out = collections.Counter()
    images = source.xml.iter("image")
    objects = gather(images, lambda image: _objects(source.path, image, left_out), left_out)
    return Labels(objects, names_of(objects), (source.folder,), left_out)


def _objects(path, image, left_out):
    picture = image.get("file", "")
    if not picture:
        raise KeypointError(f"{path}: expected a `file` of each image. Received: none")
    boxes = list(image.iter("box"))
    used = [each for each in boxes if each.get("ignore", "0") in ("0", "false")]
    left_out["boxes that dlib ignores"] += len(boxes) - len(used)
    where, sides = f"{path}, image {picture!r}", (image.get("width"), image.get("height"))
    size = None if None in sides else size_of(where, *sides)  # older files have none
    return [_object(where, picture, size, each) for each in used]


def _object(where, picture, size, box):
    left, top, width, height = (
        number(where, f"{key} of a box", box.get(key)) for key in ("left", "top", "width", "height")
    )
    points = {}
    for part in box.iter("part"):
        name = part.get("name", "")
        if not name or name in points:
            raise KeypointError(
                f"{where}: expected a name of each part, once in its box. Received: {name!r}"
            )
        x, y = (number(where, f"{axis} of part {name}", part.get(axis)) for axis in "xy")
        points[name] = x, y, SEEN
    edges = (left - EDGE, top - EDGE, left + width - EDGE, top + height - EDGE)
    label = box.find("label")
    category = "" if label is None else (label.text or "").strip()
    has_area = width > 0 and height > 0
    return Labeled(where, picture, points, edges if has_area else None, size, category)
