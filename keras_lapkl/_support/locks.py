"""Which process writes into a folder: one at a time, told by a lock that ends with the process."""

import contextlib
import datetime
import json
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from keras_lapkl._support.types import PathLike

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None

LOCK = ".lapkl-lock"
_JOB = "SLURM_JOB_ID"


def lock(handle: int, wait: bool = True) -> bool | None:
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
def owned(folder: PathLike, wait: bool = False) -> Iterator[None]:
    """Holds a folder for this process alone, by a file `.lapkl-lock` that says whose it is.

    The lock of a process of this machine that has died is taken over. That of another machine's
    process is not: whether it has died can't be told from here. SLURM starts a job anew only when
    it has ended everywhere, so that what is left of the same job is taken over.

    Args:
        folder: which is there.
        wait: whether to wait for a process of this machine that holds it.

    Raises:
        OSError: another process holds it; the message says which, since when, and what to do.
    """
    path = Path(folder) / LOCK
    handle = _take(path, wait)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(handle)


def _take(path, wait):
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            held = lock(handle, wait)
            owner = _owner(os.pread(handle, 4096, 0))
            if held is False:
                raise OSError(
                    f"{path.parent} is being written to by {_told(owner)}. Wait for it to end, or "
                    "name another folder."
                )
            is_left = held and owner is not None and _of_this_job(owner)
            if owner and owner["host"] != socket.gethostname() and not is_left:
                raise OSError(
                    f"{path.parent} is being written to by {_told(owner)}. If that process has "
                    f"ended, delete {path}."
                )
            if held is None:
                logging.warning("%s knows no locks: see that one process writes there.", path)
            if not held or _is_at(handle, path):
                _write_owner(handle)
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # its owner ended meanwhile, and removed it


def _is_at(handle, path):
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False


def _write_owner(handle):
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    about = {"host": socket.gethostname(), "process": os.getpid(), "since": now}
    if _JOB in os.environ:
        about["job"] = os.environ[_JOB]
    os.ftruncate(handle, 0)
    os.pwrite(handle, json.dumps(about).encode(), 0)


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
