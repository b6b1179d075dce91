"""Starts the processes of one training on this machine, and ends all of them when one fails.

The processes find each other by TF_CONFIG, as `keras_lapkl.training.cluster` reads it. Nothing here
imports TensorFlow.
"""

import contextlib
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

from keras_lapkl._support.app import INTERRUPTED, TERMINATED, UNFINISHED, Interrupted, Terminated
from keras_lapkl._support.console import print

PATIENCE = {"Ctrl-C": 10, "SIGTERM": 300}
"""Seconds that the processes have to end, by what ends them; SIGTERM lets them keep what they have.
Who sent it has a patience of his own, and then kills."""
SHOWN = 4000
"""Bytes of a failed process's output that are shown."""


def loopback(count: int) -> list[str]:
    """That many addresses on this machine, with ports that are free now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]


def launch(command: Sequence[str], count: int) -> int:
    """Runs some processes of a command, which train together, until all have ended.

    Process 0 writes to this terminal. Another's output is kept back, and its end shown if it is
    the first to fail; then the others are ended too. None outlives this call.

    Args:
        command: a list of words.
        count: how many processes, ≥ 1.

    Returns:
        0, or the exit status of the first that failed; 75 if they have kept a checkpoint after
        SIGTERM, to this process or to one of theirs; else 130 after Ctrl-C, 143 after SIGTERM.

    Example:

    >>> launch([sys.executable, "-m", "keras_lapkl", "train", "--output_dir=run"], 2)
    0
    """
    addresses = loopback(count)
    with contextlib.ExitStack() as stack:
        running = {}
        for index in range(count):
            output = stack.enter_context(tempfile.TemporaryFile()) if index else None
            process = subprocess.Popen(
                command,
                env={**os.environ, "TF_CONFIG": _tf_config(addresses, index)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                preexec_fn=_end_with_parent if sys.platform == "linux" else None,
            )
            stack.callback(_end, process)
            running[index] = process, output
        processes = [process for process, _ in running.values()]
        try:
            status = _watch(running)
        except Terminated as stop:
            stop.caught.set()
            for process in processes:
                process.terminate()
            status = TERMINATED
        except KeyboardInterrupt as stop:  # which the processes have got as well
            if isinstance(stop, Interrupted):
                stop.caught.set()
            _wait(processes, PATIENCE["Ctrl-C"])
            return INTERRUPTED
        if status in (TERMINATED, UNFINISHED):
            _wait(processes, PATIENCE["SIGTERM"])
            ended = {process.poll() for process in processes}
            if UNFINISHED in ended:
                return UNFINISHED
            return 0 if ended == {0} else status  # SIGTERM may come just before the end
        return status


def _tf_config(addresses, index):
    return json.dumps(
        {"cluster": {"worker": list(addresses)}, "task": {"type": "worker", "index": index}}
    )


def _end_with_parent():
    """Else processes whose launcher was killed would write beside those of the next launch."""
    parent_death_signal = 1
    ctypes.CDLL(None).prctl(parent_death_signal, signal.SIGKILL)


def _watch(running):
    while running:
        time.sleep(0.1)
        for index, (process, output) in list(running.items()):
            status = process.poll()
            if status is None:
                continue
            if status == UNFINISHED:
                return UNFINISHED
            if status:
                _report(index, status, output)
                return status if status > 0 else 128 - status
            del running[index]
    return 0


def _report(index, status, output):
    if output is not None:
        output.seek(max(0, output.seek(0, os.SEEK_END) - SHOWN))
        sys.stderr.write(output.read().decode(errors="replace"))
    how = f"exit status {status}" if status > 0 else f"signal {-status}"
    print(f"error: process {index} ended with {how}; the others are stopped.", file=sys.stderr)


def _wait(processes, seconds):
    until = time.monotonic() + seconds
    for process in processes:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(0, until - time.monotonic()))


def _end(process):
    process.kill()  # TensorFlow's processes do not heed a request to end
    process.wait()
