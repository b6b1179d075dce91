"""A hook of MkDocs: fills reference/commands.md with the docstring and the flags of each command."""

import json
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from keras_lapkl import commands

MARK = "<!-- commands -->"
_VALUES = re.compile(r"<([^<>]*\|[^<>]*)>:? *")
_DESCRIBE = """
import importlib, json, sys
from keras_lapkl._support.app import described_flags
command = importlib.import_module("keras_lapkl.commands." + sys.argv[1])
print(json.dumps([command.__doc__, described_flags(command)]))
"""


def on_page_markdown(markdown, **_):
    """What MkDocs calls with the text of each page."""
    return markdown.replace(MARK, all_commands()) if MARK in markdown else markdown


def all_commands():
    """Markdown of all commands, in the order of `lapkl --help`."""
    with ThreadPoolExecutor() as pool:
        pages = pool.map(described, commands.COMMANDS)
    return "\n\n".join(section(n, *p) for n, p in zip(commands.COMMANDS, pages, strict=True))


def described(name):
    """Docstring and flags of a command; each in a Python of its own, as their flags clash."""
    words = [sys.executable, "-c", _DESCRIBE, name]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"The flags of `lapkl {name}` can't be read: {done.stderr}")
    return json.loads(done.stdout)


def section(name, about, groups):
    """Markdown of a command: what it does, then a table of flags for each heading."""
    parts = [f"## lapkl {name}", about.strip()]
    for heading, flags in groups.items():
        if heading != "Flags":
            parts.append(f"**{heading}**")
        if flags:
            lines = ["| flag | what it sets | default |", "| --- | --- | --- |", *map(row, flags)]
            parts.append("\n".join(lines))
    return "\n\n".join(parts)


def row(flag):
    """A line of the table."""
    text = " ".join(flag["help"].split())
    values = _VALUES.match(flag["values"] or text)
    if values:
        text = text.removeprefix(values[0])
        listed = ", ".join(f"`{each}`" for each in values[1].split("|"))
        text = f"{text} One of {listed}."
    elif flag["values"] and not re.fullmatch(r"an? (number|integer).*", flag["values"]):
        text = f"{text} ({flag['values']})"
    shown = f"`{flag['default']}`" if flag["default"] else ""
    return f"| `{flag['name']}` | {text.replace('|', '&#124;')} | {shown} |"
