import dataclasses
import math

import cv2
import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra.numpy import arrays

from keras_lapkl import schemes
from keras_lapkl.data.cropping import (
    apply_transform,
    can_crop,
    covers_picture,
    crop_squares,
    crop_transform,
    default_crop_scale,
    face_square,
    invert_transform,
    rotated_square,
    warp_crop,
)

NAN = float("nan")
PAIR = schemes.Scheme("pair", ("left", "right"), flip=(1, 0))
FIVE = schemes.Scheme(
    "five",
    ("eye", "eye corner", "other eye", "nose", "mouth", "other mouth", "chin"),
    flip=tuple(range(7)),
    five_points=((0, 1), (2,), (3,), (4,), (5,)),
)
# The eye's center is (10, 20); the five points span x 10..50, y 20..80; all landmarks y 20..120.
FACE = np.array([[[5, 20], [15, 20], [50, 20], [30, 45], [20, 80], [40, 78], [30, 120]]], float)


class TestCropBox:
    def test_five_points(self):
        """Box 40 x 60 about (30, 50), made square by its longer edge."""
        np.testing.assert_array_equal(crop_squares(FACE, FIVE, crop_scale=2), [[30, 50, 120]])
        np.testing.assert_array_equal(crop_squares(FACE, FIVE), [[30, 50, 180]])

    def test_from_the_box(self):
        """Whatever the landmarks are; box 20 x 50 about (30, 45)."""
        scheme = dataclasses.replace(FIVE, crop_from="box")
        boxes = np.array([[20, 20, 40, 70.0]])
        np.testing.assert_array_equal(crop_squares(FACE, scheme, 2, boxes=boxes), [[30, 45, 100]])
        for none in (None, np.full((1, 4), NAN), [[20, 20, 20, 70]], [[20, 70, 40, 20]]):
            assert not can_crop(FACE, scheme, boxes=none).any()
            with pytest.raises(ValueError, match=r"box x0, y0, x1, y1 .* object\. Received 1"):
                crop_squares(FACE, scheme, boxes=none)

    def test_not_from_the_image(self):
        with pytest.raises(ValueError, match="`picture_squares` gives their crops"):
            crop_squares(FACE, dataclasses.replace(FIVE, crop_from="image"))

    def test_who_can_be_cropped(self):
        two = np.array([[[1, 2], [3, 4]], [[1, 2], [1, 2]], [[1, 2], [NAN, NAN]]])
        np.testing.assert_array_equal(can_crop(two, PAIR), [True, False, False])

    def test_landmarks_outside_the_five_points_may_be_hidden(self):
        visible = np.ones((1, 7), bool)
        visible[0, 6] = False
        np.testing.assert_array_equal(crop_squares(FACE, FIVE, 2, visible), [[30, 50, 120]])

    def test_hidden_point_falls_back_to_the_visible_box(self):
        """All but the first landmark: x 15..50, y 20..120, longer edge 100, center (32.5, 70)."""
        visible = np.ones((1, 7), bool)
        visible[0, 0] = False
        expected = [[32.5, 70 - 0.08 * 100, 0.56 * 100 * 2]]
        np.testing.assert_allclose(crop_squares(FACE, FIVE, 2, visible), expected)
        hidden = np.where(visible[..., None], FACE, NAN)
        np.testing.assert_allclose(crop_squares(hidden, FIVE, 2), expected)

    def test_face_box_comes_before_the_visible_box(self):
        visible = np.ones((1, 7), bool)
        visible[0, 0] = False
        box = np.array([[0, 10, 80, 110]])
        np.testing.assert_allclose(crop_squares(FACE, FIVE, 2, visible, box), [[40, 59, 84]])
        np.testing.assert_allclose(
            crop_squares(FACE, FIVE, 2, visible, np.full((1, 4), NAN)), [[32.5, 62, 112]]
        )

    def test_five_points_come_before_the_face_box(self):
        box = np.array([[0, 10, 80, 110]])
        np.testing.assert_array_equal(crop_squares(FACE, FIVE, 2, boxes=box), [[30, 50, 120]])

    def test_scheme_without_five_points_takes_what_is_visible(self):
        landmarks = np.array([[[10, 40], [30, 50]]])
        np.testing.assert_array_equal(crop_squares(landmarks, PAIR, 2), [[20, 45, 40]])

    def test_each_face_on_its_own(self):
        both = np.concatenate([FACE, np.where(np.arange(7)[:, None] == 2, NAN, FACE)])
        boxes = crop_squares(both, FIVE, 2)
        np.testing.assert_array_equal(boxes[0], [30, 50, 120])
        np.testing.assert_allclose(boxes[1], [22.5, 62, 112])

    @pytest.mark.parametrize(
        "landmarks",
        [[[NAN, NAN], [NAN, NAN]], [[1, 1], [NAN, NAN]], [[3, 3], [3, 3]], [[1, np.inf], [2, 2]]],
    )
    def test_too_few_points(self, landmarks):
        good = [[0, 0], [10, 10]]
        with pytest.raises(ValueError, match="index 1, 3"):
            crop_squares(np.array([good, landmarks, good, landmarks]), PAIR)

    @pytest.mark.parametrize(
        ("scheme", "expected"),
        [
            (schemes.IBUG68, 3),
            (PAIR, 1.5),
            (dataclasses.replace(FIVE, crop_from="box"), 1.25),
            (dataclasses.replace(PAIR, crop_from="image"), 1),
        ],
    )
    def test_default_crop_scale(self, scheme, expected):
        assert default_crop_scale(scheme) == expected

    @pytest.mark.parametrize("crop_scale", [0, -1, NAN, np.inf])
    def test_crop_scale(self, crop_scale):
        with pytest.raises(ValueError, match="crop_scale"):
            crop_squares(FACE, FIVE, crop_scale)

    @pytest.mark.faces
    def test_proportions_are_aflws(self, faces):
        from keras_lapkl.data.readers.aflw import read_aflw

        path = faces / "aflw" / "AFLWinfo_release.mat"
        parts = [read_aflw(path, split) for split in ("train", "test")]
        full = [part.take(part.visible.all(1)) for part in parts]
        landmarks = np.concatenate([part.landmarks for part in full])
        boxes = np.concatenate([part.boxes for part in full])
        five = crop_squares(landmarks, schemes.AFLW19, 1)
        none = np.zeros(landmarks.shape[:2], bool)
        one = np.arange(19) != 7  # an eye's center is never at the edge of all 19 points
        for fallback in (
            crop_squares(landmarks, schemes.AFLW19, 1, none, boxes),
            crop_squares(landmarks, schemes.AFLW19, 1, one & ~none),
        ):
            assert np.median(five[:, 2] / fallback[:, 2]) == pytest.approx(1, abs=0.01)
            offset = (five - fallback)[:, :2] / fallback[:, 2:]
            np.testing.assert_allclose(np.median(offset, axis=0), 0, atol=0.02)


@pytest.mark.filterwarnings("error")
@given(
    arrays(np.float64, (2, 7, 2), elements=st.floats()),
    arrays(np.float64, (2, 4), elements=st.floats()),
)
def test_any_numbers_give_squares_or_are_refused(landmarks, boxes):
    try:
        squares = crop_squares(landmarks, FIVE, boxes=boxes)
    except ValueError:
        return
    assert (np.abs(squares) <= 1e7).all() and (squares[:, 2] > 0).all()


@pytest.mark.parametrize(
    ("square", "covers"),
    [
        ((350, 100, 20), True),
        ((-9, 100, 20), True),
        ((-11, 100, 20), False),
        ((409, 100, 20), True),
        ((411, 100, 20), False),
        ((350, -11, 20), False),
        ((350, 211, 20), False),
        ((-12, 100, 20, 0), False),
        ((-12, 100, 20, np.pi / 4), True),
        ((350, 100, 0), False),
        ((NAN, 100, 20), False),
    ],
)
def test_which_squares_cover_a_picture(square, covers):
    """Of 400x200 pixels; rotated a square reaches further."""
    assert covers_picture([square], 400, 200).tolist() == [covers]


class TestTransforms:
    def test_pixels_of_the_crop_tile_the_box(self):
        """The box 0..40 by 20..60 in 80 pixels: the first pixel's center is at (0.25, 20.25)."""
        transform = crop_transform((20, 40, 40), 80)
        corners = apply_transform(transform, [[0.25, 20.25], [39.75, 59.75], [0, 20], [40, 60]])
        np.testing.assert_allclose(corners, [[0, 0], [79, 79], [-0.5, -0.5], [79.5, 79.5]])

    def test_whole_photo_is_the_identity(self):
        """Pixels 0..79 extend from -0.5 to 79.5."""
        np.testing.assert_allclose(crop_transform((39.5, 39.5, 80), 80), np.eye(2, 3))

    def test_margin_shifts(self):
        box, points = (100, 90, 55), [[3, 4], [80, 120]]
        np.testing.assert_allclose(
            apply_transform(crop_transform(box, 80, 16), points),
            apply_transform(crop_transform(box, 80), points) + 16,
        )

    def test_many_at_once(self):
        boxes = np.array([[20, 40, 40], [39.5, 39.5, 80]])
        transforms = crop_transform(boxes)
        points = np.arange(12.0).reshape(2, 3, 2)
        assert transforms.shape == (2, 2, 3)
        for i in range(2):
            np.testing.assert_array_equal(transforms[i], crop_transform(boxes[i]))
            np.testing.assert_allclose(
                apply_transform(transforms, points)[i], apply_transform(transforms[i], points[i])
            )

    def test_rotation(self):
        turn = [[0, -1, 5], [1, 0, 0]]
        np.testing.assert_array_equal(apply_transform(turn, [[2, 3]]), [[2, 2]])
        np.testing.assert_allclose(invert_transform(turn), [[0, 1, 0], [-1, 0, 5]])

    @given(
        center=st.tuples(st.floats(-500, 5000), st.floats(-500, 5000)),
        side=st.floats(1, 5000),
        size=st.sampled_from([16, 80, 256]),
        margin=st.integers(0, 40),
        point=st.tuples(st.floats(-5000, 5000), st.floats(-5000, 5000)),
    )
    def test_inverse_round_trip(self, center, side, size, margin, point):
        transform = crop_transform((*center, side), size, margin)
        there = apply_transform(transform, [point])
        np.testing.assert_allclose(
            apply_transform(invert_transform(transform), there), [point], atol=1e-6
        )


class TestTurned:
    FACE = np.array([[30, 40], [50, 40], [44, 50], [34, 62], [46, 62]], np.float64)

    @given(
        st.floats(-3.1, 3.1),
        st.floats(0.5, 50),
        st.tuples(st.floats(-500, 500), st.floats(-500, 500)),
    )
    def test_goes_with_the_face(self, angle, size, shift):
        """The upright one is about x 30..50, y 40..62."""
        cos, sin = size * np.cos(angle), size * np.sin(angle)
        moved = self.FACE @ [[cos, sin], [-sin, cos]] + shift
        x, y = np.array([40, 51]) @ [[cos, sin], [-sin, cos]] + shift
        found = rotated_square(moved)
        np.testing.assert_allclose(found, [x, y, 22 * size, angle], rtol=1e-6, atol=1e-6)

    def test_faces_that_look_aside_are_upright(self):
        """The eyes go down to the right by a tenth, the mouth lies to the left by a tenth."""
        points = [[30, 39], [50, 41], [30, 50], [36, 60], [40, 60]]
        assert rotated_square(points)[3] == pytest.approx(np.arctan2(2 + 2, 20 + 20))
        aside = np.array(points)
        aside[3:, 0] += 4  # now to the right by a tenth: the two cancel out
        assert rotated_square(aside)[3] == pytest.approx(0)

    def test_transform_by_hand(self):
        """A quarter to the right about (20, 40): 10 below the center is 10 right of it before."""
        transform = crop_transform((20, 40, 40, np.pi / 2), image_size=80)
        points = apply_transform(transform, [[20, 40], [20, 50], [10, 40]])
        np.testing.assert_allclose(points, [[39.5, 39.5], [59.5, 39.5], [39.5, 59.5]])
        upright = crop_transform([(20, 40, 40, 0)] * 2, image_size=80, margin=3)
        np.testing.assert_allclose(upright[1], crop_transform((20, 40, 40), 80, 3))

    def test_box_of_landmarks(self, rng):
        face = rng.uniform(0, 90, (68, 2))
        np.testing.assert_allclose(
            face_square(face, schemes.IBUG68), rotated_square(schemes.IBUG68.anchor_points(face))
        )

    def test_other_schemes_are_not_turned(self, rng):
        points = rng.uniform(0, 90, (5, 2))
        pentagon = schemes.Scheme("p", tuple("abcde"), five_points=((0,), (1,), (2,), (3,), (4,)))
        expected = [*crop_squares(points[None], pentagon, 1)[0], 0]
        np.testing.assert_allclose(face_square(points, pentagon), expected)

    @pytest.mark.parametrize("value", [7.0, np.nan])
    def test_no_face(self, value):
        with pytest.raises(ValueError, match="distinct visible landmarks"):
            face_square(np.full((68, 2), value), schemes.IBUG68)


class TestWarpCrop:
    @pytest.mark.parametrize("scale", [0.06, 0.13, 0.25, 0.5, 0.77, 1, 1.3, 2, 3.7, 8])
    @pytest.mark.parametrize("offset", [0.0, 0.31])
    @pytest.mark.parametrize("margin", [0, 7])
    def test_points_and_pixels_go_together(self, blob, centroid, scale, offset, margin):
        side = 80 / scale
        center = np.array([0.55 * side + offset, 0.43 * side + 2 * offset])
        photo = blob(center, max(4 / scale, 1), (round(side), round(1.1 * side)))
        transform = crop_transform((side / 2, side / 2, side), 80, margin)
        crop = warp_crop(photo, transform, 80 + 2 * margin)
        assert crop.shape == (80 + 2 * margin, 80 + 2 * margin, 3) and crop.dtype == np.uint8
        expected = apply_transform(transform, [center])[0]
        np.testing.assert_allclose(centroid(crop), expected, atol=0.05)

    def test_identity(self, rng):
        photo = rng.integers(0, 256, (40, 40, 3), np.uint8)
        np.testing.assert_array_equal(warp_crop(photo, np.eye(2, 3), 40), photo)

    @pytest.mark.parametrize("shrink", [2, 3])
    def test_shrinking_whole_pixels_is_their_mean(self, rng, shrink):
        photo = rng.integers(0, 256, (20 * shrink, 20 * shrink, 3), np.uint8)
        middle = (20 * shrink - 1) / 2
        crop = warp_crop(photo, crop_transform((middle, middle, 20 * shrink), 20), 20)
        mean = photo.reshape(20, shrink, 20, shrink, 3).mean((1, 3))
        np.testing.assert_allclose(crop, mean, atol=1)

    @pytest.mark.parametrize("shrink", [0.7, 1, 1.3, 2, 2.5, 3])
    @pytest.mark.parametrize("angle", [0.0, 0.4])
    def test_up_to_3_pixels_to_one_it_is_the_mean_of_as_many_samples(self, rng, shrink, angle):
        """To the byte: what was trained on crops of 300-W, and cut from it, stays right."""
        photo = rng.integers(0, 256, (256, 240, 3), np.uint8)
        transform = crop_transform((131.3, 122.9, 80 * shrink, angle), 80)
        samples = max(1, math.ceil(1 / np.sqrt(np.linalg.det(transform[:, :2]))))
        finer = samples * transform + [[0, 0, (samples - 1) / 2]]
        fine = cv2.warpAffine(photo, finer, (samples * 80,) * 2, borderMode=cv2.BORDER_REPLICATE)
        expected = cv2.resize(fine, (80, 80), interpolation=cv2.INTER_AREA)
        np.testing.assert_array_equal(warp_crop(photo, transform, 80), expected)

    @pytest.mark.parametrize("shrink", [0.7, 1, 2.5])
    @pytest.mark.parametrize("part", [0.0, 0.25, 0.5, 0.75])
    def test_of_a_large_photo_it_needs_a_part(self, rng, shrink, part):
        """With all pixels that a sample lies between, on each side."""
        photo = rng.integers(0, 256, (700, 600, 3), np.uint8)
        transform = crop_transform((300 + part, 330 - part, 80 * shrink), 80)
        samples = max(1, math.ceil(shrink))
        finer = samples * transform + [[0, 0, (samples - 1) / 2]]
        fine = cv2.warpAffine(photo, finer, (samples * 80,) * 2, borderMode=cv2.BORDER_REPLICATE)
        expected = cv2.resize(fine, (80, 80), interpolation=cv2.INTER_AREA).astype(int)
        assert np.abs(warp_crop(photo, transform, 80) - expected).max() <= 1

    @pytest.mark.parametrize("shrink", [3.1, 4.5, 6.1, 11.7, 13, 25])
    @pytest.mark.parametrize("angle", [0.0, 0.4])
    @pytest.mark.parametrize("center", [(0.5, 0.5), (0.03, 0.9)])
    def test_large_faces_are_the_mean_of_all_samples(self, rng, shrink, angle, center):
        """Of a photo as sharp as phones take them, but for a few gray levels at edges."""
        side = round(40 * shrink * 1.5)
        photo = cv2.GaussianBlur(rng.integers(0, 256, (side, side + 5, 3), np.uint8), (0, 0), 2)
        photo = cv2.normalize(photo, None, 0, 255, cv2.NORM_MINMAX)
        square = (*(side * np.array(center)), 40 * shrink, angle)
        crop = warp_crop(photo, crop_transform(square, 40), 40).astype(float)
        samples = 2 * math.ceil(shrink)
        finer = crop_transform(square, 40 * samples)
        fine = cv2.warpAffine(photo, finer, (40 * samples,) * 2, borderMode=cv2.BORDER_REPLICATE)
        exact = fine.reshape(40, samples, 40, samples, 3).mean((1, 3))
        # Outside, the mean of the last pixels is repeated instead of the last.
        places = apply_transform(invert_transform(crop_transform(square, 40)), np.mgrid[:40, :40].T)
        inside = ((places > shrink) & (places < side - shrink)).all(-1)
        apart = (crop - exact)[inside]
        assert inside.sum() > 400 and np.abs(apart).mean() < 2 and np.abs(apart.mean()) < 0.3

    def test_reduced_pixels_do_not_depend_on_the_square(self, rng):
        """With a margin of 3·7 pixels, blocks of 2 begin at the same ones."""
        photo = rng.integers(0, 256, (900, 900, 3), np.uint8)
        crop, wider = (
            warp_crop(photo, crop_transform((450.3, 440.1, 560), 80, margin), 80 + 2 * margin)
            for margin in (0, 3)
        )
        apart = np.abs(crop.astype(int) - wider[3:-3, 3:-3])
        assert apart.max() <= 1 and apart.mean() < 0.01

    @pytest.mark.parametrize("shape", [(1, 1), (1, 900), (7, 5), (903, 2)])
    @pytest.mark.parametrize("side", [500.0, 1e5, 1e9])
    def test_small_photo_in_a_large_square(self, shape, side):
        photo = np.full((*shape, 3), 200, np.uint8)
        assert (warp_crop(photo, crop_transform((2, 1, side, 0.3), 80), 80) == 200).all()

    def test_large_face_touches_no_more_than_its_square(self, monkeypatch):
        """What is converted and sampled is of the size of the crop, not of the photo's."""
        photo, sizes = np.zeros((4000, 3000, 3), np.uint8), []
        convert = cv2.cvtColor

        def converted(picture, code):
            sizes.append(picture.shape[0] * picture.shape[1])
            return convert(picture, code)

        monkeypatch.setattr(cv2, "cvtColor", converted)
        for side in (100, 250, 480, 500, 1000, 2000):
            warp_crop(photo, crop_transform((1500, 2000, side), 80), 80)
        assert max(sizes) <= (6 * 80 + 4) ** 2

    @pytest.mark.parametrize("period", [2, 3])
    def test_no_moire(self, period):
        """Stripes finer than a crop pixel become an even gray."""
        photo = np.zeros((640, 640, 3), np.uint8)
        photo[:, ::period] = 255
        crop = warp_crop(photo, crop_transform((319.5, 319.5, 600.0), 80), 80)
        np.testing.assert_allclose(crop, 255 / period, atol=26)

    def test_huge_photo_is_sampled_within_bounds(self):
        photo = np.full((200, 9000, 3), 77, np.uint8)
        assert (warp_crop(photo, crop_transform((4500, 100, 9000), 80), 80) == 77).all()

    def test_border_is_repeated(self):
        photo = np.zeros((20, 20, 3), np.uint8)
        photo[:, -1] = [10, 20, 30]
        crop = warp_crop(photo, crop_transform((29.5, 9.5, 20), 20), 20)
        np.testing.assert_array_equal(crop[:, 1:], np.broadcast_to([10, 20, 30], (20, 19, 3)))
