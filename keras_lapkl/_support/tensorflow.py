"""Imports TensorFlow without what it logs on start-up."""

import os

from keras_lapkl._support import console, extras


def quiet_tensorflow() -> None:
    """Imports TensorFlow without its greetings, which no setting turns off.

    What it writes to stderr while being imported is dropped, unless the import fails. The graph
    rewriter that says "remapper failed" on leaky ReLU is switched off, at no cost in speed. Advice
    against retracing is dropped: a process that trains one model after another traces anew.

    Raises:
        ImportError: TensorFlow or Keras is not installed.
    """
    extras.require("This command", "keras", "tensorflow")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with console.held_stderr():
        import keras  # noqa: F401
        import tensorflow as tf

        tf.config.list_physical_devices()
    tf.config.optimizer.set_experimental_options({"remapping": False})
    tf.get_logger().addFilter(lambda record: "tf.function retracing" not in str(record.msg))
