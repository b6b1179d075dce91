import csv
import json
import shutil

import cv2
import pytest

from keras_lapkl import schemes
from keras_lapkl.data.synthetic.faces import synthetic_faces
from keras_lapkl.evaluation import label_audit
from keras_lapkl.models.localizer import LandmarkLocalizer

SCRIPT = "tools/audit.py"


@pytest.fixture(scope="module")
def labeled(tmp_path_factory, write_labels):
    """Drawn faces with labels in CSV, of which that of 5.png has its left and right exchanged."""
    folder = tmp_path_factory.mktemp("labeled")
    pictures, landmarks = synthetic_faces(40, seed=7)
    landmarks[5] = landmarks[5, list(schemes.IBUG68.flip)]
    write_labels(folder / "train.csv", landmarks, pictures)
    return folder


def flags(folder, out, *more):
    data = (f"--data_dir={folder}", f"--split={folder}/train.csv")
    return "--dataset=csv", *data, f"--output_dir={out}", *more


def test_by_a_model(run_tool, labeled, tmp_path):
    out = tmp_path / "out"
    model = "--model=fpn-sixteenth-300w"
    done = run_tool(SCRIPT, *flags(labeled, out, model), fresh=True)
    assert "trained on 300-W train" in done.stdout and "5.png: mirrored, the names" in done.stdout
    with (out / "audit.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 40 and (rows[0]["file"], rows[0]["kind"]) == ("5.png", "mirrored")
    assert rows[0]["place"] == "line 7"
    assert cv2.imread(str(out / "audit.png")).shape[1] == 2132
    # What follows from the number of labels is no setting: with one label less it is other data.
    assert json.loads((out / "audit.json").read_text())["settings"]["steps"] is None
    results = json.loads((out / "results.json").read_text())
    assert results["labels"] == 40 and results["kinds"]["mirrored"] == 1
    assert set(results["kinds"]) == set(label_audit.KINDS)
    assert sorted(path.name for path in out.iterdir() if path.suffix != ".lock") == [
        *("audit.csv", "audit.json", "audit.png", "results.json")
    ]


def test_one_of_a_pictures_objects_is_left_out(run_tool, tmp_path):
    """Its box is mistyped; the others keep their lines."""
    pictures, landmarks = synthetic_faces(5, seed=7)
    columns = ["file", *(f"box_{name}" for name in ("x0", "y0", "x1", "y1"))]
    columns += [f"{name}_{axis}" for name in "abcd" for axis in "xy"]
    rows = []
    for i in (0, 0, 1, 2, 3):
        box = (5, 5, 75, 75) if len(rows) != 1 else (500, 500, 570, 570)
        rows.append([f"{i}.png", *box, *landmarks[i, [36, 45, 48, 54]].ravel()])
    for i, picture in enumerate(pictures):
        cv2.imwrite(str(tmp_path / f"{i}.png"), picture[..., ::-1])
    with (tmp_path / "train.csv").open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    out = tmp_path / "out"
    few = ("--crop_from=box", "--skip_bad", "--folds=2", "--steps=2", "--image_size=32")
    run_tool(SCRIPT, *flags(tmp_path, out, *few))
    with (out / "audit.csv").open(newline="") as file:
        found = {row["place"]: row["file"] for row in csv.DictReader(file)}
    expected = {"line 2": "0.png", "line 4": "1.png", "line 5": "2.png", "line 6": "3.png"}
    assert found == expected


def test_models_of_any_size_are_refused(run_tool, labeled, tmp_path):
    import keras

    inputs = keras.Input((None, None, 3))
    network = keras.Model(inputs, keras.layers.Conv2D(68, 1)(inputs))
    LandmarkLocalizer(network, "ibug68", 3.0).save(tmp_path / "any.keras")
    model = f"--model={tmp_path}/any.keras"
    done = run_tool(SCRIPT, *flags(labeled, tmp_path / "out", model), check=False)
    assert "does not say of which side its crops are" in done.stderr
    assert "Traceback" not in done.stderr


OWN = ("--folds=2", "--steps=2", "--image_size=32", "--scheme=ibug68")


@pytest.fixture(scope="module")
def audited(run_tool, labeled, tmp_path_factory):
    """The folder of an audit by models of its own, and what it printed."""
    out = tmp_path_factory.mktemp("audited") / "out"
    return out, run_tool(SCRIPT, *flags(labeled, out, *OWN, "--inject"))


def test_by_models_of_its_own_that_are_kept(run_tool, labeled, audited):
    out, done = audited
    assert "2 models of 2 steps each, about 1 minutes" in done.stdout
    assert "The first 3 have" in done.stdout and "of 3 injected faults" in done.stdout
    injected = json.loads((out / "results.json").read_text())["injected"]
    assert injected["of"] == {"all": 3, "shifted": 1, "swapped": 1, "mirrored": 1}
    trained = [out / f"fold{i}" / "model.keras" for i in range(2)]
    written = [path.stat().st_mtime_ns for path in trained]
    table = (out / "audit.csv").read_bytes()
    run_tool(SCRIPT, *flags(labeled, out, *OWN, "--inject"))
    assert written == [path.stat().st_mtime_ns for path in trained]
    assert table == (out / "audit.csv").read_bytes()
    draws = run_tool(
        "benchmarks/audit.py",
        *("--dataset=csv", f"--data_dir={labeled}", f"--split={labeled}/train.csv"),
        *(f"--audit_dir={out}", "--draws=2"),
    )
    rows = [line.split() for line in draws.stdout.splitlines()]
    assert rows[0] == ["fault", "found", "of", "%"]
    assert [(row[0], row[2]) for row in rows[1:5]] == [
        *(("all", "6"), ("shifted", "2"), ("swapped", "2"), ("mirrored", "2"))
    ]
    assert "In the first 3 of 40, 2 draws." in draws.stdout


def test_models_of_its_own_are_for_these_labels_alone(run_tool, labeled, audited, tmp_path):
    """Not for others, here without faults, nor for what stands in another fold by its name."""
    shutil.copytree(audited[0], out := tmp_path / "out")
    table = (out / "audit.csv").read_bytes()
    done = run_tool(SCRIPT, *flags(labeled, out, *OWN))
    assert f"{out} holds an audit of other labels, pictures or names" in done.stdout
    assert table == (out / "audit.csv").read_bytes()
    assert (tmp_path / "out-2" / "audit.csv").read_bytes() != table
    shutil.copytree(labeled, renamed := tmp_path / "renamed")
    (renamed / "5.png").rename(renamed / "z5.png")
    table = (renamed / "train.csv").read_text().replace("\n5.png,", "\nz5.png,")
    (renamed / "train.csv").write_text(table)
    run_tool(SCRIPT, *flags(renamed, out, *OWN))
    assert "z5.png" in (tmp_path / "out-3" / "audit.csv").read_text()
    done = run_tool(SCRIPT, *flags(labeled, out, "--folds=3"), check=False)
    assert done.returncode == 1 and "holds an audit with other settings" in done.stderr


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--model=fpn-sixteenth-300w", "--steps=3"), "nothing is trained: drop --steps."),
        (("--folds=41",), "Expected 2 folds or more"),
        (("--image_size=50",), "--image_size must be a multiple of 16, at most 4096. Received: 50"),
        (("--image_size=0",), "--image_size must be a multiple of 16, at most 4096. Received: 0"),
    ],
)
def test_refused(run_tool, labeled, tmp_path, more, message):
    """The folder stays free for the command that is right."""
    done = run_tool(SCRIPT, *flags(labeled, tmp_path / "out", *more), check=False)
    assert done.returncode == 1 and message in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "out" / "audit.json").exists()


def test_drawn_faces_have_no_labels_to_audit(run_tool, tmp_path):
    done = run_tool(SCRIPT, f"--output_dir={tmp_path}/out", check=False)
    assert done.returncode == 1 and "name a data set" in done.stderr
    assert not (tmp_path / "out").exists()
