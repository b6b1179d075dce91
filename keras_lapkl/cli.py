"""What the binaries share: plain errors instead of tracebacks, and their flags as data."""

import os
import sys

from absl import app, flags, logging

from keras_lapkl import console

INTERRUPTED = 130


def run(main, arguments=False):
    """Runs `main(argv)` as an absl app: bad input ends in one plain line and exit status 1.

    Errors that are the user's to mend (ValueError, FloatingPointError, OSError, and ImportError,
    by which an optional extra names itself) are printed without a traceback; Ctrl-C exits with 130.
    Words that are no flags are refused, or with `arguments` left to `main`.
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


def quiet_tensorflow():
    """Imports TensorFlow without its greetings, which no setting turns off.

    What it writes to stderr while being imported is dropped, unless the import fails. The graph
    rewriter that says "remapper failed" on leaky ReLU is switched off, at no cost in speed. Advice
    against retracing is dropped: a process that trains one model after another traces anew.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with console.held_stderr():
        import keras  # noqa: F401
        import tensorflow as tf

        tf.config.list_physical_devices()
    tf.config.optimizer.set_experimental_options({"remapping": False})
    tf.get_logger().addFilter(lambda record: "tf.function retracing" not in str(record.msg))


def resolved_flags():
    """The running binary's own flags and their values, given or default."""
    defined = flags.FLAGS.flags_by_module_dict()
    return {flag.name: flag.value for flag in defined.get(sys.argv[0], ())}
