"""From a trained model to .tflite files that are checked before they are put in place."""

from keras_lapkl._support import extras, lazy

extras.require(__name__, "keras")

__getattr__, __dir__, __all__ = lazy.attach(__name__, __file__)
