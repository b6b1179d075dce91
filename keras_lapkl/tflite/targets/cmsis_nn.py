"""TFLite Micro with Arm's CMSIS-NN: the kernels for Cortex-M; the rest are the reference ones."""

from keras_lapkl.tflite.targets import micro
from keras_lapkl.tflite.targets.rules import (
    data,
    first,
    no_broadcast,
    rank,
    typed,
)
from keras_lapkl.tflite.targets.target import Target, table

_SHORT = ("INT8", "INT16")


def fast(names, *rules):
    """Rows of operators that must run in TFLite Micro and keep further rules."""
    return [(name, (*micro.OPERATORS[name], *rules)) for name in names.split()]


OPERATORS = table(
    *fast("ADD MUL", data(*_SHORT), no_broadcast),
    *fast("AVERAGE_POOL_2D MAX_POOL_2D FULLY_CONNECTED SOFTMAX", data(*_SHORT)),
    *fast("BATCH_MATMUL", data(*_SHORT), rank(2, 4, (0, 1))),
    *fast("CONV_2D DEPTHWISE_CONV_2D", data(*_SHORT)),
    *fast("MAXIMUM MINIMUM", data("INT8")),
    *fast("PAD PADV2", first("INT8"), rank(1, 4)),
    *fast("SVDF UNIDIRECTIONAL_SEQUENCE_LSTM", first(*_SHORT)),
    *fast("TRANSPOSE", first("INT8"), rank(1, 4)),
    *fast("TRANSPOSE_CONV", typed(2, "INT8")),
)

TARGET = Target(
    title="TFLite Micro with CMSIS-NN",
    operators=OPERATORS,
    source="tensorflow/tflite-micro 90b983c2b3f1, tensorflow/lite/micro/kernels/cmsis_nn/",
    dated="2026-08-20",
    else_where="runs in TFLite Micro's reference kernel, if it has one",
    note="what is not listed is not lost: it runs in plain C++, several times slower",
)
