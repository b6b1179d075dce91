import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_lapkl import heatmaps, losses
from keras_lapkl.registries import LOSSES

ALL = list(LOSSES.values())
KL = {"laplace": losses.laplace_kl_divergence, "gaussian": losses.gaussian_kl_divergence}


@pytest.fixture
def batch(rng):
    y_true = rng.uniform(0, 8, (3, 4, 2)).astype(np.float32)
    logits = rng.normal(size=(3, 9, 9, 4)).astype(np.float32) * 2
    return y_true, logits


def gradient(loss, y_true, logits):
    logits = tf.Variable(logits)
    with tf.GradientTape() as tape:
        value = loss(y_true, logits)
    return value.numpy(), tape.gradient(value, logits).numpy()


class TestDivergence:
    @pytest.mark.parametrize(
        ("delta", "b", "b0", "expected"),
        [
            (0.0, 1.0, 1.0, 0.0),
            (0.0, 2.0, 1.0, np.log(0.5) + 2 - 1),
            (2.0, 1.0, 1.0, np.exp(-2) + 2 - 1),
            (-3.0, 0.5, 2.0, np.log(4) + (0.5 * np.exp(-6) + 3) / 2 - 1),
        ],
    )
    def test_laplace_by_hand(self, delta, b, b0, expected):
        value = losses.laplace_kl_divergence(*(tf.constant(v, tf.float32) for v in (delta, b)), b0)
        assert float(value) == pytest.approx(expected, abs=1e-6)

    @pytest.mark.parametrize(
        ("delta", "sigma", "sigma0", "expected"),
        [
            (0.0, 1.0, 1.0, 0.0),
            (2.0, 1.0, 1.0, 2.0),
            (-1.0, 2.0, 0.5, np.log(0.25) + 5 / 0.5 - 0.5),
        ],
    )
    def test_gaussian_by_hand(self, delta, sigma, sigma0, expected):
        value = losses.gaussian_kl_divergence(
            *(tf.constant(v, tf.float32) for v in (delta, sigma)), sigma0
        )
        assert float(value) == pytest.approx(expected, abs=1e-6)

    @pytest.mark.parametrize(
        ("delta", "b", "b0"), [(0.0, 2.0, 1.0), (1.5, 0.7, 1.0), (-4.0, 3.0, 2.0)]
    )
    @pytest.mark.parametrize("distribution", ["laplace", "gaussian"])
    def test_monte_carlo(self, distribution, delta, b, b0):
        rng = np.random.default_rng(1)
        draw = rng.laplace if distribution == "laplace" else rng.normal
        x = draw(delta, b, 2_000_000)

        def log_density(x, mean, scale):
            z = (x - mean) / scale
            if distribution == "laplace":
                return -np.abs(z) - np.log(2 * scale)
            return -(z**2) / 2 - np.log(scale * np.sqrt(2 * np.pi))

        sampled = (log_density(x, delta, b) - log_density(x, 0, b0)).mean()
        exact = KL[distribution](tf.constant(delta), tf.constant(b), b0)
        assert float(exact) == pytest.approx(sampled, rel=0.01)

    @pytest.mark.parametrize("distribution", ["laplace", "gaussian"])
    def test_zero_only_at_the_target(self, distribution):
        delta, b = np.meshgrid(np.linspace(-3, 3, 61), np.linspace(0.05, 4, 80), indexing="ij")
        value = KL[distribution](tf.constant(delta), tf.constant(b), 1.0).numpy()
        assert value.min() == pytest.approx(0, abs=1e-9)
        near = (abs(delta) < 1e-9) & (abs(b - 1) < 1e-9)
        assert near.sum() == 1 and (value[~near] > 1e-4).all()

    @pytest.mark.parametrize(
        ("delta", "best"), [(0, 1), (0.5, 1.085), (1, 1.24), (2, 1.57), (5, 2.48), (10, 3.81)]
    )
    def test_best_scale_grows_with_the_error(self, delta, best):
        b = np.linspace(0.5, 5, 4501)
        value = losses.laplace_kl_divergence(tf.constant(float(delta), tf.float64), tf.constant(b))
        assert b[np.argmin(value)] == pytest.approx(best, abs=0.006)


class TestValues:
    def test_constant_map_by_hand(self):
        flat, y = np.zeros((1, 5, 5, 1), np.float32), np.array([[[2.0, 2.0]]])
        assert float(losses.LaplaceKL()(y, flat)) == pytest.approx(
            2 * (np.log(5 / 6) + 0.2), abs=1e-6
        )
        assert float(losses.GaussianKL()(y, flat)) == pytest.approx(1 - np.log(2), abs=1e-6)
        assert float(losses.SoftArgmaxLoss()(np.array([[[5.0, 6.0]]]), flat)) == pytest.approx(5)

    @pytest.mark.parametrize("scale", heatmaps.SCALES)
    def test_kl_follows_from_decode(self, batch, scale):
        y_true, logits = batch
        for cls, name in ((losses.LaplaceKL, "laplace"), (losses.GaussianKL, "gaussian")):
            location, spread = heatmaps.decode(logits, 0.8, name, scale)
            expected = KL[name](location - y_true, spread, 1.5)
            expected = expected.numpy().sum(-1).mean()
            loss = cls(target_scale=1.5, scale=scale, beta=0.8)
            assert float(loss(y_true, logits)) == pytest.approx(expected, rel=1e-5)

    def test_softargmax_follows_from_decode(self, batch):
        y_true, logits = batch
        location, _ = heatmaps.decode(logits, 0.5)
        expected = np.linalg.norm(location - y_true, axis=-1).mean()
        loss = losses.SoftArgmaxLoss(beta=0.5)
        assert float(loss(y_true, logits)) == pytest.approx(expected, rel=1e-5)

    def test_reductions(self, batch):
        y_true, logits = batch
        for cls in ALL:
            each = cls(reduction="none")(y_true, logits).numpy()
            assert each.shape == (3,)
            assert float(cls(reduction="sum")(y_true, logits)) == pytest.approx(
                each.sum(), rel=1e-5
            )
            assert float(cls()(y_true, logits)) == pytest.approx(each.mean(), rel=1e-5)
            weighted = cls()(y_true, logits, sample_weight=np.array([1.0, 0.0, 2.0]))
            expected = (each[0] + 2 * each[2]) / 3
            assert float(weighted) == pytest.approx(expected, rel=1e-5)

    def test_weights_of_landmarks_are_refused(self, batch):
        """As many faces as landmarks: Keras would broadcast them."""
        y_true, logits = batch
        count = y_true.shape[1]
        square = [np.resize(each, (count, *each.shape[1:])) for each in (y_true, logits)]
        for cls in ALL:
            column = cls()(*square, sample_weight=np.arange(count)[:, None])
            assert float(column) == pytest.approx(float(cls()(*square, np.arange(count))))
            assert float(cls()(*square, 2)) == pytest.approx(2 * float(cls()(*square)))
            assert float(cls()(*square, [1.0] * count)) == pytest.approx(float(cls()(*square)))
            with pytest.raises(ValueError, match=r"one for each face.*visibility 0"):
                cls()(*square, sample_weight=np.ones((count, count)))

    def test_bfloat16_logits(self, batch):
        y_true, logits = batch
        half = tf.cast(logits, tf.bfloat16)
        for cls in ALL:
            exact = float(cls()(y_true, tf.cast(half, tf.float32)))
            assert float(cls()(y_true, half)) == pytest.approx(exact, rel=1e-6)


class TestHidden:
    def test_by_one_coordinate(self):
        points = np.array([[[3.0, np.nan], [np.inf, 1.0], [1.0, 2.0]]])
        landmarks, visible = losses.split_visible(points)
        assert visible.numpy().tolist() == [[0, 0, 1]]
        assert landmarks.numpy().tolist() == [[[0, 0], [0, 0], [1, 2]]]

    @pytest.mark.parametrize("cls", ALL)
    def test_equals_the_loss_of_the_visible_ones(self, cls, batch):
        y_true, logits = batch
        flagged = np.concatenate([y_true, np.ones((3, 4, 1), np.float32)], -1)
        flagged[:, 2, 2] = 0
        nan = y_true.copy()
        nan[:, 2] = np.nan
        rest = [0, 1, 3]
        expected, expected_gradient = gradient(cls(), y_true[:, rest], logits[..., rest])
        for labels in (flagged, nan):
            value, slope = gradient(cls(), labels, logits)
            assert value == pytest.approx(expected, rel=1e-5)
            np.testing.assert_allclose(slope[..., rest], expected_gradient, rtol=1e-4, atol=1e-8)
            assert (slope[..., 2] == 0).all()

    @pytest.mark.parametrize("cls", ALL)
    def test_hidden_label_does_not_matter(self, cls, batch):
        y_true, logits = batch
        flagged = np.concatenate([y_true, np.ones((3, 4, 1), np.float32)], -1)
        flagged[1, 0, 2] = 0
        before = gradient(cls(), flagged, logits)
        flagged[1, 0, :2] = (1e6, np.inf)
        after = gradient(cls(), flagged, logits)
        assert before[0] == after[0]
        np.testing.assert_array_equal(before[1], after[1])

    @pytest.mark.parametrize("cls", ALL)
    @pytest.mark.parametrize("hide", ["nan", "flag"])
    def test_none_visible_gives_zero(self, cls, hide, batch):
        _, logits = batch
        labels = np.full((3, 4, 2), np.nan) if hide == "nan" else np.zeros((3, 4, 3))
        value, slope = gradient(cls(), labels, logits)
        assert value == 0 and (slope == 0).all()


class TestGradient:
    @pytest.mark.parametrize("cls", ALL)
    @pytest.mark.parametrize("scale", heatmaps.SCALES)
    def test_finite_differences(self, cls, scale, batch):
        if cls is losses.SoftArgmaxLoss and scale == "joint":
            pytest.skip("softargmax has no scale")
        y_true, logits = batch
        loss = cls() if cls is losses.SoftArgmaxLoss else cls(scale=scale)
        _, slope = gradient(loss, y_true, logits)
        rng = np.random.default_rng(2)
        for _ in range(4):
            way = rng.normal(size=logits.shape).astype(np.float32)
            step = 2e-3
            up = float(loss(y_true, logits + step * way))
            down = float(loss(y_true, logits - step * way))
            assert (up - down) / (2 * step) == pytest.approx(
                (slope * way).sum(), rel=5e-3, abs=6e-3
            )

    @pytest.mark.parametrize("cls", ALL)
    @pytest.mark.parametrize("error", [0.0, 1e3])
    def test_finite_at_one_hot_maps_and_far_labels(self, cls, error):
        logits = np.full((1, 8, 8, 1), -200.0, np.float32)
        logits[0, 3, 3, 0] = 200
        value, slope = gradient(cls(), np.array([[[3 + error, 3 - error]]]), logits)
        assert np.isfinite(value) and np.isfinite(slope).all()

    @pytest.mark.parametrize("cls", ALL)
    def test_finite_at_constant_maps_far_labels(self, cls):
        value, slope = gradient(
            cls(), np.array([[[1e3, -1e3]]]), np.zeros((1, 8, 8, 1), np.float32)
        )
        assert np.isfinite(value) and np.isfinite(slope).all() and (slope != 0).any()


@pytest.mark.parametrize("cls", ALL)
def test_config_round_trip(cls, batch):
    arguments = {"beta": 0.5, "reduction": "sum"}
    if cls is not losses.SoftArgmaxLoss:
        arguments |= {"target_scale": 2.0, "scale": "joint"}
    loss = cls(**arguments)
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert type(again) is cls and again.get_config() == loss.get_config()
    assert float(again(*batch)) == float(loss(*batch))


@pytest.mark.parametrize(
    "call",
    [
        lambda: losses.LaplaceKL(target_scale=0),
        lambda: losses.GaussianKL(beta=-1),
        lambda: losses.SoftArgmaxLoss(beta=0),
        lambda: losses.LaplaceKL(scale="xy"),
        lambda: losses.LaplaceKL()(np.zeros((1, 3, 2)), np.zeros((1, 4, 4, 2))),
        lambda: losses.LaplaceKL()(np.zeros((1, 3, 4)), np.zeros((1, 4, 4, 3))),
    ],
)
def test_bad_arguments(call):
    with pytest.raises(ValueError, match="Received"):
        call()


@pytest.mark.slow
def test_perfect_landmarks_have_finite_gradients_on_jax():
    """Its square root has none at 0; TensorFlow's kernel hides that."""
    pytest.importorskip("jax", reason="needs the extra: pip install 'keras_lapkl[jax]'")
    code = (
        "import jax, numpy as np; from keras_lapkl import losses\n"
        "logits = np.full((1, 8, 8, 1), -200.0, np.float32); logits[0, 3, 3, 0] = 200\n"
        "at = np.array([[[3.0, 3.0]]], np.float32)\n"
        "for loss in (losses.softargmax_loss, losses.laplace_kl, losses.gaussian_kl):\n"
        "    slope = jax.grad(lambda x: loss(at, x)[0])(logits)\n"
        "    assert np.isfinite(slope).all(), loss\n"
    )
    subprocess.run(
        [sys.executable, "-c", code], check=True, env={**os.environ, "KERAS_BACKEND": "jax"}
    )


def test_labels_are_not_rounded_to_half_floats():
    """Of a label at 100.13 by 0.13, by 0.27 of one at 100.27."""
    logits = np.full((1, 128, 128, 1), -50.0, np.float32)
    logits[0, 100, 100] = 50
    label = np.array([[[100.13, 100.27]]])
    keras.config.set_floatx("float16")
    try:
        loss = float(losses.SoftArgmaxLoss()(label, logits))
    finally:
        keras.config.set_floatx("float32")
    assert loss == pytest.approx(np.hypot(0.13, 0.27), abs=1e-5)
    for cls in (losses.SoftArgmaxLoss, losses.LaplaceKL, losses.GaussianKL):
        for dtype in ("float16", "mixed_bfloat16"):
            with pytest.raises(ValueError, match="compute in float32, also under mixed"):
                cls(dtype=dtype)


def test_labels_of_an_unknown_number_of_points():
    @tf.function(input_signature=[tf.TensorSpec((None, None, 2))])
    def loss(labels):
        return losses.laplace_kl(labels, tf.zeros((1, 8, 8, 3)))

    with pytest.raises(ValueError, match=r"how many points they have.*ensure_shape"):
        loss(np.zeros((1, 3, 2), np.float32))


@pytest.mark.parametrize(
    "function", [losses.laplace_kl, losses.gaussian_kl, losses.softargmax_loss]
)
def test_one_landmark_by_a_function(function, rng):
    """Keras takes the last axis from what it gives to functions, if that is 1."""
    y_true = rng.uniform(0, 7, (4, 1, 2)).astype(np.float32)
    logits = rng.normal(size=(4, 8, 8, 1)).astype(np.float32)
    expected = np.asarray(function(y_true, logits))
    np.testing.assert_array_equal(function(y_true, logits[..., 0]), expected)
    joined = np.concatenate([logits.max(1), logits.max(2)], axis=1)
    assert np.shape(function(y_true, joined)) == (4,)
    model = keras.Sequential([keras.Input((8, 8, 1))])
    model.compile(loss=function)
    assert model.evaluate(logits, y_true, verbose=0) == pytest.approx(expected.mean(), rel=1e-5)
