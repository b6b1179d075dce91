"""Refines a trained model's landmarks by the whole shape, without training it on.

    lapkl refine --model=runs/w300/model.keras --output=refined.keras
    lapkl refine --model=mine.keras --dataset=300w --data_dir=300w --output=refined.keras

The model finds each landmark by what is near it. What all of them say together takes a part of the
error away: a linear map of the shape, fitted to the faces that the model was trained on, moved and
recolored as in training. That takes a few minutes; the file grows by 16 K² bytes for K landmarks,
74 kB for 68, and half of it in float16 and int8. --output gets the model with its refinement, and
with a calibration of its own, fitted to the validation faces, on which the errors are compared. If
the error does not fall there, nothing is written. Convert the output as any model.
"""

# To a type checker a flag may be None and any text: its parser has seen to that.
# pyright: reportArgumentType=false

import dataclasses
import pathlib

from absl import flags

from keras_lapkl._support.console import print
from keras_lapkl._support.tensorflow import quiet_tensorflow
from keras_lapkl.commands import data_flags

data_flags.define(__name__, of_model=True, train_split="train", validation_split="validation")
_MODEL = flags.DEFINE_string("model", None, ".keras file or shipped model.", required=True)
_OUTPUT = flags.DEFINE_string("output", None, "The .keras file to write.", required=True)
_AUGMENT_STRENGTH = flags.DEFINE_float(
    "augment_strength", 0.75, "How strongly the faces are moved and recolored.", 0, 1
)
_EYE_GAIN = flags.DEFINE_float(
    "eye_gain", 1.0, "How much more than the labels eyes shall open and close.", 1, 3
)
_MOUTH_GAIN = flags.DEFINE_float("mouth_gain", 1.0, "The same of the mouth.", 1, 3)
_SEED = flags.DEFINE_integer("seed", 0, "Of the moves and colors.", 0)


def main(_):
    from keras_lapkl import load_model, pretrained
    from keras_lapkl._support.files import check_outputs, replacing, sweep
    from keras_lapkl.apertures import apertures

    output = pathlib.Path(_OUTPUT.value)
    if output.suffix != ".keras":
        raise ValueError(f"--output must end in .keras. Received: {output}")
    path = pretrained.resolve(_MODEL.value, (".keras",))
    check_outputs([output], [path])
    quiet_tensorflow()
    from keras_lapkl.data.cropping import default_margin
    from keras_lapkl.training import refining
    from keras_lapkl.training.augmentation import Augmentation

    model = load_model(path)
    gains = [f"--{each.name}" for each in (_EYE_GAIN, _MOUTH_GAIN) if each.present]
    if gains and not apertures(model.scheme):
        raise ValueError(
            f"{_MODEL.value}: its points are not those of eyes and mouth: drop {', '.join(gains)}."
        )
    augmentation = dataclasses.replace(
        Augmentation().scaled(_AUGMENT_STRENGTH.value),
        eye_gain=_EYE_GAIN.value,
        mouth_gain=_MOUTH_GAIN.value,
    )
    margin = default_margin(model.image_size or 0)
    train = data_flags.load_for(model, path, "train_split", "training", margin=margin)
    validation = data_flags.load_for(model, path, "validation_split", "validation")
    print(f"Refine {_MODEL.value} on {train.summary}; compare on {validation.summary}.", flush=True)
    found = refining.refine(model, train, validation, augmentation, _SEED.value)
    falls = found.change[0] < 0
    try:
        if falls:
            sweep(output.parent, below=False)
            with replacing(output) as temporary:
                model.save(temporary)
    finally:
        print(_report(found))
    if not falls:
        raise ValueError(f"The error does not fall, so {output} is not written.")
    print(f"Refined: {output}")


def _report(found):
    """Lines of text on a `Refined`."""
    from keras_lapkl.evaluation import model_report

    lines = [
        model_report.table(
            [{**found.before, "data": "as it was"}, {**found.after, "data": "refined"}]
        )
    ]
    for title, result in (("As it was", found.before), ("Refined", found.after)):
        if parts := model_report.part_lines(result):
            lines.append(f"{title}:\n{parts}")
    change, low, high = found.change
    lines.append(
        f"The error changes by {change:+.1f} % ({low:+.1f} to {high:+.1f}, paired 95 % interval)."
    )
    return "\n".join(lines)
