import json


def test_memory(run_tool, tmp_path):
    tiny = ("--width=1/64", "--landmarks=2", "--image_size=16", "--batch_size=2", "--at=1,3,5")
    output = tmp_path / "memory.json"
    done = run_tool("benchmarks/memory.py", *tiny, "--bound_mb=500", f"--output={output}")
    assert [line.split()[0] for line in done.stdout.splitlines()] == [
        "resident",
        "supervised",
        "adversarial",
    ]
    for found in json.loads(output.read_text())["resident_mb"].values():
        assert len(found) == 3 and min(found) > 100
