"""TFLite: convert a localizer, look into the file, run it and time it.

Names are imported when first used. All but `convert` do without TensorFlow, Keras and OpenCV, so
that they can run on a device.
"""

import importlib

_NAMES = {
    "ConversionError": "keras_lapkl.tflite.verify",
    "TFLiteLocalizer": "keras_lapkl.tflite.runner",
    "convert": "keras_lapkl.tflite.conversion",
    "describe": "keras_lapkl.tflite.inspect",
    "measure": "keras_lapkl.tflite.latency",
    "measure_many": "keras_lapkl.tflite.latency",
}

__all__ = list(_NAMES)


def __getattr__(name):
    if name in _NAMES:
        return getattr(importlib.import_module(_NAMES[name]), name)
    raise AttributeError(f"module 'keras_lapkl.tflite' has no attribute {name!r}")


def __dir__():
    return sorted(__all__)
