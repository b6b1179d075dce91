"""A Python that has imported TensorFlow and Keras once, and forks for every script that it runs.

A test of a binary spends nearly all its time on these imports. Run as a program this file is the
process that forks: no operation has run in it, so that a fork of it is as good as a new Python,
which the script then ends by itself: exit status, traceback and `atexit` are those of any Python.
Nothing of the package is imported before the fork. Elsewhere than on Linux forking is not safe, and
each script has a Python of its own.
"""

import gc
import json
import multiprocessing.process
import os
import runpy
import signal
import subprocess
import sys
import time


class WarmPython:
    """Starts processes by the Python that forks, itself started by the first of them."""

    def __init__(self):
        self._server = None

    def start(self, argv, output, error, cwd=None):
        """Starts `python *argv`; its output is added to two files, which may be one."""
        if sys.platform != "linux":
            command = [sys.executable, *map(str, argv)]
            with open(output, "ab") as stdout, open(error, "ab") as stderr:
                return subprocess.Popen(command, stdout=stdout, stderr=stderr, cwd=cwd)
        if self._server is None:
            self._server = subprocess.Popen(
                [sys.executable, __file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                bufsize=1,
            )
        words = [*map(str, argv)], str(output), str(error), os.path.abspath(cwd or os.getcwd())
        return Process(self._ask, self._ask("start", *words))

    def run(self, argv, folder, cwd=None, timeout=240):
        """`subprocess.run` with captured text; `folder` is an empty one of this run's own."""
        files = folder / "stdout", folder / "stderr"
        process = self.start(argv, *files, cwd)
        try:
            status = process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        return subprocess.CompletedProcess(argv, status, *(each.read_text() for each in files))

    def close(self):
        if self._server is not None:
            self._server.communicate()

    def _ask(self, *request):
        print(json.dumps(request), file=self._server.stdin)
        return json.loads(self._server.stdout.readline())


class Process:
    """What a test uses of `subprocess.Popen`."""

    def __init__(self, ask, pid):
        self._ask, self.pid, self.returncode = ask, pid, None

    def poll(self):
        if self.returncode is None:
            self.returncode = self._ask("poll", self.pid)
        return self.returncode

    def wait(self, timeout=60):
        until = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > until:
                raise subprocess.TimeoutExpired(str(self.pid), timeout)
            time.sleep(0.01)
        return self.returncode

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self):
        self.send_signal(signal.SIGKILL)


def become(argv, output, error, cwd):
    """Makes this fork look like `python *argv`, started in `cwd`."""
    os.setsid()
    # Nothing of the one that forks stays open.
    for number, path, flags in (
        (0, os.devnull, os.O_RDONLY),
        (1, output, os.O_WRONLY | os.O_CREAT | os.O_APPEND),
        (2, error, os.O_WRONLY | os.O_CREAT | os.O_APPEND),
    ):
        opened = os.open(path, flags, 0o666)
        os.dup2(opened, number)
        os.close(opened)
    os.chdir(cwd)
    multiprocessing.process.ORIGINAL_DIR = cwd  # where its children look for the script
    sys.argv[:] = argv
    sys.path[0] = os.path.dirname(os.path.abspath(argv[0]))


def serve():
    """Answers one request a line; returns, in the fork alone, the script to run."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    for line in sys.stdin:
        what, *words = json.loads(line)
        if what == "start":
            pid = os.fork()
            if not pid:
                answers.close()
                become(*words)
                return words[0][0]
            print(pid, file=answers)
        else:
            ended, status = os.waitpid(words[0], os.WNOHANG)
            print(json.dumps(os.waitstatus_to_exitcode(status) if ended else None), file=answers)
    return None


if __name__ == "__main__":
    import keras  # noqa: F401
    import tensorflow as tf  # noqa: F401

    gc.freeze()  # else each fork's end copies the pages of all that was imported
    if script := serve():
        sys.stdin = os.fdopen(0, closefd=False)  # the old one may have read ahead
        runpy.run_path(script, run_name="__main__")
