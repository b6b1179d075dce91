import contextlib
import http.client
import socket
import threading
import time

import pytest

from keras_lapkl._support import serving

TYPES = {".html": "text/html", ".bin": "application/octet-stream"}


@pytest.fixture
def serve(tmp_path):
    """`serve()` starts a server of two files, and gives its port."""
    with contextlib.ExitStack() as stack:

        def start():
            (tmp_path / "large.bin").write_bytes(bytes(1 << 22))
            files = {"/index.html": b"<p>", "/large.bin": tmp_path / "large.bin"}
            answers = serving.handler(files, {"localhost", "Box"}, {"X-Kept": "yes"}, TYPES)
            server = stack.enter_context(serving.Server(("127.0.0.1", 0), answers))
            threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
            stack.callback(server.shutdown)
            return server.server_port

        yield start


def ask(port, method="GET", path="/", **headers):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    with contextlib.closing(connection):
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()


def wait(port, content=b""):
    """A connection that has sent something and takes nothing."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=5)
    connection.sendall(content)
    return connection


def test_get_and_head(serve):
    port = serve()
    status, headers, body = ask(port)
    assert (status, body, headers["Content-Type"]) == (200, b"<p>", "text/html")
    assert headers["X-Kept"] == "yes"
    assert len(ask(port, path="/large.bin?again")[2]) == 1 << 22
    status, headers, body = ask(port, "HEAD", "/large.bin")
    assert (status, headers["Content-Length"], body) == (200, str(1 << 22), b"")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "x"])
def test_other_methods(serve, method):
    status, headers, body = ask(serve(), method)
    assert (status, headers["Allow"], body) == (405, "GET, HEAD", b"405 Only GET and HEAD\n")


@pytest.mark.parametrize("path", ["/x", "/../index.html", "/.", "/%2e%2e/etc/passwd", "x"])
def test_nothing_else_is_served(serve, path):
    status, headers, _ = ask(serve(), path=path)
    assert (status, headers["X-Kept"]) == (404, "yes")


@pytest.mark.parametrize(
    ("host", "right"),
    [
        ("127.0.0.1:8000", True),
        ("192.168.0.7", True),
        ("[::1]:8000", True),
        ("localhost:8000", True),
        ("BOX", True),
        ("rebound.example", False),
        ("127.0.0.1.rebound.example", False),
        ("localhost.rebound.example:8000", False),
        ("localhost:", False),
        ("", False),
        (None, False),
        ("[::1", False),
        ("user@localhost", False),
    ],
)
def test_hosts(host, right):
    assert serving.is_allowed(host, {"localhost", "Box"}) is right


def test_a_foreign_host_is_told_nothing(serve):
    port = serve()
    assert ask(port, Host="rebound.example")[::2] == (421, b"421 This server has another name\n")
    with wait(port, b"GET / HTTP/1.0\r\n\r\n") as connection:
        assert b" 421 " in connection.recv(1000)


def test_who_says_nothing_is_cut_off(serve, monkeypatch):
    monkeypatch.setattr(serving, "IDLE_SECONDS", 0.1)
    with wait(serve(), b"GET / HT") as connection:
        assert connection.recv(1000) == b""


def test_who_is_slow_is_cut_off(serve, monkeypatch):
    monkeypatch.setattr(serving, "CONNECTION_SECONDS", 0.3)
    with wait(serve(), b"GET / HTTP/1.0\r\n") as connection, pytest.raises(ConnectionError):
        for _ in range(100):
            connection.sendall(b"A: b\r\n")
            time.sleep(0.05)


def test_connections_are_bounded(serve, monkeypatch):
    monkeypatch.setattr(serving, "MAX_CONNECTIONS", 3)
    port = serve()
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(wait(port, b"GET"))
        with wait(port) as connection:
            assert connection.recv(1000) == b""
    # And those that end make room.
    end = time.monotonic() + 5
    while True:
        with contextlib.suppress(ConnectionError, http.client.HTTPException):
            assert ask(port)[0] == 200
            break
        assert time.monotonic() < end
