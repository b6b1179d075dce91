"""Times training steps: Keras in a graph, through `fit`, PyTorch eager, and the adversarial step.

    python benchmarks/step.py --widths=1/16,1/8,1/4 --threads=2 --output=step.json
    python benchmarks/step.py --widths=1/8 --profile

Prints milliseconds an image through G, and ratios of steps: the median over passes, and the
quartiles. All steps of a width are interleaved, so that other load affects all alike.
With --batch_size=2n:

    graph        LandmarkLocalizer's step on 2n labeled images, in a tf.function, nothing around
    half         the same on n images
    fit          the same on 2n images through `fit`, from the end of a batch to the end of another
    adversarial  AdversarialLocalizer's step on n labeled and n unlabeled images
    torch        the step of `graph` in PyTorch eager: the same net, loss and Adam
    torch_nhwc   the same in PyTorch's channels_last memory format

Before PyTorch is timed, its net gets Keras's weights, and must then have Keras's logits, loss and
gradients. PyTorch is not a dependency of this package: pip install torch, or say --notorch.

--profile times both steps without one part or another instead; see `parts.py`.
"""

import sys

from absl import flags

from keras_lapkl._support import app
from keras_lapkl._support.tensorflow import quiet_tensorflow
from keras_lapkl._support.widths import parse_width

_WIDTHS = flags.DEFINE_list("widths", ["1/16", "1/8", "1/4"], "Widths of G, by commas.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 32, "2n: images through G in a step, even.")
_ROUNDS = flags.DEFINE_integer("rounds", 15, "Timed rounds.", lower_bound=1)
_STEPS = flags.DEFINE_integer("steps", 2, "Timed steps of each in a round.", lower_bound=1)
_THREADS = flags.DEFINE_integer("threads", 2, "Threads of an operation.", lower_bound=1)
_DROPOUT = flags.DEFINE_float("dropout", 0.2, "G's rate, in [0, 1).", lower_bound=0)
_LANDMARKS = flags.DEFINE_integer("landmarks", 68, "K.", lower_bound=1)
_IMAGE_SIZE = flags.DEFINE_integer("image_size", 80, "Side of the images, pixels.")
_TORCH = flags.DEFINE_bool("torch", True, "Whether to compare with PyTorch.")
_PROFILE = flags.DEFINE_bool("profile", False, "Time steps without their parts instead.")
_OUTPUT = flags.DEFINE_string("output", None, "JSON file to write.")

flags.register_validator("batch_size", lambda n: n > 0 and n % 2 == 0, "must be even, from 2 on")

RATIOS = (
    ("graph", "torch"),
    ("graph", "torch_nhwc"),
    ("fit", "graph"),
    ("adversarial", "graph"),
    ("adversarial", "half"),
)
"""Time of the first over time of the second."""
TOLERANCE = 1e-3
"""Float32 leaves 1e-6, and up to 2e-4 where rounding moves a leaky ReLU to its other side."""


def main(_):
    widths = {text: parse_width(text) for text in _WIDTHS.value}
    with_torch = _TORCH.value and not _PROFILE.value
    quiet_tensorflow()
    import tensorflow as tf
    import timing

    from keras_lapkl._support.files import write_json
    from keras_lapkl._support.provenance import run_provenance

    tf.config.threading.set_intra_op_parallelism_threads(_THREADS.value)
    tf.config.threading.set_inter_op_parallelism_threads(_THREADS.value)
    if with_torch:
        import torch_rcn

        torch_rcn.torch.set_num_threads(_THREADS.value)
    results = {}
    for text, width in widths.items():
        candidates = _parts(width) if _PROFILE.value else _steps(width)
        results[text] = {}
        if with_torch:
            results[text]["torch_differs_by"] = _agreement(width)
            candidates |= _torch_steps(width)
        results[text] |= _statistics(timing.take_turns(candidates, _ROUNDS.value))

    provenance = run_provenance()
    if with_torch:
        provenance["versions"]["torch"] = torch_rcn.torch.__version__
    for title, key in (("ms an image", "ms_an_image"), ("ratio", "ratios")):
        print(timing.table(title, {f"width {text}": found[key] for text, found in results.items()}))
    if with_torch:
        worst = max(found["torch_differs_by"] for found in results.values())
        print(
            "With Keras's weights PyTorch's net has Keras's logits, loss and gradients: the "
            f"largest relative difference of the three is {worst:.0e}."
        )
    print(timing.where(provenance, _THREADS.value))
    if _OUTPUT.value:
        write_json(_OUTPUT.value, {"widths": results, "provenance": provenance})


def _generator(width, dropout=None):
    from keras_lapkl.models.rcn import RCN

    rate = _DROPOUT.value if dropout is None else dropout
    return RCN(_LANDMARKS.value, width, _IMAGE_SIZE.value, rate)


def _batch():
    import nets

    return nets.faces(_BATCH_SIZE.value, _IMAGE_SIZE.value, _LANDMARKS.value)


def _steps(width):
    """Keras's steps by name."""
    import nets

    batch = _batch()

    def in_graph(model, data):
        return nets.in_graph(model.train_step, data, _STEPS.value)

    return {
        "graph": in_graph(nets.supervised(_generator(width)), batch),
        "half": in_graph(nets.supervised(_generator(width)), nets.first_half(batch)),
        "fit": nets.in_fit(nets.supervised(_generator(width)), nets.repeated(batch), _STEPS.value),
        "adversarial": in_graph(nets.adversarial(_generator(width)), nets.half_labeled(batch)),
    }


def _torch_steps(width):
    import torch_rcn

    return {
        name: torch_rcn.training(_generator(width), *_batch(), layout, _STEPS.value)
        for name, layout in (("torch", "contiguous_format"), ("torch_nhwc", "channels_last"))
    }


def _parts(width):
    """Both steps, and both without their parts, by name."""
    import functools

    import nets
    import parts

    generator, batch = functools.partial(_generator, width), _batch()
    return parts.supervised(generator, batch, _STEPS.value) | parts.adversarial(
        generator, nets.half_labeled(batch), _STEPS.value
    )


def _agreement(width):
    """Largest relative difference of logits, loss and gradients; ValueError if it is large."""
    import nets
    import numpy as np
    import torch_rcn

    generator, batch = _generator(width), nets.first_half(_batch())
    ours, theirs = (module.evaluated(generator, *batch) for module in (nets, torch_rcn))
    found = max(
        float(np.linalg.norm(a - b) / np.linalg.norm(a)) for a, b in zip(ours, theirs, strict=True)
    )
    if not found < TOLERANCE:
        raise ValueError(f"PyTorch's net is not Keras's: its values are {found:.1g} of theirs off.")
    return found


def _statistics(seconds):
    """Milliseconds an image and ratios, for the JSON file and the tables."""
    import timing

    images = dict.fromkeys(seconds, _BATCH_SIZE.value) | {"half": _BATCH_SIZE.value // 2}
    pairs = [(a, b) for a, b in RATIOS if {a, b} <= set(seconds)]
    if _PROFILE.value:
        whole = {name: "adversarial" if name.startswith("adv") else "step" for name in seconds}
        pairs = [(name, of) for name, of in whole.items() if name != of]
    return {
        "ms_an_image": {
            name: timing.summary(1e3 * taken / images[name]) for name, taken in seconds.items()
        },
        "ratios": {f"{a}/{b}": timing.summary(seconds[a] / seconds[b]) for a, b in pairs},
    }


if __name__ == "__main__":
    sys.exit(app.run_main(main))
