"""Tiny facial-landmark localizers: trained with LaplaceKL in Keras, shipped as TFLite.

Names are imported when first used, so that code on a device can use `keras_lapkl.tflite` without
TensorFlow.
"""

from keras_lapkl._support import lazy

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy.attach(__name__, __file__)
