import numpy as np
import pytest

import keras_lapkl
from keras_lapkl.export import equalization, graph, int8, rounding, verify
from keras_lapkl.models.localizer import to_unit_range
from keras_lapkl.tflite import runner

pytestmark = pytest.mark.slow

SIZE = 32


def landmarks(generator, images):
    logits = graph.readout_model(generator)(images)
    return np.asarray(graph.decoded(logits, 1.0)[0])


@pytest.fixture
def generator():
    import keras

    keras.utils.set_random_seed(3)
    generator = keras_lapkl.MobileFPN(5, 1 / 16, SIZE, batch_norm=False)
    maps = generator.get_layer("maps")
    maps.kernel.assign(100 * maps.kernel)
    return generator


def test_a_file_comes_nearer_than_by_the_nearest(generator, images, tmp_path):
    model = keras_lapkl.LandmarkLocalizer(generator, crop_scale=3.0)
    expected = model.predict(images, verbose=0)["landmarks"]
    converter = int8.Int8Converter(model, images, runner.OUTPUTS, False)
    apart = []
    for (floats, content), _ in zip(converter.candidates(images, expected), "12", strict=False):
        assert floats == ()
        path = tmp_path / "int8.tflite"
        path.write_bytes(content)
        found = verify.predict_by_file(path, images, 1.0)["landmarks"]
        apart.append(np.linalg.norm(found - expected, axis=-1).mean())
    assert 0 < apart[1] < 0.9 * apart[0]


def test_weights_are_whole_steps_near_to_what_they_were(generator, images):
    images = np.asarray(to_unit_range(images[:8]))
    before = {layer.name: layer.get_weights() for layer in generator.layers if layer.weights}
    graph.square_resizes(graph.readout_network(generator))  # shares the layers
    rounding.learn_rounding(generator, images, 1.0, steps=3)
    for name, (kernel, bias) in before.items():
        depthwise = name.endswith("depthwise")
        step = np.abs(kernel).max((0, 1, 3) if depthwise else (0, 1, 2), keepdims=True) / 127
        now, same = generator.get_layer(name).get_weights()
        np.testing.assert_array_equal(bias, same)
        np.testing.assert_allclose(now / step, np.rint(now / step), atol=1e-3)
        assert np.abs(now - kernel).max() <= 1.51 * step.max()
        largest = np.abs(now).max((0, 1, 3) if depthwise else (0, 1, 2), keepdims=True)
        np.testing.assert_allclose(largest, 127 * step, rtol=1e-5)


def test_frozen_axes_learn_too(images):
    generator = keras_lapkl.RCN(5, 1 / 16, SIZE, head="marginal")
    for layer in generator.layers:
        layer.trainable = False
    images = np.asarray(to_unit_range(images[:8]))
    equal = equalization.equalized(generator, images)
    assert hasattr(equal, "axis_logits")
    before = equal.get_weights()
    rounding.learn_rounding(equal, images, 1.0, steps=2)
    assert any((a != b).any() for a, b in zip(before, equal.get_weights(), strict=True))


def test_an_rcn_learns_too(localizer, images):
    generator = type(localizer.generator).from_config(localizer.generator.get_config())
    generator.set_weights(localizer.generator.get_weights())
    rounding.learn_rounding(generator, np.asarray(to_unit_range(images[:8])), 1.0, steps=2)
    expected, received = (
        landmarks(each, np.asarray(to_unit_range(images[:8])))
        for each in (localizer.generator, generator)
    )
    assert 0 < np.abs(received - expected).mean() < 1
