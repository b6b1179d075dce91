import pytest

MODEL = "--model=one=fpn-sixteenth-300w"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((MODEL, "--output=heatmaps"), "--output must end in .png, .jpg, .pdf, .svg"),
        ((MODEL, MODEL, "--output=x.png"), "with a title of its own"),
        (("--model=fpn-sixteenth-300w", "--output=x.png"), "must be TITLE=MODEL"),
    ],
)
def test_plain_errors(flags, message, run_tool, tmp_path):
    """Before a picture is cropped."""
    done = run_tool("tools/heatmaps.py", *flags, check=False, cwd=tmp_path)
    assert done.returncode == 1 and message in done.stderr and "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())
