"""Which operators the runtimes, delegates and compilers for TFLite files run, a module for each.

A list is facts of others' sources: each target says which, and of when.
"""

from keras_lapkl.tflite.targets import (
    cmsis_nn,
    coreml,
    edge_tpu,
    ethos_u,
    gpu,
    micro,
    nnapi,
    qualcomm,
    xnnpack,
)

TARGETS = {
    "xnnpack": xnnpack.TARGET,
    "gpu": gpu.TARGET,
    "coreml": coreml.TARGET,
    "nnapi": nnapi.TARGET,
    "qualcomm": qualcomm.TARGET,
    "edgetpu": edge_tpu.TARGET,
    "micro": micro.TARGET,
    "cmsis-nn": cmsis_nn.TARGET,
    "ethos-u": ethos_u.TARGET,
}
"""The targets by the names of `lapkl check --target`."""
