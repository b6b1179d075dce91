"""`.keras` files: their bytes, their configuration and their weights, each loaded."""

import functools
import io
import json
import zipfile

import harness

from keras_lapkl import load_model, pretrained


@functools.cache
def members():
    with zipfile.ZipFile(pretrained.path("fpn-sixteenth-300w")) as archive:
        return {each.filename: archive.read(each) for each in archive.infolist()}


def load(folder, content):
    path = folder / "m.keras"
    path.write_bytes(content)
    assert load_model(path).count_params() > 0
    assert list(folder.iterdir()) == [path]


def packed(**changes):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, member in {**members(), **changes}.items():
            archive.writestr(name, member)
    return content.getvalue()


def break_bytes(rng, folder):
    load(folder, harness.mutated(rng, packed()))


def break_configuration(rng, folder):
    config = json.loads(members()["config.json"])
    if rng.random() < 0.2:
        text = harness.mutated_text(rng, json.dumps(config), ("{", "[" * 2000, "null", "1e999"))
        content = text.encode("utf-8", "surrogatepass")
    else:
        for _ in range(rng.choice((1, 1, 2, 4))):
            harness.change_value(rng, config, VALUES)
        content = json.dumps(config).encode()
    load(folder, packed(**{"config.json": content}))


def break_weights(rng, folder):
    """HDF5 of which some bytes are others, in an archive that is sound."""
    weights = bytearray(members()["model.weights.h5"])
    if rng.random() < 0.5:
        # The beginning has the tables, and the rest mostly numbers.
        head = harness.mutated(rng, bytes(weights[:4096]))
        weights[: len(head)] = head
    else:
        weights = harness.mutated(rng, bytes(weights))
    load(folder, packed(**{"model.weights.h5": bytes(weights)}))


VALUES = (
    *(None, True, 0, 1, -1, 3, 67, 99, 10**40, 0.5, 1e300, float("nan"), 1e-300),
    *("", "80", "x" * 20_000, "\x1b[2J", "\ud800", "ibug68", "float16", "os", "posix", "system"),
    *("keras", "keras.layers", "Dense", "Lambda", "__lambda__", "keras_lapkl>MobileFPN"),
    *([], {}, [0], [[68]], {"sets": []}, {"class_name": "Dense", "config": {}, "module": "keras"}),
)

ATTACKS = [
    harness.Attack(".keras, bytes", break_bytes, tries=40, limit_s=60, memory=None),
    harness.Attack(".keras, configuration", break_configuration, tries=25, limit_s=60, memory=None),
    harness.Attack(".keras, weights", break_weights, tries=25, limit_s=60, memory=None),
]


def test_loads_or_refuses(figures):
    assert not figures.faults
    assert figures.refused
