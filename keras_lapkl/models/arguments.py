"""What the arguments of a network may be, in its constructor and in its file."""

from typing import Any

import numpy as np

from keras_lapkl.tflite import metadata_rules

LARGEST = {"width": 4, "image_size": 4096, "num_landmarks": 10_000}
"""What is built takes memory by the square of the first."""


def check_generator(num_landmarks, width, image_size, stride):
    """ValueError where a generator's argument is out of its range, or Keras puts channels first.

    Args:
        num_landmarks: K.
        width: fraction of 64 channels.
        image_size: side of the square input in pixels.
        stride: what divides it.
    """
    import keras  # not before: what checks a file needs none

    if keras.config.image_data_format() != "channels_last":
        raise ValueError(
            "The networks take images (B, H, W, 3): call "
            'keras.config.set_image_data_format("channels_last") first. Received: '
            f"{keras.config.image_data_format()}"
        )
    most = LARGEST["num_landmarks"]
    if not 1 <= num_landmarks <= most:
        raise ValueError(f"`num_landmarks` must be from 1 to {most}. Received: {num_landmarks}")
    most = LARGEST["width"]
    if not 0 < width <= most:
        raise ValueError(f"`width` must be above 0, such as 1/8, to {most}. Received: {width}")
    most = LARGEST["image_size"]
    if not stride <= image_size <= most or image_size % stride:
        raise ValueError(
            f"`image_size` must be a multiple of {stride}, at most {most}. Received: {image_size}"
        )


PRECISIONS = ("float32", "float16", "bfloat16", "float64", "mixed_float16", "mixed_bfloat16")
"""Keras's policies for all layers alike, which a file keeps by their name."""


def check_precision(kwargs):
    """ValueError for a `dtype`, which the layers within would not have, or a policy of parts."""
    import keras

    policy = keras.config.dtype_policy()
    if policy.name not in PRECISIONS:
        raise ValueError(f"Expected a global precision of {PRECISIONS}. Received: {policy.name!r}")
    if "dtype" in kwargs:
        raise ValueError(
            "A network has the global precision: call keras.config.set_dtype_policy first, and "
            f"drop `dtype`. Received: dtype={kwargs['dtype']!r}"
        )


def checked(name: str, value: Any) -> Any:
    """What a localizer says of itself as plain data; ValueError if no file may say it.

    Args:
        name: of a property in `metadata.rules.json`.
        value: a number, text or None.
    """
    plain = value.item() if isinstance(value, np.generic) else value
    if not isinstance(plain, (int, float, str, type(None))):
        raise ValueError(f"`{name}` must be a number, text or None. Received: {value!r}")
    table = metadata_rules.rules()
    rule = table["properties"][name]
    problem = metadata_rules.find_problem(plain, rule, table, {}, f"`{name}`")
    if problem:
        raise ValueError(problem)
    return plain
