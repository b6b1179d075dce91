import concurrent.futures
import dataclasses
import math
import pickle
import subprocess
import sys
import types
from time import sleep

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from keras_lapkl.data.cropping import crop_squares
from keras_lapkl.detection.face import Face
from keras_lapkl.detection.landmark_detector import LandmarkDetector
from keras_lapkl.detection.tracking import LandmarkTracker
from keras_lapkl.tflite import TFLiteLocalizer

RATE = 30
UNSURE = 0.25  # score of a `World`'s face that the model is unsure of
FRAME = np.zeros((240, 320, 3), np.uint8)


@pytest.fixture(scope="module")
def points(stub):
    """A face around the origin whose five points' square has a side of 40."""
    return (stub.POINTS - stub.POINTS.mean(0)) * 40 / 30


def test_models_of_boxes_are_refused(world):
    made = world()
    made.localizer.scheme = dataclasses.replace(made.localizer.scheme, crop_from="box")
    with pytest.raises(ValueError, match="Received: 'box'"):
        LandmarkTracker(made)


class World:
    """A `LandmarkDetector` of faces whose places are set: {name: (x, y)}, each with its scale."""

    def __init__(self, points, scheme, **faces):
        self.points = points
        self.localizer = types.SimpleNamespace(
            scheme=scheme, image_size=80, crop_scale=3.0, calibration=None
        )
        self.passes = 2
        self.any_angle = None
        self.faces = dict(faces)
        self.scale = dict.fromkeys(faces, 1.0)
        self.spoil = {}
        self.lost = None
        self.searches = 0
        self.looked_around = []
        self.asked_angle = []
        self.asked = []
        self.asked_passes = []
        self.recut = []

    def unsure(self, faces):
        return np.array([face.lost is not None and face.score == UNSURE for face in faces], bool)

    def __call__(self, frame, look_around=True, any_angle=None):
        self.searches += 1
        self.looked_around.append(look_around)
        self.asked_angle.append(any_angle)
        return [self._face(name, np.array([*place, 40.0])) for name, place in self.faces.items()]

    def localize(self, frame, squares, passes=1, recut=False):
        self.asked.append(np.array(squares))
        self.asked_passes.append(passes)
        self.recut.append(recut)
        found = [self._nearest(square) for square in squares]
        return [dataclasses.replace(face, lost=self.lost) for face in found]

    def _nearest(self, square):
        gaps = {k: np.abs(square[:2] - place).max() for k, place in self.faces.items()}
        name = min(gaps, key=gaps.get, default=None)
        if name is not None and gaps[name] <= 1.2 * square[2]:
            return self._face(name, square)
        found = square[:2] + self.points * square[2] / 40
        return self._make(found, 4.0, square)

    def _face(self, name, square):
        landmarks = self.points + self.faces[name]
        return self._make(self.spoil.get(name, lambda x: x)(landmarks), self.scale[name], square)

    def _make(self, landmarks, pixels, square):
        side = 3 * square[2]
        scale = np.full(landmarks.shape, pixels * side / 80)
        return Face(landmarks, scale, np.array([*square[:2], side]), score=0.5)


@pytest.fixture
def world(points, stub):
    def make(**faces):
        return World(points, stub.SCHEME, **faces)

    return make


def ids(faces):
    return [face.id for face in faces]


def test_a_face_is_detected_once_and_then_followed(world):
    made = world(a=(100.0, 100.0))
    tracker = LandmarkTracker(made, find_every=None)
    for i in range(20):
        made.faces["a"] = (100 + 5 * i, 100 - i)
        (face,) = tracker(FRAME, i / RATE)
        assert face.id == 0 and face.score == 0.5
        np.testing.assert_array_equal(face.raw, made.points + made.faces["a"])
        np.testing.assert_allclose(face.landmarks, face.raw, atol=2)
    assert made.searches == 1
    assert len(made.asked) == 19


@pytest.mark.parametrize(
    ("calibration", "given", "passes"), [(None, 2, 1), (object(), 1, 1), (object(), 3, 3)]
)
def test_each_frame_has_the_passes_that_are_averaged(world, calibration, given, passes):
    """They are where the model is calibrated."""
    made = world(a=(100.0, 100.0))
    made.localizer.calibration, made.passes = calibration, given
    tracker = LandmarkTracker(made)
    for i in range(5):
        tracker(FRAME, i / RATE)
    assert made.asked_passes == [passes] * 4


@pytest.mark.parametrize(("passes", "place"), [(1, 4), (2, 0)])
def test_what_leans_to_one_side_is_averaged_with_its_mirror_image(stub, passes, place):
    localizer = stub.Leaning(9.0)
    detector = LandmarkDetector(localizer, stub.detector(stub.BOX), passes=passes)
    tracker = LandmarkTracker(detector, make_filter=None, max_scale=99)
    tracker(stub.ramp(), 0)
    localizer.crops.clear()
    (face,) = tracker(stub.ramp(), 1 / RATE)
    assert len(localizer.crops) == passes
    right = (face.raw - stub.POINTS)[:, 0].mean() * stub.SIZE / face.square[2]
    assert right == pytest.approx(place, abs=1)  # colors are whole numbers


def test_the_crop_is_cut_where_the_face_will_be(world):
    made = world(a=(60.0, 100.0))
    tracker = LandmarkTracker(made, find_every=None)
    times = np.cumsum([1, 1, 1, 1, 1, 2, 1, 3, 1]) / RATE  # frames are left out
    for time in times:
        made.faces["a"] = (60 + 150 * time, 100)
        tracker(FRAME, time)
    square = crop_squares(made.points[None], made.localizer.scheme, 1)[0]
    expected = 60 + 150 * times[1:] + square[0]
    asked = np.array([each[0, 0] for each in made.asked])
    np.testing.assert_allclose(asked[3:], expected[3:], atol=1.5)
    assert abs(asked[0] - expected[0]) > 3  # one place tells no speed


def test_the_crop_keeps_the_angle_of_the_face(world):
    made = world(a=(150.0, 120.0))
    cos, sin = np.cos(0.6), np.sin(0.6)
    made.points = made.points @ [[cos, sin], [-sin, cos]]
    tracker = LandmarkTracker(made)
    for i in range(2):
        tracker(FRAME, i / RATE)
    assert made.asked[0][0, 3] == pytest.approx(0.6, abs=0.01)


def test_the_crop_is_cut_in_other_ways_where_the_model_is_lost(world):
    made = world(a=(150.0, 120.0))
    tracker = LandmarkTracker(made)
    for i in range(2):
        tracker(FRAME, i / RATE)
    assert made.recut == [True]


def test_the_filter_gets_the_scale_of_the_face(world):
    made, scales = world(a=(150.0, 120.0)), []
    made.scale["a"] = 1.5

    def smooth(landmarks, scale, time):
        scales.append(scale)
        return landmarks

    (face,) = LandmarkTracker(made, lambda: smooth)(FRAME, 0.0)
    np.testing.assert_array_equal(scales, [face.scale])
    np.testing.assert_array_equal(face.scale, 1.5 * 3 * 40 / 80)


def test_a_crop_is_never_far_ahead(world):
    made = world(a=(60.0, 100.0))
    tracker = LandmarkTracker(made, find_every=None)
    for i in range(4):
        made.faces["a"] = (60 + 20 * i, 100)
        tracker(FRAME, i / RATE)
    tracker(FRAME, 3 / RATE + 30)
    assert made.asked[-1][0, 0] == pytest.approx(120 + 20, abs=3)


def test_without_filter(world, rng):
    made = world(a=(100.0, 100.0))
    tracker = LandmarkTracker(made, None)
    for i in range(5):
        made.faces["a"] = tuple(100 + 9 * rng.standard_normal(2))
        (face,) = tracker(FRAME, i / RATE)
        np.testing.assert_array_equal(face.landmarks, made.points + made.faces["a"])


@pytest.mark.parametrize(
    ("scale", "spoil", "found"),
    [
        pytest.param(2.01, lambda x: x, [], id="unsure"),
        pytest.param(math.nan, lambda x: x, [], id="scale NaN"),
        pytest.param(1.0, lambda x: x * np.nan, [], id="NaN"),
        pytest.param(1.0, lambda x: np.where(x > 100, np.inf, x), [], id="infinite"),
        pytest.param(1.0, lambda x: 0 * x + 100, [], id="one point"),
        pytest.param(1.0, lambda x: x + (45, 0), [1], id="jump"),
        pytest.param(1.0, lambda x: 100 + (x - 100) / 3, [0], id="shrunk"),
        pytest.param(1.0, lambda x: 100 + (x - 100) * 3, [0], id="grown"),
    ],
)
def test_a_lost_face_is_searched_in_the_same_frame(world, scale, spoil, found):
    made = world(a=(100.0, 100.0))
    tracker = LandmarkTracker(made, find_every=None)
    for i in range(5):
        assert ids(tracker(FRAME, i / RATE)) == [0]
    assert made.searches == 1
    made.scale["a"], made.spoil["a"] = scale, spoil
    assert ids(tracker(FRAME, 5 / RATE)) == found
    assert made.searches == 2


@pytest.mark.parametrize("place", [(-1.0, 100.0), (100.0, 241.0), (500.0, 100.0)])
def test_a_face_whose_middle_leaves_the_frame_is_lost(world, place):
    made = world(a=(100.0, 100.0))
    tracker = LandmarkTracker(made, None)
    start = np.array(made.faces["a"])
    for i, part in enumerate(np.linspace(0, 1, 20)):
        made.faces["a"] = tuple(start + part * (np.array(place) - start))
        found = tracker(FRAME, i / RATE)
    assert found == []


def test_a_speck_is_no_face(world):
    made = world(a=(100.0, 100.0))
    made.points = made.points / 6
    assert LandmarkTracker(made)(FRAME, 0) == []
    assert made.searches == 1


def test_a_face_comes_back_with_its_number(world):
    made = world(a=(100.0, 100.0), b=(220.0, 100.0))
    tracker = LandmarkTracker(made, find_every=None)
    assert ids(tracker(FRAME, 0)) == [0, 1]
    made.scale["a"] = 3.0
    for i in range(1, 20):
        assert ids(tracker(FRAME, i / RATE)) == [1]
    assert made.searches == 20
    made.scale["a"] = 1.0
    made.scale["b"] = 3.0
    assert ids(tracker(FRAME, 20 / RATE)) == [0]
    made.scale["b"] = 1.0
    made.faces["b"] = (215.0, 104.0)
    tracker.find_every = 1
    faces = tracker(FRAME, 21 / RATE)
    assert ids(faces) == [0, 1]
    np.testing.assert_array_equal(faces[1].landmarks, faces[1].raw)  # the filter begins anew


@pytest.mark.parametrize(
    ("seconds", "place"), [(1.2, (100.0, 100.0)), (0.11, (170.0, 100.0)), (0.9, (181.0, 100.0))]
)
def test_too_late_or_elsewhere_it_is_another_face(world, seconds, place):
    made = world(a=(100.0, 100.0))
    tracker = LandmarkTracker(made)
    tracker(FRAME, 0)
    made.scale["a"] = 3.0
    assert tracker(FRAME, 0.1) == []
    made.scale["a"] = 1.0
    made.faces["a"] = place
    assert ids(tracker(FRAME, seconds)) == [1]
    assert made.searches == 3


@pytest.mark.parametrize(("shrink", "place", "number"), [(1.4, 150, 0), (1.6, 150, 1), (3, 110, 0)])
def test_a_face_of_another_size_further_away_is_another_one(world, shrink, place, number):
    made = world(a=(100.0, 100.0))
    tracker = LandmarkTracker(made)
    tracker(FRAME, 0)
    made.scale["a"] = 3.0
    assert tracker(FRAME, 0.1) == []
    made.scale["a"], made.faces["a"] = 1.0, (float(place), 100.0)
    made.points = made.points / shrink
    assert ids(tracker(FRAME, 0.2)) == [number]


def test_found_again_far_away_it_has_the_speed_of_its_way(world):
    made = world(a=(60.0, 100.0))
    tracker = LandmarkTracker(made)
    tracker(FRAME, 0)
    made.faces["a"] = (120.0, 100.0)  # a side and a half: beyond its crop
    assert ids(tracker(FRAME, 0.1)) == [0]
    made.faces["a"] = (180.0, 100.0)
    tracker(FRAME, 0.2)
    at = crop_squares((made.points + (120.0, 100.0))[None], made.localizer.scheme, 1)[0]
    np.testing.assert_allclose(made.asked[-1][0, :2], at[:2] + (20, 0), atol=1)  # half a side ahead


@pytest.mark.parametrize("kind", ["was lost", "is lost"])
def test_of_two_that_become_one_the_one_that_is_seen_goes_on(world, kind):
    """Though the other one was expected nearer."""
    made = world(a=(80.0, 100.0), b=(170.0, 100.0))
    tracker = LandmarkTracker(made, find_every=None)
    tracker(FRAME, 0)
    first, second = tracker._tracks
    if kind == "was lost":
        first.face = dataclasses.replace(first.face, lost=True)
    face, guess = made._face("b", np.array([170.0, 100.0, 40.0])), np.array([100.0, 100.0])
    answers = [
        dataclasses.replace(face, landmarks=made.points + guess, lost=kind == "is lost"),
        dataclasses.replace(face, landmarks=made.points + guess + (5, 0)),
    ]
    first.square[:2] = guess
    second.square[:2] = guess + (30, 0)
    made.localize = lambda *_, **__: answers
    made.faces = {}
    assert [each.number for each in (tracker._follow(FRAME, 0.03), tracker._tracks)[1]] == [1]


def test_found_twice_again_and_again_is_searched_no_more(world):
    """A detector may always find a part of a face as well, which the model leads to the face."""
    made = world(a=(80.0, 100.0))
    tracker = LandmarkTracker(made)
    face = made._face

    def twice(frame, **_):
        made.searches += 1
        aside = dataclasses.replace(
            face("a", np.array([80.0, 100.0, 40.0])), landmarks=made.points + (107.0, 100.0)
        )
        return [face("a", np.array([80.0, 100.0, 40.0])), aside]

    type(made).__call__, call = lambda self, *args, **kwargs: twice(*args, **kwargs), World.__call__
    try:
        doubles = sum(len(tracker(FRAME, i / RATE)) - 1 for i in range(300))
    finally:
        type(made).__call__ = call
    assert made.searches == doubles == 10


def test_a_number_that_came_back_is_given_no_second_time(world):
    made = world(a=(80.0, 100.0))
    tracker = LandmarkTracker(made, find_every=1)
    tracker(FRAME, 0.0)
    del made.faces["a"]
    assert ids(tracker(FRAME, 0.1)) == []
    for i, x in enumerate((80.0, 110.0, 140.0)):
        made.faces["a"] = (x, 100.0)
        assert ids(tracker(FRAME, 0.2 + i / 10)) == [0]
    made.faces["b"], made.scale["b"] = (80.0, 100.0), 1.0
    assert ids(tracker(FRAME, 0.5)) == [0, 1]


@pytest.mark.parametrize(("rate", "step"), [(30, 30), (10, 45), (10, 58), (5, 79)])
@pytest.mark.parametrize("has_guess", [False, True])
def test_a_face_that_outruns_its_crop_keeps_its_number(world, rate, step, has_guess):
    """At 10 frames a second a walk is as fast as a side a frame. What the model guesses is left."""
    made = world(a=(60.0, 60.0))
    frame = np.zeros((240, 2000, 3), np.uint8)
    tracker = LandmarkTracker(made)
    localize = made.localize

    def guess(frame, squares, *args, **kwargs):
        found = localize(frame, squares, *args, **kwargs)
        missed = [np.abs(s[:2] - made.faces["a"]).max() > 40 for s in squares]
        guesses = [made._make(made.points + s[:2], 1.0, s) for s in squares]
        return [
            dataclasses.replace(g, lost=True) if is_missed else face
            for face, g, is_missed in zip(found, guesses, missed, strict=True)
        ]

    if has_guess:
        made.localize = guess
    for i in range(12):
        made.faces["a"] = (60.0 + step * i, 60.0)
        (face,) = tracker(frame, i / rate)
        assert face.id == 0 and not face.lost
        np.testing.assert_allclose(face.raw.mean(0), made.faces["a"], atol=1e-9)


def test_the_nearest_of_the_lost_goes_on_in_a_new_face(world):
    """And each in one; whoever is left over is new."""
    made = world(a=(60.0, 100.0), b=(160.0, 100.0))
    tracker = LandmarkTracker(made)
    assert ids(tracker(FRAME, 0)) == [0, 1]
    made.localize = lambda _, squares, *__, **___: [
        made._make(made.points, 4.0, square) for square in squares
    ]
    made.faces = {"c": (265.0, 100.0), "b": (210.0, 100.0), "a": (80.0, 100.0)}
    made.scale = dict.fromkeys("abc", 1.0)
    places = {face.id: face.raw.mean(0)[0] for face in tracker(FRAME, 0.1)}
    assert places == pytest.approx({0: 80.0, 1: 210.0, 2: 265.0})


def test_while_there_is_no_face_each_frame_is_searched(world):
    made = world()
    tracker = LandmarkTracker(made)
    for i in range(4):
        assert tracker(FRAME, i / RATE) == []
    assert made.searches == 4 and made.asked == []


def test_an_empty_scene_is_looked_around_in_now_and_then(world):
    """And each sixth of the second after a face was given up."""
    made = world()
    tracker = LandmarkTracker(made)
    for i in range(61):
        tracker(FRAME, i / RATE)
    np.testing.assert_array_equal(np.flatnonzero(made.looked_around), [0, 30, 60])
    made.faces["a"], made.scale["a"] = (80.0, 100.0), 1.0
    tracker(FRAME, 61 / RATE)
    del made.faces["a"], made.looked_around[:]
    for i in range(62, 142):
        tracker(FRAME, i / RATE)
    np.testing.assert_array_equal(np.flatnonzero(made.looked_around), [3, 8, 13, 18, 23, 28, 58])


def test_a_lost_face_is_looked_around_for_each_sixth_of_a_second(world):
    """That is, in each frame where there are no more."""
    for rate, expected in ((RATE, 6), (5, 5), (2, 2)):
        made = world(a=(100, 100))
        tracker = LandmarkTracker(made)
        tracker(FRAME, 0.0)
        del made.faces["a"], made.looked_around[:]
        made.lost = True
        made._nearest = lambda square, made=made: made._make(made.points + square[:2], 1.0, square)
        for i in range(1, rate + 1):
            (face,) = tracker(FRAME, i / rate)
            assert face.lost
        assert made.searches == 1 + rate  # each frame is searched
        assert sum(made.looked_around) == expected


def test_a_face_that_is_lost_beside_others_is_looked_for_at_any_angle(world):
    made = world(a=(60.0, 100.0), b=(180.0, 100.0))
    tracker = LandmarkTracker(made, find_every=2)
    for i in range(3):
        tracker(FRAME, i / RATE)
    localize = made.localize
    made.localize = lambda *args, **kwargs: [
        dataclasses.replace(face, lost=i == 1) for i, face in enumerate(localize(*args, **kwargs))
    ]
    tracker(FRAME, 8 / RATE)
    assert made.asked_angle == [None, None, True] and made.looked_around[-1]
    made.localize = localize
    del made.faces["b"]  # and so for a second after it was given up
    for i in range(9, 60, 3):
        tracker(FRAME, i / RATE)
    both = np.logical_and(made.looked_around, np.not_equal(made.asked_angle, None))
    assert both.sum() >= 5 and not both[-1]


def unsure(face, **changes):
    return dataclasses.replace(face, lost=False, score=UNSURE, error=np.full(5, 9.0), **changes)


def test_what_the_model_is_unsure_of_begins_only_where_it_was_looked_around(world):
    """At first, and soon after it is seen; an empty scene is looked around in each second."""
    made = world()
    tracker = LandmarkTracker(made)
    for i in range(11):
        assert tracker(FRAME, i / RATE) == []
    found = made._face
    made._face = lambda *arguments: unsure(found(*arguments))
    made.faces["a"], made.scale["a"] = (80.0, 100.0), 1.0
    for i in range(11, 15):
        assert tracker(FRAME, i / RATE) == []  # it may be another one in a face upside down
    assert tracker.left_out == {"too unsure or too small to follow": 4}
    assert ids(tracker(FRAME, 15 / RATE)) == [0]
    assert np.flatnonzero(made.looked_around).tolist() == [0, 16]  # after a quick look, in frame 15
    assert tracker.left_out == {"too unsure or too small to follow": 4}
    tracker.reset()
    assert ids(tracker(FRAME, 0)) == [1]


def test_what_the_model_stays_unsure_of_is_not_looked_around_for_in_each_frame(world):
    made = world(a=(80.0, 100.0))
    find = made._face
    made._face = lambda *arguments: dataclasses.replace(unsure(find(*arguments)), lost=True)
    tracker = LandmarkTracker(made)
    for i in range(30):
        assert tracker(FRAME, i / RATE) == []
    assert sum(made.looked_around) == 2 and made.searches == 31
    assert tracker.left_out == {"too unsure or too small to follow": 30}


@pytest.mark.parametrize(
    ("away", "turn", "size", "error", "then"),
    [
        (12, 0.0, 1.0, 1.0, "corrected"),
        (8, 0.0, 1.0, 1.0, "left"),
        (0, 1.0, 1.0, 1.0, "corrected"),
        (12, 0.0, 1.0, 10.0, "left"),
        (12, 0.0, 0.6, 1.0, "left"),
        (30, 0.0, 1.0, 1.0, "another"),
        (30, 3.1, 1.0, 1.0, "corrected"),
        (45, 3.1, 1.0, 1.0, "another"),
    ],
)
def test_the_detector_corrects_a_face_that_the_model_is_unsure_of(
    world, monkeypatch, away, turn, size, error, then
):
    """Of like size, within half a side, surer, and at another place or angle.

    Upside down, within one: that one may have been followed as another face in it.
    """
    made = world(a=(80.0, 100.0))
    nearest = made._nearest
    made._nearest, made.lost = lambda square: unsure(nearest(square)), False
    tracker = LandmarkTracker(made, find_every=5)
    for i in range(5):
        assert ids(tracker(FRAME, i / RATE)) == [0]
    landmarks = size * made.points + (80 + away, 100)
    found = dataclasses.replace(
        made._face("a", np.array([80.0, 100.0, 40.0])),
        landmarks=landmarks,
        error=np.full(5, error * size),
        angle=turn,
    )
    monkeypatch.setattr(World, "__call__", lambda *_, **__: [found])
    faces = tracker(FRAME, 5 / RATE)
    assert ids(faces) == ([0, 1] if then == "another" else [0])
    assert np.array_equal(faces[-1].raw, landmarks) == (then != "left")


@pytest.mark.parametrize("lost", [False, True])
def test_a_detection_of_a_followed_face_does_not_move_another(world, monkeypatch, lost):
    """One that the model is unsure of or lost on, of a lower number, and at any angle."""
    made = world(a=(80.0, 100.0), b=(110.0, 100.0))
    tracker = LandmarkTracker(made, find_every=5)
    assert ids(tracker(FRAME, 0)) == [0, 1]
    localize = made.localize

    def guess(*args, **kwargs):
        first, second = localize(*args, **kwargs)
        return [dataclasses.replace(unsure(first), angle=3.1, lost=lost), second]

    made.localize = guess
    made.lost = False
    sure = dataclasses.replace(made._face("b", np.array([110.0, 100.0, 40.0])), error=np.ones(5))
    monkeypatch.setattr(World, "__call__", lambda *_, **__: [sure])
    for i in range(1, 12):
        faces = tracker(FRAME, i / RATE)
        assert [face.raw.mean(0)[0] for face in faces] == pytest.approx([80, 110])
        assert [face.lost for face in faces] == [lost, False]


def test_without_a_search_now_and_then_each_looks_around(world):
    made = world()
    tracker = LandmarkTracker(made, find_every=None)
    for i in range(3):
        tracker(FRAME, i / 5)
    assert made.looked_around == [True, True, True]


@pytest.mark.parametrize("every", [None, 1, 4])
def test_no_search_looks_around_more_than_six_times_a_second(world, every):
    made = world()
    tracker = LandmarkTracker(made, find_every=every)
    for i in range(RATE):
        tracker(FRAME, i / RATE)
    assert made.searches == RATE and 4 <= sum(made.looked_around) <= 6


@pytest.mark.parametrize(("every", "frame"), [(1, 5), (4, 8), (7, 7), (None, None)])
def test_new_faces_are_found_every_n_frames(world, every, frame):
    made = world(a=(80.0, 100.0))
    tracker = LandmarkTracker(made, find_every=every)
    seen = {}
    for i in range(12):
        if i == 5:
            made.faces["b"], made.scale["b"] = (200.0, 100.0), 1.0
        for face in tracker(FRAME, i / RATE):
            seen.setdefault(face.id, i)
    assert seen == ({0: 0} if frame is None else {0: 0, 1: frame})


def test_faces_that_pass_each_other_keep_their_numbers(world):
    made = world(a=(60.0, 80.0), b=(260.0, 140.0))
    tracker = LandmarkTracker(made, find_every=5)
    for i in range(40):
        made.faces["a"] = (60 + 5 * i, 80)
        made.faces["b"] = (260 - 5 * i, 140)
        faces = tracker(FRAME, i / RATE)
        assert ids(faces) == [0, 1]
        np.testing.assert_array_equal(faces[0].raw, made.points + made.faces["a"])
        np.testing.assert_array_equal(faces[1].raw, made.points + made.faces["b"])


def test_of_two_that_become_one_the_older_goes_on(world):
    made = world(a=(80.0, 100.0), b=(140.0, 100.0))
    tracker = LandmarkTracker(made, find_every=1)
    assert ids(tracker(FRAME, 0)) == [0, 1]
    del made.faces["b"]
    made.faces["a"] = (110.0, 100.0)
    assert ids(tracker(FRAME, 1 / RATE)) == [0]
    assert made.asked[-1].shape == (2, 4)
    tracker(FRAME, 2 / RATE)
    assert made.asked[-1].shape == (1, 4)


def test_who_goes_behind_another_gets_the_number_back(world):
    """The younger one, in front, keeps its own, and each frame of a second is searched."""
    made = world(behind=(180.0, 100.0))
    tracker = LandmarkTracker(made, find_every=1)
    tracker(FRAME, 0)
    made.faces["front"], made.scale["front"] = (80.0, 100.0), 1.0
    assert ids(tracker(FRAME, 1 / RATE)) == [0, 1]
    tracker.find_every = None
    for i in range(2, 41):
        made.faces["behind"] = (180.0 - 1.5 * i, 100.0)
        assert ids(tracker(FRAME, i / RATE)) == [0, 1]
    del made.faces["behind"]
    before = made.searches
    for i in range(41, 61):
        (face,) = tracker(FRAME, i / RATE)
        assert face.id == 1 and face.raw.mean(0)[0] == pytest.approx(80)
    assert made.searches == before + 20
    made.faces["behind"] = (45.0, 100.0)
    faces = tracker(FRAME, 61 / RATE)
    assert [face.raw.mean(0)[0] for face in faces] == pytest.approx([45, 80])
    del made.faces["behind"]
    for i in range(62, 162):
        tracker(FRAME, i / RATE)
    assert made.searches == before + 20 + 1 + 30


def test_twice_detected_is_one_face(world):
    made = world(a=(80.0, 100.0), b=(90.0, 100.0))
    assert ids(LandmarkTracker(made)(FRAME, 0)) == [0]


def test_unsure_detections_are_no_faces(world):
    made = world(a=(80.0, 100.0))
    made.scale["a"] = 2.5
    assert LandmarkTracker(made)(FRAME, 0) == []
    assert ids(LandmarkTracker(made, max_scale=3)(FRAME, 0)) == [0]


def test_what_the_model_is_lost_on_is_followed_and_searched_until_it_is_found(world):
    made = world(a=(80.0, 100.0))
    tracker = LandmarkTracker(made, find_every=None)
    assert [tracker(FRAME, i / RATE)[0].lost for i in range(2)] == [None, None]
    made.lost = True
    made.spoil["a"] = lambda x: x + 9  # near enough to be the same face
    assert [(face.id, face.lost) for face in tracker(FRAME, 2 / RATE)] == [(0, None)]
    assert made.searches == 2  # what it found there is sure
    made.faces = {}
    made._nearest = lambda square: made._make(made.points + (80.0, 100.0), 1.0, square)
    assert [(face.id, face.lost) for face in tracker(FRAME, 3 / RATE)] == [(0, True)]
    tracker(FRAME, 4 / RATE)
    assert made.searches == 4


def test_a_guess_that_the_detector_corrects_has_no_speed(world):
    """Both are of one moment, so the way between them is none that the face has moved."""
    made = world(a=(80.0, 100.0))
    tracker = LandmarkTracker(made, find_every=None)
    for i in range(3):
        made.faces["a"] = (80.0 + 2 * i, 100.0)
        tracker(FRAME, i / RATE)
    made.lost, made.spoil["a"] = True, lambda x: x - 12
    found = made._face
    made._face = lambda name, square: dataclasses.replace(found(name, square), lost=None)
    localize = made.localize

    def once(*args, **kwargs):
        faces = localize(*args, **kwargs)
        made.spoil.clear()
        made.lost = None
        return faces

    made.localize = once
    (face,) = tracker(FRAME, 3 / RATE)
    assert made.searches == 2 and not face.lost
    tracker(FRAME, 4 / RATE)
    square = crop_squares(face.landmarks[None], made.localizer.scheme, 1)[0]
    np.testing.assert_allclose(made.asked[-1][0, :2], square[:2], atol=1e-6)


@pytest.mark.parametrize(("rate", "found"), [(30, 30), (10, 10), (1, 1), (0.2, 1), (60, 30)])
def test_new_faces_are_looked_for_each_second_at_any_rate(world, rate, found):
    """A second one enters after the first picture: of every 30th frame, thirty are 30 seconds."""
    made = world(a=(100.0, 100.0))
    tracker = LandmarkTracker(made)
    tracker(FRAME, 0.0)
    made.faces["b"], made.scale["b"] = (220.0, 150.0), 1.0
    seen = [len(tracker(FRAME, i / rate)) for i in range(1, 40)]
    assert seen == [1] * (found - 1) + [2] * (40 - found)


def test_what_the_model_stays_lost_on_for_a_second_is_given_up(world):
    """As where the face has gone and the model looks at what was behind it, with small scales."""
    made = world(a=(100, 100))
    tracker = LandmarkTracker(made)
    tracker(FRAME, 0.0)
    del made.faces["a"]
    made.lost = True
    made._nearest = lambda square: made._make(square[:2] + made.points, 1.0, square)
    found = [[face.lost for face in tracker(FRAME, i / 10)] for i in range(1, 13)]
    assert found == [[True]] * 10 + [[]] * 2
    made.faces["a"], made.lost = (103, 100), None
    assert [face.id for face in tracker(FRAME, 1.5)] == [0]  # it comes back with its number
    assert [face.id for face in tracker(FRAME, 2.6)] == [0]


def test_the_second_begins_anew_where_the_model_is_sure(world):
    made = world(a=(100, 100))
    tracker = LandmarkTracker(made)
    tracker(FRAME, 0.0)
    tracker._search = lambda *_: (0, False)
    for i in range(1, 60):
        made.lost = i % 9 > 0  # nine tenths of a second apart
        assert ids(tracker(FRAME, i / 10)) == [0]


def test_no_face_begins_where_the_model_is_lost(world):
    made = world(a=(80.0, 100.0))
    find = made._face
    made._face = lambda *arguments: dataclasses.replace(find(*arguments), lost=True)
    tracker = LandmarkTracker(made)
    assert tracker(FRAME, 0) == []
    assert tracker.left_out == {"too unsure or too small to follow": 1}


def test_a_face_given_up_before_a_pause_is_another_one_after_it(world):
    """Wherever it is; one that is in its place goes on."""
    made = world(a=(100.0, 100.0), b=(220.0, 100.0))
    tracker = LandmarkTracker(made)
    assert ids(tracker(FRAME, 0)) == ids(tracker(FRAME, 1 / RATE)) == [0, 1]
    made.faces["a"] = (100.0, 150.0)
    assert ids(tracker(FRAME, 3600)) == [1, 2]


def test_who_writes_into_the_results_changes_no_later_one(world):
    clean, spoiled = (LandmarkTracker(world(a=(100.0, 100.0))) for _ in range(2))
    for i in range(8):
        for tracker in (clean, spoiled):
            tracker.detector.faces["a"] = (100.0 + i, 100.0)
        (expected,), (face,) = clean(FRAME, i / RATE), spoiled(FRAME, i / RATE)
        for field in dataclasses.fields(face):
            np.testing.assert_array_equal(getattr(face, field.name), getattr(expected, field.name))
        assert not np.shares_memory(face.landmarks, face.raw)
        for field in dataclasses.fields(face):
            if isinstance(getattr(face, field.name), np.ndarray):
                getattr(face, field.name)[...] = 7


@pytest.mark.parametrize(
    "frame", [None, FRAME[..., 0], FRAME[:, :0], FRAME / 255, FRAME[..., :2]], ids=str
)
def test_a_frame_that_is_none_changes_nothing(world, frame):
    tracker = LandmarkTracker(world(a=(100.0, 100.0)))
    tracker(FRAME, 0)
    with pytest.raises(ValueError, match="Expected a photo"):
        tracker(frame, 1 / RATE)
    assert ids(tracker(FRAME, 2 / RATE)) == [0]


@pytest.mark.parametrize(("own", "asked"), [(None, True), (False, None), (True, None)])
def test_the_choice_of_the_detector_holds_for_searches(world, own, asked):
    made = world(a=(100.0, 100.0))
    made.any_angle = own
    tracker = LandmarkTracker(made)
    tracker(FRAME, 0)
    made.scale["a"] = 3.0
    tracker(FRAME, 1 / RATE)
    assert made.asked_angle == [None, asked]


def test_another_size_or_an_earlier_time_starts_anew(world):
    made = world(a=(80.0, 100.0))
    tracker = LandmarkTracker(made, find_every=None)
    assert ids(tracker(FRAME, 0)) == ids(tracker(FRAME, 0)) == [0]
    assert ids(tracker(FRAME[:200], 0.1)) == [1]
    assert ids(tracker(FRAME[:200], 0.2)) == [1]
    assert ids(tracker(FRAME[:200], 0.1)) == [2]
    tracker.reset()
    assert ids(tracker(FRAME[:200], 0.2)) == [3]
    assert made.searches == 4


places = st.tuples(st.floats(-50, 350), st.floats(-50, 300))
spoils = st.sampled_from([lambda x: x, lambda x: x * np.nan, lambda x: 0 * x, lambda x: 9 * x])
sights = st.dictionaries(st.sampled_from("abc"), st.tuples(places, st.floats(0.5, 3), spoils))


@hypothesis.given(st.lists(st.tuples(st.floats(0, 2), sights), max_size=12), st.integers(1, 4))
@hypothesis.settings(
    deadline=None, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture]
)
def test_whatever_is_seen(world, frames, every):
    made = world()
    tracker = LandmarkTracker(made, find_every=every)
    time = 0.0
    for wait, seen in frames:
        time += wait
        made.faces, made.scale, made.spoil = {}, {}, {}
        for name, (place, scale, spoil) in seen.items():
            made.faces[name], made.scale[name], made.spoil[name] = place, scale, spoil
        faces = tracker(FRAME, time)
        assert ids(faces) == sorted(set(ids(faces)))
        assert all(np.isfinite(face.landmarks).all() for face in faces)
        assert len(faces) <= len(seen)


@pytest.mark.parametrize("time", [math.nan, math.inf])
def test_bad_times(world, time):
    with pytest.raises(ValueError, match="`time` must be finite"):
        LandmarkTracker(world())(FRAME, time)


def test_with_a_landmark_detector(stub):
    """Crops, landmarks and scales are those of `LandmarkDetector`."""
    localizer = stub.Localizer(stub.POINTS)
    detector = LandmarkDetector(localizer, stub.detector(stub.BOX))
    tracker = LandmarkTracker(detector, find_every=None)
    for i in range(4):
        localizer.points = stub.POINTS + (3 * i, i)
        (face,) = tracker(stub.ramp(), i / RATE)
        np.testing.assert_allclose(face.raw, localizer.points, atol=0.7)  # colors are whole
        np.testing.assert_allclose(face.landmarks, localizer.points, atol=1.5)
        assert (face.box is not None) == (i == 0)
    assert len(detector.detector.shapes) == 1
    with pytest.raises(ValueError, match=r"Received: \(160, 200\)"):
        tracker(stub.ramp()[..., 0], 1.0)


@pytest.mark.slow
def test_needs_no_tensorflow():
    code = (
        "import sys, keras_lapkl.detection.tracking\n"
        "assert not {'tensorflow', 'keras', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_threads_take_turns(world, monkeypatch):
    made = world(anna=(100, 100))
    inside, most = [], []
    search = made.__class__.__call__

    def slow(self, *args, **kwargs):
        inside.append(1)
        most.append(len(inside))
        sleep(0.005)
        inside.pop()
        return search(self, *args, **kwargs)

    monkeypatch.setattr(World, "__call__", slow)
    tracker = LandmarkTracker(made, find_every=1)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: tracker(FRAME, 0.0), range(12)))
    assert max(most) == 1
    assert [[face.id for face in faces] for faces in found] == [[0]] * 12


def test_a_pickled_tracker_goes_on(world):
    made = world(anna=(100, 100))
    tracker = LandmarkTracker(made)
    tracker(FRAME, 0.0)
    copy = pickle.loads(pickle.dumps(tracker))
    (face,), (other,) = tracker(FRAME, 1 / RATE), copy(FRAME, 1 / RATE)
    assert face.id == other.id == 0 and copy.detector.searches == 1
    np.testing.assert_array_equal(face.landmarks, other.landmarks)


def test_a_converted_file_follows_a_face(converted, images, stub):
    localizer = TFLiteLocalizer(converted["int8"][0])
    frame = np.kron(images[0], np.ones((4, 4, 1), np.uint8))
    detector = LandmarkDetector(localizer, stub.detector((30, 30, 100, 100)))
    tracker = LandmarkTracker(detector, max_scale=99)
    for i in range(3):
        (face,) = tracker(frame, i / 30)
        raw = detector.localize(frame, [face.square / (1, 1, localizer.crop_scale)])[0]
        np.testing.assert_allclose(face.raw, raw.landmarks, atol=1e-4)
        np.testing.assert_allclose(face.scale, raw.scale, atol=1e-4)
        # An untrained network jumps, and so the face may be lost and found: by its number.
        assert face.id == 0 and np.isfinite(face.landmarks).all()
    scale = face.scale.mean() * localizer.image_size / face.square[2]
    assert LandmarkTracker(detector, max_scale=scale / 2)(frame, 0.0) == []
