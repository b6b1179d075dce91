import dataclasses

import numpy as np
import pytest

from keras_lapkl import load_model
from keras_lapkl.data import datasets
from keras_lapkl.training import refining
from keras_lapkl.training.augmentation import Augmentation

OFF = Augmentation(mirror=0).scaled(0)

pytestmark = pytest.mark.slow


@pytest.fixture
def model():
    return load_model("fpn-sixteenth-300w", (".keras",))


@pytest.fixture(scope="module")
def crops():
    return datasets.load("synthetic", split="train", num_synthetic=40)


@pytest.fixture(scope="module")
def validation():
    return datasets.load("synthetic", split="validation", num_synthetic=40)


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(refining, "_FACES", 400)


def test_lowers_the_error_of_faces_that_it_was_not_fitted_to(model, crops, validation):
    """Synthetic faces are another world to this model, whose shapes it can learn."""
    calibration = model.calibration
    found = refining.refine(model, crops, validation)
    assert found.after["nme"] < 0.9 * found.before["nme"]
    assert found.change[0] == pytest.approx(
        100 * (found.after["nme"] / found.before["nme"] - 1), rel=1e-3
    )
    assert found.change[1] < found.change[0] < found.change[2] < -5
    assert model.calibration != calibration
    assert model.calibration.data.startswith("40 synthetic")
    assert model.trained_on.startswith("40 synthetic")
    assert "begun with a model trained on 300-W train: 1,809" in model.trained_on


def test_the_same_again_though_refined_before(model, crops, validation):
    first = refining.refine(model, crops, validation)
    matrix, _ = model.refinement.get_weights()
    trained_on = model.trained_on
    again = refining.refine(model, crops, validation)
    assert model.trained_on == trained_on
    assert again.before["nme"] == first.before["nme"] > again.after["nme"]
    np.testing.assert_allclose(model.refinement.get_weights()[0], matrix, atol=1e-4)


def test_gains_of_the_labels_reach_the_landmarks(model, crops, validation):
    slopes = []
    for gain in (1.0, 2.0):
        found = refining.refine(
            model, crops, validation, dataclasses.replace(OFF, eye_gain=gain, mouth_gain=gain)
        )
        slopes.append(found.after["apertures"]["mouth"]["slope"])
    assert slopes[1] > 1.25 * slopes[0]


def test_hidden_points_have_no_label(model, crops):
    """Not (0, 0), as which they stand in batches."""
    hidden = dataclasses.replace(crops, visible=crops.visible & (np.arange(68) != 3))
    _, labels, _ = refining._answers(model, hidden, OFF, 0)
    assert np.isnan(labels[:, 3]).all() and np.isfinite(labels[:, 4]).any()


def test_crops_of_another_rule(model, crops, validation):
    other = dataclasses.replace(crops, crop_scale=2.0)
    with pytest.raises(ValueError, match=r"3\.0, as the model has it.* of 2\.0"):
        refining.refine(model, other, validation)
