"""What every run leaves beside its outputs: how it was started, on what, and what it found."""

import contextlib
import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import subprocess
import sys
import tempfile

PACKAGES = (
    "keras_lapkl",
    "tensorflow",
    "keras",
    "numpy",
    "opencv-python-headless",
    "ai-edge-litert",
)


@contextlib.contextmanager
def replacing(path):
    """Yields a temporary path beside `path`, renamed to it at the end, removed on an error.

    The temporary name keeps the suffix, by which writers choose a format.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.stem}.") as folder:
        temporary = pathlib.Path(folder) / path.name
        yield temporary
        os.replace(temporary, path)


def write_json(path, data):
    """Writes plain data as indented JSON, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(data, indent=2, default=_plain) + "\n", encoding="utf-8")


def read_json(path):
    """The data in a JSON file; ValueError with the path if it holds none."""
    try:
        return json.loads(pathlib.Path(path).read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:  # bytes, text, huge numbers, deep nesting
        raise ValueError(f"{path} is no JSON: {error}") from error


def provenance(flags=None):
    """Command, resolved flags, time, versions and git state of the running program."""
    return {
        "command": [os.path.basename(sys.executable), *sys.argv],
        "flags": flags or {},
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": {
            "platform": platform.platform(),
            "processor": platform.machine(),
            "cores": os.cpu_count(),
        },
        "versions": {"python": platform.python_version(), **_versions()},
        "git": _git_state(),
    }


def _versions():
    found = {}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


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


def _plain(value):
    if isinstance(value, pathlib.PurePath):
        return str(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"Not plain data: {type(value)}")
