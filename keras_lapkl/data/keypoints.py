"""Keypoints of anything: CSV files and COCO keypoint files as labeled sources, any K.

Coordinates are pixels, x first, 0-based, pixel centers at whole numbers, in the upright picture. A
keypoint whose position is not known is not a label; one that is labeled though hidden is a label.
"""

import collections
import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging
from numpy.typing import NDArray

from keras_lapkl import schemes
from keras_lapkl.data import pictures
from keras_lapkl.data.annotations import Annotations, objects_of
from keras_lapkl.data.cropping import can_crop
from keras_lapkl.data.tables import are_fractions, fold

BOX = ("box_x0", "box_y0", "box_x1", "box_y1")
"""Columns of a CSV file for a box of the object."""

NAME = "custom"
"""Name of a scheme that is made of a CSV file."""

SHOWN = 60


class KeypointError(ValueError):
    """A file of keypoints that can't be understood or used."""


def croppable(annotations: Annotations) -> Annotations:
    """The annotations that the scheme's rule has a crop for.

    Args:
        annotations: `Annotations` by `read_csv` or `read_coco`.

    Returns:
        `Annotations` without objects of too few visible points, if crops are cut by the points.
        `source` counts them.

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
    return annotations.part(good, note)


@dataclasses.dataclass(frozen=True)
class KeypointObject:
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


def fitting_scheme(path, scheme, crop_from, config, named):
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
    if named or set(own.names) == set(scheme.names):
        own = _spelled_as(own, scheme)
        if set(own.names) != set(scheme.names):
            strange = sorted(set(own.names) - set(scheme.names))
            missing = sorted(set(scheme.names) - set(own.names))
            raise KeypointError(
                f"{path}: expected the points of scheme {scheme.name!r}, with "
                f"{joined(missing[:5])}. Received: {joined(strange[:5])}"
            )
        order = [own.names.index(name) for name in scheme.names]
    return list(order), dataclasses.replace(scheme, crop_from=crop_from or scheme.crop_from)


def _spelled_as(own, scheme):
    """A scheme with the names of another one where these differ in case alone."""
    spelled = {fold(name): name for name in scheme.names}
    if len(spelled) < scheme.num_landmarks or len(set(map(fold, own.names))) < own.num_landmarks:
        return own
    return dataclasses.replace(own, names=tuple(spelled.get(fold(n), n) for n in own.names))


def to_annotations(path, kind, objects, order, scheme, folders, missing_ok, left_out=None):
    """`Annotations` of the objects that have a labeled point."""
    left_out = collections.Counter(left_out)
    left_out["without a labeled point"] += sum(not each.visible.any() for each in objects)
    objects = [each for each in objects if each.visible.any()]
    if not objects:
        raise KeypointError(f"{path}: expected objects with labeled points. Received: none")
    landmarks = np.array([each.points for each in objects], np.float64)[:, order]
    visible = np.array([each.visible for each in objects])[:, order]
    _check_pixels(path, landmarks, visible)
    unseen = [scheme.names[k] for k in np.flatnonzero(~visible.any(axis=0))]
    if unseen:
        logging.warning("%s: points that are labeled in no object: %s", path, joined(unseen))
    boxes = np.array([each.box for each in objects], np.float32)
    sizes = np.array([each.size for each in objects], np.int32)
    found = pictures.find_pictures((each.picture for each in objects), folders)
    try:
        places = pictures.expected_places(found, folders)
    except ValueError as error:
        raise KeypointError(f"{path}: {error}") from error
    annotations = Annotations(
        name=f"{kind} {path.stem}",
        scheme=scheme,
        paths=tuple(places[each.picture] for each in objects),
        landmarks=landmarks.astype(np.float32),
        visible=visible,
        boxes=boxes if np.isfinite(boxes).any() else None,
        sizes=sizes if sizes.any() else None,
        places=tuple(f"{path}, {each.where}" for each in objects),
    )
    if not missing_ok:
        _check_pictures(annotations, objects)
    again = repeated(annotations.paths, annotations.landmarks)
    if again:
        logging.warning(
            "%s: %d objects repeat another, in picture and points, such as that at %s. Each is "
            "trained on as often as it is there: delete those that are not meant.",
            path,
            len(again),
            annotations.place(again[0]),
        )
    source = objects_of(annotations.name, annotations.paths, visible)
    notes = (f"{count:,} {what} left out" for what, count in left_out.items() if count)
    return dataclasses.replace(annotations, source=source.noted(*notes))


def repeated(paths: Sequence[Path], landmarks: NDArray[Any]) -> list[int]:
    """Indices of objects whose picture and points (N, K, 2) are those of one before."""
    keys = [(path, each.tobytes()) for path, each in zip(paths, landmarks, strict=True)]
    seen = set()
    return [i for i, key in enumerate(keys) if key in seen or seen.add(key)]


def _check_pixels(path, landmarks, visible):
    """Refuses fractions of the picture; points at the origin are only suspicious."""
    known = landmarks[visible]
    if are_fractions(known):
        low, high = (0, 1) if known.min() >= 0 and known.max() <= 1 else (-2, 2)
        raise KeypointError(
            f"{path}: expected pixels. Received: all {len(known):,} points in {low}..{high}, like "
            "fractions of the picture. Multiply them by its width and height."
        )
    origin = int((known == 0).all(1).sum())
    if origin:
        logging.warning(
            "%s: %d points lie at exactly (0, 0). If they are missing, leave their cells empty, or "
            "set their visibility to 0.",
            path,
            origin,
        )


def _check_pictures(annotations, objects):
    known = {}
    for i, picture in enumerate(annotations.paths):
        if picture not in known:
            known[picture] = None if os.path.isfile(picture) else i
    missing = [i for i in known.values() if i is not None]
    if missing:
        first = missing[0]
        cause = pictures.cause(objects[first].picture)
        raise FileNotFoundError(
            f"{annotations.place(first)}: there is no image {annotations.paths[first]}; "
            f"{len(missing):,} of {len(known):,} are missing. Paths start from the folder of the "
            "data, or else of this file."
            + (f" {objects[first].picture[:SHOWN]!r} is {cause}." if cause else "")
        )


def joined(words):
    return ", ".join(map(str, words)) or "none of them"


def shortened(value):
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    return repr(text if len(text) <= SHOWN else text[:SHOWN] + "…")
