"""Errors of models and of prediction files, with intervals, and pictures of them."""

from keras_lapkl._support import lazy

__getattr__, __dir__, __all__ = lazy.attach(__name__, __file__)
