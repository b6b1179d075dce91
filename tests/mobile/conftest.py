"""A small localizer that knows its crop rule, as files."""

import numpy as np
import pytest

SIZE = 32


@pytest.fixture(scope="session")
def files(once):
    """{name: path} of a localizer of six landmarks, untrained, its maps a few pixels wide."""
    return once("localizer", make_files)


def make_files(folder):
    import keras

    import keras_lapkl
    from keras_lapkl import tflite

    keras.utils.set_random_seed(3)
    generator = keras_lapkl.RCN(6, width=1 / 16, image_size=SIZE)
    head = generator.get_layer("logits")
    head.kernel.assign(200 * head.kernel)
    scheme = {"name": "toy", "num_landmarks": 6, "five_points": [[0, 1], [2], [3], [4], [5]]}
    model = keras_lapkl.LandmarkLocalizer(generator, scheme, crop_scale=3.0)
    coarse = np.random.default_rng(1).integers(0, 256, (24, SIZE // 8, SIZE // 8, 3))
    images = np.kron(coarse, np.ones((1, 8, 8, 1))).astype(np.uint8)
    made = {}
    for name, mode, dtype in (
        ("float32", "float32", "float32"),
        ("int8", "int8", "float32"),
        ("uint8_image", "int8", "uint8"),
    ):
        made[name] = folder / f"{name}.tflite"
        chosen = {"representative_images": images[:12]} if mode == "int8" else {}
        tflite.convert(
            model, made[name], mode, faces=images[12:], bounds={}, input_dtype=dtype, **chosen
        )
    return made


@pytest.fixture(scope="session")
def photo():
    """(97, 120, 3) uint8, smooth."""
    y, x, c = np.ogrid[:97, :120, :3]
    return (127 + 60 * np.sin(x / 7 + c) + 60 * np.cos(y / 9 - c * x / 50)).astype(np.uint8)
