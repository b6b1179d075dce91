import dataclasses

import pytest

from keras_lapkl.reproduction import Plan
from keras_lapkl.training.recipe import Recipe, read_recipe


def test_what_tables_share_is_trained_once(plan):
    cells = plan.cells()
    # A seed: 3 losses x (no D, 2 with), 1/16 x 2 losses x (no D, D), one more β.
    assert len(cells) == 2 * (9 + 4 + 1) == len({cell.name for cell in cells})
    assert [cell.recipe.adversary is not None for cell in cells[:3]] == [False, True, True]
    assert cells == plan.cells()


def test_other_settings_are_other_cells(plan):
    longer = dataclasses.replace(plan, recipe=dataclasses.replace(plan.recipe, epochs=2))
    assert not {c.name for c in plan.cells()} & {c.name for c in longer.cells()}


def test_an_option_at_its_default_renames_no_cell(plan):
    """A cell's name is found again by later versions, whose recipes have further fields."""
    assert plan.cell(0).name == "laplace_kl-w0.125-u0-s0-9478ce8f"
    with_d = plan.cell(0, unlabeled=10, loss="softargmax").name
    assert with_d == "softargmax-w0.125-u10-s0-9d902468"


def test_a_width_has_its_own_learning_rate(plan):
    other = dataclasses.replace(plan, learning_rates={1 / 16: 1e-4})
    rates = {(cell.recipe.width, cell.recipe.learning_rate) for cell in other.cells()}
    assert rates == {(1 / 8, plan.recipe.learning_rate), (1 / 16, 1e-4)}
    unchanged = {cell.name for cell in plan.cells() if cell.recipe.width == 1 / 8}
    assert unchanged < {cell.name for cell in other.cells()}


def test_a_recipe_with_a_teacher_is_refused(plan):
    with pytest.raises(ValueError, match="must not have a teacher"):
        dataclasses.replace(plan, recipe=read_recipe("few_labels_unlabeled"))


def test_recipes_are_the_files_of_flags():
    found = read_recipe("w300_muon")
    assert (found.optimizer, found.head) == ("muon", "marginal")
    assert found.normalize and found.augment and found.augment_strength == 0.5
    assert read_recipe("w300_mobile").network == "mobile_fpn"
    paper = read_recipe("w300_paper")
    assert not paper.augment and paper.dropout == 0.2 and paper.schedule == "constant"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tables": ("table9",)}, "`tables`"),
        ({"losses": ()}, "`losses`"),
        ({"widths": ()}, "`widths`"),
        ({"seeds": ()}, "`seeds`"),
        ({"learning_rates": {0.3: 1e-3}}, "`learning_rates`"),
        ({"seeds": (0, 1, 0)}, "`seeds` must have each once"),
        ({"num_unlabeled": ("labeled", 50, 50)}, "`num_unlabeled` must have each once"),
        ({"num_unlabeled": (0,)}, "`num_unlabeled` must be numbers > 0"),
    ],
)
def test_bad_plan(change, message):
    with pytest.raises(ValueError, match=message):
        Plan(Recipe(), **change)
