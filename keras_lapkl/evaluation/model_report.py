"""What `model_scores` finds of a model, as lines of text."""

from collections.abc import Iterable, Mapping
from typing import Any

from keras_lapkl._support import console
from keras_lapkl.evaluation import scoring


def table(results: Iterable[Mapping[str, Any]]) -> str:
    """Lines of text, one for each dict of `model_scores.score`, aligned under their headings.

    Args:
        results: dicts as `model_scores.score` gives them.
    """
    columns = ("data", "faces", "nme", "nme_interval", "spread", "failure_rate_8", "auc_8")
    headings = ("data", "faces", "NME %", "95 %", "spread px", "FR@8 %", "AUC@8")
    return console.aligned([headings, *([_cell(r[c]) for c in columns] for r in results)])


def point_table(rows: Iterable[Mapping[str, Any]]) -> str:
    """Lines of text, one for each dict of `model_scores.point_errors`."""
    heading = ("point", "labeled", "mean px", "median px", "90 % px")
    lines = (["" if v is None else _cell(v) for v in row.values()] for row in rows)
    return console.aligned([heading, *lines])


def conditions(result: Mapping[str, Any]) -> str:
    """What an error means nothing without: training faces, crop, normalizer, and faces left out.

    Args:
        result: a dict of `model_scores.evaluate_model`.
    """
    missing, meaning = result["missing"], scoring.NORMALIZER_MEANINGS[result["normalizer"]]
    # Those of an earlier version have no such counts.
    told = scoring.told(result.get("unscored", 0), result.get("small_distances", 0), meaning)
    return (
        "".join(f"{line}\n" for line in told)
        + (
            f"{missing:,} faces have no finite prediction and count as failures. "
            if missing
            else ""
        )
        + f"Trained on {result['trained_on'] or 'faces unknown'}. "
        f"Crop scale {result['crop_scale']:g}, {result['image_size']}x{result['image_size']} "
        f"pixels; error in percent of the {meaning}."
    )


def confidence_lines(result: Mapping[str, Any]) -> str:
    """Lines of text on `confidence` of a result.

    Args:
        result: a dict of `model_scores.evaluate_model` with `confidence`.
    """
    found = result["confidence"]
    radius, areas = found["radius"], found["sparsification_error"]
    covered = ", ".join(f"{float(c):.0%}: {_percent(s)}" for c, s in found["coverage"].items())
    in_sample = ""
    if found["in_sample"]:
        in_sample = "\nThese are the very faces that are measured here: on others, radii hold less."
    surest = ", ".join(f"{float(s):.0%}: {error:.2f}" for s, error in found["selective"].items())
    groups = sorted(radius["group"].items(), key=lambda each: each[1])
    of_groups = ""
    if groups:
        (low, least), (high, most) = groups[0], groups[-1]
        of_groups = f"; by group of points from {low}, {least:.1%}, to {high}, {most:.1%}"
    return (
        f"Landmarks within the radius that is to hold … of them: {covered}.\n"
        f"Of {radius['asked']:.0%}, in the tenth of the faces with the largest expected error: "
        f"{_percent(radius['faces_by_expected_error'][-1])}; with the largest error, known only "
        f"afterwards: {_percent(radius['faces_by_error'][-1])}{of_groups}.\n"
        f"Mean error in pixels of the surest … of the faces: {surest}.\n"
        f"Negative log-likelihood {found['negative_log_likelihood']:.3f} a point; area under the "
        f"sparsification error {_area(areas['points'])}, of faces {_area(areas['faces'])}.\n"
        f"Calibrated on {found['calibrated_on']}." + in_sample
    )


def part_lines(result: Mapping[str, Any]) -> str:
    """Lines of text on `apertures` and `cheeks` of a result; none where these are empty.

    Args:
        result: a dict of `model_scores.evaluate_model`.
    """
    lines = []
    if found := result["apertures"]:
        said = []
        for name, each in found.items():
            correlation = each["correlation"]
            said.append(
                f"{name}: slope {each['slope']:.2f}"
                + ("" if correlation is None else f", correlation {correlation:.2f}")
            )
            if each.get("closed"):
                said[-1] += (
                    f", {each['closed']} closed, {each['closed_true']:.2f} by the labels, come out "
                    f"at {each['closed_found']:.2f}"
                )
        lines.append(f"Openings, found against labels: {'; '.join(said)}.")
    if found := result["cheeks"]:
        fifths = ", ".join(f"{error:.2f}" for error in found["nme"])
        lines.append(
            f"NME % from the fifth with the darkest cheeks to the lightest: {fifths}"
            + ("." if found["ratio"] is None else _ratio_text(found))
        )
    return "\n".join(lines)


def _ratio_text(found):
    low, high = found["ratio_interval"]
    return f"; ratio {found['ratio']:.2f}, {scoring.LEVEL:.0%} interval {low:.2f} to {high:.2f}."


def _percent(share):
    return "unknown" if share is None else f"{share:.1%}"


def _area(found):
    return f"{found['area']:.3f} (random {found['random']:.3f})"


def _cell(value):
    if isinstance(value, list):
        return "–".join(f"{end:.2f}" for end in value)
    return f"{value:.3f}" if isinstance(value, float) else str(value)
