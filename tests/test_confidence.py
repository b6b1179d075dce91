import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from keras_lapkl import confidence


def faces(rng, count, landmarks=4, hidden=0.0):
    """Errors (N, K), Rayleigh with a size of scale² pixels, and scales (N, K, 2)."""
    scale = rng.uniform(0.8, 3, (count, landmarks))
    errors = scale**2 * rng.rayleigh(size=scale.shape) * np.linspace(0.5, 1, landmarks)
    errors[rng.random(errors.shape) < hidden] = np.nan
    return errors, np.repeat(scale[..., None], 2, axis=-1)


@pytest.fixture
def calibration():
    return confidence.Calibration(
        scales=(1.0, 2.0),
        errors=(0.5, 2.5),
        factors=(1.0, 2.0),
        quantiles={0.5: (1.0, 1.5), 0.9: (2.0, np.inf)},
        data="two faces",
        faces=2,
    )


@pytest.mark.parametrize(
    ("scale", "error"),
    [((0.2, 0.4), 0.5), ((1, 1), 0.5), ((1, 2), 1.5), ((2, 2), 2.5), ((3, 5), 5.0)],
)
def test_expected_error_by_hand(calibration, scale, error):
    found = calibration.error([scale, scale])
    np.testing.assert_allclose(found, [error, 2 * error])
    np.testing.assert_allclose(calibration.radius([scale, scale], 0.5), [error, 3 * error])


def test_radius_by_the_face_by_hand(calibration):
    """Twice as wide where the mean error of a face is four times the typical; then all alike."""
    known = dataclasses.replace(calibration, typical=0.5, across=0.5, within=-1.0)
    scale = [(1.0, 1.0), (1.25, 1.75)]  # errors 0.5 and 3, times quantiles of 1 and 1.5
    np.testing.assert_allclose(known.error(scale), [0.5, 3])
    wide = np.sqrt(1.75 / 0.5)
    np.testing.assert_allclose(known.radius(scale, 0.5), [1.75 * wide, 1.5 * 1.75 * wide])
    np.testing.assert_allclose(
        dataclasses.replace(known, within=0.0).radius(scale, 0.5), [0.5 * wide, 4.5 * wide]
    )


def test_radius_of_too_few_faces_is_infinite(calibration):
    assert calibration.radius(np.ones((2, 2)), 0.9)[1] == np.inf


@pytest.mark.parametrize("hidden", [0.0, 0.3])
def test_expects_and_covers_what_then_happens(rng, hidden):
    fitted = confidence.fit(*faces(rng, 1000, hidden=hidden))
    errors, scale = faces(rng, 1000, hidden=hidden)
    expected, measured = confidence.reliability(fitted, errors, scale)
    np.testing.assert_allclose(measured, expected, rtol=0.15)
    assert np.all(np.diff(expected) > 0)
    for asked, (share, each) in confidence.coverage(fitted, errors, scale).items():
        assert share == pytest.approx(asked, abs=0.025)
        np.testing.assert_allclose(each, asked, atol=0.06)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("count", [1, 4])
def test_reliability_of_fewer_landmarks_than_groups(rng, count):
    fitted = confidence.fit(*faces(rng, 100))
    errors, scale = np.full((count, 4), np.nan), np.ones((count, 4, 2))
    errors[:, 0] = 3.0
    expected, measured = confidence.reliability(fitted, errors, scale)
    assert measured.tolist() == [3.0] * count and np.isfinite(expected).all()


def hard_faces(rng, count):
    """Errors that grow faster from face to face than the scales, and slower within one."""
    face, own = np.exp(0.3 * rng.normal(size=(count, 1))), np.exp(0.3 * rng.normal(size=(count, 9)))
    errors = face**1.6 * own**0.7 * rng.gamma(2, 1, (count, 9))
    return errors, np.repeat((face * own)[..., None], 2, axis=-1)


def test_few_faces_keep_the_exponents_of_the_model(rng):
    """Errors and scales that are all the same tell of none."""
    fitted = confidence.fit(*hard_faces(rng, 400))
    start = dataclasses.replace(fitted, across=0.8, within=-0.6)
    few = confidence.fit(np.ones((2, 9)), np.ones((2, 9, 2)), start=start)
    assert few.across == pytest.approx(0.8, abs=0.05)
    assert few.within == pytest.approx(-0.6, abs=0.05)


def test_radius_holds_for_unsure_faces_and_unsure_points(rng):
    fitted, (errors, scale) = confidence.fit(*hard_faces(rng, 400)), hard_faces(rng, 3000)
    plain = dataclasses.replace(fitted, across=0.0, within=0.0)
    expected = fitted.error(scale)
    off = {}
    for name, each in (("by face", fitted), ("plain", plain)):
        inside = errors <= each.radius(scale, 0.9)
        tenths = [
            confidence.by_tenth(inside, expected.mean(1)),
            confidence.by_tenth(inside.ravel(), (expected / expected.mean(1)[:, None]).ravel()),
        ]
        off[name] = np.max(np.abs(np.array(tenths) - 0.9), axis=1)
    assert fitted.across > 0.2 and fitted.within < -0.1
    assert np.all(off["by face"] < 0.05) and np.all(off["plain"] > 0.07)
    share, _ = confidence.coverage(fitted, errors, scale)[0.9]
    assert share == pytest.approx(0.9, abs=0.01)


def test_few_faces_go_on_from_a_calibration(rng):
    """Elsewhere errors are twice as large; of one point nothing is known there."""
    start = confidence.fit(*hard_faces(rng, 400))
    errors, scale = hard_faces(rng, 20)
    hidden = np.where(np.arange(9) == 3, np.nan, 2 * errors)
    found = confidence.fit(hidden, scale, start=start)
    assert (found.scales, found.errors) == (start.scales, start.errors)
    np.testing.assert_allclose(found.factors, 2 * np.array(start.factors), rtol=0.5)
    others = np.arange(9) != 3
    ratio = 2 * errors[:, others].mean() / start.error(scale)[:, others].mean()
    assert found.factors[3] == pytest.approx(ratio * start.factors[3], rel=0.01)
    assert found.quantiles[0.9][3] == np.inf
    errors, scale = hard_faces(rng, 2000)
    expected = found.error(scale)
    assert 2 * errors.mean() == pytest.approx(expected.mean(), rel=0.15)
    assert abs(found.across - start.across) < 0.3


def test_faces_are_alike_where_nothing_tells_them_apart(rng):
    scale = np.repeat(rng.uniform(0.8, 3, (1000, 4, 1)), 2, axis=-1)
    fitted = confidence.fit(scale[..., 0] * rng.rayleigh(size=(1000, 4)), scale)
    assert abs(fitted.across) < 0.1 and abs(fitted.within) < 0.1
    assert fitted.typical == pytest.approx(np.median(fitted.error(scale).mean(1)), abs=1e-3)
    one = confidence.fit(np.ones((1, 1)), np.ones((1, 1, 2)))
    assert (one.across, one.within) == (0, 0)


def test_covers_on_average_even_with_few_faces(rng):
    # Split-conformal: the mean over draws of the calibration faces is at least what was asked.
    for count in (19, 200):
        shares = []
        for _ in range(200):
            fitted = confidence.fit(*faces(rng, count, landmarks=1))
            shares.append(confidence.coverage(fitted, *faces(rng, 50, landmarks=1))[0.9][0])
        assert 0.89 <= np.mean(shares) <= 0.94


def test_curve_never_falls_where_data_do(rng):
    scale = np.repeat(np.linspace(1, 2, 1000)[:, None, None], 2, axis=-1)
    errors = np.where(np.arange(1000) < 500, 3.0, 1.0)[:, None]
    fitted = confidence.fit(errors, scale)
    assert fitted.scales == (1.5,) and fitted.errors == (2.0,)


def test_a_landmark_without_a_scale_is_left_out():
    scale = np.ones((4, 1, 2))
    scale[3] = np.nan
    fitted = confidence.fit(np.array([[1.0], [2.0], [3.0], [9.0]]), scale)
    assert fitted.scales == (1,) and fitted.errors == (2,)


def test_equal_scales_are_one_knot():
    fitted = confidence.fit(np.arange(1.0, 11)[:, None], np.ones((10, 1, 2)))
    assert fitted.scales == (1,) and fitted.errors == (5.5,)
    assert fitted.quantiles[0.5] == (pytest.approx(6 / 5.5, abs=1e-4),)
    assert fitted.quantiles[0.95] == (np.inf,)  # needs 19 faces


def test_perfect_landmarks_are_no_division_by_zero():
    fitted = confidence.fit(np.zeros((30, 2)), np.ones((30, 2, 2)))
    assert np.isfinite(fitted.radius(np.ones((2, 2)), 0.9)).all()


def test_landmark_that_is_always_hidden(rng):
    errors, scale = faces(rng, 30)
    errors[:, 1] = np.nan
    fitted = confidence.fit(errors, scale)
    assert fitted.factors[1] > 0 and fitted.quantiles[0.5][1] == np.inf


def test_relative_error_is_the_same_at_any_size_and_rotation(rng):
    landmarks, error = rng.uniform(0, 80, (5, 68, 2)), rng.uniform(1, 3, (5, 68))
    found = confidence.relative_error(landmarks, error)
    cos, sin = np.cos(1.2), np.sin(1.2)
    turned = 3 * landmarks @ np.array([[cos, sin], [-sin, cos]]) + 40
    np.testing.assert_allclose(confidence.relative_error(turned, 3 * error), found)
    assert found.shape == (5,)
    assert confidence.relative_error(np.ones((68, 2)), error[0]) == np.inf


@pytest.mark.parametrize("size", [1.0, 2.0])
def test_lost_above_nearly_all_of_the_known_faces(rng, size):
    """By the spread of the logarithms: of normal ones 0.13 % lie three deviations above."""
    errors, scale = faces(rng, 200)
    landmarks = size * rng.uniform(10, 70, errors.shape[:1] + (4, 2))
    fitted = confidence.fit(errors, scale, landmarks=landmarks)
    relative = confidence.relative_error(landmarks, fitted.error(scale))
    logs = np.log(relative)
    assert fitted.lost == pytest.approx(np.exp(logs.mean() + 3 * logs.std()), abs=1e-4)
    assert np.mean(relative > fitted.lost) <= 0.02


def test_too_few_faces_do_not_tell_when_one_is_lost(rng):
    errors, scale = faces(rng, 60)
    landmarks = rng.uniform(10, 70, (60, 4, 2))
    assert confidence.fit(errors, scale).lost is None
    assert confidence.fit(errors[:49], scale[:49], landmarks=landmarks[:49]).lost is None
    # Faces in one point do not count.
    one_point = np.where(np.arange(60)[:, None, None] < 11, 1.0, landmarks)
    assert confidence.fit(errors, scale, landmarks=one_point).lost is None
    assert confidence.fit(errors, scale, landmarks=landmarks).lost > 0


def test_lost_grows_with_the_errors_of_a_few_faces(rng):
    (errors, scale), landmarks = faces(rng, 200), rng.uniform(10, 70, (200, 4, 2))
    start = confidence.fit(errors, scale, landmarks=landmarks)
    few = slice(20)
    found = confidence.fit(2 * errors[few], scale[few], landmarks=landmarks[few], start=start)
    ratio = 2 * errors[few].mean() / start.error(scale[few]).mean()
    assert found.lost == pytest.approx(ratio * start.lost, rel=1e-3) and ratio > 1.5


@pytest.mark.parametrize("lost", [0.0, -1.0, np.inf, np.nan])
def test_lost_is_above_zero(calibration, lost):
    with pytest.raises(ValueError, match="`lost` above 0"):
        dataclasses.replace(calibration, lost=lost)


def test_config_of_older_files(calibration):
    config = calibration.to_config()
    for name in ("lost", "typical", "across", "within"):
        del config[name]
    assert confidence.get(config) == calibration
    error, radius = calibration.error(np.ones((2, 2))), calibration.radius(np.ones((2, 2)), 0.5)
    np.testing.assert_array_equal(radius, error * (1.0, 1.5))


def test_config_round_trip_by_json(calibration):
    calibration = dataclasses.replace(calibration, lost=0.1, typical=1.5, across=0.4, within=-0.2)
    text = json.dumps(calibration.to_config(), allow_nan=False)
    assert confidence.get(json.loads(text)) == calibration
    assert confidence.get(calibration) is calibration and confidence.get(None) is None


@given(st.lists(st.floats(0, 100), min_size=1, max_size=40), st.floats(0.05, 0.95))
@settings(deadline=None)
def test_conformal_quantile_leaves_few_enough_above(scores, coverage):
    quantile = confidence.conformal_quantile(scores, coverage)
    below = np.sum(np.array(scores) <= quantile)
    assert quantile == np.inf or below >= coverage * (len(scores) + 1) - 1e-6


def test_infinite_errors_lie_beyond_every_radius():
    """A NaN counts neither way; what was not found counts against the radius."""
    assert confidence.conformal_quantile([1.0] * 10 + [np.inf] * 10, 0.9) == np.inf
    assert confidence.conformal_quantile([1.0] * 10 + [np.nan] * 10, 0.9) == 1
    errors, scale = np.ones((20, 3)), np.ones((20, 3, 2))
    errors[:4, 0], errors[:4, 1] = np.inf, np.nan
    found = confidence.fit(errors, scale)
    radius = found.radius(scale[0], 0.9)
    assert radius[0] == np.inf and radius[1] < 2 and radius[2] < 2
    np.testing.assert_allclose(confidence.coverage(found, errors, scale)[0.5][1], [0.8, 1, 1])


def test_unknown_radii_count_neither_way():
    """Four faces give a radius for 50 and 80 %, and none for 90 and 95."""
    errors, scale = np.array([[1.0], [2.0], [3.0], [9.0]]), np.ones((4, 1, 2))
    found = confidence.coverage(confidence.fit(errors, scale), errors, scale)
    assert found[0.5] == (0.75, [0.75]) and found[0.8] == (1, [1])
    assert np.isnan(found[0.9][0]) and np.isnan(found[0.95][1]).all()


@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.9, 0.95])
def test_faces_wanted_are_the_fewest_that_give_a_radius(coverage):
    wanted = confidence.faces_wanted(coverage)
    assert confidence.conformal_quantile(np.ones(wanted), coverage) == 1
    assert confidence.conformal_quantile(np.ones(wanted - 1), coverage) == np.inf


def test_surest_faces_first():
    found = confidence.selective([4.0, 1.0, 2.0, 3.0], [0.4, 0.1, 0.2, 0.3], (0.25, 0.5, 1))
    np.testing.assert_allclose(found, [1, 1.5, 2.5])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"errors": (2.0, 1.0)}, "neither of them falling"),
        ({"scales": (1.0,)}, "as many errors as scales"),
        ({"quantiles": {0.9: (1.0,)}}, "with 2 quantiles each"),
        ({"quantiles": {90: (1.0, 1.0)}}, r"in \(0, 1\)"),
        ({"typical": 0.0}, "`typical` above 0"),
        ({"across": 1.5}, r"in \[-1, 1\]. Received: 1.0, 1.5, 0.0"),
        ({"within": np.nan}, r"in \[-1, 1\]"),
    ],
)
def test_bad_calibration(calibration, change, message):
    with pytest.raises(ValueError, match=message):
        confidence.Calibration(**{**vars(calibration), **change})


def test_plain_errors(calibration):
    with pytest.raises(ValueError, match=r"one of \(0.5, 0.9\)"):
        calibration.radius(np.ones((2, 2)), 0.8)
    with pytest.raises(ValueError, match=r"\(…, 2, 2\)"):
        calibration.error(np.ones((3, 2)))
    with pytest.raises(ValueError, match="at least one known landmark"):
        confidence.fit(np.full((3, 2), np.nan), np.ones((3, 2, 2)))
    with pytest.raises(ValueError, match=r"Received: \(3, 2\), \(3, 3, 2\)"):
        confidence.fit(np.ones((3, 2)), np.ones((3, 3, 2)))


def test_negative_log_likelihood_by_hand():
    """log(π e² / 2) + 2 r / e, mean of the known points."""
    found = confidence.negative_log_likelihood([[1.0, 3.0], [np.nan, 0.0]], [[1, 2], [5, 2]])
    by_hand = [np.log(np.pi / 2) + 2, np.log(2 * np.pi) + 3, np.log(2 * np.pi)]
    assert found == pytest.approx(np.mean(by_hand))


def test_negative_log_likelihood_is_of_a_density_and_least_at_the_mean_error(rng):
    expected = 3.0
    # Of that density, drawn in the plane: angles are even, distances Gamma(2, e / 2).
    errors = rng.gamma(2, expected / 2, 200_000)
    assert errors.mean() == pytest.approx(expected, rel=0.01)
    found = {
        e: confidence.negative_log_likelihood(errors, np.full(errors.shape, e))
        for e in (2.5, expected, 3.5)
    }
    assert min(found, key=found.__getitem__) == expected
    # Importance sampling: exp(−NLL) of a point, over a wide square, adds up to 1.
    x = rng.uniform(-30, 30, (200_000, 2))
    far = np.linalg.norm(x, axis=1)
    density = np.exp(-(np.log(np.pi * expected**2 / 2) + 2 * far / expected))
    assert density.mean() * 60**2 == pytest.approx(1, abs=0.03)


def test_sparsification_error_by_hand():
    # Mean errors of the first: 2, 1.5, 2 of 2; of the best order 1, 1.5, 2.
    area, random = confidence.sparsification_error([2.0, 1.0, 3.0], [0.1, 0.2, 0.3])
    assert area == pytest.approx((1 + 0 + 0) / 3 / 2) and random == pytest.approx(0.25)


def test_sparsification_error_of_the_best_and_of_random_order(rng):
    errors = rng.gamma(2, 1, 5000)
    assert confidence.sparsification_error(errors, np.exp(errors))[0] == 0
    areas = [confidence.sparsification_error(errors, rng.random(5000)) for _ in range(20)]
    assert np.mean([area for area, _ in areas]) == pytest.approx(areas[0][1], abs=0.01)
    assert confidence.sparsification_error(errors, -errors)[0] > 1.5 * areas[0][1]


def test_shares_by_tenth():
    inside = np.repeat([1.0, 0.0], 50)
    inside[0] = np.nan
    np.testing.assert_array_equal(confidence.by_tenth(inside, -np.arange(100)), [0] * 5 + [1] * 5)
    assert confidence.by_tenth([[1.0, 0.0], [1.0, np.nan]], [2, 1]).tolist() == [1, 0.5]
