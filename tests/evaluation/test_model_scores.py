import dataclasses
import json

import numpy as np
import pytest

from keras_lapkl import confidence, schemes
from keras_lapkl.evaluation import model_scores


def off_by(crops, pixels):
    return crops.landmarks + np.array(pixels, np.float32)[:, None, None] * np.float32([1, 0])


SCALE = np.full((4, 68, 2), 1.5, np.float32)


def test_numbers_by_hand(crops):
    result = model_scores.score(off_by(crops, [1, 2, 3, 6]), SCALE, crops)
    assert result["nme"] == pytest.approx(100 * 3 / 40, rel=1e-5)
    assert result["nme_std"] == pytest.approx(np.std([2.5, 5, 7.5, 15]), rel=1e-5)
    assert result["failure_rate_8"] == 25 and result["failure_rate_10"] == 25
    assert result["auc_10"] == pytest.approx(np.mean([0.75, 0.5, 0.25, 0]), rel=1e-5)
    assert result["spread"] == pytest.approx(1.5)
    assert (result["faces"], result["crop_scale"], result["normalizer"]) == (4, 3.0, "interocular")


def test_box_normalizer_in_crop_pixels(crops):
    # 100 x 64 photo pixels are 50 x 32 in the crop: √1600 = 40.
    result = model_scores.score(off_by(crops, [2] * 4), SCALE, crops, "box")
    assert result["nme"] == pytest.approx(5, rel=1e-5)


def test_hull_normalizer(crops):
    size = np.sqrt(np.ptp(crops.landmarks, axis=1).prod(-1))
    result = model_scores.score(off_by(crops, [2] * 4), SCALE, crops, "hull")
    assert result["nme"] == pytest.approx((200 / size).mean(), rel=1e-5)


def test_crop_normalizer(crops):
    size = crops.image_size
    result = model_scores.score(off_by(crops, [2] * 4), SCALE, crops, "crop")
    assert result["nme"] == pytest.approx(200 / size, rel=1e-5)


@pytest.mark.parametrize(("k", "normalizer"), [(1, "crop"), (2, "crop"), (3, "hull")])
def test_default_normalizer_without_eyes(k, normalizer):
    scheme = schemes.Scheme("x", tuple("abc"[:k]))
    assert model_scores.default_normalizer(scheme) == normalizer


def test_hidden_landmarks_do_not_count(crops):
    predicted = off_by(crops, [1, 1, 1, 1])
    predicted[:, 5] += 50
    crops.visible[:, 5] = False
    assert model_scores.score(predicted, SCALE, crops)["nme"] == pytest.approx(2.5, rel=1e-5)


def test_face_without_eyes_is_left_out_and_counted(crops):
    crops.visible[0, 36] = False
    result = model_scores.score(off_by(crops, [9, 2, 2, 2]), SCALE, crops)
    assert result["faces"] == 3 and result["nme"] == pytest.approx(5, rel=1e-5)


def test_nothing_to_score(crops):
    crops.visible[:, 36] = False
    with pytest.raises(ValueError, match="interocular"):
        model_scores.score(crops.landmarks, SCALE, crops)


def test_thresholds_and_intervals(crops):
    result = model_scores.score(off_by(crops, [1, 1.9, 3, 6]), SCALE, crops)
    assert result["failure_rate_5"] == 50 and result["auc_5"] == pytest.approx(0.1375, rel=1e-5)
    low, high = result["nme_interval"]
    assert 2.499 < low < result["nme"] < high < 15.001
    assert result["nme_median"] == pytest.approx(6.125, rel=1e-5)


def test_hidden_landmarks_have_no_spread(crops):
    scale = SCALE.copy()
    scale[:, 7] = 1000
    crops.visible[:, 7] = False
    assert model_scores.score(crops.landmarks, scale, crops)["spread"] == pytest.approx(1.5)


def test_face_without_finite_prediction_has_failed(crops):
    predicted = off_by(crops, [1, 2, 3, 6])
    predicted[3, 5] = np.nan
    result = model_scores.score(predicted, SCALE, crops)
    assert (result["faces"], result["missing"], result["failure_rate_10"]) == (4, 1, 25)
    assert result["nme"] == pytest.approx(5, rel=1e-5)


def test_landmarks_in_photos(crops):
    # The crop is the photo at half its size.
    found = model_scores.in_photos(crops.landmarks, crops)
    np.testing.assert_allclose(found, 2 * crops.landmarks, rtol=1e-6)


def test_errors_of_each_point_in_pixels_of_the_pictures(crops):
    """The crop is the photo at half its size."""
    crops.visible[:2, 1], crops.visible[:, 2] = False, False
    rows = model_scores.point_errors(off_by(crops, [1, 2, 3, 6]), crops)
    assert rows[0] == {"point": "jaw_0", "labeled": 4, "mean": 6, "median": 5, "90 %": 10.2}
    assert rows[1] == {"point": "jaw_1", "labeled": 2, "mean": 9, "median": 9, "90 %": 11.4}
    assert rows[2] == {"point": "jaw_2", "labeled": 0, "mean": None, "median": None, "90 %": None}


def test_a_face_without_a_finite_prediction_is_in_no_mean(crops):
    off = off_by(crops, [1, 2, 3, 6])
    off[3] = np.nan
    (row, *_) = model_scores.point_errors(off, crops)
    assert (row["labeled"], row["mean"], row["median"]) == (4, 4, 4)
    (row, *_) = model_scores.point_errors(np.full_like(off, np.nan), crops)
    assert (row["labeled"], row["mean"], row["90 %"]) == (4, None, None)


def test_faces_that_it_was_calibrated_on_are_known(crops, rng):
    predicted = {
        "landmarks": crops.landmarks + rng.normal(0, 1, crops.landmarks.shape),
        "scale": np.ones(crops.landmarks.shape),
    }
    calibration = model_scores.calibrate(predicted, crops)
    for others, known in ((crops, True), (dataclasses.replace(crops, name="others"), False)):
        found = model_scores.check_confidence(calibration, predicted, others)
        assert found["in_sample"] == known


def test_points_without_a_radius_are_named(crops):
    said = model_scores.without_radius(crops)
    assert "9 or more" in said and "jaw_3 (4), jaw_4 (4) and 63 more" in said
    enough = crops.take(9 * [0])
    assert model_scores.without_radius(enough) is None
    enough.visible[0, 7] = False
    assert model_scores.without_radius(enough).endswith("for jaw_7 (8).")


class Left:
    """Says that each landmark lies at its brightest pixel, and 2 pixels too far left."""

    def __init__(self, scheme):
        self.scheme = scheme

    def predict(self, images, verbose=0):
        points = images.argmax(axis=2).transpose(0, 2, 1).min(axis=2).astype(np.float32)
        points = np.stack([points - 2, np.zeros_like(points)], axis=-1)
        return {"landmarks": points, "scale": 1 + points.clip(0, 1)}


def test_mean_with_the_mirrored_face():
    """Its errors to the left and to the right are those of mirrored landmarks, and cancel."""
    images = np.zeros((1, 1, 16, 3), np.uint8)
    for landmark, x in enumerate((7, 3, 12)):
        images[0, 0, x, landmark] = 255
    scheme = schemes.Scheme("toy", ("tip", "left", "right"), flip=(0, 2, 1))
    # In the mirrored picture, landmark 1 is found where 2 is: swap the channels as the face would.
    model = Left(scheme)
    plain = model.predict
    model.predict = lambda images, verbose=0: plain(
        images if images[0, 0, 7, 0] else images[..., [0, 2, 1]]
    )
    found = model_scores.predict_flip_averaged(model, images)
    np.testing.assert_allclose(found["landmarks"][0, :, 0], [7, 3, 12])
    assert found["landmarks"].dtype == np.float32 and found["scale"].shape == (1, 3, 2)
    model.scheme = schemes.Scheme("toy", ("a", "b", "c"))
    with pytest.raises(ValueError, match=r"needs a scheme with `flip`.*'toy'"):
        model_scores.predict_flip_averaged(model, images)


def test_confidence_in_parts(crops):
    """Radius 2.2 px: of the four faces two are within, but for the jaw of the first."""
    predicted = off_by(crops, [1, 2, 3, 6])
    predicted[0, :17] = crops.landmarks[0, :17] + (9, 0)
    calibration = confidence.Calibration(
        (1.0, 2.0), (2.0, 4.0), (1.0,) * 68, {0.5: (0.5,) * 68, 0.9: (1.1,) * 68}, "four", 4
    )
    found = model_scores.check_confidence(
        calibration, {"landmarks": predicted, "scale": np.ones((4, 68, 2))}, crops
    )
    radius = found["radius"]
    assert radius["asked"] == 0.9 and found["coverage"]["0.9"] == pytest.approx((51 + 68) / 4 / 68)
    assert radius["group"]["jaw"] == 0.25 and radius["group"]["left_eye"] == 0.5
    # Mean errors: 3 (51 points of 1 px, 17 of 9), 2, 3 and 6 px.
    assert radius["faces_by_error"][::3] == [1, 0]
    assert len(radius["faces_by_expected_error"]) == 4
    errors = np.repeat([1.0, 2, 3, 6], 68)
    errors[:17] = 9
    nll = confidence.negative_log_likelihood(errors, np.full(4 * 68, 2.0))
    assert found["negative_log_likelihood"] == pytest.approx(nll, rel=1e-5)


def test_by_cheeks(crops):
    """Sixty faces whose cheeks are as bright as their number, and whose error grows with it."""
    many = crops.take(np.arange(60) % 4)
    points = many.landmarks.copy()
    for k, (around, x) in enumerate((((41, 48, 3), 30), ((46, 54, 13), 50))):
        points[:, around] = (x, 45 + k)
    images = np.zeros_like(many.images)
    for i, image in enumerate(images):
        image[38:54, 22:60] = 4 * i
    many = dataclasses.replace(many, landmarks=points, images=images)
    moved = points + np.linspace(0.4, 4, 60)[:, None, None] * np.array([1, 0])
    found = model_scores.by_cheeks(moved, many, "interocular")
    np.testing.assert_allclose(found["luminance"], [22, 70, 118, 166, 214], atol=0.5)
    expected = [100 * part.mean() / 40 for part in np.split(np.linspace(0.4, 4, 60), 5)]
    np.testing.assert_allclose(found["nme"], expected, rtol=1e-5)
    assert found["ratio"] == pytest.approx(expected[0] / expected[-1])
    exact = model_scores.by_cheeks(points, many, "interocular")
    assert exact["ratio"] is None and exact["ratio_interval"] is None
    assert model_scores.by_cheeks(moved[:49], many.take(range(49)), "interocular") == {}
    other = dataclasses.replace(many, scheme=dataclasses.replace(many.scheme, names=NAMES))
    assert model_scores.by_cheeks(moved, other, "interocular") == {}


NAMES = tuple(map(str, range(68)))


def test_interval_of_a_ratio_agrees_with_its_standard_error():
    """Var log(a/b) ≈ Var a/(n·a²) + Var b/(n·b²), the delta method."""
    random = np.random.default_rng(1)
    above, below = random.gamma(9, 0.5, 400), random.gamma(9, 0.4, 300)
    low, high = model_scores._ratio_interval(above, below)
    sd = np.sqrt(sum(each.var() / len(each) / each.mean() ** 2 for each in (above, below)))
    ratio = above.mean() / below.mean()
    np.testing.assert_allclose([low, high], ratio * np.exp([-1.96 * sd, 1.96 * sd]), rtol=0.01)


def test_confidence_of_hidden_points_and_of_few(crops):
    """Groups that no face shows are left out, radii that are unknown count nowhere; no NaN."""
    hidden = dataclasses.replace(crops, visible=crops.visible & (np.arange(68) >= 17))
    for faces, groups, covered in ((range(4), 0, None), (3 * [0, 1, 2, 3], 8, 1.0)):
        some = hidden.take(faces)
        landmarks = off_by(some, [1, 2, 3, 6] * (len(some) // 4))
        predicted = {"landmarks": landmarks, "scale": np.resize(SCALE, (len(some), 68, 2))}
        calibration = model_scores.calibrate(predicted, some)
        found = model_scores.check_confidence(calibration, predicted, some)
        assert "jaw" not in found["radius"]["group"] and len(found["radius"]["group"]) == groups
        assert found["coverage"]["0.9"] == covered
        json.dumps(found, allow_nan=False)


@pytest.mark.parametrize(
    ("normalizer", "said"),
    [
        (None, "interocular normalizer: .*, distance of the outer eye corners"),
        ("hull", r"hull normalizer: .*, size √\(w·h\)"),
        ("crop", "crop normalizer: .*, side of the crop"),
    ],
)
def test_crops_of_which_none_can_be_scored(crops, normalizer, said):
    model_scores.check_scorable(crops, normalizer)
    hidden = dataclasses.replace(crops, visible=np.zeros((4, 68), bool))
    with pytest.raises(ValueError, match=said):
        model_scores.check_scorable(hidden, normalizer)
    with pytest.raises(ValueError, match=said):
        model_scores.score(crops.landmarks, np.ones((4, 68, 2)), hidden, normalizer)


def test_no_finite_prediction(crops):
    with pytest.raises(ValueError, match="no prediction is finite"):
        model_scores.score(np.full((4, 68, 2), np.nan), np.ones((4, 68, 2)), crops)
