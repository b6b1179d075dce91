import numpy as np
import pytest

import keras_lapkl
from keras_lapkl import tflite
from keras_lapkl.export import flatbuffer_writer
from keras_lapkl.tflite import flatbuffer, inspection


def test_describe(converted):
    path, report = converted["float32"]
    found = tflite.describe(path)
    assert found["bytes"] == path.stat().st_size
    assert found["signature"] == "serving_default"
    assert found["inputs"] == [{"name": "image", "shape": [1, 32, 32, 3], "dtype": "float32"}]
    assert found["outputs"] == [
        {"name": "landmarks", "shape": [5, 2], "dtype": "float32"},
        {"name": "scale", "shape": [5, 2], "dtype": "float32"},
    ]
    assert found["operators"]["CONV_2D"] == {"float32": 17}
    assert {key: report[key] for key in found} == found


def test_metadata(converted, localizer):
    metadata = tflite.describe(converted["int8"][0])["metadata"]
    assert metadata["scheme"] == localizer.scheme.to_config()
    assert metadata["input"] == {
        "channels": "RGB",
        "dtype": "float32",
        "range": [0.0, 1.0],
    }
    expected = {
        "mode": "int8",
        "crop_scale": 3.0,
        "crop": localizer.scheme.crop_rule,
        "image_size": 32,
        "num_landmarks": 5,
        "beta": 1.0,
        "trained_on": "nothing",
        "keras_lapkl": keras_lapkl.__version__,
    }
    assert {key: metadata[key] for key in expected} == expected


def test_metadata_round_trip_keeps_the_model(converted, images, tmp_path):
    path = converted["int8"][0]
    model = flatbuffer.read(path)
    model.metadata = [e for e in model.metadata if e.name != b"keras_lapkl"]
    bare = tmp_path / "bare.tflite"
    bare.write_bytes(flatbuffer_writer.pack(model))
    assert tflite.describe(bare)["metadata"] is None

    flatbuffer_writer.add_metadata(model, {"name": "œil", "values": [1, None]})
    again = tmp_path / "again.tflite"
    again.write_bytes(flatbuffer_writer.pack(model))
    assert tflite.describe(again)["metadata"] == {"name": "œil", "values": [1, None]}
    for file in (bare, again):
        np.testing.assert_array_equal(
            tflite.TFLiteLocalizer(file)(images[0]), tflite.TFLiteLocalizer(path)(images[0])
        )


def test_file_without_signature(converted, tmp_path):
    model = flatbuffer.read(converted["float32"][0])
    model.signatureDefs = None
    path = tmp_path / "m.tflite"
    path.write_bytes(flatbuffer_writer.pack(model))
    found = tflite.describe(path)
    assert found["signature"] is None
    assert [len(found["inputs"]), len(found["outputs"])] == [1, 2]
    with pytest.raises(ValueError, match="is not a localizer"):
        tflite.TFLiteLocalizer(path)


def test_custom_operators_by_their_own_name(converted):
    model = flatbuffer.read(converted["float32"][0])
    code = model.operatorCodes[model.subgraphs[0].operators[0].opcodeIndex]
    code.customCode = b"MINE"
    assert inspection.operators(model)[0].name == "MINE"
    assert inspection.operators(model)[0].custom


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no model at .*none\.tflite"):
        tflite.describe(tmp_path / "none.tflite")


@pytest.mark.parametrize("content", [b"", b"hello, world"])
def test_no_tflite_file(content, tmp_path):
    path = tmp_path / "m.tflite"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is not a TFLite file"):
        tflite.describe(path)


@pytest.mark.parametrize("share", [0.001, 0.3, 0.9])
def test_damaged_file(share, converted, tmp_path):
    content = converted["float32"][0].read_bytes()
    path = tmp_path / "m.tflite"
    path.write_bytes(content[: max(8, int(share * len(content)))])
    with pytest.raises(ValueError, match="damaged"):
        tflite.describe(path)
