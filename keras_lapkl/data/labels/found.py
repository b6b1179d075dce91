"""What every format of labels is read into, and the file that it is read from."""

import collections
import dataclasses
import functools
import json
import math
import os
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_lapkl._support import reading
from keras_lapkl._support.pixels import FARTHEST
from keras_lapkl.data.annotations import Annotations
from keras_lapkl.data.keypoints import KeypointError, shortened

HIDDEN, SEEN = 1, 2
"""Visibilities of a point whose position is known, as COCO counts them."""

MAX_XML = 1 << 28
"""Bytes; in memory a tree takes ten times as many."""

EDGE = 0.5
"""What to subtract where a tool's 0 is the edge of the first pixel: here it is its center."""

Name = str | int
"""Of a point; a number from 1 where the format has no names."""


@dataclasses.dataclass(frozen=True)
class Labeled:
    """One object as a tool has labeled it.

    Attributes:
        where: place in the file, for messages.
        picture: path as the file has it.
        points: x, y and visibility (`HIDDEN` or `SEEN`) of each point that is labeled.
        box: x0, y0, x1, y1 or None.
        size: width and height of the picture; None where the file does not say.
        category: class of the object; empty where there are none.
    """

    where: str
    picture: str
    points: Mapping[Any, tuple[float, float, int]]
    box: tuple[float, ...] | None = None
    size: tuple[int, int] | None = None
    category: str = ""


@dataclasses.dataclass(frozen=True)
class Labels:
    """All that a file or folder of labels holds.

    Attributes:
        objects: in the order of the file.
        names: of all points of a category, in the tool's order; None for the order in which they
            are met. A category that is not in it is of None.
        folders: where to look for pictures, the first first.
        left_out: how many of what could not be taken.
        notes: what else there is to tell.
        fractions: whether points and boxes are fractions of the picture, from its edge.
        embedded: content of pictures that are in the file itself, by their names.
    """

    objects: list[Labeled]
    names: Mapping[str, tuple[Any, ...]] = dataclasses.field(default_factory=dict)
    folders: tuple[Path, ...] = ()
    left_out: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    notes: tuple[str, ...] = ()
    fractions: bool = False
    embedded: Mapping[str, bytes] = dataclasses.field(default_factory=dict)


def names_of(objects: Iterable[Labeled]) -> dict[str, tuple[Name, ...]]:
    """The names of the points of each category, `in_order`, by the objects that have them."""
    names = collections.defaultdict(list)
    for each in objects:
        names[each.category] += each.points
    return {category: in_order(found) for category, found in names.items()}


def from_annotations(found: Annotations, folder: Path, category: str) -> Labels:
    """What a reader of this package has read, whose pictures are all in a folder.

    All points that are labeled are taken as seen. Points that the file numbers have numbers.
    """
    scheme = found.scheme
    numbered = scheme.names == tuple(f"point_{i}" for i in range(scheme.num_landmarks))
    names = tuple(range(1, scheme.num_landmarks + 1)) if numbered else scheme.names
    sizes = np.zeros((len(found), 2), int) if found.sizes is None else found.sizes
    boxes = np.full((len(found), 4), np.nan) if found.boxes is None else found.boxes
    objects = [
        Labeled(
            where=found.place(i),
            picture=os.path.relpath(found.paths[i], folder),
            points={
                name: (float(found.landmarks[i, k, 0]), float(found.landmarks[i, k, 1]), SEEN)
                for k, name in enumerate(names)
                if found.known[i, k]
            },
            box=tuple(boxes[i].tolist()) if np.isfinite(boxes[i]).all() else None,
            size=tuple(sizes[i].tolist()) if sizes[i].all() else None,
            category=category,
        )
        for i in range(len(found))
    ]
    notes = found.source.notes if found.source else ()
    return Labels(objects, {category: names}, (folder,), notes=notes)


class Source:
    """A file or folder of labels, whose content is read when it is asked for, and once.

    Args:
        path: of the file or folder.
        category: the class of objects that is asked for, for readers that take but one.
        images: the folder of the pictures, for readers that look for them.

    Raises:
        OSError: there is none, or it can't be read.
        KeypointError: it is neither a regular file nor a folder.
    """

    def __init__(self, path: Path, category: str | None = None, images: Path | None = None):
        self.path = path
        self.images = images
        self.category = category
        self.is_folder = path.is_dir()
        self.folder = path if self.is_folder else path.parent
        self.head = b""
        if not self.is_folder:
            try:
                with reading.open_regular(path) as stream:
                    self.head = stream.read(1 << 14)
            except ValueError as error:
                raise KeypointError(str(error)) from error

    @functools.cached_property
    def _start(self):
        """The first bytes that are text, without byte order mark and blanks."""
        return self.head.removeprefix(b"\xef\xbb\xbf").lstrip()

    @functools.cached_property
    def text(self) -> str:
        """All text; none of a folder, and of a file that is not text."""
        if self.is_folder or b"\0" in self.head:
            return ""
        try:
            return reading.read_text(self.path)
        except ValueError as error:
            raise KeypointError(str(error)) from error

    @functools.cached_property
    def json(self) -> Any:
        """The data of a JSON file; None for others."""
        if self._start[:1] not in (b"{", b"["):
            return None
        try:
            return json.loads(self.text)
        except (ValueError, RecursionError) as error:
            raise KeypointError(f"{self.path} is not valid JSON: {error}") from error

    @functools.cached_property
    def xml(self) -> Any:
        """The root of an XML file; None for others. No DOCTYPE, and so no entities."""
        if not self._start.startswith(b"<"):
            return None
        parser = ET.XMLParser(target=_NoDoctype())
        try:
            parser.feed(reading.read_bytes(self.path, MAX_XML))
            return parser.close()
        except (ET.ParseError, LookupError, ValueError) as error:
            raise KeypointError(
                f"{self.path}: expected XML without a DOCTYPE. Received: {error}"
            ) from error


class _NoDoctype(ET.TreeBuilder):
    def doctype(self, name, pubid, system):
        raise ValueError("a DOCTYPE, whose entities may name other files or grow without bound")


def gather(
    items: Iterable[Any], read: Callable[[Any], list[Labeled]], left_out: collections.Counter[str]
) -> list[Labeled]:
    """The objects of all pictures; one of them never decides for the others.

    Args:
        items: what holds the labels of a picture, one each; none is kept.
        read: from an item to its objects.
        left_out: counts the pictures without an object, and those whose labels are not understood.

    Raises:
        KeypointError: of the only picture.
    """
    objects, errors, count = [], [], 0
    for each in items:
        count += 1
        try:
            found = read(each)
        except KeypointError as error:
            errors.append(error)
            continue
        objects += found
        left_out["pictures without points"] += not found
    if len(errors) == count == 1:
        raise errors[0]
    if errors:
        left_out[f"pictures whose labels can't be understood, such as {errors[0]}"] = len(errors)
    return objects


def number(where: str, what: str, value: Any) -> float:
    """A finite number of pixels.

    Raises:
        KeypointError: it is none, or lies further than `FARTHEST`.
    """
    try:
        found = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        found = math.nan
    if not abs(found) <= FARTHEST or (isinstance(value, str) and "_" in value):
        raise KeypointError(
            f"{where}: expected a number of pixels for {what}. Received: {shortened(value)}"
        )
    return found


def size_of(where: str, width: Any, height: Any) -> tuple[int, int]:
    """Width and height of a picture; KeypointError if they are not whole numbers above 0."""
    size = (number(where, "the width", width), number(where, "the height", height))
    if not all(side >= 1 and side == int(side) for side in size):
        raise KeypointError(
            f"{where}: expected whole numbers above 0 for width and height. Received: "
            f"{shortened([width, height])}"
        )
    return int(size[0]), int(size[1])


def in_order(names: Iterable[Name]) -> tuple[Any, ...]:
    """Each name once: by number if all are numbers, else in the order in which they are met."""
    found = tuple(dict.fromkeys(names))
    if all(isinstance(each, int) or (each.isascii() and each.isdigit()) for each in found):
        return tuple(sorted(found, key=int))
    return found
