"""TFLite's schema, as the code that LiteRT generates from it."""

from typing import Any


def schema() -> Any:
    """The module that LiteRT generates from TFLite's schema."""
    from ai_edge_litert import schema_py_generated

    return schema_py_generated


def names(enumeration: Any) -> dict[int, str]:
    """{number: name} of an enumeration class of the schema, such as `schema().TensorType`."""
    return {value: name for name, value in vars(enumeration).items() if name.isupper()}
