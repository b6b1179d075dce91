"""The server of the page: requests that are no requests, and files that are not served."""

import contextlib
import functools
import re
import socket
import tempfile
import threading
from pathlib import Path

import harness

from keras_lapkl._support import serving

REQUEST = b"GET /index.html HTTP/1.1\r\nHost: localhost:8000\r\nAccept: */*\r\n\r\n"
WORDS = (
    *(b"HEAD", b"POST", b"\x00", b"\r\n", b"\n\n", b"/../../etc/passwd", b"%2e%2e/", b"//"),
    *(b"HTTP/0.9", b"HTTP/9.9", b"Host: evil.example", b"Content-Length: 99999999999"),
    *(b"Transfer-Encoding: chunked", b"a: " + b"b" * 70_000, b"x: y\r\n" * 200, b"\xff\xfe"),
)


@functools.cache
def server():
    folder = Path(tempfile.mkdtemp())
    (folder / "secret.html").write_bytes(b"secret")
    (folder / "index.html").write_bytes(b"<p>page")
    serving.IDLE_SECONDS = 2.0
    files = {"/index.html": folder / "index.html", "/other.html": b"<p>other"}
    answers = serving.handler(files, {"localhost"}, {"X-Kept": "yes"}, {".html": "text/html"})
    found = serving.Server(("127.0.0.1", 0), answers)
    threading.Thread(target=found.serve_forever, daemon=True).start()
    return found


def ask(content):
    """What the server says until it ends the connection."""
    answer = b""
    address = "127.0.0.1", server().server_port
    with (
        socket.create_connection(address, timeout=10) as connection,
        contextlib.suppress(ConnectionError),  # it may end before it has taken all
    ):
        connection.sendall(content)
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_WR)
        while piece := connection.recv(1 << 16):
            answer += piece
    return answer


def attempt(rng, folder):
    content = REQUEST
    if rng.random() < 0.5:
        content = harness.mutated(rng, content)
    for _ in range(rng.randrange(3)):
        at = rng.randrange(len(content) + 1)
        content = content[:at] + rng.choice(WORDS) + content[at:]
    answer = ask(content)
    assert b"secret" not in answer and b"root:" not in answer and b"Traceback" not in answer
    status = re.match(rb"HTTP/1\.\d (\d+)", answer)
    assert status is None or int(status[1]) in (200, 400, 404, 405, 414, 421, 431, 505), answer
    assert b"X-Kept: yes" in answer or not status
    # It goes on to answer others.
    assert ask(REQUEST).endswith(b"<p>page")


ATTACKS = [harness.Attack("requests to the page's server", attempt, refusals=(), tries=200)]


def test_answers_or_refuses(figures):
    assert not figures.faults
