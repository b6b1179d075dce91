"""How a result came to be: command, flags, time, versions, state of the checkout."""

import datetime
import importlib.metadata
import os
import pathlib
import platform
import subprocess
import sys
from typing import Any

from absl import flags

from keras_lapkl._support.stores import redacted

PACKAGES = (
    "keras_lapkl",
    "tensorflow",
    "keras",
    "numpy",
    "opencv-python-headless",
    "ai-edge-litert",
)


def run_provenance() -> dict[str, Any]:
    """Command, resolved flags, time, versions and git state of the running program.

    Results are handed on: addresses in them are `stores.redacted`.
    """
    found = {name: installed_version(name) for name in PACKAGES}
    versions = {name: each for name, each in found.items() if each is not None}
    return {
        "command": [redacted(word) for word in _command()],
        "flags": {name: _redacted(value) for name, value in _resolved_flags().items()},
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": {
            "platform": platform.platform(),
            "processor": platform.machine(),
            "cores": os.cpu_count(),
        },
        "versions": {"python": platform.python_version(), **versions},
        "git": _git_state(),
    }


def _command():
    """The words that were typed: `lapkl train …`, or `python script.py …`."""
    script, *words = sys.argv
    if script.startswith("lapkl "):
        return [*script.split(), *words]
    return [os.path.basename(sys.executable), script, *words]


def _resolved_flags():
    """The running binary's own flags and their values, given or default."""
    return {flag.name: flag.value for flag in flags.FLAGS.get_key_flags_for_module(sys.argv[0])}


def _redacted(value):
    if isinstance(value, str):
        return redacted(value)
    return [_redacted(each) for each in value] if isinstance(value, list) else value


def installed_version(package: str) -> str | None:
    """The version of an installed package; None of another."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git_state():
    """Commit and whether the tree differs from it; None outside a checkout or without git."""
    folder = pathlib.Path(__file__).resolve().parent

    def git(*words):
        return subprocess.run(
            ["git", *words], cwd=folder, capture_output=True, text=True, timeout=20, check=True
        ).stdout.strip()

    try:
        return {
            "commit": git("rev-parse", "HEAD"),
            "changed": bool(git("status", "--porcelain", "-uno")),
        }
    except (OSError, subprocess.SubprocessError):
        return None
