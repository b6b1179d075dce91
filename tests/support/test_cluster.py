import contextlib
import gc
import os
import pathlib
import signal
import types

import pytest

from keras_lapkl._support import cluster


@pytest.fixture(autouse=True)
def importable(monkeypatch, dask_cluster):
    """Lets this machine's processes import this module, by whatever command pytest was begun."""
    monkeypatch.syspath_prepend(pathlib.Path(__file__).parents[2])
    monkeypatch.setattr(cluster, "PIECE", 4)


@pytest.fixture(scope="module")
def running(tmp_path_factory, dask_cluster):
    folder = tmp_path_factory.mktemp("cluster") / "dask"
    with dask_cluster.running(folder, LAPKL_TEST_WORKER="yes") as file:
        yield file


def answer(item):
    """The square; the process dies on 13 and a bug strikes on 14, wherever they are."""
    if item == 13:
        os.kill(os.getpid(), signal.SIGKILL)
    return item**2 // (item != 14)


def unread_by_workers(item):
    return "no such file" if "LAPKL_TEST_WORKER" in os.environ else item


def died(item):
    return -item


def raising(item):
    if item == 3:
        raise ValueError(f"{item} is not as expected")
    return None if item == 2 else item


def test_each_item_is_answered_or_its_error_raised(running):
    assert list(cluster.each(raising, [1, 2, 4], running)) == [1, None, 4]
    for scheduler in (running, None):
        found = cluster.each(raising, [1, 2, 3, 4], scheduler)
        assert next(found) == 1 and next(found) is None
        with pytest.raises(ValueError, match="3 is not as expected"):
            next(found)


def sure(result):
    return ""


def doubt(result):
    return result if isinstance(result, str) else ""


def batches(items, size=3):
    return [items[start : start + size] for start in range(0, len(items), size)]


def test_results_are_in_order(running):
    items = list(range(200, 300))
    found = cluster.map_in_order(answer, batches(items), running, died, sure)
    assert list(found) == [item**2 for item in items]


def test_a_death_costs_only_its_item(running):
    items = list(range(1, 20))
    found = cluster.map_in_order(answer, batches(items), running, died, sure)
    assert list(found) == [-i if i in (13, 14) else i**2 for i in items]


def test_reads_only_a_little_ahead(running):
    taken = []

    def endless():
        for item in range(10_000):
            taken.append(item)
            yield [100 + item]

    found = cluster.map_in_order(answer, endless(), running, died, sure)
    assert [next(found) for _ in range(3)] == [10_000, 10_201, 10_404]
    assert len(taken) <= 4 * (1 + cluster._AHEAD * 2)
    found.close()


def test_what_a_worker_cannot_read_is_read_here(running):
    found = cluster.map_in_order(unread_by_workers, [[5, 6, 7]], running, died, doubt)
    assert list(found) == [5, 6, 7]


def test_workers_that_read_less_are_refused(running):
    found = cluster.map_in_order(unread_by_workers, [[5, 6, 7, 8]], running, died, doubt)
    with pytest.raises(ConnectionError, match=r"can't read what this machine reads: no such file"):
        list(found)


def test_other_software_is_refused(running, monkeypatch):
    monkeypatch.setattr(cluster, "versions", lambda: {"OpenCV": "1.0"})
    found = cluster.map_in_order(answer, [[1]], running, died, sure)
    with pytest.raises(ConnectionError, match=r"has OpenCV .*, and 1\.0 is asked for.*same inst"):
        list(found)


@pytest.mark.parametrize("scheduler", ["nothing here", "tcp://127.0.0.1:1", "none.json"])
def test_no_such_scheduler(scheduler, monkeypatch):
    monkeypatch.setattr(cluster, "_CONNECT", 0.5)
    gc.collect()  # a failed client of before, collected while a new one starts, stops it for 10 s
    with pytest.raises(ConnectionError, match=f"Expected the address.*Received: {scheduler}"):
        list(cluster.map_in_order(answer, [[1]], scheduler, died, sure))


def test_waits_for_a_first_worker_and_says_when_the_scheduler_ends(
    tmp_path, monkeypatch, dask_cluster
):
    monkeypatch.setattr(cluster, "_PATIENCE", 1.0)
    monkeypatch.setattr(cluster, "_CONNECT_AGAIN", 1.0)
    told = []
    with dask_cluster.running(tmp_path / "dask", workers=0) as file:

        def tell(text, *args):
            told.append(text % args)
            dask_cluster.end_scheduler(file)

        monkeypatch.setattr(cluster.logging, "warning", tell)
        with pytest.raises(ConnectionError, match="has ended, or the way to it"):
            list(cluster.map_in_order(answer, [[1]], file, died, sure))
    assert told[0].endswith("has no workers yet: waiting for the first.")


class BreakingClient:
    """Of Dask: its greetings break at first, and so does its end."""

    greetings = 0
    status = "running"

    def __init__(self, **_):
        type(self).greetings += 1
        if self.greetings < 3:
            raise AssertionError

    def close(self):
        raise AssertionError


@pytest.mark.parametrize("error", [None, cluster._BrokenError("cut")])
def test_what_breaks_within_greeting_and_end_is_not_told(monkeypatch, error):
    monkeypatch.setattr(BreakingClient, "greetings", 0)
    dask = types.SimpleNamespace(Client=BreakingClient)
    with (
        contextlib.nullcontext() if error is None else pytest.raises(cluster._BrokenError),
        cluster._connected(dask, "tcp://host:1", 60) as client,
    ):
        if error is not None:
            raise error
    assert BreakingClient.greetings == 3 and client.status == "closed"


def test_a_greeting_that_never_comes_whole(monkeypatch):
    monkeypatch.setattr(BreakingClient, "greetings", -1_000_000_000)
    dask = types.SimpleNamespace(Client=BreakingClient)
    with (
        pytest.raises(cluster._NoSchedulerError, match="broke within a greeting"),
        cluster._connected(dask, "tcp://host:1", 0.01),
    ):
        pass
