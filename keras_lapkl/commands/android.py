"""Times .tflite files on an Android device, in milliseconds, by adb and benchmark_model.

    lapkl android --binary=android_aarch64_benchmark_model --model=int8.tflite \\
        --threads=1,2,4 --affinity=f0 --budget_ms=10 --output=phone.json

Pushes binary and files to /data/local/tmp, runs them, pulls the binary's output, and removes all of
it again. Exits with 1 if a mean is over the budget. Needs adb, one device that allows USB
debugging, and the binary for its processor, which LiteRT's documentation links prebuilt:
https://ai.google.dev/edge/litert/models/measurement. The flags given to it and its summary line are
those of that documentation and of the source of the interpreter's benchmark_model; min, median and
p95 come from a line that only the source shows, and are None where a binary lacks it. Whether the
CompiledModel benchmark_model of the same name takes more than --graph and --num_threads could not
be checked.
"""

import sys

from absl import flags

from keras_lapkl._support.console import print
from keras_lapkl.commands import shared_flags

_BINARY = flags.DEFINE_string("binary", None, "benchmark_model for the device.", required=True)
_MODEL, _THREADS, _RUNS, _WARMUP, _BUDGET_MS = shared_flags.timing(__name__, "mean")
_AFFINITY = flags.DEFINE_string("affinity", None, "Mask of cores for taskset, such as f0.")
_SERIAL = flags.DEFINE_string("serial", None, "Which device, as `adb devices` lists it.")
_OUTPUT = flags.DEFINE_string(
    "output", None, "JSON file to write, with all of the binary's output."
)

flags.register_validator(
    "affinity",
    lambda value: value is None or all(c in "0123456789abcdefABCDEF" for c in value),
    "must be a mask in hexadecimal digits, such as f0",
)


def main(_):
    from keras_lapkl import pretrained
    from keras_lapkl._support.files import check_outputs, write_json
    from keras_lapkl._support.provenance import run_provenance
    from keras_lapkl.tflite import android, latency

    paths = [pretrained.resolve(name, (".tflite",)) for name in _MODEL.value]
    check_outputs(filter(None, [_OUTPUT.value]), [_BINARY.value, *paths])
    results = android.measure_many(
        android.Device(_SERIAL.value),
        _BINARY.value,
        paths,
        [int(v) for v in _THREADS.value],
        _RUNS.value,
        _WARMUP.value,
        _AFFINITY.value,
    )
    over = []
    if _BUDGET_MS.value is not None:
        over = latency.over_budget(results, _BUDGET_MS.value, by="mean")
    if _OUTPUT.value is not None:
        provenance = run_provenance()
        write_json(_OUTPUT.value, {"results": results, "provenance": provenance})
    print(latency.formatted([{k: v for k, v in r.items() if k != "log"} for r in results]))
    for line in over:
        print(line, file=sys.stderr)
    return 1 if over else 0
