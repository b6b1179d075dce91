"""Files written whole or not at all, and JSON."""

import contextlib
import json
import os
import pathlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from keras_lapkl._support.types import PathLike


@contextlib.contextmanager
def replacing(path: PathLike) -> Iterator[Path]:
    """Yields a temporary path beside `path`, renamed to it at the end, removed on an error.

    The temporary name keeps the suffix, by which writers choose a format.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.stem}.") as folder:
        temporary = pathlib.Path(folder) / path.name
        yield temporary
        os.replace(temporary, path)


def write_json(path: PathLike, data: Any) -> None:
    """Writes plain data as indented JSON, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(data, indent=2, default=_plain) + "\n", encoding="utf-8")


def read_json(path: PathLike) -> Any:
    """The data in a JSON file; ValueError with the path if it holds none."""
    try:
        return json.loads(pathlib.Path(path).read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:  # bytes, text, huge numbers, deep nesting
        raise ValueError(f"{path} is not valid JSON: {error}") from error


def _plain(value):
    if isinstance(value, pathlib.PurePath):
        return str(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"Not plain data: {type(value)}")
