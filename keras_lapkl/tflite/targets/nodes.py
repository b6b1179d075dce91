"""The operators of a .tflite file with all that a target may ask of them."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_lapkl.tflite import flatbuffer
from keras_lapkl.tflite.schema import names, schema

_SMALL = 2**16
_NUMPY = {"INT32": np.int32, "INT64": np.int64}


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A tensor.

    Attributes:
        index: its number in the graph.
        name: as the file has it; it tells the Keras layer that it comes from.
        dtype: TFLite's name of its type, such as `"INT8"`.
        shape: as the file states it.
        dynamic: whether a size is open until a program sets it.
        constant: whether its values are in the file.
        values: those of a small constant of integers; None of others.
        scale, zero: quantization, one for the tensor or one for each channel; empty without.
        axis: the axis of the channels.
        of_graph: whether it is an input of the graph.
    """

    index: int
    name: str
    dtype: str
    shape: tuple[int, ...]
    dynamic: bool = False
    constant: bool = False
    values: tuple[int, ...] | None = None
    scale: tuple[float, ...] = ()
    zero: tuple[int, ...] = ()
    axis: int = 0
    of_graph: bool = False

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))


@dataclasses.dataclass(frozen=True)
class Node:
    """An operator.

    Attributes:
        index: its place in the order of the file.
        name: TFLite's name, such as `"CONV_2D"`; a custom operator's own name.
        version: of the operator, as the converter wrote it.
        custom: whether TFLite lacks it.
        inputs: its tensors, None where an optional one is left out.
        outputs: its tensors.
        options: the object of its options, or None.
    """

    index: int
    name: str
    version: int
    custom: bool
    inputs: tuple[Tensor | None, ...]
    outputs: tuple[Tensor, ...]
    options: Any = None

    @property
    def given(self) -> tuple[Tensor, ...]:
        """The inputs that are there."""
        return tuple(each for each in self.inputs if each is not None)

    @property
    def computed(self) -> tuple[Tensor, ...]:
        """The inputs that are no constants."""
        return tuple(each for each in self.given if not each.constant)

    @property
    def types(self) -> str:
        """Types of what it reads and of what it gives, such as `"int8"`, `"float32 to int8"`."""
        source = self.computed or self.given
        read, made = source[0].dtype.lower() if source else "", self.outputs[0].dtype.lower()
        return made if read in (made, "") else f"{read} to {made}"

    def input(self, place: int) -> Tensor | None:
        """The input at a place; None where there is none."""
        return self.inputs[place] if place < len(self.inputs) else None

    def option(self, name: str, default: Any = None) -> Any:
        """An option by the schema's name."""
        return getattr(self.options, name, default)


def tensors(model: Any) -> list[Tensor]:
    """The tensors of the first graph of a `ModelT`."""
    graph, types = model.subgraphs[0], names(schema().TensorType)
    inputs = {int(i) for i in listed(graph.inputs)}
    return [
        _tensor(i, tensor, model.buffers, types, i in inputs)
        for i, tensor in enumerate(listed(graph.tensors))
    ]


def nodes(model: Any) -> list[Node]:
    """The operators of the first graph of a `ModelT`, in their order."""
    kinds, known = names(schema().BuiltinOperator), tensors(model)
    found = []
    for index, operator in enumerate(listed(model.subgraphs[0].operators)):
        code = model.operatorCodes[operator.opcodeIndex]
        custom = code.customCode is not None
        kind = kinds[flatbuffer.builtin_code(model, operator)]
        found.append(
            Node(
                index,
                code.customCode.decode(errors="replace") if custom else kind,
                code.version,
                custom,
                tuple(None if i < 0 else known[i] for i in map(int, listed(operator.inputs))),
                tuple(known[i] for i in map(int, listed(operator.outputs))),
                operator.builtinOptions,
            )
        )
    return found


def unpacks(node: Node) -> bool:
    """Whether a node only turns constants of the file from float16 into float32."""
    return (
        node.name == "DEQUANTIZE"
        and len(node.given) == 1
        and node.given[0].constant
        and node.given[0].dtype == "FLOAT16"
    )


def with_constants(found: Sequence[Node]) -> list[Node]:
    """Nodes that take what `unpacks` gives as constants, as runtimes do that read float16."""
    made = {node.outputs[0].index for node in found if unpacks(node)}

    def known(tensor):
        if tensor is None or tensor.index not in made:
            return tensor
        return dataclasses.replace(tensor, constant=True, dtype="FLOAT16")

    return [
        node if unpacks(node) else dataclasses.replace(node, inputs=tuple(map(known, node.inputs)))
        for node in found
    ]


def _tensor(index, tensor, buffers, types, of_graph):
    data = buffers[tensor.buffer].data
    dtype, shape = types[tensor.type], tuple(map(int, listed(tensor.shape)))
    constant = (data is not None and len(data) > 0) or 0 in shape
    values = None
    if constant and dtype in _NUMPY and (data is None or len(data) <= _SMALL):
        stored = b"" if data is None else bytes(bytearray(data))
        values = tuple(map(int, np.frombuffer(stored, _NUMPY[dtype])))
    quantization = tensor.quantization
    return Tensor(
        index,
        tensor.name.decode(),
        dtype,
        shape,
        -1 in listed(tensor.shapeSignature),
        constant and not of_graph,
        values,
        () if quantization is None else tuple(map(float, listed(quantization.scale))),
        () if quantization is None else tuple(map(int, listed(quantization.zeroPoint))),
        0 if quantization is None else int(quantization.quantizedDimension),
        of_graph,
    )


def listed(values: Any) -> list[Any]:
    """A vector of a file, which leaves out an empty one."""
    return [] if values is None else list(values)
