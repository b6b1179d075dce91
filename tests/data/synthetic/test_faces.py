import dataclasses

import cv2
import numpy as np
import pytest

from keras_lapkl.data.synthetic import head
from keras_lapkl.data.synthetic.canvas import Canvas, curve
from keras_lapkl.data.synthetic.faces import paint_background, synthetic_faces
from keras_lapkl.data.synthetic.features import CIRCLE, paint_face, sample_look
from keras_lapkl.schemes import IBUG68

SIZE = 80
RED, GREEN, BLUE = np.eye(3) * 200.0


@pytest.fixture(scope="module")
def faces():
    return synthetic_faces(500, seed=1)


def sample(index, size=SIZE):
    rng = np.random.default_rng([1, index])
    return head.sample_head(rng, size), sample_look(rng)


def paint_flat(index, factor, **colors):
    """The features alone, on black: those in `colors` in that color, all others in blue."""
    head, look = sample(index)
    painted = ("skin", "lips", "mouth", "teeth", "brow", "sclera", "iris")
    look = dataclasses.replace(look, **dict.fromkeys(painted, BLUE) | colors)
    pixels = np.zeros((SIZE * factor, SIZE * factor, 3), np.uint8)
    paint_face(Canvas(pixels, factor), head, look)
    return pixels.astype(int), head.marks


def distance_to_edge(mask, points, factor):
    """Picture pixels from each point to the nearest border of the mask."""
    inside = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    outside = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    x, y = np.rint((points.T + 0.5) * factor - 0.5).astype(int)
    return (np.maximum(inside, outside)[y, x] - 0.5) / factor


def upright(landmarks):
    """Landmarks turned and scaled so that the outer eye corners are level, at x = 0 and 1."""
    planes = landmarks[..., 0] + 1j * landmarks[..., 1]
    planes = (planes - planes[:, 36:37]) / (planes[:, 45:46] - planes[:, 36:37])
    return planes.real, planes.imag


def test_shapes_and_types(faces):
    images, landmarks = faces
    assert images.shape == (500, SIZE, SIZE, 3)
    assert images.dtype == np.uint8
    assert landmarks.shape == (500, 68, 2)
    assert landmarks.dtype == np.float32
    assert np.isfinite(landmarks).all()


def test_zero_faces():
    images, landmarks = synthetic_faces(0, image_size=32)
    assert images.shape == (0, 32, 32, 3)
    assert landmarks.shape == (0, 68, 2)


def test_a_face_depends_on_seed_and_index_only(faces):
    images, landmarks = synthetic_faces(4, seed=1, start=17)
    np.testing.assert_array_equal(images, faces[0][17:21])
    np.testing.assert_array_equal(landmarks, faces[1][17:21])


def test_no_two_faces_are_alike(faces):
    assert len({image.tobytes() for image in faces[0]}) == 500
    assert len({points.tobytes() for points in faces[1]}) == 500


def test_seeds_differ(faces):
    images, landmarks = synthetic_faces(4, seed=2)
    assert (np.abs(landmarks - faces[1][:4]).max((1, 2)) > 1).all()
    assert (images != faces[0][:4]).any((1, 2, 3)).all()


@pytest.mark.parametrize("size", [16, 33, 160])
def test_image_size_scales_the_landmarks(faces, size):
    images, landmarks = synthetic_faces(3, seed=1, image_size=size)
    assert images.shape == (3, size, size, 3)
    expected = (faces[1][:3] + 0.5) * size / SIZE - 0.5
    np.testing.assert_allclose(landmarks, expected, atol=1e-3)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("count", -1),
        ("count", 2.5),
        ("count", "3"),
        ("seed", -1),
        ("image_size", 15),
        ("image_size", 80.0),
        ("start", -1),
        ("start", None),
    ],
)
def test_bad_arguments(name, value):
    with pytest.raises(ValueError, match=f"`{name}` must be an integer ≥ .*{value!r}"):
        synthetic_faces(**{"count": 1, name: value})


def test_framing(faces):
    landmarks = faces[1]
    assert ((landmarks >= 0) & (landmarks <= SIZE - 1)).all((1, 2)).mean() > 0.99
    # The package's crop: three times the longer side of the five points' box, centered on it.
    five = IBUG68.anchor_points(landmarks)
    low, high = five.min(1), five.max(1)
    side = SIZE / (3 * (high - low).max(-1))
    assert side.min() > 0.899
    assert 0.95 < np.median(side) < 1.1
    assert np.abs((low + high) / 2 - (SIZE - 1) / 2).max() < 0.041 * SIZE


def test_the_mean_shape_is_a_bad_answer(faces):
    landmarks = faces[1]
    error = np.linalg.norm(landmarks - landmarks.mean(0), axis=2).mean(1)
    between_eyes = np.linalg.norm(landmarks[:, 36] - landmarks[:, 45], axis=1)
    assert 100 * (error / between_eyes).mean() >= 10


def test_a_background_alone():
    found = paint_background(48, np.random.default_rng(1))
    assert found.shape == (48, 48, 3) and found.dtype == np.uint8
    np.testing.assert_array_equal(found, paint_background(48, np.random.default_rng(1)))
    assert (found != paint_background(48, np.random.default_rng(2))).any()


def test_landmarks_are_in_ibug_order(faces):
    x, y = upright(faces[1])
    for left, right in ((0, 16), (3, 13), (7, 9), (17, 21), (22, 26), (31, 35), (36, 39)):
        assert (x[:, left] < x[:, right]).all()
    for left, right in ((39, 42), (42, 45), (48, 54), (60, 64), (49, 53), (59, 55)):
        assert (x[:, left] < x[:, right]).all()
    brows, eyes = y[:, 17:27].mean(1), y[:, 36:48].mean(1)
    nose, mouth, chin = y[:, 33], y[:, 48:68].mean(1), y[:, 8]
    assert ((brows < eyes) & (eyes < nose) & (nose < mouth) & (mouth < chin)).all()
    assert (np.diff(y[:, 27:31], axis=1) > 0).all()


@pytest.mark.parametrize(("first", "last"), [(36, 41), (42, 47), (48, 59), (60, 67)])
def test_closed_outlines_run_clockwise(faces, first, last):
    x, y = np.moveaxis(faces[1][:, first : last + 1], -1, 0)
    area = (x * np.roll(y, -1, 1) - np.roll(x, -1, 1) * y).sum(1) / 2
    assert (area > 0).mean() > 0.99


def test_left_and_right_mirror_each_other(faces):
    flip = list(IBUG68.flip)
    np.testing.assert_array_equal(head.NEUTRAL[flip], head.NEUTRAL * (-1, 1, 1))
    mean = faces[1].mean(0)
    mirrored = mean[flip] * (-1, 1) + (SIZE - 1, 0)
    np.testing.assert_allclose(mirrored, mean, atol=1.5)


def test_jaw_follows_the_visible_outline():
    head, _ = sample(0)
    for yaw in np.radians((-40, -15, 0, 15, 40)):
        # Pitch does not move the outline along a row; roll would, so it is off.
        turned = dataclasses.replace(head, yaw=yaw, pitch=0.2, roll=0.0, distance=1e9)
        y = head.rows[:, :1]
        u = np.sin(np.linspace(-np.pi / 2, np.pi / 2, 2001))
        across = turned.project(turned.skin(y, u, visible=False))[..., 0]
        ends = turned.project(turned.skin(y, np.array((-1.0, 1.0))))[..., 0]
        np.testing.assert_allclose(ends[:, 0], across.min(1), atol=1e-3)
        np.testing.assert_allclose(ends[:, 1], across.max(1), atol=1e-3)


def test_a_curve_passes_through_its_points():
    points = np.random.default_rng(0).random((7, 2))
    for closed in (False, True):
        found = curve(points, closed)
        np.testing.assert_allclose(found[::4][:7], points, atol=1e-12)


@pytest.mark.parametrize("factor", [2, 4])
def test_canvas_keeps_positions_at_every_factor(factor):
    pixels = np.zeros((SIZE * factor, SIZE * factor, 3), np.uint8)
    disc = np.array((30.3, 51.7)) + 6 * CIRCLE
    Canvas(pixels, factor).fill(disc, RED)
    image = cv2.resize(pixels, (SIZE, SIZE), interpolation=cv2.INTER_AREA)[..., 0].astype(float)
    y, x = np.mgrid[:SIZE, :SIZE]
    center = (x * image).sum() / image.sum(), (y * image).sum() / image.sum()
    np.testing.assert_allclose(center, (30.3, 51.7), atol=0.06)


# Per feature: its landmarks, the colors to paint with (all else is blue), and where it is.
FEATURES = {
    "jaw": (range(17), {}, lambda r, g, b: b > 40),
    "eyes": (range(36, 48), {"sclera": RED, "iris": RED}, lambda r, g, b: r > b),
    "outer lip": (
        range(48, 60),
        {"lips": GREEN, "mouth": GREEN, "teeth": GREEN},
        lambda r, g, b: g > b,
    ),
    "inner lip": (
        range(61, 64),
        {"lips": GREEN, "mouth": RED, "teeth": RED},
        lambda r, g, b: r > g,
    ),
}


@pytest.mark.parametrize("feature", FEATURES)
def test_features_end_at_their_landmarks(feature):
    factor, (indices, colors, belongs) = 8, FEATURES[feature]
    right, wrong = [], []
    for index in range(40):
        pixels, marks = paint_flat(index, factor, **colors)
        mask, points = belongs(*np.moveaxis(pixels, -1, 0)), marks[list(indices)]
        right.append(distance_to_edge(mask, points, factor))
        wrong.append(distance_to_edge(mask, points * 0.99, factor))
    assert np.mean(right) < 0.25
    assert np.quantile(right, 0.98) < 0.5
    # The measure sees a drawing that is off by 1 %, which is half a pixel or less.
    assert np.mean(wrong) > np.mean(right) + 0.1


def test_brows_and_nose_base_cover_their_landmarks():
    factor, brow, nose = 4, [], []
    for index in range(60):
        pixels, marks = paint_flat(index, factor, brow=RED)
        x, y = np.rint((marks.T + 0.5) * factor - 0.5).astype(int)
        brow.append(pixels[y[17:27], x[17:27], 0] > 60)
        nose.append(pixels[y[31:36], x[31:36], 2] < 160)
    assert np.mean(brow) > 0.98
    assert np.mean(nose) > 0.98


def test_the_finished_picture_shows_the_features_where_they_were_painted():
    def edges(image):
        gray = cv2.GaussianBlur(image.astype(np.float32).mean(-1), (0, 0), 0.7)
        edges = np.hypot(cv2.Sobel(gray, -1, 1, 0), cv2.Sobel(gray, -1, 0, 1))
        return edges[8:-8, 8:-8] / edges.max()

    shifts = [(dx, dy) for dx in (-1, 0, 1) for dy in (-1, 0, 1)]
    scores = np.zeros(len(shifts))
    images, landmarks = synthetic_faces(60, seed=1)
    for index, image in enumerate(images):
        head, look = sample(index)
        np.testing.assert_allclose(landmarks[index], head.marks, atol=1e-4)
        canvas = Canvas(np.zeros((2 * SIZE, 2 * SIZE, 3), np.uint8), 2)
        paint_face(canvas, head, look)
        plain = cv2.resize(canvas.pixels, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
        finished = edges(image)
        scores += [(finished * edges(np.roll(plain, s, (1, 0)))).sum() for s in shifts]
    assert shifts[np.argmax(scores)] == (0, 0)
