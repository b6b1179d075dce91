"""Runs a converted localizer, with LiteRT and NumPy alone."""

import functools
import hashlib
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from keras_lapkl import confidence, schemes, training_data
from keras_lapkl._support import console
from keras_lapkl._support.pixels import check_pixels
from keras_lapkl._support.threads import Pool
from keras_lapkl._support.types import PathLike
from keras_lapkl.tflite import axes, flatbuffer, graph_checks, metadata

SIGNATURE = "serving_default"
INPUT = "image"
OUTPUTS = ("landmarks", "scale")
HEATMAPS = "heatmaps"
LOGITS = "logits"
AXES = ("columns", "rows")
"""What a file for microcontrollers gives in the place of `OUTPUTS`."""
BYTES = {"uint8": 0, "int8": -128}
"""Types of an image of bytes, with the value that stands for 0; a step is 1/255."""


class TFLiteLocalizer:
    """Landmarks and their scales from face crops, by a file of `keras_lapkl.tflite.convert`.

    Several threads may call one: each call has an interpreter to itself, of which as many are made
    as calls run at once. A copy by pickle opens the file again.

    Args:
        path: a .tflite file.
        num_threads: threads of the interpreter, 1 to 1,024. Two gain nothing at widths up to 1/8.

    Attributes:
        image_size: side of the square crop in pixels.
        num_landmarks: K.
        metadata: what `convert` wrote into the file, the keys of `metadata.Metadata`; an empty dict
            if it holds nothing.
        scheme: the `Scheme` of the K landmarks, or None if unknown.
        crop_scale: crop rule that the model is right on, or None if unknown.
        trained_on: one line on the training faces, or None if unknown.
        training_data: the same as a `TrainingData`, or None.
        calibration: `confidence.Calibration` of this file's scales, or None if unknown.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a TFLite file, or a damaged one, or not one of a localizer; or its
            metadata break a rule or are of a newer schema.

    Example:

    >>> localize = TFLiteLocalizer("model.tflite")
    >>> landmarks, scale = localize(crop)          # (80, 80, 3) uint8 RGB
    >>> landmarks.shape, scale.shape
    ((68, 2), (68, 2))
    """

    def __init__(self, path: PathLike, num_threads: int = 1) -> None:
        self._path = path
        content = flatbuffer.read_bytes(path)
        model = flatbuffer.parse(content, path)
        found = metadata.read(model, path)
        self.metadata = {} if found is None else found.to_dict()
        # Copies open the file from whatever folder.
        self._arguments = os.path.abspath(path), num_threads
        self._sha256 = hashlib.sha256(content).hexdigest()
        _check_runnable(model, path)
        # The bytes that were checked, and not the file again.
        self._interpreters = Pool(functools.partial(_started, content, path, num_threads))
        with self._interpreters.borrowed() as interpreter:
            self._input, self._outputs = _signature_tensors(interpreter, path)
        self._decodes = set(self._outputs) == set(AXES)
        self.image_size = int(self._input["shape"][1])
        self.num_landmarks = int(
            self._outputs[AXES[0]]["shape"][-1]
            if self._decodes
            else self._outputs["landmarks"]["shape"][0]
        )
        scheme = self.metadata.get("scheme")
        self.scheme = None if scheme is None else schemes.get(scheme)
        self.crop_scale = self.metadata.get("crop_scale")
        self.trained_on = self.metadata.get("trained_on")
        self.training_data = training_data.get(self.metadata.get("training_data"))
        self.calibration = confidence.get(self.metadata.get("calibration"))

    def __call__(self, crop: ArrayLike) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Landmarks and scales of one crop.

        Args:
            crop: (S, S, 3) or (1, S, S, 3) RGB, uint8 or float in [0, 1], S = `image_size`.

        Returns:
            Landmarks and scale, each (K, 2) float32 in pixels of the crop, x first.

        Raises:
            ValueError: another shape, type or range.
        """
        if not self._decodes:
            return tuple(self._run(crop, OUTPUTS))
        logits = [
            dequantized(values, self._outputs[name]).reshape(-1, self.num_landmarks)
            for name, values in zip(AXES, self._run(crop, AXES), strict=True)
        ]
        return axes.decode(*logits, beta=self.metadata.get("beta", 1.0))

    def predict(self, images: NDArray[Any], verbose: Any = 0) -> dict[str, NDArray[np.float32]]:
        """As `LandmarkLocalizer.predict`, so that evaluation takes either; one image at a time.

        Args:
            images: (N, S, S, 3) RGB, uint8 or float in [0, 1].
            verbose: taken for Keras's sake; nothing is printed.

        Returns:
            dict of `landmarks` and `scale`, each (N, K, 2) float32.

        Raises:
            ValueError: another shape, type or range.
        """
        found = np.empty((len(OUTPUTS), len(images), self.num_landmarks, 2), np.float32)
        for i, image in enumerate(images):
            found[:, i] = self(image)
        return dict(zip(OUTPUTS, found, strict=True))

    def predict_heatmaps(self, images: NDArray[Any]) -> NDArray[np.float32]:
        """Heatmaps (N, S, S, K) of images (N, S, S, 3), as `LandmarkLocalizer.predict_heatmaps`.

        Raises:
            ValueError: the file was converted without heatmaps; or as `predict`.
        """
        if HEATMAPS not in self._outputs:
            raise ValueError(
                "This file gives landmarks and scales alone. Convert it with "
                "`with_heatmaps=True` (`lapkl convert --heatmaps`)."
            )
        return np.stack([self._run(image, (HEATMAPS,))[0] for image in images])

    def _run(self, crop, names):
        """The outputs of these names for one crop."""
        values = as_input(np.asarray(crop), self._input)
        with self._interpreters.borrowed() as interpreter:
            interpreter.set_tensor(self._input["index"], values)
            invoke(interpreter, self._path)
            return [interpreter.get_tensor(self._outputs[name]["index"]) for name in names]

    def __reduce__(self):
        # An interpreter can't be pickled.
        return _same_file, (type(self), self._arguments, self._sha256)


def _same_file(kind, arguments, sha256):
    """A copy in another process: on another machine a path may be another file's."""
    copy = kind(*arguments)
    if copy._sha256 != sha256:
        raise ValueError(
            f"{arguments[0]} is not the file of this name on the machine that sent it: give all "
            "machines the same one."
        )
    return copy


def as_input(crop: NDArray[Any], tensor: Mapping[str, Any]) -> NDArray[Any]:
    """One crop as the image tensor of a file takes it, (1, S, S, 3).

    Args:
        crop: (S, S, 3) or (1, S, S, 3) RGB, uint8 or float in [0, 1].
        tensor: the interpreter's details of the tensor.

    Raises:
        ValueError: another shape, type or range.
    """
    if crop.ndim == 4 and len(crop) == 1:
        crop = crop[0]
    expected = tuple(map(int, tensor["shape"][1:]))
    if crop.shape != expected:
        raise ValueError(
            f"Expected one RGB crop of shape {expected}. Received: {crop.shape}. "
            "`predict` takes many."
        )
    dtype = np.dtype(tensor["dtype"]).name
    if dtype not in BYTES:
        return _unit_range(crop)[None]
    if crop.dtype != np.uint8:
        crop = np.rint(255 * _unit_range(crop))
    return (crop.astype(np.int16) + BYTES[dtype]).astype(dtype)[None]


def _unit_range(crop):
    """A crop as float32 in [0, 1]."""
    check_pixels(crop)
    return crop.astype(np.float32) / 255 if crop.dtype == np.uint8 else crop.astype(np.float32)


def dequantized(values: NDArray[Any], tensor: Mapping[str, Any]) -> NDArray[Any]:
    """Values of a tensor as floats, by the step and zero of the interpreter's details of it."""
    step, zero = tensor["quantization"]
    return np.float32(step) * (values.astype(np.float32) - zero) if step else values


_MOST_THREADS = 1024
"""Of 100,000 LiteRT ends the process."""


def load_interpreter(path: PathLike, num_threads: int = 1, **kwargs: Any) -> Any:
    """LiteRT's interpreter of a .tflite file, with its tensors allocated.

    Args:
        path: the file.
        num_threads: 1 to 1,024.
        kwargs: more arguments of the interpreter.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: `num_threads` out of range, or a file that is damaged or that the interpreter
            refuses.
    """
    content = flatbuffer.read_bytes(path)
    _check_runnable(flatbuffer.parse(content, path), path)
    return _started(content, path, num_threads, **kwargs)


def _check_runnable(model, path):
    try:
        graph_checks.check_runnable(model)
    except ValueError as error:
        raise cannot_run(path, error) from error


def _started(content, path, num_threads, **kwargs):
    """An interpreter of the bytes of a file, which have been checked."""
    if not 1 <= num_threads <= _MOST_THREADS:
        raise ValueError(f"`num_threads` must be 1 to {_MOST_THREADS:,}. Received: {num_threads:,}")
    try:
        from ai_edge_litert.interpreter import Interpreter  # 0.2 s: only where a file is run
    except ImportError as error:
        raise ImportError(
            "Running a .tflite file needs LiteRT: pip install ai-edge-litert"
        ) from error
    try:
        with console.held_stderr():  # LiteRT logs on start-up
            interpreter = Interpreter(model_content=content, num_threads=num_threads, **kwargs)
            interpreter.allocate_tensors()
    except (RuntimeError, ValueError) as error:
        raise cannot_run(path, error) from error
    return interpreter


def invoke(interpreter: Any, path: PathLike) -> None:
    """Runs an interpreter; ValueError with the path of its file if an operator fails."""
    try:
        interpreter.invoke()
    except RuntimeError as error:
        raise cannot_run(path, error) from error


def cannot_run(path: PathLike, error: Exception) -> ValueError:
    """What to raise where the interpreter refuses a file, or an operator of it fails."""
    return ValueError(f"The interpreter can't run {path}: {error}")


def undelegated(path: PathLike) -> list[str]:
    """Names of the operators of a file that the default delegate, XNNPACK, leaves to TFLite.

    They run slower, by one thread. An operator is the delegate's if what the delegate gives needs
    it, and what the delegate is given does not.
    """
    interpreter = load_interpreter(path)
    nodes = interpreter._get_ops_details()
    delegates = [node for node in nodes if node["op_name"] == "DELEGATE"]
    own = nodes[: len(nodes) - len(delegates)]
    writers = {int(tensor): node for node in own for tensor in node["outputs"]}
    taken = set()
    for delegate in delegates:
        given = set(map(int, delegate["inputs"]))
        waiting = [int(tensor) for tensor in delegate["outputs"]]
        while waiting:
            tensor = waiting.pop()
            node = writers.get(tensor)
            if tensor in given or node is None or node["index"] in taken:
                continue
            taken.add(node["index"])
            waiting += [int(t) for t in node["inputs"]]
    return [node["op_name"] for node in own if node["index"] not in taken]


def _signature_tensors(interpreter, path):
    """Details of the input tensor, and of the output tensors by name."""
    signature = interpreter.get_signature_list().get(SIGNATURE, {"inputs": [], "outputs": []})
    if list(signature["outputs"]) == [LOGITS]:
        raise ValueError(
            f"{path} is not a localizer: it gives no landmarks, but logits for a decoding of your "
            "own. Convert it without --no_decode."
        )
    halves = set(signature["outputs"]) == set(AXES)
    named = AXES if halves else OUTPUTS
    if signature["inputs"] != [INPUT] or not set(named) <= set(signature["outputs"]):
        raise ValueError(
            f"{path} is not a localizer: expected a signature {SIGNATURE!r} from {INPUT!r} to "
            f"{OUTPUTS}. Received: {signature}. Files by `lapkl convert` have it."
        )
    runner = interpreter.get_signature_runner(SIGNATURE)
    image, outputs = runner.get_input_details()[INPUT], runner.get_output_details()
    shapes = [tuple(map(int, each["shape"])) for each in (image, *map(outputs.get, named))]
    square, first, second = shapes
    if halves:
        wanted = "int8 columns (1, 1, S/2, K) and rows (1, S/2, 1, K)"
        half = [size // 2 for size in square[1:2]]
        right = first == (1, 1, *half, *first[-1:]) and second == (1, *half, 1, *first[-1:])
        right = right and all(outputs[name]["dtype"] == np.int8 for name in AXES)
    else:
        wanted = "landmarks and scales (K, 2)"
        right = all(each == (*each[:1], 2) for each in (first, second))
    if square != (1, *square[1:2] * 2, 3) or not right:
        raise ValueError(
            f"{path} is not a localizer: expected an image (1, S, S, 3), {wanted}. "
            f"Received: {shapes}"
        )
    return image, outputs
