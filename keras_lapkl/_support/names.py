"""Names of outputs from names of inputs: below one folder, each different, none too long."""

import collections
import hashlib
import os
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from keras_lapkl._support.csv_names import is_utf8
from keras_lapkl._support.types import PathLike

_LONGEST = 220
"""Bytes of a stem, of the 255 that a name may have: `.face1000000.pts` must go behind it."""
_FURTHER = re.compile(r"\.face[1-9][0-9]*$")


def names_below(paths: Iterable[PathLike], folder: PathLike | None = None) -> tuple[str, ...]:
    """Paths from a folder on, with /; from the one common to all where one is not below it.

    `..` is taken out of them, and links are not followed: none leads out of the folder.

    Example:

    >>> names_below(["300w/helen/testset/1.jpg", "300w/ibug/2.jpg"], "300w")
    ('helen/testset/1.jpg', 'ibug/2.jpg')
    """
    paths = [Path(os.path.abspath(path)) for path in paths]
    base = None if folder is None else Path(os.path.abspath(folder))
    if base is None or not all(path.is_relative_to(base) for path in paths):
        base = os.path.commonpath([path.parent for path in paths])
    return tuple(path.relative_to(base).as_posix() for path in paths)


def natural_key(name: str) -> tuple[list[tuple[int, str]], str]:
    """A key by which `img2` is before `img10`.

    Example:

    >>> sorted(["img10", "img2"], key=natural_key)
    ['img2', 'img10']
    """
    parts = enumerate(re.split(r"([0-9]+)", name))
    return [(int(part), "") if i % 2 else (-1, part) for i, part in parts], name


def output_stems(names: Iterable[str], folders: Iterable[str] = ()) -> dict[str, str]:
    """What the files made of each file are named by: its name without the suffix.

    Its whole name where files made of another one would have that name too: `photo.png` beside
    `photo.jpg`, `x.face1.jpg` beside `x.jpg`, a video beside the folder of its frames, and what
    differs only by upper case. A name so long that a suffix would not fit is cut, and ends in `~`
    and the beginning of its SHA-256.

    Args:
        names: of the files, from `names_below`.
        folders: those among them of which a folder of files is made, such as videos.

    Example:

    >>> output_stems(["a.jpg", "b.jpg", "b.png"])
    {'a.jpg': 'a', 'b.jpg': 'b.jpg', 'b.png': 'b.png'}
    """
    short = {name: os.path.splitext(name)[0] for name in names}
    taken = collections.Counter(map(_alike, (*short, *short.values())))
    inside = {_alike(above) for name in short for above in folders_of(name)}
    folders = set(folders)

    def is_free(name, stem):
        first = first_stem(stem)
        return (
            taken[stem] == 1
            and (first == stem or first not in taken)
            and (stem if name in folders else f"{stem}.pts") not in inside
        )

    chosen = ((name, stem if is_free(name, _alike(stem)) else name) for name, stem in short.items())
    return {name: shortened(stem) for name, stem in chosen}


def check_distinct(outputs: Iterable[tuple[str, str]], fold_case: bool = False) -> None:
    """Refuses outputs of which one would replace another, or be its folder.

    Args:
        outputs: name and source of each; a folder of files ends in /.
        fold_case: whether the file system takes `A` and `a` for one.

    Raises:
        ValueError: with both sources.
    """
    outputs = [(_alike(name) if fold_case else name, source) for name, source in outputs]
    made = {}
    for name, source in outputs:
        if made.setdefault(name, source) != source:
            raise _same(made[name], source, name)
    for name, source in outputs:
        for above in folders_of(name):
            for other in (above, f"{above}/"):
                if made.get(other, source) != source:
                    raise _same(made[other], source, above)


def _same(one, other, name):
    return ValueError(
        f"{one!r} and {other!r} would both be written to {name!r}: rename one of them, or give "
        "them in two runs."
    )


def first_face(name: str) -> str:
    """`x.pts` of `x.face1.pts` and so on, which are written beside it; others as they are."""
    stem, suffix = os.path.splitext(name)
    return first_stem(stem) + suffix if suffix == ".pts" else name


def first_stem(stem: str) -> str:
    """`x` of `x.face1`, `x.face2` and so on; others as they are.

    Example:

    >>> first_stem("trip/a.face12"), first_stem("trip/a")
    ('trip/a', 'trip/a')
    """
    return _FURTHER.sub("", stem)


def folders_of(name: str) -> tuple[str, ...]:
    """The folders in a name.

    Example:

    >>> folders_of("a/b/c.jpg")
    ('a', 'a/b')
    """
    parts = name.split("/")[:-1]
    return tuple("/".join(parts[: i + 1]) for i in range(len(parts)))


def shortened(stem: str) -> str:
    """A path without suffix, its last part cut to where a suffix fits; see `output_stems`."""
    folder, slash, last = stem.rpartition("/")
    data = os.fsencode(last)
    if len(data) <= _LONGEST:
        return stem
    digest = hashlib.sha256(data).hexdigest()[:12]
    kept = data[: _LONGEST - 1 - len(digest)]
    if is_utf8(last):  # not within a character
        kept = kept.decode("utf-8", "ignore").encode()
    return f"{folder}{slash}{os.fsdecode(kept)}~{digest}"


def _alike(name):
    """The same for names that some file systems take for one."""
    return unicodedata.normalize("NFC", name).casefold()
