"""What Arm's compiler for Ethos-U itself says of a .tflite file, where it is installed."""

import importlib.metadata
import pathlib
import re
import subprocess
import sys
import tempfile
from typing import Any

from keras_lapkl._support import extras
from keras_lapkl._support.types import PathLike

ACCELERATOR = "ethos-u55-128"
_SECONDS = 600
_LEFT = re.compile(
    r"^Warning \(supported operators\) operator: (\w+), ofm: '(.*)'\nReason: (.*)", re.M
)
_COUNT = re.compile(r"^([CN]PU) operators = (\d+)", re.M)


def report(path: PathLike) -> dict[str, Any]:
    """Compiles a file with vela into a folder that is thrown away, and reads what it says.

    Args:
        path: a .tflite file.

    Returns:
        A dict: `version` of vela, `accelerator`, `cpu` and `npu`, numbers of operators as vela
        counts them after it has taken some apart, and `left`, a list of `operator`, `result` (the
        name of the tensor that it gives) and `reason`.

    Raises:
        ModuleNotFoundError: `ethos-u-vela` is not installed.
        ValueError: vela ends with an error.
    """
    extras.require("vela's report", "ethosu")
    with tempfile.TemporaryDirectory() as folder:
        copy = pathlib.Path(folder) / "model.tflite"  # its name may begin with a dash
        copy.write_bytes(pathlib.Path(path).read_bytes())
        words = [
            *(sys.executable, "-m", "ethosu.vela", str(copy), "--output-dir", folder),
            *("--accelerator-config", ACCELERATOR, "--show-cpu-operations"),
        ]
        try:
            done = subprocess.run(
                words, capture_output=True, text=True, check=False, timeout=_SECONDS
            )
        except subprocess.TimeoutExpired as error:
            raise ValueError(f"vela took over {_SECONDS} seconds for {path}.") from error
    counts = {name.lower(): int(count) for name, count in _COUNT.findall(done.stdout)}
    if done.returncode or set(counts) != {"cpu", "npu"}:
        said = (done.stderr.strip() or done.stdout.strip() or "it said nothing").splitlines()[-1]
        raise ValueError(f"vela could not compile {path} for {ACCELERATOR}: {said}")
    version = importlib.metadata.version("ethos-u-vela")
    return {"version": version, "accelerator": ACCELERATOR, **counts, "left": left(done.stdout)}


def left(said: str) -> list[dict[str, str]]:
    """What vela leaves to the CPU, read from what it prints.

    Args:
        said: its output, of version 5.

    Example:

    >>> left("Warning (supported operators) operator: PACK, ofm: 'stack'\\nReason: Unsupported")
    [{'operator': 'PACK', 'result': 'stack', 'reason': 'Unsupported'}]
    """
    return [
        {"operator": operator, "result": result, "reason": reason.strip()}
        for operator, result, reason in _LEFT.findall(said)
    ]
