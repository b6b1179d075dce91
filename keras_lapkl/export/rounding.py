"""Learned rounding: each int8 weight goes up or down as the landmarks need it.

Rounded each to the nearest, the errors of thousands of weights add up as they happen to. Here all
of them learn at once by the gradient of the distance of the landmarks from the float network's,
passed straight through the rounding, with the activations rounded too. No labels are needed.

Source: Nagel et al., ICML 2020 (rounding that is learned; there layer by layer).
"""

import keras
import numpy as np
from absl import logging
from keras import layers, ops

from keras_lapkl.export import ranges
from keras_lapkl.export.equalization import is_convolution, is_stored
from keras_lapkl.export.graph import decoded, readout_network

STEPS = 400
_BATCH = 12
_PREDICTED = 16
_LEARNING_RATE = 1e-2
_SCALE_WEIGHT = 0.3
_MOST = 127


def learn_rounding(generator, images, beta, steps=STEPS):
    """Moves the kernels of a generator to int8's steps, each by less than two of them.

    Its largest weight of each output channel stays, and with it the channel's step.

    Args:
        generator: functional Keras model without batch normalization; it is changed in place.
        images: (N, H, W, 3) float32, as it takes them, of some hundred faces.
        beta: inverse temperature of the softmax.
        steps: ≥ 1, of 12 images or their mirror images.
    """
    import tensorflow as tf

    network = readout_network(generator)
    images = np.concatenate([images, images[:, :, ::-1]])
    expected = [
        np.concatenate([ops.convert_to_numpy(each) for each in parts])
        for parts in zip(
            *(decoded(logits, beta) for logits in _answers(network, images)), strict=True
        )
    ]
    limits = _limits(network, images[: len(images) // 2])
    kernels = {layer.name: _Kernel(layer) for layer in network.layers if is_convolution(layer)}
    variables = [kernel.steps for kernel in kernels.values()]
    rate = keras.optimizers.schedules.CosineDecay(_LEARNING_RATE, steps)
    optimizer = keras.optimizers.Adam(rate)
    optimizer.build(variables)

    @tf.function
    def learn(x, landmarks, scale):
        with tf.GradientTape() as tape:
            found = decoded(_int8_like(network, kernels, limits, x), beta)
            squares = tf.reduce_sum((found[0] - landmarks) ** 2, -1)
            loss = tf.reduce_mean(tf.sqrt(squares + 1e-6))
            loss += _SCALE_WEIGHT * tf.reduce_mean(tf.abs(found[1] - scale))
        values = [variable.value for variable in variables]
        optimizer.apply(tape.gradient(loss, values), variables)
        for kernel in kernels.values():
            kernel.keep_near()
        return loss

    logging.info("Learning in %d steps how to round %d kernels.", steps, len(kernels))
    random = np.random.default_rng(0)
    losses = []
    for _ in range(steps):
        rows = random.choice(len(images), _BATCH)
        losses.append(float(learn(images[rows], *(each[rows] for each in expected))))
    part = max(1, steps // 10)
    logging.info(
        "The loss went from %.3f to %.3f.", np.mean(losses[:part]), np.mean(losses[-part:])
    )
    for kernel in kernels.values():
        kernel.write()


class _Kernel:
    """A convolution's kernel in steps of int8, which is rounded as it is used."""

    def __init__(self, layer):
        self.layer = layer
        kernel = layer.get_weights()[0]
        axes = (0, 1, 3) if isinstance(layer, layers.DepthwiseConv2D) else (0, 1, 2)
        largest = np.abs(kernel).max(axes, keepdims=True)
        self.step = np.where(largest > 0, largest, 1).astype(np.float32) / _MOST
        start = kernel / self.step
        reach = np.where(np.abs(start) > _MOST - 0.5, 0, 1)
        self.low, self.high = np.clip([start - reach, start + reach], -_MOST, _MOST)
        self.steps = keras.Variable(start, name=f"{layer.name}_steps")

    def rounded(self):
        steps = self.steps.value
        return (steps + ops.stop_gradient(ops.round(steps) - steps)) * self.step

    def keep_near(self):
        self.steps.assign(ops.clip(self.steps.value, self.low, self.high))

    def write(self):
        _, *bias = self.layer.get_weights()
        steps = np.rint(ops.convert_to_numpy(self.steps.value))
        self.layer.set_weights([steps * self.step, *bias])


def _int8_like(network, kernels, limits, images):
    """What a network answers with rounded kernels and activations."""
    import tensorflow as tf

    def rounded(operation):
        def call(*args, **kwargs):
            if operation.name in kernels:
                bias = [operation.bias.value] if operation.use_bias else []
                weights = [kernels[operation.name].rounded(), *bias]
                value, _ = operation.stateless_call(weights, [], *args, **kwargs)
            else:
                value = operation(*args, **kwargs)
            if operation.name in limits:
                return tf.quantization.fake_quant_with_min_max_vars(value, *limits[operation.name])
            return value

        return call

    found = network._run_through_graph(images, rounded)
    return found if isinstance(found, list) else [found]


def _limits(network, images):
    """{layer: (low, high)} of what a file holds in int8."""
    held = [layer for layer in network.layers if is_stored(layer)]
    probe = keras.Model(network.input, [layer.output for layer in held])
    images = images[: ranges.IMAGES]
    lows, highs = np.zeros(len(held)), np.full(len(held), 1e-6)
    for values in _answers(probe, images):
        lows = np.minimum(lows, [value.min() for value in values])
        highs = np.maximum(highs, [value.max() for value in values])
    bounds = list(zip(lows.tolist(), highs.tolist(), strict=True))
    counts = np.zeros((len(held), ranges.BINS))
    for values in _answers(probe, images):  # again: all values at once can be gigabytes
        for count, value, bound in zip(counts, values, bounds, strict=True):
            count += np.histogram(value[value != 0], ranges.BINS, bound)[0]
    shares = [ranges.best_share(c, *bound) for c, bound in zip(counts, bounds, strict=True)]
    return {
        layer.name: (share * low, share * high)
        for layer, share, (low, high) in zip(held, shares, bounds, strict=True)
    }


def _answers(network, images):
    """Lists of what a network answers to a few images each."""
    for start in range(0, len(images), _PREDICTED):
        found = network.predict_on_batch(images[start : start + _PREDICTED])
        yield found if isinstance(found, list) else [found]
