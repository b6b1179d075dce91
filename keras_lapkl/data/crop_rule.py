"""What faces must share to be used together: a model is only right on one crop rule."""

from typing import Any, Protocol

import numpy as np

from keras_lapkl.data.cropping import is_face
from keras_lapkl.data.crops import Crops
from keras_lapkl.data.unlabeled.crops import UnlabeledCrops
from keras_lapkl.schemes import Scheme


class HasCropRule(Protocol):
    """What says how its faces are cut: a localizer, or `Crops`."""

    @property
    def image_size(self) -> Any: ...

    @property
    def crop_scale(self) -> float | None: ...

    @property
    def scheme(self) -> Scheme | None: ...


def check_crop_rule(
    expected: HasCropRule, whose: str, faces: Crops | UnlabeledCrops, any_size: bool = False
) -> None:
    """Refuses faces that are cut otherwise than those of a model, or than other faces.

    Args:
        expected: the model or `Crops`. What it is cropped from is unknown if its scheme is.
        whose: its name in the message.
        faces: to be looked at.
        any_size: whether faces of another image size will do.

    Raises:
        ValueError: another image size, crop scale or thing that they are cropped from, or a model
            that does not know its crop scale.
    """
    if expected.crop_scale is None:
        raise ValueError(
            f"It is not known which crop {whose} is right on. Set the `crop_scale` of the loaded "
            "model, and save it."
        )
    rule: dict[str, Any] = {"crop_scale": expected.crop_scale}
    if not any_size:
        rule["image_size"] = expected.image_size
    if expected.scheme is not None:
        rule["crop_from"] = expected.scheme.crop_from
    for name, ours in rule.items():
        theirs = getattr(faces, name)
        if ours != theirs:
            raise ValueError(
                f"Expected faces of `{name}` {ours!r}, as {whose} has it. Received: {faces.name} "
                f"of {theirs!r}. A model is only right on one crop rule. Crop them alike."
            )


def check_eye_order(crops: Crops) -> None:
    """Refuses a scheme of faces whose eyes change places: its faces would be turned over.

    Judged by the upright faces that look to the camera: the mouth lies below the eyes rather than
    beside them, and no more than twice as far as these lie apart. Those that are upside down tell
    nothing; mirrored ones may be among them, but not most.

    Args:
        crops: labeled faces; those of another scheme are never refused.

    Raises:
        ValueError: in most of them, the first of the five points lies right of the second.

    Example:

    >>> check_eye_order(load("synthetic", num_synthetic=10))
    """
    if not is_face(crops.scheme):
        return
    seen = np.where(crops.visible[..., None], crops.landmarks, np.nan)
    points = crops.scheme.anchor_points(seen)
    apart = points[:, 1, 0] - points[:, 0, 0]
    beside, below = (points[:, 3:].mean(1) - points[:, :2].mean(1)).T
    # False where one of them is not labeled.
    judged = (below > np.abs(beside)) & (np.abs(apart) > below / 2)
    swapped = judged & (apart < 0)
    if 2 * swapped.sum() > judged.sum():
        given = [crops.scheme.names[group[0]] for group in crops.scheme.five_points[:2]]
        raise ValueError(
            f"Scheme {crops.scheme.name!r}, `five_points`: the eye at the picture's left comes "
            f"first. Received: that of {given[0]} before that of {given[1]}, which lies left in "
            f"{swapped.sum():,} of {judged.sum():,} upright faces of {crops.name}, such as "
            f"{crops.names[int(np.argmax(swapped))]}. Exchange the two, and so the mouth's corners."
        )
