"""What each format tells: conventions, kinds of its files, and broken ones, in one line."""

import json
import pathlib
import re
import shutil
import struct
import sys
import tracemalloc
import unicodedata
import zlib

import cv2
import h5py
import label_exports as exports
import numpy as np
import pytest

from keras_lapkl.data import pictures
from keras_lapkl.data.keypoints import KeypointError
from keras_lapkl.data.labels.formats import known, recognize


def read(path, category=None, images=None):
    tool, source = known(path, category, images)
    return tool.read(source)


def refused(path, text):
    with pytest.raises(KeypointError, match=text) as error:
        read(path)
    assert "\n" not in str(error.value) and str(path.name) in str(error.value)


def assert_left_out(found, text):
    """That one picture is left out for that reason, and another one is read."""
    assert found.objects
    (said,) = (each for each in found.left_out if "can't be understood" in each)
    assert found.left_out[said] == 1 and re.search(text, said)


class TestRecognition:
    @pytest.mark.parametrize("tool", exports.NAMED)
    def test_of_each(self, tmp_path, tool):
        assert recognize(exports.NAMED[tool](tmp_path))[0].name == tool

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"\x89PNG\r\n\x1a\n",
            b"path,nose_x,nose_y\na.png,1,2\n",
            b"a.png 1 2 3 4\n",
            b"1 2 3 4 5\n",
            b"[]",
            b'{"images": []}',
            b"<annotation><object/></annotation>",
            b"\xff\xfe\0x",
        ],
    )
    def test_of_none(self, tmp_path, content):
        path = tmp_path / "x.txt"
        path.write_bytes(content)
        assert recognize(path) is None
        refused(path, "expected labels of one of these: DeepLabCut .*; SLEAP .*; COCO ")

    def test_of_an_empty_folder(self, tmp_path):
        refused(tmp_path, "Received: others")

    def test_of_nothing(self, tmp_path):
        with pytest.raises(FileNotFoundError):
            recognize(tmp_path / "gone.csv")

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"path,a_x,a_y,score\nx.png,1,2,3\n", "line 1: .*'score'"),
            (b"path,a_x,a_y,a_x\nx.png,1,2,3\n", "'a_x' twice"),
            ("path,naïf_x,naïf_y\nx.png,1,2\n".encode("latin1"), "Save it as UTF-8"),
            ("path,a_x,a_y\nx.png,1,2\n".encode("utf-16"), "Save it as UTF-8"),
        ],
    )
    def test_of_a_csv_that_is_almost_ours(self, tmp_path, content, message):
        path = tmp_path / "x.csv"
        path.write_bytes(content)
        assert recognize(path) is None
        refused(path, message)

    def test_of_a_table_of_deeplabcut_in_hdf5(self, tmp_path):
        path = tmp_path / "CollectedData_me.h5"
        with h5py.File(path, "w") as file:
            file["df_with_missing/table"] = np.zeros(3)
        refused(path, r"give CollectedData_\*\.csv")

    @pytest.mark.parametrize("text", ["<a", "{", "[1", "<a>&b;</a>", "[" * 100_000])
    def test_of_broken_text(self, tmp_path, text):
        path = tmp_path / "x"
        path.write_text(text)
        refused(path, "is not valid JSON|expected XML")

    @pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
    def test_of_a_doctype(self, tmp_path, encoding):
        text = (
            f'<?xml version="1.0" encoding="{encoding}"?><!DOCTYPE dataset [<!ENTITY x SYSTEM '
            '"file:///etc/hostname">]><dataset><images><image file="&x;"/></images></dataset>'
        )
        path = tmp_path / "x.xml"
        path.write_bytes(text.encode(encoding))
        if encoding == "utf-8":
            refused(path, "a DOCTYPE, whose entities")
        else:
            refused(path, "Received: others")


class TestDeepLabCut:
    def write(self, folder, text):
        exports.write_pictures(folder)
        path = folder / "CollectedData_me.csv"
        path.write_text(text)
        return path

    @pytest.mark.parametrize("project", [True, False])
    def test_several_tables_of_one_video(self, tmp_path, project):
        folder = tmp_path / "labeled-data" / "video" if project else tmp_path
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("a", "b"):
            text = exports.deeplabcut_text(
                "labeled-data,video,", ("scorer,,", "bodyparts,,", "coords,,")
            )
            (folder / f"CollectedData_{name}.csv").write_text(text)
        message = "one table of labels. Received: CollectedData_a.csv, CollectedData_b.csv"
        refused(tmp_path, message)
        assert len(read(folder / "CollectedData_a.csv").objects) == len(exports.POINTS)

    def test_path_in_three_cells(self, tmp_path):
        text = exports.deeplabcut_text(
            "labeled-data,video,", ("scorer,,", "bodyparts,,", "coords,,")
        )
        found = read(self.write(tmp_path, text))
        assert [each.picture for each in found.objects] == [
            f"labeled-data/video/{name}" for name in exports.POINTS
        ]

    def test_several_animals(self, tmp_path):
        text = (
            "scorer,me,me,me,me,me,me,me,me\n"
            "individuals,one,one,one,one,two,two,single,single\n"
            "bodyparts,nose,nose,tail,tail,nose,nose,corner,corner\n"
            "coords,x,y,x,y,x,y,x,y\n"
            "a.png,1,2,3,4,5,6,7,8\n"
            "b.png,1,2,,,,,NaN,nan\n"
        )
        found = read(self.write(tmp_path, text))
        assert found.names == {"individuals": ("nose", "tail"), "single": ("corner",)}
        assert [(each.picture, each.category, dict(each.points)) for each in found.objects] == [
            ("a.png", "individuals", {"nose": (1, 2, 2), "tail": (3, 4, 2)}),
            ("a.png", "individuals", {"nose": (5, 6, 2)}),
            ("a.png", "single", {"corner": (7, 8, 2)}),
            ("b.png", "individuals", {"nose": (1, 2, 2)}),
        ]

    @pytest.mark.parametrize("separator", [";", "\t"])
    def test_saved_by_a_spreadsheet(self, tmp_path, separator):
        text = "scorer|me|me\nbodyparts|nose|nose\ncoords|x|y\na.png|1,5|20\n"
        path = self.write(tmp_path, text.replace("|", separator))
        assert read(path).objects[0].points == {"nose": (1.5, 20, 2)}

    def test_lightning_pose(self, tmp_path):
        self.write(tmp_path, exports.deeplabcut_text())
        assert len(read(tmp_path).objects) == 2

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            ("bodyparts", "parts", "expected DeepLabCut's header rows scorer, bodyparts, coords"),
            ("coords,x,y", "coords,x,likelihood", "its predictions, with likelihoods"),
            ("coords,x,y", "coords,x,x", "expected x and y once"),
            ("coords,x,y,x", "coords,z,y,x", "expected x and y"),
            ("a.png,10.0", "a.png", "line 4: expected 7 cells, as in the others. Received: 6"),
            ("a.png,10.0", "a.png,ten", "line 4: expected a number of pixels for x of nose"),
            ("a.png,10.0", "a.png,", "line 4: expected a number of pixels for x of nose"),
            ("a.png,10.0", "a.png,1e9", "line 4: expected a number of pixels for x of nose"),
            ("a.png,10.0", "a.png,inf", "line 4: expected a number of pixels for x of nose"),
            ("a.png", "", "line 4: expected the path of a picture"),
            ("a.png", '"a.png', "no CSV"),
        ],
    )
    def test_broken(self, tmp_path, old, new, message):
        text = exports.deeplabcut_text()
        refused(self.write(tmp_path, text.replace(old, new, 1)), message)


class TestSleap:
    def test_before_1_1_zero_was_the_edge(self, tmp_path):
        found = read(exports.sleap(tmp_path, format_id=1.0, shift=0.5))
        assert found.objects[0].points["nose"] == (10, 20, 2)
        assert found.left_out["instances that SLEAP predicted"] == 1

    @pytest.mark.parametrize(
        ("format_id", "order"),
        [(1.2, None), (1.4, "BGR"), (1.4, "RGB"), (1.4, None), (1.4, b"BGR")],
    )
    def test_colors_are_those_of_the_video(self, tmp_path, format_id, order):
        swapped = order if isinstance(order, str) or order is None else order.decode()
        path = exports.sleap(tmp_path, format_id, order=swapped)
        if isinstance(order, bytes):
            with h5py.File(path, "r+") as file:
                file["video0/video"].attrs["channel_order"] = np.bytes_(order)
        found = read(path)
        assert sorted(found.embedded) == ["video0/000004.png", "video0/000007.png"]
        for content in found.embedded.values():
            image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
            np.testing.assert_array_equal(image, exports.picture())

    def test_gray_pictures_stay_as_they_are(self, tmp_path):
        path = exports.sleap(tmp_path)
        _, png = cv2.imencode(".png", exports.picture()[..., 0])
        with h5py.File(path, "r+") as file:
            del file["video0/video"]
            file["video0/video"] = np.stack([png.astype(np.int8).ravel()] * 2)
            file["video0/video"].attrs["format"] = "png"
        assert set(read(path).embedded.values()) == {png.tobytes()}

    def test_another_order_of_channels(self, tmp_path):
        refused(exports.sleap(tmp_path, 1.4, order="YUV"), "RGB or BGR. Received: 'YUV'")

    def test_videos_by_the_numbers_of_their_datasets(self, tmp_path):
        """As where other videos were taken out of the project."""
        found = read(exports.sleap(tmp_path, video=15))
        assert [each.picture for each in found.objects] == [
            "video15/000004.png",
            "video15/000007.png",
        ]

    def test_videos_whose_numbers_could_be_places(self, tmp_path):
        """Frames of video 1 alone, of videos 1 and 2: the first in the list, and not the second."""
        path = exports.sleap(tmp_path, video=1)
        with h5py.File(path, "r+") as file:
            about = json.loads(file["videos_json"][0])
            other = {**about, "backend": {**about["backend"], "dataset": "video2/video"}}
            del file["videos_json"]
            file["videos_json"] = [json.dumps(each).encode() for each in (about, other)]
            file.copy("video1", "video2")
        assert {each.picture[:6] for each in read(path).objects} == {"video1"}

    def test_videos_by_their_places(self, tmp_path):
        """All frames are called 0, and the one dataset is video3."""
        path = exports.sleap(tmp_path)
        with h5py.File(path, "r+") as file:
            about = file["videos_json"][0].replace(b"video0", b"video3")
            del file["videos_json"]
            file["videos_json"] = [about]
            file.move("video0", "video3")
        assert {each.picture[:6] for each in read(path).objects} == {"video3"}

    def test_pictures_in_files(self, tmp_path):
        path = exports.sleap(tmp_path)
        video = {"backend": {"type": "ImageVideo", "filenames": [f"{i}.png" for i in range(9)]}}
        with h5py.File(path, "r+") as file:
            del file["videos_json"]
            file["videos_json"] = [json.dumps(video).encode()]
        assert [each.picture for each in read(path).objects] == ["4.png", "7.png"]

    @pytest.mark.parametrize("video", [0, 15])
    def test_points_of_a_cropped_video(self, tmp_path, video):
        """They start from the crop's corner; the pictures in the file are whole."""
        path = exports.sleap(tmp_path, 2.3, video=video)
        before = [each.points for each in read(path).objects]
        with h5py.File(path, "r+") as file:
            file["video_crops"] = np.bytes_(
                b'[{"video":7,"crop":[1,1,9,9]},{"video":0,"crop":[100,-50,250,180],"fill":0}]'
            )
        found = [each.points for each in read(path).objects]
        assert found == [
            {name: (x + 100, y - 50, seen) for name, (x, y, seen) in points.items()}
            for points in before
        ]
        assert any(found)

    @pytest.mark.parametrize(
        "crops",
        [
            b"{",
            b"[1]",
            b'[{"video": 0}]',
            b"{}",
            b'[{"video": 1e999, "crop": [1, 2, 3, 4]}]',
            b'[{"video": 0, "crop": [1, 2]}]',
            b'[{"crop": 1}]',
        ],
    )
    def test_crops_that_are_none(self, tmp_path, crops):
        path = exports.sleap(tmp_path, 2.3)
        with h5py.File(path, "r+") as file:
            file["video_crops"] = np.bytes_(crops)
        with pytest.raises(KeypointError) as error:
            read(path)
        assert re.search("JSON|video_crops", str(error.value).replace(str(path), ""))

    @pytest.mark.parametrize("format_id", [3.0, 4.5, float("nan")])
    def test_formats_that_may_mean_something_else(self, tmp_path, format_id):
        refused(exports.sleap(tmp_path, format_id), "format below 3.*Save it as CSV or COCO")

    def test_frames_of_a_video(self, tmp_path):
        path = exports.sleap(tmp_path)
        with h5py.File(path, "r+") as file:
            del file["videos_json"]
            file["videos_json"] = [b'{"backend": {"type": "MediaVideo", "filename": "a.mp4"}}']
        refused(path, "2 instances in frames of a video.*Export Labels Package")

    def test_links_into_other_files(self, tmp_path):
        path, other = exports.sleap(tmp_path), exports.sleap(tmp_path, name="other.slp")
        with h5py.File(path, "r+") as file:
            del file["points"]
            file["points"] = h5py.ExternalLink(str(other), "points")
        refused(path, "with 'points'. Received: none")

    def test_data_in_other_files(self, tmp_path):
        path = exports.sleap(tmp_path)
        (tmp_path / "raw").write_bytes(bytes(1000))
        with h5py.File(path, "r+") as file:
            about = file["points"].dtype
            del file["points"]
            raw = [(str(tmp_path / "raw"), 0, 1000)]
            file.create_dataset("points", (6,), about, external=raw)
        refused(path, "expected 'points' in the file itself")

    def test_more_than_memory(self, tmp_path):
        path = exports.sleap(tmp_path)
        with h5py.File(path, "r+") as file:
            about = file["points"].dtype
            del file["points"]
            file.create_dataset("points", (1 << 40,), about, chunks=(1000,), compression="gzip")
        refused(path, "expected at most 67108864 bytes of 'points'")

    def test_texts_that_are_one_and_the_same(self, tmp_path):
        """Rows of any length, which all refer to one place in the file."""
        path = exports.sleap(tmp_path)
        with h5py.File(path, "r+") as file:
            about = file["videos_json"][0]
            del file["videos_json"]
            texts = file.create_dataset("videos_json", (3_000,), h5py.string_dtype())
            texts[0] = about.decode() + " " * 100_000
        content = path.read_bytes()
        size = len(about) + 100_000
        at = content.index(size.to_bytes(4, "little"))
        row, rows = content[at : at + 16], 3_000 * 16
        path.write_bytes(content[:at] + row * 3_000 + content[at + rows :])
        refused(path, "expected at most 67108864 bytes of 'videos_json'")

    @pytest.mark.parametrize("order", ["RGB", "BGR"])
    def test_pictures_that_were_never_written(self, tmp_path, order):
        """HDF5 fills them with zeros, of which a small file can claim any number."""
        path = exports.sleap(tmp_path)
        with h5py.File(path, "r+") as file:
            del file["video0/video"]
            about = {"dtype": "i1", "chunks": (1, 1 << 20)}
            file["video0"].create_dataset("video", (2, 300_000_000), **about)
            file["video0/video"].attrs.update(format="png", channel_order=order)
        refused(path, "expected at most 268435456 bytes of pictures in a file of")

    def test_rows_that_are_filled_up_to_the_largest_picture(self, tmp_path, monkeypatch):
        """As gzip leaves next to nothing of the zeros, they count for nothing."""
        path = exports.sleap(tmp_path)
        png = np.frombuffer(cv2.imencode(".png", exports.picture())[1].tobytes(), np.int8)
        monkeypatch.setattr("keras_lapkl.data.labels.sleap._SMALL_PICTURES", 2_000_000)
        with h5py.File(path, "r+") as file:
            del file["video0/video"]
            rows = np.zeros((2, 1_500_000), np.int8)
            rows[:, : len(png)] = png
            file["video0"].create_dataset("video", data=rows, compression="gzip")
            file["video0/video"].attrs.update(format="png", channel_order="RGB")
        assert set(read(path).embedded.values()) == {png.tobytes()}

    @pytest.mark.parametrize("side", [15, 30_000, 60_000])
    def test_pictures_of_a_size_that_is_not_read(self, tmp_path, side, monkeypatch):
        """They are passed on as they are, to be told of like any other."""
        path = exports.sleap(tmp_path)
        png = bytearray(cv2.imencode(".png", exports.picture())[1].tobytes())
        png[16:24] = struct.pack(">II", side, side)
        png[29:33] = struct.pack(">I", zlib.crc32(png[12:29]))
        with h5py.File(path, "r+") as file:
            del file["video0/video"]
            file["video0/video"] = np.stack([np.frombuffer(png, np.int8)] * 2)
            file["video0/video"].attrs["format"] = "png"
        monkeypatch.setattr(cv2, "imdecode", None)
        assert set(read(path).embedded.values()) == {bytes(png)}

    @pytest.mark.parametrize("error", [MemoryError(), cv2.error("too large")])
    def test_what_does_not_fit(self, tmp_path, monkeypatch, error):
        def fails(*args):
            raise error

        path = exports.sleap(tmp_path)
        monkeypatch.setattr(cv2, "imencode", fails)
        refused(path, "can't be read so: (MemoryError|too large)")

    def test_other_hdf5(self, tmp_path):
        path = tmp_path / "x.h5"
        with h5py.File(path, "w") as file:
            file["tracks"] = np.zeros(3)
        refused(path, "expected SLEAP's labels")

    def test_needs_the_extra(self, tmp_path, monkeypatch):
        path = exports.sleap(tmp_path)
        monkeypatch.setitem(sys.modules, "h5py", None)
        with pytest.raises(ModuleNotFoundError, match=r"pip install 'keras_lapkl\[labels\]'"):
            read(path)

    def test_cut(self, tmp_path):
        path = exports.sleap(tmp_path)
        path.write_bytes(path.read_bytes()[:3000])
        refused(path, "Received HDF5 that can't be read")


class TestLabelStudio:
    def write(self, folder, data):
        path = folder / "x.json"
        path.write_text(json.dumps(data))
        return path

    def test_small_export(self, tmp_path):
        common = {"original_width": 200, "original_height": 100}
        points = [
            {**common, "x": 50, "y": 50, "keypointlabels": ["nose"]},
            {**common, "x": 0, "y": 100, "keypointlabels": ["tail"]},
        ]
        tasks = [{"id": 3, "image": "s3://bucket/a.png", "kp": points}, {"image": "b.png"}]
        found = read(self.write(tmp_path, tasks))
        assert dict(found.objects[0].points) == {"nose": (99.5, 49.5, 2), "tail": (-0.5, 99.5, 2)}
        assert found.objects[0].size == (200, 100)
        assert found.left_out["pictures without points"] == 1

    def test_small_exports_that_are_put_together(self, tmp_path):
        """Of two servers, which both count from 1; and a later answer without points."""
        sizes = {"original_width": 200, "original_height": 100}
        point = {**sizes, "x": 10, "y": 50, "keypointlabels": ["nose"]}
        tasks = [{"id": 1, "image": name, "kp": [point]} for name in ("a.png", "b.png")]
        tasks.append({"id": 1, "image": "a.png", "good": "yes", "created_at": "2024-01-01"})
        found = read(self.write(tmp_path, tasks))
        assert [each.picture for each in found.objects] == ["a.png", "b.png"]

    def test_small_export_of_several_annotators(self, tmp_path):
        """A record for each annotation; the newest is taken, wherever it stands."""
        sizes = {"original_width": 200, "original_height": 100}
        tasks = [
            {
                "id": task,
                "image": f"{task}.png",
                "kp": [{**sizes, "x": x, "y": 50, "keypointlabels": ["nose"]}],
                "annotation_id": x,
                "created_at": f"2024-01-{day:02}T00:00:00Z",
            }
            for task, x, day in [(1, 10, 1), (1, 20, 3), (2, 40, 9), (1, 30, 2)]
        ]
        found = read(self.write(tmp_path, tasks))
        assert [each.points["nose"][0] for each in found.objects] == [39.5, 79.5]
        assert found.left_out["further annotations of a picture"] == 2
        assert any("rotated in Label Studio" in note for note in found.notes)
        assert read(self.write(tmp_path, exports.label_studio_data())).notes == ()

    def test_time_stamps_name_no_picture(self, tmp_path):
        point = {"original_width": 9, "original_height": 9, "x": 50, "y": 50}
        stamps = {"created_at": "2024-05-01T10:00:00.12Z", "annotator": "ann@x.org"}
        tasks = [{"photo": "a.png", "kp": [{**point, "keypointlabels": ["nose"]}], **stamps}]
        assert [each.picture for each in read(self.write(tmp_path, tasks)).objects] == ["a.png"]

    @pytest.mark.parametrize(("key", "value"), [("to_name", "other"), ("item_index", 1)])
    def test_several_pictures_in_a_task(self, tmp_path, key, value):
        first, second = exports.label_studio_data()
        first["annotations"][0]["result"][1][key] = value
        message = "expected one picture in a task. Received: regions of 2"
        assert_left_out(read(self.write(tmp_path, [first, second])), message)

    def test_relations_in_place_of_parents(self, tmp_path):
        tasks = exports.label_studio_data()
        results = tasks[0]["annotations"][0]["result"]
        for each in results[1:]:
            del each["parentID"]
            ends = {"from_id": "box0", "to_id": each["id"]}
            results.append({**ends, "type": "relation", "direction": "right"})
        second = [{**each, "id": f"{each['id']}+"} for each in results if "value" in each]
        for each in second[1:]:
            each["parentID"] = "box0+"
        results += second
        path = self.write(tmp_path, tasks[:1])
        first, other = read(path).objects
        assert first.points == other.points and first.box == other.box is not None

    def test_relations_between_points_take_none_from_its_box(self, tmp_path):
        tasks = exports.label_studio_data()
        results = tasks[0]["annotations"][0]["result"]
        points = [each["id"] for each in results[1:]]
        for each in results[1:]:
            del each["parentID"]
        pairs = [("box0", point) for point in points] + [tuple(points[:2])]
        relations = [{"from_id": a, "to_id": b, "type": "relation"} for a, b in pairs]
        tasks[0]["annotations"][0]["result"] = results + relations
        (found,) = read(self.write(tmp_path, tasks[:1])).objects
        assert len(found.points) == len(points) and found.box is not None
        other = {**results[0], "id": "box1"}
        relations += [{"from_id": points[0], "to_id": "box1", "type": "relation"}]
        tasks[0]["annotations"][0]["result"] = [*results, other, *relations]
        path = self.write(tmp_path, tasks)
        assert_left_out(read(path), "expected a point related to one box")

    def test_last_annotation_that_was_not_canceled(self, tmp_path):
        tasks = exports.label_studio_data()
        tasks[0]["annotations"] += [{"was_cancelled": True, "result": []}]
        tasks[1]["annotations"] += [{"was_cancelled": False, "result": []}]
        found = read(self.write(tmp_path, tasks))
        assert len(found.objects) == 1
        assert found.left_out["annotations that were canceled"] == 1
        assert found.left_out["further annotations of a picture"] == 1

    @pytest.mark.parametrize(
        ("key", "value", "message"),
        [
            ("image_rotation", 90, "image_rotation '90'"),
            ("original_width", None, "task 0: expected a number of pixels for the width"),
            ("original_width", 9.5, "expected whole numbers above 0"),
            ("value", 3, "expected results with a value"),
            ("value", {"keypointlabels": ["nose", "tail"]}, "expected a number of pixels for|one"),
        ],
    )
    def test_broken(self, tmp_path, key, value, message):
        first, second = exports.label_studio_data()
        first["annotations"][0]["result"][1][key] = value
        refused(self.write(tmp_path, [first]), message)
        assert_left_out(read(self.write(tmp_path, [first, second])), message)


class TestLabelme:
    def write(self, folder, shapes, **other):
        path = folder / "x.json"
        path.write_text(json.dumps({"shapes": shapes, "imagePath": "..\\a.png", **other}))
        return path

    def point(self, label, x, y, group=None):
        shape = {"label": label, "points": [[x, y]], "shape_type": "point", "group_id": group}
        return shape

    def test_groups(self, tmp_path):
        box = {"label": "mouse", "points": [[0, 1], [9, 8]], "shape_type": "rectangle"}
        shapes = [
            self.point("nose", 1.5, 2.5, 1),
            self.point("nose", 3.5, 4.5, 2),
            {**box, "group_id": 2},
            {"label": "area", "points": [[1, 2]] * 3, "shape_type": "polygon"},
        ]
        found = read(self.write(tmp_path, shapes))
        assert [(dict(each.points), each.box) for each in found.objects] == [
            ({"nose": (1, 2, 2)}, None),
            ({"nose": (3, 4, 2)}, (-0.5, 0.5, 8.5, 7.5)),
        ]
        assert found.left_out["shapes of the kind 'polygon'"] == 1

    @pytest.mark.parametrize(
        ("ours", "its", "given"), [(1, 2, False), (1, None, True), (None, 2, True), (1, 1, True)]
    )
    def test_a_box_of_another_group_is_not_theirs(self, tmp_path, ours, its, given):
        box = {"label": "mouse", "points": [[0, 1], [9, 8]], "shape_type": "rectangle"}
        shapes = [self.point("nose", 1.5, 2.5, ours), {**box, "group_id": its}]
        found = read(self.write(tmp_path, shapes))
        assert (found.objects[0].box is not None) == given
        assert found.left_out["boxes without points of their own"] == (not given)

    @pytest.mark.parametrize("there", ["b.PNG", "b.webp"])
    def test_the_name_of_another_picture(self, tmp_path, there):
        exports.labelme(tmp_path)
        (tmp_path / "b.png").rename(tmp_path / there)
        stale = tmp_path / "b.json"
        stale.write_text(stale.read_text().replace('"b.png"', '"a.png"'))
        found = read(tmp_path)
        assert [each.picture for each in found.objects] == ["a.png"]
        assert_left_out(found, rf"b.json: expected the picture of its own name.*'a.png'.*{there}")

    @pytest.mark.parametrize(
        ("file", "named", "others"),
        [
            ("a.json", "a_rgb.jpg", ["a_rgb.jpg", "a.png"]),  # a mask
            ("a_2.json", "a.png", ["a.png", "a.json"]),  # a second annotator
            ("0.json", "../img/1.jpg", ["0.jpg", "1.json"]),
            ("img_1.json", "IMG_1.JPG", ["img_1.jpg"]),
            ("a b.json", "a%20b.jpg", ["a b.jpg"]),
            (unicodedata.normalize("NFD", "é.json"), "é.jpg", ["é.jpg"]),
            ("a.json", "b" * 300 + ".jpg", ["a.png"]),
        ],
    )
    def test_names_that_are_its_own_matter(self, tmp_path, file, named, others):
        for each in others:
            (tmp_path / unicodedata.normalize("NFD", each)).write_text("{}")
        path = self.write(tmp_path, [self.point("nose", 1.5, 2.5)], imagePath=named)
        path = path.rename(tmp_path / file)
        assert [each.picture for each in read(path).objects] == [named]

    def test_one_file_at_a_time_is_in_memory(self, tmp_path):
        data = "x" * 2_000_000  # labelme puts the picture there
        for i in range(12):
            self.write(tmp_path, [self.point("nose", i, i)], imageData=data)
            (tmp_path / "x.json").rename(tmp_path / f"{i}.json")
        tracemalloc.start()
        try:
            found = read(tmp_path)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert len(found.objects) == 12 and peak < 6 * len(data)

    def test_one_broken_file_of_a_folder(self, tmp_path):
        exports.labelme(tmp_path)
        self.write(tmp_path, [3])
        (tmp_path / "other.json").write_text("{}")
        found = read(tmp_path)
        assert len(found.objects) == 2
        assert found.left_out["JSON files that are not labelme's"] == 1
        assert_left_out(found, r"x\.json: expected shapes with label")

    def test_one_half_written_file_of_a_folder(self, tmp_path):
        exports.labelme(tmp_path)
        (tmp_path / "0.json").write_text("{")
        found = read(tmp_path)
        assert found.left_out["JSON files that are not labelme's"] == 0
        assert_left_out(found, r"0\.json is not valid JSON")

    @pytest.mark.parametrize(
        ("corners", "box"),
        [
            ([[9, 8], [0, 1]], (-0.5, 0.5, 8.5, 7.5)),
            ([[0, 1], [9, 1], [9, 8], [0, 8]], (-0.5, 0.5, 8.5, 7.5)),
            ([[5, 0], [9, 4], [4, 9], [0, 5]], None),  # rotated
        ],
    )
    def test_corners_of_rectangles(self, tmp_path, corners, box):
        shape = {"label": "mouse", "points": corners, "shape_type": "rectangle"}
        found = read(self.write(tmp_path, [self.point("nose", 1.5, 2.5), shape]))
        assert found.objects[0].box == box
        assert found.left_out["boxes that are rotated"] == (box is None)

    def test_numbered_labels_are_in_their_order(self, tmp_path):
        shapes = [self.point(name, 1, 2) for name in ("10", "2", "1")]
        assert read(self.write(tmp_path, shapes)).names[""] == ("1", "2", "10")

    @pytest.mark.parametrize(
        ("shapes", "message"),
        [
            (3, "a list of shapes"),
            ([3], "expected shapes with label and points"),
            ([{"label": "x", "points": [[1]], "shape_type": "point"}], "expected positions"),
            ([{"label": "x", "points": [[1, 2]] * 2, "shape_type": "point"}], "one position"),
            ([{"label": "x", "points": [[1, True]], "shape_type": "point"}], "a number of pixels"),
            ([{"label": "x", "points": [[1, 2]], "shape_type": "point"}] * 2, "'x' twice"),
        ],
    )
    def test_broken(self, tmp_path, shapes, message):
        refused(self.write(tmp_path, shapes), message)


class TestCvat:
    def write(self, folder, image):
        path = folder / "annotations.xml"
        path.write_text(f'<annotations><image name="a.png" {image}</image></annotations>')
        return path

    def test_points_with_labels(self, tmp_path):
        image = """width="96" height="64">
            <points label="nose" points="1.5,2.5" occluded="1" group_id="1"/>
            <points label="nose" points="3.5,4.5" group_id="2"/>
            <box label="mouse" xtl="0.5" ytl="0.5" xbr="9.5" ybr="8.5" group_id="2"/>
            <polygon label="area" points="1,2;3,4"/>"""
        found = read(self.write(tmp_path, image))
        assert [(dict(each.points), each.box) for each in found.objects] == [
            ({"nose": (1, 2, 1)}, None),
            ({"nose": (3, 4, 2)}, (0, 0, 9, 8)),
        ]
        assert found.left_out["shapes of the kind 'polygon'"] == 1

    def test_many_points_in_a_shape(self, tmp_path):
        image = """width="96" height="64"><points label="face" points="1.5,2.5;3.5,4.5"/>
            <points label="face" points="5.5,6.5;7.5,8.5"/>"""
        found = read(self.write(tmp_path, image))
        assert [dict(each.points) for each in found.objects] == [
            {1: (1, 2, 2), 2: (3, 4, 2)},
            {1: (5, 6, 2), 2: (7, 8, 2)},
        ]

    def test_shapes_of_several_labels_are_several_kinds(self, tmp_path):
        image = """width="96" height="64"><points label="face" points="1,2;3,4"/>
            <points label="hand" points="5,6;7,8;9,8"/><points label="wrist" points="2,2"/>"""
        found = read(self.write(tmp_path, image))
        assert [each.category for each in found.objects] == ["face", "hand", ""]
        assert dict(found.names) == {"face": (1, 2), "hand": (1, 2, 3), "": ("wrist",)}

    def test_boxes_go_by_groups(self, tmp_path):
        def skeleton(x, group):
            points = f'<points label="nose" points="{x},1"/>'
            return f'<skeleton label="mouse"{group}>{points}</skeleton>'

        def box(edge, group):
            corners = f'xtl="0.5" ytl="0.5" xbr="{edge}" ybr="9.5"'
            return f'<box label="mouse" {corners}{group}/>'

        one, two, none = ' group_id="1"', ' group_id="2"', ""
        for shapes, expected in (
            ((skeleton(1, one), skeleton(2, two), box(5.5, two), box(3.5, one)), [3, 5]),
            ((skeleton(1, one), box(5.5, two)), [None]),
            ((skeleton(1, one), box(5.5, none)), [5]),
            ((skeleton(1, none), box(5.5, two)), [5]),
            ((skeleton(1, one), skeleton(2, one), box(5.5, one)), [None, None]),
        ):
            found = read(self.write(tmp_path, 'width="96" height="64">' + "".join(shapes)))
            assert [each.box and each.box[2] for each in found.objects] == expected
            given = sum(edge is not None for edge in expected)
            boxes = sum("<box" in shape for shape in shapes)
            assert found.left_out["boxes without points of their own"] == boxes - given

    def test_points_beside_skeletons(self, tmp_path):
        """A ball is no point of a person; a nose may stand alone."""
        image = """width="96" height="64"><skeleton label="person"><points label="nose"
            points="1.5,2.5"/></skeleton><points label="ball" points="9,9"/></image>
            <image name="b.png" width="96" height="64"><points label="nose" points="5.5,6.5"/>"""
        found = read(self.write(tmp_path, image))
        assert [dict(each.points) for each in found.objects] == [
            {"nose": (1, 2, 2)},
            {"nose": (5, 6, 2)},
        ]
        assert found.left_out["points that no skeleton has"] == 1

    def test_pictures_of_a_project_are_in_folders_of_subsets(self, tmp_path):
        images = [("Train", 1), ("Test", 2), ("Test", 3), ("Test", 3)]
        text = "".join(
            f'<image name="{"b" if i == 3 else "a"}.png" subset="{subset}" task_id="{task}" '
            f'width="9" height="9"><points label="nose" points="{i}.5,1"/></image>'
            for i, (subset, task) in enumerate(images)
        )
        (tmp_path / "annotations.xml").write_text(f"<annotations>{text}</annotations>")
        found = read(tmp_path)
        assert [each.picture for each in found.objects] == ["Train/a.png", "Test/b.png"]
        assert found.left_out["pictures of one name in several tasks of a subset"] == 2

    def test_frames_of_a_video_have_no_suffix(self, tmp_path):
        image = '<image name="v.2/frame_000001" width="9" height="9">'
        text = f'<annotations>{image}<points label="nose" points="1,1"/></image></annotations>'
        (tmp_path / "annotations.xml").write_text(text)
        assert read(tmp_path).objects[0].picture == "v.2/frame_000001.PNG"

    @pytest.mark.parametrize(("rotation", "rotated"), [("0.0", 0), ("12.5", 1), ("360", 0)])
    def test_rotated_boxes_are_left_out(self, tmp_path, rotation, rotated):
        image = f"""width="96" height="64"><points label="nose" points="1.5,2.5"/>
            <box label="a" xtl="0.5" ytl="0.5" xbr="9.5" ybr="8.5" rotation="{rotation}"/>"""
        found = read(self.write(tmp_path, image))
        assert found.objects[0].box == (None if rotated else (0, 0, 9, 8))
        assert found.left_out["boxes that are rotated"] == rotated

    def test_one_broken_picture(self, tmp_path):
        good = 'width="9" height="9"><points label="a" points="1,2"/></image><image name="b.png" '
        twice = 'width="9" height="9">' + 2 * '<points label="a" points="1,2"/>'
        assert_left_out(read(self.write(tmp_path, good + twice)), "b.png.*'a' twice")

    def test_pictures_without_points_are_counted(self, tmp_path):
        image = 'width="9" height="9"><points label="a" points="1,2"/></image>'
        path = self.write(tmp_path, image + '<image name="b.png" width="9" height="9">')
        assert read(path).left_out["pictures without points"] == 1

    def test_folder(self, tmp_path):
        exports.cvat(tmp_path)
        assert len(read(tmp_path).objects) == 2

    @pytest.mark.parametrize(
        ("image", "message"),
        [
            (">", "expected a number of pixels for the width"),
            ('width="9" height="9"><points label="a" points="1,2,3"/>', "expected points x,y"),
            ('width="9" height="9"><points label="a" points="1,nan"/>', "a number of pixels"),
            ('width="9" height="9"><box label="a" xtl="1"/>', "ytl of a box"),
            (
                'width="9" height="9"><skeleton><points points="1,2"/></skeleton>',
                "expected one position of each point of a skeleton",
            ),
        ],
    )
    def test_broken(self, tmp_path, image, message):
        refused(self.write(tmp_path, image), message)

    def test_tracks_of_a_video(self, tmp_path):
        path = tmp_path / "x.xml"
        path.write_text("<annotations><track id='0'/></annotations>")
        refused(path, "Received: tracks of a video")


class TestUltralytics:
    def test_without_visibilities(self, tmp_path):
        path = exports.ultralytics(tmp_path)
        path.write_text("kpt_shape: [2, 2]\nnames: [mouse, rat]\n")
        for file in (tmp_path / "labels/train").iterdir():
            file.write_text("1 0.5 0.5 0.5 1 0.25 0.5 0 0\n\n")
        found = read(tmp_path)
        assert found.fractions and len(found.objects) == 2
        first = found.objects[0]
        assert first.category == "rat" and dict(first.points) == {1: (0.25, 0.5, 2)}
        assert first.picture == "images/train/a.png" and first.box == (0.25, 0, 0.75, 1)

    def test_names_by_sleap_io(self, tmp_path):
        path = exports.ultralytics(tmp_path)
        text = "kpt_shape: [3, 3]\nnames: {0: animal}\nnode_names: [a, b, c]\n"
        path.write_text(text)
        assert read(path).names == {"animal": ("a", "b", "c")}

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("kpt_shape: 3", r"expected kpt_shape: \[points, 2 or 3\]"),
            ("kpt_shape: [3, 3]", "expected `names`"),
            ("kpt_shape: [3, 3]\nnames: [a]\nkpt_names: {0: [a, a, b]}", "3 different names"),
            ("kpt_shape: [3, 3\nnames: [a]", "not valid YAML"),
            ("a: &a [1]\nkpt_shape: *a\n", "without aliases"),
            ("kpt_shape: " + "[" * 5000, "not valid YAML"),
            ("kpt_shape: [3, 3]\nx: !!python/object:os.system ls", "not valid YAML"),
        ],
    )
    def test_broken_yaml(self, tmp_path, text, message):
        path = exports.ultralytics(tmp_path)
        path.write_text(text)
        refused(path, message)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("0 0.5 0.5 1 1 0 0 0 0 0 0", "a.txt, line 2: expected a class, a box of 4 numbers"),
            ("2 0.5 0.5 1 1" + " 0" * 9, "a.txt, line 2: expected a class of '0'"),
            ("0 48 32 90 60" + " 0" * 9, "a.txt, line 2: expected a box in fractions"),
            ("0 0.5 0.5 1 1 40 20 2" + " 0" * 6, "a.txt, line 2: expected points in fractions"),
            ("0 0.5 0.5 1 1 0.4 nan 2" + " 0" * 6, "a.txt, line 2: expected points in fractions"),
            ("0 0.5 0.5 1 1 0.4 0.2 3" + " 0" * 6, "visibilities 0, 1 or 2. Received: 3"),
            ("mouse 0.5 0.5 1 1" + " 0" * 9, "a.txt, line 2: expected numbers"),
        ],
    )
    def test_broken_labels(self, tmp_path, text, message):
        path = exports.ultralytics(tmp_path)
        file = tmp_path / "labels/train/a.txt"
        file.write_text(f"\n{text}\n")
        assert_left_out(read(path), message)
        for other in file.parent.iterdir():
            if other != file:
                other.unlink()
        with pytest.raises(KeypointError, match=message):
            read(path)

    def test_needs_the_extra(self, tmp_path, monkeypatch):
        path = exports.ultralytics(tmp_path)
        monkeypatch.setitem(sys.modules, "yaml", None)
        with pytest.raises(ModuleNotFoundError, match=r"pip install 'keras_lapkl\[labels\]'"):
            read(path)

    @pytest.mark.parametrize(
        "splits",
        [
            "path: one\ntrain: images/train\nval: images/none",
            "train: one/images/train",
            "train: ../one/images\nval: [images/none, one/images/none]",
            "path: ../elsewhere\ntrain: one/list.txt",
            "path: /elsewhere\nval: one",
        ],
    )
    def test_labels_of_other_data_beside(self, tmp_path, splits):
        exports.ultralytics(tmp_path / "one")
        exports.ultralytics(tmp_path / "two")
        (tmp_path / "one/list.txt").write_text("./images/train/a.png\nimages\\train\\b.png\n")
        exports.write_pictures(tmp_path / "two/images/other")
        (tmp_path / "two/labels/train").rename(tmp_path / "two/labels/other")
        text = exports.YAML.replace(
            "path: ../somewhere\ntrain: images/train\nval: images/train", ""
        )
        path = tmp_path / "one.yaml"
        path.write_text(text)
        assert len(read(path).objects) == 4
        path.write_text(f"{text}\n{splits}\n")
        found = read(path)
        assert sorted(each.picture for each in found.objects) == [
            "one/images/train/a.png",
            "one/images/train/b.png",
        ]
        assert found.left_out["files of labels that are of no split of one.yaml"] == 2

    def test_pictures_elsewhere(self, tmp_path):
        """Of any format, by the longest name that is there; else the usual one."""
        path = exports.ultralytics(tmp_path / "labels")
        shutil.move(tmp_path / "labels/images/train", tmp_path / "photos")
        (tmp_path / "photos/b.png").rename(tmp_path / "photos/b.WEBP")

        def pictures():
            found = read(path, images=tmp_path / "photos")
            return [each.picture for each in found.objects]

        assert pictures() == ["images/train/a.png", "images/train/b.WEBP"]
        (tmp_path / "photos/train").mkdir()
        (tmp_path / "photos/train/b.jpg").touch()
        assert pictures() == ["images/train/a.png", "images/train/b.jpg"]
        assert [each.picture for each in read(path).objects] == [
            "images/train/a.jpg",
            "images/train/b.jpg",
        ]

    @pytest.mark.parametrize(
        "splits",
        [
            "train: /home/ann/one/images/train",
            "path: C:\\data\\one\ntrain: images\\train\nvalidation: images/" + "x" * 300,
            "path: 3\ntrain: [3, images/train]\ntest: data.yaml",
            "train: list.txt",
        ],
    )
    def test_splits_of_another_machine(self, tmp_path, splits, monkeypatch):
        """And labels by a relative path, without pictures, lists with blank lines."""
        path = exports.ultralytics(tmp_path / "one")
        shutil.rmtree(path.parent / "images")
        shutil.copytree(path.parent / "labels/train", path.parent / "labels/other")
        (path.parent / "list.txt").write_text("\n ./images/train/a.png\r\n./\n\nimages/train/b.png")
        text = exports.YAML.replace(
            "path: ../somewhere\ntrain: images/train\nval: images/train", ""
        )
        path.write_text(f"{text}\n{splits}\n")
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        found = read(pathlib.Path("../one/data.yaml"))
        assert sorted(each.picture for each in found.objects) == [
            "images/train/a.jpg",
            "images/train/b.jpg",
        ]

    def test_no_labels(self, tmp_path):
        (tmp_path / "data.yaml").write_text(exports.YAML)
        refused(tmp_path / "data.yaml", "files of labels in folders `labels`")


class TestDlib:
    def test_size_where_the_file_says_it(self, tmp_path):
        path = exports.dlib(tmp_path)
        assert {each.size for each in read(path).objects} == {None}
        path.write_text(path.read_text().replace("<image ", "<image width='96' height='64' "))
        assert {each.size for each in read(path).objects} == {(96, 64)}

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            ("file='a.png'", "", "expected a `file` of each image"),
            ("left=", "links=", "image 'a.png': expected a number of pixels for left of a box"),
            ("x='10.0'", "x='1_0'", "expected a number of pixels for x of part nose"),
            ("name='left_ear'", "name='nose'", "once in its box. Received: 'nose'"),
        ],
    )
    def test_broken(self, tmp_path, old, new, message):
        path = exports.dlib(tmp_path)
        path.write_text(path.read_text().replace(old, new, 1))
        assert_left_out(read(path), message)
        first, second, _ = path.read_text().partition("<image file='b.png'")
        path.write_text(first + "</images></dataset>")
        assert second
        refused(path, message)


class TestWflw:
    @pytest.mark.parametrize(
        ("text", "points", "box"),
        [
            ("1 2 3 4 10 11 80 81 0 1 0 0 0 0 a b.png", 2, (10, 11, 80, 81)),
            ("1 2 3 4 10 11 80 81 7 8 9 9 a.png", 6, None),
            (" ".join(["1"] * 196) + " a.png", 98, None),
        ],
    )
    def test_forms(self, tmp_path, text, points, box):
        path = tmp_path / "list.txt"
        path.write_text(f"{text}\n{text}\n")
        first, _ = read(path).objects
        assert len(first.points) == points and first.box == box
        assert first.points[1][2] == 2 and first.picture == text[text.index("a") :]

    def test_broken(self, tmp_path):
        path = tmp_path / "list.txt"
        path.write_text("1 2 3 4 a.png\n1 2 3 b.png\n")
        refused(path, "line 2: expected 4 numbers and a path")


class TestFindingPictures:
    @pytest.mark.parametrize(
        "name",
        [
            "sub/a b.png",
            "./sub//a b.png",
            "sub\\a b.png",
            "D:\\x\\sub\\a b.png",
            "/home/me/sub/a b.png",
            "../sub/a b.png",
            "x/../../sub/a b.png",
            "sub/a%20b.png",
            "https://host/x/a%20b.png?token=1",
            "/data/local-files/?d=x/sub/a%20b.png",
            "a b.png",
        ],
    )
    def test_names(self, tmp_path, name):
        exports.write_pictures(tmp_path, ["sub/a b.png"])
        found = pictures.find_pictures([name], [tmp_path, tmp_path / "sub"])
        assert pathlib.Path(*found[name]).resolve() == tmp_path / "sub/a b.png"

    @pytest.mark.parametrize("name", ["", "..", "/", "x\0.png", "a" * 5000, "//[/a.png"])
    def test_none(self, tmp_path, name):
        assert pictures.find_pictures([name], [tmp_path]) == {name: None}

    def test_size_of_the_upright_picture(self, tmp_path):
        exports.write_pictures(tmp_path)
        (tmp_path / "x.png").write_bytes(b"")
        found = pictures.sizes([tmp_path / "a.png", tmp_path / "x.png", tmp_path / "gone.png"])
        assert found[tmp_path / "a.png"] == exports.SIZE
        assert "an empty file" in found[tmp_path / "x.png"]
        assert "gone.png" in found[pathlib.Path(tmp_path / "gone.png")]
