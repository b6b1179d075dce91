"""A .tflite file as the objects of its schema, and this package's JSON in its metadata table."""

from typing import Any

from keras_lapkl._support import reading
from keras_lapkl._support.types import PathLike
from keras_lapkl.tflite import flatbuffer_checks, graph_checks
from keras_lapkl.tflite.schema import names as names, schema as schema

METADATA_NAME = b"keras_lapkl"
IDENTIFIER = b"TFL3"
MAX_BYTES = 2**28
"""Of a .tflite file; that of a shipped model has 2 ** 17."""


def read(path: PathLike) -> Any:
    """The `ModelT` in a file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no regular file, too large, not a TFLite file, or a damaged one.
    """
    return parse(read_bytes(path), path)


def read_bytes(path: PathLike) -> bytes:
    """All bytes of a .tflite file, which are not checked yet.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no regular file, or larger than `MAX_BYTES`.
    """
    try:
        return reading.read_bytes(path, MAX_BYTES)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise FileNotFoundError(f"There is no model at {path}.") from error


def parse(content: bytes, path: PathLike = "this file") -> Any:
    """The `ModelT` in the bytes of a file, which an interpreter can be given then.

    Args:
        content: the bytes.
        path: the file that they are from, for messages.

    Raises:
        ValueError: it is not a TFLite file, or a damaged one.
    """
    if content[4:8] != IDENTIFIER:
        raise ValueError(
            f"{path} is not a TFLite file: bytes 4 to 7 are not {IDENTIFIER.decode()}."
        )
    try:
        flatbuffer_checks.verify(content)
        model = schema().ModelT.InitFromPackedBuf(content, 0)
        graph_checks.check(model)
    except ValueError as error:
        raise ValueError(f"{path} is a damaged TFLite file: {error}.") from error
    return model


def read_metadata(model: Any) -> str | None:
    """This package's metadata in a `ModelT`, the text of JSON; None if it has none.

    Raises:
        ValueError: it is not UTF-8.
    """
    buffer = metadata_buffer(model)
    if buffer is None:
        return None
    return "" if buffer.data is None else bytes(bytearray(buffer.data)).decode()


def metadata_buffer(model: Any) -> Any:
    """The `BufferT` of this package's metadata in a `ModelT`; None if it has none."""
    for entry in model.metadata or ():
        if entry.name == METADATA_NAME:
            return model.buffers[entry.buffer]
    return None


def signature_shapes(model: Any) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors of a `ModelT`'s first signature by their names; {} without one."""
    if not model.signatureDefs:
        return {}
    signature = model.signatureDefs[0]
    tensors = model.subgraphs[signature.subgraphIndex].tensors
    named = [*(signature.inputs or ()), *(signature.outputs or ())]
    shapes = {each.name.decode(): tensors[each.tensorIndex].shape for each in named}
    return {name: () if shape is None else tuple(map(int, shape)) for name, shape in shapes.items()}


def builtin_code(model: Any, operator: Any) -> int:
    """Number of an operator's kind in the schema's `BuiltinOperator`."""
    code = model.operatorCodes[operator.opcodeIndex]
    # Old files have their code in the deprecated field only.
    return max(code.builtinCode, code.deprecatedBuiltinCode)
