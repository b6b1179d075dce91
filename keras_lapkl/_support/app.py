"""What the binaries share: plain errors instead of tracebacks, help, and their flags as data."""

import itertools
import sys
from collections.abc import Callable
from typing import Any

from absl import app, flags, logging

INTERRUPTED = 130


def run_main(
    main: Callable[..., Any], arguments: bool = False, argv: list[str] | None = None
) -> None:
    """Runs `main(argv)` as an absl app: bad input ends in one plain line and exit status 1.

    Errors that are the user's to mend (ValueError, FloatingPointError, OSError, and ImportError,
    by which an optional extra names itself) are printed without a traceback; Ctrl-C exits with 130.
    Words that are no flags are refused, or with `arguments` left to `main`. The words of the
    command line are `argv`, or those of `sys.argv`.
    """

    def guarded(argv):
        if len(argv) > 1 and not arguments:
            raise app.UsageError(f"Expected flags only. Received: {argv[1:]}")
        logging.set_verbosity(logging.INFO)
        try:
            return main(argv)
        except KeyboardInterrupt:
            print("\nStopped. The same command starts or goes on again.", file=sys.stderr)
            return INTERRUPTED
        except (ValueError, FloatingPointError, OSError, ImportError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 1

    logging.use_absl_handler()
    logging.get_absl_handler().setFormatter(None)
    app.run(guarded, argv=argv)


def asks_for_help(argv: list[str]) -> bool:
    """Whether --help is among the flags before the first other word."""
    flag_words = itertools.takewhile(lambda word: word.startswith("-"), argv[1:])
    return not {"--help", "-help", "-h"}.isdisjoint(flag_words)


def help_text(command: Any) -> str:
    """The help of a module with flags: its docstring, and its flags under their headings.

    Args:
        command: the module; its `GROUPS`, if it has any, are headings by names of flags. Flags
            without a heading come first.
    """
    groups = getattr(command, "GROUPS", {})
    lines = [command.__doc__.rstrip()]
    key_flags = flags.FLAGS.get_key_flags_for_module(command.__name__)
    for heading in ("", *dict.fromkeys(groups.values())):
        lines += ["", f"{heading or 'Flags'}:"]
        found = [flag for flag in key_flags if groups.get(flag.name, "") == heading]
        for flag in sorted(found, key=lambda flag: flag.name):
            name = f"  --[no]{flag.name}: " if flag.boolean else f"  --{flag.name}: "
            notes = [flag.parser.syntactic_help]
            if flag.default is not None:
                notes.append("default " + str(flag.default_as_str).strip("'"))
            notes = "; ".join(note for note in notes if note)
            text = f"{flag.help} ({notes})" if notes else flag.help
            lines.append(flags.text_wrap(text, indent="      ", firstline_indent=name))
    lines += ["", "--helpfull shows the flags of the libraries too."]
    return "\n".join(lines)


def resolved_flags() -> dict[str, Any]:
    """The running binary's own flags and their values, given or default."""
    return {flag.name: flag.value for flag in flags.FLAGS.get_key_flags_for_module(sys.argv[0])}
