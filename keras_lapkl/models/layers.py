"""Four of Keras's layers, cheaper to train on a CPU, where Keras's took half of a step.

Each has the arguments, weights and random state of the one that it extends, does the same outside
training, and has its name, by which Keras finds weights in a file.
"""

import functools
import math

import keras
import numpy as np
from keras import ops

_BLOCK = 64


def random_bytes(shape, seed):
    """Independent int8, uniform from -128 to 127, four from each random word of 32 bits.

    Args:
        shape: of the result; the last axis must be a number.
        seed: a `keras.random.SeedGenerator`.
    """
    *outer, last = shape
    return ops.view(_words((*outer, -(-last // 4)), seed), "int8")[..., :last]


def random_normal(shape, stddev, seed, dtype="float32"):
    """Nearly normal values, nearly independent, of mean 0; a fourth of Keras's time on a CPU.

    64 random odd bytes make 64 values, by an orthogonal matrix whose elements are all ±1/8. So
    mean, variance and no correlation are exact; a value is a sum of 64, whose excess kurtosis is
    -1.2/64, and the squares of two values of a block have the correlation -0.6/64.

    Args:
        shape: of the result.
        stddev: standard deviation, > 0.
        seed: a `keras.random.SeedGenerator`.
    """
    count = math.prod(shape)
    words = _words((-(-count // _BLOCK), _BLOCK // 4), seed)
    odd = ops.view(ops.bitwise_or(words, 0x01010101), "int8")  # -127 to 127: no bias
    values = ops.matmul(ops.cast(odd, dtype), ops.cast(stddev * _mixer(), dtype))
    return ops.reshape(ops.reshape(values, (-1,))[:count], shape)


def _words(shape, seed):
    return keras.random.randint(shape, -(2**31), 2**31 - 1, "int32", seed)


@functools.cache
def _mixer():
    """Orthogonal, of equal magnitudes, divided by the standard deviation of a random odd byte."""
    hadamard = functools.reduce(np.kron, [np.array([[1, 1], [1, -1]])] * int(math.log2(_BLOCK)))
    # Without these, the sum of a block would be a single byte.
    signs = np.random.default_rng(0).choice([-1, 1], _BLOCK)
    return (signs * hadamard / math.sqrt(_BLOCK * (128**2 - 1) / 3)).astype(np.float32)


@keras.saving.register_keras_serializable("keras_lapkl")
class Dropout(keras.layers.Dropout):
    """Dropout by random bytes: a fourth of the random words of Keras's.

    Of 256 bytes 256·rate are dropped. What is a fraction of a byte is drawn once a call, one byte
    more or none, so that each value is dropped with the probability `rate` exactly.

    Args:
        rate: share of the values that become 0 in training, in [0, 1); the others grow by
            1 / (1 − rate).
        seed: of the random state.
    """

    def __init__(self, rate, seed=None, **kwargs):
        super().__init__(rate, seed=seed, **kwargs)

    def call(self, inputs, training=False):
        if not training or self.rate == 0:
            return inputs
        drawn = random_bytes(ops.shape(inputs), self.seed_generator)
        dropped = ops.floor(256 * self.rate + keras.random.uniform((), seed=self.seed_generator))
        kept = drawn >= ops.cast(ops.minimum(dropped, 255) - 128, "int8")
        # An int8 can't be the threshold that drops all 256.
        growth = ops.where(dropped < 256, 1 / (1 - self.rate), 0.0)
        return inputs * (ops.cast(kept, inputs.dtype) * ops.cast(growth, inputs.dtype))

    def get_config(self):
        config = super().get_config()
        del config["noise_shape"]
        return config


@keras.saving.register_keras_serializable("keras_lapkl")
class GaussianNoise(keras.layers.GaussianNoise):
    """Gaussian noise by `random_normal`."""

    def call(self, inputs, training=False):
        if not training or self.stddev == 0:
            return inputs
        noise = random_normal(ops.shape(inputs), self.stddev, self.seed_generator, inputs.dtype)
        return inputs + noise


@keras.saving.register_keras_serializable("keras_lapkl")
class Conv2D(keras.layers.Conv2D):
    """Convolution that trains as a matrix product where its kernel is 1×1.

    TensorFlow takes two to five times as long for the gradients of such a convolution on a CPU.
    Outside training it stays a convolution, which is what a converter looks for.
    """

    def call(self, inputs, training=False):
        pointwise = self.kernel_size == self.strides == (1, 1) and self.groups == 1
        if not (training and pointwise and self.data_format == "channels_last"):
            return super().call(inputs)
        outputs = ops.matmul(ops.reshape(inputs, (-1, inputs.shape[-1])), self.kernel[0, 0])
        if self.use_bias:
            outputs = ops.add(outputs, self.bias)
        return self.activation(ops.reshape(outputs, (*ops.shape(inputs)[:-1], self.filters)))


@keras.saving.register_keras_serializable("keras_lapkl")
class BatchNormalization(keras.layers.BatchNormalization):
    """Batch normalization that trains by TensorFlow's fused kernel, where there is one.

    Keras makes it of some forty operations, which took a quarter of a step of `MobileFPN`. Outside
    training, on other backends and in other types than float32, it is Keras's own.
    """

    def call(self, inputs, training=None, mask=None):
        fused = (
            training
            and self.trainable
            and mask is None
            and keras.backend.backend() == "tensorflow"
            and self.compute_dtype == keras.backend.standardize_dtype(inputs.dtype) == "float32"
            and self.center
            and self.scale
            and not (self.synchronized or getattr(self, "renorm", False))
            and len(inputs.shape) == 4
            and self.axis in (-1, 3)
        )
        if not fused:
            return super().call(inputs, training=training, mask=mask)
        import tensorflow as tf

        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=self.gamma,
            offset=self.beta,
            mean=tf.constant([], "float32"),
            variance=tf.constant([], "float32"),
            epsilon=self.epsilon,
        )
        count = tf.cast(tf.size(inputs) // self.gamma.shape[0], "float32")
        variance *= (count - 1) / count  # the kernel's is the unbiased one, Keras's is not
        for moving, new in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + new * (1 - self.momentum))
        return outputs
