"""What a terminal shows: aligned tables, and silence where TensorFlow would talk."""

import contextlib
import os
import sys
import tempfile


def aligned(rows):
    """Rows of strings as lines, each column as wide as its widest cell and flush right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    )


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
