"""Work spread over processes, its results in order, even if a process dies."""

import collections
import contextlib
import itertools
import multiprocessing
import signal
import threading
from multiprocessing import resource_tracker
from multiprocessing.connection import wait
from typing import cast

import cv2

_AHEAD = 4  # batches begun for each worker: enough to keep it busy, few enough to hold in memory
_DEATHS = 3  # of processes that had begun an item: one may be killed for what it is not to blame
_MAX_DEATHS = 15


def refuse_in_import() -> None:
    """Refuses work in a process of `map_in_order` that has not come to its own.

    Such a process imports the script of its parent, and would do again all that stands there.

    Raises:
        RuntimeError: it is one; the message says what to do in the script.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise RuntimeError(
            "Expected a script that can be imported: the processes that it starts import it. Put "
            "what it does under `if __name__ == '__main__':`."
        )


def map_in_order(function, batches, workers, died):
    """Yields `function(item)` of the items of all batches, in order.

    Each process has a pipe of its own and shares no lock, so that one that dies at any moment holds
    up no other. Processes are spawned, not forked: a parent with TensorFlow's threads can't be
    forked safely. They end with the parent, even if it is killed, and leave Ctrl-C to it.

    Args:
        function: from an item to its result; function, items and results can be pickled.
        batches: iterable of sequences of items, each the work of one process at a time. Read only
            a little ahead of the results.
        workers: number of processes.
        died: from an item to its result, where three processes died on the item: for instance
            because a decoder crashes, or the system stops it for want of memory, or `function`
            raises.

    Raises:
        ValueError: `workers` below 1.
        ChildProcessError: many processes die in a row.
    """
    if workers < 1:
        raise ValueError(f"`workers` must be at least 1. Received: {workers}")
    numbers = itertools.count()
    batches = filter(None, batches)
    crew, results, deaths_on = [], {}, collections.Counter()
    retries = collections.deque()  # work of processes that died
    ends = collections.deque()  # the last numbers of the batches begun and not yet yielded
    deaths = yielded = 0
    try:
        while True:
            while (idle := next((w for w in crew if not w.work), None)) or len(crew) < workers:
                if retries:
                    work = retries.popleft()
                elif len(ends) < _AHEAD * workers and (batch := next(batches, None)) is not None:
                    work = [(item, next(numbers)) for item in batch]
                    ends.append(work[-1][1])
                else:
                    break
                if not idle:
                    crew.append(idle := _Worker(function))
                idle.give(work)
            if not ends:
                return
            for worker in cast(list[_Worker], wait([each for each in crew if each.work])):
                item, number = worker.work[0]
                try:
                    if worker.begins():
                        continue
                    results[number] = worker.take()
                    deaths = 0
                except (EOFError, OSError) as error:
                    worker.end()
                    crew.remove(worker)
                    deaths += 1
                    if deaths == _MAX_DEATHS:
                        raise ChildProcessError(
                            f"{deaths} worker processes died in a row, the last on {item}. "
                            "What they said stands above, if anything. Is there memory enough? Try "
                            "fewer workers."
                        ) from error
                    deaths_on[number] += worker.has_begun
                    if deaths_on[number] == _DEATHS:
                        results[number] = died(item)
                        worker.work.popleft()
                    if worker.work:
                        retries.append(list(worker.work))
            while yielded in results:
                if ends[0] == yielded:
                    ends.popleft()
                yield results.pop(yielded)
                yielded += 1
    finally:
        for worker in crew:
            worker.end()


class _Worker:
    """A process, and the work that it has: (item, number) each."""

    def __init__(self, function):
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(function, theirs), daemon=True)
        try:
            with _interrupts_wait():
                self._process.start()
        except KeyboardInterrupt:
            if self._process.pid is not None:
                self._process.kill()
            raise
        theirs.close()
        self.work = collections.deque()
        self.has_begun = False

    def fileno(self):
        return self._connection.fileno()

    def give(self, work):
        """Gives it items; only to one that has none, for else each might wait for the other."""
        self.work.extend(work)
        with contextlib.suppress(OSError):  # it died; `take` will say so
            self._connection.send([item for item, _ in work])

    def begins(self):
        """Whether it only now tells that it has started: no item is to blame for a death before."""
        if self.has_begun:
            return False
        self._connection.recv()
        self.has_begun = True
        return True

    def take(self):
        """The result of its first item."""
        result = self._connection.recv()
        self.work.popleft()
        return result

    def end(self):
        self._process.kill()
        self._process.join()
        self._connection.close()


@contextlib.contextmanager
def _interrupts_wait():
    """Ctrl-C waits for the end of the block, and never comes to a process that begins in it."""
    handler = signal.getsignal(signal.SIGINT)
    is_main = threading.current_thread() is threading.main_thread()
    if not hasattr(signal, "pthread_sigmask") or not is_main or not callable(handler):
        yield
        return
    came = []
    resource_tracker.ensure_running()  # would else let Ctrl-C through when it begins
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # for the child
    # Another thread of native code may get it, and Python then calls the handler here.
    signal.signal(signal.SIGINT, lambda *args: came.append(args))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if came:
            handler(*came[-1])


def _serve(function, connection):
    cv2.setNumThreads(1)  # the processes are the threads
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # where it can't be blocked
    with contextlib.suppress(EOFError, ConnectionError):  # the parent ended
        connection.send(None)
        while True:
            for item in connection.recv():
                connection.send(function(item))
