"""TFRecord files of `tf.train.Example`, written without TensorFlow.

Cropping needs of TensorFlow only this framing, and a process that imports TensorFlow takes 590 MB
and six seconds: too much for each of many workers, and for a tool that should answer at once. The
tests hold what is written here against TensorFlow's own readers, which verify the checksums.
"""

import functools
import os
import struct
import zlib
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

_POLYNOMIAL = 0x82F63B78  # CRC-32C (Castagnoli), reflected
_CHUNK = 1024


def example(features):
    """A serialized `tf.train.Example`, the same bytes for the same features.

    Args:
        features: dict from names to bytes, which become a `BytesList` of one, or to sequences of
            floats, which become a `FloatList`.

    Example:

    >>> len(example({"source": b"a.jpg", "square": (59.5, 71.5, 60.0)}))
    51
    """
    entries = b""
    for name, value in sorted(features.items()):
        if isinstance(value, bytes):
            feature = _field(1, _field(1, value))
        else:
            feature = _field(2, _field(1, np.asarray(value, "<f4").tobytes()))
        entries += _field(1, _field(1, name.encode()) + _field(2, feature))
    return _field(1, entries)


def frame(record):
    """A record as it stands in a TFRecord file: length, its checksum, the record, its checksum."""
    length = struct.pack("<Q", len(record))
    return b"".join((length, _masked_crc32c(length), record, _masked_crc32c(record)))


def face(
    crop: NDArray[np.uint8], name: str, square: Sequence[float] | NDArray[Any]
) -> tuple[bytes, tuple[int, int, int]]:
    """A face as it stands in a shard, and offset, length and checksum of its PNG in there.

    Args:
        crop: (S+2m, S+2m, 3) RGB.
        name: of its photo.
        square: center x, center y and longer edge of the box of the five points, photo pixels; of
            a rotated crop also its angle.
    """
    quick = (cv2.IMWRITE_PNG_COMPRESSION, 3)
    image = cv2.imencode(".png", cv2.cvtColor(crop, cv2.COLOR_RGB2BGR), quick)[1].tobytes()
    features = {"image": image, "source": os.fsencode(name), "square": square[:3]}
    if len(square) == 4:
        features["angle"] = square[3:]
    framed = frame(example(features))
    return framed, (framed.index(image), len(image), zlib.crc32(image))


def crc32c(data):
    """The CRC-32C of bytes.

    Example:

    >>> hex(crc32c(b"123456789"))
    '0xe3069283'
    """
    tables = _tables()
    register = 0xFFFFFFFF
    for start in range(0, len(data), _CHUNK):
        chunk = data[start : start + _CHUNK]
        if len(chunk) < 4:
            for byte in chunk:
                register = register >> 8 ^ int(tables[0, (register ^ byte) & 0xFF])
            continue
        # The CRC is linear: the register acts as if it were added to the first four bytes, and
        # each byte contributes what its value gives with as many zeros behind it.
        values = np.frombuffer(chunk, np.uint8).copy()
        values[:4] ^= np.frombuffer(struct.pack("<I", register), np.uint8)
        behind = np.arange(len(chunk) - 1, -1, -1)
        register = int(np.bitwise_xor.reduce(tables[behind, values]))
    return register ^ 0xFFFFFFFF


@functools.cache
def _tables():
    """(_CHUNK, 256) uint32: the register after a byte and this many zeros."""
    first = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        first = first >> 1 ^ np.where(first & 1, np.uint32(_POLYNOMIAL), np.uint32(0))
    tables = np.empty((_CHUNK, 256), np.uint32)
    tables[0] = first
    for zeros in range(1, _CHUNK):
        before = tables[zeros - 1]
        tables[zeros] = before >> 8 ^ first[before & 0xFF]
    return tables


def _masked_crc32c(data):
    crc = crc32c(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def _field(number, content):
    """A length-delimited protocol buffer field."""
    return bytes((number << 3 | 2,)) + _varint(len(content)) + content


def _varint(value):
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
