"""The graph of a localizer with its decoding, for TensorFlow's converter."""

import contextlib
import functools
import tempfile
import warnings

import keras
from keras import ops

from keras_lapkl import heatmaps
from keras_lapkl._support import console
from keras_lapkl.export.modes import MODES
from keras_lapkl.tflite import runner


def convert_reduced(model, mode, outputs, flip_average):
    """The bytes of a .tflite file of a mode that is not calibrated."""
    with graph_converter(model.generator, model, outputs, flip_average) as converter:
        MODES[mode].options(converter)
        return converter.convert()


def readout_network(generator):
    """Model from images to the maps, or to the logits of columns and rows, whose sum they are."""
    axes = getattr(generator, "axis_logits", None)
    return generator if axes is None else axes


def readout_model(generator, square=False):
    """From images to a list of what `readout_network` gives."""
    network = readout_network(generator)
    if network is generator:
        return lambda images: [generator(images, training=False)]
    return functools.partial(square_resizes(network) if square else network, training=False)


def decoded(logits, beta):
    """Landmarks and scales from a list of what `readout_network` gives."""
    if len(logits) == 1:
        return heatmaps.decode(logits[0], beta)
    columns, rows = (ops.squeeze(each, axis) for axis, each in enumerate(logits, 1))
    return heatmaps.decode_axes(columns, rows, beta)


class SquareResize(keras.layers.UpSampling2D):
    """Stretches one side alone by stretching both and keeping one of the equal rows or columns.

    The same values. Ethos-U stretches only both sides by the same factor.
    """

    def call(self, inputs):
        longest = max(self.size)
        height, width = inputs.shape[1:3]
        stretched = ops.image.resize(
            inputs, (height * longest, width * longest), interpolation=self.interpolation
        )
        kept = tuple(longest // factor for factor in self.size)
        return ops.max_pool(stretched, kept, kept)


def square_resizes(network):
    """A network of the same layers, but `SquareResize` where one side of a 1-wide map grows."""

    def layer_or_square(layer):
        if not isinstance(layer, keras.layers.UpSampling2D) or sorted(layer.size)[0] != 1:
            return layer
        # Only where the side that stays is 1 are its stretched rows equal.
        stays = layer.size.index(1)
        if layer.input.shape[1 + stays] != 1 or layer.size == (1, 1):
            return layer
        return SquareResize.from_config(layer.get_config())

    return keras.models.clone_model(network, clone_function=layer_or_square)


@contextlib.contextmanager
def graph_converter(generator, model, outputs, flip_average, floors=None, square=False):
    """TensorFlow's converter of image → outputs by one generator, silenced.

    By way of a saved model: `from_concrete_functions` gives a file that answers NaN. `square`: as
    `square_resizes`.
    """
    import tensorflow as tf

    size = model.image_size
    image = keras.InputSpec(shape=(1, size, size, 3), dtype="float32", name=runner.INPUT)

    readout = readout_model(generator, square)

    def localize(image):
        logits = readout(
            ops.concatenate([image, ops.flip(image, axis=2)]) if flip_average else image
        )
        if floors is not None:
            # Becomes the last convolution's bias and fused activation.
            logits = [ops.relu(each - floor) for each, floor in zip(logits, floors, strict=True)]
        found = {}
        if runner.LOGITS in outputs:
            found[runner.LOGITS] = sum(logits[1:], logits[0])
        else:
            location, scale = decoded(logits, model.beta)
            if model.refinement is not None:
                location = model.refinement(location)
            found.update(zip(runner.OUTPUTS, (location, scale), strict=True))
        if runner.HEATMAPS in outputs:
            found[runner.HEATMAPS] = heatmaps.probabilities(sum(logits[1:], logits[0]), model.beta)
        if flip_average:
            found = _mean_of_both(found, model.scheme.flip, size)
        return {name: ops.squeeze(value, 0) for name, value in found.items()}

    with (
        tempfile.TemporaryDirectory() as folder,
        console.held_stderr(),
        warnings.catch_warnings(action="ignore"),
    ):
        archive = keras.export.ExportArchive()
        archive.track(generator)
        if model.refinement is not None:
            archive.track(model.refinement)
        archive.add_endpoint("serve", localize, input_signature=[image])
        archive.write_out(folder, verbose=False)
        yield tf.lite.TFLiteConverter.from_saved_model(folder)


def _mean_of_both(found, flip, size):
    """One answer (1, K, 2) from those to an image and its mirror image, (2, K, 2)."""
    back = {name: ops.take(value[1:], flip, axis=1) for name, value in found.items()}
    landmarks = back[runner.OUTPUTS[0]]
    back[runner.OUTPUTS[0]] = landmarks * (-1.0, 1.0) + (size - 1.0, 0.0)
    return {name: (value[:1] + back[name]) / 2 for name, value in found.items()}
