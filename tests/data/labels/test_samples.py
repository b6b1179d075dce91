import cv2
import numpy as np

from keras_lapkl.data import contact_sheets
from keras_lapkl.data.labels import samples

NONE = np.full((1, 4), np.nan)


def test_points_are_where_they_should_be(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.full((64, 96, 3), 128, np.uint8))
    points = np.array([[[10.0, 20.0], [30.0, 40.0], [np.nan, np.nan]]])
    path = tmp_path / "x.jpg"
    seen = np.array([[2, 2, 0]])
    samples.write(path, [tmp_path / "a.png"], points, seen, NONE, ("a", "b", "c"))
    sheet = cv2.imread(str(path))
    # 48 pixels of the picture fill the cell, from its left edge and from row 6.
    scale = contact_sheets.CELL / 48
    colored = np.ptp(sheet.astype(int), axis=-1) > 100
    for x, y in (points[0, :2] + 0.5 - (0, 6)) * scale:
        around = np.argwhere(colored[round(y) - 9 : round(y) + 9, round(x) - 9 : round(x) + 9])
        np.testing.assert_allclose(around.mean(0), 8.5, atol=1)
    assert colored.sum() < 200


def test_names_that_are_no_text(tmp_path):
    """OpenCV ends the process by a lone surrogate."""
    cv2.imwrite(str(tmp_path / "a.png"), np.full((64, 96, 3), 128, np.uint8))
    points = np.array([[[10.0, 20.0], [30.0, 40.0]]])
    names = ("\ud800", "é\0\n😀")
    samples.write(tmp_path / "x.jpg", [tmp_path / "a.png"], points, np.full((1, 2), 2), NONE, names)


def test_many_points_and_objects(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.full((64, 96, 3), 128, np.uint8))
    points = np.random.default_rng(0).uniform(0, 60, (7, 98, 2))
    path = tmp_path / "x.jpg"
    boxes = np.concatenate([np.repeat(NONE, 6, 0), [[1, 2, 30, 40]]])
    names = tuple(map(str, range(98)))
    seen = np.full((7, 98), 1)
    samples.write(path, [tmp_path / "a.png"] * 7, points, seen, boxes, names)
    assert cv2.imread(str(path)).shape == (848, 2132, 3)
