"""A hook of MkDocs: fills reference/commands.md with the docstring and the flags of each command."""

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from keras_lapkl import commands

MARK = "<!-- commands -->"
_FLAG = re.compile(r"^  --(?:\[no\])?[a-z]", re.MULTILINE)
_VALUES = re.compile(r"<([^<>]*\|[^<>]*)>:? *")
_KIND = re.compile(r"\((an? [a-z -]+)\)")
_DEFAULT = re.compile(r"\(default: '?(.*?)'?\)(?= *\(an? |$)")


def on_page_markdown(markdown, **_):
    """What MkDocs calls with the text of each page."""
    return markdown.replace(MARK, all_commands()) if MARK in markdown else markdown


def all_commands():
    """Markdown of all commands, in the order of `lapkl --help`."""
    with ThreadPoolExecutor() as pool:
        pages = pool.map(help_of, commands.COMMANDS)
    return "\n\n".join(map(section, commands.COMMANDS, pages))


def help_of(name):
    """What `lapkl NAME --help` prints."""
    words = [sys.executable, "-m", "keras_lapkl", name, "--help"]
    environment = {**os.environ, "COLUMNS": "100"}
    done = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
    if "flags:" not in done.stdout:
        raise RuntimeError(f"`lapkl {name} --help` failed: {done.stderr}")
    return done.stdout


def section(name, text):
    """Markdown of a command from its help: what it does, then a table of its flags."""
    about, _, rest = text.partition("\nflags:\n")
    flags = _FLAG.split(rest)
    starts = _FLAG.findall(rest)
    rows = [row(start + flag) for start, flag in zip(starts, flags[1:], strict=True)]
    table = "\n".join(["| flag | what it sets | default |", "| --- | --- | --- |", *rows])
    return f"## lapkl {name}\n\n{about.strip()}\n\n{table}"


def row(text):
    """A line of the table from a flag's help, such as `--seed: Of all. (default: '0')`."""
    text = " ".join(text.partition("\n\n")[0].split())
    flag, _, text = text.partition(":")
    default = _DEFAULT.search(text)
    text = _KIND.sub("", _DEFAULT.sub("", text)).strip()
    values = _VALUES.match(text)
    if values:
        listed = ", ".join(f"`{each}`" for each in values[1].split("|"))
        text = f"{text[values.end() :]} One of {listed}."
    shown = f"`{default[1]}`" if default else ""
    return f"| `{flag}` | {text.replace('|', '&#124;')} | {shown} |"
