"""Timing on a machine that does other work too: what is compared is interleaved."""

import time

import numpy as np

from keras_lapkl._support import console


def take_turns(candidates, passes):
    """Seconds of each candidate in each round.

    Whatever else the machine does meets all candidates of a round alike, so that the ratio of two
    within a round says more than their times.

    Args:
        candidates: name → work: a function that takes steps and gives the seconds of one.
        passes: rounds that count, ≥ 1; the one before them traces the graphs.

    Returns:
        name → (passes,) array.
    """
    seconds = {name: np.empty(1 + passes) for name in candidates}
    for i in console.reported(range(1 + passes), 1 + passes, "timed {} of {} rounds"):
        for name, work in candidates.items():
            seconds[name][i] = work()
    return {name: taken[1:] for name, taken in seconds.items()}


def repeated(step, steps):
    """Work for `take_turns`: some steps, and the mean of their seconds."""

    def work():
        step()  # not timed: the one before may have left threads spinning and caches full
        start = time.perf_counter()
        for _ in range(steps):
            step()
        return (time.perf_counter() - start) / steps

    return work


def summary(values):
    """Median, quartiles and range, as plain numbers."""
    low, quarter, median, three_quarters, high = np.percentile(values, [0, 25, 50, 75, 100])
    return {
        "median": float(median),
        "quartiles": [float(quarter), float(three_quarters)],
        "range": [float(low), float(high)],
    }


def table(title, columns):
    """Columns name → row name → `summary`, as aligned lines of `median (quartile–quartile)`."""
    names = list(next(iter(columns.values())))
    rows = [[name, *(_cell(column[name]) for column in columns.values())] for name in names]
    return console.aligned([[title, *columns], *rows])


def where(provenance, threads):
    """One line on machine and versions."""
    machine, versions = provenance["machine"], provenance["versions"]
    names = [
        name
        for name in (
            "python",
            "tensorflow",
            "keras",
            "ai-edge-litert",
            "torch",
            "onnxruntime",
            "dlib",
        )
        if name in versions
    ]
    said = ", ".join(f"{name} {versions[name]}" for name in names)
    return f"{machine['platform']}, {machine['cores']} cores, {threads} threads; {said}."


def _cell(found):
    low, high = found["quartiles"]
    return f"{found['median']:.2f} ({low:.2f}–{high:.2f})"
