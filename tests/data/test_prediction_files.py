import csv
import dataclasses
import json
import pathlib
import re

import cv2
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from keras_lapkl import schemes
from keras_lapkl.data.prediction_files import (
    CocoNames,
    read_predictions,
    write_predictions,
)
from keras_lapkl.data.pts import write_pts
from keras_lapkl.detection.files import find_inputs, predict_files
from keras_lapkl.detection.landmark_detector import LandmarkDetector
from keras_lapkl.detection.writers import FORMATS

PAIR = schemes.get({"name": "pair", "names": ["left", "right"]})
A, B = [[1.0, 2.5], [3.0, 4.0]], [[5.0, 6.0], [7.0, 8.0]]


@pytest.fixture
def read(tmp_path):
    """Reads a file of given content as predictions of a pair of points."""

    def read(content, suffix=".csv", scheme=PAIR):
        path = tmp_path / f"found{suffix}"
        if not isinstance(content, (str, bytes)):
            content = json.dumps(content)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_predictions(path, scheme)

    return read


def test_the_documented_form(tmp_path):
    write_predictions(tmp_path / "p.json", PAIR, ["a.jpg"], np.array([A]))
    page = (pathlib.Path(__file__).parents[2] / "docs/reference/files.md").read_text()
    example = page.partition("**predictions.json**")[2].partition("**predictions.csv**")[0]
    assert all(f'"{key}": ' in example for key in json.loads((tmp_path / "p.json").read_text()))


@pytest.mark.parametrize("form", FORMATS)
def test_what_predict_writes_is_read(form, stub, tmp_path):
    (tmp_path / "in" / "below").mkdir(parents=True)
    for name in ("a.png", "a.bmp", "below/b.c.png"):
        cv2.imwrite(str(tmp_path / "in" / name), stub.ramp()[..., ::-1])
    boxes = np.array([stub.BOX, (60, 30, 130, 120)])
    detector = LandmarkDetector(stub.Localizer(stub.POINTS), None)
    files = find_inputs([tmp_path / "in"])
    boxes = dict.fromkeys(("a.png", "a.bmp", "below/b.c.png"), boxes)
    predict_files(detector, files, tmp_path / "out", form, boxes=boxes)
    path = tmp_path / "out" if form == "pts" else tmp_path / "out" / f"predictions.{form}"
    found = read_predictions(path, stub.SCHEME)
    assert (found.form, found.source, len(found)) == (form, str(path), 6)
    names = ["a.bmp", "a.png", "below/b.c" if form == "pts" else "below/b.c.png"]
    assert sorted(found.names) == sorted(2 * names)
    np.testing.assert_allclose(found.landmarks, np.tile(stub.POINTS, (6, 1, 1)), atol=0.7)


def test_names_come_back_from_csv_that_spreadsheets_may_open(stub, tmp_path):
    """Of photos and of landmarks, and with numbers as they are."""
    names = ["=1+1.png", "'90s.png", "+a.png", "-b.png", "@c.png", "\td.png"]
    for name in names:
        cv2.imwrite(str(tmp_path / "in.png"), stub.ramp()[..., ::-1])
        (tmp_path / "in.png").rename(tmp_path / name)
    localizer = stub.Localizer(stub.POINTS)
    localizer.scheme = dataclasses.replace(
        stub.SCHEME, names=("-a", "=b", "nose", "@c", "+d"), flip=(1, 0, 2, 4, 3)
    )
    detector = LandmarkDetector(localizer, stub.detector(stub.BOX))
    predict_files(detector, [tmp_path / name for name in names], tmp_path / "out", "csv")
    with (tmp_path / "out" / "predictions.csv").open(newline="") as file:
        for row in csv.reader(file):
            assert not any(re.match(r"[=@+\t]|-[^0-9]", cell) for cell in row)
    found = read_predictions(tmp_path / "out" / "predictions.csv", localizer.scheme)
    assert sorted(found.names) == sorted(names)
    np.testing.assert_allclose(found.landmarks, np.tile(stub.POINTS, (6, 1, 1)), atol=0.7)


@pytest.mark.parametrize("form", ["json", "csv"])
def test_photos_without_a_face(form, stub, tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), stub.ramp())
    detector = LandmarkDetector(stub.Localizer(stub.POINTS), stub.detector())
    predict_files(detector, [tmp_path / "a.png"], tmp_path / "out", form)
    found = read_predictions(tmp_path / "out" / f"predictions.{form}", stub.SCHEME)
    if form == "json":
        assert found.names == ("a.png",) and np.isnan(found.landmarks).all()
    else:  # which has a line for each face, and so no place to say it
        assert len(found) == 0 and found.landmarks.shape == (0, 5, 2)


def test_write_predictions(tmp_path):
    landmarks = np.array([A, [[np.nan, 1], [2, 3]], B]) + 0.00049
    write_predictions(tmp_path / "x" / "found.json", PAIR, ["a.jpg", "b.jpg", "a.jpg"], landmarks)
    found = read_predictions(tmp_path / "x" / "found.json", PAIR)
    assert found.names == ("a.jpg", "b.jpg", "a.jpg")
    np.testing.assert_array_equal(found.landmarks[[0, 2]], [A, B])
    assert np.isnan(found.landmarks[1]).all()


def test_pts_are_one_based_and_further_faces_go_with_the_first(tmp_path):
    for name, points in (("x/a", A), ("x/a.face1", B), ("b.face1", A), ("c.face0", A)):
        write_pts(tmp_path / f"{name}.pts", points)
    found = read_predictions(tmp_path, PAIR)
    assert found.names == ("b.face1", "c.face0", "x/a", "x/a")
    np.testing.assert_array_equal(found.landmarks, [A, A, B, A])  # x/a.face1.pts sorts first


def test_a_frame_of_a_video_may_have_its_second_face_alone(tmp_path):
    (tmp_path / "clip").mkdir()
    for name, points in (("000000", A), ("000001.face1", B), ("000002.face12", A)):
        write_pts(tmp_path / "clip" / f"{name}.pts", points)
    found = read_predictions(tmp_path, PAIR)
    assert found.names == ("clip/000000", "clip/000001", "clip/000002")


def test_pts_in_upper_case(tmp_path):
    write_pts(tmp_path / "a.PTS", A)
    assert read_predictions(tmp_path, PAIR).names == ("a",)


@pytest.mark.parametrize(
    "text",
    [
        "a.jpg,1,2.5,3,4\nb.jpg,5,6,7,8\n",
        "\ufeffa.jpg, 1 ,2.5,3,4\r\n\r\nb.jpg,5,6,7,8",
        "path,x0,y0,x1,y1\na.jpg,1,2.5,3,4\nb.jpg,5,6,7,8\n",
        "x_1,x_2,y_1,y_2,Image,score\n1,3,2.5,4,a.jpg,.5\n5,7,6,8,b.jpg,\n",
        "what,right_y,right_x,left_y,left_x\na.jpg,4,3,2.5,1\nb.jpg,8,7,6,5\n",
        # boxes have the names that numbered points would have
        "file,x0,y0,x1,y1,left_x,left_y,right_x,right_y\n"
        "a.jpg,0,0,9,9,1,2.5,3,4\nb.jpg,,,,,5,6,7,8\n",
        'file,left_x,left_y,right_x,right_y\n"a.jpg",1,2.5,3,4\n"b.jpg",5,6,7,8\n',
        "\ufeffFile;LEFT_X;Left_y;RIGHT_X;right_Y\r\na.jpg;1,0;2,5;3;4\r\nb.jpg;5;6;7;8\r\n",
        "2_x\t2_y\tpath\t1_x\t1_y\n3\t4\ta.jpg\t1\t2.5\n7\t8\tb.jpg\t5\t6\n",
        ",file,right x,right y,left.x,left.y\n0,a.jpg,3,4,1,2.5\n1,b.jpg,7,8,5,6\n",
    ],
)
def test_forms_of_csv(read, text):
    found = read(text)
    assert found.names == ("a.jpg", "b.jpg") and found.form == "csv"
    np.testing.assert_array_equal(found.landmarks, [A, B])


@pytest.mark.parametrize(
    "content",
    [
        {"a.jpg": A, "b.jpg": B},
        {"a.jpg": [A], "b.jpg": [B]},
        [{"file": "a.jpg", "landmarks": A}, {"file": "b.jpg", "landmarks": B, "score": 1}],
        [{"file": "a.jpg", "faces": [{"landmarks": A}]}, {"file": "b.jpg", "landmarks": B}],
        {
            "scheme": {"name": "turned", "names": ["right", "left"]},
            "pictures": [
                {"file": "a.jpg", "faces": [{"landmarks": A[::-1], "box": [0, 0, 9, 9]}]},
                {"file": "b.jpg", "faces": [{"landmarks": B[::-1]}]},
            ],
        },
    ],
)
def test_forms_of_json(read, content):
    found = read(content, ".json")
    assert found.names == ("a.jpg", "b.jpg") and found.form == "json"
    np.testing.assert_array_equal(found.landmarks, [A, B])


def test_points_of_json_go_by_their_names(tmp_path):
    """Three, for of two an order is its own inverse."""
    three = schemes.get({"name": "three", "names": ["a", "b", "c"]})
    picture = {"file": "a.jpg", "faces": [{"landmarks": [[20, 2], [30, 3], [10, 1]]}]}
    path = tmp_path / "p.json"
    content = {"scheme": {"name": "x", "names": ["b", "c", "a"]}, "pictures": [picture]}
    path.write_text(json.dumps(content))
    assert read_predictions(path, three).landmarks[0].tolist() == [[10, 1], [20, 2], [30, 3]]


def test_points_of_coco_results_stand_in_the_order_of_their_file(tmp_path):
    three = schemes.get({"name": "three", "names": ["a", "b", "c"]})
    path = tmp_path / "r.json"
    path.write_text(json.dumps([result(1, [20, 2], [30, 3], [10, 1])]))
    coco = CocoNames({"1": "a.jpg"}, "1", (2, 0, 1))
    found = read_predictions(path, three, coco=coco)
    assert found.landmarks[0].tolist() == [[10, 1], [20, 2], [30, 3]]


def result(number, *points, category=1):
    keypoints = [v for x, y in points for v in (x, y, 0.5)]
    return {"image_id": number, "category_id": category, "score": 0.9, "keypoints": keypoints}


class TestCOCOResults:
    NAMES = CocoNames({"1": "d/a.jpg", "2": "d/b.jpg"}, "1", (1, 0))  # the file has right, left

    @pytest.fixture
    def results(self, tmp_path):
        def read(*entries):
            (tmp_path / "results.json").write_text(json.dumps(entries))
            return read_predictions(tmp_path / "results.json", PAIR, self.NAMES)

        return read

    @pytest.mark.parametrize("one", [1, "1", 1.0])
    def test_pictures_and_order_are_those_of_the_labels(self, results, one):
        found = results(result(one, *A[::-1]), result(2, *B[::-1]), result("c", *A[::-1]))
        assert found.names == ("d/a.jpg", "d/b.jpg", "c") and found.form == "json"
        np.testing.assert_array_equal(found.landmarks, [A, B, A])

    def test_of_several_categories_one_is_taken(self, results):
        found = results(result(1, *A, category=0), result(2, *B[::-1], category="1"))
        assert found.names == ("d/b.jpg",)
        assert len(results(result(1, *A, category=0))) == 1  # a number of a tool's own

    @pytest.mark.parametrize(
        ("entry", "message"),
        [
            ({"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}, "entry 1: .*list of keypoi"),
            (result(1, [1, 2]), "entry 1: expected x, y and score of 2 keypoints, 6 num.*: 3"),
            (result(None, *A), "entry 1: expected an image_id. Received: None"),
            (result(1, [1, 2], [3, "x"]), "entry 1: expected 2 points, x and y of each"),
            (3, "entry 1: expected image_id"),
        ],
    )
    def test_bad(self, results, entry, message):
        with pytest.raises(ValueError, match=r"results\.json, " + message):
            results(result(1, *A), entry)

    def test_other_categories_alone(self, results):
        with pytest.raises(ValueError, match=r"results of category 1\. Received: .* 2, 3"):
            results(result(1, *A, category=2), result(1, *A, category=3))


def test_several_faces_of_a_photo(read):
    assert read({"a.jpg": [A, B]}, ".json").names == ("a.jpg", "a.jpg")
    assert read("a.jpg,1,2,3,4\na.jpg,1,2,3,4\n").names == ("a.jpg", "a.jpg")


@pytest.mark.parametrize(
    ("content", "suffix"),
    [
        ("a.jpg,,,,\n", ".csv"),
        ("a.jpg,nan,NaN,nan,nan\n", ".csv"),
        ({"a.jpg": None}, ".json"),
        ({"a.jpg": []}, ".json"),
        ({"a.jpg": [None]}, ".json"),
        ('{"a.jpg": [[NaN, NaN], [null, null]]}', ".json"),
        ([{"file": "a.jpg", "landmarks": None}], ".json"),
        ([{"file": "a.jpg", "landmarks": []}], ".json"),
        ([{"file": "a.jpg", "faces": []}], ".json"),
    ],
)
def test_no_face(read, content, suffix):
    found = read(content, suffix)
    assert found.names == ("a.jpg",) and np.isnan(found.landmarks).all()


def test_frames_of_videos(read):
    text = "file,frame,left_x,left_y,right_x,right_y\nv.mp4,12,1,2,3,4\na.jpg,,1,2,3,4\n"
    assert read(text).names == ("v.mp4/000012", "a.jpg")
    content = [{"file": "v.mp4", "frame": 12, "landmarks": A}]
    assert read(content, ".json").names == ("v.mp4/000012",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected lines of predictions"),
        ("\n ,\n", "expected lines of predictions"),
        ("a.jpg,1,2,3\n", "line 1: expected the photo and x and y of 2 points, 5 cells.*4 cells"),
        ("a.jpg,1,2,3,4\nb.jpg,1,2,3,4,5\n", "line 2: expected 5 cells, as in line 1.*6"),
        ("a.jpg,1,2,3,4\n\nb.jpg,1,two,3,4\n", "line 3: expected 2 points.*two"),
        ("a.jpg,1,2,3,4\nb.jpg,1,,3,4\n", "line 2: expected finite.*nan.*at left, 1 such"),
        ("a.jpg,1,2,3,inf\n", "line 1: expected finite numbers.*inf.*at right"),
        (",1,2.5,3,4\n", "line 1: expected the name of a photo"),
        ("file,left_x,left_y\na.jpg,1,2\n", "line 1: expected columns left_x.*1 points by name"),
        ("file,x0,y0,x1\na.jpg,1,2,3\n", "x0, y0 to x1, y1.*no names, 1 by number"),
        ("file,x1,y1,x2,y2,x3,y3\na.jpg,1,2,3,4,5,6\n", "3 by number"),
        (",1,2,3,4\na.jpg,1,2,3,4\n", "line 1: this looks like a header"),
        ("file,x_0,y_0,X_0,Y_0,x_1,y_1\na.jpg,1,2,3,4,5,6\n", "each column once.*X_0.*x_0"),
        ("file,x1,y1,x3,y3\na.jpg,1,2,3,4\n", "x0, y0 to x1, y1.* 2 by number"),
        ("file,left_x,left_y,Left_X,right_x,right_y\n", "each column once.*Left_X.*left_x"),
        ("path,file,x1,y1,x2,y2\n", "one column of pictures' paths. Received: path, file"),
        ("a.jpg,.1,.2,.3,.4\nb.jpg,.2,.2,1,.5\n", "expected pixels.*fractions"),
        ("scorer,me,me\nbodyparts,left,left\n", "line 1: .*DeepLabCut"),
        ("file,frame,x0,y0,x1,y1\na.jpg,one,1,2,3,4\n", "line 2: expected a whole number as frame"),
        (b"a.jpg,1,2,3,4\n\xff\xfe", "UTF-8"),
        (b'a.jpg,1,2,3,"' + b"4" * 200_000, "comma-separated text"),
    ],
)
def test_bad_csv(read, text, message):
    with pytest.raises(ValueError, match=r"found\.csv.*" + message):
        read(text)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1", "not valid JSON"),
        ("3", "expected .*pictures.*Received: a int"),
        ([3], r"entry 0: expected .*Received: 3"),
        ([{"file": "a.jpg"}], r"entry 0: expected"),
        (
            [{"image_id": 1, "category_id": 1, "keypoints": [1, 2, 0.5, 3, 4, 0.5], "score": 1}],
            "COCO results.*file_name of each image_id",
        ),
        ({"images": [], "annotations": [], "categories": []}, "labels in a COCO file"),
        ([{"file": "a.jpg", "landmarks": [[0.1, 0.2], [0.3, 0.4]]}], "fractions of the picture"),
        ([{"landmarks": A}], "entry 0: expected the name of a photo. Received: None"),
        ([{"file": 3, "landmarks": A}], "expected the name of a photo. Received: 3"),
        (
            [{"file": "a.jpg", "landmarks": [*A, [9, 9]]}],
            r"entry 0 \(a.jpg\), face 0.* 2 points.*3",
        ),
        ([{"file": "a.jpg", "landmarks": [1, 2, 3, 4]}], "expected 2 points, x and y of each"),
        ([{"file": "a.jpg", "landmarks": [[1, 2, 3], [4, 5, 6]]}], "expected 2 points, x and y"),
        ([{"file": "a.jpg", "landmarks": [[1, True], [4, 5]]}], "expected 2 points, x and y"),
        ([{"file": "a.jpg", "landmarks": {"x": 1}}], "expected 2 points"),
        ([{"file": "a.jpg", "faces": {}}], "expected a list as 'faces'"),
        ([{"file": "a.jpg", "faces": [3]}], "entry 0, face 0: expected"),
        ([{"file": "a.jpg", "frame": [], "landmarks": A}], "whole number as frame"),
        ('{"a.jpg": [[1, 2], [3, NaN]]}', "'a.jpg', face 0: expected finite"),
        ('{"a.jpg": [[1, 2], [3, 1e999]]}', "expected finite.*inf"),
        ('{"a.jpg": [[1, 2], [3, 1%s]]}' % ("0" * 400), "expected 2 points"),
        ({"a.jpg": [A, [[1, 2]]]}, "'a.jpg', face 1: expected 2 points. Received: 1"),
        ({"a.jpg": {"landmarks": A}}, r"'a\.jpg': expected landmarks .* null\. Received: {'landm"),
        ({"a.jpg": "none"}, r"'a\.jpg': expected landmarks .* Received: 'none'"),
        ({"a.jpg": 0}, r"'a\.jpg': expected landmarks .* Received: 0"),
        ({"pictures": 3}, "expected a list as 'pictures'"),
        (
            {"pictures": [], "scheme": schemes.AFLW19.to_config()},
            "points of scheme 'pair'. Received: 19 points of scheme 'aflw19'",
        ),
    ],
)
def test_bad_json(read, content, message):
    with pytest.raises(ValueError, match=r"(?s)found\.json.*" + message):
        read(content, ".json")


def test_bad_pts(tmp_path):
    with pytest.raises(ValueError, match=r"expected \.pts files in it or below it\.$"):
        read_predictions(tmp_path, PAIR)
    (tmp_path / "predictions.json").touch()
    with pytest.raises(ValueError, match=r"predictions.json: name that file"):
        read_predictions(tmp_path, PAIR)
    (tmp_path / "a.pts").write_text("1 2\n3 4\n5 6\n")
    with pytest.raises(ValueError, match=r"a\.pts: expected 2 points"):
        read_predictions(tmp_path, PAIR)
    (tmp_path / "a.pts").write_text("1 2\n3 nan\n")
    with pytest.raises(ValueError, match=r"a\.pts, line 2"):
        read_predictions(tmp_path, PAIR)


def test_bad_paths(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read_predictions(tmp_path / "nowhere", PAIR)
    (tmp_path / "found.npz").touch()
    with pytest.raises(ValueError, match=r"found\.npz: expected a folder of \.pts"):
        read_predictions(tmp_path / "found.npz", PAIR)


_PLAIN = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=3) | st.integers(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["file", "faces", "landmarks", "pictures"]), inner)
    ),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(content=_PLAIN)
def test_any_json_is_read_or_refused_plainly(content, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_text(json.dumps(content))
    try:
        found = read_predictions(path, PAIR)
    except ValueError as error:
        assert "any.json" in str(error)
    else:
        assert found.landmarks.shape == (len(found), 2, 2)


@settings(max_examples=150, deadline=None)
@given(text=st.text(st.sampled_from('a1,."\n\r x_y\x00é'), max_size=40))
def test_any_csv_is_read_or_refused_plainly(text, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_text(text, encoding="utf-8")
    try:
        found = read_predictions(path, PAIR)
    except ValueError as error:
        assert "any.csv" in str(error)
    else:
        assert found.landmarks.shape == (len(found), 2, 2)
