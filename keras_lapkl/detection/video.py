"""Frames of videos, by their own clock, and photos, one after the other."""

import collections
import contextlib
import dataclasses
import itertools
import os
import re
import struct
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from keras_lapkl._support import console
from keras_lapkl._support.csv_names import is_utf8
from keras_lapkl._support.reading import open_regular
from keras_lapkl.data.images import MAX_SIDE, ImageError, read_image

VIDEO_SUFFIXES = (
    *(".3g2", ".3gp", ".asf", ".avi", ".dv", ".f4v", ".flv", ".m2ts", ".m4v", ".mkv", ".mov"),
    *(".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".ogv", ".qt", ".ts", ".vob", ".webm", ".wmv"),
)
MAX_PIXELS = 100_000_000
"""Of a frame; a decoder holds many of them."""
_FRAMES_A_SECOND = 25.0
_PATIENCE = (1_000, 10_000)
"""Broken packets in a row after which a video is at its end: OpenCV says the same of both. As many
as the file states to have, within these two."""
_PAUSE = 0.5
"""Seconds without a frame that are worth a word."""
_MOST_BOXES = 10_000
_RATES = (25.0, 30.0, 50.0, 60.0, 100.0, 120.0)
_STILL = 10
"""Equal frames in a row of which it is asked whether they were converted, which costs a frame; of
those behind them each tenth."""
_RETRIEVING = threading.Lock()
"""What FFmpeg says of a frame must not be taken for what it says of another thread's."""
_REFUSED = re.compile(
    rb"\[swscaler[^]]*\] *([^\n]*(?:cannot|unsupported|invalid|fail)[^\n]*)", re.I
)


@dataclasses.dataclass
class Account:
    """What became of the frames of a video, or of the one picture of a photo.

    Attributes:
        used: those that were given out, and used by whoever took them.
        passed_over: those between two that were asked for.
        broken: those that could not be decoded.
        lost: those that were read and could not be used, by reason.
        absent: (part, reason) of parts of a video in which there are no frames.
        faces: those that were found and left out, by reason.
        doubt: what could not be read, if the file may not be to blame.
    """

    used: int = 0
    passed_over: int = 0
    broken: int = 0
    lost: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    absent: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    faces: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    doubt: str = ""

    @property
    def frames(self) -> int:
        """All that are known of: the sum of the others."""
        return self.used + self.passed_over + self.broken + self.lost.total()


def read_pictures(
    file: Path, every: int, account: Account | None = None
) -> Iterator[tuple[int | None, float | None, NDArray[np.uint8]]]:
    """(frame, seconds, photo) of a file; frame and seconds are None in a photo.

    Frames are as a player shows them: upright, mirrored where the file says so, and with square
    pixels. So are their seconds, whatever the rate: they rise from frame to frame, and one without
    a time follows the one before by the stated rate.

    Args:
        file: a photo, or a video by its suffix.
        every: frames of a video from one that is given to the next.
        account: where to note what was passed over and what is broken; complete at the end.

    Raises:
        ImageError: as `read_image`; or a video without a frame that can be decoded, of frames that
            OpenCV can't convert to RGB, or with frames larger than a picture may be.
        OSError: the file can't be opened.
    """
    if not is_video(file):
        yield None, None, read_image(file)
        return
    account = Account() if account is None else account
    with _opened(file) as (video, container):
        times, failed, decoded = _Clock(1 / _rate(video), container.kind == "AVI"), 0, 0
        if container.mirrored:  # OpenCV would take it for a rotation
            video.set(cv2.CAP_PROP_ORIENTATION_AUTO, 0)
        aspect, begin, former, alike = _aspect(video), None, None, 0
        for broken in _grabs(video):
            failed += broken
            if begin is None:
                begin = _begin(video, container)
            seconds = times.next(video.get(cv2.CAP_PROP_POS_MSEC) / 1000)
            frame, decoded = decoded, decoded + 1
            if frame % every:
                account.passed_over += 1
                continue
            with _RETRIEVING:
                there, picture = video.retrieve()
            alike = alike + 1 if there and _is_like(picture, former) else 0
            if alike and (alike <= _STILL or alike % 10 == 0):
                refused = _refused(video)
                if refused and former is None:
                    raise ImageError(_unconverted(file, refused))
                if refused:  # ask of the next one too
                    there, alike = False, 0
            if not there:
                failed, decoded = failed + 1, decoded - 1
                continue
            former = picture
            _check_size(file, *picture.shape[1::-1])
            if aspect != 1:
                width, height = picture.shape[1::-1]
                size = round(max(aspect, 1) * width), round(max(1 / aspect, 1) * height)
                _check_size(file, *size)
                picture = cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR)
            if container.mirrored:
                picture = _mirrored(picture, *container.mirrored)
            yield frame, seconds, cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)  # pyright: ignore[reportReturnType]  OpenCV does not tell its types
        if not decoded:
            cut = "; the file is cut off: copy it again, or repair it" if container.is_cut else ""
            raise ImageError(
                f"{file}: expected a video. Received: no frame that can be decoded"
                f"{_codec(video) or cut}"
            )
        _close(account, video, container, decoded, failed, times, begin or 0.0)


def frame_times(file: Path) -> NDArray[np.float64]:
    """The seconds of all frames of a video, rising; read from its packets, none of them decoded."""
    with _opened(file, [cv2.CAP_PROP_FORMAT, -1]) as (video, _):
        times = [video.get(cv2.CAP_PROP_POS_MSEC) / 1000 for _ in _grabs(video)]
    return np.unique(np.maximum(times, 0))


def constant_rate(times: NDArray[np.float64], stated: float) -> float:
    """Frames a second at which each time, rounded to a frame, has a frame of its own.

    Args:
        times: (n,) seconds, rising.
        stated: what to take if there are fewer than two.

    Returns:
        The mean rate if it serves, as in a video of constant rate; else the first of 25 to 120 that
        does. 120 if none does: then some frames come later than they should.

    Example:

    >>> constant_rate(np.array([0, 0.1, 0.2, 0.225, 0.25]), 30)
    30.0
    """
    if len(times) < 2:
        return stated
    since = times - times[0]
    mean = float(np.clip(round((len(since) - 1) / since[-1], 3), 0.001, _RATES[-1]))
    for rate in (mean, *(each for each in _RATES if each > mean)):
        if (np.diff(np.round(since * rate)) >= 1).all():
            return rate
    return _RATES[-1]


def is_video(file: Path) -> bool:
    return file.suffix.lower() in VIDEO_SUFFIXES


@contextlib.contextmanager
def opened(file: Path) -> Iterator[cv2.VideoCapture]:
    """A regular file as OpenCV's video, closed at the end.

    Raises:
        ImageError: it is a named pipe or a device, or its frames are too large.
        OSError: the file can't be opened.
    """
    with _opened(file) as (video, _):
        yield video


@contextlib.contextmanager
def _opened(file, options=()):
    """A video as `opened` gives it, and what holds it."""
    with contextlib.ExitStack() as stack:
        try:
            stream = stack.enter_context(open_regular(file))
        except ValueError as error:
            raise ImageError(str(error)) from error
        container = _container(stream)
        stream.seek(0)
        # By FFmpeg alone, and by number: a name need not be UTF-8, and other readers and FFmpeg
        # take a `%03d` or a `concat:` in it for more than a name.
        name = str(file) if sys.platform == "win32" else f"/dev/fd/{stream.fileno()}"
        video = cv2.VideoCapture(name, cv2.CAP_FFMPEG, list(options))
        stack.callback(video.release)
        sides = (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
        _check_size(file, *(video.get(side) for side in sides))
        yield video, container


def frame_rate(file: Path) -> float:
    """Frames a second of a video as it states them; 25 if it does not say."""
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


def _begin(video, container):
    """Seconds before the first frame, which was just read, that the length of a file counts too."""
    rate, begin = (video.get(p) for p in (cv2.CAP_PROP_FPS, cv2.CAP_PROP_PTS))
    return max(begin / rate, 0.0) if container.kind == "Matroska" and rate > 0 else 0.0


def _aspect(video):
    """Width by height of a pixel as frames are read; 1 where that is not said, or can't be."""
    top, bottom = (video.get(p) for p in (cv2.CAP_PROP_SAR_NUM, cv2.CAP_PROP_SAR_DEN))
    found = top / bottom if top > 0 and bottom > 0 else 1.0
    if not 0.25 <= found <= 4:
        return 1.0
    is_turned = video.get(cv2.CAP_PROP_ORIENTATION_AUTO) and (
        video.get(cv2.CAP_PROP_ORIENTATION_META) % 180
    )
    return 1 / found if is_turned else found


def _is_like(picture, former):
    """Whether a picture may be the former one once more: in each 16th row it is."""
    return former is None or np.array_equal(picture[::16], former[::16])


def _refused(video):
    """Why FFmpeg does not convert a frame to RGB; empty if it does.

    It says so on stderr alone: OpenCV gives the former frame in place of it, and without a former
    one whatever was in memory.
    """
    with _RETRIEVING, console.held_stderr(shown=True) as written:  # other threads may write, too
        video.retrieve()
        found = _REFUSED.search(written())
        return found[1].decode(errors="replace").strip() if found else ""


def _unconverted(file, refused):
    remedy = "convert it to H.264 in BT.709 with a program that plays it."
    if "interlaced" in refused:
        remedy = "`ffmpeg -i VIDEO -vf yadif -c:v libx264 other.mp4` converts them."
    return (
        f"{file}: expected frames that OpenCV {cv2.__version__} converts to RGB. Received: "
        f"{refused.removesuffix('.')}. What to do: {remedy}"
    )


def _mirrored(picture, a, b, c, d):
    """A picture whose pixel (x, y) a player shows at (a·x + c·y, b·x + d·y), each of -1, 0, 1."""
    if not a:
        picture = picture.swapaxes(0, 1)
    return picture[:: b + d, :: a + c]


def _codec(video):
    """What a video that OpenCV opens and can't decode is of, and what to do, for messages."""
    code = int(video.get(cv2.CAP_PROP_FOURCC)) if video.isOpened() else 0
    name = code.to_bytes(4, "little").decode("latin-1").strip("\0 ") if code > 0 else ""
    if not (name.isascii() and name.isprintable() and name):
        return ""
    return (
        f", of codec {name}: they are damaged, or OpenCV does not have it here. If a player shows "
        "them, `ffmpeg -i VIDEO -c:v libx264 other.mp4` converts them."
    )


def _grabs(video):
    """For each frame that was found, how many broken packets lay before it."""
    if not video.isOpened():
        return
    patience = np.clip(video.get(cv2.CAP_PROP_FRAME_COUNT), *_PATIENCE)
    failed = 0
    while failed < patience:
        if video.grab():
            yield failed
            failed = 0
        else:
            failed += 1


class _Clock:
    """Times that rise, made of those of a file, where some may be missing or go back."""

    def __init__(self, step, from_first):
        self._step, self._from_first = step, from_first
        self._origin = self.last = None
        self.pause = (0.0, 0.0)  # the longest from one frame to the next

    def next(self, seconds):
        if self._origin is None:
            # AVI has no times of presentation: what OpenCV gives is late by the decoder's delay.
            self._origin = seconds if self._from_first else 0.0
        seconds = max(seconds - self._origin, 0.0)
        if self.last is not None:
            seconds = seconds if seconds > self.last else self.last + self._step
            if seconds - self.last > self.pause[1] - self.pause[0]:
                self.pause = (self.last, seconds)
        self.last = seconds
        return seconds


def _close(account, video, container, decoded, failed, times, begin):
    """Notes which frames of a video are broken, and where there are none."""
    count, rate = (video.get(p) for p in (cv2.CAP_PROP_FRAME_COUNT, cv2.CAP_PROP_FPS))
    account.broken += failed
    # MP4 lists its frames. Those that are listed and don't come are cut away by an editor; or lost,
    # where there is damage.
    listed = container.kind == "MP4"
    if listed and (failed or container.is_cut):
        account.broken = max(failed, int(count) - decoded)
    first, last = times.pause
    usual = (times.last - (last - first)) / max(decoded - 2, 1)
    if last - first > max(_PAUSE, 5 * usual):
        why = "the file has none there: it was paused, or is damaged"
        account.absent.append((f"frames between {first:.2f} and {last:.2f} s", why))
    stated = count / rate - begin if count > 0 and rate > 0 else 0.0
    length = f"; it states to last {stated:.2f} s" if stated > times.last else ""
    missing = stated - times.last - 1 / rate if rate > 0 else 0.0
    if container.is_cut:
        account.absent.append((f"frames after {times.last:.2f} s", f"the file is cut off{length}"))
    elif container.kind == "AVI" and missing > 2 / rate:
        # It counts its frames, and has times by that count: where they are missing is not known.
        why = f"they are damaged: the file states to last {stated:.2f} s. Later times are too early"
        account.absent.append((f"frames of {missing:.2f} s", why))
    elif container.kind == "Matroska" and missing > max(_PAUSE, last - first):
        account.absent.append((f"frames after {times.last:.2f} s", f"the file has none{length}"))


class _Container(NamedTuple):
    """What holds a video: `kind` is MP4, AVI, Matroska or None, by content."""

    kind: str | None
    is_cut: bool  # whether its outermost boxes reach beyond the end of the file
    mirrored: tuple[int, int, int, int] | None = None  # as `_mirrored` takes it; None if it is not


def _container(stream):
    size, head = os.fstat(stream.fileno()).st_size, stream.read(12)
    if head[:4] == b"RIFF":
        return _Container("AVI", 8 + int.from_bytes(head[4:8], "little") > size)
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        is_cut = _end_of_boxes(stream, size, _mp4_box) > size
        return _Container("MP4", is_cut, _mirroring(stream, size))
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return _Container("Matroska", _end_of_boxes(stream, size, _matroska_box) > size)
    return _Container(None, False)


def _end_of_boxes(stream, size, length_of):
    """Where the last of a file's outermost boxes ends; `length_of` is that of a box by its head."""
    at = 0
    for _ in range(_MOST_BOXES):
        if at >= size:
            break
        stream.seek(at)
        head = stream.read(16)
        if len(head) < 16:
            break
        length = length_of(head)
        if length is None:  # up to the end of the file
            return size
        at += length
    return at


def _mirroring(stream, size):
    """How a player mirrors the pictures of an MP4 file, by its first track with an extent."""
    budget = itertools.count()
    movie = next(_boxes_in(stream, b"moov", 0, size, budget), (0, 0))
    for track in _boxes_in(stream, b"trak", *movie, budget):
        start, end = next(_boxes_in(stream, b"tkhd", *track, budget), (0, 0))
        stream.seek(start)
        data = stream.read(96)
        at = 52 if data[:1] == b"\1" else 40  # version 1 has times of eight bytes
        if end - start >= at + 44 and any(data[at + 36 : at + 44]):
            a, b, _, c, d, *_ = struct.unpack(">9i", data[at : at + 36])
            a, b, c, d = (value >> 16 for value in (a, b, c, d))
            is_mirror = sorted(map(abs, (a, b, c, d))) == [0, 0, 1, 1] and a * d - b * c < 0
            return (a, b, c, d) if is_mirror else None
    return None


def _boxes_in(stream, kind, at, end, budget):
    """(start, end) of the content of each box of a kind of an MP4 file, between two places.

    `budget` counts all boxes that are looked at.
    """
    while at < end and next(budget) < _MOST_BOXES:
        stream.seek(at)
        head = stream.read(16)
        length = _mp4_box(head) if len(head) >= 8 else None
        if length is None:
            return
        if head[4:8] == kind:
            yield at + (16 if head[:4] == b"\0\0\0\1" else 8), min(at + length, end)
        at += length


def _mp4_box(head):
    length = int.from_bytes(head[:4], "big")
    if length == 1:
        length = int.from_bytes(head[8:16], "big")
    return length if length >= 8 else None


def _matroska_box(head):
    size = 9 - head[4].bit_length()  # bytes of the length, behind a name of four
    known = (1 << 7 * size) - 1
    length = int.from_bytes(head[4 : 4 + size], "big") & known
    return None if size > 8 or length == known else 4 + size + length


def _check_size(file, width, height):
    if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
        raise ImageError(
            f"{file}: expected frames of at most {MAX_PIXELS // 10**6} megapixels and {MAX_SIDE} "
            f"pixels a side. Received: {width:.0f}x{height:.0f}"
        )
