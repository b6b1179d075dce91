import json
import subprocess
import sys

import numpy as np
import pytest

SCRIPT = "benchmarks/few_labels.py"


@pytest.fixture
def runs(tmp_path):
    """Two subsets of fifty labels, of which the unlabeled faces take 10 and 20 %."""
    random = np.random.default_rng(0)
    for subset, left in enumerate((0.9, 0.8)):
        errors = random.uniform(4, 6, 100)
        for method, width, values in (
            ("supervised", "0.125", errors),
            ("mean_teacher", "0.5", errors / 2),
            ("student", "0.125", left * errors),
        ):
            nme = {"nme": values.mean(), "errors": values.tolist()}
            cell = {"validation": nme, "common": nme, "conditions": "crop scale 3"}
            folder = tmp_path / f"50-{subset}-{method}-{width}"
            folder.mkdir()
            (folder / "cell.json").write_text(json.dumps(cell))
    return tmp_path


def test_finished_runs_are_compared_in_pairs(run_tool, runs):
    flags = ("--data_dir=none", "--unlabeled_dir=none", f"--output_dir={runs}")
    done = run_tool(SCRIPT, *flags, "--labels=50", "--subsets=0,1", "--widths=1/8")
    found = json.loads((runs / "results.json").read_text())
    of_validation, of_common = found["gains"]
    assert of_validation["method"] == "student" and of_common["set"] == "common"
    assert of_common["each"] == pytest.approx([10, 20])
    alone = [row for row in found["nme"] if row["method"] == "supervised"]
    assert [row["subset"] for row in alone] == [0, 1] and alone[0]["steps"] == 4000
    first, second = (float(np.mean(cell["common"]["errors"])) for cell in cells(runs, "supervised"))
    assert alone[1]["common"] == round(second, 2)
    gain = (10 * first + 20 * second) / (first + second)
    assert of_common["gain"] == pytest.approx(gain)
    low, high = of_common["interval"]
    assert gain - 1 < low < gain < high < gain + 1
    assert of_common["seen"] == 1  # each face is better
    assert found["conditions"] == "crop scale 3"
    table = done.stdout.split("NME %")[-1]
    assert [line.split("|")[1].strip() for line in table.splitlines()[3:6]] == [
        "student, 1/8",
        "supervised, 1/8",
        "mean_teacher, 1/2",
    ]
    assert f"student, 1/8, common: {gain:.1f} [" in table and "(10.0, 20.0)" in table
    assert (runs / "few_labels.png").stat().st_size > 10_000


def test_students_of_two_wide_networks(run_tool, runs):
    for subset in (0, 1):
        alone = json.loads((runs / f"50-{subset}-supervised-0.125" / "cell.json").read_text())
        for name in ("supervised-0.5", "student_of_two-0.125"):
            folder = runs / f"50-{subset}-{name}"
            folder.mkdir()
            (folder / "cell.json").write_text(json.dumps(alone))
    flags = ("--data_dir=none", "--unlabeled_dir=none", f"--output_dir={runs}", "--labels=50")
    run_tool(
        SCRIPT, *flags, "--subsets=0,1", "--widths=1/8", "--methods=student_of_two", "--epochs=200"
    )
    rows = json.loads((runs / "results.json").read_text())["nme"]
    # The wide networks, both of them teachers, have the teachers' length.
    assert {(row["method"], row["width"], row["steps"]) for row in rows} == {
        ("mean_teacher", 0.5, 4000),
        ("supervised", 0.5, 4000),
        ("student_of_two", 0.125, 20_000),
    }


SETTINGS = """
import json, pathlib, sys
sys.path.insert(0, "benchmarks")
from absl import flags
import few_labels
flags.FLAGS(["few", "--data_dir=d", "--unlabeled_dir=u", "--output_dir=o", "--epochs=200"])
recipe = few_labels.recipe_of(pathlib.Path("o"), 50, 1, "student_of_two", 1 / 8)
wide = few_labels.recipe_of(pathlib.Path("o"), 50, 1, "supervised", 1 / 2)
print(json.dumps([recipe.teacher.models, recipe.epochs, recipe.learning_rate, recipe.seed,
                  wide.epochs, wide.learning_rate, wide.takes_unlabeled]))
"""


@pytest.mark.slow
def test_settings_of_a_student_of_two():
    found = subprocess.run(
        [sys.executable, "-c", SETTINGS], capture_output=True, text=True, check=True
    )
    models, *numbers = json.loads(found.stdout.splitlines()[-1])
    assert models == ["o/50-1-mean_teacher-0.5/model.keras", "o/50-1-supervised-0.5/model.keras"]
    assert numbers == [200, 0.02, 1, 40, 0.01, False]


def cells(runs, method):
    return [
        json.loads(path.read_text()) for path in sorted(runs.glob(f"50-*-{method}-*/cell.json"))
    ]


def test_numbers_keep_the_errors_of_all_lengths(run_tool, runs, tmp_path):
    numbers = tmp_path / "numbers.json"
    before = {"labels": 50, "subset": 0, "method": "student", "width": 0.125, "steps": 24_000}
    before |= {"validation": 4.2, "common": 4.1}
    old = before | {"steps": 4000}
    numbers.write_text(json.dumps([before, old]))
    flags = ("--data_dir=none", "--unlabeled_dir=none", f"--output_dir={runs}", "--labels=50")
    run_tool(SCRIPT, *flags, "--subsets=0,1", "--widths=1/8")
    alone = (runs / "few_labels.png").read_bytes()
    run_tool(SCRIPT, *flags, "--subsets=0", "--widths=1/8", f"--numbers={numbers}")
    rows = json.loads(numbers.read_text())
    assert [(row["method"], row["steps"]) for row in rows] == [
        ("mean_teacher", 4000),
        ("student", 4000),
        ("student", 24_000),
        ("supervised", 4000),
    ]
    assert rows[2] == before and rows[1] != old
    assert (runs / "few_labels.png").read_bytes() != alone
    other = (f"--numbers={numbers}", "--unlabeled_batch_size=4")
    done = run_tool(SCRIPT, *flags, *other, check=False)
    assert done.returncode == 1 and "another --unlabeled_batch_size" in done.stderr
    assert json.loads(numbers.read_text()) == rows


def test_runs_of_other_lengths_are_not_mixed(run_tool, runs):
    flags = ("--data_dir=none", "--unlabeled_dir=none", f"--output_dir={runs}", "--labels=50")
    run_tool(SCRIPT, *flags, "--subsets=0,1", "--widths=1/8")
    done = run_tool(SCRIPT, *flags, "--subsets=0,1", "--widths=1/8", "--epochs=41", check=False)
    assert done.returncode == 1 and "'epochs': 40" in done.stderr and "--output_dir" in done.stderr
