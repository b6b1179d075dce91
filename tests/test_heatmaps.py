import keras
import numpy as np
import pytest
from keras import ops

from keras_lapkl import heatmaps


def loop_moments(p):
    """Location, b and σ of (B, H, W, K) heatmaps by the definition, pixel by pixel."""
    y, x = np.mgrid[: p.shape[1], : p.shape[2]].astype(np.float64)
    grid = np.stack([x, y], -1)[None, :, :, None, :]
    weights = p[..., None].astype(np.float64)
    mean = (weights * grid).sum((1, 2))
    offset = grid - mean[:, None, None]
    b = (weights * abs(offset)).sum((1, 2))
    sigma = np.sqrt((weights * offset**2).sum((1, 2)))
    return mean, b, sigma


@pytest.fixture
def logits(rng):
    return rng.normal(size=(2, 7, 11, 3)).astype(np.float32) * 3


def test_probabilities_are_a_softmax_over_pixels(logits):
    p = ops.convert_to_numpy(heatmaps.probabilities(logits, beta=0.7))
    e = np.exp(0.7 * logits.astype(np.float64))
    np.testing.assert_allclose(p, e / e.sum((1, 2), keepdims=True), rtol=1e-5)


def test_location_and_scales_by_definition(logits):
    p = ops.convert_to_numpy(heatmaps.probabilities(logits))
    mean, b, sigma = loop_moments(p)
    np.testing.assert_allclose(heatmaps.location(p), mean, rtol=1e-5)
    np.testing.assert_allclose(heatmaps.scale(p), b, rtol=1e-5)
    np.testing.assert_allclose(heatmaps.scale(p, "gaussian"), sigma, rtol=1e-5)
    joint = np.repeat(b.mean(-1, keepdims=True), 2, -1)
    np.testing.assert_allclose(heatmaps.scale(p, reduce="joint"), joint, rtol=1e-5)
    joint = np.repeat(np.sqrt((sigma**2).mean(-1, keepdims=True)), 2, -1)
    np.testing.assert_allclose(heatmaps.scale(p, "gaussian", "joint"), joint, rtol=1e-5)


@pytest.mark.parametrize("distribution", ["laplace", "gaussian"])
@pytest.mark.parametrize("reduce", ["axis", "joint"])
def test_decode_axes_equals_decode_of_their_sum(rng, distribution, reduce):
    columns = rng.normal(0, 3, (2, 7, 3)).astype(np.float32)
    rows = rng.normal(0, 3, (2, 5, 3)).astype(np.float32)
    how = {"beta": 1.5, "distribution": distribution, "reduce": reduce}
    found = heatmaps.decode_axes(columns, rows, **how)
    expected = heatmaps.decode(columns[:, None] + rows[:, :, None], **how)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("distribution", heatmaps.DISTRIBUTIONS)
@pytest.mark.parametrize("reduce", heatmaps.SCALES)
def test_decode_equals_its_parts(logits, distribution, reduce):
    p = heatmaps.probabilities(logits, 1.3)
    location, scale = heatmaps.decode(logits, 1.3, distribution, reduce)
    np.testing.assert_allclose(location, heatmaps.location(p), rtol=1e-5)
    np.testing.assert_allclose(scale, heatmaps.scale(p, distribution, reduce), rtol=1e-5)


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (1, 1, 9, 2), (3, 5, 1, 1), (1, 16, 8, 68)])
def test_any_shape(shape):
    location, scale = heatmaps.decode(np.zeros(shape, np.float32))
    np.testing.assert_allclose(location[0, 0], [(shape[2] - 1) / 2, (shape[1] - 1) / 2], atol=1e-5)
    assert np.isfinite(scale).all()


def test_one_hot_map_is_clamped_not_nan():
    logits = np.full((1, 6, 6, 1), -1e4, np.float32)
    logits[0, 4, 2, 0] = 1e4
    for distribution in heatmaps.DISTRIBUTIONS:
        location, scale = heatmaps.decode(logits, distribution=distribution)
        np.testing.assert_allclose(location, [[[2, 4]]])
        np.testing.assert_allclose(scale, np.full((1, 1, 2), heatmaps.MIN_SCALE), rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_computed_in_float32(logits, dtype):
    half = ops.cast(logits, dtype)
    location, scale = heatmaps.decode(half)
    assert keras.backend.standardize_dtype(location.dtype) == "float32"
    exact = heatmaps.decode(ops.cast(half, "float32"))
    np.testing.assert_array_equal(location, exact[0])
    np.testing.assert_array_equal(scale, exact[1])
    np.testing.assert_array_equal(
        heatmaps.probabilities(half), heatmaps.probabilities(ops.cast(half, "float32"))
    )


class TestRender:
    def test_sums_to_one_and_is_laplace(self):
        p = ops.convert_to_numpy(heatmaps.render([[[4.25, 3.0]]], 8, 10))
        y, x = np.mgrid[:8, :10]
        expected = np.exp(-abs(x - 4.25) - abs(y - 3.0))
        np.testing.assert_allclose(p[0, :, :, 0], expected / expected.sum(), rtol=1e-5)

    def test_gaussian(self):
        p = ops.convert_to_numpy(
            heatmaps.render([[[4.25, 3.0]]], 8, 10, 1.5, distribution="gaussian")
        )
        y, x = np.mgrid[:8, :10]
        expected = np.exp(-((x - 4.25) ** 2 + (y - 3.0) ** 2) / (2 * 1.5**2))
        np.testing.assert_allclose(p[0, :, :, 0], expected / expected.sum(), rtol=1e-5)

    @pytest.mark.parametrize(("offset", "b"), [(0.0, 0.851), (0.25, 1.017), (0.5, 1.082)])
    def test_sampled_spread_off_the_grid(self, offset, b):
        p = heatmaps.render([[[40 + offset, 40 + offset]]], 80, 80)
        np.testing.assert_allclose(heatmaps.scale(p), np.full((1, 1, 2), b), atol=1e-3)
        np.testing.assert_allclose(heatmaps.location(p)[0, 0], 40 + offset, atol=0.0151)

    def test_mean_moves_inwards_at_the_border(self):
        location = heatmaps.location(heatmaps.render([[[0.0, 40.0]]], 80, 80))
        assert float(location[0, 0, 0]) == pytest.approx(0.58, abs=0.005)

    def test_hidden_landmark_is_uniform_even_if_nan(self):
        landmarks = [[[np.nan, np.nan], [3.0, 3.0]]]
        p = ops.convert_to_numpy(heatmaps.render(landmarks, 5, 4, visible=[[0, 1]]))
        np.testing.assert_allclose(p[0, :, :, 0], 1 / 20, rtol=1e-6)
        assert np.isfinite(p).all()

    def test_scale_for_each_axis_and_landmark(self):
        scale = np.array([[[0.5, 2.0]]])
        p = heatmaps.render([[[40.5, 40.5]]], 80, 80, scale)
        narrow, wide = np.array(heatmaps.scale(p))[0, 0]
        assert narrow < 0.8 < 1.8 < wide

    def test_round_trip_through_decode(self, rng):
        landmarks = rng.uniform(10, 70, (2, 5, 2))
        p = heatmaps.render(landmarks, 80, 80)
        location, _ = heatmaps.decode(ops.log(p))
        np.testing.assert_allclose(location, landmarks, atol=0.02)


@pytest.mark.parametrize(
    "call",
    [
        lambda: heatmaps.probabilities(np.zeros((5, 5))),
        lambda: heatmaps.location(np.zeros((5, 5, 3))),
        lambda: heatmaps.scale(np.ones((1, 2, 2, 1)), "cauchy"),
        lambda: heatmaps.scale(np.ones((1, 2, 2, 1)), reduce="both"),
        lambda: heatmaps.render([[[0.0, 0.0]]], 4, 4, distribution="cauchy"),
    ],
)
def test_bad_arguments(call):
    with pytest.raises(ValueError, match="Received"):
        call()


class TestJoinedAxes:
    def test_decode_as_the_map_of_their_sums(self, rng):
        columns, rows = rng.normal(0, 3, (2, 4, 9, 5)).astype(np.float32)
        joined = heatmaps.join_axes(columns, rows)
        assert joined.shape == (4, 18, 5)
        for kwargs in ({}, {"beta": 2.0, "distribution": "gaussian", "reduce": "joint"}):
            found = heatmaps.decode_logits(joined, **kwargs)
            whole = columns[:, None] + rows[:, :, None]
            for ours, theirs in zip(found, heatmaps.decode_logits(whole, **kwargs), strict=True):
                np.testing.assert_allclose(ours, theirs, atol=1e-4)

    def test_of_oblong_maps(self):
        with pytest.raises(ValueError, match="square"):
            heatmaps.join_axes(np.zeros((1, 5, 1)), np.zeros((1, 6, 1)))
