"""What a conversion gave, as text."""

import collections
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from keras_lapkl._support import console
from keras_lapkl.export import verify
from keras_lapkl.export.int8 import StageError
from keras_lapkl.tflite import latency, runner


def layer_table(errors: Iterable[verify.LayerError]) -> str:
    """Lines of text, one for each layer of `verify.layer_errors`.

    Args:
        errors: `LayerError`s, such as `convert(…, layers=True)["layers"]`.
    """
    rows = [
        ("layer", "type", "error %"),
        *((e.layer, e.dtype, f"{100 * e.error:.2f}") for e in errors),
    ]
    return console.aligned(rows)


def stage_table(errors: Iterable[StageError]) -> str:
    """Lines of text, one for each stage of `Int8Converter.stage_errors`."""
    rows = [
        ("stage alone in int8", "mean px", "% of the work"),
        *((e.stage, f"{e.error:.3f}", f"{100 * e.work:.1f}") for e in errors),
    ]
    return console.aligned(rows)


def summary(
    reports: Sequence[Mapping[str, Any]], threads: Sequence[int] = (1, 2), runs: int = 50
) -> str:
    """Lines of text, one for each report of `convert`; the files are timed interleaved.

    Args:
        reports: of files that are there and give landmarks.
        threads: numbers of threads to time with.
        runs: timed runs of each.

    Example:

    >>> reports = [convert(model, f"{m}.tflite", m, faces=crops) for m in ("float32", "dynamic")]
    >>> print(summary(reports, threads=(1,)))
    """
    paths = [report["path"] for report in reports]
    times = latency.measure_many(paths, threads, runs)
    medians = np.reshape([time["median_ms"] for time in times], (len(paths), len(threads)))
    counts = [f"ms, {n} thread{'s' * (n > 1)}" for n in threads]
    rows = [
        ("file", "bytes", "convolutions", "NME %", "ΔNME %", "mean px", "max px", "scale mean px")
        + (*counts, "not on XNNPACK")
    ]
    for report, milliseconds in zip(reports, medians, strict=True):
        parity = report["parity"]
        left = collections.Counter(runner.undelegated(report["path"]))
        growth = 100 * (parity["nme"] / parity["nme_keras"] - 1) if "nme" in parity else None
        types = collections.Counter()
        for name in verify.CONVOLUTIONS:
            types.update(report["operators"].get(name, {}))
        rows.append(
            (
                report["path"],
                f"{report['bytes']:,}",
                ", ".join(f"{n} {dtype}" for dtype, n in types.items()),
                f"{parity['nme']:.3f}" if "nme" in parity else "",
                "" if growth is None else f"{growth:+.2f}",
                f"{parity['landmarks']['mean']:.2g}",
                f"{parity['landmarks']['max']:.2g}",
                f"{parity['scale']['mean']:.2g}",
                *(f"{ms:.2f}" for ms in milliseconds),
                ", ".join(f"{n} {name}" for name, n in left.items()) or "none",
            )
        )
    return console.aligned(rows)
