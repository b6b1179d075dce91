import numpy as np
import pytest

from keras_lapkl import schemes
from keras_lapkl.data.crops import Crops


@pytest.fixture
def crops():
    """Four faces, whose outer eye corners are 40 pixels apart."""
    rng = np.random.default_rng(0)
    landmarks = rng.uniform(10, 70, (4, 68, 2)).astype(np.float32)
    landmarks[:, 36], landmarks[:, 45] = (20, 30), (60, 30)
    return Crops(
        images=np.zeros((4, 80, 80, 3), np.uint8),
        landmarks=landmarks,
        visible=np.ones((4, 68), bool),
        transforms=np.tile(np.array([[0.5, 0, 0], [0, 0.5, 0]]), (4, 1, 1)),
        names=tuple("abcd"),
        scheme=schemes.IBUG68,
        image_size=80,
        margin=0,
        crop_scale=3.0,
        name="four",
        boxes=np.tile(np.float32([10, 10, 110, 74]), (4, 1)),
    )
