"""What a run of `predict_files` has finished, kept while it runs: the same call goes on from it."""

import collections
import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from keras_lapkl._support import locks
from keras_lapkl._support.files import make_folder, naming, read_json, sync, write_json

FOLDER = "predict.unfinished"
_STATE = "state.json"
_PAUSE = 10.0
"""Seconds of work that a kill may cost."""


@dataclasses.dataclass
class Tally:
    """What came of the files so far.

    Attributes:
        done: how many files.
        size: bytes of the table or JSON text.
        counts, frames, faces_left_out: as in `results.json`.
        skipped: (file, part, reason) each.
    """

    done: int = 0
    size: int = 0
    counts: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    frames: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    faces_left_out: collections.Counter[str] = dataclasses.field(
        default_factory=collections.Counter
    )
    skipped: list[Any] = dataclasses.field(default_factory=list)


class Record:
    """Keeps a `Tally`, and the text written so far, in a folder below the output's.

    Args:
        output_dir: of the run, which is owned.
        settings: plain data, all that decides what is written; None if that is not known, and
            nothing can be gone on from.
    """

    def __init__(self, output_dir: Path, settings: Mapping[str, Any] | None) -> None:
        self._folder = output_dir / FOLDER
        self._settings = None
        if settings is not None:
            self._settings = json.dumps(settings, sort_keys=True, default=str)
        self._text: TextIO | None = None
        self._written = time.monotonic()
        self.tally = self._read() or Tally()
        if not self.tally.done:
            self.remove()

    def _read(self):
        try:
            state = read_json(self._folder / _STATE)
            if self._settings is None or state["digest"] != self._digest(state["tally"]):
                return None
            tally = Tally(**state["tally"])
            for name in ("counts", "frames", "faces_left_out"):
                setattr(tally, name, collections.Counter(getattr(tally, name)))
            texts = [path for path in self._folder.iterdir() if path.name != _STATE]
            held = sum(path.stat().st_size for path in texts if path.is_file())
            return tally if held >= tally.size else None
        except (AttributeError, KeyError, OSError, TypeError, ValueError):  # none, or damaged
            return None

    @contextlib.contextmanager
    def text(self, path: Path) -> Iterator[TextIO]:
        """Yields an open file to go on with; it is renamed to `path` at the end, and kept before.

        Raises:
            OSError: with `path`, what could not be written.
            ValueError: a link leads out of the folder.
        """
        temporary = self._folder / path.name
        locks.check_owned(temporary)
        with naming(path), self._kept_on_errors():
            make_folder(self._folder)
            with temporary.open("a", newline="", encoding="utf-8") as file:
                file.truncate(self.tally.size)
                file.seek(0, os.SEEK_END)
                self._text = file
                yield file
            self._text = None
            sync(temporary)
            os.replace(temporary, path)
            sync(path.parent)

    @contextlib.contextmanager
    def _kept_on_errors(self):
        """Leaves nothing of a run that has kept nothing to go on from."""
        try:
            yield
        except BaseException:
            if not (self._folder / _STATE).exists():
                self.remove()
            raise

    def keep(self) -> None:
        """Writes the tally, if it is time; all files up to its `done` are written."""
        if self._settings is None or time.monotonic() - self._written < _PAUSE:
            return
        make_folder(self._folder)
        if self._text is not None:
            self._text.flush()
            os.fsync(self._text.fileno())
            self.tally.size = os.fstat(self._text.fileno()).st_size
        tally = vars(self.tally)
        write_json(self._folder / _STATE, {"digest": self._digest(tally), "tally": tally})
        self._written = time.monotonic()

    def _digest(self, tally):
        """Of settings and tally together: of neither is another taken for what was written."""
        text = json.dumps([self._settings, tally], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def remove(self) -> None:
        """Forgets all, when the run is finished."""
        shutil.rmtree(self._folder, ignore_errors=True)


def listing(files: Iterable[Path]) -> str:
    """A digest of the names, sizes and times of files."""
    digest = hashlib.sha256()
    for file in files:
        try:
            state = file.stat()
            of_file = [os.fspath(file.absolute()), state.st_size, state.st_mtime_ns]
        except OSError as error:
            of_file = [os.fspath(file.absolute()), error.errno]
        digest.update(json.dumps(of_file).encode())
    return digest.hexdigest()
