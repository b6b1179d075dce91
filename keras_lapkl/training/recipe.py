"""What a training run does with its data: the one source of its settings.

The flags of `lapkl train`, their defaults and help, the checks of their values and the files in
`keras_lapkl/configs` all come from the fields here.
"""

import dataclasses
import math
import os
import pathlib
from collections.abc import Sequence

from absl import flags

from keras_lapkl import configs
from keras_lapkl._support.settings import (
    AT_LEAST_1,
    NOT_NEGATIVE,
    POSITIVE,
    check,
    described,
    from_flags,
    read_flagfile,
    setting,
    settings,
)
from keras_lapkl._support.types import PathLike
from keras_lapkl.models.arguments import LARGEST
from keras_lapkl.models.networks import HEADS, NETWORKS, SETTINGS
from keras_lapkl.registries import ADVERSARIAL_LOSSES, LOSSES, OPTIMIZERS
from keras_lapkl.training.schedules import SCHEDULES

_NETWORK, _TRAINING, _ADVERSARY = "Network", "Training", "Adversary"
_MEAN_TEACHER = "Mean teacher"
_WIDTHS = f"(0, {LARGEST['width']}]"
UNLABELED = "Faces without labels"
"""Heading of the flags on these, in `--help`."""


def _unlabeled_batch_size():
    """A setting of all methods alike: one flag stands for it."""
    return setting(
        None,
        "Unlabeled faces in a step; as many as labeled ones if not given.",
        unit="faces",
        interval=AT_LEAST_1,
        flag="unlabeled_batch_size",
        group=UNLABELED,
    )


@described
@dataclasses.dataclass(frozen=True)
class Adversary:
    """How a run trains with unlabeled faces; see `AdversarialLocalizer`."""

    weight: float = setting(
        1e-3,
        "λ of the adversarial loss.",
        interval=NOT_NEGATIVE,
        flag="adversarial_weight",
        group=_ADVERSARY,
    )
    loss: str = setting(
        "minimax",
        "What the network descends to deceive the discriminator.",
        choices=ADVERSARIAL_LOSSES,
        flag="adversarial_loss",
        group=_ADVERSARY,
    )
    learning_rate: float = setting(
        2e-4,
        "Learning rate of the discriminator's Adam (beta_1 0.5), constant.",
        interval=POSITIVE,
        flag="discriminator_learning_rate",
        group=_ADVERSARY,
    )
    filters: int = setting(
        64,
        "Channels of the discriminator's first convolution.",
        interval=AT_LEAST_1,
        flag="discriminator_filters",
        group=_ADVERSARY,
    )
    noise: float = setting(
        0.2,
        "Standard deviation of the noise before each of the discriminator's convolutions.",
        interval=NOT_NEGATIVE,
        flag="discriminator_noise",
        group=_ADVERSARY,
    )
    heatmap_gain: float = setting(
        1.0,
        "The discriminator sees heatmaps multiplied by this.",
        interval=POSITIVE,
        group=_ADVERSARY,
    )
    image_gain: float = setting(
        1.0,
        "The discriminator sees images multiplied by this; 0 hides them.",
        interval=NOT_NEGATIVE,
        group=_ADVERSARY,
    )
    batch_size: int | None = _unlabeled_batch_size()

    def __post_init__(self):
        check(self)


@described
@dataclasses.dataclass(frozen=True)
class Teacher:
    """Who labels the faces without labels, for a run to train on; see `distillation`."""

    model: str | tuple[str, ...] = setting(
        dataclasses.MISSING,
        "A model file or a shipped model's name, to label the unlabeled faces instead of the "
        "adversarial branch; of several the mean of what they find.",
        flag="teacher",
        group=UNLABELED,
    )
    batch_size: int | None = _unlabeled_batch_size()
    max_scale: float | None = setting(
        None,
        "Landmarks of which the teacher is less sure are hidden; none if not given.",
        unit="pixels of its crop",
        interval=POSITIVE,
        flag="teacher_max_scale",
        group=UNLABELED,
    )

    def __post_init__(self):
        given = (self.model,) if isinstance(self.model, (str, os.PathLike)) else self.model
        names = [os.fspath(each) for each in given]
        if not names or not all(names):
            raise ValueError(f"`model` must name a model, or several. Received: {self.model!r}")
        object.__setattr__(self, "model", names[0] if len(names) == 1 else tuple(names))
        check(self)

    @property
    def models(self) -> tuple[str, ...]:
        """Each of the models that label."""
        return (self.model,) if isinstance(self.model, str) else self.model


@described
@dataclasses.dataclass(frozen=True)
class MeanTeacher:
    """How a run learns unlabeled faces from the mean of its past; see `MeanTeacherLocalizer`."""

    decay: float = setting(
        0.998,
        "Share of the teacher's weights that stays in a step.",
        interval="[0, 1)",
        flag="teacher_decay",
        group=_MEAN_TEACHER,
    )
    weight: float = setting(
        1.0,
        "Weight of the unlabeled faces' loss beside the labeled ones'.",
        interval=NOT_NEGATIVE,
        flag="consistency_weight",
        group=_MEAN_TEACHER,
    )
    start: float = setting(
        0.25,
        "When the unlabeled faces begin to count.",
        unit="share of the steps",
        interval="[0, 1]",
        flag="consistency_start",
        group=_MEAN_TEACHER,
    )
    augment_strength: float = setting(
        1.5,
        "Factor on how the student's unlabeled faces are moved and recolored.",
        interval="[0, 5]",
        flag="unlabeled_augment_strength",
        group=_MEAN_TEACHER,
    )
    width: float | None = setting(
        None,
        "Width of a wider network that learns so, and then labels the unlabeled faces for the "
        "run's own network; if not given, the run's own learns so.",
        unit="of 64 channels",
        interval=_WIDTHS,
        flag="teacher_width",
        group=_MEAN_TEACHER,
        width=True,
    )
    epochs: int | None = setting(
        None,
        "Epochs of that wider network; as many as the run's own if not given.",
        interval=AT_LEAST_1,
        flag="teacher_epochs",
        group=_MEAN_TEACHER,
    )
    batch_size: int | None = _unlabeled_batch_size()
    supervised_epochs: int | None = setting(
        None,
        "Epochs of a second network of that width, which learns from the labeled faces alone: the "
        "unlabeled ones get the mean of what both find. None if not given.",
        interval=AT_LEAST_1,
        flag="supervised_teacher_epochs",
        group=_MEAN_TEACHER,
    )

    def __post_init__(self):
        check(self)
        epochs = {
            "teacher_epochs": self.epochs,
            "supervised_teacher_epochs": self.supervised_epochs,
        }
        given = [f"{name}={value}" for name, value in epochs.items() if value is not None]
        if given and self.width is None:
            raise ValueError(
                f"{' and '.join(epochs)} are those of wider networks: name their teacher_width. "
                f"Received: {', '.join(given)} without"
            )


_FIELDS = {
    "adversarial": ("adversary", Adversary),
    "teacher": ("teacher", Teacher),
    "mean_teacher": ("mean_teacher", MeanTeacher),
}
"""How a run can train with faces without labels: of a `Recipe` for each method, with its class."""


@described
@dataclasses.dataclass(frozen=True)
class UnlabeledMethod:
    """Which of the methods a run takes."""

    name: str | None = setting(
        None,
        "How faces without labels are learned: against a discriminator, from another model's "
        "labels (--teacher), or from the mean of the network's own past. By default teacher where "
        "there is one, else adversarial.",
        choices=tuple(_FIELDS),
        flag="unlabeled_method",
        group=UNLABELED,
    )


@described
@dataclasses.dataclass(frozen=True)
class Recipe:
    """What a training run does with its data.

    Faces without labels take an `adversary`, a `teacher` or a `mean_teacher`, one of them; None of
    them is for labeled faces alone. The paper's own settings are in
    `keras_lapkl/configs/w300_paper.cfg`.

    Raises:
        ValueError: a setting is out of its range, is not among its names, or is one that the
            network doesn't have.

    Example:

    >>> Recipe(width=1 / 16, epochs=12).learning_rate
    0.003
    """

    loss: str = setting("laplace_kl", "Loss.", choices=LOSSES, group=_TRAINING)
    network: str = setting(
        "rcn", "The paper's network, or one made for phones.", choices=NETWORKS, group=_NETWORK
    )
    width: float = setting(
        1 / 8,
        "How wide the network is.",
        unit="of 64 channels",
        interval=_WIDTHS,
        group=_NETWORK,
        width=True,
    )
    head: str = setting(
        "paper", "What makes the RCN's maps; see `RCN`.", choices=HEADS, group=_NETWORK
    )
    normalize: bool = setting(False, "Normalize the RCN's image; see `RCN`.", group=_NETWORK)
    epochs: int = setting(
        40,
        "Passes over the training faces, or as many times --steps_per_epoch.",
        interval=AT_LEAST_1,
        group=_TRAINING,
    )
    steps_per_epoch: int | None = setting(
        None,
        "Steps of an epoch, which ends with a validation and a checkpoint; a pass over the "
        "training faces if not given. With few labels it is longer than a pass.",
        interval=AT_LEAST_1,
        group=_TRAINING,
    )
    batch_size: int = setting(
        8, "Labeled faces in a step.", unit="faces", interval=AT_LEAST_1, group=_TRAINING
    )
    optimizer: str = setting("adam", "Optimizer.", choices=OPTIMIZERS, group=_TRAINING)
    learning_rate: float = setting(
        3e-3, "The optimizer's, at its peak.", interval=POSITIVE, group=_TRAINING
    )
    schedule: str = setting(
        "cosine",
        "Of the learning rate: constant, or after a short rise from its peak to 0.",
        choices=SCHEDULES,
        group=_TRAINING,
    )
    dropout: float = setting(0.0, "The RCN's rate.", interval="[0, 1)", group=_NETWORK)
    augment: bool = setting(
        True, "Rotate, scale, shift, mirror, recolor and cover faces.", group=_TRAINING
    )
    augment_strength: float = setting(
        1.0, "Factor on all of that but mirroring.", interval="[0, 5]", group=_TRAINING
    )
    camera_strength: float = setting(
        0.0,
        "How much of what cameras do the faces get: noise, JPEG, motion blur, uneven light.",
        interval="[0, 2]",
        group=_TRAINING,
    )
    openings: float = setting(
        0.0,
        "Share of the faces whose eyes and mouth are closed or opened by warping.",
        interval="[0, 1]",
        group=_TRAINING,
    )
    eye_gain: float = setting(
        1.0,
        "The labels' eyes differ from the average opening by that much more: a network that is "
        "unsure answers with less.",
        interval="[1, 3]",
        group=_TRAINING,
    )
    mouth_gain: float = setting(1.0, "The same of mouths.", interval="[1, 3]", group=_TRAINING)
    target_scale: float = setting(
        1.0,
        "Scale of the label's distribution, for the KL losses.",
        unit="pixels",
        interval=POSITIVE,
        group=_TRAINING,
    )
    beta: float = setting(
        1.0, "Inverse temperature of the softmax.", interval=POSITIVE, group=_NETWORK
    )
    seed: int = setting(
        0,
        "Of weights, dropout, noise, order (by its lowest eight bits) and augmentation.",
        interval="[0, 4294967295]",
        group=_TRAINING,
    )
    adversary: Adversary | None = None
    teacher: Teacher | None = None
    mean_teacher: MeanTeacher | None = None
    initial_model: str | None = setting(
        None,
        "A model file or a shipped model's name, whose weights the network begins with, but for "
        "layers of another shape: fine-tuning. Random ones if not given.",
        group=_NETWORK,
    )
    initial_share: float = setting(
        0.0,
        "Share of the initial model's weights in the final ones, the rest is of the trained ones: "
        "a mean of both can be better than each on what both were trained for.",
        interval="[0, 1)",
        group=_NETWORK,
    )

    def __post_init__(self):
        check(self)
        taken = NETWORKS[self.network].settings
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name in SETTINGS and field.name not in taken and value != field.default:
                raise ValueError(
                    f"Network {self.network!r} has no `{field.name}`: expected it as it is by "
                    f"default, {field.default!r}. Received: {value!r}"
                )
        off = {"camera_strength": 0, "openings": 0, "eye_gain": 1, "mouth_gain": 1}
        parts = {name: getattr(self, name) for name in off}
        if not self.augment and parts != off:
            raise ValueError(
                f"{', '.join(off)} are parts of augmentation: expected `augment`, or {off}. "
                f"Received: {parts}"
            )
        given = self._methods()
        if len(given) > 1:
            raise ValueError(
                "Faces without labels take one of `adversary`, `teacher` and `mean_teacher`. "
                f"Received: {', '.join(map(str, given))}"
            )
        if self.mean_teacher and self.mean_teacher.width and self.initial_model is not None:
            raise ValueError(
                "A wider teacher (`mean_teacher.width`) can't begin with the weights of "
                f"`initial_model`: drop one of them. Received: {self.mean_teacher.width}, "
                f"{self.initial_model}"
            )
        if self.initial_share and self.initial_model is None:
            raise ValueError(
                "`initial_share` is of the weights of `initial_model`: give one, or 0. Received: "
                f"{self.initial_share:g}"
            )
        if self.initial_model is not None:
            object.__setattr__(self, "initial_model", os.fspath(self.initial_model))

    @property
    def wide(self) -> "tuple[Recipe, ...]":
        """The recipes of the wider networks that label faces for this one's; () if none does.

        First the mean teacher's, then that of labeled faces alone, if there is one. Their learning
        rate is this one's times √(width / their width).
        """
        if self.mean_teacher is None or self.mean_teacher.width is None:
            return ()
        width, supervised = self.mean_teacher.width, self.mean_teacher.supervised_epochs
        own = dataclasses.replace(
            self.mean_teacher, width=None, epochs=None, supervised_epochs=None
        )
        first = dataclasses.replace(
            self,
            width=width,
            epochs=self.mean_teacher.epochs or self.epochs,
            learning_rate=self.learning_rate * math.sqrt(self.width / width),
            mean_teacher=own,
        )
        if supervised is None:
            return (first,)
        return first, dataclasses.replace(first, epochs=supervised, mean_teacher=None)

    def taught_by(self, models: Sequence[str | os.PathLike[str]]) -> "Recipe":
        """The recipe of the same network that learns from the labels of these teachers."""
        assert self.mean_teacher is not None
        names = tuple(os.fspath(each) for each in models)
        teacher = Teacher(names, self.mean_teacher.batch_size)
        return dataclasses.replace(self, mean_teacher=None, teacher=teacher)

    @property
    def takes_unlabeled(self) -> bool:
        """Whether it learns from faces without labels."""
        return bool(self._methods())

    def _methods(self):
        methods = (self.adversary, self.teacher, self.mean_teacher)
        return [method for method in methods if method is not None]


CLASSES = (Recipe, UnlabeledMethod, Adversary, Teacher, MeanTeacher)
"""Whose settings are flags."""
_OF_THE_DATA = ("dataset",)
"""Flags in recipe files that say what the recipe is for, and not what it is."""
OPENINGS = ("openings", "eye_gain", "mouth_gain")
"""Settings of eyes and mouths, which other points do not have."""


def recipe_from_flags(has_unlabeled=False, flag_values=flags.FLAGS):
    """The recipe that the flags describe.

    Args:
        has_unlabeled: whether there are faces without labels, which every method needs.
        flag_values: absl's.
    """
    recipe = from_flags(Recipe, flag_values)
    teacher, method = (flag_values[name].value for name in ("teacher", "unlabeled_method"))
    if (method is not None or teacher is not None) and not has_unlabeled:
        word = "--teacher" if method is None else "--unlabeled_method"
        raise ValueError(
            f"{word} needs faces without labels: give --unlabeled_dir, --labeled_as_unlabeled, or "
            "for synthetic ones --num_unlabeled."
        )
    method = method or ("adversarial" if teacher is None else "teacher")
    if (method == "teacher") != (teacher is not None):
        raise ValueError(
            "--unlabeled_method=teacher and --teacher go together. Received: "
            f"--unlabeled_method={method}, --teacher={teacher and ','.join(teacher)}"
        )
    if flag_values["teacher_max_scale"].value is not None and teacher is None:
        raise ValueError("--teacher_max_scale needs --teacher.")
    if not has_unlabeled:
        return recipe
    field, cls = _FIELDS[method]
    return dataclasses.replace(recipe, **{field: from_flags(cls, flag_values)})


def read_recipe(name_or_path: PathLike) -> Recipe:
    """The recipe of a file of flags.

    It has the method for unlabeled faces that the file names, and an adversary if the file sets
    anything of one.

    Args:
        name_or_path: a name of `configs.names()`, or a file.

    Raises:
        ValueError: a flag in it is not a recipe's, or has a wrong value.

    Example:

    >>> read_recipe("w300_mobile").network
    'mobile_fpn'
    """
    is_name = name_or_path in configs.names()
    path = configs.path(str(name_or_path)) if is_name else pathlib.Path(name_or_path)
    values = read_flagfile(path, CLASSES, _OF_THE_DATA)
    given = any(values[flag].present for flag in settings(Adversary))
    named = any(values[flag].present for flag in ("teacher", "unlabeled_method"))
    return recipe_from_flags(given or named, values)
