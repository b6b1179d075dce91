import numpy as np

from keras_lapkl import heatmaps
from keras_lapkl.tflite import axes


def test_decodes_as_the_network_does():
    import keras

    rng = np.random.default_rng(0)
    columns, rows = rng.normal(size=(2, 1, 40, 7)).astype(np.float32) * 9
    up = keras.layers.UpSampling2D((1, 2), interpolation="bilinear")
    doubled = [keras.ops.squeeze(up(each[:, None]), 1) for each in (columns, rows)]
    expected = heatmaps.decode_axes(*doubled, beta=0.5)
    found = axes.decode(columns[0], rows[0], beta=0.5)
    for each, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(each, other[0], atol=1e-4)


def test_large_logits_do_not_overflow():
    logits = np.random.default_rng(0).normal(size=(2, 20, 3)).astype(np.float32)
    found, expected = axes.decode(*(logits + 500)), axes.decode(*logits)
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_a_certain_landmark_has_the_least_scale():
    logits = np.full((20, 1), -1e4, np.float32)
    logits[0] = 0
    (landmark,), (scale,) = axes.decode(logits, logits)
    assert heatmaps.MIN_SCALE == axes.MIN_SCALE
    np.testing.assert_allclose(landmark, 0, atol=1e-6)
    np.testing.assert_allclose(scale, axes.MIN_SCALE)
