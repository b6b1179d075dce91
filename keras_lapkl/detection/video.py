"""Frames of videos, and photos, one after the other."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

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
    video = cv2.VideoCapture(str(file))
    try:
        rate = frame_rate(video)
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


def frame_rate(video: cv2.VideoCapture) -> float:
    """Frames a second of an open video; 25 if it does not say."""
    rate = video.get(cv2.CAP_PROP_FPS)
    return rate if 0 < rate < 1000 else _FRAMES_A_SECOND
