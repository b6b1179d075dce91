import concurrent.futures
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest

from keras_lapkl import pretrained, tflite
from keras_lapkl.tflite import runner

SHIPPED = pretrained.path("fpn-sixteenth-300w", ".tflite")


@pytest.fixture(scope="module")
def localize(converted):
    return tflite.TFLiteLocalizer(converted["float32"][0])


def test_one_crop(localize, localizer, images):
    landmarks, scale = localize(images[0])
    assert landmarks.shape == scale.shape == (5, 2)
    assert landmarks.dtype == scale.dtype == np.float32
    expected = localizer.predict(images[:1], verbose=0)
    np.testing.assert_allclose(landmarks, expected["landmarks"][0], atol=1e-3)
    np.testing.assert_allclose(scale, expected["scale"][0], atol=1e-3)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_float_crop(dtype, localize, images):
    crop = (images[0] / 255).astype(dtype)
    np.testing.assert_allclose(localize(crop)[0], localize(images[0])[0], atol=0.3)


def test_crop_with_a_batch_axis(localize, images):
    np.testing.assert_array_equal(localize(images[:1]), localize(images[0]))


def test_results_are_copies(localize, images):
    first = localize(images[0])[0]
    kept = first.copy()
    localize(images[1])
    np.testing.assert_array_equal(first, kept)


def test_predict(localize, images):
    found = localize.predict(images[:3], verbose=0)
    assert found["landmarks"].shape == found["scale"].shape == (3, 5, 2)
    for i in range(3):
        landmarks, scale = localize(images[i])
        np.testing.assert_array_equal(found["landmarks"][i], landmarks)
        np.testing.assert_array_equal(found["scale"][i], scale)


def test_two_threads(converted, localize, images):
    two = tflite.TFLiteLocalizer(converted["float32"][0], num_threads=2)
    np.testing.assert_allclose(two(images[0])[0], localize(images[0])[0], atol=1e-4)


def test_properties(localize, localizer):
    assert localize.scheme == localizer.scheme
    assert (localize.crop_scale, localize.image_size, localize.num_landmarks) == (3.0, 32, 5)
    assert localize.trained_on == "nothing"
    assert localize.metadata["mode"] == "float32"


@pytest.mark.parametrize(
    ("crop", "message"),
    [
        (np.zeros((80, 80, 3), np.uint8), r"\(32, 32, 3\). Received: \(80, 80, 3\)"),
        (np.zeros((32, 32), np.uint8), r"\(32, 32, 3\). Received: \(32, 32\)"),
        (np.zeros((2, 32, 32, 3), np.uint8), "`predict` takes many"),
        (np.full((32, 32, 3), 255.0), "Divide by 255"),
        (np.full((32, 32, 3), -0.1), "from -0.1"),
        (np.full((32, 32, 3), np.nan), "nan"),
        (np.zeros((32, 32, 3), np.int64), "Received: int64"),
    ],
)
def test_wrong_crops(crop, message, localize):
    with pytest.raises(ValueError, match=message):
        localize(crop)


def test_wrong_arguments(converted, tmp_path):
    with pytest.raises(FileNotFoundError, match="no model at"):
        tflite.TFLiteLocalizer(tmp_path / "none.tflite")
    for count in (0, 1025):
        with pytest.raises(ValueError, match="`num_threads` must be 1 to 1,024"):
            tflite.TFLiteLocalizer(converted["float32"][0], num_threads=count)


def test_without_litert(monkeypatch):
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(ImportError, match="pip install ai-edge-litert"):
        runner.load_interpreter(SHIPPED)


@pytest.mark.slow
def test_on_a_device_nothing_heavy_is_imported(converted):
    code = """
import sys
import numpy as np
from keras_lapkl import tflite
path = sys.argv[1]
tflite.TFLiteLocalizer(path)(np.zeros((32, 32, 3), np.uint8))
tflite.describe(path), tflite.measure(path, runs=2)
heavy = {"tensorflow", "keras", "cv2"} & set(sys.modules)
assert not heavy, heavy
"""
    path = converted["int8"][0]
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_names():
    assert set(tflite.__all__) <= set(dir(tflite))
    assert all(hasattr(tflite, name) for name in tflite.__all__)
    with pytest.raises(AttributeError, match="nope"):
        _ = tflite.nope


def test_what_litert_logs_on_start_up_is_held_back(capfd, monkeypatch):
    class Interpreter:
        def __init__(self, model_content, num_threads):
            os.write(2, b"INFO: Created a delegate.\n")

        def allocate_tensors(self):
            os.write(2, b"INFO: Allocated.\n")

    monkeypatch.setattr("ai_edge_litert.interpreter.Interpreter", Interpreter)
    runner.load_interpreter(SHIPPED)
    assert capfd.readouterr().err == ""


@pytest.fixture(scope="module")
def shipped():
    return tflite.TFLiteLocalizer(SHIPPED)


@pytest.fixture(scope="module")
def crops():
    return np.random.default_rng(0).integers(0, 256, (16, 80, 80, 3), np.uint8)


def test_threads_get_what_one_gets(shipped, crops):
    expected = [shipped(crop) for crop in crops]
    numbers = list(range(len(crops))) * 10
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda i: shipped(crops[i]), numbers))
    for i, each in zip(numbers, found, strict=True):
        np.testing.assert_array_equal(each, expected[i])


def test_a_pickled_localizer_opens_its_file_from_any_folder(shipped, crops, tmp_path, monkeypatch):
    data = SHIPPED.read_bytes()
    (tmp_path / "model.tflite").write_bytes(data)
    monkeypatch.chdir(tmp_path)
    saved = pickle.dumps(tflite.TFLiteLocalizer("model.tflite"))
    monkeypatch.chdir("/")
    np.testing.assert_array_equal(pickle.loads(saved)(crops[0]), shipped(crops[0]))
