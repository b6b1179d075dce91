"""Tells which operators of a .tflite file run where: phones, the Edge TPU, microcontrollers.

    lapkl check model.tflite
    lapkl check --target=gpu fpn-eighth-300w-int8
    lapkl check --output=check.json fpn-eighth-300w fpn-eighth-300w-int8

For LiteRT's CPU with XNNPACK, its delegates for GPUs, Core ML, NNAPI and Qualcomm's NPU, the Edge
TPU, TFLite Micro with and without CMSIS-NN, and Arm's Ethos-U: how many operators run there, and
each that does not, with the reason. The lists are others' facts, each with its source and date.
Nothing is run but, where they are installed, vela, Arm's own compiler (the extra `vela`), and
TFLite Micro, for the arena that a file needs (the extra `micro`). Several files make one table.
With --target the exit status is 1 if anything falls back there.
"""

# To a type checker a flag may be None and any text: its parser has seen to that.
# pyright: reportArgumentType=false

from absl import app, flags

from keras_lapkl._support.console import print
from keras_lapkl.tflite.targets import TARGETS

ARGUMENTS = "files"

_TARGET = flags.DEFINE_list(
    "target",
    None,
    f"Look at these only, by commas, and exit with 1 if anything falls back: {', '.join(TARGETS)}.",
)
_OUTPUT = flags.DEFINE_string("output", None, "JSON file to write as well.")

flags.register_validator(
    "target",
    lambda names: names is None or (names and set(names) <= set(TARGETS)),
    f"must be some of {', '.join(TARGETS)}, by commas",
)


def main(argv):
    from keras_lapkl import pretrained
    from keras_lapkl._support.files import check_outputs, write_json
    from keras_lapkl._support.provenance import run_provenance
    from keras_lapkl.tflite import compatibility

    if len(argv) < 2:
        raise app.UsageError("Expected a .tflite file, or several, or shipped models' names.")
    paths = [pretrained.resolve(name, (".tflite",)) for name in argv[1:]]
    check_outputs(filter(None, [_OUTPUT.value]), paths)
    names = _TARGET.value or list(TARGETS)
    reports = [compatibility.check(path, names, own_tools=True) for path in paths]
    print(compatibility.page(reports[0]) if len(paths) == 1 else compatibility.summary(reports))
    if _OUTPUT.value is not None:
        provenance = run_provenance()
        write_json(_OUTPUT.value, {"results": reports, "provenance": provenance})
    return int(bool(_TARGET.value) and any(map(compatibility.falls_back, reports)))
