import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_lapkl import heatmaps, losses, metrics, tflite
from keras_lapkl.loading import load_model
from keras_lapkl.models import adversarial
from keras_lapkl.models.adversarial import AdversarialLocalizer
from keras_lapkl.models.localizer import LandmarkLocalizer
from keras_lapkl.models.patch_gan import PatchGAN
from keras_lapkl.models.rcn import RCN

SIZE, K = 16, 3


def small(
    dropout=0.0,
    noise=0.0,
    optimizer=None,
    discriminator_optimizer=None,
    loss=None,
    eager=True,
    **kwargs,
):
    """A tiny model; eager where a few steps cost less than tracing one."""
    keras.utils.set_random_seed(0)
    model = AdversarialLocalizer(RCN(K, 1 / 16, SIZE, dropout), PatchGAN(K, 4, noise), **kwargs)
    model.compile(
        optimizer or keras.optimizers.Adam(3e-3),
        loss or losses.LaplaceKL(),
        discriminator_optimizer,
        metrics=[metrics.NormalizedMeanError(normalizer=SIZE)],
        run_eagerly=eager,
    )
    return model


@pytest.fixture
def data(rng):
    images, unlabeled = (rng.random((12, SIZE, SIZE, 3)).astype(np.float32) for _ in range(2))
    return (images, unlabeled), rng.uniform(0, SIZE - 1, (12, K, 2)).astype(np.float32)


def sgd():
    """Optimizers for comparisons: Adam would lift the rounding of zero gradients to full steps."""
    rates = {"optimizer": 0.02, "discriminator_optimizer": 0.05}
    return {name: keras.optimizers.SGD(rate) for name, rate in rates.items()}


def fit(model, data, **kwargs):
    return model.fit(*data, batch_size=4, shuffle=False, verbose=0, **kwargs).history


def assert_same(model, other, **tolerance):
    for a, b in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, **(tolerance or {"rtol": 0, "atol": 0}))


def test_losses_by_hand():
    real, fake = np.array([[2.0, 0.0]]), np.array([[-1.0, 0.0]])
    softplus = lambda x: np.log1p(np.exp(x))  # noqa: E731
    expected = (softplus(-2) + softplus(0)) / 2 + (softplus(-1) + softplus(0)) / 2
    assert float(losses.discriminator_loss(real, fake)) == pytest.approx(expected, rel=1e-6)
    assert float(losses.generator_loss(fake)) == pytest.approx(
        np.mean(np.log(1 - 1 / (1 + np.exp(-fake)))), rel=1e-6
    )
    assert float(losses.generator_loss(fake, "non_saturating")) == pytest.approx(
        -np.mean(np.log(1 / (1 + np.exp(-fake)))), rel=1e-6
    )


def test_an_unknown_kind_of_loss():
    with pytest.raises(ValueError, match="Received: 'wasserstein'"):
        losses.generator_loss(np.zeros((1, 2, 2, 1)), "wasserstein")


def test_losses_are_finite_where_the_sigmoid_is_not():
    for kind in adversarial.ADVERSARIAL_LOSSES:
        assert np.isfinite(float(losses.generator_loss(np.array([-1e4, 1e4]), kind)))
    assert float(losses.discriminator_loss(np.array([1e4]), np.array([-1e4]))) == 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", adversarial.ADVERSARIAL_LOSSES)
@pytest.mark.parametrize(("gain", "image_gain"), [(1.0, 1.0), (4.0, 0.5)])
def test_step_equals_the_objective_written_down(data, kind, gain, image_gain):
    """SGD by the gradients of the two objectives, each with a tape and forward pass of its own."""
    import tensorflow as tf

    gains = {"heatmap_gain": gain, "image_gain": image_gain}
    options = {"adversarial_loss": kind, "adversarial_weight": 2.0, **gains}
    model, reference = small(**sgd(), **options), small(**options)
    logs = fit(model, ((data[0][0][:4], data[0][1][:4]), data[1][:4]))

    (images, unlabeled), landmarks = data
    images, unlabeled, landmarks = images[:4], unlabeled[:4], landmarks[:4]
    generator, discriminator = reference.generator, reference.discriminator
    real = tf.concat([image_gain * images, gain * heatmaps.render(landmarks, SIZE, SIZE)], -1)

    def judge():
        maps = heatmaps.probabilities(generator(unlabeled))
        fake = tf.concat([image_gain * unlabeled, gain * maps], -1)
        return discriminator(real, training=True), discriminator(fake, training=True)

    moments = [v.numpy() for v in discriminator.non_trainable_variables]
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(losses.laplace_kl(landmarks, generator(images)))
        chance = tf.sigmoid(judge()[1])
        fooled = tf.math.log(1 - chance) if kind == "minimax" else -tf.math.log(chance)
        fooled = tf.reduce_mean(fooled)
        total = loss + 2.0 * fooled
    slopes = tape.gradient(total, generator.trainable_variables)
    for variable, moment in zip(discriminator.non_trainable_variables, moments, strict=True):
        variable.assign(moment)
    with tf.GradientTape() as tape:
        true, false = (tf.sigmoid(logits) for logits in judge())
        judged = -tf.reduce_mean(tf.math.log(true)) - tf.reduce_mean(tf.math.log(1 - false))
    theirs = tape.gradient(judged, discriminator.trainable_variables)
    for network, rate, gradients in ((generator, 0.02, slopes), (discriminator, 0.05, theirs)):
        for variable, gradient in zip(network.trainable_variables, gradients, strict=True):
            variable.assign_sub(rate * gradient)
    assert_same(model, reference, rtol=1e-4, atol=1e-6)
    assert logs["loss"][0] == pytest.approx(float(total), rel=1e-5)
    assert logs["localization_loss"][0] == pytest.approx(float(loss), rel=1e-5)
    assert logs["adversarial_loss"][0] == pytest.approx(float(fooled), rel=1e-4)
    assert logs["discriminator_loss"][0] == pytest.approx(float(judged), rel=1e-4)
    accuracies = [float(np.mean(true > 0.5)), float(np.mean(false <= 0.5))]
    reported = [logs[f"discriminator_accuracy_{half}"][0] for half in ("real", "fake")]
    assert reported == pytest.approx(accuracies)


@pytest.mark.slow
def test_weight_zero_trains_as_labels_alone(data):
    model = small(**sgd(), adversarial_weight=0.0)
    keras.utils.set_random_seed(0)
    plain = LandmarkLocalizer(RCN(K, 1 / 16, SIZE, 0))
    plain.compile(keras.optimizers.SGD(0.02), losses.LaplaceKL())
    fit(model, data, epochs=2)
    fit(plain, (data[0][0], data[1]), epochs=2)
    for a, b in zip(model.generator.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_one_forward_pass_of_the_generator(data, monkeypatch):
    model, calls = small(), []
    call = RCN.call
    monkeypatch.setattr(RCN, "call", lambda *a, **k: (calls.append(1), call(*a, **k))[1])
    fit(model, data)
    assert len(calls) == 3  # one in each of the 3 steps


@pytest.mark.slow
def test_discriminator_learns_to_tell(data):
    model = small(
        discriminator_optimizer=keras.optimizers.Adam(1e-2), heatmap_gain=10.0, eager=False
    )
    logs = fit(model, data, epochs=30)
    assert logs["discriminator_loss"][-1] < 0.5 * logs["discriminator_loss"][0]
    assert logs["discriminator_accuracy_real"][-1] > 0.9
    assert logs["discriminator_accuracy_fake"][-1] > 0.9
    assert logs["localization_loss"][-1] < logs["localization_loss"][0]


def regularized(network, strength=0.5):
    for variable in network.trainable_variables:
        variable.regularizer = keras.regularizers.L2(strength)


def step(model, data):
    return {name: float(value) for name, value in model.train_step(data).items()}


def test_a_regularizer_of_the_discriminator_is_its_own(data):
    plain, model = small(**sgd()), small(**sgd())
    regularized(model.discriminator)
    before = [v.numpy() for v in model.discriminator.trainable_variables]
    expected, logs = step(plain, data), step(model, data)
    assert logs == pytest.approx(expected)
    assert model.evaluate(data[0][0], data[1], verbose=0) == pytest.approx(
        plain.evaluate(data[0][0], data[1], verbose=0), rel=1e-4
    )
    for a, b in zip(model.generator.get_weights(), plain.generator.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    pairs = zip(model.discriminator.trainable_variables, before, strict=True)
    for (variable, old), other in zip(pairs, plain.discriminator.trainable_variables, strict=True):
        np.testing.assert_allclose(variable, other - 0.05 * old, atol=1e-5)  # 2 · 0.5 · w


def test_a_regularizer_of_the_generator_enters_its_loss(data):
    plain, model = small(**sgd(), adversarial_weight=0.0), small(**sgd(), adversarial_weight=0.0)
    regularized(model.generator)
    before = [v.numpy() for v in model.generator.trainable_variables]
    size = sum(0.5 * float(np.sum(np.square(each))) for each in before)
    expected, logs = step(plain, data), step(model, data)
    assert logs["localization_loss"] == pytest.approx(expected["localization_loss"] + size)
    pairs = zip(model.generator.trainable_variables, before, strict=True)
    for (variable, old), other in zip(pairs, plain.generator.trainable_variables, strict=True):
        np.testing.assert_allclose(variable, other - 0.02 * old, atol=1e-5)


@pytest.mark.parametrize("frozen", ["generator", "discriminator"])
def test_a_frozen_network_stays_and_the_other_learns(data, frozen):
    model = small()
    getattr(model, frozen).trainable = False
    model.compile("sgd", losses.LaplaceKL(), run_eagerly=True)
    networks = {"generator": model.generator, "discriminator": model.discriminator}
    before = {name: network.get_weights() for name, network in networks.items()}
    assert np.isfinite(list(step(model, data).values())).all()
    for name, network in networks.items():
        same = map(np.array_equal, network.get_weights(), before[name])
        assert all(same) == (name == frozen)


def hidden(data, value):
    """The labels with one hidden point of each face, whose coordinates are `value`."""
    x, y = data
    shown = np.ones((len(y), K, 1), np.float32)
    shown[np.arange(len(y)), np.arange(len(y)) % K] = 0
    return x, np.concatenate([np.where(shown > 0, y, value), shown], -1)


@pytest.mark.slow
@pytest.mark.parametrize("value", [3.0, -1e6, np.nan])
def test_label_of_a_hidden_point_changes_nothing(data, value):
    models = [small(adversarial_weight=1.0) for _ in range(2)]
    logs = [fit(m, hidden(data, v), epochs=2) for m, v in zip(models, (0.0, value), strict=True)]
    assert_same(*models)
    assert logs[0] == logs[1] and np.isfinite(logs[0]["loss"]).all()


def test_hidden_points_are_hidden_from_the_discriminator(data):
    """Both halves show the uniform map, by the visibility of a labeled face."""
    import tensorflow as tf

    model = small()
    x, y = hidden(data, 0.0)
    batch = model.unpack(((x[0][:4], x[1][:6]), y[:4]))
    logits = tf.random.normal((6, SIZE, SIZE, K), seed=0)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        fake = model.generated_pairs(batch, logits)
        weighted = tf.reduce_sum(fake * tf.random.normal(fake.shape, seed=1))
    slope = tape.gradient(weighted, logits).numpy()
    true = model.true_pairs(batch).numpy()
    for i in range(6):
        shown = y[i % 4, :, 2] > 0
        flat = np.isclose(fake[i, ..., 3:], 1 / SIZE**2, rtol=1e-5).all((0, 1))
        np.testing.assert_array_equal(flat, ~shown)
        assert (slope[i][..., ~shown] == 0).all() and (slope[i][..., shown] != 0).any()
        if i < 4:
            assert np.allclose(true[i][..., 3:][..., ~shown], 1 / SIZE**2)
            sums = true[i][..., 3:].sum((0, 1))
            np.testing.assert_allclose(sums, 1, rtol=1e-5)


def test_omega_is_the_loss_s_target(data):
    x, y = data
    for loss, kind, scale in (
        (losses.LaplaceKL(target_scale=2), "laplace", 2),
        (losses.GaussianKL(), "gaussian", 1),
        (losses.SoftArgmaxLoss(), "laplace", 1),
    ):
        model = small(loss=loss)
        true = model.true_pairs(model.unpack((x, y)))[..., 3:]
        expected = heatmaps.render(y, SIZE, SIZE, scale, distribution=kind)
        np.testing.assert_allclose(true, expected, rtol=1e-6)


def test_images_can_be_hidden_from_the_discriminator(data):
    model = small(image_gain=0.0)
    batch = model.unpack(data)
    for pairs in (model.true_pairs(batch), model.generated_pairs(batch, model(data[0][1]))):
        assert (pairs[..., :3].numpy() == 0).all() and (pairs[..., 3:].numpy() > 0).all()


@pytest.mark.slow
def test_halves_may_differ_in_size_and_come_in_a_dict(data):
    x, y = data

    def batches(as_dict):
        for i in (0, 4):
            pair = x[0][i : i + 4], x[1][i : i + 2]
            yield (
                dict(zip(("labeled", "unlabeled"), pair, strict=True)) if as_dict else pair,
                y[i : i + 4],
            )

    models = [small(), small()]
    for model, as_dict in zip(models, (True, False), strict=True):
        model.fit(batches(as_dict), shuffle=False, steps_per_epoch=2, verbose=0)
    assert_same(*models)


@pytest.mark.slow
def test_uint8_equals_float(data):
    (images, unlabeled), y = data
    bytes_ = [(255 * half).astype(np.uint8) for half in (images, unlabeled)]
    models = [small(**sgd()), small(**sgd())]
    fit(models[0], (tuple(bytes_), y))
    fit(models[1], (tuple(half.astype(np.float32) / 255 for half in bytes_), y))
    assert_same(*models, rtol=1e-5, atol=1e-7)


@pytest.mark.slow
def test_sample_weight_weighs_the_localization_only(data):
    # Losses of one target: the discriminator sees the same.
    both = losses.LaplaceKL(), losses.SoftArgmaxLoss()
    models = [small(adversarial_weight=1.0, loss=each) for each in both]
    for model in models:
        fit(model, data, sample_weight=np.zeros(12))
    before = small().discriminator.get_weights()
    for weights, model in ((before, models[0]),):
        assert not np.allclose(weights[0], model.discriminator.get_weights()[0])
    # The generator moved by the adversarial loss alone.
    assert not np.allclose(small().get_weights()[0], models[0].get_weights()[0])
    assert_same(*models)


@pytest.mark.slow
def test_of_weights_zero_the_generator_stays(data):
    model = small(**sgd(), adversarial_weight=0.0)
    before = model.generator.get_weights()
    fit(model, data, sample_weight=np.zeros(12))
    for a, b in zip(model.generator.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_reports_are_of_training_only(data):
    logs = fit(small(), data, validation_data=(data[0][0], data[1]))
    assert {"loss", "nme", "val_loss", "val_nme", *adversarial.REPORTS} == logs.keys()


def test_evaluates_pairs_as_their_labeled_half(data):
    """Of batches of unequal size, each face counts once."""
    import tensorflow as tf

    model = small()
    (images, unlabeled), y = data
    y = np.concatenate([y[:8], y[8:9] / 8])  # the last one, in a batch of its own, is far off
    expected = model.evaluate(images[:9], y, batch_size=8, verbose=0)
    for pair in ((images, unlabeled), {"labeled": images, "unlabeled": unlabeled}):
        faces = tf.data.Dataset.from_tensor_slices((pair, data[1])).take(9).batch(8)
        batches = faces.map(lambda x, _: x)
        labels = tf.data.Dataset.from_tensor_slices(y).batch(8)
        found = model.evaluate(tf.data.Dataset.zip((batches, labels)), verbose=0)
        assert found == pytest.approx(expected, rel=1e-5)


def test_evaluates_and_predicts_as_a_localizer(data):
    model = small()
    (images, _), y = data
    plain = model.localizer()
    plain.compile("adam", losses.LaplaceKL(), metrics=[metrics.NormalizedMeanError(SIZE)])
    ours, theirs = (m.evaluate(images, y, verbose=0, return_dict=True) for m in (model, plain))
    assert ours == pytest.approx(theirs)
    np.testing.assert_array_equal(
        model.predict(images, verbose=0)["landmarks"], plain.predict(images, verbose=0)["landmarks"]
    )


@pytest.mark.parametrize(
    ("start", "warmup", "expected"),
    [
        (0, 0, [0.5, 0.5, 0.5, 0.5]),
        (2, 0, [0, 0, 0.5, 0.5]),
        (0, 4, [0, 0.125, 0.25, 0.5]),
        (1, 2, [0, 0, 0.25, 0.5]),
    ],
)
def test_weight_starts_and_warms_up(start, warmup, expected):
    model = small(adversarial_weight=0.5, adversarial_start=start, adversarial_warmup=warmup)
    weights = [float(model.adversarial_weight_at(step)) for step in (0, 1, 2, 9)]
    assert weights == pytest.approx(expected)


@pytest.mark.slow
def test_keras_round_trip_with_both_optimizers(tmp_path, data):
    model = small(
        dropout=0.2,
        noise=0.2,
        adversarial_loss="non_saturating",
        adversarial_weight=0.1,
        adversarial_warmup=5,
        heatmap_gain=2.0,
        image_gain=0.5,
        crop_scale=2.5,
    )
    fit(model, data)
    model.save(tmp_path / "model.keras")
    again = load_model(tmp_path / "model.keras")
    assert again.get_config() == model.get_config()
    assert int(again.optimizer.iterations) == int(again.discriminator_optimizer.iterations) == 3
    for m in (model, again):
        fit(m, data, epochs=2)
    assert_same(model, again)
    for name in ("optimizer", "discriminator_optimizer"):
        ours, theirs = (getattr(m, name).variables for m in (model, again))
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.slow
class TestKerasCallbacks:
    def test_backup_and_restore_equals_unbroken(self, data, tmp_path):
        class Stop(keras.callbacks.Callback):
            def on_epoch_begin(self, epoch, logs=None):
                if epoch == 2:
                    raise KeyboardInterrupt

        def build():
            return small(dropout=0.2, noise=0.2, adversarial_weight=0.1)

        unbroken = build()
        fit(unbroken, data, epochs=4)
        backup = keras.callbacks.BackupAndRestore
        with pytest.raises(KeyboardInterrupt):
            fit(build(), data, epochs=4, callbacks=[backup(tmp_path), Stop()])
        resumed = build()
        logs = fit(resumed, data, epochs=4, callbacks=[backup(tmp_path)])
        assert len(logs["loss"]) == 2
        for model in (unbroken, resumed):
            assert int(model.optimizer.iterations) == 12
            assert int(model.discriminator_optimizer.iterations) == 12
        assert_same(unbroken, resumed, rtol=1e-6, atol=1e-8)

    def test_model_checkpoint(self, data, tmp_path):
        path = tmp_path / "best.keras"
        best = keras.callbacks.ModelCheckpoint(path, monitor="val_nme", save_best_only=True)
        fit(small(), data, validation_data=(data[0][0], data[1]), callbacks=[best])
        assert type(load_model(path)) is AdversarialLocalizer

    def test_moving_average_of_the_generator(self, data):
        ema = keras.optimizers.Adam(3e-3, use_ema=True, ema_momentum=0.9)
        swap = keras.callbacks.SwapEMAWeights(swap_on_epoch=True)
        averaged, plain = small(optimizer=ema), small()
        fit(averaged, data, epochs=2, callbacks=[swap])
        fit(plain, data, epochs=2)
        assert not np.allclose(averaged.generator.get_weights()[0], plain.get_weights()[0])


@pytest.mark.slow
def test_mixed_bfloat16(data):
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        model = small(adversarial_weight=0.1)
        logs = fit(model, data, epochs=2)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert np.isfinite(list(logs.values())).all()
    exact = fit(small(adversarial_weight=0.1), data, epochs=2)
    assert logs["localization_loss"] == pytest.approx(exact["localization_loss"], rel=0.02)
    assert all(w.dtype == np.float32 for w in model.get_weights() if w.dtype.kind == "f")


@pytest.mark.parametrize(
    ("loss", "peak"),
    [
        (losses.GaussianKL(), "gaussian"),
        (losses.gaussian_kl, "gaussian"),
        ([losses.GaussianKL()], "gaussian"),
        (losses.laplace_kl, "laplace"),
        ([losses.LaplaceKL()], "laplace"),
        (losses.SoftArgmaxLoss(), "laplace"),
    ],
)
def test_true_heatmaps_are_what_the_loss_aims_at(loss, peak, data):
    model = small(loss=loss)
    found = model.true_heatmaps(data[1], SIZE, SIZE)
    expected = heatmaps.render(data[1], SIZE, SIZE, distribution=peak)
    np.testing.assert_array_equal(found, expected)
    other = "gaussian" if peak == "laplace" else "laplace"
    other = heatmaps.render(data[1], SIZE, SIZE, distribution=other)
    assert np.abs(found - other).max() > 0.01


def test_what_was_not_compiled_comes_back_so(tmp_path):
    model = AdversarialLocalizer(RCN(K, 1 / 16, SIZE), PatchGAN(K, 4))
    model.save(tmp_path / "m.keras")
    assert not load_model(tmp_path / "m.keras").compiled


class TestRefused:
    @pytest.mark.parametrize("reduction", ["none", None])
    def test_a_loss_of_many_numbers(self, reduction, data):
        model = small(loss=losses.LaplaceKL(reduction=reduction))
        with pytest.raises(ValueError, match=f"'laplace_kl' with reduction={reduction!r}"):
            fit(model, data)

    def test_averages_that_would_not_reach_the_discriminator(self, data, tmp_path):
        """To train; who predicts with such a file does not mind."""
        model = small(discriminator_optimizer=keras.optimizers.Adam(use_ema=True))
        model.save(tmp_path / "m.keras")
        with pytest.raises(ValueError, match="`discriminator_optimizer` has use_ema"):
            fit(load_model(tmp_path / "m.keras"), data)

    def test_another_k(self):
        with pytest.raises(ValueError, match=r"must take 6 channels.*Received.*8"):
            AdversarialLocalizer(RCN(K, 1 / 16, SIZE), PatchGAN(5, 4))

    @pytest.mark.parametrize(
        ("argument", "message"),
        [
            ({"adversarial_weight": -1}, "adversarial_weight"),
            ({"adversarial_loss": "wasserstein"}, "non_saturating"),
            ({"adversarial_start": -1}, "adversarial_start"),
            ({"heatmap_gain": 0}, "heatmap_gain"),
            ({"image_gain": -1}, "image_gain"),
        ],
    )
    def test_arguments(self, argument, message):
        with pytest.raises(ValueError, match=message):
            AdversarialLocalizer(RCN(K, 1 / 16, SIZE), PatchGAN(K, 4), **argument)

    def test_no_unlabeled_images(self, data):
        with pytest.raises(ValueError, match=r"Expected \(images, unlabeled_images\)"):
            fit(small(), (data[0][0], data[1]))

    def test_other_keys(self, data):
        pair = {"labeled": data[0][0], "extra": data[0][1]}
        with pytest.raises(ValueError, match="'labeled' and 'unlabeled'"):
            fit(small(), (pair, data[1]))

    def test_other_size(self, data):
        (images, unlabeled), y = data
        with pytest.raises(ValueError, match="one size"):
            fit(small(), ((images, unlabeled[:, :8, :8]), y))

    def test_no_labels(self, data):
        with pytest.raises(ValueError, match="no labels"):
            small().fit((part for part in [(data[0],)]), verbose=0)


JAX = """
import json, pathlib, sys
class NoTensorFlow:
    def find_spec(self, name, *_):
        if name.split(".")[0] == "tensorflow":
            raise ImportError(name)
sys.meta_path.insert(0, NoTensorFlow())
import keras, numpy as np
from keras_lapkl import RCN, AdversarialLocalizer, MobileFPN, PatchGAN, load_model, losses, metrics
folder = pathlib.Path(sys.argv[1])
held = np.load(folder / "data.npz")
data = (held["images"], held["unlabeled"]), held["landmarks"]
found = {"backend": keras.backend.backend()}
for kind in ("minimax", "non_saturating"):
    model = load_model(folder / f"{kind}.keras")
    found[kind] = model.fit(*data, batch_size=4, shuffle=False, epochs=2, verbose=0).history
    model.save(folder / f"{kind}-jax.keras")
found["landmarks"] = model.predict(held["images"], verbose=0)["landmarks"].tolist()
again = load_model(folder / "minimax-jax.keras")
again.fit(*data, batch_size=4, shuffle=False, verbose=0)
found["resumed"] = [int(again.optimizer.iterations), int(again.discriminator_optimizer.iterations)]
keras.mixed_precision.set_global_policy("mixed_bfloat16")
model = AdversarialLocalizer(MobileFPN(3, 1 / 16, 16), PatchGAN(3, 4), 0.1)
model.compile(keras.optimizers.Adam(3e-3), losses.LaplaceKL())
found["bfloat16"] = model.fit(*data, batch_size=4, verbose=0).history
found["mean"] = np.asarray(model.generator.get_layer("stem_norm").moving_mean).tolist()
for policy in ("float32", "mixed_float16"):
    keras.mixed_precision.set_global_policy(policy)
    keras.utils.set_random_seed(0)
    model = AdversarialLocalizer(RCN(3, 1 / 16, 16, 0.0), PatchGAN(3, 4), 0.1)
    model.compile(keras.optimizers.SGD(0.1), losses.LaplaceKL(), keras.optimizers.SGD(0.1))
    before = model.generator.get_weights()
    model.fit(*data, batch_size=12, verbose=0)
    moved = [np.sum((a - b) ** 2) for a, b in zip(model.generator.get_weights(), before)]
    found[policy] = float(np.sum(moved) ** 0.5)
keras.mixed_precision.set_global_policy("float32")
for part in ("generator", "discriminator"):
    model = load_model(folder / "minimax.keras")
    for variable in getattr(model, part).trainable_variables:
        variable.regularizer = keras.regularizers.L2(0.5)
    model.fit(*data, batch_size=12, verbose=0)
    found[part] = [np.asarray(v).tolist() for v in getattr(model, part).trainable_variables]
    model = load_model(folder / "minimax.keras")
    getattr(model, part).trainable = False
    model.compile("sgd", losses.LaplaceKL())
    found[f"{part} frozen"] = model.fit(*data, batch_size=12, verbose=0).history
keras.mixed_precision.set_global_policy("float32")
model = load_model(folder / "minimax.keras")
model.compile(keras.optimizers.SGD(0.1, gradient_accumulation_steps=2), losses.LaplaceKL())
model.fit(*data, batch_size=4, verbose=0)
found["accumulated"] = int(model.optimizer.iterations)
model.compile(keras.optimizers.Adam(use_ema=True), losses.LaplaceKL())
try:
    model.fit(*data, batch_size=4, verbose=0)
except ValueError as error:
    found["ema"] = str(error)
(folder / "found.json").write_text(json.dumps(found))
"""


@pytest.fixture(scope="module")
def jax_run(tmp_path_factory):
    """What the same models learn under JAX, in a process that can't import TensorFlow."""
    pytest.importorskip("jax", reason="needs the extra: pip install 'keras_lapkl[jax]'")
    folder = tmp_path_factory.mktemp("jax")
    rng = np.random.default_rng(0)
    images, unlabeled = (rng.random((12, SIZE, SIZE, 3)).astype(np.float32) for _ in range(2))
    landmarks = rng.uniform(0, SIZE - 1, (12, K, 2)).astype(np.float32)
    np.savez(folder / "data.npz", images=images, unlabeled=unlabeled, landmarks=landmarks)
    for kind in adversarial.ADVERSARIAL_LOSSES:
        model = small(**sgd(), adversarial_loss=kind, adversarial_weight=0.5, eager=False)
        model.save(folder / f"{kind}.keras")

    done = subprocess.run(
        [sys.executable, "-c", JAX, str(folder)],
        env={
            **os.environ,
            "KERAS_BACKEND": "jax",
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": "--xla_backend_optimization_level=0",  # compiles sooner
        },
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return folder, json.loads((folder / "found.json").read_text()), ((images, unlabeled), landmarks)


class TestJax:
    @pytest.mark.slow
    @pytest.mark.parametrize("kind", adversarial.ADVERSARIAL_LOSSES)
    def test_learns_what_tensorflow_learns(self, jax_run, kind):
        folder, found, data = jax_run
        assert found["backend"] == "jax"
        model = load_model(folder / f"{kind}.keras")
        logs = fit(model, data, epochs=2)
        assert found[kind].keys() == logs.keys()
        for name in logs:
            assert found[kind][name] == pytest.approx(logs[name], rel=1e-3), name
        assert_same(load_model(folder / f"{kind}-jax.keras"), model, rtol=1e-3, atol=1e-5)

    def test_resumes_with_both_optimizers(self, jax_run):
        assert jax_run[1]["resumed"] == [9, 9]

    def test_predicts_what_tensorflow_predicts(self, jax_run):
        folder, found, data = jax_run
        model = load_model(folder / "non_saturating-jax.keras")  # the last that it trained
        expected = model.predict(data[0][0], verbose=0)["landmarks"]
        np.testing.assert_allclose(found["landmarks"], expected, atol=1e-3)

    @pytest.mark.slow
    def test_weights_cross_over_and_convert(self, jax_run, tmp_path):
        folder, _, data = jax_run
        model = load_model(folder / "minimax-jax.keras")
        assert int(model.discriminator_optimizer.iterations) == 6
        path = tmp_path / "model.tflite"
        tflite.convert(model.localizer(), path, "float32", faces=data[0][0])
        np.testing.assert_allclose(
            tflite.TFLiteLocalizer(path).predict(data[0][0])["landmarks"],
            model.predict(data[0][0], verbose=0)["landmarks"],
            atol=1e-3,
        )

    def test_loss_scale_of_mixed_float16(self, jax_run):
        assert jax_run[1]["mixed_float16"] == pytest.approx(jax_run[1]["float32"], rel=0.05)

    @pytest.mark.parametrize("part", ["generator", "discriminator"])
    def test_regularizers(self, jax_run, part):
        folder, found, data = jax_run
        model = load_model(folder / "minimax.keras")
        regularized(getattr(model, part))
        model.run_eagerly = True
        step(model, data)
        variables = getattr(model, part).trainable_variables
        for variable, other in zip(variables, found[part], strict=True):
            np.testing.assert_allclose(variable, other, rtol=1e-3, atol=1e-5)

    def test_accumulated_gradients(self, jax_run):
        assert jax_run[1]["accumulated"] == 1  # of 3 batches

    def test_averages_of_weights_are_refused(self, jax_run):
        assert "`optimizer` has use_ema" in jax_run[1]["ema"]

    @pytest.mark.parametrize("part", ["generator", "discriminator"])
    def test_frozen(self, jax_run, part):
        assert np.isfinite(list(jax_run[1][f"{part} frozen"].values())).all()

    def test_mixed_bfloat16_with_batch_normalization(self, jax_run):
        assert np.isfinite(list(jax_run[1]["bfloat16"].values())).all()
        assert np.isfinite(jax_run[1]["mean"]).all() and np.any(jax_run[1]["mean"])
