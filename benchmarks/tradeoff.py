"""Error against latency against size of trained .tflite files: a table and a picture.

    python benchmarks/tradeoff.py --data_dir=300w --picture=docs/tradeoff.png \\
        --tflite="paper 1/8=a/float32.tflite,paper 1/8=a/int8.tflite,marginal 1/8=b/int8.tflite"

Files of one title are joined by a line. NME on 300-W's common set in percent of the distance of the
outer eye corners; milliseconds are medians of runs interleaved with one thread.
"""

import collections
import sys

from absl import flags

from keras_lapkl._support import app, console
from keras_lapkl._support.tensorflow import quiet_tensorflow

_TFLITE = flags.DEFINE_list("tflite", None, "title=file, by commas.", required=True)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder of 300-W.", required=True)
_RUNS = flags.DEFINE_integer("runs", 200, "Timed runs of each file.", lower_bound=1)
_PICTURE = flags.DEFINE_string("picture", None, "PNG file to write.", required=True)

HEADINGS = ("model", "mode", "kB", "ms", "NME %", "spread px")


def main(_):
    quiet_tensorflow()
    from keras_lapkl.data import datasets
    from keras_lapkl.evaluation import model_scores
    from keras_lapkl.tflite import TFLiteLocalizer, latency

    titles, paths = zip(*(entry.split("=", 1) for entry in _TFLITE.value), strict=True)
    localizers = [TFLiteLocalizer(path) for path in paths]
    size, scale = localizers[0].image_size, localizers[0].crop_scale
    crops = datasets.load("300w", _DATA_DIR.value, "common", image_size=size, crop_scale=scale)
    scores = [model_scores.evaluate_model(localizer, crops)[0] for localizer in localizers]
    times = latency.measure_many(paths, (1,), _RUNS.value)
    rows = [
        (
            title,
            localizer.metadata["mode"],
            time["bytes"] / 1e3,
            time["median_ms"],
            score["nme"],
            score["spread"],
        )
        for title, localizer, time, score in zip(titles, localizers, times, scores, strict=True)
    ]
    cells = [[f"{value:.2f}" if isinstance(value, float) else value for value in r] for r in rows]
    print(console.aligned([HEADINGS, *cells]))
    print(model_scores.conditions(scores[0]))
    draw(rows, _PICTURE.value)


def draw(rows, path):
    """Files as discs whose area is their size, by latency and error."""
    from keras_lapkl._support.files import replacing
    from keras_lapkl.evaluation import plots

    sheet = plots.figure(7, 4.5)
    axes = sheet.subplots()
    groups = collections.defaultdict(list)
    for title, mode, size, milliseconds, error, _ in rows:
        groups[title].append((milliseconds, error, size, mode))
    for i, (title, files) in enumerate(groups.items()):
        milliseconds, errors, sizes, _ = zip(*files, strict=True)
        (line,) = axes.plot(milliseconds, errors, alpha=0.5)
        axes.scatter(
            milliseconds, errors, s=[2 * s for s in sizes], alpha=0.5, color=line.get_color()
        )
        for x, y, size, mode in files:
            axes.annotate(
                f"{title}, {mode}, {size:.0f} kB",
                (x, y),
                xytext=(0, -20 if i % 2 else 14),
                textcoords="offset points",
                ha="center",
                fontsize=7,
            )
    axes.set(xscale="log", xlabel="ms a face, one thread", ylabel="NME %, 300-W common")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("{x:g}")
    axes.margins(0.15)
    axes.grid(alpha=0.2, which="both")
    with replacing(path) as temporary:
        sheet.savefig(temporary, dpi=120, format="png")


if __name__ == "__main__":
    sys.exit(app.run_main(main))
