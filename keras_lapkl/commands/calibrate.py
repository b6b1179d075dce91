"""Fits a model's confidence to labels of your own, without training it.

    lapkl calibrate --model=fpn-eighth-300w --dataset=300w --data_dir=mine --split=mine/all.txt \\
        --output=mine.tflite

A promised 90 % radius holds where the model was calibrated; elsewhere it is worth less. Some 50
labeled faces from where the model will be used, which it was not trained on, mend that. The output
has the same weights and gives the same landmarks. The table says how many points lie within their
radius, by the model's own calibration and by the new one, each face judged by a fit to others.
"""

# To a type checker a flag may be None and any text: its parser has seen to that.
# pyright: reportArgumentType=false

import math
import pathlib

from absl import flags

from keras_lapkl._support.console import print
from keras_lapkl._support.tensorflow import quiet_tensorflow
from keras_lapkl.commands import data_flags

_MODEL = flags.DEFINE_string(
    "model", None, "A .keras or .tflite file, or a shipped model's name.", required=True
)
_OUTPUT = flags.DEFINE_string("output", None, "File to write, of the same kind.", required=True)
data_flags.define(__name__, of_model=True, split="validation")


def main(_):
    from keras_lapkl import load_model, pretrained
    from keras_lapkl._support import console
    from keras_lapkl._support.files import check_outputs, sweep
    from keras_lapkl.export.recalibration import recalibrate

    output = pathlib.Path(_OUTPUT.value)
    if output.suffix not in (".keras", ".tflite"):
        raise ValueError(f"--output must end in .keras or .tflite. Received: {output}")
    path = pretrained.resolve(_MODEL.value, (output.suffix,))
    check_outputs([output], [path])
    if path.suffix == ".keras":
        quiet_tensorflow()
    sweep(output.parent, below=False)
    crops = data_flags.load_for(load_model(path), path, "split", "validation")
    print(f"Calibrate on {crops.summary}.")
    found = recalibrate(path, output, crops)
    rows = [("", "should be", "own calibration", "new, on faces left out of the fit")]
    for asked, after in found.after.items():
        before = _percent(found.before[asked]) if found.before else "none"
        rows.append(("within the radius", f"{100 * asked:g} %", before, _percent(after)))
    own = "none" if found.expected_before is None else f"{found.expected_before:.2f} px"
    rows.append(("expected error", f"{found.error:.2f} px", own, f"{found.expected_after:.2f} px"))
    print(console.aligned(rows))
    print(f"The same model with the new calibration: {output}")


def _percent(share):
    return "unknown" if math.isnan(share) else f"{100 * share:.1f} %"
