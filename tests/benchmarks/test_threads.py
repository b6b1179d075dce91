import json


def test_threads(run_tool, tmp_path):
    output = tmp_path / "threads.json"
    few = ("--threads=1,2", "--faces=4", "--rounds=2", f"--output={output}")
    done = run_tool("benchmarks/threads.py", *few)
    assert "an interpreter a call, 2 threads" in done.stdout
    found = json.loads(output.read_text())
    assert found["ratio"]["a lock, 1 threads"]["median"] == 1 and found["megabytes"] > 0
