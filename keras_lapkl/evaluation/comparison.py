"""Scores predictions from any program against labels, alone or side by side."""

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_lapkl._support import console
from keras_lapkl._support.csv_names import quote_name
from keras_lapkl._support.files import replacing
from keras_lapkl._support.names import names_below
from keras_lapkl._support.types import PathLike
from keras_lapkl.data.annotations import Annotations
from keras_lapkl.data.prediction_files import CocoNames, Predictions, read_predictions
from keras_lapkl.evaluation import convention_checks, scoring
from keras_lapkl.evaluation.matching import match
from keras_lapkl.schemes import Scheme

_SHOWN = 20
"""Rows of a table that a terminal gets; results.json has all."""


def read_sets(
    entries: Iterable[str], scheme: Scheme, coco: CocoNames | None = None
) -> dict[str, Predictions]:
    """Predictions by their titles, from `FILE` or `TITLE=FILE` each.

    The title of a file without one is its stem, or where that is `predictions` its folder's name.

    Args:
        entries: texts; a path is as `read_predictions` takes it.
        scheme: `Scheme` of the landmarks.
        coco: `CocoNames` of labels in a COCO file, to read COCO results.

    Raises:
        ValueError: two with one title; also as `read_predictions` does.
    """
    found = {}
    for entry in entries:
        title, separator, path = entry.partition("=")
        if not separator or Path(entry).exists():
            path = entry
            resolved = Path(path).resolve()
            title = resolved.stem if resolved.stem != "predictions" else resolved.parent.name
        if not title or title in found:
            raise ValueError(
                f"Expected predictions with titles that differ. Received {title!r} twice or empty: "
                f"write TITLE=FILE. In: {','.join(entries)}"
            )
        found[title] = read_predictions(path, scheme, coco)
    if not found:
        raise ValueError("Expected predictions as FILE or TITLE=FILE. Received: none")
    return found


def compare(
    annotations: Annotations,
    predictions: Mapping[str, Predictions],
    folder: PathLike | None = None,
    normalizer: str | None = None,
    by_subset: bool = False,
) -> tuple[dict[str, Any], dict[tuple[str, str], NDArray[np.float64]]]:
    """Scores of one or more sets of predictions on the same labeled faces.

    All intervals come from the same resamples of the faces, so those of differences are paired. A
    subset's come from resamples of its own faces.

    Args:
        annotations: `Annotations`, the truth.
        predictions: dict from title to `Predictions`. The first is what others are compared to.
        folder: where the data is. Names of photos start here.
        normalizer: a name of `scoring.NORMALIZER_MEANINGS` for all but the first table; None takes
            the first of `scoring.normalizers`.
        by_subset: whether to score the faces of each first folder in these names as well.

    Returns:
        The content of `results.json`, plain data; and the errors of each face: dict from (title,
        normalizer) to (N,) percent, as `scoring.face_errors` gives them.

    Raises:
        ValueError: a normalizer that the faces do not allow, no face that can be scored, or
            predictions that fit no photo.

    Example:

    >>> results, errors = compare(annotations, {"mine": read_predictions("found.csv", IBUG68)})
    >>> errors["mine", "interocular"].shape
    (554,)
    """
    scheme, boxes = annotations.scheme, annotations.boxes
    truth = annotations.landmarks.astype(np.float64)
    visible = annotations.known
    sizes = {
        name: scoring.normalizing_distances(name, truth, visible, scheme, boxes)
        for name in scoring.normalizers(scheme, boxes)
    }
    if not sizes:
        raise ValueError(
            f"{annotations.name}: expected two points or more, or boxes, to which errors can be "
            "relative. Received: one point and no boxes"
        )
    normalizer = normalizer or next(iter(sizes))
    scoring.check_normalizer(normalizer, scheme, boxes)
    scorable = np.isfinite(sizes[normalizer]) & visible.any(1)
    scoring.check_scorable(scorable, annotations.name, normalizer)
    subsets = _subsets(names_below(annotations.paths, folder)) if by_subset else {}
    about, tables = {}, {}
    for title, each in predictions.items():
        found = match(annotations, each, folder)
        about[title] = _matched(each, found, truth, visible, sizes[normalizer], scheme)
        about[title]["small_distances"] = scoring.small_distances(sizes[normalizer])
        given = found.landmarks, truth, visible
        scores = {name: scoring.face_errors(*given, size) for name, size in sizes.items()}
        if by_subset:
            errors = scores[normalizer]
            about[title]["subsets"] = {n: _scored(errors[faces]) for n, faces in subsets.items()}
        groups = scoring.group_errors(*given, sizes[normalizer], scheme)
        tables[title] = {"scores": scores, "groups": groups}
    for (title, kind, name), row in _estimated(tables, normalizer).items():
        about[title].setdefault(kind, {})[name] = row
    results = {
        "data": annotations.name,
        "summary": annotations.summary,
        "labeled_faces": len(annotations),
        "normalizer": normalizer,
        "resamples": scoring.RESAMPLES,
        "interval": scoring.LEVEL,
        "by_subset": by_subset,
        "predictions": about,
    }
    return results, {(t, n): errors for t in tables for n, errors in tables[t]["scores"].items()}


def write_errors(
    path: PathLike,
    annotations: Annotations,
    errors: Mapping[tuple[str, str], NDArray[Any]],
    folder: PathLike | None = None,
) -> None:
    """Writes the errors of each face as CSV: `inf` without prediction, empty if not to be scored.

    Args:
        path: file to write.
        annotations: `Annotations`.
        errors: as `compare` gives them.
        folder: as `compare` takes it.
    """
    rows = np.stack(list(errors.values()), axis=1)
    with (
        replacing(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["file", *(quote_name(f"{title} {name}") for title, name in errors)])
        for name, row in zip(names_below(annotations.paths, folder), rows, strict=True):
            writer.writerow([quote_name(name), *("" if np.isnan(e) else f"{e:.6g}" for e in row)])


def report(results: dict[str, Any]) -> str:
    """The results of `compare` as text: counts, warnings of other conventions, and tables."""
    sets, normalizer = results["predictions"], results["normalizer"]
    meaning = scoring.NORMALIZER_MEANINGS[normalizer]
    parts = ["\n".join(_about_lines(title, each) for title, each in sets.items())]
    first = next(iter(sets.values()))  # what can't be scored is the same of all
    unscored = first["scores"][normalizer]["unscored"]
    if told := scoring.told(unscored, first["small_distances"], meaning):
        parts.append("\n".join(told))
    parts.append(_score_table(sets))
    if results["by_subset"]:
        parts.append(f"By subset, in percent of the {meaning}:\n" + _side_table(sets, "subsets"))
    parts.append(f"By landmarks, in percent of the {meaning}:\n" + _side_table(sets, "groups"))
    lines = [
        f"{title} − {first}, the same faces: {_difference_line(row)}"
        for title, each in sets.items()
        for first, row in each.get("difference", {}).items()
    ]
    if lines:
        parts.append("\n".join(lines))
    parts.append(
        f"[…]: {results['interval']:.0%} intervals over faces, bootstrap, {results['resamples']:,} "
        "resamples. FR and AUC count a face without prediction as a failure, NME leaves it out."
    )
    return "\n\n".join(parts)


def _matched(predictions, found, truth, visible, size, scheme):
    offset, deviation = convention_checks.mean_offset(found.landmarks, truth, visible)
    suspected = convention_checks.suspected_convention(
        found.landmarks, truth, visible, size, scheme, predictions.form
    )
    near = np.where(found.elsewhere[:, None, None], np.nan, found.landmarks)
    nme = scoring.face_errors(near, truth, visible, size)
    nme = nme[np.isfinite(nme)]
    return {
        "file": predictions.source,
        "form": predictions.form,
        "matched": int(visible.any(1).sum()) - found.missing,
        "missing": found.missing,
        "not_named": found.not_named,
        "extra_photos": found.extra,
        "photos_with_several": found.several,
        "repeated_faces": found.twice,
        "elsewhere": int(found.elsewhere.sum()),
        "nme_without_elsewhere": float(nme.mean()) if nme.size else None,
        "offset": [None if np.isnan(value) else float(value) for value in offset],
        "offset_error": [None if np.isnan(value) else float(value) for value in deviation],
        "suspected_conventions": [suspected] if suspected else [],
    }


def _estimated(tables, normalizer):
    """Rows of results by (title, kind, name), and of differences from the first title."""
    errors = {
        (title, kind, name): each
        for title, kinds in tables.items()
        for kind, rows in kinds.items()
        for name, each in rows.items()
    }
    rows = {key: scoring.statistics(each) for key, each in errors.items()}
    first, *others = tables
    base = rows[first, "scores", normalizer]
    for title in others:
        own = rows[title, "scores", normalizer]
        rows[title, "difference", first] = {name: own[name] - base[name] for name in base}
    columns = {(*key, name): each for key, row in rows.items() for name, each in row.items()}
    found = scoring.estimates(columns)
    return {
        key: {
            **(scoring.counts(errors[key]) if key in errors else {}),
            **scoring.summary({name: found[(*key, name)] for name in row}),
        }
        for key, row in rows.items()
    }


def _scored(errors):
    """The row of results of some faces alone."""
    found = scoring.estimates(scoring.statistics(errors))
    return {**scoring.counts(errors), **scoring.summary(found)}


def _subsets(names):
    """The faces of each first folder; all are of one, "", where there are no folders."""
    found = {}
    for i, name in enumerate(names):
        found.setdefault(name.split("/")[0] if "/" in name else "", []).append(i)
    return dict(sorted(found.items()))


def _about_lines(title, about):
    total = about["matched"] + about["missing"]
    x, y = (
        f"{_number(value, 2, '+')} ± {_number(error)}"
        for value, error in zip(about["offset"], about["offset_error"], strict=True)
    )
    lines = [
        f"{title}: {about['matched']:,} of {total:,} faces have a prediction, on the whole off by "
        f"({x}, {y}) px."
    ]
    for count, text in (
        (about["missing"], "faces have none, {not_named:,} of them in photos that are not named"),
        (about["extra_photos"], "photos with predictions are not among the labeled ones"),
        (
            about["photos_with_several"],
            "photos have more predicted faces than labeled ones: those that overlap most count",
        ),
        (about["repeated_faces"], "predictions repeat another of their photo, number by number"),
        (
            about["elsewhere"],
            "predictions do not overlap their face at all; NME without them: {without}",
        ),
    ):
        if count:
            text = text.format(**about, without=_percent(about["nme_without_elsewhere"]))
            lines.append(f"  {count:,} {text}.")
    for each in about["suspected_conventions"]:
        without = "" if each["nme"] is None else f" NME without: {each['nme']:.2f} %."
        lines.append(f"  CAUTION: {each['text']}.{without} Nothing was corrected.")
    return "\n".join(lines)


def _score_table(sets):
    thresholds = scoring.THRESHOLDS
    rows: list[tuple[str, ...]] = [
        ("", "normalizer", "faces", "missing", "NME %", "", "median")
        + (*(f"FR@{t} %" for t in thresholds), *(f"AUC@{t}" for t in thresholds))
    ]
    for title, about in sets.items():
        for name, row in about["scores"].items():
            rows.append(
                (title, name, f"{row['faces']:,}", f"{row['missing']:,}", _number(row["nme"]))
                + (_interval(row["nme_interval"]), _number(row["nme_median"]))
                + tuple(_number(row[f"failure_rate_{t}"]) for t in thresholds)
                + tuple(_number(row[f"auc_{t}"], 3) for t in thresholds)
            )
    return console.aligned(rows)


def _side_table(sets, kind):
    """NME with its interval: one row a subset or group, one column a set of predictions."""
    names = _row_names(sets, kind)
    rows = [("", "faces", *(word for title in sets for word in (title, "")))]
    for name in names[:_SHOWN]:
        found = [about[kind][name] for about in sets.values()]
        cells = (w for f in found for w in (_number(f["nme"]), _interval(f["nme_interval"])))
        rows.append((name or ".", f"{found[0]['faces']:,}", *cells))
    rest = len(names) - _SHOWN
    more = f"\nresults.json has {rest:,} more." if rest > 0 else ""
    return console.aligned(rows) + more


def _row_names(sets, kind):
    return list(next(iter(sets.values()))[kind])


def _difference_line(row):
    parts = (("nme", "NME", 2), ("failure_rate_8", "FR@8", 2), ("auc_8", "AUC@8", 3))
    return ", ".join(
        f"{name} {_number(row[key], digits, '+')} {_interval(row[f'{key}_interval'], digits, '+')}"
        for key, name, digits in parts
    )


def _number(value, digits=2, sign=""):
    return "–" if value is None else f"{value:{sign}.{digits}f}"


def _percent(value):
    return "–" if value is None else f"{value:.2f} %"


def _interval(ends, digits=2, sign=""):
    return "" if ends is None else f"[{', '.join(_number(end, digits, sign) for end in ends)}]"
