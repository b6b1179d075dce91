import keras
import numpy as np
import pytest

from keras_lapkl.models.patch_gan import PatchGAN


@pytest.mark.parametrize("k", [1, 5, 68])
@pytest.mark.parametrize("size", [80, 96])
def test_one_logit_a_patch(k, size):
    logits = PatchGAN(k, filters=4)(np.zeros((2, size, size, k + 3), np.float32))
    assert logits.shape == (2, size // 16, size // 16, 1)


def test_layers_are_those_of_the_paper():
    model = PatchGAN(68)
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    assert [c.filters for c in convolutions] == [64, 128, 256, 1]
    assert [c.use_bias for c in convolutions] == [True, False, False, True]
    assert {(c.kernel_size, c.strides) for c in convolutions} == {((4, 4), (2, 2))}
    # 4·4·71·64 + 64, 4·4·64·128 + 2·128, 4·4·128·256 + 2·256, 4·4·256 + 1; and moving moments
    weights = 72_768 + 131_328 + 524_800 + 4_097
    assert model.count_params() == weights + 2 * (128 + 256)


@pytest.mark.parametrize("pixel", [64, 78, 79, 95])
def test_a_patch_sees_46_pixels(pixel):
    """Patch i sees the pixels 16i − 15 to 16i + 30."""
    model = PatchGAN(1, filters=4)
    image = np.zeros((2, 160, 160, 4), np.float32)
    image[1, pixel, pixel] = 1
    logits = keras.ops.convert_to_numpy(model(image))
    changed = np.unique(np.argwhere(logits[0, ..., 0] != logits[1, ..., 0]))
    assert changed.tolist() == [i for i in range(10) if 16 * i - 15 <= pixel <= 16 * i + 30]


def test_noise_only_in_training(rng):
    pair = rng.random((2, 32, 32, 5), np.float32)
    model = PatchGAN(2, filters=4)
    np.testing.assert_array_equal(model(pair), model(pair))
    assert not np.allclose(model(pair, training=True), model(pair, training=True))
    quiet = PatchGAN(2, filters=4, noise=0)
    np.testing.assert_allclose(quiet(pair, training=True), quiet(pair, training=True))


def test_keras_round_trip(tmp_path, rng):
    model = PatchGAN(3, filters=4, noise=0.1)
    model.save(tmp_path / "d.keras")
    again = keras.models.load_model(tmp_path / "d.keras")
    assert (again.num_landmarks, again.filters, again.noise) == (3, 4, 0.1)
    pair = rng.random((2, 48, 48, 6), np.float32)
    np.testing.assert_array_equal(again(pair), model(pair))


@pytest.mark.parametrize("argument", [{"num_landmarks": 0}, {"filters": 0}, {"noise": -1}])
def test_refused(argument):
    with pytest.raises(ValueError, match="Received"):
        PatchGAN(**argument)
