"""Names of a package that are imported when they are first used."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any

import lazy_loader

from keras_lapkl._support import extras


def attach(
    package: str, file: str, elsewhere: Mapping[str, str] | None = None
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """`lazy_loader.attach_stub`, with names of other packages, and errors that name the extra.

    Args:
        package: `__name__` of the package.
        file: its `__file__`, beside which the stub `__init__.pyi` stands.
        elsewhere: dict from public names to the modules of other packages that they live in.

    Returns:
        `__getattr__`, `__dir__` and `__all__` of the package.
    """
    elsewhere = elsewhere or {}
    own, _, names = lazy_loader.attach_stub(package, file)
    names = sorted([*names, *elsewhere])

    def __getattr__(name):  # noqa: N807
        with extras.needed_by(f"{package}.{name}"):
            if name in elsewhere:
                return getattr(importlib.import_module(elsewhere[name]), name)
            return own(name)

    return __getattr__, lambda: list(names), names
