"""A .tflite file as the objects of its schema, and this package's JSON in its metadata table."""

import pathlib
import struct
from typing import Any

from keras_lapkl._support.types import PathLike

METADATA_NAME = "keras_lapkl"
IDENTIFIER = b"TFL3"


def schema() -> Any:
    """The module that LiteRT generates from TFLite's schema."""
    from ai_edge_litert import schema_py_generated

    return schema_py_generated


def read(path: PathLike) -> Any:
    """The `ModelT` in a file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a TFLite file, or a damaged one.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no model at {path}.")
    content = path.read_bytes()
    if content[4:8] != IDENTIFIER:
        raise ValueError(
            f"{path} is not a TFLite file: bytes 4 to 7 are not {IDENTIFIER.decode()}."
        )
    try:
        return parse(content)
    except (struct.error, IndexError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is a damaged TFLite file: {error}") from error


def parse(content: bytes) -> Any:
    """The `ModelT` in the bytes of a file."""
    return schema().ModelT.InitFromPackedBuf(content, 0)


def read_metadata(model: Any) -> str | None:
    """This package's metadata in a `ModelT`, the text of JSON; None if it has none."""
    for entry in model.metadata or ():
        if _text(entry.name) == METADATA_NAME:
            data = model.buffers[entry.buffer].data
            return bytes(bytearray(data)).decode()
    return None


def builtin_code(model: Any, operator: Any) -> int:
    """Number of an operator's kind in the schema's `BuiltinOperator`."""
    code = model.operatorCodes[operator.opcodeIndex]
    # Old files have their code in the deprecated field only.
    return max(code.builtinCode, code.deprecatedBuiltinCode)


def names(enumeration: Any) -> dict[int, str]:
    """{number: name} of an enumeration class of the schema, such as `schema().TensorType`."""
    return {value: name for name, value in vars(enumeration).items() if name.isupper()}


def _text(value):
    return value.decode() if isinstance(value, bytes) else value
