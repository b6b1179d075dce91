"""CVAT's XML for images, 1.1: skeletons, or points with labels.

Its canvas begins at the edge of the first pixel: half a pixel is subtracted. A point that is
`outside` is not there, one that is `occluded` is hidden. A project has its pictures in folders of
their subsets; the frames of a video are named without the suffix that their files have.
"""

import collections
import dataclasses

from keras_lapkl.data.images import IMAGE_SUFFIXES, OTHER_PICTURES
from keras_lapkl.data.keypoints import KeypointError, shortened
from keras_lapkl.data.labels import loose
from keras_lapkl.data.labels.found import (
    EDGE,
    HIDDEN,
    SEEN,
    Labeled,
    Labels,
    Source,
    gather,
    in_order,
    number,
    size_of,
)

_FILE = "annotations.xml"
_OF_A_FRAME = ".PNG"


def matches(source: Source) -> bool:
    if source.is_folder:
        path = source.path / _FILE
        return path.is_file() and matches(Source(path))
    return source.xml is not None and source.xml.tag == "annotations"


def read(source: Source) -> Labels:
    if source.is_folder:
        source = Source(source.path / _FILE, source.category, source.images)
    root = source.xml
    if root.find("track") is not None:
        raise KeypointError(
            f"{source.path}: expected CVAT's labels of images. Received: tracks of a video. Export "
            "the task once more as `CVAT for images 1.1`, with its images."
        )
    left_out = collections.Counter()
    tasks = collections.defaultdict(set)
    for image in root.iter("image"):
        tasks[_picture(image)].add(image.get("task_id"))
    of_skeletons = {each.get("label") for each in root.iterfind(".//skeleton/points")}

    def objects_of(image):
        if len(tasks[_picture(image)]) > 1:  # the export has one file of that name
            left_out["pictures of one name in several tasks of a subset"] += 1
            return []
        return _objects(source.path, image, of_skeletons, left_out)

    objects = gather(root.iter("image"), objects_of, left_out)
    return Labels(
        objects, _names(root, objects), (source.folder, source.folder / "images"), left_out
    )


def _picture(image):
    """The path of an image below the folder of all."""
    name, subset = image.get("name", ""), image.get("subset")
    if name and not name.lower().endswith(IMAGE_SUFFIXES + OTHER_PICTURES):
        name += _OF_A_FRAME
    return f"{subset}/{name}" if name and subset else name


def _objects(path, image, of_skeletons, left_out):
    picture = _picture(image)
    where = f"{path}, image {picture!r}"
    if not picture:
        raise KeypointError(f"{path}: expected a name of each image. Received: none")
    size = size_of(where, image.get("width"), image.get("height"))
    elements = list(image.iter("skeleton"))
    groups = [each.get("group_id") for each in elements]
    skeletons = [_skeleton(where, picture, size, each) for each in elements]
    for each in image:
        if each.tag not in ("skeleton", "points", "box", "tag"):
            left_out[f"shapes of the kind {each.tag!r}"] += 1
    points = [point for each in image.findall("points") for point in _points(where, each)]
    upright = [each for each in image.findall("box") if not _is_rotated(where, each)]
    left_out["boxes that are rotated"] += len(image.findall("box")) - len(upright)
    if of_skeletons:
        known = [each for each in points if each.category or each.name in of_skeletons]
        left_out["points that no skeleton has"] += len(points) - len(known)
        points = known
    boxes = [_box(where, each) for each in upright]
    for i, group in enumerate(groups):
        own = [box for box in boxes if group is not None and box.group == group]
        if len(own) == 1 and groups.count(group) == 1:
            skeletons[i] = dataclasses.replace(skeletons[i], box=own[0].edges)
            boxes.remove(own[0])
    if points:
        return skeletons + loose.objects(where, picture, points, boxes, size, left_out)
    if len(skeletons) == len(boxes) == 1 and None in (groups[0], boxes[0].group):
        return [dataclasses.replace(skeletons[0], box=boxes[0].edges)]
    left_out["boxes without points of their own"] += len(boxes)
    return skeletons


def _skeleton(where, picture, size, skeleton):
    points = {}
    for each in skeleton.findall("points"):
        name, outside = each.get("label", ""), each.get("outside", "0") == "1"
        positions = _positions(where, each)
        if not name or name in points or len(positions) != 1:
            raise KeypointError(
                f"{where}: expected one position of each point of a skeleton, once. Received: "
                f"{shortened(each.get('points'))} of {name!r}"
            )
        if not outside:
            points[name] = (*positions[0], _visibility(each))
    return Labeled(where, picture, points, None, size, skeleton.get("label", ""))


def _points(where, element):
    """One named point; or of several in one shape, the numbers of an object of its label."""
    positions, visibility = _positions(where, element), _visibility(element)
    label, group = element.get("label", ""), element.get("group_id")
    if len(positions) == 1:
        return [loose.Point(label, positions[0], visibility, group)]
    owner = group if group is not None else id(element)
    return [loose.Point(k, at, visibility, owner, label) for k, at in enumerate(positions, start=1)]


def _positions(where, element):
    texts = [pair.split(",") for pair in (element.get("points") or "").split(";")]
    if any(len(pair) != 2 for pair in texts):
        raise KeypointError(
            f"{where}: expected points x,y;x,y. Received: {shortened(element.get('points'))}"
        )
    return [tuple(number(where, "a point", value) - EDGE for value in pair) for pair in texts]


def _visibility(element):
    return HIDDEN if element.get("occluded") == "1" else SEEN


def _is_rotated(where, element):
    return number(where, "the rotation of a box", element.get("rotation", "0")) % 360 != 0


def _box(where, element):
    edges = [
        number(where, f"{key} of a box", element.get(key)) - EDGE
        for key in ("xtl", "ytl", "xbr", "ybr")
    ]
    return loose.Box(tuple(edges), element.get("label", ""), element.get("group_id"))


def _names(root, objects):
    """In the order of the skeleton among the task's labels; of what they do not tell, as met."""
    names = collections.defaultdict(list)
    for label in root.iter("label"):
        parent, name = label.findtext("parent"), label.findtext("name")
        if parent and name:
            names[parent].append(name)
    for each in objects:
        names[each.category] += each.points
    return {
        category: tuple(dict.fromkeys(found))
        if any(isinstance(name, str) for name in found)
        else in_order(found)
        for category, found in names.items()
    }
