import builtins

import cv2
import numpy as np
import pytest

from keras_lapkl import plots


@pytest.fixture
def faces(rng):
    images = np.full((3, 32, 32, 3), 40, np.uint8)
    return images, rng.uniform(8, 24, (3, 5, 2)), rng.uniform(0.5, 3, (3, 5, 2))


def test_predictions_draw_ellipses_of_the_scale(faces, tmp_path):
    images, landmarks, scale = faces
    green = []
    for factor in (1, 2):
        path = tmp_path / f"{factor}.png"
        plots.predictions(images, landmarks, scale * factor, path, edges=[(0, 1)])
        picture = cv2.imread(str(path)).astype(int)
        assert picture.shape[1] > picture.shape[0] > 100
        green.append((picture[..., 1] > picture[..., 2] + 30).sum())
    assert 0 < 1.5 * green[0] < green[1]


def test_heatmaps_side_by_side(faces, tmp_path, rng):
    maps = rng.random((3, 32, 32, 5))
    plots.heatmaps(faces[0], {"LaplaceKL": maps, "softargmax": maps}, tmp_path / "maps.png")
    height, width, _ = cv2.imread(str(tmp_path / "maps.png")).shape
    assert width == pytest.approx(height, rel=0.05)


def test_missing_matplotlib_names_the_extra(faces, tmp_path, monkeypatch):
    real = builtins.__import__

    def without_matplotlib(name, *args, **kwargs):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_matplotlib)
    with pytest.raises(ImportError, match=r"keras_lapkl\[plots\]"):
        plots.predictions(*faces, tmp_path / "a.png")
