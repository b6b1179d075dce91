"""Qualcomm's NPU (Hexagon) by LiteRT's compiler plugin for QNN."""

from keras_lapkl.tflite.targets.nodes import Node
from keras_lapkl.tflite.targets.rules import static
from keras_lapkl.tflite.targets.target import Target, table

_TYPES = ("BOOL", "INT4", "INT8", "INT16", "INT32", "INT64", "UINT8", "FLOAT16", "FLOAT32")


def types(node: Node) -> str | None:
    """The types that the plugin turns into QNN's."""
    for tensor in (*node.given, *node.outputs):
        if tensor.dtype not in _TYPES:
            return f"a tensor of {tensor.dtype.lower()}"


OPERATORS = table(
    (
        "ABS ADD ARG_MAX ARG_MIN AVERAGE_POOL_2D BATCH_MATMUL BATCH_TO_SPACE_ND BROADCAST_TO CAST "
        "CEIL CONCATENATION CONV_2D CONV_3D COS CUMSUM DEPTH_TO_SPACE DEPTHWISE_CONV_2D DEQUANTIZE "
        "DIV DYNAMIC_UPDATE_SLICE ELU EMBEDDING_LOOKUP EQUAL EXP FLOOR FLOOR_DIV FLOOR_MOD "
        "FULLY_CONNECTED GATHER GATHER_ND GELU GREATER GREATER_EQUAL HARD_SWISH L2_NORMALIZATION "
        "L2_POOL_2D LEAKY_RELU LESS LESS_EQUAL LOG LOGICAL_AND LOGICAL_NOT LOGICAL_OR LOGISTIC "
        "MAX_POOL_2D MAXIMUM MEAN MINIMUM MIRROR_PAD MUL NEG NOT_EQUAL ONE_HOT PACK PAD PADV2 POW "
        "PRELU QUANTIZE REDUCE_ALL REDUCE_ANY REDUCE_MAX REDUCE_MIN RELU RELU_0_TO_1 RELU6 "
        "RELU_N1_TO_1 RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR REVERSE_V2 ROUND RSQRT "
        "SELECT SELECT_V2 SIGN SIN SLICE SOFTMAX SPACE_TO_BATCH_ND SPACE_TO_DEPTH SPLIT SPLIT_V "
        "SQUARE SQUARED_DIFFERENCE SQRT STRIDED_SLICE SUB SUM TANH TILE TOPK_V2 TRANSPOSE "
        "TRANSPOSE_CONV UNPACK",
        (),
    ),
)

TARGET = Target(
    title="Qualcomm NPU (Hexagon) by QNN",
    operators=OPERATORS,
    always=(static, types),
    source=(
        "google-ai-edge/LiteRT f67457790c9c, "
        "litert/vendors/qualcomm/compiler/Qualcomm_QNN_Compiler.md"
    ),
    dated="2026-07-23",
    note=(
        "which types and sizes a chip takes is in QNN's own check, which is not public here: an "
        "operator that is listed may still be refused. Chips before Snapdragon 8 Gen 2 want int8"
    ),
    most_parts=0,
)
