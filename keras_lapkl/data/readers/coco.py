"""Keypoints of anything, from a COCO file."""

import collections
from pathlib import Path
from typing import Any

import numpy as np

from keras_lapkl import schemes
from keras_lapkl._support.files import read_json
from keras_lapkl._support.pixels import FARTHEST
from keras_lapkl._support.types import PathLike
from keras_lapkl.data.annotations import Annotations
from keras_lapkl.data.keypoints import (
    KeypointError,
    KeypointObject,
    fitting_scheme,
    joined,
    shortened,
    to_annotations,
)
from keras_lapkl.schemes import CropFrom, SchemeLike


def read_coco(
    path: PathLike,
    images: PathLike | None = None,
    scheme: SchemeLike | None = None,
    crop_from: CropFrom | None = None,
    category: str | None = None,
    missing_ok: bool = False,
) -> Annotations:
    """Keypoints from a COCO keypoint file (JSON).

    Positions are labels where v > 0, whether hidden (1) or seen (2), as usual in training on COCO.
    Crowds and objects without such a point are left out, and counted in `source`. Keypoints count
    whole pixels, and are taken as they are; boxes are measured from the corner of the first pixel,
    which lies at -0.5.

    Args:
        path: the file.
        images: folder that the pictures' names start from, or one whose folder `images` or
            `<stem of the file>` or `<what follows the last _ of it>` they do (`train2017` for
            `person_keypoints_train2017.json`); None for the file's own. Names may not leave it by
            `..` or as absolute paths; links in it are followed.
        scheme, crop_from, missing_ok: as in `read_csv`. The category's names and skeleton make a
            scheme of its name.
        category: name of the category; None if there is but one with keypoints, or one of the
            scheme's name.

    Returns:
        `Annotations` with boxes, in the order of the file.

    Raises:
        KeypointError: with file and the annotation's id, what was expected and what is there.
        FileNotFoundError: there is no such file, or a picture is missing.

    Source: https://cocodataset.org/#format-data

    Example:

    >>> read_coco("hands.json", images="photos").scheme.names[:2]
    ('wrist', 'thumb_1')
    """
    path = Path(path)
    content = _coco_content(path)
    scheme = None if scheme is None else schemes.get(scheme)
    chosen = _coco_category(path, content["categories"], category, scheme)
    pictures = _coco_pictures(path, content["images"])
    found = [
        _coco_object(path, pictures, each)
        for each in _coco_annotations(path, content["annotations"], chosen["id"])
    ]
    left_out = collections.Counter(each for each in found if isinstance(each, str))
    objects = [each for each in found if not isinstance(each, str)]
    if not objects:
        raise KeypointError(
            f"{path}: expected objects of category {chosen['name']!r} with labeled keypoints. "
            f"Received: none in {len(found):,} annotations of it"
        )
    config = _coco_scheme(path, chosen, objects)
    _check_equal_counts(path, objects, config)
    order, scheme = fitting_scheme(path, scheme, crop_from, config, "names" in config)
    base = Path(images or path.parent)
    folders = [base, base / "images", base / path.stem, base / path.stem.rpartition("_")[2]]
    return to_annotations(path, "coco", objects, order, scheme, folders, missing_ok, left_out)


def _coco_content(path):
    try:
        content = read_json(path)
    except ValueError as error:
        raise KeypointError(str(error)) from error
    keys = ("images", "annotations", "categories")
    is_object = isinstance(content, dict)
    if not is_object or not all(isinstance(content.get(key), list) for key in keys):
        received = f"keys {sorted(content)[:9]}" if is_object else shortened(content)
        raise KeypointError(
            f"{path}: expected a COCO keypoint file, an object with lists {joined(keys)}. "
            f"Received: {received}"
        )
    return content


def _coco_category(path, categories, wanted, scheme) -> dict[str, Any]:
    known = {}
    for each in categories:
        named = isinstance(each, dict) and isinstance(each.get("name"), str) and "id" in each
        if not named or not isinstance(each.get("keypoints", []), list):
            raise KeypointError(
                f"{path}: expected categories with id, name and a list of keypoints' names. "
                f"Received: {shortened(each)}"
            )
        if each["name"] in known:
            raise KeypointError(f"{path}: expected category {each['name']!r} once, not twice.")
        known[each["name"]] = each
    posed = {name: each for name, each in known.items() if each.get("keypoints")} or known
    if wanted is None and len(posed) == 1:
        (wanted,) = posed
    elif wanted is None and scheme is not None:
        wanted = scheme.name
    if wanted not in known:
        raise KeypointError(
            f"{path}: expected `category` to be one of {sorted(posed)}. Received: {wanted!r}"
        )
    return known[wanted]


def _coco_pictures(path, images):
    """{id: (file name, width and height)}."""
    pictures = {}
    for each in images:
        right = isinstance(each, dict) and isinstance(each.get("file_name"), str)
        if not right or not isinstance(each.get("id"), (int, str)):
            raise KeypointError(
                f"{path}: expected images with id and file_name. Received: {shortened(each)}"
            )
        if each["id"] in pictures:
            raise KeypointError(f"{path}: expected image id {each['id']} once, not twice.")
        size = each.get("width"), each.get("height")
        known = all(isinstance(side, int) and 0 < side <= FARTHEST for side in size)
        pictures[each["id"]] = each["file_name"], size if known else (0, 0)
    return pictures


def _coco_annotations(path, annotations, category):
    for index, each in enumerate(annotations):
        if not isinstance(each, dict) or not {"image_id", "category_id"} <= set(each):
            raise KeypointError(
                f"{path}: expected annotations with image_id and category_id. Received: "
                f"{shortened(each)} at index {index}"
            )
        if each["category_id"] == category:
            yield {"id": f"at index {index}", **each}


def _coco_object(path, pictures, annotation):
    """An `KeypointObject`, or why there is none."""
    where = f"annotation id {annotation['id']}"
    if annotation.get("iscrowd"):
        return "crowds"
    if not isinstance(annotation["image_id"], (int, str)) or annotation["image_id"] not in pictures:
        raise KeypointError(
            f"{path}, {where}: expected an image_id of `images`. Received: "
            f"{shortened(annotation['image_id'])}"
        )
    values = _coco_numbers(path, where, annotation, "keypoints")
    if len(values) % 3:
        raise KeypointError(
            f"{path}, {where}: expected keypoints x, y, v of each point. Received: {len(values)} "
            "numbers, no multiple of 3"
        )
    points, visible = values.reshape(-1, 3)[:, :2], values[2::3] > 0
    if not ((values[2::3] >= 0) & (values[2::3] <= 2)).all():
        raise KeypointError(
            f"{path}, {where}: expected visibilities v of 0, 1 or 2. Received: "
            f"{shortened(values[2::3].tolist())}"
        )
    if not visible.any():
        return "without a labeled point"
    box = np.full(4, np.nan)
    if annotation.get("bbox"):
        x, y, width, height = _coco_numbers(path, where, annotation, "bbox", 4)
        if width < 0 or height < 0:
            raise KeypointError(
                f"{path}, {where}: expected a bbox x, y, width, height, none of the latter below "
                f"0. Received: {shortened(annotation['bbox'])}"
            )
        if width > 0 and height > 0:
            box = np.array([x, y, x + width, y + height]) - 0.5
    picture, size = pictures[annotation["image_id"]]
    points = np.where(visible[:, None], points, np.nan)
    return KeypointObject(where, picture, points, visible, box, size)


def _coco_numbers(path, where, annotation, key, count=None):
    """Finite numbers (n,); none where the key is missing."""
    values = annotation.get(key) or []
    numbers = isinstance(values, list) and all(
        isinstance(v, (int, float)) and abs(v) <= FARTHEST for v in values
    )
    if not numbers or count not in (None, len(values)):
        raise KeypointError(
            f"{path}, {where}: expected {count or 'a list of'} numbers of pixels for {key}. "
            f"Received: {shortened(values)}"
        )
    return np.array(values, np.float64)


def _coco_scheme(path, category, objects):
    """Plain data of a scheme."""
    names = category.get("keypoints")
    config = {"name": category["name"]}
    if not names:
        return {**config, "num_landmarks": len(objects[0].points)}
    pairs = category.get("skeleton") or []
    k = len(names)
    if not isinstance(pairs, list):
        raise KeypointError(
            f"{path}, category {category['name']!r}: expected a list as skeleton. Received: "
            f"{shortened(pairs)}"
        )
    for pair in pairs:
        right = isinstance(pair, list) and len(pair) == 2
        if not right or not all(isinstance(i, int) and 1 <= i <= k for i in pair):
            raise KeypointError(
                f"{path}, category {category['name']!r}: expected skeleton pairs of 1..{k}, the "
                f"first point's number being 1. Received: {shortened(pair)}"
            )
    return {**config, "names": names, "edges": [[a - 1, b - 1] for a, b in pairs]}


def _check_equal_counts(path, objects, config):
    k = len(config["names"]) if "names" in config else config["num_landmarks"]
    for each in objects:
        if len(each.points) != k:
            raise KeypointError(
                f"{path}, {each.where}: expected {k} keypoints. Received: {len(each.points)}"
            )
