import keras
import numpy as np
import pytest

from keras_lapkl.loading import load_model
from keras_lapkl.models.rcn import RCN


@pytest.mark.parametrize(
    ("width", "count"),
    [(1, 1_872_428), (1 / 2, 478_092), (1 / 4, 128_060), (1 / 8, 39_828), (1 / 16, 17_408)],
)
def test_parameter_counts_of_the_paper(width, count):
    assert RCN(num_landmarks=68, width=width).count_params() == count


@pytest.mark.parametrize(
    ("head", "counts"), [("linear", (30_444, 8_024)), ("marginal", (66_832, 27_548))]
)
def test_parameter_counts_of_other_heads(head, counts):
    assert tuple(RCN(68, width, head=head).count_params() for width in (1 / 8, 1 / 16)) == counts


def test_marginal_maps_are_the_sum_of_their_axes(rng):
    images = rng.random((2, 32, 32, 3), np.float32)
    model = RCN(3, 1 / 16, 32, 0, head="marginal")
    columns, rows = model.axis_logits(images)
    assert columns.shape == (2, 1, 32, 3) and rows.shape == (2, 32, 1, 3)
    np.testing.assert_allclose(model(images), columns + rows, rtol=1e-6)
    assert RCN(3, 1 / 16, 32, head="linear").axis_logits is None


def test_marginal_head_does_the_same_to_both_axes(rng):
    model = RCN(3, 1 / 16, 32, 0, head="marginal")
    for layer in model.layers:
        if layer.name.startswith("rows") and layer.weights:
            layer.set_weights(model.get_layer(layer.name.replace("rows", "columns")).get_weights())
    features = keras.Model(model.input, model.get_layer("decoder1_activation").output)
    head = keras.Model(
        model.get_layer("decoder1_activation").output,
        [model.get_layer(name).output for name in ("columns", "rows")],
    )
    found = np.asarray(features(rng.random((1, 32, 32, 3), np.float32)))
    columns, _ = head(found)
    _, rows = head(found.transpose(0, 2, 1, 3))
    np.testing.assert_allclose(columns[:, 0], rows[:, :, 0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("k", "width", "size"), [(1, 1 / 64, 16), (19, 3 / 32, 48), (5, 0.1, 32)])
def test_any_k_width_and_size(k, width, size):
    assert RCN(k, width, size, 0)(np.zeros((2, size, size, 3))).shape == (2, size, size, k)


def test_activations_and_dropouts():
    names = [layer.name for layer in RCN(dropout=0.2).layers]
    activations = [n for n in names if n.endswith("_activation")]
    dropouts = [n for n in names if n.endswith("_dropout")]
    assert len(activations) == 16
    assert len(dropouts) == 14
    assert not {"encoder1_dropout", "head2_dropout"} & set(names)
    assert not [n for n in (x.name for x in RCN(dropout=0).layers) if n.endswith("_dropout")]


def test_dropout_acts_in_training_only(rng):
    images = rng.random((2, 32, 32, 3), np.float32)
    model = RCN(3, 1 / 16, 32, dropout=0.5)
    np.testing.assert_array_equal(model(images), model(images))
    assert not np.allclose(model(images, training=True), model(images, training=True))


def test_keras_and_weights_round_trip(tmp_path, rng):
    images = rng.random((2, 32, 32, 3), np.float32)
    model = RCN(7, 3 / 32, 32, 0.1, head="marginal")
    model.save(tmp_path / "model.keras")
    again = load_model(tmp_path / "model.keras")
    assert type(again) is RCN and again.get_config() == model.get_config()
    np.testing.assert_array_equal(again(images), model(images))

    model.save_weights(tmp_path / "model.weights.h5")
    other = RCN(7, 3 / 32, 32, 0.1, head="marginal")
    assert not np.allclose(other(images), model(images))
    other.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(other(images), model(images))


def test_clone_from_config():
    model = RCN(4, 1 / 16, 16, 0)
    assert RCN.from_config(model.get_config()).count_params() == model.count_params()


def test_mixed_precision_keeps_float32_logits(rng):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        logits = RCN(3, 1 / 16, 16)(rng.random((1, 16, 16, 3), np.float32))
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
        ({"dropout": 1.0}, "dropout"),
    ],
)
def test_bad_arguments(arguments, name):
    with pytest.raises(ValueError, match=name):
        RCN(**arguments)


def test_normalized_image_has_zero_mean_and_unit_scale(rng):
    model = RCN(3, 1 / 16, 32, 0, normalize=True)
    plain = RCN(3, 1 / 16, 32, 0)
    plain.set_weights(model.get_weights())
    images = rng.random((2, 32, 32, 3), np.float32)
    np.testing.assert_allclose(model(images), plain(4 * (images - 0.45)), atol=1e-5)
    copy = RCN.from_config(model.get_config())
    assert copy.normalize and not plain.normalize
    assert copy.count_params() == plain.count_params()
