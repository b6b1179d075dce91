import json


def test_made_clips_are_followed(run_tool, write_photos, tmp_path):
    write_photos(tmp_path, 3)
    output = tmp_path / "blinks"
    run_tool(
        "benchmarks/blinks.py",
        f"--photos_dir={tmp_path}",
        "--models=fpn-eighth-300w-int8",
        f"--output_dir={output}",
    )
    (row,) = json.loads((output / "results.json").read_text())["rows"]
    assert 1 <= row["clips"] <= 3 and 1 <= row["followed"] <= row["clips"]
    assert 0 < row["slope in a face"] < 1.5 and 0 <= row["both blinks found %"] <= 100
    assert (output / "blinks.png").stat().st_size > 1000
