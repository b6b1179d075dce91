import json
import pathlib

import pytest

import keras_lapkl
from keras_lapkl.models.costs import multiply_adds

MODEL = pathlib.Path(__file__).parents[2] / "keras_lapkl/weights/fpn-sixteenth-300w-int8.tflite"


def test_counts_of_the_file_are_those_of_keras_and_times_add_up(run_tool, tmp_path):
    output = tmp_path / "peak.json"
    flags = (f"--tflite={MODEL}", "--channels=8,16", "--rounds=2", f"--output={output}")
    done = run_tool("benchmarks/peak.py", *flags)
    found = json.loads(output.read_text())
    whole, *kinds = found["rows"]
    layers = keras_lapkl.load_model("fpn-sixteenth-300w").generator.layers
    assert whole["multiply_adds"] == sum(map(multiply_adds, layers))
    for key in ("number", "multiply_adds", "seconds"):
        assert sum(row[key] for row in kinds) == pytest.approx(whole[key])
    names = {row["operators"] for row in kinds}
    assert {"DEPTHWISE_CONV_2D 5×5 int8", "CONV_2D 1×1 int8", "SOFTMAX float32"} <= names
    assert list(found["peak"]) == ["8", "16"] and min(found["peak"].values()) > 0
    assert done.stdout.split()[:2] == ["operators", "number"]


def test_no_such_file(run_tool):
    done = run_tool("benchmarks/peak.py", "--tflite=none.tflite", check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "error: There is no model at none.tflite" in done.stderr
