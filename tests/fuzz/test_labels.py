"""Labels of other tools whose files are broken."""

import json
import pathlib

import harness
import label_exports as exports
import numpy as np
from test_readers import broken_json, broken_text

from keras_lapkl.data import pictures
from keras_lapkl.data.labels import converting
from keras_lapkl.data.labels.formats import known
from keras_lapkl.data.readers.keypoint_csv import read_csv


def read(path):
    """All that a reader gives: finite numbers, and pictures in the folder."""
    tool, source = known(path)
    labels = tool.read(source)
    for each in labels.objects:
        numbers = [value for point in each.points.values() for value in point]
        assert all(abs(value) <= 1e6 + 1 for value in (*numbers, *(each.box or ()))), each
        assert {point[2] for point in each.points.values()} <= {1, 2}, each
    names = [each.picture for each in labels.objects if each.picture not in labels.embedded]
    for found in filter(None, pictures.find_pictures(names, labels.folders[:1]).values()):
        assert path.parent.resolve() in pathlib.Path(*found).resolve().parents, found


def deeplabcut(rng, folder):
    four = exports.deeplabcut_text().replace("bodyparts", "individuals", 1)
    four = four.replace("coords", "bodyparts,a,b,c,d,e,f\ncoords", 1)
    text = rng.choice((exports.deeplabcut_text(), four))
    broken_text(rng, folder / "x.csv", text, (",", '"', "\n", "likelihood", "single", "../"))
    read(folder / "x.csv")


def label_studio(rng, folder):
    broken_json(rng, folder / "x.json", exports.label_studio_data())
    read(folder / "x.json")


def labelme(rng, folder):
    broken_json(rng, folder / "x.json", exports.labelme_data()["a.png"])
    read(folder / "x.json")


def coco(rng, folder):
    broken_json(rng, folder / "x.json", exports.coco_data())
    read(folder / "x.json")


def cvat(rng, folder):
    broken_text(rng, folder / "x.xml", exports.cvat_text(), ("<!DOCTYPE x>", "&x;", '"', "<", ">"))
    read(folder / "x.xml")


def dlib(rng, folder):
    broken_text(rng, folder / "x.xml", exports.dlib_text(), ("<!DOCTYPE x>", "&x;", "'", "<", ">"))
    read(folder / "x.xml")


def wflw(rng, folder):
    text = rng.choice((exports.wflw_text(), "1 2 3 4 10 11 80 81 0 1 0 0 0 0 a b.png\n"))
    broken_text(rng, folder / "x.txt", text * 2, (" ", "\n", "../", "%00"))
    read(folder / "x.txt")


def ultralytics(rng, folder):
    path = exports.ultralytics(folder)
    if rng.random() < 0.5:
        words = ("[", "{", "- ", ": ", "&a ", "*a", "!!int ", "? ", "[" * 3000, "1" * 5000)
        broken_text(rng, path, exports.YAML, words)
    else:
        text = exports.ultralytics_texts()["a.png"]
        broken_text(rng, folder / "labels/train/a.txt", text, (" ", "\n", "-0.1"))
    read(path)


def sleap(rng, folder):
    """Bytes of the file, or the values in it: most changed bytes end HDF5's own checks."""
    import h5py

    path = exports.sleap(folder)
    if rng.random() < 0.3:
        path.write_bytes(harness.mutated(rng, path.read_bytes(), most=3))
    else:
        with h5py.File(path, "r+") as file:
            for _ in range(rng.randint(1, 3)):
                _change(rng, file)
    read(path)


def _change(rng, file):
    name = rng.choice(("frames", "instances", "points", "videos_json", "json", "frame_numbers"))
    if name == "json":
        attributes = file["metadata"].attrs
        text = str(attributes["json"])
        attributes["json"] = harness.mutated_text(rng, text).encode("utf-8", "replace")[:60_000]
        return
    name = "video0/frame_numbers" if name == "frame_numbers" else name
    if name not in file:
        return
    values = np.atleast_1d(file[name][()])
    del file[name]
    kind = rng.randrange(4)
    if kind == 1:
        file[name] = values[: rng.randrange(len(values) + 1)]
    elif kind == 2:
        file[name] = rng.choice((b"x", 3, np.zeros((2, 2)), [b"{}", b"[]", b"\xff"]))
    elif kind == 3 and values.dtype.kind in "Vi":
        raw = bytearray(values.tobytes())
        for _ in range(rng.randint(1, 5)):
            raw[rng.randrange(len(raw))] = rng.choice((0, 1, 2, 0x7F, 0x80, 0xFF))
        file[name] = np.frombuffer(bytes(raw), values.dtype).reshape(values.shape)
    elif kind == 3:
        about = {"backend": {"filenames": ["a.png", None, 3]}}
        file[name] = [json.dumps(rng.choice((about, {}, [], 3))).encode()]


def converted(rng, folder):
    """Names and numbers that must come back from the CSV file as they were."""
    exports.write_pictures(folder)
    data = exports.labelme_data()["a.png"]
    for shape in data["shapes"][1:]:
        shape["label"] = harness.mutated_text(rng, shape["label"], (",", '"', "'", "=", "_x", "\n"))
        if rng.random() < 0.1:
            shape["points"][0] = [-0.5, -0.5]  # of a point that is not there
        shape["points"][0][0] += rng.choice((0, 0, 1 / 3, -1e5, 1e6, -11.5))
    (folder / "x.json").write_text(json.dumps(data))
    done = converting.convert_labels(folder / "x.json", folder / "labels.csv")
    found = read_csv(folder / "labels.csv", done.folder)
    assert found.scheme.names == done.names
    np.testing.assert_allclose(found.landmarks, done.landmarks, rtol=1e-5)
    assert "\n" not in "".join(converting.report(done))


ATTACKS = [
    harness.Attack("labels, DeepLabCut", deeplabcut, tries=600),
    harness.Attack("labels, Label Studio", label_studio, tries=600),
    harness.Attack("labels, labelme", labelme, tries=600),
    harness.Attack("labels, COCO", coco, tries=300),
    harness.Attack("labels, CVAT", cvat, tries=600),
    harness.Attack("labels, dlib", dlib, tries=600),
    harness.Attack("labels, WFLW", wflw, tries=600),
    harness.Attack("labels, Ultralytics", ultralytics, tries=400),
    harness.Attack("labels, SLEAP", sleap, tries=400),
    harness.Attack("labels, converted", converted, tries=200),
]


def test_reads_or_refuses(figures):
    assert not figures.faults
