"""Where the time of a training step goes: the step without one part or another."""

import keras
import nets
import tensorflow as tf
from keras import ops

from keras_lapkl.losses import LaplaceKL
from keras_lapkl.models.adversarial import AdversarialLocalizer


@keras.saving.register_keras_serializable("benchmarks")
class MeanLogit(keras.losses.Loss):
    """The least that still sends a gradient to every logit: neither decoding nor divergence."""

    def call(self, y_true, y_pred):
        return ops.mean(y_pred, axis=(1, 2, 3))


@keras.saving.register_keras_serializable("benchmarks")
class WithoutOmega(AdversarialLocalizer):
    """Takes the labeled images' own blue channel for every true heatmap: nothing to render."""

    def true_pairs(self, batch):
        return self._pairs(batch.images, ops.tile(batch.images[..., 2:], self.num_landmarks))


def supervised(generator, batch, steps):
    """Work by name on a labeled batch; `generator(**kwargs)` makes an RCN."""

    def step(model):
        return nets.in_graph(model.train_step, batch, steps)

    def part(function):
        return nets.in_graph(function, batch, steps)

    return {
        "step": step(nets.supervised(generator())),
        "no_optimizer": part(_gradients(generator())),
        "forward_and_loss": part(_loss(generator())),
        "forward": part(_forward(generator())),
        "no_decode_nor_loss": step(nets.supervised(generator(), loss=MeanLogit())),
        "no_dropout": step(nets.supervised(generator(dropout=0))),
        "nearest_upsampling": step(nets.supervised(_nearest(generator()))),
    }


def adversarial(generator, batch, steps):
    """Work by name on a half labeled batch."""

    def step(**kwargs):
        model = nets.adversarial(generator(), **kwargs)
        return nets.in_graph(model.train_step, batch, steps)

    return {
        "adversarial": step(),
        "adversarial_no_noise": step(noise=0),
        "adversarial_no_omega": step(kind=WithoutOmega),
        "adversarial_half_filters": step(filters=32),
    }


def _forward(generator):
    # One value of the result is enough for all of it to be computed, and is quick to read.
    return lambda batch: generator(batch[0], training=True)[0, 0, 0, 0]


def _loss(generator):
    return lambda batch: LaplaceKL()(batch[1], generator(batch[0], training=True))


def _gradients(generator):
    loss = _loss(generator)

    def gradients(batch):
        with tf.GradientTape() as tape:
            value = loss(batch)
        return tape.gradient(value, generator.trainable_variables)

    return gradients


def _nearest(generator):
    for layer in generator.layers:
        if isinstance(layer, keras.layers.UpSampling2D):
            layer.interpolation = "nearest"
    return generator
