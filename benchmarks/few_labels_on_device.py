"""The grid of few_labels.py on one accelerator: all numbers of labels and all subsets at once.

    KERAS_BACKEND=jax python benchmarks/few_labels_on_device.py --data_dir=300w \
        --unlabeled_dir=shards --output=found.json

Trains by `on_device.py`, with the extra `jax` and without TensorFlow. Subsets are those of
few_labels.py. First the networks of --width learn from labels alone, then mean teachers of
--teacher_width from all that --pools names, and then students of --width from what these find in
the unlabeled faces. The errors stand in --output after each. Random numbers are others than
TensorFlow's, so that single runs differ from few_labels.py's as two seeds do.
"""

import dataclasses
import itertools
import math
import os
import sys

import numpy as np
from absl import flags

from keras_lapkl._support import app
from keras_lapkl._support.widths import parse_width

_DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder of 300-W.", required=True)
_UNLABELED_DIR = flags.DEFINE_string(
    "unlabeled_dir", None, "Shards of `lapkl crop`, cut by a face detector.", required=True
)
_OUTPUT = flags.DEFINE_string("output", None, "JSON file of the errors.", required=True)
_LABELS = flags.DEFINE_list(
    "labels", ["25", "50", "100", "157", "315", "630", "1809"], "Numbers of labels."
)
_SUBSETS = flags.DEFINE_list("subsets", ["0", "1", "2"], "Seeds of the subsets of labels.")
_POOLS = flags.DEFINE_list("pools", [], "Numbers of unlabeled faces, beside all of them.")
_POOL_LABELS = flags.DEFINE_list("pool_labels", ["50", "157"], "Labels beside --pools.")
_WIDTH = flags.DEFINE_string("width", "1/8", "Of the networks that are compared.")
_TEACHER_WIDTH = flags.DEFINE_string("teacher_width", "1/2", "Of the mean teachers.")
_STEPS = flags.DEFINE_integer("steps", 12_000, "Of 8 labeled faces.", lower_bound=1)
_TEACHER_STEPS = flags.DEFINE_integer("teacher_steps", 4000, "The same of mean teachers.")
_PICTURE = flags.DEFINE_string("picture", None, "PNG file of the curves, if wanted.")
_CHUNK = flags.DEFINE_integer("chunk", 500, "Steps in a call of the device.", lower_bound=1)

_SETS = ("validation", "common")


def main(_):
    if os.environ.get("KERAS_BACKEND") != "jax":
        raise ValueError("Set KERAS_BACKEND=jax: this trains by JAX alone.")
    import jax
    import jax.numpy as jnp
    import label_curves
    import on_device

    from keras_lapkl._support.provenance import run_provenance
    from keras_lapkl.data import datasets

    crops = datasets.load("300w", _DATA_DIR.value, "train", margin=16)
    sets = {name: datasets.load("300w", _DATA_DIR.value, name) for name in _SETS}
    faces = datasets.load_unlabeled(crops, _UNLABELED_DIR.value)
    runs = grid(len(faces))
    print(
        f"{crops.summary}; {faces.summary}. {len(runs)} runs on {jax.devices()[0].device_kind}.",
        flush=True,
    )
    order = subsets(crops.names)
    pools = [order[subset][:count] for count, subset, _ in runs]
    # The first faces of one order: what is in a smaller pool is in a larger one.
    chosen = np.random.default_rng(0).permutation(len(faces)).astype(np.int32)
    others = [chosen[:pool] for *_, pool in runs]
    labels = np.where(crops.known[..., None], crops.landmarks, 0)
    labels = np.concatenate([labels, crops.known[..., None]], -1).astype(np.float32)
    data = {"faces": jnp.asarray(crops.images), "labels": jnp.asarray(labels)}
    unlabeled = jnp.asarray(faces.gather(np.arange(len(faces))))
    flip = np.asarray(crops.scheme.flip)
    width, wide = parse_width(_WIDTH.value), parse_width(_TEACHER_WIDTH.value)
    alone = on_device.Plan(
        width=width,
        num_landmarks=crops.scheme.num_landmarks,
        steps=_STEPS.value,
        learning_rate=2e-2 * math.sqrt(1 / 8 / width),
    )
    teacher = on_device.Plan(
        width=wide,
        num_landmarks=crops.scheme.num_landmarks,
        method="mean_teacher",
        steps=_TEACHER_STEPS.value,
        unlabeled_batch_size=8,
        learning_rate=2e-2 * math.sqrt(1 / 8 / wide),
    )
    student = dataclasses.replace(alone, method="student")
    rows, provenance = [], run_provenance()

    def learned(plan, data, seed, some=slice(None)):
        def report(line):
            print(f"{plan.method} {plan.width:g}: {line}", flush=True)

        states = on_device.learn(
            plan, data, flip, pools[some], others[some], seed, _CHUNK.value, report
        )
        found = {
            name: errors(on_device.locate(plan, states, each.central()), each)
            for name, each in sets.items()
        }
        for i, (count, subset, pool) in enumerate(runs[some]):
            pool = 0 if plan.method == "supervised" else pool
            row = {"labels": count, "subset": subset, "method": plan.method, "width": plan.width}
            row |= {"steps": plan.steps, "unlabeled": pool}
            rows.append(row | {name: round(float(found[name][i]), 2) for name in _SETS})
            print(", ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
        write(rows, provenance)
        return states

    # Labels alone once, whatever the pools.
    learned(alone, data, 1, slice(len(_LABELS.value) * len(_SUBSETS.value)))
    data["unlabeled"] = unlabeled
    states = learned(teacher, data, 0)
    data["pseudo"] = on_device.label(teacher, states, unlabeled, flip)
    learned(student, data, 2)
    print(f"Errors: {_OUTPUT.value}")
    if _PICTURE.value is not None:
        label_curves.draw([r for r in rows if r["unlabeled"] in (0, len(faces))], _PICTURE.value)


def grid(faces):
    """(labels, subset, unlabeled faces) of all runs: those of all faces first."""
    counts, seeds = ([*map(int, flag.value)] for flag in (_LABELS, _SUBSETS))
    pools = [*map(int, _POOLS.value)]
    whole = [(count, seed, faces) for count, seed in itertools.product(counts, seeds)]
    beside = itertools.product(map(int, _POOL_LABELS.value if pools else ()), pools, seeds)
    return [*whole, *((count, seed, pool) for count, pool, seed in beside)]


def subsets(names):
    """By seed the indices of the training faces in the order of few_labels.py."""
    stems = [os.path.splitext(name)[0] for name in names]
    folder = os.path.commonpath(stems)
    at = {os.path.relpath(stem, folder): i for i, stem in enumerate(stems)}
    return {
        seed: np.array([at[s] for s in np.random.default_rng(seed).permutation(sorted(at))])
        for seed in map(int, _SUBSETS.value)
    }


def errors(found, crops):
    """NME in percent of each run, from landmarks (R, N, K, 2)."""
    from keras_lapkl.evaluation import model_scores

    normalizer = model_scores.default_normalizer(crops.scheme)
    return [np.nanmean(model_scores.face_errors(each, crops, normalizer)) for each in found]


def write(rows, provenance):
    from keras_lapkl._support.files import write_json

    write_json(_OUTPUT.value, {"nme": rows, "provenance": provenance})


if __name__ == "__main__":
    sys.exit(app.run_main(main))
