"""The memory that TFLite Micro itself needs for a .tflite file, where its wheel is installed."""

import importlib.metadata
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from keras_lapkl._support import extras
from keras_lapkl._support.types import PathLike

_SECONDS = 120
_BYTES = 2**24
_PART = re.compile(r"Arena allocation (total|head|tail) (\d+) bytes")
_RUN = f"""
import sys
from tflite_micro.python.tflite_micro import runtime
runtime.Interpreter.from_file(sys.argv[1], arena_size={_BYTES}).print_allocations()
"""


def needed(content: bytes, path: PathLike = "this file") -> dict[str, Any]:
    """Starts a file in TFLite Micro's interpreter, in another process, and reads what it took.

    Args:
        content: the bytes of a .tflite file.
        path: the file that they are from, for messages.

    Returns:
        A dict: `version` of the wheel, and in bytes `total`, the smallest arena that does;
        `head`, for the tensors; and `tail`, for the interpreter's own records, which have
        pointers of 8 bytes here, and of 4 on a 32-bit processor.

    Raises:
        ModuleNotFoundError: the wheel is not installed.
        ValueError: TFLite Micro refuses the file.
    """
    extras.require("measuring the arena", "tflite_micro")
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "model.tflite"
        copy.write_bytes(content)
        words = [sys.executable, "-c", _RUN, str(copy)]
        try:
            done = subprocess.run(
                words, capture_output=True, text=True, check=False, timeout=_SECONDS
            )
        except subprocess.TimeoutExpired as error:
            raise ValueError(f"TFLite Micro took over {_SECONDS} seconds for {path}.") from error
    parts = {name: int(size) for name, size in _PART.findall(done.stdout + done.stderr)}
    if done.returncode or set(parts) != {"total", "head", "tail"}:
        said = (done.stderr.strip() or "it said nothing").splitlines()
        raise ValueError(f"TFLite Micro refuses {path}: {' '.join(said[:1] + said[-1:])}")
    return {"version": importlib.metadata.version("tflite-micro"), **parts}
