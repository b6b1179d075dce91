"""Commands whose work a cluster does: they write what one machine writes, whatever is killed."""

import contextlib
import json
import os
import random
import subprocess
import sys
import threading
import time

import cv2
import numpy as np
import pytest

from keras_lapkl import pretrained
from keras_lapkl.data.synthetic.faces import synthetic_faces
from keras_lapkl.data.unlabeled import shards
from keras_lapkl.detection import unfinished
from keras_lapkl.detection.first_pass import ByBox
from keras_lapkl.loading import load_model

TEACHER = pretrained.resolve("fpn-quarter-112-300w-int8", (".tflite",))


ONE_THREAD = {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}
"""By more, sums may be taken in another order. Training makes much of what rounding changes: in 20
steps, weights differ by as much as they are large."""


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory, dask_cluster):
    with dask_cluster.running(tmp_path_factory.mktemp("cluster") / "dask", **ONE_THREAD) as file:
        yield file


@pytest.fixture
def killing(dask_cluster, scheduler):
    """`killing(first)` kills four workers with -9, at random moments of so many seconds apart.

    The mean grows, since a worker that starts on a busy machine gets nothing done. Gives a list of
    the kills.
    """

    @contextlib.contextmanager
    def start(mean):
        rng, over, kills = random.Random(0), threading.Event(), []

        def kill():
            while len(kills) < 4 and not over.wait(
                rng.expovariate(1 / mean) * (1 + 2 * len(kills))
            ):
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


class TestBrokenConnection:
    """Of `lapkl crop` to the scheduler, by a wire on loopback."""

    @pytest.fixture
    def crop(self, after, dask_cluster, photos, tmp_path):
        soon = f"{dask_cluster.SMALL_PIECES}\ncluster._CONNECT_AGAIN = 2.0"

        def start(out, *more):
            box = ("--crop_by=box", "--box=0.3,0.3,0.7,0.7", "--image_size=32", "--shard_size=10")
            words = ("tools/crop.py", f"--input_dir={photos}", *box, f"--output_dir={out}", *more)
            said = (tmp_path / "said").open("w+")
            tool = subprocess.Popen(after(soon, *words), stderr=said)
            tool.said = said
            return tool

        return start

    def made(self, folder):
        return {path: path.stat().st_ino for path in folder.glob("*.npz")}

    def ended(self, tool, status):
        ended = tool.wait(120)
        tool.said.seek(0)
        said = tool.said.read()
        assert ended == status, said
        return said

    def test_cut_at_random_the_shards_are_the_same(
        self, run_tool, dask_cluster, scheduler, crop, photos, tmp_path
    ):
        wire, rng, cuts, due = dask_cluster.Wire(scheduler), random.Random(0), 0, 1
        tool = crop(tmp_path / "out", f"--scheduler={wire.address}")
        # By shards and not by time, which a fast machine needs less of.
        while tool.poll() is None:
            time.sleep(0.005)
            if wire.made and len(self.made(tmp_path / "out")) >= due:
                wire.cut()
                cuts += 1
                due = len(self.made(tmp_path / "out")) + rng.randint(1, 6)
        said = self.ended(tool, 0)
        assert cuts >= 3 and "is broken" in said and "Traceback" not in said, said
        crop(tmp_path / "alone", "--workers=1").wait()
        assert shards_of(tmp_path / "out") == shards_of(tmp_path / "alone")

    def test_cut_for_good_the_same_command_goes_on(self, dask_cluster, scheduler, crop, tmp_path):
        wire, out = dask_cluster.Wire(scheduler), tmp_path / "out"
        tool = crop(out, f"--scheduler={wire.address}")
        while len(self.made(out)) < 3:
            assert tool.poll() is None
        wire.cut(for_good=True)
        said = self.ended(tool, 1)
        (line,) = [line for line in said.splitlines() if line.startswith("error: ")]
        assert "or the way to it. Start it, and give the same command again" in line
        assert "with --resume" in line and "Traceback" not in said
        before = self.made(out)
        assert 3 <= len(before) < 41
        (out / ".lapkl-lock").write_text('{"host": "lost", "process": 7, "since": "today"}')
        self.ended(crop(out, f"--scheduler={scheduler}", "--resume"), 0)
        assert before.items() <= self.made(out).items()
        crop(tmp_path / "alone", "--workers=1").wait()
        assert shards_of(out) == shards_of(tmp_path / "alone")


def shards_of(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.name != "results.json"}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """400 photos, and one that is none."""
    folder = tmp_path_factory.mktemp("photos")
    for i, photo in enumerate(synthetic_faces(20, image_size=64, seed=5)[0]):
        for j in range(20):
            cv2.imwrite(str(folder / f"{j:02d}{i:02d}.png"), photo[..., ::-1])
    (folder / "broken.png").write_bytes(b"text")
    return folder


def test_predict_killed_and_given_again(run_tool, after, dask_cluster, scheduler, photos, tmp_path):
    """A worker, and the command in the middle, which then looks only at what is left."""
    often = "from keras_lapkl.detection import unfinished\nunfinished._PAUSE = 0.0"
    boxes = tmp_path / "boxes.csv"
    boxes.write_text("\n".join(f"{path.name},20,20,44,44" for path in sorted(photos.iterdir())))
    flags = (f"--input={photos}", f"--boxes={boxes}", "--model=fpn-sixteenth-300w", "--format=csv")
    out = tmp_path / "out"
    words = ("tools/predict.py", *flags, f"--output_dir={out}", f"--scheduler={scheduler}")
    words = after(f"{dask_cluster.SMALL_PIECES}\n{often}", *words)
    state = out / unfinished.FOLDER / "state.json"
    with (tmp_path / "said").open("w") as said:
        tool = subprocess.Popen(words, stderr=said)
    done, killed = 0, False
    while done < 40:
        time.sleep(0.05)
        assert tool.poll() is None, (tmp_path / "said").read_text()
        if state.exists():
            killed = killed or dask_cluster.kill_a_worker(scheduler, random.Random(0))
            done = json.loads(state.read_text())["tally"]["done"]
    tool.kill()
    assert tool.wait() == -9 and killed and done < 401
    assert not (out / "predictions.csv").exists()
    again = subprocess.run(words, capture_output=True, text=True, check=True)
    assert "Going on after" in again.stderr
    run_tool("tools/predict.py", *flags, f"--output_dir={tmp_path / 'alone'}")
    assert not state.exists()
    for name in ("predictions.csv", "skipped.csv"):
        assert (out / name).read_bytes() == (tmp_path / "alone" / name).read_bytes(), name
    timed = ("provenance", "seconds", "pictures_per_second", "seconds_by_part")
    results = [without(tmp_path / name / "results.json", *timed) for name in ("out", "alone")]
    assert results[0] == results[1] and results[0]["files"] == 401


class TestLabels:
    """Of a training run's teacher."""

    @pytest.fixture
    def faces(self, photos, tmp_path):
        """Shards of 400 faces."""
        folder = tmp_path / "faces"
        box = ByBox((0.3, 0.3, 0.7, 0.7))
        shards.crop_folder(photos, folder, box, 32, 8, workers=1, shard_size=99)
        return folder

    @pytest.fixture
    def flags(self, faces):
        sizes = ("--num_synthetic=24", "--image_size=32", "--width=1/64", "--epochs=1")
        return *sizes, f"--unlabeled_dir={faces}", f"--teacher={TEACHER}"

    def test_killed_at_random_they_are_the_same(
        self, run_tool, after, scheduler, killing, flags, tmp_path
    ):
        """Workers, and the command in the middle, which then labels only what is left."""
        small = "from keras_lapkl.training import distillation as d; d._BATCH, d._PART = 8, 5"
        out = tmp_path / "out"
        words = (*flags, f"--output_dir={out}", "--label_only", f"--scheduler={scheduler}")
        words = after(small, "tools/train.py", *words)
        parts = out / "pseudo_labels.parts"

        def finished():
            return {path: path.stat().st_ino for path in parts.glob("*.npz")}

        with killing(1.0) as kills:
            tool = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
            while len(before := finished()) < 4:
                assert tool.poll() is None, tool.stderr.read()
            tool.kill()
            tool.communicate()
            assert len(finished()) < 10
            done = subprocess.run(words, capture_output=True, text=True, check=True)
        assert kills
        assert f"has labeled {40 * len(before)} faces before" in done.stderr
        assert "same command without --label_only trains" in done.stdout
        run_tool("tools/train.py", *flags, f"--output_dir={tmp_path / 'alone'}", "--label_only")
        alone, labels = (
            (tmp_path / n / "pseudo_labels.npy").read_bytes() for n in ("alone", "out")
        )
        assert alone == labels and not parts.exists()
        assert np.load(out / "pseudo_labels.npy")["label"].shape == (400, 68, 3)
        written = (out / "pseudo_labels.npy").stat().st_ino
        run_tool("tools/train.py", *flags, f"--output_dir={out}")
        assert (out / "model.keras").exists()
        assert (out / "pseudo_labels.npy").stat().st_ino == written


@pytest.mark.parametrize("model", ["fpn-sixteenth-300w", "keras"])
def test_evaluate(run_tool, dask_cluster, scheduler, tmp_path, model):
    """A worker is killed while it works."""
    if model == "keras":
        model = pretrained.resolve("fpn-sixteenth-300w", (".keras",))
    flags = ("--dataset=synthetic", "--split=test", "--num_synthetic=500", "--flip_average")

    def words(name, *more):
        to = f"--model={model}", f"--output_dir={tmp_path / name}"
        return "tools/evaluate.py", *flags, *to, *more

    def found(name):
        results = without(tmp_path / name / "results.json", "provenance")
        return results, (tmp_path / name / "predictions.json").read_bytes()

    by_cluster = sys.executable, *words("cluster", f"--scheduler={scheduler}")
    tool = subprocess.Popen(by_cluster, stderr=subprocess.PIPE, text=True)
    dask_cluster.wait_until_busy(scheduler, tool)
    assert dask_cluster.kill_a_worker(scheduler, random.Random(0))
    assert tool.poll() is None
    _, said = tool.communicate()
    assert tool.returncode == 0, said
    run_tool(*words("alone"))
    assert found("cluster") == found("alone")


@pytest.fixture(scope="module")
def labeled(tmp_path_factory, write_labels):
    """Drawn faces with labels in CSV."""
    folder = tmp_path_factory.mktemp("labeled")
    pictures, landmarks = synthetic_faces(40, seed=7)
    write_labels(folder / "train.csv", landmarks, pictures)
    return folder


def test_audit(run_tool, dask_cluster, scheduler, labeled, tmp_path):
    """A worker is killed while it trains; then a model is gone, and only that one is made again."""
    data = ("--dataset=csv", f"--data_dir={labeled}", f"--split={labeled}/train.csv")
    flags = (*data, "--folds=2", "--steps=20", "--image_size=32", "--scheme=ibug68")
    out = tmp_path / "cluster"
    words = ("tools/audit.py", *flags, f"--output_dir={out}", f"--scheduler={scheduler}")
    tool = subprocess.Popen([sys.executable, *words], stderr=subprocess.PIPE, text=True)
    while not (out / "faces.pickle").exists():
        assert tool.poll() is None, tool.stderr.read()
    while not dask_cluster.kill_a_worker(scheduler, random.Random(0)):
        pass
    said = tool.communicate()[1]
    assert tool.returncode == 0, said
    alone = f"--output_dir={tmp_path / 'alone'}"
    run_tool("tools/audit.py", *flags, alone, env={**os.environ, **ONE_THREAD})
    assert_same_models(out, tmp_path / "alone")
    files = sorted(path.relative_to(out) for path in out.rglob("*"))
    assert files == sorted(
        path.relative_to(tmp_path / "alone") for path in (tmp_path / "alone").rglob("*")
    )
    made = {path: path.stat().st_mtime_ns for path in out.glob("fold*/model.keras")}
    for path in (out / "fold1").iterdir():
        path.unlink()
    run_tool(*words)
    again = {path: path.stat().st_mtime_ns for path in made}
    assert {path.parent.name for path in made if made[path] != again[path]} == {"fold1"}
    assert_same_models(out, tmp_path / "alone")


def assert_same_models(ours, theirs):
    for fold in range(2):
        models = [load_model(folder / f"fold{fold}" / "model.keras") for folder in (ours, theirs)]
        for a, b in zip(*(model.variables for model in models), strict=True):
            np.testing.assert_array_equal(a, b)


def test_audit_by_a_model(run_tool, scheduler, labeled, tmp_path):
    data = ("--dataset=csv", f"--data_dir={labeled}", f"--split={labeled}/train.csv")
    flags = (*data, "--model=fpn-sixteenth-300w")
    for name, more in (("cluster", (f"--scheduler={scheduler}",)), ("alone", ())):
        run_tool("tools/audit.py", *flags, f"--output_dir={tmp_path / name}", *more)
    tables = [(tmp_path / name / "audit.csv").read_bytes() for name in ("cluster", "alone")]
    assert tables[0] == tables[1]
