"""What is in a .tflite file: its signature, operators with their types, and metadata."""

import collections
import dataclasses
import pathlib
from collections.abc import Iterable
from typing import Any

from keras_lapkl._support.types import PathLike
from keras_lapkl.tflite import flatbuffer, metadata
from keras_lapkl.tflite.page import page
from keras_lapkl.tflite.targets.nodes import listed, nodes, tensors


@dataclasses.dataclass(frozen=True)
class Operator:
    """One operator of the graph.

    Attributes:
        name: TFLite's name, such as `"CONV_2D"`; a custom operator's own name.
        inputs, outputs: types of its tensors, such as `("int8", "int8", "int32")`.
        custom: whether TFLite lacks it and a runtime must add it.
        result: name of its first output tensor, which tells the Keras layer that it comes from.
        of_input: whether it reads the graph's input.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    custom: bool = False
    result: str = ""
    of_input: bool = False


class Description(dict):
    """What `describe` gives: a dict, which `print` shows as a page for people."""

    def __str__(self) -> str:
        return page(self)


def describe(path: PathLike) -> Description:
    """What a .tflite file holds, read from its bytes and without an interpreter.

    Args:
        path: a .tflite file of any origin.

    Returns:
        A dict, whose `str` is a page to read: `bytes` of the file; `inputs` and `outputs`, lists of
        `name` (in the signature if there is one), `shape` and `dtype`; `signature`, its name or
        None; `operators`, for each name and output type their number; `metadata`, written by
        `convert`, the keys of `metadata.Metadata`, or None.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a TFLite file, or a damaged one, or its metadata break a rule or are
            of a newer schema.

    Example:

    >>> describe("model.tflite")["operators"]["CONV_2D"]
    {'int8': 17}
    """
    model = flatbuffer.read(path)
    signature = model.signatureDefs[0] if model.signatureDefs else None
    graph, known = model.subgraphs[0], tensors(model)
    about = metadata.read(model, path)
    return Description(
        bytes=pathlib.Path(path).stat().st_size,
        signature=signature and signature.signatureKey.decode(),
        inputs=_tensors(known, graph.inputs, signature and signature.inputs),
        outputs=_tensors(known, graph.outputs, signature and signature.outputs),
        operators=count(operators(model)),
        metadata=None if about is None else about.to_dict(),
    )


def operators(model: Any) -> list[Operator]:
    """The `Operator`s of a `ModelT`, in the order in which they run."""
    return [
        Operator(
            node.name,
            tuple(tensor.dtype.lower() for tensor in node.given),
            tuple(tensor.dtype.lower() for tensor in node.outputs),
            node.custom,
            "".join(tensor.name for tensor in node.outputs[:1]),
            any(tensor is not None and tensor.of_graph for tensor in node.inputs[:1]),
        )
        for node in nodes(model)
    ]


def count(found: Iterable[Operator]) -> dict[str, dict[str, int]]:
    """{name: {output type: number}} of `Operator`s, sorted by name."""
    counts = collections.defaultdict(collections.Counter)
    for operator in found:
        counts[operator.name]["".join(operator.outputs[:1])] += 1
    return {name: dict(counts[name]) for name in sorted(counts)}


def _tensors(known, indices, named):
    """Name, shape and dtype of tensors; in the signature's order if there is one."""
    if named:
        pairs = [(entry.name.decode(), known[entry.tensorIndex]) for entry in named]
    else:
        pairs = [(known[i].name, known[i]) for i in listed(indices)]
    return [
        {"name": name, "shape": list(tensor.shape), "dtype": tensor.dtype.lower()}
        for name, tensor in pairs
    ]
