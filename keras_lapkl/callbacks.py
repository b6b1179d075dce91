"""Keras callbacks that this package adds to Keras's own."""

import keras

from keras_lapkl import runs


class ResumableCheckpoint(keras.callbacks.Callback):
    """Saves the whole model, optimizer included, at the end of each epoch, in one rename.

    A kill at any moment leaves the last whole file. `keras_lapkl.load_model` gives the model back
    as it was, and its `optimizer.iterations` tells how many steps it has seen.

    Args:
        path: a `.keras` file.
    """

    def __init__(self, path):
        super().__init__()
        self.path = path

    def on_epoch_end(self, epoch, logs=None):
        with runs.replacing(self.path) as temporary:
            self.model.save(temporary)
