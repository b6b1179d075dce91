"""Whether memory grows while training: resident MB after some steps of `fit`, for both steps.

    python benchmarks/memory.py --output=memory.json

Each model is trained in turn by one call of `fit` on one batch of noise. With --bound_mb, exits
with 1 if the last number of a row is further than that above its first.
"""

import sys

from absl import flags

from keras_lapkl._support import app, console
from keras_lapkl._support.tensorflow import quiet_tensorflow
from keras_lapkl._support.widths import parse_width

_AT = flags.DEFINE_list("at", ["200", "1000", "2000"], "After how many steps to look.")
_WIDTH = flags.DEFINE_string("width", "1/16", "Width of G.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 4, "Images through G in a step, even.")
_LANDMARKS = flags.DEFINE_integer("landmarks", 68, "K.", lower_bound=1)
_IMAGE_SIZE = flags.DEFINE_integer("image_size", 32, "Side of the images, pixels.")
_BOUND_MB = flags.DEFINE_float("bound_mb", None, "Largest growth, MB.", lower_bound=0)
_OUTPUT = flags.DEFINE_string("output", None, "JSON file to write.")

flags.register_validator("batch_size", lambda n: n > 0 and n % 2 == 0, "must be even, from 2 on")


def main(_):
    at = sorted(int(step) for step in _AT.value)
    width = parse_width(_WIDTH.value)
    quiet_tensorflow()
    import nets
    import resident

    from keras_lapkl._support.files import write_json
    from keras_lapkl._support.provenance import run_provenance
    from keras_lapkl.models.rcn import RCN

    batch = nets.faces(_BATCH_SIZE.value, _IMAGE_SIZE.value, _LANDMARKS.value)
    results = {}
    for name, make, data in (
        ("supervised", nets.supervised, batch),
        ("adversarial", nets.adversarial, nets.half_labeled(batch)),
    ):
        model = make(RCN(_LANDMARKS.value, width, _IMAGE_SIZE.value))
        results[name] = nets.looked_at(model, data, at, resident.resident_mb)
    rows = [["resident MB after", *(f"{step} steps" for step in at)]]
    rows += [[name, *(f"{mb:.1f}" for mb in found)] for name, found in results.items()]
    print(console.aligned(rows))
    if _OUTPUT.value:
        provenance = run_provenance()
        write_json(_OUTPUT.value, {"at": at, "resident_mb": results, "provenance": provenance})
    growth = max(found[-1] - found[0] for found in results.values())
    if _BOUND_MB.value is not None and growth > _BOUND_MB.value:
        print(f"Memory grew by {growth:.1f} MB.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(app.run_main(main))
