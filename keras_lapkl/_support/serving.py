"""A server of few files to browsers, which a slow, a greedy or a foreign client does not harm."""

import contextlib
import http.server
import io
import ipaddress
import os
import pathlib
import re
import shutil
import socket
import threading
from collections.abc import Collection, Mapping
from typing import Any

MAX_CONNECTIONS = 32
"""At a time; a browser opens six. Each has a thread and at most some 64 kB in flight."""
IDLE_SECONDS = 10.0
CONNECTION_SECONDS = 120.0
"""Of a connection, however slowly it sends or takes."""


class Server(http.server.ThreadingHTTPServer):
    """A thread for each connection, and no more than `MAX_CONNECTIONS` of them."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._free = threading.BoundedSemaphore(MAX_CONNECTIONS)

    def process_request(self, request, client_address):
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._free.release()
            raise

    def process_request_thread(self, request, client_address):
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()


def is_allowed(host: str | None, names: Collection[str]) -> bool:
    """Whether a Host header is of this server: an address, or one of its names.

    A page elsewhere may let its own name lead here, and would read what is served.
    """
    match = re.fullmatch(r"(?:\[(?P<six>[\da-fA-F:.]+)\]|(?P<name>[^:\[\]]+))(?::\d+)?", host or "")
    if match is None:
        return False
    name = match["six"] or match["name"]
    with contextlib.suppress(ValueError):
        return bool(ipaddress.ip_address(name))
    return name.lower() in {each.lower() for each in names}


def handler(
    files: Mapping[str, bytes | pathlib.Path],
    names: Collection[str],
    headers: Mapping[str, str],
    types: Mapping[str, str],
) -> type[http.server.BaseHTTPRequestHandler]:
    """A request handler class that knows these files alone.

    Args:
        files: bytes or paths, by their path in the address; `/` is `/index.html`.
        names: of this server, for the Host header.
        headers: of each answer.
        types: Content-Type by suffix. What Python's mimetypes says depends on the machine.
    """

    class Handler(http.server.BaseHTTPRequestHandler):
        timeout = IDLE_SECONDS
        error_content_type = "text/plain; charset=utf-8"
        error_message_format = "%(code)d %(message)s\n"

        def handle(self):
            end = threading.Timer(CONNECTION_SECONDS, self.cut)
            end.start()
            try:
                # A browser drops what it no longer wants.
                with contextlib.suppress(ConnectionError):
                    super().handle()
            finally:
                end.cancel()

        def cut(self):
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)

        def parse_request(self):
            if not super().parse_request():
                return False
            if not is_allowed(self.headers.get("Host"), names):
                self.send_error(421, "This server has another name")
            elif self.command not in ("GET", "HEAD"):
                self.send_error(405, "Only GET and HEAD")
            else:
                return True
            return False

        def do_GET(self):
            address = self.path.split("?")[0]
            address = "/index.html" if address == "/" else address
            content = files.get(address)
            if content is None:
                self.send_error(404, "There is no such file")
                return
            with io.BytesIO(content) if isinstance(content, bytes) else content.open("rb") as body:
                self.send_response(200)
                self.send_header("Content-Type", types[pathlib.PurePosixPath(address).suffix])
                self.send_header("Content-Length", str(body.seek(0, os.SEEK_END)))
                self.end_headers()
                if self.command == "GET":
                    body.seek(0)
                    shutil.copyfileobj(body, self.wfile, 1 << 16)

        def do_HEAD(self):
            self.do_GET()

        def send_response(self, code, message=None):
            super().send_response(code, message)
            if code == 405:
                self.send_header("Allow", "GET, HEAD")

        def end_headers(self):
            for name, value in headers.items():
                self.send_header(name, value)
            super().end_headers()

        def log_request(self, code="-", size="-"):
            """Says nothing; errors are still logged."""

    return Handler
