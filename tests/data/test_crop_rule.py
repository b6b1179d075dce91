"""Faces that are cut otherwise than those of a model, or than other faces."""

import dataclasses

import pytest

from keras_lapkl.data import load
from keras_lapkl.data.crop_rule import check_crop_rule, check_eye_order
from keras_lapkl.data.unlabeled.shards import from_crops


@pytest.fixture(scope="module")
def crops():
    return load("synthetic", num_synthetic=2, image_size=32)


def changed(crops, **fields):
    return dataclasses.replace(crops, **fields)


@pytest.mark.parametrize("labeled", [True, False])
def test_alike(crops, labeled):
    check_crop_rule(crops, "ours", crops if labeled else from_crops(crops))


@pytest.mark.parametrize("labeled", [True, False])
@pytest.mark.parametrize(
    ("name", "ours", "theirs"),
    [("crop_scale", "2.0", "3.0"), ("image_size", "16", "32"), ("crop_from", "'box'", "'points'")],
)
def test_what_differs_is_told(crops, name, ours, theirs, labeled):
    expected = {
        "crop_scale": lambda: changed(crops, crop_scale=2.0),
        "image_size": lambda: changed(crops, image_size=16, margin=8),
        "crop_from": lambda: changed(
            crops, scheme=dataclasses.replace(crops.scheme, crop_from="box")
        ),
    }[name]()
    told = f"`{name}` {ours}, as ours has it. Received: synthetic train of {theirs}.* Crop them"
    with pytest.raises(ValueError, match=told):
        check_crop_rule(expected, "ours", crops if labeled else from_crops(crops))


def test_a_size_that_does_not_matter(crops):
    check_crop_rule(changed(crops, image_size=16, margin=8), "ours", crops, any_size=True)


def test_a_model_of_an_unknown_crop(stub, crops):
    model = stub.Localizer(stub.POINTS)
    model.crop_scale = None
    with pytest.raises(ValueError, match=r"not known which crop the model .* `crop_scale`"):
        check_crop_rule(model, "the model", crops)


def test_a_model_of_unknown_points(stub, crops):
    model = stub.Localizer(stub.POINTS)
    model.scheme, model.crop_scale = None, crops.crop_scale
    check_crop_rule(model, "the model", crops, any_size=True)


class TestEyeOrder:
    @pytest.fixture(scope="class")
    def faces(self):
        return load("synthetic", num_synthetic=30, image_size=32)

    @pytest.fixture(scope="class")
    def swapped(self, faces):
        first, second, *rest = faces.scheme.five_points
        return dataclasses.replace(faces.scheme, five_points=(second, first, *rest))

    def test_left_first(self, faces):
        check_eye_order(faces)

    def test_right_first(self, faces, swapped):
        told = "eye at the picture's left comes first.* of left_eye_0 before that of right_eye_0"
        with pytest.raises(ValueError, match=told):
            check_eye_order(changed(faces, scheme=swapped))

    def test_no_face(self, faces, swapped):
        scheme = dataclasses.replace(swapped, eye_corners=None)
        check_eye_order(changed(faces, scheme=scheme))

    @pytest.mark.parametrize("count", [14, 16])
    def test_some_mirrored_pictures_pass(self, faces, count):
        landmarks = faces.landmarks.copy()
        landmarks[:count, :, 0] = 31 - landmarks[:count, :, 0]  # each eye keeps its name
        crops = changed(faces, landmarks=landmarks)
        if count < 15:
            check_eye_order(crops)
            return
        with pytest.raises(ValueError, match=r"[1-9]\d* of \d+ upright faces of synthetic"):
            check_eye_order(crops)

    def test_photos_that_are_upside_down_or_lie_on_a_side_tell_nothing(self, faces, swapped):
        upside_down = 31 - faces.landmarks
        on_a_side = upside_down[..., ::-1]
        for landmarks in (upside_down, on_a_side):
            for scheme in (faces.scheme, swapped):
                check_eye_order(changed(faces, scheme=scheme, landmarks=landmarks))

    def test_faces_without_an_eye_tell_nothing(self, faces, swapped):
        visible = faces.visible.copy()
        visible[:, 42:48] = False
        check_eye_order(changed(faces, scheme=swapped, visible=visible))
