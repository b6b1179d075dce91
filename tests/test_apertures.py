import numpy as np
import pytest

from keras_lapkl import apertures
from keras_lapkl.schemes import AFLW19, IBUG68


def faces(eyes, mouth):
    """(N, 68, 2): eyes 30 px and a mouth 40 px wide, open by these ratios, at 30 degrees."""
    found = np.zeros((len(eyes), 68, 2))
    for first, width, ratio in ((36, 30, eyes), (42, 30, eyes), (60, 40, mouth)):
        count = 3 if first == 60 else 2
        end = first + count + 1
        found[:, end, 0] = width
        for k in range(count):
            x = width * (k + 1) / (count + 1)
            half = np.asarray(ratio) * width / 2
            found[:, first + 1 + k] = np.stack([np.full_like(half, x), -half], -1)
            found[:, first + 2 * (count + 1) - 1 - k] = np.stack([np.full_like(half, x), half], -1)
    c, s = np.cos(np.pi / 6), np.sin(np.pi / 6)
    return found @ np.array([[c, s], [-s, c]]) + 7


def test_ratios_by_hand():
    found = apertures.ratios(faces([0.3, 0.05], [0.0, 0.6]), IBUG68)
    np.testing.assert_allclose(found["right_eye"], [0.3, 0.05])
    np.testing.assert_allclose(found["left_eye"], [0.3, 0.05])
    np.testing.assert_allclose(found["mouth"], [0.0, 0.6], atol=1e-12)


def test_unknown_points_and_other_schemes():
    hidden = faces([0.3], [0.1])
    hidden[0, 37] = np.nan
    found = apertures.ratios(hidden, IBUG68)
    assert np.isnan(found["right_eye"]).all() and np.isfinite(found["left_eye"]).all()
    assert np.isnan(apertures.ratios(np.zeros((68, 2)), IBUG68)["mouth"])
    assert apertures.ratios(np.zeros((19, 2)), AFLW19) == {} == apertures.apertures(None)
    with pytest.raises(ValueError, match=r"\(…, 68, 2\)"):
        apertures.ratios(np.zeros((5, 2)), IBUG68)


def test_agreement_by_hand():
    """A model that goes half of the way from the mean."""
    eyes, mouth = np.array([0.05, 0.1, 0.3, 0.35]), np.array([0.0, 0.1, 0.5, 0.8])
    found = apertures.agreement(faces(0.2 + (eyes - 0.2) / 2, mouth), faces(eyes, mouth), IBUG68)
    assert found["eyes"] == pytest.approx(
        {
            **{"slope": 0.5, "correlation": 1.0, "mean_error": 0.0625, "count": 8},
            **{"closed": 4, "closed_true": 0.075, "closed_found": 0.1375},
        }
    )
    assert found["mouth"]["slope"] == pytest.approx(1) and found["mouth"]["count"] == 4


def test_agreement_of_too_little():
    assert apertures.agreement(np.zeros((3, 19, 2)), np.zeros((3, 19, 2)), AFLW19) == {}
    one = faces([0.3], [0.2])
    assert apertures.agreement(one, one, IBUG68) == {}
    same = apertures.agreement(faces([0.3, 0.3], [0.2, 0.2]), faces([0.2, 0.4], [0, 0.4]), IBUG68)
    assert same["eyes"]["slope"] == pytest.approx(0) and same["eyes"]["closed_true"] is None
