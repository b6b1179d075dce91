"""`.tflite` files: their bytes, their tables and their metadata, each read and run."""

import copy
import functools
import json
import math
import random

import harness
import numpy as np

from keras_lapkl import pretrained
from keras_lapkl.export import flatbuffer_writer, micro
from keras_lapkl.tflite import (
    TFLiteLocalizer,
    c_header,
    compatibility,
    describe,
    flatbuffer,
    operators,
    runner,
)

NUMBERS = (-(2**31), -2, -1, 0, 1, 2, 3, 7, 16, 68, 127, 255, 256, 1000, 65535, 2**20, 2**31 - 1)
SCALES = (-1.0, 0.0, 1e-30, 1e-3, 1.0, 300.0, 1e5, 1e30, float("nan"))


@functools.cache
def shipped():
    """Bytes of three files: float16, int8, and int8 cut for microcontrollers."""
    paths = (
        pretrained.path("fpn-sixteenth-300w", ".tflite"),
        pretrained.path("fpn-sixteenth-300w", "-int8.tflite"),
        pretrained.path("fpn-sixteenth-micro", ".tflite"),
    )
    return [path.read_bytes() for path in paths]


@functools.cache
def models():
    return [flatbuffer.parse(content) for content in shipped()]


@functools.cache
def tables(index):
    """Places of the bytes that are no constants of many values: there damage leads astray."""
    content = shipped()[index]
    places = np.ones(len(content), bool)
    for buffer in models()[index].buffers:
        data = b"" if buffer.data is None else bytes(bytearray(buffer.data))
        if len(data) > 64:
            start = content.index(data)
            places[start : start + len(data)] = False
    return np.flatnonzero(places)


def read_and_run(folder, content):
    path = folder / "m.tflite"
    path.write_bytes(content)
    describe(path)
    compatibility.check(path)
    localizer = TFLiteLocalizer(path)
    size, count = localizer.image_size, localizer.num_landmarks
    landmarks, scale = localizer(np.zeros((size, size, 3), np.uint8))
    assert landmarks.shape == scale.shape == (count, 2)


def break_bytes(rng, folder):
    read_and_run(folder, harness.mutated(rng, rng.choice(shipped())))


def break_table_bytes(rng, folder):
    """Some bytes in tables, none of them moved: much of the file is left as it was."""
    index = rng.randrange(len(shipped()))
    content = bytearray(shipped()[index])
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at = int(rng.choice(tables(index)))
        bit = content[at] ^ 1 << rng.randrange(8)
        content[at] = rng.choice((bit, 0, 0x7F, 0x80, 0xFF, rng.randrange(256)))
    read_and_run(folder, bytes(content))


def break_tables(rng, folder):
    """Numbers, indices, shapes, constants and options of the graph, each of its own type."""
    model = copy.deepcopy(rng.choice(models()))
    if rng.random() < 0.2:
        model.metadata = None
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        rng.choice(CHANGES)(rng, model, model.subgraphs[0])
    read_and_run(folder, flatbuffer_writer.pack(model))


def cut_broken_tables(rng, folder):
    """An int8 file is cut for a microcontroller; what comes of it is a file that is read."""
    model = copy.deepcopy(models()[1])
    for _ in range(rng.choice((1, 1, 2, 4))):
        rng.choice(CHANGES)(rng, model, model.subgraphs[0])
    content = micro.for_micro(flatbuffer_writer.pack(model))
    c_header.c_header(content, "face", 1)
    read_and_run(folder, content)


def break_what_a_header_is_made_of(rng, folder):
    model = copy.deepcopy(models()[2])
    for _ in range(rng.choice((1, 1, 2, 4))):
        rng.choice(CHANGES)(rng, model, model.subgraphs[0])
    c_header.c_header(flatbuffer_writer.pack(model), "face", 1)


def run_an_operator(rng, folder):
    """One operator on small tensors, with the output that `operators` says: that must suffice."""
    name = rng.choice(list(operators.KINDS))
    for _ in range(2000):
        graph, values = small_graph(rng, name)
        if graph is not None:
            break
    else:
        raise ValueError(f"no {name} in 2,000 guesses")
    schema = flatbuffer.schema()
    model = schema.ModelT()
    code = schema.OperatorCodeT()
    code.builtinCode = getattr(schema.BuiltinOperator, name)
    code.deprecatedBuiltinCode, code.version = min(127, code.builtinCode), rng.choice((1, 2, 3))
    model.version, model.operatorCodes, model.subgraphs = 3, [code], [graph]
    model.buffers = [schema.BufferT()]
    for tensor, value in zip(graph.tensors, values, strict=True):
        if value is None:
            tensor.buffer = 0
        else:
            tensor.buffer = len(model.buffers)
            model.buffers.append(schema.BufferT())
            model.buffers[-1].data = value.tobytes()
    path = folder / "m.tflite"
    path.write_bytes(flatbuffer_writer.pack(model))
    compatibility.check(path)
    interpreter = runner.load_interpreter(path)
    for tensor in interpreter.get_input_details():
        dtype = np.dtype(tensor["dtype"])
        interpreter.set_tensor(tensor["index"], np.ones(tensor["shape"], dtype))
    runner.invoke(interpreter, path)
    for tensor in interpreter.get_output_details():
        interpreter.get_tensor(tensor["index"])


def small_graph(rng, name):
    """A graph of one operator, and for each tensor the constant or None; None if none fits."""
    schema, kind = flatbuffer.schema(), operators.KINDS[name]
    count = rng.randint(kind.inputs[0], min(4, kind.inputs[1]))
    main = rng.choice(("FLOAT32", "FLOAT32", "INT8", "UINT8", "INT16", "INT32", "INT64", "BOOL"))
    rank = rng.choice((4, 4, 4, rng.randrange(6)))
    shapes, values, types = [], [], []
    for i in range(count):
        if i < kind.data or (i > kind.data and rng.random() < 0.6):
            shape = rng.choice(((), (1,), (2,), (rank,), (rank, 2)))
            types.append(rng.choice(("INT32", "INT32", "INT32", "INT64")))
            dtype = types[-1].lower()
            values.append(np.array([rng.randint(-2, 6) for _ in range(math.prod(shape))], dtype))
        else:
            shape = tuple(rng.choice((1, 1, 2, 2, 3, 4, rng.randrange(9))) for _ in range(rank))
            if i and rng.random() < 0.5:
                shape = shapes[0]
            if i == count - 1 and count > 2 and rng.random() < 0.7:
                shape = (rng.randint(1, 4),)
            types.append(main if rng.random() < 0.9 else rng.choice(("INT8", "INT32", "FLOAT16")))
            dtype = types[-1].lower()
            constant = i > 0 and rng.random() < 0.7
            values.append(np.ones(shape, dtype) if constant else None)
        shapes.append(shape)
    options = None
    if kind.options is not None:
        options = getattr(schema, f"{kind.options}T")()
        for each, value in vars(options).items():
            choices = (True, False) if isinstance(value, bool) else (0, 1, 1, 2, 3, -1)
            if not isinstance(value, float) and value is not None:
                setattr(options, each, rng.choice(choices))
    known = [None if v is None or v.dtype not in (np.int32, np.int64) else v for v in values]
    try:
        given = kind.shapes(shapes, known, options)
    except (ValueError, IndexError, AttributeError, ZeroDivisionError, TypeError):
        return None, None
    graph, operator = schema.SubGraphT(), schema.OperatorT()
    graph.tensors = []
    for i, shape in enumerate([*shapes, *given]):
        tensor = schema.TensorT()
        tensor.name, tensor.shape = f"t{i}".encode(), list(shape)
        likely = rng.choice(kind.results or (types[kind.data],))
        dtype = types[i] if i < count else rng.choice((likely, likely, likely, main, "BOOL"))
        tensor.type = getattr(schema.TensorType, dtype)
        if dtype in ("INT8", "UINT8", "INT16") and rng.random() < 0.95:
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale = [rng.choice((1e-6, 1e-3, 0.5, 1 / 256, 100.0, 1e5))]
            tensor.quantization.zeroPoint = [rng.choice((0, 0, 1, 100))]
        graph.tensors.append(tensor)
    operator.inputs, operator.opcodeIndex = list(range(count)), 0
    operator.outputs = graph.outputs = list(range(count, count + len(given)))
    graph.inputs = [i for i in range(count) if values[i] is None]
    graph.operators, operator.builtinOptions = [operator], options
    if options is not None:
        operator.builtinOptionsType = getattr(schema.BuiltinOptions, kind.options)
    return graph, [*values, *[None] * len(given)]


def change_kind(rng, model, graph):
    rng.choice(graph.operators).opcodeIndex = rng.randrange(len(model.operatorCodes))


def change_code(rng, model, graph):
    code = rng.choice(model.operatorCodes)
    code.builtinCode = rng.randrange(210)
    code.deprecatedBuiltinCode = min(127, code.builtinCode)


def change_version(rng, model, graph):
    rng.choice(model.operatorCodes).version = rng.choice(NUMBERS)


def change_indices(rng, model, graph):
    holder, name = rng.choice(
        [
            (rng.choice(graph.operators), rng.choice(("inputs", "outputs"))),
            (graph, rng.choice(("inputs", "outputs"))),
        ]
    )
    indices = list(getattr(holder, name))
    index = rng.choice((-1, rng.randrange(len(graph.tensors)), rng.choice(NUMBERS)))
    at = rng.randrange(len(indices) + 1)
    indices[at : at + rng.randrange(2)] = [index] * rng.randrange(2)
    setattr(holder, name, indices)


def change_signature(rng, model, graph):
    signature = model.signatureDefs[0]
    entry = rng.choice([*signature.inputs, *signature.outputs])
    entry.tensorIndex = rng.choice((rng.randrange(len(graph.tensors)), 2**32 - 1))


def change_shape(rng, model, graph):
    tensor = rng.choice(graph.tensors)
    shape = [] if tensor.shape is None else list(tensor.shape)
    at = rng.randrange(len(shape) + 1)
    shape[at : at + rng.randrange(2)] = [rng.choice(NUMBERS)] * rng.randrange(2)
    tensor.shape = shape


def change_type(rng, model, graph):
    rng.choice(graph.tensors).type = rng.randrange(20)


def change_buffer(rng, model, graph):
    rng.choice(graph.tensors).buffer = rng.randrange(len(model.buffers) + 1)


def change_variable(rng, model, graph):
    rng.choice(graph.tensors).isVariable = True


def change_constant(rng, model, graph):
    """Values that may state a shape, an axis or a margin."""
    small = [
        each for each in model.buffers if each.data is not None and len(each.data) in (4, 8, 16)
    ]
    buffer = rng.choice(small)
    values = np.frombuffer(bytes(bytearray(buffer.data)), np.int32).copy()
    values[rng.randrange(len(values))] = rng.choice(NUMBERS)
    buffer.data = values.tobytes()


def change_quantization(rng, model, graph):
    quantization = rng.choice(graph.tensors).quantization
    if quantization is None or quantization.scale is None:
        return
    count = rng.choice((0, 1, 2, len(quantization.scale)))
    change = rng.randrange(3)
    if change == 0:
        quantization.scale = [rng.choice(SCALES)] * count
    elif change == 1:
        quantization.zeroPoint = [rng.choice(NUMBERS)] * count
    else:
        quantization.quantizedDimension = rng.choice(NUMBERS)


def change_options(rng, model, graph):
    operator = rng.choice(graph.operators)
    other = rng.choice(graph.operators)
    values = {} if operator.builtinOptions is None else vars(operator.builtinOptions)
    plain = [name for name, value in values.items() if type(value) is int]
    if not plain or rng.random() < 0.3:
        operator.builtinOptions = other.builtinOptions
        operator.builtinOptionsType = other.builtinOptionsType
        return
    # Activations and paddings have a byte, and the others four.
    small = [0, 1, 2, 5, 127, -128]
    name = rng.choice(plain)
    narrow = "ctivation" in name or "adding" in name or "Format" in name or "Type" in name
    setattr(operator.builtinOptions, name, rng.choice(small if narrow else NUMBERS))


CHANGES = (
    change_kind,
    change_code,
    change_version,
    change_indices,
    change_signature,
    change_shape,
    change_type,
    change_buffer,
    change_variable,
    change_constant,
    change_quantization,
    change_options,
)


def break_metadata(rng, folder):
    """JSON of which some values are others, some keys are gone, and some text is broken."""
    model = copy.deepcopy(models()[0])
    entry = next(each for each in model.metadata if each.name == b"keras_lapkl")
    text = flatbuffer.read_metadata(model)
    if rng.random() < 0.2:
        text = harness.mutated_text(rng, text, ("{", "[" * 2000, "]", '"', "null", "1e999"))
        content = text.encode("utf-8", "surrogatepass")
    elif rng.random() < 0.2:
        content = harness.mutated(rng, text.encode())
    else:
        data = json.loads(text)
        for _ in range(rng.choice((1, 1, 2, 4))):
            harness.change_value(rng, data, VALUES)
        content = json.dumps(data).encode()
    model.buffers[entry.buffer].data = content
    read_and_run(folder, flatbuffer_writer.pack(model))


VALUES = (
    *(None, True, False, 0, 1, -1, 68, 67, 99, 10**40, 0.5, -0.5, 1e300, float("nan"), 1e-300),
    *("", "80", "x" * 20_000, "\x1b[2J", "\ud800", "ibug68", "float32", "faces: 1 of 2 faces"),
    *([], {}, [0], [[0]], [[68]], {"sets": []}, {"a": {"b": [1]}}, [[]] * 5, [0.0] * 68),
)

ATTACKS = [
    harness.Attack(".tflite, bytes", break_bytes, tries=300),
    harness.Attack(".tflite, bytes of tables", break_table_bytes, tries=150),
    harness.Attack(".tflite, tables", break_tables, tries=60),
    harness.Attack(".tflite, cut for a microcontroller", cut_broken_tables, tries=40),
    harness.Attack(".tflite, C header", break_what_a_header_is_made_of, tries=40),
    harness.Attack(".tflite, metadata", break_metadata, tries=60),
    harness.Attack(".tflite, each operator", run_an_operator, tries=300),
]


def test_reads_or_refuses(figures):
    assert not figures.faults
    assert figures.refused


def test_changes_do_what_they_say():
    """Each changes something, most of the times."""
    for change in CHANGES:
        packed = set()
        for number in range(4):
            model = copy.deepcopy(models()[1])
            change(random.Random(number), model, model.subgraphs[0])
            packed.add(flatbuffer_writer.pack(model))
        assert len(packed) > 1, change.__name__
