import dataclasses
import json
import pathlib
import re
import shlex
import shutil

import numpy as np
import pytest

from keras_lapkl import reproduction, training
from keras_lapkl.reproduction import LABELED, Plan

FACES = 40


@pytest.fixture(scope="module")
def data():
    return reproduction.load_data("synthetic", num_synthetic=16, image_size=32)


@pytest.fixture
def plan():
    return Plan(
        training.Recipe(epochs=1),
        widths=(1 / 8, 1 / 16),
        num_unlabeled=(LABELED, 10),
        seeds=(0, 1),
        figure_4={"beta": (0.5, 1.0)},
    )


def made(nme, spread=1.0, noise=0):
    """A `cell.json` whose faces' errors are `nme` on average."""
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


def fill(plan, **nme):
    """Results of all cells: by loss, else 5 %."""
    return {
        cell.name: made(nme.get(cell.recipe.loss, 5.0), noise=cell.recipe.seed)
        for cell in plan.cells()
    }


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


def test_recipes_are_the_files_of_flags():
    found = reproduction.recipe("w300_muon", epochs=7)
    assert (found.optimizer, found.head, found.epochs) == ("muon", "marginal", 7)
    assert found.normalize and found.augment and found.augment_strength == 0.5
    assert reproduction.recipe("w300_mobile").network == "mobile_fpn"
    paper = reproduction.recipe("w300_paper")
    assert not paper.augment and paper.dropout == 0.2 and paper.schedule == "constant"


def test_report_by_hand(plan, tmp_path):
    results = fill(plan, laplace_kl=4.0)
    base = plan.cell(1, loss="laplace_kl").name
    results[base] = made(4.4, noise=1)
    words = ["python", "/home/me/tools/reproduce.py", "--data_dir=/home/me/300w"]
    provenance = {"command": [*words, "--budget_minutes=0"]}
    reproduction.write_report(plan, results, tmp_path, provenance)
    report = (tmp_path / "RESULTS.md").read_text()
    assert "    python tools/reproduce.py --data_dir=300w\n" in report
    assert "28 of 28 cells are there. Trained on 16 synthetic faces. Tested on" in report
    assert "| LaplaceKL | no D | 4.20 ± 0.28 (" in report  # 4.0 and 4.4
    assert "| LaplaceKL | D, 10 faces | 4.00 ± 0.00 (" in report
    assert "| 1/16 | 39,828 | softargmax |  | 5.00 ± 0.00 (" in report
    assert "9.79" in report  # the paper's, at 1/16
    assert "](ced.png)" in report and (tmp_path / "ced.png").stat().st_size > 1000
    assert not report.count("nan")


def test_results_page_is_what_the_cells_say(tmp_path, run_tool):
    """docs/RESULTS.md from docs/results, by its own command."""
    docs = pathlib.Path(__file__).parents[1] / "docs"
    page = (docs / "RESULTS.md").read_text()
    (command,) = re.findall(r"^    python (tools/reproduce.py) (.*)$", page, re.M)
    folder = tmp_path / "reproduction"
    shutil.copytree(docs / "results", folder)
    words = [word for word in shlex.split(command[1]) if not word.startswith("--output_dir")]
    run_tool(command[0], *words, f"--output_dir={folder}", "--budget_minutes=0")
    lines = zip(page.splitlines(), (folder / "RESULTS.md").read_text().splitlines(), strict=True)
    for ours, written in lines:
        if not ours.startswith("    python"):
            assert ours == written


def test_report_of_what_is_there_so_far(plan, tmp_path):
    reproduction.write_report(plan, {}, tmp_path)
    report = (tmp_path / "RESULTS.md").read_text()
    assert "0 of 28 cells" in report and "| not run |" in report
    assert "ced.png" not in report and not (tmp_path / "ced.png").exists()
    assert "| softargmax | no D |  | 3.48 |  |  |" in report


def test_verdicts(plan):
    results = fill(plan, laplace_kl=4.0, softargmax=5.0)
    for seed in plan.seeds:
        results[plan.cell(seed, loss="laplace_kl", unlabeled=10).name] = made(6.0, noise=seed)
        results[plan.cell(seed, loss="laplace_kl", beta=0.5).name] = made(3.0, noise=seed)
        results[plan.cell(seed, loss="softargmax").name]["test"]["spread"] = 2.5
    verdicts = {claim: verdict for claim, verdict, _ in reproduction.claims(plan, results)}
    assert verdicts["LaplaceKL's error is below softargmax's, width 1/8"] == "reproduced"
    assert verdicts["D on 10 faces lowers LaplaceKL's error"] == "not reproduced"
    assert verdicts["1 is the best β"] == "not reproduced"
    assert verdicts["LaplaceKL's heatmaps are sharper than softargmax's"] == "reproduced"
    assert verdicts["The errors on AFLW"] == "needs data that are not here"


def test_a_claim_must_hold_with_each_seed(plan):
    """On average by 0.4, with an interval far from 0, but not with seed 1."""
    results = fill(plan, softargmax=5.0, laplace_kl=4.0)
    results[plan.cell(1, loss="laplace_kl").name] = made(5.2, noise=1)
    by = {claim: (verdict, by) for claim, verdict, by in reproduction.claims(plan, results)}
    verdict, why = by["LaplaceKL's error is below softargmax's, width 1/8"]
    assert verdict == "not reproduced" and why.startswith("difference -0.40 (-0.")
    assert why.endswith("2 seeds")


def test_seeds_that_only_one_side_has_are_left_out(plan, tmp_path):
    """D with one seed is held against no D of that seed, not against the mean of both."""
    results = fill(plan)
    results[plan.cell(0, loss="laplace_kl").name] = made(4.0)
    results[plan.cell(1, loss="laplace_kl").name] = made(6.0)
    results[plan.cell(0, loss="laplace_kl", unlabeled=10).name] = made(4.5)
    del results[plan.cell(1, loss="laplace_kl", unlabeled=10).name]
    by = {claim: by for claim, _, by in reproduction.claims(plan, results)}
    assert (
        by["D on 10 faces lowers LaplaceKL's error"] == "difference +0.50 (+0.50 to +0.50), 1 seed"
    )
    reproduction.write_report(plan, results, tmp_path)
    report = (tmp_path / "RESULTS.md").read_text()
    (row,) = [line for line in report.splitlines() if "| LaplaceKL | D, 10 faces |" in line]
    assert row.endswith("| +0.50 (+0.50 to +0.50) |")


def test_speed_by_width(plan):
    files = {"1/8": {"float32": {"median_ms": 2.0}}, "1/16": {"float32": {"median_ms": 1.0}}}
    (claim,) = [c for c in reproduction.claims(plan, {}, files) if "faster" in c[0]]
    assert claim[1:] == ("reproduced", "1/8: 500, 1/16: 1,000 faces/s")
    files["1/16"]["float32"]["median_ms"] = 3.0
    (claim,) = [c for c in reproduction.claims(plan, {}, files) if "faster" in c[0]]
    assert claim[1] == "not reproduced"


def test_widths_are_told_from_the_widest(plan, tmp_path):
    """The first is the one of Table 2; Table 3 has the paper's order."""
    turned = dataclasses.replace(plan, widths=plan.widths[::-1])
    reproduction.write_report(turned, {}, tmp_path)
    report = (tmp_path / "RESULTS.md").read_text()
    assert "width 1/16\n" in report and report.index("| 1/8 |") < report.index("| 1/16 |")


def test_difference_is_paired_by_face():
    hard = np.linspace(0, 100, FACES)
    ours = {"errors": (hard + 1).tolist()}
    mean, low, high = reproduction.difference([ours], [{"errors": hard.tolist()}])
    assert mean == pytest.approx(1) and low == pytest.approx(1) and high == pytest.approx(1)
    assert reproduction.difference([ours], []) is None


def test_goes_on_where_it_was_stopped(plan, data, tmp_path, monkeypatch):
    trained = []

    def train(cell, data, folder, provenance):
        if len(trained) == 3:
            raise KeyboardInterrupt
        trained.append(cell.name)
        folder.mkdir()
        (folder / "cell.json").write_text(json.dumps(made(5.0)))
        return made(5.0)

    monkeypatch.setattr(reproduction, "_train", train)
    monkeypatch.setattr(reproduction, "_measure_files", lambda *_: None)
    monkeypatch.setattr(reproduction, "_draw", lambda *_: None)
    with pytest.raises(KeyboardInterrupt):
        reproduction.run(plan, lambda: data, tmp_path)
    assert "3 of 28 cells" in (tmp_path / "RESULTS.md").read_text()
    trained.append(None)
    results = reproduction.run(plan, lambda: data, tmp_path)
    assert len(results) == 28 and len(set(trained)) == 29


def test_budget_begins_no_further_cell(plan, tmp_path, monkeypatch):
    """0 minutes only write the report, of cells without models too, and without any data."""
    monkeypatch.setattr(reproduction, "_train", lambda *_: pytest.fail("trained"))
    first = plan.cells()[0].name
    (tmp_path / first).mkdir()
    (tmp_path / first / "cell.json").write_text(json.dumps(made(5.0)))
    assert list(reproduction.run(plan, pytest.fail, tmp_path, budget_minutes=0)) == [first]
    assert "1 of 28 cells" in (tmp_path / "RESULTS.md").read_text()
    assert (tmp_path / "ced.png").exists() and not (tmp_path / "heatmaps.png").exists()


def test_cells_are_trained_scored_and_drawn(data, tmp_path):
    recipe = training.Recipe(epochs=1, adversary=training.Adversary(filters=4))
    plan = Plan(recipe, ("table2",), ("laplace_kl",), (1 / 32,), (LABELED,), (0,))
    results = reproduction.run(plan, lambda: data, tmp_path)
    for cell in plan.cells():
        found = json.loads((tmp_path / cell.name / "cell.json").read_text())
        assert len(found["errors"]) == 16
        assert np.mean(found["errors"]) == pytest.approx(found["test"]["nme"], abs=1e-3)
        assert found == results[cell.name]
    for picture in ("heatmaps.png", "predictions.png", "ced.png"):
        assert (tmp_path / picture).stat().st_size > 1000


def test_files_of_untrained_networks_are_measured_once(data, tmp_path, monkeypatch):
    plan = Plan(training.Recipe(), ("table3",), ("laplace_kl",), (1 / 32, 1 / 64), (), (0,))
    reproduction.run(plan, lambda: data, tmp_path, budget_minutes=1e-9)
    files = json.loads((tmp_path / "files.json").read_text())["files"]
    assert files["1/32"]["int8"]["bytes"] < files["1/32"]["float32"]["bytes"]
    assert files["1/64"]["float32"]["bytes"] < files["1/32"]["float32"]["bytes"]
    report = (tmp_path / "RESULTS.md").read_text()
    assert f"| 1/32 | {files['1/32']['float32']['bytes'] / 1000:,.0f} | " in report
    monkeypatch.setattr(reproduction.tflite, "measure_many", pytest.fail)
    reproduction.run(plan, lambda: data, tmp_path, budget_minutes=1e-9)
    other = dataclasses.replace(plan, recipe=training.Recipe(head="linear"))
    reproduction.run(other, pytest.fail, tmp_path, budget_minutes=0)
    assert "faces/s" not in (tmp_path / "RESULTS.md").read_text()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tables": ("table9",)}, "`tables`"),
        ({"losses": ()}, "`losses`"),
        ({"widths": ()}, "`widths`"),
        ({"seeds": ()}, "`seeds`"),
    ],
)
def test_bad_plan(change, message):
    with pytest.raises(ValueError, match=message):
        Plan(training.Recipe(), **change)
