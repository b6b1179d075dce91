"""What the binaries share: plain errors instead of tracebacks, and help."""

import contextlib
import io
import itertools
import os
import signal
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

from absl import app, flags, logging

from keras_lapkl._support import extras
from keras_lapkl._support.console import PrintableFormatter, print

INTERRUPTED = 130
TERMINATED = 143
UNFINISHED = 75
"""EX_TEMPFAIL of sysexits.h: the same command goes on."""

_AGAIN = 0.1
"""Seconds until a signal is sent again whose exception was dropped on its way."""
_EXPECTED = (ValueError, FloatingPointError, OSError, ImportError)
"""Errors that are the user's to mend."""


class Interrupted(KeyboardInterrupt):
    """A signal came, SIGINT as by Ctrl-C, and ends the command.

    Attributes:
        caught: to be set where the command catches it and goes on; else it is sent again.
    """

    def __init__(self) -> None:
        super().__init__()
        self.caught = threading.Event()


class Terminated(Interrupted):
    """SIGTERM came, as from a scheduler: it ends all that Ctrl-C ends, and in the same way."""


class UnfinishedError(Exception):
    """A training has ended before its time and has kept what it had: the same command goes on."""


def run_main(
    main: Callable[..., Any],
    arguments: bool = False,
    argv: list[str] | None = None,
    terminated: int = TERMINATED,
) -> None:
    """Runs `main(argv)` as an absl app: bad input ends in one plain line and exit status 1.

    Errors that are the user's to mend (ValueError, FloatingPointError, OSError, ImportError, by
    which an optional extra names itself, and a full disk by TensorFlow) are printed without a
    traceback. Ctrl-C exits with 130 and SIGTERM with `terminated`, or 75 by an `UnfinishedError`;
    what was finished by then stays. Words that are no flags are refused, or with `arguments` left
    to `main`. The words of the command line are `argv`, or those of `sys.argv`.
    """

    def guarded(argv):
        if len(argv) > 1 and not arguments:
            raise app.UsageError(f"Expected flags only. Received: {argv[1:]}")
        logging.set_verbosity(logging.INFO)
        came = []
        try:
            with signals_raise(came):
                return main(argv)
        except KeyboardInterrupt as stop:
            return stopped(isinstance(stop, Terminated), terminated)
        except UnfinishedError as stop:
            print(stop, file=sys.stderr)
            return UNFINISHED
        except Exception as error:
            if came:  # compiled code has made another error of the signal's
                return stopped(came[-1] == signal.SIGTERM, terminated)
            if not isinstance(error, _EXPECTED) and not _full_disk(error):
                raise
            print(f"error: {_said(error)}", file=sys.stderr)
            return 1

    if isinstance(sys.stdout, io.TextIOWrapper):  # a name that is not UTF-8 must not end a run
        sys.stdout.reconfigure(errors="backslashreplace")
    logging.use_absl_handler()
    logging.get_absl_handler().setFormatter(PrintableFormatter())
    app.run(guarded, argv=argv)


def stopped(by_sigterm: bool, terminated: int) -> int:
    """Says that a signal has ended the command; its exit status."""
    how = "Stopped by SIGTERM" if by_sigterm else "\nStopped"
    print(f"{how}. The same command starts or goes on again.", file=sys.stderr)
    return terminated if by_sigterm else INTERRUPTED


def _full_disk(error):
    """What TensorFlow says, which writes files itself, where a disk is full; else nothing."""
    if not type(error).__module__.startswith("tensorflow."):
        return ""
    return next((each for each in str(error).splitlines() if "No space left on device" in each), "")


def _said(error):
    """The error's words; for one of the system alone, those of a user."""
    if full := _full_disk(error):
        return full
    if isinstance(error, FileNotFoundError) and isinstance(error.filename, str | bytes):
        name = os.fsdecode(error.filename)
        here = "" if os.path.isabs(name) else f" in {os.getcwd()}"
        return f"There is no file or folder {name}{here}."
    backend = os.environ.get("KERAS_BACKEND", "")
    if str(error) == f"No module named {backend!r}":
        extra = extras.EXTRAS.get(backend)
        package = f"'keras_lapkl[{extra}]'" if extra else backend
        return f"KERAS_BACKEND is {backend}, which is not installed: pip install {package}"
    return error


@contextlib.contextmanager
def signals_raise(came: list[int]) -> Iterator[None]:
    """SIGTERM raises as SIGINT does, and neither is lost.

    What a signal raises in a finalizer, in a callback of the garbage collector or in a function
    that compiled code calls is dropped there, or turned into another error. Where it is gone before
    it has ended the command, the signal is sent again.

    Args:
        came: gets the number of each signal.
    """
    ended = threading.Event()

    def stop(number, frame):
        came.append(number)
        raise raised(number)  # no name here holds it, or it would not be gone when it is dropped

    def raised(number):
        error = Terminated() if number == signal.SIGTERM else Interrupted()
        weakref.finalize(error, gone, number, error.caught).atexit = False
        return error

    def gone(number, caught):
        if not ended.is_set() and not caught.is_set():
            again = threading.Timer(_AGAIN, send, (number,))
            again.daemon = True
            again.start()  # later, for what is raised in here is dropped too

    def send(number):
        if not ended.is_set():
            os.kill(os.getpid(), number)

    def ignored(unraisable):
        if not issubclass(unraisable.exc_type, Interrupted):
            hook(unraisable)

    numbers = [signal.SIGTERM]
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else nohup ignores it
        numbers.append(signal.SIGINT)
    before = {number: signal.signal(number, stop) for number in numbers}
    hook, sys.unraisablehook = sys.unraisablehook, ignored
    try:
        yield
    finally:
        ended.set()
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)


def asks_for_help(argv: list[str]) -> bool:
    """Whether --help is among the flags before the first other word."""
    flag_words = itertools.takewhile(lambda word: word.startswith("-"), argv[1:])
    return not {"--help", "-help", "-h"}.isdisjoint(flag_words)


def described_flags(command: Any) -> dict[str, list[dict[str, str]]]:
    """The flags of a module by their headings, sorted: `name`, `help`, `values` and `default`.

    Args:
        command: the module; its `GROUPS`, if it has any, are headings by names of flags. Flags
            without a heading come first, under `"Flags"`.
    """
    groups = getattr(command, "GROUPS", {})
    found: dict[str, list[dict[str, str]]] = {
        heading: [] for heading in ("Flags", *dict.fromkeys(groups.values()))
    }
    key_flags = flags.FLAGS.get_key_flags_for_module(command.__name__)
    for flag in sorted(key_flags, key=lambda flag: flag.name):
        default = flag.default_as_str
        found[groups.get(flag.name, "Flags")].append(
            {
                "name": f"--[no]{flag.name}" if flag.boolean else f"--{flag.name}",
                "help": flag.help,
                "values": flag.parser.syntactic_help or "",
                "default": "" if default is None else str(default).strip("'"),
            }
        )
    return found


def help_text(command: Any) -> str:
    """The help of a module with flags: its docstring, and its `described_flags`."""
    lines = [command.__doc__.rstrip()]
    for heading, described in described_flags(command).items():
        lines += ["", f"{heading}:"]
        for flag in described:
            default = f"default {flag['default']}" if flag["default"] else ""
            notes = "; ".join(note for note in (flag["values"], default) if note)
            text = f"{flag['help']} ({notes})" if notes else flag["help"]
            start = f"  {flag['name']}: "
            lines.append(flags.text_wrap(text, indent="      ", firstline_indent=start))
    lines += ["", "--helpfull shows the flags of the libraries too."]
    return "\n".join(lines)
