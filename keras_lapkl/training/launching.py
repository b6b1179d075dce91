"""Starts the processes of one training, watches them, and ends all of them when one fails.

The processes find each other by TF_CONFIG, as `keras_lapkl.training.distributed` reads it.
Nothing here imports TensorFlow.
"""

import contextlib
import ctypes
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

from keras_lapkl._support.app import INTERRUPTED, TERMINATED, Terminated

PATIENCE = 10
"""Seconds that the processes have to end after Ctrl-C or SIGTERM."""
SHOWN = 4000
"""Bytes of a failed process's output that are shown."""


def loopback(count: int) -> list[str]:
    """That many addresses on this machine, with ports that are free now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]


def launch(command: Sequence[str], addresses: Sequence[str], here: Sequence[int]) -> int:
    """Runs one process of a command for each address on this machine, until all have ended.

    Process 0 writes to this terminal. Another's output is kept back, and its end shown if it is
    the first to fail; then the others are ended too. None outlives this call.

    Args:
        command: a list of words.
        addresses: `host:port` of each process, on all machines.
        here: indices of those to start on this machine.

    Returns:
        0, or the exit status of the first that failed; 130 after Ctrl-C, 143 after SIGTERM.

    Raises:
        ValueError: no address, or an index without one.
    """
    for address in addresses:
        if not re.fullmatch(r".+:\d+", address):
            raise ValueError(f"An address is host:port, as in 10.0.0.1:2222. Received: {address}")
    for index in here:
        if not 0 <= index < len(addresses):
            raise ValueError(
                f"There are {len(addresses)} addresses, with the indices 0 to "
                f"{len(addresses) - 1}. Received: {index}"
            )
    with contextlib.ExitStack() as stack:
        running = {}
        for index in here:
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
        try:
            return _watch(running)
        except KeyboardInterrupt as stop:
            processes = [process for process, _ in running.values()]
            terminated = isinstance(stop, Terminated)
            if terminated:  # Ctrl-C the processes have got as well
                for process in processes:
                    process.terminate()
            _wait(processes)
            return TERMINATED if terminated else INTERRUPTED


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


def _wait(processes):
    until = time.monotonic() + PATIENCE
    for process in processes:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(0, until - time.monotonic()))


def _end(process):
    process.kill()  # TensorFlow's processes do not heed a request to end
    process.wait()
