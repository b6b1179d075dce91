"""Picture files of all formats, whose bytes are broken, and those that claim to be huge."""

import contextlib
import io
import struct
import zlib

import cv2
import harness
import numpy as np

from keras_lapkl.data.images import MAX_PIXELS, read_image

_RNG = np.random.default_rng(0)
_PHOTO = cv2.GaussianBlur(_RNG.integers(0, 256, (48, 64, 3), np.uint8), (9, 9), 0)
_DEEP = _PHOTO.astype(np.uint16) * 257
_ALPHA = np.dstack([_PHOTO, _PHOTO[..., :1]])
_FILES = {
    "JPEG": [
        cv2.imencode(".jpg", _PHOTO)[1].tobytes(),
        cv2.imencode(".jpg", _PHOTO, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes(),
        cv2.imencode(".jpg", _PHOTO[..., 0])[1].tobytes(),
    ],
    "PNG": [cv2.imencode(".png", each)[1].tobytes() for each in (_PHOTO, _DEEP, _ALPHA)],
    "BMP": [cv2.imencode(".bmp", each)[1].tobytes() for each in (_PHOTO, _PHOTO[..., 0])],
    "WebP": [
        cv2.imencode(".webp", _PHOTO, [cv2.IMWRITE_WEBP_QUALITY, quality])[1].tobytes()
        for quality in (50, 101)
    ],
}
with contextlib.suppress(ModuleNotFoundError):
    import pillow_heif

    _STREAM = io.BytesIO()
    pillow_heif.from_bytes("RGB", (64, 48), _PHOTO.tobytes()).save(_STREAM)
    _FILES["HEIC"] = [_STREAM.getvalue()]
_ORIENTED = b"\xff\xe1\x00\x22Exif\0\0MM\0\x2a" + struct.pack(
    ">IHHHIHHI", 8, 1, 0x112, 3, 1, 6, 0, 0
)


def with_checksums(data):
    """A PNG whose chunks have the right checksums, so that what is in them is looked at."""
    data, at = bytearray(data), 8
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        end = at + 8 + length
        if end + 4 > len(data):
            break
        data[end : end + 4] = struct.pack(">I", zlib.crc32(data[at + 4 : end]))
        at = end + 4
    return bytes(data)


def broken(kind):
    def attempt(rng, folder):
        data = rng.choice(_FILES[kind])
        if kind == "JPEG" and rng.random() < 0.3:
            data = data[:2] + _ORIENTED + data[2:]
        if rng.random() < 0.3:  # most of a picture is pixels; what breaks decoders is before them
            head = rng.randint(16, 64)
            data = harness.mutated(rng, data[:head], most=3) + data[head:]
        else:
            data = harness.mutated(rng, data)
        if kind == "PNG" and rng.random() < 0.7:
            data = with_checksums(data)
        path = folder / "x.jpg"
        path.write_bytes(data)
        photo = read_image(path)
        assert photo.dtype == np.uint8 and photo.ndim == 3 and photo.shape[2] == 3
        assert photo.shape[0] * photo.shape[1] <= MAX_PIXELS

    return attempt


ATTACKS = [
    harness.Attack(f"pictures, {kind}", broken(kind), tries=1000, memory=4 * harness.GIGABYTE)
    for kind in _FILES
]


def test_reads_or_refuses(figures):
    assert not figures.faults
