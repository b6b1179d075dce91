"""Commands whose work a cluster does: they write what one machine writes, whatever is killed."""

import contextlib
import csv
import json
import random
import subprocess
import sys
import threading

import cv2
import numpy as np
import pytest

from keras_lapkl import pretrained, schemes
from keras_lapkl.data.synthetic.faces import synthetic_faces
from keras_lapkl.data.unlabeled import shards
from keras_lapkl.detection.first_pass import ByBox

TEACHER = pretrained.resolve("fpn-quarter-112-300w-int8", (".tflite",))


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory, dask_cluster):
    with dask_cluster.running(tmp_path_factory.mktemp("cluster") / "dask") as file:
        yield file


@pytest.fixture
def killing(dask_cluster, scheduler):
    """Within `killing(seconds)` workers are killed with -9 at random moments; gives a list of them."""

    @contextlib.contextmanager
    def start(mean):
        rng, over, kills = random.Random(0), threading.Event(), []

        def kill():
            while not over.wait(rng.expovariate(1 / mean)):
                kills.extend([1] * dask_cluster.kill_a_worker(scheduler, rng))

        thread = threading.Thread(target=kill)
        thread.start()
        try:
            yield kills
        finally:
            over.set()
            thread.join()

    return start


def without(path, *names):
    """A JSON file's data but for some of them."""
    data = json.loads(path.read_text())
    return {name: value for name, value in data.items() if name not in names}


class TestLabels:
    """Of a training run's teacher."""

    @pytest.fixture(scope="class")
    def faces(self, tmp_path_factory):
        """Shards of 400 faces."""
        folder = tmp_path_factory.mktemp("faces")
        photos, _ = synthetic_faces(400, image_size=64, seed=5)
        (folder / "photos").mkdir()
        for i, photo in enumerate(photos):
            cv2.imwrite(str(folder / "photos" / f"{i:03d}.png"), photo[..., ::-1])
        box = ByBox((0.3, 0.3, 0.7, 0.7))
        shards.crop_folder(folder / "photos", folder / "shards", box, 32, 8, workers=1, shard_size=99)
        return folder / "shards"

    @pytest.fixture
    def flags(self, faces):
        sizes = ("--num_synthetic=24", "--image_size=32", "--width=1/64", "--epochs=1")
        return *sizes, f"--unlabeled_dir={faces}", f"--teacher={TEACHER}"

    SMALL = """
import runpy, sys
from keras_lapkl.training import distillation
distillation._BATCH, distillation._PART = 8, 5
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""

    def test_killed_at_random_they_are_the_same(
        self, run_tool, scheduler, killing, flags, tmp_path
    ):
        """Workers, and the command in the middle, which then labels only what is left."""
        out = tmp_path / "out"
        words = (*flags, f"--output_dir={out}", "--label_only", f"--scheduler={scheduler}")
        parts = out / "pseudo_labels.parts"

        def finished():
            return {path: path.stat().st_ino for path in parts.glob("*.npy")}

        with killing(1.0) as kills:
            tool = subprocess.Popen(
                [sys.executable, "-c", self.SMALL, "tools/train.py", *words],
                stderr=subprocess.PIPE,
                text=True,
            )
            while len(before := finished()) < 4:
                assert tool.poll() is None, tool.stderr.read()
            tool.kill()
            tool.communicate()
            assert len(finished()) < 10
            done = subprocess.run(
                [sys.executable, "-c", self.SMALL, "tools/train.py", *words],
                capture_output=True,
                text=True,
                check=True,
            )
        assert kills
        assert f"has labeled {40 * len(before)} faces before" in done.stderr
        assert "same command without --label_only trains" in done.stdout
        run_tool("tools/train.py", *flags, f"--output_dir={tmp_path / 'alone'}", "--label_only")
        alone, labels = ((tmp_path / n / "pseudo_labels.npy").read_bytes() for n in ("alone", "out"))
        assert alone == labels and not parts.exists()
        assert np.load(out / "pseudo_labels.npy").shape == (400, 68, 3)
        written = (out / "pseudo_labels.npy").stat().st_ino
        run_tool("tools/train.py", *flags, f"--output_dir={out}")
        assert (out / "model.keras").exists()
        assert (out / "pseudo_labels.npy").stat().st_ino == written


@pytest.mark.parametrize("model", ["fpn-sixteenth-300w", "keras"])
def test_evaluate(run_tool, scheduler, killing, tmp_path, model):
    if model == "keras":
        model = pretrained.resolve("fpn-sixteenth-300w", (".keras",))
    flags = (f"--model={model}", "--dataset=synthetic", "--split=test", "--num_synthetic=500")

    def evaluate(name, *more):
        run_tool("tools/evaluate.py", *flags, f"--output_dir={tmp_path / name}", *more)
        found = without(tmp_path / name / "results.json", "provenance")
        return found, (tmp_path / name / "predictions.json").read_bytes()

    with killing(2.0) as kills:
        by_cluster = evaluate("cluster", "--flip_average", f"--scheduler={scheduler}")
    assert by_cluster == evaluate("alone", "--flip_average")
    print(len(kills), "workers were killed")


@pytest.fixture(scope="module")
def labeled(tmp_path_factory):
    """Drawn faces with labels in CSV."""
    folder = tmp_path_factory.mktemp("labeled")
    pictures, landmarks = synthetic_faces(40, seed=7)
    columns = [f"{name}_{axis}" for name in schemes.IBUG68.names for axis in "xy"]
    with (folder / "train.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["file", *columns])
        rows.writerows([f"{i}.png", *points.ravel()] for i, points in enumerate(landmarks))
    for i, picture in enumerate(pictures):
        cv2.imwrite(str(folder / f"{i}.png"), picture[..., ::-1])
    return folder


def test_audit(run_tool, dask_cluster, scheduler, labeled, tmp_path):
    """A worker is killed while it trains; then a model is gone, and only that one is made again."""
    data = ("--dataset=csv", f"--data_dir={labeled}", f"--split={labeled}/train.csv")
    flags = (*data, "--folds=3", "--steps=20", "--image_size=32", "--scheme=ibug68")
    out = tmp_path / "cluster"
    words = ("tools/audit.py", *flags, f"--output_dir={out}", f"--scheduler={scheduler}")
    tool = subprocess.Popen([sys.executable, *words], stderr=subprocess.PIPE, text=True)
    while not (out / "faces.pickle").exists():
        assert tool.poll() is None, tool.stderr.read()
    while not dask_cluster.kill_a_worker(scheduler, random.Random(0)):
        pass
    said = tool.communicate()[1]
    assert tool.returncode == 0, said
    run_tool("tools/audit.py", *flags, f"--output_dir={tmp_path / 'alone'}")
    for name in ("audit.csv", "audit.png"):
        assert (out / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()
    files = sorted(path.relative_to(out) for path in out.rglob("*"))
    assert files == sorted(
        path.relative_to(tmp_path / "alone") for path in (tmp_path / "alone").rglob("*")
    )
    made = {path: path.stat().st_mtime_ns for path in out.glob("fold*/model.keras")}
    table = (out / "audit.csv").read_bytes()
    for path in (out / "fold1").iterdir():
        path.unlink()
    run_tool(*words)
    again = {path: path.stat().st_mtime_ns for path in made}
    assert {path.parent.name for path in made if made[path] != again[path]} == {"fold1"}
    assert (out / "audit.csv").read_bytes() == table


def test_audit_by_a_model(run_tool, scheduler, labeled, tmp_path):
    data = ("--dataset=csv", f"--data_dir={labeled}", f"--split={labeled}/train.csv")
    flags = (*data, "--model=fpn-sixteenth-300w")
    for name, more in (("cluster", (f"--scheduler={scheduler}",)), ("alone", ())):
        run_tool("tools/audit.py", *flags, f"--output_dir={tmp_path / name}", *more)
    tables = [(tmp_path / name / "audit.csv").read_bytes() for name in ("cluster", "alone")]
    assert tables[0] == tables[1]
