"""What a .tflite file says of its model: versioned JSON in the file's metadata table."""

import dataclasses
import json
from typing import Any

from keras_lapkl import training_data
from keras_lapkl._support.types import PathLike
from keras_lapkl.tflite import flatbuffer

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
            ValueError: it is of a newer schema, or lacks a key.
        """
        data = json.loads(text)
        schema = data.get("schema", 0)
        if schema > SCHEMA:
            raise ValueError(
                f"{path} has metadata of schema {schema}, by keras_lapkl "
                f"{data.get('keras_lapkl', 'of an unknown version')}; this package reads up to "
                f"schema {SCHEMA}. Upgrade it: pip install --upgrade keras_lapkl"
            )
        if schema == 0:
            data = _upgraded(data)
        names = {field.name for field in dataclasses.fields(cls)}
        try:
            found = cls(**{name: value for name, value in data.items() if name in names})
        except TypeError as error:
            raise ValueError(
                f"{path} has metadata that lack a key; convert the model again. {error}"
            ) from error
        return dataclasses.replace(found, float_layers=tuple(found.float_layers))


def read(model: Any, path: PathLike = "this file") -> Metadata | None:
    """The `Metadata` in a `ModelT`; None if this package wrote none into it.

    Raises:
        ValueError: as `Metadata.from_json`.
    """
    text = flatbuffer.read_metadata(model)
    return None if text is None else Metadata.from_json(text, path)


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
