"""Fixtures of the whole suite: where the real faces are, and small data made here."""

import importlib.util
import os
import pathlib
import signal
import subprocess
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent

# A shell ignores Ctrl-C for what it runs in the background, and processes begun there would too.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def faces():
    """Folder of the real faces; the test is skipped where there is none."""
    folder = pathlib.Path(os.environ.get("KERAS_LAPKL_FACES", ROOT.parent / "shared" / "faces"))
    if not (folder / "300w").is_dir():
        pytest.skip(f"no real faces in {folder}; set KERAS_LAPKL_FACES")
    return folder


@pytest.fixture(scope="session")
def run_tool():
    """Runs a binary as a user does: `run_tool("tools/train.py", "--epochs=1")`."""

    def run(script, *flags, check=True, timeout=240, **kwargs):
        done = subprocess.run(
            [sys.executable, str(ROOT / script), *map(str, flags)],
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            **kwargs,
        )
        if check and done.returncode:
            raise AssertionError(
                f"{script} {flags} exited {done.returncode}:\n{done.stderr[-4000:]}"
            )
        return done

    return run


@pytest.fixture(scope="session")
def stub():
    """The module `stub_localizer.py`: a localizer and a face detector with known answers."""
    path = ROOT / "tests" / "stub_localizer.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def rng():
    return np.random.default_rng(0)


SIZE = 32
LANDMARKS = 5


def small_localizer(sharpness=200.0):
    """Untrained, its logits scaled until the maps have a scale of a few pixels."""
    import keras

    import keras_lapkl

    keras.utils.set_random_seed(3)
    generator = keras_lapkl.RCN(LANDMARKS, width=1 / 16, image_size=SIZE)
    head = generator.get_layer("logits")
    head.kernel.assign(sharpness * head.kernel)
    scheme = {"name": "toy", "num_landmarks": LANDMARKS, "flip": [[0, 1]], "edges": [[0, 2]]}
    return keras_lapkl.LandmarkLocalizer(generator, scheme, crop_scale=3.0, trained_on="nothing")


@pytest.fixture(scope="session")
def make_localizer():
    return small_localizer


@pytest.fixture(scope="session")
def localizer(make_localizer):
    return make_localizer()


@pytest.fixture(scope="session")
def images():
    """Smooth random colors, (40, 32, 32, 3) uint8."""
    coarse = np.random.default_rng(1).integers(0, 256, (40, SIZE // 8, SIZE // 8, 3))
    return np.kron(coarse, np.ones((1, 8, 8, 1))).astype(np.uint8)


@pytest.fixture(scope="session")
def converted(localizer, images, tmp_path_factory):
    """{mode: (path, report)} of every mode."""
    from keras_lapkl import tflite
    from keras_lapkl.export import conversion

    folder = tmp_path_factory.mktemp("converted")
    made = {}
    for mode in conversion.MODES:
        representative = {"representative_images": images[:20]} if mode == "int8" else {}
        path = folder / f"{mode}.tflite"
        report = tflite.convert(
            localizer,
            path,
            mode,
            faces=images[20:],
            bounds={"mean": 1.0} if mode in ("int8", "dynamic") else None,
            **representative,
        )
        made[mode] = (path, report)
    return made
