"""`.tflite` files that would end the interpreter's process, and what reading them says."""

import os
import re
import struct
import time

import flatbuffers
import numpy as np
import pytest

from keras_lapkl import pretrained
from keras_lapkl.export import flatbuffer_writer
from keras_lapkl.tflite import (
    TFLiteLocalizer,
    compatibility,
    describe,
    flatbuffer,
    flatbuffer_checks,
    graph_checks,
    runner,
)

SHIPPED = pretrained.path("fpn-sixteenth-300w", "-int8.tflite")


@pytest.fixture
def changed(tmp_path):
    """`changed(change)` is the shipped file with `change(model, graph)` made."""

    def changed(change):
        model = flatbuffer.read(SHIPPED)
        change(model, model.subgraphs[0])
        path = tmp_path / "m.tflite"
        path.write_bytes(flatbuffer_writer.pack(model))
        return path

    return changed


def refused(path, message, opened=TFLiteLocalizer):
    with pytest.raises(ValueError) as caught:
        opened(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert re.search(message, str(caught.value)), str(caught.value)


def operator(model, graph, name):
    """The first operator of a kind."""
    code = getattr(flatbuffer.schema().BuiltinOperator, name)
    return next(each for each in graph.operators if flatbuffer.builtin_code(model, each) == code)


def no_graph(model, graph):
    model.subgraphs = []


def graphs_left_out(model, graph):
    model.subgraphs = None


def output_out_of_range(model, graph):
    graph.outputs = [-1]


def output_of_nothing(model, graph):
    graph.operators.pop()


def input_out_of_range(model, graph):
    graph.operators[3].inputs = [len(graph.tensors)]


def kind_out_of_range(model, graph):
    graph.operators[3].opcodeIndex = 2**31 - 1


def buffer_out_of_range(model, graph):
    graph.tensors[3].buffer = len(model.buffers)


def metadata_out_of_range(model, graph):
    model.metadata[0].buffer = len(model.buffers)


def signature_out_of_range(model, graph):
    model.signatureDefs[0].inputs[0].tensorIndex = len(graph.tensors)


def unknown_type(model, graph):
    graph.tensors[3].type = 99


def negative_shape(model, graph):
    graph.tensors[0].shape = [1, -80, 80, 3]


def huge_shape(model, graph):
    graph.tensors[0].shape = [1, 2**30, 80, 3]


def short_constant(model, graph):
    buffer = next(each for each in model.buffers if each.data is not None and len(each.data) > 99)
    buffer.data = buffer.data[:-1]


def written_constant(model, graph):
    graph.operators[3].outputs = [operator(model, graph, "CONV_2D").inputs[1]]


def read_before_written(model, graph):
    graph.operators.reverse()


def scales_of_another_axis(model, graph):
    weights = graph.tensors[operator(model, graph, "CONV_2D").inputs[1]]
    weights.quantization.scale = list(weights.quantization.scale)[:-1]


def stride_of_zero(model, graph):
    operator(model, graph, "CONV_2D").builtinOptions.strideW = 0


def graph_that_calls_itself(model, graph):
    schema = flatbuffer.schema()
    code, loop = schema.OperatorCodeT(), graph.operators[3]
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.WHILE
    model.operatorCodes.append(code)
    loop.opcodeIndex = len(model.operatorCodes) - 1
    loop.builtinOptionsType = schema.BuiltinOptions.WhileOptions
    loop.builtinOptions = schema.WhileOptionsT()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (no_graph, "it has no graph"),
        (graphs_left_out, "it has no graph"),
        (
            output_out_of_range,
            r"outputs of graph 0: expected indices in 0\.\.\d+. Received: \[-1\]",
        ),
        (output_of_nothing, "graph 0 gives tensors that nothing wrote"),
        (input_out_of_range, "inputs of operator 3 of graph 0: expected indices"),
        (kind_out_of_range, "kind of operator 3 of graph 0: expected indices"),
        (buffer_out_of_range, "tensor 3 of graph 0: expected indices"),
        (metadata_out_of_range, "metadata .*: expected indices"),
        (signature_out_of_range, "signature .*: expected indices"),
        (unknown_type, "tensor 3 of graph 0 is of the unknown type 99"),
        (negative_shape, r"tensor 0 of graph 0 has the shape \[1, -80, 80, 3\]"),
        (huge_shape, "tensor 0 of graph 0 of shape .* takes over 268,435,456 bytes"),
        (short_constant, r"takes \d+ bytes, and \d+ are stored"),
        (written_constant, "writes what has been written, or a constant"),
        (read_before_written, "reads tensors that nothing wrote before"),
        (scales_of_another_axis, "scales"),
        (stride_of_zero, "has strideW 0, expected from 1"),
        (
            graph_that_calls_itself,
            r"operator 3 of graph 0 calls the graphs \[0, 0\] of 1, expected later ones",
        ),
    ],
)
def test_damaged_graphs(changed, change, message):
    path = changed(change)
    for opened in (TFLiteLocalizer, describe, runner.load_interpreter, compatibility.check):
        refused(path, message, opened)


def missing_input(model, graph):
    operator(model, graph, "RESHAPE").inputs = [operator(model, graph, "RESHAPE").inputs[0], -1]


def fewer_inputs(model, graph):
    found = operator(model, graph, "DEPTHWISE_CONV_2D")
    found.inputs = found.inputs[:2]


def options_of_another_kind(model, graph):
    found, other = operator(model, graph, "CONV_2D"), operator(model, graph, "RESHAPE")
    found.builtinOptions = other.builtinOptions
    found.builtinOptionsType = other.builtinOptionsType


def another_shape(model, graph):
    graph.tensors[operator(model, graph, "CONV_2D").outputs[0]].shape = [1, 2, 3, 4]


def another_type(model, graph):
    tensor = graph.tensors[operator(model, graph, "ADD").outputs[0]]
    tensor.type = flatbuffer.schema().TensorType.FLOAT32


def another_kind(model, graph):
    code = model.operatorCodes[operator(model, graph, "SOFTMAX").opcodeIndex]
    code.builtinCode = code.deprecatedBuiltinCode = flatbuffer.schema().BuiltinOperator.LSTM


def no_scales(model, graph):
    graph.tensors[operator(model, graph, "ADD").inputs[0]].quantization = None


def scales_far_apart(model, graph):
    quantization = graph.tensors[operator(model, graph, "CONV_2D").inputs[1]].quantization
    quantization.scale = [1e30] * len(quantization.scale)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (missing_input, "RESHAPE, has the inputs"),
        (fewer_inputs, "DEPTHWISE_CONV_2D, has the inputs .* expected 3 to 3"),
        (options_of_another_kind, "CONV_2D, has no Conv2DOptions"),
        (another_shape, r"CONV_2D, gives .*, but \(1, 2, 3, 4\) is stated"),
        (another_type, r"ADD, makes \['FLOAT32'\]"),
        (another_kind, "LSTM, is not one that this package runs"),
        (no_scales, "MUL, has the tensor .* without scales"),
        (scales_far_apart, "CONV_2D, has scales too far above its output's"),
    ],
)
def test_graphs_that_kernels_trust(changed, change, message):
    path = changed(change)
    assert describe(path)["operators"]
    for opened in (TFLiteLocalizer, runner.load_interpreter):
        refused(path, message, opened)


def with_operator(name, dtype, divisor, scale):
    """A change: one more operator, of four numbers and others; None is a second input."""

    def change(model, graph):
        schema = flatbuffer.schema()

        def tensor(name, dtype, values=None, scale=None):
            found = schema.TensorT()
            found.name, found.shape, found.buffer = name, [4], 0
            found.type = getattr(schema.TensorType, dtype)
            if values is not None:
                model.buffers.append(schema.BufferT())
                model.buffers[-1].data = np.array(values, dtype.lower()).tobytes()
                found.buffer = len(model.buffers) - 1
            if scale is not None:
                found.quantization = schema.QuantizationParametersT()
                found.quantization.scale, found.quantization.zeroPoint = [scale], [0]
            graph.tensors.append(found)
            return len(graph.tensors) - 1

        code, found = schema.OperatorCodeT(), schema.OperatorT()
        code.builtinCode = code.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, name)
        code.version = 2
        model.operatorCodes.append(code)
        found.opcodeIndex = len(model.operatorCodes) - 1
        least = np.iinfo(dtype.lower()).min
        a = tensor(b"a", dtype, [least] * 4, scale and scale[0])
        b = tensor(b"b", dtype, divisor, scale and scale[1])
        if divisor is None:
            graph.inputs = [*graph.inputs, b]
        made = dtype if name == "FLOOR_MOD" else "BOOL"
        found.inputs, found.outputs = [a, b], [tensor(b"c", made)]
        graph.operators.append(found)

    return change


ONES = [1, 1, 1, 1]
OF_INTEGERS = r"FLOOR_MOD, divides integers: expected that it does so by a constant"
OF_LARGE_SCALES = r"has inputs with scales that are not below 1$"


@pytest.mark.parametrize(
    ("name", "dtype", "divisor", "scale", "message"),
    [
        ("FLOOR_MOD", "INT32", [-1] * 4, None, OF_INTEGERS),
        ("FLOOR_MOD", "INT64", [1, 1, -1, 1], None, OF_INTEGERS),
        ("FLOOR_MOD", "INT32", [1, 0, 1, 1], None, OF_INTEGERS),
        ("FLOOR_MOD", "INT64", None, None, OF_INTEGERS),
        ("EQUAL", "INT8", ONES, (1.0, 0.5), f"EQUAL, {OF_LARGE_SCALES}"),
        ("NOT_EQUAL", "INT16", ONES, (1.0, 1.0), OF_LARGE_SCALES),
        ("LESS", "INT8", ONES, (1e5, 0.5), OF_LARGE_SCALES),
        ("LESS_EQUAL", "UINT8", ONES, (0.5, 2.0), OF_LARGE_SCALES),
        ("GREATER", "UINT8", ONES, (2.0, 0.5), OF_LARGE_SCALES),
        ("GREATER_EQUAL", "INT8", ONES, (2.0, 0.5), OF_LARGE_SCALES),
    ],
)
def test_what_ends_the_process_of_kernels(changed, name, dtype, divisor, scale, message):
    path = changed(with_operator(name, dtype, divisor, scale))
    refused(path, message, runner.load_interpreter)


@pytest.mark.parametrize(
    ("name", "dtype", "divisor", "scale"),
    [
        ("FLOOR_MOD", "INT32", [3, 1, -2, 7], None),
        ("FLOOR_MOD", "INT64", [3, 1, -2, 7], None),
        ("EQUAL", "INT8", ONES, (0.99, 0.99)),
        ("LESS", "UINT8", ONES, (1e-3, 0.99)),
        ("GREATER", "INT32", ONES, None),
    ],
)
def test_what_kernels_divide_and_compare(changed, name, dtype, divisor, scale):
    path = changed(with_operator(name, dtype, divisor, scale))
    interpreter = runner.load_interpreter(path)
    (tensor,) = interpreter.get_input_details()
    interpreter.set_tensor(tensor["index"], np.zeros(tensor["shape"], tensor["dtype"]))
    runner.invoke(interpreter, path)


def test_the_shipped_bytes_are_within_bounds():
    content = SHIPPED.read_bytes()
    flatbuffer_checks.verify(content)
    for size in range(8, len(content), 1999):
        with pytest.raises(ValueError, match="it has "):
            flatbuffer_checks.verify(content[:size])


def test_what_leads_out_of_the_file():
    with pytest.raises(ValueError, match="100 elements at byte 8, which lead out of the file"):
        flatbuffer_checks._Walk(struct.pack("<II", 4, 100) + bytes(100)).vector(0, 4)
    with pytest.raises(ValueError, match="an offset to byte 4 of 6"):
        flatbuffer_checks._Walk(bytes(6)).number("I", 4)


def test_tables_that_are_used_over_and_over():
    """A table of 100,000 names that are one and the same."""
    name = b"x" * 1000
    text = struct.pack("<I", len(name)) + name + bytes(4)
    count = 100_000
    # Root, directory of Model with `operator_codes`, vector of one table that each entry names.
    head = struct.pack("<I4sHHHHI", 0, b"TFL3", 8, 8, 0, 4, 0)
    table = len(head)
    content = bytearray(head)
    content += struct.pack("<iI", table - 8, 4)
    struct.pack_into("<I", content, 0, table)
    vector = len(content)
    content += struct.pack("<I", count)
    code = vector + 4 + 4 * count + 8
    content += b"".join(struct.pack("<I", code - (vector + 4 + 4 * i)) for i in range(count))
    content += struct.pack("<HHHH", 8, 8, 0, 4)
    content += struct.pack("<iI", 8, 4)
    content += text
    start = time.process_time()
    with pytest.raises(ValueError, match=r"over and over|more than 50,000 tables"):
        flatbuffer_checks.verify(bytes(content))
    assert time.process_time() - start < 5


def test_graphs_that_are_used_over_and_over():
    """400 graphs that are one and the same, of 4,000 tensors that are one and the same."""
    schema, builder = flatbuffer.schema(), flatbuffers.Builder()

    def repeated(start, table, count):
        start(builder, count)
        for _ in range(count):
            builder.PrependUOffsetTRelative(table)
        return builder.EndVector()

    tensors = repeated(schema.SubGraphStartTensorsVector, schema.TensorT().Pack(builder), 4000)
    schema.SubGraphStart(builder)
    schema.SubGraphAddTensors(builder, tensors)
    graphs = repeated(schema.ModelStartSubgraphsVector, schema.SubGraphEnd(builder), 400)
    schema.ModelStart(builder)
    schema.ModelAddSubgraphs(builder, graphs)
    builder.Finish(schema.ModelEnd(builder), flatbuffer.IDENTIFIER)
    start = time.process_time()
    with pytest.raises(ValueError, match="over and over"):
        flatbuffer_checks.verify(bytes(builder.Output()))
    assert time.process_time() - start < 5


@pytest.mark.parametrize("name", ["empty", "a list", "size of text", "five points"])
def test_metadata_that_break_a_rule(changed, metadata_texts, name):
    text, message = metadata_texts.REFUSED[name]

    def change(model, graph):
        flatbuffer.metadata_buffer(model).data = text.encode()

    path = changed(change)
    for opened in (TFLiteLocalizer, describe):
        refused(path, f"has metadata that break a rule.*({message})", opened)


def other_landmarks(model, graph):
    """A file without metadata, whose landmarks are the last tensor of another shape."""
    model.metadata = None
    other = operator(model, graph, "RESHAPE").outputs[0]
    named = {each.name: each for each in model.signatureDefs[0].outputs}
    graph.outputs = [other, named[b"scale"].tensorIndex]
    named[b"landmarks"].tensorIndex = other


def test_localizers_of_other_shapes(changed):
    refused(changed(other_landmarks), r"is not a localizer: expected an image \(1, S, S, 3\)")


def test_work_is_bounded(monkeypatch):
    monkeypatch.setattr(graph_checks, "MAX_WORK", 1_000_000)
    refused(SHIPPED, "take over 1,000,000 steps")


def test_only_regular_files_are_opened(tmp_path, monkeypatch):
    path = tmp_path / "m.tflite"
    os.mkfifo(path)
    for opened in (TFLiteLocalizer, describe, runner.load_interpreter):
        refused(path, "expected a regular file. Received: a named pipe", opened)
    path.unlink()
    path.symlink_to("/dev/zero")
    refused(path, "expected a regular file. Received: a device")
    monkeypatch.setattr(flatbuffer, "MAX_BYTES", 1000)
    refused(SHIPPED, f"expected at most 1000 bytes. Received: {SHIPPED.stat().st_size}")


def test_the_file_that_is_checked_is_the_one_that_runs(changed, monkeypatch):
    path = changed(lambda model, graph: None)
    read = flatbuffer.read_bytes

    def replaced(path):
        content = read(path)
        path.write_bytes(b"another one meanwhile")
        return content

    monkeypatch.setattr(flatbuffer, "read_bytes", replaced)
    landmarks, _ = TFLiteLocalizer(path)(np.zeros((80, 80, 3), np.uint8))
    assert landmarks.shape == (68, 2)
