"""Trains one model by several processes, on this machine or on several.

Two processes on this machine:

    lapkl launch --processes=2 train --output_dir=runs/synthetic

One process on each of two machines, which share the folder of the run; on the second, --here=1:

    lapkl launch --addresses=10.0.0.1:2222,10.0.0.2:2222 --here=0 \\
        train --output_dir=/shared/runs/synthetic

The batch size is that of all processes together. You can stop it at any moment: the same command
goes on from the last finished epoch.
"""

# To a type checker a flag may be None and any text: its parser has seen to that.
# pyright: reportArgumentType=false

import sys

from absl import app, flags

from keras_lapkl.training import launching

_PROCESSES = flags.DEFINE_integer("processes", None, "How many, all on this machine.", 1)
_ADDRESSES = flags.DEFINE_list("addresses", None, "Or host:port of each, on all machines.")
_HERE = flags.DEFINE_list("here", None, "Which of those to start on this machine; 0 is the first.")


ARGUMENTS = "command"
"""What follows the first word is the script's, or the command's."""


def main(argv):
    if len(argv) < 2:
        raise app.UsageError("Expected a command and its flags, such as train --seed=1.")
    addresses, here = _ADDRESSES.value, _HERE.value
    if (_PROCESSES.value is None) == (addresses is None) or (addresses is None) != (here is None):
        raise app.UsageError("Expected --processes, or --addresses and --here.")
    if addresses is None:
        addresses, here = launching.loopback(_PROCESSES.value), range(_PROCESSES.value)
    program = argv[1:] if argv[1].endswith(".py") else ["-m", "keras_lapkl", *argv[1:]]
    return launching.launch([sys.executable, *program], addresses, [int(i) for i in here])  # pyright: ignore[reportOptionalIterable]
