import json

import numpy as np
import pytest


@pytest.fixture(scope="module")
def photos(write_photos, tmp_path_factory):
    return write_photos(tmp_path_factory.mktemp("photos"), 3, 120, (240, 320), (110, 90))


def test_end_to_end(run_tool, photos, tmp_path):
    output = tmp_path / "found.json"
    flags = ("--detectors=blazeface", "--proportions", "--wrong_squares", f"--output={output}")
    done = run_tool("benchmarks/detectors.py", f"--photos_dir={photos}", *flags)
    results = json.loads(output.read_text())
    assert results["photos"] == 3 and "3 photos; NME %" in done.stdout
    rows = results["end_to_end"]
    assert (rows[0]["boxes by"], rows[0]["found %"]) == ("labels' box", 100)
    np.testing.assert_allclose(rows[0]["perfect crops"], results["perfect"])
    assert results["proportions"][0]["size"][0] == pytest.approx(0.5, abs=0.1)
    # Nothing moved is the perfect crop; half a side is not.
    first, *_, moved = results["wrong_squares"][:6]
    np.testing.assert_allclose(first["NME %"], results["perfect"])
    assert moved["NME %"][0] > first["NME %"][0]
    assert len(rows) == 2


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--photos_dir=nowhere",), "expected photos with .pts files"),
        (("--photos_dir=.", "--model=none.tflite"), "none.tflite"),
        ((), "--photos_dir must have a value"),
    ],
)
def test_plain_errors(run_tool, photos, flags, message):
    done = run_tool("benchmarks/detectors.py", *flags, check=False, cwd=photos)
    assert done.returncode == 1
    assert message in done.stdout + done.stderr and "Traceback" not in done.stderr
