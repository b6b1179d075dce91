"""Serves the page that finds landmarks in a browser, in a picture, a photo or the camera's.

    npm install --prefix mobile/web
    python mobile/web/serve.py --model=int8.tflite

Then open the address that it prints. All that the page needs comes from here: its own files,
LiteRT.js as npm installed it, the model, and a synthetic face to begin with. Needs no TensorFlow.
"""

import base64
import contextlib
import hashlib
import http.server
import io
import ipaddress
import os
import pathlib
import re
import shutil
import socket
import sys
import threading

from absl import flags

from keras_lapkl._support import app
from keras_lapkl.tflite import flatbuffer, metadata, rules

_MODEL = flags.DEFINE_string("model", None, ".tflite file of tools/convert.py to begin with.")
_FACE = flags.DEFINE_integer("face", 0, "Which synthetic face to begin with.", lower_bound=0)
_HOST = flags.DEFINE_string("host", "127.0.0.1", "Address to listen on; this machine's alone.")
_PORT = flags.DEFINE_integer("port", 8000, "Port; 0 takes a free one.", 0, 65535)

FOLDER = pathlib.Path(__file__).resolve().parent
PACKAGES = ("@litertjs/core", "@litertjs/wasm-utils")
IMAGE_SIZE = 80

MAX_CONNECTIONS = 32
"""At a time; a browser opens six. Each has a thread and at most some 64 kB in flight."""
IDLE_SECONDS = 10.0
CONNECTION_SECONDS = 120.0
"""Of a connection, however slowly it sends or takes."""

HEADERS = {
    # Together they allow shared memory, which threads need.
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    # The next start may serve another model.
    "Cache-Control": "no-store",
}
# Nothing comes from, or goes to, another host; nothing else shows the page inside its own.
POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval' {inline}; style-src 'self'; "
    "connect-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
    "worker-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# Of some, what Python's mimetypes says depends on the machine.
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".png": "image/png",
    ".tflite": "application/octet-stream",
    ".wasm": "application/wasm",
}


def main(_):
    files = page_files()
    size = IMAGE_SIZE
    if _MODEL.value is not None:
        size, files["/model.tflite"] = read_model(_MODEL.value)
    files["/face.png"] = face(_FACE.value, size)
    names = {_HOST.value, "localhost", socket.gethostname()}
    with Server((_HOST.value, _PORT.value), handler(files, names)) as server:
        print(f"http://{_HOST.value}:{server.server_port}/", flush=True)
        server.serve_forever()


def page_files():
    """What may be asked for, by its path in the address: nothing else can be."""
    packages = FOLDER / "node_modules"
    missing = [name for name in PACKAGES if not (packages / name / "dist/index.js").is_file()]
    if missing:
        raise FileNotFoundError(
            f"The page needs {' and '.join(missing)}, expected in {packages}. Install: "
            "npm install --prefix mobile/web"
        )
    found = [FOLDER / "index.html", FOLDER / "style.css", *FOLDER.glob("*.js")]
    for name in PACKAGES:
        for pattern in ("dist/*.js", "wasm/*.js", "wasm/*.wasm"):
            found += (packages / name).glob(pattern)
    files = {f"/{path.relative_to(FOLDER).as_posix()}": path for path in found}
    return {**files, "/metadata.rules.json": rules.PATH}


def read_model(path):
    """Side of the crops of a model, and the bytes of its file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no .tflite file of this package.
    """
    content = flatbuffer.read_bytes(path)
    found = metadata.read(flatbuffer.parse(content, path), path)
    if found is None:
        raise ValueError(
            f"{path} says nothing of crop and landmarks: convert it by tools/convert.py."
        )
    return found.image_size, content


def face(index, size):
    """A synthetic face as PNG."""
    import cv2

    from keras_lapkl.data.synthetic.faces import synthetic_faces

    images, _ = synthetic_faces(1, image_size=size, start=index)
    return cv2.imencode(".png", images[0, :, :, ::-1])[1].tobytes()


class Server(http.server.ThreadingHTTPServer):
    """A thread for each connection, and no more than `MAX_CONNECTIONS` of them."""

    def __init__(self, *args):
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


def is_allowed(host, names):
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


def policy(page):
    """The Content-Security-Policy of a page: of its inline scripts, those that it has now."""
    scripts = re.findall(rb"<script(?![^>]*\bsrc=)[^>]*>(.*?)</script>", page, re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(script).digest()).decode() for script in scripts]
    return POLICY.format(inline=" ".join(f"'sha256-{digest}'" for digest in digests))


def handler(files, names):
    """A request handler class.

    Args:
        files: bytes or paths, by their path in the address.
        names: of this server, for the Host header.
    """
    headers = {**HEADERS, "Content-Security-Policy": policy(files["/index.html"].read_bytes())}

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
                self.send_header("Content-Type", TYPES[pathlib.PurePosixPath(address).suffix])
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


if __name__ == "__main__":
    sys.exit(app.run_main(main))
