"""Photos whose one landmark can be found again."""

import numpy as np
import pytest


def draw_blob(center, sigma, shape):
    """A bright Gaussian on black."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    distance = (x - center[0]) ** 2 + (y - center[1]) ** 2
    gray = np.round(255 * np.exp(-distance / (2 * sigma**2))).astype(np.uint8)
    return np.repeat(gray[..., None], 3, axis=2)


def find_centroid(image):
    weights = image[..., 0].astype(float)
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    return np.array([(weights * x).sum(), (weights * y).sum()]) / weights.sum()


@pytest.fixture(scope="session")
def blob():
    return draw_blob


@pytest.fixture(scope="session")
def centroid():
    return find_centroid
