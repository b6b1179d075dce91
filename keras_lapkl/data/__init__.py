"""Images with labels and without: readers, crops, shards, synthetic faces."""

from keras_lapkl._support import lazy

__getattr__, __dir__, __all__ = lazy.attach(
    __name__,
    __file__,
    {
        "Augmentation": "keras_lapkl.training.augmentation",
        "ByBox": "keras_lapkl.detection.first_pass",
        "ByDetector": "keras_lapkl.detection.first_pass",
        "ByModel": "keras_lapkl.detection.first_pass",
        "SemiSupervisedArrays": "keras_lapkl.training.arrays",
        "self_training_batches": "keras_lapkl.training.batches",
        "semi_supervised_batches": "keras_lapkl.training.batches",
        "training_batches": "keras_lapkl.training.batches",
    },
)
