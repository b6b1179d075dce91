"""Types that annotations share. Typing alone: what runs on a device imports it."""

import os
from typing import Any, TypeAlias

PathLike: TypeAlias = str | os.PathLike[str]
"""A file or folder."""

Tensor: TypeAlias = Any
"""A tensor of Keras's backend, or what `keras.ops` makes one of. Shapes are in the docstrings."""
