import collections
import concurrent.futures
import dataclasses
import multiprocessing
import pickle
import subprocess
import sys
import threading
import time
import warnings

import numpy as np
import pytest
from hypothesis import given, strategies as st

from keras_lapkl import confidence
from keras_lapkl.data.cropping import crop_squares
from keras_lapkl.data.images import read_image
from keras_lapkl.data.pts import read_pts
from keras_lapkl.data.synthetic.faces import synthetic_faces
from keras_lapkl.detection import looks
from keras_lapkl.detection.detections import Detection
from keras_lapkl.detection.face import Face
from keras_lapkl.detection.landmark_detector import LandmarkDetector
from keras_lapkl.schemes import IBUG68


@pytest.fixture
def localizer(stub):
    return stub.Localizer(stub.POINTS)


def test_landmarks_come_back_in_the_photo(localizer, stub):
    detect = LandmarkDetector(localizer, stub.detector(stub.BOX), passes=1)
    (face,) = detect(stub.ramp())
    np.testing.assert_allclose(face.landmarks, stub.POINTS, atol=0.5)  # colors are whole numbers
    np.testing.assert_array_equal(face.box, stub.BOX)
    assert face.score == 0.75 and face.error is None and face.radius is None
    pixel = face.square[2] / stub.SIZE
    np.testing.assert_allclose(face.scale, np.broadcast_to([pixel, 2 * pixel], (5, 2)))


def test_second_look_is_at_the_models_own_crop(localizer, stub):
    detect = LandmarkDetector(localizer, stub.detector(stub.BOX), passes=2)
    (face,) = detect(stub.ramp())
    own = crop_squares(stub.POINTS[None], stub.SCHEME, crop_scale=2)[0]
    np.testing.assert_allclose(face.square, own, atol=0.6)
    assert len(localizer.crops) == 2
    np.testing.assert_allclose(face.landmarks, stub.POINTS, atol=0.5)  # colors are whole numbers


@pytest.mark.parametrize("degrees", [-150, -40, 10, 90])
def test_crops_are_turned_as_the_face_is(stub, degrees):
    """First by the detector's points, then by the landmarks; scale and side stay the face's own."""
    angle = np.radians(degrees)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    points = (stub.POINTS - (95, 75)) @ turn + (95, 75)
    localizer = stub.Localizer(points)
    found = [Detection(stub.BOX, 0.5, points)]
    (face,) = LandmarkDetector(localizer, lambda photo: found, passes=1)(stub.ramp())
    assert face.angle == pytest.approx(angle)
    assert face.square[2] == pytest.approx(2 * 30)
    np.testing.assert_allclose(face.landmarks, points, atol=0.6)  # colors are whole numbers
    cos, sin, pixel = np.cos(angle), np.sin(angle), 60 / stub.SIZE
    expected = pixel * np.sqrt([cos**2 + 4 * sin**2, sin**2 + 4 * cos**2])
    np.testing.assert_allclose(face.scale, np.tile(expected, (5, 1)))

    (face,) = LandmarkDetector(localizer, passes=2)(stub.ramp(), [stub.BOX])
    assert np.cos(face.angle - angle) > np.cos(0.02)
    np.testing.assert_allclose(face.landmarks, points, atol=0.6)  # colors are whole numbers


def test_a_face_detector_is_not_asked_for_what_is_no_face(localizer, stub):
    kite = dataclasses.replace(stub.SCHEME, name="kite", eye_corners=None)
    localizer.scheme = kite
    with pytest.raises(ValueError, match=r"kite is no face.*--boxes=boxes\.csv"):
        LandmarkDetector(localizer, "auto")
    assert LandmarkDetector(localizer)(stub.ramp(), [stub.BOX])
    assert LandmarkDetector(localizer, stub.detector(stub.BOX))(stub.ramp())
    localizer.scheme = dataclasses.replace(kite, crop_from="image", five_points=())
    assert LandmarkDetector(localizer, "auto").detector is None


def test_squares_with_and_without_an_angle(localizer, stub):
    detect = LandmarkDetector(localizer)
    (upright,) = detect.localize(stub.ramp(), [(95, 75, 40)])
    (turned,) = detect.localize(stub.ramp(), [(95, 75, 40, 0.5)])
    assert (upright.angle, turned.angle) == (0, 0.5)
    np.testing.assert_allclose(upright.landmarks, turned.landmarks, atol=0.5)
    assert detect.localize(stub.ramp(), np.empty((0, 4))) == []


def test_given_boxes_need_no_detector(localizer, stub):
    faces = LandmarkDetector(localizer)(stub.ramp(), boxes=[stub.BOX, (60, 30, 130, 120)])
    assert [tuple(face.box) for face in faces] == [stub.BOX, (60, 30, 130, 120)]
    assert all(face.score is None for face in faces)


def test_model_of_any_size(localizer):
    localizer.image_size = None
    with pytest.raises(ValueError, match=r"takes images of any size.*keras\.Input"):
        LandmarkDetector(localizer)


@pytest.mark.parametrize("box", [(0.2, 0.3, 0.7, 0.8), (0, 0, 1, 1), (-0.1, 0.2, 1.2, 0.9)])
def test_fractions_are_no_boxes(localizer, stub, box):
    with pytest.raises(ValueError, match=r"in pixels.*like fractions.*Multiply them by.*200x160"):
        LandmarkDetector(localizer)(stub.ramp(), boxes=[stub.BOX, box])
    given = [Detection(stub.BOX), Detection(box)]
    with pytest.raises(ValueError, match="like fractions"):
        LandmarkDetector(localizer, lambda photo: given)(stub.ramp())


def test_models_of_whole_pictures_and_of_boxes_take_these(localizer, stub):
    localizer.scheme = dataclasses.replace(stub.SCHEME, crop_from="image")
    localizer.crop_scale = 1.0
    (face,) = LandmarkDetector(localizer)(stub.ramp())
    np.testing.assert_array_equal(face.square, (99.5, 79.5, 200))
    assert face.box is None
    with pytest.raises(ValueError, match="takes whole pictures: drop `boxes`"):
        LandmarkDetector(localizer)(stub.ramp(), [stub.BOX])
    localizer.scheme = dataclasses.replace(stub.SCHEME, crop_from="box")
    (face,) = LandmarkDetector(localizer, passes=3)(stub.ramp(), [stub.BOX])
    np.testing.assert_array_equal(face.square, (95, 75, 70))
    assert len(localizer.crops) == 2  # one look each


def test_no_faces(localizer, stub):
    assert LandmarkDetector(localizer, stub.detector())(stub.ramp()) == []
    assert LandmarkDetector(localizer)(stub.ramp(), boxes=[]) == []
    assert not localizer.crops


def test_one_face_that_is_detected_twice_is_given_once(localizer, stub):
    """A box of its cheek, too; who gives boxes gets a face for each."""
    cheek = (95, 75, 115, 95)
    detect = LandmarkDetector(localizer, stub.detector(cheek, stub.BOX))
    (face,) = detect(stub.ramp())
    np.testing.assert_allclose(face.landmarks, stub.POINTS, atol=0.5)
    assert len(detect(stub.ramp(), [cheek, stub.BOX])) == 2


def test_two_faces_beside_each_other_are_two(stub):
    class Two(stub.Localizer):
        """In the left half of the photo it finds a face there, in the other one the other."""

        def _find(self, crop):
            shift = (60, 0) if crop[SIZE // 2, SIZE // 2, 0] > 125 else (0, 0)
            self.points = stub.POINTS + shift
            return super()._find(crop)

    SIZE = stub.SIZE
    boxes = [np.add(stub.BOX, (-20, 0, 40, 0)), np.add(stub.BOX, (30, 0, 90, 0))]  # loose ones
    for detected in (boxes, boxes[::-1]):
        faces = LandmarkDetector(Two(stub.POINTS), stub.detector(*detected))(stub.ramp())
        centers = [face.landmarks[:, 0].mean() for face in faces]
        np.testing.assert_allclose(centers, [95, 155], atol=1)


def test_boxes_are_copied(localizer, stub):
    boxes = np.array([stub.BOX], np.float64)
    (face,) = LandmarkDetector(localizer)(stub.ramp(), boxes)
    boxes += 50
    np.testing.assert_array_equal(face.box, stub.BOX)


@pytest.mark.parametrize(
    ("away", "turned", "relative", "given"),
    [
        (0.8, True, 0.95, 1),
        (1.2, True, 0.95, 2),
        (0.8, False, 0.95, 2),
        (0.8, True, 0.5, 2),
        (0.4, False, 0.5, 1),
    ],
)
def test_an_unsure_face_upside_down_in_a_sure_one_is_not_given(
    localizer, stub, away, turned, relative, given
):
    """`relative` is its expected error, of what it is lost from."""
    one = OneWayUp(localizer, 0.0)
    detect = LandmarkDetector(one)
    faces = []
    for shift, angle, share in ((0.0, 0.0, 0.3), (away, np.pi if turned else 0.0, relative)):
        middle = stub.POINTS.mean(0)
        points = middle + (stub.POINTS - middle) * np.cos(angle)
        side = np.ptp(points, axis=0).max()
        points = points + (shift * side, 0)
        spread = np.sqrt(np.var(points, axis=0).sum())
        error = np.full(5, share * one.calibration.lost * spread)
        square = np.array([*points.mean(0), side])
        faces.append(Face(points, error[:, None], square, error, error, angle=angle, lost=False))
    assert len(detect._once(faces)) == given


def test_overlapping_objects_that_are_no_faces_are_all_given(stub):
    localizer = stub.Localizer(stub.POINTS)
    localizer.scheme = dataclasses.replace(stub.SCHEME, eye_corners=None, five_points=())
    boxes = [stub.BOX, np.add(stub.BOX, 4)]
    assert len(LandmarkDetector(localizer, stub.detector(*boxes))(stub.ramp())) == 2


def test_detector_sees_a_shrunk_photo_and_its_boxes_come_back(localizer, stub):
    small = stub.detector((34.5, 19.5, 59.5, 54.5))
    detect = LandmarkDetector(localizer, small, max_side=100)
    (face,) = detect(stub.ramp())
    assert small.shapes == [(80, 100, 3)]
    np.testing.assert_allclose(face.box, (69.5, 39.5, 119.5, 109.5))
    np.testing.assert_allclose(face.landmarks, stub.POINTS, atol=0.5)  # colors are whole numbers
    assert set(detect.seconds) == {"detect", "crop", "net"}


def test_small_photos_are_not_enlarged(localizer, stub):
    small = stub.detector()
    LandmarkDetector(localizer, small, max_side=4000, any_angle=False)(stub.ramp())
    assert small.shapes == [(160, 200, 3)]


def test_calibrated_errors_in_pixels_of_the_photo(localizer, stub):
    localizer.calibration = confidence.Calibration(
        (1.0, 2.0), (1.0, 3.0), (1.0,) * 5, {0.9: (2.0,) * 5}, "made", 9
    )
    (face,) = LandmarkDetector(localizer, passes=1)(stub.ramp(), [stub.BOX])
    pixel = face.square[2] / stub.SIZE
    np.testing.assert_allclose(face.error, np.full(5, 2 * pixel))  # at a mean scale of 1.5
    np.testing.assert_allclose(face.radius, np.full(5, 4 * pixel))


def test_a_calibration_of_other_coverages_gives_no_radius(localizer, stub):
    localizer.calibration = confidence.Calibration(
        (1.0,), (1.0,), (1.0,) * 5, {0.5: (2.0,) * 5}, "made", 9
    )
    (face,) = LandmarkDetector(localizer)(stub.ramp(), [stub.BOX])
    assert face.radius is None and np.isfinite(face.error).all()


def calibration(lost):
    """Errors as large as the scales, 1.5 pixels of the stub's crop."""
    return confidence.Calibration((1.0,), (1.0,), (1.0,) * 5, {0.9: (2.0,) * 5}, "made", 99, lost)


def test_lost_by_the_calibration(localizer, stub):
    """Mean error over the landmarks' distance from their center."""
    (face,) = LandmarkDetector(localizer)(stub.ramp(), [stub.BOX])
    assert face.lost is None and "lost" not in face.to_dict()
    localizer.calibration = calibration(0.5)
    (face,) = LandmarkDetector(localizer)(stub.ramp(), [stub.BOX])
    relative = float(confidence.relative_error(face.landmarks, face.error))
    for lost in (0.99 * relative, 1.01 * relative):
        localizer.calibration = calibration(lost)
        (face,) = LandmarkDetector(localizer)(stub.ramp(), [stub.BOX])
        assert face.lost is face.to_dict()["lost"] is (lost < relative)
    assert "lost" not in repr(face)
    assert repr(dataclasses.replace(face, lost=True)).endswith(", lost)")


class OneWayUp:
    """Sure where the crop shows the stub's face at one angle, and a guess elsewhere."""

    def __init__(self, localizer, angle, reach=0.3):
        self.localizer = localizer
        self.angle, self.reach = angle, reach
        self.calls = []
        for name in ("scheme", "crop_scale", "image_size", "trained_on", "training_data"):
            setattr(self, name, getattr(localizer, name))
        self.calibration = calibration(0.2)

    def predict(self, images, verbose=0):
        self.calls.append(len(images))
        found = self.localizer.predict(images)
        eyes = found["landmarks"][:, 1] - found["landmarks"][:, 0]
        turned = np.arctan2(eyes[:, 1], eyes[:, 0]) - self.angle
        away = np.abs(np.angle(np.exp(1j * turned))) > self.reach
        # What it does not know it takes for an upright face in the middle.
        guess = [[14, 14], [26, 14], [20, 20], [15, 26], [25, 26]]
        landmarks = np.where(away[:, None, None], guess, found["landmarks"])
        scale = np.where(away[:, None, None], 9.0, 0.1) * np.ones_like(landmarks)
        return {"landmarks": landmarks, "scale": scale}


def test_sure_faces_pay_nothing(localizer, stub):
    one = OneWayUp(localizer, 0.0)
    detect = LandmarkDetector(one, stub.detector(stub.BOX))
    (face,) = detect(stub.ramp())
    assert not face.lost and one.calls == [1, 1]
    assert detect.detector.shapes == [(160, 200, 3)]


@pytest.mark.parametrize("degrees", [90, 135, 180, -90])
def test_a_face_that_it_is_unsure_of_is_looked_at_at_other_rotations(localizer, stub, degrees):
    """The localizer sees no turned face; the square that is turned with it shows it upright."""
    angle = np.radians(degrees)
    turned = stub.POINTS.mean(0) + (stub.POINTS - stub.POINTS.mean(0)) @ np.array(
        [[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]
    )
    one = OneWayUp(type(localizer)(turned), 0.0)
    (face,) = LandmarkDetector(one)(stub.ramp(), [(*turned.min(0) - 8, *turned.max(0) + 8)])
    assert not face.lost
    np.testing.assert_allclose(face.landmarks, turned, atol=1)
    assert abs(np.angle(np.exp(1j * (face.angle - angle)))) < 0.1
    assert one.calls == [*8 * [1], 12, 2]


def test_what_is_no_face_is_lost_after_all_looks(localizer, stub):
    one = OneWayUp(localizer, 0.0, reach=-1.0)
    (face,) = LandmarkDetector(one)(stub.ramp(), [stub.BOX])
    assert face.lost and one.calls == [*8 * [1], 12, 2, 35, 2]


def test_without_looking_around_it_is_only_cut_in_other_ways(localizer, stub):
    """And no turned copies are looked at, which would show it upright."""
    one, detector = OneWayUp(localizer, 0.0, reach=-1.0), stub.detector(stub.BOX)
    (face,) = LandmarkDetector(one, detector)(stub.ramp(), look_around=False)
    assert face.lost and one.calls == 8 * [1] and len(detector.shapes) == 1
    one.calls.clear()
    (face,) = LandmarkDetector(one).localize(stub.ramp(), [face.square / (1, 1, 2)], 2)
    assert face.lost and one.calls == [1, 1]


@pytest.mark.parametrize(
    ("share", "calls"), [(0.9, [1, 1]), (1.1, 8 * [1])], ids=["unsure", "lost"]
)
def test_only_what_is_lost_is_cut_in_other_ways(localizer, stub, share, calls):
    """A face that it is unsure of, but not lost on, is left as it is."""
    one = OneWayUp(localizer, 0.0)
    square = crop_squares(stub.POINTS[None], localizer.scheme, 1)
    (face,) = LandmarkDetector(one).localize(stub.ramp(), square, 2)
    one.calls.clear()
    relative = float(confidence.relative_error(face.landmarks, face.error))
    one.calibration = calibration(relative / share)
    (again,) = LandmarkDetector(one).localize(stub.ramp(), square, 2, recut=True)
    assert one.calls == calls and again.lost is (share > 1)


def test_angles_by_the_call_or_else_by_the_constructor(localizer, stub):
    """A quick look has no turned copies, whatever is asked for."""
    for own, asked, look_around, looks_on in (
        (None, None, True, False),
        (None, True, True, True),
        (False, None, True, False),
        (False, True, True, True),
        (True, None, True, True),
        (True, False, True, False),
        (True, True, False, False),
    ):
        detector = stub.detector(stub.BOX)
        detect = LandmarkDetector(localizer, detector, any_angle=own)
        detect(stub.ramp(), look_around=look_around, any_angle=asked)
        assert len(detector.shapes) == (4 if looks_on else 1)
    with pytest.raises(ValueError, match=r"must be True, False or None\. Received: 'no'"):
        detect(stub.ramp(), any_angle="no")
    with pytest.raises(ValueError, match="any_angle"):
        LandmarkDetector(localizer, detector, any_angle="no")


def test_boxes_are_looked_around_unless_that_is_not_wanted(localizer, stub):
    one = OneWayUp(localizer, 0.0, reach=-1.0)
    (face,) = LandmarkDetector(one)(stub.ramp(), [stub.BOX], look_around=False)
    assert face.lost and one.calls == 8 * [1]


@pytest.mark.parametrize("light", [(0.04, 0.02, 0.06), (0.1, 0.7, 0.1)])
def test_a_face_in_the_dark_or_in_colored_light_is_found(light, monkeypatch):
    """In its gray levels stretched; as it is, no look finds it."""
    faces, labels = synthetic_faces(1, image_size=120, seed=4)
    photo = np.full((200, 220, 3), 128, np.uint8)
    photo[40:160, 50:170] = faces[0]
    labels = labels[0, :, :2] + (50, 40)
    boxes = [(*labels.min(0), *labels.max(0))]
    dim = (photo * light).astype(np.uint8)
    detect = LandmarkDetector.from_pretrained("fpn-eighth-300w", detector=None)
    (face,) = detect(dim, boxes)
    assert not face.lost
    distance = np.linalg.norm(face.landmarks - labels, axis=1)
    assert distance.mean() < 0.1 * np.ptp(labels)
    monkeypatch.setattr(looks, "stretched", lambda crop: crop)
    (face,) = detect(dim, boxes)
    assert face.lost


def test_no_look_around_without_a_number_to_be_lost_by(localizer, stub):
    one = OneWayUp(localizer, 0.0, reach=-1.0)
    one.calibration = calibration(None)
    (face,) = LandmarkDetector(one)(stub.ramp(), [stub.BOX])
    assert face.lost is None and one.calls == [1, 1]


def only_upright(stub, score=0.75):
    """A face detector that sees a photo's red and green ramp only where it is not turned."""

    def detect(photo):
        detect.shapes.append(photo.shape)
        upright = photo[0, 0, 0] < photo[0, -1, 0] and photo[0, 0, 1] < photo[-1, 0, 1]
        return [Detection(stub.BOX, score)] if upright else []

    detect.shapes = []
    return detect


@pytest.mark.parametrize("quarters", [0, 1, 2, 3])
def test_a_photo_where_nothing_is_found_is_turned(localizer, stub, quarters):
    photo = np.ascontiguousarray(np.rot90(stub.ramp(), quarters))
    width, height = photo.shape[1::-1]

    def place(points):  # of the upright photo, in the turned one
        x, y = np.transpose(points)
        return np.column_stack(
            [(x, y), (y, height - 1 - x), (width - 1 - x, height - 1 - y), (width - 1 - y, x)][
                quarters
            ]
        )

    detector = only_upright(stub)
    (face,) = LandmarkDetector(localizer, detector)(photo)
    corners = place(np.reshape(stub.BOX, (2, 2)))
    np.testing.assert_array_equal(face.box, [*corners.min(0), *corners.max(0)])
    np.testing.assert_allclose(face.landmarks, place(stub.POINTS), atol=0.5)
    assert len(detector.shapes) == (4 if quarters else 1)
    if quarters:
        assert LandmarkDetector(localizer, detector, any_angle=False)(photo) == []


def test_turned_copies_are_looked_at_if_that_is_asked_for(localizer, stub):
    """Each copy shows the same face, which is told once."""
    boxes = [stub.BOX, (40, 79, 110, 129), (79, 49, 129, 119), (49, 70, 119, 120)]
    shapes = []

    def detector(photo):
        shapes.append(photo.shape)
        return [Detection(boxes[len(shapes) - 1], 0.5 + len(shapes) / 10)]

    (face,) = LandmarkDetector(localizer, detector, any_angle=True)(stub.ramp())
    assert shapes == [(160, 200, 3), (200, 160, 3), (160, 200, 3), (200, 160, 3)]
    np.testing.assert_array_equal(face.box, stub.BOX)
    assert face.score == 0.9  # the surest of the four


def test_landmarks_in_one_point_keep_the_square(localizer, stub):
    photo = np.zeros((160, 200, 3), np.uint8)
    (face,) = LandmarkDetector(localizer, passes=3)(photo, [stub.BOX])
    assert np.isfinite(face.landmarks).all() and len(localizer.crops) == 3


@pytest.mark.parametrize(
    ("times", "is_taken"), [(0.3, False), (0.4, True), (2.5, True), (4, False)]
)
def test_landmarks_of_quite_another_size_keep_the_square(stub, times, is_taken):
    """Else landmarks that shrink to a point would have errors of nearly 0 pixels."""
    square = (95, 75, 30, 0)  # that of the five points
    localizer = stub.Localizer(np.array([95, 75]) + times * (stub.POINTS - [95, 75]))
    detect = LandmarkDetector(localizer)
    (first,) = detect.localize(stub.ramp(), square, passes=1)
    (face,) = detect.localize(stub.ramp(), square, passes=2)
    ratio = face.square[2] / first.square[2]
    assert ratio == pytest.approx(times if is_taken else 1, rel=0.1)
    np.testing.assert_allclose(face.scale, ratio * first.scale)


def leans(localizer, stub, passes):
    """How far to the right of the true points it finds them, and the face."""
    square = (*stub.POINTS.mean(0), np.ptp(stub.POINTS, axis=0).max())
    (face,) = LandmarkDetector(localizer).localize(stub.ramp(), square, passes)
    right, down = (face.landmarks - stub.POINTS).mean(0) * stub.SIZE / face.square[2]
    assert abs(down) < 0.6  # colors are whole numbers
    return right, face


@pytest.mark.parametrize(
    ("error", "places"),
    # After 1, 2 and 3 passes. The first two are 8 pixels apart, their mean and the third 4. If none
    # agree, there are two more.
    [(9.0, [4, 0, 2]), (7.0, [4, -4, 4])],
)
def test_passes_that_agree_are_averaged(stub, error, places):
    """The second sees the mirror image: what leans to one side there leans to the other here."""
    localizer = stub.Leaning(error)
    for passes, place in enumerate(places, start=1):
        localizer.crops.clear()
        right, face = leans(localizer, stub, passes)
        agree = error > 8 or passes == 1
        assert len(localizer.crops) == (passes if agree else passes + 2)
        assert right == pytest.approx(place, abs=1)  # colors are whole numbers
        pixel = face.square[2] / stub.SIZE
        # If they do not agree, an error is no less than how far they are apart.
        np.testing.assert_allclose(
            face.error, np.full(5, (error if agree else 8) * pixel), rtol=0.1
        )
        np.testing.assert_allclose(face.radius, 2 * face.error)
        np.testing.assert_allclose(face.scale, np.tile([pixel, 2 * pixel], (5, 1)))
    known = localizer.calibration
    relative = float(confidence.relative_error(face.landmarks, face.error))
    for share, lost in ((0.99, True), (1.01, False)):
        localizer.calibration = dataclasses.replace(known, lost=share * relative)
        assert leans(localizer, stub, 3)[1].lost is lost


@pytest.mark.parametrize("missing", ["calibration", "flip"])
def test_no_mirror_image_without_a_calibration_or_a_mirror_map(stub, missing):
    localizer = stub.Leaning(9.0)
    if missing == "flip":
        localizer.scheme = dataclasses.replace(stub.SCHEME, flip=None)
    else:
        localizer.calibration = None
    for passes in (1, 2):
        assert leans(localizer, stub, passes)[0] == pytest.approx(4, abs=1)
    assert len(localizer.crops) == 3
    for crops in localizer.crops:  # whose red grows to the right
        assert (np.diff(crops[0, ..., 0].astype(int), axis=1) >= 0).all()


def test_faces_at_and_beyond_the_border(localizer, stub):
    detect = LandmarkDetector(localizer)
    assert len(detect(stub.ramp(), [(-50, -50, 30, 30), (150, 99, 260, 220)])) == 2
    border = LandmarkDetector(localizer, stub.detector(stub.BOX, (190, 150, 480, 380)))
    assert len(border.find(stub.ramp())) == 2
    assert len(border(stub.ramp())) == 1  # the crop of the other has nothing of the photo
    message = r"photo, which has 200x160 pixels\. Received: \[400\.0, 300\.0, 480\.0, 380\.0\]"
    with pytest.raises(ValueError, match=message):
        detect(stub.ramp(), [stub.BOX, (400, 300, 480, 380)])
    with pytest.raises(ValueError, match=message):
        LandmarkDetector(localizer, stub.detector((400, 300, 480, 380)))(stub.ramp())
    for square in ((400, 300, 20), (90, 90, 0), (90, 90, np.nan), (90, 1e300, 20)):
        with pytest.raises(ValueError, match="Expected a square about a part of the picture"):
            detect.localize(stub.ramp(), [square])


@given(
    st.lists(
        st.tuples(*4 * [st.floats() | st.sampled_from([0.0, 50.0, 120.0, 1e6, 1e300, -1e300])]),
        min_size=1,
        max_size=3,
    )
)
def test_any_numbers_as_boxes(stub, boxes):
    """They are refused, or the landmarks are finite; NumPy never warns."""
    detect = LandmarkDetector(stub.Localizer(stub.POINTS))
    with warnings.catch_warnings(action="error"):
        try:
            faces = detect(stub.ramp(), boxes)
        except ValueError:
            return
    assert len(faces) == len(boxes)
    assert all(np.isfinite(face.landmarks).all() for face in faces)


@pytest.mark.parametrize(
    ("photo", "message"),
    [
        (np.zeros((9, 9), np.uint8), r"Received: \(9, 9\)"),
        (np.zeros((9, 9, 4), np.uint8), r"Received: \(9, 9, 4\)"),
        (np.zeros((9, 9, 3), np.float32), "float32"),
        (np.zeros((0, 9, 3), np.uint8), r"\(0, 9, 3\)"),
    ],
)
def test_bad_photos(localizer, stub, photo, message):
    with pytest.raises(ValueError, match=message):
        LandmarkDetector(localizer)(photo, [stub.BOX])


@pytest.mark.parametrize(
    "boxes", [[(5, 5, 5, 9)], [(1, 2, 3)], [(0, 0, np.nan, 9)], np.ones((2, 5))]
)
def test_bad_boxes(localizer, stub, boxes):
    with pytest.raises(ValueError, match="Expected boxes"):
        LandmarkDetector(localizer)(stub.ramp(), boxes)


def test_plain_errors(localizer, stub):
    with pytest.raises(ValueError, match="say by `boxes`"):
        LandmarkDetector(localizer)(stub.ramp())
    with pytest.raises(ValueError, match="`passes`"):
        LandmarkDetector(localizer, passes=0)
    with pytest.raises(ValueError, match="`max_side`"):
        LandmarkDetector(localizer, max_side=0)
    localizer.crop_scale = None
    with pytest.raises(ValueError, match="which crop it is right on"):
        LandmarkDetector(localizer)


@pytest.mark.slow
def test_needs_no_tensorflow():
    code = (
        "import sys, keras_lapkl.detection.files, keras_lapkl.tflite.runner\n"
        "assert not {'tensorflow', 'keras', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.fixture(scope="module")
def shipped():
    return LandmarkDetector.from_pretrained("fpn-sixteenth-300w", "blazeface")


@pytest.fixture(scope="module")
def photos():
    """Photos of one painted face each, of other sizes."""
    made = synthetic_faces(6, image_size=120)[0]
    return [np.pad(face, ((10, 20 * i), (30, 5), (0, 0))) for i, face in enumerate(made)]


def numbers(faces):
    """All that was found in a photo, as arrays."""
    return [(face.box, face.score, face.landmarks, face.scale, face.radius) for face in faces]


def test_threads_find_what_one_finds(shipped, photos):
    expected = [numbers(shipped(photo)) for photo in photos]
    assert sum(map(len, expected)) >= 3
    order = list(range(len(photos))) * 10
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda i: numbers(shipped(photos[i])), order))
    for i, each in zip(order, found, strict=True):
        assert pickle.dumps(each) == pickle.dumps(expected[i])  # bit by bit


def test_no_time_is_lost_between_threads(localizer, stub, monkeypatch):
    class Slow(collections.Counter):
        def __getitem__(self, part):
            found = super().__getitem__(part)
            time.sleep(0.01)  # another thread would add meanwhile
            return found

    detect = LandmarkDetector(localizer)
    detect.seconds = Slow()
    clock = collections.defaultdict(int)  # of each thread: a second a look

    def now():
        clock[threading.get_ident()] += 1
        return clock[threading.get_ident()]

    monkeypatch.setattr("time.perf_counter", now)
    photo = stub.ramp()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: detect(photo, [stub.BOX]), range(8)))
    assert dict(detect.seconds) == {"crop": 16, "net": 16}  # two passes each


def test_a_pickled_detector_finds_the_same(shipped, photos):
    copy = pickle.loads(pickle.dumps(shipped))
    assert pickle.dumps(numbers(copy(photos[0]))) == pickle.dumps(numbers(shipped(photos[0])))


@pytest.mark.slow
def test_processes_get_a_copy(shipped, photos):
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        (found,) = pool.map(shipped, photos[:1])
    assert pickle.dumps(numbers(found)) == pickle.dumps(numbers(shipped(photos[0])))


@pytest.mark.parametrize("stem", ["helen/trainset/1455826575_1", "lfpw/trainset/image_0234"])
def test_a_face_upside_down_of_which_a_small_model_is_nearly_sure(faces, stem):
    """It sees another face in it, with expected errors of 0.8 of those that are lost."""
    photo = read_image(faces / "300w" / f"{stem}.jpg")
    labels = read_pts(faces / "300w" / f"{stem}.pts")
    detect = LandmarkDetector.from_pretrained("fpn-sixteenth-300w", "blazeface")
    height, width = photo.shape[:2]
    (found,) = detect(photo[::-1, ::-1])
    apart = np.linalg.norm((width - 1, height - 1) - found.landmarks - labels, axis=1)
    right, left = labels[list(IBUG68.eye_corners)]
    assert apart.mean() < 0.08 * np.linalg.norm(right - left)
