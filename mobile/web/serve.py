"""Serves the page that finds landmarks in a browser, in a picture, a photo or the camera's.

    npm install --prefix mobile/web
    python mobile/web/serve.py --model=fpn-eighth-300w

Then open the address that it prints. All that the page needs comes from here: its own files,
LiteRT.js as npm installed it, the model, and a synthetic face to begin with. Needs no TensorFlow.
"""

import base64
import hashlib
import pathlib
import re
import socket
import sys

from absl import flags

from keras_lapkl import pretrained
from keras_lapkl._support import app, serving
from keras_lapkl.tflite import flatbuffer, metadata

_MODEL = flags.DEFINE_string(
    "model", None, "Shipped model, or .tflite file of lapkl convert, to begin with."
)
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
    headers = {**HEADERS, "Content-Security-Policy": policy(files["/index.html"].read_bytes())}
    answers = serving.handler(files, names, headers, TYPES)
    with serving.Server((_HOST.value, _PORT.value), answers) as server:
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
    return {f"/{path.relative_to(FOLDER).as_posix()}": path for path in found}


def read_model(name_or_path):
    """Side of the crops of a model, and the bytes of its file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is neither a shipped model nor a .tflite file of this package.
    """
    path = pretrained.resolve(name_or_path, (".tflite",))
    content = flatbuffer.read_bytes(path)
    found = metadata.read(flatbuffer.parse(content, path), path)
    if found is None:
        raise ValueError(f"{path} says nothing of crop and landmarks: convert it by lapkl convert.")
    return found.image_size, content


def face(index, size):
    """A synthetic face as PNG."""
    import cv2

    from keras_lapkl.data.synthetic.faces import synthetic_faces

    images, _ = synthetic_faces(1, image_size=size, start=index)
    return cv2.imencode(".png", images[0, :, :, ::-1])[1].tobytes()


def policy(page):
    """The Content-Security-Policy of a page: of its inline scripts, those that it has now."""
    scripts = re.findall(rb"<script(?![^>]*\bsrc=)[^>]*>(.*?)</script>", page, re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(script).digest()).decode() for script in scripts]
    return POLICY.format(inline=" ".join(f"'sha256-{digest}'" for digest in digests))


if __name__ == "__main__":
    sys.exit(app.run_main(main))
