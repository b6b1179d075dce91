"""Android's NNAPI by LiteRT's delegate. Android 15 deprecated NNAPI."""

from keras_lapkl.tflite.targets.rules import (
    BYTES,
    activation,
    both_corners,
    constant,
    data,
    first,
    inputs,
    makes,
    rank,
    reads,
    shown,
    static,
    typed,
    version,
)
from keras_lapkl.tflite.targets.target import Target, table

_NUMBERS = ("FLOAT32", *BYTES)
_FLOAT = (data("FLOAT32"),)
_PLAIN = activation("NONE")


def hybrid(node):
    if node.given[0].dtype == "FLOAT32" and node.given[1].dtype in BYTES:
        return "float data with weights of bytes"


def grouped(node):
    image, kernel = node.given[:2]
    if image.shape[3] != kernel.shape[3]:
        return f"groups: weights {shown(kernel)} for {shown(image)}"


OPERATORS = table(
    ("ADD", (version(2), data(*_NUMBERS, "INT32"), rank(0, 4, (0, 1)))),
    ("MUL", (version(2), data(*_NUMBERS, "INT32"), rank(0, 4, (0, 1)))),
    ("SUB", (version(3), data(*_NUMBERS, "INT32"), rank(0, 4, (0, 1)))),
    ("DIV", (version(1), *_FLOAT, rank(0, 4, (0, 1)))),
    ("ARG_MAX ARG_MIN", (version(2), makes("INT32"), constant(1, what="the axis"))),
    ("AVERAGE_POOL_2D MAX_POOL_2D", (version(2), data(*_NUMBERS))),
    ("L2_POOL_2D L2_NORMALIZATION", (version(2), *_FLOAT, _PLAIN)),
    ("CONV_2D", (version(5), first(*_NUMBERS), inputs(3), hybrid, grouped)),
    ("DEPTHWISE_CONV_2D", (version(3), first(*_NUMBERS), inputs(3))),
    ("FULLY_CONNECTED", (version(5), first(*_NUMBERS), hybrid)),
    ("HARD_SWISH", (data(*_NUMBERS),)),
    ("SOFTMAX", (version(2), data(*_NUMBERS), rank(1, 4))),
    ("RESHAPE", (version(1), first(*_NUMBERS, "INT32"), rank(0, 4), constant(1, what="the shape"))),
    (
        "RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR",
        (version(3), first(*_NUMBERS), rank(4), constant(1, what="the size"), both_corners),
    ),
    ("SQUEEZE EXPAND_DIMS LEAKY_RELU PRELU TILE", (version(1),)),
    ("CONCATENATION", (version(2), _PLAIN, rank(1, 4))),
    ("DEQUANTIZE", (version(2), reads(*BYTES))),
    ("QUANTIZE", (version(2), reads(*_NUMBERS), makes(*BYTES))),
    ("RELU RELU6 RELU_N1_TO_1 LOGISTIC TANH", (version(2), data(*_NUMBERS))),
    ("FLOOR", (version(1), *_FLOAT)),
    ("PAD PADV2", (version(2), first(*_NUMBERS), constant(1, what="margins"))),
    ("STRIDED_SLICE SLICE", (version(2), first(*_NUMBERS))),
    ("TRANSPOSE", (version(2), first(*_NUMBERS), constant(1, what="the order"))),
    ("TRANSPOSE_CONV", (version(4), constant(0, what="the size"), typed(2, *_NUMBERS))),
    ("ABS EXP LOG POW COS SIN SQRT LOG_SOFTMAX ELU", (version(1), *_FLOAT)),
    ("RSQRT", (version(2), *_FLOAT)),
    ("NEG MAXIMUM MINIMUM", (version(3), data(*_NUMBERS))),
    ("MEAN", (version(2), first(*_NUMBERS), rank(1, 4))),
    ("PACK", (version(2), data(*_NUMBERS, "INT32"))),
    ("FILL", (version(1), constant(0, what="the shape"))),
    ("SUM REDUCE_PROD", (version(1), first("FLOAT32"))),
    ("REDUCE_MAX REDUCE_MIN", (version(2), first(*_NUMBERS))),
    ("SPACE_TO_DEPTH DEPTH_TO_SPACE SPACE_TO_BATCH_ND BATCH_TO_SPACE_ND", (version(2),)),
    ("LESS LESS_EQUAL GREATER GREATER_EQUAL EQUAL NOT_EQUAL SELECT TOPK_V2", (version(2),)),
    ("LOGICAL_AND LOGICAL_OR LOGICAL_NOT", (version(1), data("BOOL"))),
    ("CAST", (version(1), data(*_NUMBERS, "INT32"))),
    ("GATHER", (version(2), typed(1, "INT32"))),
    ("SPLIT", (version(3), constant(0, what="the axis"))),
    ("SPLIT_V", (version(2), constant(1, 2, what="sizes and axis"))),
)

TARGET = Target(
    title="Android NNAPI delegate",
    operators=OPERATORS,
    always=(static,),
    source="google-ai-edge/LiteRT f67457790c9c, tflite/delegates/nnapi/nnapi_delegate.cc",
    dated="2026-08-21",
    note=(
        "deprecated since Android 15: use the GPU delegate or a vendor's. What the delegate hands "
        "over on Android 12; which of it a device's driver takes is not public. Recurrent "
        "operators are left out"
    ),
    reads_float16=True,
    most_parts=0,
)
