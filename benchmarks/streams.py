"""Whether faces that do not fit into memory keep training fed: steps on shards against memory.

    python benchmarks/streams.py --unlabeled_dir=shards

All steps are those of `lapkl train --teacher`, through `fit`, with labeled and unlabeled faces,
augmented, on all cores. They take turns; where the unlabeled faces come from differs:

    memory   decoded before, and all of them held
    shards   read and decoded when a step needs them, none held
    disk     the same, after the system was told before each round to forget the files

Prints milliseconds a step and ratios, the median over rounds and quartiles.
"""

import os
import pathlib
import sys

from absl import flags

from keras_lapkl._support import app
from keras_lapkl._support.tensorflow import quiet_tensorflow
from keras_lapkl._support.widths import parse_width

_UNLABELED_DIR = flags.DEFINE_string("unlabeled_dir", None, "Folder of shards.", required=True)
_NETWORK = flags.DEFINE_string("network", "mobile_fpn", "As `lapkl train` has them.")
_WIDTH = flags.DEFINE_string("width", "1/16", "Of the network: the narrower, the faster a step.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 8, "Labeled faces in a step.", lower_bound=1)
_UNLABELED = flags.DEFINE_integer("unlabeled_batch_size", 8, "The others.", lower_bound=1)
_ROUNDS = flags.DEFINE_integer("rounds", 9, "Timed rounds.", lower_bound=1)
_STEPS = flags.DEFINE_integer("steps", 50, "Timed steps of each in a round.", lower_bound=1)


def main(_):
    quiet_tensorflow()
    import timing

    from keras_lapkl._support.provenance import run_provenance
    from keras_lapkl.data.unlabeled.shards import read_shards

    files = sorted(pathlib.Path(_UNLABELED_DIR.value).glob("faces-*.tfrecord"))
    held, streamed = (read_shards(_UNLABELED_DIR.value, mb) for mb in (1 << 40, 0))
    for i in range(len(held)):  # as many as fit are kept, here all
        held.gather([i])
    decoded = len(held) * 3 * (held.image_size + 2 * held.margin) ** 2
    print(
        f"{len(held):,} faces in {len(files)} shards: {1e-6 * decoded:,.0f} MB decoded, "
        f"{1e-6 * sum(file.stat().st_size for file in files):,.0f} MB on disk."
    )
    work = {"memory": _work(held), "shards": _work(streamed)}
    read = _work(streamed)

    def from_disk():
        for file in files:
            _forget(file)
        return read()

    seconds = timing.take_turns({**work, "disk": from_disk}, _ROUNDS.value)
    ratios = {f"{name}/memory": seconds[name] / seconds["memory"] for name in ("shards", "disk")}
    for title, found in (
        ("ms a step", {k: 1e3 * v for k, v in seconds.items()}),
        ("ratio", ratios),
    ):
        print(
            timing.table(title, {"median": {name: timing.summary(v) for name, v in found.items()}})
        )
    print(timing.where(run_provenance(), os.cpu_count()))


def _work(unlabeled):
    """Work for `timing.take_turns`: steps of `fit` on another part of the stream each time."""
    import nets
    import numpy as np

    from keras_lapkl.data import datasets
    from keras_lapkl.training.augmentation import Augmentation
    from keras_lapkl.training.batches import self_training_batches
    from keras_lapkl.training.building import build
    from keras_lapkl.training.recipe import Recipe

    size = unlabeled.image_size
    crops = datasets.load(
        "synthetic",
        num_synthetic=64,
        image_size=size,
        margin=unlabeled.margin,
        crop_scale=unlabeled.crop_scale,
    )
    recipe = Recipe(network=_NETWORK.value, width=parse_width(_WIDTH.value), dropout=0)
    model = build(recipe, crops)
    labels = np.full((len(unlabeled), crops.scheme.num_landmarks, 3), size / 2, np.float32)
    labels[..., 2] = 1

    def batches(first_step):
        return self_training_batches(
            crops,
            unlabeled,
            labels,
            _BATCH_SIZE.value,
            _UNLABELED.value,
            augmentation=Augmentation(),
            first_step=first_step,
        )

    return nets.in_fit(model, batches, _STEPS.value)


def _forget(file):
    """Has Linux drop a file's pages, so that the next read is the disk's."""
    handle = os.open(file, os.O_RDONLY)
    try:
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(handle)


if __name__ == "__main__":
    sys.exit(app.run_main(main))
