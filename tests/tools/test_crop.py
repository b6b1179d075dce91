import csv
import json
import os
import random
import shutil
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

from keras_lapkl import pretrained
from keras_lapkl.data.synthetic.faces import synthetic_faces
from keras_lapkl.data.unlabeled import shards

SCRIPT = "tools/crop.py"
BOX = ("--crop_by=box", "--box=0.3,0.3,0.7,0.7")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """400 files of eight faces, one of them broken."""
    folder = tmp_path_factory.mktemp("photos")
    for i, face in enumerate(synthetic_faces(8, image_size=64)[0]):
        data = cv2.imencode(".png", face[..., ::-1])[1].tobytes()
        for j in range(50):
            (folder / f"{j:02d}{i}.png").write_bytes(data)
    (folder / "broken.png").write_bytes(b"text")
    return folder


def contents(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.name != "results.json"}


def test_crops_are_those_of_the_model_that_finds_them(run_tool, photos, tmp_path):
    (tmp_path / "photos").mkdir()
    shutil.copy(photos / "000.png", tmp_path / "photos")
    content = pretrained.resolve("fpn-sixteenth-300w", (".tflite",)).read_bytes()
    model = tmp_path / "tight.tflite"
    model.write_bytes(content.replace(b'"crop_scale": 3.0', b'"crop_scale": 2.5'))
    flags = (f"--input_dir={tmp_path / 'photos'}", "--crop_by=model", "--max_scale=99")
    for name, more in (("own", ()), ("asked", ("--crop_scale=2",))):
        out = tmp_path / name
        run_tool(SCRIPT, *flags, f"--model={model}", *more, f"--output_dir={out}", "--workers=1")
    scales = [json.loads((tmp_path / n / "shards.json").read_text()) for n in ("own", "asked")]
    assert [each["settings"]["crop_scale"] for each in scales] == [2.5, 2.0]


def test_goes_on_after_a_kill(run_tool, photos, tmp_path):
    flags = (f"--input_dir={photos}", *BOX, "--image_size=32", "--shard_size=10")
    out = tmp_path / "killed"
    tool = subprocess.Popen(
        [sys.executable, SCRIPT, *flags, f"--output_dir={out}", "--workers=1"],
        stderr=subprocess.DEVNULL,
    )
    while not (finished := list(out.glob("*.npz"))):
        assert tool.poll() is None
        time.sleep(0.002)
    tool.kill()
    tool.wait()
    assert 1 <= len(list(out.glob("*.npz"))) < 41
    with pytest.raises(ValueError, match="not finished"):
        shards.read_shards(out)
    inode = finished[0].stat().st_ino

    run_tool(SCRIPT, *flags, f"--output_dir={out}", "--workers=2")
    assert finished[0].stat().st_ino == inode
    run_tool(SCRIPT, *flags, f"--output_dir={tmp_path / 'whole'}", "--workers=1")
    assert contents(out) == contents(tmp_path / "whole")


def test_a_cluster_that_is_killed_writes_the_same(run_tool, after, dask_cluster, photos, tmp_path):
    """Workers are killed again and again, and the tool in the middle, which then goes on."""
    rng = random.Random(0)
    flags = (f"--input_dir={photos}", *BOX, "--image_size=32", "--shard_size=10")
    out = tmp_path / "killed"
    slow = dask_cluster.slowed(tmp_path / "slow", 0.01)

    def finished():
        return {path: path.stat().st_ino for path in out.glob("*.npz")}

    def crop(scheduler, enough):
        """Crops until there are enough shards, and kills a worker after each eight."""
        words = (SCRIPT, *flags, f"--output_dir={out}", f"--scheduler={scheduler}")
        kills, start = 0, len(finished())
        with (tmp_path / "said").open("w") as said:
            tool = subprocess.Popen(after(dask_cluster.SMALL_PIECES, *words), stderr=said)
        while tool.poll() is None and len(finished()) < enough:
            if len(finished()) >= start + 8 * kills:
                kills += dask_cluster.kill_a_worker(scheduler, rng)
            time.sleep(0.1)
        if enough < 41:
            tool.kill()
        assert tool.wait() == (0 if enough == 41 else -9), (tmp_path / "said").read_text()
        return kills

    with dask_cluster.running(tmp_path / "dask", PYTHONPATH=slow) as scheduler:
        kills = crop(scheduler, 16)
        before = finished()
        assert 16 <= len(before) < 41
        assert kills + crop(scheduler, 41) >= 4
    assert before.items() <= finished().items()  # not made again
    run_tool(SCRIPT, *flags, f"--output_dir={tmp_path / 'whole'}", "--workers=1", fresh=True)
    assert contents(out) == contents(tmp_path / "whole")
    with (out / "skipped.csv").open(newline="") as stream:
        assert [row[0] for row in csv.reader(stream)] == ["photo", "broken.png"]


def test_says_what_it_found_and_keeps_it(run_tool, photos, tmp_path):
    done = run_tool(SCRIPT, f"--input_dir={photos}", f"--output_dir={tmp_path}", *BOX)
    assert f"{photos.name}: 400 faces without labels from 401 photos" in done.stdout
    assert "by the box 0.3,0.3,0.7,0.7 of each photo; 1 photos skipped" in done.stdout
    results = json.loads((tmp_path / "results.json").read_text())
    assert (results["faces"], results["skipped"]) == (400, 1)
    assert results["provenance"]["flags"]["box"] == ["0.3", "0.3", "0.7", "0.7"]
    with (tmp_path / "skipped.csv").open(newline="") as stream:
        assert [row[0] for row in csv.reader(stream)] == ["photo", "broken.png"]
    found = shards.read_shards(tmp_path)
    assert found.gather(np.arange(400)).shape == (400, 112, 112, 3)

    flags = (f"--input_dir={photos}", f"--output_dir={tmp_path}", *BOX, "--crop_scale=2")
    done = run_tool(SCRIPT, *flags, check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "crop_scale: 3.0 there, 2.0 now" in done.stderr


def test_tensorflow_is_not_imported(run_tool, photos, tmp_path):
    """The stand-in fails to import, in the tool and in its workers."""
    for name in ("tensorflow", "keras"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('not here')")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    flags = (f"--input_dir={photos}", f"--output_dir={tmp_path / 'out'}", *BOX, "--workers=1")
    run_tool(SCRIPT, *flags, env={**os.environ, "PYTHONPATH": path})
    assert len(shards.read_shards(tmp_path / "out")) == 400


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((), "--crop_by must have a value"),
        (("--crop_by=eye",), "--crop_by"),
        (("--crop_by=box",), "needs --box"),
        (("--crop_by=box", "--box=1,2"), "`box` must be (x0, y0, x1, y1)"),
        (("--crop_by=box", "--box=a,b,c,d"), "--box must be four numbers"),
        (("--crop_by=model",), "needs --model"),
        ((*BOX, "--model=m.tflite"), "--model does not go with --crop_by=box"),
        (("--crop_by=model", "--model=none.tflite"), "There is no model at none.tflite"),
        ((*BOX, "--min_size=9"), "--min_size does not go with --crop_by=box"),
        (
            ("--crop_by=detector", "--max_scale=2"),
            "--max_scale does not go with --crop_by=detector",
        ),
        ((*BOX, "--detector=yunet"), "--detector does not go with --crop_by=box"),
        (
            ("--crop_by=detector", "--detector=eye"),
            "--detector=eye: value should be one of <auto|blazeface|yunet|mtcnn>",
        ),
        ((*BOX, "--margin=-1"), "margin"),
        ((*BOX, "--input_dir=nowhere"), "nowhere"),
        ((*BOX, "--output_dir=Memory://out"), "memory ends with this command"),
        ((*BOX, "stray"), "stray"),
    ],
)
def test_plain_errors(run_tool, photos, tmp_path, flags, message):
    flags = (f"--input_dir={photos}", f"--output_dir={tmp_path / 'out'}", *flags)
    done = run_tool(SCRIPT, *flags, check=False)
    assert done.returncode == 1
    assert message in done.stdout + done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()
