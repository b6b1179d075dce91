"""What runs where: files of one operator that keep or break one rule, and the shipped files.

XNNPACK's rules are held against what LiteRT's own interpreter hands to it; those of TFLite Micro
and of Ethos-U against the `tflite-micro` wheel and vela, where they are installed.
"""

import dataclasses

import numpy as np
import pytest

from keras_lapkl import pretrained
from keras_lapkl._support import extras
from keras_lapkl.export import flatbuffer_writer
from keras_lapkl.tflite import arena, compatibility, flatbuffer, vela
from keras_lapkl.tflite.targets import TARGETS
from keras_lapkl.tflite.targets.nodes import nodes
from keras_lapkl.tflite.targets.target import Target

NUMPY = {
    "FLOAT32": np.float32,
    "FLOAT16": np.float16,
    "INT8": np.int8,
    "UINT8": np.uint8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "BOOL": np.bool_,
}
ACTIVATIONS = {"NONE": 0, "RELU": 1, "RELU_N1_TO_1": 2, "RELU6": 3, "TANH": 4, "SIGN_BIT": 5}


@dataclasses.dataclass(frozen=True)
class T:
    """A tensor of a file that is written here; `values` make it a constant."""

    shape: tuple
    dtype: str = "FLOAT32"
    values: object = None
    scale: tuple = ()
    zero: int = 0
    axis: int = 0
    open: bool = False


def q(*shape, scale=0.1, zero=0, **more):
    """A tensor of int8."""
    return T(shape, more.pop("dtype", "INT8"), scale=(scale,), zero=zero, **more)


def held(*shape, dtype="FLOAT32", **more):
    """A constant."""
    return T(shape, dtype, np.ones(shape), **more)


def ints(*values, dtype="INT32"):
    return T((len(values),), dtype, values)


def written(path, *operators):
    """A file of operators: (name, inputs, outputs, options, version), which share tensors."""
    schema = flatbuffer.schema()
    model, graph = schema.ModelT(), schema.SubGraphT()
    model.version, model.description = 3, b"made by a test"
    model.buffers, model.operatorCodes, model.subgraphs = [schema.BufferT()], [], [graph]
    graph.tensors, graph.operators, graph.name = [], [], b"main"
    places = {}

    def place(spec):
        if spec is None:
            return -1
        if id(spec) not in places:
            places[id(spec)] = len(graph.tensors)
            graph.tensors.append(tensor(spec, f"t{len(graph.tensors)}".encode()))
        return places[id(spec)]

    def tensor(spec, name):
        found = schema.TensorT()
        found.name, found.type = name, getattr(schema.TensorType, spec.dtype)
        found.shape = list(spec.shape)
        if spec.open:
            found.shapeSignature = [-1, *spec.shape[1:]]
        found.buffer = 0
        if spec.values is not None:
            found.buffer = len(model.buffers)
            buffer = schema.BufferT()
            values = np.asarray(spec.values).astype(NUMPY[spec.dtype])
            buffer.data = np.frombuffer(values.tobytes(), np.uint8)
            model.buffers.append(buffer)
        if spec.scale:
            found.quantization = schema.QuantizationParametersT()
            found.quantization.scale = list(spec.scale)
            found.quantization.zeroPoint = [spec.zero] * len(spec.scale)
            found.quantization.quantizedDimension = spec.axis
        return found

    made, read = [], []
    for name, inputs, outputs, options, version in operators:
        code, operator = schema.OperatorCodeT(), schema.OperatorT()
        custom = not hasattr(schema.BuiltinOperator, name)
        code.builtinCode = getattr(schema.BuiltinOperator, "CUSTOM" if custom else name)
        code.deprecatedBuiltinCode, code.version = min(code.builtinCode, 127), version
        code.customCode = name.encode() if custom else None
        operator.opcodeIndex = len(model.operatorCodes)
        model.operatorCodes.append(code)
        operator.inputs = [place(each) for each in inputs]
        operator.outputs = [place(each) for each in outputs]
        if options is not None:
            kind, values = options
            operator.builtinOptions = getattr(schema, f"{kind}T")()
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
            for key, value in values.items():
                setattr(operator.builtinOptions, key, value)
        graph.operators.append(operator)
        read += [each for each in inputs if each is not None and each.values is None]
        made += outputs
    ids = {id(each) for each in made}
    graph.inputs = list(dict.fromkeys(place(each) for each in read if id(each) not in ids))
    used = {id(each) for each in read}
    graph.outputs = [place(each) for each in made if id(each) not in used]
    path.write_bytes(flatbuffer_writer.pack(model))
    return path


def conv(image=None, kernel=None, bias=None, made=None, version=1, **options):
    image, made = image or T((1, 8, 8, 4)), made or T((1, 8, 8, 2))
    values = {"strideW": 1, "strideH": 1, "dilationWFactor": 1, "dilationHFactor": 1, **options}
    biased = [] if bias is False else [bias or held(2)]
    inputs = [image, kernel or held(2, 3, 3, 4), *biased]
    return ("CONV_2D", inputs, [made], ("Conv2DOptions", values), version)


def conv8(**more):
    """A convolution in int8, with a scale for each channel."""
    kernel = held(2, 3, 3, 4, dtype="INT8", scale=(0.1, 0.2))
    bias = held(2, dtype="INT32", scale=(0.01, 0.02))
    given = {"image": q(1, 8, 8, 4), "kernel": kernel, "bias": bias, "made": q(1, 8, 8, 2)}
    return conv(**{**given, "version": 3, **more})


def point(channels, dtype):
    """A convolution of one pixel."""
    image, made = (T((1, 1, 1, size), dtype, scale=(0.1,)) for size in (channels, 2))
    kernel = held(2, 1, 1, channels, dtype=dtype, scale=(0.1,))
    return conv(image, kernel, held(2, dtype="INT32", scale=(0.01,)), made, version=3)


def two(name, a, b, made, version=1, activation="NONE"):
    kind = {"ADD": "AddOptions", "MUL": "MulOptions", "SUB": "SubOptions", "DIV": "DivOptions"}
    values = {"fusedActivationFunction": ACTIVATIONS[activation]}
    return (name, [a, b], [made], (kind[name], values) if name in kind else None, version)


def one(name, read, made, options=None, version=1):
    return (name, [read], [made], options, version)


def pool(read, made, size=2, stride=2, name="MAX_POOL_2D", activation="NONE", version=1):
    values = {"filterWidth": size, "filterHeight": size, "strideW": stride, "strideH": stride}
    values["fusedActivationFunction"] = ACTIVATIONS[activation]
    return one(name, read, made, ("Pool2DOptions", values), version)


def resize(read, made, half=False, version=3, name="RESIZE_BILINEAR", **more):
    kind = {"RESIZE_BILINEAR": "ResizeBilinearOptions"}.get(name, "ResizeNearestNeighborOptions")
    size = more.pop("size", None) or ints(*made.shape[1:3])
    values = {"alignCorners": False, "halfPixelCenters": half, **more}
    return (name, [read, size], [made], (kind, values), version)


def reduce(read, made, axes, keep=True, name="MEAN", version=1):
    return (name, [read, ints(*axes)], [made], ("ReducerOptions", {"keepDims": keep}), version)


IMAGE, BYTES = T((1, 8, 8, 4)), q(1, 8, 8, 4)
SCALED = (1 / 3, 1 / 5)
SLICE = {"beginMask": 0, "endMask": 0, "ellipsisMask": 0, "newAxisMask": 0, "shrinkAxisMask": 0}


def strided(read, made, steps=(1, 1, 1), **masks):
    inputs = [read, ints(0, 0, 0), ints(*read.shape), ints(*steps)]
    return ("STRIDED_SLICE", inputs, [made], ("StridedSliceOptions", {**SLICE, **masks}), 1)


def softmax(read, made, beta=1.0, version=1):
    return one("SOFTMAX", read, made, ("SoftmaxOptions", {"beta": beta}), version)


def pad(read, made, margins, dtype="INT32", values=True):
    margins = T((len(margins) // 2, 2), dtype, margins if values else None)
    return ("PAD", [read, margins], [made], None, 1)


def concat(inputs, made, axis=3, activation="NONE"):
    values = {"axis": axis, "fusedActivationFunction": ACTIVATIONS[activation]}
    return ("CONCATENATION", inputs, [made], ("ConcatenationOptions", values), 1)


def dense(read, kernel, made, **more):
    return ("FULLY_CONNECTED", [read, kernel], [made], ("FullyConnectedOptions", more), 1)


# A name of the target, an operator, and None where it runs, else what the reason says.
CASES = {
    "xnnpack": [
        (conv(), None),
        (conv8(), None),
        (conv(kernel=T((2, 3, 3, 4))), "weights must be constant"),
        (conv(fusedActivationFunction=ACTIVATIONS["TANH"]), "a fused TANH"),
        (conv(fusedActivationFunction=ACTIVATIONS["RELU6"]), None),
        (two("ADD", IMAGE, T((4,)), T((1, 8, 8, 4))), None),
        (two("ADD", q(1, 4), q(1, 4), q(1, 4)), None),
        (two("ADD", q(1, 4, scale=100.0), q(1, 4), q(1, 4)), "differ by 1e+03"),
        (two("MUL", IMAGE, T((4,)), T((1, 8, 8, 4)), activation="TANH"), "a fused TANH"),
        (two("DIV", T((4,)), T((4,)), T((4,))), None),
        (two("MAXIMUM", q(1, 4), q(1, 4), q(1, 4)), "reads int8"),
        (two("MAXIMUM", T((4,)), held(4), T((4,))), None),
        (one("ABS", T((1, 4)), T((1, 4))), None),
        (one("RELU", q(1, 4), q(1, 4)), "reads int8"),
        (one("LOGISTIC", q(1, 4), q(1, 4, scale=1 / 256, zero=-128)), None),
        (softmax(T((1, 4)), T((1, 4))), None),
        (softmax(T((1, 4)), T((1, 4)), beta=2.0), "beta is 2"),
        (pool(IMAGE, T((1, 4, 4, 4))), None),
        (pool(BYTES, q(1, 4, 4, 4)), None),
        (pool(IMAGE, T((1, 3, 3, 4)), size=2, stride=3), "a stride larger"),
        (pool(BYTES, q(1, 4, 4, 4), name="AVERAGE_POOL_2D"), "reads int8"),
        (resize(IMAGE, T((1, 16, 16, 4)), half=True), None),
        (resize(BYTES, q(1, 16, 16, 4)), None),
        (resize(IMAGE, T((1, 16, 16, 4)), name="RESIZE_NEAREST_NEIGHBOR"), "not on the list"),
        (reduce(IMAGE, T((1, 1, 1, 4)), (1, 2)), None),
        (reduce(IMAGE, T((1, 8, 8, 1)), (3,), name="SUM"), None),
        (strided(T((1, 4, 4)), T((1, 4, 4))), None),
        (strided(T((1, 4, 4)), T((1, 2, 4)), steps=(1, 2, 1)), "steps [1, 2, 1]"),
        (strided(T((1, 4, 4)), T((4, 4)), shrinkAxisMask=1), "shrinkAxisMask is set"),
        (concat([IMAGE] * 5, T((1, 8, 8, 20))), None),
        (concat([IMAGE] * 6, T((1, 8, 8, 24))), "6 inputs, not 2 to 5"),
        (pad(IMAGE, T((1, 10, 10, 4)), (0, 0, 1, 1, 1, 1, 0, 0)), None),
        (one("QUANTIZE", T((1, 4)), q(1, 4)), None),
        (one("QUANTIZE", q(1, 4, scale=100.0), q(1, 4)), "differ by 1e+03"),
        (one("DEQUANTIZE", q(1, 4), T((1, 4))), None),
        (
            one(
                "DEPTH_TO_SPACE",
                IMAGE,
                T((1, 16, 16, 1)),
                ("DepthToSpaceOptions", {"blockSize": 2}),
            ),
            None,
        ),
        (("TRANSPOSE", [T((1, 4, 2)), ints(0, 2, 1)], [T((1, 2, 4))], None, 1), None),
        (("RESHAPE", [T((1, 4)), ints(4)], [T((4,))], None, 1), None),
        (two("PRELU", IMAGE, T((4,)), T((1, 8, 8, 4))), "slopes must be constant"),
        (two("PRELU", IMAGE, held(4), T((1, 8, 8, 4))), None),
        (dense(T((1, 4)), held(2, 4), T((1, 2))), None),
        (two("SQUARED_DIFFERENCE", T((4,)), T((4,)), T((4,))), None),
        (one("CEIL", T((1, 4)), T((1, 4))), None),
        (two("POW", T((4,)), T((4,)), T((4,))), "not on the list"),
    ],
    "gpu": [
        (conv(), None),
        (conv8(), None),
        (conv8(version=7), "operator version 7, at most 6"),
        (conv(fusedActivationFunction=ACTIVATIONS["SIGN_BIT"]), "a fused SIGN_BIT"),
        (two("MUL", T((1, 8, 4)), held(8, 1), T((1, 8, 4))), "stretches 1x8x4 and 8x1"),
        (two("MUL", T((1, 8, 4)), held(1, 8, 1), T((1, 8, 4))), None),
        (two("ADD", IMAGE, held(4), T((1, 8, 8, 4))), None),
        (two("ADD", T((1, 1, 8, 8, 4)), held(4), T((1, 1, 8, 8, 4))), "a tensor of 5 axes"),
        (two("ADD", T((4,), "INT32"), T((4,), "INT32"), T((4,), "INT32")), "reads int32"),
        (one("ROUND", T((1, 4)), T((1, 4))), "not on the list"),
        (softmax(T((1, 4)), T((1, 4)), beta=2.0), "beta is 2"),
        (strided(T((4, 4, 2)), T((4, 4, 2))), None),
        (strided(T((4, 4, 2)), T((4, 2)), shrinkAxisMask=1), "shrinkAxisMask is set"),
        (
            ("SLICE", [T((4, 4)), ints(0, 0), ints(2, 2)], [T((2, 2))], None, 1),
            "2 axes, not 3 to 4",
        ),
        (resize(IMAGE, T((1, 16, 16, 4)), half=True), None),
        (resize(IMAGE, T((1, 16, 16, 4)), half=True, alignCorners=True), "both alignCorners"),
        (pad(T((4, 4)), T((6, 4)), (1, 1, 0, 0)), "3 or 4 axes"),
        (reduce(IMAGE, T((1, 1, 1, 4)), (1, 2)), None),
        (one("DEQUANTIZE", T((1, 4), "INT16", scale=(0.1,)), T((1, 4))), "int16"),
        (("REVERSE_V2", [IMAGE, ints(2)], [T((1, 8, 8, 4))], None, 1), "not on the list"),
    ],
    "coreml": [
        (conv8(), "operator version 3, at most 1"),
        (conv(image=q(1, 8, 8, 4)), "reads int8"),
        (conv(bias=False), "no bias"),
        (conv(kernel=T((2, 3, 3, 4))), "weights must be constant"),
        (pool(IMAGE, T((1, 4, 4, 4)), activation="RELU"), "a fused RELU"),
        (resize(IMAGE, T((1, 16, 16, 4)), half=True, version=3), "operator version 3"),
        (("RESHAPE", [T((1, 4)), ints(4)], [T((4,))], None, 1), "Core ML 3"),
        (concat([IMAGE, IMAGE], T((1, 16, 8, 4)), axis=1), "joins axis 1"),
        (two("ADD", IMAGE, T((1, 8, 1, 4)), T((1, 8, 8, 4))), "stretches"),
        (reduce(IMAGE, T((1, 4)), (1, 2), keep=False), "drops the axes"),
        (reduce(IMAGE, T((1, 8, 8, 1)), (3,)), "reduces the axes [3]"),
        (pad(IMAGE, T((1, 8, 8, 6)), (0, 0, 0, 0, 0, 0, 1, 1)), "pads axis 3"),
        (softmax(T((1, 4)), T((1, 4)), beta=2.0), "beta is 2"),
        (dense(T((2, 4)), held(2, 4), T((2, 2))), "more than one row"),
        (two("SUB", IMAGE, IMAGE, T((1, 8, 8, 4))), "not on the list"),
        (conv(), "in a part of 1 alone"),
    ],
    "nnapi": [
        (conv(), None),
        (conv8(), None),
        (conv(image=T((1, 8, 8, 4), open=True)), "open until run time"),
        (conv(kernel=held(2, 3, 3, 4, dtype="INT8", scale=SCALED)), "weights of bytes"),
        (two("ADD", T((1,) * 5), T((1,)), T((1,) * 5)), "5 axes"),
        (reduce(BYTES, q(1, 1, 1, 4), (1, 2), name="SUM"), "reads int8"),
        (one("ROUND", T((1, 4)), T((1, 4))), "not on the list"),
    ],
    "qualcomm": [
        (conv(), None),
        (conv8(), None),
        (conv(image=T((1, 8, 8, 4), open=True)), "open until run time"),
        (one("ZEROS_LIKE", T((1, 4)), T((1, 4))), "not on the list"),
    ],
    "edgetpu": [
        (conv8(), None),
        (conv(), "all must be in 8 bits"),
        (conv8(image=q(2, 8, 8, 4), made=q(2, 8, 8, 2)), "a batch"),
        (conv8(image=q(1, 8, 8, 4, open=True)), "open until run time"),
        (conv8(dilationWFactor=2), "dilations"),
        (pool(BYTES, q(1, 4, 4, 4)), None),
        (pool(BYTES, q(1, 4, 4, 4), activation="RELU"), "a fused RELU"),
        (
            concat([BYTES, held(1, 8, 8, 4, dtype="INT8", scale=(0.1,)), BYTES], q(1, 8, 8, 12)),
            "two inputs",
        ),
        (softmax(q(1, 8, 4), q(1, 8, 4)), "one row"),
        (softmax(q(1, 4), q(1, 4)), None),
        (reduce(q(1, 8, 8, 6), q(1, 8, 8, 1), (3,)), "no multiple of 4"),
        (reduce(BYTES, q(1, 8, 8, 1), (3,)), None),
        (strided(q(1, 4, 4), q(1, 2, 4), steps=(1, 2, 1)), "steps"),
        (pad(BYTES, q(3, 8, 8, 4), (1, 1, 0, 0, 0, 0, 0, 0)), "a batch"),
        (one("DEQUANTIZE", q(1, 4), T((1, 4))), "all must be in 8 bits|not on the list"),
        (one("ABS", q(1, 4), q(1, 4)), "not on the list"),
        (resize(BYTES, q(1, 16, 16, 4), half=True), None),
    ],
    "micro": [
        (
            ("BATCH_MATMUL", [T((4,)), T((4, 4))], [T((4,))], ("BatchMatMulOptions", {}), 1),
            "a tensor of 1 axes, at least 2 are taken",
        ),
        (conv(), None),
        (conv8(), None),
        (
            conv(kernel=held(2, 3, 3, 4, dtype="INT8", scale=SCALED)),
            "float data with weights of int8",
        ),
        (one("DEQUANTIZE", held(4, dtype="FLOAT16"), T((4,))), "reads float16"),
        (one("QUANTIZE", T((1, 4)), q(1, 4, dtype="UINT8")), "float32 to uint8"),
        (one("QUANTIZE", T((1, 4)), q(1, 4)), None),
        (one("EXP", q(1, 4), q(1, 4)), "reads int8"),
        (one("EXP", T((1, 4)), T((1, 4))), None),
        (one("GELU", T((1, 4)), T((1, 4)), ("GeluOptions", {})), "not on the list"),
        (softmax(q(1, 4), q(1, 4, scale=1 / 256, zero=-128)), None),
        (softmax(q(1, 4), q(1, 4, scale=0.1, zero=-128)), "scale that is not 1/256"),
        (concat([BYTES, q(1, 8, 8, 4, scale=0.2)], q(1, 8, 8, 8)), "scales of inputs"),
        (concat([IMAGE] * 11, T((1, 8, 8, 44))), "11 inputs"),
        (resize(IMAGE, T((1, 16, 16, 4)), half=True), None),
        (resize(IMAGE, T((1, 16, 16, 4)), size=T((2,), "INT32")), "the size must be constant"),
        (two("POW", T((4,)), T((4,)), T((4,))), "not on the list"),
    ],
    "cmsis-nn": [
        (conv8(), None),
        (conv(), "reads float32"),
        (two("ADD", q(1, 4), q(1, 4), q(1, 4), version=2), None),
        (two("ADD", BYTES, q(4), q(1, 8, 8, 4), version=2), "different shapes"),
        (two("SUB", q(1, 4), q(1, 4), q(1, 4)), "not on the list"),
        (pool(BYTES, q(1, 4, 4, 4)), None),
        (resize(BYTES, q(1, 16, 16, 4)), "not on the list"),
        (("TRANSPOSE", [q(1, 4, 2), ints(0, 2, 1)], [q(1, 2, 4)], None, 1), None),
        (("TRANSPOSE", [T((1, 4, 2)), ints(0, 2, 1)], [T((1, 2, 4))], None, 1), "reads float32"),
    ],
    "ethos-u": [
        (conv8(), None),
        (conv(), "all must be quantized"),
        (conv8(strideW=4, strideH=4, made=q(1, 2, 2, 2)), None),
        (
            conv8(image=q(1, 10, 10, 4), strideW=4, strideH=4, made=q(1, 3, 3, 2)),
            "a stride of 4",
        ),
        (conv8(kernel=q(2, 3, 3, 4)), "weights must be constant"),
        (point(60_000, "INT8"), None),
        (point(66_000, "INT8"), "of a sum that may be over 8,323,072"),
        (point(32_000, "UINT8"), None),
        (point(40_000, "UINT8"), "of a sum that may be over 8,323,072"),
        (resize(BYTES, q(1, 16, 16, 4), half=True), None),
        (resize(BYTES, q(1, 32, 32, 4), half=True), "not by a factor of 2 with half"),
        (resize(BYTES, q(1, 32, 32, 4)), None),
        (resize(BYTES, q(1, 24, 24, 4)), "not by a factor of 2, 4 or 8"),
        (resize(q(1, 1, 8, 4), q(1, 1, 16, 4), half=True), "different factors"),
        (
            pool(BYTES, q(1, 8, 8, 4), size=9, stride=1, name="AVERAGE_POOL_2D"),
            "padded window of 9x9",
        ),
        (two("MAXIMUM", q(1, 4), q(1, 4), q(1, 4, scale=0.2)), "scales of inputs"),
        (two("MAXIMUM", q(1, 4), q(1, 4), q(1, 4)), None),
        (one("DEQUANTIZE", q(1, 4), T((1, 4))), "not on the list"),
        (softmax(q(1, 4), q(1, 4, scale=1 / 256, zero=-128)), None),
        (
            one(
                "GELU",
                T((1, 4), "INT16", scale=(0.1,)),
                T((1, 4), "INT16", scale=(0.1,)),
                ("GeluOptions", {}),
            ),
            "int16",
        ),
        (two("DIV", q(1, 4), q(1, 4), q(1, 4)), "not on the list"),
    ],
}
ALL = [(name, i) for name in CASES for i in range(len(CASES[name]))]


def micro_runs(path):
    """Whether TFLite Micro's own interpreter, of the `tflite-micro` wheel, runs a file."""
    runtime = pytest.importorskip("tflite_micro").runtime
    try:
        interpreter = runtime.Interpreter.from_file(str(path), arena_size=2**20)
        interpreter.invoke()
    except RuntimeError:
        return False
    return True


def why(name, path):
    """The reasons on a target, by operator."""
    return compatibility.reasons(TARGETS[name], nodes(flatbuffer.read(path)))


@pytest.mark.parametrize(("name", "case"), ALL)
def test_a_file_that_keeps_or_breaks_a_rule(name, case, tmp_path):
    operator, expected = CASES[name][case]
    (found,) = why(name, written(tmp_path / "m.tflite", operator))
    if expected is None:
        assert found is None
    else:
        assert found and any(each in found for each in expected.split("|"))


def test_every_target_has_files_that_run_and_that_break():
    assert set(CASES) == set(TARGETS)
    for name, cases in CASES.items():
        broken = sum(expected is not None for _, expected in cases)
        assert broken >= 2 and (name == "coreml" or broken < len(cases))


def delegated(path):
    """The operators that LiteRT gives to XNNPACK: all that its delegates' results come from."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    details = interpreter._get_ops_details()
    made = {int(t): d for d in details if d["op_name"] != "DELEGATE" for t in d["outputs"]}
    found, count = set(), 0
    for detail in details:
        if detail["op_name"] == "DELEGATE":
            count += 1
            stop, waiting = set(map(int, detail["inputs"])), list(map(int, detail["outputs"]))
            while waiting:
                maker = made.get(tensor := waiting.pop())
                if tensor not in stop and maker and maker["index"] not in found:
                    found.add(maker["index"])
                    waiting += [int(i) for i in maker["inputs"]]
    return found, count


@pytest.mark.parametrize("case", range(len(CASES["xnnpack"])))
def test_xnnpack_takes_what_the_rules_say(case, tmp_path):
    operator, expected = CASES["xnnpack"][case]
    found, _ = delegated(written(tmp_path / "m.tflite", operator))
    assert found == ({0} if expected is None else set())


@pytest.mark.parametrize("case", range(len(CASES["micro"])))
def test_tflite_micro_runs_what_the_rules_say(case, tmp_path):
    operator, expected = CASES["micro"][case]
    path = written(tmp_path / "m.tflite", operator)
    assert micro_runs(path) == (expected is None)


@pytest.mark.parametrize("suffix", [".tflite", "-int8.tflite"])
def test_xnnpack_on_a_shipped_file(suffix):
    path = pretrained.path("fpn-eighth-300w", suffix)
    report = compatibility.check(path, ["xnnpack"])["targets"]["xnnpack"]
    places = {i for kind in report["kinds"] if kind["runs"] for i in kind["places"]}
    assert (places, report["parts"]) == delegated(path)
    assert (report["runs"], report["falls_back"]) == ((167, 2) if suffix == ".tflite" else (93, 2))


@pytest.mark.parametrize(
    ("suffix", "expected"),
    [
        (".tflite", {"micro": 78, "edgetpu": 169, "ethos-u": 169, "cmsis-nn": 169}),
        ("-int8.tflite", {"micro": 1, "edgetpu": 40, "ethos-u": 42, "cmsis-nn": 47}),
    ],
)
def test_a_shipped_file_on_chips(suffix, expected):
    path = pretrained.path("fpn-eighth-300w", suffix)
    report = compatibility.check(path, list(expected))
    assert {n: entry["falls_back"] for n, entry in report["targets"].items()} == expected


class TestConstantsOfFloat16:
    def file(self, tmp_path, reader):
        unpacked = T((4,))
        unpack = one("DEQUANTIZE", held(4, dtype="FLOAT16"), unpacked, version=3)
        return written(tmp_path / "m.tflite", unpack, reader(unpacked))

    def test_are_read_as_they_are(self, tmp_path):
        path = self.file(tmp_path, lambda c: two("ADD", IMAGE, c, T((1, 8, 8, 4))))
        assert why("xnnpack", path) == why("gpu", path) == [None, None]

    def test_are_unpacked_for_those_that_stay(self, tmp_path):
        path = self.file(tmp_path, lambda c: two("POW", IMAGE, c, T((1, 8, 8, 4))))
        assert why("xnnpack", path) == ["what reads it does not run there", "not on the list"]


def chain(*names):
    """Operators on floats, each on what the one before gave."""
    tensors = [T((1, 4)) for _ in range(len(names) + 1)]
    return [one(n, tensors[i], tensors[i + 1]) for i, n in enumerate(names)]


class TestParts:
    def test_are_cut_by_what_does_not_run(self, tmp_path):
        path = written(tmp_path / "m.tflite", *chain("ABS", "ROUND", "ABS", "ABS"))
        report = compatibility.check(path, ["gpu", "qualcomm"])["targets"]
        assert (report["qualcomm"]["falls_back"], report["qualcomm"]["parts"]) == (0, 1)
        # The GPU delegate takes one part, the largest.
        assert (report["gpu"]["falls_back"], report["gpu"]["parts"]) == (2, 1)
        assert why("gpu", path)[0] == "in a part of 1 alone, which the delegate leaves"

    def test_the_same_as_litert_cuts(self, tmp_path):
        path = written(tmp_path / "m.tflite", *chain("ABS", "SIGN", "ABS", "ROUND", "SIGN", "ABS"))
        report = compatibility.check(path, ["xnnpack"])["targets"]["xnnpack"]
        assert report["parts"] == 3 and delegated(path)[1] == 3

    def test_two_at_least_for_core_ml(self, tmp_path):
        path = written(tmp_path / "m.tflite", *chain("RELU", "ABS", "RELU", "RELU"))
        assert [each is None for each in why("coreml", path)] == [False, False, True, True]


def test_the_edge_tpu_takes_what_comes_before_the_first_that_it_refuses(tmp_path):
    floats, a, b, c, d = T((1, 4)), q(1, 4), q(1, 4), q(1, 4), q(1, 4)
    enters = one("QUANTIZE", floats, a)
    operators = [enters, one("RELU", a, b), one("ABS", b, c), one("RELU", c, d)]
    found = why("edgetpu", written(tmp_path / "m.tflite", *operators))
    assert [each is None for each in found] == [False, True, False, False]
    assert found[3] == "reads what an operator gives that does not run there"


def test_custom_operators_fall_back_by_their_own_name(tmp_path):
    path = written(tmp_path / "m.tflite", one("MINE", IMAGE, T((1, 8, 8, 4))))
    for name in TARGETS:
        (kind,) = compatibility.check(path, [name])["targets"][name]["kinds"]
        assert kind["operator"] == "MINE" and kind["reason"]


def test_an_operator_of_too_few_inputs_is_told_not_raised(tmp_path):
    names = ("ADD", "MUL", "CONV_2D", "RESIZE_BILINEAR", "MEAN", "TRANSPOSE_CONV", "STRIDED_SLICE")
    for name in names:
        for inputs in ([BYTES], [BYTES, None], [T((1, 8, 8, 4)), None]):
            path = written(tmp_path / "m.tflite", (name, inputs, [q(1, 8, 8, 4)], None, 1))
            for target in TARGETS:
                assert all(each is None or each for each in why(target, path))


def test_targets_say_where_their_list_is_from():
    for target in TARGETS.values():
        assert isinstance(target, Target) and target.source and target.title
        assert np.datetime64(target.dated) > np.datetime64("2020-01-01")
        kinds = set(flatbuffer.names(flatbuffer.schema().BuiltinOperator).values())
        unknown = {name for name in target.operators if name not in kinds and name.isupper()}
        assert unknown <= {"TFLM_DECODE", "CIRCULAR_BUFFER"}


def test_unknown_target():
    with pytest.raises(ValueError, match=r"Unknown targets: \['tpu'\]"):
        compatibility.check(pretrained.path("fpn-eighth-300w", ".tflite"), ["tpu"])


def test_the_page_tells_each_kind_with_its_count_and_reason():
    report = compatibility.check(pretrained.path("fpn-eighth-300w", "-int8.tflite"))
    text = compatibility.page(report)
    assert "2 PACK, float32: not on the list" in text
    assert "1 RESIZE_BILINEAR, int8: height and width by different factors: 1x1x40x68" in text
    assert "deprecated since Android 15" in " ".join(text.split())
    assert max(map(len, text.splitlines())) <= 100
    for target in TARGETS.values():
        assert target.dated in text


SAID = """\
Warning (supported operators) operator: RESHAPE, ofm: 'Squeeze'
Reason: Operation has tensor with unsupported DataType Float32 (Relu;sub)
Feature-map dataTypes must be one of {"INT16", "INT32", "INT64", "INT8", "UINT8"}

Warning (supported operators) operator: DEQUANTIZE, ofm: 'a; "b"'
Reason: Unsupported opType
"""


def test_what_vela_prints_is_read():
    assert vela.left(SAID) == [
        {
            "operator": "RESHAPE",
            "result": "Squeeze",
            "reason": "Operation has tensor with unsupported DataType Float32 (Relu;sub)",
        },
        {"operator": "DEQUANTIZE", "result": 'a; "b"', "reason": "Unsupported opType"},
    ]


def test_what_vela_leaves_is_told_and_counts():
    report = compatibility.check(pretrained.path("fpn-sixteenth-micro", ".tflite"), ["micro"])
    assert not compatibility.falls_back(report)
    own = {"version": "5.2.0", "accelerator": "ethos-u55-128", "cpu": 2, "npu": 9}
    report["targets"]["micro"]["vela"] = {**own, "left": vela.left(SAID)}
    assert compatibility.falls_back(report)
    text = compatibility.page(report)
    assert "2 of 11 operators on the CPU" in " ".join(text.split())
    assert "1 RESHAPE: Operation has tensor with unsupported DataType Float32\n" in text


@pytest.fixture
def own_tools(monkeypatch):
    """Installs a vela and a TFLite Micro that tell which file they were asked of."""
    monkeypatch.setattr(extras, "installed", lambda package: True)
    for tool, ask in ((vela, "report"), (arena, "needed")):
        monkeypatch.setattr(tool, ask, lambda *about: {"cpu": 0, "path": about[-1]})


def test_own_tools_are_asked_of_their_targets(own_tools):
    path = pretrained.path("fpn-sixteenth-micro", ".tflite")
    entries = compatibility.check(path, ["micro", "ethos-u", "gpu"], own_tools=True)["targets"]
    told = {name: {key for key in ("vela", "arena") if key in e} for name, e in entries.items()}
    assert told == {"micro": {"arena"}, "ethos-u": {"vela"}, "gpu": set()}
    assert entries["micro"]["arena"]["path"] == entries["ethos-u"]["vela"]["path"] == path
    assert "vela" not in compatibility.check(path, ["ethos-u"])["targets"]["ethos-u"]
    assert compatibility.check(path, ["gpu"], own_tools=True)["targets"].keys() == {"gpu"}


def test_no_arena_of_a_file_that_falls_back(own_tools):
    path = pretrained.path("fpn-eighth-300w", ".tflite")
    entries = compatibility.check(path, ["micro", "ethos-u"], own_tools=True)["targets"]
    assert entries["micro"]["falls_back"] and "arena" not in entries["micro"]
    assert entries["ethos-u"]["falls_back"] and "vela" in entries["ethos-u"]


def test_tools_that_are_not_installed_say_nothing(monkeypatch):
    monkeypatch.setattr(extras, "installed", lambda package: False)
    path = pretrained.path("fpn-sixteenth-micro", ".tflite")
    names = ["micro", "ethos-u"]
    assert compatibility.check(path, names, own_tools=True) == compatibility.check(path, names)


@pytest.mark.slow
@pytest.mark.skipif(not extras.installed("ethosu"), reason="needs ethos-u-vela")
def test_vela_leaves_what_the_rules_say():
    path = pretrained.path("fpn-eighth-300w", "-int8.tflite")
    report = vela.report(path)
    tensors = flatbuffer.read(path).subgraphs[0].tensors
    named = {tensors[n.outputs[0].index].name.decode(): n for n in nodes(flatbuffer.read(path))}
    left = {named[e["result"]].index for e in report["left"] if e["result"] in named}
    assert left == {i for i, each in enumerate(why("ethos-u", path)) if each}


def test_without_vela_the_extra_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'keras_lapkl\[vela\]'"):
        vela.report(pretrained.path("fpn-sixteenth-micro", ".tflite"))


@pytest.mark.parametrize("mode", ["float32", "int8"])
def test_a_file_that_is_made_here_runs_on_the_gpu_as_a_whole(mode, converted):
    assert compatibility.check(converted[mode][0], ["gpu"])["targets"]["gpu"]["falls_back"] == 0
