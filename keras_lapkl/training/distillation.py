"""Pseudo-labels: landmarks that a teacher finds in faces without labels, for a student to learn.

Source: Hinton et al., arXiv 1503.02531 (distillation); Radosavovic et al., CVPR 2018 (labels by
the mean over transformed images).
"""

from typing import Any

import cv2
import numpy as np
from absl import logging
from numpy.typing import NDArray

from keras_lapkl._support import console
from keras_lapkl.data.crops import Crops
from keras_lapkl.data.unlabeled.crops import UnlabeledCrops
from keras_lapkl.evaluation import model_scores
from keras_lapkl.tflite.localizer import Localizer

_BATCH = 256


def pseudo_labels(
    teacher: Localizer, unlabeled: UnlabeledCrops, max_scale: float | None = None
) -> NDArray[np.float32]:
    """What a teacher finds in faces without labels, as the labels of training.

    Where the scheme knows how faces mirror, a label is the mean of what the teacher finds in the
    face and in its mirror image. A teacher of another image size sees the faces resized.

    Args:
        teacher: a localizer: `LandmarkLocalizer` or `TFLiteLocalizer`.
        unlabeled: `UnlabeledCrops`, cut by the teacher's crop rule.
        max_scale: landmarks whose mean scale is above are hidden: pixels of the teacher's crop;
            None hides none.

    Returns:
        (N, K, 3) float32: x, y in pixels of the faces without margin, and visibility, 0 or 1.

    Raises:
        ValueError: faces of another crop rule than the teacher's, or no landmark that is sure
            enough.
    """
    _check_crop_rule(teacher, unlabeled)
    mirrors = teacher.scheme is not None and teacher.scheme.flip is not None
    total = len(unlabeled)

    def progress(done, _):
        return f"the teacher labeled {min(done * _BATCH, total):,} of {total:,} faces"

    inner = slice(unlabeled.margin, unlabeled.margin + unlabeled.image_size)

    def labeled(start):
        indices = np.arange(start, min(start + _BATCH, len(unlabeled)))
        faces = _resized(unlabeled.gather(indices)[:, inner, inner], teacher.image_size)
        if mirrors:
            found = model_scores.predict_flip_averaged(teacher, faces)
        else:
            found = teacher.predict(faces, verbose=0)
        visible: Any = np.isfinite(found["landmarks"]).all(-1)
        if max_scale is not None:
            visible &= found["scale"].mean(-1) <= max_scale
        factor = unlabeled.image_size / teacher.image_size
        landmarks = (np.nan_to_num(found["landmarks"]) + 0.5) * factor - 0.5
        return np.concatenate([landmarks, visible[..., None]], -1).astype(np.float32)

    parts = map(labeled, range(0, len(unlabeled), _BATCH))
    labels = np.concatenate(list(console.reported(parts, None, progress)))
    shown = labels[..., 2].mean()
    if not shown:
        raise ValueError(
            f"`max_scale` {max_scale} hides all that the teacher finds: it is in pixels of its "
            "crop. Give a larger one."
        )
    logging.info(
        "The teacher labeled %d faces, %.1f %% of their landmarks.", len(labels), 100 * shown
    )
    return labels


def check_teacher(teacher: Localizer, crops: Crops) -> None:
    """Refuses a teacher that can't label faces for these, before it labels a folder for nothing.

    Args:
        teacher: a localizer.
        crops: the labeled `Crops` that its faces are to stand beside.

    Raises:
        ValueError: a teacher of other points, or of another crop rule.
    """
    theirs, ours = teacher.scheme, crops.scheme
    if theirs is None or theirs.names != ours.names:
        raise ValueError(
            "Expected a teacher of the same points in the same order as in "
            f"{crops.name}, scheme {ours.name!r}. Received: "
            f"{'one that does not say' if theirs is None else f'scheme {theirs.name!r}'}"
        )
    _check_crop_rule(teacher, crops)


def _check_crop_rule(teacher, faces):
    if teacher.crop_scale is None:
        raise ValueError(
            "The teacher does not say which crop it is right on. Set the `crop_scale` of the "
            "loaded model, and save it."
        )
    if teacher.crop_scale != faces.crop_scale:
        raise ValueError(
            f"The teacher is right on crop scale {teacher.crop_scale}, and {faces.name} has "
            f"{faces.crop_scale}. Crop the faces as the teacher's were."
        )


def _resized(faces, size):
    if faces.shape[1] == size:
        return np.ascontiguousarray(faces)
    how = cv2.INTER_AREA if size < faces.shape[1] else cv2.INTER_LINEAR
    return np.stack([cv2.resize(face, (size, size), interpolation=how) for face in faces])
