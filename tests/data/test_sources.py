import numpy as np
import pytest

from keras_lapkl.data import sources


class TestSynthetic:
    def test_splits_share_no_face(self):
        a, b, c = (
            sources.load("synthetic", split=s, num_synthetic=6, image_size=32).images
            for s in ("train", "validation", "test")
        )
        assert not (a == b).all() and not (b == c).all() and not (a == c).all()

    def test_same_each_time(self):
        a, b = (sources.load("synthetic", num_synthetic=3) for _ in range(2))
        np.testing.assert_array_equal(a.images, b.images)
        assert a.summary == "3 synthetic faces" and a.crop_scale == 3.0

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"data_dir": "x"}, "data_dir"),
            ({"split": "common"}, "validation"),
            ({"crop_scale": 2.0}, "crop scale 3"),
        ],
    )
    def test_refused(self, change, message):
        with pytest.raises(ValueError, match=message):
            sources.load("synthetic", **change)


def test_data_dir_is_needed():
    with pytest.raises(ValueError, match="data_dir"):
        sources.load("300w")


def test_unknown_dataset():
    with pytest.raises(ValueError, match="aflw"):
        sources.load("wflw", "x")


def test_num_synthetic_is_for_synthetic_faces():
    with pytest.raises(ValueError, match="num_synthetic"):
        sources.load("300w", "x", num_synthetic=3)


@pytest.mark.faces
def test_real_validation_faces(faces):
    crops = sources.load("300w", faces / "300w", "validation", margin=16)
    assert crops.images.shape == (200, 112, 112, 3) and crops.landmarks.shape == (200, 68, 2)
    inside = ((crops.landmarks > -0.5) & (crops.landmarks < 79.5)).all(-1)
    assert inside.mean() > 0.995
    assert "of 3,148 official training faces" in crops.summary
