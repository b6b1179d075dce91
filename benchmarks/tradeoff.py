"""Error against latency of the shipped models and of other people's: a picture.

    python benchmarks/tradeoff.py --numbers=docs/tradeoff.json --picture=docs/tradeoff.png

The numbers, and the commands that measured them, stand in the JSON file, a list of runs. Times are
compared within a run only, where all took turns on one machine: each is drawn relative to that of
the reference, a file that every run has. NME is on 300-W's common set in percent of the distance of
the outer eye corners.
"""

import pathlib
import sys

from absl import flags

from keras_lapkl._support import app

_NUMBERS = flags.DEFINE_string("numbers", None, "JSON file of the numbers.", required=True)
_PICTURE = flags.DEFINE_string("picture", None, "PNG file to write.", required=True)


def main(_):
    from keras_lapkl._support.files import read_json

    numbers = read_json(_NUMBERS.value)
    draw(relative(numbers), numbers["reference"], _PICTURE.value)


def relative(numbers):
    """Rows with a `time` relative to the reference's in the same run; of each file the first.

    Raises:
        ValueError: a run without the reference.
    """
    rows = {}
    for run in numbers["runs"]:
        of_reference = [row["ms"] for row in run["rows"] if row["name"] == numbers["reference"]]
        if not of_reference:
            raise ValueError(
                f"Expected {numbers['reference']} in each run. It is not in that of "
                f"{run['command']!r}"
            )
        for row in run["rows"]:
            rows.setdefault(row["name"], {**row, "time": row["ms"] / of_reference[0]})
    return list(rows.values())


def draw(rows, reference, path):
    """Shipped files as discs whose area is their size, two joined by a line; others as diamonds."""
    from keras_lapkl._support.files import replacing
    from keras_lapkl.evaluation import plots

    sheet = plots.figure(8, 5)
    axes = sheet.subplots()
    models = {}
    for row in rows:
        if "kilobytes" in row:
            models.setdefault(row["name"].partition(",")[0], []).append(row)
        else:
            at = row["time"], row["nme"]
            axes.scatter(*at, s=60, marker="D", facecolors="none", edgecolors="black")
            _label(axes, f"{row['name']}\n{row['note']}", at, below=True)
    for i, (model, files) in enumerate(models.items()):
        _draw_shipped(axes, model, files, below=i % 2)
    axes.set(
        xscale="log",
        xlabel=f"time a face, one thread; that of {reference} is 1",
        ylabel="NME %, 300-W common",
        title="Disc: a shipped model, its area the size of the file; filled: int8, ring: float16",
    )
    axes.title.set_fontsize(9)
    ticks = [t for t in (0.5, 1, 2, 5, 10, 20, 50) if axes.get_xlim()[0] < t < axes.get_xlim()[1]]
    axes.set_xticks(ticks, [f"{t:g}" for t in ticks])
    axes.set_xticks([], minor=True)
    axes.margins(0.12)
    axes.grid(alpha=0.2)
    with replacing(pathlib.Path(path)) as temporary:
        sheet.savefig(temporary, dpi=120, format="png")


def _draw_shipped(axes, model, files, below):
    times, errors = ([row[key] for row in files] for key in ("time", "nme"))
    (line,) = axes.plot(times, errors, alpha=0.6)
    color = line.get_color()
    for row in files:
        filled = color if row["name"].endswith("int8") else "white"
        axes.scatter(
            row["time"],
            row["nme"],
            s=row["kilobytes"],
            facecolors=filled,
            edgecolors=color,
            zorder=3,
        )
    sizes = " / ".join(f"{row['kilobytes']} kB" for row in files)
    middle = sum(times) / len(times), sum(errors) / len(errors)
    _label(axes, f"{model}\n{sizes}", middle, below, color=color)


def _label(axes, text, at, below, **kwargs):
    axes.annotate(
        text,
        at,
        (0, -11 if below else 11),
        textcoords="offset points",
        ha="center",
        va="top" if below else "bottom",
        fontsize=7,
        **kwargs,
    )


if __name__ == "__main__":
    sys.exit(app.run_main(main))
