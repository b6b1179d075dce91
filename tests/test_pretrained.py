import numpy as np
import pytest

import keras_lapkl
from keras_lapkl import pretrained
from keras_lapkl.detection import landmark_detector
from keras_lapkl.tflite import TFLiteLocalizer, describe

LIMIT = 3_500_000
"""Bytes of all shipped models together."""


@pytest.fixture(scope="module", params=pretrained.NAMES)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def model(name):
    return keras_lapkl.load_model(name)


def test_files_are_there_and_small():
    sizes = [
        pretrained.path(name, suffix).stat().st_size
        for name in pretrained.NAMES
        for suffix in pretrained.SUFFIXES
    ]
    sizes += [
        pretrained.path(name, suffix).stat().st_size
        for name in pretrained.MICRO_NAMES
        for suffix in pretrained.MICRO_SUFFIXES
    ]
    assert sum(sizes) < LIMIT


@pytest.mark.parametrize(
    ("suffix", "mode", "bound"), [(".tflite", "float16", 0.015), ("-int8.tflite", "int8", 0.6)]
)
def test_keras_and_file_agree_and_say_what_they_are(name, model, suffix, mode, bound):
    file = TFLiteLocalizer(pretrained.path(name, suffix))
    for each in (model, file):
        assert each.scheme.name == "ibug68" and each.crop_scale == 3
        assert "1,809 of 3,148" in each.trained_on
        assert each.calibration.faces == 200
    about = describe(pretrained.path(name, suffix))["metadata"]
    assert about["license"] == "300-W: non-commercial research only"
    assert about["mode"] == mode
    images, labels = keras_lapkl.data.synthetic_faces(16, 5, model.image_size)
    found, expected = (each.predict(images, verbose=0) for each in (file, model))
    # The bounds are in pixels of a crop of 80.
    apart = np.linalg.norm(found["landmarks"] - expected["landmarks"], axis=-1)
    assert apart.mean() * 80 / model.image_size < bound
    # It has never seen a painted face, and yet finds its way about one.
    off = np.linalg.norm(expected["landmarks"] - labels, axis=-1)
    assert off.mean() * 80 / model.image_size < 5


def test_unknown_names():
    with pytest.raises(ValueError, match="Expected a model of"):
        pretrained.path("rcn-full-300w")
    with pytest.raises(ValueError, match="Expected a model of"):
        pretrained.path(pretrained.NAMES[0], ".onnx")
    with pytest.raises(ValueError, match="Expected a model of"):
        pretrained.path(pretrained.MICRO_NAMES[0], ".keras")
    with pytest.raises(ValueError, match=r"rcn-full-300w.*fpn-eighth-300w"):
        keras_lapkl.load_model("rcn-full-300w")


@pytest.mark.parametrize(
    ("given", "kinds", "found"),
    [
        ("fpn-eighth-300w", pretrained.KINDS, "fpn-eighth-300w.keras"),
        ("fpn-eighth-300w", (".tflite", ".keras"), "fpn-eighth-300w.tflite"),
        ("fpn-eighth-300w-int8", pretrained.KINDS, "fpn-eighth-300w-int8.tflite"),
        ("fpn-eighth-300w-int8.tflite", (".tflite",), "fpn-eighth-300w-int8.tflite"),
        ("fpn-eighth-300w.keras", pretrained.KINDS, "fpn-eighth-300w.keras"),
        ("fpn-sixteenth-micro", pretrained.KINDS, "fpn-sixteenth-micro.tflite"),
    ],
)
def test_resolves_shipped_names(given, kinds, found, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = pretrained.resolve(given, kinds)
    assert path.name == found and path.is_file()
    (tmp_path / "fpn-eighth-300w.keras").write_text("mine")
    own = given == "fpn-eighth-300w.keras"  # a file of the user's goes first
    assert (pretrained.resolve(given, kinds).parent.name != "weights") == own


@pytest.mark.parametrize(
    ("given", "kinds", "error", "message"),
    [
        ("fpn-eighth-300w-int8", (".keras",), ValueError, "Expected a .keras file"),
        ("fpn-sixteenth-micro", (".keras",), ValueError, "Expected a .keras file"),
        ("fpn-eighth-300w.md", pretrained.KINDS, ValueError, ".keras or .tflite file"),
        ("../weights/fpn-eighth-300w", pretrained.KINDS, ValueError, "fpn-quarter-112-300w"),
        ("none.tflite", (".tflite",), FileNotFoundError, "There is no model at none.tflite"),
        ("", pretrained.KINDS, ValueError, "Received: ''"),
    ],
)
def test_no_such_model_lists_the_shipped_ones(given, kinds, error, message):
    with pytest.raises(error, match=message) as caught:
        pretrained.resolve(given, kinds)
    assert pretrained.NAMES[0] in str(caught.value)


def test_detector_from_pretrained_on_a_painted_face():
    images, labels = keras_lapkl.data.synthetic_faces(1, seed=5)
    photo = np.full((240, 320, 3), 90, np.uint8)
    photo[100:180, 60:140] = images[0]
    detect = landmark_detector.LandmarkDetector.from_pretrained(detector=None)
    box = np.concatenate([labels[0].min(0), labels[0].max(0)]) + [60, 100, 60, 100]
    (face,) = detect(photo, [box])
    assert np.linalg.norm(face.landmarks - labels[0] - [60, 100], axis=-1).mean() < 6
    assert (face.radius > face.error).all()
