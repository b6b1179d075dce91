"""Runs the whole pipeline in minutes: train on synthetic faces, evaluate, convert, time.

    lapkl demo --output_dir=demo

The numbers show that the pipeline works, not how good the method is: real faces need real training.
"""

import pathlib
import time

from absl import flags, logging

from keras_lapkl._support import console, extras
from keras_lapkl._support.console import print
from keras_lapkl._support.files import write_json
from keras_lapkl._support.folders import announce, owned
from keras_lapkl._support.tensorflow import quiet_tensorflow
from keras_lapkl._support.widths import define_width

_OUTPUT_DIR = flags.DEFINE_string("output_dir", "demo", "Folder of all results.")
_WIDTH = define_width("width", 1 / 16, "Fraction of the 64 channels of the full network.")
_EPOCHS = flags.DEFINE_integer("epochs", 8, "Passes over the training faces.")
_NUM_SYNTHETIC = flags.DEFINE_integer("num_synthetic", 3000, "Faces to train on.")
_SEED = flags.DEFINE_integer("seed", 0, "Of weights and order.")

MODES = ("float32", "int8")
THREADS = (1, 2)
INT8_BOUND = 1.0
"""Mean distance of int8 from Keras, in pixels: wider than `convert`'s own bound, since 4 channels
after three minutes of training err by more than 2 px themselves."""


def main(_):
    quiet_tensorflow()
    extras.require("lapkl demo", "matplotlib")
    from keras_lapkl import tflite
    from keras_lapkl._support.provenance import run_provenance
    from keras_lapkl.data import datasets
    from keras_lapkl.evaluation import model_report, model_scores, plots
    from keras_lapkl.loading import load_model
    from keras_lapkl.training.recipe import Recipe
    from keras_lapkl.training.run import train

    start = time.monotonic()
    output_dir, provenance = pathlib.Path(_OUTPUT_DIR.value), run_provenance()
    num_synthetic = _NUM_SYNTHETIC.value
    paths = [output_dir / f"model-{mode}.tflite" for mode in MODES]
    picture, file = output_dir / "predictions.png", output_dir / "demo.json"
    with owned(output_dir):
        announce(output_dir, "demo", ((p.name, p.name) for p in (*paths, picture, file)))
    crops = datasets.load("synthetic", split="train", num_synthetic=num_synthetic)
    unseen = max(1, num_synthetic // 6)
    validation = datasets.load("synthetic", split="validation", num_synthetic=unseen)
    test = datasets.load("synthetic", split="test", num_synthetic=unseen)

    recipe = Recipe(width=_WIDTH.value, epochs=_EPOCHS.value, augment=False, seed=_SEED.value)
    train(recipe, crops, validation, output_dir, provenance)
    model = load_model(output_dir / "model.keras")

    rows = [{"model": "Keras", **model_scores.evaluate_model(model, test)[0]}]
    for mode, path in zip(MODES, paths, strict=True):
        logging.info("Convert to %s.", mode)
        tflite.convert(
            model,
            path,
            mode,
            faces=validation.central()[:100],
            representative_images=crops.central()[:200] if mode == "int8" else None,
            bounds={"mean": INT8_BOUND} if mode == "int8" else None,
        )
        result, predicted = model_scores.evaluate_model(tflite.TFLiteLocalizer(path), test)
        rows.append({"model": mode, **result, "bytes": path.stat().st_size})
    logging.info("Check latency.")
    timings = tflite.measure_many(paths, THREADS)
    for i, timing in enumerate(timings):
        rows[1 + i // len(THREADS)][f"median_ms_{timing['threads']}"] = timing["median_ms"]

    plots.predictions(
        test.central()[:16],
        predicted["landmarks"],
        picture,
        scale=predicted["scale"],
        edges=test.scheme.edges,
        columns=8,
    )
    write_json(file, {"rows": rows, "provenance": provenance})
    print(table(rows))
    print(model_report.conditions(rows[0]))
    print("Synthetic faces show that the pipeline works; only real faces show how good a model is.")
    print(f"Models: {', '.join(map(str, paths))}. Picture: {picture}")
    print(f"{time.monotonic() - start:.0f} s in all.")


def table(rows):
    """Lines of text: error, size and latency of each model."""
    headings = ("model", "NME %", "spread px", "size kB", "ms, 1 thread", "ms, 2 threads")
    cells: list[tuple[str, ...]] = [headings]
    for row in rows:
        timings = [row.get(f"median_ms_{t}") for t in THREADS]
        cells.append(
            (
                row["model"],
                f"{row['nme']:.2f}",
                f"{row['spread']:.2f}",
                f"{row['bytes'] / 1000:.0f}" if "bytes" in row else "",
                *("" if t is None else f"{t:.2f}" for t in timings),
            )
        )
    return console.aligned(cells)
