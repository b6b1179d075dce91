"""The commands of `lapkl`, one module each.

lapkl train --output_dir=runs/first
python -m keras_lapkl train --output_dir=runs/first
"""

import ast
import difflib
import importlib
import pathlib
import sys

from absl import flags

from keras_lapkl import configs
from keras_lapkl._support import app, extensions
from keras_lapkl._support.console import print
from keras_lapkl._support.stores import is_address

COMMANDS = (
    "predict",
    "watch",
    "labels",
    "audit",
    "train",
    "evaluate",
    "refine",
    "convert",
    "micro",
    "check",
    "calibrate",
    "benchmark",
    "android",
    "crop",
    "heatmaps",
    "launch",
    "reproduce",
    "demo",
)
"""In the order in which `lapkl --help` lists them."""
_TRAINING = ("train", "audit", "launch", "reproduce", "demo")
"""A scheduler that has stopped one of these is to start it again: it goes on."""


def run(name):
    """Runs a command by the flags in `sys.argv`; the exit status.

    A command is a module with absl flags and `main(argv)`. Words that are not flags are left to
    a command with `ARGUMENTS`: `"files"` among its flags, or `"command"`, another's after its own.
    """
    terminated = app.UNFINISHED if name in _TRAINING else app.TERMINATED
    try:
        argv = sys.argv
        if name == "train":
            argv = [argv[0], *with_recipes(argv[1:])]
        with app.signals_raise([]):
            extensions.load()  # before the flags, which list the names of the registries
            command = importlib.import_module(f"keras_lapkl.commands.{name}")
    except KeyboardInterrupt as stop:
        return app.stopped(isinstance(stop, app.Terminated), terminated)
    except (ImportError, ValueError) as error:  # an extra or extension, or a recipe unknown
        print(f"error: {error}", file=sys.stderr)
        return 1
    if name != "crop":  # which alone writes to stores
        message = "expected a path of this machine; lapkl crop alone writes to stores"
        for output in {"output", "output_dir"}.intersection(flags.FLAGS):
            flags.register_validator(output, _is_here, message)
    # absl shows the help of the main module, and the flags that it defines.
    sys.modules["__main__"].__doc__ = command.__doc__
    for flag in flags.FLAGS.get_key_flags_for_module(command.__name__):
        flags.FLAGS.register_key_flag_for_module(sys.argv[0], flag)
    if app.asks_for_help(sys.argv):
        print(app.help_text(command))
        return 0
    arguments = getattr(command, "ARGUMENTS", None)
    if arguments == "command":
        flags.FLAGS.set_gnu_getopt(False)  # what follows the first word is not the command's
    return app.run_main(command.main, arguments is not None, argv, terminated)


def _is_here(path):
    return path is None or not is_address(path)


def with_recipes(arguments):
    """Words behind a command, with the file of a recipe in place of each `--recipe=NAME`.

    They come first: of a flag that is given twice the last one counts, and that is the user's.

    Raises:
        ValueError: there is no recipe of that name.

    Example:

    >>> with_recipes(["--seed=1", "--recipe=w300"])
    ['--flagfile=…/keras_lapkl/configs/w300.cfg', '--seed=1']
    """
    recipes, others = [], []
    words = iter(arguments)
    for word in words:
        flag, _, value = word.partition("=")
        if flag in ("--recipe", "-recipe"):
            recipes.append(f"--flagfile={configs.path(value or next(words, ''))}")
        else:
            others.append(word)
    return [*recipes, *others]


def main():
    """The console command `lapkl`."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("--help", "-h", "help"):
        print(overview())
        return 0
    if name == "--version":
        from keras_lapkl import __version__

        print(f"keras_lapkl {__version__}")
        return 0
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"Did you mean {near[0]}? " if near else ""
        print(
            f"error: there is no command {name}. {hint}Commands: {', '.join(COMMANDS)}",
            file=sys.stderr,
        )
        return 2
    sys.argv = [f"lapkl {name}", *sys.argv[2:]]
    return run(name)


def overview():
    """What `lapkl --help` prints: the commands, a line each."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {_summary(name)}" for name in COMMANDS]
    return "\n".join(
        ["Usage: lapkl COMMAND [--flag=value ...]", "", *lines, "", "Flags: lapkl COMMAND --help"]
    )


def _summary(name):
    """The first line of a command's docstring; read, not imported."""
    text = pathlib.Path(__file__).with_name(f"{name}.py").read_text(encoding="utf-8")
    return ast.get_docstring(ast.parse(text)).splitlines()[0]  # pyright: ignore[reportOptionalMemberAccess]
