"""For objects that several threads call, and that other processes get a copy of."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Generic, TypeVar

Tool = TypeVar("Tool")


class Pool(Generic[Tool]):
    """Tools that one thread at a time may use: as many are made as are used at once.

    A copy by pickle begins with none.

    Args:
        make: makes one.

    Example:

    >>> pool = Pool(functools.partial(load_interpreter, "model.tflite"))
    >>> with pool.borrowed() as interpreter:
    ...     interpreter.invoke()
    """

    def __init__(self, make: Callable[[], Tool]) -> None:
        self._make = make
        self._idle: list[Tool] = []

    @contextlib.contextmanager
    def borrowed(self) -> Iterator[Tool]:
        """A tool that no other thread has meanwhile."""
        # `pop` and `append` are each one step: no two threads get the same.
        try:
            tool = self._idle.pop()
        except IndexError:
            tool = self._make()
        try:
            yield tool
        finally:
            self._idle.append(tool)

    def __reduce__(self):
        return type(self), (self._make,)


class Lock:
    """A `threading.RLock` for the attribute of an object: a copy of it by pickle is open."""

    def __init__(self) -> None:
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._lock.release()

    def __reduce__(self):
        return type(self), ()
