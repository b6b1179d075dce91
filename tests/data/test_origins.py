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


def test_a_report_is_not_written_through_a_link(tmp_path):
    """Its name is none that the user gave."""
    path, victim = tmp_path / "a.tflite", tmp_path / "victim"
    path.touch()
    victim.write_text("mine")
    (tmp_path / "a.tflite.json").symlink_to(victim)
    with pytest.raises(ValueError, match=r"a\.tflite\.json is a link"):
        origins.write(path, {"loaded": {}})
    assert victim.read_text() == "mine"


def test_of_others(tmp_path):
    write(tmp_path / "run.json", {"training": LOADED})
    for name in ("mine.keras", "model.tflite"):  # not the run's
        assert origins.read(tmp_path / name) is None
    (tmp_path / "run.json").write_text("{}")  # of an earlier version
    assert origins.read(tmp_path / "model.keras") is None


def test_a_report_of_another_file_is_not_used(tmp_path, caplog):
    """As where `lapkl calibrate` writes over what was converted."""
    model = tmp_path / "a.tflite"
    model.write_bytes(b"first")
    origins.write(model, {"loaded": {"validation": {**LOADED, "hold_out": False}}, "bytes": 5})
    assert origins.read(model).loaded["validation"]["hold_out"] is False
    model.write_bytes(b"other")
    assert origins.read(model) is None
    assert "a.tflite.json is of another file than" in caplog.text


@pytest.mark.parametrize(
    "loaded",
    [[], {"training": []}, {"training": {"dataset": "csv"}}]
    + [{"training": {**LOADED, **wrong}} for wrong in ({"dataset": 3}, {"cache_dir": "/"})],
)
def test_damaged(loaded, tmp_path):
    write(tmp_path / "run.json", loaded)
    with pytest.raises(ValueError, match=r"run\.json is damaged"):
        origins.read(tmp_path / "model.keras")


@pytest.mark.parametrize("content", ["mine", "[]", '{"mine": 1}'])
def test_a_report_takes_the_place_of_a_report_alone(tmp_path, content):
    path = tmp_path / "a.tflite"
    origins.check_report(path)
    path.write_bytes(b"model")
    origins.write(path, {"loaded": {}})
    origins.check_report(path)
    (tmp_path / "a.tflite.json").write_text(content)
    with pytest.raises(ValueError, match=r"a\.tflite\.json is there already"):
        origins.check_report(path)
