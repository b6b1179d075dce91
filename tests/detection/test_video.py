import base64
import collections
import concurrent.futures
import csv
import io
import json
import struct
import sys
import tempfile

import cv2
import numpy as np
import pytest

from keras_lapkl.data.images import ImageError
from keras_lapkl.detection import video
from keras_lapkl.detection.files import find_inputs, predict_files, summary
from keras_lapkl.detection.landmark_detector import LandmarkDetector
from keras_lapkl.detection.tracking import LandmarkTracker
from keras_lapkl.detection.video import Account, constant_rate, frame_times, read_pictures

VARIABLE = [*range(0, 1000, 100), *range(1000, 1500, 25)]
"""Milliseconds: ten frames a tenth of a second apart, then twenty a fortieth apart."""
UPRIGHT = (1, 0, 0, 0, 1, 0, 0, 0, 1)
INTERLACED = (  # MPEG-2, 32x32
    "0005A0stTr|Nr0^0005C6oLQ&000000k{AN06+i$0RR9G|M&m^0kx0+^8f$<009B}c?wdO%-^_LQj~~*"
    "00033`*{jdm(1U|T2hpVfB*mi003A2`+xud0kwf2^8f$<009B|ZfpPm0RsANYybcO005W&`+xud0kwf2^8f$<"
    "009B|ZfpPm0RsANYy"
)
OTHER_COLORS = (  # likewise, of a matrix that FFmpeg does not convert: YCgCo
    "0005A0stTr|Nr0s0005C6p8==000000ktau0SEws0RR910k{AN06+i$0RR9G|M&m^0kx0+^Fe?B0099L@)V^nn"
    "ZIzkN>U;K009CM@)V^nnZIzkN>U;K00961SO5Ef0005CfgkfhfB*mi0TOw@000335_!M?00961m;d{K0005Cfg"
    "kfhfB*mi0TOw@000335_!M"
)
RED = (  # likewise, progressive
    "0005A0stTr|Nr0s0005C6p8==000000k{AN06+i$0RR9G|M&m^0kx0+^Fe?B0099L@)V^nnZIzkN>U;K009CM@"
    ")V^nnZIzkN>U;K00961SO5Ef0005CfgkfhfB*mi0TOw@000335_!M?00961m;d{K0005CfgkfhfB*mi0TOw@00"
    "0335_!M"
)
BLUE = (
    "0005A0stTr|Nr0s0005C6p8==000000k{AN06+i$0RR9G|M&m^0kx0+^Fe?B0099L`9&#9_Y2LrN>U;K009CM`"
    "9&#9_Y2LrN>U;K00961SO5Ef0005CfgkfhfB*mi0TOw@000335_!M?00961m;d{K0005CfgkfhfB*mi0TOw@00"
    "0335_!M"
)


def box(kind, *parts):
    data = b"".join(parts)
    return struct.pack(">I", 8 + len(data)) + kind + data


def full(kind, *parts, flags=0):
    return box(kind, struct.pack(">I", flags), *parts)


def movie(path, frames, times, end=None, matrix=UPRIGHT, from_time=None, pixel=None, codec=b"jpeg"):
    """A QuickTime file of JPEG frames at any times, its list of frames before them.

    Args:
        path: the file.
        frames: pictures (H, W, 3) uint8 RGB.
        times: of each, whole milliseconds.
        end: of the last one; by default it lasts as long as the one before.
        matrix: how a player turns the pictures, by rows.
        from_time: where an editor lets it begin, milliseconds.
        pixel: width and height of one, as integers.
        codec: what the frames are said to be.

    Returns:
        Offset and length of each frame in the file.
    """
    samples = [cv2.imencode(".jpg", frame[..., ::-1])[1].tobytes() for frame in frames]
    end = 2 * times[-1] - times[-2] if end is None else end
    lasts = np.diff([*times, end]).tolist()
    height, width = frames[0].shape[:2]
    turned, plain = (
        struct.pack(">9i", *(m << (30 if i % 3 == 2 else 16) for i, m in enumerate(each)))
        for each in (matrix, UPRIGHT)
    )
    entry = box(
        codec,
        struct.pack(">6xH16xHHIIIH32sHh", 1, width, height, 72 << 16, 72 << 16, 0, 1, b"", 24, -1),
        b"" if pixel is None else box(b"pasp", struct.pack(">II", *pixel)),
    )
    edits = b""
    if from_time is not None:
        edit = struct.pack(">IIII", 1, end - from_time, from_time, 1 << 16)
        edits = box(b"edts", full(b"elst", edit))

    def head(start):
        offsets = start + np.cumsum([0, *map(len, samples[:-1])])
        steps = (struct.pack(">II", 1, last) for last in lasts)
        tables = [
            full(b"stsd", struct.pack(">I", 1), entry),
            full(b"stts", struct.pack(">I", len(lasts)), *steps),
            full(b"stsc", struct.pack(">IIII", 1, 1, 1, 1)),
            full(b"stsz", struct.pack(">II", 0, len(samples)), pack(map(len, samples))),
            full(b"stco", struct.pack(">I", len(samples)), pack(offsets)),
        ]
        media = box(
            b"minf",
            full(b"vmhd", bytes(8), flags=1),
            box(b"dinf", full(b"dref", struct.pack(">I", 1), full(b"url ", flags=1))),
            box(b"stbl", *tables),
        )
        track = box(
            b"trak",
            full(
                b"tkhd",
                struct.pack(">8xI4xI16x", 1, end),
                turned,
                struct.pack(">II", width << 16, height << 16),
                flags=7,
            ),
            edits,
            box(
                b"mdia",
                full(b"mdhd", struct.pack(">8xII4x", 1000, end)),
                full(b"hdlr", b"mhlrvide", bytes(13)),
                media,
            ),
        )
        whole = full(
            b"mvhd",
            struct.pack(">8xIIIH10x", 1000, end, 1 << 16, 1 << 8),
            plain,
            bytes(24),
            struct.pack(">I", 2),
        )
        made = box(b"ftyp", b"qt  ", bytes(4), b"qt  ") + box(b"moov", whole, track)
        return made, offsets

    start = len(head(0)[0]) + 8
    made, offsets = head(start)
    path.write_bytes(made + box(b"mdat", *samples))
    return [(int(at), len(sample)) for at, sample in zip(offsets, samples, strict=True)]


def pack(numbers):
    return b"".join(struct.pack(">I", int(n)) for n in numbers)


def grays(count, width=64, height=48):
    """Pictures of one gray each, by which they are known again: 4, 8, 12 and so on."""
    return [np.full((height, width, 3), 4 + 4 * i, np.uint8) for i in range(count)]


def number(picture):
    return round((picture.mean() - 4) / 4)


def overwritten(path, at, length):
    data = bytearray(path.read_bytes())
    data[at : at + length] = bytes(length)
    path.write_bytes(data)


def read(path, every=1):
    """Seconds and numbers of the frames of a video, and its account."""
    account, seconds, numbers = Account(), [], []
    for _, at, picture in read_pictures(path, every, account):
        account.used += 1
        seconds.append(at)
        numbers.append(number(picture))
    return seconds, numbers, account


class TestTimes:
    def test_are_those_of_the_file(self, tmp_path):
        movie(tmp_path / "a.mov", grays(30), VARIABLE)
        seconds, numbers, account = read(tmp_path / "a.mov")
        np.testing.assert_allclose(seconds, np.array(VARIABLE) / 1000, atol=1e-6)
        assert numbers == list(range(30)) and account == Account(used=30)
        np.testing.assert_allclose(frame_times(tmp_path / "a.mov"), seconds, atol=1e-6)

    def test_every_third(self, tmp_path):
        movie(tmp_path / "a.mov", grays(30), VARIABLE)
        seconds, numbers, account = read(tmp_path / "a.mov", every=3)
        np.testing.assert_allclose(seconds, np.array(VARIABLE[::3]) / 1000, atol=1e-6)
        assert numbers == list(range(0, 30, 3)) and account == Account(used=10, passed_over=20)

    def test_of_a_film_whose_beginning_is_cut_away(self, tmp_path):
        """What an editor leaves in the file and does not show is neither used nor broken."""
        movie(tmp_path / "a.mov", grays(30), VARIABLE, from_time=500)
        seconds, numbers, account = read(tmp_path / "a.mov")
        np.testing.assert_allclose(seconds, np.array(VARIABLE[5:]) / 1000 - 0.5, atol=1e-6)
        assert numbers == list(range(5, 30)) and account == Account(used=25)


@pytest.mark.parametrize(
    ("times", "rate"),
    [
        (np.arange(50) / 29.97, 29.97),
        (np.round(np.arange(50) / 30, 3), 30.0),  # Matroska counts milliseconds
        (np.delete(np.arange(90) / 30, [7, 20, 21]), 30.0),  # a phone that loses some
        (np.array(VARIABLE) / 1000, 50.0),
        (np.arange(5) * 10.0, 0.1),
        (np.array([0, 0.001, 0.002, 5]), 120.0),
        (np.array([3.0]), 12.5),
        (np.array([]), 12.5),
    ],
)
def test_constant_rate(times, rate):
    assert constant_rate(times, 12.5) == pytest.approx(rate, rel=2e-3)


def test_a_phone_held_upright(tmp_path):
    """Its sensor lies on its side, and the file says how to turn the pictures."""
    frame = np.full((48, 64, 3), 40, np.uint8)
    frame[:16, :16] = (250, 0, 0)
    movie(tmp_path / "a.mov", [frame] * 3, [0, 40, 80], matrix=(0, 1, 0, -1, 0, 0, 48, 0, 1))
    for _, _, picture in read_pictures(tmp_path / "a.mov", 1):
        assert picture.shape == (64, 48, 3)
        assert picture[4, -4, 0] > 200 > 60 > picture[4, 4, 0]


@pytest.mark.parametrize(
    ("a", "b", "c", "d", "shape", "corner"),
    [
        (-1, 0, 0, 1, (48, 64, 3), (0, -1)),  # as a selfie camera
        (1, 0, 0, -1, (48, 64, 3), (-1, 0)),
        (0, 1, 1, 0, (64, 48, 3), (0, 0)),
        (0, -1, -1, 0, (64, 48, 3), (-1, -1)),
        (0, -1, 1, 0, (64, 48, 3), (-1, 0)),  # turned, not mirrored
        (-1, 0, 0, -1, (48, 64, 3), (-1, -1)),
    ],
)
def test_mirrored_as_the_file_says(tmp_path, a, b, c, d, shape, corner):
    """(x, y) is shown at (a·x + c·y, b·x + d·y); red in the corner, green to its right."""
    frame = np.full((48, 64, 3), 40, np.uint8)
    frame[:16, :16] = (250, 0, 0)
    frame[:16, 16:32] = (0, 250, 0)
    shift = [63 * (a < 0) + 47 * (c < 0), 63 * (b < 0) + 47 * (d < 0)]
    movie(tmp_path / "a.mov", [frame] * 3, [0, 40, 80], matrix=(a, b, 0, c, d, 0, *shift, 1))
    for _, _, picture in read_pictures(tmp_path / "a.mov", 1):
        assert picture.shape == shape
        for color, (x, y) in enumerate([(8, 8), (24, 8)]):
            at = (b * x + d * y + shift[1], a * x + c * y + shift[0])
            assert picture[at].argmax() == color and picture[at].max() > 200
        y, x = (8 + 7 * end if end == 0 else -16 for end in corner)
        assert picture[y, x].argmax() == 0


def test_damaged_boxes_are_passed_by(tmp_path):
    """One that claims to reach beyond all files; and more of them than any file has."""
    movie(tmp_path / "a.mov", grays(3), [0, 40, 80])
    with (tmp_path / "a.mov").open("ab") as file:
        file.write(struct.pack(">I4sQ", 1, b"free", 1 << 63))
    assert read(tmp_path / "a.mov")[1] == [0, 1, 2]
    huge = struct.pack(">I4sQ", 1, b"free", 1 << 63)
    head = full(
        b"tkhd", bytes(36), struct.pack(">9i", -1 << 16, *[0] * 3, 1 << 16, *[0] * 4), b"1" * 8
    )
    track = box(b"trak", head, huge)
    data = box(b"moov", track, huge)
    assert video._mirroring(io.BytesIO(data), len(data)) == (-1, 0, 0, 1)
    data = box(b"moov", 20_000 * box(b"trak"), track)
    assert video._mirroring(io.BytesIO(data), len(data)) is None


@pytest.mark.parametrize(
    ("pixel", "matrix", "shape"),
    [
        ((4, 3), UPRIGHT, (48, 85, 3)),
        ((1, 2), UPRIGHT, (96, 64, 3)),
        ((1, 1), UPRIGHT, (48, 64, 3)),
        ((50, 1), UPRIGHT, (48, 64, 3)),  # no film has such
        ((4, 3), (0, 1, 0, -1, 0, 0, 48, 0, 1), (85, 48, 3)),
        ((4, 3), (0, 1, 0, 1, 0, 0, 0, 0, 1), (85, 48, 3)),
    ],
)
def test_pixels_that_are_not_square(tmp_path, pixel, matrix, shape):
    frame = np.full((48, 64, 3), 40, np.uint8)
    movie(tmp_path / "a.mov", [frame] * 3, [0, 40, 80], matrix=matrix, pixel=pixel)
    assert [picture.shape for *_, picture in read_pictures(tmp_path / "a.mov", 1)] == [shape] * 3


def test_a_codec_that_opencv_may_not_have(tmp_path):
    movie(tmp_path / "a.mov", grays(3), [0, 40, 80], codec=b"vp09")
    with pytest.raises(
        ImageError, match=r"no frame that can be decoded, of codec VP90: .* `ffmpeg"
    ):
        list(read_pictures(tmp_path / "a.mov", 1))


def test_pictures_that_begin_after_the_sound(tmp_path):
    """The stated length has the time before the first frame, from which seconds count."""
    path, begin = tmp_path / "a.mkv", 2000
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    for picture in grays(10):
        writer.write(picture)
    writer.release()
    data = bytearray(path.read_bytes())
    at = data.index(b"\xe7\x81", data.index(b"\x1f\x43\xb6\x75")) + 3  # the time of the cluster
    while data[at : at + 1] == b"\xa3":  # a block: its length, its track, its time
        size = 9 - data[at + 1].bit_length()
        length = int.from_bytes(data[at + 1 : at + 1 + size], "big") & ((1 << 7 * size) - 1)
        at += 1 + size
        (time,) = struct.unpack_from(">h", data, at + 1)
        struct.pack_into(">h", data, at + 1, time + begin)
        at += length
    duration = data.index(b"\x44\x89\x88") + 3
    struct.pack_into(">d", data, duration, struct.unpack_from(">d", data, duration)[0] + begin)
    path.write_bytes(data)
    seconds, _, account = read(path)
    np.testing.assert_allclose(seconds, np.arange(10) / 10, atol=1e-6)
    assert account.absent == []


class TestClock:
    def test_times_that_repeat_or_go_back_go_on_by_the_rate(self):
        clock = video._Clock(0.04, False)
        assert [clock.next(at) for at in (0.0, 0.04, 0.04, 0.0)] == (
            pytest.approx([0, 0.04, 0.08, 0.12])
        )

    def test_an_avi_begins_with_its_first_frame(self):
        clock = video._Clock(0.04, True)
        assert [clock.next(at) for at in (0.08, 0.12)] == pytest.approx([0, 0.04])


class TestUnconverted:
    """Three pictures each that OpenCV does not convert: it gives what was in memory."""

    @pytest.mark.parametrize(
        ("clip", "why", "remedy"),
        [
            (INTERLACED, "Cannot convert interlaced", "ffmpeg -i VIDEO -vf yadif"),
            (OTHER_COLORS, "Unsupported input", "convert it to H.264 in BT.709"),
        ],
        ids=["interlaced", "other colors"],
    )
    def test_refused(self, tmp_path, clip, why, remedy):
        (tmp_path / "a.mpg").write_bytes(base64.b85decode(clip))
        with pytest.raises(ImageError, match=rf"a\.mpg: expected frames that .*{why}.*{remedy}"):
            list(read_pictures(tmp_path / "a.mpg", 1))

    @pytest.mark.parametrize(
        ("clip", "before", "used"),
        [
            (INTERLACED, (RED,), 3),
            (INTERLACED, (RED,) * 5, 19),
            (INTERLACED, (RED,) * 5 + (BLUE,), 18),
            (OTHER_COLORS, (RED,), 2),  # of the last frame before them FFmpeg says the same
            (OTHER_COLORS, (RED,) * 5, 19),
            (OTHER_COLORS, (RED,) * 5 + (BLUE,), 17),
        ],
    )
    def test_behind_others_they_are_broken(self, tmp_path, clip, before, used):
        """Of many still pictures not each is asked of, so the first behind them may pass."""
        parts = map(base64.b85decode, before + (clip,) * 5)
        (tmp_path / "a.mpg").write_bytes(b"".join(parts))
        account = read(tmp_path / "a.mpg")[2]
        assert (account.used, account.broken) == (used, 3 * len(before) + 15 - used)

    def test_not_by_what_is_said_of_another_thread(self, tmp_path):
        for name, parts in (("good", (RED,) * 4), ("bad", (RED,) + (INTERLACED,) * 9)):
            content = b"".join(map(base64.b85decode, parts))
            (tmp_path / f"{name}.mpg").write_bytes(content)
        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            names = ["good", "bad", "bad"] * 30
            accounts = list(pool.map(lambda name: read(tmp_path / f"{name}.mpg")[2], names))
        assert all(each.broken == 0 for each in accounts[::3])
        assert all(each.broken == 27 for each in accounts[1::3])

    def test_pictures_alike_in_some_rows_are_not_asked_of(self, tmp_path, monkeypatch):
        asked = []
        monkeypatch.setattr(video, "_refused", lambda video: asked.append(1))
        first, second = grays(1)[0], grays(1)[0]
        second[20:] = 200
        movie(tmp_path / "a.mov", [first, second], [0, 40])
        assert len(read(tmp_path / "a.mov")[0]) == 2 and len(asked) == 1

    def test_still_pictures_are_none(self, tmp_path, monkeypatch):
        """And of a long still video it is not asked of each picture, which costs time."""
        refused, asked = video._refused, []
        monkeypatch.setattr(video, "_refused", lambda v: asked.append(1) or refused(v))
        movie(tmp_path / "a.mov", [grays(1)[0]] * 30, [40 * i for i in range(30)])
        assert read(tmp_path / "a.mov")[2] == Account(used=30)
        assert len(asked) == 12

    @pytest.mark.parametrize("stderr", [None, "closed"])
    def test_without_stderr(self, tmp_path, monkeypatch, stderr):
        movie(tmp_path / "a.mov", [grays(1)[0]] * 3, [0, 40, 80])
        monkeypatch.setattr(sys, "stderr", None)
        if stderr == "closed":

            def no_folder(**_):
                raise FileNotFoundError

            monkeypatch.setattr(tempfile, "TemporaryFile", no_folder)
        assert read(tmp_path / "a.mov")[2] == Account(used=3)


class TestDamage:
    def test_in_the_middle_costs_those_frames(self, tmp_path):
        places = movie(tmp_path / "a.mov", grays(30), VARIABLE)
        for i in (10, 11, 12, 20):
            overwritten(tmp_path / "a.mov", *places[i])
        seconds, numbers, account = read(tmp_path / "a.mov")
        left = [i for i in range(30) if i not in (10, 11, 12, 20)]
        assert numbers == left
        np.testing.assert_allclose(seconds, np.array(VARIABLE)[left] / 1000, atol=1e-6)
        assert (account.used, account.broken, account.frames) == (26, 4, 30)

    def test_at_the_end(self, tmp_path):
        places = movie(tmp_path / "a.mov", grays(30), VARIABLE)
        with (tmp_path / "a.mov").open("rb+") as file:
            file.truncate(places[20][0])
        _, numbers, account = read(tmp_path / "a.mov")
        assert numbers == list(range(20))
        assert (account.used, account.broken, account.frames) == (20, 10, 30)
        ((part, reason),) = account.absent
        assert part == "frames after 1.23 s" and "cut off; it states to last 1.50 s" in reason

    @pytest.mark.parametrize(("suffix", "codec"), [("avi", "MJPG"), ("webm", "VP80")])
    def test_the_end_of_other_containers(self, tmp_path, rng, suffix, codec):
        path = tmp_path / f"a.{suffix}"
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), 10, (64, 48))
        for _ in range(20):
            writer.write(rng.integers(0, 256, (48, 64, 3), np.uint8))
        writer.release()
        assert read(path)[2] == Account(used=20)
        with path.open("rb+") as file:
            file.truncate(path.stat().st_size // 2)
        account = read(path)[2]
        assert 5 <= account.used < 15
        ((_, reason),) = account.absent
        assert reason == "the file is cut off; it states to last 2.00 s"

    def test_in_the_middle_of_an_avi(self, tmp_path, rng):
        """Its frames have no times: those behind the damage come too early."""
        path = tmp_path / "a.avi"
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
        for _ in range(30):
            writer.write(rng.integers(0, 256, (48, 64, 3), np.uint8))
        writer.release()
        size = path.stat().st_size
        overwritten(path, size // 3, size // 5)
        seconds, _, account = read(path)
        ((part, reason),) = account.absent
        missing = 30 - len(seconds)
        assert 3 <= missing <= 10 and part == f"frames of {missing / 10:.2f} s"
        assert reason.startswith("they are damaged: the file states to last 3.00 s")

    def test_a_pause(self, tmp_path):
        movie(tmp_path / "a.mov", grays(4), [0, 40, 2000, 2040])
        ((part, reason),) = read(tmp_path / "a.mov")[2].absent
        assert part == "frames between 0.04 and 2.00 s" and "paused, or is damaged" in reason

    def test_no_frame_at_all(self, tmp_path):
        for place in movie(tmp_path / "a.mov", grays(3), [0, 40, 80]):
            overwritten(tmp_path / "a.mov", *place)
        with pytest.raises(ImageError, match="no frame that can be decoded"):
            read(tmp_path / "a.mov")

    def test_a_file_without_its_list_of_frames(self, tmp_path):
        """As a phone leaves it that dies while it records."""
        movie(tmp_path / "a.mov", grays(3), [0, 40, 80])
        data = (tmp_path / "a.mov").read_bytes()
        frames = data[data.index(b"mdat") - 4 :]
        (tmp_path / "a.mov").write_bytes(data[: data.index(b"moov") - 4] + frames[:-20])
        with pytest.raises(ImageError, match=r"no frame .*; the file is cut off: copy it again"):
            read(tmp_path / "a.mov")


@pytest.fixture
def detector(stub):
    return LandmarkDetector(stub.Localizer(stub.POINTS), stub.detector(stub.BOX))


def run(detector, inputs, output, **kwargs):
    return predict_files(detector, find_inputs(inputs), output, **kwargs)


def skipped(output):
    with (output / "skipped.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["file", "part", "reason"]
    return rows


class TestOverlays:
    """With a detector that finds nothing, so that nothing is drawn over the gray."""

    @pytest.fixture
    def overlay(self, detector, tmp_path):
        """`overlay(times)` draws a video: its rate, and the numbers of the frames it shows."""
        detector.detector = lambda photo: []

        def drawn(times, frames=None, **kwargs):
            movie(tmp_path / "a.mov", frames or grays(len(times)), times)
            run(detector, [tmp_path / "a.mov"], tmp_path / "out", overlays=True, **kwargs)
            made = cv2.VideoCapture(str(tmp_path / "out" / "overlays" / "a.overlay.avi"))
            shown = [number(picture) for _, picture in iter(made.read, (False, None))]
            return made.get(cv2.CAP_PROP_FPS), shown

        return drawn

    def test_keep_time_where_the_rate_varies(self, overlay):
        rate, shown = overlay(VARIABLE)
        first = {n: shown.index(n) / rate for n in range(30)}
        times = np.array(VARIABLE) / 1000
        assert np.abs(times - [first[n] for n in range(30)]).max() <= 0.5 / rate + 1e-6
        assert abs(len(shown) / rate - 1.5) <= 1 / rate

    def test_have_no_frame_twice_where_it_does_not(self, overlay):
        assert overlay(list(range(0, 400, 40))) == (25, list(range(10)))

    def test_of_every_second_frame(self, overlay):
        assert overlay(list(range(0, 400, 40)), every=2) == (12.5, list(range(0, 10, 2)))

    def test_do_not_wait_for_a_wrong_time(self, overlay):
        """Or one would fill the disk."""
        rate, shown = overlay([0, 1000, 2**31 - 10_000, 2**31 - 9_000])
        assert set(shown) == {0, 1, 2, 3} and len(shown) <= 130 * max(rate, 1)

    def test_frames_of_another_size(self, overlay):
        """As of a call: the later ones are fitted to the first."""
        frames = [*grays(5), *grays(10, 128, 64)[5:]]
        assert overlay(list(range(0, 400, 40)), frames) == (25, list(range(10)))


class TestAccount:
    def test_sums(self, detector, stub, tmp_path):
        places = movie(tmp_path / "in.mov", [stub.ramp()] * 30, VARIABLE)
        overwritten(tmp_path / "in.mov", *places[12])
        find, calls = detector.detector, []

        def sometimes(photo):
            calls.append(photo)
            if len(calls) in (2, 3):
                raise ValueError("a bad frame")
            return find(photo)

        detector.detector = sometimes
        results = run(detector, [tmp_path / "in.mov"], tmp_path / "out", every=2)
        frames = {"read": 30, "used": 13, "passed_over": 14, "skipped": 2, "broken": 1}
        assert results["frames"] == frames
        assert (results["files"], results["used"], results["skipped"]) == (1, 1, 0)
        assert skipped(tmp_path / "out") == [
            ["in.mov", "1 of 30 frames", "can't be decoded"],
            ["in.mov", "2 of 30 frames", "a bad frame"],
        ]
        assert "30; 13 used, 14 passed over by --every, 2 skipped, 1 broken" in summary(results)

    def test_a_bad_frame_or_photo_decides_for_no_other(self, detector, stub, tmp_path):
        for name in ("a", "b", "c"):
            movie(tmp_path / f"{name}.mov", [stub.ramp()] * 3, [0, 40, 80])
        (tmp_path / "a.mov").write_bytes(b"no video")
        cv2.imwrite(str(tmp_path / "d.png"), stub.ramp())

        trackers = iter([None, None, lambda photo, at: detector(photo)])

        def tracker():
            if (made := next(trackers)) is None:
                raise ValueError("no tracker today")
            return made

        results = run(detector, [tmp_path], tmp_path / "out", tracker=tracker)
        assert (results["files"], results["used"], results["skipped"]) == (4, 2, 2)
        assert results["pictures"] == results["frames"]["used"] + 1 == 4
        assert [row[:2] for row in skipped(tmp_path / "out")] == [["a.mov", ""], ["b.mov", ""]]

    def test_a_box_beside_the_picture_decides_for_no_other(self, stub, tmp_path):
        cv2.imwrite(str(tmp_path / "a.png"), stub.ramp())
        movie(tmp_path / "b.mov", [stub.ramp()] * 3, [0, 40, 80])
        both = np.array([[900.0, 0, 950, 50], stub.BOX])
        boxes = {"a.png": both, "b.mov": both, "c.png": both}
        detector = LandmarkDetector(stub.Localizer(stub.POINTS))
        results = run(detector, [tmp_path], tmp_path / "out", boxes=boxes)
        assert (results["pictures"], results["faces"], results["skipped"]) == (4, 4, 0)
        assert results["boxes_without_file"] == 2
        assert "2 boxes are of none of the files" in summary(results)
        why = "it is beside the picture, which has 200x160 pixels"
        assert skipped(tmp_path / "out") == [
            ["a.png", "box 1 of 2", why],
            ["b.mov", "box 1 of 2 in 3 frames", why],
        ]

    def test_faces_that_are_left_out(self, detector, stub, tmp_path):
        """One whose crop would lie beside the photo, and one too unsure to follow in a video."""
        detector.detector = stub.detector(stub.BOX, (-4000.0, 20, 1, 70))
        cv2.imwrite(str(tmp_path / "a.png"), stub.ramp())
        movie(tmp_path / "b.mov", [stub.ramp()] * 2, [0, 40])
        results = run(
            detector,
            [tmp_path],
            tmp_path / "out",
            tracker=lambda: LandmarkTracker(detector, max_scale=0.1),
        )
        assert (results["pictures"], results["faces"]) == (3, 1)
        left_out = results["faces_left_out"]
        assert left_out == {
            "its crop would lie beside the picture": 3,
            "too unsure or too small to follow": 2,
        }
        assert "2 more faces were detected and left out: too unsure" in summary(results)

    def test_what_is_passed_by(self, detector, stub, tmp_path):
        folder = tmp_path / "in"
        folder.mkdir()
        cv2.imwrite(str(folder / "a.jpg"), stub.ramp())
        (folder / "a.jpg").rename(folder / "a.JFIF")
        (folder / "b.TIF").write_bytes(b"II*\0" + bytes(20))
        for name in ("a.txt", "b.txt", ".DS_Store"):
            (folder / name).touch()
        passed_by = collections.Counter()
        files = find_inputs([folder], passed_by)
        results = predict_files(detector, files, tmp_path / "out", passed_by=passed_by)
        assert (results["files"], results["used"], results["skipped"]) == (2, 1, 1)
        assert results["passed_by"] == {".txt": 2, "hidden": 1}
        assert "neither photos nor videos: 2 .txt, 1 hidden" in summary(results)
        ((name, part, reason),) = skipped(tmp_path / "out")
        assert (name, part) == ("b.TIF", "") and "Save it as JPEG or PNG" in reason
        kept = json.loads((tmp_path / "out" / "results.json").read_text())
        assert kept == results
