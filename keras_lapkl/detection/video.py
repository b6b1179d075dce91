"""Frames of videos, and photos, one after the other."""

import contextlib
import itertools
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from keras_lapkl._support.cells import is_utf8
from keras_lapkl._support.reading import open_regular
from keras_lapkl.data.images import MAX_PIXELS, MAX_SIDE, ImageError, read_image

VIDEO_SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm")
_FRAMES_A_SECOND = 25.0


def read_pictures(
    file: Path, every: int
) -> Iterator[tuple[int | None, float | None, NDArray[np.uint8]]]:
    """(frame, seconds, photo) of a file; frame and seconds are None in a photo.

    Raises:
        ImageError: as `read_image`; or a video without a frame that can be decoded, or with frames
            larger than a picture may be.
        OSError: the file can't be opened.
    """
    if not is_video(file):
        yield None, None, read_image(file)
        return
    with opened(file) as video:
        rate = _rate(video)
        for frame in itertools.count():
            if not video.grab():
                break
            if frame % every:
                continue
            there, picture = video.retrieve()
            if there:
                _check_size(file, *picture.shape[1::-1])
                yield frame, frame / rate, np.ascontiguousarray(picture[..., ::-1])  # pyright: ignore[reportReturnType]  OpenCV does not tell its types
        if not frame:
            raise ImageError(f"{file}: expected a video. Received: no frame that can be decoded")


def is_video(file: Path) -> bool:
    return file.suffix.lower() in VIDEO_SUFFIXES


@contextlib.contextmanager
def opened(file: Path) -> Iterator[cv2.VideoCapture]:
    """A regular file as OpenCV's video, closed at the end.

    Raises:
        ImageError: it is a named pipe or a device, or its frames are too large.
        OSError: the file can't be opened.
    """
    with contextlib.ExitStack() as stack:
        try:
            stream = stack.enter_context(open_regular(file))
        except ValueError as error:
            raise ImageError(str(error)) from error
        # By FFmpeg alone, and by number: a name need not be UTF-8, and other readers and FFmpeg
        # take a `%03d` or a `concat:` in it for more than a name.
        name = str(file) if sys.platform == "win32" else f"/dev/fd/{stream.fileno()}"
        video = cv2.VideoCapture(name, cv2.CAP_FFMPEG)
        stack.callback(video.release)
        sides = (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
        _check_size(file, *(video.get(side) for side in sides))
        yield video


def frame_rate(file: Path) -> float:
    """Frames a second of a video; 25 if it does not say."""
    with opened(file) as video:
        return _rate(video)


@contextlib.contextmanager
def opencv_path(file: Path) -> Iterator[str]:
    """A name for OpenCV to write a file by.

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


def _check_size(file, width, height):
    if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
        raise ImageError(
            f"{file}: expected frames of at most {MAX_PIXELS // 10**6} megapixels and {MAX_SIDE} "
            f"pixels a side. Received: {width:.0f}x{height:.0f}"
        )
