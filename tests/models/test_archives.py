"""`.keras` files that are damaged or made to harm, and what `load_model` says of them."""

import io
import json
import os
import re
import zipfile

import h5py
import numpy as np
import pytest

from keras_lapkl import pretrained
from keras_lapkl.loading import load_model

SHIPPED = pretrained.path("fpn-sixteenth-300w")


@pytest.fixture(scope="module")
def members():
    with zipfile.ZipFile(SHIPPED) as archive:
        return {each.filename: archive.read(each) for each in archive.infolist()}


@pytest.fixture
def write(members, tmp_path):
    """`write(name=content)` is a file with some members changed; None leaves one out."""

    def write(changes, compression=zipfile.ZIP_STORED):
        path = tmp_path / "m.keras"
        with zipfile.ZipFile(path, "w", compression) as archive:
            for name, content in {**members, **changes}.items():
                if content is not None:
                    archive.writestr(name, content)
        return path

    return write


@pytest.fixture
def configured(write, members):
    """`configured(config=…)` is a file whose configuration has other keys."""

    def configured(**changes):
        config = json.loads(members["config.json"])
        config["config"].update(changes)
        return write({"config.json": json.dumps(config)})

    return configured


def refused(path, message):
    with pytest.raises(ValueError) as caught:
        load_model(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)
    assert re.search(message, str(caught.value)), str(caught.value)


def test_the_shipped_one_as_it_is(write):
    assert load_model(write({})).num_landmarks == 68


@pytest.mark.parametrize("share", [0.001, 0.3, 0.99])
def test_cut(share, tmp_path):
    content = SHIPPED.read_bytes()
    path = tmp_path / "m.keras"
    path.write_bytes(content[: int(share * len(content))])
    refused(path, "is not a Keras model")


def test_a_flipped_bit(tmp_path):
    content = bytearray(SHIPPED.read_bytes())
    content[len(content) // 2] ^= 1
    path = tmp_path / "m.keras"
    path.write_bytes(content)
    refused(path, "damaged Keras model: .*(CRC|decompress)")


def test_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "m.keras")
    with pytest.raises((ValueError, FileNotFoundError), match=r"m\.keras"):
        load_model(tmp_path / "m.keras")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"config.json": None}, "expected the members"),
        ({"../x": b""}, "expected the members"),
        ({"config.json": b"{"}, "damaged Keras model: Expecting"),
        ({"config.json": b"[]"}, "not the configuration of a model"),
        ({"config.json": b"[" * 100_000}, "damaged Keras model: .*recursion"),
        ({"config.json": b"\xff"}, "damaged Keras model: .*(utf-8|decode)"),
        ({"model.weights.h5": b""}, "damaged Keras model"),
        ({"model.weights.h5": b"x" * 100}, "damaged Keras model"),
    ],
)
def test_members(write, changes, message):
    refused(write(changes), message)


def test_a_bomb(write):
    refused(write({"config.json": bytes(2**25)}, zipfile.ZIP_DEFLATED), "unpacks to 33554432 bytes")
    weights = {"model.weights.h5": bytes(2**25)}
    refused(write(weights, zipfile.ZIP_DEFLATED), r"model\.weights\.h5 unpacks to 33554432 bytes")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"crop_scale": "x"}, "crop_scale: expected number or null"),
        ({"crop_scale": -1}, "crop_scale: expected a number above 0"),
        ({"beta": None}, "beta: expected number"),
        ({"scheme": "ibug68"}, "scheme: expected object"),
        ({"scheme": {"name": "a", "names": ["b"], "five_points": [[1]]}}, "from 0 to 0. Received"),
        (
            {"scheme": {"name": "a", "names": ["b"], "five_points": []}, "calibration": None},
            "has 1 landmarks",
        ),
        ({"calibration": []}, "calibration: expected object or null"),
        ({"calibration": None, "trained_on": {"sets": 3}}, r"trained_on\.sets: expected array"),
        ({"trained_on": ["a"]}, "trained_on: expected object"),
        ({"generator": None}, "can't be built"),
        ({"surplus": 3}, "can't be built"),
    ],
)
def test_configurations(configured, changes, message):
    refused(configured(**changes), message)


@pytest.mark.parametrize("name", ["width", "image_size", "num_landmarks"])
@pytest.mark.parametrize("value", [0, -1, 100_000, 1e300])
def test_networks_too_large_to_build(configured, members, name, value):
    generator = json.loads(members["config.json"])["config"]["generator"]
    generator["config"][name] = value
    refused(configured(generator=generator), f"{name}: expected a number above 0 to")


def test_no_code_is_run(configured, tmp_path, monkeypatch):
    trap = "open({!r}, 'w')".format(str(tmp_path / "ran"))
    (tmp_path / "trap_of_a_module.py").write_text(trap)
    monkeypatch.syspath_prepend(tmp_path)
    other = {"module": "trap_of_a_module", "class_name": "Trap", "config": {}}
    registered = {**other, "registered_name": "keras_lapkl>Trap"}
    code = {"class_name": "__lambda__", "config": {"value": trap}}
    layer = {"module": "keras.layers", "class_name": "Lambda", "config": {"function": code}}
    for generator, message in (
        (other, "'trap_of_a_module''s 'Trap', which is not registered"),
        (registered, "which is not registered"),
        (code, "code of its own"),
        (layer, "code of its own"),
        ({"deep": [layer]}, "code of its own"),
    ):
        refused(configured(generator=generator), message)
    with pytest.raises(ValueError) as caught:  # the file may be sound
        load_model(configured(generator=other))
    assert "import its module" in str(caught.value) and "damaged" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


def first_numbers(file):
    """Name of the first array in a file of weights."""
    return file.visititems(lambda name, item: name if isinstance(item, h5py.Dataset) else None)


def weights(members, change):
    content = io.BytesIO(members["model.weights.h5"])
    with h5py.File(content, "r+") as file:
        change(file)
    return {"model.weights.h5": content.getvalue()}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda file: file.clear(), "can't be built"),
        (lambda file: file.__delitem__(first_numbers(file)), "can't be built"),
        (lambda file: file.create_dataset("x", (2**40,), "f4", chunks=True), "larger than"),
        (lambda file: file.update({"x": h5py.SoftLink("/")}), "link to others"),
        (lambda file: file.update({"x": h5py.ExternalLink("/etc/passwd", "/")}), "link to others"),
        (
            lambda file: file.create_dataset("x", (9,), "u1", external=[("/etc/passwd", 0, 9)]),
            "lie in another file",
        ),
        (lambda file: file.create_dataset("x", data=["text"]), "are not numbers"),
    ],
)
def test_weights(write, members, change, message):
    refused(write(weights(members, change)), message)


def test_weights_of_another_shape(write, members):
    def change(file):
        name = first_numbers(file)
        del file[name]
        file.create_dataset(name, data=np.zeros((2, 3), np.float32))

    refused(write(weights(members, change)), "can't be built")
