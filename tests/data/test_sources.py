import dataclasses
import logging

import cv2
import numpy as np
import pytest

from keras_lapkl.data import locate, shards, sources, write_pts
from keras_lapkl.data.images import ImageError
from keras_lapkl.data.synthetic import synthetic_faces


class TestSynthetic:
    def test_splits_share_no_face(self):
        a, b, c = (
            sources.load("synthetic", split=s, num_synthetic=6, image_size=32).images
            for s in ("train", "validation", "test")
        )
        assert not (a == b).all() and not (b == c).all() and not (a == c).all()

    def test_made_in_parts_as_in_one(self):
        crops = sources.load("synthetic", num_synthetic=103, image_size=16)
        images, landmarks = synthetic_faces(103, sources.SYNTHETIC_SPLITS["train"], 16)
        np.testing.assert_array_equal(crops.images, images)
        np.testing.assert_array_equal(crops.landmarks, landmarks)

    def test_same_each_time(self):
        a, b = (sources.load("synthetic", num_synthetic=3) for _ in range(2))
        np.testing.assert_array_equal(a.images, b.images)
        assert a.summary == "3 synthetic faces" and a.crop_scale == 3.0

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"data_dir": "x"}, "data_dir"),
            ({"split": "common"}, "validation"),
            ({"num_synthetic": 0}, "num_synthetic"),
            ({"crop_scale": 2.0}, "crop scale 3"),
        ],
    )
    def test_refused(self, change, message):
        with pytest.raises(ValueError, match=message):
            sources.load("synthetic", **change)


class TestSmall300W:
    @pytest.fixture
    def folder(self, tmp_path):
        """Twelve synthetic faces in the official layout."""
        images, landmarks = synthetic_faces(12, seed=5)
        for i in range(12):
            path = tmp_path / ("afw", "helen/trainset", "lfpw/trainset")[i % 3] / f"a {i}"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(f"{path}.png", images[i][..., ::-1])
            write_pts(f"{path}.pts", landmarks[i])
        return tmp_path

    def test_each_tenth_is_held_out_where_there_is_no_list(self, folder):
        train = sources.load("300w", folder, "train")
        validation = sources.load("300w", folder, "validation")
        assert (len(train), len(validation)) == (10, 2)
        assert not set(train.names) & set(validation.names)
        assert "each tenth held out" in train.summary and "afw 4 of 337" in train.summary

    def test_bad_image_stops_or_is_listed(self, folder, caplog):
        (folder / "afw" / "a 3.png").write_bytes(b"broken")
        with pytest.raises(ImageError, match=r"a 3\.png"):
            sources.load("300w", folder, "train")
        with caplog.at_level(logging.WARNING, logger="absl"):
            crops = sources.load("300w", folder, "train", skip_bad=True)
        assert len(crops) == 9 and len(crops.skipped) == 1
        assert "1 unreadable images left out" in crops.summary
        assert "a 3.png" in caplog.text

    def test_cache_gives_the_same(self, folder, tmp_path):
        first, again = (
            sources.load("300w", folder, "train", margin=8, cache_dir=tmp_path / "cache")
            for _ in range(2)
        )
        assert list((tmp_path / "cache").iterdir())
        np.testing.assert_array_equal(first.images, again.images)
        np.testing.assert_array_equal(first.landmarks, again.landmarks)


def test_synthetic_faces_have_no_photos_to_label():
    with pytest.raises(ValueError, match="no photos"):
        sources.read("synthetic", None, "test")


def test_data_dir_is_needed():
    with pytest.raises(ValueError, match="data_dir"):
        sources.read("aflw", None)
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


@pytest.fixture(scope="module")
def crops():
    return sources.load("synthetic", num_synthetic=12, image_size=32)


class TestUnlabeled:
    def test_none_unless_asked(self, crops):
        assert sources.load_unlabeled(crops) is None
        assert sources.load_unlabeled(crops, "nowhere", num_unlabeled=0) is None

    def test_synthetic_faces_of_their_own(self, crops):
        unlabeled = sources.load_unlabeled(crops, num_unlabeled=5)
        assert len(unlabeled) == 5 and unlabeled.image_size == 32
        assert not (unlabeled.gather([0])[0] == crops.images).all((1, 2, 3)).any()

    def test_the_labeled_ones(self, crops):
        unlabeled = sources.load_unlabeled(crops, labeled_as_unlabeled=True)
        np.testing.assert_array_equal(unlabeled.gather(range(12)), crops.images)
        assert len(sources.load_unlabeled(crops, None, 7, True)) == 7

    def test_shards(self, crops, tmp_path):
        photos = tmp_path / "photos"
        photos.mkdir()
        for i, image in enumerate(crops.images):
            cv2.imwrite(str(photos / f"{i}.png"), image)
        shards.crop_folder(
            photos,
            tmp_path / "shards",
            locate.ByBox((0.3, 0.3, 0.7, 0.7)),
            32,
            6,
            workers=1,
            progress=False,
        )
        unlabeled = sources.load_unlabeled(crops, tmp_path / "shards", 10)
        assert len(unlabeled) == 10 and unlabeled.margin == 6
        with pytest.raises(ValueError, match="first-pass model"):
            sources.load_unlabeled(crops, photos)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"num_unlabeled": -1}, "≥ 0"),
            ({"unlabeled_dir": "x", "labeled_as_unlabeled": True}, "not both"),
            ({"num_unlabeled": 13, "labeled_as_unlabeled": True}, "13"),
        ],
    )
    def test_refused(self, crops, arguments, message):
        with pytest.raises(ValueError, match=message):
            sources.load_unlabeled(crops, **arguments)

    def test_real_labels_need_a_folder(self, crops):
        real = dataclasses.replace(crops, name="300-W train")
        with pytest.raises(ValueError, match="unlabeled_dir"):
            sources.load_unlabeled(real, num_unlabeled=5)
