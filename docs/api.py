"""Writes the API page: each public name of each module with the first line of its docstring.

python docs/api.py > docs/api.md
"""

import importlib
import inspect
import pathlib
import pkgutil
import sys

PACKAGE = pathlib.Path(__file__).resolve().parent.parent / "keras_lapkl"
HEAD = """\
# API

What `import keras_lapkl` gives, module by module, with the first line of each docstring; `help()`
in Python shows the rest: formulas, arguments with their shapes and units, errors, examples.
Written by `python docs/api.py > docs/api.md`; a test holds it to the code.
"""


def page():
    """The page as text."""
    found = pkgutil.walk_packages([str(PACKAGE)], "keras_lapkl.")
    names = sorted(module.name for module in found if module.name != "keras_lapkl.configs")
    sections = [HEAD]
    for name in names:
        module = importlib.import_module(name)
        lines = [f"- `{key}` — {_first_line(value)}" for key, value in _public(module)]
        if lines:
            sections.append("\n".join([f"## {name}\n", _first_line(module) + "\n", *lines, ""]))
    return "\n".join(sections)


def _public(module):
    """Functions and classes that a module defines itself, in the order of its source."""
    found = [
        (key, value)
        for key, value in vars(module).items()
        if not key.startswith("_")
        and (inspect.isfunction(value) or inspect.isclass(value))
        and value.__module__ == module.__name__
    ]
    return sorted(found, key=lambda item: inspect.getsourcelines(item[1])[1])


def _first_line(value):
    return (inspect.getdoc(value) or "").partition("\n")[0]


if __name__ == "__main__":
    sys.stdout.write(page())
