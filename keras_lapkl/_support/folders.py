"""Output folders: one owner at a time, nothing of others replaced, nothing of killed runs left."""

import contextlib
import itertools
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from keras_lapkl._support import locks, names
from keras_lapkl._support.files import (
    make_folder,
    naming,
    read_json,
    sweep,
    sync,
    temporary_folder,
    write_json,
)
from keras_lapkl._support.stores import AnyPath, StorePath
from keras_lapkl._support.types import PathLike
from keras_lapkl._support.workers import refuse_in_import

WRITTEN = "written.json"
"""What each command has written into a folder: all that it may replace there."""


class OtherDataError(ValueError):
    """A folder that holds results of the same settings on other data."""


class OtherSettingsError(ValueError):
    """A folder that holds results of other settings."""


def numbered(folder: PathLike) -> Iterator[Path]:
    """A folder, and those beside it to go on with: `run`, `run-2`, `run-3` and so on.

    Example:

    >>> [str(next(folders)) for folders in [numbered("runs/a")] for _ in range(3)]
    ['runs/a', 'runs/a-2', 'runs/a-3']
    """
    yield Path(folder)
    path = Path(folder)
    if path.name in ("", ".."):  # `.` or `..`
        path = Path(os.path.realpath(path))
    yield from (path.with_name(f"{path.name}-{n}") for n in itertools.count(2))


def first_fitting(
    folder: PathLike, check: Callable[[Path, str | None], str | None]
) -> tuple[Path, str | None]:
    """The first folder of `numbered` that fits, and why the given one does not, if it is another.

    Args:
        folder: the given one.
        check: from a folder, and why the given one does not fit (None for that one itself), to why
            this one does not, or None if it does. What it raises ends the search.

    Example:

    >>> first_fitting("runs/a", lambda path, _: "it is there" if path.exists() else None)
    (PosixPath('runs/a-2'), 'it is there')
    """
    given, folders = None, numbered(folder)
    while True:
        path = next(folders)
        reason = check(path, given)
        if reason is None:
            return path, given
        given = given or reason


@contextlib.contextmanager
def owned(folder: PathLike | StorePath, wait: bool = False, resume: bool = False) -> Iterator[Path]:
    """Makes a folder and holds it for this process alone; clears away what killed ones left.

    Args:
        folder: the folder; of a store, there is nothing to make, and no `wait`.
        wait, resume: as in `locks.owned`.

    Raises:
        OSError: another process holds it; the message says which, since when, and what to do.
        RuntimeError: this process only imports the script that has started it, to get work.
    """
    refuse_in_import()
    if isinstance(folder, StorePath):
        with locks.owned_in_store(folder, resume):
            sweep(tempfile.gettempdir(), below=False)
            yield folder  # pyright: ignore[reportReturnType]  what a Path is asked for
        return
    make_folder(folder)
    with locks.owned(folder, wait, resume):
        sweep(folder)
        yield Path(folder)


def claim(path: AnyPath, settings: dict[str, Any], what: str, outputs: Iterable[str] = ()) -> None:
    """Marks a folder as that of some settings, or refuses it if it is another's.

    Args:
        path: JSON file in the folder, which holds the settings of whoever came first, alone or as
            `settings` among other data.
        settings: dict of plain data; written if there is no file yet.
        what: what the folder then holds, for the message.
        outputs: globs of the files that will be written there: none may be there before `path` is.

    Raises:
        ValueError: with each setting that differs, as it is there and as it is now; or with the
            file that would be replaced.
    """
    if not path.exists():
        for found in foreign(path.parent, outputs):
            raise _foreign(found)
        write_json(path, settings)
        return
    compare(path, settings, what)


def foreign(folder: AnyPath, outputs: Iterable[str]) -> list[AnyPath]:
    """What is in a folder and would be replaced: the files that globs of outputs match."""
    return [found for output in outputs for found in folder.glob(output)]


def read_claim(path: PathLike | StorePath) -> dict[str, Any]:
    """The data in the file by which a folder was claimed.

    Raises:
        ValueError: the file is damaged, or none of lapkl's.
    """
    mend = "What the folder holds can't be told without it: name another folder, or delete this one"
    try:
        data = read_json(path)
    except ValueError as error:
        raise ValueError(f"{error}. {mend}.") from error
    if not isinstance(data, dict) or not isinstance(data.get("settings", data), dict):
        raise ValueError(f"{path} is not as lapkl writes it. {mend}.")
    return data


def compare(path: AnyPath, settings: dict[str, Any], what: str) -> Any:
    """The data in the file by which a folder was claimed, if it is of these settings.

    Args:
        path, settings, what: as in `claim`.

    Raises:
        OtherSettingsError: with each setting that differs, as it is there and as it is now.
        ValueError: as `read_claim`.
    """
    data = read_claim(path)
    held, ours = (each.get("settings", each) for each in (data, settings))
    lines = [
        f"  {key}: {held.get(key)!r} there, {ours.get(key)!r} now"
        for key in sorted({*held, *ours})
        if _given(held.get(key)) != _given(ours.get(key))
    ]
    if lines:
        raise OtherSettingsError(
            f"{path.parent} holds {what}; name another folder or delete it:\n" + "\n".join(lines)
        )
    return data


def _given(value):
    """A setting without the parts that are None: an earlier version may not have had these."""
    if isinstance(value, tuple):
        return list(value)  # as JSON gives it back
    if not isinstance(value, dict):
        return value
    return {key: _given(each) for key, each in value.items() if each is not None}


def announce(folder: PathLike, command: str, outputs: Iterable[tuple[str, str]]) -> None:
    """Notes in `WRITTEN` what a command is about to write, unless it would replace another's file.

    To be called before anything is written. A later run of the same command may replace what an
    earlier one has announced, whether or not that one came to its end.

    Args:
        folder: which is there, and `owned`.
        command: its name.
        outputs: names of files below the folder, with /, and what each is made of. `x.pts` stands
            for `x.face1.pts` and so on too, and `x/` for the files in that folder.

    Raises:
        ValueError: with the two that would be written to one file, the file that is there and
            was not announced by the command before, or the link that is there.
    """
    folder = Path(folder)
    outputs = list(outputs)
    own = [(name, name) for name in (WRITTEN, locks.LOCK)]
    names.check_distinct([*outputs, *own], fold_case=(folder / locks.LOCK.upper()).exists())
    record = folder / WRITTEN
    locks.refuse_link(record)
    noted = read_json(record) if record.exists() else {}
    ours = _ours(record, noted, command)
    for name, _ in outputs:
        if name in ours:
            locks.refuse_link(folder / name)
    new = {name for name, _ in outputs} - ours
    if not new:
        return
    taken = new | {above for name in new for above in names.folders_of(name)}
    for found in _files_below(folder):
        if not taken.isdisjoint(_announced_as(found)) and ours.isdisjoint(_announced_as(found)):
            raise _foreign(folder / found)
    write_json(record, {**noted, command: sorted(ours | new)})


@contextlib.contextmanager
def replacing_announced(folder: PathLike, command: str) -> Iterator[Path]:
    """Yields a folder whose files take the place of all that a command announced, at the end.

    Until then nothing is touched, and after an error in the block, such as a full disk, nothing at
    all. Then `results.json` goes, the others are replaced one by one, what is not new any more is
    removed, and the new `results.json` comes last: what it tells of is whole as long as it is
    there. Of what was announced the record keeps what is there in the end.

    Args:
        folder: as in `announce`, which was called.
        command: its name.

    Raises:
        ValueError: something in the folder was not announced.
    """
    folder = Path(folder)
    with naming(folder), temporary_folder(folder) as made:
        new = made / "new"
        new.mkdir()
        yield new
        names = {path.name for path in new.iterdir()}
        ours = announced(folder, command)
        if names - ours:
            raise ValueError(f"{command} has not announced {sorted(names - ours)}.")
        for name in names:
            sync(new / name)
        locks.check_owned(folder / WRITTEN)
        (folder / "results.json").unlink(missing_ok=True)
        for name in sorted(names - {"results.json"}):
            os.replace(new / name, folder / name)
        for name in ours - names:
            (folder / name).unlink(missing_ok=True)
        if "results.json" in names:
            os.replace(new / "results.json", folder / "results.json")
        sync(folder)
        record = folder / WRITTEN
        write_json(record, {**read_json(record), command: sorted(names)})


def announced(folder: PathLike, command: str) -> set[str]:
    """What a command has announced in a folder, by names below it.

    Raises:
        ValueError: the record is none of lapkl's, or names what is not below the folder.
    """
    record = Path(folder) / WRITTEN
    return _ours(record, read_json(record), command) if record.exists() else set()


def _ours(record, noted, command):
    found: Any = noted.get(command, []) if isinstance(noted, dict) else None
    right = isinstance(found, list) and all(isinstance(name, str) for name in found)
    # Whoever wrote it, nothing outside is ours, nor behind a link.
    if not right or not _are_below(os.path.realpath(record.parent), found):
        raise ValueError(f"{record} is not as lapkl writes it: name another folder.")
    return set(found)


def _are_below(home, names):
    folders = {os.path.join(home, os.path.dirname(name)).rstrip(os.sep) for name in names}
    own = f"{home.rstrip(os.sep)}{os.sep}"
    return all(f"{each}{os.sep}".startswith(own) for each in folders) and all(
        os.path.realpath(each) == os.path.normpath(each) and ".." not in each.split(os.sep)
        for each in folders
    )


def _files_below(folder):
    """Names of the files, and of links to folders, which lead out of this one."""
    for root, folders, files in os.walk(folder):
        below = Path(root).relative_to(folder)
        links = (name for name in folders if os.path.islink(os.path.join(root, name)))
        yield from ((below / name).as_posix() for name in (*files, *links))


def _announced_as(name):
    """The names under which a file may have been announced."""
    return {name, names.first_face(name), f"{name.rpartition('/')[0]}/"}


def _foreign(path):
    return ValueError(
        f"{path} is there already, and would be replaced: name another folder, or move it away."
    )
