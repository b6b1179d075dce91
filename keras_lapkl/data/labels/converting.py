"""Labels of another tool to a CSV file of keypoints, with an account of all that was in them."""

import collections
import contextlib
import csv
import dataclasses
import io
import itertools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from absl import logging
from numpy.typing import NDArray

from keras_lapkl._support.csv_names import quote_name
from keras_lapkl._support.files import check_outputs, replacing
from keras_lapkl._support.locks import refuse_link
from keras_lapkl._support.names import names_below, natural_key
from keras_lapkl._support.types import PathLike
from keras_lapkl.data import pictures
from keras_lapkl.data.keypoints import BOX, KeypointError, joined, repeated
from keras_lapkl.data.labels import samples
from keras_lapkl.data.labels.formats import known
from keras_lapkl.data.labels.found import EDGE, HIDDEN, Labeled, Labels, Name, in_order
from keras_lapkl.data.readers.keypoint_csv import read_csv

_SAMPLES = 10
_UNLABELED = (-1, -1)
"""Where some tools put a point that is not there; the CSV reader refuses it."""


@dataclasses.dataclass(frozen=True)
class Converted:
    """What came of a conversion.

    Attributes:
        format: name of the tool that the labels are from.
        names: K names of the points, or numbers from 1.
        paths: N pictures, one an object.
        landmarks: (N, K, 2) in pixels, NaN where a point is not labeled.
        visibility: (N, K), 0 not labeled, 1 hidden, 2 seen.
        boxes: (N, 4), NaN where an object has none.
        folder: that the paths in the file start from.
        found: number of objects in the labels; those that are not among the N are in `left_out`.
        left_out: how many of what, by what it is.
        notes: what else there is to know.
        samples: the picture of some objects.
    """

    format: str
    names: tuple[Name, ...]
    paths: tuple[Path, ...]
    landmarks: NDArray[np.float64]
    visibility: NDArray[np.int64]
    boxes: NDArray[np.float64]
    folder: Path
    found: int
    left_out: Mapping[str, int]
    notes: tuple[str, ...]
    samples: Path

    @property
    def gaps(self) -> dict[Name, int]:
        """How often each point is missing; only those that are."""
        counts = (self.visibility == 0).sum(0).tolist()
        return {name: count for name, count in zip(self.names, counts, strict=True) if count}


def convert_labels(
    path: PathLike,
    output: PathLike,
    images: PathLike | None = None,
    category: str | None = None,
    validation_share: float = 0.0,
) -> Converted:
    """Writes the labels of another tool as a CSV file that `read_csv` and `--dataset=csv` take.

    The format is told from the content; `formats.FORMATS` lists those that are read. Positions
    become pixels with centers at whole numbers, in the upright picture. An object is left out, and
    counted, if no point of it is labeled, or none lies in its picture, or if that is missing, can't
    be read or has another size than its labels say. Pictures that are in the file of labels itself
    are written into a folder `<stem of the output>.pictures`. What was written is removed again if
    the conversion fails.

    Args:
        path: file or folder of labels.
        output: the .csv file; beside it stands a picture `<stem>.samples.jpg` of ten objects.
        images: folder of the pictures; None for where the format has them.
        category: the class of objects to take; None if there is but one.
        validation_share: if above 0, in [0, 1), two more files stand beside the output,
            `<stem>.train.csv` and `<stem>.validation.csv`: see `in_last_block`.

    Raises:
        KeypointError: labels that can't be understood, or of which none is left.
        ValueError: the output is an input or no .csv, or there already with other content; or a
            share that leaves no picture to train on or none to validate on.
        OSError: a file that can't be read or written.

    Example:

    >>> convert_labels("project", "labels.csv").format
    'DeepLabCut'
    """
    path, output = Path(path), Path(output)
    if output.suffix.lower() != ".csv":
        raise ValueError(f"expected an output that ends in .csv. Received: {output}")
    if not 0 <= validation_share < 1:
        raise ValueError(f"`validation_share` must be in [0, 1). Received: {validation_share}")
    picture = output.with_name(f"{output.stem}.samples.jpg")
    parts = part_paths(output) if validation_share else ()
    check_outputs([output], [path])
    check_outputs([picture, *parts], [path], links=False)
    tool, source = known(path, category, None if images is None else Path(images))
    labels = tool.read(source)
    left_out, notes = collections.Counter(labels.left_out), list(labels.notes)
    objects, names = _of_category(path, labels, category, left_out)
    with _undone_on_error() as made:
        objects = _with_pictures(objects, labels, images, output, left_out, made)
        if not objects:
            reasons = "; ".join(_said(left_out)) or "none"
            raise KeypointError(f"{path}: expected labels to convert. Left out: {reasons}")
        converted = _converted(tool.name, names, objects, labels, output, picture, left_out, notes)
        files = {output: converted}
        if parts:
            held_out = in_last_block(converted.paths, validation_share)
            for part, taken in zip(parts, (~held_out, held_out), strict=True):
                if not taken.any():
                    raise ValueError(
                        f"`validation_share` {validation_share} leaves no object for {part}, of "
                        f"{len(taken)} in all, in {len(set(converted.paths))} pictures."
                    )
                files[part] = _taken(converted, taken)
        for file, content in files.items():
            _note(file, made)
            _write(content, file)
        chosen = np.unique(np.linspace(0, len(converted.paths) - 1, _SAMPLES).round().astype(int))
        samples.write(
            picture,
            [converted.paths[i] for i in chosen],
            converted.landmarks[chosen],
            converted.visibility[chosen],
            converted.boxes[chosen],
            tuple(map(str, names)),
        )
    return converted


def part_paths(output: PathLike) -> tuple[Path, Path]:
    """The files to train and to validate on that belong to a file of labels."""
    output = Path(output)
    return (
        output.with_name(f"{output.stem}.train.csv"),
        output.with_name(f"{output.stem}.validation.csv"),
    )


def in_last_block(paths: Sequence[Path], share: float) -> NDArray[np.bool_]:
    """Which objects lie in the last pictures of their folder, (N,) bool.

    Neighboring frames of a video are nearly equal: held out at random, they would be judged by
    their own neighbors.

    Args:
        paths: N pictures, one an object; the order in a folder is that of their names, numbers by
            their value.
        share: of the pictures, in [0, 1]. Each folder has its share, to within a picture.

    Example:

    >>> in_last_block([Path("v/9.png"), Path("v/10.png"), Path("v/8.png")], 0.3)
    array([False,  True, False])
    """
    folders = collections.defaultdict(set)
    for each in paths:
        folders[each.parent].add(each)
    last, seen = set(), 0
    for found in folders.values():
        seen += len(found)
        count = round(share * seen) - len(last)  # so that many short folders do not add up errors
        ordered = sorted(found, key=lambda each: natural_key(each.name))
        last.update(ordered[len(found) - count :])
    return np.array([each in last for each in paths], bool)


def report(converted: Converted) -> list[str]:
    """What a conversion found, a line each, for people."""
    total = converted.visibility.size
    missing = sum(converted.gaps.values())
    most = sorted(converted.gaps.items(), key=lambda item: -item[1])[:5]
    shown = joined(f"{quote_name(str(name))} {count:,}" for name, count in most)
    of_whom = f": {shown}" if most else ""
    return [
        f"{converted.format}: {len(converted.paths):,} of {converted.found:,} objects, in "
        f"{len(set(converted.paths)):,} pictures, {len(converted.names)} points each",
        f"Gaps: {missing:,} of {total:,} points are not labeled{of_whom}",
        *(f"Left out: {text}" for text in _said(converted.left_out)),
        *(f"Note: {text}" for text in converted.notes),
    ]


def _said(left_out):
    return [f"{count:,} {what}" for what, count in left_out.items() if count]


def _of_category(path, labels: Labels, category, left_out):
    """The objects of one class that have points, and the names of these."""
    left_out["objects without a labeled point"] += sum(not each.points for each in labels.objects)
    objects = [each for each in labels.objects if each.points]
    counts = collections.Counter(each.category for each in objects if each.category)
    if len(counts) > 1 if category is None else category not in counts:
        listed = joined(f"{name!r} ({count:,} objects)" for name, count in counts.items())
        raise KeypointError(
            f"{path}: expected `category` to be one of {listed}. Received: {category!r}"
        )
    if category is not None:
        left_out["objects of other categories"] += sum(o.category != category for o in objects)
        objects = [each for each in objects if each.category == category]
    own = dict.fromkeys(each.category for each in objects)
    listed = [name for each in own for name in labels.names.get(each, ())]
    met = [name for each in objects for name in each.points]
    names = in_order(listed + list(in_order(met)))
    if len({type(name) for name in names}) > 1:
        raise KeypointError(
            f"{path}: expected points that all have names, or all have none. Received: "
            f"{joined(names[:9])}"
        )
    return _without_gaps(objects, names)


def _without_gaps(objects, names):
    """Points by number that have gaps, such as the eyes of a face of 68 points, get names."""
    numbers = [int(name) for name in names if str(name).isdecimal()]
    if len(numbers) < len(names) or numbers in (
        [*range(len(names))],
        [*range(1, len(names) + 1)],
    ):
        return objects, names
    named = {name: f"point_{name}" for name in names}
    return [
        dataclasses.replace(each, points={named[k]: at for k, at in each.points.items()})
        for each in objects
    ], tuple(named.values())


@contextlib.contextmanager
def _undone_on_error():
    """Gives a list of paths that are made, which are removed again if nothing comes of them."""
    made: list[Path] = []
    try:
        yield made
    except BaseException:
        for path in reversed(made):
            with contextlib.suppress(OSError):  # not there yet, or a folder of others' files
                path.rmdir() if path.is_dir() else path.unlink()
        raise


def _note(path, made):
    """What is not there before a file is written: the file, and folders of it."""
    made += [each for each in (*reversed(path.parents), path) if not os.path.lexists(each)]


def _with_pictures(objects, labels, images, output, left_out, made):
    """The objects whose pictures can be read and fit them, each with path and size."""
    folder = output.with_name(f"{output.stem}.pictures")
    embedded = {}
    for name in dict.fromkeys(each.picture for each in objects if each.picture in labels.embedded):
        embedded[name] = folder / name
        _note(embedded[name], made)
        _write_new(embedded[name], labels.embedded[name], folder.parent)
    folders = labels.folders if images is None else (Path(images),)
    others = [each.picture for each in objects if each.picture not in embedded]
    places = pictures.find_pictures(others, folders)
    found: dict[str, Path | None] = {
        name: None if place is None else Path(os.path.normpath(Path(*place)))
        for name, place in places.items()
    }
    found |= embedded
    sizes = pictures.sizes(each for each in found.values() if each is not None)
    used = []
    reasons: dict[str, list[str]] = collections.defaultdict(list)
    for each in objects:
        file = found[each.picture]
        size = None if file is None else sizes[file]
        if file is None or size is None:
            reasons["objects whose picture is missing, such as"].append(each.picture)
        elif isinstance(size, str):
            reasons["objects whose picture can't be read, such as"].append(size)
        elif each.size not in (None, size):
            reasons["objects whose picture has another size than their labels, such as"].append(
                f"{file} of {size[0]}x{size[1]} in place of {each.size[0]}x{each.size[1]}"
            )
        else:
            used.append(dataclasses.replace(each, picture=str(file), size=size))
    for reason, examples in reasons.items():
        looked = f" (looked for in {joined(folders)})" if "missing" in reason else ""
        left_out[f"{reason} {examples[0]}{looked}"] += len(examples)
    return used


def _taken(converted, taken):
    return dataclasses.replace(
        converted,
        paths=tuple(itertools.compress(converted.paths, taken)),
        landmarks=converted.landmarks[taken],
        visibility=converted.visibility[taken],
        boxes=converted.boxes[taken],
    )


def _converted(tool, names, objects: list[Labeled], labels, output, picture, left_out, notes):
    landmarks = np.full((len(objects), len(names), 2), np.nan)
    visibility = np.zeros((len(objects), len(names)), np.int64)
    boxes = np.full((len(objects), 4), np.nan)
    index = {name: k for k, name in enumerate(names)}
    sizes = np.array([each.size for each in objects], np.float64)
    for i, each in enumerate(objects):
        for name, (x, y, seen) in each.points.items():
            landmarks[i, index[name]], visibility[i, index[name]] = (x, y), seen
        if each.box is not None:
            boxes[i] = each.box
    if labels.fractions:
        landmarks = landmarks * sizes[:, None] - EDGE
        boxes = boxes * np.tile(sizes, 2) - EDGE
    unlabeled = _are_at(landmarks, _UNLABELED)
    landmarks[unlabeled], visibility[unlabeled] = np.nan, 0
    left_out["points at (-1, -1), which stand for none"] += int(unlabeled.sum())
    flat = ~(boxes[:, :2] < boxes[:, 2:]).all(1) & np.isfinite(boxes).all(1)
    boxes[flat] = np.nan
    left_out["boxes without extent"] += int(flat.sum())
    known = visibility > 0
    left_out["objects without a labeled point"] += int((~known.any(1)).sum())
    inside = ((landmarks >= -EDGE) & (landmarks <= sizes[:, None] - EDGE)).all(-1)
    reached = np.any(known & inside, axis=1, keepdims=True)
    if len(lost := np.flatnonzero(known.any(1) & ~reached[:, 0])):
        where = objects[lost[0]].where
        left_out[f"objects that lie wholly beside their pictures, such as {where}"] += len(lost)
    known &= reached
    kept = np.flatnonzero(known.any(1))
    if not len(kept):
        reasons = "; ".join(_said(left_out))
        raise KeypointError(f"{output}: expected points to write. Left out: {reasons}")
    beside = known & ~inside
    if beside.any():
        i, k = np.argwhere(beside)[0]
        notes.append(
            f"{beside.sum():,} points lie beside their pictures, such as {names[k]!r} of "
            f"{objects[i].where}"
        )
    origin = int((_are_at(landmarks, (0, 0)) & known).sum())
    if origin:
        notes.append(
            f"{origin:,} points lie at exactly (0, 0). If they are missing, empty their cells"
        )
    paths = tuple(Path(os.path.abspath(objects[i].picture)) for i in kept)
    if again := repeated(paths, landmarks[kept]):
        notes.append(
            f"{len(again):,} objects repeat another, in picture and points, such as "
            f"{objects[kept[again[0]]].where}. Training takes each as often as it is there"
        )
    folder = Path(os.path.abspath(output.parent))
    if not all(each.is_relative_to(folder) for each in paths):
        folder = Path(os.path.commonpath([each.parent for each in paths]))
    return Converted(
        tool,
        names,
        paths,
        landmarks[kept],
        visibility[kept],
        boxes[kept],
        folder,
        len(labels.objects),
        left_out,
        tuple(notes),
        picture,
    )


def _are_at(landmarks, place):
    """Which points a tool has at a place, whose pixels may have been shifted by a half."""
    return (landmarks == place).all(-1) | (landmarks == np.subtract(place, EDGE)).all(-1)


def _write(converted: Converted, output: Path):
    """The CSV file, unless one of other content is there; read back before it is put in place."""
    text = _csv(converted).encode("utf-8")
    if output.exists() and output.read_bytes() != text:
        raise ValueError(
            f"{output} is there already, with other labels, and would be replaced: name another "
            "output, or move it away."
        )
    with replacing(output) as temporary:
        temporary.write_bytes(text)
        try:
            with _quiet():
                found = read_csv(temporary, converted.folder, missing_ok=True)
        except ValueError as error:
            said = str(error).replace(str(temporary), str(output))
            raise KeypointError(f"these labels do not go into a CSV file. {said}") from error
        same = (
            found.paths == converted.paths
            and found.visible.shape == converted.visibility.shape
            and np.array_equal(found.visible, converted.visibility > 0)
            and np.allclose(found.landmarks, converted.landmarks, atol=0.1, equal_nan=True)
        )
        if not same:
            raise KeypointError(
                f"{output}: these labels would be read from it as others. Rename the points and "
                "pictures that have blanks at their ends, or strange characters."
            )


def _csv(converted):
    named = any(isinstance(name, str) for name in converted.names)
    hidden = (converted.visibility == HIDDEN).any()
    boxed = np.isfinite(converted.boxes).all(1)
    head = ["path"]
    for name in converted.names:
        cells = [f"{name}_x", f"{name}_y", f"{name}_visible"]
        cells = cells if named else [f"x{name}", f"y{name}", f"v{name}"]
        head += map(quote_name, cells if hidden else cells[:2])
    head += BOX if boxed.any() else ()
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(head)
    paths = names_below(converted.paths, converted.folder)
    for i, name in enumerate(paths):
        cells = [quote_name(name)]
        for point, seen in zip(converted.landmarks[i], converted.visibility[i], strict=True):
            cells += map(_decimal, point) if seen else ("", "")
            cells += (str(seen),) if hidden else ()
        if boxed.any():
            cells += map(_decimal, converted.boxes[i]) if boxed[i] else [""] * len(BOX)
        lines.writerow(cells)
    return text.getvalue()


def _decimal(value):
    """The fewest digits that are read back as the same float32; -0 is 0."""
    return np.format_float_positional(np.float32(value) + np.float32(0), trim="-")


def _write_new(path, content, home):
    for each in itertools.takewhile(lambda each: each != home, (path, *path.parents)):
        refuse_link(each)
    if path.exists():
        if path.read_bytes() != content:
            raise ValueError(f"{path} is there already, and would be replaced: move it away.")
        return
    with replacing(path) as temporary:
        temporary.write_bytes(content)


@contextlib.contextmanager
def _quiet():
    """What is read back was told of already, under its own name."""
    before = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        logging.set_verbosity(before)
