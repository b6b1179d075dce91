"""Loads a model by its name or from a file: a .tflite file without Keras."""

from collections.abc import Sequence
from typing import Any

from keras_lapkl import pretrained, registries
from keras_lapkl._support import extras
from keras_lapkl._support.registry import resolved
from keras_lapkl._support.types import PathLike
from keras_lapkl.tflite.runner import TFLiteLocalizer


def load_model(name_or_path: PathLike, kinds: Sequence[str] = (".keras", ".tflite")) -> Any:
    """A shipped model by its name; or the model in a file.

    Args:
        name_or_path: a shipped model's name or a file, see `pretrained.resolve`: `.keras` for a
            Keras model, `.tflite` for a `TFLiteLocalizer`.
        kinds: suffixes to accept, the preferred one of a shipped model first.

    Raises:
        FileNotFoundError: there is no such file.
        ImportError: a Keras model, and Keras is not installed.
        ValueError: the file is of another kind, damaged or too large, or holds no model. A `.keras`
            file runs no code of its own.

    Example:

    >>> load_model("fpn-eighth-300w").num_landmarks
    68
    """
    path = pretrained.resolve(name_or_path, kinds)
    if path.suffix == ".tflite":
        return TFLiteLocalizer(path)
    with extras.needed_by(f"A .keras file, {path.name},"):
        return _load_keras_model(path)


def _load_keras_model(path):
    import keras

    # Here only to be known to Keras when it meets their names in the file.
    from keras_lapkl import losses, metrics, optimizers  # noqa: F401
    from keras_lapkl.models import (  # noqa: F401
        adversarial,
        archives,
        localizer,
        mean_teacher,
        networks,
        patch_gan,
    )

    _ = [resolved(network.builder) for network in networks.NETWORKS.values()]
    _ = [*registries.LOSSES.values(), *registries.OPTIMIZERS.values()]
    archives.check(path)
    try:
        model = keras.models.load_model(path)
    # Keras and its layers raise all kinds on a configuration that does not fit its weights.
    except Exception as error:
        raise ValueError(
            f"{path} is a Keras model that can't be built: {archives.one_line(error)}"
        ) from error
    if not isinstance(model, keras.Model):
        raise ValueError(f"{path} holds no Keras model. Received: {type(model).__name__}")
    return model
