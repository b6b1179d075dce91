"""Whether the graphs of a .tflite file are ones that an interpreter can run: it does not look.

Indices out of range, constants shorter than their shapes, operators that write into constants and
graphs that call each other in a circle end its process.
"""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from keras_lapkl.tflite.operators import KINDS
from keras_lapkl.tflite.schema import names, schema

MAX_TENSOR = 2**28
"""Bytes of a tensor; eight times as many is more than kernels count to."""
MAX_TENSORS = 2**31
"""Bytes of all tensors of a file, at the shapes that it states."""
MAX_RANK = 8
MAX_WINDOW = 1024
"""Side of a window that moves over an image, and of its steps."""
MAX_WORK = 2**40
"""Steps of a run, about: some minutes. The largest shipped model takes 2 ** 30."""
MAX_RESCALE = 2.0**20
"""Most that the scales of quantized tensors differ by; see `operators.Kind.rescale`."""

# Bits of an element; what is left out has no fixed size.
_BITS = {
    "BFLOAT16": 16,
    "BOOL": 8,
    "COMPLEX128": 128,
    "COMPLEX64": 64,
    "FLOAT16": 16,
    "FLOAT32": 32,
    "FLOAT64": 64,
    "INT16": 16,
    "INT32": 32,
    "INT4": 4,
    "INT64": 64,
    "INT8": 8,
    "UINT16": 16,
    "UINT32": 32,
    "UINT64": 64,
    "UINT8": 8,
}
# What kernels for images take.
_RUN = ("FLOAT32", "FLOAT16", "INT32", "INT64", "INT16", "INT8", "UINT8", "INT4", "BOOL")
_QUANTIZED = {"INT8": (-128, 127), "UINT8": (0, 255), "INT16": (-(2**15), 2**15 - 1)}
# What kernels divide by, and move by.
_WINDOWS = (
    "strideW",
    "strideH",
    "dilationWFactor",
    "dilationHFactor",
    "filterWidth",
    "filterHeight",
    "blockSize",
)
# By their numbers in the schema, which never change: INT32 and INT64.
_INTEGERS = {2: np.int32, 4: np.int64}
_CALLS = (
    "thenSubgraphIndex",
    "elseSubgraphIndex",
    "condSubgraphIndex",
    "bodySubgraphIndex",
    "initSubgraphIndex",
    "decompositionSubgraphIndex",
)


def check(model: Any) -> None:
    """Raises ValueError with the place if a `ModelT`, of verified bytes, is no sound model."""
    if not model.subgraphs:
        raise ValueError("it has no graph")
    buffers, codes = model.buffers or [], model.operatorCodes or []
    for buffer in buffers:
        if buffer.offset or buffer.size:
            raise ValueError("it has data beyond the flatbuffer, which is not supported")
    types = names(schema().TensorType)
    known = names(schema().BuiltinOperator)
    for code in codes:
        if max(code.builtinCode, code.deprecatedBuiltinCode) not in known:
            raise ValueError(f"it has an operator of the unknown kind {code.builtinCode}")
    total = 0
    for number, graph in enumerate(model.subgraphs):
        for i, tensor in enumerate(graph.tensors or []):
            total += _check_tensor(tensor, f"tensor {i} of graph {number}", types, buffers)
        if total > MAX_TENSORS:
            raise ValueError(f"its tensors take over {MAX_TENSORS:,} bytes")
        _check_graph(graph, number, codes, model)
    for entry in model.metadata or []:
        _within(f"metadata {entry.name!r}", [entry.buffer], len(buffers))
    for signature in model.signatureDefs or []:
        place = f"signature {signature.signatureKey!r}"
        _within(place, [signature.subgraphIndex], len(model.subgraphs))
        graph = model.subgraphs[signature.subgraphIndex]
        maps = [*(signature.inputs or []), *(signature.outputs or [])]
        if signature.signatureKey is None or any(each.name is None for each in maps):
            raise ValueError(f"{place} lacks a name")
        _within(place, (each.tensorIndex for each in maps), len(graph.tensors or []))


def check_runnable(model: Any) -> None:
    """Raises ValueError if an interpreter must not be given a sound `ModelT`; see `operators`."""
    kinds, types = names(schema().BuiltinOperator), names(schema().TensorType)
    work = 0
    for number, graph in enumerate(model.subgraphs):
        for i, tensor in enumerate(graph.tensors or []):
            if types[tensor.type] not in _RUN:
                raise ValueError(f"tensor {i} of graph {number} is of type {types[tensor.type]}")
        for i, operator in enumerate(graph.operators or []):
            code = model.operatorCodes[operator.opcodeIndex]
            name = kinds[max(code.builtinCode, code.deprecatedBuiltinCode)]
            place = f"operator {i} of graph {number}, {name},"
            if code.customCode is not None or name not in KINDS:
                raise ValueError(f"{place} is not one that this package runs")
            work += _check_operator(operator, KINDS[name], graph.tensors, model.buffers, place)
            if work > MAX_WORK:
                raise ValueError(f"{place} and those before it take over {MAX_WORK:,} steps")
            _check_types(operator, KINDS[name], graph.tensors, types, place)
            if name != "CAST":
                _check_scales(operator, KINDS[name], graph.tensors, types, place)


def _check_operator(operator, kind, tensors, buffers, place):
    """Checks inputs, options and shapes of one operator; gives the steps that it takes."""
    reads, writes = _ints(operator.inputs), _ints(operator.outputs)
    few, many = kind.inputs
    if not few <= len(reads) <= many or -1 in reads[: kind.optional]:
        raise ValueError(f"{place} has the inputs {reads}, expected {few} to {many}")
    options = operator.builtinOptions
    if kind.options is not None and type(options).__name__ != f"{kind.options}T":
        raise ValueError(f"{place} has no {kind.options}")
    shapes = [None if i < 0 else tuple(_ints(tensors[i].shape)) for i in reads]
    if any(shape is not None and 0 in shape and len(shape) > 1 for shape in shapes):
        raise ValueError(f"{place} has empty inputs: {shapes}")
    values = [None if i < 0 else _integers(tensors[i], buffers) for i in reads]
    divides = kind.divides and tensors[reads[1]].type in _INTEGERS
    if divides and (values[1] is None or np.isin(values[1], (0, -1)).any()):
        raise ValueError(
            f"{place} divides integers: expected that it does so by a constant without 0 and -1"
        )
    try:
        found = kind.shapes(shapes, values, options)
    # A wrong rank, and what NumPy says of shapes that do not go together.
    except (ValueError, IndexError) as error:
        raise ValueError(f"{place} has inputs or options that do not fit: {error}") from error
    if len(found) != len(writes):
        raise ValueError(f"{place} has {len(writes)} outputs, expected {len(found)}")
    for i, shape in zip(writes, found, strict=True):
        stated = tuple(_ints(tensors[i].shape))
        if 0 in shape:
            raise ValueError(f"{place} gives {shape}, which is empty")
        if stated != shape:
            raise ValueError(f"{place} gives {shape}, but {stated} is stated")
    return sum(map(math.prod, found)) * kind.work(shapes, options)


def _check_types(operator, kind, tensors, types, place):
    given = [None if i < 0 else types[tensors[i].type] for i in _ints(operator.inputs)]
    right = kind.results or (given[kind.data],)
    made = [types[tensors[i].type] for i in _ints(operator.outputs)]
    if not set(made) <= set(right) or (kind.alike and len(set(given[kind.data :])) > 1):
        raise ValueError(f"{place} makes {made} of {given}")


def _integers(tensor, buffers):
    """The values of a constant of integers that may state a shape; None of others."""
    if 0 in _ints(tensor.shape):
        return np.zeros(0, int)
    data = buffers[tensor.buffer].data
    if data is None or not len(data) or tensor.type not in _INTEGERS or len(data) > 2**17:
        return None
    return np.frombuffer(bytes(bytearray(data)), _INTEGERS[tensor.type])


def _check_scales(operator, kind, tensors, types, place):
    """Whether quantized tensors have scales that kernels can count with."""

    def scales(indices):
        found = []
        for i in indices:
            tensor = tensors[i]  # of -1 any, which is not looked at
            if i < 0 or types[tensor.type] not in _QUANTIZED:
                continue
            quantization = tensor.quantization
            if quantization is None or not _ints(quantization.zeroPoint):
                raise ValueError(f"{place} has the tensor {tensor.name!r} without scales")
            low, high = _QUANTIZED[types[tensor.type]]
            if not all(low <= zero <= high for zero in _ints(quantization.zeroPoint)):
                raise ValueError(f"{place} has zero points that are not in {low}..{high}")
            found.append(np.asarray(quantization.scale, float))
        return found

    given, made = scales(_ints(operator.inputs)), scales(_ints(operator.outputs))
    if any(np.min(scale) <= 0 for scale in (*given, *made)):
        raise ValueError(f"{place} has a scale of 0")
    if any(np.max(scale) >= kind.below for scale in given):
        raise ValueError(f"{place} has inputs with scales that are not below {kind.below:g}")
    least = min((np.min(scale) for scale in made), default=1.0)
    if given and kind.rescale([float(np.max(scale)) for scale in given]) > MAX_RESCALE * least:
        raise ValueError(f"{place} has scales too far above its output's")


def _check_tensor(tensor, place, types, buffers):
    """Bytes of a tensor at the shape that is stated."""
    if tensor.type not in types:
        raise ValueError(f"{place} is of the unknown type {tensor.type}")
    if tensor.name is None:
        raise ValueError(f"{place} lacks a name")
    shape = _ints(tensor.shape)
    signature = _ints(tensor.shapeSignature)
    if len(shape) > MAX_RANK or any(size < 0 for size in shape):
        raise ValueError(f"{place} has the shape {shape}")
    if signature and (len(signature) != len(shape) or any(size < -1 for size in signature)):
        raise ValueError(f"{place} has the shape {shape} and its signature {signature}")
    _within(place, [tensor.buffer], len(buffers))
    data = buffers[tensor.buffer].data
    stored = 0 if data is None else len(data)
    bits = _BITS.get(types[tensor.type])
    if bits is None:
        if stored:
            raise ValueError(f"{place} is a constant of type {types[tensor.type]}")
        return 0
    size = (math.prod(shape) * bits + 7) // 8
    if size > MAX_TENSOR:
        raise ValueError(f"{place} of shape {shape} takes over {MAX_TENSOR:,} bytes")
    if stored and stored != size:
        raise ValueError(f"{place} of shape {shape} takes {size} bytes, and {stored} are stored")
    if tensor.quantization is not None:
        _check_quantization(tensor.quantization, shape, place)
    return size


def _check_quantization(quantization, shape, place):
    scale = np.asarray([] if quantization.scale is None else quantization.scale)
    count = len(_ints(quantization.zeroPoint))
    if len(scale) not in (0, 1):
        axis = quantization.quantizedDimension
        if not 0 <= axis < len(shape) or len(scale) != shape[axis]:
            raise ValueError(f"{place} of shape {shape} has {len(scale)} scales on axis {axis}")
    if len(scale) != count and not (count == 0 or len(scale) == 0):
        raise ValueError(f"{place} has {len(scale)} scales and {count} zero points")
    if not np.all(np.isfinite(scale) & (scale >= 0)):
        raise ValueError(f"{place} has scales that are negative or not finite")


def _check_graph(graph, number, codes, model):
    """Indices of a graph, and that each tensor is there before it is read."""
    tensors, place = graph.tensors or [], f"graph {number}"
    inputs, outputs = _ints(graph.inputs), _ints(graph.outputs)
    _within(f"inputs of {place}", inputs, len(tensors))
    _within(f"outputs of {place}", outputs, len(tensors))
    constant = {i for i, tensor in enumerate(tensors) if _has_data(model, tensor)}
    written = set(inputs)
    if len(written) < len(inputs) or written & constant:
        raise ValueError(f"{place} has an input twice, or a constant for one")
    variables = {i for i, tensor in enumerate(tensors) if tensor.isVariable}
    for i, operator in enumerate(graph.operators or []):
        where = f"operator {i} of {place}"
        _within(f"kind of {where}", [operator.opcodeIndex], len(codes))
        reads, writes = _ints(operator.inputs), _ints(operator.outputs)
        # Minus one marks an optional input that is not given.
        _within(f"inputs of {where}", reads, len(tensors), -1)
        _within(f"outputs of {where}", writes, len(tensors))
        _within(f"intermediates of {where}", _ints(operator.intermediates), len(tensors))
        missing = set(reads) - written - constant - variables - {-1}
        if missing:
            raise ValueError(f"{where} reads tensors that nothing wrote before: {sorted(missing)}")
        if len(set(writes)) < len(writes) or set(writes) & (written | constant | variables):
            raise ValueError(f"{where} writes what has been written, or a constant: {writes}")
        written.update(writes)
        _check_options(operator, where, number, model)
    missing = set(outputs) - written - constant - variables
    if missing:
        raise ValueError(f"{place} gives tensors that nothing wrote: {sorted(missing)}")


def _check_options(operator, place, number, model):
    if operator.largeCustomOptionsOffset or operator.largeCustomOptionsSize:
        raise ValueError(f"{place} has options beyond the flatbuffer, which is not supported")
    values = {} if operator.builtinOptions is None else vars(operator.builtinOptions)
    for name in _WINDOWS:
        if not 1 <= values.get(name, 1) <= MAX_WINDOW:
            raise ValueError(
                f"{place} has {name} {values[name]}, expected from 1 to {MAX_WINDOW:,}"
            )
    called = [values[name] for name in _CALLS if name in values]
    if not all(number < each < len(model.subgraphs) for each in called):
        raise ValueError(
            f"{place} calls the graphs {called} of {len(model.subgraphs)}, expected later ones "
            "alone, so that there is no circle"
        )


def _within(place: str, indices: Iterable[int], count: int, first: int = 0) -> None:
    outside = sorted({i for i in indices if not first <= i < count})
    if outside:
        raise ValueError(f"{place}: expected indices in {first}..{count - 1}. Received: {outside}")


def _has_data(model, tensor):
    """Whether a tensor is a constant; where it has no elements, there is nothing to store."""
    data = model.buffers[tensor.buffer].data
    return (data is not None and len(data) > 0) or 0 in _ints(tensor.shape)


def _ints(values):
    return [] if values is None else [int(value) for value in values]
