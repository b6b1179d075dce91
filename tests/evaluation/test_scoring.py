import math

import numpy as np
import pytest

from keras_lapkl import schemes
from keras_lapkl.evaluation import scoring

FACE = schemes.Scheme(
    "face",
    ("left_0", "left_1", "right_0", "right_1", "nose"),
    flip=(2, 3, 0, 1, 4),
    eye_corners=(0, 3),
    five_points=((0, 1), (2, 3), (4,), (4,), (4,)),
)
POINTS = np.array([[[0.0, 0], [10, 0], [30, 0], [40, 0], [20, 30]]])
ALL = np.ones((1, 5), bool)
BOX = np.array([[0.0, 0, 60, 80]])
ALWAYS = ("box", "box_diagonal", "crop")


@pytest.mark.parametrize(
    ("name", "pixels"),
    [
        ("interocular", 40),
        ("interpupil", 30),
        ("hull", math.sqrt(40 * 30)),
        ("hull_diagonal", 50),
        ("box", math.sqrt(60 * 80)),
        ("box_diagonal", 100),
        ("crop", 80),
    ],
)
def test_distances_by_hand(name, pixels):
    found = scoring.normalizing_distances(name, POINTS, ALL, FACE, BOX, 80)
    assert found == pytest.approx([pixels])


@pytest.mark.parametrize(
    ("hidden", "defined"),
    [
        (0, ("hull", "hull_diagonal", *ALWAYS)),
        (1, ("interocular", "hull", "hull_diagonal", *ALWAYS)),
        (4, ("interocular", "interpupil", "hull_diagonal", *ALWAYS)),  # flat hull
        (slice(None), ALWAYS),
    ],
)
def test_distances_with_hidden_points(hidden, defined):
    visible, points = ALL.copy(), POINTS.copy()
    visible[:, hidden] = False
    points[:, hidden] = np.nan
    found = {
        name
        for name in scoring.NORMALIZERS
        if np.isfinite(scoring.normalizing_distances(name, points, visible, FACE, BOX, 80)).all()
    }
    assert found == set(defined)


@pytest.mark.parametrize("box", [[3, 3, 3, 9], [5, 0, 1, 9], [np.nan] * 4])
def test_boxes_that_are_none(box):
    assert np.isnan(scoring.normalizing_distances("box", POINTS, ALL, FACE, np.array([box]))).all()


def test_normalizers_that_a_scheme_allows():
    eyes = ("interocular", "interpupil", "hull", "hull_diagonal")
    assert scoring.normalizers(schemes.IBUG68) == eyes
    assert scoring.normalizers(schemes.AFLW19, BOX) == (*eyes, "box", "box_diagonal")
    points = {k: schemes.get({"name": "any", "num_landmarks": k}) for k in (1, 2, 3)}
    assert scoring.normalizers(points[1]) == ()
    assert scoring.normalizers(points[2]) == ("hull_diagonal",)
    assert scoring.normalizers(points[3], BOX)[0] == "hull"
    assert scoring.normalizers(points[1], crop_side=80) == ("crop",)
    for name in ("box", "crop"):
        with pytest.raises(ValueError, match=rf"hull_diagonal'\).*without face boxes.*'{name}'"):
            scoring.normalizing_distances(name, POINTS, ALL, FACE)


def test_pupils_of_the_known_schemes():
    """The eyes' centers lie between the eyes' corners."""
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 100, (3, 68, 2))
    points[:, 36:42], points[:, 42:48] = points[:, 36:37], points[:, 45:46]
    visible = np.ones((3, 68), bool)
    pupils, corners = (
        scoring.normalizing_distances(name, points, visible, schemes.IBUG68)
        for name in ("interpupil", "interocular")
    )
    np.testing.assert_allclose(pupils, corners)


def test_face_errors_by_hand():
    found = POINTS + np.array([[3.0, 4.0]])
    assert scoring.face_errors(found, POINTS, ALL, np.array([50.0])) == pytest.approx([10])
    visible = ALL.copy()
    visible[0, 0] = False
    found[0, 0] += 1000
    assert scoring.face_errors(found, POINTS, visible, np.array([50.0])) == pytest.approx([10])


def test_no_prediction_is_infinite_and_no_truth_is_nan():
    found, truth = np.repeat(POINTS, 4, axis=0), np.repeat(POINTS, 4, axis=0)
    visible, size = np.repeat(ALL, 4, axis=0), np.full(4, 50.0)
    found[1, 2] = np.nan
    found[2, 2], visible[2, 2] = np.nan, False  # hidden: nobody asks for it
    visible[3] = False
    errors = scoring.face_errors(found, truth, visible, size)
    np.testing.assert_equal(errors, [0, np.inf, 0, np.nan])
    size[1] = np.nan
    assert np.isnan(scoring.face_errors(found, truth, visible, size)[1])


def test_groups():
    sizes = {name: len(points) for name, points in scoring.groups(schemes.IBUG68).items()}
    assert sizes == {
        "jaw": 17,
        "right_brow": 5,
        "left_brow": 5,
        "nose_bridge": 4,
        "nostril": 5,
        "right_eye": 6,
        "left_eye": 6,
        "outer_lip": 12,
        "inner_lip": 8,
    }
    assert list(scoring.groups(FACE)) == ["left", "right", "nose"]
    assert len(scoring.groups(schemes.AFLW19)) == 19
    unnamed = schemes.get({"name": "any", "names": ["0", "1"]})
    assert list(scoring.groups(unnamed)) == ["0", "1"]


def test_group_errors():
    found = POINTS.copy()
    found[0, :2] += (0, 5)
    found[0, 4] += (20, 0)
    visible = ALL.copy()
    visible[0, 2:4] = False
    errors = scoring.group_errors(found, POINTS, visible, np.array([50.0]), FACE)
    assert errors["left"] == pytest.approx([10]) and errors["nose"] == pytest.approx([40])
    assert np.isnan(errors["right"]).all()


def test_statistics_by_hand():
    found = scoring.statistics(np.array([2.0, 8.0, 9.0, np.inf, np.nan]))
    rates = [f"{name}_{t}" for name in ("failure_rate", "auc") for t in (5, 7, 8, 10)]
    assert list(found) == ["nme", *rates]
    np.testing.assert_equal(found["nme"], [2, 8, 9, np.nan, np.nan])
    np.testing.assert_equal(found["failure_rate_8"], [0, 0, 100, 100, np.nan])
    np.testing.assert_allclose(found["auc_10"], [0.8, 0.2, 0.1, 0, np.nan])


def test_area_is_that_under_the_curve(rng):
    errors = np.concatenate([rng.gamma(4, 1.5, 200), [np.inf] * 9, [np.nan] * 3])
    found, shares = scoring.ced(errors)
    grid = np.linspace(0, 8, 200_001)[1:]
    curve = np.concatenate([[0], shares])[np.searchsorted(found, grid, side="right")]
    auc = np.nanmean(scoring.statistics(errors)["auc_8"])
    assert auc == pytest.approx(curve.mean(), abs=1e-4)
    assert shares[-1] == pytest.approx(200 / 209) and len(found) == 200


def test_ced_of_nothing():
    for errors in ([], [np.nan], [np.inf]):
        found, shares = scoring.ced(np.array(errors))
        assert found.size == shares.size == 0


def test_small_distances():
    assert scoring.small_distances(np.array([40.0, 44, 9, 10.1, 60, np.nan, np.nan])) == 1
    assert scoring.small_distances(np.full(3, np.nan)) == 0
    assert scoring.told(0, 0, "side") == []
    left_out, caution = scoring.told(2, 1, "side of the box")
    assert left_out.startswith("2 of the labeled ones can't be scored")
    assert "for 1 of the labeled ones the side of the box is under a quarter" in caution


def test_counts():
    found = scoring.counts(np.array([1.0, 2.0, 6.0, np.inf, np.nan]))
    assert (found["faces"], found["missing"], found["nme_median"]) == (4, 1, 4.0)
    assert found["unscored"] == 1
    assert found["nme_std"] == pytest.approx(np.std([1, 2, 6]))
    assert scoring.counts(np.array([1.0, np.inf, np.inf]))["nme_median"] is None
    assert scoring.counts(np.array([np.nan]))["nme_std"] is None


class TestEstimates:
    def test_a_failure_rate_has_the_quantiles_of_a_binomial(self, monkeypatch):
        monkeypatch.setattr(scoring, "RESAMPLES", 20_000)
        failed = np.zeros(200)
        failed[:30] = 100
        _, low, high = scoring.estimates({"fr": failed})["fr"]
        log = math.lgamma(201)
        chances = [
            math.exp(
                log
                - math.lgamma(k + 1)
                - math.lgamma(201 - k)
                + k * math.log(0.15)
                + (200 - k) * math.log(0.85)
            )
            for k in range(201)
        ]
        below = np.cumsum(chances)
        expected = [np.searchsorted(below, tail) / 2 for tail in (0.025, 0.975)]
        assert [low, high] == pytest.approx(expected, abs=0.51)  # one face

    def test_a_mean_has_the_interval_of_a_normal(self, rng, monkeypatch):
        monkeypatch.setattr(scoring, "RESAMPLES", 20_000)
        errors = rng.gamma(9, 0.5, 1000)
        mean, low, high = scoring.estimates({"nme": errors})["nme"]
        assert mean == pytest.approx(errors.mean())
        half = 1.96 * errors.std() / math.sqrt(1000)
        assert mean - low == pytest.approx(half, rel=0.05)
        assert high - mean == pytest.approx(half, rel=0.05)

    def test_differences_are_paired(self, rng):
        """Two methods that differ by 0.1 on each face differ by 0.1, whichever faces there are."""
        errors = rng.gamma(9, 0.5, 50)
        found = scoring.estimates({"a": errors, "b": errors + 0.1, "b − a": errors + 0.1 - errors})
        assert found["b − a"] == pytest.approx((0.1, 0.1, 0.1))
        assert found["b"][1] < found["a"][2]  # alone, they can't be told apart

    def test_faces_that_do_not_count(self, rng, monkeypatch):
        monkeypatch.setattr(scoring, "RESAMPLES", 5000)
        errors = rng.gamma(9, 0.5, 300)
        padded = np.where(np.arange(600) < 300, np.resize(errors, 600), np.nan)
        alone, among = (scoring.estimates({"nme": each})["nme"] for each in (errors, padded))
        assert among[0] == pytest.approx(alone[0])
        assert among[1:] == pytest.approx(alone[1:], abs=0.03)

    def test_nothing_counts(self):
        found = scoring.estimates({"nme": np.full(3, np.nan)})
        assert np.isnan(found["nme"]).all()
        assert scoring.summary(found) == {"nme": None, "nme_interval": None}
        assert scoring.estimates({}) == {}

    def test_one_face_in_many(self):
        """A resample without it has no mean; the others agree."""
        one = np.where(np.arange(50) == 7, 3.0, np.nan)
        assert scoring.estimates({"nme": one})["nme"] == (3, 3, 3)

    def test_chunks(self, rng, monkeypatch):
        columns = {"nme": rng.gamma(9, 0.5, 40)}
        first = scoring.estimates(columns)
        monkeypatch.setattr(scoring, "_CHUNK", 100)
        assert scoring.estimates(columns)["nme"] == pytest.approx(first["nme"])

    def test_level(self, rng, monkeypatch):
        columns = {"nme": rng.gamma(9, 0.5, 100)}
        _, *wide = scoring.estimates(columns)["nme"]
        monkeypatch.setattr(scoring, "LEVEL", 0.5)
        _, *narrow = scoring.estimates(columns)["nme"]
        assert wide[0] < narrow[0] < narrow[1] < wide[1]
