import numpy as np
import pytest

from keras_lapkl.apertures import apertures, ratios
from keras_lapkl.schemes import IBUG68
from keras_lapkl.training import openings

SIDE, MARGIN = 96, 8
OPENINGS = apertures(IBUG68)


def face():
    """An image with a bright upper lid and a dark lower one, and its landmarks."""
    points = np.full((68, 2), 90.0, np.float32)
    points[[36, 39]] = (10, 40), (40, 40)
    points[[37, 38, 41, 40]] = (20, 34), (30, 34), (20, 46), (30, 46)
    points[[42, 45]] = (52, 40), (82, 40)
    points[[43, 44, 47, 46]] = (62, 34), (72, 34), (62, 46), (72, 46)
    points[[60, 64]] = (30, 75), (60, 75)
    points[[61, 62, 63]] = (38, 70), (45, 70), (52, 70)
    points[[67, 66, 65]] = (38, 80), (45, 80), (52, 80)
    image = np.full((SIDE + 2 * MARGIN,) * 2 + (3,), 128, np.uint8)
    image[33 + MARGIN : 36 + MARGIN, 18 + MARGIN : 33 + MARGIN] = 255
    image[45 + MARGIN : 48 + MARGIN, 18 + MARGIN : 33 + MARGIN] = 0
    return image, points


@pytest.mark.parametrize("closing", [1.0, 0.5, -0.3])
def test_ratio_and_pixels_follow(closing):
    image, points = face()
    openings.close(image, points, OPENINGS["right_eye"], closing, margin=MARGIN)
    assert ratios(points, IBUG68)["right_eye"] == pytest.approx(0.4 * (1 - closing), abs=1e-6)
    column = image[:, 25 + MARGIN, 0].astype(float)
    rows = np.arange(len(column))
    upper = np.average(rows, weights=np.maximum(column - 200, 0)) - MARGIN
    assert upper == pytest.approx(points[37, 1], abs=1.0)


def test_what_is_around_stays():
    image, points = face()
    before, places = image.copy(), points.copy()
    openings.close(image, points, OPENINGS["right_eye"], 1.0, margin=MARGIN)
    far = np.ones(image.shape[:2], bool)
    far[MARGIN + 10 : MARGIN + 66, MARGIN + 5 : MARGIN + 46] = False
    np.testing.assert_array_equal(image[far], before[far])
    moved = {37, 38, 40, 41}
    still = [i for i in range(68) if i not in moved]
    np.testing.assert_allclose(points[still], places[still], atol=1e-4)
    np.testing.assert_allclose(points[36], (10, 40), atol=1e-4)


def test_nothing_changes_at_0_and_where_it_is_too_small():
    image, points = face()
    before = image.copy()
    openings.close(image, points, OPENINGS["right_eye"], 0.0, margin=MARGIN)
    np.testing.assert_allclose(image, before, atol=1)
    points[:] = 5
    openings.close(image, points, OPENINGS["right_eye"], 1.0, margin=MARGIN)
    outside = points - 500
    openings.close(image, outside, OPENINGS["right_eye"], 1.0, margin=MARGIN)
    np.testing.assert_allclose(image, before, atol=1)


def test_an_eye_at_the_edge_of_the_image():
    image, points = face()
    points -= (30, 45)
    openings.close(image, points, OPENINGS["right_eye"], 1.0)
    assert np.isfinite(points).all()


class TestBatch:
    def batch(self, count=12):
        image, points = face()
        points = np.concatenate([points, np.ones((68, 1), np.float32)], -1)
        return np.stack([image] * count), np.stack([points] * count)

    def vary(self, seed=(1, 2), share=0.5, batch=None):
        images, landmarks = batch or self.batch()
        return openings.vary_openings(images, landmarks, np.array(seed), OPENINGS, share, MARGIN)

    def test_as_many_as_asked_and_the_same_again(self):
        images, landmarks = self.vary()
        changed = (images != self.batch()[0]).any((1, 2, 3))
        assert 2 <= changed.sum() <= 10
        again = self.vary()
        np.testing.assert_array_equal(images, again[0])
        np.testing.assert_array_equal(landmarks, again[1])
        assert (self.vary(seed=(1, 3))[1] != landmarks).any()
        np.testing.assert_array_equal(self.vary(share=0.0)[0], self.batch()[0])

    def test_types_and_the_given_stay(self):
        batch = self.batch()
        images, landmarks = self.vary(batch=batch, share=1.0)
        assert images.dtype == np.uint8 and landmarks.dtype == np.float32
        np.testing.assert_array_equal(batch[0], self.batch()[0])
        np.testing.assert_array_equal(landmarks[..., 2], 1)
        for ratio in ratios(landmarks[..., :2], IBUG68).values():
            assert ratio.min() < 0.1 < ratio.max()

    def test_upper_lid_and_lower_lip_go_most_of_the_way(self):
        """Of the way by which they close, the lower lid makes 15 percent, the lower lip 70."""
        landmarks = self.vary(share=1.0)[1] - self.batch()[1]
        for upper, lower, part in ((37, 41, 0.15), (43, 47, 0.15), (62, 66, 0.7)):
            down, up = landmarks[:, upper, 1], -landmarks[:, lower, 1]
            np.testing.assert_allclose(up, part * (down + up), atol=1e-4)
            assert np.abs(down + up).max() > 1

    def test_four_faces_of_five_have_eyes_alike(self):
        found = ratios(self.vary(share=1.0, batch=self.batch(100))[1][..., :2], IBUG68)
        alike = np.isclose(found["right_eye"], found["left_eye"], atol=1e-5)
        assert 0.68 <= alike.mean() <= 0.92
        assert not np.isclose(found["right_eye"], found["mouth"], atol=1e-5).all()

    def test_hidden_openings_are_left(self):
        images, landmarks = self.batch()
        landmarks[:, 36:48, 2] = 0
        found = self.vary(batch=(images, landmarks), share=1.0)[1]
        np.testing.assert_array_equal(found[:, 36:48], landmarks[:, 36:48])

    def test_half_hidden_openings_are_left(self):
        """A lid of each eye, and one point of the mouth."""
        images, landmarks = self.batch()
        landmarks[:, [37, 43, 61]] = 0
        found = self.vary(batch=(images, landmarks), share=1.0)
        np.testing.assert_array_equal(found[0], images)
        np.testing.assert_array_equal(found[1], landmarks)


def test_mean_ratios_and_widened_labels():
    """A second face whose right eye is half as far open, twice as large, turned by 90 degrees."""
    first = face()[1]
    second = first.copy()
    second[[37, 38]] += (0, 3)
    second[[40, 41]] -= (0, 3)
    second = 2 * np.stack([-second[:, 1], second[:, 0]], -1)
    both = np.stack([first, second])
    means = openings.mean_ratios(both, OPENINGS)
    np.testing.assert_allclose(means["right_eye"], [0.3, 0.3], rtol=1e-6)
    np.testing.assert_allclose(means["left_eye"], [0.4, 0.4], rtol=1e-6)
    labels = np.concatenate([both, np.ones((2, 68, 1))], -1)
    widened = openings.widen(labels, OPENINGS, {"right_eye": 2.0}, means)[..., :2]
    np.testing.assert_allclose(ratios(widened, IBUG68)["right_eye"], [0.5, 0.1], rtol=1e-5)
    middle = (both[:, [37, 38]] + both[:, [41, 40]]) / 2
    found = (widened[:, [37, 38]] + widened[:, [41, 40]]) / 2
    np.testing.assert_allclose(found, middle, rtol=1e-5)
    others = [i for i in range(68) if i not in (37, 38, 40, 41)]
    np.testing.assert_array_equal(widened[:, others], both[:, others])
    hidden = both.copy()
    hidden[1, 37] = np.nan
    np.testing.assert_allclose(openings.mean_ratios(hidden, OPENINGS)["right_eye"], [0.4, 0.3])
    shut = openings.widen(labels, OPENINGS, {"right_eye": 3.0}, means)[..., :2]
    np.testing.assert_allclose(ratios(shut, IBUG68)["right_eye"], [0.6, 0.0], atol=1e-5)
    means = {"right_eye": 2 * means["right_eye"]}
    far = openings.widen(labels, OPENINGS, {"right_eye": 3.0}, means)[..., :2]
    far = ratios(far, IBUG68)
    assert far["right_eye"].max() < 1e-5


@pytest.mark.parametrize(
    ("hidden", "moved"),
    [(41, [38, 40]), (37, [38, 40]), (36, []), (45, [37, 38, 40, 41])],
    ids=["lower lid", "upper lid", "corner", "of the other eye"],
)
def test_what_is_hidden_moves_no_label(hidden, moved):
    """Labels have (0, 0) for a hidden point, which is no place."""
    labels = np.concatenate([face()[1], np.ones((68, 1))], -1)[None].astype(np.float32)
    labels[:, hidden] = 0
    means = {"right_eye": np.array([0.1, 0.1])}
    widened = openings.widen(labels, OPENINGS, {"right_eye": 2.0}, means)
    assert np.flatnonzero((widened != labels).any(-1)[0]).tolist() == moved
