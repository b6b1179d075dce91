import subprocess
import sys

import pytest

FILTERED = """
import sys
sys.path.insert(0, "benchmarks")
import numpy as np
import tracking
walk = np.random.default_rng(0).normal(0, 1, (40, 68, 2)).cumsum(0) + 100
found = {}
for name, (kind, grid) in tracking._FILTERS.items():
    smooth = kind(**{key: values[0] for key, values in grid.items()})
    scales = np.linspace((1, 1), (2, 2), 68)
    found[name] = np.stack([smooth(l, scales, i / 30) for i, l in enumerate(walk)])
    assert np.isfinite(found[name]).all(), name
for name in ("scale, all alike", "scale, no shared motion"):
    assert abs(found[name] - found["scale"]).max() > 0.01, name
"""


FOLLOWED = """
import sys
sys.path.insert(0, "benchmarks")
import numpy as np
import tracking
from keras_lapkl.detection.landmark_detector import LandmarkDetector
detector = LandmarkDetector.from_pretrained("fpn-sixteenth-300w", None)
clip = tracking.clips.synthetic_clip(0, rate=5)
_, landmarks, _ = tracking._stream(detector, clip)
assert np.isfinite(landmarks).all((1, 2)).mean() > 0.9
"""


HARD = """
import sys
sys.path.insert(0, "benchmarks")
import tracking
from absl import flags
from keras_lapkl.data.synthetic.faces import synthetic_faces
from keras_lapkl.detection.landmark_detector import LandmarkDetector
flags.FLAGS("tracking --model=m --photos_dir=p --stems=s --clips=1 --rate=3".split())
faces, labels = synthetic_faces(1, image_size=240, seed=4)
photos = [(faces[0], labels[0, :, :2])] * 101
detector = LandmarkDetector.from_pretrained("fpn-sixteenth-300w", None)
columns, *rows = tracking._hard(detector, photos)
assert [len(row) for row in rows] == [len(columns)] * 12
for row in rows:
    assert 1 < float(row[2]) < float(row[3]), row
for row in rows[:3]:
    assert 0 < float(row[6]) < 8 and row[7] == "0.00", row
assert float(rows[0][2]) < float(rows[2][2]) and rows[0][4:7] != rows[2][4:7], rows
"""


@pytest.mark.slow
@pytest.mark.parametrize("code", [FILTERED, FOLLOWED, HARD], ids=["filtered", "followed", "hard"])
def test_in_small(code):
    subprocess.run([sys.executable, "-c", code], check=True)
