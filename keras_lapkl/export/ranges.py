"""Ranges of int8 tensors, narrower than their values where that loses less.

A few large values would make the step coarse for all. To clip them is an error too: a tensor gets
the share of its range with the least mean squared error of both (Nagel et al., arXiv 2106.08295,
Section 3.1), each by itself, on values of the float network.
"""

import pathlib
import tempfile
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_lapkl.export import flatbuffer_writer
from keras_lapkl.tflite import flatbuffer, runner

SHARES = np.linspace(1, 0.4, 13)
"""Of a range that are tried."""
BINS = 2048
"""Of a histogram of values."""
IMAGES = 64
"""As many are enough."""
_STEPS = 255


def narrowed(calibrated: bytes, images: NDArray[Any]) -> bytes:
    """A float model with the ranges of the least error; that of its image, 0 to 1, stays.

    Args:
        calibrated: a .tflite file whose tensors have `min` and `max`.
        images: (N, S, S, 3) float32, as it takes them; the first 64 are enough.
    """
    model = flatbuffer.parse(calibrated)
    (graph,) = model.subgraphs
    found = {
        index: tensor.quantization
        for index, tensor in enumerate(graph.tensors)
        if index not in graph.inputs and getattr(tensor.quantization, "min", None) is not None
    }
    ranges = {index: (float(q.min[0]), float(q.max[0])) for index, q in found.items()}
    counts = _counts(calibrated, ranges, images[:IMAGES])
    for index, quantization in found.items():
        share = np.float32(best_share(counts[index], *ranges[index]))
        quantization.min, quantization.max = share * quantization.min, share * quantization.max
    return flatbuffer_writer.pack(model)


def best_share(counts: NDArray[Any], low: float, high: float) -> float:
    """The share of a range at which clipping and rounding together lose least.

    Args:
        counts: (B,) of values other than 0 in bins of equal width from `low` to `high`.
        low, high: the range, with 0 in it.

    Returns:
        One of `SHARES`.
    """
    width = (high - low) / len(counts)
    values = low + width * (np.arange(len(counts)) + 0.5)
    losses = []
    for share in SHARES:
        beyond = values - np.clip(values, share * low, share * high)
        rounding = (share * (high - low) / _STEPS) ** 2 / 12
        losses.append(counts @ np.where(beyond == 0, rounding, beyond**2))
    return float(SHARES[np.argmin(losses)])


def _counts(content, ranges, images):
    """{tensor: counts of its values other than 0, in bins of its range} over images."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(action="ignore"):
        path = pathlib.Path(folder) / "calibrated.tflite"
        path.write_bytes(content)
        interpreter = runner.load_interpreter(path, experimental_preserve_all_tensors=True)
    (image,) = interpreter.get_input_details()
    counts = {index: np.zeros(BINS) for index in ranges}
    for each in images:
        interpreter.set_tensor(image["index"], runner.as_input(each, image))
        interpreter.invoke()
        for index, (low, high) in ranges.items():
            values = interpreter.get_tensor(index).ravel()
            bins = (values[values != 0] - low) * (BINS / max(high - low, 1e-30))
            counts[index] += np.bincount(np.clip(bins, 0, BINS - 1).astype(int), minlength=BINS)
    return counts
