import json

import cv2
import numpy as np

from keras_lapkl.data import synthetic_faces, write_pts


def test_made_clips_are_followed(run_tool, tmp_path):
    for i, (face, labels) in enumerate(zip(*synthetic_faces(3, image_size=160), strict=True)):
        photo = np.full((240, 240, 3), 90, np.uint8)
        photo[40:200, 40:200] = face
        cv2.imwrite(str(tmp_path / f"{i}.png"), photo[..., ::-1])
        write_pts(tmp_path / f"{i}.pts", labels[:, :2] + [40, 40])
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
