"""Runs a script as `python killed.py N SCRIPT FLAGS`, and kills it at its N-th step of writing.

A step is a folder made, a file synced, renamed or removed. With N = 0 it runs to its end. The last
line to stderr then says how many steps there were.
"""

import os
import runpy
import signal
import sys

steps = 0


def counted(call):
    def step(*args, **kwargs):
        global steps
        steps += 1
        if steps == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*args, **kwargs)

    return step


if __name__ == "__main__":
    at = int(sys.argv[1])
    for name in ("mkdir", "fsync", "replace", "unlink"):
        setattr(os, name, counted(getattr(os, name)))
    del sys.argv[:2]
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    finally:
        print(f"\n{steps} steps", file=sys.stderr)
