"""What is in a .tflite file: its signature, operators with their types, and metadata."""

import collections
import dataclasses
import pathlib
from collections.abc import Iterable
from typing import Any

from keras_lapkl._support.types import PathLike
from keras_lapkl.tflite import flatbuffer, metadata
from keras_lapkl.tflite.page import page


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
    graph = model.subgraphs[0]
    about = metadata.read(model, path)
    return Description(
        bytes=pathlib.Path(path).stat().st_size,
        signature=signature and signature.signatureKey.decode(),
        inputs=_tensors(graph, graph.inputs, signature and signature.inputs),
        outputs=_tensors(graph, graph.outputs, signature and signature.outputs),
        operators=count(operators(model)),
        metadata=None if about is None else about.to_dict(),
    )


def operators(model: Any) -> list[Operator]:
    """The `Operator`s of a `ModelT`, in the order in which they run."""
    builtin = flatbuffer.names(flatbuffer.schema().BuiltinOperator)
    graph = model.subgraphs[0]
    found = []
    for operator in graph.operators or ():
        code = model.operatorCodes[operator.opcodeIndex]
        custom = code.customCode is not None
        name = builtin[flatbuffer.builtin_code(model, operator)]
        found.append(
            Operator(
                code.customCode.decode() if custom else name,
                _dtypes(graph, operator.inputs),
                _dtypes(graph, operator.outputs),
                custom,
                "".join(graph.tensors[i].name.decode() for i in _first(operator.outputs)),
                any(i in graph.inputs for i in _first(operator.inputs)),
            )
        )
    return found


def count(found: Iterable[Operator]) -> dict[str, dict[str, int]]:
    """{name: {output type: number}} of `Operator`s, sorted by name."""
    counts = collections.defaultdict(collections.Counter)
    for operator in found:
        counts[operator.name]["".join(operator.outputs[:1])] += 1
    return {name: dict(counts[name]) for name in sorted(counts)}


def _all(values):
    """A vector of a file, which leaves out an empty one."""
    return [] if values is None else values


def _first(indices):
    return _all(indices)[:1]


def _tensors(graph, indices, named):
    """Name, shape and dtype of tensors; in the signature's order if there is one."""
    if named:
        pairs = [(entry.name.decode(), entry.tensorIndex) for entry in named]
    else:
        pairs = [(graph.tensors[i].name.decode(), i) for i in _all(indices)]
    return [
        {
            "name": name,
            "shape": [int(size) for size in _all(graph.tensors[i].shape)],
            "dtype": _dtypes(graph, [i])[0],
        }
        for name, i in pairs
    ]


def _dtypes(graph, indices):
    dtype = flatbuffer.names(flatbuffer.schema().TensorType)
    # Minus one marks an optional input that is not given.
    return tuple(dtype[graph.tensors[i].type].lower() for i in _all(indices) if i >= 0)
