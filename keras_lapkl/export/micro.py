"""An int8 file cut for microcontrollers: int8 from the image to the logits of the two axes."""

import copy
import dataclasses
import itertools

from keras_lapkl._support.types import PathLike
from keras_lapkl.export import flatbuffer_writer
from keras_lapkl.tflite import flatbuffer, metadata, runner
from keras_lapkl.tflite.schema import names, schema

PARTS = 4
"""Into how many parts the maps are cut by channels. All maps at once are the largest tensor of a
network; a quarter of them fits where the blocks before them have been."""
_ZERO = runner.BYTES["int8"]


def for_micro(content: bytes, path: PathLike = "this file") -> bytes:
    """The bytes of a file for microcontrollers, from those of an int8 file of `lapkl convert`.

    It keeps the int8 network, number for number, takes an int8 image, and gives in int8 `columns`
    (1, 1, S/2, K) and `rows` (1, S/2, 1, K): the largest logit of each column and row. The rest,
    linear interpolation to twice the length, a softmax, its mean and its spread, is the
    program's. The maps are made one part after the other, so that they are never in memory all at
    once, and the names of tensors, which no interpreter reads, are left out. A refinement by the
    whole shape is left out, too: the landmarks are those before it.

    Args:
        content: the bytes.
        path: the file that they are from, for messages.

    Raises:
        ValueError: not an int8 file of a MobileFPN with its decoding, or a stage stayed in float.

    Example:

    >>> content = for_micro(pathlib.Path("model-int8.tflite").read_bytes())
    >>> flatbuffer.signature_shapes(flatbuffer.parse(content))
    {'image': (1, 80, 80, 3), 'columns': (1, 1, 40, 68), 'rows': (1, 40, 1, 68)}
    """
    model = flatbuffer.parse(content, path)
    about = metadata.read(model, path)
    graph = model.subgraphs[0]
    try:
        if about is None or _signed(model) != ([runner.INPUT], [*runner.OUTPUTS]):
            raise ValueError(f"it does not give {runner.OUTPUTS} alone, or lacks metadata.")
        if about.float_layers:
            raise ValueError(
                f"{', '.join(about.float_layers)} stayed in float. Bounds that int8 alone keeps, "
                "such as --mean_bound=0.2, give a file in int8 throughout."
            )
        image = _int8_image(model)
        maps, pools = _maps(model)
        writer = _writer(model, maps)
        graph.operators = _before(graph, writer, image)
        outputs = _make_in_parts(model, writer, pools)
    except ValueError as error:
        raise ValueError(
            f"{path} can't be cut for a microcontroller: {error} Expected an int8 file of a "
            "MobileFPN, by `lapkl convert --mode=int8`."
        ) from error
    graph.inputs, graph.outputs = [image], list(outputs.values())
    _sign(model, image, outputs)
    taken = {**about.input, "dtype": "int8", "range": [_ZERO, _ZERO + 255]}
    # Measured was another file, and the refinement would come after the end of this one.
    about = dataclasses.replace(about, input=taken, measured=None, refined=False)
    flatbuffer_writer.add_metadata(model, about)
    _drop_unread(model)
    return flatbuffer_writer.pack(model)


def _signed(model):
    """Names of what the one signature takes and gives, sorted; empty where there is another."""
    if len(model.signatureDefs or ()) != 1:
        return [], []
    (signature,) = model.signatureDefs
    sides = (signature.inputs, signature.outputs)
    return tuple(sorted(entry.name.decode() for entry in side or ()) for side in sides)


def _steps(tensor):
    """Scales and zero points of an int8 tensor; none of another."""
    how = tensor.quantization
    if tensor.type != schema().TensorType.INT8 or how is None or how.scale is None:
        return [], []
    return list(how.scale), [] if how.zeroPoint is None else list(how.zeroPoint)


def _int8_image(model):
    """The int8 tensor that the image becomes, in steps of 1/255 from -128."""
    graph = model.subgraphs[0]
    readers = [op for op in graph.operators if graph.inputs[0] in op.inputs]
    for reader in readers:
        tensor = graph.tensors[reader.outputs[0]]
        if _kind(model, reader) == "QUANTIZE" and len(readers) == 1:
            steps, zeros = _steps(tensor)
            if zeros == [_ZERO] and len(steps) == 1 and abs(255 * steps[0] - 1) < 1e-4:
                return reader.outputs[0]
    raise ValueError("its image is not brought to int8 in steps of 1/255 by one QUANTIZE.")


def _maps(model):
    """The tensor of the maps, and the two poolings that read it, of columns and of rows."""
    graph = model.subgraphs[0]
    pools = [op for op in graph.operators if _kind(model, op) == "MAX_POOL_2D"]
    read = {int(op.inputs[0]) for op in pools}
    shapes = [list(graph.tensors[op.outputs[0]].shape) for op in pools]
    size = int(graph.tensors[graph.inputs[0]].shape[1]) // 2
    wanted = [[1, 1, size], [1, size, 1]]
    if len(read) != 1 or [each[:3] for each in shapes] != wanted:
        raise ValueError("it has no maxima of columns and of rows of one tensor of maps.")
    (maps,) = read
    pooled = [graph.tensors[op.outputs[0]] for op in pools]
    if any(len(each) != 1 for t in (graph.tensors[maps], *pooled) for each in _steps(t)):
        raise ValueError("its maps are not in int8.")
    return maps, dict(zip(runner.AXES, pools, strict=True))


def _writer(model, maps):
    """The convolution that gives the maps, by int8 weights with a step for each."""
    graph = model.subgraphs[0]
    for op in graph.operators:
        if maps in op.outputs and _kind(model, op) == "CONV_2D" and len(op.inputs) == 3:
            constants = [graph.tensors[i] for i in op.inputs[1:] if i >= 0]
            count = int(graph.tensors[maps].shape[-1])
            if (
                len(constants) == 2
                and all(int(tensor.shape[0]) == count for tensor in constants)
                and all(_bytes(model, tensor) for tensor in constants)
                and all(_per_channel(tensor, count) for tensor in constants)
            ):
                return op
    raise ValueError("its maps are not given by a convolution with a step for each of them.")


def _per_channel(tensor, count):
    how = tensor.quantization
    both = () if how is None else (how.scale, how.zeroPoint)
    return [len(each) for each in both if each is not None] == [count, count]


def _bytes(model, tensor):
    """The bytes of a constant; none of another tensor."""
    data = model.buffers[tensor.buffer].data
    return b"" if data is None else bytes(bytearray(data))


def _before(graph, last, image):
    """The operators that an operator needs before it, in order, from an image on."""
    needed, kept = set(map(int, last.inputs)), []
    for op in reversed(graph.operators):
        if needed & set(map(int, op.outputs)) and image not in op.outputs:
            needed |= set(map(int, op.inputs))
            kept.insert(0, op)
    return kept


def _make_in_parts(model, writer, pools):
    """Adds to the graph, instead of the maps' convolution, one for each part; {output: tensor}."""
    graph = model.subgraphs[0]
    read, *constants = writer.inputs
    count = int(graph.tensors[writer.outputs[0]].shape[-1])
    edges = [count * i // PARTS for i in range(PARTS + 1)]
    pooled = {name: [] for name in pools}
    for start, end in itertools.pairwise(edges):
        if start == end:
            continue
        part = copy.copy(writer)
        part.inputs = [read, *(_constant(model, i, start, end) for i in constants)]
        part.outputs = [_result(graph, writer.outputs[0], end - start)]
        graph.operators.append(part)
        for name, pool in pools.items():
            each = copy.copy(pool)
            each.inputs = part.outputs
            each.outputs = [_result(graph, pool.outputs[0], end - start)]
            graph.operators.append(each)
            pooled[name] += each.outputs
    outputs = {}
    for name, parts in pooled.items():
        joined = schema().OperatorT()
        joined.opcodeIndex = _concatenation(model)
        joined.builtinOptionsType = schema().BuiltinOptions.ConcatenationOptions
        joined.builtinOptions = schema().ConcatenationOptionsT()
        joined.builtinOptions.axis = 3
        joined.inputs, joined.outputs = parts, [pools[name].outputs[0]]
        graph.operators.append(joined)
        outputs[name] = int(joined.outputs[0])
    return outputs


def _constant(model, index, start, end):
    """A tensor of some output channels, the first axis, of a constant."""
    graph = model.subgraphs[0]
    whole = graph.tensors[index]
    part = copy.copy(whole)
    part.shape = [end - start, *whole.shape[1:]]
    part.quantization = copy.copy(whole.quantization)
    part.quantization.scale = whole.quantization.scale[start:end]
    part.quantization.zeroPoint = whole.quantization.zeroPoint[start:end]
    content = _bytes(model, whole)
    stride = len(content) // int(whole.shape[0])
    buffer = schema().BufferT()
    buffer.data = content[start * stride : end * stride]
    part.buffer = len(model.buffers)
    model.buffers.append(buffer)
    graph.tensors.append(part)
    return len(graph.tensors) - 1


def _result(graph, index, channels):
    """A tensor as another, of some channels."""
    part = copy.copy(graph.tensors[index])
    part.shape = [*part.shape[:-1], channels]
    graph.tensors.append(part)
    return len(graph.tensors) - 1


def _concatenation(model):
    """Index of the code of CONCATENATION, which is added where it is missing."""
    builtin = schema().BuiltinOperator.CONCATENATION
    for index, code in enumerate(model.operatorCodes):
        if code.builtinCode == builtin and code.version == 2:
            return index
    code = schema().OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = builtin
    code.version = 2  # the first that takes int8
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1


def _sign(model, image, outputs):
    """Gives the signature the new tensors."""
    (signature,) = model.signatureDefs
    signature.inputs[0].tensorIndex = image
    signature.outputs = []
    for name, index in outputs.items():
        entry = schema().TensorMapT()
        entry.name, entry.tensorIndex = name, index
        signature.outputs.append(entry)


def _drop_unread(model):
    """Drops tensors, constants and codes that nothing reads, and names."""
    graph = model.subgraphs[0]
    used = _kept(graph.inputs, graph.outputs, *(o.inputs for o in graph.operators))
    used = _kept(used, *(o.outputs for o in graph.operators))
    places = {index: place for place, index in enumerate(used)}
    graph.tensors = [graph.tensors[index] for index in used]
    for op in graph.operators:
        op.inputs = [places[int(i)] if i >= 0 else -1 for i in op.inputs]
        op.outputs = [places[int(i)] for i in op.outputs]
    graph.inputs = [places[int(i)] for i in graph.inputs]
    graph.outputs = [places[int(i)] for i in graph.outputs]
    (signature,) = model.signatureDefs
    for entry in (*signature.inputs, *signature.outputs):
        entry.tensorIndex = places[int(entry.tensorIndex)]
        graph.tensors[entry.tensorIndex].name = entry.name
    for index, tensor in enumerate(graph.tensors):
        if index not in (*graph.inputs, *graph.outputs):
            tensor.name = ""  # checked for, read by none
    codes = _kept([op.opcodeIndex for op in graph.operators])
    for op in graph.operators:
        op.opcodeIndex = codes.index(op.opcodeIndex)
    model.operatorCodes = [model.operatorCodes[index] for index in codes]
    model.metadata = [m for m in model.metadata if m.name == flatbuffer.METADATA_NAME]
    model.metadataBuffer = None
    buffers = _kept([0], [t.buffer for t in graph.tensors], [m.buffer for m in model.metadata])
    for owner in (*graph.tensors, *model.metadata):
        owner.buffer = buffers.index(owner.buffer)
    model.buffers = [model.buffers[index] for index in buffers]


def _kept(*indices):
    """Those that occur, in order; -1 stands for none."""
    return sorted({int(i) for each in indices for i in each if i >= 0})


def _kind(model, operator):
    return names(schema().BuiltinOperator)[flatbuffer.builtin_code(model, operator)]
