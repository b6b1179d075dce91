"""The models, batches and steps of Keras that the benchmarks time."""

import itertools
import time

import keras
import numpy as np
import tensorflow as tf
import timing

from keras_lapkl.losses import LaplaceKL
from keras_lapkl.models.adversarial import AdversarialLocalizer
from keras_lapkl.models.localizer import LandmarkLocalizer
from keras_lapkl.models.patch_gan import PatchGAN


def faces(count, image_size, num_landmarks):
    """Images and landmarks of noise: a step takes as long on them as on faces."""
    rng = np.random.default_rng(0)
    images = rng.random((count, image_size, image_size, 3), np.float32)
    landmarks = rng.uniform(0, image_size - 1, (count, num_landmarks, 2))
    return images, landmarks.astype(np.float32)


def first_half(batch):
    images, landmarks = batch
    half = len(images) // 2
    return images[:half], landmarks[:half]


def half_labeled(batch):
    """A batch for `AdversarialLocalizer`, whose second half has no labels."""
    images, landmarks = first_half(batch)
    return (images, batch[0][len(images) :]), landmarks


def supervised(generator, loss=None):
    model = LandmarkLocalizer(generator)
    model.compile("adam", loss or LaplaceKL())
    return model


def adversarial(generator, filters=64, noise=0.2, kind=AdversarialLocalizer):
    model = kind(generator, PatchGAN(generator.num_landmarks, filters, noise))
    model.compile("adam", LaplaceKL())
    return model


def evaluated(generator, images, landmarks):
    """Logits, loss and all gradients in one row, without dropout."""
    with tf.GradientTape() as tape:
        logits = generator(images, training=False)
        loss = LaplaceKL()(landmarks, logits)
    gradients = tape.gradient(loss, generator.trainable_variables)
    flat = tf.concat([tf.reshape(gradient, [-1]) for gradient in gradients], axis=0)
    return [value.numpy().ravel() for value in (logits, loss, flat)]


def in_graph(function, data, steps):
    """Work for `timing.take_turns`: `function(data)` as a graph, nothing around it."""
    data = tf.nest.map_structure(tf.constant, data)
    graph = tf.function(function)

    def step():
        # Read, as `fit` reads its logs: calls can't overlap.
        tf.nest.map_structure(lambda tensor: tensor.numpy(), graph(data))

    return timing.repeated(step, steps)


def repeated(data):
    """An endless tf.data.Dataset of one batch."""
    return tf.data.Dataset.from_tensors(data).repeat()


def in_fit(model, batches, steps):
    """Work for `timing.take_turns`: steps of `fit`, without what each call of `fit` costs once.

    Args:
        model: compiled.
        batches: an endless tf.data.Dataset; or a function that gives one from a first step, which
            goes on from call to call.
        steps: how many are timed.
    """
    clock, calls = _Clock(), itertools.count()

    def work():
        data = batches(next(calls) * (1 + steps)) if callable(batches) else batches
        model.fit(data, steps_per_epoch=1 + steps, shuffle=False, verbose=0, callbacks=[clock])
        return (clock.ends[-1] - clock.ends[0]) / steps

    return work


def looked_at(model, data, at, look):
    """What `look()` gives after some steps of one call of `fit`: a list as long as `at`."""
    batches = repeated(data)
    found = []

    def after(batch, logs=None):
        if batch + 1 in at:
            found.append(look())

    callback = keras.callbacks.LambdaCallback(on_train_batch_end=after)
    model.fit(batches, steps_per_epoch=max(at), shuffle=False, verbose=0, callbacks=[callback])
    return found


class _Clock(keras.callbacks.Callback):
    def on_train_begin(self, logs=None):
        self.ends = []

    def on_train_batch_end(self, batch, logs=None):
        self.ends.append(time.perf_counter())
