"""MATLAB's files of version 5, as far as arrays of numbers and cells of text go.

SciPy reads more of them, but crashes on some that are damaged.
"""

import math
import struct
import zlib
from collections.abc import Collection, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_lapkl._support.reading import read_bytes
from keras_lapkl._support.types import PathLike

MAX_BYTES = 1 << 28
"""Of a file, and of each array that is compressed in it."""
_HEADER = 128
_MATRIX, _COMPRESSED = 14, 15
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8"}
_NUMBERS |= {12: "i8", 13: "u8"}
_TEXTS = {2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
_CLASS = 0x8FF  # of the flags: the class, and a bit of complex numbers
_CELL, _CHARACTERS, _CLASSES = 1, 4, range(6, 16)


def read_matlab(path: PathLike, names: Collection[str]) -> dict[str, NDArray[Any]]:
    """Some of the arrays in a file by name: of numbers, or of text in cells.

    Args:
        path: the file, of version 5 to 7.2.
        names: of the arrays; what else there is is not looked at.

    Raises:
        OSError: the file can't be opened.
        ValueError: it is of another version, damaged, or one of the arrays is of another kind.

    Example:

    >>> read_matlab("AFLWinfo_release.mat", ["bbox"])["bbox"].shape
    (24386, 4)
    """
    data = read_bytes(path, MAX_BYTES)
    order = {b"IM": "<", b"MI": ">"}.get(data[126:128])
    if order is None or data[124:126] not in (b"\x00\x01", b"\x01\x00"):
        raise ValueError(f"{path}: expected a MATLAB file of version 5 to 7.2.")
    try:
        found = (_array(order, content, names) for content in _matrices(order, data))
        return dict(each for each in found if each is not None)
    except (struct.error, zlib.error, UnicodeDecodeError, ValueError) as error:
        raise ValueError(f"{path}: expected an intact MATLAB file. Received: {error}") from error


def _matrices(order, data):
    for kind, content in _elements(order, data, _HEADER):
        if kind == _COMPRESSED:
            inflate = zlib.decompressobj()
            content = inflate.decompress(content, MAX_BYTES)
            if inflate.unconsumed_tail:
                raise ValueError(f"an array of more than {MAX_BYTES} bytes")
            ((kind, content),) = _elements(order, content)
        if kind == _MATRIX:
            yield content


def _array(order, content, names) -> tuple[str, NDArray[Any]] | None:
    """Name and values of an array; None if its name is not one of the wanted."""
    elements = _elements(order, content)
    kind, sizes, name = _head(order, elements)
    if name not in names:
        return None
    if kind == _CELL:
        values = np.array([_text(order, part) for _, part in elements], np.str_)
    elif kind in _CLASSES:
        values = _numbers(order, *_next(elements))
    else:
        raise ValueError(f"an array {name!r} of class {kind:#x}")
    if values.size != math.prod(sizes):
        raise ValueError(f"{values.size} values of {name!r}, of size {sizes}")
    return name, values.reshape(sizes, order="F")


def _text(order, content):
    elements = _elements(order, content)
    kind, _, _ = _head(order, elements)
    part, text = _next(elements)
    if kind != _CHARACTERS or part not in _TEXTS:
        raise ValueError(f"a cell of class {kind:#x} and type {part}, not of text")
    codec = _TEXTS[part]
    ends = {"<": "-le", ">": "-be"}[order] if codec in ("utf-16", "utf-32") else ""
    return bytes(text).decode(codec + ends)


def _head(order, elements):
    """Class of an array, whether it is complex included, its sizes and its name."""
    flags = _numbers(order, *_next(elements))
    sizes = _numbers(order, *_next(elements)).tolist()
    name = bytes(_next(elements)[1]).decode("latin-1")
    if len(flags) != 2 or len(sizes) < 2 or not all(0 <= size <= MAX_BYTES for size in sizes):
        raise ValueError(f"an array {name!r} of size {sizes}")
    return int(flags[0]) & _CLASS, sizes, name


def _elements(order: str, data: Any, at: int = 0) -> Iterator[tuple[int, memoryview]]:
    """Type and content of each element."""
    data = memoryview(data)
    while at < len(data):
        kind, size = struct.unpack_from(f"{order}II", data, at)
        if kind >> 16:  # a small one, within its own tag
            kind, size, first, end = kind & 0xFFFF, kind >> 16, at + 4, at + 8
        else:
            first = at + 8
            end = first + size + (0 if kind == _COMPRESSED else -size % 8)
        if first + size > min(end, len(data)):
            raise ValueError(f"an element of {size} bytes that ends before")
        yield kind, data[first : first + size]
        at = end


def _next(elements):
    found = next(elements, None)
    if found is None:
        raise ValueError("an array that ends before its values")
    return found


def _numbers(order, kind, content):
    if kind not in _NUMBERS:
        raise ValueError(f"numbers of type {kind}")
    return np.frombuffer(content, np.dtype(order + _NUMBERS[kind]))
