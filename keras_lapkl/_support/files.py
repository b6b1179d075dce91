"""Files written whole or not at all, and JSON."""

import contextlib
import json
import os
import pathlib
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from keras_lapkl._support.types import PathLike

_DAMAGED = (struct.error, zipfile.BadZipFile, zlib.error)


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


def read_arrays(path):
    """The arrays of an .npz file by name, all read; None if it can't be read, whatever is wrong."""
    try:
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as stored:
            return dict(stored)
    # Damage shows in many ways; TypeError: a single .npy array, which is no context manager.
    except (EOFError, KeyError, OSError, TypeError, ValueError, *_DAMAGED):
        return None


def claim(path, settings, what):
    """Marks a folder as that of some settings, or refuses it if it is another's.

    Args:
        path: JSON file in the folder, which holds the settings of whoever came first, alone or as
            `settings` among other data.
        settings: dict of plain data; written if there is no file yet.
        what: what the folder then holds, for the message.

    Raises:
        ValueError: with each setting that differs, as it is there and as it is now.
    """
    path = pathlib.Path(path)
    if not path.exists():
        write_json(path, settings)
        return
    held, ours = (each.get("settings", each) for each in (read_json(path), settings))
    lines = [
        f"  {key}: {held.get(key)!r} there, {ours.get(key)!r} now"
        for key in sorted({*held, *ours})
        if held.get(key) != ours.get(key)
    ]
    if lines:
        raise ValueError(
            f"{path.parent} holds {what}; name another folder or delete it:\n" + "\n".join(lines)
        )


def _plain(value):
    if isinstance(value, pathlib.PurePath):
        return str(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"Not plain data: {type(value)}")
