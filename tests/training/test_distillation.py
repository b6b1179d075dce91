import dataclasses

import numpy as np
import pytest

from keras_lapkl.data.datasets import load
from keras_lapkl.data.unlabeled.crops import InMemory, UnlabeledCrops
from keras_lapkl.data.unlabeled.shards import from_crops
from keras_lapkl.training import distillation


@pytest.fixture
def teacher(stub):
    return stub.Localizer(stub.POINTS)


def ramps(stub, count, size, margin=3, crop_scale=2.0, crop_from="points"):
    """Faces at different places of a photo whose colors are its coordinates."""
    photo, side = stub.ramp(), size + 2 * margin
    images = np.stack([photo[40 + i : 40 + i + side, 70 : 70 + side] for i in range(count)])
    name = "ramps"
    return UnlabeledCrops(InMemory(images), size, margin, crop_scale, name, name, crop_from)


def test_labels_are_what_the_teacher_finds_in_the_faces_without_margin(stub, teacher):
    labels = distillation.pseudo_labels([teacher], ramps(stub, 5, stub.SIZE))
    assert labels.shape == (5, 5, 3) and labels.dtype == np.float32
    corner = [[70 + 3, 40 + 3 + i] for i in range(5)]
    expected = stub.POINTS - np.array(corner)[:, None]
    # A mirrored ramp is a ramp, so the mean with the mirrored face is the same, points swapped.
    expected = (expected + expected[:, list(stub.SCHEME.flip)]) / 2
    found = labels[..., :2]
    np.testing.assert_allclose(found.mean(1), expected.mean(1), atol=0.1)
    assert (labels[..., 2] == 1).all()


@pytest.mark.parametrize("mirrors", [True, False])
def test_mirror_images_are_asked_for_where_the_scheme_mirrors(stub, teacher, mirrors, monkeypatch):
    asked, predict = [], distillation.model_scores.predict

    def noted(model, images, flip_average):
        asked.append(flip_average)
        return predict(model, images, flip_average=flip_average)

    monkeypatch.setattr(distillation.model_scores, "predict", noted)
    if not mirrors:
        teacher.scheme = dataclasses.replace(stub.SCHEME, flip=None)
    distillation.pseudo_labels([teacher], ramps(stub, 2, stub.SIZE))
    assert asked == [mirrors]


def test_faces_of_another_size_than_the_teachers(stub, teacher):
    """Faces with each pixel doubled, in both directions, get labels in their own pixels."""
    faces = ramps(stub, 2, stub.SIZE, margin=0)
    doubled = faces.gather([0, 1]).repeat(2, axis=1).repeat(2, axis=2)
    large = UnlabeledCrops(InMemory(doubled), 2 * stub.SIZE, 0, 2.0, "doubled", "doubled")
    labels = distillation.pseudo_labels([teacher], faces)[..., :2]
    found = distillation.pseudo_labels([teacher], large)[..., :2]
    np.testing.assert_allclose(found, 2 * labels + 0.5, atol=0.01)


def test_labels_of_several_teachers_are_their_mean(stub, teacher):
    faces = ramps(stub, 3, stub.SIZE)
    other = stub.Localizer(stub.POINTS + np.array([4.0, -2.0], np.float32))
    one, two, both = (
        distillation.pseudo_labels(each, faces) for each in ([teacher], [other], [teacher, other])
    )
    assert np.abs(one - two).max() > 1
    np.testing.assert_allclose(both, (one + two) / 2, atol=1e-4)


def test_a_landmark_that_one_teacher_does_not_find_is_hidden(stub, teacher):
    faces, other = ramps(stub, 2, stub.SIZE), stub.Localizer(stub.POINTS.copy())
    other.points[0] = np.nan
    labels = distillation.pseudo_labels([teacher, other], faces)
    hidden = labels[..., 2] == 0
    # Its mirror image's too: a label is the mean of both.
    assert hidden.any() and not hidden.all() and (labels[hidden] == 0).all()


def test_no_teacher(stub):
    with pytest.raises(ValueError, match="one teacher or more"):
        distillation.pseudo_labels([], ramps(stub, 2, stub.SIZE))


def test_unsure_landmarks_are_hidden(stub, teacher):
    """The stub's scales are 1 and 2: 1.5 on average."""
    faces = ramps(stub, 2, stub.SIZE)
    assert (distillation.pseudo_labels([teacher], faces, 1.5)[..., 2] == 1).all()
    with pytest.raises(ValueError, match=r"`max_scale` 1.4 hides all"):
        distillation.pseudo_labels([teacher], faces, 1.4)


def test_nothing_finite(stub, teacher):
    teacher.points = np.full_like(teacher.points, np.nan)
    with pytest.raises(ValueError, match="no finite landmark in any face"):
        distillation.pseudo_labels([teacher], ramps(stub, 2, stub.SIZE))


def test_more_faces_than_a_batch_stay_in_order(stub, teacher, monkeypatch):
    faces = ramps(stub, 5, stub.SIZE)
    whole = distillation.pseudo_labels([teacher], faces)
    monkeypatch.setattr(distillation, "_BATCH", 2)
    np.testing.assert_array_equal(distillation.pseudo_labels([teacher], faces), whole)


class TestWritten:
    @pytest.fixture
    def faces(self, stub, monkeypatch):
        """Seven, labeled by two and kept by four."""
        monkeypatch.setattr(distillation, "_BATCH", 2)
        monkeypatch.setattr(distillation, "_PART", 2)
        return ramps(stub, 7, stub.SIZE)

    @pytest.fixture
    def stopped(self, stub, faces, teacher, tmp_path, monkeypatch):
        """The part that a call has left that was ended in its fourth batch; counts the others."""
        teacher.num_landmarks = len(stub.POINTS)
        label, batches = distillation._label, []

        def counted(teachers, max_scale, part):
            batches.append(len(part))
            if len(batches) == counted.stop:
                raise KeyboardInterrupt
            return label(teachers, max_scale, part)

        counted.stop = 4
        monkeypatch.setattr(distillation, "_label", counted)
        with pytest.raises(KeyboardInterrupt):
            distillation.write_pseudo_labels(tmp_path / "labels.npy", [teacher], faces)
        assert batches == [2] * 3 + [1] and not (tmp_path / "labels.npy").exists()
        batches.clear()
        counted.stop = None
        return tmp_path / "labels.parts" / "00000.npz", batches

    def test_what_is_labeled_is_not_labeled_again(self, faces, teacher, stopped, tmp_path, caplog):
        _, batches = stopped
        distillation.write_pseudo_labels(tmp_path / "labels.npy", [teacher], faces)
        assert batches == [2, 1] and not (tmp_path / "labels.parts").exists()
        labels = distillation.pseudo_labels([teacher], faces)
        found = distillation.read_pseudo_labels(tmp_path / "labels.npy", faces)
        np.testing.assert_array_equal(found, labels)
        distillation.write_pseudo_labels(tmp_path / "whole.npy", [teacher], faces)
        ours, whole = (tmp_path / name for name in ("labels.npy", "whole.npy"))
        assert ours.read_bytes() == whole.read_bytes()

    @pytest.mark.parametrize("damage", ["cut", "bit", "shape", "gone"])
    def test_a_damaged_part_is_made_again(self, faces, teacher, stopped, tmp_path, damage):
        part, batches = stopped
        content = bytearray(part.read_bytes())
        if damage == "cut":
            part.write_bytes(content[:-30])
        elif damage == "bit":
            content[len(content) // 2] ^= 1
            part.write_bytes(content)
        elif damage == "shape":
            np.savez(part, rows=np.zeros(3, distillation._row_type(5)))
        else:
            part.unlink()
        distillation.write_pseudo_labels(tmp_path / "labels.npy", [teacher], faces)
        assert batches == [2, 2, 2, 1]
        labels = distillation.pseudo_labels([teacher], faces)
        found = distillation.read_pseudo_labels(tmp_path / "labels.npy", faces)
        np.testing.assert_array_equal(found, labels)

    @pytest.mark.parametrize("left", [0, 5, 300])
    def test_a_damaged_file_is_none(self, faces, teacher, stopped, tmp_path, left):
        path = tmp_path / "labels.npy"
        distillation.write_pseudo_labels(path, [teacher], faces)
        path.write_bytes(path.read_bytes()[:left])
        assert distillation.read_pseudo_labels(path, faces) is None

    def test_parts_of_faces_in_another_order_are_made_again(
        self, faces, teacher, stopped, tmp_path
    ):
        _, batches = stopped
        moved = InMemory(faces.gather([1, 0, 2, 3, 4, 5, 6]))
        moved = dataclasses.replace(faces, faces=moved, source="moved")
        distillation.write_pseudo_labels(tmp_path / "labels.npy", [teacher], moved)
        assert batches == [2, 2, 2, 1]
        found = distillation.read_pseudo_labels(tmp_path / "labels.npy", moved)
        np.testing.assert_array_equal(found, distillation.pseudo_labels([teacher], moved))

    def test_read_for_these_faces_alone(self, faces, teacher, tmp_path):
        teacher.num_landmarks = len(teacher.points)
        path = tmp_path / "labels.npy"
        assert distillation.read_pseudo_labels(path, faces) is None
        distillation.write_pseudo_labels(path, [teacher], faces)
        assert distillation.read_pseudo_labels(path, faces.part(0, 6)) is None
        turned = InMemory(faces.gather(range(7)[::-1]))
        turned = dataclasses.replace(faces, faces=turned, source="turned")
        assert distillation.read_pseudo_labels(path, turned) is None
        np.save(path, np.zeros((7, 5, 3), np.float32))  # of an earlier version
        assert distillation.read_pseudo_labels(path, faces) is None


def test_another_crop_rule(stub, teacher):
    faces = from_crops(load("synthetic", num_synthetic=2, image_size=32))
    with pytest.raises(ValueError, match=r"2\.0, as the teacher has it.*synthetic train of 3\.0"):
        distillation.pseudo_labels([teacher], faces)
    teacher.crop_scale = None
    with pytest.raises(ValueError, match="not known which crop the teacher"):
        distillation.pseudo_labels([teacher], faces)


def test_a_teacher_of_the_same_points_in_another_order(stub, teacher):
    crops, teacher.crop_scale = load("synthetic", num_synthetic=2, image_size=32), 3.0
    names = crops.scheme.names
    teacher.scheme = dataclasses.replace(crops.scheme, flip=None)
    distillation.check_teacher(teacher, crops)
    teacher.scheme = dataclasses.replace(teacher.scheme, names=(*names[1:], names[0]))
    with pytest.raises(ValueError, match="the same points in the same order"):
        distillation.check_teacher(teacher, crops)


def test_faces_that_are_cropped_by_something_else(stub, teacher):
    whole = ramps(stub, 2, stub.SIZE, crop_from="image")
    with pytest.raises(ValueError, match=r"'points', as the teacher has it.*ramps of 'image'"):
        distillation.pseudo_labels([teacher], whole)
