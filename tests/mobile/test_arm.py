"""The files give on ARM what they give here. Skipped without qemu-user and an ARM Python."""

import json
import os
import pathlib
import shutil
import subprocess

import numpy as np
import pytest

from keras_lapkl import tflite

ROOT = pathlib.Path(__file__).resolve().parents[2]
SYSROOT = pathlib.Path(os.environ.get("KERAS_LAPKL_ARM_SYSROOT", ROOT / "arm-sysroot"))


def run(*words, **environment):
    return subprocess.run(
        [*map(str, words)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, **environment},
    )


@pytest.fixture
def arm():
    """Runs the ARM Python with a processor's name and arguments."""
    if shutil.which("qemu-aarch64") is None:
        pytest.skip("no qemu-aarch64; apt-get install qemu-user")
    if not SYSROOT.is_dir():
        pytest.skip(f"no ARM Python in {SYSROOT}; mobile/arm/sysroot.sh lays it out")

    def run_on(cpu, *words):
        done = run(ROOT / "mobile/arm/python", *words, KERAS_LAPKL_ARM_CPU=cpu)
        assert done.returncode == 0, done.stderr
        return done

    return run_on


@pytest.mark.parametrize("mode", ["float32", "int8"])
@pytest.mark.parametrize("cpu", ["cortex-a72", "neoverse-n1"])
def test_same_landmarks(cpu, mode, files, photo, arm, tmp_path):
    crop = photo[30:62, 40:72]
    np.save(tmp_path / "crop.npy", crop)
    flags = (f"--model={files[mode]}", f"--image={tmp_path / 'crop.npy'}")
    done = arm(cpu, ROOT / "mobile/localize.py", *flags)
    found = json.loads(done.stdout)
    landmarks, scale = tflite.TFLiteLocalizer(files[mode])(crop)
    np.testing.assert_allclose(found["landmarks"], landmarks, atol=1e-3)
    np.testing.assert_allclose(found["scale"], scale, atol=1e-3)
    # Its kernels for the processor were at work, not those in plain C++.
    assert "XNNPACK" in done.stderr


def test_it_is_arm(arm):
    code = "import platform; print(platform.machine())"
    assert arm("neoverse-n1", "-c", code).stdout == "aarch64\n"


def test_plain_errors(tmp_path):
    nothing = str(tmp_path / "none")
    done = run(ROOT / "mobile/arm/python", "x.py", KERAS_LAPKL_ARM_SYSROOT=nothing)
    assert done.returncode == 1
    assert done.stderr == f"error: there is no {nothing}. mobile/arm/sysroot.sh lays it out.\n"
    done = run(ROOT / "mobile/arm/sysroot.sh", tmp_path)
    assert done.returncode == 1
    assert f"error: {tmp_path} is there already. Remove it" in done.stderr
