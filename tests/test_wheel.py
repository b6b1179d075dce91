"""The wheel is whole, and does what a plain install promises: without TensorFlow and Keras."""

import email
import importlib.metadata
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import zipfile

import cv2
import numpy as np
import pytest

from keras_lapkl.data.synthetic.faces import synthetic_faces

ROOT = pathlib.Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.slow
EXTRAS = ("keras", "tensorflow", "matplotlib", "scipy", "jax", "mtcnn", "pillow_heif")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The folder into which a wheel of this tree is unpacked."""
    found = importlib.metadata.version("setuptools")
    if int(found.split(".")[0]) < 77:
        pytest.skip(f"building needs setuptools 77 or later, here is {found}")
    source, dist, folder = (tmp_path_factory.mktemp(name) for name in ("source", "dist", "site"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE", "LICENSE-weights.txt"):
        shutil.copy(ROOT / name, source)
    caches = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "keras_lapkl", source / "keras_lapkl", ignore=caches)
    done = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "--no-index"]
        + ["--wheel-dir", str(dist), str(source)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    (path,) = dist.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture
def lapkl(wheel, tmp_path):
    """Runs `lapkl` of the wheel in an empty folder, where no extra is installed."""
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({EXTRAS}))\n"
        "import keras_lapkl; print(keras_lapkl.__file__)\n"
        "from keras_lapkl import commands; sys.exit(commands.main())"
    )

    def run(*words):
        done = subprocess.run(
            [sys.executable, "-c", code, *map(str, words)],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(wheel)},
        )
        assert done.stdout.startswith(str(wheel)), done.stderr
        return done

    return run


def files(folder):
    paths = (p for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    return {str(path.relative_to(folder)) for path in paths}


def test_has_the_package_and_nothing_else(wheel):
    (about,) = wheel.glob("*.dist-info")
    assert {path.name for path in wheel.iterdir()} == {"keras_lapkl", about.name}
    packed = files(wheel / "keras_lapkl")
    assert packed == files(ROOT / "keras_lapkl")
    for name in ("py.typed", "__init__.pyi", "configs/w300.cfg", "weights/fpn-eighth-300w.tflite"):
        assert name in packed
    assert {"LICENSE", "LICENSE-weights.txt"} <= files(about / "licenses")
    assert "lapkl = keras_lapkl.commands:main" in (about / "entry_points.txt").read_text()


def test_plain_install_asks_for_no_tensorflow_and_tells_the_weights_license(wheel):
    (about,) = wheel.glob("*.dist-info/METADATA")
    metadata = email.message_from_string(about.read_text())
    plain = [each for each in metadata.get_all("Requires-Dist") if "extra ==" not in each]
    assert len(plain) == 5
    assert not re.search("tensorflow|keras>|matplotlib", " ".join(plain))
    expression = "Apache-2.0 AND MIT AND LicenseRef-300W-noncommercial-research"
    assert metadata["License-Expression"] == expression
    extras = set(metadata.get_all("Provides-Extra"))
    assert {"train", "all", "jax", "mtcnn", "plots", "tensorboard"} <= extras


def test_names_no_file_that_it_lacks(wheel):
    paths = list(wheel.rglob("keras_lapkl/**/*.py"))
    assert len(paths) > 100
    for path in paths:
        named = re.findall(r"(?<![\w/.])(?:tools|docs|benchmarks|mobile)/\w+", path.read_text())
        assert not named, path


def test_predicts_on_a_photo(lapkl, tmp_path):
    photo = np.full((300, 300, 3), 128, np.uint8)
    photo[60:220, 70:230] = synthetic_faces(1, 3, 160)[0][0]
    cv2.imwrite(str(tmp_path / "photo.png"), photo[..., ::-1])
    done = lapkl("predict", "--input=photo.png", "--output_dir=found")
    assert done.returncode == 0, done.stderr
    (picture,) = json.loads((tmp_path / "found" / "predictions.json").read_text())["pictures"]
    (face,) = picture["faces"]
    assert np.shape(face["landmarks"]) == (68, 2)


def test_measures_and_times_a_shipped_model(lapkl, tmp_path):
    done = lapkl("evaluate", "--model=fpn-sixteenth-300w", "--num_synthetic=4", "--output_dir=ev")
    assert done.returncode == 0, done.stderr
    assert "keras_lapkl[plots]" in done.stderr  # and yet:
    assert json.loads((tmp_path / "ev" / "results.json").read_text())["faces"] == 4
    done = lapkl("benchmark", "--model=fpn-sixteenth-300w-int8", "--runs=2", "--warmup=0")
    assert done.returncode == 0 and "fpn-sixteenth-300w-int8 " in done.stdout
