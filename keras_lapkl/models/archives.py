"""Whether a `.keras` file is what Keras wrote, before Keras sees it.

A `.keras` file is a zip archive of the model's configuration and its weights. What is in it is
read whole here, within bounds; what code it names is checked before any of it is imported.
"""

import io
import json
import os
import zipfile
from collections.abc import Iterator
from typing import Any

from keras_lapkl._support import reading
from keras_lapkl._support.types import PathLike
from keras_lapkl.models.arguments import LARGEST
from keras_lapkl.tflite import metadata_rules

MAX_BYTES = 2**31
"""Of a .keras file, and of what it unpacks to."""
_MAX_JSON = 2**24
_MAX_DEPTH = 100
_MAX_OBJECTS = 100_000
# Keras stores weights as they are: a file that unpacks to many times its size is a trap.
_MAX_RATIO = 20
_LOCALIZERS = ("LandmarkLocalizer", "AdversarialLocalizer", "MeanTeacherLocalizer")
_MEMBERS = ("metadata.json", "config.json", "model.weights.h5")


class _UnknownClassError(ValueError):
    """A file may be sound, and made of classes that this process does not know."""


def check(path: PathLike) -> None:
    """Raises an error unless a file is a sound `.keras` file that runs no code of its own.

    Raises:
        OSError: the file can't be opened.
        ValueError: it is no regular file, too large, damaged, or names classes that are neither
            Keras's nor registered with it.
    """
    with reading.open_regular(path) as stream:
        size = os.fstat(stream.fileno()).st_size
        if size > MAX_BYTES:
            raise ValueError(f"{path}: expected at most {MAX_BYTES} bytes. Received: {size}")
        if not zipfile.is_zipfile(stream):
            raise ValueError(f"{path} is not a Keras model: expected what `model.save` writes.")
        try:
            members = _members(stream, size)
            config = _config(members["config.json"])
            _check_classes(config)
            _check_sizes(config)
            _check_localizer(config)
            _check_weights(members["model.weights.h5"])
        except _UnknownClassError as error:
            raise ValueError(f"{path} {error}") from error
        # `zipfile`, its decompressors and h5py raise all kinds on damage.
        except Exception as error:
            raise ValueError(f"{path} is a damaged Keras model: {one_line(error)}") from error


def one_line(error: BaseException) -> str:
    """What an error says, in one line of bounded length: its begin, and its end with the cause."""
    said = " ".join(str(error).split()) or type(error).__name__
    return said if len(said) <= 300 else f"{said[:147]} ... {said[-148:]}"


def _members(stream, size):
    """{name: bytes} of the three members."""
    found = {}
    with zipfile.ZipFile(stream) as archive:
        entries = archive.infolist()
        if sorted(each.filename for each in entries) != sorted(_MEMBERS):
            names = [each.filename for each in entries[:5]]
            raise ValueError(f"expected the members {_MEMBERS}. Received: {names}")
        for entry in entries:
            large = entry.filename.endswith(".h5")
            limit = min(MAX_BYTES, _MAX_RATIO * size) if large else _MAX_JSON
            if entry.file_size > limit:
                raise ValueError(f"{entry.filename} unpacks to {entry.file_size} bytes")
            with archive.open(entry) as member:
                found[entry.filename] = member.read(limit + 1)
            if len(found[entry.filename]) > limit:
                raise ValueError(f"{entry.filename} unpacks to over {limit} bytes")
    return found


def _config(content):
    config = json.loads(content)
    if not isinstance(config, dict) or not isinstance(config.get("config"), dict):
        raise ValueError("config.json is not the configuration of a model")
    return config


def _dicts(data: Any) -> Iterator[dict[str, Any]]:
    """All dicts in plain data."""
    layer = [data]
    for _ in range(_MAX_DEPTH):
        yield from (each for each in layer if isinstance(each, dict))
        layer = [
            item
            for each in layer
            if isinstance(each, (dict, list))
            for item in (each.values() if isinstance(each, dict) else each)
        ]
        if not layer:
            return
    raise ValueError(f"config.json is nested over {_MAX_DEPTH} levels deep")


def _check_classes(config):
    """Refuses classes that Keras would import by their module's name, and code that is stored."""
    import keras

    for each in _dicts(config):
        name, module = each.get("class_name"), each.get("module")
        if name is None:
            continue
        registered = each.get("registered_name")
        if not all(isinstance(text, (str, type(None))) for text in (name, module, registered)):
            raise ValueError("config.json names a class by something else than text")
        if name in ("Lambda", "__lambda__") or "code" in each:
            raise _UnknownClassError(
                "holds code of its own, as that of a Lambda layer, which is never run. Build the "
                "model with a layer class instead, and register that by "
                "`@keras.saving.register_keras_serializable()`."
            )
        known = module in (None, "keras", "builtins") or module.startswith("keras.")
        if not known and not keras.saving.get_registered_object(registered):
            raise _UnknownClassError(
                f"is made of {ascii(module)[:60]}'s {ascii(name)[:60]}, which is not registered "
                "with Keras. If you trust the file, decorate that class by "
                "`@keras.saving.register_keras_serializable()`, and import its module before the "
                "file is loaded; for lapkl, name it in the entry-point group keras_lapkl."
            )


def _check_sizes(config):
    for each in _dicts(config):
        ours = str(each.get("registered_name")).startswith("keras_lapkl>")
        settings = each.get("config") if ours else None
        for name, most in LARGEST.items():
            value = settings.get(name, 1) if isinstance(settings, dict) else 1
            if isinstance(value, (int, float)) and not 0 < value <= most:
                raise ValueError(f"{name}: expected a number above 0 to {most}. Received: {value}")


def _check_localizer(config):
    """What a localizer says of itself, by the rules that hold for .tflite files too."""
    if config.get("class_name") not in _LOCALIZERS:
        return
    about, table = config["config"], metadata_rules.rules()
    scheme = about.get("scheme")
    names = scheme.get("names") if isinstance(scheme, dict) else None
    calibration = about.get("calibration")
    factors = calibration.get("factors") if isinstance(calibration, dict) else None
    counted = next((each for each in (names, factors) if isinstance(each, list)), [])
    whole = {"num_landmarks": len(counted)}
    for name in ("scheme", "crop_scale", "beta", "calibration"):
        if name in about:
            rule = table["properties"][name]
            _refuse(metadata_rules.find_problem(about[name], rule, table, whole, name))
    if "trained_on" in about:
        kind = "text" if isinstance(about["trained_on"], str) else "training data"
        rule, said = {"$ref": kind}, about["trained_on"]
        _refuse(metadata_rules.find_problem(said, rule, table, whole, "trained_on"))


def _refuse(problem):
    if problem is not None:
        raise ValueError(problem)


def _check_weights(content):
    """Refuses weights that lie elsewhere, or are said to be larger than the file."""
    import h5py

    with h5py.File(io.BytesIO(content), "r") as file:
        waiting, total, count = [file], 0, 0
        while waiting:
            group = waiting.pop()
            for name in group:
                count += 1
                if count > _MAX_OBJECTS:
                    raise ValueError(f"its weights are over {_MAX_OBJECTS:,} objects")
                if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                    raise ValueError("its weights link to others")
                item = group[name]
                if isinstance(item, h5py.Group):
                    waiting.append(item)
                    continue
                # Keras keeps bfloat16, which HDF5 does not know, as two bytes.
                kinds = "fiubV" if item.attrs.get("dtype") == "bfloat16" else "fiub"
                if not isinstance(item, h5py.Dataset) or item.dtype.kind not in kinds:
                    raise ValueError("its weights are not numbers")
                if item.external or item.is_virtual:
                    raise ValueError("its weights lie in another file")
                total += item.size * item.dtype.itemsize
                if total > _MAX_RATIO * len(content):
                    raise ValueError("its weights are larger than the file")
