import csv
import json

import cv2
import numpy as np

from keras_lapkl.data import synthetic_faces
from keras_lapkl.schemes import IBUG68

NAMES = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")


def collection(folder, part, name, labels, faces, moved):
    """Painted faces and their five points, moved to the right."""
    (folder / "images" / name).mkdir(parents=True)
    with open(folder / f"five_{part}.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", *(f"{point}_{axis}" for point in NAMES for axis in "xy")])
        for i, (face, points) in enumerate(zip(faces, labels, strict=True)):
            path = f"images/{name}/{i}.png"
            cv2.imwrite(str(folder / path), face[..., ::-1])
            rows.writerow([path, *(IBUG68.anchor_points(points[:, :2]) + [moved, 0]).ravel()])


def test_a_promise_that_does_not_hold_is_mended_by_fifty_labels(run_tool, tmp_path):
    faces, labels = synthetic_faces(160, image_size=120)
    collection(tmp_path, "train", "same", labels[:80], faces[:80], moved=0)
    collection(tmp_path, "test", "other", labels[80:], faces[80:], moved=6)
    output = tmp_path / "rows.json"
    run_tool("benchmarks/elsewhere.py", f"--data_dir={tmp_path}", f"--output={output}")
    found = json.loads(output.read_text())
    same, other = found["rows"]
    assert found["provenance"]["flags"]["data_dir"] == str(tmp_path)
    assert (same["faces of"], other["faces of"]) == ("same", "other") and same["faces"] == 80
    assert other["own: within"] < 60 < same["own: within"]
    np.testing.assert_allclose([each["of 50: within"] for each in (same, other)], 90, atol=5)
    assert abs(other["of 50: expected px"] - other["measured px"]) < 0.1 * other["measured px"]
