"""What unlabeled faces are worth, by the number of labels: trains a grid of runs and compares them.

    python benchmarks/few_labels.py --data_dir=300w --unlabeled_dir=shards --output_dir=few

Each number of labels is a part of a larger one's: the first faces of the training split in an order
drawn anew for each subset. The lists stand in OUTPUT_DIR/lists. All runs take as many steps of as
many labeled faces. Stopped at any moment, the same command goes on.
"""

import dataclasses
import pathlib
import sys
from typing import Any

import numpy as np
from absl import flags, logging

from keras_lapkl._support import app
from keras_lapkl._support.files import read_json, replacing, write_json
from keras_lapkl._support.provenance import run_provenance
from keras_lapkl._support.tensorflow import quiet_tensorflow

_DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder of 300-W.", required=True)
_UNLABELED_DIR = flags.DEFINE_string(
    "unlabeled_dir", None, "Shards of `lapkl crop`, cut by a face detector.", required=True
)
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Folder of the runs.", required=True)
_LABELS = flags.DEFINE_list("labels", ["50", "157"], "Numbers of labels.")
_SUBSETS = flags.DEFINE_integer("subsets", 3, "Subsets, each with a seed of its own.")
_METHODS = flags.DEFINE_list("methods", ["supervised", "mean_teacher", "student"], "Columns.")
_EPOCHS = flags.DEFINE_integer("epochs", 40, "Of 100 steps of 8 labeled faces.")
_TEACHER_WIDTH = flags.DEFINE_float("teacher_width", 0.25, "Of the mean teacher.")
_UNLABELED_BATCH = flags.DEFINE_integer("unlabeled_batch_size", 8, "Unlabeled faces in a step.")


def main(_):
    quiet_tensorflow()
    output_dir, found = pathlib.Path(_OUTPUT_DIR.value), {}
    order = (
        (n, s, m) for s in range(_SUBSETS.value) for n in _LABELS.value for m in _METHODS.value
    )
    for count, subset, method in order:
        found[count, subset, method] = cell(output_dir, int(count), subset, method)
        print(table(found), flush=True)


def cell(output_dir, count, subset, method):
    """Errors of one run, trained if it is not there yet."""
    from keras_lapkl.data import datasets
    from keras_lapkl.evaluation import model_scores
    from keras_lapkl.loading import load_model
    from keras_lapkl.training.run import train

    folder = output_dir / f"{count}-{subset}-{method}"
    path = folder / "cell.json"
    if path.exists():
        return read_json(path)
    common = {"cache_dir": output_dir / "crops"}
    crops = datasets.load(
        "300w", _DATA_DIR.value, subset_list(output_dir, count, subset), margin=16, **common
    )
    sets = {
        name: datasets.load("300w", _DATA_DIR.value, name, **common)
        for name in ("validation", "common")
    }
    recipe = recipes(subset, output_dir / f"{count}-{subset}-mean_teacher" / "model.keras")[method]
    unlabeled = None
    if recipe.takes_unlabeled:
        unlabeled = datasets.load_unlabeled(crops, _UNLABELED_DIR.value)
    logging.info("%s: %s", folder.name, crops.summary)
    provenance = run_provenance(app.resolved_flags())
    trained = train(recipe, crops, sets["validation"], folder, provenance, unlabeled)
    model = load_model(folder / "model.keras")
    found = {"parameters": trained["parameters"], "seconds": trained["seconds_of_training"]}
    for name, crops in sets.items():
        score, predicted = model_scores.evaluate_model(model, crops)
        errors = model_scores.face_errors(predicted["landmarks"], crops, score["normalizer"])
        found[name] = {"nme": score["nme"], "errors": [round(float(e), 4) for e in errors]}
    found["conditions"] = model_scores.conditions(score)
    found |= {"recipe": dataclasses.asdict(recipe), "provenance": provenance}
    write_json(path, found)
    return found


def recipes(seed, teacher) -> dict[str, Any]:
    """The settings of each method."""
    from keras_lapkl.training.recipe import MeanTeacher, Teacher, read_recipe

    size = _UNLABELED_BATCH.value
    supervised = dataclasses.replace(read_recipe("few_labels"), epochs=_EPOCHS.value, seed=seed)
    mean_teacher = MeanTeacher(batch_size=size, augment_strength=1.0)
    taught = dataclasses.replace(mean_teacher, width=_TEACHER_WIDTH.value)
    wide = dataclasses.replace(supervised, mean_teacher=taught).wide
    return {
        "supervised": supervised,
        "supervised_wide": dataclasses.replace(wide, mean_teacher=None),
        "mean_teacher_small": dataclasses.replace(supervised, mean_teacher=mean_teacher),
        "mean_teacher": wide,
        "student": dataclasses.replace(supervised, teacher=Teacher(teacher, batch_size=size)),
    }


def subset_list(output_dir, count, subset):
    """The file with the stems of a subset's first faces."""
    path = output_dir / "lists" / f"train-{count}-{subset}.txt"
    if not path.exists():
        stems = (pathlib.Path(_DATA_DIR.value) / "splits" / "train.txt").read_text().split()
        chosen = np.random.default_rng(subset).permutation(sorted(stems))[:count]
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_text("\n".join(chosen) + "\n")
    return path


def table(found):
    """Markdown: mean and spread over subsets of the error on both sets, in percent."""
    methods = [m for m in _METHODS.value if any(key[2] == m for key in found)]
    lines = ["| labels | " + " | ".join(methods) + " |", "| --- " * (1 + len(methods)) + "|"]
    for count in _LABELS.value:
        cells = (
            [value for key, value in found.items() if (key[0], key[2]) == (count, method)]
            for method in methods
        )
        lines.append(f"| {count} | " + " | ".join(map(_text, cells)) + " |")
    return "\n".join(["NME %, validation / common; mean ± sd over subsets", *lines])


def _text(cells):
    if not cells:
        return ""
    parts = []
    for name in ("validation", "common"):
        errors = [cell[name]["nme"] for cell in cells]
        spread = f" ± {np.std(errors, ddof=1):.2f}" if len(errors) > 1 else ""
        parts.append(f"{np.mean(errors):.2f}{spread}")
    return f"{' / '.join(parts)} ({len(cells)})"


if __name__ == "__main__":
    sys.exit(app.run_main(main))
