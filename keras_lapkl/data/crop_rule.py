"""What faces must share to be used together: a model is only right on one crop rule."""

from typing import Any, Protocol

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
