"""LiteRT on a CPU, with XNNPACK: what its delegate takes; the rest runs in LiteRT's own kernels."""

import math

from keras_lapkl.tflite.targets.rules import (
    BYTES,
    FLOATS,
    activation,
    alike,
    axes,
    block,
    constant,
    data,
    first,
    has_bias,
    inputs,
    makes,
    outputs,
    per_tensor,
    plain_beta,
    rank,
    ranks,
    reads,
    same_scale,
    shown,
    typed,
    unset,
)
from keras_lapkl.tflite.targets.target import Target, table

_NUMBERS = (*FLOATS, *BYTES)
_FUSED = activation("NONE", "RELU", "RELU_N1_TO_1", "RELU6")
_MAX_RANK = 6


def ratio(node, low, high, what="input to output"):
    """The scales of bytes are not too far apart."""
    made = node.outputs[0]
    for tensor in node.given:
        if tensor.dtype == made.dtype and tensor.scale and made.scale:
            found = tensor.scale[0] / made.scale[0]
            if not low <= found <= high:
                return f"scales of {what} that differ by {found:.3g}"


def sums(node):
    return ratio(node, 2**-10, 2**8)


def product(node):
    made = node.outputs[0]
    if made.dtype in BYTES and len(node.given) == 2 and all(t.scale for t in node.given):
        found = math.prod(t.scale[0] for t in node.given) / made.scale[0]
        if not 2**-16 <= found < 2**8:
            return f"scales of inputs and output that differ by {found:.3g}"


def requantized(node):
    read, made = node.given[0], node.outputs[0]
    if read.dtype in BYTES:
        if read.dtype != made.dtype:
            return f"{read.dtype.lower()} to {made.dtype.lower()}"
        return ratio(node, 2**-8, 2**7)


def leak(node):
    alpha = node.option("alpha", 0.0)
    if not math.isfinite(alpha) or not alpha:
        return f"a slope of {alpha:g}"
    read, made = node.given[0], node.outputs[0]
    if read.dtype in BYTES and read.scale and made.scale:
        up = read.scale[0] / made.scale[0]
        down = up * alpha
        if not 2**-8 <= up <= 2**7 or not -127.99609375 <= down <= 2**7 or abs(down) < 2**-8:
            return f"scales of input and output that differ by {up:.3g}, with a slope of {alpha:g}"


def weights(channels, dynamic=False):
    """Constant weights with a scale each channel of an axis, and of the type of the data."""

    def rule(node):
        image, kernel, made = node.given[0], node.given[1], node.outputs[0]
        if node.name == "TRANSPOSE_CONV":
            image = node.given[2]
        if len(kernel.scale) > 1 and kernel.axis != channels:
            return f"weights with scales along axis {kernel.axis}"
        if image.dtype != made.dtype:
            return f"mixed types: {image.dtype.lower()} to {made.dtype.lower()}"
        same = kernel.dtype == image.dtype or {kernel.dtype, image.dtype} == {*FLOATS}
        ranged = dynamic and image.dtype == "FLOAT32" and kernel.dtype in ("INT8", "INT4")
        if not same and not ranged:
            return f"mixed types: data of {image.dtype.lower()}, weights of {kernel.dtype.lower()}"

    return rule


def window(node):
    width, height = node.option("filterWidth", 1), node.option("filterHeight", 1)
    if node.option("strideW", 1) > width or node.option("strideH", 1) > height:
        return "a stride larger than its window"


def grouped(node):
    image, kernel = node.given[:2]
    if not kernel.shape[3] or image.shape[3] < kernel.shape[3]:
        return f"weights {shown(kernel)} for an image {shown(image)}"


def margins(node):
    values = node.given[1].values
    if values is None or min(values, default=0) < 0:
        return "margins below 0"


def steps(node):
    if any(step != 1 for step in node.given[3].values or (0,)):
        return f"steps {list(node.given[3].values or ())}; only 1 is taken"


def begins(node):
    if any(i < 0 for i in node.given[1].values or ()) or any(
        i <= 0 for i in node.given[2].values or ()
    ):
        return "a begin below 0, or a size that is not stated"


def divisible(node):
    size = node.option("blockSize", 2)
    if any(side % size for side in node.given[0].shape[1:3]):
        return f"an image {shown(node.given[0])} of no whole blocks of {size}"


def reduced(node):
    if not axes(node):
        return "no axes"


def one_axis(node):
    if node.given[1].size != 1:
        return f"{node.given[1].size} axes"


_BIASED = (has_bias, constant(1, what="weights"), constant(2, what="bias"))

OPERATORS = table(
    (
        "ABS CEIL COS EXP FLOOR GELU HARD_SWISH LOG NEG RELU RELU6 RELU_N1_TO_1 ROUND RSQRT SIN "
        "SQRT SQUARE",
        (inputs(1), data(*FLOATS), ranks(_MAX_RANK)),
    ),
    ("DEQUANTIZE", (reads(*BYTES), makes(*FLOATS), per_tensor)),
    ("QUANTIZE", (data(*_NUMBERS), per_tensor, requantized)),
    ("ELU", (data(*FLOATS, "INT8"), alike, per_tensor)),
    ("LOGISTIC TANH", (data(*_NUMBERS), alike, per_tensor)),
    ("LEAKY_RELU", (data(*_NUMBERS), alike, per_tensor, leak)),
    ("ADD SUB", (inputs(2), data(*_NUMBERS), alike, ranks(_MAX_RANK), per_tensor, sums, _FUSED)),
    ("MUL", (inputs(2), data(*_NUMBERS), alike, ranks(_MAX_RANK), per_tensor, product, _FUSED)),
    ("DIV", (inputs(2), data(*FLOATS), ranks(_MAX_RANK), _FUSED)),
    ("MAXIMUM MINIMUM SQUARED_DIFFERENCE", (inputs(2), data(*FLOATS), ranks(_MAX_RANK))),
    ("PRELU", (inputs(2), data(*FLOATS), ranks(_MAX_RANK), constant(1, what="slopes"))),
    ("AVERAGE_POOL_2D", (data(*FLOATS), window, _FUSED)),
    ("MAX_POOL_2D", (data(*_NUMBERS), per_tensor, window, _FUSED)),
    ("BATCH_MATMUL", (inputs(2), first(*_NUMBERS), rank(2, _MAX_RANK, (0, 1)), weights(-1, True))),
    ("CONCATENATION", (inputs(2, 5), data(*_NUMBERS), per_tensor)),
    (
        "CONV_2D",
        (
            *_BIASED,
            inputs(3),
            first(*_NUMBERS),
            rank(4, places=(0, 1)),
            weights(0, dynamic=True),
            per_tensor,
            grouped,
            _FUSED,
        ),
    ),
    (
        "DEPTHWISE_CONV_2D",
        (
            *_BIASED,
            inputs(3),
            first(*_NUMBERS),
            rank(4, places=(0, 1)),
            weights(3),
            per_tensor,
            _FUSED,
        ),
    ),
    (
        "TRANSPOSE_CONV",
        (
            inputs(3, 4),
            typed(2, *_NUMBERS),
            rank(4, places=(1, 2)),
            constant(0, what="the size"),
            constant(1, what="weights"),
            constant(3, what="bias"),
            weights(0, dynamic=True),
            _FUSED,
        ),
    ),
    (
        "FULLY_CONNECTED",
        (
            first(*_NUMBERS),
            unset("weightsFormat"),
            constant(1, what="weights"),
            constant(2, what="bias"),
            weights(0, dynamic=True),
            per_tensor,
            _FUSED,
        ),
    ),
    ("DEPTH_TO_SPACE", (data(*_NUMBERS), per_tensor, block)),
    ("SPACE_TO_DEPTH", (data(*_NUMBERS), per_tensor, block, divisible)),
    ("EXPAND_DIMS", (first(*_NUMBERS), constant(1, what="the axis"), one_axis)),
    (
        "MEAN REDUCE_MAX REDUCE_MIN SUM",
        (first(*_NUMBERS), per_tensor, constant(1, what="axes"), typed(1, "INT32"), reduced),
    ),
    ("PAD", (first(*_NUMBERS), per_tensor, constant(1, what="margins"), margins, rank(1, 6))),
    ("RESHAPE", (first(*_NUMBERS), ranks(_MAX_RANK), constant(1, what="the shape"), same_scale)),
    ("RESIZE_BILINEAR", (first(*_NUMBERS), rank(4), per_tensor, constant(1, what="the size"))),
    ("SLICE", (first(*_NUMBERS), per_tensor, constant(1, 2, what="begin and size"), begins)),
    ("SOFTMAX", (data(*FLOATS), plain_beta)),
    ("SPLIT", (outputs(2, 4), typed(1, *_NUMBERS), constant(0, what="the axis"))),
    (
        "STRIDED_SLICE",
        (
            unset("ellipsisMask", "newAxisMask", "shrinkAxisMask"),
            constant(1, 2, 3, what="begin, end and steps"),
            steps,
            first(*_NUMBERS),
        ),
    ),
    ("TRANSPOSE", (first(*_NUMBERS), rank(1, _MAX_RANK), constant(1, what="the order"))),
)

TARGET = Target(
    title="LiteRT CPU with XNNPACK",
    operators=OPERATORS,
    source="google-ai-edge/LiteRT f67457790c9c, tflite/delegates/xnnpack/xnnpack_delegate.cc",
    dated="2026-08-21",
    else_where="runs in LiteRT's own CPU kernels",
    note="as LiteRT's Python package is built: int8 and uint8 are on",
    reads_float16=True,
    most_parts=0,
)
