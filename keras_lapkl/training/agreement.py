"""Whether all processes of a training train the same: they would go on together all the same."""

import contextlib
import hashlib
import json
import os
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keras_lapkl._support.reading import read_bytes
from keras_lapkl.data.origins import RUN
from keras_lapkl.training import distributed
from keras_lapkl.training.run_folder import LAST, PREVIOUS, Identity

PATIENCE = 30
"""Seconds in which all must see a file; network file systems remember what was not there."""
_MAX_BYTES = 2**26
_SHOWN = 60


def check_command(identity: Identity, command: str) -> None:
    """Refuses processes with other settings or data, in all of them.

    Args:
        identity: of the run in this process.
        command: what is done.

    Raises:
        ValueError: with each difference, and in which process it is what.
    """
    if distributed.join() is None:
        return
    if clause := differences(_told({"command": command, **_settings(identity)})):
        raise ValueError(
            f"The processes of this training were not given the same:\n{clause}\nGive all of them "
            "the same command and the same data."
        )


def check_folder(folder: Path) -> None:
    """Refuses processes that do not see the folder of the first one, in all of them.

    Raises:
        ValueError: with the file that one of them does not see.
    """
    if distributed.join() is None:
        return
    for _ in range(PATIENCE):
        told = _told({"folder": str(folder), "seen": seen(folder)})
        if not (clause := unlike_first(told)):
            return
        time.sleep(1)
    raise ValueError(
        f"{clause} Give all processes the same folder, on a file system that they share."
    )


def _told(mine):
    said = json.dumps(mine, default=str).encode()
    return [json.loads(each) for each in distributed.all_gather(said)]


def _settings(identity):
    data = identity.data
    order = {part: _digest(faces.values.tobytes()) for part, faces in data.labeled.items()}
    if data.unlabeled is not None:
        order["unlabeled"] = _digest(data.unlabeled.tobytes())
    return {
        **identity.settings,
        **{f"digest of {part}": total for part, total in data.totals().items()},
        **{f"order of the {part} faces": digest for part, digest in order.items()},
    }


def differences(told: Sequence[dict[str, Any]]) -> str:
    """What differs between processes, a line each; empty if nothing does.

    Args:
        told: plain data of each process, by name.

    Example:

    >>> differences([{"seed": 0}, {"seed": 5}, {"seed": 0}])
    '  seed: 0 in process 1, 3; 5 in process 2'
    """
    lines = []
    for name in sorted({name for each in told for name in each}):
        groups: dict[str, list[str]] = {}
        for number, each in enumerate(told, start=1):
            groups.setdefault(json.dumps(each.get(name), sort_keys=True), []).append(str(number))
        if len(groups) > 1:
            clauses = [f"{k[:_SHOWN]} in process {', '.join(v)}" for k, v in groups.items()]
            lines.append(f"  {name}: {'; '.join(clauses)}")
    return "\n".join(lines)


def seen(folder: Path) -> dict[str, str | None]:
    """Digests of the files by which a run goes on; None of one that is not there."""
    with contextlib.suppress(OSError):
        os.listdir(folder)  # after which a network file system looks anew for what was not there
    files = {name: _of_file(folder / name) for name in (RUN, "results.json")}
    return {**files, **{name: _of_checkpoint(folder / name) for name in (LAST, PREVIOUS)}}


def unlike_first(told: Sequence[dict[str, Any]]) -> str:
    """Which process sees what in place of a file of the first one; empty if all see the same.

    Args:
        told: `folder` and what is `seen` there, of each process.
    """
    first = told[0]
    for number, each in enumerate(told[1:], start=2):
        for name, digest in first["seen"].items():
            if each["seen"][name] == digest:
                continue
            here, there = Path(first["folder"]) / name, Path(each["folder"]) / name
            if each["seen"][name] is None:
                return f"Process {number} does not see {here} of the first one: no {there}."
            if digest is None:
                return f"Process {number} sees {there}, and the first one no {here}."
            return f"Process {number} sees another {there} than {here} of the first one."
    return ""


def _of_file(path):
    try:
        return _digest(read_bytes(path, _MAX_BYTES))
    except FileNotFoundError:
        return None


def _of_checkpoint(path):
    """By the check sums of its parts: it may be large."""
    try:
        with zipfile.ZipFile(path) as archive:
            parts = [(part.filename, part.CRC) for part in archive.infolist()]
    except FileNotFoundError:
        return None
    except (zipfile.BadZipFile, NotImplementedError):  # which is told where it is read
        return "damaged"
    return _digest(json.dumps(parts).encode())


def _digest(data):
    return hashlib.blake2b(data, digest_size=8).hexdigest()
