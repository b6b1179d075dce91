"""Keypoints of anything, from a COCO file."""

import collections
import dataclasses
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

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
from keras_lapkl.data.pictures import find_pictures
from keras_lapkl.data.prediction_files import CocoNames, coco_id
from keras_lapkl.data.tables import CONVERT
from keras_lapkl.schemes import CropFrom, Scheme, SchemeLike


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
        images: folder that the pictures' names start from, or one whose folder
            `<stem of the file>` or `<what follows the last _ of it>` (`train2017` for
            `person_keypoints_train2017.json`) or `images` they do, the first first; None for the
            file's own. Names may not leave it by `..` or as absolute paths; links in it are
            followed.
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
    annotations = _coco_annotations(path, content["annotations"])
    chosen = _coco_category(path, content["categories"], annotations, category, scheme)
    pictures = _coco_pictures(path, content["images"])
    own = [each for each in annotations if coco_id(each["category_id"]) == coco_id(chosen["id"])]
    found = [_coco_object(path, pictures, each) for each in own]
    left_out = collections.Counter(each for each in found if isinstance(each, str))
    categories = {coco_id(each["id"]) for each in content["categories"]}
    strange = sum(coco_id(each["category_id"]) not in categories for each in annotations)
    left_out["of a category that the file has not"] += strange
    numbers = [coco_id(each["image_id"]) for each in own]
    numbered = [
        (number, each)
        for number, each in zip(numbers, found, strict=True)
        if not isinstance(each, str)
    ]
    names = _coco_names(path, content["images"], {number for number, _ in numbered})
    objects = [dataclasses.replace(each, picture=names[number]) for number, each in numbered]
    if not objects:
        raise KeypointError(
            f"{path}: expected objects of category {chosen['name']!r} with labeled keypoints. "
            f"Received: none in {len(found):,} annotations of it"
        )
    config = _coco_scheme(path, chosen, objects)
    _check_equal_counts(path, objects, config)
    order, scheme = fitting_scheme(path, scheme, crop_from, config, "names" in config)
    folders = _folders(path, images)
    return to_annotations(path, "coco", objects, order, scheme, folders, missing_ok, left_out)


def read_coco_names(
    path: PathLike, images: PathLike | None, scheme: Scheme, category: str | None = None
) -> CocoNames:
    """What COCO results, which are predictions, mean by their numbers.

    Args:
        path, images, category: of the labels, as in `read_coco`.
        scheme: that of the labels as they were read.

    Raises:
        KeypointError, FileNotFoundError: as `read_coco`.

    Example:

    >>> read_coco_names("hands.json", "photos", scheme).pictures["7"]
    'photos/a.png'
    """
    path = Path(path)
    content = _coco_content(path)
    annotations = _coco_annotations(path, content["annotations"])
    chosen = _coco_category(path, content["categories"], annotations, category, scheme)
    names = chosen.get("keypoints")
    points = {"names": names} if names else {"num_landmarks": scheme.num_landmarks}
    order, _ = fitting_scheme(path, scheme, None, {"name": chosen["name"], **points}, bool(names))
    _coco_pictures(path, content["images"])
    used = {
        coco_id(each["image_id"])
        for each in annotations
        if coco_id(each["category_id"]) == coco_id(chosen["id"])
    }
    pictures = _coco_names(path, content["images"], used)
    found = find_pictures(pictures.values(), _folders(path, images))
    places = {name: name if place is None else str(Path(*place)) for name, place in found.items()}
    return CocoNames(
        pictures={number: places[name] for number, name in pictures.items()},
        category=str(coco_id(chosen["id"])),
        order=tuple(order),
    )


def _folders(path, images):
    base = Path(images or path.parent)
    return [base, base / path.stem, base / path.stem.rpartition("_")[2], base / "images"]


def _coco_content(path):
    try:
        content = read_json(path)
    except ValueError as error:
        raise KeypointError(str(error)) from error
    keys = ("images", "annotations", "categories")
    is_object = isinstance(content, dict)
    if not is_object or not all(isinstance(content.get(key), list) for key in keys):
        received = f"keys {sorted(content)[:9]}" if is_object else shortened(content)
        other = _other_format(content)
        raise KeypointError(
            f"{path}: expected a COCO keypoint file, an object with lists {joined(keys)}. "
            + (f"Received: {other}. {CONVERT}" if other else f"Received: {received}")
        )
    return content


def _other_format(content):
    """The name of a JSON file's format that is not COCO's, or None."""
    first = content[0] if isinstance(content, list) and content else content
    keys = set(first) if isinstance(first, dict) else set()
    known = {
        "a file of labelme": {"shapes", "imagePath"},
        "a project of VGG Image Annotator": {"_via_img_metadata"},
        "an export of Label Studio": {"data", "annotations"},
        "COCO results, which are predictions and no labels": {"image_id", "category_id", "score"},
        "predictions of lapkl, which are no labels": {"pictures", "scheme"},
    }
    return next((name for name, some in known.items() if some <= keys), None)


def _coco_annotations(path, annotations):
    """Annotations as they are, with an id."""
    for index, each in enumerate(annotations):
        right = isinstance(each, dict) and {"image_id", "category_id"} <= set(each)
        if not right or coco_id(each["category_id"]) is None:
            raise KeypointError(
                f"{path}: expected annotations with image_id and category_id. Received: "
                f"{shortened(each)} at index {index}"
            )
    return [{"id": f"at index {index}", **each} for index, each in enumerate(annotations)]


def _coco_category(path, categories, annotations, wanted, scheme) -> dict[str, Any]:
    """The category of a name, or the only one that has keypoints.

    Tools put a root category before theirs, which may have the same name, and leave in categories
    without an object: these have no say where one with names of keypoints or with labeled points
    is meant.
    """
    ids = set()
    for each in categories:
        named = isinstance(each, dict) and isinstance(each.get("name"), str)
        named = named and coco_id(each.get("id")) is not None
        if not named or not isinstance(each.get("keypoints") or [], list):
            raise KeypointError(
                f"{path}: expected categories with id, name and a list of keypoints' names. "
                f"Received: {shortened(each)}"
            )
        if coco_id(each["id"]) in ids:
            raise KeypointError(
                f"{path}: expected the id of category {each['name']!r} once, not twice. Received: "
                f"{each['id']}"
            )
        ids.add(coco_id(each["id"]))
    used = {coco_id(each["category_id"]) for each in annotations if each.get("keypoints")}
    posed = [each for each in categories if each.get("keypoints")] or [
        each for each in categories if coco_id(each["id"]) in used
    ]
    live = [each for each in posed if coco_id(each["id"]) in used] or posed
    if wanted is None and len(live) == 1:
        return live[0]
    if wanted is None and scheme is not None:
        wanted = scheme.name
    of_name = [each for each in categories if each["name"] == wanted]
    for some in (posed, live):
        of_name = [each for each in of_name if each in some] or of_name
    if len(of_name) > 1:
        shown = joined([each["id"] for each in of_name])
        raise KeypointError(
            f"{path}: expected category {wanted!r} once, not twice. Received: it has ids {shown}. "
            "Rename one"
        )
    if not categories:
        raise KeypointError(
            f"{path}: expected `category` to be one of its categories, which name the keypoints. "
            f"Received: {wanted!r}, and an empty list of categories"
        )
    if not of_name:
        names = sorted({each["name"] for each in posed or categories})
        raise KeypointError(
            f"{path}: expected `category` to be one of {names}. Received: {wanted!r}"
        )
    return of_name[0]


def _coco_pictures(path, images):
    """{id: (file name, width and height)}."""
    pictures = {}
    for each in images:
        right = isinstance(each, dict) and isinstance(each.get("file_name"), str)
        number = coco_id(each.get("id")) if right else None
        if number is None:
            raise KeypointError(
                f"{path}: expected images with id and file_name. Received: {shortened(each)}"
            )
        if number in pictures:
            raise KeypointError(f"{path}: expected image id {each['id']} once, not twice.")
        width, height = (_coco_side(path, each, key) for key in ("width", "height"))
        pictures[number] = each["file_name"], (width, height) if width and height else (0, 0)
    return pictures


def _coco_names(path, images, used):
    """{id: name of its picture}.

    Some tools have folders in `path` alone: where several pictures that are used have one name
    without a folder, it is the name.
    """
    by_name, names = collections.defaultdict(list), {}
    for each in images:
        names[coco_id(each["id"])] = each["file_name"]
        if coco_id(each["id"]) in used:
            by_name[each["file_name"]].append(each)
    for name, several in by_name.items():
        if len(several) == 1 or "/" in name or "\\" in name:
            continue
        longer = [str(each.get("path") or "").replace("\\", "/") for each in several]
        if not all(each.endswith(f"/{name}") for each in longer):
            raise KeypointError(
                f"{path}: expected a picture of its own for each image id. Received: {name!r} of "
                f"ids {joined(each['id'] for each in several)}. Where these are of several "
                "folders, write the folders before the names"
            )
        names.update((coco_id(each["id"]), one) for each, one in zip(several, longer, strict=True))
    return names


def _coco_side(path, image, key):
    """Width or height in pixels, 0 where the file does not say."""
    value = image.get(key) or 0
    try:
        side = float(value) if isinstance(value, (int, float, str)) else math.nan
    except (OverflowError, ValueError):
        side = math.nan
    if not 0 <= side <= FARTHEST or side != int(side):
        raise KeypointError(
            f"{path}, image id {image['id']}: expected a {key} in whole pixels, or none. Received: "
            f"{shortened(value)}"
        )
    return int(side)


def _coco_object(path, pictures, annotation):
    """An `KeypointObject`, or why there is none."""
    where = f"annotation id {annotation['id']}"
    crowd = str(annotation.get("iscrowd") or 0).lower()
    if crowd not in ("0", "1", "0.0", "1.0", "true", "false"):
        raise KeypointError(
            f"{path}, {where}: expected 0 or 1 as iscrowd. Received: {shortened(crowd)}"
        )
    if crowd in ("1", "1.0", "true"):
        return "crowds"
    number = coco_id(annotation["image_id"])
    if number not in pictures:
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
    if not np.isin(values[2::3], (0, 1, 2)).all():
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
    picture, size = pictures[number]
    points = np.where(visible[:, None], points, np.nan)
    return KeypointObject(where, picture, points, visible, box, size)


def _coco_numbers(path, where, annotation, key, count=None):
    """Finite numbers (n,); none where the key is missing."""
    values = annotation.get(key) or []
    numbers = isinstance(values, list) and all(
        isinstance(v, (int, float)) and not isinstance(v, bool) and abs(v) <= FARTHEST
        for v in values
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
    edges = _coco_edges(category.get("skeleton") or [], names)
    if edges is None:
        logging.warning(
            "%s, category %r: its skeleton is left out, and no edges are drawn. Expected pairs of "
            "1..%d, or of 0..%d, or of keypoints' names. Received: %s",
            path,
            category["name"],
            len(names),
            len(names) - 1,
            shortened(category["skeleton"]),
        )
    return {**config, "names": names, "edges": edges or []}


def _coco_edges(skeleton, names):
    """Pairs of indices from 0; None if it can't be said which points are meant.

    COCO counts from 1, other tools from 0, which shows where a 0 and no K stands, or name points.
    """
    if not isinstance(skeleton, list):
        return None
    pairs = [pair for pair in skeleton if isinstance(pair, list) and len(pair) == 2]
    if len(pairs) < len(skeleton):
        return None
    ends = [end for pair in pairs for end in pair]
    if all(isinstance(end, str) and end in names for end in ends):
        return [[names.index(end) for end in pair] for pair in pairs]
    numbers = [coco_id(end) or "" for end in ends]
    if not all(re.fullmatch("[0-9]{1,5}", each) for each in numbers):
        return None
    numbers = [int(each) for each in numbers]
    first = 0 if 0 in numbers else 1
    if not all(first <= each < len(names) + first for each in numbers):
        return None
    return [[a - first, b - first] for a, b in zip(numbers[::2], numbers[1::2], strict=True)]


def _check_equal_counts(path, objects, config):
    k = len(config["names"]) if "names" in config else config["num_landmarks"]
    for each in objects:
        if len(each.points) != k:
            raise KeypointError(
                f"{path}, {each.where}: expected {k} keypoints. Received: {len(each.points)}"
            )
