import csv
import json
import re

import pytest

import keras_lapkl
from keras_lapkl import tflite

SCRIPT = "mobile/benchmark.py"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    import numpy as np

    path = tmp_path_factory.mktemp("benchmark") / "m.tflite"
    generator = keras_lapkl.RCN(2, width=1 / 64, image_size=16)
    images = np.zeros((1, 16, 16, 3), np.uint8)
    tflite.convert(keras_lapkl.LandmarkLocalizer(generator), path, faces=images)
    return path


def test_text(run_tool, model):
    done = run_tool(SCRIPT, f"--model={model}", "--runs=3", "--warmup=1")
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    assert {"min_ms", "median_ms", "p90_ms", "p99_ms", "bytes"} <= set(lines[0].split())


def test_json(run_tool, model):
    flags = (f"--model={model},{model}", "--threads=1,2", "--runs=3", "--format=json")
    found = json.loads(run_tool(SCRIPT, *flags, "--budget_ms=1e6").stdout)
    assert [r["threads"] for r in found["results"]] == [1, 2, 1, 2]
    assert found["results"][0]["bytes"] == model.stat().st_size
    assert found["within_budget"] is True
    assert found["provenance"]["flags"]["threads"] == ["1", "2"]
    assert found["provenance"]["versions"]["ai-edge-litert"]


def test_csv(run_tool, model):
    done = run_tool(SCRIPT, f"--model={model}", "--runs=3", "--format=csv")
    (row,) = csv.DictReader(done.stdout.splitlines())
    assert float(row["min_ms"]) <= float(row["median_ms"])


def test_over_budget(run_tool, model):
    done = run_tool(SCRIPT, f"--model={model}", "--runs=3", "--budget_ms=1e-6", check=False)
    assert done.returncode == 1
    assert "median" in done.stdout
    assert "over the budget of 1e-06 ms" in done.stderr


def test_output(run_tool, model, tmp_path):
    output = tmp_path / "new" / "latency.json"
    flags = (f"--model={model}", "--runs=3", "--format=json", f"--output={output}")
    done = run_tool(SCRIPT, *flags, "--budget_ms=1e-6", check=False)
    assert done.returncode == 1 and done.stdout == ""
    assert json.loads(output.read_text())["within_budget"] is False
    assert list(output.parent.iterdir()) == [output]


def test_drift_is_said(run_tool, model):
    done = run_tool(SCRIPT, f"--model={model}", "--runs=8", "--drift_percent=0", "--format=json")
    (result,) = json.loads(done.stdout)["results"]
    said = "1 threads: the last quarter of the runs took" in done.stderr
    assert said == (result["drift"] != 1)


def test_damaged_and_foreign_files(run_tool, model, tmp_path):
    content = model.read_bytes()
    wrong = {
        "truncated": content[: len(content) // 2],
        "beheaded": content[:100],
        "empty": b"",
        "picture": b"\x89PNG\r\n\x1a\n" + bytes(500),
        "text": b"This is no model.\n" * 20,
    }
    for name, damaged in wrong.items():
        path = tmp_path / f"{name}.tflite"
        path.write_bytes(damaged)
        done = run_tool(SCRIPT, f"--model={path}", "--runs=1", check=False)
        assert done.returncode == 1, name
        assert re.search(
            rf"error: {re.escape(str(path))} is (a damaged|not a) TFLite file: ", done.stderr
        )
        assert "Traceback" not in done.stderr


def test_flagfile(run_tool, model, tmp_path):
    flagfile = tmp_path / "flags.cfg"
    flagfile.write_text(f"--model={model}\n--runs=2\n--format=csv\n")
    (row,) = csv.DictReader(run_tool(SCRIPT, f"--flagfile={flagfile}").stdout.splitlines())
    assert row["runs"] == "2"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((), "--model must have a value"),
        (("--model=none.tflite",), "error: There is no model at none.tflite"),
        (("--model=m", "--bogus=1"), "Unknown command line flag 'bogus'"),
        (("--model=m", "--threads=1,0"), "whole numbers from 1 on"),
        (("--model=m", "--threads=two"), "whole numbers from 1 on"),
        (("--model=m", "--runs=0"), "--runs"),
        (("--model=m", "--format=xml"), "--format"),
        (("--model=m", "stray"), "Expected flags only"),
    ],
)
def test_plain_errors(flags, message, run_tool):
    done = run_tool(SCRIPT, *flags, check=False)
    assert done.returncode == 1
    assert message in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
