import csv
import json

import pytest

from keras_lapkl import tflite
from keras_lapkl.tflite import latency


def result(**changes):
    return {
        "model": "m.tflite",
        "bytes": 10,
        "threads": 1,
        "runs": 3,
        "warmup": 0,
        "min_ms": 1.0,
        "median_ms": 2.0,
        "mean_ms": 2.5,
        "p90_ms": 4.0,
        "p99_ms": 5.0,
        "drift": 1.0,
        **changes,
    }


def test_measure(converted):
    path = converted["float32"][0]
    found = tflite.measure(path, num_threads=1, runs=5, warmup=1)
    assert set(found) == set(result())
    assert found["model"] == str(path) and found["bytes"] == path.stat().st_size
    assert (found["threads"], found["runs"], found["warmup"]) == (1, 5, 1)
    assert 0 < found["min_ms"] <= found["median_ms"] <= found["p90_ms"] <= found["p99_ms"]
    assert found["min_ms"] <= found["mean_ms"]


def test_candidates_take_turns(converted, monkeypatch):
    order = []
    monkeypatch.setattr(latency, "_loaded", lambda path, threads: (path.stem, threads))
    monkeypatch.setattr(latency, "_time", lambda name: order.append(name) or 0.001 * len(order))
    paths = [converted[mode][0] for mode in ("float32", "int8")]
    found = tflite.measure_many(paths, threads=(1, 2), runs=2, warmup=1)
    each = [("float32", 1), ("float32", 2), ("int8", 1), ("int8", 2)]
    assert order == 3 * each
    assert [(r["model"].split("/")[-1][:-7], r["threads"]) for r in found] == each
    # The first of four candidates ran as 1st (warm-up, not counted), 5th and 9th.
    assert found[0]["min_ms"] == pytest.approx(5)
    assert found[0]["median_ms"] == pytest.approx(7)
    assert found[0]["drift"] == pytest.approx(9 / 5)


def test_drift_compares_the_last_quarter_with_the_first(converted, monkeypatch):
    seconds = iter([9, 1, 2, 3, 4, 5, 6, 30, 50])
    monkeypatch.setattr(latency, "_time", lambda _: 0.001 * next(seconds))
    found = tflite.measure(converted["float32"][0], runs=8, warmup=1)
    assert found["drift"] == pytest.approx(40 / 1.5)
    monkeypatch.setattr(latency, "_time", lambda _: 0.001)
    assert tflite.measure(converted["float32"][0], runs=1, warmup=0)["drift"] == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"runs": 0}, "`runs` must be at least 1 .* Received: 0, 20"),
        ({"warmup": -1}, "`warmup` at least 0. Received: 200, -1"),
        ({"threads": ()}, "Nothing to time"),
        ({"threads": [0]}, "`num_threads` must be 1 to 1,024. Received: 0"),
    ],
)
def test_wrong_numbers(changes, message, converted):
    with pytest.raises(ValueError, match=message):
        tflite.measure_many([converted["float32"][0]], **changes)


def test_missing_and_wrong_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="no model at"):
        tflite.measure(tmp_path / "none.tflite")
    path = tmp_path / "m.tflite"
    path.write_bytes(b"hello")
    with pytest.raises(ValueError, match=r"m\.tflite is not a TFLite file"):
        tflite.measure(path)


def test_text():
    text = latency.formatted([result(), result(model="longer.tflite", median_ms=12.3456)])
    lines = text.splitlines()
    assert len(lines) == 3 and len({len(line) for line in lines}) == 1
    assert lines[0].split()[:3] == ["model", "bytes", "threads"]
    assert "12.346" in lines[2]


def test_json_and_csv():
    results = [result(), result(threads=2)]
    assert json.loads(latency.formatted(results, "json", seed=3)) == {"results": results, "seed": 3}
    rows = list(csv.DictReader(latency.formatted(results, "csv").splitlines()))
    assert [row["threads"] for row in rows] == ["1", "2"]
    assert float(rows[0]["median_ms"]) == 2.0
    with pytest.raises(ValueError, match="must be one of"):
        latency.formatted(results, "xml")


def test_over_budget():
    results = [result(), result(model="slow.tflite", median_ms=9.5)]
    assert latency.over_budget(results, 10) == []
    (line,) = latency.over_budget(results, 9)
    assert line == "slow.tflite, 1 threads: median 9.500 ms, over the budget of 9 ms."


def test_drifted():
    results = [result(drift=1.1), result(drift=0.7, threads=2), result(drift=1.31)]
    assert latency.drifted(results, 40) == []
    faster, slower = latency.drifted(results, 20)
    assert faster.startswith("m.tflite, 2 threads: the last quarter of the runs took 0.70 times")
    assert "1.31 times" in slower
