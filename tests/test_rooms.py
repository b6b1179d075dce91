"""What runs on a device imports neither TensorFlow nor Keras nor OpenCV."""

import pathlib
import subprocess
import sys
import tomllib

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
FORBIDDEN = ("tensorflow", "keras", "cv2")
SUPPORT = tuple(f"keras_lapkl._support.{name}" for name in ("console", "files", "provenance"))
# An import of a module that is None in `sys.modules` fails.
IMPORT_ALL = """
import importlib, sys
sys.modules |= dict.fromkeys(sys.argv[1].split())
for name in sys.argv[2:]:
    importlib.import_module(name)
"""


def device_modules():
    """Those of the contract that `lint-imports` holds, every module in them, and their support."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    (device,) = (
        c for c in contracts["contracts"] if set(FORBIDDEN) <= {*c.get("forbidden_modules", ())}
    )
    for name in device["source_modules"]:
        yield name
        for path in sorted((ROOT / name.replace(".", "/")).glob("*.py")):
            if path.stem != "__init__":
                yield f"{name}.{path.stem}"
    yield from SUPPORT


def test_the_contract_names_the_device():
    names = {"keras_lapkl.tflite.runner", "keras_lapkl.schemes", "keras_lapkl.confidence"}
    assert names | {"keras_lapkl.pretrained"} <= {*device_modules()}


@pytest.mark.slow
def test_device_modules_import_with_the_three_blocked():
    words = [sys.executable, "-c", IMPORT_ALL, " ".join(FORBIDDEN), *device_modules()]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
