"""What a training run does with its data: the one source of its settings.

The flags of `lapkl train`, their defaults and help, the checks of their values and the files in
`keras_lapkl/configs` all come from the fields here.
"""

import dataclasses
import os
import pathlib

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
from keras_lapkl.models.networks import HEADS, NETWORKS, SETTINGS
from keras_lapkl.registries import ADVERSARIAL_LOSSES, LOSSES, OPTIMIZERS
from keras_lapkl.training.schedules import SCHEDULES

_NETWORK, _TRAINING, _ADVERSARY = "Network", "Training", "Adversary"
UNLABELED = "Faces without labels"
"""Heading of the flags on these, in `--help`."""


def _unlabeled_batch_size():
    """A setting of adversary and teacher alike: one flag stands for both."""
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

    model: str = setting(
        dataclasses.MISSING,
        "A model file or a shipped model's name, to label the unlabeled faces instead of the "
        "adversarial branch.",
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
        object.__setattr__(self, "model", os.fspath(self.model))
        check(self)


@described
@dataclasses.dataclass(frozen=True)
class Recipe:
    """What a training run does with its data.

    Faces without labels take an `adversary` or a `teacher`, not both; None of them is for labeled
    faces alone. The paper's own settings are in `keras_lapkl/configs/w300_paper.cfg`.

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
        interval=POSITIVE,
        group=_NETWORK,
        width=True,
    )
    head: str = setting(
        "paper", "What makes the RCN's maps; see `RCN`.", choices=HEADS, group=_NETWORK
    )
    normalize: bool = setting(False, "Normalize the RCN's image; see `RCN`.", group=_NETWORK)
    epochs: int = setting(
        40, "Passes over the training faces.", interval=AT_LEAST_1, group=_TRAINING
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
        1.0, "Factor on all of that but mirroring.", interval=NOT_NEGATIVE, group=_TRAINING
    )
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
        "Of weights, dropout, noise, order and augmentation.",
        interval="[0, 4294967295]",
        group=_TRAINING,
    )
    adversary: Adversary | None = None
    teacher: Teacher | None = None
    initial_model: str | None = setting(
        None,
        "A model file or a shipped model's name, whose weights the network begins with, but for "
        "layers of another shape: fine-tuning. Random ones if not given.",
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
        if self.adversary is not None and self.teacher is not None:
            raise ValueError(
                "Faces without labels take an `adversary` or a `teacher`, not both. Received: "
                f"{self.adversary}, {self.teacher}"
            )
        if self.initial_model is not None:
            object.__setattr__(self, "initial_model", os.fspath(self.initial_model))


CLASSES = (Recipe, Adversary, Teacher)
"""Whose settings are flags."""
_OF_THE_DATA = ("dataset",)
"""Flags in recipe files that say what the recipe is for, and not what it is."""


def recipe_from_flags(has_unlabeled=False, flag_values=flags.FLAGS):
    """The recipe that the flags describe.

    Args:
        has_unlabeled: whether there are faces without labels, which a teacher needs, and which
            take an adversary where there is none.
        flag_values: absl's.
    """
    recipe = from_flags(Recipe, flag_values)
    if flag_values["teacher"].value is None:
        if flag_values["teacher_max_scale"].value is not None:
            raise ValueError("--teacher_max_scale needs --teacher.")
        adversary = from_flags(Adversary, flag_values) if has_unlabeled else None
        return dataclasses.replace(recipe, adversary=adversary)
    if not has_unlabeled:
        raise ValueError(
            "--teacher needs faces without labels: give --unlabeled_dir, --labeled_as_unlabeled, "
            "or for synthetic ones --num_unlabeled."
        )
    return dataclasses.replace(recipe, teacher=from_flags(Teacher, flag_values))


def read_recipe(name_or_path):
    """The recipe of a file of flags; with an adversary if the file sets anything of one.

    Args:
        name_or_path: a name of `configs.names()`, or a file.

    Raises:
        ValueError: a flag in it is not a recipe's, or has a wrong value.

    Example:

    >>> read_recipe("w300_mobile").network
    'mobile_fpn'
    """
    is_name = name_or_path in configs.names()
    path = configs.path(name_or_path) if is_name else pathlib.Path(name_or_path)
    values = read_flagfile(path, CLASSES, _OF_THE_DATA)
    given = any(values[flag].present for flag in settings(Adversary))
    return recipe_from_flags(given or values["teacher"].present > 0, values)
