import math

import hypothesis
import hypothesis.extra.numpy as arrays
import hypothesis.strategies as st
import numpy as np
import pytest

from keras_lapkl.detection import filters
from keras_lapkl.detection.filters import OneEuroFilter, ScaleFilter
from keras_lapkl.detection.tracking import LandmarkTracker

RATE = 30


def corners(count=4):
    angles = 2 * np.pi * np.arange(count) / count
    return 50 * np.stack([np.cos(angles), np.sin(angles)], -1)


def run(smooth, landmarks, scale=1.0, rate=RATE):
    scale = np.broadcast_to(scale, landmarks.shape[1:])
    return np.stack([smooth(each, scale, i / rate) for i, each in enumerate(landmarks)])


def jitter(found):
    return np.sqrt((np.diff(found, axis=0) ** 2).mean((0, 2)))


@pytest.mark.parametrize("make", [ScaleFilter, OneEuroFilter])
def test_who_writes_into_what_it_gives_or_was_given_changes_nothing(make):
    clean, spoiled = make(), make()
    for i in range(5):
        landmarks, scale = corners() + i, np.ones((4, 2))
        found = spoiled(landmarks, scale, i / RATE)
        np.testing.assert_array_equal(found, clean(corners() + i, scale, i / RATE))
        landmarks[:], found[:] = 7, 7


def test_innovation_gain_by_hand():
    gain, variance = filters.innovation_gain(
        np.array([1.0, 1.0, 3.0]), np.array([2.0, 12.0, 3.0]), np.array([3.0, 3.0, 1.0])
    )
    np.testing.assert_allclose(gain, (0.25, 0.75, 0.75))
    np.testing.assert_allclose(variance, (0.75, 2.25, 0.75))


@hypothesis.given(
    arrays.arrays(np.float64, (6, 2), elements=st.floats(-500, 500)),
    arrays.arrays(np.float64, (6, 1), elements=st.floats(1e-3, 1e3)),
)
def test_similarity_modes_are_orthonormal(landmarks, weights):
    hypothesis.assume(np.ptp(landmarks, axis=0).min() > 1)
    modes = filters.similarity_modes(landmarks, weights)
    np.testing.assert_allclose(
        np.einsum("ikd,k,jkd->ij", modes, weights[:, 0], modes), np.eye(4), atol=1e-6
    )


def test_similarity_modes_are_shift_turn_and_size():
    landmarks, weights = corners(5), np.ones((5, 1))
    modes = filters.similarity_modes(landmarks, weights)
    moved = landmarks * 1.02 + landmarks[:, ::-1] * (-0.01, 0.01) + (3, -4)
    parts = np.tensordot(modes, moved - landmarks, 2)
    np.testing.assert_allclose(landmarks + np.tensordot(parts, modes, 1), moved, atol=1e-9)


def test_scale_filter_by_hand():
    """Two opposite corners move apart and two together: no shared motion is in it."""
    step = np.array([(2.5, 0), (0, -2.5), (-2.5, 0), (0, 2.5)])
    smooth = ScaleFilter(gate=2, drift=0.01, memory=0.1)
    smooth(corners(), np.ones((4, 2)), 0)
    found = smooth(corners() + step, np.ones((4, 2)), 0.05)

    noise = (2 * 0.11) ** 2
    alpha = 1 - math.exp(-0.5)
    surprise = (alpha * 2.5) ** 2 / 2 * (2 - alpha) / alpha  # the mean of x and y; one of them is 0
    predicted = max(noise + (0.01 * 100) ** 2 * 0.05, surprise - noise)
    gain = predicted / (predicted + noise)
    assert surprise - noise > noise + 0.05 and gain > 0.9
    np.testing.assert_allclose(found, corners() + gain * step, atol=1e-9)

    # The next frame is as the last output: all that is left is the mean of the innovations.
    smooth(found, np.ones((4, 2)), 0.1)
    change = np.median(np.abs(np.array([(1 - gain) * 2.5, 0])))
    flicker = 0.11 + (1 - math.exp(-0.05 / 2)) * (change / 0.6745 / math.sqrt(2) - 0.11)
    assert smooth.flicker == pytest.approx(flicker)


def test_a_still_face_stays(rng):
    still = np.broadcast_to(corners(), (30, 4, 2))
    np.testing.assert_allclose(run(ScaleFilter(), still), still, atol=1e-12)


def test_flicker_falls_and_more_where_the_scale_is_larger(rng):
    scale = np.repeat((1.0, 4.0), 8)[:, None] * np.ones(2)
    noise = 0.11 * scale * rng.standard_normal((300, 16, 2))
    found = run(ScaleFilter(), corners(16) + noise, scale)
    left = jitter(found[60:]) / jitter(noise[60:])
    assert left.max() < 0.3
    alike = run(ScaleFilter(), corners(16) + noise, np.full((16, 2), scale.mean()))
    assert left[8:].mean() < left[:8].mean()
    assert jitter(alike[60:])[8:].mean() > 1.3 * jitter(found[60:])[8:].mean()


def test_gain_falls_as_the_scale_rises():
    """One lip moves alone by the same way: the surer it is, the more of it is taken."""

    def taken(scale):
        smooth = ScaleFilter()
        smooth(corners(20), np.ones((20, 2)), 0)
        moved = corners(20)
        moved[3, 1] += 2.0
        scales = np.ones((20, 2))
        scales[3] = scale
        return smooth(moved, scales, 1 / RATE)[3, 1] - corners(20)[3, 1]

    shares = [taken(scale) for scale in (1.0, 2.0, 5.0, 20.0)]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > 1.7 and shares[-1] < 0.5


def test_the_shared_motion_is_that_of_the_sure_landmarks():
    """A face moves by 8 px, while half of it, hidden, is found anywhere."""
    scale = np.repeat((1.0, 60.0), 10)[:, None] * np.ones(2)
    face, smooth = corners(20), ScaleFilter()
    smooth(face, scale, 0)
    found = face + (8, 0)
    found[10:] += (-30, 20)
    moved = smooth(found, scale, 1 / RATE) - face
    np.testing.assert_allclose(moved[:10], np.broadcast_to((8, 0), (10, 2)), atol=0.5)


@pytest.mark.parametrize("rate", [10, 30, 60, 240])
def test_moving_faces_are_followed_without_lag(rng, rate):
    times = np.arange(rate) / rate
    way = np.stack([90 * times, 30 * times], -1)[:, None]
    noise = 0.11 * rng.standard_normal((rate, 30, 2))
    found = run(ScaleFilter(), corners(30) + way + noise, rate=rate)
    behind = (found - corners(30) - way)[rate // 2 :].mean((0, 1))
    assert np.abs(behind).max() < 0.01 * 90  # of a second
    slow = run(OneEuroFilter(min_cutoff=0.3, beta=0.2), corners(30) + way + noise, rate=rate)
    late = (slow - corners(30) - way)[rate // 2 :].mean((0, 1))
    assert np.abs(late).max() > 2 * np.abs(behind).max()


def test_the_flicker_of_a_model_is_learned(rng):
    """Scales all ten times as large make no difference after a while."""
    truth = corners(30) + 2 * np.sin(np.arange(600) / 20)[:, None, None]
    noisy = truth + 0.2 * rng.standard_normal(truth.shape)
    one, ten = ScaleFilter(), ScaleFilter()
    np.testing.assert_allclose(run(one, noisy, 1.0)[-60:], run(ten, noisy, 10.0)[-60:], atol=0.05)
    assert one.flicker == pytest.approx(0.2, rel=0.15)
    assert ten.flicker == pytest.approx(0.02, rel=0.2)


def test_scale_filter_goes_with_the_picture(rng):
    """A picture twice as large, elsewhere, gives landmarks twice as large, elsewhere."""
    noisy = corners(12) + 0.3 * rng.standard_normal((40, 12, 2))
    large = run(ScaleFilter(), 2 * noisy + (30, -700), 2.0)
    np.testing.assert_allclose(large, 2 * run(ScaleFilter(), noisy, 1.0) + (30, -700), atol=1e-8)


@pytest.mark.parametrize("smooth", [ScaleFilter, OneEuroFilter])
def test_odd_times_and_scales(smooth, rng):
    smooth = smooth()
    scales = (np.zeros((4, 2)), np.full((4, 2), 1e6), np.ones((4, 2)))
    for i, time in enumerate((0, 0, 1 / 30, 1 / 30, 0.5, 900)):
        found = smooth(corners() + rng.standard_normal((4, 2)), scales[i % 3], time)
        assert np.isfinite(found).all() and np.abs(found - corners()).max() < 10


@pytest.mark.parametrize("smooth", [ScaleFilter, OneEuroFilter])
def test_filters_keep_their_input(smooth):
    smooth, first = smooth(), corners()
    first.setflags(write=False)
    np.testing.assert_array_equal(smooth(first, np.ones((4, 2)), 0), first)
    smooth(first + 1, np.ones((4, 2)), 0.1)
    smooth(first + 5, np.ones((4, 2)), 0.2)


def test_one_euro_by_hand():
    smooth = OneEuroFilter(min_cutoff=1, beta=0.5, derivative_cutoff=2)
    assert smooth(np.array([[10.0]]), None, 1.0) == 10
    dt = 0.1
    speed = (4 / dt) / (1 + 1 / (2 * math.pi * 2 * dt))
    part = 1 / (1 + 1 / (2 * math.pi * (1 + 0.5 * speed) * dt))
    assert smooth(np.array([[14.0]]), None, 1.1)[0, 0] == pytest.approx(10 + 4 * part)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: ScaleFilter(gate=0), "gate"),
        (lambda: ScaleFilter(shared=math.inf), "shared"),
        (lambda: ScaleFilter(memory=-1), "memory"),
        (lambda: OneEuroFilter(min_cutoff=math.nan), "min_cutoff"),
        (lambda: OneEuroFilter(beta=-0.1), "beta"),
        (lambda: OneEuroFilter(derivative_cutoff=0), "derivative_cutoff"),
        (lambda: LandmarkTracker(None, max_scale=0), "max_scale"),
        (lambda: LandmarkTracker(None, find_every=0), "find_every"),
    ],
)
def test_bad_arguments(make, name):
    with pytest.raises(ValueError, match=f"`{name}`"):
        make()
