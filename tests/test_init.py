import subprocess
import sys

import pytest

import keras_lapkl


def python(code):
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_import_is_silent_and_light():
    heavy = "{'cv2', 'matplotlib', 'mtcnn', 'scipy', 'tensorflow', 'keras'}"
    done = python(f"import keras_lapkl, sys; sys.exit(bool({heavy} & set(sys.modules)))")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("module", [keras_lapkl, keras_lapkl.data, keras_lapkl.tflite])
def test_every_public_name_is_there(module):
    for name in module.__all__:
        assert getattr(module, name) is not None
        assert name in dir(module)


@pytest.mark.parametrize("module", [keras_lapkl, keras_lapkl.data, keras_lapkl.tflite])
def test_unknown_name(module):
    with pytest.raises(AttributeError, match="nothing"):
        module.nothing  # noqa: B018
