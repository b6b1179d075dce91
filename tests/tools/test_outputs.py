"""Outputs that can't be written are refused before data are looked for and anything is measured."""

import pytest

MODEL = "--model=fpn-sixteenth-300w"
DATA = ("--dataset=csv", "--data_dir=none")


@pytest.mark.parametrize(
    ("binary", "flags", "output"),
    [
        ("tools/evaluate.py", (MODEL, *DATA, "--output_dir=file/out"), "file/out/results.json"),
        ("tools/audit.py", (MODEL, *DATA, "--output_dir=file/out"), "file/out/audit.csv"),
        ("tools/convert.py", (MODEL, *DATA, "--output=file/a.tflite"), "file/a.tflite"),
        ("tools/calibrate.py", (MODEL, *DATA, "--output=file/a.tflite"), "file/a.tflite"),
        ("mobile/benchmark.py", (MODEL, "--runs=1000000000", "--output=file/a"), "file/a"),
    ],
)
def test_refused_at_the_start(run_tool, tmp_path, binary, flags, output):
    (tmp_path / "file").write_text("mine")
    done = run_tool(binary, *flags, check=False, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"error: [Errno 20] Not a directory: '{output}'"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
