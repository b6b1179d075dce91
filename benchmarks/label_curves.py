"""The error against the number of labels, drawn from rows of few_labels.py."""

import numpy as np

from keras_lapkl._support.files import replacing
from keras_lapkl._support.widths import fraction

ALONE = "supervised"
"""The method that does without unlabeled faces."""


def draw(rows, path):
    """Error on the common set against the number of labels; bars are ± sd over subsets."""
    from keras_lapkl.evaluation import plots

    lines = {}
    for row in rows:
        line = lines.setdefault((-row["width"], row["steps"], row["method"]), {})
        line.setdefault(row["labels"], []).append(row["common"])
    sheet = plots.figure(7, 4.5)
    axes = sheet.subplots()
    for (width, taken, method), points in sorted(lines.items()):
        counts = sorted(points)
        means = [np.mean(points[count]) for count in counts]
        spread = [
            np.std(points[count], ddof=1) if len(points[count]) > 1 else np.nan for count in counts
        ]
        words = "labels alone" if method == ALONE else method.replace("_", " ")
        label = f"{words}, {fraction(-width)}, {taken:,} steps"
        axes.errorbar(counts, means, spread, marker="o", capsize=4, label=label)
    ticks = sorted({count for points in lines.values() for count in points})
    axes.set(xscale="log", xlabel="labeled faces", ylabel="NME on 300-W common, %")
    axes.set_xticks(ticks, map(str, ticks))
    axes.minorticks_off()
    axes.legend()
    axes.grid(alpha=0.3)
    with replacing(path) as temporary:
        sheet.savefig(temporary, format="png", dpi=120)
