"""Readies a heatmap generator for int8, without changing what it computes.

TFLite's int8 has one step size for all channels of an activation, and ties the two sides of a
concatenation to the same step. As trained, channels differ in range by two orders of magnitude and
the maps of K landmarks lie at K different heights, so most of the 256 levels go unused. Two exact
rewritings mend both:

- ReLU, pooling, upsampling, sums and concatenation commute with a positive factor on a channel, so
  the output channels of convolutions can be scaled if the next convolutions' weights are divided by
  it; of convolutions whose outputs are added by one factor (cross-layer equalization, Nagel et al.,
  ICCV 2019, here by the ranges measured on images).
- A softmax takes no notice of a constant added to its map, nor of values far below its maximum:
  the maps are moved to one height and cut off `DEPTH` below their lowest maximum.
"""

import itertools

import keras
import numpy as np
from keras import layers, ops

from keras_lapkl.models.archives import one_line
from keras_lapkl.models.layers import Conv2D

DEPTH = 24.0
"""β·logits kept below the lowest maximum seen: 80 columns of e^-24 weigh 3e-9. Half of it would do;
the rest is for images whose maxima lie lower than any in the representative images."""

CONVOLUTIONS = (layers.Conv2D, layers.DepthwiseConv2D)
_COMMUTING = (
    layers.Add,
    layers.Concatenate,
    layers.Dropout,
    layers.LeakyReLU,
    layers.MaxPooling2D,
    layers.UpSampling2D,
)
_COMMUTING_ACTIVATIONS = (
    keras.activations.leaky_relu,
    keras.activations.linear,
    keras.activations.relu,
)
_BATCH = 16
_DEAD = 1e-6
"""Of the largest magnitude of any channel: what is below is as good as 0."""


def equalized(generator, images):
    """A copy of a generator in which each channel has the range 1, and the function is the same.

    Args:
        generator: functional or sequential Keras model, images (B, H, W, 3) → logits (B, H, W, K).
            Channels that anything reads but convolutions, through layers that commute with a
            positive factor, keep their ranges. Of one with `folded`, such as `MobileFPN`, that is
            copied.
        images: (N, H, W, 3) float32, as the model takes them.

    Returns:
        A new Keras model; the given one is not touched.
    """
    copy = generator.folded() if hasattr(generator, "folded") else _flat_copy(generator)
    groups = _channel_groups(copy)
    factors = _factors(copy, groups, images)
    for layer in copy.layers:
        if _is_scalable(layer):
            kernel, *bias = layer.get_weights()
            read, written = (factors[groups[id(t)]] for t in (layer.input, layer.output))
            depthwise = isinstance(layer, layers.DepthwiseConv2D)
            kernel = kernel * read[:, None] / (written[:, None] if depthwise else written)
            layer.set_weights([kernel, *(each / written for each in bias)])
    return copy


def _flat_copy(generator):
    """The same of single layers, each called once: models in it are taken apart."""
    if hasattr(generator, "axis_logits"):
        copy = type(generator).from_config(generator.get_config())
        _take_weights(copy, generator)
        return copy
    taken = set()

    def copied(operation):
        def call(*args, **kwargs):
            inner = _functional(operation)
            if inner is not None and not kwargs.get("training"):
                return inner._run_through_graph(args[0], copied)
            layer = _copy(operation, taken)
            found = layer(*args, **kwargs)
            if isinstance(layer, keras.Layer):
                _take_weights(layer, operation)
            return found

        return call

    image = keras.Input(generator.input_shape[1:])
    (logits,) = keras.tree.flatten(copied(generator)(image))
    return keras.Model(image, logits)


def _copy(operation, taken):
    """A layer or operation of the same settings, by a name that is not taken."""
    name, count = operation.name, 1
    while name in taken:
        count += 1
        name = f"{operation.name}_copy{count}"
    taken.add(name)
    try:
        return type(operation).from_config({**operation.get_config(), "name": name})
    except (NotImplementedError, TypeError, ValueError) as error:
        if not isinstance(operation, keras.Layer):
            return operation  # which has no weights
        raise ValueError(
            "int8 needs layers that can be copied by `get_config` and `from_config`. Received: "
            f"layer {operation.name!r}, {type(operation).__name__}: {one_line(error)}"
        ) from error


def _take_weights(layer, other):
    layer.set_weights(other.get_weights())
    for each in layer._flatten_layers():
        each.trainable = True  # rounding learns its weights, frozen or not
        if hasattr(each, "finalize_state"):  # what Normalization makes of its weights
            each.finalize_state()


def _functional(operation):
    """The functional model of one that is called as it is built, or is sequential; else None."""
    if type(operation) is keras.Sequential:
        return operation._functional
    as_built = getattr(type(operation).call, "__qualname__", "") == "Functional.call"
    return operation if as_built else None


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


def cut_maps(generator, floors):
    """Moves the bias of the maps, so that the ReLU behind them cuts them at their floors.

    Args:
        generator: whose maps are moved in place.
        floors: as `map_floors` gives them.

    Returns:
        Whether it did: only where one convolution with a ReLU makes all maps, and nothing but
        pooling, upsampling and sums comes after.
    """
    waiting, makers = [*generator.outputs], []
    while waiting:
        layer = waiting.pop()._keras_history.operation
        if isinstance(layer, layers.Add | layers.MaxPooling2D | layers.UpSampling2D):
            waiting += layer._inbound_nodes[0].input_tensors
        else:
            makers.append(layer)
    if len(set(makers)) > 1 or not isinstance(makers[0], layers.ReLU) or not _commutes(makers[0]):
        return False
    maps = makers[0].input._keras_history.operation
    if not is_convolution(maps) or maps.activation not in _COMMUTING_ACTIVATIONS:
        return False
    if not maps.use_bias:
        return False
    kernel, bias = maps.get_weights()
    maps.set_weights([kernel, bias - np.maximum(np.min(floors, axis=0), 0)])
    return True


def is_convolution(layer):
    """Whether it is one with a kernel and maybe a bias; a class derived from these may do more."""
    return type(layer) in (layers.Conv2D, layers.DepthwiseConv2D, Conv2D)


def _is_scalable(layer):
    """Whether a factor on each channel that a layer reads or writes is one of its kernel."""
    if not is_convolution(layer):
        return False
    return getattr(layer, "depth_multiplier", 1) == getattr(layer, "groups", 1) == 1


def _commutes(layer):
    """Whether a layer that scales no channels gives c·y where it is given c·x, c > 0."""
    if isinstance(layer, layers.ReLU):
        return layer.max_value is None and layer.threshold == 0
    return isinstance(layer, _COMMUTING)


def _batches(images):
    return (images[i : i + _BATCH] for i in range(0, len(images), _BATCH))


def _channel_groups(model):
    """Which channels must have one factor: {id of a tensor: (C,) numbers}; number 0 is factor 1."""
    leaders = [0]

    def leader(group):
        while leaders[group] != group:
            group = leaders[group]
        return group

    def join(*channels):
        for together in zip(*channels, strict=True):
            least, *others = sorted(map(leader, together))
            for other in others:
                leaders[other] = least

    groups = {}
    for node in _nodes(model):
        layer = node.operation
        read = [groups[id(tensor)] for tensor in node.input_tensors]
        written = [[0] * _channels(tensor) for tensor in node.outputs]
        if _is_scalable(layer):
            if layer.activation in _COMMUTING_ACTIVATIONS:
                written = [[*range(len(leaders), len(leaders) + len(written[0]))]]
                leaders += written[0]
        elif isinstance(layer, layers.Concatenate) and layer.axis in (-1, 3):
            written = [[*itertools.chain(*read)]]
        elif _commutes(layer) and len({*map(len, read)}) == 1:
            join(*read)
            written = [read[0]]
        else:
            for channels in read:
                join(channels, [0] * len(channels))
        groups.update((id(t), channels) for t, channels in zip(node.outputs, written, strict=True))
    for output in model.outputs:
        join(groups[id(output)], [0] * len(groups[id(output)]))
    return {tensor: np.array([*map(leader, channels)], int) for tensor, channels in groups.items()}


def _nodes(model):
    """The calls of a functional model, each after those whose results it reads."""
    by_depth = model._nodes_by_depth
    return [node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth]]


def _channels(tensor):
    return tensor.shape[-1] or 0 if tensor.shape else 0


def _factors(model, groups, images):
    """What the channels of each group are divided by: the largest magnitude of any on images."""
    seen = [layer for layer in model.layers if is_stored(layer)] or model.layers[:1]
    probe = keras.Model(model.input, [layer.output for layer in seen])
    count = 1 + max(channels.max(initial=0) for channels in groups.values())
    peaks = np.zeros(count, np.float32)
    for batch in _batches(images):
        found = probe(batch, training=False)
        for layer, value in zip(seen, keras.tree.flatten(found), strict=True):
            largest = ops.convert_to_numpy(ops.max(ops.abs(value), axis=(*range(value.ndim - 1),)))
            np.maximum.at(peaks, groups[id(layer.output)], largest)
    factors = np.where(peaks > _DEAD * peaks.max(), peaks, 1)
    factors[0] = 1
    return factors


def is_stored(layer):
    """Whether a file holds what a layer gives: a ReLU that comes next is a part of it there."""
    readers = [*{node.operation for node in layer._outbound_nodes}]
    if isinstance(layer, (layers.Add, *CONVOLUTIONS)):
        return not (len(readers) == 1 and isinstance(readers[0], layers.ReLU))
    return isinstance(layer, layers.LeakyReLU | layers.ReLU | layers.UpSampling2D)
