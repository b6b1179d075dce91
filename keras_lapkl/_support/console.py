"""What a terminal shows: aligned tables, and not what LiteRT and TensorFlow log on start-up.

Names in files and of files may have characters that a terminal obeys: they are shown as text.
"""

import builtins
import contextlib
import functools
import logging
import os
import re
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any

_HOLDING = threading.RLock()
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""All but tabs and ends of lines."""
_SHORT = 2.0
_PAUSES = (30.0, 600.0)
"""Seconds between two lines in a file, the first and the longest."""


def printable(text: str) -> str:
    """A text with its control characters as text, but for tabs and ends of lines.

    Example:

    >>> printable("\\x1b[31mred\\n")
    '\\\\x1b[31mred\\n'
    """
    return _CONTROLS.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def print(*values: object, **options: Any) -> None:
    """As the built-in one, in whose place the package has it, but `printable`."""
    builtins.print(*(printable(str(value)) for value in values), **options)


class PrintableFormatter(logging.Formatter):
    """Makes `printable` lines of what is logged."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def aligned(rows: Iterable[Sequence[str]]) -> str:
    """Rows of strings as lines, each column as wide as its widest cell and flush right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    )


class Meter:
    """Tells stderr how far a long task is; nothing of one that takes less than two seconds.

    On a terminal one line is written over every two seconds. A file gets a line after 30 seconds,
    then each after twice the time of the one before, ten minutes at most, and a last one.
    """

    def __init__(self) -> None:
        self._moves = sys.stderr.isatty()
        self._pause = _SHORT if self._moves else _PAUSES[0]
        self._start = self._told = time.monotonic()
        self._line = ""

    def tell(self, line: Callable[[float], str]) -> None:
        """Shows a line if it is time for one: a function that gives it from the seconds so far."""
        now = time.monotonic()
        if now - self._told < self._pause:
            return
        self._told = now
        if not self._moves:
            self._pause = min(2 * self._pause, _PAUSES[1])
        self._write(line(now - self._start), "" if self._moves else "\n")

    def end(self, line: Callable[[float], str]) -> None:
        """Shows the last line, if there was any or the task was not short."""
        seconds = time.monotonic() - self._start
        if self._line or seconds >= _SHORT:
            self._write(line(seconds), "\n")

    def _write(self, line, end):
        line = printable(line)
        if self._moves:
            line = line[: shutil.get_terminal_size().columns - 1]
            shown = "\r" + line.ljust(len(self._line))
            builtins.print(shown, end=end, file=sys.stderr, flush=True)
        elif line != self._line:
            print(line, end=end, file=sys.stderr, flush=True)
        self._line = line


def reported(
    results: Iterable[Any], total: int | None, text: str | Callable[[int, float], str]
) -> Generator[Any, None, None]:
    """Hands results through, and tells stderr by a `Meter` how many there were.

    Args:
        results: any iterable.
        total: how many there will be; None if that is not known.
        text: what to tell, with a place for the number done and one for the total; or a function
            that gives it from the number done and the seconds since the first result.
    """
    of = "?" if total is None else f"{total:,}"
    line = text if callable(text) else lambda done, _: text.format(f"{done:,}", of)
    meter = None
    try:
        for done, result in enumerate(results, start=1):
            meter = meter or Meter()  # not before: workers may have taken long to start
            meter.tell(functools.partial(line, done))
            yield result
    finally:
        if meter is not None:
            meter.end(functools.partial(line, done))


@contextlib.contextmanager
def held_stderr(shown: bool = False) -> Iterator[Callable[[], bytes]]:
    """Holds back what a block writes to stderr, native code included; shows it if it fails.

    Threads take turns: two at once would each put back what the other had held.

    Args:
        shown: whether to show it in any case when the block ends.

    Yields:
        A function that gives what was written so far.
    """
    with _HOLDING:
        yield from _held_stderr(shown)


def _held_stderr(shown):
    if sys.stderr is None:  # then 2 may be any file
        yield lambda: b""
        return
    with contextlib.ExitStack() as stack:
        try:
            held = stack.enter_context(tempfile.TemporaryFile())
            stderr = os.dup(2)
        except OSError:  # a service may have no stderr, or nowhere to write
            yield lambda: b""
            return
        sys.stderr.flush()
        os.dup2(held.fileno(), 2)

        def written():
            held.seek(0)
            return held.read()

        try:
            yield written
        except BaseException:
            shown = True
            raise
        finally:
            os.dup2(stderr, 2)
            if shown:
                os.write(stderr, written())
            os.close(stderr)
