import json
import pathlib

import numpy as np
import pytest

from keras_lapkl._support.files import read_json, replacing, write_json
from keras_lapkl._support.provenance import run_provenance


def test_replacing_puts_the_whole_file_in_place(tmp_path):
    path = tmp_path / "deep" / "a.txt"
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert not path.exists() and temporary.suffix == ".txt"
    assert path.read_text() == "new"
    assert [p.name for p in path.parent.iterdir()] == ["a.txt"]


def test_replacing_keeps_the_old_file_on_an_error(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_json_takes_arrays_and_paths(tmp_path):
    data = {"a": np.float32(1.5), "b": np.arange(3), "c": pathlib.PurePosixPath("x/y")}
    write_json(tmp_path / "a.json", data)
    assert read_json(tmp_path / "a.json") == {"a": 1.5, "b": [0, 1, 2], "c": "x/y"}


def test_broken_json_names_the_file(tmp_path):
    (tmp_path / "a.json").write_text('{"a": ')
    with pytest.raises(ValueError, match=r"a\.json"):
        read_json(tmp_path / "a.json")


def test_provenance_is_plain_data():
    found = json.loads(json.dumps(run_provenance({"seed": 3})))
    assert found["flags"] == {"seed": 3}
    assert {"keras", "numpy", "tensorflow", "python"} <= found["versions"].keys()
    assert found["git"] is None or len(found["git"]["commit"]) == 40
