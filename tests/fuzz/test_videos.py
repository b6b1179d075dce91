"""Videos whose bytes are broken."""

import itertools
import pathlib
import tempfile

import cv2
import harness
import numpy as np

from keras_lapkl.detection.video import Account, frame_rate, frame_times, read_pictures

_CODECS = {".avi": "MJPG", ".mp4": "mp4v", ".webm": "VP80"}
_RNG = np.random.default_rng(0)
_FRAMES = [
    cv2.GaussianBlur(_RNG.integers(0, 256, (48, 64, 3), np.uint8), (9, 9), 0) for _ in range(6)
]


def _video(suffix):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, f"clip{suffix}")
        codec = cv2.VideoWriter_fourcc(*_CODECS[suffix])
        video = cv2.VideoWriter(str(path), codec, 10, (64, 48))
        for frame in _FRAMES:
            video.write(frame)
        video.release()
        return path.read_bytes()


_FILES = {suffix: _video(suffix) for suffix in _CODECS}


def broken(suffix):
    def attempt(rng, folder):
        path = folder / f"clip{rng.choice(tuple(_CODECS))}"
        data = _FILES[suffix]
        if rng.random() < 0.5:  # the headers decide what is read how
            head = rng.randint(16, min(len(data), 1024))
            data = harness.mutated(rng, data[:head], most=3) + data[head:]
        else:
            data = harness.mutated(rng, data)
        path.write_bytes(data)
        account, last = Account(), -1.0
        pictures = itertools.islice(read_pictures(path, rng.randint(1, 3), account), 50)
        for _, seconds, photo in pictures:
            assert photo.dtype == np.uint8 and photo.shape[2:] == (3,)
            assert last < seconds < np.inf
            last, account.used = seconds, account.used + 1
        assert account.used and account.broken >= 0
        assert 0 < frame_rate(path) <= 1000
        assert np.isfinite(frame_times(path)).all()

    return attempt


ATTACKS = [
    harness.Attack(f"videos, {suffix[1:]}", broken(suffix), memory=8 * harness.GIGABYTE)
    for suffix in _CODECS
]


def test_reads_or_refuses(figures):
    assert not figures.faults
