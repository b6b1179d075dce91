"""One supervised training run, from crops to a saved model; stopped and resumed at will."""

import csv
import dataclasses
import pathlib
import sys
import time

import keras
from absl import logging

from keras_lapkl import callbacks, evaluation, losses, metrics, runs
from keras_lapkl.data import pipeline
from keras_lapkl.data.augment import Augmentation
from keras_lapkl.models.localizer import LandmarkLocalizer, load_model
from keras_lapkl.models.rcn import RCN

SCHEDULES = ("constant", "cosine")
WARMUP = 0.05
"""Share of a cosine run in which the learning rate rises to its peak."""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What a training run does with its data. The defaults are the paper's, as far as known.

    Attributes:
        loss: a name in `losses.LOSSES`.
        width: the RCN's width.
        epochs: passes over the training faces.
        batch_size: faces in a step.
        learning_rate: Adam's; the peak if the schedule is a cosine.
        schedule: `"constant"`, or `"cosine"` from the peak to 0 after a short warm-up.
        dropout: the RCN's rate.
        augment: whether to augment, as `Augmentation()` does.
        target_scale: scale of the label's distribution, pixels; the KL losses read it.
        beta: inverse temperature of the softmax.
        seed: of weights, dropout, order and augmentation.
    """

    loss: str = "laplace_kl"
    width: float = 1 / 8
    epochs: int = 200
    batch_size: int = 8
    learning_rate: float = 1e-3
    schedule: str = "constant"
    dropout: float = 0.2
    augment: bool = False
    target_scale: float = 1.0
    beta: float = 1.0
    seed: int = 0

    def __post_init__(self):
        for name, allowed in (("loss", tuple(losses.LOSSES)), ("schedule", SCHEDULES)):
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"`{name}` must be one of {allowed}. Received: {getattr(self, name)!r}"
                )
        for name in ("epochs", "batch_size", "learning_rate"):
            if not getattr(self, name) > 0:
                raise ValueError(f"`{name}` must be > 0. Received: {getattr(self, name)}")


def build(recipe, crops):
    """A compiled LandmarkLocalizer for these crops; `recipe.seed` sets every random state."""
    keras.utils.set_random_seed(recipe.seed)
    scheme = crops.scheme
    generator = RCN(scheme.num_landmarks, recipe.width, crops.image_size, recipe.dropout)
    model = LandmarkLocalizer(generator, scheme, crops.crop_scale, recipe.beta, crops.summary)
    scale = {} if recipe.loss == "softargmax" else {"target_scale": recipe.target_scale}
    model.compile(
        optimizer=keras.optimizers.Adam(_learning_rate(recipe, crops)),
        loss=losses.LOSSES[recipe.loss](beta=recipe.beta, **scale),
        metrics=[
            metrics.NormalizedMeanError(
                normalizer=evaluation.default_normalizer(scheme),
                scheme=scheme,
                beta=recipe.beta,
            ),
            metrics.HeatmapSpread(beta=recipe.beta),
        ],
    )
    return model


def train(recipe, crops, validation, output_dir, provenance=None):
    """Trains, and writes `model.keras`, `history.csv` and `results.json` into a folder.

    Each epoch ends with a checkpoint. Called again with the same recipe and data, it goes on from
    there, to the result that the unbroken run would have had; a finished run is only read.

    Args:
        recipe: a `Recipe`.
        crops, validation: `Crops` to train on and to measure on, of one scheme and crop rule.
        output_dir: folder of this run alone.
        provenance: dict from `runs.provenance`, kept in `results.json`.

    Returns:
        The content of `results.json`.

    Raises:
        ValueError: the folder holds another run.
        FloatingPointError: the loss is no longer finite.
    """
    output_dir = pathlib.Path(output_dir)
    steps = pipeline.steps_per_epoch(crops, recipe.batch_size)
    settings = {
        **dataclasses.asdict(recipe),
        "data": crops.summary,
        "validation_data": validation.summary,
        "crop_scale": crops.crop_scale,
        "image_size": crops.image_size,
    }
    _claim(output_dir, settings)
    results_path, model_path = output_dir / "results.json", output_dir / "model.keras"
    if results_path.exists():
        logging.info("%s holds this run, finished; nothing to train.", output_dir)
        return runs.read_json(results_path)

    last = output_dir / "last.keras"
    model = load_model(last) if last.exists() else build(recipe, crops)
    done = int(model.optimizer.iterations)
    _trim_history(output_dir / "history.csv", done // steps)
    logging.info(
        "%s %s: %d parameters, %d epochs of %d steps of %d faces, %s.",
        "Training" if not done else f"Resuming after epoch {done // steps}",
        recipe.loss,
        model.count_params(),
        recipe.epochs,
        steps,
        recipe.batch_size,
        output_dir,
    )
    start = time.monotonic()
    try:
        model.fit(
            pipeline.training_batches(
                crops,
                recipe.batch_size,
                recipe.seed,
                Augmentation() if recipe.augment else None,
                done,
            ),
            initial_epoch=done // steps,
            epochs=recipe.epochs,
            steps_per_epoch=steps,
            shuffle=False,
            validation_data=pipeline.evaluation_batches(validation),
            callbacks=[
                keras.callbacks.TerminateOnNaN(raise_error=True),
                keras.callbacks.CSVLogger(output_dir / "history.csv", append=True),
                callbacks.ResumableCheckpoint(last),
            ],
            verbose=1 if sys.stderr.isatty() else 2,
        )
    except RuntimeError as error:  # TerminateOnNaN's
        raise FloatingPointError(
            f"Training stopped: {error}. Lower the learning rate and train into another folder."
        ) from error
    seconds = time.monotonic() - start
    with runs.replacing(model_path) as temporary:
        model.save(temporary)
    scored, _ = evaluation.evaluate_model(model, validation)
    results = {
        "validation": scored,
        "parameters": model.count_params(),
        "seconds_of_training": round(seconds, 1),
        "epochs_in_those_seconds": recipe.epochs - done // steps,
        "recipe": settings,
        "provenance": provenance,
    }
    runs.write_json(results_path, results)
    last.unlink()
    return results


def _learning_rate(recipe, crops):
    if recipe.schedule == "constant":
        return recipe.learning_rate
    steps = recipe.epochs * pipeline.steps_per_epoch(crops, recipe.batch_size)
    warmup = max(1, round(WARMUP * steps))
    return keras.optimizers.schedules.CosineDecay(
        recipe.learning_rate / 100,
        decay_steps=max(1, steps - warmup),
        warmup_target=recipe.learning_rate,
        warmup_steps=warmup,
    )


def _claim(output_dir, settings):
    """Marks a folder as this run's, or refuses if it is another's."""
    path = output_dir / "run.json"
    if not path.exists():
        runs.write_json(path, settings)
        return
    held = runs.read_json(path)
    changed = {
        key: (held.get(key), settings.get(key))
        for key in {*held, *settings}
        if held.get(key) != settings.get(key)
    }
    if changed:
        lines = [f"  {key}: {old!r} there, {new!r} now" for key, (old, new) in changed.items()]
        raise ValueError(
            f"{output_dir} holds a run with other settings; name another folder or delete it:\n"
            + "\n".join(sorted(lines))
        )


def _trim_history(path, epochs):
    """Drops the rows of epochs that will be trained again: a kill can leave one too many."""
    if not path.exists():
        return
    with path.open(newline="") as file:
        rows = list(csv.reader(file))
    kept = [row for i, row in enumerate(rows) if i == 0 or int(row[0]) < epochs]
    with runs.replacing(path) as temporary, temporary.open("w", newline="") as file:
        csv.writer(file).writerows(kept)
