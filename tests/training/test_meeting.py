"""Processes that meet, as threads of this one: each has sockets of its own."""

import concurrent.futures
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from keras_lapkl.training import launching, meeting
from keras_lapkl.training.cluster import Cluster

SECONDS = 30


@pytest.fixture
def found(monkeypatch):
    """Three processes, each as it sees all."""
    monkeypatch.setattr(meeting, "_TURN", 0.05)
    addresses = tuple(launching.loopback(3))
    return [Cluster(addresses, index, "TF_CONFIG") for index in range(3)]


def begin(one, **kwargs):
    """A process that meets the others; it does not outlive a test that fails."""
    future = concurrent.futures.Future()

    def meet():
        try:
            future.set_result(meeting.meet(one, **kwargs))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=meet, daemon=True).start()
    return future


def connected(address):
    """A connection to a process that listens by now."""
    until = time.monotonic() + SECONDS
    while True:
        with contextlib.suppress(ConnectionRefusedError):
            return meeting._connected(address)
        assert time.monotonic() < until
        time.sleep(0.01)


def is_free(address):
    with contextlib.suppress(OSError), meeting._listening(int(address.rpartition(":")[2])):
        return True
    return False


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_all_go_on_when_all_have_come(found, order):
    first = [begin(found[index]) for index in order[:2]]
    time.sleep(0.3)
    assert not any(each.done() for each in first)
    last = begin(found[order[2]])
    for each in (*first, last):
        assert each.result(SECONDS) is None
    assert all(is_free(address) for address in found[0].addresses)


def test_one_alone_waits_for_none():
    meeting.meet(Cluster(tuple(launching.loopback(1)), 0, "TF_CONFIG"))


def test_one_that_has_ended_is_waited_for_again(found):
    waiting = [begin(found[index]) for index in (0, 1)]
    with connected(found[0].addresses[0]) as third:
        third.sendall(meeting._hello(found[2]))
        third.settimeout(SECONDS)
        assert third.recv(2) == b"go"  # all have come
    for each in waiting:
        each.result(SECONDS)
    waiting = [begin(found[0])]
    with connected(found[0].addresses[0]) as third:
        third.sendall(meeting._hello(found[2]))
        time.sleep(0.2)
    time.sleep(0.2)
    waiting.append(begin(found[1]))
    time.sleep(0.3)
    assert not any(each.done() for each in waiting)
    waiting.append(begin(found[2]))
    for each in waiting:
        each.result(SECONDS)


def test_others_are_told_who_is_missing(found, monkeypatch, caplog):
    monkeypatch.setattr(meeting, "REMIND", 0.2)
    addresses = found[0].addresses
    last = begin(found[2])
    time.sleep(0.5)
    said = f"{addresses[0]}, the first process, has not answered yet: Connection refused."
    assert said in caplog.text
    first = begin(found[0])
    time.sleep(0.5)
    assert f"{addresses[1]}: no process has come from there yet. Still waiting." in caplog.messages
    assert f"{addresses[0]}, the first process, waits for others" in caplog.text
    meeting.meet(found[1])
    first.result(SECONDS), last.result(SECONDS)


def test_what_is_none_of_them_is_not_waited_for(found, caplog):
    first = begin(found[0])
    hellos = (
        b"GET / HTTP/1.1\r\nHost: this.one:2222\r\n\r\n",
        meeting._hello(found[0]),
        meeting._hello(Cluster(found[0].addresses, 3, "")),
        meeting._hello(Cluster(found[0].addresses[::-1], 1, "")),
    )
    for hello in hellos:
        with connected(found[0].addresses[0]) as stray:
            stray.sendall(hello)
            stray.settimeout(SECONDS)
            with contextlib.suppress(ConnectionResetError):
                assert stray.recv(2) in (b"no", b"")
    silent = connected(found[0].addresses[0])
    others = [begin(each) for each in found[1:]]
    for each in (first, *others):
        each.result(SECONDS)
    silent.close()
    assert len([line for line in caplog.messages if "was given other addresses" in line]) == 1


def test_other_addresses_are_refused(found):
    """In another order, they are other ones."""
    first = begin(found[0])
    a, b, c = found[0].addresses
    with pytest.raises(ValueError, match="was given other addresses than this one"):
        meeting.meet(Cluster((a, c, b), 1, "TF_CONFIG"))
    with pytest.raises(ValueError, match=f"{a}, the first process, was given other.*TF_CONFIG"):
        meeting.meet(Cluster((a, b), 1, "TF_CONFIG"))
    second = begin(found[1])
    with pytest.raises(ValueError, match=f"{b}, the first process, was given other"):
        meeting.meet(Cluster((b, c), 1, "TF_CONFIG"))  # the second is no first one
    third = begin(found[2])
    for each in (first, second, third):
        each.result(SECONDS)


@pytest.mark.parametrize("index", [0, 1])
def test_a_port_in_use(found, monkeypatch, index):
    address = found[0].addresses[index]
    host, port = address.split(":")
    with socket.create_server((host, int(port))):
        monkeypatch.setattr(meeting, "FREED", 0.1)
        said = f"{address}, which TF_CONFIG gives to this process, is in use"
        with pytest.raises(OSError, match=said):
            meeting.meet(found[index])


def test_a_port_of_a_process_that_ends(found):
    """It is waited for; and on JAX only the first one needs its port."""
    host, port = found[0].addresses[0].split(":")
    server = socket.create_server((host, int(port)))
    threading.Timer(0.3, server.close).start()
    waiting = [begin(found[0]), begin(found[1])]
    host, port = found[2].addresses[2].split(":")
    with socket.create_server((host, int(port))):
        meeting.meet(found[2], listens=False)
    for each in waiting:
        each.result(SECONDS)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("index", "number", "status"), [(0, signal.SIGTERM, 75), (1, signal.SIGINT, 130)]
)
def test_a_signal_ends_one_that_waits(tmp_path, index, number, status):
    config = launching._tf_config(launching.loopback(2), index)
    command = [sys.executable, "-m", "keras_lapkl", "train", f"--output_dir={tmp_path / 'run'}"]
    environment = {**os.environ, "TF_CONFIG": config}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr:
            if "Waiting for all of them" in line:
                break
        time.sleep(1)
        process.send_signal(number)
        _, said = process.communicate(timeout=SECONDS)
    assert process.returncode == status, said
    assert "The same command starts or goes on again." in said and "Traceback" not in said
    assert not (tmp_path / "run").exists()
