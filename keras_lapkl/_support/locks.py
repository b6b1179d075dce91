"""Which process writes into a folder: one at a time, told by a lock that ends with the process."""

import contextlib
import datetime
import json
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

from absl import logging

from keras_lapkl._support.reading import read_bytes
from keras_lapkl._support.stores import StoreError, StorePath
from keras_lapkl._support.types import PathLike

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None

LOCK = ".lapkl-lock"
_JOB = "SLURM_JOB_ID"
_MAX_BYTES = 4096
_BEGINNING = b'{"host": '
"""Of each lock that `_write_owner` writes."""


def lock(handle: int, wait: bool) -> bool | None:
    """Locks an open file or folder until it is closed, or the process ends in any way.

    Returns:
        True; False if another process holds it and `wait` is false; None where the file system
        knows no locks. NFS knows them of files, for all machines, and not of folders.
    """
    if fcntl is None:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


@contextlib.contextmanager
def owned(folder: PathLike, wait: bool, resume: bool) -> Iterator[None]:
    """Holds a folder for this process alone, by a file `.lapkl-lock` that says whose it is.

    The lock of a process of this machine that has died is taken over. That of another machine's
    process is not, unless the caller knows: whether it has died can't be told from here. SLURM
    starts a job anew only when it has ended everywhere: what is left of the same job is taken over.

    Args:
        folder: which is there.
        wait: whether to wait for a process of this machine that holds it.
        resume: whether another machine's process is known to have ended. One whose lock can be seen
            from here, as on NFS 4, is respected all the same.

    Raises:
        OSError: another process holds it; the message says which, since when, and what to do. Or
            what is there is no lock of ours, such as a link: it would be lost.
    """
    path = Path(folder) / LOCK
    handle, held = _take(path, wait, resume)
    home = Path(os.path.realpath(folder))
    if held:  # without locks several may write there, and each removes the file of all
        _owned[home] = handle
    _homes.append(home)
    try:
        yield
    finally:
        _homes.remove(home)
        if held:
            del _owned[home]
        try:  # nothing here may hide what the body has done, or how it has failed
            if _is_at(handle, path):
                path.unlink(missing_ok=True)
        except OSError as error:
            logging.warning("%s stays: %s. Before another machine goes on, delete it.", path, error)
        os.close(handle)


_owned = {}
"""The open locks of the folders that this process alone holds."""
_homes = []
"""The folders that this process writes into, also where there are no locks."""


def check_owned(path: PathLike) -> None:
    """Refuses to write into a folder that this process held, and that was taken from it.

    Whoever removes a folder may start another process there while the first one still lives: what
    that one writes must not come among the files of the other. And whoever made the folder may have
    left links in it: nothing is written through them.

    Args:
        path: what is to be written; all is well where this process holds none of its folders.

    Raises:
        OSError: one of its folders was removed, or its lock.
        ValueError: a link leads out of one of its folders.
    """
    link = None
    above = Path(os.path.abspath(path))
    there = Path(os.path.realpath(path))
    for each in (above, *above.parents) if _homes else ():
        home = Path(os.path.realpath(each))
        if link is not None and home in _homes and not there.is_relative_to(home):
            refuse_link(link)
        link = each if each.is_symlink() else link
    for folder in there.parents:
        if folder in _owned and not _is_at(_owned[folder], folder / LOCK):
            raise OSError(
                f"{folder} was removed, or its {LOCK}, while this process wrote there: it stops, "
                f"and does not write {path}. Stop a process before you remove its folder."
            )


def refuse_link(path: PathLike) -> None:
    """Refuses a link at a name that no user has given, for what it leads to would be replaced.

    Raises:
        ValueError: with the link.
    """
    if os.path.islink(path):
        raise ValueError(
            f"{path} is a link, and what it leads to would be replaced or added to: remove the "
            "link, or name another output."
        )


_held = set()
"""Locks in stores that this process has."""


@contextlib.contextmanager
def owned_in_store(folder: StorePath, resume: bool) -> Iterator[None]:
    """As `owned`, of a folder of a store, where the lock is the object that is there first.

    It stays when its process is killed. One of this machine, or of this job of SLURM, is seen to
    have ended. Two that take over the same at once, or a store that takes an object where one is,
    cost work done twice and no more: what two of the same settings write there is the same.

    Args:
        folder: in the store.
        resume: whether the process that held it is known to have ended.

    Raises:
        OSError: another process holds it, or the store fails.
    """
    path = folder / LOCK
    mine = json.dumps(_about_me()).encode()
    try:
        path.create(mine)
    except FileExistsError as error:
        with contextlib.suppress(FileNotFoundError):  # its owner ended meanwhile
            owner = _owner(read_bytes(path, _MAX_BYTES))
            if not (resume or _has_ended(path, owner)):
                raise OSError(
                    f"{folder} is being written to by {_told(owner)}. Wait for it to end, or name "
                    "another folder. If that process has ended, add --resume, in Python "
                    "`resume=True`."
                ) from error
        path.write(mine)
    _held.add(path)
    try:
        yield
    finally:
        _held.discard(path)
        try:  # nothing here may hide what the body has done, or how it has failed
            if read_bytes(path, _MAX_BYTES) == mine:  # not one that took it over
                path.remove()
        except FileNotFoundError:
            pass
        except (StoreError, ValueError) as error:  # ValueError: another object lies there
            logging.warning(
                "%s The lock stays: the next run of another machine needs --resume.", error
            )


def _has_ended(path, owner):
    """Whether the owner of a lock in a store can be seen to have ended."""
    if owner is None:
        return False
    if _of_this_job(owner):
        return True
    if owner["host"] != socket.gethostname():
        return False
    if owner["process"] == os.getpid():
        return path not in _held  # in a container that was started again, all are number 1
    try:
        os.kill(owner["process"], 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError, TypeError):  # another user's, or no number of a process
        return False
    return False


def _take(path, wait, resume):
    while True:
        handle = _open(path)
        try:
            held = lock(handle, wait)
            content = os.pread(handle, _MAX_BYTES + 1, 0)
            owner = _owner(content)
            if held is False:
                raise OSError(
                    f"{path.parent} is being written to by {_told(owner)}. Wait for it to end, or "
                    "name another folder."
                )
            if owner is None and not _may_be_cut(content):
                raise _foreign(path, "a file with something else")
            is_left = held and owner is not None and _of_this_job(owner)
            elsewhere = owner is not None and owner["host"] != socket.gethostname()
            if elsewhere and not is_left and not resume:
                raise OSError(
                    f"{path.parent} is being written to by {_told(owner)}. If that process has "
                    f"ended, delete {path}."
                )
            if held is None:
                logging.warning("%s knows no locks: see that one process writes there.", path)
            if not held or _is_at(handle, path):
                _write_owner(handle, path)
                return handle, bool(held)
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # its owner ended meanwhile, and removed it


def _open(path):
    """Opens or makes a lock; nothing that lies elsewhere too, for it is written to and removed."""
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    try:
        handle = None if path.is_symlink() else os.open(path, flags, 0o666)  # for Windows too
    except OSError:
        if not path.is_symlink():  # made meanwhile
            raise
        handle = None
    if handle is None:
        raise _foreign(path, "a link")
    about = os.fstat(handle)
    if not stat.S_ISREG(about.st_mode) or about.st_nlink > 1:
        os.close(handle)
        is_file = stat.S_ISREG(about.st_mode)
        raise _foreign(path, "a file with another name too" if is_file else "no file")
    return handle


def _foreign(path, what):
    return OSError(
        f"Expected a lock that lapkl wrote, or none. Received: {path}, {what}, which would be "
        "written over. Remove it, or name another folder."
    )


def _may_be_cut(content):
    """Whether this may be left of a lock: a kill leaves nothing of it, a power cut also zeros."""
    said = content.rstrip(b"\0")
    return len(content) <= _MAX_BYTES and (
        said.startswith(_BEGINNING) or _BEGINNING.startswith(said)
    )


def _is_at(handle, path):
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except (FileNotFoundError, NotADirectoryError):
        return False


def _write_owner(handle, path):
    os.ftruncate(handle, 0)
    try:
        os.pwrite(handle, json.dumps(_about_me()).encode(), 0)
    except OSError as error:  # the disk is full
        path.unlink()
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error


def _about_me():
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    about = {"host": socket.gethostname(), "process": os.getpid(), "since": now}
    if _JOB in os.environ:
        about["job"] = os.environ[_JOB]
    return about


def _of_this_job(owner):
    """Whether its owner was this very job of SLURM, which starts a job anew when it has ended."""
    return owner["job"] is not None and owner["job"] == os.environ.get(_JOB)


def _owner(content):
    """What a lock file says; None of one that says nothing, or not yet."""
    try:
        about = json.loads(content)
        found = {name: about[name] for name in ("host", "process", "since")}
        return {**found, "job": about.get("job")}
    except (ValueError, TypeError, KeyError):
        return None


def _told(owner):
    if owner is None:
        return "another process"
    return "process {process} on {host} since {since}".format(**owner)
