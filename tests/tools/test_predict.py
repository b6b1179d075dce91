import csv
import json

import cv2
import numpy as np
import pytest

import keras_lapkl


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Two photos with one painted face each, a broken one, and the boxes of the faces."""
    folder = tmp_path_factory.mktemp("photos")
    images, labels = keras_lapkl.data.synthetic_faces(2, seed=5)
    lines = []
    for i, (image, points) in enumerate(zip(images, labels, strict=True)):
        photo = np.full((240, 320, 3), 90, np.uint8)
        photo[100:180, 60:140] = image
        cv2.imwrite(str(folder / f"{i}.png"), photo[..., ::-1])
        box = np.concatenate([points.min(0), points.max(0)]) + [60, 100, 60, 100]
        lines.append(",".join(map(str, [f"{i}.png", *box])))
    (folder / "text.jpg").write_text("no picture")
    (folder / "boxes.csv").write_text("\n".join(lines))
    return folder, labels + [60, 100]


def test_photos_to_csv_and_overlays(run_tool, photos, tmp_path):
    folder, labels = photos
    done = run_tool(
        "tools/predict.py",
        f"--input={folder}",
        f"--boxes={folder}/boxes.csv",
        f"--output_dir={tmp_path}",
        "--format=csv",
        "--overlays",
    )
    assert "2 faces in 2 pictures" in done.stdout and "1 of 3 files left out" in done.stdout
    assert done.stderr.count("\n") == 1 and "text.jpg" in done.stderr
    with (tmp_path / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    found = np.array([[float(row["nostril_2_x"]), float(row["nostril_2_y"])] for row in rows])
    assert np.linalg.norm(found - labels[:, 33], axis=-1).max() < 8
    assert float(rows[0]["nostril_2_radius"]) > float(rows[0]["nostril_2_error"]) > 0
    assert (tmp_path / "overlays" / "0.overlay.jpg").exists()
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["skipped"] == 1 and results["provenance"]["flags"]["format"] == "csv"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--input=nowhere"], "There is no file or folder nowhere"),
        (["--input=README.md", "--model=rcn-full"], "rcn-full"),
        (["--input=README.md", "--model=gone.tflite"], "gone.tflite"),
        (["--input=README.md", "--boxes=gone.csv"], "gone.csv"),
        (["--input=README.md", "--boxes=b.csv", "--detector=yunet"], "drop --detector."),
    ],
)
def test_plain_errors(run_tool, tmp_path, flags, message):
    done = run_tool("tools/predict.py", f"--output_dir={tmp_path}", *flags, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ") and message in done.stderr
    assert "Traceback" not in done.stderr and not list(tmp_path.iterdir())
