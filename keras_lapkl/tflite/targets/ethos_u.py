"""Arm's Ethos-U55 and U65, by the rules of their compiler, vela."""

from keras_lapkl.tflite.targets.rules import (
    BYTES,
    axes,
    constant,
    data,
    reads,
    shown,
    typed,
)
from keras_lapkl.tflite.targets.target import Target, table

_INTEGERS = ("INT8", "UINT8", "INT16", "INT32", "INT64")
_SMALL = ("INT8", "UINT8", "INT16")
_UNSCALED = ["ARG_MAX", "EXPAND_DIMS", "MIRROR_PAD", "PAD", "PADV2", "QUANTIZE", "TRANSPOSE"]
_PER_CHANNEL = ["CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV"]
_OPEN_ZERO = [
    "AVERAGE_POOL_2D",
    "RESIZE_BILINEAR",
    "RESIZE_NEAREST_NEIGHBOR",
    "UNIDIRECTIONAL_SEQUENCE_LSTM",
]
_MAX_WEIGHTS = 65536 * 127
_REDUCED = {"INT8": 2**24, "UINT8": 2**23, "INT16": 2**16}


def integers(node):
    """Quantized data: what vela asks of every operator."""
    for tensor in (*node.computed, *node.outputs):
        if tensor.dtype not in _INTEGERS:
            return f"{tensor.dtype.lower()}: all must be quantized"
        if tensor.dtype == "INT64" and node.name != "ARG_MAX":
            return "int64"
        if any(size == 0 for size in tensor.shape):
            return "an empty tensor"
        if tensor.dynamic:
            return "a size that is open until run time"
        if node.name not in _UNSCALED and tensor.dtype != "INT32" and not tensor.scale:
            return "data without scale"
        if len(tensor.scale) > 1 and node.name not in _PER_CHANNEL:
            return "data with a scale a channel"
        if tensor.dtype == "INT32" and any(tensor.zero) and node.name not in _OPEN_ZERO:
            return "int32 with a zero point that is not 0"


def small(node):
    """No data of 32 bits."""
    for tensor in (*node.computed, *node.outputs):
        if tensor.dtype not in _SMALL:
            return f"data of {tensor.dtype.lower()}"


def kernel(node):
    place = 2 if node.name == "TRANSPOSE_CONV" else 0
    weights = node.given[1]
    if weights.dtype not in BYTES:
        return f"weights of {weights.dtype.lower()}, not of 8 bits"
    if not weights.constant:
        return None if node.name == "FULLY_CONNECTED" else "weights must be constant"
    if node.given[place].dtype not in _SMALL:
        return f"data of {node.given[place].dtype.lower()}"
    summed = weights.size // max(1, weights.shape[3 if node.name.startswith("DEPTH") else 0])
    if summed * (255 if weights.dtype == "UINT8" else 127) > _MAX_WEIGHTS:
        return f"weights {shown(weights)} of a sum that may be over {_MAX_WEIGHTS:,}"


def strides(node):
    longest = max(node.option("strideW", 1), node.option("strideH", 1))
    plain = node.option("dilationWFactor", 1) == node.option("dilationHFactor", 1) == 1
    if longest > 3 and (not plain or padded(node)):
        return f"a stride of {longest}; over 3 only without padding and dilation"


def padded(node):
    """Whether windows reach over the edge."""
    if node.option("padding") != 0:
        return False
    read, made = node.given[0].shape[1:3], node.outputs[0].shape[1:3]
    if node.option("filterHeight") is None:
        window = node.given[1].shape[1:3]
    else:
        window = node.option("filterHeight"), node.option("filterWidth")
    steps = node.option("strideH", 1), node.option("strideW", 1)
    return any(
        (b - 1) * step + side > a
        for a, b, side, step in zip(read, made, window, steps, strict=True)
    )


def near(node):
    longest = max(node.option("strideW", 1), node.option("strideH", 1))
    if longest > 3:
        return f"a stride of {longest}, at most 3"


def window(node):
    """The sides of a pooling window."""
    width, height = node.option("filterWidth", 1), node.option("filterHeight", 1)
    if node.name == "AVERAGE_POOL_2D" and padded(node) and max(width, height) > 8:
        return f"a padded window of {height}x{width}, at most 8x8"
    if width * height > 2**16 or height > 256:
        return f"a window of {height}x{width}"


def transposed(node):
    down, across = node.option("strideH", 1), node.option("strideW", 1)
    kernel, image, made = node.given[1], node.given[2], node.outputs[0]
    row = image.shape[1] == kernel.shape[1] == 1
    column = image.shape[2] == kernel.shape[2] == 1
    fits = (down, across) in ((1, 1), (2, 2))
    if (
        not fits
        and not (row and (down, across) == (1, 2))
        and not (column and (down, across) == (2, 1))
    ):
        return f"strides of {down}x{across}"
    grown = node.option("padding") == 1
    for axis, stride in ((1, down), (2, across)):
        more = kernel.shape[axis] - stride if grown else 0
        if made.shape[axis] != image.shape[axis] * stride + max(more, 0):
            return f"{shown(image)} to {shown(made)} by strides of {down}x{across}"


def scaled(node):
    """Twice as large; without half-pixel centers also 4 and 8 times."""
    read, made = node.given[0].shape[1:3], node.outputs[0].shape[1:3]
    if read == (1, 1) or read == made:
        return None
    half = node.option("halfPixelCenters") and node.name == "RESIZE_BILINEAR"
    less = 1 if node.option("alignCorners") else 0
    # An axis of one stays out of it, but not with half-pixel centers: vela 5.2 refuses that.
    grown = [pair for pair in zip(read, made, strict=True) if half or pair != (1, 1)]
    factors = {(b - less) / (a - less) if a > less else 0 for a, b in grown}
    if len(factors) > 1:
        return f"height and width by different factors: {shown(node.given[0], node.outputs[0])}"
    if not factors <= ({2} if half else {2, 4, 8}):
        of = "2 with halfPixelCenters" if half else "2, 4 or 8"
        return f"{shown(node.given[0])} to {shown(node.outputs[0])}, not by a factor of {of}"


def reduced(node):
    read, found = node.given[0], axes(node)
    if read.dtype not in _REDUCED:
        return f"reads {read.dtype.lower()}"
    sizes = [read.shape[i] for i in found]
    count = 1
    for size in sizes:
        count *= size
    if not found or count > _REDUCED[read.dtype] or max(sizes) >= 4096:
        return f"reduces the axes {list(found)} of {shown(read)}"
    if read.rank == 4 and read.shape[0] != 1:
        return f"a batch of {read.shape[0]}"
    if read.rank - 1 in found and 1 not in read.shape[-3:]:
        return f"reduces the channels of {shown(read)}"


def depth(node):
    read = node.given[0]
    if axes(node) not in ((read.rank - 1,), ()) or read.shape[-1] > 127:
        return f"the axes {list(axes(node))} of {shown(read)}; the channels, up to 127, are taken"


def same(node):
    found = {(t.scale, t.zero) for t in (*node.given, *node.outputs)}
    if len(found) > 1:
        return "scales of inputs and output that differ"


def area(node):
    read = node.given[0]
    if read.size // max(1, read.shape[-1]) >= 2**16:
        return f"{shown(read)}: over 65,535 rows"


def margins(node):
    return constant(1, what="margins")(node) or typed(1, "INT32", "INT64")(node)


def forward(node):
    if any(step < 0 for step in node.given[3].values or ()):
        return "steps below 0"


def product(node):
    read = node.given[0]
    if read.dtype != "INT8" or max(node.outputs[0].shape[-1], read.shape[-1]) > 2**16:
        return f"{shown(read)} of {read.dtype.lower()}"


_BIAS = (constant(2, what="bias"), typed(2, "INT32", "INT64"))

OPERATORS = table(
    ("ADD SUB MUL EXPAND_DIMS NEG RESHAPE SQUEEZE", ()),
    (
        "ABS CONCATENATION HARD_SWISH LEAKY_RELU LOGISTIC PACK PRELU QUANTIZE RELU RELU6 "
        "RELU_0_TO_1 RELU_N1_TO_1 SPLIT SPLIT_V SQUARED_DIFFERENCE TANH TILE UNPACK REDUCE_MAX "
        "REDUCE_MIN EXP UNIDIRECTIONAL_SEQUENCE_LSTM",
        (small,),
    ),
    ("SUM", (data("INT8", "UINT8", "INT16", "INT32"),)),
    ("ARG_MAX", (depth,)),
    ("AVERAGE_POOL_2D MAX_POOL_2D", (small, window, strides)),
    ("BATCH_MATMUL", (product,)),
    ("CONV_2D", (small, *_BIAS, strides, kernel)),
    ("DEPTHWISE_CONV_2D", (small, *_BIAS, near, kernel)),
    ("FULLY_CONNECTED", (*_BIAS, kernel)),
    ("TRANSPOSE_CONV", (small, constant(3, what="bias"), transposed, kernel)),
    ("ELU", (data("INT8"),)),
    ("GELU", (data(*BYTES),)),
    ("LOG RSQRT", (data("INT8", "INT16"),)),
    ("MAXIMUM MINIMUM", (small, same)),
    ("MEAN", (small, constant(1, what="axes"), reduced)),
    ("MIRROR_PAD", (margins,)),
    ("PAD PADV2", (small, margins)),
    ("RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR", (small, scaled)),
    ("SLICE", (small, constant(1, 2, what="begin and size"))),
    ("SOFTMAX", (small, area)),
    ("STRIDED_SLICE", (small, constant(1, 2, 3, what="begin, end and steps"), forward)),
    ("TRANSPOSE", (reads("INT8", "INT16", "INT32"), constant(1, what="the order"))),
)

TARGET = Target(
    title="Arm Ethos-U55 and U65 (vela)",
    operators=OPERATORS,
    always=(integers,),
    source="ethos-u-vela 5.2.0, vela --supported-ops-report",
    dated="2026-11-27",
    else_where="runs on the Cortex-M, in TFLite Micro",
    note="vela itself is asked where it is installed: pip install 'keras_lapkl[vela]'",
)
