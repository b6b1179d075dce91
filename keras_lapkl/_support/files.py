"""Files written whole or not at all, and JSON."""

import contextlib
import errno
import json
import os
import pathlib
import re
import shutil
import stat
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from keras_lapkl._support import locks, stores
from keras_lapkl._support.reading import open_regular, read_text
from keras_lapkl._support.stores import StoreError, StorePath
from keras_lapkl._support.types import PathLike

_DAMAGED = (struct.error, zipfile.BadZipFile, zlib.error)
_TEMPORARY = ".lapkl-"
_LEFT = re.compile(re.escape(_TEMPORARY) + r"[a-z0-9_]{8}")
"""What `tempfile` makes of that beginning."""


@contextlib.contextmanager
def replacing(path: PathLike | StorePath, previous: PathLike | None = None) -> Iterator[Path]:
    """Yields a temporary path beside `path`, renamed to it at the end, removed on an error.

    A kill or a power cut at any moment leaves at `path` what was there, or all of what is new:
    file and folder are synced before and after the rename. What a kill leaves beside it, `sweep`
    removes. The temporary name keeps the suffix, by which writers choose a format, and nothing
    else of the name, which may be long or not UTF-8. Where `path` is a link, the file that it
    leads to is written, but nothing out of a folder that is `locks.owned`. What goes to a store is
    written to a temporary file of this machine, and put at the end, which is all or nothing.

    Args:
        path: file to write; missing folders are made. In a store nothing is kept as `previous`.
        previous: what a file that is there is renamed to, in place of being replaced.

    Raises:
        OSError: with `path`, what could not be written; or a folder of it that this process held
            was removed (`locks.check_owned`).
        ValueError: a device, a pipe or a socket is at `path`, which would be lost; or a link leads
            out of a folder of this process.
    """
    if isinstance(path, StorePath):
        with temporary_folder(tempfile.gettempdir()) as folder:
            temporary = folder / f"_{path.suffix}"
            yield temporary
            path.put(temporary)
        return
    path = pathlib.Path(path)
    locks.check_owned(path)
    with naming(path):
        _refuse_device(path)
        path = pathlib.Path(os.path.realpath(path)) if path.is_symlink() else path
        make_folder(path.parent)
        if previous is not None:
            make_folder(pathlib.Path(previous).parent)
        with temporary_folder(path.parent) as folder:
            temporary = folder / f"_{path.suffix}"
            yield temporary
            sync(temporary)
            if previous is not None:
                with contextlib.suppress(FileNotFoundError):
                    os.replace(path, previous)
            os.replace(temporary, path)
            sync(path.parent)


def _refuse_device(path):
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):  # nothing is there, or writing says so
        return
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise ValueError(
            f"Expected the name of a file to write. Received: {path}, a device, a pipe or a socket"
        )


@contextlib.contextmanager
def naming(path: PathLike) -> Iterator[None]:
    """Has an OSError of the block name `path` where it names no file, or a temporary one."""
    try:
        yield
    except OSError as error:
        if error.filename is not None and _TEMPORARY not in str(error.filename):
            raise
        if isinstance(error, (ChildProcessError, ConnectionError)):  # of no file at all
            raise
        if error.errno is None:  # raised by a library, in its own words
            raise OSError(f"{path}: {error}") from error
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error


def sync(path: PathLike) -> None:
    """Returns when the disk holds a file's content, or the names in a folder."""
    is_folder = os.path.isdir(path)
    if is_folder and os.name == "nt":  # which can't open one
        return
    handle = os.open(path, os.O_RDONLY if is_folder else os.O_RDWR)
    try:
        os.fsync(handle)
    except OSError as error:  # some network file systems sync no folders
        if not is_folder or error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)


def make_folder(path: PathLike) -> None:
    """Makes a folder, and those above it; a power cut does not take what is written there.

    Raises:
        ValueError: the address of a store, which would make folders of such names.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        return
    _refuse_address(path)
    make_folder(path.parent)
    path.mkdir(exist_ok=True)
    sync(path.parent)


def _refuse_address(path):
    if stores.is_address(path):
        raise ValueError(
            "Expected a path of this machine; lapkl crop alone writes to stores. Received: "
            f"{stores.redacted(os.fspath(path))}"
        )


@contextlib.contextmanager
def temporary_folder(parent):
    """A folder that is locked, so that `sweep` leaves it alone while this process lives."""
    handle = None
    while handle is None:  # a sweep may be quicker than the lock
        folder = tempfile.mkdtemp(dir=parent, prefix=_TEMPORARY)
        handle = _open_locked(folder, wait=True)
    try:
        yield pathlib.Path(folder)
    finally:
        os.close(handle)
        shutil.rmtree(folder, ignore_errors=True)


def _open_locked(folder, wait):
    """The open lock of a temporary folder; None if it is another's, no file, or all is gone."""
    path = os.path.join(folder, "lock")
    if os.path.islink(path):  # which may lead anywhere
        return None
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)
    except FileNotFoundError:
        return None
    held = locks.lock(handle, wait)
    # Where there are no locks a writer goes on, and a sweep removes nothing.
    if (held or (wait and held is None)) and os.path.exists(path):
        return handle
    os.close(handle)
    return None


def sweep(folder: PathLike, below: bool = True) -> None:
    """Removes what writers that were killed have left in a folder.

    What a living process writes is locked and stays; so does all where the file system knows no
    locks.

    Args:
        folder: where to look.
        below: whether to look in the folders in it, too; links are not followed.
    """
    for root, folders, _ in os.walk(folder):
        for name in filter(_LEFT.fullmatch, folders):
            left = os.path.join(root, name)
            handle = None if os.path.islink(left) else _open_locked(left, wait=False)
            if handle is not None:
                shutil.rmtree(left, ignore_errors=True)
                os.close(handle)
        folders[:] = [name for name in folders if below and not _LEFT.fullmatch(name)]


def check_outputs(
    outputs: Iterable[PathLike], inputs: Iterable[PathLike] = (), links: bool = True
) -> None:
    """Refuses, before the work, to write over what is read, or where nothing can be written.

    Nothing is made: of a folder that is missing, the one above it must take files.

    Args:
        outputs, inputs: files.
        links: whether an output may be a link, as one may that the user has named.

    Raises:
        ValueError: with the file that is an output and an input, the address of a store, a device,
            a pipe, a socket, or a link where none may be.
        OSError: with the output that is a folder, or that can't be written.
    """
    read = {os.path.realpath(path) for path in inputs}
    checked = set()
    for path in map(pathlib.Path, outputs):
        if os.path.realpath(path) in read:
            raise ValueError(f"{path} is an input, and would be replaced: name another output.")
        _refuse_address(path)
        if not links:
            locks.refuse_link(path)
        _refuse_device(path)
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
        real = pathlib.Path(os.path.realpath(path)) if path.is_symlink() else path
        folder = next(each for each in real.parents if each.exists())
        if folder not in checked:
            with naming(real), temporary_folder(folder):
                checked.add(folder)


def write_json(path: PathLike | StorePath, data: Any) -> None:
    """Writes plain data as indented JSON, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(data, indent=2, default=_plain) + "\n", encoding="utf-8")


def read_json(path: PathLike | StorePath) -> Any:
    """The data in a regular JSON file; ValueError with the path if it holds none."""
    text = read_text(path)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # text, huge numbers, deep nesting
        raise ValueError(f"{path} is not valid JSON: {error}") from error


def read_arrays(path):
    """The arrays of an .npz file by name, all read; None if it can't be read, whatever is wrong.

    A store that does not answer is a StoreError. The file must be as `np.savez` writes it, not
    compressed: then it takes no more memory than disk.
    """
    try:
        with open_regular(path) as stream, np.load(stream, allow_pickle=False) as stored:
            if any(each.compress_type != zipfile.ZIP_STORED for each in stored.zip.infolist()):
                return None
            return dict(stored)
    except StoreError:  # which is no damage
        raise
    # Damage shows in many ways, in NumPy, its parser of headers and the zip file.
    except Exception:
        return None


def is_whole_zip(path: PathLike) -> bool:
    """Whether a zip file, such as `.keras`, is there and all of it fits its checksums."""
    try:
        with zipfile.ZipFile(path) as stored:
            return stored.testzip() is None
    # NotImplementedError, RuntimeError: damage that looks like another version or a password.
    except (EOFError, OSError, NotImplementedError, RuntimeError, ValueError, *_DAMAGED):
        return False


def _plain(value):
    if isinstance(value, pathlib.PurePath):
        return str(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"Not plain data: {type(value)}")
