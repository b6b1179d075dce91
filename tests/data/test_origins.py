import json

import pytest

from keras_lapkl.data import origins

LOADED = {"dataset": "csv", "data_dir": "/data", "split": "train", "category": None}


def write(path, loaded, **more):
    path.write_text(json.dumps({"loaded": loaded, **more}))


def test_of_a_run_and_of_a_converted_file(tmp_path):
    write(
        tmp_path / "run.json", {"training": LOADED, "validation": None}, digests={"training": "x"}
    )
    found = origins.read(tmp_path / "model.keras")
    assert found.loaded == {"training": LOADED} and found.digests == {"training": "x"}
    write(tmp_path / "a.tflite.json", {"validation": LOADED})
    found = origins.read(tmp_path / "a.tflite")
    assert found.loaded == {"validation": LOADED} and found.digests == {}


def test_of_others(tmp_path):
    write(tmp_path / "run.json", {"training": LOADED})
    for name in ("mine.keras", "model.tflite"):  # not the run's
        assert origins.read(tmp_path / name) is None
    (tmp_path / "run.json").write_text("{}")  # of an earlier version
    assert origins.read(tmp_path / "model.keras") is None


@pytest.mark.parametrize(
    "loaded",
    [[], {"training": []}, {"training": {"dataset": "csv"}}]
    + [{"training": {**LOADED, **wrong}} for wrong in ({"dataset": 3}, {"cache_dir": "/"})],
)
def test_damaged(loaded, tmp_path):
    write(tmp_path / "run.json", loaded)
    with pytest.raises(ValueError, match=r"run\.json is damaged"):
        origins.read(tmp_path / "model.keras")
