"""Gives thousands of broken inputs to a reader, in a process that may crash or hang.

Each module `test_*.py` of this folder holds `ATTACKS`. Its tests make a few seconds of tries;
`make fuzz` makes them for minutes. A try is a function of the attack's name and a number: one that
failed is made again by `python tests/fuzz/harness.py tests/fuzz/test_x.py "the name" 1234`.
"""

import contextlib
import dataclasses
import importlib.util
import json
import os
import pathlib
import random
import resource
import select
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable

GIGABYTE = 1 << 30
MOST_FAULTS = 5
"""After that many, an attack has shown enough."""


@dataclasses.dataclass(frozen=True)
class Attack:
    """A way to break a reader.

    Attributes:
        name: what is attacked, and how.
        attempt: called with a `random.Random` and an empty folder; makes an input and reads it. It
            returns where the input was read, raises one of `refusals` where it was refused, and
            raises AssertionError where what was read is wrong.
        refusals: the documented errors.
        tries: how many the test makes.
        limit_s: seconds that one try may take on a busy machine.
        memory: bytes of address space that the process may have; None for no bound.
    """

    name: str
    attempt: Callable[[random.Random, pathlib.Path], object]
    refusals: tuple[type[Exception], ...] = (ValueError, OSError)
    tries: int = 200
    limit_s: float = 20.0
    memory: int | None = 16 * GIGABYTE


@dataclasses.dataclass
class Figures:
    """What came of the tries of an attack; `faults` says what is wrong, and by which try."""

    name: str
    tries: int = 0
    read: int = 0
    refused: int = 0
    crashes: int = 0
    hangs: int = 0
    tracebacks: int = 0
    slowest_s: float = 0.0
    faults: list[str] = dataclasses.field(default_factory=list)


def run(path, attack, seconds=None):
    """Makes the tries of an attack, in one process after the other.

    Args:
        path: the module that the attack is in.
        attack: an `Attack`.
        seconds: how long; None for `attack.tries` tries.
    """
    figures = Figures(attack.name)
    end = None if seconds is None else time.monotonic() + seconds
    while len(figures.faults) < MOST_FAULTS:
        left = None if end is None else end - time.monotonic()
        done = figures.tries >= attack.tries if left is None else left <= 0
        if done:
            break
        last = "" if left is not None else attack.tries
        with tempfile.TemporaryDirectory() as folder:
            _watch(path, attack, figures, last, end, pathlib.Path(folder))
    return figures


def _watch(path, attack, figures, last, end, folder):
    """Starts the tries from the next on, until all are made or one ends the process."""
    errors = folder / "stderr"
    with errors.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-X", "faulthandler", __file__, path, attack.name]
            + [str(figures.tries), str(last), str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
        )
    trying = False
    with process:
        while True:
            limit = attack.limit_s if trying else 120  # imports come before the first
            events = _events(process.stdout, limit)
            if events is None:
                process.kill()
                figures.hangs += 1
                figures.tries += 1
                figures.faults.append(f"try {figures.tries - 1} took more than {limit} s")
                return
            if not events:
                break
            for event in events:
                trying = "start" in event
                if not trying:
                    _count(figures, event)
            enough = len(figures.faults) >= MOST_FAULTS
            if enough or (end is not None and time.monotonic() > end):
                process.kill()
                return
        status = process.wait()
    if not status:
        return
    said = errors.read_text(errors="replace")[-2000:]
    if not trying:
        raise RuntimeError(f"{attack.name} can't begin:\n{said}")
    figures.crashes += 1
    figures.tries += 1
    how = signal.Signals(-status).name if status < 0 else f"exit status {status}"
    figures.faults.append(f"try {figures.tries - 1} ended the process by {how}:\n{said}")


def _events(stream, limit):
    """What the process says next: none if it has ended, None if it says nothing for too long."""
    text = b""
    while not text.endswith(b"\n"):
        if not select.select([stream], [], [], limit)[0]:
            return None
        piece = os.read(stream.fileno(), 1 << 16)
        if not piece:
            return []
        text += piece
    return [json.loads(line) for line in text.splitlines()]


def _count(figures, event):
    number = figures.tries
    figures.tries += 1
    setattr(figures, event["end"], getattr(figures, event["end"]) + 1)
    figures.slowest_s = max(figures.slowest_s, event["seconds"])
    if event["end"] == "tracebacks":
        figures.faults.append(f"try {number}: {event['error']}")


def _make_tries(path, name, first, last, folder):
    """The process: says before each try that it begins and after it how it ended."""
    events = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    attack = next(each for each in load(path).ATTACKS if each.name == name)
    if attack.memory is not None:
        resource.setrlimit(resource.RLIMIT_AS, (attack.memory, attack.memory))
    number = first
    while last is None or number < last:
        print(json.dumps({"start": number}), file=events)
        start = time.monotonic()
        end, error = _try(attack, number, folder)
        seconds = time.monotonic() - start
        print(json.dumps({"end": end, "error": error, "seconds": seconds}), file=events)
        number += 1


def _try(attack, number, folder):
    rng = random.Random(f"{attack.name}/{number}")
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        try:
            attack.attempt(rng, pathlib.Path(scratch))
        except attack.refusals:
            return "refused", None
        except BaseException:
            return "tracebacks", traceback.format_exc()[-3000:]
    return "read", None


def load(path):
    """The module in a file."""
    spec = importlib.util.spec_from_file_location(pathlib.Path(path).stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


EXTREME = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def mutated(rng, content, most=8):
    """Bytes with one to `most` changes: bits, extreme numbers, pieces cut, doubled and swapped."""
    content = bytearray(content)
    for _ in range(rng.randint(1, most)):
        at = rng.randrange(len(content) + 1)
        piece = rng.randint(1, max(1, min(64, len(content))))
        kind = rng.randrange(6)
        if kind == 0 and content:
            content[at % len(content)] ^= 1 << rng.randrange(8)
        elif kind == 1:
            size = rng.choice((1, 2, 4))
            value = rng.choice(EXTREME) & ((1 << 8 * size) - 1)
            content[at : at + size] = value.to_bytes(size, rng.choice(("little", "big")))
        elif kind == 2:
            del content[at : at + piece]
        elif kind == 3:
            content[at:at] = content[at : at + piece]
        elif kind == 4:
            content[at : at + piece] = rng.randbytes(piece)
        elif rng.random() < 0.2:
            del content[at:]
    return bytes(content)


def mutated_text(rng, text, words=()):
    """Text with words, numbers and characters changed that break readers."""
    strange = ("nan", "-inf", "1e300", "-1", "", "\x00", "\ud800", "\u202e", "😀", "\r", *words)
    pieces = list(text)
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(pieces) + 1)
        kind = rng.randrange(4)
        if kind == 0:
            pieces[at:at] = rng.choice(strange)
        elif kind == 1:
            del pieces[at : at + rng.randint(1, 20)]
        elif kind == 2:
            pieces[at : at + 1] = rng.choice(strange)
        else:
            pieces[at:at] = pieces[at : at + rng.randint(1, 40)]
    return "".join(pieces)


def change_value(rng, data, values):
    """Puts another value somewhere into plain data, or takes one away."""
    at, key = data, rng.choice(list(data))
    while isinstance(at[key], (dict, list)) and at[key] and rng.random() < 0.75:
        at = at[key]
        key = rng.choice(list(at)) if isinstance(at, dict) else rng.randrange(len(at))
    if rng.random() < 0.2:
        del at[key]
    else:
        at[key] = rng.choice(values)


def main(argv):
    path, name, first, *rest = argv
    last, folder = rest or (str(int(first) + 1), None)
    with contextlib.ExitStack() as stack:
        folder = folder or stack.enter_context(tempfile.TemporaryDirectory())
        _make_tries(path, name, int(first), int(last) if last else None, folder)


if __name__ == "__main__":
    # The modules with attacks import this file, which is running under another name.
    sys.modules["harness"] = sys.modules["__main__"]
    main(sys.argv[1:])
