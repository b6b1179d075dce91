"""Labels ranked by how improbable a model finds them that was not trained on them.

A point's error e is measured in the error E that the model's scale lets one expect: r = e / E. The
expected one is calibrated on all audited labels together, in which single faults weigh little.
Faults move points in their own ways, so a face has several measures:

    whole      mean r of its points
    point      largest r of them
    mirrored   what the mean r falls by with the names of left and right exchanged
    swapped    what that of two points falls by with these exchanged
    shifted    what the mean r falls by with all points moved by one vector
    scaled     what it falls by further with all points scaled about their center
    duplicate  mean distance / mean E from the labels of another picture that shows the same

Each is divided by what nine of ten faces stay below; mirrored, shifted and scaled by no less than a
quarter of that of the first, and swapped by that quarter, since the errors of a sound label are of
no such form; duplicate by that of the first. The largest is the face's score.
"""

import csv
import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_lapkl._support.csv_names import quote_name
from keras_lapkl._support.files import replacing
from keras_lapkl._support.names import names_below
from keras_lapkl._support.types import PathLike
from keras_lapkl.data.cropping import apply_transform, invert_transform
from keras_lapkl.data.crops import Crops
from keras_lapkl.evaluation import model_scores

KINDS = ("whole", "point", "shifted", "scaled", "duplicate", "mirrored", "swapped")
SUSPECT = 2.0
"""Score from which a label is worth a look."""
_USUAL = 0.9
"""Share of the faces that is below 1 in each measure."""
_CLEAR = 0.25
"""What a correction takes away that is as telling as a usual error."""
_BETTER = 0.5
"""What a correction must get an error below, as a share of it, to be its explanation."""
_LISTED = 10
_COPIES = 10
"""On either side, of thousands of frames in which nothing moves."""
_TOLD = 4
"""Points that are told one by one."""


@dataclasses.dataclass(frozen=True)
class Suspect:
    """One face of the ranking.

    Attributes:
        face: its index in the crops.
        kind: of fault that it would be, one of `KINDS`.
        points: indices of the points concerned; all known ones, if it concerns all.
        score: how improbable; nine of ten faces are below 1 in each measure.
        error, expected: mean distance of these points from where the model has them, and what was
            to be expected, pixels of the photo.
        says: what the model would have instead, in words.
    """

    face: int
    kind: str
    points: tuple[int, ...]
    score: float
    error: float
    expected: float
    says: str


def audit(
    crops: Crops,
    predicted: Mapping[str, NDArray[Any]],
    same: Sequence[int] | NDArray[Any] | None = None,
) -> list[Suspect]:
    """Ranks all faces, the most improbable labels first.

    Args:
        crops: the N `Crops`, with the labels.
        predicted: dict of `landmarks` and `scale`, each (N, K, 2) crop pixels, by models that were
            not trained on these labels: see `cross_validation.predict`.
        same: (N,) equal for pictures that show the same, as `duplicates.groups` gives them; None
            where that is not known.

    Returns:
        N of `Suspect`, by falling score.

    Raises:
        ValueError: no known landmark.

    Example:

    >>> audit(crops, predicted)[0].says
    'the names of left and right exchanged'
    """
    faces = _Faces(crops, predicted)
    measures = {
        "whole": faces.error,
        "point": np.nan_to_num(faces.ratios).max(1),
        **faces.corrections(),
    }
    units = {kind: _quantile(values) for kind, values in measures.items()}
    least = _CLEAR * units["whole"]
    units |= {kind: max(units[kind], least) for kind in measures if kind not in ("whole", "point")}
    pairs = [_exchanges(faces, face, units["point"]) for face in range(len(crops))]
    measures["swapped"] = np.array([each[0][1] if each else 0.0 for each in pairs])
    units["swapped"] = least
    twins = {} if same is None else _twins(faces, np.asarray(same))
    measures["duplicate"] = np.array([twins.get(i, (i, 0.0))[1] for i in range(len(crops))])
    units["duplicate"] = units["whole"]
    scores = {kind: np.nan_to_num(values / units[kind]) for kind, values in measures.items()}
    kinds, table = list(scores), np.stack(list(scores.values()))
    order = np.argsort(-table.max(0), kind="stable").tolist()
    found = []
    for face in order:
        score, kind = float(table[:, face].max()), kinds[int(table[:, face].argmax())]
        mirrored = measures["mirrored"][face] > _BETTER * faces.error[face]
        kind = "mirrored" if mirrored else "swapped" if pairs[face] else kind
        kind, points, says = _explained(faces, face, kind, pairs[face], units["point"])
        if scores["duplicate"][face] >= 1:
            says += _of_twin(faces, face, twins[face][0])
        found.append(_suspect(faces, face, score, kind, points, says))
    return found


def summary(found: Sequence[Suspect]) -> dict[str, Any]:
    """How many labels were ranked and how many of them are suspect, in all and by kind.

    Args:
        found: as `audit` gives them.
    """
    suspects = [each for each in found if each.score >= SUSPECT]
    kinds = {kind: sum(each.kind == kind for each in suspects) for kind in KINDS}
    return {"labels": len(found), "from_score": SUSPECT, "suspects": len(suspects), "kinds": kinds}


def report(crops: Crops, found: Sequence[Suspect]) -> str:
    """What was found as text: how many are suspect, by kind, and the first ten.

    Args:
        crops: as `audit` takes them.
        found: as `audit` gives them.
    """
    counts = summary(found)
    by_kind = ", ".join(f"{count:,} {kind}" for kind, count in counts["kinds"].items() if count)
    lines = [
        f"{counts['suspects']:,} of {len(found):,} labels have a score of {SUSPECT:g} or more"
        + (f": {by_kind}." if by_kind else ".")
    ]
    names = names_below(crops.names)
    for rank, each in enumerate(found[:_LISTED], start=1):
        lines.append(f"{rank:3} {each.score:6.2f}  {names[each.face]}: {each.kind}, {each.says}")
    return "\n".join(lines)


def write(
    path: PathLike,
    crops: Crops,
    found: Iterable[Suspect],
    folder: PathLike | None = None,
) -> None:
    """Writes the ranking as CSV, a line a face.

    The columns: `rank` from 1; `file`; `face`, its number among those of the file that are audited,
    from 1; `place`, where its label stands in the file of labels; `kind`; `points`, names with
    semicolons between, or `all`; `score`; `error_px` and `expected_px`, pixels of the photo; and
    `model_says`.

    Args:
        path: file to write.
        crops: as `audit` takes them.
        found: as `audit` gives them.
        folder: where the data is; names of files start here.
    """
    # Of `labels.csv, line 12` the file is one for all.
    places = [place.rpartition(", ")[2] for place in crops.places or ("",) * len(crops)]
    names, numbers = names_below(crops.names, folder), _numbers(crops.names)
    known = crops.known.sum(1)
    with (
        replacing(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        header = "rank,file,face,place,kind,points,score,error_px,expected_px,model_says"
        writer.writerow(header.split(","))
        for rank, each in enumerate(found, start=1):
            points = "; ".join(crops.scheme.names[k] for k in each.points)
            everything = len(each.points) == known[each.face] > 1
            writer.writerow(
                [
                    *(rank, quote_name(names[each.face]), numbers[each.face]),
                    *(quote_name(places[each.face]), each.kind),
                    "all" if everything else quote_name(points),
                    *(f"{each.score:.3f}", *map(_cell, (each.error, each.expected))),
                    quote_name(each.says),
                ]
            )


class _Faces:
    """Labels beside what the model has, crop pixels; NaN where a point is not known.

    Attributes:
        labels, model: (N, K, 2).
        expected: (N, K) distances that were to be expected; `ratios` are the real ones by these.
        error: (N,) mean of the ratios.
        offset: (N, 2) mean of what the model's points are off by.
        growth: (N,) how many times the model's points are as far from their center.
    """

    def __init__(self, crops, predicted):
        known = crops.known & np.isfinite(predicted["landmarks"]).all(-1)
        expected = model_scores.calibrate(predicted, crops).error(predicted["scale"])
        self.crops, self.names = crops, names_below(crops.names)
        self.labels = np.where(known[..., None], crops.landmarks, np.nan).astype(np.float64)
        self.model = np.where(known[..., None], predicted["landmarks"], np.nan).astype(np.float64)
        self.expected = np.where(known, np.maximum(expected, 1e-6), np.nan)
        moved = self.model - self.labels
        self.ratios = np.linalg.norm(moved, axis=-1) / self.expected
        self.error, self.offset = _mean(self.ratios), _mean(moved)
        ours, theirs = (each - _mean(each)[:, None] for each in (self.labels, self.model))
        along, power = np.nansum(ours * theirs, (1, 2)), np.nansum(ours**2, (1, 2))
        # Two points, or points in another order, tell nothing of a scale.
        told = (known.sum(1) > 2) & (along > power / 2) & (along < 2 * power)
        self.growth = np.divide(along, power, out=np.ones(len(crops)), where=told)

    def corrections(self):
        """What the mean ratio (N,) falls by, by kind of correction; 0 if it grows."""
        moved = self.labels + self.offset[:, None]
        center = _mean(moved)[:, None]
        scaled = center + self.growth[:, None, None] * (moved - center)
        # What is fitted to few points takes errors away that are not of its form.
        points = np.isfinite(self.expected).sum(1)
        after = []
        for labels, fitted in ((moved, 1), (scaled, 1.5)):
            left = np.where(points > fitted, points - fitted, np.nan)
            after.append(self.error_of(labels) * np.sqrt(points / left))
        found = {"shifted": self.error - after[0], "scaled": after[0] - after[1]}
        flip = self.crops.scheme.flip
        mirrored = self.labels if flip is None else self.labels[:, list(flip)]
        found["mirrored"] = self.error - self.error_of(mirrored)
        return {kind: np.maximum(np.nan_to_num(fallen), 0) for kind, fallen in found.items()}

    def error_of(self, labels):
        """(N,) mean ratio of other labels (N, K, 2)."""
        return _mean(np.linalg.norm(labels - self.model, axis=-1) / self.expected)

    def known_points(self, face):
        return tuple(np.flatnonzero(np.isfinite(self.expected[face])).tolist())

    def apart(self, face, labels):
        """(K,) how far other labels of a face are from the model's, by what is to be expected."""
        return np.linalg.norm(labels - self.model[face], axis=-1) / self.expected[face]

    def in_photo(self, face, points):
        """Points in crop pixels as they lie in the photo."""
        return apply_transform(invert_transform(self.crops.transforms[face]), points)

    def pixels(self, face):
        """Pixels of the photo in one of the crop."""
        return float(1 / np.sqrt(abs(np.linalg.det(self.crops.transforms[face][:, :2]))))


def _explained(faces, face, kind, pairs, unit):
    """Kind, points and words of a fault.

    Args:
        faces: `_Faces`.
        face: index of one.
        kind: of fault.
        pairs: as `_exchanges` gives them.
        unit: ratio from which a point is far off.
    """
    ratios, names = faces.ratios[face], faces.crops.scheme.names
    everywhere = faces.known_points(face)
    if kind == "mirrored":
        return kind, everywhere, "the names of left and right exchanged"
    if kind == "swapped":
        words = ", ".join(f"{names[i]} and {names[j]}" for (i, j), _ in pairs[:_TOLD])
        words += f" and {len(pairs) - _TOLD} more pairs" if len(pairs) > _TOLD else ""
        return kind, tuple(sorted(k for pair, _ in pairs for k in pair)), f"{words} exchanged"
    if kind == "duplicate":
        return kind, everywhere, "points elsewhere"
    if kind == "shifted":
        x, y = faces.offset[face] * faces.pixels(face)
        return kind, everywhere, f"all points moved by ({x:+.1f}, {y:+.1f}) px"
    if kind == "scaled":
        times = faces.growth[face]
        return kind, everywhere, f"all points {times:.2f} times as far from their center"
    off = np.flatnonzero(np.nan_to_num(ratios) >= max(unit, np.nanmax(ratios, initial=0) / 2))
    if kind == "whole" or not len(off):
        count = np.count_nonzero(np.nan_to_num(ratios) > 2)
        said = f"{count} of {len(everywhere)} points elsewhere" if count else "no point stands out"
        return "whole", everywhere, said
    places = faces.in_photo(face, faces.model[face])
    words = (f"{names[k]} at ({places[k, 0]:.1f}, {places[k, 1]:.1f})" for k in off[:_TOLD])
    more = f" and {len(off) - _TOLD} more" if len(off) > _TOLD else ""
    return kind, tuple(off.tolist()), ", ".join(words) + more


def _exchanges(faces, face, unit):
    """Pairs of points that both fit much better exchanged, and by how much, the clearest first.

    At least one of each is further off than nine of ten faces' worst point.
    """
    if not (faces.ratios[face] > unit).any():
        return []
    labels, model = faces.labels[face], faces.model[face]
    apart = np.linalg.norm(labels[None] - model[:, None], axis=-1) / faces.expected[face][:, None]
    own = np.diag(apart)
    before = own[:, None] + own
    fits = (apart < _BETTER * own[:, None]) & (_BETTER * own > apart.T)
    fits &= np.maximum(own[:, None], own) > unit
    gain = np.triu(np.where(fits, before - apart - apart.T, 0), 1)
    pairs, used = [], set()
    for i, j in zip(*np.unravel_index(np.argsort(-gain, axis=None), gain.shape), strict=True):
        if gain[i, j] <= 0:
            break
        if not used & {i, j}:
            pairs.append(((int(i), int(j)), float(gain[i, j]) / 2))
            used |= {i, j}
    return pairs


def _twins(faces, same):
    """Of each face whose labels fit worse than those of a copy: that face, and how far they are.

    Args:
        faces: `_Faces`.
        same: (N,) equal for pictures that are the same.

    Returns:
        dict from face to the face of another file whose labels are nearest, and their mean distance
        by what is to be expected of other faces.
    """
    names, usual = faces.crops.names, _mean(faces.expected.T)  # labels know nothing of the model
    members = defaultdict(list)
    for face, group in enumerate(same.tolist()):
        members[group].append(face)
    found = {}
    for group in members.values():
        if len(group) == 1:
            continue
        for place, face in enumerate(group):
            nearest, reach = None, faces.crops.image_size / 2
            for other in group[max(0, place - _COPIES) : place + _COPIES + 1]:
                if names[other] == names[face]:
                    continue
                apart = np.linalg.norm(_as_in(faces, face, other) - faces.labels[face], axis=-1)
                far = _mean(apart[None])[0]
                if far < reach:  # else it is another object of the picture
                    ratio = _mean((apart / usual)[None])[0]
                    nearest, reach = (other, float(ratio)), far
            if nearest is not None and _fits_worse(faces, face, nearest[0]):
                found[face] = nearest
    return found


def _as_in(faces, face, other):
    """Labels (K, 2) of another face in the crop of one, whose pictures differ only in size."""
    points, sizes = faces.in_photo(other, faces.labels[other]), faces.crops.sizes
    if sizes is not None:
        points = (points + 0.5) * sizes[face] / sizes[other] - 0.5
    return apply_transform(faces.crops.transforms[face], points)


def _fits_worse(faces, face, other):
    """Whether the other one's labels are nearer to the model's; of equals the first is right."""
    ours, theirs = (
        _mean(faces.apart(face, labels)[None])[0]
        for labels in (faces.labels[face], _as_in(faces, face, other))
    )
    return (ours, face) > (theirs, other)


def _of_twin(faces, face, other):
    apart = np.linalg.norm(_as_in(faces, face, other) - faces.labels[face], axis=-1)
    pixels = _mean(apart[None])[0] * faces.pixels(face)
    return f", as in {faces.names[other]}, which shows the same, {pixels:.1f} px from here"


def _suspect(faces, face, score, kind, points, says):
    """The `Suspect` of a face; distances are of the points concerned."""
    chosen, pixels = list(points), faces.pixels(face)
    expected = faces.expected[face, chosen]
    error = faces.ratios[face, chosen] * expected
    error, expected = (_mean(each[None])[0] * pixels for each in (error, expected))
    return Suspect(face, kind, points, score, float(error), float(expected), says)


def _mean(values):
    """Means over the second axis of what is not NaN; NaN where nothing is."""
    counted = np.isfinite(values)
    total = np.where(counted, values, 0).sum(1)
    return np.divide(total, counted.sum(1), out=np.full(total.shape, np.nan), where=counted.any(1))


def _quantile(values):
    values = values[np.isfinite(values)]
    return max(float(np.quantile(values, _USUAL)), 1e-6) if values.size else 1.0


def _numbers(names):
    """The number of each face among those of its file, from 1."""
    seen = defaultdict(int)
    numbers = []
    for name in names:
        seen[name] += 1
        numbers.append(seen[name])
    return numbers


def _cell(number):
    return f"{number:.2f}" if np.isfinite(number) else ""
