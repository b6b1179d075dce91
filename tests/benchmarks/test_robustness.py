import json

import pytest

MODEL = "fpn-eighth-300w-int8"


@pytest.fixture(scope="module")
def photos(write_photos, tmp_path_factory):
    return write_photos(tmp_path_factory.mktemp("photos"), 3)


@pytest.fixture
def measure(run_tool, photos, tmp_path):
    """The rows that the benchmark writes."""

    def measure(*flags):
        output = tmp_path / "rows.json"
        fixed = (f"--photos_dir={photos}", f"--models={MODEL}", "--detectors=blazeface")
        run_tool("benchmarks/robustness.py", *fixed, f"--output={output}", *flags)
        return json.loads(output.read_text())["rows"]

    return measure


def test_faces_that_are_upside_down_and_boxes_beside_them(measure):
    ways = "rotation 0°,rotation 180°,noise σ 10,JPEG quality 10,motion blur 5%,gamma 2"
    rows = measure(f"--rows={ways},cover 25%,size 80 px,box shift 20%")
    rows = {each["photos"]: each for each in rows if each["by"] == f"{MODEL} blazeface"}
    assert len(rows) == 9 and all(each["found %"] > 0 for each in rows.values())
    upright, turned = rows["rotation 0°"], rows["rotation 180°"]
    assert upright["found %"] == turned["found %"] == 100
    assert turned["NME %"] == pytest.approx(upright["NME %"], rel=0.2)
    assert upright["lost %"] == 0 and 0 < upright["coverage %"] <= 100
    (before,) = (
        each
        for each in measure("--rows=rotation 180°", "--nolook_around")
        if each["by"] == f"{MODEL} blazeface"
    )
    assert before["lost %"] is None
    assert not before["found %"] or before["NME %"] > 5 * upright["NME %"]


def test_the_lost_flag(measure):
    (row,) = measure("--lost")
    assert row["upright faces"] == 3 and row["upright, lost %"] == 0
    assert row["far off, lost %"] > 90 and row["far off, AUROC"] > 0.99
    assert row["textures, AUROC"] > 0.99


def test_times(measure):
    (row,) = measure("--times")
    assert row["ms before"] > 0 and 0.2 < row["median of ratios"] < 5


def test_plain_errors(run_tool, photos):
    flags = (f"--photos_dir={photos}", "--rows=fog")
    done = run_tool("benchmarks/robustness.py", *flags, check=False)
    assert done.returncode == 1 and "--rows: expected some of" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
