"""One training run, from crops to a saved model; stopped and resumed at will."""

import contextlib
import dataclasses
import pathlib
import sys
import time
from typing import Any

import keras
import numpy as np
from absl import logging

from keras_lapkl import callbacks
from keras_lapkl._support import extras
from keras_lapkl._support.app import UnfinishedError
from keras_lapkl._support.files import replacing, sweep, write_json
from keras_lapkl._support.folders import OtherDataError, owned
from keras_lapkl._support.locks import refuse_link
from keras_lapkl._support.types import PathLike
from keras_lapkl.data.crop_rule import check_crop_rule, check_eye_order
from keras_lapkl.data.crops import Crops
from keras_lapkl.data.origins import RUN
from keras_lapkl.data.unlabeled.crops import UnlabeledCrops
from keras_lapkl.evaluation import model_scores
from keras_lapkl.loading import load_model
from keras_lapkl.training import agreement, distributed, preemption
from keras_lapkl.training.augmentation import Augmentation
from keras_lapkl.training.batches import (
    evaluation_batches,
    label_array,
    mean_teacher_batches,
    plain_errors,
    self_training_batches,
    semi_supervised_batches,
    steps_per_epoch,
    training_batches,
)
from keras_lapkl.training.building import average, build, check_models, epoch_steps
from keras_lapkl.training.recipe import OPENINGS, Recipe
from keras_lapkl.training.run_folder import (
    LAST,
    OUTPUTS,
    PREVIOUS,
    TEACHERS,
    Identity,
    last_checkpoint,
    load_pseudo_labels,
    read_finished,
    read_means,
    remove_checkpoints,
    trim_history,
    write_means,
)

SHOWN = 4
"""Faces in a picture for TensorBoard."""


def train(
    recipe: Recipe,
    crops: Crops,
    validation: Crops,
    output_dir: PathLike,
    provenance: dict[str, Any] | None = None,
    unlabeled: UnlabeledCrops | None = None,
    *,
    tensorboard: bool = False,
    scheduler: PathLike | None = None,
) -> dict[str, Any]:
    """Trains, and writes `model.keras`, `history.csv` and `results.json` into a folder.

    With an adversary, `model.keras` is the localizer alone, and `adversarial.keras` all of it.

    The model's scales are calibrated on the validation faces: see `confidence`.

    Each epoch ends with a checkpoint, and the one before is kept, should the last one be damaged.
    SIGTERM while the model learns, as from a scheduler, writes one after the step and ends with an
    `UnfinishedError`. Called again with the same recipe and data, it goes on from there, to the
    result that the unbroken run would have had; a finished run is only read. Data are the same
    while the digests of labels, boxes and pictures are, wherever the files lie: a folder of a run
    on other data, mended ones too, is refused. `run_folder.choose_folder` names one beside it.

    Args:
        recipe: a `Recipe`.
        crops, validation: `Crops` to train on and to measure on, of one scheme and crop rule.
        output_dir: folder of this run alone.
        provenance: dict from `provenance.run_provenance`, kept in `results.json`.
        unlabeled: `UnlabeledCrops`, if the recipe has an adversary, a teacher or a mean teacher.
        tensorboard: whether to write curves and pictures for TensorBoard into `tensorboard/`.
        scheduler: address of a Dask scheduler, `tcp://host:8786`, or the .json file that it has
            written: a teacher labels the faces by its workers; see `write_pseudo_labels`.

    Returns:
        The content of `results.json`.

    Raises:
        ValueError: the folder holds another run, one on other data or files of something else, its
            checkpoints are damaged, or unlabeled faces are given without adversary and teacher, or
            the other way around; or another process of the training has other settings or data, or
            does not see the folder.
        OSError: another process trains into the folder, the disk is full, or the cluster fails.
        ModuleNotFoundError: `scheduler` without the extra `cluster`.
        FloatingPointError: the loss or a weight is no longer finite, or no prediction is.
        UnfinishedError: SIGTERM came, or another process of the training has ended.

    Example:

    >>> results = train(Recipe(epochs=40), crops, validation, "run")
    >>> results["parameters"]
    39828
    """
    folder = pathlib.Path(output_dir)
    return _run(
        _Job(recipe, crops, validation, folder, provenance, unlabeled, tensorboard, scheduler)
    )


def label(
    recipe: Recipe,
    crops: Crops,
    validation: Crops,
    output_dir: PathLike,
    provenance: dict[str, Any] | None = None,
    unlabeled: UnlabeledCrops | None = None,
    *,
    scheduler: PathLike | None = None,
) -> None:
    """Has a run's teacher label the faces without labels; `train` then goes on from there.

    A cluster's workers can label while no machine with an accelerator waits for them. Stopped and
    called again, it goes on; what is labeled is not labeled again.

    Args:
        recipe: a `Recipe` with a teacher, or with wider networks that become it, which are then
            trained here.
        crops, validation, output_dir, provenance, unlabeled, scheduler: as in `train`.

    Raises:
        ValueError: a recipe without teacher; or as `train`.
        OSError, ModuleNotFoundError, FloatingPointError, UnfinishedError: as `train`.

    Example:

    >>> label(recipe, crops, validation, "run", unlabeled=faces, scheduler="tcp://host:8786")
    >>> results = train(recipe, crops, validation, "run", unlabeled=faces)
    """
    folder = pathlib.Path(output_dir)
    job = _Job(recipe, crops, validation, folder, provenance, unlabeled, scheduler=scheduler)
    if recipe.teacher is None and not recipe.wide:
        raise ValueError(
            "Expected a recipe whose faces without labels are labeled by a teacher (`teacher`, or "
            "`teacher_width` of a mean teacher). Received: one without."
        )
    with _held(job, "label"):
        if not (folder / "results.json").exists():
            _taught(job)


@dataclasses.dataclass(frozen=True)
class _Job:
    """What `train` and `label` are given."""

    recipe: Recipe
    crops: Crops
    validation: Crops
    output_dir: pathlib.Path
    provenance: dict[str, Any] | None
    unlabeled: UnlabeledCrops | None
    tensorboard: bool = False
    scheduler: PathLike | None = None


def _run(job, more_follows=False):
    with _held(job, "train") as identity:
        return _train(job, identity, more_follows)


@contextlib.contextmanager
def _held(job, command):
    """The folder as this run's, checked in all processes; gives the `Identity`.

    The first process alone holds it, and none that of a finished run, which is only read.
    """
    identity = _identity(job)
    agreement.check_command(identity, command)
    finished = (job.output_dir / "results.json").exists()
    if not finished:
        _check_batch_sizes(job.recipe)
    writes = distributed.is_chief() and not finished
    with owned(job.output_dir) if writes else contextlib.nullcontext():
        for name in OUTPUTS if writes else ():  # before the hours after which they are written
            refuse_link(job.output_dir / name)
        _claim(job, identity)
        agreement.check_folder(job.output_dir)
        yield identity


def _check_batch_sizes(recipe):
    sizes = [recipe.batch_size]
    if recipe.takes_unlabeled:
        sizes.append(_unlabeled_batch_size(recipe))
    for size in sizes if recipe.teacher is None else [sum(sizes)]:  # a teacher's go in one batch
        distributed.check_batch_size(size)


def _identity(job):
    """The run's `Identity`, if its arguments go together."""
    recipe, unlabeled = job.recipe, job.unlabeled
    if job.scheduler is not None:
        extras.require("`scheduler`", "distributed")
    if (unlabeled is not None) != recipe.takes_unlabeled:
        raise ValueError(
            "Expected unlabeled faces and an adversary, a teacher or a mean teacher together. "
            f"Received: unlabeled={unlabeled and unlabeled.name}, adversary={recipe.adversary}, "
            f"teacher={recipe.teacher}, mean_teacher={recipe.mean_teacher}"
        )
    if recipe.mean_teacher is not None and distributed.replicas() > 1:
        raise ValueError("A mean teacher trains on one device: start one process.")
    if recipe.mean_teacher is not None and keras.backend.backend() != "tensorflow":
        raise ValueError(
            "A mean teacher trains on TensorFlow: set KERAS_BACKEND=tensorflow. Received: "
            f"{keras.backend.backend()}"
        )
    return Identity(recipe, job.crops, job.validation, unlabeled)


def _claim(job, identity):
    """Marks a folder as that of a run, or refuses it; what can't train before all."""
    epoch_steps(job.recipe, job.crops)
    model_scores.check_scorable(job.validation)
    if job.unlabeled is not None:
        check_crop_rule(job.crops, job.crops.name, job.unlabeled)
        steps_per_epoch(job.unlabeled, _unlabeled_batch_size(job.recipe))
    if not (job.output_dir / RUN).exists():
        check_eye_order(job.crops)
        check_models(job.recipe, job.crops)
    if distributed.is_chief():
        try:
            identity.claim(job.output_dir)
        except OtherDataError as error:
            raise OtherDataError(
                f"{error} Train into another folder, or delete this one."
            ) from error


def _taught(job):
    """The recipe with its teachers, if they have to be trained first, and their labels."""
    recipe = job.recipe
    if recipe.wide:
        folders = [job.output_dir / name for name in TEACHERS[: len(recipe.wide)]]
        for wide, folder in zip(recipe.wide, folders, strict=True):
            seen = job.unlabeled if wide.takes_unlabeled else None
            changes = {"recipe": wide, "output_dir": folder, "unlabeled": seen, "scheduler": None}
            _run(dataclasses.replace(job, **changes), more_follows=True)
        recipe = recipe.taught_by([folder / "model.keras" for folder in folders])
    if recipe.teacher is None:
        return recipe, None
    return recipe, load_pseudo_labels(recipe, job.unlabeled, job.output_dir, job.scheduler)


def _train(job, identity, more_follows):
    output_dir = job.output_dir
    if (output_dir / "results.json").exists():
        results = read_finished(output_dir)
        if distributed.is_chief():
            remove_checkpoints(output_dir)
            sweep(output_dir)
        logging.info("%s holds this run, finished; nothing to train.", output_dir)
        return results

    recipe, labels = _taught(job)
    job = dataclasses.replace(job, recipe=recipe)
    model, spent = _fit(job, labels, more_follows)
    if not distributed.is_chief():
        distributed.wait()
        return read_finished(output_dir)
    return _finish(job, identity, model, spent)


def _fit(job, labels, more_follows):
    """The model after its last epoch, and how long it took from where the run was resumed."""
    recipe, output_dir, unlabeled = job.recipe, job.output_dir, job.unlabeled
    steps = epoch_steps(recipe, job.crops)
    checkpoint = last_checkpoint(output_dir)
    with distributed.scope():
        model = load_model(checkpoint) if checkpoint else build(recipe, job.crops, unlabeled)
    done = int(model.optimizer.iterations.numpy())
    means = read_means(output_dir, done)
    distributed.wait()  # before the chief writes what the others have read
    last, previous = output_dir / LAST, output_dir / PREVIOUS
    writer = callbacks.ResumableCheckpoint(last, previous)
    writers = ()
    if distributed.is_chief():
        if checkpoint == previous:  # else a damaged one would take its place
            last.unlink(missing_ok=True)
        trim_history(output_dir / "history.csv", done // steps)
        writers = (
            callbacks.DurableCSVLogger(output_dir / "history.csv", append=True),
            writer,
            # Last: curves can't be cut back, so a kill may cost a point of them, and doubles none.
            *(_tensorboard(output_dir, job.validation, unlabeled) if job.tensorboard else ()),
        )
    after = f" and {done % steps} steps" if done % steps else ""
    logging.info(
        "%s %s: %d parameters, %d epochs of %d steps of %d faces%s; %s.",
        "Training" if not done else f"Resuming after epoch {done // steps}{after}",
        recipe.loss,
        model.generator.count_params(),
        recipe.epochs,
        steps,
        recipe.batch_size,
        "" if unlabeled is None else f" and {len(unlabeled):,} faces without labels",
        output_dir,
    )
    start = time.monotonic()
    with preemption.noted() as asked, plain_errors():
        watchers = [
            keras.callbacks.TerminateOnNaN(raise_error=True)
            if recipe.adversary is None
            else callbacks.AdversarialMonitor(),
            callbacks.TerminateOnNaNWeights(),
            *writers,
            preemption.StopTogether(asked, more_follows),
        ]
        try:
            for first, count in _stretches(done, steps, recipe.epochs):
                distributed.fit(
                    model,
                    _batches(recipe, job.crops, unlabeled, labels, first),
                    initial_epoch=first // steps,
                    epochs=recipe.epochs,
                    steps_per_epoch=count,
                    shuffle=False,
                    validation_data=evaluation_batches(job.validation),
                    callbacks=[
                        *([preemption.RestOfEpoch(means)] if count < steps else []),
                        *watchers,
                    ],
                    verbose=(1 if sys.stdout.isatty() else 2) if distributed.is_chief() else 0,
                )
        except preemption.PreemptedError as stop:
            raise _kept(model, output_dir, steps, writer) from stop
        except RuntimeError as error:
            if type(error) is not RuntimeError:
                raise  # none of those that watch for NaN
            raise FloatingPointError(
                f"Training stopped: {error}. Lower the learning rate and train into another folder."
            ) from error
    return model, {
        "seconds_of_training": round(time.monotonic() - start, 1),
        "epochs_in_those_seconds": recipe.epochs - done // steps,
    }


def _finish(job, identity, model, spent):
    """Writes the model, calibrated, and `results.json`, its content; by the first process."""
    recipe, output_dir = job.recipe, job.output_dir
    if recipe.adversary is not None:
        with replacing(output_dir / "adversarial.keras") as temporary:
            model.save(temporary)
    if recipe.adversary is not None or recipe.mean_teacher is not None:
        model = model.localizer()
    if recipe.initial_share:
        average(model.generator, recipe)
    with replacing(output_dir / "model.keras") as temporary:
        model.save(temporary)
        # Read back outside of the strategy's scope, where `predict` needs no other process.
        model = load_model(temporary)
        scored, predicted = _scored(model, job.validation)
        model.calibration = model_scores.calibrate(predicted, job.validation)
        model.save(temporary)
    results = {
        "validation": scored,
        "parameters": model.generator.count_params(),
        **spent,
        "recipe": {**identity.settings, **identity.summaries},
        "provenance": job.provenance,
    }
    write_json(output_dir / "results.json", results)
    remove_checkpoints(output_dir)
    distributed.wait()
    return results


def _scored(model, validation):
    """As `evaluate_model`; says of a model that finds nothing, which its loss may hide, so."""
    mend = "Lower the learning rate and train into another folder."
    try:
        scored, predicted = model_scores.evaluate_model(model, validation)
    except model_scores.NoPredictionError as error:
        raise FloatingPointError(f"{error} {mend}") from error
    if scored["missing"]:
        logging.warning(
            "%d of %d validation faces have no finite prediction. %s",
            scored["missing"],
            scored["faces"],
            mend,
        )
    return scored, predicted


def _stretches(done, steps, epochs):
    """First step, and steps in an epoch: the rest of an epoch that was begun, then whole ones."""
    epoch, within = divmod(done, steps)
    if within:
        yield done, steps - within
        epoch += 1
    if epoch < epochs:
        yield epoch * steps, steps


def _kept(model, output_dir, steps, writer):
    """Writes a checkpoint after the step that all have taken; what `train` then raises."""
    done = int(model.optimizer.iterations.numpy())
    epoch, within = divmod(done, steps)
    if within:  # else the epoch's checkpoint is there
        means = preemption.means(model)  # by all processes
        if distributed.is_chief():
            write_means(output_dir, done, means)
            writer.write()
    distributed.wait()  # a scheduler may end the others as soon as one has ended
    return UnfinishedError(
        f"Stopped by SIGTERM after epoch {epoch} and {within} steps. The same command goes on from "
        "there."
    )


def _unlabeled_batch_size(recipe):
    method = recipe.adversary or recipe.teacher or recipe.mean_teacher
    return method.batch_size or recipe.batch_size


def _batches(recipe, crops, unlabeled, labels, first_step):
    augmentation = _augmentation(recipe)
    common = {"seed": recipe.seed, "augmentation": augmentation, "first_step": first_step}
    if unlabeled is None:
        return training_batches(crops, recipe.batch_size, **common)
    size = _unlabeled_batch_size(recipe)
    if labels is not None:
        return self_training_batches(crops, unlabeled, labels, recipe.batch_size, size, **common)
    if recipe.mean_teacher is not None:
        moved = Augmentation().scaled(recipe.mean_teacher.augment_strength)
        return mean_teacher_batches(
            crops, unlabeled, recipe.batch_size, size, moved=moved, **common
        )
    return semi_supervised_batches(crops, unlabeled, recipe.batch_size, size, **common)


def _augmentation(recipe):
    if not recipe.augment:
        return None
    moved = Augmentation().scaled(recipe.augment_strength).with_camera(recipe.camera_strength)
    return dataclasses.replace(moved, **{name: getattr(recipe, name) for name in OPENINGS})


def _tensorboard(output_dir, validation, unlabeled):
    """Curves, and pictures of the first faces."""
    folder = output_dir / "tensorboard"
    labeled = validation.central()[:SHOWN], label_array(validation)[:SHOWN]
    if unlabeled is not None:
        count = min(SHOWN, len(unlabeled))
        inner = unlabeled.inner
        unlabeled = unlabeled.gather(np.arange(count))[:, inner, inner]
    faces = callbacks.TensorBoardFaces(folder, labeled, unlabeled)
    return keras.callbacks.TensorBoard(folder), faces
