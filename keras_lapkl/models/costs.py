"""What a network costs to run."""

import math

import keras
from keras import layers


def multiply_adds(layer: keras.layers.Layer) -> int:
    """Multiply-adds of a convolution for one image; 0 of any other layer.

    Example:

    >>> sum(map(multiply_adds, MobileFPN(num_landmarks=68, width=1 / 8).layers))
    13004000
    """
    if not isinstance(layer, layers.Conv2D | layers.DepthwiseConv2D):
        return 0
    _, height, width, _ = layer.output.shape
    return height * width * math.prod(layer.kernel.shape)
