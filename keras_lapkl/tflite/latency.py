"""How long a .tflite file takes on this machine, with LiteRT and NumPy alone."""

import csv
import io
import json
import pathlib
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from keras_lapkl._support import console
from keras_lapkl._support.csv_names import quote_name
from keras_lapkl._support.types import PathLike
from keras_lapkl.tflite import runner

FORMATS = ("text", "json", "csv")


def measure(
    path: PathLike, num_threads: int = 1, runs: int = 200, warmup: int = 20
) -> dict[str, Any]:
    """Times one file; see `measure_many`.

    Args:
        path: a .tflite file.
        num_threads, runs, warmup: as there.

    Example:

    >>> measure("model.tflite")["median_ms"]
    2.1
    """
    return measure_many([path], [num_threads], runs, warmup)[0]


def measure_many(
    paths: Sequence[PathLike], threads: Sequence[int] = (1,), runs: int = 200, warmup: int = 20
) -> list[dict[str, Any]]:
    """Times files of any origin on random input, each with each number of threads.

    The candidates take turns, run by run, so that whatever else the machine does meets all alike:
    compare within one call, not between calls. Only `invoke` is timed.

    Args:
        paths: .tflite files with inputs of fixed shapes.
        threads: numbers of threads, each ≥ 1.
        runs: timed runs of each candidate, ≥ 1.
        warmup: runs of each before them, ≥ 0.

    Returns:
        A list of dicts, one for each file and number of threads in that order: `model`, `bytes`,
        `threads`, `runs`, `warmup`; `min_ms`, `median_ms`, `mean_ms`, `p90_ms`, `p99_ms`; and
        `drift`, the median of the last quarter of the runs by that of the first.

    Raises:
        FileNotFoundError: a file is not there.
        ValueError: no candidate, a number out of its range, or a file that the interpreter
            refuses.

    Example:

    >>> [each["threads"] for each in measure_many(["a.tflite", "b.tflite"], threads=(1, 2))]
    [1, 2, 1, 2]
    """
    if not paths or not threads:
        raise ValueError(f"Nothing to time: {len(paths)} files, {len(threads)} thread counts.")
    if runs < 1 or warmup < 0:
        raise ValueError(
            f"`runs` must be at least 1 and `warmup` at least 0. Received: {runs}, {warmup}"
        )
    candidates = [(pathlib.Path(path), count) for path in paths for count in threads]
    interpreters = [_loaded(path, count) for path, count in candidates]
    seconds = np.empty((warmup + runs, len(candidates)))
    for row in console.reported(seconds, len(seconds), "timed {} of {} runs"):
        for j, interpreter in enumerate(interpreters):
            try:
                row[j] = _time(interpreter)
            except RuntimeError as error:
                raise runner.cannot_run(candidates[j][0], error) from error
    return [
        {
            "model": str(path),
            "bytes": path.stat().st_size,
            "threads": count,
            "runs": runs,
            "warmup": warmup,
            **_statistics(1e3 * taken),
        }
        for (path, count), taken in zip(candidates, seconds[warmup:].T, strict=True)
    ]


def formatted(
    results: Sequence[Mapping[str, Any]],
    style: Literal["text", "json", "csv"] = "text",
    **context: Any,
) -> str:
    """Results of `measure_many` as text to print.

    Args:
        results: list of dicts.
        style: `"text"`, an aligned table; `"csv"`; or `"json"`, an object with `results`.
        context: more members of the JSON object; left out of the others.
    """
    if style == "json":
        return json.dumps({"results": results, **context}, indent=2)
    if style == "csv":
        text = io.StringIO()
        writer = csv.DictWriter(text, list(results[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({**row, "model": quote_name(row["model"])} for row in results)
        return text.getvalue().rstrip("\n")
    if style == "text":
        rows = [list(results[0]), *([_cell(v) for v in result.values()] for result in results)]
        return console.aligned(rows)
    raise ValueError(f"`style` must be one of {FORMATS}. Received: {style!r}")


def over_budget(
    results: Iterable[Mapping[str, Any]], budget_ms: float, by: Literal["median", "mean"] = "median"
) -> list[str]:
    """A line for each result whose median, or mean, is above the budget, in milliseconds."""
    return [
        f"{result['model']}, {result['threads']} threads: {by} {result[f'{by}_ms']:.3f} ms, "
        f"over the budget of {budget_ms:g} ms."
        for result in results
        if result[f"{by}_ms"] > budget_ms
    ]


def drifted(results: Iterable[Mapping[str, Any]], percent: float) -> list[str]:
    """A line for each result whose runs got slower or faster by more than so many percent."""
    return [
        f"{result['model']}, {result['threads']} threads: the last quarter of the runs took "
        f"{result['drift']:.2f} times as long as the first. A machine that gets hot gets slower, "
        "and so does one that is shared: let it cool, or give it more runs."
        for result in results
        if abs(result["drift"] - 1) > percent / 100
    ]


def _loaded(path, num_threads):
    """An interpreter with random values in its inputs."""
    interpreter = runner.load_interpreter(path, num_threads)
    rng = np.random.default_rng(0)
    for tensor in interpreter.get_input_details():
        # Whole numbers for integer inputs, [0, 1) for float ones.
        top = 1 if np.issubdtype(tensor["dtype"], np.floating) else 128
        values = top * rng.random(tensor["shape"])
        interpreter.set_tensor(tensor["index"], values.astype(tensor["dtype"]))
    return interpreter


def _time(interpreter):
    """Seconds of one run."""
    start = time.perf_counter_ns()
    interpreter.invoke()
    return 1e-9 * (time.perf_counter_ns() - start)


def _statistics(milliseconds):
    quarter = max(1, len(milliseconds) // 4)
    return {
        "min_ms": float(milliseconds.min()),
        "median_ms": float(np.median(milliseconds)),
        "mean_ms": float(milliseconds.mean()),
        "p90_ms": float(np.percentile(milliseconds, 90)),
        "p99_ms": float(np.percentile(milliseconds, 99)),
        "drift": float(np.median(milliseconds[-quarter:]) / np.median(milliseconds[:quarter])),
    }


def _cell(value):
    return f"{value:.3f}" if isinstance(value, float) else str(value)
