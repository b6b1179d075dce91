"""Work spread over processes, its results in order, whatever becomes of a process."""

import collections
import concurrent.futures
import multiprocessing
import os
import signal
import threading
from concurrent.futures.process import BrokenProcessPool

import cv2

_WAITING = 4  # batches begun for each worker: enough to keep it busy, few enough to hold in memory
_MAX_DEATHS = 10


def map_in_order(function, batches, workers, died):
    """Yields `function(item)` of the items of all batches, in order.

    Processes are spawned, not forked: a parent with TensorFlow's threads can't be forked safely.
    They end with the parent, even if it is killed, and leave Ctrl-C to it.

    Args:
        function: from an item to its result; function, items and results can be pickled.
        batches: iterable of sequences of items, each the work of one process at a time. Read only
            a little ahead of the results.
        workers: number of processes.
        died: from an item to its result, where the process dies on the item: for instance because
            a decoder crashes, or the system stops it for want of memory.

    Raises:
        ValueError: `workers` below 1.
        OSError: processes die on many items in a row.
    """
    if workers < 1:
        raise ValueError(f"`workers` must be at least 1. Received: {workers}")
    pool = _start(workers, function)
    deaths = 0
    pending = collections.deque()
    batches = iter(batches)
    try:
        while True:
            while len(pending) < _WAITING * workers and (batch := next(batches, None)) is not None:
                pending.append((batch, _submit(pool, batch)))
            if not pending:
                return
            batch, future = pending.popleft()
            try:
                results = future.result()
                deaths = 0
            except BrokenProcessPool:
                results = []
                for item in batch:
                    pool = _restart(pool, workers, function)
                    try:
                        results += _submit(pool, [item]).result()
                        deaths = 0
                    except BrokenProcessPool as error:
                        deaths += 1
                        if deaths == _MAX_DEATHS:
                            raise OSError(
                                f"{deaths} worker processes died in a row, the last on {item}. "
                                "Is there memory enough? Try fewer workers."
                            ) from error
                        results.append(died(item))
                pool = _restart(pool, workers, function)
                pending = collections.deque((other, _submit(pool, other)) for other, _ in pending)
            yield from results
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start(workers, function):
    return concurrent.futures.ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), _begin, (function,)
    )


def _restart(pool, workers, function):
    """A pool that works: this one, or another if a process of it died."""
    try:
        pool.submit(_nothing)
        return pool
    except BrokenProcessPool:
        pool.shutdown()
        return _start(workers, function)


def _submit(pool, batch):
    """A future; one that fails in the pool's way if the pool is broken already."""
    try:
        return pool.submit(_apply, batch)
    except BrokenProcessPool as error:
        future = concurrent.futures.Future()
        future.set_exception(error)
        return future


_function = None


def _begin(function):
    """Makes a new process ready."""
    global _function
    _function = function
    cv2.setNumThreads(1)  # the processes are the threads
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent():
    multiprocessing.parent_process().join()
    os._exit(1)


def _apply(batch):
    return [_function(item) for item in batch]


def _nothing():
    pass
