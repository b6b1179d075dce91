import numpy as np
import pytest

from keras_lapkl import schemes
from keras_lapkl.evaluation import convention_checks, scoring

IBUG = schemes.IBUG68


@pytest.fixture
def faces():
    """Fifty faces of one shape, here and there in photos, in sizes from 40 to 160 px, and d."""
    rng = np.random.default_rng(0)
    angle = np.linspace(0, 2 * np.pi, 68, endpoint=False)
    shape = np.stack([np.cos(angle), 0.7 * np.sin(2 * angle) + 0.3 * np.sin(angle)], -1)
    # mirrored points lie on the other side
    right = np.array([k < IBUG.flip[k] for k in range(68)])
    shape[right, 0] = np.abs(shape[right, 0]) + 0.2
    for k in np.flatnonzero(right):
        shape[IBUG.flip[k]] = shape[k] * [-1, 1]
    size = rng.uniform(40, 160, 50)
    truth = shape * size[:, None, None] / 2 + rng.uniform(100, 400, (50, 1, 2))
    visible = rng.random((50, 68)) > 0.1
    truth = np.where(visible[..., None], truth, np.nan)
    return truth, visible, size


def noisy(truth, pixels=1.0):
    noise = np.random.default_rng(1).normal(0, pixels, truth.shape)
    return np.nan_to_num(truth, nan=250.0) + noise


def kind_of(found, faces, form="json", scheme=IBUG):
    said = convention_checks.suspected_convention(found, *faces, scheme, form)
    return said and said["kind"]


def test_good_predictions_raise_no_suspicion(faces):
    for pixels in (0.3, 1, 5, 30):
        assert kind_of(noisy(faces[0], pixels), faces) is None


@pytest.mark.parametrize("offset", [1.0, -1.0, 0.5, -0.5])
def test_offsets_of_conventions(faces, offset):
    found = noisy(faces[0]) + offset
    said = convention_checks.suspected_convention(found, *faces, IBUG, "json")
    assert said["kind"] == f"offset {offset:+g}"
    without = scoring.face_errors(found - offset, *faces).mean()
    assert said["nme"] == pytest.approx(without)


@pytest.mark.parametrize(
    ("offset", "form", "words"),
    [
        (1, "csv", "as 1-based coordinates do"),
        (1, "json", "as 1-based coordinates do"),
        (1, "pts", "added twice"),
        (-1, "pts", "0-based numbers in .pts files"),
        (-1, "csv", "0-based already"),
        (0.5, "pts", "pixel's corner"),
    ],
)
def test_what_an_offset_means_depends_on_the_form(faces, offset, form, words):
    said = convention_checks.suspected_convention(noisy(faces[0]) + offset, *faces, IBUG, form)
    assert words in said["text"]


@pytest.mark.parametrize(
    "offset", [(1, -1), (1, 0), (0, 0.5), (1.5, 1.5), (0.2, 0.2), (-0.75, -0.25)]
)
def test_other_offsets_are_no_convention(faces, offset):
    assert kind_of(noisy(faces[0], 2) + np.array(offset), faces) is None


def test_an_offset_must_be_clear(faces):
    """Five faces, each off by some pixels of its own, tell nothing of one pixel for all."""
    few = tuple(each[:5] for each in faces)
    own = np.random.default_rng(2).normal(0, 3, (5, 1, 2))
    own += 1 - np.median(own, axis=0)
    assert kind_of(noisy(few[0]) + own, few) is None
    assert kind_of(noisy(few[0]) + 1, few) == "offset +1"


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("swapped", lambda p: p[..., ::-1]),
        ("mirrored", lambda p: p[:, list(IBUG.flip)]),
        ("scaled", lambda p: 2 * p),
        ("scaled", lambda p: 0.8 * p),
        ("shifted", lambda p: p + (30, -12)),
    ],
)
def test_what_undoing_mends(faces, kind, change):
    found = noisy(faces[0])
    said = convention_checks.suspected_convention(change(found), *faces, IBUG, "csv")
    clean = scoring.face_errors(found, *faces).mean()
    assert said["kind"] == kind and said["nme"] == pytest.approx(clean, rel=0.05)


def test_numbers_are_told(faces):
    said = convention_checks.suspected_convention(2 * noisy(faces[0]), *faces, IBUG, "csv")
    assert "2 times as large" in said["text"] or "2.0" in said["text"]
    said = convention_checks.suspected_convention(noisy(faces[0]) + (30, -12), *faces, IBUG, "csv")
    assert "(+30." in said["text"] or "(+29." in said["text"]


def test_fractions_and_crops(faces):
    truth = faces[0]
    assert kind_of(noisy(truth) / 500, faces) == "fractions"
    rng = np.random.default_rng(3)
    factors, origins = rng.uniform(0.4, 2, (50, 1, 1)), rng.uniform(40, 90, (50, 1, 2))
    found = (noisy(truth) - origins) * factors
    said = convention_checks.suspected_convention(found, *faces, IBUG, "csv")
    assert said["kind"] == "crops" and said["nme"] is None


def test_labels_as_predictions(faces):
    assert kind_of(np.nan_to_num(faces[0]) + 1e-4, faces) == "labels"


def test_no_prediction_at_all(faces):
    assert kind_of(np.full_like(faces[0], np.nan), faces) is None
    offset, error = convention_checks.mean_offset(np.full_like(faces[0], np.nan), *faces[:2])
    assert np.isnan(offset).all() and np.isnan(error).all()


def test_some_without_prediction_and_some_wild(faces):
    found = noisy(faces[0]) + 1
    found[:10] = np.nan
    found[10:13] += 5000
    assert kind_of(found, faces) == "offset +1"


def test_schemes_of_few_points_without_sides():
    scheme = schemes.get({"name": "one", "num_landmarks": 1})
    truth = np.random.default_rng(0).uniform(0, 99, (40, 1, 2))
    faces = truth, np.ones((40, 1), bool), np.full(40, 50.0)
    assert kind_of(noisy(truth, 3), faces, scheme=scheme) is None
    assert kind_of(noisy(truth, 0.1) + 1, faces, scheme=scheme) == "offset +1"
    assert kind_of(noisy(truth)[..., ::-1], faces, scheme=scheme) == "swapped"


@pytest.mark.parametrize("count", [1, 2, 40])
def test_random_errors_of_one_point_are_no_convention(count):
    """A shift and a scale of its own fit each face without an error."""
    scheme = schemes.get({"name": "one", "num_landmarks": 1})
    rng = np.random.default_rng(0)
    for sigma in (0.6, 40.0):
        for _ in range(100):
            truth = rng.uniform(0, 99, (count, 1, 2))
            faces = truth, np.ones((count, 1), bool), np.full(count, 50.0)
            found = truth + rng.normal(0, sigma, truth.shape)
            told = kind_of(found, faces, scheme=scheme)
            assert told is None or (count < 40 and told == "swapped")


def test_one_face_has_an_offset_of_unknown_error(faces):
    truth, visible, size = (each[:1] for each in faces)
    offset, error = convention_checks.mean_offset(truth + 1, truth, visible)
    assert offset.tolist() == [1, 1] and np.isnan(error).all()
    assert kind_of(np.nan_to_num(truth) + 1, (truth, visible, size)) in (None, "shifted")


def test_mean_offset_and_its_error():
    rng = np.random.default_rng(0)
    errors = []
    for _ in range(400):
        truth = np.zeros((200, 4, 2))
        found = truth + rng.normal(0.3, 2, (200, 1, 2))
        offset, error = convention_checks.mean_offset(found, truth, np.ones((200, 4), bool))
        errors.append((offset - 0.3) / error)
    assert np.std(errors) == pytest.approx(1, abs=0.12) and abs(np.mean(errors)) < 0.1
