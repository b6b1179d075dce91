import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[2]
SCRIPT = "benchmarks/cards.py"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--models=rcn-full-300w",), "--models: expected some of"),
        (("--faces_dir=none",), "--faces_dir: expected a folder."),
        (("--runs_dir=none", "--models=fpn-eighth-300w"), "--runs_dir: expected a folder."),
        (("--faces_dir=docs",), "--faces_dir: expected a folder 300w in"),
    ],
)
def test_plain_errors(run_tool, flags, message):
    done = run_tool(SCRIPT, *flags, check=False, cwd=ROOT)
    assert done.returncode == 1 and message in done.stderr
    assert "Traceback" not in done.stderr
