"""The recipes that come with the package, files of flags for `lapkl train`, by their names."""

import pathlib

_FOLDER = pathlib.Path(__file__).resolve().parent


def names() -> list[str]:
    """The names of the recipes, sorted."""
    return sorted(file.stem for file in _FOLDER.glob("*.cfg"))


def path(name: str) -> pathlib.Path:
    """The file of a recipe, for `--flagfile`.

    Raises:
        ValueError: there is no recipe of that name.

    Example:

    >>> path("w300").name
    'w300.cfg'
    """
    if name not in names():
        raise ValueError(f"--recipe must be one of {', '.join(names())}. Received: {name!r}")
    return _FOLDER / f"{name}.cfg"
