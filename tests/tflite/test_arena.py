import pytest

from keras_lapkl import pretrained
from keras_lapkl._support import extras
from keras_lapkl.export.micro import for_micro
from keras_lapkl.tflite import arena, compatibility

MICRO = pretrained.path("fpn-sixteenth-micro", ".tflite")


@pytest.mark.slow
@pytest.mark.skipif(not extras.installed("tflite_micro"), reason="needs tflite-micro")
def test_the_shipped_file_needs_no_more_than_it_says():
    found = arena.needed(MICRO.read_bytes(), MICRO)
    assert found["head"] + found["tail"] == found["total"] <= 96 * 1024
    whole = pretrained.path("fpn-eighth-300w", "-int8.tflite")
    wider = arena.needed(for_micro(whole.read_bytes()))["total"]
    assert 1.5 * found["total"] < wider < 2 * found["total"]


@pytest.mark.slow
@pytest.mark.skipif(not extras.installed("tflite_micro"), reason="needs tflite-micro")
def test_a_file_that_it_refuses():
    path = pretrained.path("fpn-sixteenth-300w", ".tflite")
    with pytest.raises(ValueError, match=f"TFLite Micro refuses .*{path.name}"):
        arena.needed(path.read_bytes(), path)


def test_without_the_wheel_the_extra_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'keras_lapkl\[micro\]'"):
        arena.needed(MICRO.read_bytes())


def test_it_stands_on_the_page_and_in_the_table():
    report = compatibility.check(MICRO, ["micro"])
    report["targets"]["micro"]["arena"] = {"version": "1", "total": 9000, "head": 1, "tail": 2}
    assert "arena: 9,000 bytes by tflite-micro 1" in " ".join(compatibility.page(report).split())
    assert f"{report['bytes']:,}  9,000" in compatibility.summary([report])
