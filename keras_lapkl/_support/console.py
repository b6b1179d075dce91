"""What a terminal shows: aligned tables, and not what LiteRT and TensorFlow log on start-up."""

import contextlib
import os
import sys
import tempfile
import time


def aligned(rows):
    """Rows of strings as lines, each column as wide as its widest cell and flush right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    )


def reported(results, total, text):
    """Hands results through, and after two seconds tells stderr every two how far it is.

    Args:
        results: any iterable.
        total: how many there will be; None if that is not known.
        text: what to tell, with a place for the number done and one for the total.
    """
    told = start = time.monotonic()
    of = "?" if total is None else f"{total:,}"
    for done, result in enumerate(results, start=1):
        now = time.monotonic()
        if now - told > 2 or (done == total and told > start):
            told = now
            print("\r" + text.format(f"{done:,}", of), end="", file=sys.stderr, flush=True)
        yield result
    if told > start:
        print(file=sys.stderr)


@contextlib.contextmanager
def held_stderr():
    """Holds back what a block writes to stderr, native code included; shows it if it fails."""
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(stderr, held.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
