import json


def test_frames(run_tool, tmp_path):
    output = tmp_path / "frames.json"
    done = run_tool("benchmarks/frames.py", "--at=5,20", "--bound_mb=500", f"--output={output}")
    assert done.stdout.splitlines()[0].split() == ["frames", "0", "5", "20"]
    assert "2.00 faces a frame." in done.stdout
    found = json.loads(output.read_text())["resident_mb"]
    assert list(found) == ["0", "5", "20"] and min(found.values()) > 10
