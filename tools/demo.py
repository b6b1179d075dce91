"""The whole line in some minutes: train on synthetic faces, evaluate, convert, check latency.

    python tools/demo.py --output_dir=demo

The numbers say that the line works, not how good the method is: real faces need real training.
"""

import sys

from absl import flags

from keras_lapkl import cli

_OUTPUT_DIR = flags.DEFINE_string("output_dir", "demo", "Folder of all results.")
_WIDTH = flags.DEFINE_float("width", 1 / 16, "Fraction of the 64 channels of the full network.")
_EPOCHS = flags.DEFINE_integer("epochs", 8, "Passes over the training faces.")
_NUM_SYNTHETIC = flags.DEFINE_integer("num_synthetic", 3000, "Faces to train on.")
_SEED = flags.DEFINE_integer("seed", 0, "Of weights and order.")


def main(_):
    cli.quiet_tensorflow()
    from keras_lapkl import demo, runs

    demo.run(
        _OUTPUT_DIR.value,
        width=_WIDTH.value,
        epochs=_EPOCHS.value,
        num_synthetic=_NUM_SYNTHETIC.value,
        seed=_SEED.value,
        provenance=runs.provenance(cli.resolved_flags()),
    )


if __name__ == "__main__":
    sys.exit(cli.run(main))
