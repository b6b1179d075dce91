import json

import pytest


def test_the_whole_line(run_tool, tmp_path):
    done = run_tool(
        "tools/demo.py",
        "--width=0.015625",
        "--epochs=2",
        "--num_synthetic=150",
        f"--output_dir={tmp_path}",
    )
    rows = json.loads((tmp_path / "demo.json").read_text())["rows"]
    assert [row["model"] for row in rows] == ["Keras", "float32", "int8"]
    keras, single, quantized = (row["nme"] for row in rows)
    assert abs(single - keras) < 1e-2 and abs(quantized - keras) < 0.1 * keras
    for row in rows[1:]:
        assert row["bytes"] > 1000 and row["median_ms_1"] > 0 and row["median_ms_2"] > 0
    assert rows[2]["bytes"] < rows[1]["bytes"]
    assert (tmp_path / "predictions.png").stat().st_size > 10_000
    for said in ("NME %", "size kB", "synthetic faces", "model-int8.tflite", "predictions.png"):
        assert said in done.stdout


@pytest.mark.parametrize("name", ["predictions.png", "demo.json", "model-int8.tflite"])
def test_files_of_others_stay(run_tool, tmp_path, name):
    (tmp_path / name).write_text("mine")
    done = run_tool("tools/demo.py", f"--output_dir={tmp_path}", check=False)
    assert done.returncode == 1 and name in done.stderr
    assert (tmp_path / name).read_text() == "mine"
    assert not (tmp_path / "model.keras").exists()
