import dataclasses
import functools
import json
import logging

import cv2
import label_exports
import numpy as np
import pytest

from keras_lapkl import schemes
from keras_lapkl.data import datasets, write_pts
from keras_lapkl.data.images import ImageError
from keras_lapkl.data.synthetic.faces import synthetic_faces
from keras_lapkl.data.unlabeled import shards
from keras_lapkl.detection import first_pass
from keras_lapkl.training_data import DataSet


class TestSynthetic:
    def test_splits_share_no_face(self):
        a, b, c = (
            datasets.load("synthetic", split=s, num_synthetic=6, image_size=32).images
            for s in ("train", "validation", "test")
        )
        assert not (a == b).all() and not (b == c).all() and not (a == c).all()

    def test_made_in_parts_as_in_one(self):
        crops = datasets.load("synthetic", num_synthetic=103, image_size=16)
        images, landmarks = synthetic_faces(103, datasets.SYNTHETIC_SPLITS["train"], 16)
        np.testing.assert_array_equal(crops.images, images)
        np.testing.assert_array_equal(crops.landmarks, landmarks)

    def test_same_each_time(self):
        a, b = (datasets.load("synthetic", num_synthetic=3) for _ in range(2))
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
            datasets.load("synthetic", **change)


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
        train = datasets.load("300w", folder, "train")
        validation = datasets.load("300w", folder, "validation")
        assert (len(train), len(validation)) == (10, 2)
        assert not set(train.names) & set(validation.names)
        assert "each tenth held out" in train.summary and "afw 4 of 337" in train.summary
        assert len(datasets.read("300w", folder, "train", hold_out=False)) == 12
        assert len(datasets.load("300w", folder, "validation", hold_out=False)) == 2

    def test_bad_image_stops_or_is_listed(self, folder, caplog):
        (folder / "afw" / "a 3.png").write_bytes(b"broken")
        with pytest.raises(ImageError, match=r"a 3\.png"):
            datasets.load("300w", folder, "train")
        with caplog.at_level(logging.WARNING, logger="absl"):
            crops = datasets.load("300w", folder, "train", skip_bad=True)
        assert len(crops) == 9 and len(crops.skipped) == 1
        assert "1 unreadable images left out" in crops.summary
        assert "a 3.png" in caplog.text

    def test_cache_gives_the_same(self, folder, tmp_path):
        first, again = (
            datasets.load("300w", folder, "train", margin=8, cache_dir=tmp_path / "cache")
            for _ in range(2)
        )
        assert list((tmp_path / "cache").iterdir())
        np.testing.assert_array_equal(first.images, again.images)
        np.testing.assert_array_equal(first.landmarks, again.landmarks)


def test_synthetic_faces_have_no_photos_to_label():
    with pytest.raises(ValueError, match="no photos"):
        datasets.read("synthetic", None, "test")


@pytest.fixture
def own(tmp_path):
    """A folder of 21 pictures of 64x48 and a function that writes a CSV or COCO file into it."""
    folder = tmp_path / "own"
    (folder / "pictures").mkdir(parents=True)
    points = np.random.default_rng(0).uniform(8, 40, (21, 3, 2)).round(1)
    picture = np.arange(64 * 48 * 3).reshape(48, 64, 3) % 251
    for i in range(21):
        cv2.imwrite(str(folder / "pictures" / f"{i}.png"), picture)

    def write(name, which=range(21), change=lambda point: point, objects=1):
        lines = [
            f"pictures/{i}.png," + ",".join(map(str, change(points[i] + j).ravel()))
            for i in which
            for j in range(objects)
        ]
        (folder / name).write_text(
            "path,a_x,a_y,left_x,left_y,right_x,right_y\n" + "\n".join(lines)
        )
        return folder

    return write


class TestOwn:
    def test_three_files(self, own):
        folder = own("train.csv", range(10))
        own("validation.csv", range(10, 15))
        own("test.csv", range(15, 21))
        splits = [datasets.load("csv", folder, s) for s in ("train", "validation", "test")]
        assert [len(crops) for crops in splits] == [10, 5, 6]
        assert splits[0].name == "csv train" and splits[0].crop_scale == 1.5
        assert splits[0].scheme.flip == (0, 2, 1)
        assert splits[0].summary.startswith("csv train: 10 objects in 10 images, 3 of 3 points")

    def test_a_tenth_is_held_out_by_image(self, own):
        folder = own("train.csv", objects=3)
        train, validation = (datasets.load("csv", folder, s) for s in ("train", "validation"))
        assert (len(train), len(validation)) == (54, 9)
        assert not set(train.names) & set(validation.names)
        assert validation.name == "csv train (validation)"
        assert "the validation part of 63, each tenth held out" in validation.summary
        assert "54 objects in 18 images" in train.summary
        assert "9 objects in 3 images" in validation.summary

    @pytest.mark.parametrize(
        ("missing", "held"),
        [
            ((), ["0.png", "10.png", "20.png"]),
            ((0, 3), ["10.png", "20.png"]),
            ((0, 10, 20), ["1.png", "12.png"]),
        ],
    )
    def test_images_that_come_back_do_not_change_sides(self, own, missing, held):
        """But where none is left to validate on, others are taken."""
        folder = own("train.csv")
        for i in missing:
            (folder / "pictures" / f"{i}.png").unlink()
        train, validation = (
            datasets.load("csv", folder, s, skip_bad=True) for s in ("train", "validation")
        )
        assert [name.rpartition("/")[2] for name in validation.names] == held
        count = 21 - len(missing) - len(held)
        assert f"{count} objects in {count} images" in train.summary
        assert not set(train.names) & set(validation.names)
        assert len(train.skipped) + len(validation.skipped) == len(missing)

    def test_a_tenth_of_labels_alone(self, own):
        folder = own("train.csv")
        expected = datasets.read("csv", folder, "validation").paths
        for path in (folder / "pictures").glob("*.png"):
            path.unlink()
        assert datasets.read("csv", folder, "validation").paths == expected

    def test_another_name_for_validation_is_told(self, own, caplog):
        folder = own("train.csv")
        own("val.csv", range(2))
        datasets.load("csv", folder, "train")
        assert not caplog.text
        datasets.load("csv", folder, "validation")
        assert "train.csv validates, not val.csv beside it" in caplog.text

    @pytest.mark.parametrize("hold_out", [True, False])
    def test_how_it_was_loaded_loads_it_again(self, own, hold_out):
        crops = datasets.load("csv", own("train.csv"), "train", hold_out=hold_out)
        assert len(datasets.load(**crops.loaded)) == len(crops) == (18 if hold_out else 21)

    @pytest.mark.parametrize(("split", "count"), [("train", 63), ("validation", 9)])
    def test_all_of_the_training_labels(self, own, split, count):
        found = datasets.read("csv", own("train.csv", objects=3), split, hold_out=False)
        assert len(found) == count

    def test_one_image_can_not_be_held_out(self, own):
        folder = own("train.csv", [4], objects=3)
        with pytest.raises(ValueError, match="csv train: expected two images or more"):
            datasets.load("csv", folder, "train")

    def test_files_as_splits(self, own, tmp_path):
        folder = own("mine.csv", range(6))
        assert len(datasets.load("csv", split=str(folder / "mine.csv"))) == 6
        (folder / "mine.csv").rename(tmp_path / "moved.csv")
        assert len(datasets.load("csv", folder, tmp_path / "moved.csv")) == 6
        with pytest.raises(FileNotFoundError, match=r"moved\.csv, line 2: there is no image"):
            datasets.load("csv", split=tmp_path / "moved.csv")
        assert len(datasets.load("csv", folder, own("all.csv") / "all.csv")) == 21
        assert len(datasets.load("csv", folder, "all")) == 21

    def test_suffix_in_upper_case(self, own):
        folder = own("L.CSV")
        assert len(datasets.read("csv", None, folder / "L.CSV")) == 21
        crops = datasets.load("csv", None, folder / "L.CSV", image_size=16, crop_scale="auto")
        assert crops.loaded["split"] == str(folder / "L.CSV")

    def test_coco(self, own):
        folder = own("unused.csv")
        content = {
            "images": [
                {"id": i, "file_name": f"{i}.png", "width": 64, "height": 48} for i in range(20)
            ],
            "annotations": [
                {
                    "id": i,
                    "image_id": i,
                    "category_id": 1,
                    "keypoints": [10, 20, 2, 30 + i, 40, 1, 0, 0, 0],
                    "bbox": [5, 5, 30, 40],
                }
                for i in range(20)
            ],
            "categories": [{"id": 1, "name": "bug", "keypoints": ["a", "b", "c"]}],
        }
        (folder / "train.json").write_text(json.dumps(content))
        (folder / "pictures").rename(folder / "images")
        crops = datasets.load("coco", folder, crop_from="box")
        assert len(crops) == 18 and crops.crop_scale == 1.25 and crops.scheme.name == "bug"
        np.testing.assert_array_equal(crops.visible, [[True, True, False]] * 18)
        validation = datasets.load("coco", folder, "validation", scheme=crops.scheme)
        assert validation.scheme.crop_from == "box"
        content["images"][3] |= {"width": 48, "height": 64}
        (folder / "train.json").write_text(json.dumps(content))
        with pytest.raises(ImageError, match=r"3\.png: its labels are for 48x64 .* 64x48"):
            datasets.load("coco", folder)
        skipped = datasets.load("coco", folder, skip_bad=True)
        assert len(skipped) == 17 and "EXIF" in skipped.skipped[0][1]

    def test_missing_pictures_may_be_left_out(self, own):
        folder = own("train.csv")
        (folder / "pictures" / "5.png").unlink()
        with pytest.raises(FileNotFoundError, match=r"train\.csv, line 7: .*5\.png; 1 of 21"):
            datasets.load("csv", folder)
        assert len(datasets.load("csv", folder, skip_bad=True)) == 17

    def test_labels_alone(self, own):
        """Neither pictures nor crops are needed; names tell whose points these are."""
        folder = own("test.csv", [3, 4], objects=2)
        (folder / "pictures" / "3.png").unlink()
        found = datasets.read("csv", folder, "test")
        assert len(found) == 4 and found.place(2) == f"{folder / 'test.csv'}, line 4"
        scheme = schemes.Scheme("x", ("right", "a", "left"))
        again = datasets.read("csv", folder, "test", scheme=scheme)
        np.testing.assert_array_equal(again.landmarks, found.landmarks[:, [2, 0, 1]])
        with pytest.raises(ValueError, match="`category` does not go with"):
            datasets.read("csv", folder, "test", category="dog")

    def test_what_has_no_crop_is_left_out(self, own):
        folder = own("train.csv")
        with (folder / "train.csv").open("a") as file:
            file.write("\npictures/3.png,5,6,,,,\n")
        crops = datasets.load("csv", folder, split=folder / "train.csv")
        assert len(crops) == 21 and "1 with fewer than two points" in crops.summary

    def test_the_scheme_of_a_model(self, own):
        folder = own("train.csv")
        scheme = schemes.Scheme("x", ("right", "a", "left"), crop_from="image")
        crops = datasets.load("csv", folder, scheme=scheme, crop_scale=1.2)
        assert crops.scheme == scheme and crops.crop_scale == 1.2
        assert crops.summary.endswith("; whole pictures")
        with pytest.raises(ValueError, match=r"the 68 points of scheme 'ibug68'\. Received: 3"):
            datasets.load("csv", folder, scheme="ibug68")

    @pytest.mark.parametrize(
        ("tool", "dataset"), [("DeepLabCut", "csv"), ("dlib", "csv"), ("labelme", "coco")]
    )
    def test_labels_of_another_tool(self, tmp_path, tool, dataset):
        texts = {
            "DeepLabCut": label_exports.deeplabcut_text(),
            "dlib": label_exports.dlib_text(),
            "labelme": json.dumps(label_exports.labelme_data()["a.png"]),
        }
        path = tmp_path / f"train{datasets.OWN[dataset]}"
        path.write_text(texts[tool])
        with pytest.raises(ValueError, match=f"These are labels of {tool}: lapkl labels --input="):
            datasets.load(dataset, tmp_path)

    def test_few_points_outside_are_told(self, own, caplog):
        folder = own("train.csv", range(20), lambda points: points + [[0, 0], [0, 0], [30, 0]])
        datasets.load("csv", folder)
        assert "points lie outside of their images, such as right at (" in caplog.text
        assert "0.png, 64x48" in caplog.text or "1.png, 64x48" in caplog.text

    def test_most_points_outside_are_refused(self, own):
        folder = own("train.csv", range(20), lambda points: points + 60)
        with pytest.raises(ValueError, match=r"54 of 54 points lie outside .* upright picture"):
            datasets.load("csv", folder)

    def test_border_is_inside(self, own, caplog):
        corners = np.array([[-0.5, -0.5], [63.5, 47.5], [0, 47]])
        datasets.load("csv", own("train.csv", range(20), lambda points: corners))
        assert "outside" not in caplog.text

    def test_shared_images_are_told(self, own):
        folder = own("train.csv")
        own("validation.csv", [3, 20])
        crops = [datasets.load("csv", folder, split) for split in ("train", "validation")]
        said = datasets.shared_images(*crops)
        assert said is not None
        assert "2 images of csv validation are among those of csv train, such as" in said
        assert datasets.shared_images(crops[0].take(range(3)), crops[1]) is None

    def test_all_of_a_file_is_not_trained_on_where_a_tenth_of_it_validates(self, own):
        folder = own("train.csv")
        with pytest.raises(ValueError, match="give --train_split=train, which leaves that tenth"):
            datasets.refuse_all_to_train("csv", folder, folder / "train.csv")
        for dataset, split in (("csv", "train"), ("csv", folder / "a.csv"), ("300w", "train.csv")):
            datasets.refuse_all_to_train(dataset, folder, split)
        own("validation.csv", [3])
        datasets.refuse_all_to_train("csv", folder, folder / "train.csv")

    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            ({"data_dir": None}, ValueError, r"folder of train\.csv, or a \.csv file as the split"),
            ({"split": "test"}, FileNotFoundError, r"no test\.csv in .*own"),
            ({"dataset": "coco"}, FileNotFoundError, r"no train\.json in .*own"),
            ({"split": "validation.csv"}, FileNotFoundError, r"validation\.csv"),
            ({"split": "train.csv"}, FileNotFoundError, r"one in .*own: give .*own.train\.csv"),
            ({"category": "dog"}, ValueError, "`category` does not go with dataset 'csv'"),
            ({"dataset": "300w", "crop_from": "box"}, ValueError, "`crop_from` does not go with"),
        ],
    )
    def test_refused(self, own, arguments, error, message):
        folder = own("train.csv")
        with pytest.raises(error, match=message):
            datasets.load(**{"dataset": "csv", "data_dir": folder, **arguments})

    def test_a_file_is_no_folder(self, own):
        file = own("train.csv") / "train.csv"
        with pytest.raises(NotADirectoryError, match="given as the split"):
            datasets.load("csv", file)

    def test_images_without_labels_need_the_points_or_are_whole(self, own):
        crops = datasets.load("csv", own("train.csv"), crop_from="image")
        boxed = dataclasses.replace(crops.scheme, crop_from="box")
        with pytest.raises(ValueError, match="cropped from their boxes"):
            datasets.load_unlabeled(dataclasses.replace(crops, scheme=boxed), "shards")
        assert len(datasets.load_unlabeled(crops, labeled_as_unlabeled=True)) == len(crops)


def test_faces_of_other_points_are_refused(tmp_path):
    other = schemes.Scheme("x", ("a", "b"))
    with pytest.raises(ValueError, match=r"faces have scheme 'ibug68'\. Received: 'x'"):
        datasets.load("synthetic", scheme=other)
    write_pts(tmp_path / "afw" / "a.pts", np.arange(136).reshape(68, 2))
    (tmp_path / "afw" / "a.png").touch()
    stems = tmp_path / "stems.txt"
    stems.write_text("afw/a")
    with pytest.raises(ValueError, match=r"the points of scheme 'ibug68'\. Expected .* 'x'"):
        datasets.load("300w", tmp_path, str(stems), scheme=other)


def test_data_dir_is_needed():
    with pytest.raises(ValueError, match="data_dir"):
        datasets.read("aflw", None)
    with pytest.raises(ValueError, match="data_dir"):
        datasets.load("300w")


def test_unknown_dataset():
    with pytest.raises(ValueError, match="aflw"):
        datasets.load("wflw", "x")


def test_num_synthetic_is_for_synthetic_faces():
    with pytest.raises(ValueError, match="num_synthetic"):
        datasets.load("300w", "x", num_synthetic=3)


@pytest.mark.faces
def test_real_validation_faces(faces):
    crops = datasets.load("300w", faces / "300w", "validation", margin=16)
    assert crops.images.shape == (200, 112, 112, 3) and crops.landmarks.shape == (200, 68, 2)
    inside = ((crops.landmarks > -0.5) & (crops.landmarks < 79.5)).all(-1)
    assert inside.mean() > 0.995
    assert "of 3,148 official training faces" in crops.summary


@pytest.fixture(scope="module")
def crops():
    return datasets.load("synthetic", num_synthetic=12, image_size=32)


class TestUnlabeled:
    def test_none_unless_asked(self, crops):
        assert datasets.load_unlabeled(crops) is None
        assert datasets.load_unlabeled(crops, "nowhere", num_unlabeled=0) is None

    def test_synthetic_faces_of_their_own(self, crops):
        unlabeled = datasets.load_unlabeled(crops, num_unlabeled=5)
        assert len(unlabeled) == 5 and unlabeled.image_size == 32
        assert not (unlabeled.gather([0])[0] == crops.images).all((1, 2, 3)).any()

    def test_those_of_a_name_are_not_synthetic(self, crops):
        """A name is for people; the record of the data says what they are."""
        named = dataclasses.replace(crops, name="mine")
        assert len(datasets.load_unlabeled(named, num_unlabeled=5)) == 5
        others = dataclasses.replace(crops, name="synthetic hands", source=None)
        with pytest.raises(ValueError, match="`num_unlabeled` needs `unlabeled_dir`"):
            datasets.load_unlabeled(others, num_unlabeled=5)

    def test_the_labeled_ones(self, crops):
        unlabeled = datasets.load_unlabeled(crops, labeled_as_unlabeled=True)
        np.testing.assert_array_equal(unlabeled.gather(range(12)), crops.images)
        assert len(datasets.load_unlabeled(crops, None, 7, True)) == 7

    def test_shards(self, crops, tmp_path):
        photos = tmp_path / "photos"
        photos.mkdir()
        for i, image in enumerate(crops.images):
            cv2.imwrite(str(photos / f"{i}.png"), image)
        shards.crop_folder(
            photos,
            tmp_path / "shards",
            first_pass.ByBox((0.3, 0.3, 0.7, 0.7)),
            32,
            6,
            workers=1,
            progress=False,
        )
        unlabeled = datasets.load_unlabeled(crops, tmp_path / "shards", 10)
        assert len(unlabeled) == 10 and unlabeled.margin == 6
        with pytest.raises(ValueError, match="folder for their crops by `cache_dir`"):
            datasets.load_unlabeled(crops, photos)
        with pytest.raises(ValueError, match="a scheme of faces such as 'ibug68', a first-pass"):
            datasets.load_unlabeled(crops, photos, cache_dir=tmp_path / "cache")

    def test_photos_that_changed_are_cropped_anew(self, crops, tmp_path, monkeypatch, caplog):
        """A run's cache; the crops of the photos that were there stay."""
        one = functools.partial(shards.crop_folder, workers=1, progress=False)
        monkeypatch.setattr(shards, "crop_folder", one)
        photos, cache = tmp_path / "photos", tmp_path / "cache"
        photos.mkdir()
        for i, image in enumerate(crops.images[:3]):
            cv2.imwrite(str(photos / f"{i}.png"), image)
        args = crops, photos, None, False, first_pass.ByBox((0.3, 0.3, 0.7, 0.7)), cache
        before = datasets.load_unlabeled(*args)
        cv2.imwrite(str(photos / "1.png"), crops.images[5])
        for _ in range(2):
            now = datasets.load_unlabeled(*args)
            assert (now.digests() != before.digests()).tolist() == [False, True, False]
        assert "unlabeled holds faces of other photos" in caplog.text
        assert "Name another folder" not in caplog.text
        assert caplog.text.count("These photos are cropped anew") == 1
        assert sorted(path.name for path in cache.iterdir()) == ["unlabeled", "unlabeled-2"]

    def test_photos_cut_in_another_way_are_cropped_beside(
        self, crops, tmp_path, monkeypatch, caplog
    ):
        one = functools.partial(shards.crop_folder, workers=1, progress=False)
        monkeypatch.setattr(shards, "crop_folder", one)
        photos, cache = tmp_path / "photos", tmp_path / "cache"
        photos.mkdir()
        for i, image in enumerate(crops.images[:3]):
            cv2.imwrite(str(photos / f"{i}.png"), image)
        found = []
        for box in (0.3, 0.35, 0.35, 0.3):
            locate = first_pass.ByBox((box, box, 0.7, 0.7))
            faces = datasets.load_unlabeled(crops, photos, None, False, locate, cache)
            found.append(faces.digests().tolist())
        assert found[0] == found[3] != found[1] == found[2]
        assert caplog.text.count("cut in another way. These photos are cropped anew") == 1

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
            datasets.load_unlabeled(crops, **arguments)

    def test_real_labels_need_a_folder(self, crops):
        real = dataclasses.replace(crops, name="300-W train", source=DataSet("300-W train", 12))
        with pytest.raises(ValueError, match="unlabeled_dir"):
            datasets.load_unlabeled(real, num_unlabeled=5)
