"""What unlabeled faces are worth, by the number of labels: trains a grid of runs and compares them.

    python benchmarks/few_labels.py --data_dir=300w --unlabeled_dir=shards --output_dir=few

Each number of labels is a part of a larger one's: the first faces of the training split in an order
drawn anew for each subset. The lists stand in OUTPUT_DIR/lists. All runs take as many steps of as
many labeled faces. Stopped at any moment, the same command goes on. One OUTPUT_DIR holds runs of
one length, one teacher and one share of unlabeled faces: others are refused.

Prints the errors, and how much lower they are with unlabeled faces than without, at the same width:
mean over subsets, 95 % interval over faces of the paired differences, and each subset's. OUTPUT_DIR
gets them as results.json, and the curve as few_labels.png. --numbers names a file that keeps the
errors of all lengths together, and the curve is then of all that it has of --widths:

    python benchmarks/few_labels.py --data_dir=300w --unlabeled_dir=shards --output_dir=few \
        --numbers=docs/labels.json
"""

import dataclasses
import itertools
import pathlib
import sys
from typing import Any

import label_curves
import numpy as np
from absl import flags, logging

from keras_lapkl._support import app, extras
from keras_lapkl._support.files import read_json, replacing, write_json
from keras_lapkl._support.provenance import run_provenance
from keras_lapkl._support.tensorflow import quiet_tensorflow
from keras_lapkl._support.widths import fraction, parse_width

_DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder of 300-W.", required=True)
_UNLABELED_DIR = flags.DEFINE_string(
    "unlabeled_dir", None, "Shards of `lapkl crop`, cut by a face detector.", required=True
)
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Folder of the runs.", required=True)
_LABELS = flags.DEFINE_list("labels", ["50", "157"], "Numbers of labels.")
_SUBSETS = flags.DEFINE_list("subsets", ["0", "1", "2"], "Seeds of the subsets of labels.")
_METHODS = flags.DEFINE_list("methods", ["supervised", "student"], "What is compared.")
_WIDTHS = flags.DEFINE_list("widths", ["1/8", "1/4"], "Of the networks that are compared.")
_TEACHER_WIDTH = flags.DEFINE_string("teacher_width", "1/2", "Of the mean teacher of students.")
_EPOCHS = flags.DEFINE_integer("epochs", 40, "Of 100 steps of 8 labeled faces.")
_TEACHER_EPOCHS = flags.DEFINE_integer(
    "teacher_epochs", 40, "The same of mean teachers and their width."
)
_UNLABELED_BATCH = flags.DEFINE_integer("unlabeled_batch_size", 12, "Unlabeled faces in a step.")
_NUMBERS = flags.DEFINE_string("numbers", None, "File of errors, to add to and to draw.")

_DRAWS = 10_000
_WITHOUT = label_curves.ALONE
_TEACHER = "mean_teacher"
_STUDENTS = {"student": (_TEACHER,), "student_of_two": (_TEACHER, _WITHOUT)}
"""Of which wide networks' labels each kind of student learns: one, or the mean of two."""
_SETS = ("validation", "common")
_KEYS = ("labels", "subset", "method", "width", "steps")


def main(_):
    quiet_tensorflow()
    extras.require("few_labels.py", "matplotlib")
    unknown = set(_METHODS.value) - {_WITHOUT, _TEACHER, "adversarial", *_STUDENTS}
    if unknown:
        raise ValueError(f"Unknown --methods: {sorted(unknown)}.")
    other = [flag.name for flag in (_TEACHER_WIDTH, _UNLABELED_BATCH) if flag.value != flag.default]
    if _NUMBERS.value and other:
        raise ValueError(f"--numbers does not tell runs of another --{other[0]} apart: drop it.")
    output_dir, found = pathlib.Path(_OUTPUT_DIR.value), {}
    refuse_other_settings(output_dir / "settings.json")
    teacher = parse_width(_TEACHER_WIDTH.value)
    for subset, count in itertools.product(map(int, _SUBSETS.value), map(int, _LABELS.value)):
        for width, method in itertools.product(map(parse_width, _WIDTHS.value), _METHODS.value):
            for each in _STUDENTS.get(method, ()):
                found[count, subset, each, teacher] = cell(output_dir, count, subset, each, teacher)
            found[count, subset, method, width] = cell(output_dir, count, subset, method, width)
            print(table(found), flush=True)
    lower = gains(found)
    print(
        "\n".join(
            [
                "Lower with unlabeled faces by %, [interval over faces] (each subset)",
                *map(_said, lower),
            ]
        )
    )
    conditions = next(iter(found.values()))["conditions"]
    rows = numbers(found)
    results = {"nme": rows, "gains": lower, "conditions": conditions}
    write_json(output_dir / "results.json", {**results, "provenance": run_provenance()})
    if _NUMBERS.value:
        path = pathlib.Path(_NUMBERS.value)
        rows = merged(read_json(path) if path.exists() else [], rows)
        write_json(path, rows)
    widths = [*map(parse_width, _WIDTHS.value)]
    label_curves.draw(
        [row for row in rows if row["width"] in widths], output_dir / "few_labels.png"
    )


def numbers(found):
    """Error of each run on both sets, in percent, with what tells it from the others."""
    return [
        dict(zip(_KEYS, (*key, 100 * epochs(*key[2:])), strict=True))
        | {name: round(cell[name]["nme"], 2) for name in _SETS}
        for key, cell in found.items()
    ]


def epochs(method, width):
    """Of a run: those of teachers for mean teachers and for all networks of the teachers' width."""
    wide = method == _TEACHER or width == parse_width(_TEACHER_WIDTH.value)
    return (_TEACHER_EPOCHS if wide else _EPOCHS).value


def merged(before, rows):
    """Rows of before and new ones, in order; a new one takes the place of that of the same run."""
    by_run = {tuple(row[key] for key in _KEYS): row for row in [*before, *rows]}
    return [by_run[run] for run in sorted(by_run)]


def refuse_other_settings(path):
    """Keeps what all runs of a folder have in common; ValueError where other things are asked."""
    kept = (_EPOCHS, _TEACHER_WIDTH, _TEACHER_EPOCHS, _UNLABELED_BATCH)
    asked = {flag.name: flag.value for flag in kept}
    found = read_json(path) if path.exists() else asked
    if found != asked:
        raise ValueError(
            f"{path}: the runs there have {found}. Received: {asked}. Name another --output_dir."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, asked)


def _name(count, subset, method, width):
    return f"{count}-{subset}-{method}-{width:g}"


def cell(output_dir, count, subset, method, width):
    """Errors of one run, trained if it is not there yet."""
    from keras_lapkl.data import datasets
    from keras_lapkl.evaluation import model_report, model_scores
    from keras_lapkl.loading import load_model
    from keras_lapkl.training.run import train

    folder = output_dir / _name(count, subset, method, width)
    path = folder / "cell.json"
    if path.exists():
        return read_json(path)
    common = {"cache_dir": output_dir / "crops"}
    crops = datasets.load(
        "300w", _DATA_DIR.value, subset_list(output_dir, count, subset), margin=16, **common
    )
    sets = {name: datasets.load("300w", _DATA_DIR.value, name, **common) for name in _SETS}
    recipe = recipe_of(output_dir, count, subset, method, width)
    unlabeled = None
    if recipe.takes_unlabeled:
        unlabeled = datasets.load_unlabeled(crops, _UNLABELED_DIR.value)
    logging.info("%s: %s", folder.name, crops.summary)
    provenance = run_provenance()
    trained = train(recipe, crops, sets["validation"], folder, provenance, unlabeled)
    model = load_model(folder / "model.keras")
    found = {"parameters": trained["parameters"], "seconds": trained["seconds_of_training"]}
    for name, crops in sets.items():
        score, predicted = model_scores.evaluate_model(model, crops)
        errors = model_scores.face_errors(predicted["landmarks"], crops, score["normalizer"])
        found[name] = {"nme": score["nme"], "errors": [round(float(e), 4) for e in errors]}
    found["conditions"] = model_report.conditions(score)
    found |= {"recipe": dataclasses.asdict(recipe), "provenance": provenance}
    write_json(path, found)
    return found


def recipe_of(output_dir, count, subset, method, width):
    """The settings of a run; the learning rate is that of the recipe for the width."""
    from keras_lapkl.training.recipe import MeanTeacher, Teacher, read_recipe

    few = dataclasses.replace(read_recipe("few_labels"), seed=subset)
    wider = MeanTeacher(
        batch_size=8, augment_strength=1.0, width=width, epochs=epochs(method, width)
    )
    taught = dataclasses.replace(few, mean_teacher=wider).wide[0]
    if method == _TEACHER:
        return taught
    alone: Any = dataclasses.replace(taught, mean_teacher=None)
    if method in _STUDENTS:
        wide = parse_width(_TEACHER_WIDTH.value)
        names = (_name(count, subset, each, wide) for each in _STUDENTS[method])
        teachers = tuple(str(output_dir / name / "model.keras") for name in names)
        teacher = Teacher(teachers, batch_size=_UNLABELED_BATCH.value)
        return dataclasses.replace(alone, teacher=teacher)
    if method == "adversarial":
        return dataclasses.replace(alone, adversary=read_recipe("w300_unlabeled").adversary)
    return alone


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
    counts = sorted({key[0] for key in found})
    lines = [f"| method, width | {' | '.join(f'{n} labels' for n in counts)} |"]
    lines.append("| --- " * (1 + len(counts)) + "|")
    for method, width in sorted({key[2:] for key in found}, key=lambda each: each[::-1]):
        cells = (
            [value for key, value in found.items() if key[0] == n and key[2:] == (method, width)]
            for n in counts
        )
        lines.append(f"| {method}, {fraction(width)} | {' | '.join(map(_text, cells))} |")
    return "\n".join(["NME %, validation / common; mean ± sd over (subsets)", *lines])


def gains(found):
    """How much lower the error is with unlabeled faces, in percent of what it is without.

    Args:
        found: dict from (labels, subset, method, width) to cells.

    Returns:
        list of dicts: `labels`, `method`, `width`, `set`, `subsets`, `gain`, the paired bootstrap
        `interval` over faces, of the means over subsets, `each` subset's gain, and `seen`: how
        often a fifth as many faces as there are labels, drawn from the set, show that gain at all.
    """
    from keras_lapkl.evaluation import scoring

    rows, random = [], np.random.default_rng(0)
    for count, method, width in sorted({(key[0], *key[2:]) for key in found}):
        subsets = sorted(
            key[1]
            for key in found
            if key == (count, key[1], method, width)
            and method != _WITHOUT
            and (count, key[1], _WITHOUT, width) in found
        )
        for name in _SETS if subsets else ():
            ours, theirs = (
                np.array([found[count, subset, each, width][name]["errors"] for subset in subsets])
                for each in (method, _WITHOUT)
            )
            percent = 100 * (theirs - ours) / theirs.mean()
            gain, *interval = scoring.estimates({"gain": percent.mean(0)})["gain"]
            each = 100 * (1 - ours.mean(1) / theirs.mean(1))
            few = random.integers(0, ours.shape[1], (_DRAWS, max(1, count // 5)))
            seen = (np.sign(gain) * (theirs - ours)[:, few].mean(-1) > 0).mean()
            rows.append(
                {"labels": count, "method": method, "width": width, "set": name}
                | {"subsets": len(subsets), "gain": gain, "interval": interval}
                | {"each": each.tolist(), "seen": float(seen)}
            )
    return rows


def _said(row):
    low, high = row["interval"]
    each = ", ".join(f"{gain:.1f}" for gain in row["each"])
    return (
        f"{row['labels']} labels, {row['method']}, {fraction(row['width'])}, {row['set']}: "
        f"{row['gain']:.1f} [{low:.1f} to {high:.1f}] ({each}); "
        f"{max(1, row['labels'] // 5)} faces show it in {row['seen']:.0%} of draws"
    )


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
