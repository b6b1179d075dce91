"""LiteRT's Core ML delegate, for iPhones and Macs."""

from keras_lapkl.tflite.targets.rules import (
    FLOATS,
    activation,
    constant,
    has_bias,
    inputs,
    pads,
    plain_beta,
    rank,
    reflect,
    shown,
    spared,
    typed,
    unset,
)
from keras_lapkl.tflite.targets.target import Target, table

_MAX_KERNEL = 16384
_PLAIN = activation("NONE")
_FUSED = activation("NONE", "RELU", "RELU_N1_TO_1", "RELU6", "TANH")
_VERSIONS = {"DEPTHWISE_CONV_2D": 2, "FULLY_CONNECTED": 6}


def floats(node):
    """The first version of an operator, on float32."""
    most = _VERSIONS.get(node.name, 1)
    if node.version > most:
        return f"operator version {node.version}, at most {most} is taken"
    image = node.inputs[2 if node.name == "TRANSPOSE_CONV" else 0]
    if image is None or image.dtype != "FLOAT32":
        return f"reads {'nothing' if image is None else image.dtype.lower()}"


def stretches(node):
    """At most 4 axes; of height and width both are stretched or none."""
    a, b = ((1,) * (4 - tensor.rank) + tensor.shape for tensor in node.given[:2])
    if max(len(a), len(b)) > 4:
        return "more than 4 axes"
    lone = any(tensor.constant and tensor.size == 1 for tensor in node.given[:2])
    fits = (
        (a[0] == b[0] or lone)
        and (a[1:3] == b[1:3] or (1, 1) in (a[1:3], b[1:3]))
        and (a[3] == b[3] or 1 in (a[3], b[3]))
    )
    return None if fits else f"stretches {shown(*node.given[:2])}"


def kernel(node):
    if max(node.given[1].shape[1:3]) > _MAX_KERNEL:
        return f"weights {shown(node.given[1])}"


def channels(node):
    axis = node.option("axis", -1)
    if node.given[0].rank not in (3, 4) or axis not in (-1, node.given[0].rank - 1):
        return f"joins axis {axis} of {shown(node.given[0])}, and not the channels"


def single(node):
    if node.given[0].shape[-1:] != (node.given[0].size,):
        return f"more than one row: {shown(node.given[0])}"


def keeps(node):
    if not node.option("keepDims"):
        return "drops the axes that it reduces"


def never(node):
    """Core ML 3 takes it no more; the delegate uses version 3 from iOS 13 on."""
    return "Core ML 3 (iOS 13 and later) does not take it"


OPERATORS = table(
    ("ADD MUL", (inputs(2), typed(0, *FLOATS), typed(1, *FLOATS), stretches)),
    ("AVERAGE_POOL_2D MAX_POOL_2D", (_PLAIN,)),
    ("CONCATENATION", (_PLAIN, inputs(2, 1000), channels)),
    (
        "CONV_2D DEPTHWISE_CONV_2D",
        (_FUSED, constant(1, what="weights"), kernel, has_bias, constant(2, what="bias")),
    ),
    ("TRANSPOSE_CONV", (constant(0, what="the size"), constant(1, what="weights"), kernel)),
    (
        "FULLY_CONNECTED",
        (
            _FUSED,
            unset("weightsFormat"),
            typed(1, *FLOATS),
            constant(1, what="weights"),
            constant(2, what="bias"),
            single,
        ),
    ),
    ("HARD_SWISH LOGISTIC RELU RELU6 RELU_N1_TO_1 TANH", ()),
    ("MEAN", (rank(4), keeps, spared(1, 2))),
    ("MIRROR_PAD", (rank(4), reflect, pads(1, 2))),
    ("PAD PADV2", (rank(4), pads(1, 2))),
    ("RESHAPE", (never,)),
    ("RESIZE_BILINEAR", (constant(1, what="the size"),)),
    ("SOFTMAX", (plain_beta,)),
)
TARGET = Target(
    title="LiteRT Core ML delegate",
    operators=OPERATORS,
    always=(floats,),
    source="google-ai-edge/LiteRT f67457790c9c, tflite/delegates/coreml/coreml_delegate.mm",
    dated="2026-08-21",
    note="for float models",
    reads_float16=True,
    most_parts=0,
    least_part=2,
)
