import numpy as np
import pytest

from keras_lapkl import schemes
from keras_lapkl.detection import drawing
from keras_lapkl.detection.face import Face

YELLOW, PURPLE, BLUE = (240, 249, 33), (110, 0, 168), (60, 200, 255)


def face(error=None, radius=None, points=((40.0, 50.0), (110.0, 50.0))):
    points = np.array(points)
    error, radius = (None if v is None else np.array(v, float) for v in (error, radius))
    scale = np.ones_like(points)
    return Face(points, scale, np.array([75.0, 75.0, 130.0]), error, radius)


def drawn(*faces, **kwargs):
    return drawing.draw_faces(np.full((150, 150, 3), 128, np.uint8), faces, **kwargs)


def test_surest_landmark_is_yellow_and_least_sure_purple():
    picture = drawn(face(error=[0.1, 60]))
    np.testing.assert_allclose(picture[50, 40], YELLOW, atol=20)
    np.testing.assert_allclose(picture[50, 110], PURPLE, atol=30)


def test_color_follows_the_error_relative_to_the_crop():
    """From yellow to purple red goes down and, like lightness, never up again."""
    errors = np.linspace(0.005, 0.06, 8) * 130
    points = [(10 + 17.0 * i, 50) for i in range(8)]
    picture = drawn(face(error=errors, points=points)).astype(int)
    lightness = [picture[50, int(x)] @ (0.2126, 0.7152, 0.0722) for x, _ in points]
    assert lightness == sorted(lightness, reverse=True) and lightness[0] > lightness[-1] + 100


def test_landmark_of_a_model_that_is_not_calibrated_is_blue():
    np.testing.assert_array_equal(drawn(face())[50, 40], BLUE)


def test_radii_are_drawn_only_if_asked_for():
    given = face(error=[1, 1], radius=[20, 20])
    plain, circled = drawn(given), drawn(given, radii=True)
    assert (plain[50, 60] == 128).all() and (circled[50, 60] != 128).any()
    assert (drawn(face(), radii=True) != drawn(face())).any()  # of the scale, 1 px


def test_a_radius_that_is_not_known_is_not_drawn():
    """Of a point without labels to fit it to."""
    given = face(error=[1, 1], radius=[np.inf, np.nan])
    np.testing.assert_array_equal(drawn(given, radii=True), drawn(given))


def test_edges_lie_below_the_landmarks():
    picture = drawn(face(), edges=[(0, 1)])
    assert (picture[50, 75] > 230).all() and (picture[50, 40] == BLUE).all()


def test_names_that_are_no_text():
    """OpenCV ends the process by a lone surrogate, which JSON may have."""
    assert (drawn(face(), names=("\ud800", "b")) != drawn(face())).any()


def test_names_stand_beside_the_landmarks():
    differ = (drawn(face(), names=("tip", "heel")) != drawn(face())).any(-1)
    rows, columns = np.nonzero(differ)
    assert differ.any() and rows.max() <= 50 and columns.min() > 40


def test_landmarks_far_outside_the_photo_are_no_error():
    points = ((-1e12, 3.0), (1e12, 1e12))
    drawn(face(points=points), edges=[(0, 1)], radii=True, names=("a", "b"))


@pytest.mark.parametrize(
    ("scheme", "named"),
    [
        (schemes.Scheme("hand", ("thumb", "wrist")), True),
        (schemes.AFLW19, False),
        (schemes.Scheme("many", tuple(f"point_{i}" for i in range(40))), False),
    ],
)
def test_names_of_few_points_that_are_no_face(scheme, named):
    assert drawing.names_to_draw(scheme) == (scheme.names if named else ())
