import keras_lapkl.detection.first_pass
import keras_lapkl.training.arrays
import keras_lapkl.training.augmentation
import keras_lapkl.training.batches

from . import (
    crops as crops,
    duplicates as duplicates,
    images as images,
    readers as readers,
    synthetic as synthetic,
    unlabeled as unlabeled,
)
from .annotations import (
    Annotations as Annotations,
)
from .crops import (
    Crops as Crops,
    load_crops as load_crops,
)
from .datasets import (
    load as load,
    load_unlabeled as load_unlabeled,
)
from .images import (
    find_images as find_images,
    read_image as read_image,
)
from .labels.converting import (
    convert_labels as convert_labels,
)
from .prediction_files import (
    Predictions as Predictions,
    read_predictions as read_predictions,
)
from .pts import (
    read_pts as read_pts,
    write_pts as write_pts,
)
from .readers.aflw import (
    read_aflw as read_aflw,
)
from .readers.coco import (
    read_coco as read_coco,
)
from .readers.keypoint_csv import (
    read_csv as read_csv,
)
from .readers.w300 import (
    read_300w as read_300w,
)
from .synthetic.clips import (
    photo_clip as photo_clip,
    synthetic_clip as synthetic_clip,
)
from .synthetic.faces import (
    synthetic_faces as synthetic_faces,
)
from .unlabeled.shards import (
    crop_folder as crop_folder,
    read_shards as read_shards,
)

Augmentation = keras_lapkl.training.augmentation.Augmentation
ByBox = keras_lapkl.detection.first_pass.ByBox
ByDetector = keras_lapkl.detection.first_pass.ByDetector
ByModel = keras_lapkl.detection.first_pass.ByModel
SemiSupervisedArrays = keras_lapkl.training.arrays.SemiSupervisedArrays
self_training_batches = keras_lapkl.training.batches.self_training_batches
semi_supervised_batches = keras_lapkl.training.batches.semi_supervised_batches
training_batches = keras_lapkl.training.batches.training_batches
