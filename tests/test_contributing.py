"""The steps of CONTRIBUTING.md: the code under each heading adds what it says, and is used here."""

import importlib
import json
import os
import pathlib
import re

import cv2
import numpy as np
import pytest

from keras_lapkl.data import datasets
from keras_lapkl.data.datasets import LACKS_VALIDATION, READERS
from keras_lapkl.detection import detectors
from keras_lapkl.export.modes import MODES
from keras_lapkl.models.networks import NETWORKS
from keras_lapkl.registries import DETECTORS, LOSSES
from keras_lapkl.training.recipe import Recipe

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGE = (ROOT / "CONTRIBUTING.md").read_text()


def section(title):
    """The text under a heading."""
    return re.search(rf"^### {title}\n(.*?)(?=^##|\Z)", PAGE, re.M | re.S)[1]


def run(title):
    """The names that the code under a heading defines."""
    names = {}
    for code in re.findall(r"^```python\n(.*?)^```", section(title), re.M | re.S):
        exec(compile(code, f"CONTRIBUTING.md, {title}", "exec"), names)
    return names


@pytest.fixture(autouse=True)
def _registries_stay_as_they_are():
    registries = LOSSES, NETWORKS, READERS, LACKS_VALIDATION, DETECTORS, MODES
    kept = [(registry, list(registry)) for registry in registries]
    yield
    for registry, names in kept:
        for name in set(registry) - set(names):
            del registry[name]


@pytest.fixture(scope="module")
def crops():
    return datasets.load("synthetic", num_synthetic=8, image_size=32)


def train_one_step(recipe, crops, path):
    """The loss of a step by a recipe, and the trained model, saved and loaded."""
    from keras_lapkl.loading import load_model
    from keras_lapkl.training.building import build

    model = build(recipe, crops)
    loss = model.train_on_batch(crops.central(), crops.landmarks)[0]
    model.save(path)
    return float(loss), load_model(path)


@pytest.mark.parametrize(("registry", "file"), re.findall(r"`(\w+)` in `(\S+\.py)` \|", PAGE))
def test_registries_are_where_the_table_says(registry, file):
    module = importlib.import_module(file.removesuffix(".py").replace("/", "."))
    assert len(getattr(module, registry)) >= 2


def test_files_that_are_named_exist():
    named = re.findall(r"`((?:keras_lapkl|tests|docs)/[^`*<\s]*)`", PAGE)
    assert len(named) > 20
    for name in named:
        assert (ROOT / name).exists(), name


def test_a_loss(crops, tmp_path):
    loss = run("A loss")["LogDistance"]
    recipe = Recipe(loss="log_distance", width=1 / 64, beta=0.5)
    value, model = train_one_step(recipe, crops, tmp_path / "model.keras")
    assert 0 < value < np.log1p(32) and isinstance(model.loss, loss) and model.loss.beta == 0.5
    flat = np.zeros((1, 5, 5, 1), np.float32)  # its mean is the center, (2, 2)
    assert float(loss()(np.array([[[4.0, 2.0]]]), flat)) == pytest.approx(np.log(3) / 2, abs=1e-5)


def test_a_network(crops, tmp_path):
    from keras_lapkl.models.networks import Generator

    network = run("A network")["Strided"]
    recipe = Recipe(network="strided", width=1 / 16)
    value, model = train_one_step(recipe, crops, tmp_path / "model.keras")
    assert np.isfinite(value) and type(model.generator) is network
    assert isinstance(model.generator, Generator) and model.generator.width == 1 / 16
    assert model.predict(crops.central(), verbose=0)["landmarks"].shape == (8, 68, 2)
    with pytest.raises(ValueError, match="'strided' has no `dropout`"):
        Recipe(network="strided", dropout=0.2)


def test_a_reader(crops, tmp_path):
    lines = []
    for i, (image, landmarks) in enumerate(zip(crops.central(), crops.landmarks, strict=True)):
        cv2.imwrite(str(tmp_path / f"{i}.png"), image[..., ::-1])
        lines.append(" ".join([*map(str, landmarks.ravel()), f"{i}.png"]))
    (tmp_path / "train.txt").write_text("\n".join(lines) + "\n")
    run("A reader")
    read = datasets.read("lists", tmp_path, hold_out=False)
    np.testing.assert_allclose(read.landmarks, crops.landmarks, atol=1e-4)
    found = datasets.load("lists", tmp_path, image_size=48, scheme="ibug68")
    assert found.central().shape == (7, 48, 48, 3) and found.name == "lists train (train)"
    held = datasets.load("lists", tmp_path, "validation", image_size=48)
    assert len(held) == 1 and not datasets.shared_images(found, held)
    (tmp_path / "train.txt").rename(tmp_path / "validation.txt")
    assert len(datasets.read("lists", tmp_path, "validation").landmarks) == 8


def test_a_face_detector(stub):
    from keras_lapkl import LandmarkDetector

    points = np.array([[60, 60], [100, 60], [80, 80], [65, 100], [95, 100]])
    kind = run("A face detector")["WholePhoto"]
    assert detectors.from_name("whole_photo", min_size=300) == kind(min_size=300)
    detector = LandmarkDetector(stub.Localizer(points), "whole_photo")
    (face,) = detector(stub.ramp())
    np.testing.assert_allclose(face.landmarks, points, atol=0.5)
    np.testing.assert_allclose(face.box, (-0.5, -0.5, 199.5, 159.5))


@pytest.mark.slow
def test_a_package_of_your_own(run_tool, crops, tmp_path):
    """What it adds is taken by `lapkl`; a face detector by its name, in processes too."""
    (code,) = re.findall(r"^```python\n(.*?)^```", section("A face detector"), re.M | re.S)
    (tmp_path / "mine.py").write_text(code)
    about = tmp_path / "mine-0.1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 0.1\n")
    (table,) = re.findall(r'\[project\.entry-points\.(\w+)\]\n +mine = "mine"\n', PAGE)
    (about / "entry_points.txt").write_text(f"[{table}]\nmine = mine\n")
    photos = tmp_path / "photos"
    photos.mkdir()
    for i, image in enumerate(crops.central()[:2]):
        cv2.imwrite(str(photos / f"{i}.png"), cv2.resize(image, (96, 96))[..., ::-1])
    paths = [str(tmp_path), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    found, faces = tmp_path / "found", tmp_path / "faces"
    common = "--detector=whole_photo", f"--output_dir={found}"
    done = run_tool("tools/predict.py", f"--input={photos}", *common, env=env)
    assert "faces by the whole photo, from 20 pixels on" in done.stdout
    assert len(list(found.rglob("*.json"))) >= 2
    flags = f"--input_dir={photos}", "--crop_by=detector", *common[:1], f"--output_dir={faces}"
    run_tool("tools/crop.py", *flags, "--workers=2", env=env)
    about = json.loads((faces / "shards.json").read_text())
    assert about["settings"]["locate"]["whole_photo"] == "1"
    with (tmp_path / "mine.py").open("a") as file:
        file.write("DETECTORS['whole_photo'] = lambda photo: []\n")
    for tool, given in (("predict", (f"--input={photos}", *common)), ("crop", flags)):
        done = run_tool(f"tools/{tool}.py", *given, check=False, env=env)
        assert done.returncode == 1 and "Traceback" not in done.stderr
        assert done.stderr.startswith("error: Face detector 'whole_photo': expected a ")


@pytest.mark.slow
def test_a_training_step_of_your_own(tmp_path, monkeypatch, capsys):
    from keras_lapkl.loading import load_model

    monkeypatch.chdir(tmp_path)
    names = run("A training step or callback of your own")
    again = load_model("mine.keras")
    assert type(again) is names["LowLogits"] and again.alpha == 1e-3
    assert again.optimizer.iterations == 6 and "24 synthetic faces" in again.trained_on
    assert re.findall(r"^epoch (\d): [\d.]+$", capsys.readouterr().out, re.M) == ["0", "1"]
    assert np.isfinite(names["errors"]["nme"])


def test_a_quantization_mode(localizer, images, tmp_path):
    from keras_lapkl import tflite

    run("A quantization mode")
    report = tflite.convert(localizer, tmp_path / "half.tflite", "half", faces=images[:4])
    assert report["mode"] == "half" and report["bounds"] == {"mean": 0.01}
    assert tflite.describe(tmp_path / "half.tflite")["metadata"]["mode"] == "half"
    with pytest.raises(tflite.ConversionError, match="mean distance of at most"):
        tflite.convert(
            localizer, tmp_path / "x.tflite", "half", faces=images[:4], bounds={"mean": 0}
        )
