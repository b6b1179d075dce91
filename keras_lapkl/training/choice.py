"""Which recipe a command's flags and data lead to, and what is to be told of them before it runs.

What is told comes as notes, each a level of `absl.logging` and a line.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from absl import flags, logging

from keras_lapkl._support import stores
from keras_lapkl._support.settings import settings
from keras_lapkl._support.types import PathLike
from keras_lapkl.apertures import apertures
from keras_lapkl.data import datasets
from keras_lapkl.data.crops import Crops
from keras_lapkl.evaluation import model_scores
from keras_lapkl.schemes import Scheme, unpaired_sides
from keras_lapkl.training.building import takes_target_scale
from keras_lapkl.training.recipe import (
    CLASSES,
    OPENINGS,
    Adversary,
    MeanTeacher,
    Recipe,
    Teacher,
    read_recipe,
)

FEW_LABELS = 1000
"""Up to so many, a run without any setting is one of a recipe for few labels."""
ONE_TEACHER = 100
"""Up to so many, such a run has one teacher: with 50 labels a second one hardly labels better."""

Note: TypeAlias = tuple[int, str]


@dataclasses.dataclass(frozen=True)
class Choice:
    """What a command trains by.

    Attributes:
        recipe: of the flags; or where these give no setting, one for that many labels.
        others: what the same command takes for other numbers of labels.
        notes: what to tell of it.
    """

    recipe: Recipe
    others: tuple[Recipe, ...]
    notes: tuple[Note, ...]


def choose(
    recipe: Recipe,
    num_labels: int,
    scheme: Scheme,
    is_synthetic: bool,
    flag_values: flags.FlagValues = flags.FLAGS,
) -> Choice:
    """The recipe that a command trains by.

    Args:
        recipe: that of the flags, by `recipe_from_flags`.
        num_labels: labeled faces or objects.
        scheme: that of the labels.
        is_synthetic: whether they are synthetic faces, for which no recipe is chosen.
        flag_values: absl's, which say what is given.
    """
    fitting = _recipe_for(num_labels, recipe.takes_unlabeled)
    by_name: Mapping[str | None, Recipe] = {}
    if not is_synthetic and not _are_given(flag_values):
        by_name = _recipes(recipe)
        recipe = by_name[fitting]
    name = fitting if by_name else None
    notes = [
        *_of_number(num_labels, fitting, name, flag_values),
        *_of_method(num_labels, fitting, recipe, flag_values),
        *_of_idle(recipe, scheme, flag_values),
    ]
    return Choice(recipe, tuple(by_name.values()), tuple(notes))


def data_notes(
    recipe: Recipe,
    crops: Crops,
    validation: Crops,
    num_unlabeled: int = 0,
    unlabeled_dir: PathLike | None = None,
) -> list[Note]:
    """What to tell of a run's data before it begins.

    Args:
        recipe, crops, validation: as `train` takes them.
        num_unlabeled: pictures without labels that it takes.
        unlabeled_dir: their folder; None where they come from none.
    """
    notes = []
    if shared := datasets.shared_images(crops, validation):
        notes.append((logging.WARNING, shared))
    if num_unlabeled and unlabeled_dir:
        notes += _of_unlabeled(num_unlabeled, unlabeled_dir, crops, validation)
    if recipe.augment:
        notes += _of_mirroring(crops.scheme)
    notes.append((logging.INFO, f"Train on {crops.summary}."))
    notes.append((logging.INFO, f"Validate on {validation.summary}."))
    if few := model_scores.without_radius(validation):
        notes.append((logging.WARNING, few))
    return notes


def _recipe_for(num_labels, has_unlabeled):
    """The name of the recipe for that many labels, None where the settings' defaults are."""
    if num_labels > FEW_LABELS:
        return None
    if not has_unlabeled:
        return "few_labels"
    more = num_labels > ONE_TEACHER
    return "hundreds_of_labels_unlabeled" if more else "few_labels_unlabeled"


def _recipes(recipe):
    """What a command without any setting takes, by what `_recipe_for` gives for its labels.

    None stands for the recipe of the flags' defaults; all have its seed.
    """
    counts = (1, ONE_TEACHER + 1, FEW_LABELS + 1)
    names = dict.fromkeys(_recipe_for(count, recipe.takes_unlabeled) for count in counts)
    return {
        name: recipe if name is None else dataclasses.replace(read_recipe(name), seed=recipe.seed)
        for name in names
    }


def _are_given(flag_values):
    """Whether a flag, or a recipe, gives any setting but the seed."""
    return _any_present({name for cls in CLASSES for name in settings(cls)} - {"seed"}, flag_values)


def _is_method_given(flag_values):
    """Whether a flag, or a recipe, says how faces without labels are learned."""
    names = {"unlabeled_method", "teacher", *settings(Adversary)} - settings(MeanTeacher).keys()
    return _any_present(names, flag_values)


def _any_present(names, flag_values):
    return any(flag_values[name].present for name in names)


def _of_number(num_labels, fitting, name, flag_values) -> Sequence[Note]:
    """Which recipe is, or could be, taken for that many labels."""
    if name is not None:
        line = f"No setting is given: recipe {name}, for {num_labels} labels."
    elif fitting is not None and not flag_values["network"].present:
        line = f"{num_labels} labels: --recipe={fitting} is made for so few; add it."
    else:
        return []
    return [(logging.INFO, line)]


def _of_method(num_labels, fitting, recipe, flag_values) -> Sequence[Note]:
    """That an adversarial branch is trained which nobody has asked for."""
    if recipe.adversary is None or _is_method_given(flag_values):
        return []
    if fitting is None:
        known = "labels: with so many no method that was measured lowered LaplaceKL's error."
        known = f"{num_labels:,} {known}"
    else:
        known = f"that lowered no error, but --recipe={fitting} does."
        known = f"With so few labels ({num_labels:,}) {known}"
    told = "Faces without labels train an adversarial branch, for no --unlabeled_method is given."
    return [(logging.WARNING, f"{told} {known}")]


def _of_idle(recipe, scheme, flag_values) -> Sequence[Note]:
    """Which flags are given and not used, and why."""
    opened = [name for name in OPENINGS if flag_values[name].present]
    scaled = recipe.target_scale != 1 and not takes_target_scale(recipe.loss)
    found: list[tuple[str, Any]] = [
        (
            "the run does not take the --unlabeled_method that they are of",
            _of_other_methods(recipe, flag_values),
        ),
        (
            "faces are not augmented",
            ["augment_strength"]
            if not recipe.augment and flag_values["augment_strength"].present
            else [],
        ),
        (f"--loss={recipe.loss} has no scale", ["target_scale"] if scaled else []),
        (
            f"the points of scheme {scheme.name!r} are not those of eyes and mouth",
            [] if apertures(scheme) else opened,
        ),
    ]
    return [
        (logging.WARNING, f"Not used, for {why}: --{', --'.join(names)}.")
        for why, names in found
        if names
    ]


def _of_other_methods(recipe, flag_values):
    """Names of the flags that are given and set a method which the recipe does not take."""
    methods = (recipe.adversary, recipe.teacher, recipe.mean_teacher)
    taken = {name for method in methods if method is not None for name in settings(type(method))}
    known = {name for cls in (Adversary, Teacher, MeanTeacher) for name in settings(cls)}
    return sorted(name for name in known - taken if flag_values[name].present)


def _of_unlabeled(count, folder, crops, validation) -> Sequence[Note]:
    """Tells of pictures without labels that have some, and of too few others."""
    notes = []
    trained, held = (datasets.count_in(each, folder) for each in (crops, validation))
    if held:
        notes.append(
            f"{held:,} of the validation pictures lie in {stores.at(folder)}, too, and are trained "
            "on without labels: their error says little of others. Give a folder without them."
        )
    others = max(0, count - trained - held)
    if others < 2 * len(crops):
        notes.append(
            f"{others:,} pictures without labels are few beside {len(crops):,} labels: in the one "
            "case that was measured, fewer than two for each raised the error. Train without them, "
            "too."
        )
    return [(logging.WARNING, each) for each in notes]


def _of_mirroring(scheme) -> Sequence[Note]:
    """Tells of points that are never mirrored, or mirrored onto themselves."""
    notes = []
    if scheme.flip is None:
        notes.append((logging.INFO, f"Never mirrored: scheme {scheme.name!r} has no mirror pairs."))
    if sides := unpaired_sides(scheme):
        line = (
            f"`flip` of scheme {scheme.name!r} says that these points are their own mirror images, "
            f"and their names that they are left or right: {', '.join(sides[:6])}. Mirrored so, "
            "left ones are learned as right ones. Name the pairs in `flip`, or leave it out for "
            "those by the names."
        )
        notes.append((logging.WARNING, line))
    return notes
