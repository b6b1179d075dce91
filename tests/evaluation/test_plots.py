import io
import sys

import cv2
import numpy as np
import pytest

from keras_lapkl.evaluation import plots


@pytest.fixture
def faces(rng):
    images = np.full((3, 32, 32, 3), 40, np.uint8)
    return images, rng.uniform(8, 24, (3, 5, 2)), rng.uniform(0.5, 3, (3, 5, 2))


def picture_of(faces, tmp_path, **kwargs):
    """The sheet of `plots.predictions`, RGB."""
    images, landmarks, _ = faces
    plots.predictions(images, landmarks, tmp_path / "sheet.png", **kwargs)
    return cv2.imread(str(tmp_path / "sheet.png"), cv2.IMREAD_COLOR_RGB).astype(int)


def orange(picture):
    return (picture[..., 0] > picture[..., 2] + 60).sum()


def blue(picture):
    return (picture[..., 2] > picture[..., 0] + 60).sum()


def test_predictions_draw_ellipses_of_the_scale(faces, tmp_path):
    none, small, large = (
        picture_of(faces, tmp_path, scale=scale, edges=[(0, 1)])
        for scale in (None, faces[2], 2 * faces[2])
    )
    assert small.shape[1] > small.shape[0] > 100
    assert 0 < orange(none) < orange(small) < orange(large) and blue(large) == 0


def test_truth_stands_beside_the_prediction(faces, tmp_path):
    """In another color, joined to it, and without what is not known."""
    truth = faces[1] + 4
    without, shown = (picture_of(faces, tmp_path, labels=each) for each in (None, truth))
    assert blue(without) == 0 < blue(shown)
    assert (shown.min(-1) > 200)[100:-100].sum() > (without.min(-1) > 200)[100:-100].sum() + 50
    truth[:] = np.nan
    hidden = picture_of(faces, tmp_path, labels=truth, edges=[(0, 1)])
    assert blue(hidden[:-100]) == 0 < orange(hidden)


def test_heatmaps_side_by_side(faces, tmp_path, rng):
    maps = rng.random((3, 32, 32, 5))
    plots.heatmaps(faces[0], {"LaplaceKL": maps, "softargmax": maps}, tmp_path / "maps.png")
    picture = cv2.imread(str(tmp_path / "maps.png"))
    height, width, _ = picture.shape
    assert width == pytest.approx(height, rel=0.05)
    plots.heatmaps(faces[0], {"a": maps, "b": maps[::-1]}, tmp_path / "others.png")
    others = cv2.imread(str(tmp_path / "others.png"))
    first, second = (
        [np.array_split(each, 3, axis=1)[i] for each in (picture, others)] for i in (1, 2)
    )
    below = slice(height // 8, None)  # the titles
    assert np.array_equal(*(each[below] for each in first))
    assert not np.array_equal(*(each[below] for each in second))


def test_flat_heatmaps_are_left_out(faces, tmp_path):
    """Those of hidden landmarks: relative to their peak they would cover all others."""
    dark, point = np.full((2, 3, 32, 32, 5), 1 / 32**2)
    point[:, 16, 16, 0] = 0.5
    plots.heatmaps(faces[0], {"flat": dark, "point": point}, tmp_path / "maps.png")
    picture = cv2.imread(str(tmp_path / "maps.png"))
    for column in np.array_split(picture, 3, axis=1)[1:]:
        assert (column.max(-1) < 80).mean() > 0.5  # the rest is margin


def test_ced_rises_with_the_errors(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(plots, "_save", lambda sheet, path: drawn.append(sheet.axes[0]))
    errors = {"a": np.array([2.0, 4, np.inf, np.nan, 40]), "none": np.array([np.inf])}
    plots.ced(errors, tmp_path / "ced.png", "distance")
    (axes,) = drawn
    first, none = axes.get_lines()
    np.testing.assert_allclose(first.get_xydata(), [[0, 0], [2, 25], [4, 50], [40, 75], [70, 75]])
    assert none.get_ydata().max() == 0 and axes.get_xlim() == (0, 35)
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["a", "none"]


@pytest.mark.parametrize(
    "title",
    ["$x^$", "\udcff", "a" * 300, "a\nb", "😀"],
    ids=["mathematics", "bytes", "long", "lines", "emoji"],
)
def test_any_title(faces, tmp_path, title):
    plots.ced({title: np.ones(3)}, tmp_path / "ced.png", "size")
    plots.heatmaps(faces[0], {title: np.ones((3, 32, 32, 5))}, tmp_path / "maps.png")
    assert cv2.imread(str(tmp_path / "ced.png")) is not None


@pytest.mark.parametrize(
    ("errors", "limit"),
    [([55.0, 60, 300], 300), ([0.3, 0.31, 0.32, 0.5], 0.45), ([np.inf, np.nan], 10), ([], 10)],
)
def test_axis_of_the_ced_is_chosen_from_the_errors(errors, limit, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(plots, "_save", lambda sheet, path: drawn.append(sheet.axes[0]))
    plots.ced({"a": np.array(errors)}, tmp_path / "ced.png", "distance")
    assert drawn[0].get_xlim() == pytest.approx((0, limit))


@pytest.mark.parametrize(
    ("given", "columns"),
    [
        ((), 2),
        (("labels", "true_maps"), 3),
        (("patches",), 3),
        (("labels", "true_maps", "patches", "true_patches"), 5),
    ],
)
def test_adversarial_has_a_column_for_what_is_given(faces, tmp_path, rng, given, columns):
    images, landmarks, _ = faces
    maps, patches = rng.random((3, 32, 32, 5)), rng.random((3, 2, 2))
    arrays = {"labels": landmarks + 1, "true_maps": maps, "patches": patches}
    arrays["true_patches"] = patches
    chosen = {name: arrays[name] for name in given}
    path = tmp_path / "seen.png"
    plots.adversarial(images / 255, landmarks, maps, path, dpi=60, **chosen)
    height, width, _ = cv2.imread(str(path)).shape
    assert width / height == pytest.approx(columns / 3, rel=0.05)


def drawn(images, landmarks, dpi=100, **arrays):
    """The picture of `plots.adversarial`, RGB."""
    maps = np.zeros((*images.shape[:3], 5))
    file = io.BytesIO()
    plots.adversarial(images, landmarks, maps, file, dpi=dpi, **arrays)
    return cv2.imdecode(np.frombuffer(file.getvalue(), np.uint8), cv2.IMREAD_COLOR_RGB).astype(int)


@pytest.mark.parametrize("patches", [(2, 2), (16, 16)])
def test_patches_are_blue_where_true_and_red_where_generated(faces, patches):
    chances = np.zeros((1, *patches))
    chances[:, : patches[0] // 2] = 1
    picture = drawn(faces[0][:1], faces[1][:1], patches=chances)
    answers = np.array_split(picture, 3, axis=1)[2]
    upper, lower = (half.mean((0, 1)) for half in np.array_split(answers, 2))
    assert upper[2] > upper[0] + 20 and lower[0] > lower[2] + 20


def test_hidden_labels_are_not_drawn(faces):
    images, landmarks = faces[0][:1], faces[1][:1]
    labels = np.concatenate([np.full((1, 5, 2), 4.0), np.ones((1, 5, 1))], -1)
    hidden = labels.copy()
    hidden[:, :2, 2] = 0
    hidden[:, 2:, 0] = np.nan
    shown, without, none = (
        drawn(images, landmarks, labels=given) for given in (labels, hidden, None)
    )
    assert (shown != none).any()
    np.testing.assert_array_equal(without, none)


def test_missing_matplotlib_names_the_extra(faces, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ModuleNotFoundError, match=r"keras_lapkl\[plots\]"):
        plots.predictions(*faces[:2], tmp_path / "a.png")
