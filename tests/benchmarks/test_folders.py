import json


def test_folders(run_tool, tmp_path):
    output = tmp_path / "folders.json"
    done = run_tool("benchmarks/folders.py", "--photos=20", f"--output={output}")
    rows = json.loads(output.read_text())["rows"]
    assert [(row["command"], row["layout"]) for row in rows] == [
        *(("evaluate", "one folder"), ("evaluate", "a folder each")),
        *(("lists", "one folder"), ("lists", "a folder each")),
    ]
    assert all(row["base_mb"] > 20 and abs(row["mb"]) < 50 for row in rows)
    assert done.stdout.split()[:2] == ["command", "photos"]
