"""From a trained `LandmarkLocalizer` to one .tflite file that gives landmarks, verified."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import keras
import numpy as np
from absl import logging
from numpy.typing import NDArray

import keras_lapkl
from keras_lapkl._support.files import replacing
from keras_lapkl._support.types import PathLike
from keras_lapkl.data.crops import Crops
from keras_lapkl.evaluation import model_scores
from keras_lapkl.export import flatbuffer_writer, verify
from keras_lapkl.export.choices import check_choices
from keras_lapkl.export.graph import convert_reduced
from keras_lapkl.export.int8 import Int8Converter, int8_layers
from keras_lapkl.export.modes import MODES
from keras_lapkl.export.report import layer_table, stage_table
from keras_lapkl.export.verify import predict_by_file
from keras_lapkl.models.localizer import LandmarkLocalizer
from keras_lapkl.models.networks import dtype_policy
from keras_lapkl.tflite import flatbuffer, inspection, runner
from keras_lapkl.tflite.localizer import check_localizer
from keras_lapkl.tflite.metadata import Metadata

_PROBED = 8
_SEARCHED = 64
_SHARP = 1.6
"""Mean scale, pixels, below which heatmaps are those of a long training."""
_ENOUGH = 100
_WIDE = {"mean": 0.5, "nme": 0.05}
_WIDER = "A longer training brings a file nearer to Keras; wider bounds are given by `bounds`"


def convert(
    model: LandmarkLocalizer,
    path: PathLike,
    mode: str = "float32",
    *,
    faces: Crops | NDArray[Any],
    calibration_faces: Crops | None = None,
    representative_images: NDArray[Any] | None = None,
    bounds: Mapping[str, float] | None = None,
    input_dtype: Literal["float32", "uint8", "int8"] = "float32",
    output_dtype: Literal["float32", "int8"] = "float32",
    target: str | None = None,
    with_heatmaps: bool = False,
    decode: bool = True,
    flip_average: bool = False,
    layers: bool = False,
) -> dict[str, Any]:
    """Writes a localizer and the decoding of its heatmaps as one .tflite file.

    The file has the signature `serving_default` from `image` (1, S, S, 3) to `landmarks` and
    `scale`, each (K, 2) float32 in pixels of the image. Modes:

    - `"float32"`.
    - `"float16"`: weights in half the bytes, the same computation.
    - `"dynamic"`: convolutions with int8 weights whose inputs are quantized as they come.
    - `"int8"`: the network in int8 with a step size for each output channel of its weights, and
      the decoding in float: TFLite's int8 softmax would be wrong by pixels. Where the whole
      network in int8 is out of bounds, its weights learn how to be rounded, which takes a minute
      or more. Where that is not enough, stages of it stay in float too, one after the other until
      it is: first the one that does most harm, measured with each alone in int8.
      A stage is all layers whose names begin alike up to the first `_`.

    The file is put in place only after its operators' types were read back from it and its outputs
    compared to Keras's; otherwise nothing is left behind, and a file that was there stays.

    Args:
        model: a `LandmarkLocalizer` of square RGB images; for `"int8"` with a functional or
            sequential generator, which may hold such models.
        path: the file to write.
        mode: one of `MODES`.
        faces: `Crops`, or images (N, S, S, 3), uint8 or float in [0, 1]: what to compare on, best
            real faces from the validation set. With `Crops` the NME is measured as well.
        calibration_faces: `Crops` that the model was not trained on, to calibrate the file's own
            scales on, some hundred; None takes `faces` where these are `Crops`.
        representative_images: images from the training set, for int8's step sizes; some hundred.
        bounds: pixels by `"mean"` or `"max"`, the distance from Keras that is allowed, and a share
            by `"nme"`, and nothing else; None takes the mode's own, which grow with the image, and
            an empty dict allows any.
        input_dtype: of the image: `"float32"` in [0, 1]; or bytes, `"uint8"` from 0 to 255 or
            `"int8"` from -128 to 127.
        output_dtype: `"int8"` makes int8 to the end, for targets that have no floats: with mode
            `"int8"`, without `decode`. The logits come in int8, whose step and zero the file holds;
            no stage stays in float.
        target: a name in `choices.CHOICES`, on which all of the file must run, by the lists of
            `tflite.compatibility`; None for any. `**choices.CHOICES[target]` are the arguments that
            make a file fit.
        with_heatmaps: whether the file also gives `heatmaps`, (S, S, K), each summing to 1.
        decode: if not, the file gives `logits`, (S, S, K), and nothing else, for a decoding of your
            own. int8 moves each map by a constant and cuts it far below its maximum, which a
            softmax does not notice. A refinement comes after it, and is left out.
        flip_average: whether the file gives the mean with the mirrored face, as
            `evaluation.predict_flip_averaged`, in twice the time. It has only a calibration of its
            own answers, not the model's.
        layers: whether to report the error of each layer of an int8 file: see `verify.layers`.

    Returns:
        dict: `path`, `bytes`, `mode`, `float_layers` (how their names begin), `parity` (see
        `verify.parity`; with `nme` and `nme_keras` in percent if labels are known), `bounds`,
        `signature`, `inputs`, `outputs`, `operators` and `metadata` (see `describe`), `layers` if
        asked for, and `check` (see `verify.check_target`) with a `target`.

    Raises:
        ConversionError: the file is not what was asked for.
        ValueError: arguments of another kind, or a Keras backend other than TensorFlow.

    Example:

    >>> convert(model, "model.tflite", "int8", faces=validation,
    ...         representative_images=training.central())["operators"]["CONV_2D"]
    {'int8': 17}
    """
    check_choices(
        mode,
        input_dtype=input_dtype,
        output_dtype=output_dtype,
        with_heatmaps=with_heatmaps,
        decode=decode,
        flip_average=flip_average,
        target=target,
    )
    _check(model, mode, faces, representative_images)
    model = _in_float32(model)
    if calibration_faces is not None:
        _check_images("calibration_faces", calibration_faces.central(), model)
    if model.refinement is not None and not decode:
        logging.info("The refinement is left out: it comes after the logits.")
        model = model.localizer()
        model.refinement = None
    if bounds is not None and not bounds.keys() <= {"mean", "max", "nme"}:
        raise ValueError(f"`bounds` are by 'mean', 'max' and 'nme'. Received: {dict(bounds)}")
    if bounds is None:
        bounds = MODES[mode].bounds_for(model.image_size)  # pyright: ignore[reportArgumentType]
    if calibration_faces is None and isinstance(faces, Crops):
        calibration_faces = faces
    images = faces.central() if isinstance(faces, Crops) else faces
    outputs = _output_shapes(model, with_heatmaps, decode)
    expected = (
        model_scores.predict_flip_averaged(model, images)
        if flip_average
        else model.predict(images, verbose=0)
    )
    if MODES[mode].integers:
        logging.info("%s", _expectation(mode, bounds, float(expected["scale"].mean()), len(images)))
    int8 = None
    if MODES[mode].calibrated:
        int8 = Int8Converter(model, representative_images, tuple(outputs), flip_average)
    asked = _Asked(
        *(model, model.generator if int8 is None else int8.generator, mode, outputs),
        *(input_dtype, output_dtype, flip_average, target, bounds, faces, images, expected),
    )
    if int8 is not None:
        searched = images[:_SEARCHED], expected["landmarks"][:_SEARCHED]
        candidates = int8.candidates(*searched, output_dtype == "int8")
    else:
        candidates = [((), convert_reduced(model, mode, tuple(outputs), flip_average))]
    with replacing(path) as temporary:
        written = _first_in_bounds(asked, candidates, temporary)
        errors = None
        if int8 is not None and (layers or written.failure):
            errors = int8.layer_errors(temporary, images[:_PROBED])
        if written.failure:
            parts = [f"{written.failure}. {_WIDER}{_bound_flags(mode, written.failure)}."]
            if int8 is not None and errors:
                parts += [stage_table(int8.stage_errors), layer_table(errors)]
            raise verify.ConversionError("\n".join(parts))
        about = _described(asked, written, temporary, calibration_faces)
        flatbuffer_writer.add_metadata(written.tflite, about)
        temporary.write_bytes(flatbuffer_writer.pack(written.tflite))
        if not np.array_equal(
            predict_by_file(temporary, images[:1], model.beta)["landmarks"],
            written.received["landmarks"][:1],
        ):
            raise verify.ConversionError("Metadata changed what the file answers.")
    check = written.check
    return {
        "path": str(path),
        "mode": mode,
        "float_layers": list(written.float_layers),
        "parity": written.parity,
        "bounds": bounds,
        **inspection.describe(path),
        **({} if errors is None else {"layers": errors}),
        **({} if check is None else {"check": {**check, "model": pathlib.Path(path).name}}),
    }


class _Asked(NamedTuple):
    """What a file is to be, and what it is compared with."""

    model: Any
    generator: Any  # whose layers the file is made of
    mode: str
    outputs: dict[str, tuple[int, ...]]
    input_dtype: str
    output_dtype: str
    flip_average: bool
    target: str | None
    bounds: Mapping[str, float]
    faces: Any
    images: NDArray[Any]
    expected: dict[str, NDArray[Any]]


class _Written(NamedTuple):
    """A file, and how near it comes to Keras."""

    float_layers: Sequence[str]
    tflite: Any
    check: dict[str, Any] | None
    received: dict[str, NDArray[Any]]
    parity: dict[str, Any]
    score: dict[str, Any] | None
    failure: str | None


def _first_in_bounds(asked, candidates, path):
    """The first of the candidates that is in bounds, as it lies at a path; else the last one."""
    for float_layers, converted in candidates:
        written = _write(asked, float_layers, converted, path)
        if written.failure is None:
            break
        logging.info("%s", written.failure)
    return written


def _write(asked, float_layers, converted, path):
    """Writes what TensorFlow converted, checks it, and compares it with Keras."""
    model, mode, whole = asked.model, asked.mode, asked.output_dtype == "int8"
    tflite = flatbuffer.parse(converted)
    if MODES[mode].calibrated and model.refinement is not None:
        flatbuffer_writer.halve_tables(tflite)
    if asked.input_dtype != "float32":
        flatbuffer_writer.take_bytes(tflite, asked.input_dtype, runner.BYTES[asked.input_dtype])
    path.write_bytes(flatbuffer_writer.pack(tflite))
    verify.check_signature(
        path, asked.input_dtype, model.image_size, asked.outputs, asked.output_dtype
    )
    verify.check_operators(path, mode, int8_layers(asked.generator, float_layers), whole)
    check = None if asked.target is None else verify.check_target(path, asked.target)
    logging.info("Comparing with Keras on %d images.", len(asked.images))
    received = predict_by_file(path, asked.images, model.beta)
    parity = verify.parity(received, asked.expected)
    score = None
    if isinstance(asked.faces, Crops):
        score, of_keras = (
            model_scores.score(p["landmarks"], p["scale"], asked.faces)
            for p in (received, asked.expected)
        )
        parity["nme"], parity["nme_keras"] = score["nme"], of_keras["nme"]
    failure = verify.out_of_bounds(parity, asked.bounds)
    return _Written(float_layers, tflite, check, received, parity, score, failure)


def _described(asked, written, path, calibration_faces):
    """Metadata of a file, with what it measures and how sure its own answers are."""
    model = asked.model
    about = _metadata(
        model, asked.mode, written.float_layers, asked.input_dtype, asked.flip_average
    )
    if written.score is not None:
        kept = ("nme", "faces", "data", "normalizer", "crop_scale", "spread")
        measured = {name: written.score[name] for name in kept}
        about = dataclasses.replace(about, measured=measured)
    if calibration_faces is not None:
        answers = written.received
        if calibration_faces is not asked.faces:
            answers = predict_by_file(path, calibration_faces.central(), model.beta)
        found = model_scores.calibrate(answers, calibration_faces)
        about = dataclasses.replace(about, calibration=found.to_config())
    return about


def _bound_flags(mode, failure):
    """Of `lapkl convert`, for what was out of its bound; "" where there is none."""
    if MODES[mode].integers:
        return ", and by `lapkl convert --mean_bound --nme_bound`"
    flag = {"NME": "nme_bound", "mean": "mean_bound"}
    return next((f", and by `lapkl convert --{flag[w]}`" for w in flag if w in failure), "")


def _expectation(mode, bounds, scale, count):
    """What is allowed, and whether it is likely to hold, said before minutes are spent on it.

    Args:
        scale: mean scale that the model gives, pixels.
        count: of faces to compare on.
    """
    words = {
        "mean": "a mean distance of {:g} px from Keras",
        "max": "a largest distance of {:g} px",
        "nme": "an NME that grows by {:g} %",
    }
    allowed = [words[k].format(100 * v if k == "nme" else v) for k, v in bounds.items()]
    text = f"{mode} is allowed {' and '.join(allowed) or 'any distance from Keras'}."
    doubts = []
    if scale > _SHARP:
        doubts.append(f"its mean scale is {scale:.1f} px, of long trainings about 1.2")
    if count < _ENOUGH:
        doubts.append(f"{count} faces are too few to measure a growth of 1 %")
    wide = all(bounds.get(name, bound) >= bound for name, bound in _WIDE.items())
    if wide or not doubts:
        return text
    return (
        f"{text} This model may need wider bounds, or stages in float: {'; '.join(doubts)}. "
        f"`lapkl convert --mean_bound={_WIDE['mean']:g} --nme_bound={100 * _WIDE['nme']:g}` widens "
        "them."
    )


def check_backend() -> None:
    """ValueError where Keras does not run on TensorFlow, whose converter is used."""
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            "Converting needs Keras on TensorFlow: set KERAS_BACKEND=tensorflow. Received: "
            f"{keras.backend.backend()}"
        )


def _check(model, mode, faces, representative_images):
    check_backend()
    if getattr(model, "generator", None) is None:
        raise ValueError(f"`model` must be a LandmarkLocalizer. Received: {type(model).__name__}")
    check_localizer(model)
    if (representative_images is None) == MODES[mode].calibrated:
        raise ValueError(
            "`representative_images` goes with mode 'int8', and only with it. Received: mode "
            f"{mode!r} {'without' if representative_images is None else 'with'} them."
        )
    height, width, channels = model.generator.input_shape[1:]
    if height != width or channels != 3:
        raise ValueError(
            "Converting needs a generator of square RGB images. Received: one of shape "
            f"{(height, width, channels)}"
        )
    _check_images("faces", faces.central() if isinstance(faces, Crops) else faces, model)
    if representative_images is not None:
        _check_images("representative_images", representative_images, model)


def _in_float32(model):
    """The model; of one in mixed precision, which TFLite's converter does not take, a copy."""
    if not _half_floats(model):
        return model
    model = model.localizer()  # without a discriminator or teacher
    config = model.get_config()
    for each in (config, config["generator"]["config"]):
        each.pop("dtype", None)
    with dtype_policy("float32"):
        copy = LandmarkLocalizer.from_config(config)
    if half := _half_floats(copy):
        raise ValueError(
            f"Converting needs a model in float32. Received: layer {half[0].name!r} in "
            f"{half[0].dtype_policy.name}. Build the generator under float32, and give it these "
            "weights: `generator.set_weights(model.generator.get_weights())`."
        )
    copy.set_weights(model.get_weights())
    return copy


def _half_floats(model):
    waiting, found = [model, model.generator], []
    while waiting:
        layer = waiting.pop()
        waiting += getattr(layer, "layers", [])
        if layer.compute_dtype in ("float16", "bfloat16"):
            found.append(layer)
    return found


def _check_images(name, images, model):
    expected = (model.image_size, model.image_size, 3)
    if not len(images) or images.shape[1:] != expected:
        raise ValueError(
            f"`{name}` must be images of shape (N, {', '.join(map(str, expected))}), N > 0. "
            f"Received: {np.shape(images)}"
        )


def _output_shapes(model, with_heatmaps, decode) -> dict[str, tuple[int, ...]]:
    """{name: shape} of what a file gives."""
    maps = tuple(model.generator.output_shape[1:])
    if not decode:
        return {runner.LOGITS: maps}
    shapes = dict.fromkeys(runner.OUTPUTS, (model.num_landmarks, 2))
    return {**shapes, runner.HEATMAPS: maps} if with_heatmaps else {**shapes}


def _metadata(model, mode, float_layers, input_dtype, flip_average):
    """What is known of a file before it is measured."""
    calibration = None
    if model.calibration is not None and not flip_average:  # it is for single passes
        calibration = model.calibration.to_config()
    image = {"channels": "RGB", "dtype": input_dtype, "range": [0.0, 1.0]}
    if input_dtype in runner.BYTES:
        zero = runner.BYTES[input_dtype]
        image["range"] = [zero, zero + 255]
    scheme, trained = model.scheme, model.training_data
    return Metadata(
        keras_lapkl=keras_lapkl.__version__,
        mode=mode,
        image_size=model.image_size,
        num_landmarks=model.num_landmarks,
        input=image,
        float_layers=tuple(float_layers),
        flip_average=flip_average,
        refined=model.refinement is not None,
        beta=model.beta,
        crop_scale=model.crop_scale,
        crop=None if scheme is None else scheme.crop_rule,
        scheme=None if scheme is None else scheme.to_config(),
        trained_on=model.trained_on,
        training_data=None if trained is None else trained.to_config(),
        license=None if trained is None else trained.license,
        calibration=calibration,
    )
