"""Training runs: recipes, batches, and what a run keeps in its folder."""

from keras_lapkl._support import extras, lazy

extras.require(__name__, "keras")

__getattr__, __dir__, __all__ = lazy.attach(__name__, __file__)
