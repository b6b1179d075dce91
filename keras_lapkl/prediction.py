"""Landmarks of whole folders: photos and videos in; JSON, CSV or .pts, and pictures out."""

import collections
import contextlib
import csv
import glob
import itertools
import logging
import os
import time
from pathlib import Path

import cv2
import numpy as np

from keras_lapkl import console, runs
from keras_lapkl.data.images import IMAGE_SUFFIXES, ImageError, find_images, read_image
from keras_lapkl.data.predictions import json_writer
from keras_lapkl.data.pts import write_pts
from keras_lapkl.detection import COVERAGE, as_boxes

VIDEO_SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm")
FORMATS = ("json", "csv", "pts")
_FRAMES_A_SECOND = 25.0
_DIGITS = 3


def find_inputs(patterns):
    """Photo and video files, sorted, each once.

    Args:
        patterns: files, folders (their photos and videos, at any depth) and globs.

    Raises:
        FileNotFoundError: a pattern without a match.
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
    return sorted(found)


def read_boxes(path):
    """Boxes by file name from a CSV of lines `file,x0,y0,x1,y1`, one line a face.

    Args:
        path: the file; its first line may be a header. Names are those of photos, with folders or
            without.

    Returns:
        dict from name to (n, 4) float64.

    Raises:
        ValueError: with file and line, what was expected and what is there.
    """
    boxes = {}
    with open(path, newline="", encoding="utf-8-sig") as file:
        for number, row in enumerate(csv.reader(file), start=1):
            if not row or (number == 1 and row[1:] == ["x0", "y0", "x1", "y1"]):
                continue
            try:
                name, *numbers = row
                boxes.setdefault(name, []).append(as_boxes([[float(each) for each in numbers]])[0])
            except ValueError as error:
                raise ValueError(
                    f"{path}, line {number}: expected file,x0,y0,x1,y1 with x0 < x1 and y0 < y1. "
                    f"Received: {','.join(row)!r}"
                ) from error
    return {name: np.array(each) for name, each in boxes.items()}


def predict_files(
    detector,
    files,
    output_dir,
    form="json",
    *,
    overlays=False,
    boxes=None,
    every=1,
    tracker=None,
    provenance=None,
):
    """Finds the landmarks of photos and videos, and writes them.

    Files that can't be used are left out, and listed with the reason in `skipped.csv`. Equal input
    gives equal predictions, byte by byte. Only one photo is in memory at a time.

    Args:
        detector: a `LandmarkDetector`.
        files: photos, and videos (by `VIDEO_SUFFIXES`).
        output_dir: folder to write into: `predictions.json` or `predictions.csv`, or a `.pts` file
            a face; `overlays/`; `skipped.csv`; `results.json` with counts and times.
        form: one of `FORMATS`.
        overlays: whether to draw the landmarks into copies of photos and videos.
        boxes: dict from file name to (n, 4) face boxes, which are taken instead of the detector's;
            photos without are left out.
        every: frames of a video from one that is looked at to the next.
        tracker: function that makes a fresh `tracking.LandmarkTracker` for each video.
        provenance: dict from `runs.provenance`, kept in `results.json`.

    Returns:
        The content of `results.json`.

    Raises:
        ValueError: no file could be used.
    """
    if form not in FORMATS:
        raise ValueError(f"`form` must be one of {FORMATS}. Received: {form!r}")
    output_dir = Path(output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    names = _names(files)
    start = time.perf_counter()
    before = dict(detector.seconds)
    counts = {"files": len(files), "pictures": 0, "faces": 0, "without_face": 0}
    seconds = {"read": 0.0, "write": 0.0}
    skipped = []

    with _writer(form, output_dir, detector.localizer.scheme, names.values()) as writer:
        total = f"{{}} of {{}} files, {output_dir}"
        for file in console.reported(files, len(files), total):
            name = names[file]
            with contextlib.ExitStack() as stack:
                picture_file = output_dir / "overlays" / name if overlays else None
                draw = stack.enter_context(_overlay(picture_file, file, every))
                pictures = _pictures(file, every)
                find = _finder(detector, tracker, file, name, boxes)
                try:
                    while True:
                        with _timed(seconds, "read"):
                            picture = next(pictures, None)
                        if picture is None:
                            break
                        frame, at, photo = picture
                        faces = find(photo, at)
                        counts["pictures"] += 1
                        counts["faces"] += len(faces)
                        counts["without_face"] += not faces
                        with _timed(seconds, "write"):
                            writer(name, frame, at, faces)
                            draw(photo, faces, detector.localizer.scheme)
                except (ImageError, OSError, cv2.error) as error:
                    skipped.append((name, " ".join(str(error).split())))
    _write_skipped(output_dir / "skipped.csv", skipped)
    if not counts["pictures"]:
        raise ValueError(
            f"None of {len(files)} files could be used; {output_dir / 'skipped.csv'} says why. "
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
    runs.write_json(output_dir / "results.json", results)
    return results


def watch(tracker, camera=0):
    """Shows the faces that a camera sees in a window, until q or Escape is pressed in it.

    Args:
        tracker: a `tracking.LandmarkTracker`.
        camera: number of the device.

    Raises:
        OSError: there is no camera, no display, or an OpenCV without windows.
    """
    source = cv2.VideoCapture(camera)
    try:
        start = time.monotonic()
        while True:
            there, frame = source.read()
            if not there:
                raise OSError(f"Expected a camera as device {camera}. Received: no picture from it")
            photo = np.ascontiguousarray(frame[..., ::-1])
            faces = tracker(photo, time.monotonic() - start)
            edges = tracker.detector.localizer.scheme.edges
            try:
                cv2.imshow("keras_lapkl", draw_faces(photo, faces, edges)[..., ::-1])
                if cv2.waitKey(1) in (ord("q"), 27):
                    cv2.destroyAllWindows()
                    return
            except cv2.error as error:
                raise OSError(
                    "Showing a camera needs a display, and an OpenCV with windows: install "
                    "opencv-python in place of opencv-python-headless."
                ) from error
    finally:
        source.release()


def summary(results):
    """Lines of text that say what `predict_files` found and where its time went."""
    parts = results["seconds_by_part"]
    shares = ", ".join(f"{name} {100 * s / results['seconds']:.0f} %" for name, s in parts.items())
    return (
        f"{results['faces']:,} faces in {results['pictures']:,} pictures, "
        f"{results['without_face']:,} of them without a face; {results['skipped']:,} of "
        f"{results['files']:,} files left out.\n"
        f"{results['pictures_per_second']:g} pictures a second: {shares}."
    )


def draw_faces(photo, faces, edges=()):
    """A copy of a photo with landmarks, edges and the radius of each landmark drawn in.

    Args:
        photo: (H, W, 3) uint8 RGB.
        faces: list of `Face`.
        edges: pairs of landmarks to join.
    """
    drawn = photo.copy()
    for face in faces:
        thick = max(1, round(face.square[2] / 300))
        points = face.landmarks
        for a, b in edges:
            cv2.line(drawn, _at(points[a]), _at(points[b]), (255, 255, 255), thick, *_SUBPIXEL)
        radii = face.scale.mean(-1) if face.radius is None else face.radius
        for point, radius in zip(points, radii, strict=True):
            size = round(float(min(radius, face.square[2])) * 2 ** _SUBPIXEL[1])
            cv2.circle(drawn, _at(point), size, (255, 200, 0), thick, *_SUBPIXEL)
            dot = round(max(0.7, face.square[2] / 300) * 2 ** _SUBPIXEL[1])
            cv2.circle(drawn, _at(point), dot, (25, 255, 100), -1, *_SUBPIXEL)
    return drawn


_SUBPIXEL = (cv2.LINE_AA, 4)
"""Line type, and fractional bits of a coordinate."""


def _at(point):
    fraction = 2 ** _SUBPIXEL[1]
    # OpenCV draws with 32-bit coordinates.
    return tuple(int(v) for v in np.clip(np.rint(point * fraction), -(2**28), 2**28))


def _names(files):
    """What each file is called in the results: its path below the folder common to all."""
    if not files:
        raise ValueError("Expected one file or more. Received: none")
    common = os.path.commonpath([file.absolute().parent for file in files])
    return {file: file.absolute().relative_to(common).as_posix() for file in files}


def _pictures(file, every):
    """(frame, seconds, photo) of a file; frame and seconds are None in a photo."""
    if not _is_video(file):
        yield None, None, read_image(file)
        return
    video = cv2.VideoCapture(str(file))
    try:
        rate = _frame_rate(video)
        for frame in itertools.count():
            if not video.grab():
                break
            if frame % every:
                continue
            there, picture = video.retrieve()
            if there:
                yield frame, frame / rate, np.ascontiguousarray(picture[..., ::-1])
        if not frame:
            raise ImageError(f"{file}: expected a video. Received: no frame that can be decoded")
    finally:
        video.release()


def _is_video(file):
    return file.suffix.lower() in VIDEO_SUFFIXES


def _frame_rate(video):
    """Frames a second of an open video; 25 if it does not say."""
    rate = video.get(cv2.CAP_PROP_FPS)
    return rate if 0 < rate < 1000 else _FRAMES_A_SECOND


def _finder(detector, tracker, file, name, boxes):
    """Function from a photo and its time to faces."""
    if boxes is not None:
        given = boxes.get(name, boxes.get(Path(name).name))

        def find(photo, at):
            if given is None:
                raise ImageError(f"{file}: no boxes are given for it")
            return detector(photo, given)

        return find
    if tracker is not None and _is_video(file):
        return tracker()
    return lambda photo, at: detector(photo)


def record(face):
    """A face as plain data, lengths rounded to a thousandth of a pixel."""
    data = {"id": getattr(face, "id", None), "score": face.score}
    for field in ("box", "square", "landmarks", "scale", "error", "radius"):
        value = getattr(face, field, None)
        data[field] = None if value is None else np.round(value, _DIGITS).tolist()
    if data["score"] is not None:
        data["score"] = round(float(data["score"]), 4)
    if face.angle:
        data["angle"] = round(face.angle, 4)
    return {key: value for key, value in data.items() if value is not None}


@contextlib.contextmanager
def _writer(form, output_dir, scheme, names):
    """Yields a function that writes the faces of a picture."""
    if form == "pts":
        stems = collections.Counter(os.path.splitext(name)[0] for name in names)

        def write_pts_of(name, frame, at, faces):
            stem = os.path.splitext(name)[0]
            # photo.jpg and photo.png may not share photo.pts
            _write_pts(output_dir / (stem if stems[stem] == 1 else name), frame, faces)

        yield write_pts_of
        return
    if form == "json":
        with json_writer(
            output_dir / "predictions.json", scheme, {"radius_coverage": COVERAGE}
        ) as write:

            def write_json_of(name, frame, at, faces):
                place = {} if frame is None else {"frame": frame, "seconds": round(at, 4)}
                write(name, [record(face) for face in faces], **place)

            yield write_json_of
        return
    with (
        runs.replacing(output_dir / "predictions.csv") as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        yield _csv_writer(file, scheme)


def _csv_writer(file, scheme):
    rows = csv.writer(file, lineterminator="\n")
    columns = [f"{n}_{c}" for n in scheme.names for c in ("x", "y", "error", "radius")]
    rows.writerow(["file", "frame", "face", "score", "x0", "y0", "x1", "y1", *columns])

    def write(name, frame, at, faces):
        for i, face in enumerate(map(record, faces)):
            points = np.full((scheme.num_landmarks, 4), None, object)
            points[:, :2] = face["landmarks"]
            for column, field in ((2, "error"), (3, "radius")):
                points[:, column] = face.get(field)
            rows.writerow(
                [
                    name,
                    frame,
                    face.get("id", i),
                    face.get("score"),
                    *face.get("box", [None] * 4),
                    *points.ravel(),
                ]
            )

    return write


def _write_pts(path, frame, faces):
    """`path`.pts, `path`.face1.pts and so on; for a frame, in a folder `path`."""
    if frame is not None:
        path = path / f"{frame:06d}"
    for i, face in enumerate(faces):
        number = getattr(face, "id", i)
        write_pts(
            path.with_name(f"{path.name}{f'.face{number}' if number else ''}.pts"), face.landmarks
        )


@contextlib.contextmanager
def _overlay(path, file, every):
    """Yields a function that draws the faces of a picture of `file` into one of that name."""
    if path is None:
        yield lambda photo, faces, scheme: None
        return
    with contextlib.ExitStack() as stack:
        video = None

        def draw(photo, faces, scheme):
            nonlocal video
            drawn = draw_faces(photo, faces, scheme.edges)[..., ::-1]
            if not _is_video(file):
                with runs.replacing(path.with_name(path.name + ".jpg")) as temporary:
                    if not cv2.imwrite(str(temporary), drawn):
                        raise OSError(f"OpenCV can't write {temporary}.")
                return
            if video is None:
                temporary = stack.enter_context(runs.replacing(path.with_name(f"{path.name}.avi")))
                size = photo.shape[1::-1]
                codec = cv2.VideoWriter_fourcc(*"MJPG")
                rate = _frame_rate(cv2.VideoCapture(str(file))) / every
                video = cv2.VideoWriter(str(temporary), codec, rate, size)
                stack.callback(video.release)
            video.write(np.ascontiguousarray(drawn))

        yield draw


def _write_skipped(path, skipped):
    if not skipped:
        path.unlink(missing_ok=True)
        return
    with runs.replacing(path) as temporary, temporary.open("w", newline="") as file:
        csv.writer(file).writerows([("file", "reason"), *skipped])
    for name, reason in skipped[:5]:
        logging.warning("Left out %s: %s", name, reason)


@contextlib.contextmanager
def _timed(seconds, part):
    start = time.perf_counter()
    yield
    seconds[part] += time.perf_counter() - start
