"""Several devices and several processes against one. This file is also what the processes run.

Everything is float32 on CPUs, where sums of other order differ by 1e-7 of their terms; two epochs
of SGD bring that to at most 2e-6 in the weights. Adam is avoided: it lifts the rounding of zero
gradients to full steps. Dropout and noise are 0, as they draw one mask for each device.
"""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_lapkl import callbacks, losses, metrics
from keras_lapkl._support.app import UnfinishedError
from keras_lapkl.loading import load_model
from keras_lapkl.models.adversarial import AdversarialLocalizer
from keras_lapkl.models.localizer import LandmarkLocalizer
from keras_lapkl.models.mobile_fpn import MobileFPN
from keras_lapkl.models.patch_gan import PatchGAN
from keras_lapkl.models.rcn import RCN
from keras_lapkl.training import distributed, launching

SIZE, K, BATCH, EPOCHS = 32, 5, 8, 2
KINDS = {"supervised": LandmarkLocalizer, "adversarial": AdversarialLocalizer}
UNEVEN = 15
"""Faces to evaluate on: the last batch has one more for the first device than for the second."""
TOLERANCE = {"rtol": 0, "atol": 1e-5}


def build(kind):
    keras.utils.set_random_seed(0)
    networks = [RCN(K, 1 / 16, SIZE, dropout=0)]
    compiled = {"metrics": [metrics.NormalizedMeanError(normalizer=SIZE)]}
    options = {}
    if kind == "adversarial":
        networks.append(PatchGAN(K, filters=8, noise=0))
        compiled["discriminator_optimizer"] = keras.optimizers.SGD(1e-2, 0.9)
        options["adversarial_weight"] = 0.5
    model = KINDS[kind](*networks, **options)
    model.compile(keras.optimizers.SGD(1e-2, 0.9), losses.LaplaceKL(), **compiled)
    return model


def faces():
    """Images, unlabeled images, and landmarks of which some are hidden."""
    rng = np.random.default_rng(0)
    images, unlabeled = rng.random((2, 2 * BATCH, SIZE, SIZE, 3), np.float32)
    landmarks = rng.uniform(0, SIZE - 1, (2 * BATCH, K, 2))
    visible = rng.random((2 * BATCH, K, 1)) > 0.2
    return images, unlabeled, np.concatenate([landmarks, visible], -1).astype(np.float32)


def batches(kind):
    images, unlabeled, landmarks = faces()
    x = (images, unlabeled) if kind == "adversarial" else images
    return tf.data.Dataset.from_tensor_slices((x, landmarks)).batch(BATCH, drop_remainder=True)


def validation():
    images, _, landmarks = faces()
    return tf.data.Dataset.from_tensor_slices((images, landmarks)).batch(BATCH)


def fit(model, kind, epochs=EPOCHS, first=0, **kwargs):
    fitted = distributed.fit(
        model,
        batches(kind).repeat(),
        validation_data=validation(),
        steps_per_epoch=2,
        initial_epoch=first,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        **kwargs,
    )
    return fitted.history


def states(model):
    variables = [*model.variables, *model.optimizer.variables]
    if isinstance(model, AdversarialLocalizer):
        variables += model.discriminator_optimizer.variables
    return variables


def measure(model):
    images, _, landmarks = (half[:UNEVEN] for half in faces())
    return {
        "scores": model.evaluate(images, landmarks, batch_size=BATCH, verbose=0, return_dict=True),
        "landmarks": model.predict(images, batch_size=BATCH, verbose=0)["landmarks"].tolist(),
    }


def keep(folder, name, model, **found):
    np.savez(folder / f"{name}.npz", *map(np.asarray, states(model)))
    (folder / f"{name}.json").write_text(json.dumps(found))


def on_two_devices(folder):
    cpu = tf.config.list_physical_devices("CPU")[0]
    two = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(cpu, two)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    for kind in KINDS:
        with strategy.scope():
            model = build(kind)
        history = fit(model, kind)
        apart = max(
            np.abs(replica.numpy() - variable.value.values[0].numpy()).max()
            for variable in states(model)
            for replica in variable.value.values
        )
        found = {"history": history, "apart": float(apart), "jit_compile": model.jit_compile}
        keep(folder, kind, model, **found, **measure(model))
        model.save(folder / f"{kind}.keras")
    with strategy.scope():
        model = LandmarkLocalizer(MobileFPN(K, 1 / 16, SIZE))
        model.compile(keras.optimizers.SGD(1e-3), losses.LaplaceKL())
    found = {"loss": fit(model, "supervised")["loss"], "by_axes": model._reads_axes}
    found["mean"] = float(np.abs(model.generator.get_layer("stem_norm").moving_mean).max())
    (folder / "mobile_fpn.json").write_text(json.dumps(found))


def by_two_processes(folder):
    """The second epoch, from what one process has left after the first."""
    last = folder / "last.keras"
    with distributed.scope():
        model = load_model(last)
    kind = "adversarial" if isinstance(model, AdversarialLocalizer) else "supervised"
    distributed.wait()  # before the file is written anew
    writers = [callbacks.ResumableCheckpoint(last)] if distributed.is_chief() else []
    history = fit(model, kind, first=1, callbacks=writers)
    index = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
    told = distributed.all_gather(b"\xff" + b"\0\x01" * index)
    found = {
        "replicas": distributed.replicas(),
        "told": [list(each) for each in told],
        "chief": distributed.is_chief(),
        "asked": [distributed.any_process(index == 1), distributed.any_process(False)],
    }
    keep(folder, str(index), model, history=history, **found)


def read(folder, name):
    with np.load(folder / f"{name}.npz") as held:
        return list(held.values()), json.loads((folder / f"{name}.json").read_text())


def assert_close(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, **TOLERANCE)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Each kind, trained on one device with whole batches; its logs, its file after an epoch."""
    trained = {}
    for kind in KINDS:
        model, path = build(kind), tmp_path_factory.mktemp("alone") / "first.keras"
        first = fit(model, kind, epochs=1)
        model.save(path)
        second = fit(model, kind, first=1)
        trained[kind] = model, {name: first[name] + second[name] for name in first}, path
    return trained


@pytest.fixture(scope="module")
def mirrored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mirrored")
    command = [sys.executable, __file__, "on_two_devices", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    return folder


@pytest.mark.parametrize("kind", KINDS)
class TestMirroredStrategy:
    def test_equals_one_device(self, mirrored, alone, kind):
        weights, found = read(mirrored, kind)
        model, history, _ = alone[kind]
        assert found["apart"] == 0
        assert_close(weights, states(model))
        assert found["history"].keys() == history.keys()
        for name, values in history.items():
            assert found["history"][name] == pytest.approx(values, rel=1e-5), name

    def test_evaluates_and_predicts(self, mirrored, alone, kind):
        _, found = read(mirrored, kind)
        expected = measure(alone[kind][0])
        assert found["scores"] == pytest.approx(expected["scores"], rel=1e-5)
        np.testing.assert_allclose(found["landmarks"], expected["landmarks"], atol=1e-3)

    def test_file_is_as_any_other(self, mirrored, kind):
        model = load_model(mirrored / f"{kind}.keras")
        weights, _ = read(mirrored, kind)
        for a, b in zip(weights, states(model), strict=True):
            np.testing.assert_array_equal(a, b)

    def test_xla_is_off(self, mirrored, kind):
        assert read(mirrored, kind)[1]["jit_compile"] is False


def test_mobile_fpn_on_two_devices_learns_by_axes(mirrored):
    """Its batch normalization is each device's own, so that one device gives other numbers."""
    found = json.loads((mirrored / "mobile_fpn.json").read_text())
    assert found["by_axes"] and found["mean"] > 0
    assert np.isfinite(found["loss"]).all() and found["loss"][1] < found["loss"][0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backend", "kind"), [("tensorflow", "adversarial"), ("jax", "supervised")]
)
def test_two_processes_equal_one_with_the_whole_batch(alone, tmp_path, monkeypatch, backend, kind):
    """On JAX too, where one process alone saves while the other goes on."""
    if backend == "jax":
        pytest.importorskip("jax", reason="needs the extra: pip install 'keras_lapkl[jax]'")
        monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.setenv("KERAS_BACKEND", backend)
    model, history, first = alone[kind]
    last = pathlib.Path(shutil.copy(first, tmp_path / "last.keras"))
    command = [sys.executable, __file__, "by_two_processes", str(tmp_path)]
    assert launching.launch(command, 2) == 0
    weights, found = read(tmp_path, "0")
    others, theirs = read(tmp_path, "1")
    assert found["chief"] and not theirs["chief"]
    assert found["replicas"] == theirs["replicas"] == 2
    assert found["told"] == theirs["told"] == [[255], [255, 0, 1]]
    assert found["asked"] == theirs["asked"] == [True, False]
    assert found["history"] == theirs["history"]
    for a, b, c in zip(weights, others, states(load_model(last)), strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, c)
    assert_close(weights, states(model))
    for name, values in history.items():
        assert found["history"][name] == pytest.approx(values[1:], rel=1e-5), name


def context(processes, index, devices):
    return tf.distribute.InputContext(processes, index, processes * devices)


@pytest.mark.parametrize(("processes", "devices"), [(1, 1), (2, 1), (4, 1), (1, 2), (2, 2)])
def test_parts_make_up_the_batch(processes, devices):
    labeled, unlabeled = np.arange(24).reshape(2, 12, 1), np.arange(8).reshape(2, 4, 1)
    whole = tf.data.Dataset.from_tensor_slices(((labeled, unlabeled), -labeled))
    parts = [
        list(distributed.part(whole, context(processes, index, devices)).as_numpy_iterator())
        for index in range(processes)
    ]
    for step, ((x, u), y) in enumerate(whole.as_numpy_iterator()):
        dealt = [part for each in parts for part in each[step * devices : (step + 1) * devices]]
        np.testing.assert_array_equal(np.concatenate([part[0][0] for part in dealt]), x)
        np.testing.assert_array_equal(np.concatenate([part[0][1] for part in dealt]), u)
        np.testing.assert_array_equal(np.concatenate([part[1] for part in dealt]), y)


def test_each_device_validates_on_all():
    data = tf.data.Dataset.range(5).batch(2)
    seen = distributed.whole(data, context(2, 1, 2)).as_numpy_iterator()
    assert [batch[0].tolist() for batch in seen] == [[0, 1], [0, 1], [2, 3], [2, 3], [4], [4]]


def test_without_processes_nothing_changes():
    assert distributed.join() is None
    assert distributed.is_chief() and distributed.replicas() == 1
    assert distributed.any_process(True) and not distributed.any_process(False)
    distributed.wait()


def test_one_that_never_came_counts_as_one_that_has_ended():
    with pytest.raises(UnfinishedError, match="Another process"), distributed._peers():
        raise tf.errors.DeadlineExceededError(None, None, "Barrier timed out")


def test_signals_wait_for_the_end_of_what_all_do():
    came = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: came.append(number))
    try:
        with distributed._signals_later():
            signal.raise_signal(signal.SIGTERM)
            assert not came
        assert came == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_another_backend_is_refused(monkeypatch):
    monkeypatch.setattr(distributed.keras.backend, "backend", lambda: "numpy")
    with pytest.raises(ValueError, match=r"on tensorflow or jax: .*Received: numpy"):
        distributed.join.__wrapped__()


@pytest.mark.parametrize(("size", "drop"), [(9, True), (8, False)])
def test_batch_that_can_not_be_divided(size, drop):
    data = tf.data.Dataset.range(32).batch(size, drop_remainder=drop)
    with pytest.raises(ValueError, match=r"multiple.*Received: (9|None)"):
        distributed._check_divisible(data, 2)


if __name__ == "__main__":
    {f.__name__: f for f in (on_two_devices, by_two_processes)}[sys.argv[1]](
        pathlib.Path(sys.argv[2])
    )
