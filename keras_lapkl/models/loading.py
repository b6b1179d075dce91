"""Loads a model by its name or from a file."""

import pathlib
import zipfile
from typing import Any

import keras

# All but `pretrained` is here only to be known to Keras when `load_model` meets it.
from keras_lapkl import losses, metrics, optimizers, pretrained  # noqa: F401
from keras_lapkl._support.types import PathLike
from keras_lapkl.models import adversarial, localizer, mobile_fpn, patch_gan, rcn  # noqa: F401
from keras_lapkl.models.localizer import LandmarkLocalizer
from keras_lapkl.tflite.runner import TFLiteLocalizer


def load_model(name_or_path: PathLike) -> LandmarkLocalizer | Any:
    """A shipped model by its name; or the model in a file.

    Args:
        name_or_path: one of `pretrained.NAMES`, for its Keras model; or a file, `.keras` for a
            Keras model, `.tflite` for a `TFLiteLocalizer`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is of another kind, or holds no model.

    Example:

    >>> load_model("fpn-eighth-300w").num_landmarks
    68
    """
    if name_or_path in pretrained.NAMES:
        name_or_path = pretrained.path(str(name_or_path))
    path = pathlib.Path(name_or_path)
    if path.suffix not in (".keras", ".tflite"):
        raise ValueError(
            f"Expected a .keras or .tflite file, or a name of {pretrained.NAMES}. Received: {path}"
        )
    if not path.is_file():
        raise FileNotFoundError(f"There is no model at {path}.")
    if path.suffix == ".tflite":
        return TFLiteLocalizer(path)
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is not a Keras model: expected what `model.save` writes.")
    return keras.models.load_model(path)
