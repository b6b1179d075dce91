"""Image files in: upright 8-bit RGB, or an `ImageError` that says what is wrong with the file."""

import collections
import heapq
import itertools
import os
import re
import struct
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from absl import logging
from numpy.typing import NDArray

from keras_lapkl._support import extras, reading, stores
from keras_lapkl._support.stores import State, StorePath
from keras_lapkl._support.types import PathLike

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".heic", ".heif")
OTHER_PICTURES = (
    *(".avif", ".gif", ".jp2", ".jxl", ".psd", ".tif", ".tiff"),
    *(".arw", ".cr2", ".cr3", ".dng", ".nef", ".orf", ".raf", ".rw2"),  # raw, of cameras
)
"""How names of pictures end that are found, to be refused with a remedy, and not read."""
MIN_SIDE = 16
"""Smaller pictures hold no face; most are 1x1 placeholders of broken downloads."""
MAX_SIDE = 32_766
"""OpenCV's warps index the source with 16 bits."""
MAX_PIXELS = 200_000_000
"""600 MB decoded, and what phones take. A small file can claim far more, in its header."""
MAX_BYTES = 1_000_000_000
"""Of a file; so many pixels have 800 MB where nothing is compressed, with an alpha channel."""
MAX_SCANNED_PIXELS = 20 * MAX_PIXELS
"""Of all scans of a JPEG together. Each goes over all pixels, and an empty one has few bytes:
progressive files have 10 scans, and 18 of CMYK."""


class ImageError(ValueError):
    """An image file that can't be used."""


def read_image(path: PathLike | StorePath) -> NDArray[np.uint8]:
    """Reads a JPEG, PNG, BMP or WebP file as upright 8-bit RGB; HEIC with the extra `heic`.

    The EXIF orientation is applied: label coordinates are in the upright picture, as viewers show
    it. Gray and palette pictures become RGB, CMYK is converted, 16 bits are scaled to 8, and of an
    animation the first frame is taken. An alpha channel is dropped, not composited: landmarks are
    clicked on the stored colors, and a background color would be invented.

    Args:
        path: image file. Its content decides the format, not its name.

    Returns:
        (H, W, 3) uint8.

    Raises:
        ImageError: the file is empty, truncated, of another format, its size is outside
            `MIN_SIDE`, `MAX_SIDE`, `MAX_PIXELS` and `MAX_BYTES`, or there is too little memory for
            it; or it is a named pipe or a device. A JPEG without its end marker counts as
            truncated; decoders would fill the rest with gray.
        OSError: the file can't be opened.

    Example:

    >>> read_image("photo.jpg").shape
    (480, 640, 3)
    """
    try:
        data = reading.read_bytes(path, MAX_BYTES)
    except ValueError as error:
        raise ImageError(str(error)) from error
    except MemoryError as error:
        raise ImageError(f"{path}: expected an image that fits into memory.") from error
    if data[4:8] == b"ftyp" and _BRANDS.get(data[8:12]) == _HEIC:
        return _read_heic(path, data)
    check_encoded(path, data)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    except MemoryError as error:
        raise ImageError(f"{path}: expected an image that fits into memory.") from error
    except cv2.error as error:
        raise ImageError(f"{path}: expected an intact image. Received: {error.err}") from error
    if image is None:
        raise ImageError(
            f"{path}: expected an intact image. Received: content that the decoder refuses"
        )
    return image  # pyright: ignore[reportReturnType]  OpenCV does not tell its types


def find_images(folder: PathLike) -> tuple[Path, ...]:
    """The image files in a folder and all folders below it, sorted.

    Links to folders are followed, each real folder is visited once. Hidden files and folders are
    left out.

    Args:
        folder: where to look.

    Returns:
        Tuple of paths, at least one.

    Raises:
        NotADirectoryError: there is no such folder.
        ImageError: it holds no images.

    Example:

    >>> find_images("photos")[0].name
    '1.jpg'
    """
    return find_files(folder, IMAGE_SUFFIXES)[0]


def find_files(
    folder: PathLike, suffixes: tuple[str, ...]
) -> tuple[tuple[Path, ...], collections.Counter[str]]:
    """As `find_images`, of other files too, and what it has passed by.

    Args:
        folder: as there.
        suffixes: how names of the wanted files end, in lower case; they may do so in any.

    Returns:
        The paths; and how many other files there are by suffix, in lower case: `"hidden"` counts
        hidden files and folders, `"no suffix"` what has none.

    Raises:
        NotADirectoryError, ImageError: as there.

    Example:

    >>> find_files("photos", (".jpg",))[1]
    Counter({'.txt': 3, 'hidden': 1})
    """
    passed_by = collections.Counter()
    listed = walk_listed(folder, suffixes, passed_by)
    return tuple(Path(folder, name) for name, _ in listed), passed_by


def walk_listed(
    folder: PathLike | StorePath, suffixes: tuple[str, ...], passed_by: collections.Counter[str]
) -> Iterator[tuple[str, State | None]]:
    """The files of `find_files` one by one, of a store as well, with what a listing tells of them.

    Only the names of one folder are in memory.

    Args:
        folder, suffixes: as there.
        passed_by: where to count what is passed by.

    Yields:
        (name, state): names below the folder, in the order of `find_files`; state is None of this
        machine's files.

    Raises:
        NotADirectoryError, ImageError: as there; the second when all was walked through.
        stores.StoreError: a store can't be reached, or refuses.

    Example:

    >>> list(walk_listed("photos", (".jpg",), collections.Counter()))
    [('1.jpg', None), ('trip/1.jpg', None)]
    """
    folder = stores.at(folder)
    if not isinstance(folder, StorePath) and not os.path.isdir(folder):
        raise _none_at(folder)
    found, visited = 0, set()
    paths = [iter([("", True, None)])]  # what is left of the folder, of one in it, and so on
    while paths:
        name, is_folder, state = next(paths[-1], (None, False, None))
        if name is None:
            paths.pop()
        elif not is_folder:
            found += 1
            yield name, state
        elif (real := _real(folder, name)) not in visited:
            visited.add(real)
            paths.append(_entries(folder, name, suffixes, passed_by))
    if not found:
        there = ", ".join(f"{count} {kind}" for kind, count in passed_by.most_common(5))
        raise ImageError(
            f"{folder}: expected files ({', '.join(suffixes)}) in it or below it. Received: "
            f"{there or 'none'}"
        )


def _entries(folder, below, suffixes, passed_by):
    """Of the wanted files and of the folders in one, sorted: name, whether a folder, state."""
    files, folders, states = [], [], {}
    for name, is_folder, state in _scanned(folder, below, passed_by):
        if not name:
            passed_by["folders without a name"] += 1
        elif name.startswith("."):
            passed_by["hidden"] += 1
        elif is_folder:
            folders.append(name)
        elif name.lower().endswith(suffixes):
            files.append(name)
            if state is not None:
                states[name] = state
        else:
            passed_by[os.path.splitext(name)[1].lower() or "no suffix"] += 1
    files.sort()
    folders.sort()
    merged = heapq.merge(zip(files, itertools.repeat(False)), zip(folders, itertools.repeat(True)))
    return (
        (os.path.join(below, name), is_folder, None if is_folder else states.get(name))
        for name, is_folder in merged
    )


def _scanned(folder, below, passed_by):
    """Name, whether a folder, and state of all in a folder; what can't be read is told."""
    if isinstance(folder, StorePath):
        try:
            yield from (folder / below if below else folder).scan()
        except FileNotFoundError as error:
            if not below:  # else it was there a moment ago
                raise _none_at(folder) from error
        return
    place = os.path.join(folder, below)
    try:
        with os.scandir(place) as entries:
            for entry in entries:
                yield entry.name, _is_folder(entry), None
    except OSError as error:
        if not below:
            raise
        passed_by["unreadable folders"] += 1
        logging.warning("Passed by what is in %s: %s", place, error.strerror or error)


def _none_at(folder):
    return NotADirectoryError(f"Expected a folder of images. There is none at {folder}")


def _real(folder, name):
    """What a folder is, under whatever names; stores know no links."""
    return name if isinstance(folder, StorePath) else os.path.realpath(os.path.join(folder, name))


def _is_folder(entry):
    try:
        return entry.is_dir()
    except OSError:
        return False


def check_encoded(path: PathLike | StorePath, data: bytes) -> None:
    """Refuses by the header what must not or can't be decoded.

    Args:
        path: where the bytes are from, for messages.
        data: of a JPEG, PNG, BMP or WebP file.

    Raises:
        ImageError: as `read_image`, but for what only the decoder notices.
    """
    if not data:
        raise ImageError(f"{path}: expected an image. Received: an empty file")
    inspect = next((f for magic, f in _FORMATS.items() if data.startswith(magic)), None)
    if inspect is None:
        kind = _other_kind(data)
        remedy = ". Save it as JPEG or PNG" if kind else ""
        raise ImageError(
            f"{path}: expected a JPEG, PNG, BMP or WebP file. Received: "
            f"{kind or f'{len(data)} bytes that begin with {data[:8]!r}'}{remedy}"
        )
    scans, most = 0, 0
    try:
        width, height, complete = inspect(data)
        if inspect is _inspect_jpeg and complete:
            most = MAX_SCANNED_PIXELS // max(width * height, 1)
            scans = _count_scans(data, most)
    except struct.error:
        width, height, complete = 0, 0, False
    if not complete:
        raise ImageError(
            f"{path}: expected a complete image. Received: a truncated file of {len(data)} bytes"
        )
    _check_size(path, width, height)
    if scans > most:
        raise ImageError(
            f"{path}: expected at most {most} scans of {width}x{height} pixels. Received: a JPEG "
            "of more. Save it again, as PNG or as JPEG"
        )


def _check_size(path, width, height):
    if min(width, height) < MIN_SIDE:
        raise ImageError(
            f"{path}: expected at least {MIN_SIDE} pixels a side. Received: {width}x{height}"
        )
    if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
        raise ImageError(
            f"{path}: expected at most {MAX_PIXELS // 10**6} megapixels and {MAX_SIDE} pixels a "
            f"side. Received: {width}x{height}. Scale it down"
        )


def _read_heic(path, data):
    """The first picture of a HEIC file. libheif turns it upright, and bounds what it claims."""
    try:
        with extras.needed_by("HEIC"):
            import pillow_heif  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError as error:
        raise ImageError(
            f"{path}: expected a JPEG, PNG, BMP or WebP file. Received: {_HEIC}. Save it as JPEG "
            f"or PNG; {error}"
        ) from error
    try:
        picture = pillow_heif.open_heif(data)  # its header: the pixels come when asked for
        _check_size(path, *picture.size)
        pixels = np.asarray(picture)
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageError(f"{path}: expected an image that fits into memory.") from error
    except Exception as error:  # it raises all kinds
        raise ImageError(f"{path}: expected an intact image. Received: {error}") from error
    if pixels.dtype == np.uint16:  # gray of more than 8 bits, whose highest are set
        pixels = (pixels >> 8).astype(np.uint8)
    gray = pixels.ndim == 2
    rgb = np.repeat(pixels[..., None], 3, axis=-1) if gray else pixels[..., :3]
    return np.ascontiguousarray(rgb)


def _other_kind(data):
    """The name of a picture's kind that is not read; None of what is no picture."""
    if data[4:8] == b"ftyp":
        return _BRANDS.get(data[8:12])
    return next((kind for magic, kind in _OTHER_KINDS.items() if data.startswith(magic)), None)


# Each gives width, height and whether the file reaches its end; struct.error: it stops before.


def _inspect_jpeg(data):
    size = (0, 0)
    at = 2
    while (at := data.find(b"\xff", at)) >= 0:
        (marker,) = struct.unpack_from("B", data, at + 1)
        if marker == 0xFF:  # padding
            at += 1
        elif marker in (0x00, 0x01, *range(0xD0, 0xD9)):  # no segment
            at += 2
        elif marker == 0xDA:  # start of scan; a thumbnail's end marker would lie before
            return *size, data.find(b"\xff\xd9", at) >= 0
        else:
            (length,) = struct.unpack_from(">H", data, at + 2)
            if marker in _FRAMES:  # their header
                size = struct.unpack_from(">HH", data, at + 5)[::-1]
            at += 2 + length
    return *size, False


# The markers that end a file or begin a segment. Decoders pass by the others.
_SEGMENT = re.compile(rb"\xff([\xc0-\xcf\xd9-\xfe])")
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = {0xC2, 0xC6, 0xCA, 0xCE}


def _count_scans(data, most):
    """Scans of a JPEG; those beyond `most` are not looked for, and none where all are fewer."""
    at, scans, channels = 2, 0, None
    while scans <= most and (found := _SEGMENT.search(data, at)) and found[1] != b"\xd9":
        marker, start = found[1][0], found.end()
        if marker in _FRAMES and marker not in _PROGRESSIVE:
            channels = data[start + 7 : start + 8]  # how many
        elif marker == 0xDA:
            # Nearly no file has to be walked through: decoders go on after a scan of all channels
            # only in a progressive one.
            whole = channels == data[start + 2 : start + 3]
            if not scans and (whole or data.count(b"\xff\xda", start) < most):
                return 0
            scans += 1
        at = start + struct.unpack_from(">H", data, start)[0]
    return scans


def _inspect_png(data):
    at = 8
    # The decoder takes the memory that a chunk claims, were it more than the file.
    while data[at + 4 : at + 8] != b"IEND":
        (length,) = struct.unpack_from(">I", data, at)
        at += 12 + length
    return *struct.unpack_from(">II", data, 16), True


def _inspect_bmp(data):
    (header,) = struct.unpack_from("<I", data, 14)
    width, height = struct.unpack_from("<HH" if header == 12 else "<ii", data, 18)
    return width, abs(height), True  # its decoder notices a missing end; negative is top-down


def _inspect_webp(data):
    (length,) = struct.unpack_from("<I", data, 4)
    kind = data[12:16]
    if kind == b"VP8X":
        low, high = struct.unpack_from("<IH", data, 24)
        width, height = (low & 0xFFFFFF) + 1, (low >> 24 | high << 8) + 1
    elif kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    else:
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", data, 26))
    return width, height, len(data) >= 8 + length


_FORMATS = {
    b"\xff\xd8\xff": _inspect_jpeg,
    b"\x89PNG\r\n\x1a\n": _inspect_png,
    b"BM": _inspect_bmp,
    b"RIFF": _inspect_webp,
}
_OTHER_KINDS = {
    b"GIF8": "a GIF",
    b"II*\0": "a TIFF, or a camera's raw picture",
    b"MM\0*": "a TIFF, or a camera's raw picture",
    b"8BPS": "a Photoshop file",
    b"\0\0\0\x0cjP  ": "a JPEG 2000",
    b"\xff\x0a": "a JPEG XL",
    b"\0\0\0\x0cJXL ": "a JPEG XL",
    b"FUJIFILM": "a camera's raw picture",
}
_HEIC = "a HEIC"
_BRANDS = {
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1"), _HEIC),
    **dict.fromkeys((b"avif", b"avis"), "an AVIF"),
    b"crx ": "a camera's raw picture",
}
