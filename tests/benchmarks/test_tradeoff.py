import json
import pathlib

import pytest

SCRIPT = "benchmarks/tradeoff.py"
NUMBERS = pathlib.Path(__file__).parents[2] / "docs/tradeoff.json"


def test_picture_of_the_numbers_in_the_docs(run_tool, tmp_path):
    picture = tmp_path / "tradeoff.png"
    run_tool(SCRIPT, f"--numbers={NUMBERS}", f"--picture={picture}")
    assert picture.stat().st_size > 20_000


def test_times_are_compared_within_a_run(run_tool, tmp_path):
    """The second run is of a machine twice as fast; without the reference none can be compared."""
    found = json.loads(NUMBERS.read_text())
    found["runs"][1]["rows"] = found["runs"][1]["rows"][1:]
    (tmp_path / "numbers.json").write_text(json.dumps(found))
    flags = (f"--numbers={tmp_path / 'numbers.json'}", f"--picture={tmp_path / 'a.png'}")
    done = run_tool(SCRIPT, *flags, check=False)
    assert done.returncode == 1 and "It is not in that of" in done.stderr
    assert not (tmp_path / "a.png").exists()


def test_shipped_models_are_all_there():
    """With their sizes as they are; the network for microcontrollers is another file's."""
    weights = NUMBERS.parents[1] / "keras_lapkl/weights"
    rows = {
        row["name"]: row
        for run in reversed(json.loads(NUMBERS.read_text())["runs"])  # the first is the last
        for row in run["rows"]
    }
    paths = set(weights.glob("*.tflite")) - set(weights.glob("*-micro.tflite"))
    assert len(paths) > 2
    for path in paths:
        model = path.stem.removesuffix("-int8")
        row = rows[f"{model}, {'int8' if path.stem.endswith('-int8') else 'float16'}"]
        assert row["kilobytes"] == pytest.approx(path.stat().st_size / 1e3, abs=1)
