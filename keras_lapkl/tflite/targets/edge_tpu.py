"""Coral's Edge TPU, by its compiler 16."""

from keras_lapkl.tflite.targets.rules import (
    activation,
    axes,
    constant,
    per_tensor,
    shown,
    static,
    unset,
)
from keras_lapkl.tflite.targets.target import Target, table

_BYTES = ("INT8", "UINT8")
_PLAIN = (activation("NONE"),)
_SOFTMAX = 16_000


def quantized(node):
    """8-bit data of three axes: before them, sizes are 1."""
    for tensor in (*node.computed, *node.outputs):
        if tensor.dtype not in _BYTES:
            return f"{tensor.dtype.lower()}: all must be in 8 bits"
        if any(size != 1 for size in tensor.shape[:-3]):
            return f"a batch, or more than 3 axes: {shown(tensor)}"
    return static(node) or per_tensor(node)


def dilation(node):
    if node.option("dilationWFactor", 1) != node.option("dilationHFactor", 1):
        return "dilations of width and height that differ"


def joined(node):
    held = [tensor for tensor in node.given if tensor.constant]
    if held and len(node.given) > 2:
        return "a constant among more than two inputs"


def flat(node):
    if node.outputs[0].size != node.outputs[0].shape[-1]:
        return f"more than one row: {shown(node.outputs[0])}"


def batch(node):
    if any(axis + 4 - node.given[0].rank == 0 for axis in axes(node)):
        return "reduces the batch"


def depth(node):
    read = node.given[0]
    if read.rank - 1 in axes(node) and read.shape[-1] % 4:
        return f"reduces {read.shape[-1]} channels, no multiple of 4"


def slope(node):
    if any(size != 1 for size in node.given[1].shape[:-1]):
        return f"slopes {shown(node.given[1])}, not one for each channel"


def row(node):
    read = node.given[0]
    if read.size != read.shape[-1] or read.size > _SOFTMAX:
        return f"{shown(read)}: one row of at most {_SOFTMAX:,} is taken"


def stacked(node):
    if node.option("axis", 0) in (0, -node.outputs[0].rank):
        return "stacks along the batch"


def split(node):
    values = node.given[0].values or (0,)
    if values[0] in (0, -node.given[1].rank):
        return "splits the batch"


def steps(node):
    if any(step != 1 for step in node.given[3].values or (0,)):
        return "steps that are not 1"


def margins(node):
    values = node.given[1].values
    if values is None or (any(values[:2]) and node.given[0].rank == 4):
        return "pads the batch"


_WEIGHTS = (constant(1, what="weights"), constant(2, what="bias"))

OPERATORS = table(
    (
        "ADD EXPAND_DIMS L2_NORMALIZATION LOGISTIC MAXIMUM MINIMUM MUL QUANTIZE RELU RELU6 "
        "RELU_N1_TO_1 RESHAPE RSQRT SLICE SPACE_TO_DEPTH SQUARED_DIFFERENCE SQUEEZE SUB TANH "
        "TRANSPOSE",
        (),
    ),
    ("AVERAGE_POOL_2D MAX_POOL_2D", _PLAIN),
    ("CONCATENATION", (*_PLAIN, joined)),
    ("CONV_2D DEPTHWISE_CONV_2D", (*_WEIGHTS, dilation)),
    ("FULLY_CONNECTED", (*_WEIGHTS, unset("weightsFormat"), flat)),
    ("TRANSPOSE_CONV", (constant(0, 1, what="size and weights"), constant(3, what="bias"))),
    ("MEAN", (batch, depth)),
    ("REDUCE_MAX REDUCE_MIN SUM", (batch,)),
    ("PACK", (stacked,)),
    ("PAD", (margins,)),
    ("PRELU", (slope,)),
    ("RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR", (constant(1, what="the size"),)),
    ("SOFTMAX", (row,)),
    ("SPLIT", (split,)),
    ("STRIDED_SLICE", (steps, unset("ellipsisMask", "newAxisMask"))),
    ("UNIDIRECTIONAL_SEQUENCE_LSTM", ()),
)

TARGET = Target(
    title="Coral Edge TPU",
    operators=OPERATORS,
    always=(quantized,),
    source=(
        "coral.ai/docs/edgetpu/models-intro, supported operations for compiler 16, and Axis's copy "
        "of it, developer.axis.com, ARTPEC-7"
    ),
    dated="2021",
    note=(
        "RSQRT, SQUARED_DIFFERENCE, SUM, TRANSPOSE and TRANSPOSE_CONV were not checked against "
        "that page; the compiler is closed: it may leave out a resize, by its sizes, to keep "
        "precision, and an operator whose version is newer than 2021"
    ),
    first_part=True,
)
