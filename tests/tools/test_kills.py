"""Each tool that writes, killed at some of its steps and given again: as if nothing had been."""

import json
import signal

import cv2
import keras
import label_exports
import numpy as np
import pytest

import keras_lapkl
from keras_lapkl.data.synthetic.faces import synthetic_faces


@pytest.fixture(scope="module")
def inputs(tmp_path_factory, write_labels):
    """A model, and a folder of photos and a video."""
    folder = tmp_path_factory.mktemp("inputs")
    keras.utils.set_random_seed(0)
    generator = keras_lapkl.RCN(68, width=1 / 64, image_size=32)
    data = keras_lapkl.training_data.get("48 synthetic faces")
    model = keras_lapkl.LandmarkLocalizer(generator, "ibug68", 3.0, trained_on=data)
    model.save(folder / "model.keras")
    (folder / "photos").mkdir()
    for i, face in enumerate(synthetic_faces(6, image_size=64)[0]):
        cv2.imwrite(str(folder / "photos" / f"{i}.png"), face[..., ::-1])
    video = cv2.VideoWriter(
        str(folder / "photos" / "clip.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 64)
    )
    for face in synthetic_faces(4, image_size=64)[0]:
        video.write(np.ascontiguousarray(face[..., ::-1]))
    video.release()
    names = [path.name for path in (folder / "photos").iterdir()]
    (folder / "boxes.csv").write_text("\n".join(f"{name},16,16,48,48" for name in names))
    (folder / "labeled").mkdir()
    label_exports.sleap(folder / "labeled")
    write_labels(folder / "labels.csv", synthetic_faces(6, image_size=64)[1])
    return folder


TOOLS = {
    "predict": (
        "--input={inputs}/photos",
        "--output_dir={out}",
        "--format=pts",
        "--overlays",
        "--boxes={inputs}/boxes.csv",
    ),
    "crop": (
        "--input_dir={inputs}/photos",
        "--output_dir={out}",
        "--crop_by=box",
        "--box=0.3,0.3,0.7,0.7",
        "--shard_size=2",
        "--workers=1",
        "--image_size=32",
    ),
    "evaluate": (
        "--model=fpn-sixteenth-300w",
        "--split=test",
        "--num_synthetic=8",
        "--output_dir={out}",
    ),
    "convert": (
        "--model={inputs}/model.keras",
        "--output={out}/model.tflite",
        "--num_parity=2",
        "--num_calibration=2",
    ),
    "heatmaps": ("--model=one={inputs}/model.keras", "--output={out}/heatmaps.png", "--faces=2"),
    "labels": ("--input={inputs}/labeled/labels.slp", "--output={out}/labels.csv"),
    "audit": (
        "--dataset=csv",
        "--data_dir={inputs}/photos",
        "--split={inputs}/labels.csv",
        "--model=fpn-sixteenth-300w",
        "--output_dir={out}",
    ),
}
KILLS = {
    **{"predict": 4, "crop": 4, "evaluate": 2, "convert": 1, "heatmaps": 1, "labels": 3},
    "audit": 2,
}
_OF_THE_RUN = ("seconds", "pictures_per_second", "seconds_by_part", "provenance", "path", "latency")


def contents(folder):
    """Content of each file by its name; of JSON without what tells of the run."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_file():
            found[path.relative_to(folder)] = path.read_bytes()
            if path.suffix == ".json" and isinstance(data := json.loads(path.read_bytes()), dict):
                found[path.relative_to(folder)] = {
                    key: value for key, value in data.items() if key not in _OF_THE_RUN
                }
    return found


@pytest.mark.parametrize("tool", TOOLS)
def test_killed_and_given_again(run_tool, inputs, tmp_path, tool):
    def run(step, out):
        out.mkdir(exist_ok=True)
        flags = [flag.format(inputs=inputs, out=out) for flag in TOOLS[tool]]
        return run_tool("tests/killed.py", step, f"tools/{tool}.py", *flags, check=False)

    done = run(0, tmp_path / "unbroken")
    assert done.returncode == 0, done.stderr
    steps = int(done.stderr.split()[-2])
    rng = np.random.default_rng(sum(map(ord, tool)))
    statuses = []
    for step in map(int, rng.integers(1, steps + 1, KILLS[tool])):
        killed = run(step, tmp_path / "killed")
        print(f"killed at step {step} of {steps}: {killed.returncode}")
        assert killed.returncode in (-signal.SIGKILL, 0), killed.stderr
        statuses.append(killed.returncode)
    # One that goes on may end before its step; the first, as the unbroken one, comes to any.
    assert statuses[0] == -signal.SIGKILL
    done = run(0, tmp_path / "killed")
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "killed") == contents(tmp_path / "unbroken")
