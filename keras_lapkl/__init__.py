"""Tiny facial-landmark localizers: trained with LaplaceKL in Keras, shipped as TFLite.

Names are imported when first used, so that code on a device can use `keras_lapkl.tflite` without
TensorFlow.
"""

import importlib

__version__ = "0.1.0"

_SUBMODULES = (
    "callbacks",
    "comparison",
    "confidence",
    "data",
    "detection",
    "distillation",
    "evaluation",
    "heatmaps",
    "losses",
    "metrics",
    "models",
    "plots",
    "schemes",
    "scoring",
    "tflite",
    "tracking",
    "training",
)
_NAMES = {
    "AdversarialLocalizer": "keras_lapkl.models.adversarial",
    "LandmarkDetector": "keras_lapkl.detection",
    "LandmarkLocalizer": "keras_lapkl.models.localizer",
    "LandmarkTracker": "keras_lapkl.tracking",
    "MobileFPN": "keras_lapkl.models.mobile_fpn",
    "PatchGAN": "keras_lapkl.models.patch_gan",
    "RCN": "keras_lapkl.models.rcn",
    "load_model": "keras_lapkl.models.localizer",
}

__all__ = ["__version__", *_SUBMODULES, *_NAMES]


def __getattr__(name):
    if name in _NAMES:
        return getattr(importlib.import_module(_NAMES[name]), name)
    if name in _SUBMODULES:
        return importlib.import_module(f"keras_lapkl.{name}")
    raise AttributeError(f"module 'keras_lapkl' has no attribute {name!r}")


def __dir__():
    return sorted(__all__)
