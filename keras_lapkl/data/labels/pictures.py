"""Where the pictures are that labels name, and how large they are."""

import concurrent.futures
import os
import re
import urllib.parse
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from keras_lapkl._support.types import PathLike
from keras_lapkl.data.images import read_image
from keras_lapkl.data.keypoints import KeypointError

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:(?=/)|[A-Za-z]:")
"""Of a URL, or the drive of a Windows path."""
_LONGEST = 4096
"""Characters of a path."""


def find(names: Iterable[str], folders: Sequence[PathLike]) -> dict[str, Path | None]:
    """The file of each name, None for those that are not there.

    Labels come from other machines: of a path, a URL or a name with backslashes that is not below
    a folder as it is, its last parts are looked for, the longest first. None leads out of the
    folders by `..` or as an absolute path; links in them are followed.

    Args:
        names: as the labels have them.
        folders: where to look, the first first.

    Raises:
        KeypointError: two names lead to one file.

    Example:

    >>> find(["C:\\\\me\\\\photos\\\\a.png"], ["photos"])
    {'C:\\\\me\\\\photos\\\\a.png': PosixPath('photos/a.png')}
    """
    found = {name: _find(name, folders) for name in dict.fromkeys(names)}
    by_file: dict[Path, str] = {}
    for name, path in found.items():
        if path is not None and by_file.setdefault(path, name) != name:
            raise KeypointError(
                f"expected a picture for each name. Received {by_file[path]!r} and {name!r}, of "
                f"which only {path} is there. Name the folder of the pictures."
            )
    return found


def _find(name, folders):
    if len(name) > _LONGEST:
        return None
    for tail in _tails(name):
        for folder in folders:
            path = Path(os.path.normpath(Path(folder, tail)))
            try:
                if path.is_file():
                    return path
            except (OSError, ValueError):  # too long, or with a null character
                pass
    return None


def _tails(name):
    """`a/b/c.png`, `b/c.png`, `c.png`; also of the name without the escapes of a URL."""
    for each in dict.fromkeys((name, urllib.parse.unquote(name))):
        each = _SCHEME.sub("", each.replace("\\", "/"), count=1)
        before, _, query = each.partition("?")
        local = urllib.parse.parse_qs(query).get("d", [])  # Label Studio: /local-files/?d=a.png
        for text in (each, before, *local):
            parts = [part for part in text.split("/") if part not in ("", ".")]
            while ".." in parts:  # what stands before the last one is another folder's
                del parts[: parts.index("..") + 1]
            for start in range(len(parts)):
                yield "/".join(parts[start:])


def sizes(paths: Iterable[Path]) -> Mapping[Path, tuple[int, int] | str]:
    """Width and height of each upright picture, or why it can't be read."""
    paths = list(dict.fromkeys(paths))
    with concurrent.futures.ThreadPoolExecutor() as pool:
        return dict(zip(paths, pool.map(_size, paths), strict=True))


def _size(path):
    try:
        height, width = read_image(path).shape[:2]
    except (OSError, ValueError) as error:
        return str(error)
    return width, height
