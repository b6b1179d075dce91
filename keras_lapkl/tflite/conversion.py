"""From a trained `LandmarkLocalizer` to one .tflite file that gives landmarks, verified."""

import collections
import contextlib
import functools
import math
import pathlib
import tempfile
import warnings

import keras
import numpy as np
from absl import logging
from keras import ops

import keras_lapkl
from keras_lapkl import console, evaluation, heatmaps, runs
from keras_lapkl.data.crops import Crops
from keras_lapkl.data.sources import licence
from keras_lapkl.models.costs import multiply_adds
from keras_lapkl.models.localizer import to_unit_range
from keras_lapkl.tflite import flatbuffer, inspect, latency, quantize, runner, verify

BOUNDS = {
    "float32": {"max": 1e-3, "nme": 1e-3},
    "float16": {"mean": 0.02, "nme": 2e-3},
    "dynamic": {"mean": 0.3, "nme": 0.02},
    "int8": {"mean": 0.15, "nme": 0.01},
}
"""What is allowed to each mode: distance from Keras in pixels, for landmarks and for scale, and
growth of the NME as a share of Keras's, where labels are known."""

MODES = tuple(BOUNDS)

INPUTS = ("float32", *runner.BYTES)
"""Types that the image may have."""

LOGITS = "logits"
_PROBED = 8
_SEARCHED = 64
_NEGLIGIBLE = 0.1


def convert(
    model,
    path,
    mode="float32",
    *,
    faces,
    representative_images=None,
    bounds=None,
    input_dtype="float32",
    with_heatmaps=False,
    decode=True,
    mirror=False,
    layers=False,
):
    """Writes a localizer and the decoding of its heatmaps as one .tflite file.

    The file has the signature `serving_default` from `image` (1, S, S, 3) to `landmarks` and
    `scale`, each (K, 2) float32 in pixels of the image. Modes:

    - `"float32"`.
    - `"float16"`: weights in half the bytes, the same computation.
    - `"dynamic"`: convolutions with int8 weights whose inputs are quantized as they come.
    - `"int8"`: the network in int8 with a step size for each output channel of its weights, and
      the decoding in float: TFLite's int8 softmax would be wrong by pixels. Where the whole
      network in int8 is out of bounds, stages of it stay in float too, one after the other until
      it is not: first the one that does most harm for its work, measured with each alone in int8.
      A stage is all layers whose names begin alike up to the first `_`.

    The file is put in place only after its operators' types were read back from it and its outputs
    compared to Keras's; otherwise nothing is left behind, and a file that was there stays.

    Args:
        model: a `LandmarkLocalizer`.
        path: the file to write.
        mode: one of `MODES`.
        faces: `Crops`, or images (N, S, S, 3), uint8 or float in [0, 1]: what to compare on, best
            real faces from the validation set. With `Crops` the NME is measured as well, and the
            file's own scales are calibrated.
        representative_images: images from the training set, for int8's step sizes; some hundred.
        bounds: pixels by `"mean"` or `"max"`, the distance from Keras that is allowed, and a share
            by `"nme"`; None takes `BOUNDS[mode]`, and an empty dict allows any.
        input_dtype: of the image: `"float32"` in [0, 1]; or bytes, `"uint8"` from 0 to 255 or
            `"int8"` from -128 to 127.
        with_heatmaps: whether the file also gives `heatmaps`, (S, S, K), each summing to 1.
        decode: if not, the file gives `logits`, (S, S, K), and nothing else, for a decoding of your
            own. int8 moves each map by a constant and cuts it far below its maximum, which a
            softmax does not notice.
        mirror: whether the file looks at the mirrored face too and answers the mean of both looks,
            as `evaluation.predict_mirrored`, in twice the time. It is calibrated only if `faces`
            are `Crops`.
        layers: whether to report the error of each layer of an int8 file: see `verify.layers`.

    Returns:
        dict: `path`, `bytes`, `mode`, `float_layers` (how their names begin), `parity` (see
        `verify.parity`; with `nme` and `nme_keras` in percent if labels are known), `bounds`,
        `signature`, `inputs`, `outputs`, `operators` and `metadata` (see `describe`), and `layers`
        if asked for.

    Raises:
        ConversionError: the file is not what was asked for.
        ValueError: arguments of another kind, or a Keras backend other than TensorFlow.

    Example:

    >>> convert(model, "model.tflite", "int8", faces=validation,
    ...         representative_images=training.central())["operators"]["CONV_2D"]
    {'int8': 17}
    """
    _check(model, mode, faces, representative_images, input_dtype, with_heatmaps, decode, mirror)
    bounds = BOUNDS[mode] if bounds is None else bounds
    images = faces.central() if isinstance(faces, Crops) else faces
    outputs = _output_shapes(model, with_heatmaps, decode)
    expected = (
        evaluation.predict_mirrored(model, images) if mirror else model.predict(images, verbose=0)
    )
    if mode == "int8":
        int8 = _Int8(model, representative_images, tuple(outputs), mirror)
        candidates = int8.candidates(images[:_SEARCHED], expected["landmarks"][:_SEARCHED])
    else:
        candidates = [((), _reduced(model, mode, tuple(outputs), mirror))]
    with runs.replacing(path) as temporary:
        for float_layers, converted in candidates:
            tflite = flatbuffer.parse(converted)
            if input_dtype != "float32":
                flatbuffer.take_bytes(tflite, input_dtype, runner.BYTES[input_dtype])
            temporary.write_bytes(flatbuffer.pack(tflite))
            verify.check_signature(temporary, input_dtype, model.image_size, outputs)
            verify.check_operators(temporary, mode, int8_layers(model.generator, float_layers))
            logging.info("Comparing with Keras on %d images.", len(images))
            received = _predict(temporary, images, model.beta)
            parity = verify.parity(received, expected)
            if isinstance(faces, Crops):
                scores = [evaluation.score(**p, crops=faces) for p in (received, expected)]
                parity["nme"], parity["nme_keras"] = (score["nme"] for score in scores)
            failure = verify.out_of_bounds(parity, bounds)
            if failure is None:
                break
            logging.info("%s", failure)
        errors = None
        if mode == "int8" and (layers or failure):
            errors = int8.layer_errors(temporary, images[:_PROBED])
        if failure:
            raise verify.ConversionError(failure + (f"\n{layer_table(errors)}" if errors else ""))
        about = _metadata(model, mode, float_layers, input_dtype, mirror)
        if isinstance(faces, Crops):
            kept = ("nme", "faces", "data", "normalizer", "crop_scale", "spread")
            about["measured"] = {name: scores[0][name] for name in kept}
            about["calibration"] = evaluation.calibrate(received, faces).to_config()
        flatbuffer.add_metadata(tflite, about)
        temporary.write_bytes(flatbuffer.pack(tflite))
        if not np.array_equal(
            _predict(temporary, images[:1], model.beta)["landmarks"], received["landmarks"][:1]
        ):
            raise verify.ConversionError("Metadata changed what the file answers.")
    return {
        "path": str(path),
        "mode": mode,
        "float_layers": list(float_layers),
        "parity": parity,
        "bounds": bounds,
        **inspect.describe(path),
        **({} if errors is None else {"layers": errors}),
    }


def layer_table(errors):
    """Lines of text, one for each layer of `verify.layer_errors`."""
    rows = [
        ("layer", "type", "error %"),
        *((e.layer, e.dtype, f"{100 * e.error:.2f}") for e in errors),
    ]
    return console.aligned(rows)


def summary(reports, threads=(1, 2), runs=50):
    """Lines of text, one for each report of `convert`; the files are timed by turns.

    Args:
        reports: of files that are there and give landmarks.
        threads: numbers of threads to time with.
        runs: timed runs of each.
    """
    paths = [report["path"] for report in reports]
    times = latency.measure_many(paths, threads, runs)
    medians = np.reshape([time["median_ms"] for time in times], (len(paths), len(threads)))
    counts = [f"ms, {n} thread{'s' * (n > 1)}" for n in threads]
    rows = [
        ("file", "bytes", "convolutions", "NME %", "ΔNME %", "mean px", "max px", "scale mean px")
        + (*counts, "not on XNNPACK")
    ]
    for report, milliseconds in zip(reports, medians, strict=True):
        parity = report["parity"]
        left = collections.Counter(runner.undelegated(report["path"]))
        growth = 100 * (parity["nme"] / parity["nme_keras"] - 1) if "nme" in parity else None
        types = collections.Counter()
        for name in verify.CONVOLUTIONS:
            types.update(report["operators"].get(name, {}))
        rows.append(
            (
                report["path"],
                f"{report['bytes']:,}",
                ", ".join(f"{n} {dtype}" for dtype, n in types.items()),
                f"{parity['nme']:.3f}" if "nme" in parity else "",
                "" if growth is None else f"{growth:+.2f}",
                f"{parity['landmarks']['mean']:.2g}",
                f"{parity['landmarks']['max']:.2g}",
                f"{parity['scale']['mean']:.2g}",
                *(f"{ms:.2f}" for ms in milliseconds),
                ", ".join(f"{n} {name}" for name, n in left.items()) or "none",
            )
        )
    return console.aligned(rows)


def _check(model, mode, faces, representative_images, input_dtype, with_heatmaps, decode, mirror):
    if mode not in MODES:
        raise ValueError(f"`mode` must be one of {MODES}. Received: {mode!r}")
    if input_dtype not in INPUTS:
        raise ValueError(f"`input_dtype` must be one of {INPUTS}. Received: {input_dtype!r}")
    if with_heatmaps and not decode:
        raise ValueError("`with_heatmaps` needs `decode`: without, the file gives logits alone.")
    if mirror and (with_heatmaps or not decode):
        raise ValueError("`mirror` gives landmarks and scales alone: no heatmaps, no logits.")
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            "Converting needs Keras on TensorFlow: set KERAS_BACKEND=tensorflow. Received: "
            f"{keras.backend.backend()}"
        )
    if getattr(model, "generator", None) is None:
        raise ValueError(f"`model` must be a LandmarkLocalizer. Received: {type(model).__name__}")
    if (representative_images is None) == (mode == "int8"):
        raise ValueError(
            "`representative_images` goes with mode 'int8', and only with it. Received: mode "
            f"{mode!r} {'without' if representative_images is None else 'with'} them."
        )
    _check_images("faces", faces.central() if isinstance(faces, Crops) else faces, model)
    if mode == "int8":
        _check_images("representative_images", representative_images, model)


def _check_images(name, images, model):
    expected = (model.image_size, model.image_size, 3)
    if not len(images) or images.shape[1:] != expected:
        raise ValueError(
            f"`{name}` must be images of shape (N, {', '.join(map(str, expected))}), N > 0. "
            f"Received: {np.shape(images)}"
        )


def _output_shapes(model, with_heatmaps, decode):
    """{name: shape} of what a file gives."""
    maps = tuple(model.generator.output_shape[1:])
    if not decode:
        return {LOGITS: maps}
    shapes = dict.fromkeys(runner.OUTPUTS, (model.num_landmarks, 2))
    return {**shapes, runner.HEATMAPS: maps} if with_heatmaps else shapes


def _predict(path, images, beta):
    """Landmarks and scales by a file, whatever of the two or logits it gives."""
    if inspect.describe(path)["outputs"][0]["name"] != LOGITS:
        return runner.TFLiteLocalizer(path).predict(images)
    interpreter = runner.load_interpreter(path)
    (image,), (logits,) = interpreter.get_input_details(), interpreter.get_output_details()
    found = []
    for each in images:
        interpreter.set_tensor(image["index"], runner.as_input(each, image))
        interpreter.invoke()
        maps = interpreter.get_tensor(logits["index"])
        found.append([value[0] for value in heatmaps.decode(maps[None], beta)])
    return dict(zip(runner.OUTPUTS, np.swapaxes(found, 0, 1), strict=True))


def _reduced(model, mode, outputs, mirror):
    """The bytes of a .tflite file that computes in float32."""
    import tensorflow as tf

    with _converter(model.generator, model, outputs, mirror) as converter:
        if mode != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if mode == "float16":
            converter.target_spec.supported_types = [tf.float16]
        return converter.convert()


def int8_layers(generator, float_layers=()):
    """Names of a generator's layers, but for those that begin with one of `float_layers`."""
    names = [
        layer.name for layer in generator.layers if not isinstance(layer, keras.layers.InputLayer)
    ]
    return tuple(name for name in names if not name.startswith(tuple(float_layers)))


class _Int8:
    """Converts one model to int8: called, gives the bytes of a file."""

    def __init__(self, model, images, outputs, mirror):
        self._model, self._outputs, self._mirror = model, outputs, mirror
        self._images = ops.convert_to_numpy(to_unit_range(images))
        self._generator = quantize.equalized(model.generator, self._images)
        self._floors = quantize.map_floors(_readout(self._generator), self._images, model.beta)

    @functools.cached_property
    def reference(self):
        """The bytes of a float32 file that does the same, by tensors of the same names."""
        with self._converter() as converter:
            return converter.convert()

    @functools.cached_property
    def _written(self):
        """Its operators: nodes go by the names of the tensors that they write."""
        return inspect.operators(flatbuffer.parse(self.reference))

    def candidates(self, images, expected):
        """Yields what stays in float and the bytes: nothing, then stages, the most harmful first.

        Rounding errors are nearly independent: their squares add, and a stage's own is seen best
        where it alone is int8.
        """
        logging.info("Calibrating int8 on %d images.", len(self._images))
        yield (), self()
        logging.info("Measuring on %d images the error of each stage alone in int8.", len(images))
        stages = self._stages()
        work = {name: sum(map(_work, layers)) for name, layers in stages.items()}
        errors = {}
        for stage in stages:
            others = tuple(name for name in stages if name != stage)
            errors[stage] = self._error(others, images, expected)
            share = 100 * work[stage] / sum(work.values())
            logging.info("%s: %.3f px, %.1f %% of the work.", stage, errors[stage], share)
        least = _NEGLIGIBLE * max(errors.values())
        harmful = [name for name in stages if errors[name] > least]
        harmful.sort(key=lambda name: errors[name] ** 2 / work[name], reverse=True)
        for count in range(1, len(harmful) + 1):
            spared = tuple(harmful[:count])
            logging.info("Trying int8 but for %s.", ", ".join(spared))
            yield spared, self(spared)

    def _stages(self):
        """{beginning of their names: layers} of what the file computes, in order."""
        stages = {}
        for layer in self._generator.layers:
            stages.setdefault(layer.name.split("_")[0], []).append(layer)
        return {
            name: layers
            for name, layers in stages.items()
            if any(verify.of_layers(o, [x.name for x in layers]) for o in self._written)
        }

    def _error(self, float_layers, images, expected):
        """Mean distance of the landmarks of a file, in pixels."""
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "candidate.tflite"
            path.write_bytes(self(float_layers))
            found = _predict(path, images, self._model.beta)["landmarks"]
        return float(np.linalg.norm(found - expected, axis=-1).mean())

    def layer_errors(self, path, images):
        """`verify.layer_errors` of a file that this has made."""
        with tempfile.TemporaryDirectory() as folder:
            reference = pathlib.Path(folder) / "reference.tflite"
            reference.write_bytes(self.reference)
            return verify.layer_errors(path, reference, images)

    @functools.cached_property
    def _calibrated(self):
        """The ranges of all tensors, measured once for all choices of what stays in float."""
        import tensorflow as tf

        def batches():
            return ([image[None]] for image in self._images)

        with self._converter() as converter:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = batches
            # Named for debugging, but TensorFlow's one way to leave some operators in float.
            return tf.lite.experimental.QuantizationDebugger(
                converter=converter, debug_dataset=batches
            )

    def __call__(self, float_layers=()):
        """The generator in int8, but for layers whose names begin with some."""
        import tensorflow as tf

        body = int8_layers(self._generator, float_layers)
        calibrated = self._calibrated
        with console.held_stderr(), warnings.catch_warnings(action="ignore"):
            calibrated.options = tf.lite.experimental.QuantizationDebugOptions(
                denylisted_nodes=[o.result for o in self._written if not verify.of_layers(o, body)]
            )
            return calibrated.get_nondebug_quantized_model()

    def _converter(self):
        return _converter(self._generator, self._model, self._outputs, self._mirror, self._floors)


def _work(layer):
    """Multiply-adds; of other layers than convolutions, the values that they write."""
    return multiply_adds(layer) or math.prod(layer.output.shape[1:])


def _readout(generator):
    """From images to a list of the maps; or of the columns' and the rows', whose sum they are."""
    axes = getattr(generator, "axis_logits", None)
    if axes is not None:
        return functools.partial(axes, training=False)
    return lambda images: [generator(images, training=False)]


@contextlib.contextmanager
def _converter(generator, model, outputs, mirror, floors=None):
    """TensorFlow's converter of image → outputs by one generator, silenced.

    By way of a saved model: `from_concrete_functions` gives a file that answers NaN.
    """
    import tensorflow as tf

    size = model.image_size
    image = keras.InputSpec(shape=(1, size, size, 3), dtype="float32", name=runner.INPUT)

    readout = _readout(generator)

    def localize(image):
        logits = readout(ops.concatenate([image, ops.flip(image, axis=2)]) if mirror else image)
        if floors is not None:
            # Becomes the last convolution's bias and fused activation.
            logits = [ops.relu(each - floor) for each, floor in zip(logits, floors, strict=True)]
        found = {}
        if LOGITS in outputs:
            found[LOGITS] = sum(logits[1:], logits[0])
        elif len(logits) == 2:
            axes = [ops.squeeze(each, axis) for axis, each in enumerate(logits, 1)]
            found.update(zip(runner.OUTPUTS, heatmaps.decode_axes(*axes, model.beta), strict=True))
        else:
            found.update(zip(runner.OUTPUTS, heatmaps.decode(*logits, model.beta), strict=True))
        if runner.HEATMAPS in outputs:
            found[runner.HEATMAPS] = heatmaps.probabilities(sum(logits[1:], logits[0]), model.beta)
        if mirror:
            found = _mean_of_looks(found, model.scheme.flip, size)
        return {name: ops.squeeze(value, 0) for name, value in found.items()}

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


def _mean_of_looks(found, flip, size):
    """One answer (1, K, 2) from those to an image and its mirror image, (2, K, 2)."""
    back = {name: ops.take(value[1:], flip, axis=1) for name, value in found.items()}
    landmarks = back[runner.OUTPUTS[0]]
    back[runner.OUTPUTS[0]] = landmarks * (-1.0, 1.0) + (size - 1.0, 0.0)
    return {name: (value[:1] + back[name]) / 2 for name, value in found.items()}


def _metadata(model, mode, float_layers, input_dtype, mirror):
    """What a user of the file must know, as plain data."""
    calibration = None
    if model.calibration is not None and not mirror:  # it is not that of the mean of two looks
        calibration = model.calibration.to_config()
    image = {"channels": "RGB", "dtype": input_dtype, "range": [0.0, 1.0]}
    if input_dtype in runner.BYTES:
        zero = runner.BYTES[input_dtype]
        image["range"] = [zero, zero + 255]
    return {
        "keras_lapkl": keras_lapkl.__version__,
        "mode": mode,
        "float_layers": list(float_layers),
        "mirror": mirror,
        "image_size": model.image_size,
        "num_landmarks": model.num_landmarks,
        "input": image,
        "units": "pixels of the input, x first, pixel centres at whole numbers from 0",
        "beta": model.beta,
        "crop_scale": model.crop_scale,
        "crop": None if model.scheme is None else model.scheme.crop_rule,
        "scheme": None if model.scheme is None else model.scheme.to_config(),
        "trained_on": model.trained_on,
        "licence": licence(model.trained_on),
        "calibration": calibration,
    }
