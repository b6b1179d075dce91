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
