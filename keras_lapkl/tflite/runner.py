"""Runs a converted localizer, with LiteRT and NumPy alone."""

import numpy as np

from keras_lapkl import schemes
from keras_lapkl.tflite import flatbuffer

SIGNATURE = "serving_default"
INPUT = "image"
OUTPUTS = ("landmarks", "scale")


class TFLiteLocalizer:
    """Landmarks and their scales from face crops, by a file of `keras_lapkl.tflite.convert`.

    Args:
        path: a .tflite file.
        num_threads: threads of the interpreter, ≥ 1. Two gain nothing at widths up to 1/8.

    Attributes:
        image_size: side of the square crop in pixels.
        num_landmarks: K.
        metadata: what `convert` wrote into the file, a dict; empty if it holds nothing.
        scheme: the `Scheme` of the K landmarks, or None if unknown.
        crop_scale: crop rule that the model is right on, or None if unknown.
        trained_on: one line on the training faces, or None if unknown.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no TFLite file, or not one of a localizer.
        ImportError: neither ai_edge_litert nor TensorFlow is installed.

    Example:

    >>> localize = TFLiteLocalizer("model.tflite")
    >>> landmarks, scale = localize(crop)          # (80, 80, 3) uint8 RGB
    >>> landmarks.shape, scale.shape
    ((68, 2), (68, 2))
    """

    def __init__(self, path, num_threads=1):
        self.metadata = flatbuffer.read_metadata(flatbuffer.read(path)) or {}
        self._interpreter = load_interpreter(path, num_threads)
        self._input, self._outputs = _signature_tensors(self._interpreter, path)
        self.image_size = int(self._input["shape"][1])
        self.num_landmarks = int(self._outputs["landmarks"]["shape"][0])
        scheme = self.metadata.get("scheme")
        self.scheme = None if scheme is None else schemes.get(scheme)
        self.crop_scale = self.metadata.get("crop_scale")
        self.trained_on = self.metadata.get("trained_on")

    def __call__(self, crop):
        """Landmarks and scales of one crop.

        Args:
            crop: (S, S, 3) or (1, S, S, 3) RGB, uint8 or float in [0, 1], S = `image_size`.

        Returns:
            Landmarks and scale, each (K, 2) float32 in pixels of the crop, x first.

        Raises:
            ValueError: another shape, type or range.
        """
        crop = np.asarray(crop)
        if crop.ndim == 4 and len(crop) == 1:
            crop = crop[0]
        self._interpreter.set_tensor(self._input["index"], self._unit_range(crop)[None])
        self._interpreter.invoke()
        return tuple(self._interpreter.get_tensor(self._outputs[n]["index"]) for n in OUTPUTS)

    def predict(self, images, verbose=0):
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

    def _unit_range(self, crop):
        """A crop of the right shape as float32 in [0, 1]."""
        expected = (self.image_size, self.image_size, 3)
        if crop.shape != expected:
            raise ValueError(
                f"Expected one RGB crop of shape {expected}. Received: {crop.shape}. "
                "`predict` takes many."
            )
        if crop.dtype == np.uint8:
            return crop.astype(np.float32) / 255
        if not np.issubdtype(crop.dtype, np.floating):
            raise ValueError(f"Expected uint8, or float in [0, 1]. Received: {crop.dtype}")
        low, high = crop.min(), crop.max()
        if not (low >= 0 and high <= 1):
            raise ValueError(
                f"Expected float values in [0, 1]. Received: from {low:g} to {high:g}. Divide by "
                "255, or give uint8."
            )
        return crop.astype(np.float32)


def load_interpreter(path, num_threads=1):
    """An interpreter of a .tflite file with its tensors allocated: LiteRT's, or TensorFlow's.

    Raises:
        ValueError: `num_threads` below 1, or a file that the interpreter refuses.
        ImportError: neither ai_edge_litert nor TensorFlow is installed.
    """
    if num_threads < 1:
        raise ValueError(f"`num_threads` must be at least 1. Received: {num_threads}")
    interpreter_class = _interpreter_class()
    try:
        interpreter = interpreter_class(str(path), num_threads=num_threads)
        interpreter.allocate_tensors()
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"The interpreter can't run {path}: {error}") from error
    return interpreter


def _interpreter_class():
    try:
        from ai_edge_litert.interpreter import Interpreter

        return Interpreter
    except ImportError:
        pass
    try:
        import tensorflow as tf
    except ImportError as error:
        raise ImportError(
            "Running a .tflite file needs LiteRT: pip install ai-edge-litert (or tensorflow)."
        ) from error
    return tf.lite.Interpreter


def _signature_tensors(interpreter, path):
    """Details of the input tensor, and of the output tensors by name."""
    signature = interpreter.get_signature_list().get(SIGNATURE, {"inputs": [], "outputs": []})
    if signature["inputs"] != [INPUT] or sorted(signature["outputs"]) != sorted(OUTPUTS):
        raise ValueError(
            f"{path} is no localizer: expected a signature {SIGNATURE!r} from {INPUT!r} to "
            f"{OUTPUTS}. Received: {signature}. Files by `tools/convert.py` have it."
        )
    runner = interpreter.get_signature_runner(SIGNATURE)
    return runner.get_input_details()[INPUT], runner.get_output_details()
