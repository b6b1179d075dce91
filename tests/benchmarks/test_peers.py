import json
import os
import pathlib
import shutil

import cv2
import numpy as np
import pytest

from keras_lapkl.data import datasets, synthetic_faces, write_pts
from keras_lapkl.evaluation import model_scores

SCRIPT = "benchmarks/peers.py"
MODEL = pathlib.Path(__file__).parents[2] / "keras_lapkl/weights/fpn-sixteenth-300w-int8.tflite"
FOLDERS = ("afw", "helen/trainset", "lfpw/trainset", "helen/testset", "lfpw/testset")
# What face_api.cjs asks of the packages, without a network: all points at the crop's center.
WASM = "module.exports = { setWasmPaths() {}, setThreadsCount() {} };"
FACE_API = """
const points = (image) => Array(68).fill({ x: image.size / 2, y: image.size / 2 });
module.exports = {
  tf: { async setBackend() {}, async ready() {}, tensor3d: (values, [size]) => {
    if (values.length !== size * size * 3) throw new Error("not a crop");
    return { size, dispose() {} };
  } },
  nets: { faceLandmark68TinyNet: {
    async loadFromDisk() {}, async detectLandmarks(image) { return { positions: points(image) }; },
  } },
};
"""


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Twenty synthetic faces in the official layout of 300-W."""
    root = tmp_path_factory.mktemp("300w")
    for i, (image, landmarks) in enumerate(zip(*synthetic_faces(20), strict=True)):
        path = root / FOLDERS[i % 5] / f"{i}_1"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(f"{path}.jpg", image[..., ::-1])
        write_pts(f"{path}.pts", landmarks[:, :2])
    return root


@pytest.fixture
def packages(tmp_path):
    if shutil.which("node") is None:
        pytest.skip("no node on PATH; apt-get install nodejs")
    for name, text in {
        "@tensorflow/tfjs-backend-wasm/index.js": WASM,
        "@vladmandic/face-api/dist/face-api.node-wasm.js": FACE_API,
    }.items():
        path = tmp_path / "packages/node_modules" / name
        path.parent.mkdir(parents=True)
        path.write_text(text)
    return tmp_path / "packages"


def test_face_api(run_tool, photos, packages, tmp_path):
    output = tmp_path / "found.json"
    flags = (f"--data_dir={photos}", f"--face_api={packages}", f"--predictions_dir={tmp_path}")
    run_tool(SCRIPT, f"--tflite={MODEL}", *flags, "--rounds=2", f"--output={output}")
    found = json.loads(output.read_text())
    ours, *_, theirs = found["nme"]
    assert ours.endswith("fpn-sixteenth-300w-int8.tflite")
    assert theirs.startswith("face-api (crop scale ")
    # The stand-in takes no time; through the pipe it would take longer than this.
    assert 0 < found["milliseconds"][theirs]["median"] < found["milliseconds"][ours]["median"]
    crops = datasets.load("300w", photos, "common", image_size=80)
    centers = model_scores.in_photos(np.full((len(crops), 68, 2), 39.5, np.float32), crops)
    written = json.loads((tmp_path / "face-api.json").read_text())
    points = np.array([picture["faces"][0]["landmarks"] for picture in written["pictures"]])
    np.testing.assert_allclose(points[..., 0], centers[..., 0], atol=1e-3)


def test_packages_that_are_missing(run_tool, photos, tmp_path):
    if shutil.which("node") is None:
        pytest.skip("no node on PATH; apt-get install nodejs")
    flags = (f"--tflite={MODEL}", f"--data_dir={photos}", f"--face_api={tmp_path}")
    done = run_tool(SCRIPT, *flags, check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "Cannot find module '@tensorflow/tfjs-backend-wasm'" in done.stderr
    assert "error: node ended with exit status 1" in done.stderr


def test_no_node(run_tool, photos, tmp_path):
    flags = (f"--tflite={MODEL}", f"--data_dir={photos}", f"--face_api={tmp_path}")
    done = run_tool(SCRIPT, *flags, check=False, env={**os.environ, "PATH": str(tmp_path)})
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "error: face-api needs Node.js" in done.stderr
