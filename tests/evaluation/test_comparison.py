import csv
import dataclasses
import json
import tracemalloc

import numpy as np
import pytest

from keras_lapkl import schemes
from keras_lapkl._support.csv_names import read_name
from keras_lapkl._support.files import read_json, write_json
from keras_lapkl.data.annotations import Annotations
from keras_lapkl.data.prediction_files import (
    Predictions,
    read_predictions,
    write_predictions,
)
from keras_lapkl.data.pts import write_pts
from keras_lapkl.data.readers.w300 import read_300w
from keras_lapkl.evaluation import comparison
from keras_lapkl.training_data import DataSet

FACE = schemes.Scheme(
    "face",
    ("eye_0", "eye_1", "nose"),
    flip=(1, 0, 2),
    eye_corners=(0, 1),
    edges=((0, 1),),
)
POINTS = np.array([[0.0, 0], [100, 0], [50, 40]])  # 100 px between the eyes
NAMES = ("afw/1.jpg", "afw/2.jpg", "helen/3.jpg", "helen/4.jpg")


@pytest.fixture
def truth(tmp_path):
    return Annotations(
        "four faces",
        FACE,
        tuple(tmp_path / name for name in NAMES),
        np.tile(POINTS, (4, 1, 1)).astype(np.float32) + 50,
        np.ones((4, 3), bool),
        source=DataSet("faces", 4, kind="faces"),
    )


def off_by(truth, pixels, names=NAMES):
    """Predictions to the right of the labels by some pixels each."""
    moved = truth.landmarks[: len(names)] + np.array(pixels)[:, None, None] * [1.0, 0]
    return Predictions("found.csv", "csv", tuple(names), moved)


def test_numbers_by_hand(truth, tmp_path):
    results, errors = comparison.compare(truth, {"a": off_by(truth, [1, 3, 6, 10])}, tmp_path)
    found = results["predictions"]["a"]
    row = found["scores"]["interocular"]
    assert row["nme"] == pytest.approx(5) and row["nme_median"] == pytest.approx(4.5)
    assert (row["failure_rate_5"], row["failure_rate_8"], row["failure_rate_10"]) == (50, 25, 0)
    assert row["auc_10"] == pytest.approx(0.5) and (row["faces"], row["missing"]) == (4, 0)
    low, high = row["nme_interval"]
    assert 1 <= low < 5 < high <= 10
    hull, diagonal = (found["scores"][name]["nme"] for name in ("hull", "hull_diagonal"))
    assert hull == pytest.approx(5 * 100 / np.sqrt(4000))
    assert diagonal == pytest.approx(5 * 100 / np.hypot(100, 40))
    np.testing.assert_allclose(errors["a", "interocular"], [1, 3, 6, 10], rtol=1e-6)
    assert list(found["scores"]) == ["interocular", "hull", "hull_diagonal"]
    assert (results["data"], results["labeled_faces"]) == ("four faces", 4)


def test_subsets_and_groups(truth, tmp_path):
    moved = off_by(truth, [1, 3, 6, 10])
    moved.landmarks[:, 2] += (0, 1000)
    results = comparison.compare(truth, {"a": moved}, tmp_path, by_subset=True)[0]
    (found,) = results["predictions"].values()
    eyes = found["groups"]["eye"]
    assert eyes["nme"] == pytest.approx(5) and eyes["faces"] == 4
    assert list(found["groups"]) == ["eye", "nose"] and found["groups"]["nose"]["nme"] > 1000
    assert found["subsets"]["helen"]["faces"] == 2
    assert list(found["subsets"]) == ["afw", "helen"]
    assert "By subset, in percent of" in comparison.report(results)
    own, _ = comparison.compare(truth.take([2, 3]), {"a": moved}, tmp_path)
    assert found["subsets"]["helen"] == own["predictions"]["a"]["scores"]["interocular"]
    two = truth.take([0, 1]), {"a": off_by(truth, [1, 3, 6, 10])}
    flat = comparison.compare(*two, by_subset=True)[0]
    assert list(flat["predictions"]["a"]["subsets"]) == [""]
    results = comparison.compare(*two)[0]
    assert "subsets" not in results["predictions"]["a"]
    assert "By subset" not in comparison.report(results)


def test_missing_fails_and_has_no_mean(truth, tmp_path):
    found = off_by(truth, [1, 3], NAMES[:2])
    results, errors = comparison.compare(truth, {"a": found}, tmp_path, by_subset=True)
    row = results["predictions"]["a"]["scores"]["interocular"]
    assert (row["faces"], row["missing"], row["nme"]) == (4, 2, pytest.approx(2))
    assert row["failure_rate_10"] == 50 and row["auc_10"] == pytest.approx((0.9 + 0.7) / 4)
    helen = results["predictions"]["a"]["subsets"]["helen"]
    assert (helen["nme"], helen["nme_interval"], helen["failure_rate_8"]) == (None, None, 100)
    np.testing.assert_array_equal(np.isinf(errors["a", "hull"]), [False, False, True, True])
    said = comparison.report(results)
    assert "2 of 4 faces have a prediction" in said
    assert "2 faces have none, 2 of them in photos that are not named" in said
    assert json.loads(json.dumps(results, allow_nan=False)) == results


def test_difference_is_paired_and_of_the_same_faces(truth, tmp_path):
    first, second = off_by(truth, [1, 3, 6, 10]), off_by(truth, [2, 4, 7], NAMES[:3])
    results, _ = comparison.compare(truth, {"a": first, "b": second}, tmp_path)
    assert "difference" not in results["predictions"]["a"]
    row = results["predictions"]["b"]["difference"]["a"]
    # the fourth face, which b lacks, makes b's own mean the smaller one
    assert results["predictions"]["b"]["scores"]["interocular"]["nme"] == pytest.approx(13 / 3)
    assert row["nme"] == pytest.approx(1) and row["nme_interval"] == pytest.approx([1, 1])
    assert row["failure_rate_10"] == 25
    assert "b − a, the same faces: NME +1.00 [+1.00, +1.00], FR@8 +0.00" in (
        comparison.report(results)
    )


def test_normalizers(truth, tmp_path):
    found = {"a": off_by(truth, [1, 3, 6, 10])}
    results, _ = comparison.compare(truth, found, tmp_path, "hull_diagonal", True)
    assert results["normalizer"] == "hull_diagonal"
    subset = results["predictions"]["a"]["subsets"]["afw"]["nme"]
    assert subset == pytest.approx(200 / np.hypot(100, 40))
    for name in ("box", "crop"):
        with pytest.raises(ValueError, match=rf"one of .*interocular.* without face.*'{name}'"):
            comparison.compare(truth, found, tmp_path, name)
    truth.visible[:, 0] = False
    with pytest.raises(ValueError, match=r"No face of four faces.*interocular.*outer eye corners"):
        comparison.compare(truth, found, tmp_path)


def test_one_point_has_nothing_to_be_relative_to(tmp_path):
    scheme = schemes.get({"name": "one", "num_landmarks": 1})
    points, seen = np.zeros((1, 1, 2)), np.ones((1, 1), bool)
    truth = Annotations("one face", scheme, (tmp_path / "1.jpg",), points, seen)
    found = {"a": Predictions("x.csv", "csv", ("1",), points + 3)}
    with pytest.raises(ValueError, match=r"one face: expected two points or more, or boxes"):
        comparison.compare(truth, found)
    boxed = dataclasses.replace(truth, boxes=np.array([[0, 0, 30, 30.0]]))
    (found,) = comparison.compare(boxed, found)[0]["predictions"].values()
    assert found["scores"]["box"]["nme"] == pytest.approx(10 * np.sqrt(2))


def test_faces_that_one_normalizer_does_not_allow(truth, tmp_path):
    truth.visible[1, 0] = False
    results, _ = comparison.compare(truth, {"a": off_by(truth, [1, 3, 6, 10])}, tmp_path)
    scores = results["predictions"]["a"]["scores"]
    assert scores["interocular"]["faces"] == 3 and scores["hull"]["faces"] == 4
    assert scores["interocular"]["nme"] == pytest.approx(17 / 3)


def test_report_tells_of_faces_that_say_little(truth, tmp_path):
    truth.landmarks[2] /= 5
    truth.visible[3, list(truth.scheme.eye_corners)] = False
    results, _ = comparison.compare(truth, {"a": off_by(truth, [1, 1, 1, 1])}, tmp_path)
    assert results["predictions"]["a"]["small_distances"] == 1
    said = comparison.report(results)
    assert "1 of the labeled ones can't be scored and are left out" in said
    assert "CAUTION: for 1 of the labeled ones the distance" in said


def test_report_says_what_is_strange(truth, tmp_path):
    moved = np.concatenate([truth.landmarks + 1, truth.landmarks + 1, truth.landmarks[:1] + 900])
    moved[0] += 700
    names = (*NAMES, *NAMES[1:], "other/1.jpg", "new/8.jpg")
    found = Predictions("found.pts", "pts", names, moved[[0, 1, 2, 3, 5, 6, 7, 8, 8]])
    said = comparison.report(comparison.compare(truth, {"a": found}, tmp_path)[0])
    assert "4 of 4 faces have a prediction, on the whole off by (+1.00 ± 0.00, +1.00" in said
    assert "2 photos with predictions are not among" in said
    assert "3 photos have more predicted faces than labeled ones" in said
    assert "3 predictions repeat another" in said
    assert "1 predictions do not overlap their face at all; NME without them: 1.41 %" in said
    assert "CAUTION: they lie off as if 1 had been added twice" in said
    assert "Nothing was corrected" in said and "95%" in said


def test_many_rows_are_cut_short_on_screen(tmp_path):
    scheme = schemes.get({"name": "many", "names": [f"p{i}x" for i in range(30)]})
    points = np.random.default_rng(0).uniform(0, 99, (3, 30, 2))
    truth = Annotations(
        "many", scheme, tuple(tmp_path / f"{i}" for i in range(3)), points, np.ones((3, 30), bool)
    )
    found = Predictions("x.csv", "csv", ("0", "1", "2"), points + 2)
    results, _ = comparison.compare(truth, {"a": found}, tmp_path)
    said = comparison.report(results)
    assert "results.json has 10 more." in said and "By subset" not in said
    assert len(results["predictions"]["a"]["groups"]) == 30


def test_errors_of_each_face(truth, tmp_path):
    truth.visible[1, 0] = False
    found = {"a": off_by(truth, [1, 3, 6], NAMES[:3]), "b": off_by(truth, [2, 4, 7, 5])}
    _, errors = comparison.compare(truth, found, tmp_path)
    comparison.write_errors(tmp_path / "out" / "errors.csv", truth, errors, tmp_path)
    with (tmp_path / "out" / "errors.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == list(NAMES)
    assert [row["a interocular"] for row in rows] == ["1", "", "6", "inf"]
    assert rows[3]["b interocular"] == "5" and "b hull_diagonal" in rows[0]


def test_errors_of_files_of_any_name(truth, tmp_path):
    found = {title: off_by(truth, [1, 3, 6, 5]) for title in ("\udcff", "=1", "a\nb")}
    _, errors = comparison.compare(truth, found, tmp_path)
    comparison.write_errors(tmp_path / "errors.csv", truth, errors, tmp_path)
    with (tmp_path / "errors.csv").open(newline="", encoding="utf-8") as file:
        columns = [read_name(cell) for cell in next(csv.reader(file))]
    assert {"\udcff interocular", "=1 interocular", "a\nb interocular"} <= set(columns)


def test_read_sets(tmp_path):
    for path in ("one.json", "run/predictions.json", "a=b/two.json"):
        write_predictions(tmp_path / path, FACE, ["1.jpg"], [POINTS])
    write_pts(tmp_path / "three" / "1.pts", POINTS)
    entries = ["one.json", "run/predictions.json", "a=b/two.json", "three"]
    found = comparison.read_sets([str(tmp_path / entry) for entry in entries], FACE)
    assert list(found) == ["one", "run", "two", "three"]
    one = f"{tmp_path}/one.json"
    found = comparison.read_sets([f"x={one}", f"y={one}"], FACE)
    assert list(found) == ["x", "y"]
    for entries in ([one, one], [f"={one}"]):
        with pytest.raises(ValueError, match="TITLE=FILE"):
            comparison.read_sets(entries, FACE)
    with pytest.raises(ValueError, match="Received: none"):
        comparison.read_sets([], FACE)
    with pytest.raises(FileNotFoundError, match="gone"):
        comparison.read_sets(["x=gone.json"], FACE)


def test_predictions_of_other_photos(truth, tmp_path):
    other = off_by(truth, [1, 2], ("x/8.jpg", "y/9.jpg"))
    with pytest.raises(ValueError, match=r"found\.csv.*afw/1\.jpg.*'x/8\.jpg'"):
        comparison.compare(truth, {"a": other}, tmp_path)


@pytest.mark.faces
def test_real_labels_as_predictions(faces, tmp_path):
    """The .pts files of 300-W, as they are and written from 0, against themselves."""
    root = faces / "300w"
    truth = read_300w(root, "common")
    found = read_predictions(root, truth.scheme)
    results, _ = comparison.compare(truth, {"own": found}, root, by_subset=True)
    own = results["predictions"]["own"]
    assert (own["matched"], own["missing"], own["photos_with_several"]) == (554, 0, 0)
    assert own["extra_photos"] == 2009 and list(own["subsets"]) == ["helen", "lfpw"]
    assert [each["kind"] for each in own["suspected_conventions"]] == ["labels"]
    moved = dataclasses.replace(found, landmarks=found.landmarks - 1)
    (own,) = comparison.compare(truth, {"own": moved}, root)[0]["predictions"].values()
    (said,) = own["suspected_conventions"]
    assert said["kind"] == "offset -1" and said["nme"] == pytest.approx(0, abs=1e-6)


def test_memory_grows_with_the_faces_and_not_with_their_folders(tmp_path):
    def peak(names):
        landmarks = np.tile(POINTS, (len(names), 1, 1)).astype(np.float32)
        paths = tuple(tmp_path / name for name in names)
        truth = Annotations("many", FACE, paths, landmarks, np.ones(landmarks.shape[:2], bool))
        found = {"a": Predictions("found.csv", "csv", tuple(names), landmarks + 1)}
        tracemalloc.start()
        try:
            comparison.compare(truth, found, tmp_path)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    one_folder = peak([f"photos/{i}.jpg" for i in range(2000)])
    assert peak([f"{i}/photo.jpg" for i in range(2000)]) < 1.2 * one_folder


def test_results_are_plain_data(truth, tmp_path):
    results, _ = comparison.compare(truth, {"a": off_by(truth, [1, 3, 6, 10])}, tmp_path)
    write_json(tmp_path / "results.json", results)
    assert read_json(tmp_path / "results.json") == results
