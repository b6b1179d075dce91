"""Points and boxes that a tool labels one by one, put together to objects."""

import collections
import dataclasses
from collections.abc import Hashable, Sequence

from keras_lapkl.data.keypoints import KeypointError
from keras_lapkl.data.labels.found import Labeled, Name


@dataclasses.dataclass(frozen=True)
class Point:
    """A point: its name, x and y, visibility, its group or None, and its object's class."""

    name: Name
    at: tuple[float, ...]
    visibility: int
    group: Hashable = None
    category: str = ""


@dataclasses.dataclass(frozen=True)
class Box:
    """A box: its edges x0, y0, x1, y1, its class, and its group or None."""

    edges: tuple[float, ...]
    category: str = ""
    group: Hashable = None


def objects(
    where: str,
    picture: str,
    points: Sequence[Point],
    boxes: Sequence[Box],
    size: tuple[int, int] | None,
    left_out: collections.Counter[str],
) -> list[Labeled]:
    """The objects of one picture: points and boxes of one group, and those of none together.

    Args:
        where, picture, size: as `Labeled` has them.
        points, boxes: of the picture.
        left_out: counts the boxes that belong to no points, or of which an object has several.

    Raises:
        KeypointError: a group has two points of one name.
    """
    groups: dict[Hashable, dict[Name, Point]] = {}
    for point in points:
        group = groups.setdefault(point.group, {})
        if point.name in group:
            raise KeypointError(
                f"{where}: expected each point of an object once. Received {point.name!r} twice. "
                "Where a picture has several objects, give the points of each a group of its own."
            )
        group[point.name] = point
    boxes_of = collections.defaultdict(list)
    for box in boxes:
        boxes_of[box.group].append(box)
    if len(groups) == len(boxes) == 1:
        (group,) = groups
        if None in (group, boxes[0].group):  # nothing else they could belong to
            boxes_of = {group: list(boxes)}
    found = []
    for group, members in groups.items():
        own = boxes_of.get(group, [])
        box = own[0] if len(own) == 1 else None
        left_out["boxes without points of their own"] += 0 if box else len(own)
        found.append(
            Labeled(
                where,
                picture,
                {name: (p.at[0], p.at[1], p.visibility) for name, p in members.items()},
                box and box.edges,
                size,
                box.category if box else next(iter(members.values())).category,
            )
        )
    others = (len(own) for group, own in boxes_of.items() if group not in groups)
    left_out["boxes without points of their own"] += sum(others)
    return found
