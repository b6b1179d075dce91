"""Writes the faces of photos and videos: JSON, CSV, .pts and pictures."""

import contextlib
import csv
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from absl import logging

from keras_lapkl._support.csv_names import quote_name
from keras_lapkl._support.files import naming, replacing
from keras_lapkl.data.prediction_files import json_writer
from keras_lapkl.data.pts import write_pts
from keras_lapkl.detection.drawing import draw_by_scheme
from keras_lapkl.detection.face import COVERAGE
from keras_lapkl.detection.unfinished import FOLDER
from keras_lapkl.detection.video import (
    constant_rate,
    frame_rate,
    frame_times,
    is_video,
    opencv_path,
    opened,
)

FORMATS = ("json", "csv", "pts")
OVERLAYS = "overlays"
SKIPPED = "skipped.csv"
_LONGEST_PAUSE = 60.0
"""Seconds that a frame of an overlay may stand, lest a wrong time fill the disk."""


def planned_outputs(form, stems, overlays) -> Iterator[tuple[str, str]]:
    """Names of the files that will be written, below the output folder, and what each is made of.

    Args:
        form: one of `FORMATS`.
        stems: dict from the name of each file to what the files made of it are named by.
        overlays: whether there will be overlays.
    """
    for name in ("results.json", SKIPPED, f"{FOLDER}/"):
        yield name, name
    if form != "pts":
        yield f"predictions.{form}", f"predictions.{form}"
    for name, stem in stems.items():
        video = is_video(Path(name))
        if form == "pts":
            yield f"{stem}/" if video else f"{stem}.pts", name
        if overlays:
            yield f"{OVERLAYS}/{_overlay_name(stem, video)}", name


def remove_former(form, output_dir, former, overlays):
    """Removes what a run before has made of files, of which this one may write less.

    Args:
        form, overlays: as in `planned_outputs`, and announced.
        output_dir: folder of the run.
        former: list of (what files made of it are named by, whether it is a video), which is
            emptied.
    """
    while former:
        stem, video = former.pop()
        path = output_dir / stem
        if overlays:
            (output_dir / OVERLAYS / _overlay_name(stem, video)).unlink(missing_ok=True)
        if form == "pts":
            for each in _pts_of_frames(path) if video else _pts_of_photo(path):
                each.unlink()


def _pts_of_frames(folder):
    names = sorted(folder.iterdir()) if folder.is_dir() else []
    return [each for each in names if re.fullmatch(r"\d{6,}(\.face\d+)?\.pts", each.name)]


def _pts_of_photo(path):
    """`path`.pts, `path`.face1.pts and so on, as far as they are there."""
    names = (f"{path.name}{f'.face{i}' if i else ''}.pts" for i in itertools.count())
    return [*itertools.takewhile(Path.exists, map(path.with_name, names))]


@contextlib.contextmanager
def face_writer(form, output_dir, scheme, stems, opened):
    """Yields a function that writes the faces of a picture.

    Args:
        form, stems: as in `planned_outputs`.
        output_dir: folder to write into.
        scheme: `Scheme` of the landmarks.
        opened: function from the path of a text file to what opens it, as `Record.text`.
    """
    if form == "pts":

        def write_pts_of(name, frame, at, faces):
            _write_pts(output_dir / stems[name], frame, faces)

        yield write_pts_of
        return
    if form == "json":
        path = output_dir / "predictions.json"
        with json_writer(path, scheme, {"radius_coverage": COVERAGE}, opened(path)) as write:

            def write_json_of(name, frame, at, faces):
                place = {} if frame is None else {"frame": frame, "seconds": round(at, 4)}
                write(name, [face.to_dict() for face in faces], **place)

            yield write_json_of
        return
    path = output_dir / "predictions.csv"
    with opened(path) as file:
        yield naming(path)(_csv_writer(file, scheme))


def _csv_writer(file, scheme):
    rows = csv.writer(file, lineterminator="\n")
    columns = [quote_name(f"{n}_{c}") for n in scheme.names for c in ("x", "y", "error", "radius")]
    if not file.tell():
        rows.writerow(["file", "frame", "face", "score", "x0", "y0", "x1", "y1", "lost", *columns])

    def write(name, frame, at, faces):
        for i, face in enumerate(each.to_dict() for each in faces):
            points = np.full((scheme.num_landmarks, 4), None, object)
            points[:, :2] = face["landmarks"]
            for column, field in ((2, "error"), (3, "radius")):
                points[:, column] = face.get(field)
            rows.writerow(
                [
                    quote_name(name),
                    frame,
                    face.get("id", i),
                    face.get("score"),
                    *face.get("box", [None] * 4),
                    {True: 1, False: 0}.get(face.get("lost")),
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
def overlay_writer(folder, stem, file, every, radii=False):
    """Yields a function that draws the faces of a picture of `file` into a copy.

    The copy of a video has a constant rate, at which each frame is shown within half a frame of its
    time and as long as in the video: a frame is repeated until the next one is due.

    Args:
        folder: of the copies; None draws none.
        stem: what they are named by: `stem`.overlay.jpg, or .avi of a video.
        file: the photo or video.
        every: frames of the video from one that is drawn to the next.
        radii: whether to draw these, too.
    """
    if folder is None:
        yield lambda photo, at, faces, scheme: None
        return
    path = folder / _overlay_name(stem, is_video(file))
    with contextlib.ExitStack() as stack:
        write_frame = None

        def draw(photo, at, faces, scheme):
            nonlocal write_frame
            drawn = draw_by_scheme(photo, faces, scheme, radii)
            drawn = cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR)
            if not is_video(file):
                with replacing(path) as temporary:
                    temporary.write_bytes(cv2.imencode(".jpg", drawn)[1].tobytes())
                return
            if write_frame is None:
                rate = constant_rate(frame_times(file)[::every], frame_rate(file) / every)
                add = stack.enter_context(_video(path, rate, drawn.shape[1::-1]))
                write_frame = stack.enter_context(_on_time(add, rate))
            write_frame(drawn, at)

        yield draw


@contextlib.contextmanager
def _on_time(add, rate):
    """Yields a function that adds a frame at its time, in seconds, to a video of constant rate."""
    shown, since, written, step, late = None, 0.0, 0, 1 / rate, 0.0

    def until(at):
        nonlocal written, late
        late += max(at - since - _LONGEST_PAUSE, 0.0)
        while written < round((at - late) * rate):
            add(shown)
            written += 1

    def write(frame, at):
        nonlocal shown, since, written, step
        if shown is None:  # what was lost before it
            shown = frame
        else:
            step = at - since
        until(at)
        add(frame)
        written += 1
        shown, since = frame, at

    yield write
    if shown is not None:
        until(since + step)  # the last one stands as long as the one before it


def _overlay_name(stem, video):
    return f"{stem}.overlay.{'avi' if video else 'jpg'}"


@contextlib.contextmanager
def _video(path, rate, size):
    """Yields a function that adds a frame, BGR; the file is put in place if all can be read."""
    with replacing(path) as temporary:
        with opencv_path(temporary) as name:
            codec = cv2.VideoWriter_fourcc(*"MJPG")  # pyright: ignore[reportAttributeAccessIssue]  not in OpenCV's stubs
            video = cv2.VideoWriter(name, codec, rate, size)
        frames = 0

        def write(frame):
            nonlocal frames
            if frame.shape[1::-1] != size:  # which OpenCV would leave out
                frame = cv2.resize(frame, size)
            video.write(frame)
            frames += 1

        try:
            if not video.isOpened():
                raise OSError("OpenCV can't begin the video")
            yield write
        finally:
            video.release()
        # OpenCV does not tell whether it could write.
        if (found := _whole_frames(temporary, frames)) < frames:
            raise OSError(f"of {frames} frames only {found} were written; is the disk full?")


def _whole_frames(path, expected):
    """How many frames a video has; all of them if the last one of the expected can be read."""
    with opened(path) as video:
        count = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
        video.set(cv2.CAP_PROP_POS_FRAMES, expected - 1)
        return min(count, expected) if video.read()[0] else min(count, expected - 1)


def write_skipped(path, skipped):
    """Writes `skipped`, (file, part, reason) each; no part is the whole file."""
    if not skipped:
        path.unlink(missing_ok=True)
        return
    with (
        replacing(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["file", "part", "reason"])
        rows.writerows(map(quote_name, row) for row in skipped)
    for name, part, reason in skipped[:5]:
        what = quote_name(name) + (part and f", {part}")
        logging.warning("Left out %s: %s", what, quote_name(reason))
