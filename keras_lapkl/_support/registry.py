"""Things that are chosen by a name, imported when they are first asked for."""

import collections.abc
import pkgutil
from typing import Any


def resolved(entry: Any) -> Any:
    """An object by itself, or by where it is.

    Example:

    >>> resolved("math:sqrt")(9), resolved(abs)(-3)
    (3.0, 3)
    """
    return pkgutil.resolve_name(entry) if isinstance(entry, str) else entry


class Registry(collections.abc.MutableMapping):
    """A dict from names to objects; an entry may be where its object is, `"module:name"`.

    So the names are known without importing what they stand for, such as Keras: a command's
    `--help` lists them at once.

    Example:

    >>> registry = Registry({"root": "math:sqrt"})
    >>> list(registry), registry["root"](9)
    (['root'], 3.0)
    """

    def __init__(self, entries):
        self._entries = dict(entries)

    def __getitem__(self, name):
        return resolved(self._entries[name])

    def __setitem__(self, name, entry):
        self._entries[name] = entry

    def __delitem__(self, name):
        del self._entries[name]

    def __iter__(self):
        return iter(self._entries)

    def __len__(self):
        return len(self._entries)

    def __contains__(self, name):
        return name in self._entries
