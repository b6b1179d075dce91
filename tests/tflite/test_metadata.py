import dataclasses
import json
import re

import pytest

from keras_lapkl import pretrained, training_data
from keras_lapkl.export import flatbuffer_writer
from keras_lapkl.tflite import TFLiteLocalizer, describe, flatbuffer
from keras_lapkl.tflite.metadata import SCHEMA, UNITS, Metadata, read

LINE = "300-W train: 9 of 3,148 official training faces"
PLAIN = Metadata(
    keras_lapkl="1.2.3",
    mode="int8",
    image_size=80,
    num_landmarks=68,
    input={"channels": "RGB", "dtype": "uint8", "range": [0, 255]},
    float_layers=("encoder1",),
    crop_scale=3.0,
    training_data=training_data.get(LINE).to_config(),
)


def test_json_and_back():
    text = PLAIN.to_json()
    assert json.loads(text) == PLAIN.to_dict() and PLAIN.to_dict()["schema"] == SCHEMA
    assert Metadata.from_json(text) == PLAIN


def test_keys_that_are_not_known_are_left_out():
    assert Metadata.from_json(json.dumps({**PLAIN.to_dict(), "color": "red"})) == PLAIN


def test_newer_schema_says_what_to_do():
    newer = dataclasses.replace(PLAIN, schema=SCHEMA + 1).to_json()
    with pytest.raises(ValueError) as caught:
        Metadata.from_json(newer, "m.tflite")
    assert str(caught.value) == (
        f"m.tflite has metadata of schema {SCHEMA + 1}, by keras_lapkl 1.2.3; this package reads "
        f"up to schema {SCHEMA}. Upgrade it: pip install --upgrade keras_lapkl"
    )


@pytest.mark.parametrize("version", ["\x1b[2J", "1" * 1000, 3])
def test_newer_schema_of_no_version(version):
    newer = json.dumps({**PLAIN.to_dict(), "schema": SCHEMA + 1, "keras_lapkl": version})
    with pytest.raises(ValueError, match="by keras_lapkl of an unknown version; this package"):
        Metadata.from_json(newer, "m.tflite")


def test_missing_key():
    with pytest.raises(ValueError, match=r"m\.tflite has metadata .* lacks a key: 'mode'"):
        Metadata.from_json('{"schema": 1, "keras_lapkl": "1"}', "m.tflite")


def test_files_without_a_number():
    """What was written before there was a schema."""
    old = {
        **{name: PLAIN.to_dict()[name] for name in ("keras_lapkl", "mode", "image_size")},
        "num_landmarks": 68,
        "input": {"channels": "RGB", "range": [0, 1]},
        "units": "pixels of the input, x first, pixel centres at whole numbers from 0",
        "crop": "square about the centre of the box",
        "trained_on": LINE,
        "licence": "no sale",
        "mirror": True,
    }
    found = Metadata.from_json(json.dumps(old))
    assert (found.schema, found.units, found.crop) == (
        1,
        UNITS,
        "square about the center of the box",
    )
    assert (found.license, found.flip_average, found.trained_on) == ("no sale", True, LINE)
    assert found.input["dtype"] == "float32" and found.measured is None
    assert found.training_data["sets"][0]["count"] == 9
    del old["mirror"]
    assert not Metadata.from_json(json.dumps(old)).flip_average


def test_what_is_taken_and_refused(metadata_texts):
    for text in metadata_texts.TAKEN.values():
        assert Metadata.from_json(text).num_landmarks == 3
    for name, (text, message) in metadata_texts.REFUSED.items():
        with pytest.raises(ValueError) as caught:
            Metadata.from_json(text, "m.tflite")
        assert str(caught.value).startswith("m.tflite has metadata that break a rule"), name
        assert re.search(message, str(caught.value)), (name, str(caught.value))
        assert len(str(caught.value)) < 300 and str(caught.value).isprintable(), name


def test_what_no_table_says(metadata_texts):
    for text, message in (
        (metadata_texts.changed("scheme", "flip", to=[1, 2, 0]), "twice must give the identity"),
        (metadata_texts.changed("scheme", "names", to=["a", "b", "a"]), "point names must differ"),
    ):
        with pytest.raises(ValueError, match=rf"m\.tflite has metadata .*{message}"):
            Metadata.from_json(text, "m.tflite")


@pytest.mark.parametrize("changes", [{"image_size": 81}, {"num_landmarks": 67, "scheme": None}])
def test_metadata_fit_the_tensors(changes, tmp_path):
    model = flatbuffer.read(pretrained.path("fpn-sixteenth-300w", ".tflite"))
    about = dataclasses.replace(read(model), calibration=None, **changes)
    model.metadata = None
    flatbuffer_writer.add_metadata(model, about)
    path = tmp_path / "other.tflite"
    path.write_bytes(flatbuffer_writer.pack(model))
    for opened in (describe, TFLiteLocalizer):
        with pytest.raises(ValueError, match=r"other\.tflite has metadata of an image of"):
            opened(path)


@pytest.mark.parametrize("name", pretrained.NAMES)
@pytest.mark.parametrize("suffix", [".tflite", "-int8.tflite"])
def test_shipped_files(name, suffix):
    path = pretrained.path(name, suffix)
    written = json.loads(flatbuffer.read_metadata(flatbuffer.read(path)))
    assert written["schema"] == SCHEMA
    found = describe(path)["metadata"]
    assert found["schema"] == SCHEMA
    assert "licence" not in found and "centre" not in json.dumps(found)
    data = training_data.get(found["training_data"])
    assert str(data) == found["trained_on"]
    assert data.license == found["license"] == training_data.LICENSES["300-W"]
    assert (data.sets[0].count, data.sets[0].total) == (1809, 3148)


def test_newer_files_are_refused(tmp_path):
    model = flatbuffer.read(pretrained.path("fpn-sixteenth-300w", ".tflite"))
    newer = dataclasses.replace(read(model), schema=SCHEMA + 1)
    model.metadata = None
    assert read(model) is None
    flatbuffer_writer.add_metadata(model, newer)
    path = tmp_path / "newer.tflite"
    path.write_bytes(flatbuffer_writer.pack(model))
    for opened in (describe, TFLiteLocalizer):
        with pytest.raises(ValueError, match=r"newer\.tflite has metadata of schema 2"):
            opened(path)
