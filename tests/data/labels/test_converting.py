"""Tiny exports of each tool, converted and read again: the same numbers, names and visibility."""

import csv
import os
import pathlib
import re

import cv2
import h5py
import label_exports as exports
import numpy as np
import pytest

from keras_lapkl.data import read_csv
from keras_lapkl.data.keypoints import KeypointError
from keras_lapkl.data.labels.converting import (
    convert_labels,
    in_last_block,
    part_paths,
    report,
)
from keras_lapkl.data.labels.formats import FORMATS

HIDDEN = {"CVAT", "Ultralytics"}
BOXED = set(exports.NAMED) - {"DeepLabCut", "SLEAP"}


@pytest.fixture
def convert(tmp_path):
    """Converts a path to labels.csv beside everything; what came of it, and what is read."""

    def convert(path, **kwargs):
        done = convert_labels(path, tmp_path / "labels.csv", **kwargs)
        return done, read_csv(tmp_path / "labels.csv", done.folder)

    return convert


def test_all_formats_are_tried():
    assert {each.name for each in FORMATS} == {*exports.NAMED, "WFLW"}


@pytest.mark.parametrize("tool", exports.NAMED)
def test_round_trip(convert, tmp_path, tool):
    done, found = convert(exports.NAMED[tool](tmp_path))
    assert done.format == tool
    assert found.scheme.names == exports.NAMES
    expected = np.full((2, 3, 2), np.nan)
    for i, points in enumerate(exports.POINTS.values()):
        for k, at in enumerate(points):
            expected[i, k] = (np.nan, np.nan) if at is None else at
    np.testing.assert_allclose(found.landmarks, expected, atol=1e-4)
    np.testing.assert_array_equal(found.visible, [[1, 1, 1], [1, 0, 1]])
    hidden = 1 if tool in HIDDEN else 2
    np.testing.assert_array_equal(done.visibility, [[2, 2, hidden], [2, 0, hidden]])
    if tool in BOXED:
        np.testing.assert_allclose(found.boxes, list(exports.BOX.values()), atol=1e-4)
    else:
        assert found.boxes is None
    assert done.gaps == {"left_ear": 1}
    assert all(path.is_file() for path in found.paths) and len(set(found.paths)) == 2
    sheet = cv2.imread(str(tmp_path / "labels.samples.jpg"))
    assert sheet.shape[1] > sheet.shape[0] > 100


def test_the_last_block_is_held_out(convert, tmp_path):
    done, whole = convert(exports.deeplabcut(tmp_path), validation_share=0.5)
    parts = [read_csv(part, done.folder) for part in part_paths(tmp_path / "labels.csv")]
    assert [part.paths for part in parts] == [whole.paths[:1], whole.paths[1:]]
    for i, part in enumerate(parts):
        np.testing.assert_array_equal(part.landmarks, whole.landmarks[i : i + 1])
        assert part.scheme.names == whole.scheme.names


@pytest.mark.parametrize("share", [0.1, 0.9, 1.0, -0.1, float("nan")])
def test_nothing_is_written_where_a_part_would_be_empty(tmp_path, share):
    source = exports.deeplabcut(tmp_path / "project")
    with pytest.raises(ValueError, match="`validation_share`"):
        convert_labels(source, tmp_path / "labels.csv", validation_share=share)
    assert [path.name for path in tmp_path.iterdir()] == ["project"]


def test_blocks_are_of_each_folder_by_number():
    names = ["a/img10.png", "a/img9.png", "b/x.png", "a/img8.png", "a/img10.png", "a/img11.png"]
    held_out = in_last_block([pathlib.Path(name) for name in names], 0.5)
    np.testing.assert_array_equal(held_out, [True, False, False, False, True, True])


@pytest.mark.parametrize(("length", "count"), [(1, 4), (2, 8), (3, 12), (10, 40)])
def test_many_short_folders_have_the_share_together(length, count):
    paths = [pathlib.Path(f"v{i}", f"{j}.png") for i in range(20) for j in range(length)]
    held_out = in_last_block(paths, 0.2).reshape(20, length)
    assert held_out.sum() == count and held_out.sum(1).max() - held_out.sum(1).min() <= 1
    assert (np.diff(held_out.astype(int), axis=1) >= 0).all()  # the last ones of each folder


def test_numbered_points_of_an_own_file_keep_their_numbers(convert, tmp_path):
    exports.write_pictures(tmp_path)
    (tmp_path / "mine.csv").write_text("a.png,1,2,3,4\nb.png,5,6,7,8\n")
    done, found = convert(tmp_path / "mine.csv", validation_share=0.5)
    assert done.names == (1, 2) and (tmp_path / "labels.csv").read_text().startswith("path,x1,y1,")
    np.testing.assert_array_equal(found.landmarks, [[[1, 2], [3, 4]], [[5, 6], [7, 8]]])
    assert len(read_csv(tmp_path / "labels.validation.csv").paths) == 1


def test_numbers_are_written_as_they_were(convert, tmp_path):
    exports.write_pictures(tmp_path)
    (tmp_path / "mine.csv").write_text("a.png,22.7,21.3,3,-0.0\n")
    convert(tmp_path / "mine.csv")
    assert (tmp_path / "labels.csv").read_text().splitlines()[1].endswith("a.png,22.7,21.3,3,0")


def test_objects_that_are_there_twice_are_told(convert, tmp_path, caplog):
    exports.write_pictures(tmp_path)
    (tmp_path / "mine.csv").write_text("a.png,1,2,3,4\nb.png,1,2,3,4\na.png,1,2,3,4\n")
    done, found = convert(tmp_path / "mine.csv")
    assert len(found) == 3
    (note,) = done.notes
    assert note.startswith("1 objects repeat another") and "line 3" in note
    assert "1 objects repeat another" in caplog.text and "line 3. Each" in caplog.text


def test_hidden_points_are_told_in_the_file(convert, tmp_path):
    convert(exports.cvat(tmp_path))
    with (tmp_path / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["right_ear_visible"] for row in rows] == ["1", "1"]
    assert [row["left_ear_visible"] for row in rows] == ["2", "0"]
    assert rows[1]["left_ear_x"] == "" and rows[0]["left_ear_x"] == "30.5"


def test_numbered_points(convert, tmp_path):
    done, found = convert(exports.wflw(tmp_path))
    assert done.format == "WFLW" and done.names == tuple(range(1, 99))
    np.testing.assert_allclose(found.landmarks[0], exports.wflw_points(), atol=1e-4)
    np.testing.assert_array_equal(found.boxes, [[8, 10, 60, 50]])


@pytest.mark.parametrize(
    ("numbers", "names"),
    [
        (("2", "0", "1"), ("0", "1", "2")),
        (("36", "38", "37"), ("point_36", "point_37", "point_38")),
        (("10", "1", "2"), ("point_1", "point_2", "point_10")),
    ],
)
def test_numbers_in_another_order_or_with_gaps(convert, tmp_path, numbers, names):
    path = exports.dlib(tmp_path)
    text = path.read_text()
    for old, new in zip(exports.NAMES, numbers, strict=True):
        text = text.replace(f"name='{old}'", f"name='{new}'")
    path.write_text(text)
    _, found = convert(path)
    assert found.scheme.names == names
    k = [name.removeprefix("point_") for name in names].index(numbers[0])
    assert found.landmarks[0, k].tolist() == list(exports.POINTS["a.png"][0])


def test_coco_with_names_of_another_machine(convert, tmp_path):
    """Names that lead out of the folder are found where the pictures are said to be."""
    path = exports.coco(tmp_path / "labels")
    content = exports.coco_data()
    for image in content["images"]:
        image["file_name"] = f"/home/other/pictures/{image['file_name']}"
    path.write_text(exports.json.dumps(content))
    (tmp_path / "labels" / "images").rename(tmp_path / "pictures")
    _, found = convert(path, images=tmp_path / "pictures")
    assert [path.name for path in found.paths] == ["a.png", "b.png"]
    assert {path.parent for path in found.paths} == {tmp_path / "pictures"}


class TestAccount:
    def test_of_what_is_left_out(self, convert, tmp_path):
        path = exports.coco(tmp_path)
        content = exports.coco_data()
        content["images"][1]["height"] = 65
        content["images"].append({"id": 5, "file_name": "gone.png"})
        content["images"].append({"id": 6, "file_name": "broken.png"})
        for i in (5, 6):
            content["annotations"].append({**content["annotations"][0], "id": i, "image_id": i})
        path.write_text(exports.json.dumps(content))
        (tmp_path / "images" / "broken.png").write_bytes(b"no picture")
        done, found = convert(path)
        assert [path.name for path in found.paths] == ["a.png"]
        reasons = [text.partition(", such as")[0] for text, n in done.left_out.items() if n]
        assert sorted(reasons) == [
            "objects whose picture can't be read",
            "objects whose picture has another size than their labels",
            "objects whose picture is missing",
        ]
        text = "\n".join(report(done))
        assert "COCO: 1 of 4 objects, in 1 pictures, 3 points each" in text
        assert "Gaps: 0 of 3 points are not labeled" in text
        assert "gone.png" in text and "96x64 in place of 96x65" in text

    @pytest.mark.parametrize("tool", exports.NAMED)
    def test_sums_agree(self, convert, tmp_path, tool):
        path = exports.NAMED[tool](tmp_path)
        for picture in tmp_path.rglob("b.png"):
            picture.write_bytes(b"")
        done, _ = convert(path)
        left = sum(n for text, n in done.left_out.items() if text.startswith("objects"))
        assert len(done.paths) + left == done.found == 2

    def test_of_nothing_that_is_left(self, convert, tmp_path):
        path = exports.dlib(tmp_path)
        (tmp_path / "a.png").unlink()
        (tmp_path / "b.png").unlink()
        with pytest.raises(KeypointError, match="2 objects whose picture is missing, such as a"):
            convert(path)
        assert not (tmp_path / "labels.csv").exists()

    def test_of_points_beside_the_picture(self, convert, tmp_path):
        path = exports.dlib(tmp_path)
        path.write_text(path.read_text().replace("x='70.0'", "x='170'"))
        done, _ = convert(path)
        assert done.notes[0].startswith("1 points lie beside their pictures, such as 'right_ear'")

    def test_of_an_object_beside_the_picture(self, convert, tmp_path):
        """Training would refuse it, and all the others with it."""
        path = exports.dlib(tmp_path)
        text = path.read_text().replace("x='70.0' y='50.0'", "x='170' y='50'")
        path.write_text(text.replace("x='5.0' y='6.0'", "x='-7' y='6'"))
        done, found = convert(path)
        assert [path.name for path in found.paths] == ["a.png"]
        left = {text: n for text, n in done.left_out.items() if "beside" in text and n}
        assert left == {
            f"objects that lie wholly beside their pictures, such as {path}, image 'b.png'": 1
        }
        assert not [note for note in done.notes if "beside" in note]

    def test_of_points_at_minus_one(self, convert, tmp_path):
        path = exports.dlib(tmp_path)
        path.write_text(path.read_text().replace("x='70.0' y='50.0'", "x='-1' y='-1'"))
        done, found = convert(path)
        assert not found.visible[1, 2]
        assert done.left_out["points at (-1, -1), which stand for none"] == 1

    def test_of_points_that_the_tool_has_in_the_corner(self, convert, tmp_path):
        """Its (-1, -1) and (0, 0) are half a pixel aside in the CSV file."""
        path = exports.cvat(tmp_path)
        text = path.read_text()
        spots = re.findall(r'outside="0" points="[^"]*"', text)
        for spot, other in zip(spots[:2], ("-1,-1", "0,0"), strict=True):
            text = text.replace(spot, f'outside="0" points="{other}"', 1)
        path.write_text(text)
        done, _ = convert(path)
        assert done.left_out["points at (-1, -1), which stand for none"] == 1
        assert done.notes[-1].startswith("1 points lie at exactly (0, 0).")

    def test_of_an_object_with_no_other_points(self, convert, tmp_path):
        path = exports.dlib(tmp_path)
        second = path.read_text().replace("x='70.0' y='50.0'", "x='-1' y='-1'")
        path.write_text(second.replace("x='5.0' y='6.0'", "x='-1' y='-1'"))
        done, found = convert(path)
        assert [path.name for path in found.paths] == ["a.png"]
        assert done.left_out["objects without a labeled point"] == 1


class TestPictures:
    def test_in_another_folder(self, convert, tmp_path):
        path = exports.dlib(tmp_path)
        (tmp_path / "other").mkdir()
        for name in exports.POINTS:
            (tmp_path / name).rename(tmp_path / "other" / name)
        text = path.read_text().replace("file='", "file='C:\\me\\photos\\")
        path.write_text(text)
        _, found = convert(path, images=tmp_path / "other")
        assert found.paths[0] == tmp_path / "other" / "a.png"

    def test_two_names_of_one(self, convert, tmp_path):
        path = exports.dlib(tmp_path)
        path.write_text(path.read_text().replace("file='b.png'", "file='elsewhere/a.png'"))
        account, found = convert(path)
        assert [path.name for path in found.paths] == ["a.png"]
        assert "elsewhere/a.png" in str(account)

    def test_outside_of_the_folder(self, convert, tmp_path):
        (tmp_path / "in").mkdir()
        path = exports.dlib(tmp_path / "in")
        exports.write_pictures(tmp_path, ["secret.png"])
        path.write_text(path.read_text().replace("file='b.png'", "file='../secret.png'"))
        _, found = convert(path)
        assert [path.name for path in found.paths] == ["a.png"]


class TestOutput:
    def test_same_again(self, convert, tmp_path):
        path = exports.sleap(tmp_path)
        one, two = convert(path)[0], convert(path)[0]
        assert one.paths == two.paths

    def test_nothing_is_left_of_pictures_that_are_refused(self, tmp_path):
        """Else they would be in the way of those of the mended file."""
        path = exports.sleap(tmp_path, 1.4)
        sound = path.read_bytes()
        with h5py.File(path, "r+") as file:
            pixels = file["video0/video"][:]
            pixels[:, 100:] = 1
            file["video0/video"][:] = pixels
        output = tmp_path / "new" / "labels.csv"
        with pytest.raises(KeypointError, match="picture can't be read"):
            convert_labels(path, output)
        assert os.listdir(tmp_path) == [path.name]
        path.write_bytes(sound)
        assert len(convert_labels(path, output).paths) == 2

    def test_nothing_is_left_where_a_part_is_in_the_way(self, convert, tmp_path):
        path = exports.sleap(tmp_path)
        (tmp_path / "labels.validation.csv").write_text("a.png,1,2,3,4\n")
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(ValueError, match=r"labels\.validation\.csv is there already"):
            convert(path, validation_share=0.5)
        assert sorted(tmp_path.rglob("*")) == before

    def test_what_was_there_is_left(self, convert, tmp_path):
        path = exports.sleap(tmp_path)
        done, _ = convert(path)
        (tmp_path / "labels.pictures" / "mine.txt").write_text("mine")
        done.paths[1].write_bytes(b"another")
        (tmp_path / "labels.csv").unlink()
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(ValueError, match="is there already, and would be replaced"):
            convert(path)
        assert sorted(tmp_path.rglob("*")) == before and done.paths[1].read_bytes() == b"another"

    def test_other_labels_there(self, convert, tmp_path):
        (tmp_path / "labels.csv").write_text("a.png,1,2,3,4\n")
        with pytest.raises(ValueError, match="is there already, with other labels"):
            convert(exports.dlib(tmp_path))
        assert (tmp_path / "labels.csv").read_text() == "a.png,1,2,3,4\n"

    @pytest.mark.parametrize(
        "name", ["labels.samples.jpg", "labels.pictures", "labels.pictures/video0"]
    )
    def test_links_at_names_that_no_user_gave(self, convert, tmp_path, name):
        path, victim, link = exports.sleap(tmp_path), tmp_path / "else", tmp_path / name
        victim.mkdir()
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(victim / "picture.jpg" if link.suffix == ".jpg" else victim)
        with pytest.raises(ValueError, match=f"{name} is a link"):
            convert(path)
        assert not list((tmp_path / "else").iterdir())

    def test_over_the_input(self, tmp_path):
        path = exports.deeplabcut(tmp_path) / "labeled-data/video/CollectedData_me.csv"
        with pytest.raises(ValueError, match="is an input"):
            convert_labels(path, path)

    def test_no_csv(self, tmp_path):
        with pytest.raises(ValueError, match=r"ends in \.csv"):
            convert_labels(exports.dlib(tmp_path), tmp_path / "labels.json")

    def test_names_that_a_spreadsheet_would_run(self, convert, tmp_path):
        path = exports.dlib(tmp_path)
        path.write_text(path.read_text().replace("name='nose'", "name='=nose'"))
        _, found = convert(path)
        assert found.scheme.names[0] == "=nose"
        assert "'=nose_x" in (tmp_path / "labels.csv").read_text()


class TestCategories:
    @pytest.fixture
    def path(self, tmp_path):
        path = exports.dlib(tmp_path)
        first, second = path.read_text().split("<image file='b.png'>")
        second = second.replace("<label>mouse</label>", "<label>rat</label>")
        path.write_text(f"{first}<image file='b.png'>{second}")
        return path

    def test_one_is_chosen(self, convert, path):
        done, found = convert(path, category="rat")
        assert [path.name for path in found.paths] == ["b.png"]
        assert done.left_out["objects of other categories"] == 1

    @pytest.mark.parametrize("category", [None, "cat"])
    def test_several(self, convert, path, category):
        with pytest.raises(KeypointError, match=r"'mouse' \(1 objects\), 'rat' \(1 objects\)"):
            convert(path, category=category)
