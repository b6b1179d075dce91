import keras
import numpy as np
import pytest

from keras_lapkl.loading import load_model
from keras_lapkl.losses import LaplaceKL
from keras_lapkl.models.localizer import LandmarkLocalizer
from keras_lapkl.models.mobile_fpn import MobileFPN
from keras_lapkl.models.rcn import RCN


@pytest.fixture
def trained(rng):
    """Small, with statistics and weights of batch normalization that are not its first."""
    keras.utils.set_random_seed(0)  # some weights make maps of 0 alone
    model = MobileFPN(5, 1 / 16, 32)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            shape = layer.gamma.shape
            layer.set_weights([rng.uniform(0.5, 2, shape) for _ in range(4)])
    return model


@pytest.mark.parametrize(
    ("width", "count", "folded"), [(1 / 8, 43_412, 39_476), (1 / 16, 14_060, 12_092)]
)
def test_parameter_counts(width, count, folded):
    model = MobileFPN(68, width)
    assert model.count_params() == count
    assert model.folded().count_params() == folded


def test_folded_is_the_same_function(trained, rng):
    images = rng.random((3, 32, 32, 3), np.float32)
    folded = trained.folded()
    assert not [x for x in folded.layers if isinstance(x, keras.layers.BatchNormalization)]
    np.testing.assert_allclose(folded(images), trained(images), rtol=1e-3, atol=1e-3)
    np.testing.assert_array_equal(folded.folded()(images), folded(images))


def test_maps_are_the_sum_of_their_axes(trained, rng):
    images = rng.random((2, 32, 32, 3), np.float32)
    columns, rows = trained.axis_logits(images)
    assert columns.shape == (2, 1, 32, 5) and rows.shape == (2, 32, 1, 5)
    np.testing.assert_allclose(trained(images), columns + rows, rtol=1e-6)


def test_axes_are_the_largest_of_the_maps_columns_and_rows(trained, rng):
    images = rng.random((2, 32, 32, 3), np.float32)
    trained.get_layer("maps").bias.assign(np.zeros(5))
    maps = keras.Model(trained.input, trained.get_layer("maps_activation").output)(images)
    assert np.min(maps) == 0 < np.max(maps)
    pools = [trained.get_layer(f"maps_{name}").output for name in ("columns", "rows")]
    columns, rows = keras.Model(trained.input, pools)(images)
    np.testing.assert_array_equal(columns[:, 0], np.max(maps, axis=1))
    np.testing.assert_array_equal(rows[:, :, 0], np.max(maps, axis=2))


def test_batch_statistics_are_used_in_training_only(trained, rng):
    images = rng.random((2, 32, 32, 3), np.float32)
    before = np.asarray(trained(images))
    assert not np.allclose(trained(images, training=True), before)
    assert not np.allclose(trained(images), before)


@pytest.mark.parametrize(("k", "width", "size"), [(1, 1 / 64, 16), (19, 3 / 32, 48), (5, 0.1, 32)])
def test_any_k_width_and_size(k, width, size):
    assert MobileFPN(k, width, size)(np.zeros((2, size, size, 3))).shape == (2, size, size, k)


@pytest.mark.parametrize("batch_norm", [True, False])
def test_keras_and_weights_round_trip(batch_norm, trained, tmp_path, rng):
    images = rng.random((2, 32, 32, 3), np.float32)
    model = trained if batch_norm else trained.folded()
    model.save(tmp_path / "model.keras")
    again = load_model(tmp_path / "model.keras")
    assert type(again) is MobileFPN and again.get_config() == model.get_config()
    np.testing.assert_array_equal(again(images), model(images))

    model.save_weights(tmp_path / "model.weights.h5")
    other = MobileFPN(5, 1 / 16, 32, batch_norm)
    other.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(other(images), model(images))


@pytest.mark.slow
@pytest.mark.parametrize(
    "network", [lambda: MobileFPN(3, 1 / 16, 16), lambda: RCN(3, 1 / 16, 16, 0)]
)
def test_frozen_layers_stay_frozen_in_a_file(network, tmp_path, rng):
    """And the optimizer's state is of the others alone."""
    model = LandmarkLocalizer(network(), crop_scale=3.0)
    for layer in model.generator.layers:
        layer.trainable = not layer.name.startswith("encoder")
    model.compile("adam", LaplaceKL())
    images, labels = rng.random((4, 16, 16, 3), np.float32), np.full((4, 3, 2), 7, np.float32)
    model.fit(images, labels, epochs=2, verbose=0)
    model.save(tmp_path / "model.keras")
    again = load_model(tmp_path / "model.keras")
    count = len(model.trainable_variables)
    assert 0 < count == len(again.trainable_variables) < len(again.variables)
    assert int(again.optimizer.iterations) == 2
    before = [np.array(each) for each in again.generator.get_weights()]
    for each in (model, again):
        each.fit(images, labels, shuffle=False, verbose=0)
    after = again.generator.get_weights()
    assert any((a != b).any() for a, b in zip(before, after, strict=True))
    for a, b in zip(after, model.generator.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_frozen_layers_of_a_folded_network(trained):
    trained.get_layer("stem").trainable = False
    assert not trained.folded().get_layer("stem").trainable
    trained.trainable = False
    assert "frozen" not in trained.get_config()


@pytest.mark.slow
def test_nothing_is_trained_where_all_is_frozen(trained, rng):
    model = LandmarkLocalizer(trained, crop_scale=3.0)
    trained.trainable = False
    model.compile("adam", LaplaceKL())
    before = trained.get_weights()
    images, labels = rng.random((4, 32, 32, 3), np.float32), np.full((4, 5, 2), 7, np.float32)
    with pytest.warns(UserWarning, match="nothing is trained"):
        model.fit(images, labels, verbose=0)
    for a, b in zip(before, trained.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_mixed_precision_keeps_float32_logits(rng):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = MobileFPN(3, 1 / 16, 16)
        logits = model(rng.random((1, 16, 16, 3), np.float32))
        assert model.get_layer("maps").compute_dtype == "bfloat16"
    finally:
        keras.config.set_dtype_policy("float32")
    assert keras.backend.standardize_dtype(logits.dtype) == "float32"


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"num_landmarks": 0}, "num_landmarks"),
        ({"width": 0}, "width"),
        ({"image_size": 60}, "image_size"),
        ({"image_size": 0}, "image_size"),
    ],
)
def test_bad_arguments(arguments, name):
    with pytest.raises(ValueError, match=name):
        MobileFPN(**arguments)
