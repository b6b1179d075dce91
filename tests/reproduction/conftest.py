import numpy as np
import pytest

from keras_lapkl.reproduction import LABELED, Plan
from keras_lapkl.training.recipe import Recipe

FACES = 40


@pytest.fixture
def plan():
    return Plan(
        Recipe(epochs=1, learning_rate=1e-3, schedule="constant", dropout=0.2, augment=False),
        widths=(1 / 8, 1 / 16),
        num_unlabeled=(LABELED, 10),
        seeds=(0, 1),
        figure_4={"beta": (0.5, 1.0)},
    )


@pytest.fixture
def made():
    """Function from an error to a `cell.json` whose faces' errors are that on average."""

    def make(nme, spread=1.0, noise=0):
        errors = nme + np.random.default_rng(noise).normal(size=FACES)
        errors += nme - errors.mean()
        return {
            "test": {
                "nme": nme,
                "spread": spread,
                "trained_on": "16 synthetic faces; without labels 10 others",
                "data": "synthetic test",
                "faces": FACES,
                "crop_scale": 3.0,
                "image_size": 32,
                "normalizer": "interocular",
            },
            "errors": errors.tolist(),
            "parameters": 39828,
        }

    return make


@pytest.fixture
def fill(made):
    """Function from a plan to results of all its cells: errors by loss, else 5 %."""

    def make(plan, **nme):
        return {
            cell.name: made(nme.get(cell.recipe.loss, 5.0), noise=cell.recipe.seed)
            for cell in plan.cells()
        }

    return make
