"""Times MobileFPN's training step, and the same without its two short cuts.

    python benchmarks/mobile_step.py --widths=1/16,1/8,1/4 --threads=1

All of a width are interleaved; the optimizer is Muon, as in `w300_mobile.cfg`. Prints milliseconds
a step, median over rounds and quartiles, and each by the first:

    step     LandmarkLocalizer's step
    maps     the same with the maps built from their axes, as losses of others need them
    keras    that, with batch normalization by Keras's own layer
"""

import sys

from absl import flags

from keras_lapkl._support import app
from keras_lapkl._support.tensorflow import quiet_tensorflow
from keras_lapkl._support.widths import parse_width

_WIDTHS = flags.DEFINE_list("widths", ["1/16", "1/8", "1/4"], "Widths, by commas.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 8, "Images in a step.", lower_bound=1)
_IMAGE_SIZE = flags.DEFINE_integer("image_size", 80, "Side of the images, pixels.")
_LANDMARKS = flags.DEFINE_integer("landmarks", 68, "K.", lower_bound=1)
_ROUNDS = flags.DEFINE_integer("rounds", 9, "Timed rounds.", lower_bound=1)
_STEPS = flags.DEFINE_integer("steps", 4, "Timed steps of each in a round.", lower_bound=1)
_THREADS = flags.DEFINE_integer("threads", 1, "Threads of an operation.", lower_bound=1)


def main(_):
    quiet_tensorflow()
    import tensorflow as tf
    import timing

    from keras_lapkl._support.provenance import run_provenance

    tf.config.threading.set_intra_op_parallelism_threads(_THREADS.value)
    tf.config.threading.set_inter_op_parallelism_threads(_THREADS.value)
    times, ratios = {}, {}
    for text in _WIDTHS.value:
        seconds = timing.take_turns(_steps(parse_width(text)), _ROUNDS.value)
        column = f"width {text}"
        times[column] = {name: timing.summary(1e3 * taken) for name, taken in seconds.items()}
        ratios[column] = {
            f"{name}/step": timing.summary(seconds[name] / seconds["step"])
            for name in ("maps", "keras")
        }
    print(timing.table("ms a step", times))
    print(timing.table("ratio", ratios))
    print(timing.where(run_provenance(), _THREADS.value))


def _steps(width):
    import keras
    import nets

    from keras_lapkl.losses import LaplaceKL
    from keras_lapkl.models.layers import BatchNormalization
    from keras_lapkl.models.localizer import LandmarkLocalizer
    from keras_lapkl.models.mobile_fpn import MobileFPN
    from keras_lapkl.optimizers import muon

    batch = nets.faces(_BATCH_SIZE.value, _IMAGE_SIZE.value, _LANDMARKS.value)

    def step(by_maps, normalization):
        model = LandmarkLocalizer(MobileFPN(_LANDMARKS.value, width, _IMAGE_SIZE.value))
        model.compile(muon(1e-3), LaplaceKL())
        if by_maps:
            model._scored_forward = lambda: model
        for layer in model.generator.layers:
            if isinstance(layer, BatchNormalization):
                layer.call = normalization.call.__get__(layer)
        return nets.in_graph(model.train_step, batch, _STEPS.value)

    return {
        "step": step(False, BatchNormalization),
        "maps": step(True, BatchNormalization),
        "keras": step(True, keras.layers.BatchNormalization),
    }


if __name__ == "__main__":
    sys.exit(app.run_main(main))
