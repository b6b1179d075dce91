import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from keras_lapkl import confidence, pretrained, schemes
from keras_lapkl.data.prediction_files import read_predictions
from keras_lapkl.data.pts import write_pts
from keras_lapkl.data.synthetic.faces import synthetic_faces
from keras_lapkl.losses import LaplaceKL
from keras_lapkl.models.localizer import LandmarkLocalizer
from keras_lapkl.models.rcn import RCN
from keras_lapkl.optimizers import muon


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.keras"
    model = LandmarkLocalizer(
        RCN(68, 1 / 64, 32, 0, "marginal", normalize=True),
        "ibug68",
        3.0,
        trained_on="nothing",
        calibration=confidence.fit(np.ones((30, 68)), np.ones((30, 68, 2)), "thirty faces"),
    )
    model.compile(muon(1e-3), LaplaceKL())  # which a fresh process must know to read it
    model.save(path)
    return path


def test_table_results_and_pictures(run_tool, model, tmp_path):
    done = run_tool(
        "tools/evaluate.py",
        f"--model={model}",
        "--dataset=synthetic",
        "--split=test",
        "--num_synthetic=20",
        f"--output_dir={tmp_path}",
    )
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["faces"] == 20 and results["trained_on"] == "nothing"
    assert f"{results['nme']:.3f}" in done.stdout
    assert "Trained on nothing. Crop scale 3, 32x32 pixels" in done.stdout
    assert results["provenance"]["flags"]["split"] == "test"
    assert 0 <= results["confidence"]["coverage"]["0.9"] <= 1
    assert "Calibrated on thirty faces." in done.stdout
    for picture in ("predictions.png", "confidence.png"):
        assert (tmp_path / picture).stat().st_size > 1000
    assert results["nme_interval"][0] < results["nme"] < results["nme_interval"][1]
    found = read_predictions(tmp_path / "predictions.json", schemes.IBUG68)
    assert len(found) == 20 and found.names[0] == "0"


@pytest.fixture
def moved(write_labels, tmp_path):
    """Two folders of the same pictures, the labels of one 9 pixels aside; a model of the first."""
    pictures, landmarks = synthetic_faces(4, seed=3)
    for folder, shift in (("first", 0), ("second", 9)):
        (tmp_path / folder).mkdir()
        write_labels(tmp_path / folder / "mine.csv", landmarks + shift, pictures)
    model = tmp_path / "model.tflite"
    shutil.copy(pretrained.resolve("fpn-sixteenth-300w", (".tflite",)), model)
    data = {"dataset": "csv", "data_dir": str(tmp_path / "first"), "category": None}
    record = {**data, "split": str(tmp_path / "first" / "mine.csv"), "skip_bad": False}
    beside = {"loaded": {"training": record, "validation": record}, "digests": {}}
    (tmp_path / "model.tflite.json").write_text(json.dumps(beside))
    return model


class TestLabelsOfOtherData:
    """A model's record names a file of labels: those of other pictures are not measured by it."""

    def test_are_those_of_the_folder(self, run_tool, moved, tmp_path):
        errors = []
        for folder in ("first", "second"):
            flags = (f"--model={moved}", "--dataset=csv", f"--data_dir={tmp_path / folder}")
            run_tool("tools/evaluate.py", *flags, f"--output_dir={tmp_path / 'out'}")
            errors.append(json.loads((tmp_path / "out" / "results.json").read_text())["nme"])
        assert errors[1] > errors[0] + 10

    def test_are_asked_for_where_they_were_not_among_the_pictures(self, run_tool, moved, tmp_path):
        (tmp_path / "first" / "mine.csv").rename(tmp_path / "mine.csv")
        record = tmp_path / "model.tflite.json"
        record.write_text(record.read_text().replace("first/mine.csv", "mine.csv"))
        flags = (f"--model={moved}", f"--output_dir={tmp_path / 'out'}")
        second = f"--data_dir={tmp_path / 'second'}"
        done = run_tool("tools/evaluate.py", *flags, second, check=False)
        assert done.returncode == 1 and "name them by --split." in done.stderr
        run_tool("tools/evaluate.py", *flags, second, f"--split={tmp_path / 'mine.csv'}")
        run_tool("tools/evaluate.py", *flags, f"--data_dir={tmp_path / 'first'}")

    def test_have_their_pictures_beside_them(self, run_tool, moved, tmp_path):
        """Those of the record have the same names."""
        for i in range(4):
            (tmp_path / "first" / f"{i}.png").write_bytes(b"no picture")
        flags = (f"--model={moved}", "--dataset=csv", f"--output_dir={tmp_path / 'out'}")
        run_tool("tools/evaluate.py", *flags, f"--split={tmp_path / 'second' / 'mine.csv'}")
        for beside in ("first/other.csv", "first/below/other.csv"):
            (tmp_path / beside).parent.mkdir(exist_ok=True)
            (tmp_path / "first" / "mine.csv").rename(tmp_path / beside)
            split = f"--split={tmp_path / beside}"
            done = run_tool("tools/evaluate.py", *flags, split, check=False)
            assert f"{tmp_path}/first/0.png" in done.stderr and "csv in" in done.stderr
            (tmp_path / beside).rename(tmp_path / "first" / "mine.csv")


def test_nothing_of_a_run_before_stays(run_tool, moved, tmp_path):
    """Nor does one of predictions take away the results of a model, or the other way around."""
    out, other = tmp_path / "out", tmp_path / "other"

    def run(out, *flags, check=True):
        data = (
            "--dataset=csv",
            f"--data_dir={tmp_path}/first",
            f"--split={tmp_path}/first/mine.csv",
        )
        done = run_tool("tools/evaluate.py", *flags, *data, f"--output_dir={out}", check=check)
        if done.returncode:
            return done.stderr
        return sorted(
            path.name for path in out.iterdir() if path.suffix in (".json", ".png", ".csv")
        )

    of_model = ["confidence.png", "predictions.json", "predictions.png", "results.json"]
    compare = ("--scheme=ibug68", f"--predictions={out}/predictions.json")
    assert run(out, f"--model={moved}") == [*of_model, "written.json"]
    (out / "confidence.png").write_text("of before")
    assert run(out, f"--model={moved}") == [*of_model, "written.json"]
    assert (out / "confidence.png").stat().st_size > 1000
    assert "out/results.json is there already" in run(out, *compare, check=False)
    assert set(of_model) < {each.name for each in out.iterdir()}
    assert run(other, *compare) == ["ced.png", "errors.csv", "results.json", "written.json"]
    assert "other/results.json is there already" in run(other, f"--model={moved}", check=False)


def test_results_are_kept_though_no_picture_can_be_drawn(run_tool, tmp_path):
    flags = ("--model=fpn-sixteenth-300w", "--dataset=synthetic", "--num_synthetic=4")
    env = {**os.environ, "MPLBACKEND": "nonsense"}
    done = run_tool("tools/evaluate.py", *flags, f"--output_dir={tmp_path}", env=env)
    assert "Pictures are left out: " in done.stderr and "NME %" in done.stdout
    assert json.loads((tmp_path / "results.json").read_text())["faces"] == 4


def test_results_are_kept_though_nobody_reads_what_is_printed(model, tmp_path):
    """As by `| head -1`, or where the session that began it is gone."""
    words = ("evaluate", f"--model={model}", "--dataset=synthetic", "--num_synthetic=4")
    process = subprocess.Popen(
        [sys.executable, "-m", "keras_lapkl", *words, f"--output_dir={tmp_path}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout.readline().startswith(b"Evaluate")
    process.stdout.close()
    process.wait()
    assert json.loads((tmp_path / "results.json").read_text())["faces"] == 4


@pytest.fixture
def tree(tmp_path):
    """Three faces of 300-W's layout, and predictions of them 2 px to the right, all as .pts."""
    rng = np.random.default_rng(0)
    stems = [f"{folder}/testset/{i}" for i, folder in enumerate(("helen", "lfpw", "lfpw"))]
    for stem in stems:
        landmarks = rng.uniform(0, 200, (68, 2))
        landmarks[36], landmarks[45] = (50, 80), (150, 80)  # 100 px between the eyes
        write_pts(tmp_path / "300w" / f"{stem}.pts", landmarks)
        (tmp_path / "300w" / f"{stem}.jpg").touch()
        write_pts(tmp_path / "found" / f"{stem}.pts", landmarks + [2, 0])
    return tmp_path


def test_predictions_without_tensorflow(run_tool, tree):
    """Files against files need neither TensorFlow nor Keras: here both fail to import."""
    for name in ("tensorflow", "keras"):
        (tree / "no" / f"{name}.py").parent.mkdir(exist_ok=True)
        (tree / "no" / f"{name}.py").write_text("raise SystemExit('imported')")
    (tree / "found" / "lfpw" / "testset" / "2.pts").unlink()
    path = os.pathsep.join([str(tree / "no"), os.environ.get("PYTHONPATH", "")])
    done = run_tool(
        "tools/evaluate.py",
        f"--predictions=mine={tree}/found",
        "--dataset=300w",
        f"--data_dir={tree}/300w",
        "--split=common",
        f"--output_dir={tree}/out",
        env={**os.environ, "PYTHONPATH": path},
    )
    assert "mine: 2 of 3 faces have a prediction" in done.stdout and "lfpw" in done.stdout
    results = json.loads((tree / "out" / "results.json").read_text())
    row = results["predictions"]["mine"]["scores"]["interocular"]
    assert row["nme"] == pytest.approx(2, rel=1e-5) and row["missing"] == 1
    assert row["failure_rate_8"] == pytest.approx(100 / 3)
    assert results["provenance"]["flags"]["split"] == "common"
    assert (tree / "out" / "errors.csv").read_text().count("\n") == 4
    assert (tree / "out" / "ced.png").stat().st_size > 1000


def test_coco_results_on_labels_in_a_coco_file(run_tool, tmp_path):
    points = [[10, 20, 2], [30, 24, 2], [22, 40, 2]]
    shapes = {"image_id": "7", "category_id": 1, "keypoints": np.ravel(points).tolist()}
    category = {"id": 1, "name": "kite", "keypoints": ["left", "right", "tail"]}
    pictures = [{"id": 7, "file_name": "p\\\\a.png"}]
    labels = {"images": pictures, "categories": [category], "annotations": [{"id": 1, **shapes}]}
    (tmp_path / "test.json").write_text(json.dumps(labels))
    shapes["keypoints"] = [v for x, y, _ in points for v in (x + 2, y, 0.9)]
    (tmp_path / "found.json").write_text(json.dumps([{"score": 0.9, **shapes}]))
    run_tool(
        "tools/evaluate.py",
        f"--predictions={tmp_path}/found.json",
        "--dataset=coco",
        f"--data_dir={tmp_path}",
        "--split=test",
        f"--output_dir={tmp_path}/out",
    )
    row = json.loads((tmp_path / "out" / "results.json").read_text())["predictions"]["found"]
    assert row["scores"]["hull"]["nme"] == pytest.approx(100 * 2 / 20)  # a box of 20 x 20


def test_results_of_a_training_are_not_replaced(run_tool, tree):
    (tree / "results.json").write_text("{}")
    flags = ["--dataset=300w", f"--data_dir={tree}/300w", "--split=common"]
    flags += [f"--predictions={tree}/found", f"--output_dir={tree}"]
    done = run_tool("tools/evaluate.py", *flags, check=False)
    assert done.returncode == 1 and "results.json is there already" in done.stderr
    assert (tree / "results.json").read_text() == "{}" and not (tree / "errors.csv").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "either --model or --predictions"),
        (["--model=a.keras", "--predictions=found"], "either --model or --predictions"),
        (["--predictions=gone.csv"], "gone.csv"),
        (["--predictions=found", "--normalizer=box"], "'box'"),
        (["--predictions=found", "--dataset=synthetic"], "have no photos"),
        (["--predictions=found", "--skip_bad"], "drop --skip_bad"),
    ],
)
def test_plain_errors_of_predictions(run_tool, tree, flags, message):
    common = ["--dataset=300w", f"--data_dir={tree}/300w", "--split=common"]
    done = run_tool(
        "tools/evaluate.py", *common, *flags, f"--output_dir={tree}/x", check=False, cwd=tree
    )
    assert done.returncode == 1 and message in done.stderr and "Traceback" not in done.stderr
    assert done.stderr.startswith("error: ") and not (tree / "x").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--model=none.keras", "--num_synthetic=5"], "none.keras"),
        ([], "does not say where the data are that it was trained on (nothing)"),
        (["--dataset=aflw", "--data_dir=/nowhere", "--split=test"], "/nowhere"),
        (["--num_synthetic=2", "--normalizer=box"], "'hull_diagonal', 'crop')"),
    ],
)
def test_plain_errors(run_tool, model, tmp_path, flags, message):
    flags = [f"--model={model}", f"--output_dir={tmp_path / 'x'}", *flags]
    done = run_tool("tools/evaluate.py", *flags, check=False)
    assert done.returncode == 1 and message in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "x").exists()


@pytest.mark.faces
def test_real_common_set(run_tool, model, faces, tmp_path):
    run_tool(
        "tools/evaluate.py",
        f"--model={model}",
        "--dataset=300w",
        f"--data_dir={faces / '300w'}",
        "--split=common",
        f"--output_dir={tmp_path}",
    )
    results = json.loads((tmp_path / "results.json").read_text())
    assert (results["faces"], results["normalizer"]) == (554, "interocular")
