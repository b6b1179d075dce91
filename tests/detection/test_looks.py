import math

import cv2
import numpy as np
import pytest

from keras_lapkl.data.cropping import crop_transform, invert_transform, warp_crop
from keras_lapkl.detection import looks


def test_rings_are_one_change_each_and_then_a_move_and_a_rotation():
    first, second = (np.array(ring) for ring in looks.RINGS)
    still = np.array([0, 0, 1])
    moved = [(ring[:, :3] != still).any(1) for ring in (first, second)]
    turned = [ring[:, 3] != 0 for ring in (first, second)]
    assert (moved[0] != turned[0]).all() and (moved[1] & turned[1]).all()
    assert len(np.unique(np.concatenate([first, second]), axis=0)) == 47


def test_stretched_channels_fill_the_gray_levels():
    """A hundredth at each end is cut off, the order of gray levels stays, colored light goes."""
    ramp = np.arange(100, dtype=np.uint8).reshape(10, 10)
    found = looks.stretched(np.dstack([20 + ramp // 2, 100 + ramp, ramp // 10]))
    assert found.dtype == np.uint8 and found.shape == (10, 10, 3)
    # 1 and 98 of 0 to 99 become black and full.
    expected = np.clip(np.floor((ramp.astype(float) - 1) * 255 / 97 + 0.5), 0, 255)
    np.testing.assert_array_equal(found[..., 1], expected)
    assert (np.ptp(found.reshape(-1, 3), axis=0) == 255).all()
    assert (np.diff(found.reshape(-1, 3).astype(int), axis=0) >= 0).all()


def test_what_is_flat_is_hardly_stretched():
    crop = np.full((8, 8, 3), 100, np.uint8)
    crop[:4] += 2
    assert np.ptp(looks.stretched(crop)) == 2 * 255 // looks.NARROWEST + 1  # 63.75


def test_black_bars_and_corners_do_not_count(rng):
    crop = rng.integers(60, 90, (16, 16, 3)).astype(np.uint8)
    barred = np.concatenate([crop, np.zeros((40, 16, 3), np.uint8)])
    np.testing.assert_array_equal(looks.stretched(barred)[:16], looks.stretched(crop))
    assert not looks.stretched(barred)[16:].any()
    assert not looks.stretched(np.zeros((4, 4, 3), np.uint8)).any()


@pytest.mark.parametrize("size", [80, 112])
def test_a_sharpened_edge_is_what_the_formula_gives(size):
    """The Gaussian of a step is the normal distribution function; its σ a fortieth of the crop."""
    crop = np.full((size, size, 3), 100, np.uint8)
    crop[:, size // 2 :] = 120
    found = looks.sharpened(crop)
    z = (np.arange(size) - (size - 1) / 2) / (size / 40)
    blurred = 100 + 20 * np.array([0.5 * (1 + math.erf(each / math.sqrt(2))) for each in z])
    expected = crop[0, :, 0] + 3 * (crop[0, :, 0] - blurred)
    assert np.abs(found[0, :, 0] - expected).max() < 1.2
    assert found.dtype == np.uint8 and (found == found[:1, :, :1]).all()


def test_what_is_flat_is_not_sharpened_and_what_is_beyond_the_ends_is_cut_off():
    crop = np.full((80, 80, 3), 200, np.uint8)
    np.testing.assert_array_equal(looks.sharpened(crop), crop)
    crop[:, 40:] = 60
    assert looks.sharpened(crop)[0, 39, 0] == 255 and looks.sharpened(crop)[0, 40, 0] == 0


def test_cuts_are_stretched_without_specks_and_sharpened(rng):
    photo = rng.integers(40, 200, (60, 60, 3)).astype(np.uint8)
    transform = crop_transform((30, 30, 40), 32)
    crop = looks.stretched(warp_crop(photo, transform, 32))
    medians = looks.stretched(warp_crop(cv2.medianBlur(photo, 3), transform, 32))
    for cut, expected in zip(looks.CUTS, (crop, medians, looks.sharpened(crop)), strict=True):
        np.testing.assert_array_equal(cut(photo, transform, 32), expected)


@pytest.mark.parametrize("angle", [0.0, 0.7, -2.0])
def test_squares_move_along_their_own_axes(angle):
    """Half a side to the right is where the crop's right edge was."""
    square = np.array([30.0, 40.0, 20.0, angle])
    (found,) = looks.squares_around(square, [(0.5, -0.25, 1.5, 0.1)])
    back = invert_transform(crop_transform(square, 80))
    place = back[:, :2] @ [39.5 + 40, 39.5 - 20] + back[:, 2]
    np.testing.assert_allclose(found, [*place, 30, angle + 0.1])
