"""How long a .tflite file takes on an Android device, by adb and LiteRT's own `benchmark_model`."""

import pathlib
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from typing import Any

from keras_lapkl._support.types import PathLike
from keras_lapkl.tflite import flatbuffer

FOLDER = "/data/local/tmp/keras_lapkl"
"""Where things lie on the device meanwhile; `/data/local/tmp` is what adb may write and run."""

_SUMMARY = re.compile(
    r"Inference timings in us: Init: (?P<init>\S+), First inference: (?P<first>\S+), "
    r"Warmup \(avg\): (?P<warmup_mean>\S+), Inference \(avg\): (?P<mean>\S+)"
)
_STATISTICS = re.compile(r"\bcount=\d.*")
_ENTRY = re.compile(r"\b(count|min|max|median|p95)=(\S+)")


class Device:
    """One Android device.

    Args:
        serial: which one, as `adb devices` lists it; None for the only one.

    Raises:
        FileNotFoundError: adb is not installed.
        ConnectionError: adb has no such device, may not use it, or has several.
    """

    def __init__(self, serial: str | None = None) -> None:
        if shutil.which("adb") is None:
            raise FileNotFoundError(
                "adb is not on PATH. It is part of Android's SDK platform tools (on Debian: "
                "apt-get install adb)."
            )
        self._adb = ["adb"] if serial is None else ["adb", "-s", serial]
        state = self._run("get-state")
        if state.returncode:
            raise ConnectionError(
                f"adb has no device to use: {_text(state)}. Connect one that allows USB debugging, "
                "confirm it on its screen, and choose among several by their serial number; "
                "`adb devices` lists them."
            )

    def __call__(self, *words: str) -> None:
        """Runs an adb command; ConnectionError with what adb said if it fails."""
        done = self._run(*words)
        if done.returncode:
            raise ConnectionError(f"adb {' '.join(words)} failed: {_text(done)}")

    def _run(self, *words):
        return subprocess.run([*self._adb, *words], capture_output=True, text=True, check=False)


def measure_many(
    device: Device,
    binary: PathLike,
    paths: Sequence[PathLike],
    threads: Sequence[int] = (1,),
    runs: int = 200,
    warmup: int = 20,
    affinity: str | None = None,
) -> list[dict[str, Any]]:
    """Times files on a device, one after the other, each with each number of threads.

    Args:
        device: a `Device`.
        binary: LiteRT's (or TensorFlow Lite's) `benchmark_model` for the device's processor.
        paths: .tflite files.
        threads: numbers of threads, each ≥ 1.
        runs: timed runs of each candidate, ≥ 1.
        warmup: runs of each before them, ≥ 0.
        affinity: mask of the cores to run on, for `taskset`, such as `"f0"`; None leaves it to
            Android.

    Returns:
        A list of dicts, one for each file and number of threads: `model`, `bytes`, `threads`,
        `warmup`; `runs`, as the binary counted them; `init_ms`, `first_ms`, `warmup_mean_ms`,
        `mean_ms`; `min_ms`, `max_ms`, `median_ms`, `p95_ms`, or None for each that the binary does
        not tell; and `log`, all that it said.

    Raises:
        FileNotFoundError: the binary or a file is not there.
        ConnectionError: adb fails.
        ValueError: a file is not a TFLite file, or a damaged one; or the binary said nothing of its
            timings.
    """
    if not pathlib.Path(binary).is_file():
        raise FileNotFoundError(
            f"There is no benchmark_model at {binary}. LiteRT's documentation has it prebuilt for "
            "Android under 'Performance measurement': ai.google.dev/edge/litert/models/measurement"
        )
    for path in paths:
        flatbuffer.read(path)
    device("shell", f"mkdir -p {FOLDER}")
    try:
        device("push", str(binary), f"{FOLDER}/benchmark_model")
        device("shell", f"chmod 755 {FOLDER}/benchmark_model")
        results = []
        for path in map(pathlib.Path, paths):
            device("push", str(path), f"{FOLDER}/model.tflite")
            for count in threads:
                log = _log(device, count, runs, warmup, affinity)
                results.append(
                    {
                        "model": str(path),
                        "bytes": path.stat().st_size,
                        "threads": count,
                        "warmup": warmup,
                        **_timings(log, path, binary),
                        "log": log,
                    }
                )
        return results
    finally:
        device("shell", f"rm -r {FOLDER}")


def _log(device, threads, runs, warmup, affinity):
    """What the binary says about the model that was pushed."""
    words = [
        *([] if affinity is None else ["taskset", affinity]),
        f"{FOLDER}/benchmark_model",
        f"--graph={FOLDER}/model.tflite",
        f"--num_threads={threads}",
        f"--num_runs={runs}",
        f"--warmup_runs={warmup}",
        # Both have a least duration too, which makes more runs of them.
        "--min_secs=0",
        "--warmup_min_secs=0",
    ]
    # On old devices the exit status does not show success: the log does.
    device("shell", f"{' '.join(words)} > {FOLDER}/log.txt 2>&1 || true")
    with tempfile.TemporaryDirectory() as folder:
        log = pathlib.Path(folder) / "log.txt"
        device("pull", f"{FOLDER}/log.txt", str(log))
        return log.read_text(encoding="utf-8", errors="replace")


def _timings(log, path, binary):
    summary = _SUMMARY.search(log)
    if not summary:
        raise ValueError(
            f"{binary} gave no timings of {path} on the device. Is it built for its processor? It "
            f"said: {log.strip()[-500:] or 'nothing'}"
        )
    # The last of these lines is of the timed runs, those before it of the warm-up.
    entries = dict(_ENTRY.findall((_STATISTICS.findall(log) or [""])[-1]))
    timings: dict[str, float | None] = {
        f"{name}_ms": float(value) / 1e3 for name, value in summary.groupdict().items()
    }
    for name in ("min", "max", "median", "p95"):
        timings[f"{name}_ms"] = float(entries[name]) / 1e3 if name in entries else None
    return {"runs": int(entries["count"]) if entries else None, **timings}


def _text(done):
    """The last line of what a command said; before it adb tells of its daemon."""
    said = done.stderr.strip() or done.stdout.strip() or "it said nothing"
    return said.splitlines()[-1].rstrip(".")
