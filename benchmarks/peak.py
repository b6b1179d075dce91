"""The share of the machine's int8 peak that a .tflite file reaches, and where its time goes.

    python benchmarks/peak.py --tflite=keras_lapkl/weights/fpn-eighth-300w-int8.tflite

The peak is what the same interpreter attains on one thread: the most multiply-adds a second of a
1×1 convolution in int8, from as many channels to as many, on a map of 32×32. Those of the file are
counted from its own shapes. LiteRT's Python has no profiler, so the file is cut behind each of its
operators, and an operator takes what its cut takes longer than the one before: medians of rounds
interleaved, whose sum is the time of the whole file. A single one is good to a few microseconds, so
they are told by kind: name, window, and type of what comes out.
"""

import math
import pathlib
import sys
import tempfile

import numpy as np
from absl import flags

from keras_lapkl._support import app, console
from keras_lapkl._support.tensorflow import quiet_tensorflow

_TFLITE = flags.DEFINE_string("tflite", None, "A .tflite file.", required=True)
_CHANNELS = flags.DEFINE_list("channels", ["256", "512", "1024"], "Of the peak, by commas.")
_ROUNDS = flags.DEFINE_integer("rounds", 300, "Timed rounds.", lower_bound=1)
_OUTPUT = flags.DEFINE_string("output", None, "JSON file to write.")

_SIDE = 32


def main(_):
    quiet_tensorflow()
    import timing

    from keras_lapkl._support.files import write_json
    from keras_lapkl._support.provenance import run_provenance

    found = _operators(_TFLITE.value)
    with tempfile.TemporaryDirectory() as folder:
        cuts = _cuts(_TFLITE.value, pathlib.Path(folder))
        made = {name: _convolution(int(name), pathlib.Path(folder)) for name in _CHANNELS.value}
        work = {path: _work(path) for path in [*cuts, *made.values()]}
        seconds = timing.take_turns(work, _ROUNDS.value)
    taken = {path: float(np.median(values)) for path, values in seconds.items()}
    rates = {name: (int(name) * _SIDE) ** 2 / taken[path] for name, path in made.items()}
    peak = max(rates.values())
    rows = _by_kind(found, np.diff([0, *(taken[path] for path in cuts)]))
    headings = (
        "operators",
        "number",
        "ms",
        "% of time",
        "M multiply-adds",
        "G a second",
        "% of peak",
    )
    print(console.aligned([headings, *(_cells(row, rows[0], peak) for row in rows)]))
    told = ", ".join(f"{rate / 1e9:.0f} with {name}" for name, rate in rates.items())
    print(f"\nG multiply-adds a second of the 1×1 convolution: {told} channels.")
    provenance = run_provenance()
    print(timing.where(provenance, 1))
    if _OUTPUT.value:
        found = {"rows": rows, "peak": rates, "provenance": provenance}
        write_json(_OUTPUT.value, found)


def _operators(path):
    """Kind and multiply-adds of each operator of a file."""
    from keras_lapkl.tflite import inspection

    model = _read(path)
    graph = model.subgraphs[0]
    found = []
    for told, operator in zip(inspection.operators(model), graph.operators, strict=True):
        window, multiply_adds = "", 0
        if told.name in ("CONV_2D", "DEPTHWISE_CONV_2D"):
            _, height, width, channels = map(int, graph.tensors[operator.inputs[1]].shape)
            window = f" {height}×{width}"
            multiply_adds = math.prod(map(int, graph.tensors[operator.outputs[0]].shape))
            multiply_adds *= height * width * (channels if told.name == "CONV_2D" else 1)
        found.append((f"{told.name}{window} {told.outputs[0]}", multiply_adds))
    return found


def _cuts(path, folder):
    """Files of the first operator of a file, of the first two, and so on to all."""
    from keras_lapkl.export import flatbuffer_writer

    cuts = []
    for length in range(1, 1 + len(_read(path).subgraphs[0].operators)):
        model = _read(path)
        (graph,) = model.subgraphs
        kept, rest = graph.operators[:length], graph.operators[length:]
        wanted = {tensor for operator in rest for tensor in operator.inputs} | set(graph.outputs)
        graph.operators = kept
        made = [each for each in kept if not _restores(model, each)]
        graph.outputs = [i for operator in made for i in operator.outputs if i in wanted]
        model.signatureDefs = []
        cuts.append(folder / f"{length}.tflite")
        cuts[-1].write_bytes(flatbuffer_writer.pack(model))
    return cuts


def _read(path):
    """The file, what restores its constants moved to before what reads them."""
    from keras_lapkl.tflite import flatbuffer

    model = flatbuffer.read(path)
    (graph,) = model.subgraphs
    for each in [op for op in graph.operators if _restores(model, op)]:
        graph.operators.remove(each)
        reads = [each.outputs[0] in operator.inputs for operator in graph.operators]
        graph.operators.insert(reads.index(True), each)
    return model


def _restores(model, operator):
    """Whether all that an operator reads are constants, so that it is done once."""
    tensors = [model.subgraphs[0].tensors[i] for i in operator.inputs]
    return all(model.buffers[tensor.buffer].data is not None for tensor in tensors)


def _convolution(channels, folder):
    """File of a 1×1 convolution in int8 from and to so many channels."""
    import tensorflow as tf

    rng = np.random.default_rng(0)
    image = rng.random((1, _SIDE, _SIDE, channels), np.float32)
    weights = rng.random((1, 1, channels, channels), np.float32)

    @tf.function(input_signature=[tf.TensorSpec(image.shape)])
    def convolved(image):
        return tf.nn.conv2d(image, weights, 1, "VALID")

    graph = convolved.get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([graph], convolved)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    converter.representative_dataset = lambda: [[image]]
    path = folder / f"{channels} channels.tflite"
    with console.held_stderr():
        path.write_bytes(converter.convert())
    return path


def _work(path):
    """Work for `timing.take_turns`: the file's time by LiteRT on one thread."""
    import timing

    from keras_lapkl.tflite.runner import load_interpreter

    interpreter = load_interpreter(path)
    for tensor in interpreter.get_input_details():
        interpreter.set_tensor(tensor["index"], np.ones(tensor["shape"], tensor["dtype"]))
    return timing.repeated(interpreter.invoke, 3)


def _by_kind(found, seconds):
    """Rows of number, seconds and multiply-adds: the whole, then each kind, the longest first."""
    rows = {}
    for (kind, multiply_adds), taken in zip(found, seconds, strict=True):
        for name in ("all", kind):
            row = rows.setdefault(
                name, {"operators": name, "number": 0, "seconds": 0.0, "multiply_adds": 0}
            )
            row["number"] += 1
            row["seconds"] += float(taken)
            row["multiply_adds"] += multiply_adds
    return [rows.pop("all"), *sorted(rows.values(), key=lambda row: -row["seconds"])]


def _cells(row, whole, peak):
    """What is printed of a row."""
    seconds, multiply_adds = row["seconds"], row["multiply_adds"]
    cells = (
        row["operators"],
        str(row["number"]),
        f"{1e3 * seconds:.3f}",
        f"{100 * seconds / whole['seconds']:.1f}",
    )
    if not multiply_adds:
        return (*cells, "", "", "")
    rate = multiply_adds / seconds
    return (*cells, f"{multiply_adds / 1e6:.2f}", f"{rate / 1e9:.0f}", f"{100 * rate / peak:.0f}")


if __name__ == "__main__":
    sys.exit(app.run_main(main))
