"""Faces with labels and without: readers, crops, shards, augmentation, pipelines, synthesis."""

import importlib

_NAMES = {
    "Annotations": "annotations",
    "Augmentation": "augment",
    "ByBox": "locate",
    "ByDetector": "locate",
    "ByModel": "locate",
    "Crops": "crops",
    "Predictions": "predictions",
    "SemiSupervisedArrays": "arrays",
    "crop_folder": "shards",
    "find_images": "images",
    "load": "sources",
    "load_crops": "crops",
    "load_unlabeled": "sources",
    "photo_clip": "motion",
    "read_300w": "w300",
    "read_aflw": "aflw",
    "read_coco": "keypoints",
    "read_csv": "keypoints",
    "read_image": "images",
    "read_predictions": "predictions",
    "read_pts": "pts",
    "read_shards": "shards",
    "self_training_batches": "pipeline",
    "semi_supervised_batches": "pipeline",
    "synthetic_clip": "motion",
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
