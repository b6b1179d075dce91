import dataclasses
import pathlib

import numpy as np
import pytest
import tensorflow as tf

from keras_lapkl import schemes
from keras_lapkl.data.crops import Crops
from keras_lapkl.data.unlabeled import shards
from keras_lapkl.training.augmentation import Augmentation
from keras_lapkl.training.batches import (
    evaluation_batches,
    label_array,
    mean_teacher_batches,
    plain_errors,
    self_training_batches,
    semi_supervised_batches,
    steps_per_epoch,
    training_batches,
)

OFF = Augmentation(mirror=0).scaled(0)


def numbered(count, margin=4, size=16):
    """Crops whose every pixel and landmark says which face it is."""
    number = np.arange(count)
    side = size + 2 * margin
    return Crops(
        images=np.broadcast_to(
            number[:, None, None, None].astype(np.uint8), (count, side, side, 3)
        ).copy(),
        landmarks=np.broadcast_to(number[:, None, None], (count, 2, 2)).astype(np.float32).copy(),
        visible=np.ones((count, 2), bool),
        transforms=np.tile(np.eye(2, 3), (count, 1, 1)),
        names=tuple(map(str, number)),
        scheme=schemes.Scheme("pair", ("a", "b"), flip=(1, 0)),
        image_size=size,
        margin=margin,
        crop_scale=3.0,
        name="numbered",
    )


def ramps(count):
    """Crops whose every pixel says its column: five for each, those of the margin too."""
    crops = numbered(count)
    columns = 5 * np.arange(crops.images.shape[2], dtype=np.uint8)
    images = np.broadcast_to(columns[:, None], crops.images.shape).copy()
    return dataclasses.replace(crops, images=images)


def of_68_points():
    """Eight faces of noise."""
    rng = np.random.default_rng(0)
    landmarks = rng.uniform(20, 60, (8, 68, 2)).astype(np.float32)
    return Crops(
        images=rng.integers(0, 255, (8, 96, 96, 3), np.uint8),
        landmarks=landmarks,
        visible=np.ones((8, 68), bool),
        transforms=np.tile(np.eye(2, 3), (8, 1, 1)),
        names=tuple("abcdefgh"),
        scheme=schemes.IBUG68,
        image_size=80,
        margin=8,
        crop_scale=3.0,
        name="eight",
    )


def order(crops, batch_size, steps, **kwargs):
    stream = training_batches(crops, batch_size, **kwargs).take(steps)
    return np.array([y.numpy()[:, 0, 0] for _, y in stream])


def test_an_epoch_has_each_face_once():
    seen = order(numbered(20), 5, 8).reshape(2, 20)
    for epoch in seen:
        assert sorted(epoch) == list(range(20))
    assert (seen[0] != seen[1]).any() and (seen[0] != np.arange(20)).any()


def test_pixels_go_with_their_landmarks():
    for x, y in training_batches(numbered(20), 5).take(4):
        assert x.shape == (5, 16, 16, 3) and x.dtype == "uint8" and y.shape == (5, 2, 3)
        np.testing.assert_array_equal(x[:, 3, 3, 0], y[:, 0, 0])


@pytest.mark.parametrize(("flip", "mirrored"), [((1, 0), True), (None, False)])
def test_mirrored_only_where_the_scheme_says_how(flip, mirrored):
    """The left half of each crop is dark; no other augmentation is on."""
    crops = numbered(16, margin=0)
    crops.images[:, :, :8], crops.images[:, :, 8:] = 0, 255
    crops = dataclasses.replace(crops, scheme=dataclasses.replace(crops.scheme, flip=flip))
    alone = dataclasses.replace(OFF, mirror=1.0)
    (x, _) = next(iter(training_batches(crops, 16, augmentation=alone)))
    assert (x.numpy()[:, :, 0] == mirrored).all()
    unlabeled = shards.from_crops(crops)
    batches = semi_supervised_batches(crops, unlabeled, 16, augmentation=alone)
    ((x, other), _) = next(iter(batches))
    assert (x.numpy()[:, :, 0] == mirrored).all() and (other.numpy()[:, :, 0] == mirrored).all()


def test_openings_are_varied_where_the_scheme_knows_them():
    faces = of_68_points()
    varied = dataclasses.replace(OFF, openings=1.0)
    (x, y), (plain, labels) = (
        next(iter(training_batches(faces, 8, augmentation=each))) for each in (varied, OFF)
    )
    assert (x.numpy() != plain.numpy()).any((1, 2, 3)).all()
    differ = (y.numpy() != labels.numpy()).any(-1)
    assert differ[:, [37, 38, 40, 41]].any(1).all() and not differ.all(0).any()
    (again, _) = next(iter(training_batches(faces, 8, augmentation=varied)))
    np.testing.assert_array_equal(x, again)
    other = numbered(8, margin=0)
    (x, _), (plain, _) = (
        next(iter(training_batches(other, 8, augmentation=each))) for each in (varied, OFF)
    )
    np.testing.assert_array_equal(x, plain)


@pytest.mark.parametrize(
    ("gain", "moved"),
    [("eye_gain", [37, 38, 40, 41, 43, 44, 46, 47]), ("mouth_gain", [61, 62, 63, 65, 66, 67])],
)
def test_gains_widen_the_labels_of_their_openings(gain, moved):
    wide = dataclasses.replace(OFF, **{gain: 2.0})
    (x, y), (plain, labels) = (
        next(iter(training_batches(of_68_points(), 8, augmentation=each))) for each in (wide, OFF)
    )
    np.testing.assert_array_equal(x, plain)
    differ = (y.numpy() != labels.numpy()).any((0, 2))
    assert np.flatnonzero(differ).tolist() == moved


def test_seed_decides_the_order():
    crops = numbered(20)
    np.testing.assert_array_equal(order(crops, 5, 8, seed=3), order(crops, 5, 8, seed=3))
    assert (order(crops, 5, 8, seed=3) != order(crops, 5, 8, seed=4)).any()


def test_orders_do_not_repeat():
    """`index_shuffle` reads eight bits of an epoch's number."""
    crops = numbered(20)
    epochs = [order(crops, 5, 4, first_step=4 * epoch) for epoch in (0, 256, 512, 256)]
    assert (epochs[0] != epochs[1]).any() and (epochs[1] != epochs[2]).any()
    np.testing.assert_array_equal(epochs[1], epochs[3])


def test_begins_at_any_step():
    crops = numbered(23)
    np.testing.assert_array_equal(order(crops, 5, 9)[6:], order(crops, 5, 3, first_step=6))


def test_augmented_stream_begins_at_any_step():
    crops = numbered(10)
    whole = list(training_batches(crops, 5, augmentation=Augmentation()).take(4))
    late = next(iter(training_batches(crops, 5, augmentation=Augmentation(), first_step=3)))
    assert whole[0][0].shape == (5, 16, 16, 3) and whole[0][0].dtype == "float32"
    for a, b in zip(whole[3], late, strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_is_drawn_changes_from_step_to_step():
    shifted = dataclasses.replace(OFF, shift=0.1)
    steps = training_batches(numbered(12), 12, augmentation=shifted).take(2)
    first, second = (y[:, 0, 0] - 255 * x[:, 3, 3, 0] for x, y in steps)
    assert not np.allclose(first, second, atol=0.1)


def test_left_over_faces_change_from_epoch_to_epoch():
    assert steps_per_epoch(numbered(23), 5) == 4
    seen = order(numbered(23), 5, 12).reshape(3, 20)
    left_over = [set(range(23)) - set(epoch) for epoch in seen]
    assert left_over[0] != left_over[1] or left_over[1] != left_over[2]


def test_labels_hide_nan_and_invisible():
    crops = numbered(3)
    crops.landmarks[0, 0] = np.nan
    crops.visible[1, 1] = False
    labels = label_array(crops)
    assert labels[..., 2].tolist() == [[0, 1], [1, 0], [1, 1]]
    assert np.isfinite(labels).all()


def test_evaluation_has_all_in_order():
    batches = list(evaluation_batches(numbered(7), 3))
    assert [len(x) for x, _ in batches] == [3, 3, 1]
    np.testing.assert_array_equal(np.concatenate([y[:, 0, 0] for _, y in batches]), range(7))


def test_nothing_tunes_the_streams():
    """The thread that tunes can miss its end, and a stopped training ended up to a minute late."""
    crops, unlabeled = numbered(7), shards.from_crops(numbered(7))
    labels = np.zeros((7, 2, 3), np.float32)
    for stream in (
        training_batches(crops, 3),
        semi_supervised_batches(crops, unlabeled, 3),
        self_training_batches(crops, unlabeled, labels, 3),
        mean_teacher_batches(crops, unlabeled, 3),
        evaluation_batches(crops),
    ):
        assert stream.options().autotune.enabled is False


@pytest.mark.parametrize("batch_size", [0, 8])
def test_batch_larger_than_the_data(batch_size):
    with pytest.raises(ValueError, match=r"1\.\.7"):
        training_batches(numbered(7), batch_size)


def paired(crops, unlabeled, steps, *args, **kwargs):
    """Numbers of the labeled and the unlabeled faces by step, and whether labels went along."""
    stream = semi_supervised_batches(crops, unlabeled, *args, **kwargs).take(steps)
    found = [(x[:, 3, 3, 0], u[:, 3, 3, 0], y[:, 0, 0]) for (x, u), y in stream]
    return [np.array(part) for part in zip(*found, strict=True)]


class TestSemiSupervised:
    def test_streams_are_of_their_own(self):
        images, unlabeled, landmarks = paired(
            numbered(20), shards.from_crops(numbered(14)), 8, 5, 7
        )
        np.testing.assert_array_equal(images, landmarks)
        np.testing.assert_array_equal(landmarks, order(numbered(20), 5, 8))
        epochs = unlabeled.reshape(4, 14)
        for epoch in epochs:
            assert sorted(epoch) == list(range(14))
        assert (epochs[0] != epochs[1]).any()

    def test_labeled_faces_as_unlabeled_come_in_another_order(self):
        crops = numbered(20)
        images, unlabeled, _ = paired(crops, shards.from_crops(crops), 4, 5)
        assert (images != unlabeled).any() and set(unlabeled.ravel()) == set(range(20))

    def test_begins_at_any_step(self):
        unlabeled = shards.from_crops(numbered(14))
        whole = paired(numbered(20), unlabeled, 9, 5, 4)
        rest = paired(numbered(20), unlabeled, 3, 5, 4, first_step=6)
        for a, b in zip(whole, rest, strict=True):
            np.testing.assert_array_equal(a[6:], b)

    def test_errors_are_those_of_the_faces(self, monkeypatch):
        """The next stream has none of the last one's."""
        unlabeled = shards.from_crops(numbered(14))
        with monkeypatch.context() as changed:
            nowhere = pathlib.Path("nowhere")
            changed.setattr(type(unlabeled), "gather", lambda *_: nowhere.read_bytes())
            with pytest.raises(FileNotFoundError, match="nowhere"), plain_errors():
                next(iter(semi_supervised_batches(numbered(20), unlabeled, 5)))
        with pytest.raises(tf.errors.CancelledError), plain_errors():
            raise tf.errors.CancelledError(None, None, "another")
        with plain_errors():
            next(iter(semi_supervised_batches(numbered(20), unlabeled, 5)))

    def test_augmented_alike(self):
        unlabeled = shards.from_crops(numbered(14))
        args = (numbered(20), unlabeled, 5, 4, 1, Augmentation())
        (first,), (again,) = (semi_supervised_batches(*args).take(1) for _ in range(2))
        (images, others), _ = first
        assert images.shape == (5, 16, 16, 3) and others.shape == (4, 16, 16, 3)
        assert images.dtype == others.dtype == "float32"
        np.testing.assert_array_equal(others, again[0][1])

    def test_unlabeled_faces_are_cut_to_their_center(self):
        crops = ramps(12)
        ((_, others), _) = next(iter(semi_supervised_batches(crops, shards.from_crops(crops), 4)))
        assert others.shape == (4, 16, 16, 3) and (others[:, 0, 0, 0].numpy() == 5 * 4).all()

    def test_fewer_faces_than_a_batch(self):
        with pytest.raises(ValueError, match=r"1\.\.3"):
            semi_supervised_batches(numbered(20), shards.from_crops(numbered(3)), 5)

    def test_crops_by_something_else(self):
        other = dataclasses.replace(shards.from_crops(numbered(9)), crop_from="image")
        with pytest.raises(ValueError, match=r"`crop_from` 'points', as .* of 'image'"):
            semi_supervised_batches(numbered(20), other, 5)

    @pytest.mark.parametrize("change", [{"size": 32}, {"crop_scale": 2.0}])
    def test_other_crops(self, change):
        size = change.get("size", 16)
        other = dataclasses.replace(
            numbered(9, size=size), crop_scale=change.get("crop_scale", 3.0)
        )
        with pytest.raises(ValueError, match="Crop them alike"):
            semi_supervised_batches(numbered(20), shards.from_crops(other), 5)


class TestSelfTraining:
    """Unlabeled faces 0 to 13 whose labels are 100 to 113."""

    @pytest.fixture
    def pseudo_labels(self):
        number = np.broadcast_to(100 + np.arange(14)[:, None, None], (14, 2, 2))
        return np.concatenate([number, np.ones((14, 2, 1))], -1).astype(np.float32)

    def batches(self, pseudo_labels, steps, **kwargs):
        unlabeled = shards.from_crops(numbered(14))
        stream = self_training_batches(numbered(20), unlabeled, pseudo_labels, 5, 7, **kwargs)
        return list(stream.take(steps).as_numpy_iterator())

    def test_labels_go_with_their_faces(self, pseudo_labels):
        plain = order(numbered(20), 5, 8)
        found = self.batches(pseudo_labels, 8)
        for (x, y), labeled in zip(found, plain, strict=True):
            assert x.shape == (12, 16, 16, 3) and y.shape == (12, 2, 3)
            ours, theirs = y[:, 0, 0] < 100, y[:, 0, 0] >= 100
            np.testing.assert_array_equal(y[ours, 0, 0], labeled)
            np.testing.assert_array_equal(x[ours, 3, 3, 0], labeled)
            np.testing.assert_array_equal(x[theirs, 3, 3, 0] + 100, y[theirs, 0, 0])
            assert 2 <= ours[:6].sum() <= 3  # each device's share has faces of both
        seen = np.concatenate([y[y[:, 0, 0] >= 100, 0, 0] for _, y in found[:2]])
        assert sorted(seen) == list(range(100, 114))

    def test_begins_at_any_step_augmented(self, pseudo_labels):
        whole = self.batches(pseudo_labels, 4, augmentation=Augmentation())
        (late,) = self.batches(pseudo_labels, 1, augmentation=Augmentation(), first_step=3)
        for a, b in zip(whole[3], late, strict=True):
            np.testing.assert_array_equal(a, b)

    def test_hidden_ones_stay_hidden(self, pseudo_labels):
        pseudo_labels[:, 1, 2] = 0
        ((_, y),) = self.batches(pseudo_labels, 1, augmentation=Augmentation())
        assert (y[..., 2].sum(1) <= 1).sum() >= 7

    def test_labels_of_other_faces(self, pseudo_labels):
        with pytest.raises(ValueError, match=r"shape \(14, 2, 3\).*\(13, 2, 3\)"):
            self.batches(pseudo_labels[1:], 1)


class TestMeanTeacher:
    def take(self, steps, **kwargs):
        unlabeled = shards.from_crops(numbered(14))
        stream = mean_teacher_batches(numbered(20), unlabeled, 5, 4, seed=1, **kwargs).take(steps)
        return [(images, *others, landmarks) for (images, others), landmarks in stream]

    def test_the_student_sees_the_teachers_faces(self):
        moved = dataclasses.replace(OFF, shift=0.2)
        for images, plain, others, motion, landmarks in self.take(3, moved=moved):
            assert images.shape == (5, 16, 16, 3) and landmarks.shape == (5, 2, 3)
            assert plain.shape == others.shape == (4, 16, 16, 3) and motion.shape == (4, 2, 3)
            assert plain.dtype == "uint8" and others.dtype == "float32"
            numbers = plain[:, 3, 3, 0].numpy()
            np.testing.assert_allclose(255 * others[:, 3, 3, 0], numbers, atol=1e-3)
            assert (motion[:, :, 2].numpy() != 0).all()

    def test_begins_at_any_step(self):
        whole = self.take(5, augmentation=Augmentation())
        rest = self.take(2, augmentation=Augmentation(), first_step=3)
        for ours, theirs in zip(whole[3:], rest, strict=True):
            for a, b in zip(ours, theirs, strict=True):
                np.testing.assert_array_equal(a, b)

    def test_the_teacher_sees_their_center(self):
        crops = ramps(12)
        stream = mean_teacher_batches(crops, shards.from_crops(crops), 4, moved=OFF)
        ((_, (plain, others, _)), _) = next(iter(stream))
        assert (plain[:, 0, 0, 0].numpy() == 5 * 4).all()
        np.testing.assert_allclose(255 * others, plain, atol=1e-2)

    def test_motions_change_from_step_to_step(self):
        first, second = (motion.numpy() for _, _, _, motion, _ in self.take(2))
        assert not np.allclose(first, second)
