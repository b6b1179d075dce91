"""What a run is trained on, kept in its folder: mended data are other data."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_lapkl import pretrained
from keras_lapkl._support.files import read_arrays, replacing
from keras_lapkl.data import digests
from keras_lapkl.data.crops import Crops
from keras_lapkl.data.digests import KINDS, Changes, Digests
from keras_lapkl.data.unlabeled.crops import UnlabeledCrops
from keras_lapkl.training.recipe import Recipe

FACES = "faces.npz"
"""Digests of each face, by which what differs is counted; the run's own are in `run.json`."""
_UNKNOWN = (
    "holds a run of an earlier version, which kept no digests of its data: whether its labels and "
    "pictures are these can't be told."
)


@dataclasses.dataclass(frozen=True, eq=False)
class RunData:
    """Faces and models that decide what a run gives.

    Attributes:
        labeled: digests of the faces of `training` and `validation`.
        unlabeled: (N,) digests of the pictures of the faces without labels, or None.
        models: digests of the files of teacher and initial model; None of one that is not there.
        loaded: how the labeled faces were loaded, as `Crops.loaded`.
    """

    labeled: dict[str, Digests]
    unlabeled: NDArray[np.uint64] | None
    models: dict[str, str | None]
    loaded: dict[str, Any]

    def totals(self) -> dict[str, str | None]:
        """A digest of each part, whatever the order of its faces."""
        found = {part: faces.total() for part, faces in self.labeled.items()}
        if self.unlabeled is not None:
            found["unlabeled"] = digests.total(self.unlabeled)
        return {**found, **self.models}


def of_run(
    recipe: Recipe, crops: Crops, validation: Crops, unlabeled: UnlabeledCrops | None
) -> RunData:
    """The `RunData` of what `train` is given."""
    models = {} if recipe.teacher is None else {"teacher": _of_models(recipe.teacher.models)}
    if recipe.initial_model is not None:
        models["initial_model"] = _of_models([recipe.initial_model])
    return RunData(
        {"training": crops.digests(), "validation": validation.digests()},
        None if unlabeled is None else unlabeled.digests(),
        models,
        {"training": crops.loaded, "validation": validation.loaded},
    )


def _of_models(names):
    try:
        return " ".join(f"{digests.of_file(pretrained.resolve(each)):016x}" for each in names)
    except FileNotFoundError:  # a finished run needs it no more, and a new one says so
        return None


def write_faces(folder: Path, data: RunData) -> None:
    """Writes `FACES`."""
    arrays: dict[str, Any] = {part: faces.values for part, faces in data.labeled.items()}
    for part, faces in data.labeled.items():
        arrays[f"{part}_names"] = json.dumps(faces.names)
    if data.unlabeled is not None:
        arrays["unlabeled"] = data.unlabeled
    with replacing(folder / FACES) as temporary, temporary.open("wb") as stream:
        np.savez(stream, **arrays)


def difference(folder: Path, recorded: Any, data: RunData) -> str | None:
    """How data differ from those of the run in a folder: a clause after its name, None if not.

    Args:
        folder: of the run.
        recorded: the `totals` that the run kept; anything else of a run that kept none.
        data: what the run would have now.
    """
    if not isinstance(recorded, Mapping) or "training" not in recorded:
        return _UNKNOWN
    others = {
        part for part, ours in data.totals().items() if ours not in (None, recorded.get(part))
    }
    if not others:
        return None
    before = _read_faces(folder, recorded)
    found = {part: _changes(before.get(part), data.labeled[part]) for part in data.labeled}
    changed = {part: changes for part, changes in found.items() if part in others}
    what = [kind for kind in KINDS if any(c and getattr(c, kind) for c in changed.values())]
    if any(c is None or c.added or c.removed for c in changed.values()):
        what.append("faces")
    clauses = [each for part, changes in changed.items() for each in _clauses(part, changes)]
    if "unlabeled" in others:
        what.append("faces without labels")
        clauses.append(_unlabeled_clause(before.get("unlabeled"), data.unlabeled))
    for part, name in (("teacher", "teacher"), ("initial_model", "initial model")):
        if part in others:
            what.append(name)
            clauses.append(f"the file of the {name} is another")
    if changed and not {"pictures", "faces"} & set(what):
        clauses.append("the pictures are the same")
    examples = [c.example for c in changed.values() if c and c.example is not None]
    such = f" One of them: {examples[0]}." if examples else ""
    return f"holds a run on other {_listed(what)}: {'; '.join(clauses)}.{such}"


def _changes(before, now):
    return None if before is None else digests.changes(before, now)


def _clauses(part: str, changes: Changes | None):
    if changes is None:
        yield f"the {part} faces differ"
        return
    for kind in KINDS:
        if count := getattr(changes, kind):
            yield (
                f"{kind} of {count:,} of {changes.count:,} {part} faces differ from those of the "
                "run"
            )
    if changes.added:
        yield f"{changes.added:,} of {changes.count:,} {part} faces are new"
    if changes.removed:
        yield f"{changes.removed:,} {part} faces of the run are gone"


def _unlabeled_clause(before, now):
    if before is None:
        return "the faces without labels differ"
    new, gone = (~np.isin(a, b) for a, b in ((now, before), (before, now)))
    return (
        f"{new.sum():,} of {len(now):,} faces without labels are new, {gone.sum():,} of the run's "
        "are gone"
    )


def _read_faces(folder, recorded):
    """The parts of `FACES` that are those of the run."""
    stored, found = read_arrays(folder / FACES) or {}, {}
    for part in ("training", "validation"):
        try:
            faces = Digests(tuple(json.loads(str(stored[f"{part}_names"]))), stored[part])
            if faces.total() == recorded.get(part):
                found[part] = faces
        except (KeyError, TypeError, ValueError, RecursionError):  # damaged, or not there
            pass
    values = stored.get("unlabeled", np.zeros(0))
    if values.dtype == np.uint64 and values.ndim == 1:
        found["unlabeled"] = values
    return found


def _listed(words):
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
