"""The paper's tables and figures as runs: planned, trained one by one, and written as one report.

A cell is one trained model: a `training.Recipe`, a number of unlabeled faces and a seed. What two
tables share is trained once. Each cell leaves a JSON with its errors face by face, so that the
report can be written at any time, from whatever is there.
"""

import dataclasses
import functools
import hashlib
import importlib.resources
import json
import pathlib
import re
import shlex
import tempfile
import time

import numpy as np
from absl import logging

from keras_lapkl import evaluation, plots, runs, scoring, tflite, training
from keras_lapkl.data import sources
from keras_lapkl.models.localizer import load_model

LABELED = "labeled"
"""In place of a number: the labeled faces as those without labels, the paper's control."""

LOSSES = {"softargmax": "softargmax", "gaussian_kl": "GaussianKL", "laplace_kl": "LaplaceKL"}
WIDTHS = (1, 1 / 2, 1 / 4, 1 / 8, 1 / 16)

PAPER_COMMON = {
    ("softargmax", 0): 3.48,
    ("laplace_kl", 0): 3.28,
    ("laplace_kl", 10_000): 3.26,
    ("laplace_kl", 70_000): 3.19,
}
"""NME on 300-W common at width 1 by loss and number of unlabeled faces: Table 2."""

PAPER_FULL = {
    ("softargmax", False): (4.25, 4.35, 4.83, 6.86, 9.79),
    ("softargmax", True): (4.29, 4.38, 4.85, 6.84, 9.02),
    ("laplace_kl", False): (4.01, 4.04, 4.39, 5.09, 7.38),
    ("laplace_kl", True): (3.91, 3.98, 4.30, 4.85, 7.01),
}
"""NME on 300-W full at `WIDTHS` by loss and whether with D on 70,000 unlabeled faces: Table 3."""

PAPER_FPS = (4.92, 11.92, 16.77, 21.38, 26.51)
PAPER_SPREAD = {"softargmax": 2.59, "laplace_kl": 1.02}
FIGURE_4 = {"beta": (0.5, 1.0, 2.0, 4.0), "target_scale": (0.5, 1.0, 2.0, 4.0)}
FIGURE_4_NAMES = {"beta": "β", "target_scale": "target scale, px"}
LACKING = "needs data that are not here"
TABLES = ("table2", "table3", "figure4")
FILE_MODES = ("float32", "int8")
CED = "ced.png"
FILES = "files.json"
"""What Table 3's networks cost as files."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is to be trained.

    Attributes:
        recipe: what all cells have in common; loss, width, β, target scale and seed are set by
            the tables.
        tables: some of `TABLES`.
        losses: names in `losses.LOSSES`.
        widths: for Table 3; Table 2 and Figure 4 take the first.
        num_unlabeled: for Table 2, numbers > 0 and `LABELED`; Table 3 takes the largest.
        seeds: each cell is trained with each.
        figure_4: values by recipe field.
    """

    recipe: training.Recipe
    tables: tuple[str, ...] = TABLES
    losses: tuple[str, ...] = tuple(LOSSES)
    widths: tuple[float, ...] = WIDTHS
    num_unlabeled: tuple[int | str, ...] = (LABELED, 5_000, 10_000, 20_000)
    seeds: tuple[int, ...] = (0, 1)
    figure_4: dict = dataclasses.field(default_factory=lambda: FIGURE_4)

    def __post_init__(self):
        for name, allowed in (("tables", TABLES), ("losses", tuple(LOSSES))):
            unknown = set(getattr(self, name)) - set(allowed)
            if unknown or not getattr(self, name):
                raise ValueError(
                    f"`{name}` must be one or more of {allowed}. Received: {getattr(self, name)}"
                )
        for name in ("widths", "seeds"):
            if not getattr(self, name):
                raise ValueError(f"`{name}` must not be empty.")

    @property
    def largest(self):
        """The largest number of unlabeled faces, or None."""
        return max((n for n in self.num_unlabeled if n != LABELED), default=None)

    def cells(self):
        """The cells in the order in which they are trained, each once."""
        found = {}
        for seed in self.seeds:
            for table in self.tables:
                for changes, unlabeled in getattr(self, f"_{table}")():
                    cell = Cell(self._recipe(seed, unlabeled, changes), unlabeled)
                    found.setdefault(cell.name, cell)
        return list(found.values())

    def cell(self, seed, unlabeled=0, **changes):
        """The cell of a table's entry."""
        return Cell(self._recipe(seed, unlabeled, changes), unlabeled)

    def _recipe(self, seed, unlabeled, changes):
        adversary = (self.recipe.adversary or training.Adversary()) if unlabeled else None
        changes = {"width": self.widths[0], **changes}
        return dataclasses.replace(self.recipe, seed=seed, adversary=adversary, **changes)

    def _table2(self):
        for loss in self.losses:
            for unlabeled in (0, *self.num_unlabeled):
                yield {"loss": loss}, unlabeled

    def _table3(self):
        for width in self.widths:
            for loss in (name for name in self.losses if name != "gaussian_kl"):
                for unlabeled in (0, self.largest) if self.largest else (0,):
                    yield {"loss": loss, "width": width}, unlabeled

    def _figure4(self):
        for field, values in self.figure_4.items():
            for value in values:
                yield {"loss": "laplace_kl", field: value}, 0


@dataclasses.dataclass(frozen=True)
class Cell:
    """One model to train: a recipe with its seed, and a number of unlabeled faces or `LABELED`."""

    recipe: training.Recipe
    unlabeled: int | str = 0

    @property
    def name(self):
        """A name for its folder: readable, and different for different cells."""
        recipe = self.recipe
        digest = hashlib.sha256(
            json.dumps([_changed(recipe), self.unlabeled], sort_keys=True).encode()
        ).hexdigest()[:8]
        return f"{recipe.loss}-w{recipe.width:g}-u{self.unlabeled}-s{recipe.seed}-{digest}"


def _changed(settings):
    """What a dataclass has other than by default: an option that is new renames no old cell."""
    fields = {field.name: field.default for field in dataclasses.fields(settings)}
    changed = {n: getattr(settings, n) for n, d in fields.items() if getattr(settings, n) != d}
    return {n: _changed(v) if dataclasses.is_dataclass(v) else v for n, v in changed.items()}


def recipe(name, epochs=None):
    """The `training.Recipe` of a file in `keras_lapkl/configs`.

    Args:
        name: of the file, without suffix.
        epochs: in place of the file's.
    """
    text = (importlib.resources.files("keras_lapkl.configs") / f"{name}.cfg").read_text("utf-8")
    given = {}
    for line in text.splitlines():
        if line.startswith("--"):
            key, _, value = line[2:].partition("=")
            given[key] = value or True
    types = {"float": float, "int": int}
    found = {}
    for field in dataclasses.fields(training.Recipe):
        if field.name in given:
            convert = types.get(getattr(field.type, "__name__", field.type), lambda value: value)
            found[field.name] = convert(given[field.name])
    if epochs is not None:
        found["epochs"] = epochs
    return training.Recipe(**found)


def miniature():
    """A plan that shows in minutes that all of it works, and what loads its data.

    The errors mean nothing.
    """
    base = training.Recipe(
        epochs=2,
        learning_rate=3e-3,
        schedule="cosine",
        dropout=0.0,
        adversary=training.Adversary(filters=4),
    )
    plan = Plan(
        base,
        widths=(1 / 16, 1 / 32),
        num_unlabeled=(LABELED, 16),
        seeds=(0,),
        figure_4={"beta": (0.5, 1.0), "target_scale": (1.0, 2.0)},
    )
    return plan, functools.partial(load_data, "synthetic", num_synthetic=48, image_size=32)


def run(plan, load, output_dir, provenance=None, budget_minutes=None):
    """Trains what is missing of a plan, and writes the report anew after each cell.

    Stopped at any moment, the same call goes on. A cell is there if its `cell.json` is: the report
    needs no more, the pictures need its model too.

    Args:
        plan: a `Plan`.
        load: function that gives the `Data`; called if something is to be trained, measured or
            drawn.
        output_dir: folder of all of it: a folder a cell, `RESULTS.md` and pictures.
        provenance: dict from `runs.provenance`, kept in each cell's `cell.json`.
        budget_minutes: no cell is begun after so many; 0 only writes the report of what is there;
            None trains all.

    Returns:
        dict from cell name to the content of its `cell.json`.
    """
    output_dir = pathlib.Path(output_dir)
    load = functools.cache(load)
    cells = plan.cells()
    done = {cell.name: _read(output_dir / cell.name / "cell.json") for cell in cells}
    missing = [cell for cell in cells if done[cell.name] is None]
    logging.info("%d cells, %d of them to train; %s.", len(cells), len(missing), output_dir)
    results = {name: found for name, found in done.items() if found is not None}
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
        write_report(plan, results, output_dir, provenance)
    if budget_minutes != 0:
        _draw(plan, results, load, output_dir)
        if "table3" in plan.tables:
            _measure_files(plan, load, output_dir)
    write_report(plan, results, output_dir, provenance)
    return results


@dataclasses.dataclass(frozen=True)
class Data:
    """Where the faces of the cells come from.

    Attributes:
        train, validation, test: `Crops`.
        load_unlabeled: function from a number or `LABELED` to `UnlabeledCrops`.
    """

    train: object
    validation: object
    test: object
    load_unlabeled: object


def load_data(
    dataset, data_dir=None, unlabeled_dir=None, cache_dir=None, num_synthetic=None, **crop
):
    """The `Data` of a data set; `crop` goes to `sources.load`."""
    common = {"cache_dir": cache_dir, **crop}
    if dataset == "synthetic":
        common["num_synthetic"] = num_synthetic
    margin = {"margin": crop.get("image_size", 80) // 5} if dataset != "synthetic" else {}
    train = sources.load(dataset, data_dir, "train", **common, **margin)

    def load_unlabeled(number):
        if number == LABELED:
            return sources.load_unlabeled(train, labeled_as_unlabeled=True)
        return sources.load_unlabeled(train, unlabeled_dir, number)

    return Data(
        train,
        sources.load(dataset, data_dir, "validation", **common),
        sources.load(dataset, data_dir, "common" if dataset == "300w" else "test", **common),
        load_unlabeled,
    )


def _train(cell, data, folder, provenance):
    """Trains a cell, scores it on the test faces, and writes its `cell.json`."""
    unlabeled = data.load_unlabeled(cell.unlabeled) if cell.unlabeled else None
    trained = training.train(
        cell.recipe, data.train, data.validation, folder, provenance, unlabeled
    )
    model = load_model(folder / "model.keras")
    score, predicted = evaluation.evaluate_model(model, data.test)
    errors = evaluation.face_errors(predicted["landmarks"], data.test, score["normalizer"])
    found = {
        "cell": {**dataclasses.asdict(cell.recipe), "unlabeled": cell.unlabeled},
        "test": {key: value for key, value in score.items() if key != "confidence"},
        "validation_nme": trained["validation"]["nme"],
        "errors": [None if np.isnan(error) else round(float(error), 4) for error in errors],
        "parameters": trained["parameters"],
        "seconds_of_training": trained["seconds_of_training"],
        "provenance": provenance,
    }
    runs.write_json(folder / "cell.json", found)
    return found


def _measure_files(plan, load, output_dir):
    """Bytes and time of Table 3's networks as files, all timed by turns, kept in `files.json`.

    Neither depends on the weights, so that no network needs to be trained for it.
    """
    if _measured_files(plan, output_dir) is not None:
        return
    data, paths = load(), []
    with tempfile.TemporaryDirectory() as folder:
        for width in plan.widths:
            recipe = plan.cell(plan.seeds[0], loss="laplace_kl", width=width).recipe
            model = training.build(recipe, data.train)
            for mode in FILE_MODES:
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
            _fraction(width): {mode: {**next(times), "model": mode} for mode in FILE_MODES}
            for width in plan.widths
        }
    runs.write_json(output_dir / FILES, {**_network(plan), "files": files})


def _measured_files(plan, output_dir):
    """What `_measure_files` has found of this plan's network at all its widths, or None."""
    found = _read(pathlib.Path(output_dir) / FILES) or {}
    files = found.get("files", {})
    of_this = {key: found.get(key) for key in _network(plan)} == _network(plan)
    return files if of_this and {_fraction(w) for w in plan.widths} <= set(files) else None


def _network(plan):
    return {name: getattr(plan.recipe, name) for name in ("network", "head", "normalize")}


def _model(output_dir, cell):
    return output_dir / cell.name / "model.keras"


def _read(path):
    return runs.read_json(path) if path.exists() else None


# === The report ===


def write_report(plan, results, output_dir, provenance=None):
    """Writes `RESULTS.md`, and a picture for it, from the cells that are there.

    Args:
        plan: the `Plan`; cells that are missing have an empty place in the tables.
        results: dict from cell name to the content of `cell.json`.
        output_dir: folder of the report.
        provenance: dict from `runs.provenance`, whose command the report gives.
    """
    sections = [_head(plan, results, provenance)]
    files = _measured_files(plan, output_dir) if "table3" in plan.tables else None
    if "table2" in plan.tables:
        sections.append(_table2(plan, results))
    if "table3" in plan.tables:
        sections.append(_table3(plan, results))
    if files is not None:
        sections.append(_files(plan, files))
    if "figure4" in plan.tables:
        sections.append(_figure4(plan, results))
    sections.append(_claims(plan, results, files))
    if _draw_ced(plan, results, pathlib.Path(output_dir) / CED):
        at = _fraction(plan.widths[0])
        sections.append(
            f"## The losses, width {at}\n\n![Share of the faces by their error, by loss]({CED})\n"
        )
    with runs.replacing(pathlib.Path(output_dir) / "RESULTS.md") as temporary:
        temporary.write_text("\n".join(sections), encoding="utf-8")


def _group(plan, results, **entry):
    """The results of an entry of a table, one for each seed that is there."""
    names = (plan.cell(seed, **entry).name for seed in plan.seeds)
    return [results[name] for name in names if name in results]


def _paired(plan, results, entry, other):
    """Results of two entries, of the seeds that are there of both."""
    names = ([plan.cell(seed, **e).name for e in (entry, other)] for seed in plan.seeds)
    both = [pair for pair in names if all(name in results for name in pair)]
    return tuple([results[pair[i]] for pair in both] for i in (0, 1))


def _errors(group):
    """Errors of the test faces, each the mean over seeds; (N,) with NaN where not scored."""
    return np.mean([np.array(found["errors"], np.float64) for found in group], axis=0)


def _estimate(group):
    """`3.28 ± 0.02 (3.10–3.46)`: mean and deviation over seeds, interval over faces."""
    if not group:
        return ""
    scores = [found["test"]["nme"] for found in group]
    mean, low, high = scoring.estimates({"nme": _errors(group)})["nme"]
    spread = f" ± {np.std(scores, ddof=1):.2f}" if len(scores) > 1 else ""
    return f"{mean:.2f}{spread} ({low:.2f}–{high:.2f})"


def difference(group, other):
    """Mean of what one group's errors are above another's, with its paired interval over faces.

    Returns:
        (mean, low, high) in percent, or None if either is empty.
    """
    if not group or not other:
        return None
    return scoring.estimates({"": _errors(group) - _errors(other)})[""]


def _head(plan, results, provenance):
    recipe = plan.recipe
    cells = plan.cells()
    there = [results[cell.name] for cell in cells if cell.name in results]
    seeds = ", ".join(map(str, plan.seeds))
    data = ""
    if there:
        test = there[0]["test"]
        data = (
            f"Trained on {test['trained_on'].partition('; without labels')[0]}. Tested on "
            f"{test['data']}, {test['faces']:,} faces; crop scale {test['crop_scale']:g}, "
            f"{test['image_size']} pixels; error in percent of the "
            f"{evaluation.MEANING[test['normalizer']]}. "
        )
    augmentation = "on" if recipe.augment else "off"
    settings = (
        f"{recipe.epochs} epochs, batches of {recipe.batch_size}, {recipe.optimizer}, "
        f"learning rate {recipe.learning_rate:g}, {recipe.schedule}, "
        f"dropout {recipe.dropout:g}, network {recipe.network}, head {recipe.head}, "
        f"augmentation {augmentation}; seeds {seeds}."
    )
    return f"""# Results

{len(there)} of {len(cells)} cells are there. {data}{settings}

    {_command(provenance)}

NME in percent, as mean ± deviation over seeds, and in brackets the 95 % bootstrap interval over
test faces of the mean over seeds. Differences are paired by face. The intervals say what other
faces might have given, not what other seeds would: read them beside the deviation. Each cell's
folder holds its command, versions, time and the error of each face in `cell.json`.
"""


def _command(provenance):
    """Without its budget, and with the last parts of its paths: no reader has these folders."""
    words = provenance["command"] if provenance else ["python", "tools/reproduce.py"]
    words = [re.sub("^/.*/(?=tools/)|(?<==)/.*/(?=.)|^/.*/", "", word) for word in words]
    return shlex.join(word for word in words if not word.startswith("--budget_minutes="))


def _table2(plan, results):
    rows = [["loss", "without labels", "NME %", "paper, common", "spread px", "to no D, paired"]]
    for loss in plan.losses:
        for unlabeled in (0, *plan.num_unlabeled):
            entry = {"loss": loss, "unlabeled": unlabeled}
            group = _group(plan, results, **entry)
            paper = PAPER_COMMON.get((loss, unlabeled))
            rows.append(
                [
                    LOSSES[loss],
                    f"D, {_faces(unlabeled)}" if unlabeled else "no D",
                    _estimate(group),
                    "" if paper is None else f"{paper:.2f}",
                    _spread(group),
                    _signed(difference(*_paired(plan, results, entry, {"loss": loss})))
                    if unlabeled
                    else "",
                ]
            )
    return f"## Table 2: losses and unlabeled faces, width {_fraction(plan.widths[0])}\n\n" + _md(
        rows
    )


def _table3(plan, results):
    rows = [["width", "parameters", "loss", "D", "NME %", "paper, full set", "spread px"]]
    for width in _sorted(plan.widths):
        for loss in (name for name in plan.losses if name != "gaussian_kl"):
            for unlabeled in (0, plan.largest) if plan.largest else (0,):
                group = _group(plan, results, loss=loss, width=width, unlabeled=unlabeled)
                paper = PAPER_FULL[loss, bool(unlabeled)]
                known = width in WIDTHS
                rows.append(
                    [
                        _fraction(width),
                        f"{group[0]['parameters']:,}" if group else "",
                        LOSSES[loss],
                        f"{unlabeled:,}" if unlabeled else "",
                        _estimate(group),
                        f"{paper[WIDTHS.index(width)]:.2f}" if known else "",
                        _spread(group),
                    ]
                )
    return (
        "## Table 3: widths\n\nThe paper's column is for its *full* set, common and challenge "
        "together: only its order can be compared.\n\n" + _md(rows)
    )


def _files(plan, files):
    """Table 3's storage and speed."""
    rows = [["width", *(f"{m} {u}" for m in FILE_MODES for u in ("kB", "faces/s")), "paper's fps"]]
    for width in _sorted(plan.widths):
        cells = []
        for mode in FILE_MODES:
            file = files[_fraction(width)][mode]
            cells += [f"{file['bytes'] / 1000:,.0f}", f"{1000 / file['median_ms']:,.0f}"]
        paper = f"{PAPER_FPS[WIDTHS.index(width)]}" if width in WIDTHS else ""
        rows.append([_fraction(width), *cells, paper])
    return (
        "Storage and speed, one thread, decoding included, medians by turns, of untrained "
        "networks, which cost the same; the paper's on other hardware.\n\n" + _md(rows)
    )


def _figure4(plan, results):
    rows = [["changed", "value", "NME %", "spread px"]]
    for field, values in plan.figure_4.items():
        for value in values:
            group = _group(plan, results, loss="laplace_kl", **{field: value})
            rows.append([FIGURE_4_NAMES[field], f"{value:g}", _estimate(group), _spread(group)])
    return "## Figure 4: β and the target scale, LaplaceKL\n\n" + _md(rows)


def claims(plan, results, files=None):
    """Each claim of the paper with what these runs say of it: a list of (claim, verdict, by what).

    A claim on errors is `"reproduced"` if the paired 95 % interval over faces lies on its side of
    0, and the difference so with each seed; `"not reproduced"` otherwise; or `"not run"`.

    Args:
        plan, results: as in `write_report`.
        files: what the networks cost as files, or None.
    """
    return [
        *_claims_on_losses(plan, results),
        *_claims_on_unlabeled(plan, results),
        *_claims_on_figure_4(plan, results),
        *_claims_on_speed(plan, files),
        ("The errors on 300-W challenge and full", LACKING, "the 135 iBUG faces"),
        ("The errors on AFLW", LACKING, "AFLW's images"),
        ("What 70,000 unlabeled faces give", LACKING, "MegaFace"),
    ]


def _claims_on_losses(plan, results):
    widths = _sorted(plan.widths) if "table3" in plan.tables else plan.widths[:1]
    for width in widths:
        both = _paired(
            plan,
            results,
            {"loss": "laplace_kl", "width": width},
            {"loss": "softargmax", "width": width},
        )
        yield _judged(f"LaplaceKL's error is below softargmax's, width {_fraction(width)}", *both)
    if "gaussian_kl" in plan.losses and "table2" in plan.tables:
        both = _paired(plan, results, {"loss": "laplace_kl"}, {"loss": "gaussian_kl"})
        at = _fraction(plan.widths[0])
        yield _judged(f"LaplaceKL's error is below GaussianKL's, width {at}", *both)
    spreads = [_group(plan, results, loss=loss) for loss in ("laplace_kl", "softargmax")]
    if all(spreads):
        ours = [np.mean([f["test"]["spread"] for f in group]) for group in spreads]
        paper = f"the paper has {PAPER_SPREAD['laplace_kl']} and {PAPER_SPREAD['softargmax']}"
        yield (
            "LaplaceKL's heatmaps are sharper than softargmax's",
            "reproduced" if ours[0] < ours[1] else "not reproduced",
            f"{ours[0]:.2f} beside {ours[1]:.2f} px; {paper}",
        )


def _claims_on_unlabeled(plan, results):
    if "table2" not in plan.tables:
        return
    for loss in plan.losses:
        for unlabeled in plan.num_unlabeled:
            both = _paired(plan, results, {"loss": loss, "unlabeled": unlabeled}, {"loss": loss})
            if loss == "laplace_kl" or all(both):
                yield _judged(f"D on {_faces(unlabeled)} lowers {LOSSES[loss]}'s error", *both)


def _claims_on_figure_4(plan, results):
    if "figure4" not in plan.tables:
        return
    for field, values in plan.figure_4.items():
        entries = {v: {"loss": "laplace_kl", field: v} for v in values}
        pairs = {v: _paired(plan, results, entries[1], entries[v]) for v in values if v != 1}
        if all(ones and others for ones, others in pairs.values()):
            judged = {v: _judged("", *pair) for v, pair in pairs.items()}
            holds = all(verdict == "reproduced" for _, verdict, _ in judged.values())
            listed = "; ".join(f"to {v:g}: {by}" for v, (_, _, by) in judged.items())
            verdict = "reproduced" if holds else "not reproduced"
            yield f"1 is the best {FIGURE_4_NAMES[field]}", verdict, listed


def _claims_on_speed(plan, files):
    widths = [_fraction(width) for width in _sorted(plan.widths)]
    if files is None:
        return
    speeds = [1000 / files[width]["float32"]["median_ms"] for width in widths]
    yield (
        "The narrower the network, the faster",
        "reproduced" if speeds == sorted(speeds) else "not reproduced",
        ", ".join(f"{w}: {s:,.0f}" for w, s in zip(widths, speeds, strict=True)) + " faces/s",
    )


def _judged(claim, group, other):
    estimate = difference(group, other)
    if estimate is None:
        return claim, "not run", ""
    by_seed = [np.nanmean(_errors([a]) - _errors([b])) for a, b in zip(group, other, strict=True)]
    holds = estimate[2] < 0 and max(by_seed) < 0
    seeds = "1 seed" if len(by_seed) == 1 else f"{len(by_seed)} seeds"
    verdict = "reproduced" if holds else "not reproduced"
    return claim, verdict, f"difference {_signed(estimate)}, {seeds}"


def _claims(plan, results, files):
    rows = [["claim", "here", "by"], *map(list, claims(plan, results, files))]
    return "## The paper's claims\n\n" + _md(rows)


def _spread(group):
    return f"{np.mean([found['test']['spread'] for found in group]):.2f}" if group else ""


def _signed(estimate):
    if estimate is None:
        return ""
    mean, low, high = (f"{value:+.2f}" for value in estimate)
    return f"{mean} ({low} to {high})"


def _sorted(widths):
    return sorted(widths, reverse=True)


def _faces(unlabeled):
    return "the labeled faces" if unlabeled == LABELED else f"{unlabeled:,} faces"


def _fraction(width):
    return f"1/{1 / width:g}" if width < 1 else f"{width:g}"


def _md(rows):
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "| " + " | ".join("---" for _ in rows[0]) + " |", *lines[1:], ""])


# === Pictures ===


def _draw_ced(plan, results, path):
    """The CED of each loss, its faces those of all seeds; nothing where there is none."""
    groups = {LOSSES[loss]: _group(plan, results, loss=loss) for loss in plan.losses}
    errors = {
        title: np.concatenate([np.array(found["errors"], np.float64) for found in group])
        for title, group in groups.items()
        if group
    }
    if errors:
        normalizer = next(group for group in groups.values() if group)[0]["test"]["normalizer"]
        plots.ced(errors, path, evaluation.MEANING[normalizer], limit=20.0)
    return bool(errors)


def _draw(plan, results, load, output_dir):
    """Figures 1, 3 and 5, from the models of the first seed."""
    models = {}
    for loss in plan.losses:
        cell = plan.cell(plan.seeds[0], loss=loss)
        if cell.name in results and _model(output_dir, cell).exists():
            models[LOSSES[loss]] = load_model(_model(output_dir, cell))
    if not models:
        return
    data = load()
    faces = data.test.central()[:: max(1, len(data.test) // 4)][:4]
    maps = {title: model.predict_heatmaps(faces) for title, model in models.items()}
    plots.heatmaps(faces, maps, output_dir / "heatmaps.png")
    model = list(models.values())[-1]
    shown = data.test.central()[:: max(1, len(data.test) // 24)][:24]
    predicted = model.predict(shown, verbose=0)
    plots.predictions(
        shown,
        predicted["landmarks"],
        predicted["scale"],
        output_dir / "predictions.png",
        data.test.scheme.edges,
    )
