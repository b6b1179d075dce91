import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_lapkl import heatmaps, losses, metrics
from keras_lapkl.loading import load_model
from keras_lapkl.models.localizer import LandmarkLocalizer
from keras_lapkl.models.mean_teacher import MeanTeacherLocalizer, move_landmarks
from keras_lapkl.models.mobile_fpn import MobileFPN
from keras_lapkl.models.rcn import RCN

SIZE, K = 16, 3
SCHEME = {"name": "toy", "num_landmarks": K, "flip": [[0, 1]]}
STILL = np.array([[1.0, 0, 0], [0, 1, 0]], np.float32)
MIRRORED = np.array([[-1.0, 0, SIZE - 1], [0, 1, 0]], np.float32)


def rcn():
    return RCN(K, 1 / 16, SIZE, dropout=0.0)


def mobile_fpn():
    return MobileFPN(K, 1 / 16, SIZE)


def small(network=rcn, scheme=SCHEME, optimizer=None, **kwargs):
    keras.utils.set_random_seed(0)
    model = MeanTeacherLocalizer(network(), scheme=scheme, **kwargs)
    metric = metrics.NormalizedMeanError(normalizer=SIZE)
    model.compile(optimizer or keras.optimizers.SGD(0.02), losses.LaplaceKL(), metrics=[metric])
    model.run_eagerly = True
    return model


@pytest.fixture
def batch(rng):
    images, plain, moved = (rng.random((4, SIZE, SIZE, 3)).astype(np.float32) for _ in range(3))
    motion = np.stack([STILL, MIRRORED, STILL, STILL])
    motion[2, :, 2] = 2.0, -1.0
    landmarks = rng.uniform(0, SIZE - 1, (4, K, 2)).astype(np.float32)
    return (images, (plain, moved, motion)), landmarks


def step(model, batch):
    return {name: float(value) for name, value in model.train_step(batch).items()}


def test_moved_landmarks_exchange_their_names_where_mirrored():
    landmarks = np.array([[[1.0, 2.0], [5.0, 2.0], [3.0, 9.0]]] * 2, np.float32)
    found = np.asarray(move_landmarks(landmarks, np.stack([STILL, MIRRORED]), (1, 0, 2)))
    np.testing.assert_allclose(found[0], landmarks[0])
    np.testing.assert_allclose(found[1], [[10, 2], [14, 2], [12, 9]])


def test_targets_are_the_teachers_moved(batch):
    model = small()
    (_, (plain, *_)), _ = batch
    target, scale, visible = map(np.asarray, model.targets(model.unpack(batch)))
    both = [np.asarray(each) for each in heatmaps.decode(model.teacher(plain))]
    other = [np.asarray(each) for each in heatmaps.decode(model.teacher(plain[:, :, ::-1]))]
    back = other[0][:, [1, 0, 2]] * [-1, 1] + [SIZE - 1, 0]
    expected = (both[0] + back) / 2
    np.testing.assert_allclose(target[0], expected[0], atol=1e-4)
    np.testing.assert_allclose(target[1], expected[1][[1, 0, 2]] * [-1, 1] + [15, 0], atol=1e-4)
    np.testing.assert_allclose(target[2], expected[2] + [2, -1], atol=1e-4)
    spread = (both[1] + other[1][:, [1, 0, 2]]) / 2
    np.testing.assert_allclose(scale[0], np.maximum(spread[0], 1), rtol=1e-5)
    np.testing.assert_array_equal(scale[1], np.maximum(spread[1], 1)[[1, 0, 2]])
    assert visible.tolist() == [[1, 1, 1]] * 4


def test_without_a_mirror_map_mirrored_faces_teach_nothing(batch):
    """Which of their points is which is not known."""
    *_, visible = small(scheme=None).targets(small(scheme=None).unpack(batch))
    assert np.asarray(visible).tolist() == [[1, 1, 1], [0, 0, 0], [1, 1, 1], [1, 1, 1]]


def test_batches_that_do_not_tell_their_size(batch):
    layers = [keras.Input((None, None, 3)), keras.layers.Conv2D(K, 3, padding="same")]
    model = small(lambda: keras.Sequential(layers))
    shapes = tf.nest.map_structure(lambda x: tf.TensorSpec([None] * x.ndim, tf.float32), batch)
    expected = [np.asarray(each) for each in model.targets(model.unpack(batch))]
    sized = keras.tree.map_structure(lambda x: x.astype(np.float32), batch)
    found = tf.function(lambda data: model.targets(model.unpack(data)), [shapes])(sized)
    for received, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(received, wanted, atol=1e-4)


def test_arrays_of_a_wrong_range_are_refused(batch):
    (images, (plain, moved, motion)), landmarks = batch
    model = small()
    for x in (
        (255 * images, (plain, moved, motion)),
        (images, (255 * plain, moved, motion)),
        {"labeled": images, "unlabeled": 255 * plain},
    ):
        with pytest.raises(ValueError, match="Divide by 255"):
            model.fit(x, landmarks)


def test_what_leaves_the_image_teaches_nothing(batch):
    model = small()
    (_, (_, _, motion)), _ = batch
    motion[:, 0, 2] += SIZE
    assert not np.asarray(model.targets(model.unpack(batch))[2]).any()
    assert step(model, batch)["consistency_loss"] == 0


@pytest.mark.parametrize(
    ("axis", "shift"), [(0, -2 * SIZE), (0, 2 * SIZE), (1, -2 * SIZE), (1, 2 * SIZE)]
)
def test_what_leaves_at_a_side_is_hidden(batch, axis, shift):
    model = small()
    (_, (_, _, motion)), _ = batch
    motion[:, axis, 2] += shift
    assert not np.asarray(model.targets(model.unpack(batch))[2]).any()


@pytest.mark.parametrize("network", [rcn, mobile_fpn])
def test_the_teacher_finds_with_beta(batch, network):
    keras.utils.set_random_seed(0)
    model = MeanTeacherLocalizer(network(), beta=0.25)
    for weight in model.teacher.weights[-2:]:  # till the maps have peaks
        weight.assign(100 * weight)
    (_, (plain, *_)), _ = batch
    found, scale = (np.asarray(each) for each in heatmaps.decode(model.teacher(plain), 0.25))
    target, target_scale, _ = map(np.asarray, model.targets(model.unpack(batch)))
    np.testing.assert_allclose(target[0], found[0], atol=1e-4)
    np.testing.assert_allclose(target_scale, np.maximum(scale, 1), rtol=1e-4)


def test_consistency_is_the_mean_over_visible_landmarks(rng):
    model = small()
    logits = rng.normal(size=(1, SIZE, SIZE, K)).astype(np.float32)
    target, scale = np.full((1, K, 2), 5, np.float32), np.ones((1, K, 2), np.float32)
    found, spread = heatmaps.decode(logits)
    divergence = losses.laplace_kl_divergence(found - target, spread, scale)
    each = np.asarray(divergence)[0].sum(-1)
    for visible in ([1, 0, 0], [1, 1, 0], [1, 1, 1]):
        shown = np.array([visible], np.float32)
        consistency = float(model.consistency_loss(logits, target, scale, shown))
        assert consistency == pytest.approx(each[np.array(visible) > 0].mean(), rel=1e-4)


def test_faces_of_sample_weight_zero_do_not_count(batch):
    logs = step(small(), (*batch, np.zeros(4, np.float32)))
    assert logs["localization_loss"] == 0 and logs["consistency_loss"] > 0


@pytest.mark.parametrize("network", [rcn, mobile_fpn])
def test_a_step_by_hand(batch, network):
    model = small(network, scheme=None, decay=0.9, consistency_weight=0.5)
    model.optimizer.iterations.assign(1000)
    before = [w.numpy() for w in model.generator.trainable_variables]
    teacher = model.teacher.get_weights()
    (images, (plain, moved, motion)), landmarks = batch
    found, scale = (np.asarray(each) for each in heatmaps.decode(model.teacher(plain)))
    target = np.einsum("bij,bkj->bki", motion[..., :2], found) + motion[:, None, :, 2]
    inside = ((target >= -0.5) & (target <= SIZE - 0.5)).all(-1).astype(np.float32)
    inside[np.linalg.det(motion[..., :2]) < 0] = 0  # mirrored
    with tf.GradientTape() as tape:
        logits = model.generator(np.concatenate([images, moved]), training=True)
        supervised = tf.reduce_mean(losses.laplace_kl(landmarks, logits[:4]))
        location, spread = heatmaps.decode(logits[4:])
        divergence = losses.laplace_kl_divergence(location - target, spread, np.maximum(scale, 1))
        divergence = tf.reduce_sum(divergence, -1) * inside
        consistency = tf.reduce_mean(tf.reduce_sum(divergence, 1) / np.maximum(inside.sum(1), 1))
        total = (supervised + 0.5 * consistency) / 1.5
    slopes = tape.gradient(total, model.generator.trainable_variables)
    model.generator.set_weights(teacher)  # batch normalization has moved
    logs = step(model, batch)
    assert logs["localization_loss"] == pytest.approx(float(supervised), rel=1e-4)
    assert logs["consistency_loss"] == pytest.approx(float(consistency), rel=1e-3, abs=1e-5)
    assert logs["loss"] == pytest.approx(float(total), rel=1e-4)
    for weight, old, slope in zip(model.generator.trainable_variables, before, slopes, strict=True):
        np.testing.assert_allclose(weight.numpy(), old - 0.02 * slope.numpy(), atol=2e-4)
    followed = zip(model.teacher.weights, teacher, model.generator.weights, strict=True)
    for now, old, ours in followed:
        np.testing.assert_allclose(now.numpy(), 0.9 * old + 0.1 * ours.numpy(), atol=1e-6)


def test_a_network_that_normalizes_its_images(batch):
    """The layer has a counter, and keeps what it makes of its weights."""
    normalization = keras.layers.Normalization()
    normalization.adapt(7 * np.random.default_rng(1).random((9, SIZE, SIZE, 3)) - 2)
    images = keras.Input((SIZE, SIZE, 3))
    outputs = keras.layers.Conv2D(K, 3, padding="same")(normalization(images))
    model = small(lambda: keras.Model(images, outputs))
    x = batch[0][0]
    np.testing.assert_allclose(model.teacher(x), model.generator(x), atol=1e-6)
    step(model, batch)
    step(model, batch)
    for theirs, ours in zip(model.teacher.layers, model.generator.layers, strict=True):
        if isinstance(ours, keras.layers.Normalization):
            assert int(theirs.count) == int(ours.count)


def test_a_frozen_network_is_followed(batch):
    network = rcn()
    network.trainable = False
    model = small(lambda: network)
    before = model.generator.get_weights()
    assert np.isfinite(list(step(model, batch).values())).all()
    for a, b in zip(model.generator.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_motion_by_hand():
    moved = move_landmarks([[[1.0, 2.0]]], [[[1.0, 0.0, 5.0], [0.0, 1.0, 0.0]]])
    np.testing.assert_array_equal(moved, [[[6.0, 2.0]]])


def test_the_teacher_first_forgets_its_random_weights(batch):
    model = small(decay=0.998)
    old = model.teacher.get_weights()
    step(model, batch)
    for now, then, ours in zip(model.teacher.weights, old, model.generator.weights, strict=True):
        np.testing.assert_allclose(now.numpy(), 0.1 * then + 0.9 * ours.numpy(), atol=1e-6)
    assert not model.teacher.trainable_variables


def test_accumulated_batches_move_the_teacher_as_one_step_does(batch):
    """The weights stay, so that the teacher's place tells of the averaging alone."""
    rates = {None: 1, 4: 4}
    for accumulated, batches in rates.items():
        still = keras.optimizers.SGD(0.0, gradient_accumulation_steps=accumulated)
        model = small(optimizer=still, decay=0.5)
        still.iterations.assign(100) if accumulated is None else still._iterations.assign(400)
        model.teacher.set_weights([weight + 1 for weight in model.teacher.get_weights()])
        old = model.teacher.get_weights()
        for _ in range(batches):
            step(model, batch)
        for now, then, ours in zip(
            model.teacher.weights, old, model.generator.weights, strict=True
        ):
            np.testing.assert_allclose(now.numpy(), 0.5 * then + 0.5 * ours.numpy(), atol=1e-6)


def test_before_the_start_only_labels_count(batch):
    model, alone = small(consistency_start=2), small(consistency_weight=0.0)
    for _ in range(2):
        assert step(model, batch)["loss"] == pytest.approx(step(alone, batch)["loss"], rel=1e-6)
    for a, b in zip(model.generator.weights, alone.generator.weights, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), atol=1e-6)
    model.reset_metrics()
    logs = step(model, batch)
    assert logs["loss"] == pytest.approx((logs["localization_loss"] + logs["consistency_loss"]) / 2)


def test_goes_on_after_it_was_saved(batch, tmp_path):
    model = small(optimizer=keras.optimizers.Adam(1e-3), decay=0.5, consistency_weight=2.0)
    step(model, batch)
    model.save(tmp_path / "m.keras")
    other = load_model(tmp_path / "m.keras")
    other.run_eagerly = True
    assert (other.decay, other.consistency_weight) == (0.5, 2.0)
    for each in (model, other):
        each.reset_metrics()
        step(each, batch)
    for a, b in zip(model.weights, other.weights, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_evaluates_predicts_and_gives_the_student(batch):
    model = small()
    (images, _), landmarks = batch
    logs = model.evaluate(images, landmarks, verbose=0, return_dict=True)
    assert set(logs) == {"loss", "nme"}
    student = model.localizer()
    assert type(student) is LandmarkLocalizer and student.scheme == model.scheme
    np.testing.assert_array_equal(
        student.predict(images, verbose=0)["landmarks"],
        model.predict(images, verbose=0)["landmarks"],
    )


JAX = """
import json, sys
import numpy as np
from keras_lapkl import load_model
data = np.load(sys.argv[2])
model = load_model(sys.argv[1])
logs = model.evaluate(data["images"], data["landmarks"], verbose=0, return_dict=True)
print(json.dumps({name: float(value) for name, value in logs.items()}))
"""


@pytest.mark.slow
def test_evaluates_on_jax(batch, tmp_path):
    pytest.importorskip("jax", reason="needs the extra: pip install 'keras_lapkl[jax]'")
    model = small()
    (images, _), landmarks = batch
    np.savez(tmp_path / "data.npz", images=images, landmarks=landmarks)
    model.save(tmp_path / "m.keras")
    done = subprocess.run(
        [sys.executable, "-c", JAX, tmp_path / "m.keras", tmp_path / "data.npz"],
        env={**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    logs = model.evaluate(images, landmarks, verbose=0, return_dict=True)
    assert json.loads(done.stdout) == pytest.approx(logs, rel=1e-4)


@pytest.mark.parametrize(
    "change", [{"decay": 1.0}, {"consistency_weight": -1.0}, {"consistency_start": -1}]
)
def test_bad_arguments(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        small(**change)


def test_other_batches_are_refused(batch):
    model = small()
    (images, _), landmarks = batch
    with pytest.raises(ValueError, match="mean_teacher_batches"):
        model.train_step((images, landmarks))
