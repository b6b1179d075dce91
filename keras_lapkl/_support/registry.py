"""Things that are chosen by a name, imported when they are first asked for."""

import collections
import pkgutil
from typing import Any


def resolved(entry: Any) -> Any:
    """An object by itself, or by where it is.

    Example:

    >>> resolved("math:sqrt")(9), resolved(abs)(-3)
    (3.0, 3)
    """
    return pkgutil.resolve_name(entry) if isinstance(entry, str) else entry


class Registry(collections.UserDict):
    """A dict from names to objects; an entry may be where its object is, `"module:name"`.

    So the names are known without importing what they stand for, such as Keras: a command's
    `--help` lists them at once.

    Example:

    >>> registry = Registry({"root": "math:sqrt"})
    >>> list(registry), registry["root"](9)
    (['root'], 3.0)
    """

    def __getitem__(self, name):
        return resolved(self.data[name])
