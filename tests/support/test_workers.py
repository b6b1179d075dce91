import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from keras_lapkl._support import workers

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """Lets worker processes import this module, by whatever command pytest was begun."""
    monkeypatch.syspath_prepend(pathlib.Path(__file__).parents[2])


def answer(item):
    """The square; late for even items, and the process dies on 13 and above."""
    if item >= 13:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.02 * (item % 2 == 0))
    return item**2


def inverse(item):
    return 1 / item


def died(item):
    return -item


def batches(items, size=3):
    return [items[start : start + size] for start in range(0, len(items), size)]


@pytest.mark.parametrize("count", [1, 3])
def test_results_are_in_order(count):
    items = list(range(12))
    found = workers.map_in_order(answer, batches(items), count, died)
    assert list(found) == [item**2 for item in items]


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="Windows can't block signals")
def test_ctrl_c_ends_no_worker_that_is_still_starting():
    """A terminal sends it to all processes; the first one alone is to tell of it."""
    worker = workers._Worker(answer)
    try:
        os.kill(worker._process.pid, signal.SIGINT)
        assert worker.begins()
        worker.give([(3, 0)])
        assert worker.take() == 9
    finally:
        worker.end()
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_ctrl_c_while_a_worker_starts_comes_when_it_has(monkeypatch):
    """Whichever thread of the process gets it."""
    start = workers.multiprocessing.context.SpawnProcess.start

    def interrupted(self):
        os.kill(os.getpid(), signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        start(self)
        started.append(self)

    started = []
    monkeypatch.setattr(workers.multiprocessing.context.SpawnProcess, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        workers._Worker(answer)
    assert len(started) == 1
    started[0].join(10)
    assert started[0].exitcode == -signal.SIGKILL
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_before_a_worker_starts(monkeypatch):
    """There is no process to end yet."""

    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(workers.resource_tracker, "ensure_running", interrupted)
    with pytest.raises(KeyboardInterrupt):
        workers._Worker(answer)


def test_a_death_costs_only_its_item():
    items = [1, 13, 2, 3, 14, 15, 4, 5, 6]
    found = workers.map_in_order(answer, batches(items), 2, died)
    assert list(found) == [1, -13, 4, 9, -14, -15, 16, 25, 36]


def slow_start():
    """What a process unpickles; killed here, it has not begun an item yet."""
    started = pathlib.Path(os.environ["STARTED"])
    if not started.exists():
        started.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return inverse


class SlowStart:
    def __reduce__(self):
        return slow_start, ()


def test_a_kill_of_a_starting_process_costs_no_item(tmp_path, monkeypatch):
    monkeypatch.setenv("STARTED", str(tmp_path / "started"))
    monkeypatch.setattr(workers, "_DEATHS", 1)
    assert list(workers.map_in_order(SlowStart(), [[1, 2]], 1, died)) == [1, 0.5]


def test_an_error_costs_only_its_item():
    assert list(workers.map_in_order(inverse, [[1, 0, 2]], 1, died)) == [1, 0, 0.5]


def test_gives_up_when_all_die(monkeypatch):
    monkeypatch.setattr(workers, "_MAX_DEATHS", 3)
    with pytest.raises(OSError, match=r"3 worker processes died in a row, the last on 13"):
        list(workers.map_in_order(answer, batches([13, 14, 15, 16]), 1, died))


def test_reads_only_a_little_ahead():
    taken = []

    def endless():
        for item in range(10_000):
            taken.append(item)
            yield [item % 10]

    found = workers.map_in_order(answer, endless(), 1, died)
    for _ in range(3):
        next(found)
    assert len(taken) < 12
    found.close()


def test_no_workers():
    with pytest.raises(ValueError, match=r"at least 1\. Received: 0"):
        list(workers.map_in_order(answer, [[1]], 0, died))


def test_nothing_to_do():
    assert list(workers.map_in_order(answer, [], 1, died)) == []


SCRIPT = """
import os, signal, sys, time
from keras_lapkl._support import workers

def tell(item):
    os.write(1, b"%d\\n" % os.getpid())  # whole lines, as `print` does not
    time.sleep(0.2)

if __name__ == "__main__":
    list(workers.map_in_order(tell, [range(1000), range(1000)], 2, None))
"""


def test_processes_end_with_a_killed_parent(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    parent = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    children = set()
    while len(children) < 2:
        children.add(int(parent.stdout.readline()))
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 10
    while any(map(_runs, children)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(_runs, children))
    parent.stdout.close()


def _runs(pid):
    """Whether a process runs; one that ended and was not waited for does not."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_script_that_can_not_be_imported_is_told_so(tmp_path):
    """It would do its work again in each of its processes, and wait for itself."""
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\n"
        "from keras_lapkl._support import folders, workers\n"
        "with folders.owned(sys.argv[1], wait=True):\n"
        "    print(*workers.map_in_order(abs, [[-1]], 1, repr))\n"
    )
    command = [sys.executable, str(script), str(tmp_path / "folder")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1 and "under `if __name__ == '__main__':`" in done.stderr
    guarded = script.read_text().splitlines()
    guarded = [*guarded[:2], "if __name__ == '__main__':", *("  " + line for line in guarded[2:])]
    script.write_text("\n".join(guarded))
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.stdout == "1\n", done.stderr
