"""What a .tflite file says of its model: versioned JSON in the file's metadata table."""

import contextlib
import dataclasses
import json
from typing import Any

from keras_lapkl import confidence, schemes, training_data
from keras_lapkl._support.types import PathLike
from keras_lapkl.tflite import flatbuffer, metadata_rules

SCHEMA = 1
"""Of the files that this package writes. Raise it when a key changes its name or its meaning, and
let `_upgraded` map the older ones; a new key that readers may ignore needs no new number."""

UNITS = "pixels of the input, x first, pixel centers at whole numbers from 0"


@dataclasses.dataclass(frozen=True)
class Metadata:
    """What the user of a file must know to give it the right image and to read its answer.

    Attributes:
        keras_lapkl: version of the package that wrote the file.
        mode: `"float32"`, `"float16"`, `"dynamic"` or `"int8"`.
        image_size: S, side of the image in pixels.
        num_landmarks: K.
        input: of the image: `channels`, `"RGB"`; `dtype`; and `range`, the values that stand for
            black and white.
        float_layers: how the names of the layers begin that an int8 file computes in float.
        flip_average: whether it answers the mean with the mirrored face.
        refined: whether its landmarks are refined by the whole shape, after the heatmaps.
        units: of landmarks and scales.
        beta: inverse temperature of the softmax, for files that give logits.
        crop_scale: side of the crop in longer edges of what it is cut by, or None if unknown.
        crop: the crop rule as a sentence, or None.
        scheme: plain data of the `Scheme`, or None.
        trained_on: one line on the training faces, or None.
        training_data: the same as plain data of a `TrainingData`, or None.
        license: the limits that these set to the model's use, one line, or None.
        calibration: plain data of the `Calibration` of this file's scales, or None.
        measured: what this very file was measured at: `nme` in percent, `spread` in pixels,
            `faces`, `data`, `normalizer` and `crop_scale`; or None.
        schema: what the keys mean.
    """

    keras_lapkl: str
    mode: str
    image_size: int
    num_landmarks: int
    input: dict[str, Any]
    float_layers: tuple[str, ...] = ()
    flip_average: bool = False
    refined: bool = False
    units: str = UNITS
    beta: float = 1.0
    crop_scale: float | None = None
    crop: str | None = None
    scheme: dict[str, Any] | None = None
    trained_on: str | None = None
    training_data: dict[str, Any] | None = None
    license: str | None = None
    calibration: dict[str, Any] | None = None
    measured: dict[str, Any] | None = None
    schema: int = SCHEMA

    def to_dict(self) -> dict[str, Any]:
        """Plain data, the schema first."""
        found = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {"schema": found.pop("schema"), **found, "float_layers": list(self.float_layers)}

    def to_json(self) -> str:
        return json.dumps(self.to_dict())

    @classmethod
    def from_json(cls, text: str, path: PathLike = "this file") -> "Metadata":
        """Reads what `to_json` of this version or an older one wrote.

        Args:
            text: the JSON.
            path: the file that it is from, for messages.

        Raises:
            ValueError: it is of a newer schema, lacks a key, or breaks one of the rules in
                `metadata.rules.json`.
        """
        with _naming(path):
            data = metadata_rules.parse_metadata(text, metadata_rules.rules())
        # First, since of a newer schema other rules hold.
        _check_schema(data, path)
        with _naming(path):
            metadata_rules.check_metadata(data, metadata_rules.rules())
            if data.get("schema", 0) == 0:
                data = _upgraded(data)
            # What no table says: a mirror map that is an involution, and the like.
            if data.get("scheme") is not None:
                schemes.get(data["scheme"])
            training_data.get(data.get("training_data"))
            confidence.get(data.get("calibration"))
        names = {field.name for field in dataclasses.fields(cls)}
        found = cls(**{name: value for name, value in data.items() if name in names})
        return dataclasses.replace(found, float_layers=tuple(found.float_layers))


def read(model: Any, path: PathLike = "this file") -> Metadata | None:
    """The `Metadata` in a `ModelT`; None if this package wrote none into it.

    Raises:
        ValueError: as `Metadata.from_json`, or they do not fit the model's tensors.
    """
    try:
        text = flatbuffer.read_metadata(model)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} has metadata that are not UTF-8: {error}") from error
    if text is None:
        return None
    found = Metadata.from_json(text, path)
    _check_shapes(found, flatbuffer.signature_shapes(model), path)
    return found


@contextlib.contextmanager
def _naming(path):
    """Says of a ValueError which file it is about."""
    try:
        yield
    except ValueError as error:
        raise ValueError(
            f"{path} has metadata that break a rule; convert the model again: {error}"
        ) from error


def _check_schema(data, path):
    schema = data.get("schema", 0) if isinstance(data, dict) else 0
    if isinstance(schema, int) and schema > SCHEMA:
        by, table = data.get("keras_lapkl"), metadata_rules.rules()
        version = {"$ref": "version"}
        if metadata_rules.find_problem(by, version, table, data, "keras_lapkl"):
            by = "of an unknown version"
        raise ValueError(
            f"{path} has metadata of schema {schema}, by keras_lapkl {by}; this package reads up "
            f"to schema {SCHEMA}. Upgrade it: pip install --upgrade keras_lapkl"
        )


def _check_shapes(about, shapes, path):
    """Refuses metadata of another image or of other landmarks than the file's tensors."""
    size, count = about.image_size, about.num_landmarks
    expected = {"image": (1, size, size, 3), "landmarks": (count, 2), "scale": (count, 2)}
    for name, shape in expected.items():
        if shapes.get(name, shape) != shape:
            raise ValueError(
                f"{path} has metadata of an image of {size} pixels and {count} landmarks: expected "
                f"{name!r} of shape {shape}. Received: {shapes[name]}. Convert the model again."
            )


def _upgraded(data):
    """Schema 0, which has no number, as schema 1: British names, and a line for training data."""
    found = {**data, "schema": 1, "units": UNITS}
    for old, new in (("licence", "license"), ("mirror", "flip_average")):
        if old in found:
            found[new] = found.pop(old)
    if found.get("crop"):
        found["crop"] = found["crop"].replace("centre", "center")
    trained = training_data.get(found.get("trained_on"))
    found["training_data"] = None if trained is None else trained.to_config()
    found["input"] = {"dtype": "float32", **found["input"]} if "input" in found else None
    return found
