"""Writes the faces of photos and videos: JSON, CSV, .pts and pictures."""

import collections
import contextlib
import csv
import logging
import os

import cv2
import numpy as np

from keras_lapkl._support.files import replacing
from keras_lapkl.data.prediction_files import json_writer
from keras_lapkl.data.pts import write_pts
from keras_lapkl.detection.drawing import draw_by_scheme
from keras_lapkl.detection.face import COVERAGE
from keras_lapkl.detection.video import frame_rate, is_video, opened

FORMATS = ("json", "csv", "pts")


def distinct_stems(names):
    """What the files made of each file are named by: its name without the suffix where no other
    file, such as photo.png beside photo.jpg, would be named so; else its name.

    Example:

    >>> distinct_stems(["a.jpg", "b.jpg", "b.png"])
    {'a.jpg': 'a', 'b.jpg': 'b.jpg', 'b.png': 'b.png'}
    """
    stems = {name: os.path.splitext(name)[0] for name in names}
    taken = collections.Counter((*stems, *stems.values()))
    return {name: stem if taken[stem] == 1 else name for name, stem in stems.items()}


@contextlib.contextmanager
def face_writer(form, output_dir, scheme, names):
    """Yields a function that writes the faces of a picture."""
    if form == "pts":
        stems = distinct_stems(names)

        def write_pts_of(name, frame, at, faces):
            _write_pts(output_dir / stems[name], frame, faces)

        yield write_pts_of
        return
    if form == "json":
        with json_writer(
            output_dir / "predictions.json", scheme, {"radius_coverage": COVERAGE}
        ) as write:

            def write_json_of(name, frame, at, faces):
                place = {} if frame is None else {"frame": frame, "seconds": round(at, 4)}
                write(name, [face.to_dict() for face in faces], **place)

            yield write_json_of
        return
    with (
        replacing(output_dir / "predictions.csv") as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        yield _csv_writer(file, scheme)


def _csv_writer(file, scheme):
    rows = csv.writer(file, lineterminator="\n")
    columns = [f"{n}_{c}" for n in scheme.names for c in ("x", "y", "error", "radius")]
    rows.writerow(["file", "frame", "face", "score", "x0", "y0", "x1", "y1", *columns])

    def write(name, frame, at, faces):
        for i, face in enumerate(each.to_dict() for each in faces):
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
def overlay_writer(path, file, every, radii=False):
    """Yields a function that draws the faces of a picture of `file` into `path`.overlay.jpg.

    Those of a video go into `path`.overlay.avi.
    """
    if path is None:
        yield lambda photo, faces, scheme: None
        return
    with contextlib.ExitStack() as stack:
        video = None

        def draw(photo, faces, scheme):
            nonlocal video
            drawn = draw_by_scheme(photo, faces, scheme, radii)[..., ::-1]
            if not is_video(file):
                with replacing(path.with_name(f"{path.name}.overlay.jpg")) as temporary:
                    if not cv2.imwrite(str(temporary), drawn):
                        raise OSError(f"OpenCV can't write {temporary}.")
                return
            if video is None:
                name = f"{path.name}.overlay.avi"
                temporary = stack.enter_context(replacing(path.with_name(name)))
                size = photo.shape[1::-1]
                codec = cv2.VideoWriter_fourcc(*"MJPG")  # pyright: ignore[reportAttributeAccessIssue]  not in OpenCV's stubs
                with opened(file) as source:
                    rate = frame_rate(source) / every
                video = cv2.VideoWriter(str(temporary), codec, rate, size)
                stack.callback(video.release)
            video.write(np.ascontiguousarray(drawn))

        yield draw


def write_skipped(path, skipped):
    if not skipped:
        path.unlink(missing_ok=True)
        return
    with replacing(path) as temporary, temporary.open("w", newline="") as file:
        csv.writer(file).writerows([("file", "reason"), *skipped])
    for name, reason in skipped[:5]:
        logging.warning("Left out %s: %s", name, reason)
