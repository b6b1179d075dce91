"""Trains one model by several processes on this machine.

    lapkl launch --processes=2 train --output_dir=runs/synthetic

The batch size is that of all processes together. You can stop it at any moment: the same command
goes on, as `lapkl train` does. On several machines SLURM or Kubernetes starts the processes, each
with `lapkl train`: see the guide on many machines.
"""

# To a type checker a flag may be None and any text: its parser has seen to that.
# pyright: reportArgumentType=false

import sys

from absl import app, flags

from keras_lapkl.training import launching

_PROCESSES = flags.DEFINE_integer("processes", None, "How many.", 1, required=True)


ARGUMENTS = "command"
"""What follows the first word is the script's, or the command's."""


def main(argv):
    if len(argv) < 2 or not (argv[1] == "train" or argv[1].endswith(".py")):
        raise app.UsageError(
            "Expected train and its flags, or a script that trains and its flags. Received: "
            f"{' '.join(argv[1:]) or 'nothing'}"
        )
    program = argv[1:] if argv[1].endswith(".py") else ["-m", "keras_lapkl", *argv[1:]]
    return launching.launch([sys.executable, *program], _PROCESSES.value)
