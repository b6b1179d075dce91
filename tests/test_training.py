import csv
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from keras_lapkl import runs, training
from keras_lapkl.data import sources
from keras_lapkl.models.localizer import load_model

TRAIN = pathlib.Path(__file__).resolve().parent.parent / "tools" / "train.py"
FLAGS = [
    "--width=0.015625",
    "--epochs=4",
    "--num_synthetic=48",
    "--dropout=0.2",
    "--learning_rate=1e-3",
]


@pytest.fixture(scope="module")
def crops():
    return sources.load("synthetic", split="train", num_synthetic=48, image_size=32)


@pytest.fixture(scope="module")
def validation():
    return sources.load("synthetic", split="validation", num_synthetic=20, image_size=32)


def recipe(**changes):
    return training.Recipe(
        **{"width": 1 / 64, "epochs": 3, "schedule": "cosine", "augment": True, **changes}
    )


def test_writes_model_history_and_results(crops, validation, tmp_path):
    results = training.train(recipe(), crops, validation, tmp_path, {"seed": 0})
    assert runs.read_json(tmp_path / "results.json") == results
    assert results["validation"]["faces"] == 20
    assert results["validation"]["trained_on"] == "48 synthetic faces"
    assert results["recipe"]["width"] == 1 / 64 and results["provenance"] == {"seed": 0}
    with (tmp_path / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["0", "1", "2"]
    assert {"loss", "nme", "spread", "val_nme", "val_spread"} <= rows[0].keys()
    model = load_model(tmp_path / "model.keras")
    assert model.scheme is not None and model.crop_scale == 3.0
    assert model.trained_on == "48 synthetic faces"
    assert not (tmp_path / "last.keras").exists()


def test_equal_seeds_give_equal_models(crops, validation, tmp_path):
    folders = [tmp_path / name for name in "abc"]
    for folder, seed in zip(folders, (0, 0, 1), strict=True):
        training.train(recipe(epochs=1, dropout=0.2, seed=seed), crops, validation, folder)
    first, again, other = (load_model(f / "model.keras").get_weights() for f in folders)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])


def test_finished_run_is_read_not_trained(crops, validation, tmp_path):
    results = training.train(recipe(), crops, validation, tmp_path)
    written = (tmp_path / "model.keras").stat().st_mtime_ns
    assert training.train(recipe(), crops, validation, tmp_path) == results
    assert (tmp_path / "model.keras").stat().st_mtime_ns == written


def test_folder_of_another_run_is_refused(crops, validation, tmp_path):
    training.train(recipe(), crops, validation, tmp_path)
    with pytest.raises(ValueError, match="epochs: 3 there, 5 now"):
        training.train(recipe(epochs=5), crops, validation, tmp_path)


def test_other_image_size_is_another_run(crops, validation, tmp_path):
    training.train(recipe(epochs=1), crops, validation, tmp_path)
    other = sources.load("synthetic", num_synthetic=48, image_size=48)
    with pytest.raises(ValueError, match="image_size: 32 there, 48 now"):
        training.train(recipe(epochs=1), other, validation, tmp_path)


def test_nan_stops_and_says_so(crops, validation, tmp_path):
    with pytest.raises(FloatingPointError, match="Lower the learning rate"):
        training.train(recipe(learning_rate=1e30, schedule="constant"), crops, validation, tmp_path)
    assert not (tmp_path / "model.keras").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loss": "l2"}, "laplace_kl"),
        ({"schedule": "step"}, "cosine"),
        ({"epochs": 0}, "epochs"),
        ({"learning_rate": -1}, "learning_rate"),
    ],
)
def test_bad_recipe(change, message):
    with pytest.raises(ValueError, match=message):
        training.Recipe(**change)


def test_cosine_rises_then_falls_to_zero(crops):
    schedule = training.build(recipe(epochs=20, learning_rate=0.01), crops).optimizer._learning_rate
    steps = 20 * 6
    rates = np.array([float(schedule(i)) for i in range(steps + 1)])
    assert rates[6] == pytest.approx(0.01, rel=1e-3) and rates.argmax() == 6
    assert rates[0] < 0.001 and rates[-1] == pytest.approx(0, abs=1e-6)


def start(folder):
    command = [sys.executable, str(TRAIN), *FLAGS, f"--output_dir={folder}"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for(path, process, seconds=120):
    until = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, run_tool):
    folder = tmp_path_factory.mktemp("unbroken")
    run_tool("tools/train.py", *FLAGS, f"--output_dir={folder}")
    return load_model(folder / "model.keras")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_killed_run_resumes_to_the_unbroken_result(unbroken, tmp_path, run_tool, how):
    process = start(tmp_path)
    wait_for(tmp_path / "last.keras", process)
    process.send_signal(how)
    output, _ = process.communicate(timeout=60)
    if how == signal.SIGINT:
        assert process.returncode == 130 and "The same command" in output
    assert not (tmp_path / "results.json").exists(), "finished before the signal: train longer"
    again = run_tool("tools/train.py", *FLAGS, f"--output_dir={tmp_path}")
    assert "Resuming after epoch" in again.stderr
    resumed = load_model(tmp_path / "model.keras")
    assert int(resumed.optimizer.iterations) == int(unbroken.optimizer.iterations) == 24
    for a, b in zip(unbroken.variables, resumed.variables, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
    rows = (tmp_path / "history.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["epoch", "0", "1", "2", "3"]
