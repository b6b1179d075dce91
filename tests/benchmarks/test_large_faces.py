import json

import pytest


@pytest.fixture(scope="module")
def photos(write_photos, tmp_path_factory):
    return write_photos(tmp_path_factory.mktemp("photos"), 2, shape=(160, 160), corner=(0, 0))


def test_landmarks_and_times(run_tool, photos, tmp_path):
    output = tmp_path / "found.json"
    few = ("--models=fpn-eighth-300w", "--sides=400,600", "--rounds=1", f"--output={output}")
    done = run_tool("benchmarks/large_faces.py", f"--photos_dir={photos}", *few)
    assert "2000 px, 0.3 rad" in done.stdout
    found = json.loads(output.read_text())
    (row,) = found["landmarks"]
    assert row["faces"] == 2 and 0 < row["apart, px of the crop"] < 0.2
    assert row["NME %"] == pytest.approx(row["NME % by the exact mean"], rel=0.02)


def test_photos_without_large_faces(run_tool, photos):
    flags = (f"--photos_dir={photos}", "--models=fpn-eighth-300w")
    done = run_tool("benchmarks/large_faces.py", *flags, check=False)
    assert done.returncode == 1 and "expected large faces" in done.stderr
