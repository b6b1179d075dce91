"""TFLite on a device: inspect a file, run it and time it.

All but `convert` does without TensorFlow, Keras and OpenCV.
"""

from keras_lapkl._support import lazy

__getattr__, __dir__, __all__ = lazy.attach(
    __name__,
    __file__,
    {
        "ConversionError": "keras_lapkl.export.verify",
        "convert": "keras_lapkl.export.conversion",
    },
)
