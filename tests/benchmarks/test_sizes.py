import json


def test_width_of_the_paper(run_tool, tmp_path):
    """17,408 parameters and 77 million multiply-adds, as the network of Table 3 has."""
    output = tmp_path / "sizes.json"
    flags = ("--widths=1/16", "--networks=paper,mobile_fpn", "--rounds=1", f"--output={output}")
    done = run_tool("benchmarks/sizes.py", *flags)
    row, fpn = json.loads(output.read_text())["rows"]
    assert row["parameters"] == 17_408 and row["multiply_adds"] == 77_337_200
    assert row["int8_bytes"] < row["float32_bytes"] and row["int8_ms"] > 0
    assert fpn["parameters"] == 12_092 and fpn["multiply_adds"] < row["multiply_adds"] / 17
    assert "26.51" in done.stdout.splitlines()[1]
