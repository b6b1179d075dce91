import cv2
import numpy as np
import pytest

from keras_lapkl.data import duplicates
from keras_lapkl.data.images import ImageError


@pytest.fixture
def photo(rng):
    coarse = rng.integers(0, 256, (9, 12, 3)).astype(np.uint8)
    return cv2.resize(coarse, (240, 180), interpolation=cv2.INTER_CUBIC)


def save(folder, name, image, *options):
    cv2.imwrite(str(folder / name), image, options)
    return folder / name


def test_copies_whatever_has_written_them(photo, rng, tmp_path):
    other = photo.copy()
    cv2.circle(other, (120, 90), 9, (0, 0, 255), -1)  # what has moved in the next frame
    paths = [
        save(tmp_path, "a.png", photo),
        save(tmp_path, "moved.png", other),
        save(tmp_path, "b.jpg", photo, cv2.IMWRITE_JPEG_QUALITY, 50),
        save(tmp_path, "c.png", cv2.resize(photo, (120, 90), interpolation=cv2.INTER_AREA)),
        save(tmp_path, "wide.png", cv2.resize(photo, (360, 180))),
        save(tmp_path, "noise.png", rng.integers(0, 256, (180, 240, 3)).astype(np.uint8)),
    ]
    found = duplicates.groups([*paths, paths[1]])
    np.testing.assert_array_equal(found, [0, 1, 0, 0, 4, 5, 1])


def test_flat_pictures_are_the_same_by_their_color_alone(tmp_path):
    levels = (20, 120, 20, 220)
    paths = [
        save(tmp_path, f"{i}.png", np.full((32, 32, 3), level, np.uint8))
        for i, level in enumerate(levels)
    ]
    np.testing.assert_array_equal(duplicates.groups(paths), [0, 1, 0, 3])


def test_hashes():
    """By hand: a bit for each part that is darker than the one to its right."""
    rising = np.tile(np.arange(0, 256, 8, dtype=np.uint8), (32, 1))
    first = rising[:, ::-1].copy()
    first[:4] = rising[:4]
    # Of the nine parts, each of four columns, the fourth begins at column 10, the fifth at 14.
    steps = [np.where(rising < 8 * column, 0, 255) for column in (14, 13)]
    small = np.stack([rising, rising[:, ::-1], first, *steps, np.full_like(rising, 9)])
    ramps = [0b11111111] * 8, [0] * 8, [0b11111111, *[0] * 7]
    expected = [*ramps, [0b00010000] * 8, [0b00110000] * 8, [0] * 8]
    np.testing.assert_array_equal(duplicates._hashes(small).view(np.uint8), expected)


def test_how_far_a_part_may_differ(tmp_path):
    """By 10 gray levels, and not by 11, even where that is 1 from another of the group."""
    paths = []
    for levels in (0, 10, 11):
        image = np.tile(np.arange(0, 128, 4, dtype=np.uint8)[:, None], (32, 3)).reshape(32, 32, 3)
        image[9, 9] += levels
        paths.append(save(tmp_path, f"{levels}.png", image))
    np.testing.assert_array_equal(duplicates.groups(paths), [0, 0, 2])


def test_none_and_broken(tmp_path):
    assert duplicates.groups([]).shape == (0,)
    (tmp_path / "a.png").write_bytes(b"\x89PNG")
    with pytest.raises(ImageError):
        duplicates.groups([tmp_path / "a.png"])


def test_a_slow_motion_is_not_one_picture(photo, tmp_path):
    """Each frame shows nearly the same as the one before it, the last not the same as the first."""
    paths, background = [], cv2.normalize(photo, None, 60, 190, cv2.NORM_MINMAX)
    for i in range(60):
        frame = background.copy()
        cv2.circle(frame, (16 * (60 + i), 16 * 90), 16 * 14, (100, 100, 100), -1, cv2.LINE_AA, 4)
        paths.append(save(tmp_path, f"{i:02}.png", frame))
    found = duplicates.groups([*paths, *paths[::20]])
    assert len(set(found)) >= 10 and np.bincount(found).max() <= 12
    np.testing.assert_array_equal(found[60:], found[:60:20])
