"""`python -m keras_lapkl COMMAND` is `lapkl COMMAND`."""

import sys

from keras_lapkl import commands

if __name__ == "__main__":
    sys.exit(commands.main())
