"""A small localizer with sharp heatmaps, and its files."""

import numpy as np
import pytest

import keras_lapkl
from keras_lapkl import tflite
from keras_lapkl.tflite import conversion

SIZE = 32
LANDMARKS = 5


def small_localizer(sharpness=200.0):
    """Untrained, its logits scaled until the maps have a scale of a few pixels."""
    import keras

    keras.utils.set_random_seed(3)
    generator = keras_lapkl.RCN(LANDMARKS, width=1 / 16, image_size=SIZE)
    head = generator.get_layer("logits")
    head.kernel.assign(sharpness * head.kernel)
    scheme = {"name": "toy", "num_landmarks": LANDMARKS, "flip": [[0, 1]], "edges": [[0, 2]]}
    return keras_lapkl.LandmarkLocalizer(generator, scheme, crop_scale=3.0, trained_on="nothing")


@pytest.fixture(scope="session")
def make_localizer():
    return small_localizer


@pytest.fixture(scope="session")
def localizer(make_localizer):
    return make_localizer()


@pytest.fixture(scope="session")
def images():
    """Smooth random colours, (40, 32, 32, 3) uint8."""
    coarse = np.random.default_rng(1).integers(0, 256, (40, SIZE // 8, SIZE // 8, 3))
    return np.kron(coarse, np.ones((1, 8, 8, 1))).astype(np.uint8)


@pytest.fixture(scope="session")
def converted(localizer, images, tmp_path_factory):
    """{mode: (path, report)} of every mode."""
    folder = tmp_path_factory.mktemp("converted")
    made = {}
    for mode in conversion.MODES:
        representative = {"representative_images": images[:20]} if mode == "int8" else {}
        path = folder / f"{mode}.tflite"
        report = tflite.convert(
            localizer,
            path,
            mode,
            faces=images[20:],
            bounds={"mean": 1.0} if mode in ("int8", "dynamic") else None,
            **representative,
        )
        made[mode] = (path, report)
    return made
