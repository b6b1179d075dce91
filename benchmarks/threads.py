"""Faces a second by several threads: one interpreter behind a lock, or one for each call at a time.

    python benchmarks/threads.py --threads=1,2,4 --output=threads.json

`TFLiteLocalizer` does the latter. Rounds are interleaved, and compared with the lock and one thread
in each. Beside them stands the memory that each further interpreter takes.
"""

import functools
import sys
import threading
import time

import numpy as np
from absl import flags

from keras_lapkl import pretrained
from keras_lapkl._support import app

_MODEL = flags.DEFINE_string("model", pretrained.NAMES[0], "A shipped model or a .tflite file.")
_THREADS = flags.DEFINE_list("threads", ["1", "2", "4"], "Numbers of threads, by commas.")
_FACES = flags.DEFINE_integer("faces", 400, "Faces that the threads of a round share.", 1)
_ROUNDS = flags.DEFINE_integer("rounds", 10, "Timed rounds.", lower_bound=1)
_OUTPUT = flags.DEFINE_string("output", None, "JSON file to write.")


def main(_):
    import resident
    import timing

    from keras_lapkl import load_model
    from keras_lapkl._support.files import write_json
    from keras_lapkl._support.provenance import run_provenance

    load = functools.partial(load_model, _MODEL.value, (".tflite",))
    localize = load()
    side = localize.image_size
    crops = np.random.default_rng(0).integers(0, 256, (16, side, side, 3), np.uint8)
    localize(crops[0])
    before, further = resident.resident_mb(), [load() for _ in range(8)]
    for each in further:
        each(crops[0])
    megabytes = (resident.resident_mb() - before) / len(further)

    lock = threading.Lock()

    def locked(crop):
        with lock:
            return localize(crop)

    work = {
        f"{name}, {count} threads": functools.partial(_seconds, function, crops, int(count))
        for count in _THREADS.value
        for name, function in (("a lock", locked), ("an interpreter a call", localize))
    }
    seconds = timing.take_turns(work, _ROUNDS.value)
    first = next(iter(seconds.values()))
    rates = {name: timing.summary(1 / taken) for name, taken in seconds.items()}
    ratios = {name: timing.summary(first / taken) for name, taken in seconds.items()}
    print(timing.table("", {"faces/s": rates, "ratio to the first": ratios}))
    print(f"\nEach further interpreter takes {megabytes:.1f} MB.")
    provenance = run_provenance()
    print(timing.where(provenance, max(map(int, _THREADS.value))))
    if _OUTPUT.value:
        found = {"faces_per_second": rates, "ratio": ratios, "megabytes": megabytes}
        write_json(_OUTPUT.value, {**found, "provenance": provenance})


def _seconds(function, crops, count):
    """Of one face, where so many threads share the work."""
    faces = -(-_FACES.value // count)

    def run(first):
        for i in range(faces):
            function(crops[(first + i) % len(crops)])

    threads = [threading.Thread(target=run, args=(i,)) for i in range(count)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return (time.perf_counter() - start) / (faces * count)


if __name__ == "__main__":
    sys.exit(app.run_main(main))
