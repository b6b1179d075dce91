"""TFLite Micro, its reference kernels: plain C++ for any microcontroller."""

from keras_lapkl.tflite.targets.rules import (
    activation,
    alike,
    constant,
    data,
    first,
    inputs,
    makes,
    per_tensor,
    rank,
    ranks,
    reads,
    same_scale,
    typed,
)
from keras_lapkl.tflite.targets.target import Target, table

_NUMBERS = ("FLOAT32", "INT8", "INT16")
_FLOAT = (data("FLOAT32"),)
_MORE = (*_NUMBERS, "INT32")


def hybrid(node):
    """No float data with weights of bytes."""
    kernel, image = node.given[1], node.given[2 if node.name == "TRANSPOSE_CONV" else 0]
    if image.dtype == "FLOAT32" and kernel.dtype != "FLOAT32":
        return f"float data with weights of {kernel.dtype.lower()}"
    if image.dtype != "FLOAT32" and kernel.dtype not in ("INT8", "INT4"):
        return f"data of {image.dtype.lower()} with weights of {kernel.dtype.lower()}"


def symmetric(node):
    """int16 has the zero point 0."""
    for tensor in (*node.computed, *node.outputs):
        if tensor.dtype == "INT16" and any(tensor.zero):
            return "int16 with a zero point that is not 0"


def quantizes(node):
    read, made = node.given[0].dtype, node.outputs[0].dtype
    pairs = {
        "FLOAT32": ("INT8", "INT16"),
        "INT32": ("INT8", "INT16"),
        "INT16": ("INT8", "INT16", "INT32"),
        "INT8": ("INT8", "UINT8", "INT16", "INT32"),
        "UINT8": ("INT8",),
    }
    if made not in pairs.get(read, ()):
        return f"{read.lower()} to {made.lower()}"
    return per_tensor(node)


def joined(node):
    """int8 is joined as it is."""
    found = {(t.scale, t.zero) for t in (*node.computed, *node.outputs) if t.dtype == "INT8"}
    if len(found) > 1:
        return "scales of inputs and output that differ"


def zero_of(scale, zero):
    """int8 with the one scale and zero point that a kernel computes with."""

    def rule(node):
        made = node.outputs[0]
        if made.dtype == "INT8" and made.zero[:1] != (zero,):
            return f"int8 with a zero point that is not {zero}"
        if scale and made.dtype == "INT8" and abs(made.scale[0] * scale - 1) > 1e-3:
            return f"int8 with a scale that is not 1/{scale}"

    return rule


_WEIGHTS = (hybrid, symmetric, activation("NONE", "RELU", "RELU_N1_TO_1", "RELU6"))
_AXES = (constant(1, what="axes"), typed(1, "INT32"))

OPERATORS = table(
    ("ABS", (data(*_NUMBERS),)),
    ("ADD SUB", (inputs(2), data(*_MORE), alike, symmetric)),
    ("MUL", (inputs(2), data(*_MORE), alike, symmetric)),
    ("ADD_N", (data("FLOAT32", "INT8"), alike)),
    ("ARG_MAX ARG_MIN", (reads("FLOAT32", "INT8"), makes("INT32"), constant(1, what="the axis"))),
    ("AVERAGE_POOL_2D MAX_POOL_2D", (data(*_NUMBERS), rank(4))),
    ("L2_POOL_2D L2_NORMALIZATION", (data("FLOAT32", "INT8"),)),
    ("BATCH_MATMUL", (data(*_NUMBERS), alike, ranks(5, 2))),
    ("BATCH_TO_SPACE_ND SPACE_TO_BATCH_ND", (first("FLOAT32", "INT8"),)),
    ("BROADCAST_ARGS BROADCAST_TO SHAPE FILL ZEROS_LIKE", ()),
    ("CALL_ONCE IF WHILE ASSIGN_VARIABLE READ_VARIABLE VAR_HANDLE", ()),
    ("CAST", (reads("INT8", "INT16", "INT32", "UINT32", "FLOAT32", "BOOL"),)),
    (
        "CONCATENATION",
        (
            activation("NONE"),
            inputs(1, 10),
            data(*_MORE, "INT64", "BOOL"),
            joined,
        ),
    ),
    ("CONV_2D", (data(*_NUMBERS), rank(4, places=(0, 1)), *_WEIGHTS)),
    ("DEPTHWISE_CONV_2D", (data(*_NUMBERS), rank(4, places=(0, 1)), *_WEIGHTS)),
    ("TRANSPOSE_CONV", (typed(2, *_NUMBERS), makes(*_NUMBERS), *_WEIGHTS)),
    ("FULLY_CONNECTED", (data(*_NUMBERS), *_WEIGHTS)),
    ("CEIL COS EXP FLOOR LOG ROUND SIN", _FLOAT),
    ("CUMSUM", (first("FLOAT32", "INT8"),)),
    ("DEPTH_TO_SPACE SPACE_TO_DEPTH", (data("FLOAT32", "INT8"), rank(4))),
    ("DEQUANTIZE", (reads("INT8", "INT16", "UINT8"), makes("FLOAT32"))),
    ("DIV", (data("FLOAT32", "INT32", "INT8"), alike)),
    ("DYNAMIC_UPDATE_SLICE EMBEDDING_LOOKUP", ()),
    ("ELU", (data("FLOAT32", "INT8"),)),
    ("EQUAL NOT_EQUAL GREATER GREATER_EQUAL LESS LESS_EQUAL", ()),
    ("EXPAND_DIMS", (first(*_NUMBERS), constant(1, what="the axis"))),
    ("FLOOR_DIV FLOOR_MOD", _FLOAT),
    ("GATHER", (first("FLOAT32", "INT8"), typed(1, "INT32"))),
    ("GATHER_ND", (first("FLOAT32", "INT8"), typed(1, "INT32"))),
    ("HARD_SWISH", (data("FLOAT32", "INT8"),)),
    ("LEAKY_RELU", (data(*_NUMBERS),)),
    ("LOGICAL_AND LOGICAL_NOT LOGICAL_OR", (data("BOOL"),)),
    ("LOGISTIC", (data(*_NUMBERS), alike, zero_of(0, -128))),
    ("LOG_SOFTMAX", (data("FLOAT32", "INT8"),)),
    ("MAXIMUM MINIMUM", (data(*_MORE, "INT64"), alike)),
    ("MEAN", (first(*_NUMBERS), *_AXES)),
    ("REDUCE_MAX REDUCE_MIN", (first(*_NUMBERS), *_AXES)),
    ("REDUCE_ALL", (first("BOOL"), *_AXES)),
    ("SUM", (first(*_NUMBERS), *_AXES)),
    ("MIRROR_PAD", (first("FLOAT32", "INT8"),)),
    ("NEG", _FLOAT),
    ("PACK", (data(*_MORE, "INT64"),)),
    ("UNPACK", (data(*_MORE),)),
    ("PAD PADV2", (first(*_MORE), constant(1, what="margins"), rank(1, 5), same_scale)),
    ("PRELU", (first("FLOAT32", "INT8"),)),
    ("QUANTIZE", (quantizes,)),
    ("RELU RELU6", (data(*_NUMBERS),)),
    ("RESHAPE", (constant(1, what="the shape"),)),
    ("RESIZE_BILINEAR", (first("FLOAT32", "INT8"), rank(4), constant(1, what="the size"))),
    ("RESIZE_NEAREST_NEIGHBOR", (first(*_NUMBERS), rank(4), constant(1, what="the size"))),
    ("REVERSE_V2", (constant(1, what="axes"),)),
    ("RSQRT", (data(*_NUMBERS),)),
    ("SELECT_V2", (makes(*_NUMBERS), typed(0, "BOOL"))),
    ("SLICE", (first(*_MORE, "BOOL"), rank(1, 5))),
    ("SOFTMAX", (data(*_NUMBERS), zero_of(256, -128), symmetric)),
    ("SPLIT", (typed(1, *_MORE), constant(0, what="the axis"))),
    ("SPLIT_V", (first(*_MORE), constant(1, 2, what="sizes and axis"))),
    ("SQRT SQUARE", _FLOAT),
    ("SQUARED_DIFFERENCE", (data(*_MORE), alike, symmetric)),
    ("SQUEEZE", ()),
    (
        "STRIDED_SLICE",
        (first(*_MORE, "BOOL"), rank(1, 5), constant(1, 2, 3, what="begin, end and steps")),
    ),
    ("SVDF UNIDIRECTIONAL_SEQUENCE_LSTM", ()),
    ("TANH", (data(*_NUMBERS), alike)),
    ("TRANSPOSE", (first(*_NUMBERS), rank(1, 5), constant(1, what="the order"))),
    ("TFLite_Detection_PostProcess TFLM_DECODE CIRCULAR_BUFFER", ()),
)

TARGET = Target(
    title="TFLite Micro, reference kernels",
    operators=OPERATORS,
    source=(
        "tensorflow/tflite-micro 90b983c2b3f1, tensorflow/lite/micro/micro_mutable_op_resolver.h "
        "and kernels/"
    ),
    dated="2026-08-20",
    else_where="does not run: there is nothing to fall back to, and the file is refused",
    note="the operators of the resolver; a program must add each that its file has",
)
