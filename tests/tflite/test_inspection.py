import numpy as np
import pytest

import keras_lapkl
from keras_lapkl import pretrained, tflite
from keras_lapkl.export import flatbuffer_writer
from keras_lapkl.tflite import flatbuffer, inspection, metadata


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

    about = metadata.Metadata(
        "1.2", "int8", 32, 5, {"channels": "RGB", "range": [0, 1]}, trained_on="œil"
    )
    flatbuffer_writer.add_metadata(model, about)
    again = tmp_path / "again.tflite"
    again.write_bytes(flatbuffer_writer.pack(model))
    assert tflite.describe(again)["metadata"] == about.to_dict()
    for file in (bare, again):
        np.testing.assert_array_equal(
            tflite.TFLiteLocalizer(file)(images[0]), tflite.TFLiteLocalizer(path)(images[0])
        )


def test_it_prints_as_a_page(converted):
    found = tflite.describe(converted["int8"][0])
    lines = str(found).splitlines()
    assert [line[:12].rstrip() for line in lines if line[0] != " "] == [
        "File",
        "Input",
        "Output",
        "Landmarks",
        "Crop",
        "Trained on",
        "License",
        "Measured",
        "Confidence",
        "Operators",
    ]
    assert lines[1] == "Input       image: 1 x 32 x 32 x 3 float32, RGB from 0 to 1"
    assert "side 3 times its longer edge" in " ".join(str(found).split())
    assert "17 CONV_2D int8" in str(found) and max(map(len, lines)) <= 88
    assert isinstance(found, dict) and repr(found).startswith("{'bytes': ")


def test_the_page_of_a_shipped_file_says_what_it_was_trained_on_and_measured_at():
    text = " ".join(str(tflite.describe(pretrained.path("fpn-eighth-300w", ".tflite"))).split())
    for expected in (
        "float16, refined by the whole shape, by keras_lapkl 0.1.0",
        "Trained on 300-W train: 1,809 of 3,148 official training faces",
        "License 300-W: non-commercial research only",
        "NME 3.83 % (interocular) and spread 1.15 px on 200 faces of 300-W validation",
        "Confidence calibrated on 300-W validation: 200 of 3,148",
    ):
        assert expected in text


def test_the_page_of_a_foreign_file(converted, tmp_path):
    model = flatbuffer.read(converted["float32"][0])
    model.metadata = None
    path = tmp_path / "m.tflite"
    path.write_bytes(flatbuffer_writer.pack(model))
    assert "Metadata    none: this file was not written by keras_lapkl" in str(
        tflite.describe(path)
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
