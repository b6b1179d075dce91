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
