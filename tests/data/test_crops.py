import dataclasses
import io
import os
import time

import cv2
import numpy as np
import pytest
from hypothesis import given, strategies as st

from keras_lapkl import schemes
from keras_lapkl.data import crops as crops_module
from keras_lapkl.data.annotations import Annotations
from keras_lapkl.data.cropping import (
    apply_transform,
    can_crop,
    crop_squares,
    crop_transform,
    default_crop_scale,
    face_square,
    invert_transform,
    picture_squares,
    rotated_square,
    warp_crop,
)
from keras_lapkl.data.crops import Crops, load_crops
from keras_lapkl.data.images import ImageError
from keras_lapkl.data.readers.w300 import read_300w
from keras_lapkl.training_data import DataSet

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


def blob(center, sigma, shape):
    """A bright Gaussian on black."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    distance = (x - center[0]) ** 2 + (y - center[1]) ** 2
    gray = np.round(255 * np.exp(-distance / (2 * sigma**2))).astype(np.uint8)
    return np.repeat(gray[..., None], 3, axis=2)


def centroid(image):
    weights = image[..., 0].astype(float)
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    return np.array([(weights * x).sum(), (weights * y).sum()]) / weights.sum()


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
    def test_points_and_pixels_go_together(self, scale, offset, margin):
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

    @pytest.mark.parametrize("shrink", [2, 3, 8])
    def test_shrinking_whole_pixels_is_their_mean(self, rng, shrink):
        photo = rng.integers(0, 256, (20 * shrink, 20 * shrink, 3), np.uint8)
        middle = (20 * shrink - 1) / 2
        crop = warp_crop(photo, crop_transform((middle, middle, 20 * shrink), 20), 20)
        mean = photo.reshape(20, shrink, 20, shrink, 3).mean((1, 3))
        np.testing.assert_allclose(crop, mean, atol=1)

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


@pytest.fixture
def annotations(tmp_path, rng):
    """Five photos of different sizes, each with a bright blob at its first landmark."""
    paths, landmarks = [], []
    for i in range(5):
        shape = (150 + 40 * i, 260 - 20 * i)
        first = rng.uniform(60, 80, 2)
        path = tmp_path / f"photo {i}.png"
        cv2.imwrite(str(path), blob(first, 6, shape))
        paths.append(path)
        landmarks.append([first, first + np.array([40, 10])])
    return Annotations(
        name="blobs",
        scheme=PAIR,
        paths=tuple(paths),
        landmarks=np.array(landmarks, np.float32),
        visible=np.ones((5, 2), bool),
        boxes=np.tile(np.float32([50, 50, 90, 140]), (5, 1)),
        source=DataSet("blobs", 5, kind="blobs"),
    )


class TestWholePictures:
    @pytest.fixture
    def whole(self, annotations):
        scheme = dataclasses.replace(PAIR, crop_from="image")
        return dataclasses.replace(annotations, scheme=scheme)

    def test_squares(self):
        np.testing.assert_array_equal(
            picture_squares([(640, 480), (3, 9)]), [[319.5, 239.5, 640], [1, 4, 9]]
        )

    def test_landmarks_lie_on_their_pixels(self, whole):
        """The longer edge of the picture fills the crop at crop scale 1, half of it at 2."""
        for scale in (1, 2):
            crops = load_crops(whole, image_size=64, crop_scale=scale, margin=3)
            assert crops.summary == "5 blobs; whole pictures"
            np.testing.assert_array_equal(crops.sizes[:2], [[260, 150], [240, 190]])
            expected = (whole.landmarks[0] - (129.5, 74.5)) * 64 / 260 / scale + 31.5
            np.testing.assert_allclose(crops.landmarks[0], expected, rtol=1e-5)
            for image, landmarks in zip(crops.images, crops.landmarks, strict=True):
                np.testing.assert_allclose(centroid(image) - 3, landmarks[0], atol=0.3)

    def test_cached(self, whole, tmp_path, monkeypatch):
        cache = tmp_path / "crops.npz"
        first = load_crops(whole, 48, 1, cache=cache)
        monkeypatch.setattr(crops_module, "read_image", None)
        again = load_crops(whole, 48, 1, cache=cache)
        np.testing.assert_array_equal(first.images, again.images)
        np.testing.assert_array_equal(first.transforms, again.transforms)
        with pytest.raises(TypeError):  # it reads anew
            load_crops(whole, 48, 1.5, cache=cache)

    def test_unreadable_ones_are_left_out(self, whole):
        whole.paths[1].write_bytes(b"junk")
        crops = load_crops(whole, 48, 1, skip_bad=True)
        assert len(crops) == len(crops.sizes) == 4
        assert crops.summary == "4 blobs; whole pictures; 1 unreadable images left out"

    def test_one_object_each(self, whole):
        with pytest.raises(ValueError, match=r"photo 3\.png: expected one object.*photo 3\.png"):
            load_crops(whole.take([0, 3, 1, 3]))

    @pytest.mark.parametrize("crop_scale", [0, NAN])
    def test_crop_scale(self, whole, crop_scale):
        with pytest.raises(ValueError, match="crop_scale"):
            load_crops(whole, crop_scale=crop_scale)


class TestLoadCrops:
    def test_by_boxes(self, annotations):
        scheme = dataclasses.replace(PAIR, crop_from="box")
        crops = load_crops(dataclasses.replace(annotations, scheme=scheme), 45, crop_scale=1)
        assert crops.summary == "5 blobs; cut by their boxes"
        # Box 40 x 90 about (70, 95), two photo pixels to one.
        expected = (annotations.landmarks - (70, 95)) / 2 + 22
        np.testing.assert_allclose(crops.landmarks, expected, atol=1e-4)

    def test_size_that_labels_were_made_for(self, annotations, tmp_path):
        sizes = np.array([[260, 150], [0, 0], [190, 220], [200, 270], [180, 310]], np.int32)
        wrong = dataclasses.replace(annotations, sizes=sizes)
        with pytest.raises(ImageError, match=r"photo 2\.png.* 190x220 .* picture of 220x230"):
            load_crops(wrong, cache=tmp_path / "crops.npz")
        sizes[2] = 220, 230
        assert len(load_crops(wrong, cache=tmp_path / "crops.npz")) == 5
        sizes[2] = 0, 1
        assert len(load_crops(wrong.take([2, 1]))) == 2
        sizes[2] = 230, 220
        with pytest.raises(ImageError):
            load_crops(wrong, cache=tmp_path / "crops.npz")

    @pytest.mark.parametrize("margin", [0, 12])
    def test_landmarks_lie_on_their_pixels(self, annotations, margin):
        crops = load_crops(annotations, image_size=48, crop_scale=4, margin=margin)
        assert crops.images.shape == (5, 48 + 2 * margin, 48 + 2 * margin, 3)
        assert crops.central().shape == (5, 48, 48, 3)
        assert crops.central().base is not None
        for image, landmarks in zip(crops.images, crops.landmarks, strict=True):
            np.testing.assert_allclose(centroid(image) - margin, landmarks[0], atol=0.1)

    def test_margin_leaves_the_center_as_it_is(self, annotations):
        plain, spare = (load_crops(annotations, 48, margin=margin) for margin in (0, 9))
        np.testing.assert_allclose(plain.images, spare.central().astype(int), atol=1)
        np.testing.assert_array_equal(plain.landmarks, spare.landmarks)
        np.testing.assert_array_equal(plain.transforms, spare.transforms)

    def test_transforms_lead_back_to_the_photo(self, annotations):
        crops = load_crops(annotations, 48, margin=5)
        photo = apply_transform(invert_transform(crops.transforms), crops.landmarks)
        np.testing.assert_allclose(photo, annotations.landmarks, atol=1e-4)

    def test_what_is_carried_over(self, annotations):
        crops = load_crops(annotations, 48, crop_scale=2.5)
        assert crops.names == tuple(map(str, annotations.paths))
        assert (crops.name, crops.summary, crops.scheme) == ("blobs", "5 blobs", PAIR)
        assert (crops.image_size, crops.margin, crops.crop_scale) == (48, 0, 2.5)
        assert crops.skipped == () and len(crops) == 5

    def test_boxes_in_crop_pixels(self, annotations):
        crops = load_crops(annotations, 48, crop_scale=4)  # longer edge 40: 160 px to 48
        sides = np.ptp(crops.cropped_boxes().reshape(-1, 2, 2), axis=1)
        np.testing.assert_allclose(sides, np.tile([12, 27], (5, 1)), rtol=1e-5)
        with pytest.raises(ValueError, match="blobs has no face boxes"):
            dataclasses.replace(crops, boxes=None).cropped_boxes()

    def test_hidden_landmarks(self, annotations):
        scheme = schemes.Scheme("three", ("a", "b", "c"), flip=(0, 1, 2))
        landmarks = np.pad(annotations.landmarks, ((0, 0), (0, 1), (0, 0)), constant_values=NAN)
        visible = np.ones((5, 3), bool)
        visible[0, 0] = False
        landmarks[0, 2] = landmarks[0, 0] + 9
        hidden = dataclasses.replace(
            annotations, scheme=scheme, landmarks=landmarks, visible=visible
        )
        crops = load_crops(hidden, 48)
        np.testing.assert_array_equal(
            crops.visible, [[False, True, True], *[[True, True, False]] * 4]
        )
        assert np.isnan(crops.landmarks[1:, 2]).all()

    def test_take(self, annotations):
        crops = load_crops(annotations, 48)
        some = crops.take([3, 0])
        assert some.names == (crops.names[3], crops.names[0])
        np.testing.assert_array_equal(some.images, crops.images[[3, 0]])
        np.testing.assert_array_equal(some.boxes, crops.boxes[[3, 0]])
        mask = np.arange(5) > 1
        np.testing.assert_array_equal(crops.take(mask).landmarks, crops.landmarks[2:])
        assert len(crops.take([])) == 0

    def test_shapes_are_checked(self, annotations):
        crops = load_crops(annotations, 48)
        with pytest.raises(ValueError, match=r"blobs: `images`.*48, 48, 3.*Received"):
            dataclasses.replace(crops, images=crops.images[:, 1:])

    def test_none(self, annotations):
        with pytest.raises(ValueError, match=r"blobs.*none"):
            load_crops(annotations.take(np.zeros(5, bool)))


class TestBadImages:
    def test_first_bad_one_stops(self, annotations):
        annotations.paths[3].write_bytes(b"")
        annotations.paths[1].write_bytes(b"junk")
        with pytest.raises(ImageError, match=r"photo 1\.png"):
            load_crops(annotations)

    def test_missing_one_stops(self, annotations):
        annotations.paths[2].unlink()
        with pytest.raises(FileNotFoundError, match=r"photo 2\.png"):
            load_crops(annotations)

    def test_skipped_and_listed(self, annotations):
        annotations.paths[1].write_bytes(b"junk")
        annotations.paths[3].unlink()
        good = load_crops(annotations.take([0, 2, 4]))
        crops = load_crops(annotations, skip_bad=True)
        assert [path for path, _ in crops.skipped] == [str(annotations.paths[i]) for i in (1, 3)]
        assert "junk" in crops.skipped[0][1]
        assert crops.summary == "3 blobs; 2 unreadable images left out"
        assert crops.names == good.names
        for field in ("images", "landmarks", "visible", "transforms", "boxes"):
            np.testing.assert_array_equal(getattr(crops, field), getattr(good, field))

    def test_all_bad_stops_always(self, annotations):
        for path in annotations.paths:
            path.write_bytes(b"junk")
        with pytest.raises(ImageError):
            load_crops(annotations, skip_bad=True)


def array_file(array):
    """Content of a .npy file."""
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


class TestCache:
    @pytest.fixture
    def reads(self, monkeypatch):
        """The photos read so far."""
        paths = []
        read_image = crops_module.read_image

        def counting(path):
            paths.append(path)
            return read_image(path)

        monkeypatch.setattr(crops_module, "read_image", counting)
        return paths

    def test_read_once(self, annotations, tmp_path, reads):
        cache = tmp_path / "new" / "crops.npz"
        first, second = (load_crops(annotations, 48, margin=3, cache=cache) for _ in range(2))
        assert len(reads) == 5
        for field in dataclasses.fields(Crops):
            np.testing.assert_array_equal(getattr(first, field.name), getattr(second, field.name))
        assert os.listdir(cache.parent) == ["crops.npz"]

    def test_skipped_are_remembered(self, annotations, tmp_path, reads):
        annotations.paths[1].write_bytes(b"junk")
        cache = tmp_path / "crops.npz"
        first, second = (load_crops(annotations, cache=cache, skip_bad=True) for _ in range(2))
        assert len(reads) == 5 and first.skipped == second.skipped != ()
        assert first.names == second.names and len(second) == 4
        with pytest.raises(ImageError):
            load_crops(annotations, cache=cache)

    @pytest.mark.parametrize(
        "change", [{"image_size": 40}, {"crop_scale": 2.0}, {"margin": 1}, {"skip_bad": True}]
    )
    def test_other_arguments(self, annotations, tmp_path, reads, change):
        cache = tmp_path / "crops.npz"
        load_crops(annotations, **{"image_size": 48, "cache": cache})
        crops = load_crops(annotations, **{"image_size": 48, "cache": cache, **change})
        assert len(reads) == 10
        plain = load_crops(annotations, **{"image_size": 48, **change})
        np.testing.assert_array_equal(crops.images, plain.images)

    def test_other_labels(self, annotations, tmp_path, reads):
        cache = tmp_path / "crops.npz"
        load_crops(annotations, cache=cache)
        load_crops(
            dataclasses.replace(annotations, landmarks=annotations.landmarks + 1), cache=cache
        )
        assert len(reads) == 10

    def test_other_photo(self, annotations, tmp_path, reads):
        cache = tmp_path / "crops.npz"
        load_crops(annotations, cache=cache)
        cv2.imwrite(str(annotations.paths[2]), np.full((200, 200, 3), 9, np.uint8))
        assert (load_crops(annotations, cache=cache).images[2] == 9).all()

    @pytest.mark.parametrize(
        "damage",
        [
            lambda data: b"",
            lambda data: b"junk",
            lambda data: array_file(np.zeros(3)),
            lambda data: data.replace(b"fingerprint", b"fingerXXXXX"),
            lambda data: data[: len(data) // 2],
            lambda data: data[:3000] + b"\x55" * 100 + data[3100:],
        ],
    )
    def test_damaged_is_made_anew(self, annotations, tmp_path, reads, caplog, damage):
        cache = tmp_path / "crops.npz"
        first = load_crops(annotations, cache=cache)
        cache.write_bytes(damage(cache.read_bytes()))
        again = load_crops(annotations, cache=cache)
        np.testing.assert_array_equal(first.images, again.images)
        assert "crops.npz can't be read" in caplog.text
        load_crops(annotations, cache=cache)
        assert len(reads) == 10


class TestProgress:
    @pytest.fixture
    def slow(self, monkeypatch):
        """A clock that ticks a second each time it is read."""
        ticks = iter(range(1000))
        monkeypatch.setattr(time, "monotonic", lambda: next(ticks))

    def test_slow(self, annotations, slow, capsys):
        load_crops(annotations)
        assert capsys.readouterr().err == "cropped 5 of 5 images\n"

    def test_off(self, annotations, slow, capsys):
        load_crops(annotations, progress=False)
        assert capsys.readouterr().err == ""

    def test_fast(self, annotations, capsys):
        load_crops(annotations)
        assert capsys.readouterr().err == ""


@pytest.mark.faces
@pytest.mark.parametrize(("crop_scale", "low", "high"), [(2, 9, 10), (3, 0.02, 0.06)])
def test_share_of_landmarks_cut_off(faces, crop_scale, low, high):
    annotations = read_300w(faces / "300w", "common")
    boxes = crop_squares(annotations.landmarks, annotations.scheme, crop_scale)
    landmarks = apply_transform(crop_transform(boxes), annotations.landmarks)
    lost = ((landmarks < -0.5) | (landmarks > 79.5)).any(-1)
    assert low < 100 * lost.mean() < high


@pytest.mark.faces
def test_real_faces(faces):
    annotations = read_300w(faces / "300w", "validation").take(range(0, 200, 10))
    crops = load_crops(annotations, margin=8)
    assert crops.images.shape == (20, 96, 96, 3) and crops.images.std() > 20
    # Eyes are darker than the cheeks below them, which lie between the eye and the mouth corner.
    gray = crops.central().mean(-1)
    right_eye, left_eye, _, right_mouth, left_mouth = np.moveaxis(
        crops.scheme.anchor_points(crops.landmarks), 1, 0
    )

    def brightness(points):
        x, y = np.round(points).astype(int).T
        return gray[np.arange(20), y, x]

    for eye, mouth in [(right_eye, right_mouth), (left_eye, left_mouth)]:
        assert (brightness(eye) < brightness((eye + mouth) / 2)).mean() > 0.8
