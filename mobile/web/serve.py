"""Serves the page that finds landmarks in a browser, in a picture, a photo or the camera's.

    npm install --prefix mobile/web
    python mobile/web/serve.py --model=int8.tflite

Then open the address that it prints. All that the page needs comes from here: its own files,
LiteRT.js as npm installed it, the model, and a synthetic face to begin with. Needs no TensorFlow.
"""

import contextlib
import http.server
import pathlib
import sys

from absl import flags

from keras_lapkl._support import app

_MODEL = flags.DEFINE_string("model", None, ".tflite file of tools/convert.py to begin with.")
_FACE = flags.DEFINE_integer("face", 0, "Which synthetic face to begin with.", lower_bound=0)
_HOST = flags.DEFINE_string("host", "127.0.0.1", "Address to listen on; this machine's alone.")
_PORT = flags.DEFINE_integer("port", 8000, "Port; 0 takes a free one.", 0, 65535)

FOLDER = pathlib.Path(__file__).resolve().parent
PACKAGES = ("@litertjs/core", "@litertjs/wasm-utils")
IMAGE_SIZE = 80

HEADERS = {
    # Together they allow shared memory, which threads need.
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    # Nothing comes from, or goes to, another host.
    "Content-Security-Policy": "default-src 'self' blob: data: 'unsafe-inline' 'wasm-unsafe-eval'",
    "X-Content-Type-Options": "nosniff",
    # The next start may serve another model.
    "Cache-Control": "no-store",
}
# Of some, what Python's mimetypes says depends on the machine.
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".png": "image/png",
    ".tflite": "application/octet-stream",
    ".wasm": "application/wasm",
}


def main(_):
    files = page_files()
    size = IMAGE_SIZE
    if _MODEL.value is not None:
        size = image_size(_MODEL.value)
        files["/model.tflite"] = pathlib.Path(_MODEL.value).read_bytes()
    files["/face.png"] = face(_FACE.value, size)
    with http.server.ThreadingHTTPServer((_HOST.value, _PORT.value), handler(files)) as server:
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
    found = [FOLDER / "index.html", *FOLDER.glob("*.js")]
    for name in PACKAGES:
        for pattern in ("dist/*.js", "wasm/*.js", "wasm/*.wasm"):
            found += (packages / name).glob(pattern)
    return {f"/{path.relative_to(FOLDER).as_posix()}": path for path in found}


def image_size(path):
    """Side of the crops of a model.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no .tflite file of this package.
    """
    from keras_lapkl.tflite import flatbuffer, metadata

    found = metadata.read(flatbuffer.read(path), path)
    if found is None:
        raise ValueError(
            f"{path} says nothing of crop and landmarks: convert it by tools/convert.py."
        )
    return found.image_size


def face(index, size):
    """A synthetic face as PNG."""
    import cv2

    from keras_lapkl.data.synthetic.faces import synthetic_faces

    images, _ = synthetic_faces(1, image_size=size, start=index)
    return cv2.imencode(".png", images[0, :, :, ::-1])[1].tobytes()


def handler(files):
    """A request handler class for files, bytes or paths, by their path in the address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def handle(self):
            # A browser drops what it no longer wants.
            with contextlib.suppress(ConnectionError):
                super().handle()

        def do_GET(self):
            address = self.path.split("?")[0]
            address = "/index.html" if address == "/" else address
            content = files.get(address)
            if content is None:
                self.send_error(404, "There is no such file")
                return
            body = content if isinstance(content, bytes) else content.read_bytes()
            self.send_response(200)
            self.send_header("Content-Type", TYPES[pathlib.PurePosixPath(address).suffix])
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def end_headers(self):
            for name, value in HEADERS.items():
                self.send_header(name, value)
            super().end_headers()

        def log_request(self, code="-", size="-"):
            """Says nothing; errors are still logged."""

    return Handler


if __name__ == "__main__":
    sys.exit(app.run_main(main))
