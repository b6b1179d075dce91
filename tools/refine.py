"""`lapkl refine` as a script, with the same flags."""

import sys

from keras_lapkl import commands

if __name__ == "__main__":
    sys.exit(commands.run("refine"))
