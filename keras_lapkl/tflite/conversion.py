"""From a trained `LandmarkLocalizer` to one .tflite file that gives landmarks, verified."""

import contextlib
import functools
import tempfile
import warnings

import keras
import numpy as np
from absl import logging
from keras import ops

import keras_lapkl
from keras_lapkl import console, heatmaps, runs
from keras_lapkl.models.localizer import to_unit_range
from keras_lapkl.tflite import flatbuffer, inspect, quantize, runner, verify

BOUNDS = {"float32": {"max": 1e-3}, "int8": {"mean": 0.15}}
"""Distance from Keras allowed to each mode, in pixels, for landmarks and for scale."""

MODES = tuple(BOUNDS)

ENCODER = ("encoder", "bottleneck")
"""How the names of the RCN's layers begin that int8 may spare: 2 % of its multiply-adds at width
1/8, but a third of the error that int8 makes: the skip connections hand their rounding on."""


def convert(model, path, mode="float32", *, parity_images, representative_images=None, bounds=None):
    """Writes a localizer and the decoding of its heatmaps as one .tflite file.

    The file has the signature `serving_default` from `image` (1, S, S, 3), float32 RGB in [0, 1],
    to `landmarks` and `scale`, each (K, 2) float32 in pixels of the image. With `"int8"` the
    network computes in int8 with a step size for each output channel of its weights, and the
    decoding in float: TFLite's int8 softmax would be wrong by pixels. Where the whole network in
    int8 is too far from Keras, the layers of `ENCODER` stay in float too.

    The file is put in place only after its operators' types were read back from it and its outputs
    compared to Keras's; otherwise nothing is left behind, and a file that was there stays.

    Args:
        model: a `LandmarkLocalizer`.
        path: the file to write.
        mode: `"float32"` or `"int8"`.
        parity_images: (N, S, S, 3), uint8 or float in [0, 1]: crops to compare on, best real ones
            from the validation set.
        representative_images: the same kind, from the training set, for int8's step sizes; some
            hundred.
        bounds: pixels by `"mean"` or `"max"`, the distance from Keras that is allowed; None takes
            `BOUNDS[mode]`, and an empty dict allows any.

    Returns:
        dict: `path`, `bytes`, `mode`, `float_layers` (how their names begin), `parity` (see
        `verify.parity`), `bounds`, `signature`, `inputs`, `outputs`, `operators` and `metadata`
        (see `describe`).

    Raises:
        ConversionError: the file is not what was asked for.
        ValueError: arguments of another kind, or a Keras backend other than TensorFlow.

    Example:

    >>> convert(model, "model.tflite", "int8", parity_images=validation.central(),
    ...         representative_images=training.central())["operators"]["CONV_2D"]
    {'int8': 17}
    """
    if mode not in MODES:
        raise ValueError(f"`mode` must be one of {MODES}. Received: {mode!r}")
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            "Converting needs Keras on TensorFlow: set KERAS_BACKEND=tensorflow. Received: "
            f"{keras.backend.backend()}"
        )
    if getattr(model, "generator", None) is None:
        raise ValueError(f"`model` must be a LandmarkLocalizer. Received: {type(model).__name__}")
    if (representative_images is None) != (mode == "float32"):
        raise ValueError(
            "`representative_images` goes with mode 'int8', and only with it. Received: mode "
            f"{mode!r} {'without' if representative_images is None else 'with'} them."
        )
    _check_images("parity_images", parity_images, model)
    bounds = BOUNDS[mode] if bounds is None else bounds

    if mode == "int8":
        _check_images("representative_images", representative_images, model)
        representative_images = ops.convert_to_numpy(to_unit_range(representative_images))

    expected = model.predict(parity_images, verbose=0)
    with runs.replacing(path) as temporary:
        if mode == "float32":
            candidates = [((), lambda: _float32(model))]
        else:
            candidates = [
                (layers, functools.partial(_int8, model, representative_images, layers))
                for layers in ((), ENCODER)
            ]
        for float_layers, converted in candidates:
            tflite = flatbuffer.parse(converted())
            flatbuffer.add_metadata(tflite, _metadata(model, mode, float_layers))
            temporary.write_bytes(flatbuffer.pack(tflite))
            verify.check_signature(temporary, model.image_size, model.num_landmarks)
            verify.check_operators(temporary, mode, float_layers)
            logging.info("Comparing with Keras on %d images.", len(parity_images))
            parity = verify.parity(temporary, parity_images, expected)
            failure = verify.out_of_bounds(parity, bounds)
            if failure is None:
                break
            logging.info("%s", failure)
        else:
            raise verify.ConversionError(failure)
    return {
        "path": str(path),
        "mode": mode,
        "float_layers": list(float_layers),
        "parity": parity,
        "bounds": bounds,
        **inspect.describe(path),
    }


def summary(reports):
    """Lines of text, one for each report of `convert`, aligned under their headings."""
    rows = [("file", "bytes", "convolutions", "mean px", "max px", "scale mean px", "images")]
    for report in reports:
        parity = report["parity"]
        convolutions = report["operators"]["CONV_2D"]
        rows.append(
            (
                report["path"],
                f"{report['bytes']:,}",
                ", ".join(f"{count} {dtype}" for dtype, count in convolutions.items()),
                f"{parity['landmarks']['mean']:.2g}",
                f"{parity['landmarks']['max']:.2g}",
                f"{parity['scale']['mean']:.2g}",
                str(parity["images"]),
            )
        )
    return console.aligned(rows)


def _check_images(name, images, model):
    expected = (model.image_size, model.image_size, 3)
    if not len(images) or images.shape[1:] != expected:
        raise ValueError(
            f"`{name}` must be images of shape (N, {', '.join(map(str, expected))}), N > 0. "
            f"Received: {np.shape(images)}"
        )


def _float32(model):
    """The bytes of a float32 .tflite file."""
    with _converter(model.generator, model) as converter:
        return converter.convert()


def _int8(model, images, float_layers=()):
    """The bytes of a .tflite file whose operators of `verify.BODY` are int8.

    Args:
        images: (N, S, S, 3) float32 in [0, 1].
        float_layers: how the names of layers begin that stay in float.
    """
    import tensorflow as tf

    spared = "all but the encoder " if float_layers else ""
    logging.info("Calibrating %sint8 on %d images.", spared, len(images))
    generator = quantize.equalized(model.generator, images)
    floors = quantize.map_floors(generator, images, model.beta)

    def batches():
        return ([image[None]] for image in images)

    def quantized(nodes):
        # Named for debugging, but the one way in which TensorFlow leaves some operators in float.
        options = tf.lite.experimental.QuantizationDebugOptions(
            denylisted_ops=sorted(set(operators) - set(verify.BODY)), denylisted_nodes=nodes
        )
        with _converter(generator, model, floors) as converter:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = batches
            return tf.lite.experimental.QuantizationDebugger(
                converter=converter, debug_dataset=batches, debug_options=options
            ).get_nondebug_quantized_model()

    operators = flatbuffer.names(flatbuffer.schema().BuiltinOperator).values()
    if not float_layers:
        return quantized(None)
    # Nodes go by the names of the tensors that they write: an unquantized file tells them.
    with _converter(generator, model, floors) as converter:
        written = inspect.operators(flatbuffer.parse(converter.convert()))
    return quantized([o.result for o in written if verify.of_layers(o, float_layers)])


@contextlib.contextmanager
def _converter(generator, model, floors=None):
    """TensorFlow's converter of image → landmarks and scale by one generator, silenced.

    By way of a saved model: `from_concrete_functions` gives a file that answers NaN.
    """
    import tensorflow as tf

    size = model.image_size
    image = keras.InputSpec(shape=(1, size, size, 3), dtype="float32", name=runner.INPUT)

    def localize(image):
        logits = generator(image, training=False)
        if floors is not None:
            # Becomes the last convolution's bias and fused activation.
            logits = ops.relu(logits - floors)
        decoded = heatmaps.decode(logits, model.beta)
        shape = (model.num_landmarks, 2)
        return {n: ops.reshape(d, shape) for n, d in zip(runner.OUTPUTS, decoded, strict=True)}

    with (
        tempfile.TemporaryDirectory() as folder,
        console.held_stderr(),
        warnings.catch_warnings(action="ignore"),
    ):
        archive = keras.export.ExportArchive()
        archive.track(generator)
        archive.add_endpoint("serve", localize, input_signature=[image])
        archive.write_out(folder, verbose=False)
        yield tf.lite.TFLiteConverter.from_saved_model(folder)


def _metadata(model, mode, float_layers):
    """What a user of the file must know, as plain data."""
    return {
        "keras_lapkl": keras_lapkl.__version__,
        "mode": mode,
        "float_layers": list(float_layers),
        "image_size": model.image_size,
        "num_landmarks": model.num_landmarks,
        "input": {"channels": "RGB", "range": [0.0, 1.0]},
        "units": "pixels of the input, x first, pixel centres at whole numbers from 0",
        "beta": model.beta,
        "crop_scale": model.crop_scale,
        "scheme": None if model.scheme is None else model.scheme.to_config(),
        "trained_on": model.trained_on,
    }
