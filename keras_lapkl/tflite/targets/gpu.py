"""LiteRT's GPU delegate, OpenCL and OpenGL, that keeps a graph's tensors as images."""

from keras_lapkl.tflite.targets.rules import (
    BYTES,
    FLOATS,
    activation,
    block,
    both_corners,
    computed,
    constant,
    inputs,
    outputs,
    per_tensor,
    plain_beta,
    rank,
    reflect,
    shown,
    typed,
    unset,
    version,
)
from keras_lapkl.tflite.targets.target import Target, table

_MAX_RANK = 4
_FUSED = activation("NONE", "RELU", "RELU_N1_TO_1", "RELU6", "TANH")
_RUNTIME = (*FLOATS, *BYTES)
# What these read or give besides; constants may have any type.
_READS = {
    "CAST": ("BOOL", "INT32"),
    "ONE_HOT": ("INT32",),
    "SELECT": ("BOOL",),
    "SELECT_V2": ("BOOL",),
    "LOGICAL_AND": ("BOOL",),
    "GATHER": ("INT32",),
}
_COMPARES = "EQUAL NOT_EQUAL LESS LESS_EQUAL GREATER GREATER_EQUAL LOGICAL_AND"
_GIVES = {"CAST": ("BOOL", "INT32"), **dict.fromkeys(_COMPARES.split(), ("BOOL",))}


def tensors(node):
    """At most 4 axes, also of constants, and numbers that are computed as floats."""
    for tensor in (*node.given, *node.outputs):
        if tensor.rank > _MAX_RANK:
            return f"a tensor of {tensor.rank} axes, at most {_MAX_RANK} are taken"
    for tensor in node.computed:
        if tensor.dtype not in (*_RUNTIME, *_READS.get(node.name, ())):
            return f"reads {tensor.dtype.lower()}"
    for tensor in node.outputs:
        if tensor.dtype not in (*_RUNTIME, *_GIVES.get(node.name, ())):
            return f"gives {tensor.dtype.lower()}"
    return per_tensor(node)


def stretches(node):
    """What is stretched over what: ranks are equal, or one of a few forms."""
    long, short = sorted((t.shape for t in node.given), key=len, reverse=True)
    if len(long) == len(short) or len(short) < 2:
        return None
    fits = len(long) == 4 and (
        (len(short) == 3 and long[0] == 1)
        or (short == (1, 1) and long[0] == 1)
        or (len(short) == 2 and (long[0], long[3]) == short)
    )
    return None if fits else f"stretches {shown(*node.given)}"


def depthwise(node):
    image, kernel, made = node.given[0], node.given[1], node.outputs[0]
    if {image.rank, kernel.rank, made.rank} != {4}:
        return f"images and weights {shown(image, kernel)}, not of 4 axes"
    if made.shape[3] != image.shape[3] * node.option("depthMultiplier", 1):
        return "a depth multiplier that does not fit"


def margins(node):
    found = node.input(1)
    if found is None or found.shape not in ((3, 2), (4, 2)):
        return "margins of an image of 3 or 4 axes are taken only"


def kept(node):
    if node.option("keepNumDims") and node.given[0].rank != node.outputs[0].rank:
        return "keepNumDims with other axes"


def cast(node):
    pair = node.given[0].dtype, node.outputs[0].dtype
    if "BOOL" in pair:
        # From a comparison to the next operator's floats; the graph is not looked at for it.
        return (
            None if any(each in FLOATS for each in pair) else f"casts {' to '.join(pair).lower()}"
        )
    if not set(pair) <= {"FLOAT32", "INT32"}:
        return f"casts {' to '.join(pair).lower()}"


def chosen(node):
    made = node.outputs[0].shape
    for tensor in node.given[1:]:
        if tensor.shape != made and tensor.size > 1:
            return f"stretches {shown(tensor)} to {shown(node.outputs[0])}"


def divided(node):
    if node.input(0) is not None and node.given[0].constant:
        return "a constant for its input"


_AXES = (computed(1), constant(1, what="axes"), typed(1, "INT32"))
_ONE = (computed(1), outputs(1))
_WEIGHTS = (computed(1, 2), outputs(1))

OPERATORS = table(
    ("ADD", (version(2), inputs(2), stretches)),
    ("MUL", (version(3), inputs(2), stretches, _FUSED)),
    ("ADD_N", (version(2), inputs(2))),
    (
        "SUB DIV",
        (version(2), inputs(2), computed(1, 2), _FUSED),
    ),
    (
        "MAXIMUM MINIMUM POW SQUARED_DIFFERENCE FLOOR_DIV FLOOR_MOD EQUAL NOT_EQUAL LESS "
        "LESS_EQUAL GREATER GREATER_EQUAL LOGICAL_AND",
        (version(2), inputs(2), computed(1, 2)),
    ),
    (
        "ABS COS ELU EXP FLOOR GELU LOG LOGISTIC NEG RSQRT SIGN SIN SQRT SQUARE TANH",
        (version(2), *_ONE),
    ),
    ("HARD_SWISH", _ONE),
    ("AVERAGE_POOL_2D MAX_POOL_2D", (version(2), *_ONE, _FUSED)),
    ("BATCH_MATMUL", (inputs(2), outputs(1))),
    ("CAST", (*_ONE, cast)),
    ("CONCATENATION", (version(2),)),
    ("CONV_2D", (version(6), *_WEIGHTS, _FUSED)),
    ("DEPTHWISE_CONV_2D", (version(6), *_WEIGHTS, _FUSED, depthwise)),
    ("TRANSPOSE_CONV", (version(3), *_WEIGHTS)),
    ("CUMSUM", (version(1), inputs(2), constant(1, what="the axis"), typed(1, "INT32"))),
    ("DENSIFY", (version(1), computed(0))),
    ("DEPTH_TO_SPACE", (*_ONE, block)),
    ("SPACE_TO_DEPTH", (version(2), *_ONE, block)),
    ("DEQUANTIZE", (version(3), typed(0, *FLOATS, *BYTES))),
    ("QUANTIZE", (version(2), *_ONE)),
    ("FULLY_CONNECTED", (version(9), unset("weightsFormat"), computed(1, 2), divided, kept)),
    ("GATHER", (version(1), inputs(2), rank(1, places=(1,)), typed(1, "INT32"))),
    ("LSTM", (version(4),)),
    ("MEAN REDUCE_MAX REDUCE_MIN REDUCE_PROD SUM", _AXES),
    ("MIRROR_PAD", (version(2), *_ONE, reflect, margins)),
    ("PAD PADV2", (version(2), *_ONE, margins)),
    ("ONE_HOT", (version(1), inputs(4), constant(2, 3, what="values for on and off"))),
    ("PACK SPLIT SPLIT_V UNPACK", ()),
    ("PRELU", (version(1),)),
    ("RELU RELU6 RELU_0_TO_1 RELU_N1_TO_1 LEAKY_RELU", (version(2),)),
    ("RESHAPE", (version(1), *_ONE)),
    ("RESIZE_BILINEAR", (version(3), *_ONE, both_corners)),
    ("RESIZE_NEAREST_NEIGHBOR", (version(3), *_ONE)),
    ("SELECT SELECT_V2", (version(1), inputs(3), chosen)),
    ("SLICE", (version(2), inputs(3), rank(3, 4))),
    ("SOFTMAX", (version(2), plain_beta)),
    (
        "STRIDED_SLICE",
        (
            version(4),
            inputs(4),
            unset("ellipsisMask", "newAxisMask", "shrinkAxisMask"),
            rank(3, 4),
        ),
    ),
    ("TILE", _ONE),
    ("TRANSPOSE", (version(4), *_ONE)),
    ("Convolution2DTransposeBias MaxPoolingWithArgmax2D MaxUnpooling2D Resampler", ()),
)

TARGET = Target(
    title="LiteRT GPU delegate (OpenCL, OpenGL)",
    operators=OPERATORS,
    always=(tensors,),
    source=(
        "google-ai-edge/LiteRT f67457790c9c, tflite/delegates/gpu/common/model_builder.cc and "
        "tflite/tools/versioning/gpu_compatibility.cc"
    ),
    dated="2026-08-21",
    note=(
        "the first delegate's rules; ML Drift, which follows it, takes more. int8 is computed in "
        "floats. A program may ask for more parts by max_delegated_partitions"
    ),
    reads_float16=True,
    most_parts=1,
)
