"""Writes the objects of TFLite's schema as a .tflite file."""

import copy

import numpy as np

from keras_lapkl.tflite.flatbuffer import (
    IDENTIFIER,
    METADATA_NAME,
    builtin_code,
    metadata_buffer,
    schema,
)

_ALIGNMENT = 16

_TABLE = 4096
"""Bytes of a constant that is worth an operator more."""


def pack(model):
    """The bytes of a `ModelT`, its constants aligned to 16 bytes as kernels expect them."""
    import flatbuffers

    # The generated code writes constants wherever they fall; the schema wants them aligned.
    model.buffers = [_AlignedBuffer(buffer) for buffer in model.buffers]
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), file_identifier=IDENTIFIER)
    return bytes(builder.Output())


def add_metadata(model, metadata):
    """Puts a `Metadata` into a `ModelT`, in place; one that is there is replaced."""
    buffer = metadata_buffer(model)
    if buffer is not None:
        buffer.data = metadata.to_json().encode()
        return
    buffer = schema().BufferT()
    buffer.data = metadata.to_json().encode()
    entry = schema().MetadataT()
    entry.name, entry.buffer = METADATA_NAME, len(model.buffers)
    model.buffers.append(buffer)
    model.metadata = [*(model.metadata or ()), entry]


def take_bytes(model, dtype, zero):
    """Lets the image of a `ModelT` be bytes for [0, 1] instead of floats, in place.

    Where a QUANTIZE reads the image, it reads the bytes; else a DEQUANTIZE before all reads them.

    Args:
        model: a `ModelT` whose first input is the image, float32.
        dtype: `"uint8"` or `"int8"`.
        zero: the value that stands for 0; `zero` + 255 stands for 1.
    """
    graph = model.subgraphs[0]
    builtin, types = schema().BuiltinOperator, schema().TensorType
    (image,) = graph.inputs
    readers = [operator for operator in graph.operators if image in list(operator.inputs)]
    tensor = graph.tensors[image]
    if any(builtin_code(model, reader) != builtin.QUANTIZE for reader in readers):
        tensor = schema().TensorT()
        tensor.name, tensor.shape = b"image_bytes", graph.tensors[image].shape
        tensor.shapeSignature = graph.tensors[image].shapeSignature
        model.buffers.append(schema().BufferT())
        tensor.buffer = len(model.buffers) - 1
        graph.tensors.append(tensor)
        graph.inputs = [len(graph.tensors) - 1]
        _dequantize(model, graph.inputs[0], image, 2)  # the first that takes int8
        for signature in model.signatureDefs:
            signature.inputs[0].tensorIndex = graph.inputs[0]
    tensor.type = getattr(types, dtype.upper())
    tensor.quantization = schema().QuantizationParametersT()
    tensor.quantization.scale, tensor.quantization.zeroPoint = [1 / 255], [zero]


def halve_tables(model):
    """Keeps the float constants of a `ModelT` that a MUL reads in float16, in place.

    Interpreters restore them once, before the first image.
    """
    graph = model.subgraphs[0]
    builtin, types = schema().BuiltinOperator, schema().TensorType
    read = {
        int(index)
        for operator in graph.operators
        if builtin_code(model, operator) == builtin.MUL
        for index in operator.inputs
    }
    used = [tensor.buffer for tensor in graph.tensors]
    for index in sorted(read):
        table = graph.tensors[index]
        buffer = model.buffers[table.buffer]
        content = bytes(bytearray(buffer.data if buffer.data is not None else b""))
        alone = used.count(table.buffer) == 1
        if table.type != types.FLOAT32 or len(content) < _TABLE or not alone:
            continue
        values = np.frombuffer(content, "<f4")
        buffer.data = np.frombuffer(values.astype("<f2").tobytes(), np.uint8)
        half = copy.copy(table)
        half.name, half.type, table.buffer = b"halved", types.FLOAT16, 0
        graph.tensors.append(half)
        _dequantize(model, len(graph.tensors) - 1, index, 3)  # the first that takes float16


def _dequantize(model, given, made, version):
    """Puts before all operators one that restores a tensor."""
    builtin = schema().BuiltinOperator
    code = schema().OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = builtin.DEQUANTIZE
    code.version = version
    model.operatorCodes.append(code)
    operator = schema().OperatorT()
    operator.opcodeIndex = len(model.operatorCodes) - 1
    operator.inputs, operator.outputs = [given], [made]
    model.subgraphs[0].operators.insert(0, operator)


class _AlignedBuffer:
    """A `BufferT` that packs its data aligned."""

    def __init__(self, buffer):
        self.data = buffer.data

    def Pack(self, builder):  # noqa: N802  (the name that `ModelT.Pack` calls)
        data = None
        if self.data is not None and len(self.data):
            content = bytes(bytearray(self.data))
            builder.StartVector(1, len(content), _ALIGNMENT)
            builder.head -= len(content)
            builder.Bytes[builder.head : builder.head + len(content)] = content
            data = builder.EndVector()
        schema().BufferStart(builder)
        if data is not None:
            schema().BufferAddData(builder, data)
        return schema().BufferEnd(builder)
