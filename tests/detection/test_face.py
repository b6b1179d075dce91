import json

import numpy as np
import pytest

from keras_lapkl.detection.face import Face
from keras_lapkl.detection.tracking import TrackedFace


@pytest.fixture
def arrays():
    return {
        "landmarks": np.arange(136.0).reshape(68, 2) / 3,
        "scale": np.full((68, 2), 1 / 7),
        "square": np.array([30.0, 40.0, 51.0]),
    }


def test_repr_is_one_short_line(arrays):
    face = Face(**arrays, error=np.full(68, 1.234), box=np.array([10.0, 20, 50, 70]), score=0.987)
    assert repr(face) == (
        "Face(68 landmarks, box of 40x50 px about (30, 45), score 0.99, expected error 1.23 px)"
    )


def test_repr_of_a_face_without_box_or_calibration(arrays):
    assert repr(Face(**arrays)) == "Face(68 landmarks, crop of 51 px about (30, 40))"
    assert repr(TrackedFace(**arrays, id=3)).startswith("TrackedFace(id 3, 68 landmarks, crop of")


def test_to_dict_is_plain_data_rounded(arrays):
    face = Face(**arrays, score=np.float32(0.123456), angle=0.1234567, lost=np.bool_(False))
    data = json.loads(json.dumps(face.to_dict()))
    assert list(data) == ["score", "square", "landmarks", "scale", "angle", "lost"]
    assert data["lost"] is False
    assert data["score"] == 0.1235 and data["angle"] == 0.1235
    assert data["landmarks"][0] == [0.0, 0.333] and data["scale"][67] == [0.143, 0.143]


def test_what_is_not_calibrated_is_none(arrays):
    radius = np.array([np.inf, 2.0004, np.nan] + 65 * [1.0])
    data = Face(**arrays, error=np.ones(68), radius=radius).to_dict()
    assert data["radius"][:4] == [None, 2.0, None, 1.0]
    json.dumps(data, allow_nan=False)
    data = Face(**arrays, error=np.ones(68), radius=np.full(68, np.inf)).to_dict()
    assert "radius" not in data and len(data["error"]) == 68


def test_to_dict_of_a_tracked_face_begins_with_its_id(arrays):
    data = TrackedFace(**arrays, id=0, raw=arrays["landmarks"]).to_dict()
    assert list(data) == ["id", "square", "landmarks", "scale"] and data["id"] == 0
