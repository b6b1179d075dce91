"""Files of users in: regular ones only, and never more bytes than asked for."""

import errno
import io
import os
import stat
from typing import BinaryIO

from keras_lapkl._support.stores import StorePath
from keras_lapkl._support.types import PathLike

MAX_TEXT = 1 << 30
"""Bytes of a text file of labels, boxes or predictions; the largest of COCO's has a quarter."""

_KINDS = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)


def open_regular(path: PathLike | StorePath) -> BinaryIO:
    """Opens a regular file to read its bytes; links are followed. Of a store all is read.

    A named pipe would wait for its writer, and a device such as `/dev/zero` has no end.

    Args:
        path: the file.

    Returns:
        A stream, which the caller closes.

    Raises:
        OSError: the file can't be opened, or is a folder.
        ValueError: it is a named pipe, a device or a socket, or its name has a null character.

    Example:

    >>> with open_regular("photo.jpg") as stream:
    ...     stream.read(3)
    b'\\xff\\xd8\\xff'
    """
    if isinstance(path, StorePath):
        return io.BytesIO(path.read(0, byte_size(path)))
    # Without O_NONBLOCK the open itself waits for a pipe's writer; Windows has neither.
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0)
    try:
        handle = os.open(path, flags | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0))
    except OSError as error:
        if error.errno == errno.ENXIO:  # what Linux says of a socket
            raise _irregular(path, "a socket or a device that is not there") from error
        raise
    try:
        mode = os.fstat(handle).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
        if not stat.S_ISREG(mode):
            raise _irregular(path, next((k for test, k in _KINDS if test(mode)), "another kind"))
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def read_bytes(path: PathLike | StorePath, limit: int) -> bytes:
    """All bytes of a regular file, or an error before any is read.

    Args:
        path: the file; links are followed.
        limit: most bytes that it may have, ≥ 0.

    Raises:
        OSError: the file can't be opened or read, or is a folder.
        ValueError: it is a named pipe, a device or a socket, or it is larger than `limit`.

    Example:

    >>> len(read_bytes("model.tflite", limit=2**30))
    356712
    """
    # A file that grows meanwhile is read to where it ended.
    if isinstance(path, StorePath):
        size = _checked(path, byte_size(path), limit)
        return path.read(0, size)
    with open_regular(path) as stream:
        return stream.read(_checked(path, os.fstat(stream.fileno()).st_size, limit))


def _checked(path, size, limit):
    if size > limit:
        raise ValueError(f"{path}: expected at most {limit} bytes. Received: {size}")
    return size


def byte_size(path: PathLike | StorePath) -> int:
    """Bytes of a file.

    Raises:
        OSError: there is none.
    """
    if not isinstance(path, StorePath):
        return os.stat(path).st_size
    return path.state()[0] if path.size is None else path.size


def read_part(path: PathLike | StorePath, start: int, length: int) -> bytes:
    """A part of a regular file, shorter where the file ends.

    Raises:
        OSError, ValueError: as `open_regular`.
    """
    if isinstance(path, StorePath):
        return path.read(start, start + length)
    with open_regular(path) as stream:
        stream.seek(start)
        return stream.read(length)


def read_text(path: PathLike | StorePath, limit: int = MAX_TEXT) -> str:
    """The text of a regular UTF-8 file, without a byte order mark.

    Args:
        path, limit: as in `read_bytes`.

    Raises:
        OSError, ValueError: as in `read_bytes`, or the file is not UTF-8.
    """
    try:
        return read_bytes(path, limit).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: expected UTF-8 text. Received: {error}. Save it as UTF-8"
        ) from error


def _irregular(path, kind):
    return ValueError(f"{path}: expected a regular file. Received: {kind}")
