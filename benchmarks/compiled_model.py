"""Times a face by LiteRT's `CompiledModel` and by its `Interpreter`, interleaved, with copies.

    python benchmarks/compiled_model.py --model=fpn-eighth-300w,fpn-eighth-300w-int8 \\
        --threads=1 --output=compiled.json

Both take a crop of NumPy and give landmarks and scales of NumPy, so that their buffers count too.
Milliseconds: median and quartiles over rounds; the ratio is taken within each round.
"""

import functools
import sys

import numpy as np
from absl import flags

from keras_lapkl import pretrained
from keras_lapkl._support import app

_MODEL = flags.DEFINE_list("model", [pretrained.NAMES[0]], "Shipped models or .tflite files.")
_THREADS = flags.DEFINE_integer("threads", 1, "Threads of each.", lower_bound=1)
_ROUNDS = flags.DEFINE_integer("rounds", 100, "Timed rounds.", lower_bound=1)
_STEPS = flags.DEFINE_integer("steps", 10, "Faces of each round.", lower_bound=1)
_OUTPUT = flags.DEFINE_string("output", None, "JSON file to write.")


def main(_):
    import timing

    from keras_lapkl._support.files import write_json
    from keras_lapkl._support.provenance import run_provenance

    results = {}
    for name in _MODEL.value:
        path = pretrained.resolve(name, (".tflite",))
        runs = {
            "Interpreter": _interpreter(path, _THREADS.value),
            "CompiledModel": _compiled(path, _THREADS.value),
        }
        found = [run() for run in runs.values()]
        distance = max(float(np.abs(a - b).max()) for a, b in zip(*found, strict=True))
        work = {kind: timing.repeated(run, _STEPS.value) for kind, run in runs.items()}
        seconds = timing.take_turns(work, _ROUNDS.value)
        times = {kind: timing.summary(1e3 * taken) for kind, taken in seconds.items()}
        ratios = {
            kind: timing.summary(taken / seconds["Interpreter"]) for kind, taken in seconds.items()
        }
        print(timing.table(name, {"ms": times, "ratio to Interpreter": ratios}))
        print(f"Largest difference of what they give: {distance:.2g} px.\n")
        results[name] = {"milliseconds": times, "ratios": ratios, "difference": distance}
    provenance = run_provenance()
    print(timing.where(provenance, _THREADS.value))
    if _OUTPUT.value is not None:
        write_json(_OUTPUT.value, {"results": results, "provenance": provenance})


def _crop(shape, dtype):
    values = np.random.default_rng(0).random(shape, np.float32)
    return values if dtype == np.float32 else (127 * values).astype(dtype)


def _interpreter(path, threads):
    from keras_lapkl.tflite import runner

    interpreter = runner.load_interpreter(path, threads)
    (image,) = interpreter.get_input_details()
    signature = interpreter.get_signature_runner(runner.SIGNATURE).get_output_details()
    outputs = [signature[name]["index"] for name in runner.OUTPUTS]
    crop = _crop(image["shape"], image["dtype"])

    def run():
        interpreter.set_tensor(image["index"], crop)
        interpreter.invoke()
        return [interpreter.get_tensor(index) for index in outputs]

    return run


def _compiled(path, threads):
    from ai_edge_litert.compiled_model import CompiledModel
    from ai_edge_litert.options import CpuOptions, Options

    from keras_lapkl._support import console
    from keras_lapkl.tflite import runner

    with console.held_stderr():  # LiteRT logs on start-up
        model = CompiledModel.from_file(
            str(path), options=Options(cpu_options=CpuOptions(num_threads=threads))
        )
    signature = runner.SIGNATURE
    image = model.get_input_tensor_details(signature)[runner.INPUT]
    outputs = model.get_output_tensor_details(signature)
    crop = _crop(tuple(image["shape"]), np.dtype(image["dtype"]))
    given = {runner.INPUT: model.create_input_buffer_by_name(signature, runner.INPUT)}
    taken = {name: model.create_output_buffer_by_name(signature, name) for name in outputs}
    read = [
        functools.partial(taken[n].read, int(np.prod(outputs[n]["shape"])), np.float32)
        for n in runner.OUTPUTS
    ]
    shapes = [tuple(outputs[n]["shape"]) for n in runner.OUTPUTS]

    def run():
        given[runner.INPUT].write(crop)
        model.run_by_name(signature, given, taken)
        return [np.reshape(each(), shape) for each, shape in zip(read, shapes, strict=True)]

    return run


if __name__ == "__main__":
    sys.exit(app.run_main(main))
