"""Which models the paper's tables and figures ask for: cells, each trained once."""

import dataclasses
import hashlib
import json
from typing import Any

from keras_lapkl.training.recipe import Adversary, Recipe

LABELED = "labeled"
"""In place of a number: the labeled faces as those without labels, the paper's control."""

LOSSES = {"softargmax": "softargmax", "gaussian_kl": "GaussianKL", "laplace_kl": "LaplaceKL"}
WIDTHS = (1, 1 / 2, 1 / 4, 1 / 8, 1 / 16)

FIGURE_4 = {"beta": (0.5, 1.0, 2.0, 4.0), "target_scale": (0.5, 1.0, 2.0, 4.0)}
TABLES = ("table2", "table3", "figure4")


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is to be trained.

    Attributes:
        recipe: what all cells have in common; loss, width, β, target scale and seed are set by
            the tables.
        tables: some of `TABLES`.
        losses: names in `registries.LOSSES`.
        widths: for Table 3; Table 2 and Figure 4 take the first.
        num_unlabeled: for Table 2, numbers > 0 and `LABELED`; Table 3 takes the largest.
        seeds: each cell is trained with each.
        figure_4: values by recipe field.
        learning_rates: by width, in place of the recipe's: what a narrow network learns well by, a
            wide one may diverge by.
    """

    recipe: Recipe
    tables: tuple[str, ...] = TABLES
    losses: tuple[str, ...] = tuple(LOSSES)
    widths: tuple[float, ...] = WIDTHS
    num_unlabeled: tuple[int | str, ...] = (LABELED, 5_000, 10_000, 20_000)
    seeds: tuple[int, ...] = (0, 1)
    figure_4: dict = dataclasses.field(default_factory=lambda: FIGURE_4)
    learning_rates: dict = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        for name, allowed in (("tables", TABLES), ("losses", tuple(LOSSES))):
            unknown = set(getattr(self, name)) - set(allowed)
            if unknown or not getattr(self, name):
                raise ValueError(
                    f"`{name}` must be one or more of {allowed}. Received: {getattr(self, name)}"
                )
        if self.recipe.teacher is not None or self.recipe.mean_teacher is not None:
            raise ValueError(
                "`recipe` must not have a teacher of its own: the tables say what is without "
                f"labels, and how it is learned. Received: {self.recipe}"
            )
        for name in ("widths", "seeds"):
            if not getattr(self, name):
                raise ValueError(f"`{name}` must not be empty.")
        for name in ("tables", "losses", "widths", "num_unlabeled", "seeds"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                raise ValueError(f"`{name}` must have each once. Received: {values}")
        if any(isinstance(n, int) and n < 1 for n in self.num_unlabeled):
            raise ValueError(
                f"`num_unlabeled` must be numbers > 0 or {LABELED!r}. "
                f"Received: {self.num_unlabeled}"
            )
        if not set(self.learning_rates) <= set(self.widths):
            raise ValueError(
                f"`learning_rates` must be of widths among {self.widths}. "
                f"Received: {self.learning_rates}"
            )

    @property
    def largest(self) -> int | None:
        """The largest number of unlabeled faces, or None."""
        return max((n for n in self.num_unlabeled if isinstance(n, int)), default=None)

    def cells(self) -> "list[Cell]":
        """The cells in the order in which they are trained, each once."""
        found = {}
        for seed in self.seeds:
            for table in self.tables:
                for changes, unlabeled in getattr(self, f"_{table}")():
                    cell = Cell(self._recipe(seed, unlabeled, changes), unlabeled)
                    found.setdefault(cell.name, cell)
        return list(found.values())

    def cell(self, seed: int, unlabeled: int | str = 0, **changes: Any) -> "Cell":
        """The cell of a table's entry."""
        return Cell(self._recipe(seed, unlabeled, changes), unlabeled)

    def _recipe(self, seed, unlabeled, changes):
        adversary = (self.recipe.adversary or Adversary()) if unlabeled else None
        changes = {"width": self.widths[0], **changes}
        rate = self.learning_rates.get(changes["width"], self.recipe.learning_rate)
        return dataclasses.replace(
            self.recipe, seed=seed, adversary=adversary, learning_rate=rate, **changes
        )

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

    recipe: Recipe
    unlabeled: int | str = 0

    @property
    def name(self) -> str:
        """A name for its folder: readable, and different for different cells."""
        recipe = self.recipe
        digest = hashlib.sha256(
            json.dumps([_changed(recipe), self.unlabeled], sort_keys=True).encode()
        ).hexdigest()[:8]
        return f"{recipe.loss}-w{recipe.width:g}-u{self.unlabeled}-s{recipe.seed}-{digest}"


_NAMED_FROM = {
    Recipe: {
        "loss": "laplace_kl",
        "network": "rcn",
        "width": 1 / 8,
        "head": "paper",
        "normalize": False,
        "epochs": 200,
        "batch_size": 8,
        "optimizer": "adam",
        "learning_rate": 1e-3,
        "schedule": "constant",
        "dropout": 0.2,
        "augment": False,
        "augment_strength": 1.0,
        "target_scale": 1.0,
        "beta": 1.0,
        "seed": 0,
        "adversary": None,
        "teacher": None,
        "initial_model": None,
    },
    Adversary: {
        "weight": 1e-3,
        "loss": "minimax",
        "learning_rate": 2e-4,
        "filters": 64,
        "noise": 0.2,
        "heatmap_gain": 1.0,
        "image_gain": 1.0,
        "batch_size": None,
    },
}
"""What a cell's name leaves out: the defaults of the days when the first cells were named. They
must stay as they are, whatever the defaults become, or the folders of finished cells are lost."""


def _changed(settings):
    """What a dataclass has other than a name leaves out.

    A field that came later leaves out its default, so that a new option renames no old cell.
    """
    left_out = {field.name: field.default for field in dataclasses.fields(settings)}
    left_out |= _NAMED_FROM.get(type(settings), {})
    changed = {n: getattr(settings, n) for n, d in left_out.items() if getattr(settings, n) != d}
    return {n: _changed(v) if dataclasses.is_dataclass(v) else v for n, v in changed.items()}
