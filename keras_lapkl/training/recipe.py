"""What a training run does with its data."""

import dataclasses
import os

from keras_lapkl import losses
from keras_lapkl.optimizers import OPTIMIZERS

NETWORKS = ("rcn", "mobile_fpn")
SCHEDULES = ("constant", "cosine")


@dataclasses.dataclass(frozen=True)
class Adversary:
    """How a run trains with unlabeled faces; see `AdversarialLocalizer`.

    Attributes:
        weight: λ of the adversarial loss.
        loss: `"minimax"` or `"non_saturating"`.
        learning_rate: of the discriminator's Adam, constant, with beta_1 0.5.
        filters: channels of the discriminator's first convolution.
        noise: standard deviation of the noise before each of its convolutions.
        heatmap_gain: what the discriminator sees heatmaps multiplied by.
        image_gain: what it sees images multiplied by.
        batch_size: unlabeled faces in a step; None for as many as labeled ones.
    """

    weight: float = 1e-3
    loss: str = "minimax"
    learning_rate: float = 2e-4
    filters: int = 64
    noise: float = 0.2
    heatmap_gain: float = 1.0
    image_gain: float = 1.0
    batch_size: int | None = None


@dataclasses.dataclass(frozen=True)
class Teacher:
    """Who labels the faces without labels, for a run to train on; see `distillation`.

    Attributes:
        model: a file or a shipped model's name, as `load_model` takes it.
        batch_size: faces of the teacher's in a step; None for as many as labeled ones.
        max_scale: landmarks of which the teacher is less sure are hidden, pixels of its crop; None
            hides none.
    """

    model: str
    batch_size: int | None = None
    max_scale: float | None = None

    def __post_init__(self):
        object.__setattr__(self, "model", os.fspath(self.model))
        for name in ("batch_size", "max_scale"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"`{name}` must be > 0, or None. Received: {value}")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What a training run does with its data. The defaults are the paper's, as far as known.

    Attributes:
        loss: a name in `losses.LOSSES`.
        network: `"rcn"`, or `"mobile_fpn"`, which needs the RCN's `head`, `normalize` and `dropout`
            to be `"paper"`, False and 0, as it has none of these.
        width: the network's width.
        head: the RCN's head.
        normalize: whether the RCN normalizes its image.
        epochs: passes over the training faces.
        batch_size: faces in a step.
        optimizer: a name in `optimizers.OPTIMIZERS`.
        learning_rate: its; the peak if the schedule is a cosine.
        schedule: `"constant"`, or `"cosine"` from the peak to 0 after a short warm-up.
        dropout: the RCN's rate.
        augment: whether to augment, as `Augmentation()` does.
        augment_strength: factor on how strongly.
        target_scale: scale of the label's distribution, pixels; the KL losses read it.
        beta: inverse temperature of the softmax.
        seed: of weights, dropout, noise, order and augmentation.
        adversary: an `Adversary` to train with unlabeled faces, or None.
        teacher: a `Teacher` to label them instead, or None.
        initial_model: a file or a shipped model's name, whose weights the network begins with, but
            for layers of another shape; None for random ones.
    """

    loss: str = "laplace_kl"
    network: str = "rcn"
    width: float = 1 / 8
    head: str = "paper"
    normalize: bool = False
    epochs: int = 200
    batch_size: int = 8
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    schedule: str = "constant"
    dropout: float = 0.2
    augment: bool = False
    augment_strength: float = 1.0
    target_scale: float = 1.0
    beta: float = 1.0
    seed: int = 0
    adversary: Adversary | None = None
    teacher: Teacher | None = None
    initial_model: str | None = None

    def __post_init__(self):
        for name, allowed in (
            ("loss", tuple(losses.LOSSES)),
            ("network", NETWORKS),
            ("schedule", SCHEDULES),
            ("optimizer", tuple(OPTIMIZERS)),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"`{name}` must be one of {allowed}. Received: {getattr(self, name)!r}"
                )
        for name in ("epochs", "batch_size", "learning_rate"):
            if not getattr(self, name) > 0:
                raise ValueError(f"`{name}` must be > 0. Received: {getattr(self, name)}")
        own = {"head": self.head, "normalize": self.normalize, "dropout": self.dropout}
        if self.network != "rcn" and own != {"head": "paper", "normalize": False, "dropout": 0}:
            raise ValueError(
                f"Network {self.network!r} has one head, normalizes its image and has no dropout: "
                "expected `head` 'paper', `normalize` False and `dropout` 0, the RCN's own. "
                f"Received: {own}"
            )
        if self.adversary is not None and self.teacher is not None:
            raise ValueError(
                "Faces without labels take an `adversary` or a `teacher`, not both. Received: "
                f"{self.adversary}, {self.teacher}"
            )
        if self.initial_model is not None:
            object.__setattr__(self, "initial_model", os.fspath(self.initial_model))
