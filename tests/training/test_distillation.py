import numpy as np
import pytest

from keras_lapkl.data.datasets import load
from keras_lapkl.data.unlabeled.crops import InMemory, UnlabeledCrops
from keras_lapkl.data.unlabeled.shards import from_crops
from keras_lapkl.training import distillation


@pytest.fixture
def teacher(stub):
    return stub.Localizer(stub.POINTS)


def ramps(stub, count, size, margin=3, crop_scale=2.0):
    """Faces at different places of a photo whose colors are its coordinates."""
    photo, side = stub.ramp(), size + 2 * margin
    images = np.stack([photo[40 + i : 40 + i + side, 70 : 70 + side] for i in range(count)])
    name = "ramps"
    return UnlabeledCrops(InMemory(images), size, margin, crop_scale, name, name)


def test_labels_are_what_the_teacher_finds_in_the_faces_without_margin(stub, teacher):
    labels = distillation.pseudo_labels(teacher, ramps(stub, 5, stub.SIZE))
    assert labels.shape == (5, 5, 3) and labels.dtype == np.float32
    corner = [[70 + 3, 40 + 3 + i] for i in range(5)]
    expected = stub.POINTS - np.array(corner)[:, None]
    # A mirrored ramp is a ramp, so the mean with the mirrored face is the same, points swapped.
    expected = (expected + expected[:, list(stub.SCHEME.flip)]) / 2
    found = labels[..., :2]
    np.testing.assert_allclose(found.mean(1), expected.mean(1), atol=0.1)
    assert (labels[..., 2] == 1).all()


def test_faces_of_another_size_than_the_teachers(stub, teacher):
    """Faces with each pixel doubled, in both directions, get labels in their own pixels."""
    faces = ramps(stub, 2, stub.SIZE, margin=0)
    doubled = faces.gather([0, 1]).repeat(2, axis=1).repeat(2, axis=2)
    large = UnlabeledCrops(InMemory(doubled), 2 * stub.SIZE, 0, 2.0, "doubled", "doubled")
    labels = distillation.pseudo_labels(teacher, faces)[..., :2]
    found = distillation.pseudo_labels(teacher, large)[..., :2]
    np.testing.assert_allclose(found, 2 * labels + 0.5, atol=0.01)


def test_unsure_landmarks_are_hidden(stub, teacher):
    """The stub's scales are 1 and 2: 1.5 on average."""
    faces = ramps(stub, 2, stub.SIZE)
    assert (distillation.pseudo_labels(teacher, faces, 1.5)[..., 2] == 1).all()
    with pytest.raises(ValueError, match=r"`max_scale` 1.4 hides all"):
        distillation.pseudo_labels(teacher, faces, 1.4)


def test_more_faces_than_a_batch_stay_in_order(stub, teacher, monkeypatch):
    faces = ramps(stub, 5, stub.SIZE)
    whole = distillation.pseudo_labels(teacher, faces)
    monkeypatch.setattr(distillation, "_BATCH", 2)
    np.testing.assert_array_equal(distillation.pseudo_labels(teacher, faces), whole)


def test_another_crop_rule(stub, teacher):
    faces = from_crops(load("synthetic", num_synthetic=2, image_size=32))
    with pytest.raises(ValueError, match=r"crop scale 2.0, and synthetic train has 3.0"):
        distillation.pseudo_labels(teacher, faces)
    teacher.crop_scale = None
    with pytest.raises(ValueError, match="does not say which crop"):
        distillation.pseudo_labels(teacher, faces)
