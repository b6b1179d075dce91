import dataclasses
import json
import pathlib
import re
import shlex
import shutil

import numpy as np
import pytest

from keras_lapkl import reproduction


def test_report_by_hand(plan, made, fill, tmp_path):
    results = fill(plan, laplace_kl=4.0)
    base = plan.cell(1, loss="laplace_kl").name
    results[base] = made(4.4, noise=1)
    words = ["python", "/home/me/tools/reproduce.py", "--data_dir=/home/me/300w"]
    provenance = {"command": [*words, "--budget_minutes=0"]}
    reproduction.write_report(plan, results, tmp_path, provenance)
    report = (tmp_path / "RESULTS.md").read_text()
    assert "    lapkl reproduce --data_dir=300w\n" in report
    assert "28 of 28 training runs are there. Trained on 16 synthetic faces. Tested on" in report
    assert "| LaplaceKL | no D | 4.20 ± 0.28 (" in report  # 4.0 and 4.4
    assert "| LaplaceKL | D, 10 faces | 4.00 ± 0.00 (" in report
    assert "| 1/16 | 39,828 | softargmax |  | 5.00 ± 0.00 (" in report
    assert "9.79" in report  # the paper's, at 1/16
    assert "](ced.png)" in report and (tmp_path / "ced.png").stat().st_size > 1000
    assert not report.count("nan")


@pytest.mark.parametrize("name", ["RESULTS", "RESULTS-40"])
def test_results_page_is_what_the_cells_say(name, tmp_path, run_tool):
    """The page from docs/results, by its own command; its picture has a name of its own."""
    docs = pathlib.Path(__file__).parents[2] / "docs"
    page = (docs / f"{name}.md").read_text()
    assert (docs / name.replace("RESULTS", "ced")).with_suffix(".png").exists()
    page = page.replace(f"({name.replace('RESULTS', 'ced')}.png)", "(ced.png)")
    (command,) = re.findall(r"^    lapkl reproduce (.*)$", page, re.M)
    folder = tmp_path / "reproduction"
    shutil.copytree(docs / "results", folder)
    words = [word for word in shlex.split(command) if not word.startswith("--output_dir")]
    run_tool("tools/reproduce.py", *words, f"--output_dir={folder}", "--budget_minutes=0")
    lines = zip(page.splitlines(), (folder / "RESULTS.md").read_text().splitlines(), strict=True)
    for ours, written in lines:
        if not ours.startswith("    lapkl"):
            assert ours == written


def test_learning_rate_of_a_width_is_said(plan, tmp_path):
    plan = dataclasses.replace(plan, learning_rates={1 / 16: 2e-4})
    reproduction.write_report(plan, {}, tmp_path)
    assert " (0.0002 at width 1/16), " in (tmp_path / "RESULTS.md").read_text()


def test_report_of_what_is_there_so_far(plan, tmp_path):
    reproduction.write_report(plan, {}, tmp_path)
    report = (tmp_path / "RESULTS.md").read_text()
    assert "0 of 28 training runs" in report and "| not run |" in report
    assert "ced.png" not in report and not (tmp_path / "ced.png").exists()
    assert "| softargmax | no D |  | 3.48 |  |  |" in report


def test_verdicts(plan, made, fill):
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


def test_a_claim_must_hold_with_each_seed(plan, made, fill):
    """On average by 0.4, with an interval far from 0, but not with seed 1."""
    results = fill(plan, softargmax=5.0, laplace_kl=4.0)
    results[plan.cell(1, loss="laplace_kl").name] = made(5.2, noise=1)
    by = {claim: (verdict, by) for claim, verdict, by in reproduction.claims(plan, results)}
    verdict, why = by["LaplaceKL's error is below softargmax's, width 1/8"]
    assert verdict == "not reproduced" and why.startswith("difference -0.40 (-0.")
    assert why.endswith("2 seeds")


def test_heatmaps_must_be_sharper_with_each_seed(plan, fill):
    """Not on average alone, which one seed can make."""
    results = fill(plan)
    claim = "LaplaceKL's heatmaps are sharper than softargmax's"
    names = [plan.cell(seed, loss="softargmax").name for seed in plan.seeds]
    for spreads, expected in (
        ((3.25, 1.02), "reproduced"),
        ((3.25, 0.98), "not reproduced"),
        ((3.25, np.nan), "not reproduced"),
    ):
        for name, spread in zip(names, spreads, strict=True):
            results[name]["test"]["spread"] = spread
        by = {each: (said, why) for each, said, why in reproduction.claims(plan, results)}
        assert by[claim][0] == expected
        assert by[claim][1].startswith(f"1.00 and 3.25, 1.00 and {spreads[1]:.2f} px by seed")


def test_one_seed_is_said(plan, made, fill):
    """Among several comparisons too, of which one has but one seed."""
    plan = dataclasses.replace(plan, figure_4={"beta": (0.5, 1.0, 2.0)})
    results = fill(plan, laplace_kl=4.0, softargmax=5.0)
    del results[plan.cell(1, loss="softargmax").name]
    for seed in plan.seeds:
        for beta in (0.5, 2.0):
            results[plan.cell(seed, loss="laplace_kl", beta=beta).name] = made(6.0, noise=seed)
    del results[plan.cell(1, loss="laplace_kl", beta=2.0).name]

    def verdict(claim):
        return {each: said for each, said, _ in reproduction.claims(plan, results)}[claim]

    one = "reproduced by one seed"
    assert verdict("LaplaceKL's error is below softargmax's, width 1/8") == one
    assert verdict("1 is the best β") == one
    results[plan.cell(0, loss="laplace_kl", beta=0.5).name] = made(3.0)
    assert verdict("1 is the best β") == "not reproduced"


def test_seeds_that_only_one_side_has_are_left_out(plan, made, fill, tmp_path):
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


def test_files_beside_the_cells_are_reported(plan, tmp_path):
    file = {"bytes": 91_234, "median_ms": 4.0}
    files = {width: {"float32": file, "int8": file} for width in ("1/8", "1/16")}
    told = {"network": "rcn", "head": "paper", "normalize": False, "files": files}
    (tmp_path / "files.json").write_text(json.dumps(told))
    reproduction.write_report(plan, {}, str(tmp_path))
    assert "| 1/8 | 91 | 250 | 91 | 250 | 21.38 |" in (tmp_path / "RESULTS.md").read_text()
    wider = dataclasses.replace(plan, widths=(1 / 4, 1 / 8))
    reproduction.write_report(wider, {}, tmp_path)  # not of all its widths
    assert "faces/s" not in (tmp_path / "RESULTS.md").read_text()


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
    hard = np.linspace(0, 100, 40)
    ours = {"errors": (hard + 1).tolist()}
    mean, low, high = reproduction.difference([ours], [{"errors": hard.tolist()}])
    assert mean == pytest.approx(1) and low == pytest.approx(1) and high == pytest.approx(1)
    assert reproduction.difference([ours], []) is None
