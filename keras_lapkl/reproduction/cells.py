"""Trains the cells of a plan one by one, and measures what its networks cost as files."""

import dataclasses
import functools
import pathlib
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from absl import logging

from keras_lapkl import tflite
from keras_lapkl._support.files import read_json, write_json
from keras_lapkl._support.folders import announce, owned
from keras_lapkl._support.types import PathLike
from keras_lapkl._support.widths import fraction
from keras_lapkl.data import datasets, digests
from keras_lapkl.data.cropping import default_margin
from keras_lapkl.data.crops import Crops
from keras_lapkl.data.unlabeled.crops import UnlabeledCrops
from keras_lapkl.evaluation import model_scores
from keras_lapkl.loading import load_model
from keras_lapkl.reproduction import report
from keras_lapkl.reproduction.plan import LABELED, LOSSES, Plan
from keras_lapkl.training.building import build
from keras_lapkl.training.recipe import Adversary, Recipe
from keras_lapkl.training.run import train

_IN_A_CELL = {"test", "errors"}
"""What the report needs of a `cell.json`."""


@dataclasses.dataclass(frozen=True)
class Data:
    """Where the faces of the cells come from.

    Attributes:
        train, validation, test: `Crops`.
        load_unlabeled: function from a number or `LABELED` to `UnlabeledCrops`.
    """

    train: Crops
    validation: Crops
    test: Crops
    load_unlabeled: Callable[[Any], UnlabeledCrops | None]


def miniature() -> tuple[Plan, Callable[[], Data]]:
    """A plan that shows in minutes that all of it works, and what loads its data.

    The errors mean nothing.
    """
    base = Recipe(
        epochs=2,
        augment=False,
        adversary=Adversary(filters=4),
    )
    plan = Plan(
        base,
        widths=(1 / 16, 1 / 32),
        num_unlabeled=(LABELED, 16),
        seeds=(0,),
        figure_4={"beta": (0.5, 1.0), "target_scale": (1.0, 2.0)},
    )
    return plan, functools.partial(load_data, "synthetic", num_synthetic=48, image_size=32)


def run(
    plan: Plan,
    load: Callable[[], Data],
    output_dir: PathLike,
    provenance: dict[str, Any] | None = None,
    budget_minutes: float | None = None,
) -> dict[str, dict[str, Any]]:
    """Trains what is missing of a plan, and writes the report anew after each cell.

    Stopped at any moment, the same call goes on. A cell is there if its `cell.json` is: the report
    needs no more, the pictures need its model too.

    Args:
        plan: a `Plan`.
        load: function that gives the `Data`; called if something is to be trained, measured or
            drawn.
        output_dir: folder of all of it: a folder a cell, `RESULTS.md` and pictures.
        provenance: dict from `provenance.run_provenance`, kept in each cell's `cell.json`.
        budget_minutes: no cell is begun after so many; 0 only writes the report of what is there;
            None trains all.

    Returns:
        dict from cell name to the content of its `cell.json`.

    Raises:
        OSError: another process writes into the folder, or the disk is full.
        ValueError: a cell that is there was trained or scored on other data; a file that is there
            would be replaced and is not of an earlier call; or there are only cells of other plans
            to report.
    """
    outputs = (report.REPORT, report.CED, report.HEATMAPS, report.PREDICTIONS)
    with owned(output_dir):
        announce(output_dir, "reproduce", ((name, name) for name in outputs))
        return _run(plan, load, pathlib.Path(output_dir), provenance, budget_minutes)


def _run(plan, load_data, output_dir, provenance, budget_minutes):
    cells = plan.cells()

    @functools.cache
    def load():
        data = load_data()
        _check_same(results, data, output_dir)
        return data

    paths = {cell.name: output_dir / cell.name / "cell.json" for cell in cells}
    results = {name: _read_cell(path) for name, path in paths.items() if path.exists()}
    missing = [cell for cell in cells if cell.name not in results]
    if budget_minutes == 0 and not results and (others := len([*output_dir.glob("*/cell.json")])):
        raise ValueError(
            f"{output_dir} holds {others} cells, and none of this plan: its report stays as it is. "
            "Give the flags of the runs that trained them."
        )
    if "table3" in plan.tables:
        report.measured_files(plan, output_dir)  # a file that is not ours stops the run here
    logging.info("%d cells, %d of them to train; %s.", len(cells), len(missing), output_dir)
    if budget_minutes != 0 and any("digests" in each for each in results.values()):
        load()  # whatever is left to do: cells of other labels are not to be reported as these'
    if budget_minutes != 0:  # what is not there is said before anything is trained
        for number in {cell.unlabeled for cell in missing if cell.unlabeled}:
            load().load_unlabeled(number)
    start = time.monotonic()
    for i, cell in enumerate(missing):
        spent = time.monotonic() - start
        if budget_minutes is not None and spent >= 60 * budget_minutes:
            logging.info(
                "%g minutes are spent: %d cells are left. The same command goes on.",
                budget_minutes,
                len(missing) - i,
            )
            break
        left = f", about {spent / i * (len(missing) - i) / 60:.0f} minutes left" if i else ""
        logging.info("Cell %d of %d%s: %s.", i + 1, len(missing), left, cell.name)
        results[cell.name] = _train(cell, load(), output_dir / cell.name, provenance)
        report.write_report(plan, results, output_dir, provenance)
    if budget_minutes != 0:
        _draw(plan, results, load, output_dir)
        if "table3" in plan.tables:
            _measure_files(plan, load, output_dir)
    report.write_report(plan, results, output_dir, provenance)
    return results


def load_data(
    dataset: str,
    data_dir: PathLike | None = None,
    unlabeled_dir: PathLike | None = None,
    cache_dir: PathLike | None = None,
    **crop: Any,
) -> Data:
    """The `Data` of a data set; `crop` goes to `datasets.load`."""
    common = {"cache_dir": cache_dir, **crop}
    margin = 0 if dataset == "synthetic" else default_margin(crop.get("image_size", 80))
    train = datasets.load(dataset, data_dir, "train", margin=margin, **common)

    def load_unlabeled(number):
        if number == LABELED:
            return datasets.load_unlabeled(train, labeled_as_unlabeled=True)
        return datasets.load_unlabeled(train, unlabeled_dir, number)

    return Data(
        train,
        datasets.load(dataset, data_dir, "validation", **common),
        datasets.load(dataset, data_dir, "common" if dataset == "300w" else "test", **common),
        load_unlabeled,
    )


def _read_cell(path):
    """What a finished cell has found."""
    mend = "Delete it: the same command scores the cell again, or trains it if its model is gone"
    try:
        found = read_json(path)
    except ValueError as error:
        raise ValueError(f"{error}. {mend}.") from error
    if not isinstance(found, dict) or not found.keys() >= _IN_A_CELL:
        raise ValueError(f"{path} is not as lapkl writes it. {mend}.")
    return found


def _check_same(results, data, output_dir):
    """Refuses cells of other data, and tells of those that do not say of which."""
    ours = _digests(data)
    cut = {name: getattr(data.test, name) for name in ("crop_scale", "image_size")}
    for name, found in results.items():
        recorded = dict(found.get("digests", {}))
        if "unlabeled" in recorded:
            ours["unlabeled"] = _of_unlabeled(data, found["cell"]["unlabeled"])
        others = [part for part, digest in recorded.items() if ours[part] != digest]
        if others:
            raise ValueError(
                f"{output_dir / name} was trained on other data: labels, boxes or pictures of "
                f"{', '.join(others)} differ from those now. Name another --output_dir for these."
            )
        theirs = {name: found["test"][name] for name in cut}
        if theirs != cut:
            raise ValueError(
                f"{output_dir / name} was trained on other crops: {theirs} there, {cut} now. Name "
                "another --output_dir for these."
            )
    unknown = sum("digests" not in found for found in results.values())
    if unknown:
        logging.warning(
            "%d cells in %s are of an earlier version, which kept no digests of the data: whether "
            "they are of these labels and pictures can't be told.",
            unknown,
            output_dir,
        )


def _digests(data):
    parts = {"training": data.train, "validation": data.validation, "test": data.test}
    found = {part: crops.digests().total() for part, crops in parts.items()}
    # Errors are compared face by face, by their places.
    return {**found, "test (in order)": digests.total(data.test.digests().values, ordered=True)}


def _of_unlabeled(data, number):
    return digests.total(data.load_unlabeled(number).digests())  # not of none


def _train(cell, data, folder, provenance):
    """Trains a cell, scores it on the test faces, and writes its `cell.json`."""
    unlabeled = data.load_unlabeled(cell.unlabeled) if cell.unlabeled else None
    trained = train(cell.recipe, data.train, data.validation, folder, provenance, unlabeled)
    model = load_model(folder / "model.keras")
    score, predicted = model_scores.evaluate_model(model, data.test)
    errors = model_scores.face_errors(predicted["landmarks"], data.test, score["normalizer"])
    found = {
        "cell": {**dataclasses.asdict(cell.recipe), "unlabeled": cell.unlabeled},
        "test": {key: value for key, value in score.items() if key != "confidence"},
        "validation_nme": trained["validation"]["nme"],
        "errors": [None if np.isnan(error) else round(float(error), 4) for error in errors],
        "parameters": trained["parameters"],
        "seconds_of_training": trained["seconds_of_training"],
        "epochs_in_those_seconds": trained["epochs_in_those_seconds"],
        "digests": _digests(data),
        "provenance": provenance,
    }
    if unlabeled is not None:
        found["digests"]["unlabeled"] = digests.total(unlabeled.digests())
    write_json(folder / "cell.json", found)
    return found


def _measure_files(plan, load, output_dir):
    """Bytes and time of Table 3's networks as files, all timed interleaved, kept in `files.json`.

    Neither depends on the weights, so that no network needs to be trained for it.
    """
    if report.measured_files(plan, output_dir) is not None:
        return
    data, paths = load(), []
    with tempfile.TemporaryDirectory() as folder:
        for width in plan.widths:
            recipe = plan.cell(plan.seeds[0], loss="laplace_kl", width=width).recipe
            model = build(recipe, data.train)
            for mode in report.FILE_MODES:
                paths.append(pathlib.Path(folder) / f"{len(paths)}.tflite")
                tflite.convert(
                    model,
                    paths[-1],
                    mode,
                    faces=data.validation.central()[:4],
                    representative_images=data.train.central()[:20] if mode == "int8" else None,
                    bounds={},  # the cost is asked for, whatever the error
                )
        times = iter(tflite.measure_many(paths))
        files = {
            fraction(width): {mode: {**next(times), "model": mode} for mode in report.FILE_MODES}
            for width in plan.widths
        }
    write_json(output_dir / report.FILES, {**report.network(plan), "files": files})


def _draw(plan, results, load, output_dir):
    """The pictures of the report that need the models, those of the first seed."""
    models = {}
    for loss in plan.losses:
        cell = plan.cell(plan.seeds[0], loss=loss)
        path = output_dir / cell.name / "model.keras"
        if cell.name in results and path.exists():
            models[LOSSES[loss]] = load_model(path)
    if models:
        report.draw(models, load().test, output_dir)
