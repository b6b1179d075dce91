import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_lapkl import load_model
from keras_lapkl.models import LandmarkLocalizer, MobileFPN
from keras_lapkl.models.refinement import ShapeRefinement, fit

K = 6


@pytest.fixture(scope="module")
def faces():
    """Shapes of two modes about a mean, seen with errors of each landmark's own: labels, seen."""
    random = np.random.default_rng(0)
    modes = random.normal(size=(2, K, 2))
    shapes = random.uniform(0, 40, (K, 2)) + np.einsum(
        "nm,mkd->nkd", random.normal(size=(2000, 2)) * 4, modes
    )
    labels = shapes + random.uniform(0, 20, (2000, 1, 2))
    return labels, labels + random.normal(size=labels.shape) * 2 + 1


def distance(landmarks, labels):
    return float(np.nanmean(np.linalg.norm(landmarks - labels, axis=-1)))


def thirds(count):
    return np.arange(count) % 3


def refined(refinement, landmarks):
    return keras.ops.convert_to_numpy(refinement(landmarks.astype(np.float32)))


def test_stays_in_float32_where_the_rest_is_half():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        refinement = ShapeRefinement(2)
    finally:
        keras.config.set_dtype_policy(before)
    landmarks = np.array([[[70.03, 111.02], [1.5, 100.01]]])
    np.testing.assert_allclose(refined(refinement, landmarks), landmarks, rtol=1e-6)


def test_by_hand():
    """Two landmarks whose distance is known to be 10: half of what it lacks goes to each."""
    refinement = ShapeRefinement(2)
    matrix = np.zeros((2, 2, 2, 2), np.float32)
    for axis in (0, 1):
        matrix[:, axis, :, axis] = [[-0.5, 0.5], [0.5, -0.5]]
    refinement.set_weights([matrix.reshape(4, 4), np.float32([-5, 0, 5, 0])])
    found = refined(refinement, np.array([[[1.0, 3.0], [9.0, 7.0]]]))
    np.testing.assert_allclose(found, [[[0, 5], [10, 5]]])


def test_of_nothing_it_changes_nothing(faces):
    np.testing.assert_array_equal(
        refined(ShapeRefinement(K), faces[1]), faces[1].astype(np.float32)
    )


def test_takes_away_what_the_shape_tells(faces):
    """Least squares by hand, on faces that were not fitted to."""
    labels, seen = faces
    found = fit(seen[:1500], labels[:1500], thirds(1500))
    after = distance(refined(found, seen[1500:]), labels[1500:])
    shape = (seen - seen.mean(1, keepdims=True)).reshape(-1, 2 * K)
    x = np.concatenate([shape, np.ones((2000, 1))], 1)
    y = (labels - seen).reshape(-1, 2 * K)
    solved = np.linalg.lstsq(x[:1500], y[:1500], rcond=None)[0]
    best = distance(seen[1500:] + (x[1500:] @ solved).reshape(-1, K, 2), labels[1500:])
    before = distance(seen[1500:], labels[1500:])
    assert after == pytest.approx(best, rel=0.01) and after < 0.8 * before


def test_moves_with_the_face(faces):
    labels, seen = faces
    found = fit(seen, labels, thirds(2000))
    np.testing.assert_allclose(
        refined(found, seen + [30.0, -20.0]), refined(found, seen) + [30, -20], atol=1e-3
    )


def test_hidden_landmarks_are_left_out(faces):
    """One is never labeled and stays, and one has wild numbers where it is hidden."""
    labels, seen = (each.copy() for each in faces)
    whole = fit(seen, labels, thirds(2000))
    labels[:, 2] = np.nan
    labels[::5, 4] = np.nan
    found = fit(seen, labels, thirds(2000))
    after = refined(found, seen)
    np.testing.assert_allclose(after[:, 2], seen[:, 2], atol=1e-4)
    kept = [0, 1, 3, 5]
    np.testing.assert_allclose(after[:, kept], refined(whole, seen)[:, kept], atol=1e-3)
    assert distance(after[:, 4], labels[:, 4]) < distance(seen[:, 4], labels[:, 4])


def test_few_faces_get_a_strong_ridge(faces):
    """Fitted to ten faces without, it would be wild: errors twice as large."""
    labels, seen = faces
    found = fit(seen[:10], labels[:10], np.arange(10))
    assert distance(refined(found, seen[10:]), labels[10:]) < 0.95 * distance(
        seen[10:], labels[10:]
    )


def test_the_ridge_is_chosen_on_faces_left_out():
    """As many faces as coordinates: the weakest ridge is the best on these alone."""
    random = np.random.default_rng(0)
    modes = random.normal(size=(2, 20, 2))
    labels = random.uniform(0, 40, (20, 2)) + np.einsum(
        "nm,mkd->nkd", random.normal(size=(1000, 2)) * 4, modes
    )
    seen = labels + random.normal(size=labels.shape) * 2
    found = fit(seen[:40], labels[:40], np.arange(40))
    assert distance(refined(found, seen[40:]), labels[40:]) < 0.7 * distance(seen[40:], labels[40:])


@pytest.mark.parametrize(
    ("predicted", "labels", "fold", "message"),
    [
        ((4, 3, 2), (4, 2, 2), 4, "one shape"),
        ((4, 6), (4, 6), 4, r"\(N, K, 2\)"),
        ((4, 3, 2), (4, 3, 2), 3, "Received: 3 numbers"),
        ((4, 3, 2), (4, 3, 2), 0, "Received: 0 numbers"),
    ],
)
def test_refused(predicted, labels, fold, message):
    with pytest.raises(ValueError, match=message):
        fit(np.zeros(predicted), np.zeros(labels), np.arange(fold))


def test_one_fold_is_refused():
    with pytest.raises(ValueError, match="1 different"):
        fit(np.zeros((4, 3, 2)), np.zeros((4, 3, 2)), np.zeros(4))


@pytest.mark.parametrize("count", [0, 1001])
def test_numbers_of_landmarks(count):
    with pytest.raises(ValueError, match=r"1 to 1,000. Received"):
        ShapeRefinement(count)


class TestOfALocalizer:
    @pytest.fixture
    def model(self):
        keras.utils.set_random_seed(0)
        return LandmarkLocalizer(MobileFPN(K, width=1 / 32, image_size=32))

    @pytest.fixture
    def refinement(self):
        found = ShapeRefinement(K)
        found.set_weights([np.zeros((2 * K, 2 * K)), np.arange(2 * K)])
        return found

    @pytest.fixture
    def images(self):
        return np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)

    def test_refines_what_it_predicts_and_nothing_else(self, model, refinement, images):
        before = model.predict(images, verbose=0)
        logits = np.asarray(model(images))
        model.refinement = refinement
        after = model.predict(images, verbose=0)
        moved = np.arange(2 * K).reshape(K, 2)
        np.testing.assert_allclose(after["landmarks"], before["landmarks"] + moved, atol=1e-5)
        np.testing.assert_array_equal(after["scale"], before["scale"])
        np.testing.assert_array_equal(np.asarray(model(images)), logits)
        model.refinement = None
        again = model.predict(images, verbose=0)
        np.testing.assert_array_equal(again["landmarks"], before["landmarks"])

    def test_goes_with_the_file(self, model, refinement, images, tmp_path):
        model.refinement = refinement
        model.save(tmp_path / "a.keras")
        loaded = load_model(tmp_path / "a.keras")
        for name, found in loaded.predict(images, verbose=0).items():
            np.testing.assert_array_equal(found, model.predict(images, verbose=0)[name])
        assert loaded.localizer().refinement is loaded.refinement

    def test_is_not_trained(self, model, refinement):
        trained = model.trainable_variables
        model.refinement = refinement
        assert len(model.trainable_variables) == len(trained) and len(refinement.weights) == 2

    def test_of_other_landmarks(self, model):
        with pytest.raises(ValueError, match=r"is of 5 landmarks\. Received a generator of 6"):
            model.refinement = ShapeRefinement(5)


@pytest.mark.slow
def test_in_predict_on_jax_as_here(tmp_path):
    pytest.importorskip("jax", reason="needs the extra: pip install 'keras_lapkl[jax]'")
    images = np.random.default_rng(0).integers(0, 256, (3, 80, 80, 3), np.uint8)
    np.save(tmp_path / "images.npy", images)
    code = (
        "import numpy as np; from keras_lapkl import load_model\n"
        "model = load_model('fpn-sixteenth-300w', ('.keras',))\n"
        "for _ in range(2):\n"
        "    found = model.predict(np.load('images.npy'), verbose=0)['landmarks']\n"
        "np.save('found.npy', found)\n"
    )
    env = {**os.environ, "KERAS_BACKEND": "jax"}
    subprocess.run([sys.executable, "-c", code], check=True, env=env, cwd=tmp_path)
    model = load_model("fpn-sixteenth-300w", (".keras",))
    assert model.refinement is not None
    expected = model.predict(images, verbose=0)["landmarks"]
    np.testing.assert_allclose(np.load(tmp_path / "found.npy"), expected, atol=0.02)
