"""Work spread over machines by Dask, its results in order, even if workers die.

The second executor beside `workers`: the same functions, batches and answers. Dask says that the
workers of some work died, and not on which item: that is found out on this machine, by `workers`.
"""

import collections
import contextlib
import functools
import itertools
import logging as python_logging
import os
import pickle
import socket
import sys
import time
from typing import Any, NamedTuple

import cv2
from absl import logging

from keras_lapkl._support import extras, workers
from keras_lapkl._support.provenance import installed_version
from keras_lapkl._support.tensorflow import quiet_tensorflow

PIECE = 256
"""Photos that a worker takes at once; of 64, carrying a result takes twice the time."""
_AHEAD = 3  # pieces begun for each thread of a worker, so that memory stays bounded
_CONNECT = 60.0  # seconds to wait for a scheduler
_CONNECT_AGAIN = 30.0  # and for one that has ended, or the way to it
_MAX_BREAKS = 20  # of the connection, without a result in between
_PATIENCE = 60.0  # seconds between two words that no worker is there
_MAX_FAULTS = 3
_PACKAGES = ("keras_lapkl", "numpy", "ai-edge-litert", "tensorflow", "mtcnn", "pillow-heif")
"""What may change the bytes of a result, beside Python and OpenCV."""


def map_in_order(function, batches, scheduler, died, doubt, piece=None):
    """Yields `function(item)` of the items of all batches, in order, found by a cluster's workers.

    A piece whose worker dies is given to others, and a connection that breaks is made anew. What
    workers can't answer, or not surely, this machine answers by a process of its own.

    Args:
        function: from an item to its result, which is not None; function, items and results can
            be pickled.
        batches: iterable of sequences of items. Read only a little ahead of the results.
        scheduler: address of a Dask scheduler, `tcp://host:8786`, or the file that it has written
            (`--scheduler-file`), whose name ends in `.json`.
        died: from an item to its result, where this machine's processes died on it, too.
        doubt: from a result to what is wrong with it, if the machine may be to blame, such as
            "a.jpg: Stale file handle"; else to "".
        piece: items that a worker takes at once; None for `PIECE`.

    Raises:
        ModuleNotFoundError: Dask is not installed.
        ConnectionError: there is no such scheduler, it ends, a machine has other software, or a
            worker can't read what this machine reads.
    """
    extras.require("`scheduler`", "distributed")
    import distributed

    function = _Prepared(function)
    items = itertools.chain.from_iterable(batches)
    pieces = iter(lambda: list(itertools.islice(items, piece or PIECE)), [])
    faults = collections.Counter()
    with contextlib.closing(_answered(distributed, scheduler, function, pieces)) as answers:
        for asked, host, found in answers:
            yield from _settled(function, asked, host, found, died, doubt, faults)


def each(function, items, scheduler=None):
    """Gives an iterator of `function(item)` of each item, in order, where none may be left out.

    Args:
        function, scheduler: as in `map_in_order`; without scheduler this process does all.
        items: iterable, read only a little ahead of the results.

    Raises:
        ModuleNotFoundError: at once, if Dask is not installed.
        ConnectionError: as `map_in_order`.
        ChildProcessError: three processes of this machine died on an item, as workers had.
        Exception: what the function raises, as it would here.

    Example:

    >>> list(each(abs, [-1, 2]))
    [1, 2]
    """
    if scheduler is None:
        return (function(item) for item in items)
    extras.require("`scheduler`", "distributed")
    return _each(functools.partial(_tried, function), items, scheduler)


def _each(function, items, scheduler):
    batches = ([item] for item in items)
    found = map_in_order(function, batches, scheduler, _unanswered, lambda tried: tried.doubt, 1)
    with contextlib.closing(found):
        for tried in found:
            if tried.error is not None:
                raise tried.error
            yield tried.result


class _Tried(NamedTuple):
    """What a function gave, or raised; and the doubt, if the machine may be to blame."""

    result: Any
    error: Exception | None = None
    doubt: str = ""


def _tried(function, item):
    try:
        return _Tried(function(item))
    except Exception as error:  # raised again on the machine that asked
        return _Tried(None, portable(error), str(error) if is_of_machine(error) else "")


def portable(error):
    """An error that can be pickled, without the frames that it holds."""
    try:
        return pickle.loads(pickle.dumps(error))
    except Exception:  # some can't be built again from what they keep
        return ValueError(f"{type(error).__name__}: {error}")


def _unanswered(_):
    return _Tried(
        None,
        ChildProcessError(
            "Workers died on a part of the work, and three processes of this machine as well. Is "
            "there memory enough? Without `scheduler` the error is told."
        ),
    )


def is_of_machine(error):
    """Whether an error, or what it came from, may be another one on another machine.

    Example:

    >>> is_of_machine(OSError("stale file handle")), is_of_machine(ValueError("no face"))
    (True, False)
    """
    while error is not None:
        if isinstance(error, (OSError, MemoryError, ImportError)):
            return True
        if isinstance(error, cv2.error) and error.code == cv2.Error.StsNoMem:
            return True
        error = error.__cause__
    return False


@contextlib.contextmanager
def _connected(distributed, scheduler, wait):
    """A client of a scheduler, which may take some seconds to be there."""
    is_file = os.fspath(scheduler).endswith(".json")
    deadline = time.monotonic() + wait
    try:
        if is_file:
            _wait_for(scheduler, wait)
        client = None
        while client is None:
            try:
                client = distributed.Client(
                    **{"scheduler_file" if is_file else "address": os.fspath(scheduler)},
                    timeout=wait,
                    set_as_default=False,
                )
            # It may break within a greeting, too, of which Dask asserts that it is whole.
            except (OSError, AssertionError) as error:
                if time.monotonic() > deadline:
                    raise OSError(str(error) or "it broke within a greeting") from error
    except (OSError, ValueError) as error:
        raise _NoSchedulerError(
            f"Expected the address of a Dask scheduler that runs, such as tcp://host:8786, or the "
            f".json file that it has written. Received: {scheduler} ({error})"
        ) from error
    with _silent("distributed", "distributed.client"):
        try:
            yield client
        finally:
            _close(client)


def _close(client):
    """Closes a client; how its own attempt to make a broken way anew has ended is not told."""
    try:
        client.close()
    except Exception:
        client.status = "closed"  # else it is closed again, with a traceback, when it is forgotten


@contextlib.contextmanager
def _silent(*names):
    """Has loggers say nothing: what Dask's client tells with tracebacks is told here in words."""
    loggers = [python_logging.getLogger(name) for name in names]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(python_logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def _wait_for(file, wait):
    deadline = time.monotonic() + wait
    while not os.path.exists(file):
        if time.monotonic() > deadline:
            raise FileNotFoundError("there is no such file")
        time.sleep(0.1)


def _answered(distributed, scheduler, function, pieces):
    """Each piece in order, with the worker's host and its answers, None for what it left open.

    A way to the scheduler that breaks is made anew, and what had been given out is given again.
    """
    packed = pickle.dumps(function)
    begun = collections.deque()
    wait, breaks = _CONNECT, 0
    while True:
        try:
            with _connected(distributed, scheduler, wait) as client:
                for answer in _answered_by(client, scheduler, packed, begun, pieces):
                    breaks = 0
                    yield answer
                return
        except _BrokenError as error:
            breaks += 1
            if breaks > _MAX_BREAKS:
                raise _ended(scheduler) from error
            logging.warning("The way to %s is broken: making it anew.", scheduler)
        except _NoSchedulerError as error:
            if not begun:
                raise
            raise _ended(scheduler) from error
        wait = _CONNECT_AGAIN


class _NoSchedulerError(ConnectionError):
    """There is no such scheduler."""


class _BrokenError(Exception):
    """The connection to the scheduler has broken."""


def _ended(scheduler):
    return ConnectionError(
        f"The Dask scheduler at {scheduler} has ended, or the way to it. Start it, and give the "
        "same command again. `lapkl crop` and `lapkl predict` go on from what is finished, on "
        "another machine with --resume."
    )


def _answered_by(client, scheduler, packed, begun, pieces):
    """As `_answered`, by one client.

    Args:
        begun: deque of pieces that were given out; they stay there until they are answered.
    """
    from distributed import KilledWorker

    def submit(piece):
        with _breaking():
            return client.submit(_answer, packed, versions(), piece, pure=False, retries=0)

    threads = _Threads(client)
    futures = collections.deque(map(submit, begun))
    while True:
        with _breaking():
            most = _AHEAD * threads.count()
        while len(begun) < most and (piece := next(pieces, None)) is not None:
            begun.append(piece)
            futures.append(submit(piece))
        if not begun:
            return
        piece = begun[0]
        try:
            with _breaking():
                host, wrong, found = pickle.loads(_result(client, scheduler, futures[0]))
        except _BrokenError:
            raise
        except KilledWorker as error:
            logging.warning("Workers died on a piece, which is done here: %s", error)
            host, wrong, found = "", "", [None] * len(piece)
        except Exception as error:  # whatever a machine without the package says
            wrong = f"{type(error).__name__}: {error}"
        if wrong:
            raise ConnectionError(
                f"A worker of {scheduler} can't do the work: {wrong}. Scheduler, workers and "
                "this machine need the same installation of keras_lapkl[cluster]."
            )
        begun.popleft()
        futures.popleft()  # what nobody holds, Dask forgets
        yield piece, host, found


@contextlib.contextmanager
def _breaking():
    """Tells errors of the connection from those of the work."""
    from distributed.client import FutureCancelledError
    from distributed.comm.core import CommClosedError

    try:
        yield
    except (FutureCancelledError, CommClosedError, TimeoutError) as error:
        raise _BrokenError from error


class _Threads:
    """How many threads the workers have, asked now and then; they come and go."""

    def __init__(self, client):
        self._client = client
        self._asked = -float("inf")
        self._count = 1

    def count(self):
        if time.monotonic() - self._asked > 5:
            self._count = max(sum(self._client.nthreads().values()), 1)
            self._asked = time.monotonic()
        return self._count


def _result(client, scheduler, future):
    """Waits for a result, and says so if no worker is there."""
    while True:
        try:
            return future.result(timeout=_PATIENCE)
        except TimeoutError:
            if future.done():
                raise
        if not client.nthreads():
            logging.warning("%s has no workers yet: waiting for the first.", scheduler)


def _settled(function, piece, host, found, died, doubt, faults):
    """The results of a piece; those that the worker may have spoiled are found again, here."""
    again = [i for i, result in enumerate(found) if result is None or doubt(result)]
    if not again:
        return found
    here = workers.map_in_order(function, [[piece[i] for i in again]], 1, died)
    for i, result in zip(again, here, strict=True):
        if found[i] is not None and not doubt(result):
            faults[host] += 1
            if faults[host] > _MAX_FAULTS:
                raise ConnectionError(
                    f"The workers on {host} can't read what this machine reads: {doubt(found[i])}. "
                    "Give all machines the same files at the same paths, and the same command "
                    "again."
                )
        found[i] = result
    return found


def _answer(packed, expected, piece):
    """On a worker: pickled (host, what is wrong with it, results).

    Pickled, since Dask carries bytes as they are, and would look into each part of a list.
    """
    host = socket.gethostname()
    mine = versions()
    for name, version in expected.items():
        if mine[name] != version:
            wrong = f"{host} has {name} {mine[name]}, and {version} is asked for"
            return pickle.dumps((host, wrong, None))
    function = _function(packed)
    results = []
    for item in piece:
        try:
            results.append(function(item))
        except Exception:  # the same as a death: this machine's processes will tell
            logging.exception("A worker could not do %s", item)
            results.append(None)
    return pickle.dumps((host, "", results))


@functools.lru_cache(maxsize=1)
def _function(packed):
    """The function, kept by a worker from piece to piece: it may hold a model."""
    cv2.setNumThreads(1)  # the workers are the threads
    return pickle.loads(packed)


class _Prepared:
    """A function that, pickled, finds TensorFlow elsewhere as it is here.

    It goes by value if it is of the main script, which a worker has not.
    """

    def __init__(self, function):
        self._function = function

    def __reduce__(self):
        import cloudpickle

        return _prepared, (cloudpickle.dumps(self._function), "tensorflow" in sys.modules)


def _prepared(packed, with_tensorflow):
    if with_tensorflow:
        quiet_tensorflow()  # whose settings of the graph may change the last bit
    return pickle.loads(packed)


@functools.cache
def versions():
    """Versions of what may change the bytes of a result, None of what is not installed."""
    return {
        "Python": ".".join(map(str, sys.version_info[:2])),
        "OpenCV": cv2.__version__,  # of several packages
        **{name: installed_version(name) for name in _PACKAGES},
    }
