"""Label Studio's export, JSON or JSON-MIN: keypoints and boxes in percent of the picture.

0 and 100 are the picture's edges: half a pixel is subtracted. Points that have a box as their
parent, or a relation to one, are an object with it; others of a picture are one object together.
"""

import collections

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

_POINT, _BOX = "keypointlabels", "rectanglelabels"
_OF_THE_EXPORT = {"annotator", "comment", "created_at", "updated_at"}
"""What JSON-MIN has beside the task's own data, and may be text."""


def matches(source: Source) -> bool:
    tasks = source.json
    if not isinstance(tasks, list):
        return False
    return any(_is_task(each) or _is_small(each) for each in tasks if isinstance(each, dict))


def read(source: Source) -> Labels:
    left_out = collections.Counter()
    tasks = _newest(source.json, left_out)
    objects = gather(tasks, lambda each: _of_task(source.path, each, left_out), left_out)
    folders = source.folder, source.folder / "images"
    notes = ()
    if any(isinstance(task, dict) and not _is_task(task) and _is_small(task) for _, task in tasks):
        notes = (
            "JSON-MIN does not tell which pictures were rotated in Label Studio, and their points "
            "would be elsewhere: if there are such, export as JSON",
        )
    return Labels(objects, names_of(objects), folders, left_out, notes)


def _newest(records, left_out):
    """(index, task): JSON-MIN has a record for each annotation of a task."""
    found = {}
    for index, task in enumerate(records):
        small = isinstance(task, dict) and not _is_task(task) and _is_small(task)
        key = index
        if small and task.get("id") is not None:
            key = str(task["id"]), *sorted(_texts(task).items())
        if key in found:
            left_out["further annotations of a picture"] += 1
            if str(task.get("created_at") or "") < str(found[key][1].get("created_at") or ""):
                continue
        found[key] = index, task
    return list(found.values())


def _of_task(path, numbered, left_out):
    index, task = numbered
    if not isinstance(task, dict) or not (_is_task(task) or _is_small(task)):
        return []
    where = f"{path}, task {task.get('id', index)}"
    picture, regions = (_task if _is_task(task) else _small)(where, task, left_out)
    return _objects(where, picture, regions, left_out)


def _is_task(task):
    return isinstance(task.get("annotations"), list) and isinstance(task.get("data"), dict)


def _is_small(task):
    """JSON-MIN: regions of each tag under its name, without results around them."""
    return any(_POINT in each for each in _lists(task))


def _lists(task):
    lists = (value for value in task.values() if isinstance(value, list))
    return [each for found in lists for each in found if isinstance(each, dict)]


def _task(where, task, left_out):
    """The picture's path, and (id, parent, value, region) of the last annotation's regions."""
    good = [
        each
        for each in task["annotations"]
        if isinstance(each, dict)
        and not each.get("was_cancelled")
        and isinstance(each.get("result"), list)
    ]
    left_out["annotations that were canceled"] += len(task["annotations"]) - len(good)
    left_out["further annotations of a picture"] += max(0, len(good) - 1)
    results = good[-1]["result"] if good else []
    regions, relations = [], []
    for each in results:
        if isinstance(each, dict) and each.get("type") == "relation":
            relations.append((each.get("from_id"), each.get("to_id")))
            continue
        if not isinstance(each, dict) or not isinstance(each.get("value"), dict):
            raise KeypointError(
                f"{where}: expected results with a value. Received: {shortened(each)}"
            )
        regions.append((each.get("id"), each.get("parentID"), each["value"], each))
    related = _boxes_by_point(where, relations, regions)
    regions = [
        (key, parent or (related.get(key) if isinstance(key, str) else None), value, region)
        for key, parent, value, region in regions
    ]
    return _picture(where, task["data"]), regions


def _boxes_by_point(where, relations, regions):
    """The box that each region is related to; points may be related to one another, too."""
    boxed = _boxed(regions)
    related = {}
    for ends in relations:
        if not all(isinstance(end, str) for end in ends) or sum(end in boxed for end in ends) != 1:
            continue
        box, other = ends if ends[0] in boxed else ends[::-1]
        if related.setdefault(other, box) != box:
            raise KeypointError(
                f"{where}: expected a point related to one box. Received: relations of {other!r} "
                f"to {related[other]!r} and {box!r}"
            )
    return related


def _boxed(regions):
    return {key for key, _, value, _ in regions if _BOX in value and isinstance(key, str)}


def _small(where, task, _):
    regions = [(each.get("id"), each.get("parentID"), each, each) for each in _lists(task)]
    return _picture(where, task), regions


def _picture(where, data):
    """The value that names a picture: that of the key `image`, or else the only text."""
    texts = list(_texts(data).values())
    named = data.get("image", data.get("img"))
    if isinstance(named, str) and named:
        return named
    paths = [each for each in texts if "/" in each or "." in each]
    if len(paths) != 1:
        raise KeypointError(
            f"{where}: expected the path of one picture in its data. Received: {shortened(texts)}"
        )
    return paths[0]


def _texts(data):
    """What there is of text but for what JSON-MIN adds."""
    return {
        key: value
        for key, value in data.items()
        if isinstance(value, str) and value and key not in _OF_THE_EXPORT
    }


def _objects(where, picture, regions, left_out):
    points, boxes, sizes = [], [], set()
    shown = {(str(each.get("to_name")), str(each.get("item_index"))) for *_, each in regions}
    if len(shown) > 1:
        raise KeypointError(
            f"{where}: expected one picture in a task. Received: regions of {len(shown)}, such as "
            f"to_name {max(shown)[0]}"
        )
    boxed = _boxed(regions)
    for key, parent, value, region in regions:
        kind = next((each for each in (_POINT, _BOX) if each in value), None)
        if kind is None:
            left_out["regions that are neither points nor boxes"] += 1
            continue
        if region.get("image_rotation"):
            raise KeypointError(
                f"{where}: expected a picture that was not rotated in Label Studio. Received: "
                f"image_rotation {shortened(region['image_rotation'])}. Rotate the file, and label "
                "it anew."
            )
        size = size_of(where, region.get("original_width"), region.get("original_height"))
        sizes.add(size)
        names = value[kind]
        if not isinstance(names, list) or len(names) != 1 or not isinstance(names[0], str):
            raise KeypointError(f"{where}: expected one label. Received: {shortened(names)}")
        x, y = (_pixels(where, value, key, side) for key, side in zip("xy", size, strict=True))
        if kind == _POINT:
            group = parent if isinstance(parent, str) and parent in boxed else None
            points.append(loose.Point(names[0], (x, y), SEEN, group))
            continue
        if value.get("rotation"):
            left_out["boxes that are rotated"] += 1
            continue
        width = _pixels(where, value, "width", size[0]) + EDGE
        height = _pixels(where, value, "height", size[1]) + EDGE
        group = key if isinstance(key, str) else None
        boxes.append(loose.Box((x, y, x + width, y + height), names[0], group))
    if len(sizes) > 1:
        raise KeypointError(f"{where}: expected one size of a picture. Received: {sorted(sizes)}")
    return loose.objects(where, picture, points, boxes, next(iter(sizes), None), left_out)


def _pixels(where, value, key, side):
    percent = number(where, key, value.get(key))
    return percent * side / 100 - EDGE
