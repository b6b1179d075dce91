import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from keras_lapkl.models.mean_teacher import move_landmarks
from keras_lapkl.training.augmentation import (
    Augmentation,
    add_noise,
    augment,
    augment_with_motion,
    blur,
    compress,
    expose,
    move,
    occlude,
    recolor,
    relight,
)

SIZE, MARGIN = 48, 10
FLIP = (1, 0, 2)
OFF = Augmentation(mirror=0).scaled(0)


@pytest.fixture
def batch():
    """Images with a bright dot at each landmark: red, green, blue for landmarks 0, 1, 2."""
    rng = np.random.default_rng(3)
    landmarks = rng.uniform(14, 34, (6, 3, 2))
    y, x = np.mgrid[: SIZE + 2 * MARGIN, : SIZE + 2 * MARGIN] - MARGIN
    images = np.stack(
        [
            np.exp(-((x - p[k, 0]) ** 2 + (y - p[k, 1]) ** 2) / 8)
            for p in landmarks
            for k in range(3)
        ]
    )
    images = images.reshape(6, 3, *x.shape).transpose(0, 2, 3, 1).astype(np.float32)
    return images, np.concatenate([landmarks, np.ones((6, 3, 1))], -1).astype(np.float32)


def run(batch, augmentation, seed=(1, 2), flip=FLIP):
    images, landmarks = augment(*batch, seed, augmentation, flip, SIZE)
    return images.numpy(), landmarks.numpy()


def centroids(images):
    """(B, 3, 2): the centroid of each channel."""
    y, x = np.mgrid[: images.shape[1], : images.shape[2]]
    mass = images.sum((1, 2))
    return np.stack(
        [(images * x[..., None]).sum((1, 2)) / mass, (images * y[..., None]).sum((1, 2)) / mass], -1
    )


def test_off_is_the_central_crop(batch):
    images, landmarks = run(batch, OFF)
    np.testing.assert_allclose(images, batch[0][:, MARGIN:-MARGIN, MARGIN:-MARGIN], atol=1e-5)
    np.testing.assert_allclose(landmarks, batch[1], atol=1e-4)


@pytest.mark.parametrize(
    "change", [{"rotation": 40.0}, {"scale": 0.3}, {"shift": 0.1}, {"rotation": 30.0, "scale": 0.2}]
)
def test_pixels_and_landmarks_move_together(batch, change):
    images, landmarks = run(batch, dataclasses.replace(OFF, **change))
    assert not np.allclose(landmarks, batch[1], atol=0.5)
    np.testing.assert_allclose(centroids(images), landmarks[..., :2], atol=0.15)


@pytest.mark.parametrize("flip", [FLIP, None])
def test_motion_takes_landmarks_where_they_are_moved(batch, flip):
    strong = Augmentation(rotation=60.0, scale=0.3, shift=0.1)
    images, landmarks = run(batch, strong, flip=flip)
    others, motion = augment_with_motion(batch[0], (1, 2), strong, flip, SIZE)
    np.testing.assert_array_equal(images, others)
    moved = np.asarray(move_landmarks(batch[1][..., :2], motion, flip))
    np.testing.assert_allclose(moved, landmarks[..., :2], atol=1e-4)
    mirrored = np.linalg.det(motion[..., :2]) < 0
    assert mirrored.any() == (flip is not None) and not mirrored.all()


@pytest.mark.parametrize(
    ("change", "low", "high"),
    [({"rotation": 40.0}, -40, 40), ({"scale": 0.25}, 0.8, 1.25), ({"shift": 0.25}, -2, 2)],
)
def test_moves_are_drawn_from_their_whole_range(change, low, high):
    images, changed = np.zeros((2000, 8, 8, 3), np.float32), dataclasses.replace(OFF, **change)
    motion = augment_with_motion(images, (1, 2), changed, None, 8)[1].numpy()
    found = {
        "rotation": np.degrees(np.arctan2(motion[:, 1, 0], motion[:, 0, 0])),
        "scale": np.sqrt(np.linalg.det(motion[..., :2])),
        "shift": motion[..., 2],
    }[next(iter(change))]
    edge = 0.02 * (high - low)
    assert low - 1e-4 <= found.min() < low + edge and high - edge < found.max() <= high + 1e-4


def test_mirror_swaps_the_indices(batch):
    images, landmarks = run(batch, dataclasses.replace(OFF, mirror=1.0))
    expected = batch[1][:, FLIP].copy()
    expected[..., 0] = SIZE - 1 - expected[..., 0]
    np.testing.assert_allclose(landmarks, expected, atol=1e-4)
    np.testing.assert_allclose(centroids(images)[:, FLIP], landmarks[..., :2], atol=0.1)


def test_mirror_carries_the_visibility(batch):
    batch[1][:, 0, 2] = 0
    _, landmarks = run(batch, dataclasses.replace(OFF, mirror=1.0))
    assert (landmarks[:, :, 2] == [1, 0, 1]).all()


def test_no_mirror_map_no_mirror(batch):
    mirrored = dataclasses.replace(OFF, mirror=1.0)
    images, landmarks = (np.asarray(each) for each in augment(*batch, (1, 2), mirrored, None, SIZE))
    expected = run(batch, OFF)
    np.testing.assert_array_equal(images, expected[0])
    np.testing.assert_array_equal(landmarks, expected[1])


def test_mirror_with_rotation_keeps_them_together(batch):
    images, landmarks = run(batch, dataclasses.replace(OFF, mirror=1.0, rotation=30.0, scale=0.1))
    np.testing.assert_allclose(centroids(images)[:, FLIP], landmarks[..., :2], atol=0.15)


def test_landmark_that_leaves_is_hidden(batch):
    batch[1][:, 0, :2] = (SIZE + 5, 10)
    _, landmarks = run(batch, OFF)
    assert (landmarks[:, 0, 2] == 0).all() and (landmarks[:, 1:, 2] == 1).all()


@pytest.mark.parametrize(
    ("place", "visible"),
    [
        ((-0.6, 10), 0),
        ((-0.4, 10), 1),
        ((47.4, 10), 1),
        ((47.6, 10), 0),
        ((10, -0.6), 0),
        ((10, -0.4), 1),
        ((10, 47.4), 1),
        ((10, 47.6), 0),
    ],
)
def test_landmark_leaves_at_the_edge_of_the_last_pixel(batch, place, visible):
    batch[1][:, 0, :2] = place
    assert (run(batch, OFF)[1][:, 0, 2] == visible).all()


def test_border_is_repeated():
    images, landmarks = np.ones((50, SIZE, SIZE, 3), np.float32), np.zeros((50, 3, 3), np.float32)
    moved, _ = run((images, landmarks), dataclasses.replace(OFF, rotation=40.0, shift=0.2))
    np.testing.assert_allclose(moved, 1, atol=1e-5)


def test_seed_decides_all(batch):
    first, again, other = (run(batch, Augmentation(), seed) for seed in ((1, 5), (1, 5), (1, 6)))
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert not np.allclose(first[1], other[1])


def test_uint8_equals_float(batch):
    images = np.round(batch[0] * 255).astype(np.uint8)
    a, _ = run((images, batch[1]), Augmentation())
    b, _ = run((images.astype(np.float32) / 255, batch[1]), Augmentation())
    assert a.dtype == np.float32
    np.testing.assert_allclose(a, b, atol=1e-5)


def test_stays_in_range_and_changes_color(batch):
    images, _ = run(batch, Augmentation(color=1.0))
    assert images.min() >= 0 and images.max() <= 1
    kept, _ = run(batch, OFF)
    changed = recolor(tf.constant(kept), (1, 2), 0.5, 0.0).numpy()
    assert (abs(changed - kept).max((1, 2, 3)) > 0.05).all()


def test_brightness_and_gains_change_by_half_of_the_color():
    """From 0.5 by 0.1 and then by a tenth, at most: 0.36 to 0.66."""
    gray = recolor(tf.fill([500, 2, 2, 3], 0.5), (1, 2), 0.2, 0.0).numpy()
    assert 0.36 - 1e-5 <= gray.min() < 0.4 and 0.62 < gray.max() <= 0.66 + 1e-5


def test_gray(batch):
    kept, _ = run(batch, OFF)
    gray = recolor(tf.constant(kept), (1, 2), 0.0, 1.0).numpy()
    np.testing.assert_allclose(gray[..., 0], gray[..., 1])
    np.testing.assert_allclose(gray[..., 0], kept @ np.float32([0.299, 0.587, 0.114]), atol=1e-5)


def test_blur_keeps_the_mean_and_lowers_the_contrast(rng):
    images = tf.constant(rng.random((4, 32, 32, 3), np.float32))
    blurred = blur(images, (3, 4), 1.0).numpy()
    np.testing.assert_allclose(blurred.mean((1, 2)), images.numpy().mean((1, 2)), atol=0.02)
    assert (blurred.std((1, 2, 3)) < images.numpy().std((1, 2, 3))).all()
    np.testing.assert_array_equal(blur(images, (3, 4), 0.0), images)


def test_occlusion_is_one_flat_rectangle():
    images = tf.fill([64, 50, 50, 3], 2.0)
    covered = occlude(images, (5, 6), 1.0).numpy()
    mask = (covered != 2).any(-1)
    rows, columns = mask.any(2).sum(1), mask.any(1).sum(1)
    assert (mask.sum((1, 2)) == rows * columns).all()
    assert rows.max() <= 20 and rows.min() >= 2
    for image, hidden in zip(covered, mask, strict=True):
        assert (image[hidden] == image[hidden][0]).all()
    np.testing.assert_array_equal(occlude(images, (5, 6), 0.0), images)


class TestCamera:
    """What cameras do; of each with 0 the image as it is."""

    @pytest.fixture
    def images(self, rng):
        smooth = tf.image.resize(rng.random((16, 5, 5, 3), np.float32), (40, 40))
        return tf.constant(0.2 + 0.6 * smooth)

    @pytest.mark.parametrize("change", [relight, expose, move, add_noise, compress])
    def test_share_range_and_seed(self, images, change):
        np.testing.assert_allclose(change(images, (3, 4), 0.0), images, atol=1e-6)
        changed = change(images, (3, 4), 1.0).numpy()
        assert changed.shape == images.shape and 0 <= changed.min() <= changed.max() <= 1
        assert (abs(changed - images.numpy()).max((1, 2, 3)) > 1e-4).mean() > 0.8
        np.testing.assert_array_equal(changed, change(images, (3, 4), 1.0))
        assert (changed != change(images, (3, 5), 1.0).numpy()).any((1, 2, 3)).mean() > 0.8

    @pytest.mark.parametrize("change", [expose, move, add_noise, compress])
    def test_probability(self, images, change):
        changed = change(images, (3, 4), 0.5).numpy() != images.numpy()
        assert 2 <= changed.any((1, 2, 3)).sum() <= 14

    def test_light_is_a_plane_through_1(self):
        gain = relight(tf.fill([8, 31, 31, 3], 0.5), (1, 2), 0.4).numpy()[..., 0] / 0.5
        np.testing.assert_allclose(gain[:, 15, 15], 1, atol=1e-5)
        np.testing.assert_allclose(np.diff(gain, 2, axis=1), 0, atol=1e-5)
        slope = gain[:, 15, -1] - 1, gain[:, -1, 15] - 1
        assert np.hypot(*slope).max() <= 0.4 + 1e-5

    def test_exponents(self):
        found = np.log(expose(tf.fill([500, 1, 1, 3], 0.5), (1, 2), 1.0)) / np.log(0.5)
        assert 1 / 3 - 1e-4 < found.min() < 0.4 and 3.6 < found.max() < 4.001

    def test_motion_spreads_a_dot_along_a_line(self):
        dot = np.zeros((20, 40, 40, 3), np.float32)
        dot[:, 20, 20] = 1
        spread = move(tf.constant(dot), (1, 2), 1.0).numpy()[..., 0]
        np.testing.assert_allclose(spread.sum((1, 2)), 1, atol=1e-5)
        rows, columns = np.nonzero(spread.max(0))
        assert max(abs(rows - 20).max(), abs(columns - 20).max()) in (2, 3)  # 2 px, and bilinear
        np.testing.assert_allclose((spread * np.arange(40)).sum((1, 2)), 20, atol=1e-3)

    def test_standard_deviation_of_noise(self):
        noisy = add_noise(tf.fill([400, 24, 24, 3], 0.5), (1, 2), 1.0).numpy()
        deviation = noisy[:, :-1, :-1].std((1, 2)).mean(-1)
        assert 0.15 < deviation.max() < 0.23 and deviation.min() < 0.01
        # 0.2 u² has the mean 0.2 / 3, and every kind of grain the same one.
        assert deviation.mean() == pytest.approx(0.2 / 3, rel=0.1)

    def test_qualities(self, images):
        damage = abs(compress(images, (1, 2), 1.0) - images).numpy().mean((1, 2, 3))
        assert damage.max() > 2 * damage.min() > 0

    def test_strength(self, batch):
        assert Augmentation().with_camera(0.5).noise == 0.25
        with pytest.raises(ValueError, match="`light`"):
            Augmentation().with_camera(3)
        kept, _ = run(batch, OFF)
        spoiled, landmarks = run(batch, OFF.with_camera(2.0))
        np.testing.assert_allclose(landmarks, batch[1], atol=1e-4)
        assert (abs(spoiled - kept).max((1, 2, 3)) > 0.01).all()


@pytest.mark.parametrize("name", ["rotation", "scale", "mirror", "occlusion"])
def test_bad_strength(name):
    with pytest.raises(ValueError, match=name):
        Augmentation(**{name: -0.1})
    with pytest.raises(ValueError, match=name):
        Augmentation(**{name: 181})


def test_scaled_leaves_mirroring():
    half = Augmentation().scaled(0.5)
    assert (half.rotation, half.occlusion, half.mirror) == (10, 0.1, 0.5)
    with pytest.raises(ValueError, match="`rotation`"):
        Augmentation().scaled(10)
