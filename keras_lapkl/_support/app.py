"""What the binaries share: plain errors instead of tracebacks, and their flags as data."""

import sys

from absl import app, flags, logging

INTERRUPTED = 130


def run_main(main, arguments=False):
    """Runs `main(argv)` as an absl app: bad input ends in one plain line and exit status 1.

    Errors that are the user's to mend (ValueError, FloatingPointError, OSError, and ImportError,
    by which an optional extra names itself) are printed without a traceback; Ctrl-C exits with 130.
    Words that are not flags are refused, or with `arguments` left to `main`.
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
    app.run(guarded)


def resolved_flags():
    """The running binary's own flags and their values, given or default."""
    return {flag.name: flag.value for flag in flags.FLAGS.get_key_flags_for_module(sys.argv[0])}
