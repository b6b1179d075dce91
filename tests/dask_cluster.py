"""A Dask cluster of processes of this machine, whose workers can be killed."""

import contextlib
import json
import os
import pathlib
import socket
import subprocess
import sys
import threading
import time

import distributed
import psutil

ROOT = pathlib.Path(__file__).parents[1]


@contextlib.contextmanager
def running(folder, workers=2, **environment):
    """Starts a scheduler and workers on loopback; yields the scheduler's file.

    Args:
        folder: a new one, for their files.
        workers: how many; each has a nanny, that starts it again when it is killed.
        environment: of the workers, besides this process's; of PYTHONPATH what comes first.
    """
    folder.mkdir()
    file = folder / "scheduler.json"
    first = str(environment.pop("PYTHONPATH", ROOT))
    path = os.pathsep.join([first, str(ROOT), os.environ.get("PYTHONPATH", "")])
    common = {**os.environ, "PYTHONPATH": path}
    common["DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES"] = "1"  # each costs a start
    scheduler = ("scheduler", "--host=127.0.0.1", "--port=0")
    worker = ("worker", "--nthreads=1", f"--local-directory={folder / 'local'}")
    started = []
    try:
        for words in (scheduler, *[worker] * workers):
            command = [sys.executable, "-m", f"distributed.cli.dask_{words[0]}", *words[1:]]
            command += [f"--scheduler-file={file}", "--no-dashboard"]
            env = {**common, **(environment if words is worker else {})}
            with (folder / "log").open("ab") as log:
                started.append(subprocess.Popen(command, env=env, stdout=log, stderr=log))
        yield file
    finally:
        for process in started:
            for each in (*psutil.Process(process.pid).children(recursive=True), process):
                with contextlib.suppress(psutil.NoSuchProcess):
                    each.kill()
            process.wait()


SMALL_PIECES = "from keras_lapkl._support import cluster\ncluster.PIECE = 8"
"""Code for a command whose work would be one piece: workers that are killed are to have some."""
SLOWLY = """
import time
from keras_lapkl.data.unlabeled import shards

def read_image(path, read=shards.read_image):
    time.sleep({seconds})
    return read(path)

shards.read_image = read_image
"""


def slowed(folder, seconds):
    """A new folder for PYTHONPATH, by which each picture to crop is read so many seconds later."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(SLOWLY.format(seconds=seconds))
    return folder


def kill_a_worker(file, rng):
    """Kills one of the workers of a cluster with -9, if one is there; returns whether it was."""
    workers = [each for each in psutil.process_iter() if _is_worker(each, file)]
    if workers:
        with contextlib.suppress(psutil.NoSuchProcess):
            rng.choice(workers).kill()
            return True
    return False


def wait_until_busy(file, tool):
    """Waits until both workers of a cluster have work, for as long as a process runs."""
    with distributed.Client(scheduler_file=str(file), set_as_default=False) as client:
        while sum(map(bool, client.processing().values())) < 2:
            assert tool.poll() is None, tool.stderr.read()
            time.sleep(0.01)


class Wire:
    """A way to a scheduler, by a port of its own, that can be cut.

    Args:
        file: the scheduler's.

    Attributes:
        address: to give in the scheduler's place.
        made: how many connections came so far.
    """

    def __init__(self, file):
        while not (file.exists() and file.read_text().endswith("}")):
            time.sleep(0.05)
        host, port = json.loads(file.read_text())["address"].removeprefix("tcp://").split(":")
        self._to, self._ends = (host, int(port)), []
        self._door = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self._door.getsockname()[1]}"
        self.made = 0
        threading.Thread(target=self._serve, daemon=True).start()

    def cut(self, for_good=False):
        """Breaks all connections; `for_good`, takes no new ones either."""
        if for_good:
            self._door.close()
        ends, self._ends = self._ends, []
        for end in ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _serve(self):
        with contextlib.suppress(OSError):
            while True:
                ours, _ = self._door.accept()
                self.made += 1
                theirs = socket.create_connection(self._to)
                self._ends += [ours, theirs]
                for pair in ((ours, theirs), (theirs, ours)):
                    threading.Thread(target=_pumped, args=pair, daemon=True).start()


def _pumped(source, target):
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
    for end in (source, target):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def end_scheduler(file):
    """Kills the scheduler that has written a file."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            words = process.cmdline()
            if f"--scheduler-file={file}" in words and "distributed.cli.dask_scheduler" in words:
                process.kill()


def command_lines():
    """The words of all processes that run."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            yield process.cmdline()


def _is_worker(process, file):
    """Whether a process is the worker of a nanny of this cluster."""
    with contextlib.suppress(psutil.Error):
        nanny = process.parent()
        return (
            nanny is not None
            and f"--scheduler-file={file}" in nanny.cmdline()
            and "spawn_main" in " ".join(process.cmdline())
        )
    return False
