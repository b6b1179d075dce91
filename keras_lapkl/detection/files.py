"""Finds the landmarks of files of photos and videos."""

import contextlib
import functools
import glob
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from keras_lapkl._support import console
from keras_lapkl._support.cells import read_name
from keras_lapkl._support.files import refuse_inputs, write_json
from keras_lapkl._support.folders import announce, owned
from keras_lapkl._support.names import names_below, output_stems
from keras_lapkl._support.types import PathLike
from keras_lapkl.data import tables
from keras_lapkl.data.images import IMAGE_SUFFIXES, ImageError, find_images
from keras_lapkl.detection.detections import as_boxes
from keras_lapkl.detection.landmark_detector import LandmarkDetector
from keras_lapkl.detection.tracking import LandmarkTracker
from keras_lapkl.detection.video import VIDEO_SUFFIXES, is_video, read_pictures
from keras_lapkl.detection.writers import (
    FORMATS,
    OVERLAYS,
    SKIPPED,
    face_writer,
    overlay_writer,
    planned_outputs,
    write_skipped,
)


def find_inputs(patterns: Iterable[PathLike]) -> list[Path]:
    """Photo and video files, sorted, each once.

    Args:
        patterns: files, folders (their photos and videos, at any depth) and globs.

    Raises:
        FileNotFoundError: a pattern without a match.

    Example:

    >>> find_inputs(["photos", "clips/*.mp4"])
    [PosixPath('clips/1.mp4'), PosixPath('photos/1.jpg')]
    """
    found = set()
    for pattern in patterns:
        path = Path(pattern)
        if path.is_dir():
            found.update(find_images(path, IMAGE_SUFFIXES + VIDEO_SUFFIXES))
        elif path.exists() or path.is_symlink():
            found.add(path)
        else:
            matches = map(Path, glob.glob(str(pattern), recursive=True))
            files = [match for match in matches if not match.is_dir()]
            if not files:
                raise FileNotFoundError(f"There is no file or folder {pattern}, nor a match of it.")
            found.update(files)
    # One file may be named in several ways, `a/../b.jpg` and `b.jpg`.
    real = functools.cache(Path.resolve)
    once = {real(path.parent) / path.name: path for path in sorted(found, reverse=True)}
    return sorted(once.values())


def read_boxes(path: PathLike) -> dict[str, NDArray[np.float64]]:
    """Boxes by file name from a CSV of lines `file,x0,y0,x1,y1`, one line a face.

    Args:
        path: the file, as `data.tables` reads it; its first line may be a header, with the columns
            `file,x0,y0,x1,y1` or the like in any order. Names are those of photos, with folders
            or without; an apostrophe before `=`, `+`, `-` or `@` is for spreadsheets and not read.

    Returns:
        dict from name to (n, 4) float64.

    Raises:
        ValueError: with file and line, what was expected and what is there: boxes that are empty,
            not finite or further than 1e6 pixels away.
        OSError: the file can't be opened.

    Example:

    >>> read_boxes("boxes.csv")["1.jpg"]
    array([[10., 20., 50., 60.]])
    """
    boxes = {}
    table = tables.read_table(path)
    columns = range(1, 5) if table.header is None else tables.box_columns(table)
    picture = tables.picture_column(table)
    frames = [i for i, name in enumerate(table.header or ()) if tables.fold(name) == "frame"]
    for line, row in table.rows:
        if any(row[i] for i in frames):
            raise ValueError(
                f"{path}, line {line}: expected boxes of photos, or one for all frames of a video. "
                f"Received: frame {row[frames[0]]!r}"
            )
        try:
            if table.header is None and len(row) != 5:
                raise ValueError("Expected five cells.")
            name = row[picture]
            (box,) = as_boxes([float(row[i]) for i in columns])
        except ValueError as error:
            raise ValueError(
                f"{path}, line {line}: expected file,x0,y0,x1,y1 in pixels, with x0 < x1 and "
                f"y0 < y1. Received: {','.join(row)[:80]!r}"
            ) from error
        boxes.setdefault(read_name(name), []).append(box)
    corners = np.array([box for each in boxes.values() for box in each]).reshape(-1, 2)
    if tables.are_fractions(corners):
        raise ValueError(
            f"{path}: expected boxes in pixels. Received: all in -2..2, like fractions of the "
            "picture. Multiply them by its width and height"
        )
    return {name: np.array(each) for name, each in boxes.items()}


def predict_files(
    detector: LandmarkDetector,
    files: Sequence[Path],
    output_dir: PathLike,
    form: Literal["json", "csv", "pts"] = "json",
    *,
    overlays: bool = False,
    radii: bool = False,
    boxes: Mapping[str, NDArray[Any]] | None = None,
    every: int = 1,
    tracker: Callable[[], LandmarkTracker] | None = None,
    provenance: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Finds the landmarks of photos and videos, and writes them.

    Files that can't be used are left out, and listed with the reason in `skipped.csv`. Equal input
    gives equal predictions, byte by byte. Only one photo is in memory at a time. All that is
    written is announced in `written.json`; what is there already is replaced only if an earlier
    run has announced it.

    Args:
        detector: a `LandmarkDetector`.
        files: photos, and videos (by `VIDEO_SUFFIXES`).
        output_dir: folder to write into: `predictions.json` or `predictions.csv`, or a `.pts` file
            a face; `overlays/`; `skipped.csv`; `results.json` with counts and times.
        form: one of `FORMATS`.
        overlays: whether to draw the landmarks into copies of photos and videos, `x.overlay.jpg`
            and `x.overlay.avi`.
        radii: whether to draw the radius of each landmark, too.
        boxes: dict from file name to (n, 4) face boxes, which are taken instead of the detector's;
            photos without are left out.
        every: frames of a video from one that is looked at to the next.
        tracker: function that makes a fresh `tracking.LandmarkTracker` for each video.
        provenance: dict from `provenance.run_provenance`, kept in `results.json`.

    Returns:
        The content of `results.json`.

    Raises:
        ValueError: no file could be used; or a file would be replaced that is an input, or that
            no earlier run has written; or two files would be written to one.
        OSError: another process writes into the folder, or the disk is full.

    Example:

    >>> detector = LandmarkDetector.from_pretrained()
    >>> print(summary(predict_files(detector, find_inputs(["photos"]), "found")))
    """
    if form not in FORMATS:
        raise ValueError(f"`form` must be one of {FORMATS}. Received: {form!r}")
    if not files:
        raise ValueError("Expected one file or more. Received: none")
    output_dir = Path(output_dir)
    names = dict(zip(files, names_below(files), strict=True))
    videos = [name for file, name in names.items() if is_video(file)]
    stems = output_stems(names.values(), videos)
    outputs = list(planned_outputs(form, stems, overlays))
    refuse_inputs((output_dir / name for name, _ in outputs), files)
    start = time.perf_counter()
    before = dict(detector.seconds)
    counts = {"files": len(files), "pictures": 0, "faces": 0, "without_face": 0}
    seconds = {"read": 0.0, "write": 0.0}
    skipped = []

    def progress(done):
        return f"{done:,} of {len(files):,} files, {counts['pictures']:,} pictures, {output_dir}"

    with owned(output_dir):
        announce(output_dir, "predict", outputs)
        meter = console.Meter()
        with face_writer(form, output_dir, detector.localizer.scheme, stems) as write:
            for done, (file, name) in enumerate(names.items()):
                find = _finder(detector, tracker, file, name, boxes)
                found = _found(file, name, every, find, seconds, skipped)
                folder = output_dir / OVERLAYS if overlays else None
                with overlay_writer(folder, stems[name], file, every, radii) as draw:
                    for frame, at, photo, faces in found:
                        counts["pictures"] += 1
                        counts["faces"] += len(faces)
                        counts["without_face"] += not faces
                        with _timed(seconds, "write"):
                            write(name, frame, at, faces)
                            draw(photo, faces, detector.localizer.scheme)
                        meter.tell(lambda _, done=done: progress(done))
        meter.end(lambda _: progress(len(files)))
        write_skipped(output_dir / SKIPPED, skipped)
        if not counts["pictures"]:
            raise ValueError(
                f"None of {len(files)} files could be used; {output_dir / SKIPPED} says why. "
                f"The first: {skipped[0][1]}"
            )
        spent = time.perf_counter() - start
        parts = {part: detector.seconds[part] - before.get(part, 0) for part in detector.seconds}
        results = {
            **counts,
            "skipped": len(skipped),
            "seconds": round(spent, 3),
            "pictures_per_second": round(counts["pictures"] / spent, 2),
            "seconds_by_part": {k: round(v, 3) for k, v in {**seconds, **parts}.items()},
            "provenance": provenance,
        }
        write_json(output_dir / "results.json", results)
    return results


def summary(results: dict[str, Any]) -> str:
    """Lines of text that say what `predict_files` found and where its time went."""
    parts = results["seconds_by_part"]
    shares = ", ".join(f"{name} {100 * s / results['seconds']:.0f} %" for name, s in parts.items())
    return (
        f"{results['faces']:,} faces in {results['pictures']:,} pictures, "
        f"{results['without_face']:,} of them without a face; {results['skipped']:,} of "
        f"{results['files']:,} files left out.\n"
        f"{results['pictures_per_second']:g} pictures a second: {shares}."
    )


def _found(file, name, every, find, seconds, skipped):
    """Frame, time, photo and faces of each picture of a file, until it can't be used further.

    What is raised between two of them, such as by a full disk, is none of the file's.
    """
    pictures = read_pictures(file, every)
    try:
        while True:
            with _timed(seconds, "read"):
                picture = next(pictures, None)
            if picture is None:
                return
            frame, at, photo = picture
            yield frame, at, photo, find(photo, at)
    # Whatever a picture does to a decoder or a network, the others are read.
    except (ValueError, OSError, MemoryError, cv2.error) as error:
        skipped.append((name, " ".join(str(error).split()) or "not enough memory for it"))


def _finder(detector, tracker, file, name, boxes) -> Callable[..., Any]:
    """Function from a photo and its time to faces."""
    if boxes is not None:
        given = boxes.get(name, boxes.get(Path(name).name))

        def find(photo, at):
            if given is None:
                raise ImageError(f"{file}: no boxes are given for it")
            return detector(photo, given)

        return find
    if tracker is not None and is_video(file):
        return tracker()
    return lambda photo, at: detector(photo)


@contextlib.contextmanager
def _timed(seconds, part):
    start = time.perf_counter()
    yield
    seconds[part] += time.perf_counter() - start
