"""Times .tflite files on this machine, in milliseconds.

    lapkl benchmark --model=fpn-eighth-300w,fpn-eighth-300w-int8 --threads=1,2
    lapkl benchmark --model=float32.tflite,int8.tflite --budget_ms=30

Files and numbers of threads are interleaved, run by run, so that their times can be compared. Exits
with 1 if a median is over the budget. `drift` is the median of the last quarter of the runs divided
by that of the first; above --drift_percent a warning goes to stderr. Needs LiteRT and NumPy, not
TensorFlow.
"""

# To a type checker a flag may be None and any text: its parser has seen to that.
# pyright: reportArgumentType=false

import sys

from absl import flags

from keras_lapkl._support.console import print
from keras_lapkl.commands import shared_flags

_MODEL, _THREADS, _RUNS, _WARMUP, _BUDGET_MS = shared_flags.timing(__name__, "median")
_DRIFT_PERCENT = flags.DEFINE_float(
    "drift_percent", 10, "Warn where the runs got slower or faster by more.", lower_bound=0
)
_FORMAT = flags.DEFINE_enum("format", "text", ["text", "json", "csv"], "What to print.")
_OUTPUT = flags.DEFINE_string("output", None, "Write that to this file instead.")


def main(_):
    from keras_lapkl import pretrained
    from keras_lapkl._support.files import check_outputs, replacing
    from keras_lapkl._support.provenance import run_provenance
    from keras_lapkl.tflite import latency

    paths = [pretrained.resolve(name, (".tflite",)) for name in _MODEL.value]
    check_outputs(filter(None, [_OUTPUT.value]), paths)
    results = latency.measure_many(
        paths,
        [int(v) for v in _THREADS.value],
        _RUNS.value,
        _WARMUP.value,
    )
    names = [name for name in _MODEL.value for _ in _THREADS.value]
    results = [{**each, "model": name} for each, name in zip(results, names, strict=True)]
    over = [] if _BUDGET_MS.value is None else latency.over_budget(results, _BUDGET_MS.value)
    text = latency.formatted(
        results,
        _FORMAT.value,
        within_budget=None if _BUDGET_MS.value is None else not over,
        provenance=run_provenance(),
    )
    if _OUTPUT.value is None:
        print(text)
    else:
        with replacing(_OUTPUT.value) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")
    for line in (*latency.drifted(results, _DRIFT_PERCENT.value), *over):
        print(line, file=sys.stderr)
    return 1 if over else 0
