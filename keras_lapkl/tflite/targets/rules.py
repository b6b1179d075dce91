"""Rules that targets have in common: functions from a `Node` to what is wrong with it, or None.

A function in lower case with arguments of its own gives such a rule: `inputs(2)`, `constant(1)`.
"""

from collections.abc import Callable
from typing import TypeAlias

from keras_lapkl.tflite.targets.nodes import Node, Tensor

Rule: TypeAlias = Callable[[Node], str | None]

FLOATS = ("FLOAT32", "FLOAT16")
BYTES = ("INT8", "UINT8")
ACTIVATIONS = ("NONE", "RELU", "RELU_N1_TO_1", "RELU6", "TANH", "SIGN_BIT")
"""By their numbers in the schema, which never change."""


def version(most: int) -> Rule:
    """The operator's version is at most `most`."""

    def rule(node):
        if node.version > most:
            return f"operator version {node.version}, at most {most} is taken"

    return rule


def inputs(few: int, many: int | None = None) -> Rule:
    """It has from `few` to `many` inputs."""

    return lambda node: _outside(len(node.inputs), "inputs", few, many)


def computed(few: int, many: int | None = None) -> Rule:
    """From `few` to `many` of its inputs are no constants."""

    return lambda node: _outside(len(node.computed), "inputs that are no constants", few, many)


def outputs(few: int, many: int | None = None) -> Rule:
    """It has from `few` to `many` outputs."""

    return lambda node: _outside(len(node.outputs), "outputs", few, many)


def reads(*dtypes: str) -> Rule:
    """What it computes on has one of some types."""

    def rule(node):
        return _wrong_type("reads", node.computed or node.given, dtypes)

    return rule


def makes(*dtypes: str) -> Rule:
    """What it gives has one of some types."""

    def rule(node):
        return _wrong_type("gives", node.outputs, dtypes)

    return rule


def data(*dtypes: str) -> Rule:
    """What it computes on and what it gives have some types."""

    def rule(node):
        source = node.computed or node.given
        return _wrong_type("reads", source, dtypes) or _wrong_type("gives", node.outputs, dtypes)

    return rule


def first(*dtypes: str) -> Rule:
    """Its first input and what it gives have some types."""

    def rule(node):
        read = node.given[:1]
        return _wrong_type("reads", read, dtypes) or _wrong_type("gives", node.outputs, dtypes)

    return rule


def typed(place: int, *dtypes: str) -> Rule:
    """The input at a place, if it is there, has one of some types."""

    def rule(node):
        tensor = node.input(place)
        if tensor is not None and tensor.dtype not in dtypes:
            return f"input {place} is {tensor.dtype.lower()}"

    return rule


def alike(node: Node) -> str | None:
    """Its inputs and its first output are of one type; weights of float16 are read as float32."""
    types = {each.dtype for each in (*node.given, *node.outputs[:1])}
    types = {"FLOAT32" if each == "FLOAT16" else each for each in types}
    if len(types) > 1:
        return f"mixed types: {', '.join(sorted(types)).lower()}"


def constant(*places: int, what: str = "") -> Rule:
    """Inputs at some places, where they are there, are constants."""

    def rule(node):
        for place in places:
            tensor = node.input(place)
            if tensor is not None and not tensor.constant:
                return f"{what or f'input {place}'} must be constant"

    return rule


def rank(few: int, many: int | None = None, places: tuple[int, ...] = (0,)) -> Rule:
    """Inputs at some places have from `few` to `many` axes."""

    def rule(node):
        given = (tensor for tensor in map(node.input, places) if tensor is not None)
        return next(filter(None, (_outside(t.rank, "axes", few, many) for t in given)), None)

    return rule


def ranks(many: int, few: int = 0) -> Rule:
    """No tensor has more than `many` axes or fewer than `few`."""

    def rule(node):
        for tensor in (*node.given, *node.outputs):
            if not few <= tensor.rank <= many:
                taken = f"at most {many}" if tensor.rank > many else f"at least {few}"
                return f"a tensor of {tensor.rank} axes, {taken} are taken"

    return rule


def activation(*allowed: str) -> Rule:
    """The activation that is fused into it is one of some."""

    def rule(node):
        name = ACTIVATIONS[node.option("fusedActivationFunction", 0)]
        if name not in allowed:
            return f"a fused {name}"

    return rule


def unset(*names: str) -> Rule:
    """Options are 0."""

    def rule(node):
        for name in names:
            if node.option(name):
                return f"{name} is set"

    return rule


def has_bias(node: Node) -> str | None:
    """A convolution has a bias."""
    if node.input(2) is None:
        return "no bias"


def plain_beta(node: Node) -> str | None:
    """A softmax has no temperature."""
    beta = node.option("beta", 1)
    if beta != 1:
        return f"beta is {beta:g}, not 1"


def block(node: Node) -> str | None:
    """Blocks are larger than 1."""
    if node.option("blockSize", 2) <= 1:
        return "blocks of 1"


def static(node: Node) -> str | None:
    """No size is open."""
    if any(tensor.dynamic for tensor in (*node.given, *node.outputs)):
        return "a size that is open until run time"


def per_tensor(node: Node) -> str | None:
    """What is computed has one scale."""
    for tensor in (*node.computed, *node.outputs):
        if tensor.dtype in BYTES and len(tensor.scale) != 1:
            return "data without scale" if not tensor.scale else "data with a scale a channel"


def same_scale(node: Node) -> str | None:
    """What it reads first and what it gives have one scale and zero point, if in bytes."""
    read, made = node.given[0], node.outputs[0]
    if read.dtype in BYTES and (read.scale, read.zero) != (made.scale, made.zero):
        return "scales of input and output that differ"


def no_broadcast(node: Node) -> str | None:
    """Its two inputs have the same shape."""
    shapes = {tensor.shape for tensor in node.given}
    if len(shapes) > 1:
        return f"inputs of different shapes: {shown(*node.given)}"


def axes(node: Node) -> tuple[int, ...]:
    """Constant axes of a reduction, from 0 on; empty where they are not known."""
    tensor, of = node.input(1), node.given[0].rank
    if tensor is None or tensor.values is None or not of:
        return ()
    return tuple(axis % of for axis in tensor.values)


def spared(*allowed: int) -> Rule:
    """Reduces only some axes of an image (batch, height, width, channels)."""

    def rule(node):
        found = axes(node)
        wrong = [i for i in found if i + 4 - node.given[0].rank not in allowed]
        if wrong or not found:
            return f"reduces the axes {list(found)} of {shown(node.given[0])}"

    return rule


def pads(*allowed: int) -> Rule:
    """Pads only some axes, counted as those of an image."""

    def rule(node):
        margins = node.input(1)
        if margins is None or margins.values is None:
            return "margins must be constant"
        of = len(margins.values) // 2
        for i in range(of):
            if any(margins.values[2 * i : 2 * i + 2]) and i + 4 - of not in allowed:
                return f"pads axis {i} of {of}"

    return rule


def reflect(node: Node) -> str | None:
    """Mirrors without repeating the edge."""
    if node.option("mode", 0) != 0:
        return "repeats the edge; only the mode REFLECT is taken"


def both_corners(node: Node) -> str | None:
    """A resize is by corners or by half-pixel centers."""
    if node.option("alignCorners") and node.option("halfPixelCenters"):
        return "both alignCorners and halfPixelCenters"


def shown(*tensors: Tensor) -> str:
    """Shapes as 1x80x80x3."""
    return " and ".join("x".join(map(str, tensor.shape)) or "a scalar" for tensor in tensors)


def _outside(count, what, few, many):
    if not few <= count <= (many or few):
        return f"{count} {what}, not {few if many in (None, few) else f'{few} to {many}'}"


def _wrong_type(verb, tensors, dtypes):
    for tensor in tensors:
        if tensor.dtype not in dtypes:
            return f"{verb} {tensor.dtype.lower()}"
