"""`RESULTS.md`: what the cells say, beside what the paper says."""

import pathlib
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_lapkl import training_data
from keras_lapkl._support.files import read_json, replacing
from keras_lapkl._support.types import PathLike
from keras_lapkl._support.widths import fraction
from keras_lapkl.evaluation import plots, scoring
from keras_lapkl.reproduction.plan import LABELED, LOSSES, WIDTHS, Plan

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
FIGURE_4_NAMES = {"beta": "β", "target_scale": "target scale, px"}
LACKING = "needs data that are not here"
FILE_MODES = ("float32", "int8")
REPORT = "RESULTS.md"
CED = "ced.png"
HEATMAPS = "heatmaps.png"
PREDICTIONS = "predictions.png"
FILES = "files.json"
"""What Table 3's networks cost as files."""


def write_report(
    plan: Plan,
    results: Mapping[str, dict[str, Any]],
    output_dir: PathLike,
    provenance: dict[str, Any] | None = None,
) -> None:
    """Writes `RESULTS.md`, and a picture for it, from what is there: cells and `FILES`.

    Args:
        plan: the `Plan`; cells that are missing have an empty place in the tables.
        results: dict from cell name to the content of `cell.json`.
        output_dir: folder of the report.
        provenance: dict from `provenance.run_provenance`, whose command the report gives.
    """
    output_dir = pathlib.Path(output_dir)
    files = measured_files(plan, output_dir) if "table3" in plan.tables else None
    sections = [_head(plan, results, provenance)]
    if "table2" in plan.tables:
        sections.append(_table2(plan, results))
    if "table3" in plan.tables:
        sections.append(_table3(plan, results))
    if files is not None:
        sections.append(_files(plan, files))
    if "figure4" in plan.tables:
        sections.append(_figure4(plan, results))
    sections.append(_claims(plan, results, files))
    if _draw_ced(plan, results, output_dir / CED):
        at = fraction(plan.widths[0])
        sections.append(
            f"## The losses, width {at}\n\n![Share of the faces by their error, by loss]({CED})\n"
        )
    with replacing(output_dir / REPORT) as temporary:
        temporary.write_text("\n".join(sections), encoding="utf-8")


def measured_files(plan, output_dir):
    """Bytes and times of a plan's networks as files: by width and `FILE_MODES`, or None.

    Args:
        plan: the `Plan`, whose network, head and widths they must be of.
        output_dir: a `pathlib.Path`, the folder of `FILES`.
    """
    path = output_dir / FILES
    found = read_json(path) if path.exists() else {"files": {}}
    if not isinstance(found, dict) or not isinstance(found.get("files"), dict):
        raise ValueError(f"{path} is not of lapkl reproduce: name another folder.")
    files = found["files"]
    of_this = {key: found.get(key) for key in network(plan)} == network(plan)
    return files if of_this and {fraction(w) for w in plan.widths} <= set(files) else None


def network(plan):
    """What tells one plan's networks from another's, but for their widths."""
    return {name: getattr(plan.recipe, name) for name in ("network", "head", "normalize")}


def draw(models, test, output_dir):
    """Figures 1, 3 and 5: `heatmaps.png` of all models, `predictions.png` of the last.

    Args:
        models: dict from title to `LandmarkLocalizer`.
        test: `Crops` that they are shown on.
        output_dir: a `pathlib.Path`, the folder of the pictures.
    """
    faces = test.central()[:: max(1, len(test) // 4)][:4]
    maps = {title: model.predict_heatmaps(faces) for title, model in models.items()}
    plots.heatmaps(faces, maps, output_dir / HEATMAPS)
    model = list(models.values())[-1]
    chosen = slice(None, None, max(1, len(test) // 16))
    shown = test.central()[chosen][:16]
    plots.predictions(
        shown,
        model.predict(shown, verbose=0)["landmarks"],
        output_dir / PREDICTIONS,
        labels=np.where(test.visible[..., None], test.landmarks, np.nan)[chosen],
        edges=test.scheme.edges,
    )


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


def difference(
    group: Sequence[dict[str, Any]], other: Sequence[dict[str, Any]]
) -> tuple[float, float, float] | None:
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
        trained: Any = training_data.get(test.get("training_data") or test["trained_on"])
        data = (
            f"Trained on {'; '.join(map(str, trained.labeled))}. Tested on "
            f"{test['data']}, {test['faces']:,} faces; crop scale {test['crop_scale']:g}, "
            f"{test['image_size']} pixels; error in percent of the "
            f"{scoring.NORMALIZER_MEANINGS[test['normalizer']]}. "
        )
    augmentation = "on" if recipe.augment else "off"
    rates = "".join(f" ({r:g} at width {fraction(w)})" for w, r in plan.learning_rates.items())
    settings = (
        f"{recipe.epochs} epochs, batches of {recipe.batch_size}, {recipe.optimizer}, "
        f"learning rate {recipe.learning_rate:g}{rates}, {recipe.schedule}, "
        f"dropout {recipe.dropout:g}, network {recipe.network}, head {recipe.head}, "
        f"augmentation {augmentation}; seeds {seeds}."
    )
    return f"""# Results after {recipe.epochs} epochs

The paper's tables and figures, trained by `lapkl reproduce`, and which of its claims hold here.

{len(there)} of {len(cells)} training runs are there. {data}{settings}

    {_command(provenance)}

NME in percent, as mean ± deviation over seeds, and in brackets the 95 % bootstrap interval over
test faces of the mean over seeds. Differences are paired by face. The intervals say what other
faces might have given, not what other seeds would: read them beside the deviation. Each run's
folder holds its command, versions, time and the error of each face in `cell.json`.
"""


def _command(provenance):
    """Without its budget, and with the last parts of its paths: no reader has these folders."""
    flags = [word for word in (provenance or {}).get("command", ()) if word.startswith("-")]
    flags = [re.sub("(?<==)/.*/(?=.)", "", flag) for flag in flags]
    flags = [flag for flag in flags if not flag.startswith("--budget_minutes=")]
    return shlex.join(["lapkl", "reproduce", *flags])


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
    return f"## Table 2: losses and unlabeled faces, width {fraction(plan.widths[0])}\n\n" + _md(
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
                        fraction(width),
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
            file = files[fraction(width)][mode]
            cells += [f"{file['bytes'] / 1000:,.0f}", f"{1000 / file['median_ms']:,.0f}"]
        paper = f"{PAPER_FPS[WIDTHS.index(width)]}" if width in WIDTHS else ""
        rows.append([fraction(width), *cells, paper])
    return (
        "Storage and speed, one thread, decoding included, medians interleaved, of untrained "
        "networks, which cost the same; the paper's on other hardware.\n\n" + _md(rows)
    )


def _figure4(plan, results):
    rows = [["changed", "value", "NME %", "spread px"]]
    for field, values in plan.figure_4.items():
        for value in values:
            group = _group(plan, results, loss="laplace_kl", **{field: value})
            rows.append([FIGURE_4_NAMES[field], f"{value:g}", _estimate(group), _spread(group)])
    return "## Figure 4: β and the target scale, LaplaceKL\n\n" + _md(rows)


def claims(
    plan: Plan, results: Mapping[str, dict[str, Any]], files: dict[str, Any] | None = None
) -> list[tuple[str, str, str]]:
    """Each claim of the paper with what these runs say of it: a list of (claim, verdict, by what).

    A claim on errors is `"reproduced"` if the paired 95 % interval over faces lies on its side of
    0, and the difference so with each seed, `"reproduced by one seed"` where there is but one;
    `"not reproduced"` otherwise; or `"not run"`.

    Args:
        plan, results: as in `write_report`.
        files: of `measured_files`.
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
        yield _judged(f"LaplaceKL's error is below softargmax's, width {fraction(width)}", *both)
    if "gaussian_kl" in plan.losses and "table2" in plan.tables:
        both = _paired(plan, results, {"loss": "laplace_kl"}, {"loss": "gaussian_kl"})
        at = fraction(plan.widths[0])
        yield _judged(f"LaplaceKL's error is below GaussianKL's, width {at}", *both)
    pair = _paired(plan, results, *({"loss": loss} for loss in ("laplace_kl", "softargmax")))
    if all(pair):
        ours, other = ([found["test"]["spread"] for found in group] for group in pair)
        by_seed = ", ".join(f"{a:.2f} and {b:.2f}" for a, b in zip(ours, other, strict=True))
        yield (
            "LaplaceKL's heatmaps are sharper than softargmax's",
            _verdict(np.subtract(ours, other)),
            f"{by_seed} px by seed; the paper has {PAPER_SPREAD['laplace_kl']} and "
            f"{PAPER_SPREAD['softargmax']}",
        )


def _claims_on_unlabeled(plan, results):
    if "table2" not in plan.tables:
        return
    for loss in plan.losses:
        for unlabeled in plan.num_unlabeled:
            both = _paired(plan, results, {"loss": loss, "unlabeled": unlabeled}, {"loss": loss})
            yield _judged(f"D on {_faces(unlabeled)} lowers {LOSSES[loss]}'s error", *both)


def _claims_on_figure_4(plan, results):
    if "figure4" not in plan.tables:
        return
    for field, values in plan.figure_4.items():
        entries = {v: {"loss": "laplace_kl", field: v} for v in values}
        pairs = {v: _paired(plan, results, entries[1], entries[v]) for v in values if v != 1}
        if all(ones and others for ones, others in pairs.values()):
            judged = {v: _judged("", *pair) for v, pair in pairs.items()}
            found = {verdict for _, verdict, _ in judged.values()}
            listed = "; ".join(f"to {v:g}: {by}" for v, (_, _, by) in judged.items())
            verdict = next(each for each in _VERDICTS if each in found)
            yield f"1 is the best {FIGURE_4_NAMES[field]}", verdict, listed


def _claims_on_speed(plan, files):
    if files is None:
        return
    widths = [fraction(width) for width in _sorted(plan.widths)]
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
    seeds = "1 seed" if len(by_seed) == 1 else f"{len(by_seed)} seeds"
    return claim, _verdict(by_seed, estimate[2]), f"difference {_signed(estimate)}, {seeds}"


def _verdict(by_seed, bound=-np.inf):
    """Of a claim that differences are negative: those of the seeds, and an interval's end."""
    refuted, weak, firm = _VERDICTS
    if not (np.array([bound, *by_seed]) < 0).all():  # nor where one is NaN
        return refuted
    return weak if len(by_seed) == 1 else firm


def _claims(plan, results, files):
    rows = [["claim", "here", "by"], *map(list, claims(plan, results, files))]
    return f"## The paper's claims\n\n{_JUDGED}\n\n" + _md(rows)


_VERDICTS = ("not reproduced", "reproduced by one seed", "reproduced")
"""Of claims on errors and spreads, the one that overrules the others first."""
_JUDGED = (
    "An error is lower if the interval is below 0, and the difference of each seed too; heatmaps "
    "are sharper if they are with each seed: otherwise the claim is not reproduced. Where there is "
    "one seed, another may say otherwise."
)


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


def _md(rows):
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "| " + " | ".join("---" for _ in rows[0]) + " |", *lines[1:], ""])


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
        plots.ced(errors, path, scoring.NORMALIZER_MEANINGS[normalizer])
    return bool(errors)
