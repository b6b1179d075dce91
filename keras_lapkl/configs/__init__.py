"""The recipes that come with the package, files of flags for `lapkl train`, by their names."""

import importlib.resources


def names():
    """The names of the recipes, sorted."""
    found = importlib.resources.files(__name__).iterdir()
    return sorted(file.name.removesuffix(".cfg") for file in found if file.name.endswith(".cfg"))


def recipe_flags(name):
    """The flags of a recipe, as words of a command line.

    Raises:
        ValueError: there is no recipe of that name.

    Example:

    >>> recipe_flags("w300")[:2]
    ['--dataset=300w', '--loss=laplace_kl']
    """
    if name not in names():
        raise ValueError(f"--recipe must be one of {', '.join(names())}. Received: {name!r}")
    text = (importlib.resources.files(__name__) / f"{name}.cfg").read_text(encoding="utf-8")
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]
