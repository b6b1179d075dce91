import numpy as np
import pytest

import keras_lapkl
from keras_lapkl.export import int8, ranges
from keras_lapkl.tflite import flatbuffer, runner


@pytest.fixture(scope="module")
def mobile_fpn():
    import keras

    keras.utils.set_random_seed(3)
    return keras_lapkl.LandmarkLocalizer(keras_lapkl.MobileFPN(5, 1 / 16, 32), crop_scale=3.0)


def test_evenly_spread_values_keep_their_range():
    assert ranges.best_share(np.ones(2048), -1.0, 1.0) == 1


@pytest.mark.parametrize("many", [100, 300, 10_000])
def test_a_lone_value_is_clipped_where_the_many_gain_more(many):
    counts = np.zeros(2048)
    counts[:1024] = many  # 0 to 0.5
    counts[-1] = 1  # and 1
    # Rounding: n * (share / 255)**2 / 12; clipping: (1 - share)**2.
    losses = [
        1024 * many * (share / 255) ** 2 / 12 + (1 - share - 0.5 / 2048) ** 2 * (share < 1)
        for share in ranges.SHARES
        if share >= 0.5
    ]
    expected = ranges.SHARES[np.argmin(losses)]
    assert 0.5 <= expected < 1
    assert ranges.best_share(counts, 0.0, 1.0) == pytest.approx(expected)


def test_values_far_above_all_others_are_worth_their_range():
    counts = np.zeros(2048)
    counts[:1024], counts[-1] = 1, 1
    assert ranges.best_share(counts, 0.0, 1.0) == 1


@pytest.mark.slow
def test_a_model_gets_narrower_ranges_and_answers_the_same(mobile_fpn, images, tmp_path):
    """Only the ranges that int8 takes are others; the image's is that of its bytes."""
    converter = int8.Int8Converter(mobile_fpn, images[:20], runner.OUTPUTS, False)
    narrow = converter._calibrated.calibrated_model
    graph = flatbuffer.parse(narrow).subgraphs[0]
    widths = {
        tensor.name.decode(): float(tensor.quantization.max[0] - tensor.quantization.min[0])
        for tensor in graph.tensors
        if getattr(tensor.quantization, "min", None) is not None
    }
    (image,) = (graph.tensors[index].name.decode() for index in graph.inputs)
    assert widths[image] == pytest.approx(1, abs=0.1)
    # Equalized, all have the range 1 or, of what is not behind a ReLU, at most 2.
    body = [width for name, width in widths.items() if "encoder" in name]
    assert min(body) < 0.95 and max(body) < 2.01
    paths = [tmp_path / "narrow.tflite", tmp_path / "reference.tflite"]
    for path, content in zip(paths, (narrow, converter.reference), strict=True):
        path.write_bytes(content)
    found = [runner.TFLiteLocalizer(path).predict(images)["landmarks"] for path in paths]
    np.testing.assert_allclose(*found, atol=1e-4)
