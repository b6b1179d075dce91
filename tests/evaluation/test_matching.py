import time
from pathlib import Path

import numpy as np
import pytest

from keras_lapkl import schemes
from keras_lapkl.data.annotations import Annotations
from keras_lapkl.data.prediction_files import Predictions
from keras_lapkl.evaluation.matching import match

FOUR = schemes.get({"name": "four", "num_landmarks": 4})
SQUARE = np.array([[0.0, 0], [10, 0], [10, 10], [0, 10]])


def labels(paths, landmarks=None, visible=None):
    n = len(paths)
    landmarks = np.tile(SQUARE, (n, 1, 1)) if landmarks is None else np.array(landmarks)
    visible = np.ones((n, 4), bool) if visible is None else visible
    return Annotations("some", FOUR, tuple(map(Path, paths)), landmarks, visible)


def predicted(names, landmarks=None):
    """Face i is the square moved by i, unless landmarks are given."""
    if landmarks is None:
        landmarks = SQUARE + np.arange(len(names))[:, None, None]
    return Predictions("found.json", "json", tuple(names), np.array(landmarks, np.float64))


@pytest.mark.parametrize(
    "name",
    ["1.jpg", "1", "1.png", "testset/1", "helen/testset/1.JPG", "/data/300w/helen/testset/1.jpg"]
    + ["/elsewhere/helen/testset/1.jpg", "./helen/testset/1", r"C:\x\helen\testset\1.png"],
)
def test_names_that_are_of_a_photo(name):
    truth = labels(["/data/300w/helen/testset/1.jpg", "/data/300w/lfpw/testset/2.jpg"])
    found = match(truth, predicted([name]), "/data/300w")
    np.testing.assert_array_equal(found.landmarks[0], SQUARE)
    assert (found.missing, found.not_named, found.extra) == (1, 1, 0)


@pytest.mark.parametrize(
    "name",
    ["10.jpg", "1.5.jpg", "x1.jpg", "trainset/1.jpg", "lfpw/testset/1.jpg", "1.pts", ".."]
    + ["/elsewhere/testset/1.jpg"],
)
def test_names_that_are_not(name):
    truth = labels(["/data/300w/helen/testset/1.jpg", "/data/300w/lfpw/testset/2.jpg"])
    found = match(truth, predicted([name, "2"]), "/data/300w")
    assert np.isnan(found.landmarks[0]).all() and found.extra == 1
    with pytest.raises(ValueError, match=r"found\.json: expected.*helen/testset/1\.jpg.*1 other"):
        match(truth, predicted(["3"]), "/data/300w")


def test_photos_of_one_name_in_many_folders_take_no_square_of_time():
    """Against all others of its name, each of 20,000 photos would take minutes."""
    names = [f"{i}/photo.jpg" for i in range(20_000)]
    landmarks = np.broadcast_to(SQUARE, (len(names), 4, 2))
    truth = labels([f"/data/{name}" for name in names], landmarks)
    start = time.process_time()
    found = match(truth, predicted(names, landmarks + np.arange(4)[:, None]), "/data")
    assert found.missing == 0 and time.process_time() - start < 30
    with pytest.raises(ValueError, match=r"'photo' may be any of 20000 labeled photos"):
        match(truth, predicted(["photo"]), "/data")


def test_the_longest_name_wins():
    truth = labels(["a/1.jpg", "b/1.jpg"])
    found = match(truth, predicted(["b/1", "a/1", "c/1"]))
    np.testing.assert_array_equal(found.landmarks[:, 0, 0], [1, 0])
    assert (found.missing, found.extra) == (0, 1)
    # One folder of data: its photos may be called so or by their folders.
    found = match(labels(["a/1.jpg"]), predicted(["1", "a/1"]), "a")
    assert found.landmarks[0, 0, 0] == 1 and found.extra == 1


def test_the_same_suffix_wins():
    found = match(labels(["1.jpg", "1.png"]), predicted(["1.png", "1.jpg"]))
    np.testing.assert_array_equal(found.landmarks[:, 0, 0], [1, 0])


def test_names_that_may_be_of_several():
    with pytest.raises(ValueError, match=r"'1' may be any of 2 labeled photos: a.1\.jpg"):
        match(labels(["a/1.jpg", "b/1.jpg"]), predicted(["1"]))
    with pytest.raises(ValueError, match=r"1\.jpg may be any of 2 photos of the pred"):
        match(labels(["1.jpg"]), predicted(["1.png", "1.bmp"]))


def test_nothing_predicted():
    with pytest.raises(ValueError, match="Received: 0 other photos"):
        match(labels(["1.jpg"]), predicted([], np.zeros((0, 4, 2))))


def test_the_face_that_overlaps_most():
    faces = [SQUARE + 4, SQUARE + 100, SQUARE + 3, SQUARE - 50]
    found = match(labels(["1.jpg"]), predicted(["1"] * 4, faces))
    np.testing.assert_array_equal(found.landmarks[0], SQUARE + 3)
    assert (found.several, found.twice, found.elsewhere.any()) == (1, 0, False)


def test_overlap_decides_and_not_the_error():
    """A turned prediction on the very place is taken, for all its error."""
    faces = [SQUARE[::-1], SQUARE + 2]
    found = match(labels(["1.jpg"]), predicted(["1"] * 2, faces))
    np.testing.assert_array_equal(found.landmarks[0], SQUARE[::-1])


def test_where_none_overlaps_the_nearest_counts():
    faces = [SQUARE + 90, SQUARE + 40, SQUARE - 60]
    found = match(labels(["1.jpg"]), predicted(["1"] * 3, faces))
    np.testing.assert_array_equal(found.landmarks[0], SQUARE + 40)
    assert found.elsewhere.all() and found.missing == 0


LEVEL = np.array([[0.0, 5], [30, 5], [60, 5], [90, 5]])


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(("moved", "elsewhere"), [(0.5, False), (8, False), (40, True)])
def test_points_in_a_line_have_a_place_too(turned, moved, elsewhere):
    """Their box has no area, and overlaps nothing as it is."""
    line = LEVEL[:, ::-1] if turned else LEVEL
    away = line + ([moved, 0] if turned else [0, moved])
    found = match(labels(["a"], [line]), predicted(["a"], [away]))
    assert found.elsewhere.tolist() == [elsewhere]
    np.testing.assert_array_equal(found.landmarks, [away])


def test_of_one_visible_point_nobody_can_tell_whether_it_is_elsewhere():
    visible = np.array([[True, False, False, False]])
    found = match(labels(["a"], visible=visible), predicted(["a"], [SQUARE + 300]))
    assert found.elsewhere.tolist() == [False]


def test_several_labels_of_a_photo_share_its_predictions():
    truth = labels(["1.jpg"] * 3, [SQUARE, SQUARE + 6, SQUARE + 200])
    found = match(truth, predicted(["1"] * 2, [SQUARE + 7, SQUARE + 3]))
    # the second label has the best of all overlaps; the first takes what is left
    np.testing.assert_array_equal(found.landmarks[:2], [SQUARE + 3, SQUARE + 7])
    assert (found.missing, found.not_named, found.several) == (1, 0, 0)


def test_the_same_face_twice():
    found = match(labels(["1.jpg"]), predicted(["1"] * 3, [SQUARE, SQUARE + 1, SQUARE]))
    assert (found.twice, found.several) == (1, 1)


def test_photos_without_a_face():
    faces = [np.full((4, 2), np.nan), SQUARE]
    found = match(labels(["1.jpg", "2.jpg", "3.jpg"]), predicted(["1", "2"], faces))
    assert (found.missing, found.not_named) == (2, 1)
    np.testing.assert_array_equal(np.isnan(found.landmarks).any((1, 2)), [True, False, True])


def test_hidden_points_have_no_place():
    truth = labels(["1.jpg", "2.jpg"], visible=np.array([[1, 1, 0, 0], [0, 0, 0, 0]], bool))
    truth.landmarks[0, 2:] = np.nan
    faces = [SQUARE + 3, SQUARE + 50 * np.array([[0, 0], [0, 0], [1, 1], [1, 1]])]
    found = match(truth, predicted(["1", "1"], faces))
    np.testing.assert_array_equal(found.landmarks[0], faces[1])
    assert (found.missing, found.not_named) == (0, 0)  # nothing is asked for in the second
