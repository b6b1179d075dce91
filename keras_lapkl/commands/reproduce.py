"""Runs the paper's tables and figures, and writes them beside the paper's own numbers.

    lapkl reproduce --miniature --output_dir=reproduction
    lapkl reproduce --data_dir=300w --unlabeled_dir=shards --output_dir=reproduction \\
        --widths=1/8,1/16 --epochs=40 --seeds=0,1

Each cell is one training run, kept in a folder of its own. You can stop it at any moment: the same
command goes on. OUTPUT_DIR/RESULTS.md and its pictures are written again after each run.
--miniature is a miniature run of everything on synthetic faces, to see that it works: its errors
mean nothing.
"""

import dataclasses
import functools

from absl import flags

from keras_lapkl._support import extras
from keras_lapkl._support.console import print
from keras_lapkl._support.tensorflow import quiet_tensorflow
from keras_lapkl._support.widths import define_widths, parse_width
from keras_lapkl.configs import names

_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Folder of all of it.", required=True)
_MINIATURE = flags.DEFINE_bool(
    "miniature", False, "A miniature run of everything, on synthetic faces."
)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder of 300-W.")
_UNLABELED_DIR = flags.DEFINE_string("unlabeled_dir", None, "Shards of lapkl crop, for D.")
_TABLES = flags.DEFINE_list("tables", ["table2", "table3", "figure4"], "Which of them.")
_LOSSES = flags.DEFINE_list("losses", ["softargmax", "gaussian_kl", "laplace_kl"], "Losses.")
_WIDTHS = define_widths("widths", "1,1/2,1/4,1/8,1/16", "For Table 3; the others take the first.")
_UNLABELED = flags.DEFINE_list(
    "num_unlabeled",
    ["labeled", "5000", "10000", "20000"],
    "For D; Table 3 takes the largest. Empty: no D.",
)
_SEEDS = flags.DEFINE_list("seeds", ["0", "1"], "Seeds of each cell.")
_RECIPE = flags.DEFINE_enum("recipe", "w300", names(), "What the cells have in common.")
_LEARNING_RATES = flags.DEFINE_list(
    "learning_rates", [], "WIDTH:RATE, …, in place of the recipe's rate: 1:1e-3."
)
_EPOCHS = flags.DEFINE_integer("epochs", None, "Of each cell; default the recipe's.", 1)
_BUDGET = flags.DEFINE_float(
    "budget_minutes", None, "Begin no cell after so many; 0 only writes the report.", 0
)
_CROP_SCALE = flags.DEFINE_float("crop_scale", 3.0, "Crop side / five-point box; the paper's is 2.")
_OF_PLANS = (
    *(_DATA_DIR, _UNLABELED_DIR, _TABLES, _LOSSES, _WIDTHS, _UNLABELED, _SEEDS, _RECIPE),
    *(_LEARNING_RATES, _EPOCHS, _CROP_SCALE),
)


def main(_):
    quiet_tensorflow()
    extras.require("lapkl reproduce", "matplotlib")
    from keras_lapkl import reproduction
    from keras_lapkl._support.provenance import run_provenance
    from keras_lapkl.training.recipe import read_recipe

    if _MINIATURE.value:
        given = [f"--{each.name}" for each in _OF_PLANS if each.present]
        if given:
            raise ValueError(f"--miniature has a plan of its own: drop {', '.join(given)}.")
        plan, load = reproduction.miniature()
    else:
        if not _DATA_DIR.value and _BUDGET.value != 0:
            raise ValueError("--data_dir must name the folder of 300-W; or give --miniature.")
        unlabeled = [n if n == "labeled" else _whole("num_unlabeled", n) for n in _UNLABELED.value]
        controls = [n for n in unlabeled if n == "labeled"]
        if _UNLABELED.present and unlabeled != controls and not _UNLABELED_DIR.value:
            raise ValueError("--num_unlabeled are faces of --unlabeled_dir: name it.")
        recipe = read_recipe(_RECIPE.value)
        plan = reproduction.Plan(
            recipe if _EPOCHS.value is None else dataclasses.replace(recipe, epochs=_EPOCHS.value),
            tuple(_TABLES.value),
            tuple(_LOSSES.value),
            tuple(_WIDTHS.value),
            tuple(unlabeled if _UNLABELED_DIR.value else controls),
            tuple(_whole("seeds", seed) for seed in _SEEDS.value),
            learning_rates=_learning_rates(),
        )
        load = functools.partial(
            reproduction.load_data,
            "300w",
            _DATA_DIR.value,
            _UNLABELED_DIR.value,
            cache_dir=f"{_OUTPUT_DIR.value}/crops",
            crop_scale=_CROP_SCALE.value,
        )
    provenance = run_provenance()
    results = reproduction.run(plan, load, _OUTPUT_DIR.value, provenance, _BUDGET.value)
    print(f"{len(results)} cells. Report and pictures: {_OUTPUT_DIR.value}")


def _whole(name, word):
    """A whole number of a list."""
    if not word.isdecimal():
        raise ValueError(f"--{name} must be whole numbers. Received: {word!r}")
    return int(word)


def _learning_rates():
    """{width: rate} of the flag."""
    pairs = [each.partition(":") for each in _LEARNING_RATES.value]
    try:
        return {parse_width(width): float(rate) for width, _, rate in pairs}
    except ValueError as error:
        raise ValueError(
            "--learning_rates must be WIDTH:RATE, as 1:1e-3,1/2:2e-3. "
            f"Received: {','.join(_LEARNING_RATES.value)}"
        ) from error
