"""The processes of one training wait for each other, before TensorFlow or JAX lets them wait.

Those do so in compiled code, where Python heeds no signal, and do not say who is missing. The first
process listens at its address, and the others connect to it; when all have come, it tells them, and
all free their ports.
"""

import contextlib
import errno
import hashlib
import os
import selectors
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

from absl import logging

from keras_lapkl.training.cluster import Cluster

REMIND = 60.0
"""Seconds between two lines on who is missing."""
FREED = 10.0
"""Seconds in which a process of before, which ends, is to free its port."""
_TURN = 0.5
_CONNECTING = 5.0
_IDLE = 60
_GO, _OTHERS = b"go", b"no"
_HELLO = 32


def meet(found: Cluster, listens: bool = True) -> None:
    """Returns when all processes have come.

    Args:
        found: who they are.
        listens: whether this process needs its port, which the first one always does.

    Raises:
        OSError: its port is in use.
        ValueError: the first process was given other addresses.
    """
    with contextlib.ExitStack() as stack:
        own = stack.enter_context(_taken(found)) if listens or found.index == 0 else None
        remind = _reminder()
        if own is not None and found.index == 0:
            _gather(own, found, remind)
        else:
            _report(own, found, remind)


def _gather(own, found, remind):
    """The first process: until each of the others holds a connection."""
    came, told = {}, set()
    with selectors.DefaultSelector() as selector, contextlib.ExitStack() as stack:
        selector.register(own, selectors.EVENT_READ)
        stack.callback(_end_all, selector)
        while missing := [a for i, a in enumerate(found.addresses) if i and i not in came]:
            remind(f"{', '.join(missing)}: no process has come from there yet. Still waiting.")
            for key, _ in selector.select(_TURN):
                if key.fileobj is own:
                    if (connection := _accepted(own)) is not None:
                        selector.register(connection, selectors.EVENT_READ, bytearray())
                    continue
                connection, said = key.fileobj, key.data
                if (data := _received(connection, _HELLO)) is None:
                    continue
                said += data
                if data and len(said) < _HELLO:
                    continue
                if data and (index := _index(bytes(said), found)) is not None:
                    came[index] = connection
                    continue
                if data and (host := _host(connection)) not in told:
                    told.add(host)
                    logging.warning(
                        "A process on %s was given other addresses than this one, or has another "
                        "version: it is not waited for. %s must be the same in all.",
                        host,
                        found.source,
                    )
                selector.unregister(connection)
                _end(connection, _OTHERS if data else b"")
                came = {i: each for i, each in came.items() if each is not connection}
        for connection in came.values():
            _send(connection, _GO)


def _report(own, found, remind):
    """Another process: until the first one says that all have come."""
    first = found.addresses[0]
    why = "nobody listens"
    while True:
        remind(f"{first}, the first process, has not answered yet: {why}. Still waiting.")
        _turn_away(own)
        try:
            connection = _connected(first)
        except OSError as error:  # not started yet, or its name is not known yet
            why = error.strerror or str(error)
            time.sleep(_TURN)
            continue
        with contextlib.closing(connection):
            _send(connection, _hello(found))
            connection.settimeout(_TURN)
            said = None
            while said is None:
                said = _received(connection, len(_GO))
                remind(f"{first}, the first process, waits for others: see what it says.")
                _turn_away(own)
        if said == _GO:
            return
        if said == _OTHERS:
            raise ValueError(
                f"{first}, the first process, was given other addresses than this one, or has "
                f"another version. {found.source} must be the same in all. Received: {found}"
            )
        why = "it has ended, or something else listens there"
        time.sleep(_TURN)


def _hello(found):
    """What a process says of itself: its number, and a digest of the addresses of all."""
    digest = hashlib.blake2b("\n".join(found.addresses).encode(), digest_size=8).hexdigest()
    return f"lapkl 1 {digest}{found.index:8d}".encode()


def _index(said, found):
    """The number of a process that has said hello; None of another."""
    mine = _hello(found)
    start, number = said[: _HELLO - 8], said[_HELLO - 8 :]
    if len(said) != _HELLO or start != mine[: len(start)] or not number.strip().isdigit():
        return None
    return int(number) if 0 < int(number) < len(found.addresses) else None


@contextlib.contextmanager
def _taken(found: Cluster) -> Iterator[socket.socket]:
    """The port of this process, where nobody else listens meanwhile.

    Raises:
        OSError: it is in use.
    """
    address = found.addresses[found.index]
    until = time.monotonic() + FREED
    while True:
        try:
            own = _listening(int(address.rpartition(":")[2]))
            break
        except OSError as error:
            if error.errno == errno.EADDRINUSE and time.monotonic() < until:
                time.sleep(_TURN)
                continue
            in_use = error.errno == errno.EADDRINUSE
            why = "is in use: another process listens there" if in_use else "can't be taken"
            raise OSError(
                f"{address}, which {found.source} gives to this process, {why} ({error.strerror}). "
                "End that process, or give this one another port.",
            ) from error
    with contextlib.closing(own):
        yield own


def _listening(port):
    """As TensorFlow and JAX will: on all addresses of this machine."""
    kinds = [socket.AF_INET6] if socket.has_dualstack_ipv6() else []
    for kind in [*kinds, socket.AF_INET]:
        own = socket.socket(kind)
        try:
            if os.name == "posix":  # what a process of before has closed is free
                own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if kind == socket.AF_INET6:
                own.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            own.bind(("", port))
            own.listen(128)
            own.setblocking(False)
            return own
        except OSError as error:
            own.close()
            if kind == socket.AF_INET or error.errno == errno.EADDRINUSE:
                raise
    raise AssertionError("unreachable")


def _connected(address):
    host, _, port = address.rpartition(":")
    connection = socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECTING)
    if connection.getsockname() == connection.getpeername():
        connection.close()  # Linux has chosen the very port that nobody listens at
        raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
    _keep_alive(connection)
    return connection


def _accepted(own):
    try:
        connection, _ = own.accept()
    except OSError:  # it has ended meanwhile
        return None
    connection.setblocking(False)
    _keep_alive(connection)
    return connection


def _keep_alive(connection):
    """Else the end of a machine that says no word is never noticed."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_KEEPIDLE"):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _IDLE)


def _received(connection, size):
    """Some bytes; None if there are none yet, and none at all when the other has ended."""
    try:
        return connection.recv(size)
    except (TimeoutError, BlockingIOError):
        return None
    except OSError:
        return b""


def _send(connection, data):
    with contextlib.suppress(OSError):  # that it has ended is seen by what it says
        connection.sendall(data)


def _end(connection, data):
    _send(connection, data)
    connection.close()


def _end_all(selector: Any):
    for key in selector.get_map().values():
        key.fileobj.close()


def _turn_away(own):
    """Tells who takes this process for the first one."""
    while own is not None and (connection := _accepted(own)) is not None:
        _end(connection, _OTHERS)


def _host(connection):
    try:
        return connection.getpeername()[0]
    except OSError:
        return "another machine"


def _reminder() -> Callable[[str], None]:
    """Logs a line now and then, of those that it is given."""
    due = time.monotonic() + REMIND

    def remind(line):
        nonlocal due
        if time.monotonic() >= due:
            logging.warning("%s", line)
            due = time.monotonic() + REMIND

    return remind
