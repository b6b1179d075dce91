import dataclasses

import numpy as np
import pytest

from keras_lapkl.data.synthetic import clips
from keras_lapkl.evaluation import tracking_scores
from keras_lapkl.schemes import IBUG68


@pytest.fixture(scope="module")
def clip():
    return clips.synthetic_clip(seed=1)


@pytest.fixture(scope="module")
def unit(clip):
    """A hundredth of the mean distance of the outer eye corners, pixels."""
    return np.linalg.norm(clip.landmarks[:, 45] - clip.landmarks[:, 36], axis=-1).mean() / 100


def test_the_truth_is_perfect(clip):
    found = tracking_scores.evaluate(clip, clip.landmarks)
    for name in ("flicker", "jitter", "nme", "moving_nme", "covered_nme", "missed"):
        assert found[name] == 0
    assert found["lag"] == pytest.approx(0, abs=1e-9)
    assert found["talk"] == found["blink"] == pytest.approx(1)


def test_white_noise(clip, unit, rng):
    noise = 2 * unit * rng.standard_normal(clip.landmarks.shape)
    found = tracking_scores.evaluate(clip, clip.landmarks + noise)
    # √2 for the difference, √2 for the two axes.
    assert found["flicker"] == pytest.approx(4, rel=0.02)
    assert found["jitter"] == pytest.approx(4, rel=0.02)
    assert found["nme"] == pytest.approx(2 * np.sqrt(np.pi / 2), rel=0.02)
    assert found["lag"] == pytest.approx(0, abs=2)


def test_a_bias_is_an_error_alone(clip, unit, rng):
    found = tracking_scores.evaluate(clip, clip.landmarks + (3 * unit, 4 * unit))
    assert found["nme"] == pytest.approx(5)
    assert found["flicker"] == pytest.approx(0, abs=1e-9)
    assert found["lag"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("frames", [1, 2, 3.5])
def test_lag(clip, frames):
    late = np.arange(len(clip)) - frames
    found = np.stack(
        [
            np.interp(late, np.arange(len(clip)), each)
            for each in clip.landmarks.reshape(len(clip), -1).T
        ],
        -1,
    ).reshape(clip.landmarks.shape)
    assert tracking_scores.evaluate(clip, found)["lag"] == pytest.approx(
        1e3 * frames / 30, rel=0.03
    )


def test_half_of_a_motion(clip):
    found = clip.landmarks.copy()
    for name in ("talk", "blink"):
        part = clip.motions == name
        found[part] = (found[part] + found[part].mean(0)) / 2
    result = tracking_scores.evaluate(clip, found)
    assert result["talk"] == pytest.approx(0.5) and result["blink"] == pytest.approx(0.5)


def test_frames_without_a_face_count_as_missed_alone(clip, unit):
    found = clip.landmarks.copy()
    found[100:150] = np.nan
    result = tracking_scores.evaluate(clip, found)
    assert result["missed"] == 50 / len(clip)
    assert result["nme"] == result["flicker"] == 0
    nothing = tracking_scores.evaluate(clip, np.full_like(found, np.nan))
    assert nothing.pop("missed") == 1
    assert np.isnan(list(nothing.values())).all()


def test_what_can_not_be_evaluated(clip):
    with pytest.raises(ValueError, match=r"Received: \(3, 68, 2\)"):
        tracking_scores.evaluate(clip, clip.landmarks[:3])
    blind = dataclasses.replace(clip, scheme=dataclasses.replace(IBUG68, eye_corners=None))
    with pytest.raises(ValueError, match="no eye corners"):
        tracking_scores.evaluate(blind, clip.landmarks)


def test_motions_that_are_not_there(clip):
    still = dataclasses.replace(clip, motions=np.full(len(clip), clips.STILL))
    result = tracking_scores.evaluate(still, clip.landmarks)
    assert result["flicker"] == 0
    assert np.isnan([result[name] for name in ("jitter", "lag", "talk", "covered_nme")]).all()
