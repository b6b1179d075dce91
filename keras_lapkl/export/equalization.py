"""Readies a heatmap generator for int8, without changing what it computes.

TFLite's int8 has one step size for all channels of an activation, and ties the two sides of a
concatenation to the same step. As trained, channels differ in range by two orders of magnitude and
the maps of K landmarks lie at K different heights, so most of the 256 levels go unused. Two exact
rewritings mend both:

- Leaky ReLU, pooling, upsampling and concatenation commute with a positive factor on a channel, so
  a convolution's output channel can be scaled if the next convolutions' weights are divided by it
  (cross-layer equalization, Nagel et al., ICCV 2019, here by the ranges measured on images).
- A softmax takes no notice of a constant added to its map, nor of values far below its maximum:
  the maps are moved to one height and cut off `DEPTH` below their lowest maximum.
"""

from typing import Any

import keras
import numpy as np
from keras import layers, ops

DEPTH = 32.0
"""β·logits kept below the lowest maximum seen: 6,400 pixels of e^-32 weigh 1e-10. Half of it would
do; the rest is for images whose maxima lie lower than any in the representative images."""

_CONVOLUTIONS = (layers.Conv2D, layers.DepthwiseConv2D)
_COMMUTING = (
    layers.Concatenate,
    layers.Dropout,
    layers.LeakyReLU,
    layers.MaxPooling2D,
    layers.ReLU,
    layers.UpSampling2D,
)
_BATCH = 16


def equalized(generator, images):
    """A copy of a generator in which each channel has the range 1, and the function is the same.

    Args:
        generator: functional Keras model, images (B, H, W, 3) → logits (B, H, W, K). Convolutions
            that feed anything but other convolutions through layers that commute with a positive
            factor keep their ranges. Of one with `folded`, such as `MobileFPN`, that is copied.
        images: (N, H, W, 3) float32, as the model takes them.

    Returns:
        A new Keras model; the given one is not touched.
    """
    if hasattr(generator, "folded"):
        copy = generator.folded()
    else:
        copy = type(generator).from_config(generator.get_config())
        copy.set_weights(generator.get_weights())
    convolutions = [layer for layer in copy.layers if isinstance(layer, _CONVOLUTIONS)]
    peaks = _channel_peaks(copy, [layer.output for layer in convolutions], images)
    for layer, peak in zip(convolutions, peaks, strict=True):
        consumers = _consumers(layer)
        if not consumers:
            continue
        factor = np.where(peak > 1e-6 * peak.max(), peak, 1.0)
        kernel, bias = layer.get_weights()
        depthwise = isinstance(layer, layers.DepthwiseConv2D)
        layer.set_weights([kernel / (factor[:, None] if depthwise else factor), bias / factor])
        for consumer, start in consumers:
            kernel, *rest = consumer.get_weights()
            kernel[:, :, start : start + len(factor)] *= factor[:, None]
            consumer.set_weights([kernel, *rest])
    return copy


def map_floors(readout, images, beta=1.0):
    """The values below which logits do not matter: see `DEPTH`.

    Args:
        readout: from images to a list of logits, each (B, H, W, K).
        images: (N, H, W, 3) float32, as it takes them.
        beta: inverse temperature of the softmax.

    Returns:
        A list of arrays (K,).
    """
    maxima = [
        [ops.convert_to_numpy(ops.max(logits, axis=(1, 2))) for logits in readout(batch)]
        for batch in _batches(images)
    ]
    lowest = [np.concatenate(found).min(0) for found in zip(*maxima, strict=True)]
    return [(low - DEPTH / beta).astype(np.float32) for low in lowest]


def _batches(images):
    return (images[i : i + _BATCH] for i in range(0, len(images), _BATCH))


def _channel_peaks(model, tensors, images):
    """Largest magnitude of each channel of some tensors over images: a list of (C,)."""
    probe = keras.Model(model.input, tensors)
    peaks: list[Any] = []
    for batch in _batches(images):
        values = probe(batch, training=False)
        found = [ops.convert_to_numpy(ops.max(ops.abs(v), axis=(0, 1, 2))) for v in values]
        peaks = [*map(np.maximum, peaks, found)] if peaks else found
    return peaks


def _consumers(convolution):
    """The convolutions that read a convolution's output, with the channel at which it starts.

    None where something else reads it too, or nothing does.
    """
    found, waiting = [], [(convolution, 0)]
    while waiting:
        layer, start = waiting.pop()
        nodes = layer._outbound_nodes
        if not nodes:
            return None
        for node in nodes:
            reader = node.operation
            if isinstance(reader, _CONVOLUTIONS):
                found.append((reader, start))
            elif isinstance(reader, _COMMUTING):
                waiting.append((reader, start + _offset(node, layer)))
            else:
                return None
    return found


def _offset(node, layer):
    """Channels before `layer`'s in what a node reads: not 0 for a later part of a concatenation."""
    before = 0
    for tensor in node.input_tensors:
        if tensor is layer.output:
            return before
        before += tensor.shape[-1]
    raise AssertionError(f"{layer.name} does not feed {node.operation.name}")
