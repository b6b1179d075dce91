"""Which operators an interpreter may be given, and what they make of shapes.

Kernels trust the shapes that a file states for what operators give, and that each has the inputs
and the options that it reads. So files are run only if these are as here.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

Shape = tuple[int, ...]
_MAX_RANK = 6


def _product(scales):
    return max(math.prod(scales[:2]), *scales)


def _filter(scales):
    """XNNPACK's convolutions end the process from 256 on."""
    return 2**12 * math.prod(scales[:2])


def _sum(scales):
    """These kernels shift by 15 bits before."""
    return 2**7 * max(scales)


def _square(scales):
    """And these by 14."""
    return 2**8 * max(max(scales) ** 2, *scales)


def _weights(shapes, options):
    """Those of one output channel, or more: a depthwise convolution has one."""
    return math.prod(shapes[1][1:])


def _window(shapes, options):
    return options.filterHeight * options.filterWidth


class Kind(NamedTuple):
    """Of operators.

    Attributes:
        inputs: fewest and most.
        options: the table of options that it must have; None if it needs none.
        shapes: from shapes of the inputs, their values where they are constants of integers (else
            None) and the options to the shape of each output.
        optional: the first input that may be left out.
        data: the input whose type the outputs have.
        results: the types that they have instead.
        alike: whether all inputs from `data` on have one type.
        rescale: from the scales of quantized inputs to what is divided by the output's. Kernels
            multiply by that ratio, and end the process where it is over 2 ** 20.
        below: the bound of the scales of quantized inputs, at which kernels end the process.
        divides: whether integers are divided by the second input. The processor ends the process
            at 0, and where the least integer is divided by -1: only constants without them pass.
        work: from the shapes of the inputs and the options to steps for each value of the output.
    """

    inputs: tuple[int, int]
    options: str | None
    shapes: Callable[[Sequence[Any], Sequence[Any], Any], Sequence[Shape]]
    optional: int = 1000
    data: int = 0
    results: tuple[str, ...] = ()
    alike: bool = False
    rescale: Callable[[Sequence[float]], float] = _product
    below: float = math.inf
    divides: bool = False
    work: Callable[[Sequence[Any], Any], int] = lambda shapes, options: 1


def _same(shapes, values, options):
    return [shapes[0]]


def _normalized(shapes, values, options):
    if not shapes[0]:
        raise ValueError("a single number, which has no axis")
    return [shapes[0]]


def _broadcast(shapes, values, options):
    return [_joined(*shapes)]


def _joined(*shapes):
    """The shape that all are repeated to."""
    if max(map(len, shapes)) > _MAX_RANK:
        raise ValueError(f"{shapes}, of over {_MAX_RANK} axes")
    return np.broadcast_shapes(*shapes)


def _convolved(size, filter_size, stride, dilation, padding):
    """Side of what a window gives; `padding` 0 is "same", 1 "valid"."""
    reach = (filter_size - 1) * dilation if padding else 0
    return max(0, -(-(size - reach) // stride))


def _windows(image, size, options, dilation=(1, 1)):
    """Height and width of what windows of a size give."""
    height, width = size
    rows = _convolved(image[1], height, options.strideH, dilation[0], options.padding)
    return rows, _convolved(image[2], width, options.strideW, dilation[1], options.padding)


def _conv(shapes, values, options, depthwise=False):
    image, weights = shapes[:2]
    channels = weights[3] if depthwise else weights[0]
    parts = (channels, image[3]) if depthwise else (image[3], weights[3])
    fits = len(image) == len(weights) == 4 and all(weights) and parts[1] and not parts[0] % parts[1]
    if not fits or (depthwise and weights[0] != 1) or not _is_bias(shapes, channels):
        raise ValueError(f"weights {weights} and bias that do not fit {image}")
    dilation = options.dilationHFactor, options.dilationWFactor
    return [(image[0], *_windows(image, weights[1:3], options, dilation), channels)]


def _depthwise(shapes, values, options):
    return _conv(shapes, values, options, depthwise=True)


def _transpose_conv(shapes, values, options):
    weights, image = shapes[1:3]
    fits = len(image) == len(weights) == 4 and weights[3] == image[3] and all(weights)
    if values[0] is None or len(values[0]) != 4 or not fits:
        raise ValueError(f"weights {weights} that do not fit {image}, or an unknown size")
    found = tuple(map(int, values[0]))
    right = _windows(found, weights[1:3], options) == image[1:3]
    if found[0] != image[0] or found[3] != weights[0] or not right or min(found) < 1:
        raise ValueError(f"the size {found} from {image} by {weights}")
    if len(shapes) == 4 and shapes[3] not in (None, (weights[0],)):
        raise ValueError(f"a bias {shapes[3]} for {weights[0]} channels")
    return [found]


def _dense(shapes, values, options):
    image, weights = shapes[:2]
    count = math.prod(image)
    fits = len(weights) == 2 and all(weights) and not count % weights[1]
    if not fits or not _is_bias(shapes, weights[0]):
        raise ValueError(f"weights {weights} and bias that do not fit {image}")
    if options.keepNumDims:
        if image[-1] != weights[1]:
            raise ValueError(f"weights {weights} that do not fit {image}")
        return [(*image[:-1], weights[0])]
    return [(count // weights[1], weights[0])]


def _is_bias(shapes, channels):
    return len(shapes) < 3 or shapes[2] in (None, (channels,))


def _pool(shapes, values, options):
    image = shapes[0]
    size = options.filterHeight, options.filterWidth
    if len(image) != 4 or size[0] > image[1] or size[1] > image[2]:
        raise ValueError(f"windows of {size} on {image}")
    return [(image[0], *_windows(image, size, options), image[3])]


def _reshape(shapes, values, options):
    wanted = _constant(values[1] if len(values) > 1 else getattr(options, "newShape", None))
    count = math.prod(shapes[0])
    if wanted.count(-1) == 1:
        rest = math.prod(size for size in wanted if size >= 0)
        if rest:
            wanted[wanted.index(-1)] = count // rest
    if min(wanted, default=0) < 0 or math.prod(wanted) != count:
        raise ValueError(f"the shape {wanted} from {shapes[0]}")
    return [tuple(wanted)]


def _transpose(shapes, values, options):
    order = _constant(values[1])
    if not order or sorted(order) != list(range(len(shapes[0]))):
        raise ValueError(f"the order {order} of {shapes[0]}")
    return [tuple(shapes[0][i] for i in order)]


def _resize(shapes, values, options):
    size = _constant(values[1])
    if len(shapes[0]) != 4 or len(size) != 2 or min(size) < 1 or not all(shapes[0]):
        raise ValueError(f"the size {size} from {shapes[0]}")
    return [(shapes[0][0], *size, shapes[0][3])]


def _reduce(shapes, values, options):
    rank = len(shapes[0])
    axes = {_axis(axis, rank) for axis in _constant(values[1])}
    kept = options.keepDims
    return [tuple(1 if i in axes else s for i, s in enumerate(shapes[0]) if kept or i not in axes)]


def _arg(shapes, values, options):
    (axis,) = {_axis(axis, len(shapes[0])) for axis in _constant(values[1])}
    return [tuple(size for i, size in enumerate(shapes[0]) if i != axis)]


def _pack(shapes, values, options):
    if len(set(shapes)) != 1 or options.valuesCount != len(shapes):
        raise ValueError(f"the shapes {shapes} to stack")
    axis = _axis(options.axis, len(shapes[0]) + 1)
    return [(*shapes[0][:axis], len(shapes), *shapes[0][axis:])]


def _unpack(shapes, values, options):
    axis = _axis(options.axis, len(shapes[0]))
    if options.num != shapes[0][axis]:
        raise ValueError(f"{options.num} parts of {shapes[0]}")
    return [shapes[0][:axis] + shapes[0][axis + 1 :]] * options.num


def _concatenate(shapes, values, options):
    axis = _axis(options.axis, len(shapes[0]))
    if len({(*shape[:axis], *shape[axis + 1 :]) for shape in shapes}) != 1 or len(shapes[0]) > 5:
        raise ValueError(f"the shapes {shapes} to join on axis {axis}")
    return [(*shapes[0][:axis], sum(s[axis] for s in shapes), *shapes[0][axis + 1 :])]


def _strided_slice(shapes, values, options):
    first, last, step = (_constant(value) for value in values[1:4])
    rank = len(shapes[0])
    masks = options.ellipsisMask, options.newAxisMask, options.offset
    if any(masks) or not len(first) == len(last) == len(step) <= rank or not all(step):
        raise ValueError(f"the slice {first}, {last}, {step} of {shapes[0]}")
    slices, dropped = [], []
    for i in range(len(first)):
        if options.shrinkAxisMask >> i & 1:
            _axis(first[i], shapes[0][i])
            dropped.append(i)
        begin = None if options.beginMask >> i & 1 else first[i]
        slices.append(slice(begin, None if options.endMask >> i & 1 else last[i], step[i]))
    sliced = np.broadcast_to(np.int8(0), shapes[0])[tuple(slices)].shape
    return [tuple(size for i, size in enumerate(sliced) if i not in dropped)]


def _slice(shapes, values, options):
    first, size = _constant(values[1]), _constant(values[2])
    if not len(first) == len(size) == len(shapes[0]):
        raise ValueError(f"the slice {first}, {size} of {shapes[0]}")
    found = tuple(n - a if s == -1 else s for n, a, s in zip(shapes[0], first, size, strict=True))
    if any(a < 0 or s < 0 or a + s > n for n, a, s in zip(shapes[0], first, found, strict=True)):
        raise ValueError(f"the slice {first}, {size} of {shapes[0]}")
    return [found]


def _split(shapes, values, options):
    (axis,) = (_axis(axis, len(shapes[1])) for axis in _constant(values[0]))
    if options.numSplits < 1 or shapes[1][axis] % options.numSplits:
        raise ValueError(f"{options.numSplits} parts of {shapes[1]}")
    part = shapes[1][axis] // options.numSplits
    return [(*shapes[1][:axis], part, *shapes[1][axis + 1 :])] * options.numSplits


def _pad(shapes, values, options):
    margins = np.reshape(_constant(values[1]), (-1, 2)).tolist()
    if len(margins) != len(shapes[0]) or min(map(min, margins), default=0) < 0:
        raise ValueError(f"the margins {margins} about {shapes[0]}")
    return [tuple(s + a + b for s, (a, b) in zip(shapes[0], margins, strict=True))]


def _mirror_pad(shapes, values, options):
    (found,) = _pad(shapes, values, options)
    margins = np.reshape(_constant(values[1]), (-1, 2)).max(1)
    if any(m > s - 1 for m, s in zip(margins, shapes[0], strict=True)):
        raise ValueError(f"the margins {margins.tolist()} about {shapes[0]}")
    return [found]


def _expand(shapes, values, options):
    (axis,) = (_axis(axis, len(shapes[0]) + 1) for axis in _constant(values[1]))
    return [(*shapes[0][:axis], 1, *shapes[0][axis:])]


def _squeeze(shapes, values, options):
    asked = options.squeezeDims if options.squeezeDims is not None else []
    axes = {_axis(int(axis), len(shapes[0])) for axis in asked}
    axes = axes or {i for i, size in enumerate(shapes[0]) if size == 1}
    if any(shapes[0][axis] != 1 for axis in axes):
        raise ValueError(f"the axes {sorted(axes)} of {shapes[0]}")
    return [tuple(size for i, size in enumerate(shapes[0]) if i not in axes)]


def _tile(shapes, values, options):
    times = _constant(values[1])
    if len(times) != len(shapes[0]) or min(times, default=0) < 0:
        raise ValueError(f"{times} times {shapes[0]}")
    return [tuple(a * b for a, b in zip(shapes[0], times, strict=True))]


def _broadcast_to(shapes, values, options):
    wanted = tuple(_constant(values[1]))
    if _joined(shapes[0], wanted) != wanted:
        raise ValueError(f"{shapes[0]} as {wanted}")
    return [wanted]


def _reverse(shapes, values, options):
    axes = {_axis(axis, len(shapes[0])) for axis in _constant(values[1])}
    if len(axes) != len(shapes[1]) or not axes:
        raise ValueError(f"no axes, or one twice, to reverse {shapes[0]}")
    return [shapes[0]]


def _depth_to_space(shapes, values, options):
    image, size = shapes[0], options.blockSize
    if len(image) != 4 or image[3] % size**2:
        raise ValueError(f"blocks of {size} of {image}")
    return [(image[0], image[1] * size, image[2] * size, image[3] // size**2)]


def _space_to_depth(shapes, values, options):
    image, size = shapes[0], options.blockSize
    if len(image) != 4 or image[1] % size or image[2] % size:
        raise ValueError(f"blocks of {size} of {image}")
    return [(image[0], image[1] // size, image[2] // size, image[3] * size**2)]


def _matmul(shapes, values, options):
    a, b = shapes
    if not 2 <= min(len(a), len(b)) <= max(len(a), len(b)) <= 5:
        raise ValueError(f"the product of {a} and {b}")
    a = (*a[:-2], a[-1], a[-2]) if options.adjX else a
    b = (*b[:-2], b[-1], b[-2]) if options.adjY else b
    if a[-1] != b[-2]:
        raise ValueError(f"the product of {a} and {b}")
    return [(*_joined(a[:-2], b[:-2]), a[-2], b[-1])]


def _gather(shapes, values, options):
    axis = _axis(options.axis, len(shapes[0]))
    places = _constant(values[1])
    if options.batchDims or not all(0 <= place < shapes[0][axis] for place in places):
        raise ValueError(f"the places {places[:9]} on axis {axis} of {shapes[0]}")
    return [(*shapes[0][:axis], *shapes[1], *shapes[0][axis + 1 :])]


def _axis(axis, rank):
    if not -rank <= axis < rank:
        raise ValueError(f"axis {axis} of {rank}")
    return int(axis) % rank


def _constant(value):
    if value is None:
        raise ValueError("a shape or an axis that is not a constant, which is not supported")
    return [int(each) for each in np.ravel(value)]


_UNARY = (
    "ABS CEIL COS EXP FLOOR HARD_SWISH LOG LOGICAL_NOT LOGISTIC NEG RELU RELU6 RELU_0_TO_1 "
    "RELU_N1_TO_1 ROUND RSQRT SIGN SIN SQRT SQUARE TANH ELU"
)
_BINARY = "LOGICAL_AND LOGICAL_OR MAXIMUM MINIMUM POW PRELU FLOOR_DIV"
_COMPARISONS = "EQUAL NOT_EQUAL LESS LESS_EQUAL GREATER GREATER_EQUAL"
_BYTES = ("INT8", "UINT8", "INT16")
_NUMBERS = ("FLOAT32", "FLOAT16", "INT64", "INT32", *_BYTES)

KINDS = {
    **{name: Kind((1, 1), None, _same) for name in _UNARY.split()},
    **{name: Kind((2, 2), None, _broadcast, alike=True) for name in _BINARY.split()},
    **{
        name: Kind((2, 2), None, _broadcast, results=("BOOL",), alike=True, below=1.0)
        for name in _COMPARISONS.split()
    },
    "FLOOR_MOD": Kind((2, 2), None, _broadcast, alike=True, divides=True),
    "QUANTIZE": Kind((1, 1), None, _same, results=_BYTES),
    "DEQUANTIZE": Kind((1, 1), None, _same, results=("FLOAT32",)),
    "CAST": Kind((1, 1), None, _same, results=(*_NUMBERS, "BOOL")),
    "ADD": Kind((2, 2), "AddOptions", _broadcast, alike=True, rescale=_sum),
    "SUB": Kind((2, 2), "SubOptions", _broadcast, alike=True, rescale=_sum),
    "SQUARED_DIFFERENCE": Kind((2, 2), None, _broadcast, alike=True, rescale=_square),
    "MUL": Kind((2, 2), "MulOptions", _broadcast, alike=True),
    "DIV": Kind((2, 2), "DivOptions", _broadcast, alike=True),
    "SOFTMAX": Kind((1, 1), "SoftmaxOptions", _normalized),
    "LOG_SOFTMAX": Kind((1, 1), None, _normalized),
    "LEAKY_RELU": Kind((1, 1), "LeakyReluOptions", _same),
    "GELU": Kind((1, 1), "GeluOptions", _same),
    "L2_NORMALIZATION": Kind((1, 1), "L2NormOptions", _normalized),
    "CONV_2D": Kind((2, 3), "Conv2DOptions", _conv, optional=2, work=_weights, rescale=_filter),
    "DEPTHWISE_CONV_2D": Kind(
        (3, 3), "DepthwiseConv2DOptions", _depthwise, optional=2, work=_weights, rescale=_filter
    ),
    "TRANSPOSE_CONV": Kind(
        (3, 4),
        "TransposeConvOptions",
        _transpose_conv,
        optional=3,
        data=2,
        work=_weights,
        rescale=_filter,
    ),
    "FULLY_CONNECTED": Kind(
        (2, 3), "FullyConnectedOptions", _dense, optional=2, work=_weights, rescale=_filter
    ),
    "MAX_POOL_2D": Kind((1, 1), "Pool2DOptions", _pool, work=_window),
    "AVERAGE_POOL_2D": Kind((1, 1), "Pool2DOptions", _pool, work=_window),
    "RESHAPE": Kind((1, 2), None, _reshape),
    "TRANSPOSE": Kind((2, 2), None, _transpose),
    "RESIZE_BILINEAR": Kind((2, 2), "ResizeBilinearOptions", _resize),
    "RESIZE_NEAREST_NEIGHBOR": Kind((2, 2), "ResizeNearestNeighborOptions", _resize),
    **{
        name: Kind((2, 2), "ReducerOptions", _reduce)
        for name in ("SUM", "MEAN", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD")
    },
    "ARG_MAX": Kind((2, 2), "ArgMaxOptions", _arg, results=("INT32", "INT64")),
    "ARG_MIN": Kind((2, 2), "ArgMinOptions", _arg, results=("INT32", "INT64")),
    "PACK": Kind((1, 1000), "PackOptions", _pack, alike=True),
    "UNPACK": Kind((1, 1), "UnpackOptions", _unpack),
    "CONCATENATION": Kind((1, 1000), "ConcatenationOptions", _concatenate, alike=True),
    "STRIDED_SLICE": Kind((4, 4), "StridedSliceOptions", _strided_slice),
    "SLICE": Kind((3, 3), None, _slice),
    "GATHER": Kind((2, 2), "GatherOptions", _gather),
    "SPLIT": Kind((2, 2), "SplitOptions", _split, data=1),
    "PAD": Kind((2, 2), None, _pad),
    "PADV2": Kind((3, 3), None, _pad),
    "MIRROR_PAD": Kind((2, 2), "MirrorPadOptions", _mirror_pad),
    "EXPAND_DIMS": Kind((2, 2), None, _expand),
    "SQUEEZE": Kind((1, 1), "SqueezeOptions", _squeeze),
    "TILE": Kind((2, 2), None, _tile),
    "BROADCAST_TO": Kind((2, 2), None, _broadcast_to),
    "REVERSE_V2": Kind((2, 2), None, _reverse),
    "DEPTH_TO_SPACE": Kind((1, 1), "DepthToSpaceOptions", _depth_to_space),
    "SPACE_TO_DEPTH": Kind((1, 1), "SpaceToDepthOptions", _space_to_depth),
    "BATCH_MATMUL": Kind((2, 2), "BatchMatMulOptions", _matmul, work=_weights, rescale=_filter),
    "SELECT": Kind((3, 3), None, _broadcast, data=1, alike=True),
    "SELECT_V2": Kind((3, 3), None, _broadcast, data=1, alike=True),
}
"""Kinds of operators by TFLite's names: those that Keras's layers for images become."""
