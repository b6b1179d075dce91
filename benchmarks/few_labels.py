"""What unlabeled faces are worth, by the number of labels: trains a grid of runs and compares them.

    python benchmarks/few_labels.py --data_dir=300w --unlabeled_dir=shards --output_dir=few

Each number of labels is a part of a larger one's: the first faces of the training split in an order
drawn anew for each subset. The lists stand in OUTPUT_DIR/lists. All runs take as many steps of as
many labeled faces. Stopped at any moment, the same command goes on.

Prints the errors, and how much lower they are with unlabeled faces than without, at the same width:
mean over subsets, 95 % interval over faces of the paired differences, and each subset's. OUTPUT_DIR
gets them as results.json, and the curve as few_labels.png.
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
_PAIRS = {
    "mean_teacher_small": "supervised",
    "student": "supervised",
    "mean_teacher": "supervised_wide",
    "student_wide": "supervised_wide",
}
"""Methods with unlabeled faces, and what the same network has without."""
_SETS = ("validation", "common")
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
        found[int(count), subset, method] = cell(output_dir, int(count), subset, method)
        print(table(found), flush=True)
    lower = gains(found)
    print(
        "\n".join(
            [
                "Lower with unlabeled faces by %, interval over faces (each subset)",
                *map(_said, lower),
            ]
        )
    )
    errors = {
        "-".join(map(str, key)): {name: value[name]["nme"] for name in _SETS}
        for key, value in found.items()
    }
    conditions = next(iter(found.values()))["conditions"]
    write_json(
        output_dir / "results.json",
        {"nme": errors, "gains": lower, "conditions": conditions}
        | {"provenance": run_provenance(app.resolved_flags())},
    )
    draw(found, output_dir / "few_labels.png")


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
    sets = {name: datasets.load("300w", _DATA_DIR.value, name, **common) for name in _SETS}
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
        "student_wide": dataclasses.replace(
            wide, mean_teacher=None, teacher=Teacher(teacher, batch_size=size)
        ),
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
    for count in map(int, _LABELS.value):
        cells = (
            [value for key, value in found.items() if (key[0], key[2]) == (count, method)]
            for method in methods
        )
        lines.append(f"| {count} | " + " | ".join(map(_text, cells)) + " |")
    return "\n".join(["NME %, validation / common; mean ± sd over subsets", *lines])


def gains(found):
    """How much lower the error is with unlabeled faces, in percent of what it is without.

    Args:
        found: dict from (labels, subset, method) to cells.

    Returns:
        list of dicts: `labels`, `method`, `without`, `set`, `subsets`, `gain`, the paired bootstrap
        `interval` over faces, of the means over subsets, and `each` subset's gain.
    """
    from keras_lapkl.evaluation import scoring

    rows = []
    for count, method in dict.fromkeys((key[0], key[2]) for key in found):
        without = _PAIRS.get(method)
        keys = [key for key in found if (key[0], key[2]) == (count, method)]
        keys = [key for key in keys if (*key[:2], without) in found]
        for name in _SETS if keys else ():
            ours = np.array([found[key][name]["errors"] for key in keys])
            theirs = np.array([found[*key[:2], without][name]["errors"] for key in keys])
            percent = 100 * (theirs - ours) / theirs.mean()
            gain, *interval = scoring.estimates({"gain": percent.mean(0)})["gain"]
            each = 100 * (1 - ours.mean(1) / theirs.mean(1))
            rows.append(
                {"labels": count, "method": method, "without": without, "set": name}
                | {"subsets": len(keys), "gain": gain, "interval": interval, "each": each.tolist()}
            )
    return rows


def _said(row):
    low, high = row["interval"]
    each = ", ".join(f"{gain:.1f}" for gain in row["each"])
    return (
        f"{row['labels']} labels, {row['method']} against {row['without']}, {row['set']}: "
        f"{row['gain']:.1f} ({low:.1f} to {high:.1f}) ({each})"
    )


def draw(found, path):
    """Error on the common set against the number of labels; the band is ± sd over subsets."""
    from keras_lapkl.evaluation import plots

    sheet = plots.figure(7, 4.5)
    axes = sheet.subplots()
    for method in dict.fromkeys(key[2] for key in found):
        counts = sorted({key[0] for key in found if key[2] == method})
        errors = [
            [v["common"]["nme"] for key, v in found.items() if (key[0], key[2]) == (count, method)]
            for count in counts
        ]
        means = np.array([np.mean(each) for each in errors])
        spread = np.array([np.std(each, ddof=1) if len(each) > 1 else 0 for each in errors])
        (line,) = axes.plot(counts, means, marker="o", label=method.replace("_", " "))
        axes.fill_between(counts, means - spread, means + spread, color=line.get_color(), alpha=0.2)
    ticks = sorted({key[0] for key in found})
    axes.set(xscale="log", xlabel="labeled faces", ylabel="NME on 300-W common, %")
    axes.set_xticks(ticks, map(str, ticks))
    axes.minorticks_off()
    axes.legend()
    axes.grid(alpha=0.3)
    with replacing(path) as temporary:
        sheet.savefig(temporary, format="png", dpi=120)


def _text(cells):
    if not cells:
        return ""
    parts = []
    for name in _SETS:
        errors = [cell[name]["nme"] for cell in cells]
        spread = f" ± {np.std(errors, ddof=1):.2f}" if len(errors) > 1 else ""
        parts.append(f"{np.mean(errors):.2f}{spread}")
    return f"{' / '.join(parts)} ({len(cells)})"


if __name__ == "__main__":
    sys.exit(app.run_main(main))
