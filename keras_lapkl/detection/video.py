"""Frames of videos, and photos, one after the other."""

import contextlib
import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from keras_lapkl._support.cells import is_utf8
from keras_lapkl.data.images import ImageError, read_image

VIDEO_SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm")
_FRAMES_A_SECOND = 25.0


def read_pictures(
    file: Path, every: int
) -> Iterator[tuple[int | None, float | None, NDArray[np.uint8]]]:
    """(frame, seconds, photo) of a file; frame and seconds are None in a photo."""
    if not is_video(file):
        yield None, None, read_image(file)
        return
    with opencv_path(file) as name:
        video = cv2.VideoCapture(name)
    try:
        rate = _rate(video)
        for frame in itertools.count():
            if not video.grab():
                break
            if frame % every:
                continue
            there, picture = video.retrieve()
            if there:
                yield frame, frame / rate, np.ascontiguousarray(picture[..., ::-1])  # pyright: ignore[reportReturnType]  OpenCV does not tell its types
        if not frame:
            raise ImageError(f"{file}: expected a video. Received: no frame that can be decoded")
    finally:
        video.release()


def is_video(file: Path) -> bool:
    return file.suffix.lower() in VIDEO_SUFFIXES


def frame_rate(file: Path) -> float:
    """Frames a second of a video; 25 if it does not say."""
    with opencv_path(file) as name:
        video = cv2.VideoCapture(name)
    try:
        return _rate(video)
    finally:
        video.release()


@contextlib.contextmanager
def opencv_path(file: Path) -> Iterator[str]:
    """A name for OpenCV to open a file by, to read or to write it.

    OpenCV crashes on one that is not UTF-8, takes `%` for the numbers of pictures, and what stands
    before `:` for a protocol. For the first two this is a link.
    """
    file = file.absolute()
    if is_utf8(file) and "%" not in str(file):
        yield str(file)
        return
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder, "video" + (file.suffix if file.suffix.isascii() else ""))
        link.symlink_to(file)
        yield str(link)


def _rate(video):
    rate = video.get(cv2.CAP_PROP_FPS)
    return rate if 0 < rate < 1000 else _FRAMES_A_SECOND
