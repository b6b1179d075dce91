"""Fixtures of the whole suite, and its two layers.

A test is `slow` if it starts a Python, trains, converts or reads the real faces: by a fixture, a
folder or a mark that says so here, or marked by itself. `make quick` runs the others, and one of
these that starts a Python or trains all the same fails.
"""

import contextlib
import csv
import fcntl
import importlib.util
import os
import pathlib
import pickle
import signal
import subprocess
import sys
from unittest import mock

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent

# A shell ignores Ctrl-C for what it runs in the background, and processes begun there would too.
signal.signal(signal.SIGINT, signal.default_int_handler)


SLOW_FIXTURES = {
    "run_tool",
    "dask_cluster",
    "warm_python",
    "converted",
    "processes",
    "alone",
    "mirrored",
    "jax_run",
}
SLOW_FOLDERS = {"benchmarks", "fuzz", "mobile", "tools"}


def pytest_collection_modifyitems(items):
    for item in items:
        folder = item.path.relative_to(ROOT / "tests").parts[0]
        slow = folder in SLOW_FOLDERS or SLOW_FIXTURES & set(item.fixturenames)
        if slow or item.get_closest_marker("faces"):
            item.add_marker(pytest.mark.slow)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """Holds a test that is not `slow` to that."""
    if item.get_closest_marker("slow"):
        return (yield)
    with contextlib.ExitStack() as stack:
        _refuse_pythons(stack)
        if "keras" in sys.modules:
            _refuse_training(stack, sys.modules["keras"].Model)
        return (yield)


def _refuse_pythons(stack):
    start = subprocess.Popen

    def guarded(words, *args, **kwargs):
        assert words[0] != sys.executable, "Mark this test `slow`: it starts a Python."
        return start(words, *args, **kwargs)

    stack.enter_context(mock.patch.object(subprocess, "Popen", guarded))


def _refuse_training(stack, model):
    fit = model.fit

    def guarded(self, *args, **kwargs):
        fit(self, *args, **kwargs)  # what is refused may be
        raise AssertionError("Mark this test `slow`: it trains.")

    stack.enter_context(mock.patch.object(model, "fit", guarded))


@pytest.fixture(scope="session")
def once(tmp_path_factory):
    """`once(name, make)` is what `make(folder)` returns, made by one of pytest's processes for all.

    It must be plain data, which it may leave in the folder too.
    """

    def shared(name, make):
        root = tmp_path_factory.getbasetemp()
        if "PYTEST_XDIST_WORKER" in os.environ:
            root = root.parent
        kept = root / f"{name}.pickle"
        with (root / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not kept.exists():
                (root / name).mkdir()
                kept.write_bytes(pickle.dumps(make(root / name)))
        return pickle.loads(kept.read_bytes())

    return shared


@pytest.fixture(scope="session")
def faces():
    """Folder of the real faces; the test is skipped where there is none."""
    folder = pathlib.Path(os.environ.get("KERAS_LAPKL_FACES", ROOT.parent / "shared" / "faces"))
    if not (folder / "300w").is_dir():
        pytest.skip(f"no real faces in {folder}; set KERAS_LAPKL_FACES")
    return folder


def module_beside(name):
    """A module of this folder, which is no package."""
    path = ROOT / "tests" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def warm_python():
    """Starts scripts in forks of a Python that has TensorFlow and Keras; see `warm_python.py`."""
    warm = module_beside("warm_python").WarmPython()
    yield warm
    warm.close()


@pytest.fixture(scope="session")
def run_tool(warm_python, tmp_path_factory):
    """Runs a binary as a user does: `run_tool("tools/train.py", "--epochs=1")`.

    With `fresh`, which each binary has once, in a Python of its own, and so with an `env`; else in
    a fork of one that has TensorFlow already.
    """

    def run(script, *flags, check=True, timeout=240, fresh=False, cwd=None, env=None):
        words = [str(ROOT / script), *map(str, flags)]
        if fresh or env:
            done = subprocess.run(
                [sys.executable, *words],
                capture_output=True,
                text=True,
                timeout=timeout,
                check=False,
                cwd=cwd,
                env=env,
            )
        else:
            done = warm_python.run(words, tmp_path_factory.mktemp("said"), cwd, timeout)
        if check and done.returncode:
            raise AssertionError(
                f"{script} {flags} exited {done.returncode}:\n{done.stderr[-4000:]}"
            )
        return done

    return run


@pytest.fixture(scope="session")
def after():
    """`after(code, script, *flags)`: words that run a binary in a Python that ran some code."""

    def words(code, *words):
        code = f"import runpy, sys\n{code}\ndel sys.argv[0]\n"
        code += "runpy.run_path(sys.argv[0], run_name='__main__')"
        return [sys.executable, "-c", code, *words]

    return words


@pytest.fixture(scope="session")
def stub():
    """The module `stub_localizer.py`: a localizer and a face detector with known answers."""
    return module_beside("stub_localizer")


@pytest.fixture(scope="session")
def write_labels():
    """`write_labels(path, landmarks, pictures)` writes CSV of 68 points, the pictures beside it.

    They are named 0.png, 1.png, ... or from another number on.
    """
    import cv2

    from keras_lapkl import schemes

    def write(path, landmarks, pictures=(), first=0):
        columns = [f"{name}_{axis}" for name in schemes.IBUG68.names for axis in "xy"]
        with path.open("w", newline="") as file:
            rows = [[f"{i}.png", *points.ravel()] for i, points in enumerate(landmarks, first)]
            csv.writer(file).writerows([["file", *columns], *rows])
        for i, picture in enumerate(pictures, first):
            cv2.imwrite(str(path.with_name(f"{i}.png")), picture[..., ::-1])

    return write


@pytest.fixture(scope="session")
def metadata_texts():
    """The module `metadata_texts.py`: metadata that all readers take, and that all refuse."""
    return module_beside("metadata_texts")


@pytest.fixture(scope="session")
def dask_cluster():
    """The module `dask_cluster.py`: a cluster of this machine, whose workers are killed."""
    pytest.importorskip("distributed", reason="needs pip install 'keras_lapkl[cluster]'")
    return module_beside("dask_cluster")


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
def converted(make_localizer, images, once):
    """{mode: (path, report)} of every mode."""
    return once("converted", lambda folder: convert_all(make_localizer(), images, folder))


def convert_all(localizer, images, folder):
    from keras_lapkl import tflite
    from keras_lapkl.export import conversion

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
    np.savez(folder / "weights_after.npz", *localizer.get_weights())
    return made
