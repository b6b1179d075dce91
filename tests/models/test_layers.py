import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import ops

from keras_lapkl.models import layers


@pytest.fixture
def seed():
    return keras.random.SeedGenerator(0)


def normal(count, seed):
    return ops.convert_to_numpy(layers.random_normal((count,), 1.0, seed)).astype(np.float64)


def test_random_bytes(seed):
    drawn = ops.convert_to_numpy(layers.random_bytes((1000, 255), seed))
    assert drawn.dtype == np.int8 and drawn.shape == (1000, 255)
    counts = np.bincount(drawn.ravel().astype(int) + 128, minlength=256)
    chi_squared = (np.square(counts - drawn.size / 256) / (drawn.size / 256)).sum()
    assert 168 < chi_squared < 360  # 255 degrees of freedom, within 1e-5 of either end


class TestRandomNormal:
    def test_moments(self, seed):
        z = normal(4_000_000, seed)
        assert abs(z.mean()) < 5 / 2000
        assert abs(z.var() - 1) < 5 * np.sqrt(2) / 2000
        assert abs((z**3).mean()) < 5 * np.sqrt(15) / 2000
        assert (z**4).mean() == pytest.approx(3 - 1.2 / 64, abs=5 * np.sqrt(96) / 2000)

    def test_tails(self, seed):
        z = abs(normal(4_000_000, seed))
        for limit, share in ((1, 0.31731), (2, 0.04550), (3, 0.0027), (4, 6.33e-5)):
            assert (z > limit).mean() == pytest.approx(share, rel=0.2 if limit == 4 else 0.05)
        assert 4.5 < z.max() < 6.5

    def test_hardly_dependent(self, seed):
        z = normal(64 * 50_000, seed).reshape(-1, 64)
        values, squares = np.corrcoef(z, rowvar=False), np.corrcoef(z**2, rowvar=False)
        pairs = np.triu_indices(64, 1)
        assert abs(values[pairs]).max() < 5.5 / np.sqrt(50_000)
        assert squares[pairs].mean() == pytest.approx(-0.6 / 64, abs=1e-3)
        between = np.corrcoef(z[:-1].ravel(), z[1:].ravel())[0, 1]
        assert abs(between) < 5 / np.sqrt(z.size)
        # A sum over a block is as good a normal: no single byte shows through.
        totals = z.sum(1) / 8
        assert totals.var() == pytest.approx(1, abs=0.03)
        assert (totals**4).mean() == pytest.approx(3, abs=0.15)

    def test_shapes_and_scale(self, seed):
        z = ops.convert_to_numpy(layers.random_normal((3, 5, 7), 0.2, seed))
        assert z.shape == (3, 5, 7) and z.dtype == np.float32
        assert 0.1 < z.std() < 0.3
        half = layers.random_normal((65,), 1.0, seed, "bfloat16")
        assert keras.backend.standardize_dtype(half.dtype) == "bfloat16"


class TestDropout:
    @pytest.mark.parametrize("rate", [0.001, 0.2, 0.5, 0.999])
    def test_rate_is_exact(self, rate):
        layer = layers.Dropout(rate, seed=0)
        ones = np.ones((100, 1003), np.float32)
        seen = np.stack([layer(ones, training=True) for _ in range(200)])
        np.testing.assert_allclose(np.unique(seen), [0, 1 / (1 - rate)], rtol=1e-6)
        # The share of one call is a 256th or the next; of the calls together, the rate.
        limit = 5 * np.sqrt(0.25 / 256**2 / 200 + rate * (1 - rate) / seen.size)
        assert abs((seen == 0).mean() - rate) < limit

    def test_independent(self):
        seen = np.array(layers.Dropout(0.2, seed=0)(np.ones((200_000, 12)), training=True)) > 0
        correlation = np.corrcoef(seen, rowvar=False)[np.triu_indices(12, 1)]
        assert abs(correlation).max() < 5 / np.sqrt(200_000)

    def test_gradient_is_the_mask(self):
        tf = pytest.importorskip("tensorflow")
        x = tf.random.normal((4, 9))
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layers.Dropout(0.5, seed=1)(x, training=True)
        np.testing.assert_allclose(tape.gradient(y, x) * x, y)

    def test_each_call_differs_and_a_seed_repeats(self):
        ones = np.ones((2, 50))
        layer = layers.Dropout(0.5, seed=3)
        first, second = layer(ones, training=True), layer(ones, training=True)
        assert not np.array_equal(first, second)
        again = layers.Dropout.from_config(layer.get_config())
        np.testing.assert_array_equal(again(ones, training=True), first)
        np.testing.assert_array_equal(layer(ones), ones)


class TestGaussianNoise:
    def test_only_in_training(self):
        layer = layers.GaussianNoise(0.2, seed=0)
        zeros = np.zeros((50, 40, 3), np.float32)
        np.testing.assert_array_equal(layer(zeros), zeros)
        assert np.std(layer(zeros, training=True)) == pytest.approx(0.2, rel=0.05)
        again = layers.GaussianNoise.from_config(layer.get_config())
        np.testing.assert_array_equal(
            again(zeros, training=True),
            layers.GaussianNoise(0.2, seed=0)(zeros, training=True),
        )


class TestConv2D:
    @pytest.mark.parametrize(
        "kwargs",
        [
            {"kernel_size": 1},
            {"kernel_size": 1, "use_bias": False, "activation": "relu"},
            {"kernel_size": 1, "strides": 2},
            {"kernel_size": 1, "groups": 3},
            {"kernel_size": 3, "padding": "same"},
        ],
    )
    def test_trains_as_it_predicts(self, kwargs, rng):
        tf = pytest.importorskip("tensorflow")
        x = tf.constant(rng.normal(size=(2, 8, 6, 3)).astype(np.float32))
        layer = layers.Conv2D(6, bias_initializer="normal", **kwargs)
        layer.build(x.shape)
        found = []
        for training in (False, True):
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = layer(x, training=training)
                loss = tf.reduce_sum(tf.sin(y))
            found.append([y, *tape.gradient(loss, [x, *layer.trainable_variables])])
        for a, b in zip(*found, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)

    def test_mixed_precision(self):
        layer = layers.Conv2D(2, 1, dtype="mixed_bfloat16")
        assert layer(np.ones((1, 2, 2, 3)), training=True).dtype == "bfloat16"


def test_weights_stand_in_files_as_keras_layers_do(tmp_path, rng):
    """What was saved before these layers were here still loads, and the other way round."""

    def model(module):
        inputs = keras.Input((4, 4, 3))
        x = module.Conv2D(2, 1)(inputs)
        x = keras.layers.Conv2D(2, 3)(module.GaussianNoise(0.1)(x))
        return keras.Model(inputs, module.Conv2D(1, 1)(module.Dropout(0.1)(x)))

    old, new = model(keras.layers), model(layers)
    x = rng.normal(size=(1, 4, 4, 3)).astype(np.float32)
    for source, target in ((old, new), (new, model(keras.layers))):
        source.save_weights(tmp_path / "m.weights.h5")
        target.load_weights(tmp_path / "m.weights.h5")
        np.testing.assert_allclose(source(x), target(x), rtol=1e-6)


@pytest.mark.slow
def test_on_jax():
    pytest.importorskip("jax")
    code = """
import keras, numpy as np
from keras_lapkl import heatmaps
from keras_lapkl.models import layers
import jax
x = np.ones((8, 10, 10, 5), "float32")
y = np.array(layers.Dropout(0.2, seed=0)(x, training=True))
assert abs((y == 0).mean() - 0.2) < 0.03 and y.max() == 1.25
z = np.array(layers.GaussianNoise(0.2, seed=0)(0 * x, training=True))
assert abs(z.std() - 0.2) < 0.02 and abs(z.mean()) < 0.02
c = layers.Conv2D(3, 1)
np.testing.assert_allclose(c(x, training=True), c(x), rtol=1e-5)
logits = np.random.default_rng(0).normal(size=(2, 5, 6, 3)).astype("float32")
decoded = lambda l: sum(v.sum() for v in heatmaps.decode(l, 1.3))
def plain(l):
    p = heatmaps.probabilities(l, 1.3)
    return (heatmaps.location(p) + heatmaps.scale(p)).sum()
np.testing.assert_allclose(jax.grad(decoded)(logits), jax.grad(plain)(logits), atol=1e-5)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "KERAS_BACKEND": "jax"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


class TestBatchNormalization:
    @pytest.mark.parametrize("trainable", [True, False])
    def test_trains_as_keras_own(self, rng, trainable):
        import tensorflow as tf

        x = tf.constant(rng.normal(2, 3, (4, 6, 5, 3)).astype(np.float32))
        upstream = tf.constant(rng.normal(size=x.shape).astype(np.float32))
        found = []
        for kind in (layers.BatchNormalization, keras.layers.BatchNormalization):
            layer = kind(momentum=0.9, epsilon=1e-2, trainable=trainable)
            layer.build(x.shape)
            layer.set_weights([w + 0.1 * i for i, w in enumerate(layer.get_weights())])
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = layer(x, training=True)
            gradients = tape.gradient(y, [x, *layer.trainable_variables], upstream)
            found.append([y, *gradients, *layer.variables, layer(x)])
        for ours, theirs in zip(*found, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)

    @pytest.mark.parametrize(
        "kwargs", [{"scale": False}, {"center": False}, {"axis": 1}, {"dtype": "mixed_bfloat16"}]
    )
    def test_what_the_kernel_does_not_do_is_keras_own(self, rng, kwargs):
        x = rng.normal(2, 3, (4, 6, 5, 3)).astype(np.float32)
        found = []
        for kind in (layers.BatchNormalization, keras.layers.BatchNormalization):
            layer = kind(**kwargs)
            found.append([layer(x, training=True), *layer.variables])
        for ours, theirs in zip(*found, strict=True):
            np.testing.assert_array_equal(ops.cast(ours, "float32"), ops.cast(theirs, "float32"))
