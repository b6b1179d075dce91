"""One training run, from crops to a saved model; stopped and resumed at will."""

import csv
import dataclasses
import os
import pathlib
import sys
import time

import keras
import numpy as np
from absl import logging

from keras_lapkl import (
    callbacks,
    distillation,
    distributed,
    evaluation,
    losses,
    metrics,
    runs,
    schemes,
)
from keras_lapkl.data import pipeline
from keras_lapkl.data.augment import Augmentation
from keras_lapkl.models.adversarial import AdversarialLocalizer
from keras_lapkl.models.localizer import LandmarkLocalizer, load_model
from keras_lapkl.models.mobile_fpn import MobileFPN
from keras_lapkl.models.patch_gan import PatchGAN
from keras_lapkl.models.rcn import RCN
from keras_lapkl.optimizers import OPTIMIZERS

NETWORKS = ("rcn", "mobile_fpn")
SCHEDULES = ("constant", "cosine")
WARMUP = 0.05
"""Share of a cosine run in which the learning rate rises to its peak."""
SHOWN = 4
"""Faces in a picture for TensorBoard."""


@dataclasses.dataclass(frozen=True)
class Adversary:
    """How a run trains with unlabeled faces; see `AdversarialLocalizer`.

    Attributes:
        weight: λ of the adversarial loss.
        loss: `"minimax"` or `"non_saturating"`.
        learning_rate: of the discriminator's Adam, constant, with beta_1 0.5.
        filters: channels of the discriminator's first convolution.
        noise: standard deviation of the noise before each of its convolutions.
        heatmap_gain: what the discriminator sees heatmaps multiplied by.
        image_gain: what it sees images multiplied by.
        batch_size: unlabeled faces in a step; None for as many as labeled ones.
    """

    weight: float = 1e-3
    loss: str = "minimax"
    learning_rate: float = 2e-4
    filters: int = 64
    noise: float = 0.2
    heatmap_gain: float = 1.0
    image_gain: float = 1.0
    batch_size: int | None = None


@dataclasses.dataclass(frozen=True)
class Teacher:
    """Who labels the faces without labels, for a run to train on; see `distillation`.

    Attributes:
        model: a file or a shipped model's name, as `load_model` takes it.
        batch_size: faces of the teacher's in a step; None for as many as labeled ones.
        max_scale: landmarks of which the teacher is less sure are hidden, pixels of its crop; None
            hides none.
    """

    model: str
    batch_size: int | None = None
    max_scale: float | None = None

    def __post_init__(self):
        object.__setattr__(self, "model", os.fspath(self.model))
        for name in ("batch_size", "max_scale"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"`{name}` must be > 0, or None. Received: {value}")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What a training run does with its data. The defaults are the paper's, as far as known.

    Attributes:
        loss: a name in `losses.LOSSES`.
        network: `"rcn"`, or `"mobile_fpn"`, which needs the RCN's `head`, `normalize` and `dropout`
            to be `"paper"`, False and 0, as it has none of these.
        width: the network's width.
        head: the RCN's head.
        normalize: whether the RCN normalizes its image.
        epochs: passes over the training faces.
        batch_size: faces in a step.
        optimizer: a name in `optimizers.OPTIMIZERS`.
        learning_rate: its; the peak if the schedule is a cosine.
        schedule: `"constant"`, or `"cosine"` from the peak to 0 after a short warm-up.
        dropout: the RCN's rate.
        augment: whether to augment, as `Augmentation()` does.
        augment_strength: factor on how strongly.
        target_scale: scale of the label's distribution, pixels; the KL losses read it.
        beta: inverse temperature of the softmax.
        seed: of weights, dropout, noise, order and augmentation.
        adversary: an `Adversary` to train with unlabeled faces, or None.
        teacher: a `Teacher` to label them instead, or None.
        initial_model: a file or a shipped model's name, whose weights the network begins with, but
            for layers of another shape; None for random ones.
    """

    loss: str = "laplace_kl"
    network: str = "rcn"
    width: float = 1 / 8
    head: str = "paper"
    normalize: bool = False
    epochs: int = 200
    batch_size: int = 8
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    schedule: str = "constant"
    dropout: float = 0.2
    augment: bool = False
    augment_strength: float = 1.0
    target_scale: float = 1.0
    beta: float = 1.0
    seed: int = 0
    adversary: Adversary | None = None
    teacher: Teacher | None = None
    initial_model: str | None = None

    def __post_init__(self):
        for name, allowed in (
            ("loss", tuple(losses.LOSSES)),
            ("network", NETWORKS),
            ("schedule", SCHEDULES),
            ("optimizer", tuple(OPTIMIZERS)),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"`{name}` must be one of {allowed}. Received: {getattr(self, name)!r}"
                )
        for name in ("epochs", "batch_size", "learning_rate"):
            if not getattr(self, name) > 0:
                raise ValueError(f"`{name}` must be > 0. Received: {getattr(self, name)}")
        own = {"head": self.head, "normalize": self.normalize, "dropout": self.dropout}
        if self.network != "rcn" and own != {"head": "paper", "normalize": False, "dropout": 0}:
            raise ValueError(
                f"Network {self.network!r} has one head, normalizes its image and has no dropout: "
                "expected `head` 'paper', `normalize` False and `dropout` 0, the RCN's own. "
                f"Received: {own}"
            )
        if self.adversary is not None and self.teacher is not None:
            raise ValueError(
                "Faces without labels take an `adversary` or a `teacher`, not both. Received: "
                f"{self.adversary}, {self.teacher}"
            )
        if self.initial_model is not None:
            object.__setattr__(self, "initial_model", os.fspath(self.initial_model))


def build(recipe, crops, unlabeled=None):
    """A compiled model for these crops; `recipe.seed` sets every random state.

    Returns:
        A `LandmarkLocalizer`, or an `AdversarialLocalizer` if the recipe has an adversary.
    """
    keras.utils.set_random_seed(recipe.seed)
    scheme = crops.scheme
    size = scheme.num_landmarks, recipe.width, crops.image_size
    if recipe.network == "rcn":
        generator = RCN(*size, recipe.dropout, recipe.head, recipe.normalize)
    else:
        generator = MobileFPN(*size)
    if recipe.initial_model is not None:
        _begin_with(generator, recipe.initial_model)
    normalizer = evaluation.default_normalizer(scheme)
    common = {"scheme": scheme, "crop_scale": crops.crop_scale, "beta": recipe.beta}
    scale = {} if recipe.loss == "softargmax" else {"target_scale": recipe.target_scale}
    compiled = {
        "optimizer": OPTIMIZERS[recipe.optimizer](_learning_rate(recipe, crops)),
        "loss": losses.LOSSES[recipe.loss](beta=recipe.beta, **scale),
        "metrics": [
            metrics.NormalizedMeanError(
                normalizer=crops.image_size if normalizer == "crop" else normalizer,
                scheme=scheme,
                beta=recipe.beta,
            ),
            metrics.HeatmapSpread(beta=recipe.beta),
        ],
    }
    adversary = recipe.adversary
    trained_on = _trained_on(recipe, crops, unlabeled)
    if adversary is None:
        model = LandmarkLocalizer(generator, trained_on=trained_on, **common)
        model.compile(**compiled)
        return model
    model = AdversarialLocalizer(
        generator,
        PatchGAN(scheme.num_landmarks, adversary.filters, adversary.noise),
        adversary.weight,
        adversary.loss,
        heatmap_gain=adversary.heatmap_gain,
        image_gain=adversary.image_gain,
        trained_on=trained_on,
        **common,
    )
    discriminator_optimizer = keras.optimizers.Adam(adversary.learning_rate, beta_1=0.5)
    model.compile(discriminator_optimizer=discriminator_optimizer, **compiled)
    return model


def train(
    recipe, crops, validation, output_dir, provenance=None, unlabeled=None, tensorboard=False
):
    """Trains, and writes `model.keras`, `history.csv` and `results.json` into a folder.

    With an adversary, `model.keras` is the localizer alone, and `adversarial.keras` all of it.

    The model's scales are calibrated on the validation faces: see `confidence`.

    Each epoch ends with a checkpoint. Called again with the same recipe and data, it goes on from
    there, to the result that the unbroken run would have had; a finished run is only read.

    Args:
        recipe: a `Recipe`.
        crops, validation: `Crops` to train on and to measure on, of one scheme and crop rule.
        output_dir: folder of this run alone.
        provenance: dict from `runs.provenance`, kept in `results.json`.
        unlabeled: `UnlabeledCrops`, if the recipe has an adversary or a teacher.
        tensorboard: whether to write curves and pictures for TensorBoard into `tensorboard/`.

    Returns:
        The content of `results.json`.

    Raises:
        ValueError: the folder holds another run, or unlabeled faces are given without adversary
            and teacher, or the other way around.
        FloatingPointError: the loss is no longer finite.
    """
    if (unlabeled is None) != (recipe.adversary is None and recipe.teacher is None):
        raise ValueError(
            "Expected unlabeled faces and an adversary or a teacher together. Received: "
            f"unlabeled={unlabeled and unlabeled.name}, adversary={recipe.adversary}, "
            f"teacher={recipe.teacher}"
        )
    output_dir = pathlib.Path(output_dir)
    steps = pipeline.steps_per_epoch(crops, recipe.batch_size)
    settings = {
        **dataclasses.asdict(recipe),
        "data": crops.summary,
        "unlabeled_data": unlabeled and unlabeled.summary,
        "validation_data": validation.summary,
        "crop_scale": crops.crop_scale,
        "image_size": crops.image_size,
        "scheme": None if crops.scheme in schemes.BUILT_IN else crops.scheme.to_config(),
    }
    if not (output_dir / "run.json").exists():
        _check_models(recipe, crops)
    if distributed.is_chief():
        _claim(output_dir, settings)
    results_path, model_path = output_dir / "results.json", output_dir / "model.keras"
    if results_path.exists():
        logging.info("%s holds this run, finished; nothing to train.", output_dir)
        return runs.read_json(results_path)

    labels = None if recipe.teacher is None else _pseudo_labels(recipe, unlabeled, output_dir)
    last = output_dir / "last.keras"
    with distributed.strategy().scope():
        model = load_model(last) if last.exists() else build(recipe, crops, unlabeled)
    done = int(model.optimizer.iterations.numpy())
    writers = ()
    if distributed.is_chief():
        _trim_history(output_dir / "history.csv", done // steps)
        writers = (
            keras.callbacks.CSVLogger(output_dir / "history.csv", append=True),
            *(_tensorboard(output_dir, validation, unlabeled) if tensorboard else ()),
            callbacks.ResumableCheckpoint(last),
        )
    logging.info(
        "%s %s: %d parameters, %d epochs of %d steps of %d faces%s; %s.",
        "Training" if not done else f"Resuming after epoch {done // steps}",
        recipe.loss,
        model.generator.count_params(),
        recipe.epochs,
        steps,
        recipe.batch_size,
        "" if unlabeled is None else f" and {len(unlabeled):,} faces without labels",
        output_dir,
    )
    start = time.monotonic()
    try:
        distributed.fit(
            model,
            _batches(recipe, crops, unlabeled, labels, done),
            initial_epoch=done // steps,
            epochs=recipe.epochs,
            steps_per_epoch=steps,
            shuffle=False,
            validation_data=pipeline.evaluation_batches(validation),
            callbacks=[
                keras.callbacks.TerminateOnNaN(raise_error=True)
                if recipe.adversary is None
                else callbacks.AdversarialMonitor(),
                *writers,
            ],
            verbose=1 if sys.stderr.isatty() else 2,
        )
    except RuntimeError as error:  # TerminateOnNaN's or AdversarialMonitor's
        raise FloatingPointError(
            f"Training stopped: {error}. Lower the learning rate and train into another folder."
        ) from error
    seconds = time.monotonic() - start
    if not distributed.is_chief():
        distributed.wait()
        return runs.read_json(results_path)
    if recipe.adversary is not None:
        with runs.replacing(output_dir / "adversarial.keras") as temporary:
            model.save(temporary)
        model = model.localizer()
    with runs.replacing(model_path) as temporary:
        model.save(temporary)
        # Read back outside of the strategy's scope, where `predict` needs no other process.
        model = load_model(temporary)
        scored, predicted = evaluation.evaluate_model(model, validation)
        model.calibration = evaluation.calibrate(predicted, validation)
        model.save(temporary)
    results = {
        "validation": scored,
        "parameters": model.generator.count_params(),
        "seconds_of_training": round(seconds, 1),
        "epochs_in_those_seconds": recipe.epochs - done // steps,
        "recipe": settings,
        "provenance": provenance,
    }
    runs.write_json(results_path, results)
    last.unlink()
    distributed.wait()
    return results


def _trained_on(recipe, crops, unlabeled):
    """One line on all faces that a model owes something to: their limits are its limits too."""

    def source(name_or_path):
        theirs = load_model(name_or_path).trained_on or "faces unknown"
        if f"{theirs};".startswith(f"{crops.summary};"):
            return f"the same labels{theirs.removeprefix(crops.summary)}"
        return theirs

    found = crops.summary
    if unlabeled is not None:
        found += f"; without labels {unlabeled.summary}"
    if recipe.teacher is not None:
        found += f", labeled by a model trained on {source(recipe.teacher.model)}"
    if recipe.initial_model is not None:
        found += f"; begun with a model trained on {source(recipe.initial_model)}"
    return found


def _check_models(recipe, crops):
    """Fails at once on a teacher or first weights that won't do, before the folder is taken."""
    if recipe.teacher is not None:
        distillation.check_teacher(load_model(recipe.teacher.model), crops)
    if recipe.initial_model is not None:
        build(dataclasses.replace(recipe, adversary=None, teacher=None), crops)


def _begin_with(generator, name_or_path):
    """Gives a network the weights of another model's layers of equal name and shapes."""
    source = load_model(name_or_path)
    if not isinstance(source, LandmarkLocalizer):
        raise ValueError(
            "`initial_model` must be a shipped model's name or a .keras file of a "
            f"LandmarkLocalizer. Received: {name_or_path}, a {type(source).__name__}"
        )
    theirs = {layer.name: layer.get_weights() for layer in source.generator.layers}
    layers = [layer for layer in generator.layers if layer.weights]
    fitting = [
        layer
        for layer in layers
        if [w.shape for w in theirs.get(layer.name, ())] == [w.shape for w in layer.weights]
    ]
    if 2 * len(fitting) < len(layers):
        raise ValueError(
            f"`initial_model` is a {type(source.generator).__name__} of which {len(fitting)} of "
            f"the {len(layers)} layers fit this {type(generator).__name__}. Give a model of the "
            "same network and width, with batch normalization if this one has it."
        )
    for layer in fitting:
        layer.set_weights(theirs[layer.name])
    rest = ", ".join(layer.name for layer in layers if layer not in fitting)
    note = f"; at random: {rest}" if rest else ""
    logging.info("Begin with %d of %d layers%s.", len(fitting), len(layers), note)


def _pseudo_labels(recipe, unlabeled, output_dir):
    """What the teacher finds, kept in the run's folder: a run that goes on has the same."""
    path = output_dir / "pseudo_labels.npy"
    if path.exists():
        return np.load(path)
    labels = distillation.pseudo_labels(
        load_model(recipe.teacher.model), unlabeled, recipe.teacher.max_scale
    )
    if distributed.is_chief():
        with runs.replacing(path) as temporary:
            np.save(temporary, labels)
    return labels


def _batches(recipe, crops, unlabeled, labels, first_step):
    augmentation = Augmentation().scaled(recipe.augment_strength) if recipe.augment else None
    common = {"seed": recipe.seed, "augmentation": augmentation, "first_step": first_step}
    if unlabeled is None:
        return pipeline.training_batches(crops, recipe.batch_size, **common)
    if labels is not None:
        return pipeline.self_training_batches(
            crops, unlabeled, labels, recipe.batch_size, recipe.teacher.batch_size, **common
        )
    return pipeline.semi_supervised_batches(
        crops, unlabeled, recipe.batch_size, recipe.adversary.batch_size, **common
    )


def _tensorboard(output_dir, validation, unlabeled):
    """Curves, and pictures of the first faces."""
    folder = output_dir / "tensorboard"
    labeled = validation.central()[:SHOWN], pipeline.labels(validation)[:SHOWN]
    if unlabeled is not None:
        count = min(SHOWN, len(unlabeled))
        inner = slice(unlabeled.margin, unlabeled.margin + unlabeled.image_size)
        unlabeled = unlabeled.gather(np.arange(count))[:, inner, inner]
    faces = callbacks.TensorBoardFaces(folder, labeled, unlabeled)
    return keras.callbacks.TensorBoard(folder), faces


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
