import dataclasses
import json

import numpy as np
import pytest

from keras_lapkl import reproduction
from keras_lapkl.reproduction import LABELED, Plan, cells
from keras_lapkl.training.recipe import Adversary, Recipe


@pytest.fixture(scope="module")
def data():
    return reproduction.load_data("synthetic", num_synthetic=16, image_size=32)


@pytest.mark.slow
def test_goes_on_where_it_was_stopped(plan, made, data, tmp_path, monkeypatch):
    trained = []

    def train(cell, data, folder, provenance):
        if len(trained) == 3:
            raise KeyboardInterrupt
        trained.append(cell.name)
        folder.mkdir()
        (folder / "cell.json").write_text(json.dumps(made(5.0)))
        return made(5.0)

    monkeypatch.setattr(cells, "_train", train)
    monkeypatch.setattr(cells, "_measure_files", lambda *_: None)
    monkeypatch.setattr(cells, "_draw", lambda *_: None)
    with pytest.raises(KeyboardInterrupt):
        reproduction.run(plan, lambda: data, tmp_path)
    assert "3 of 28 training runs" in (tmp_path / "RESULTS.md").read_text()
    trained.append(None)
    results = reproduction.run(plan, lambda: data, tmp_path)
    assert len(results) == 28 and len(set(trained)) == 29


def test_budget_begins_no_further_cell(plan, made, tmp_path, monkeypatch):
    """0 minutes only write the report, of cells without models too, and without any data."""
    monkeypatch.setattr(cells, "_train", lambda *_: pytest.fail("trained"))
    first = plan.cells()[0].name
    (tmp_path / first).mkdir()
    (tmp_path / first / "cell.json").write_text(json.dumps(made(5.0)))
    assert list(reproduction.run(plan, pytest.fail, tmp_path, budget_minutes=0)) == [first]
    assert "1 of 28 training runs" in (tmp_path / "RESULTS.md").read_text()
    assert (tmp_path / "ced.png").exists() and not (tmp_path / "heatmaps.png").exists()


def test_a_report_of_other_cells_stays(plan, made, tmp_path):
    first = plan.cells()[0].name
    (tmp_path / first).mkdir()
    (tmp_path / first / "cell.json").write_text(json.dumps(made(5.0)))
    reproduction.run(plan, pytest.fail, tmp_path, budget_minutes=0)
    before = (tmp_path / "RESULTS.md").read_text()
    other = dataclasses.replace(plan, recipe=Recipe(epochs=3))
    with pytest.raises(ValueError, match="holds 1 cells, and none of this plan"):
        reproduction.run(other, pytest.fail, tmp_path, budget_minutes=0)
    assert (tmp_path / "RESULTS.md").read_text() == before


@pytest.mark.parametrize("content", ["", "[]", '{"test": {}}'])
def test_a_damaged_cell_says_what_to_do(plan, tmp_path, content):
    folder = tmp_path / plan.cells()[0].name
    folder.mkdir()
    (folder / "cell.json").write_text(content)
    with pytest.raises(ValueError, match=r"cell\.json is not .* Delete it: the same command"):
        reproduction.run(plan, pytest.fail, tmp_path, budget_minutes=0)


@pytest.mark.parametrize("name", ["RESULTS.md", "ced.png", "heatmaps.png", "predictions.png"])
def test_files_that_are_not_its_own_stay(plan, tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(ValueError, match=f"{name} is there already"):
        reproduction.run(plan, pytest.fail, tmp_path, budget_minutes=0)
    assert (tmp_path / name).read_text() == "mine"


@pytest.mark.parametrize("content", ["[]", '{"files": 3}', '{"mine": 1}'])
def test_a_list_of_files_that_is_not_its_own_stays(plan, tmp_path, content):
    (tmp_path / "files.json").write_text(content)
    with pytest.raises(ValueError, match=r"files\.json is not of lapkl reproduce"):
        reproduction.run(plan, None, tmp_path)
    assert (tmp_path / "files.json").read_text() == content


def test_cells_of_other_data_are_refused(plan, made, tmp_path, monkeypatch, caplog):
    """One report never compares cells of other labels; whatever is left to be done."""
    data = reproduction.load_data("synthetic", num_synthetic=4, image_size=32)
    monkeypatch.setattr(cells, "_train", lambda *_: made(5.0))
    monkeypatch.setattr(cells, "_draw", lambda *_: None)
    plan = dataclasses.replace(plan, tables=("table2",))
    first, second = (tmp_path / cell.name / "cell.json" for cell in plan.cells()[:2])
    for path, digests in ((first, {"digests": cells._digests(data)}), (second, {})):
        path.parent.mkdir()
        path.write_text(json.dumps({**made(5.0), **digests}))
    reproduction.run(plan, lambda: data, tmp_path)
    assert "1 cells in" in caplog.text and "kept no digests" in caplog.text
    mended = dataclasses.replace(data.test, landmarks=data.test.landmarks + 1)
    other = dataclasses.replace(data, test=mended)
    with pytest.raises(ValueError, match=f"{first.parent.name} was trained on other data.* test,"):
        reproduction.run(plan, lambda: other, tmp_path)
    turned = dataclasses.replace(data, test=data.test.take(np.arange(len(data.test))[::-1]))
    with pytest.raises(ValueError, match=r"other data: .* of test \(in order\) differ"):
        reproduction.run(plan, lambda: turned, tmp_path)
    tight = dataclasses.replace(data, test=dataclasses.replace(data.test, crop_scale=2.0))
    with pytest.raises(ValueError, match=r"other crops: .*3\.0.* there, .*2\.0.* now"):
        reproduction.run(plan, lambda: tight, tmp_path)


@pytest.mark.slow
def test_cells_are_trained_scored_and_drawn(data, tmp_path):
    recipe = Recipe(epochs=1, adversary=Adversary(filters=4))
    plan = Plan(recipe, ("table2",), ("laplace_kl",), (1 / 32,), (LABELED,), (0,))
    results = reproduction.run(plan, lambda: data, tmp_path)
    for cell in plan.cells():
        found = json.loads((tmp_path / cell.name / "cell.json").read_text())
        assert len(found["errors"]) == 16
        assert np.mean(found["errors"]) == pytest.approx(found["test"]["nme"], abs=1e-3)
        assert found == results[cell.name]
    for picture in ("heatmaps.png", "predictions.png", "ced.png"):
        assert (tmp_path / picture).stat().st_size > 1000


@pytest.mark.slow
def test_files_of_untrained_networks_are_measured_once(data, tmp_path, monkeypatch):
    plan = Plan(Recipe(), ("table3",), ("laplace_kl",), (1 / 32, 1 / 64), (), (0,))
    reproduction.run(plan, lambda: data, tmp_path, budget_minutes=1e-9)
    files = json.loads((tmp_path / "files.json").read_text())["files"]
    assert files["1/32"]["int8"]["bytes"] < files["1/32"]["float32"]["bytes"]
    assert files["1/64"]["float32"]["bytes"] < files["1/32"]["float32"]["bytes"]
    report = (tmp_path / "RESULTS.md").read_text()
    assert f"| 1/32 | {files['1/32']['float32']['bytes'] / 1000:,.0f} | " in report
    monkeypatch.setattr(cells.tflite, "measure_many", pytest.fail)
    reproduction.run(plan, lambda: data, tmp_path, budget_minutes=1e-9)
    other = dataclasses.replace(plan, recipe=Recipe(head="linear"))
    reproduction.run(other, pytest.fail, tmp_path, budget_minutes=0)
    assert "faces/s" not in (tmp_path / "RESULTS.md").read_text()
