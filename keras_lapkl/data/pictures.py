"""Where the pictures lie that a file of labels names, whichever machine and program wrote it."""

import collections
import concurrent.futures
import contextlib
import os
import re
import unicodedata
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from absl import logging

from keras_lapkl._support.types import PathLike
from keras_lapkl.data.annotations import path_below
from keras_lapkl.data.images import read_image

_LONGEST = 4096
"""Characters of a path."""
_NUMBER = re.compile(r"(?<!\d)\d{1,6}(?=\D*$)")
"""The last one of a name, as cameras and tools count; longer ones are dates, times and ids."""
_SPLIT = re.compile(r"(train|val|valid|validation|test)(ing)?\d*", re.IGNORECASE)
"""Names of folders of one collection that somebody has split."""
_NEARLY_ALL = 0.9
_FOREIGN = {
    r"[A-Za-z][A-Za-z0-9+.-]+://": "a URL",
    r"[^/]*\\|[A-Za-z]:\\": "a path with backslashes, as Windows has them",
    r".*%[0-9A-Fa-f]{2}": "a percent-encoded name, as in URLs (%20 is a space)",
    r"/|[A-Za-z]:/": "an absolute path, maybe of another machine",
}


def find_pictures(
    names: Iterable[str], folders: Sequence[PathLike]
) -> dict[str, tuple[Path, str] | None]:
    """Looks for each picture, whether or not the others are there.

    A name is first taken as it is. If there is no such file, backslashes are separators, `%20` is a
    space, and of a URL, of an absolute path, and of folders that no other name is found in, the
    last parts are looked for, the longest first. At last, names may differ in upper and lower case;
    in a folder that another name is found in, their suffix alone. A warning tells of that. Pictures
    of several folders are not looked for in one if only numbers tell them apart, for each folder
    may count its own; those of `train`, `val` and `test` are. No name leads out of the folders by
    `..` or as an absolute path; links in them are followed.

    Args:
        names: as the labels have them.
        folders: where to look, the first first.

    Returns:
        dict from each name to its folder and its path below that; None where there is no such file,
        or that of two names is or may be the same.

    Example:

    >>> find_pictures(["C:\\\\photos\\\\a%20b.png"], ["."])
    {'C:\\\\photos\\\\a%20b.png': (PosixPath('.'), 'a b.png')}
    """
    names = list(dict.fromkeys(names))
    found = {name: _first_file((name,), folders) for name in names}
    spelled = _Spellings()
    known = {os.path.dirname(name) for name, place in found.items() if place is not None}
    guessed = {}
    for name in names:
        if found[name] is None:
            folder = os.path.dirname(name)
            is_known = bool(folder) and folder in known
            tails = [name] if is_known else list(_other_names(name))
            guess = _first_file(tails, folders) or spelled.first_file(tails, folders)
            if is_known and guess and Path(guess[1]).stem != Path(name).stem:
                guess = None
            guessed[name] = guess
    files = collections.Counter(
        os.path.normpath(Path(*place)) for place in (*found.values(), *guessed.values()) if place
    )
    taken = {
        name: place
        for name, place in guessed.items()
        if place is not None and files[os.path.normpath(Path(*place))] == 1
    }
    for refused, there in _numbered_alike(taken):
        logging.warning(
            "%d pictures of other folders, such as %r, would be in %s by their numbers alone, and "
            "are not taken. Put those of each folder into a folder of its name.",
            len(refused),
            refused[0],
            there,
        )
        for name in refused:
            del taken[name]
    found |= taken
    if taken:
        name, place = next(iter(taken.items()))
        logging.warning(
            "%d of %d pictures are not where the labels say, and were found by a similar name: %r "
            "is %s",
            len(taken),
            len(names),
            name,
            os.path.join(*place),
        )
    return found


def expected_places(
    found: Mapping[str, tuple[Path, str] | None], folders: Sequence[PathLike]
) -> dict[str, Path]:
    """The path of each picture; of a missing one, where most others lie, and where no file is.

    Args:
        found: by `find_pictures`, in the same folders.

    Raises:
        ValueError: a missing one that is named outside of the folders, where no other is found by
            a similar name.
    """
    counts = collections.Counter(place[0] for place in found.values() if place is not None)
    home = counts.most_common(1)[0][0] if counts else Path(folders[0])
    moved = any(place is not None and place[1] != name for name, place in found.items())

    def expected(name):
        try:
            return path_below(home, name)
        except ValueError:
            if not moved:
                raise
            return _free_place(home, name)

    return {n: expected(n) if place is None else Path(*place) for n, place in found.items()}


def _free_place(home, name):
    """The end of a name below a folder, as short as no file is there: it would be another's."""
    parts = [part for part in re.split(r"[/\\]", name) if part not in ("", ".", "..")]
    ends = (home.joinpath(*parts[-count:]) for count in range(1, len(parts) + 1))
    return next((each for each in ends if not each.exists()), home.joinpath("missing", *parts))


def cause(name: str) -> str:
    """What is unusual in the name of a picture that is not there, as part of a sentence, or `""`.

    Example:

    >>> cause("images\\\\a.png")
    'a path with backslashes, as Windows has them'
    """
    return next((what for form, what in _FOREIGN.items() if re.match(form, name)), "")


def sizes(paths: Iterable[Path]) -> dict[Path, tuple[int, int] | str]:
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


def _first_file(tails: Iterable[str], folders) -> tuple[Path, str] | None:
    for tail in tails:
        for folder in folders:
            try:
                if os.path.isfile(path_below(folder, tail)):
                    return Path(folder), tail
            except ValueError:  # outside, or with a null character
                pass
    return None


def _numbered_alike(taken) -> Iterator[tuple[list[str], Path]]:
    """Names of several folders that would be in one, and differ by numbers alone; and that folder.

    Each camera counts from 0: what has that number there may be a picture of another one. Where
    nearly all are of one folder, those are right, and the others are not.
    """
    series = collections.defaultdict(lambda: collections.defaultdict(list))
    for name, (home, below) in taken.items():
        place = Path(home, below)
        form = _NUMBER.sub("#", place.stem.casefold())
        series[place.parent, form][_folder_of(name)].append(name)
    for (there, _), folders in series.items():
        most, *others = sorted(folders.values(), key=len, reverse=True)
        refused = [name for names in others for name in names]
        if len(most) < _NEARLY_ALL * (len(most) + len(refused)):
            refused = most + refused
        if refused:
            yield refused, there


def _folder_of(name):
    """The last folder of a name, empty for that of a split."""
    before, _, query = name.partition("?")
    path = urllib.parse.unquote(urllib.parse.parse_qs(query).get("d", [before])[0])
    folder = path.replace("\\", "/").rpartition("/")[0].rpartition("/")[2].casefold()
    return "" if _SPLIT.fullmatch(folder) else folder


class _Spellings:
    """Finds files whose names differ in upper and lower case; reads each folder once."""

    def __init__(self):
        self._entries = {}

    def first_file(self, tails, folders):
        """As `_first_file`, where there is but one such name in each folder on the way."""
        ways = ((tail, folder) for tail in tails for folder in folders)
        spelled = ((folder, self._spelled(folder, tail)) for tail, folder in ways)
        return next((_first_file((tail,), [folder]) for folder, tail in spelled if tail), None)

    def _spelled(self, folder, tail):
        """The name below a folder of the file that is meant; None if there is none."""
        found = []
        for part in tail.split("/"):
            entries = self._of(os.path.join(folder, *found)).get(part.casefold(), [])
            if part not in entries and len(entries) != 1:
                return None
            found.append(part if part in entries else entries[0])
        tail = "/".join(found)
        return tail if os.path.isfile(os.path.join(folder, tail)) else None

    def _of(self, folder):
        """{name without case: names as they are} in a folder."""
        if folder not in self._entries:
            names = collections.defaultdict(list)
            with contextlib.suppress(OSError, ValueError):
                for name in os.listdir(folder):
                    names[name.casefold()].append(name)
            self._entries[folder] = names
        return self._entries[folder]


def _other_names(name: str) -> Iterator[str]:
    """`a/b/c.png`, `b/c.png`, `c.png`; also of the name without the escapes of a URL."""
    if len(name) > _LONGEST:
        return
    forms = [name.replace("\\", "/")]
    # macOS decomposes accents in the names of files: they look alike, and are others.
    forms += [unicodedata.normalize(form, forms[0]) for form in ("NFC", "NFD")]
    if "%" in name:
        forms.append(urllib.parse.unquote(forms[0]))
    if "?" in name:
        before, _, query = name.partition("?")
        # Label Studio has /data/local-files/?d=a.png
        forms += [urllib.parse.unquote(before), *urllib.parse.parse_qs(query).get("d", [])]
    # Of a URL, what was percent-encoded may be a path of Windows.
    for form in dict.fromkeys(form.replace("\\", "/") for form in forms):
        parts = [part for part in form.split("/") if part not in ("", ".")]
        while ".." in parts:  # what stands before the last one is another folder's
            del parts[: parts.index("..") + 1]
        yield from ("/".join(parts[start:]) for start in range(len(parts)))
