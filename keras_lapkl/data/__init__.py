"""Labeled faces: readers, crops, augmentation, synthetic faces and tf.data pipelines."""

import importlib

_NAMES = {
    "Annotations": "annotations",
    "Augmentation": "augment",
    "Crops": "crops",
    "find_images": "images",
    "load": "sources",
    "load_crops": "crops",
    "read_300w": "w300",
    "read_aflw": "aflw",
    "read_image": "images",
    "read_pts": "pts",
    "synthetic_faces": "synthetic",
    "training_batches": "pipeline",
    "write_pts": "pts",
}

__all__ = list(_NAMES)


def __getattr__(name):
    if name in _NAMES:
        return getattr(importlib.import_module(f"keras_lapkl.data.{_NAMES[name]}"), name)
    raise AttributeError(f"module 'keras_lapkl.data' has no attribute {name!r}")


def __dir__():
    return sorted(__all__)
