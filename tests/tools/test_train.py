import json
import re

import pytest

SMALL = ["--width=1/64", "--epochs=1", "--num_synthetic=24", "--image_size=32"]


@pytest.fixture(scope="module")
def run(run_tool, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    done = run_tool("tools/train.py", *SMALL, "--seed=4", f"--output_dir={folder}", fresh=True)
    return folder, done


def test_leaves_model_and_results(run):
    folder, _ = run
    results = json.loads((folder / "results.json").read_text())
    assert {"model.keras", "history.csv"} <= {p.name for p in folder.iterdir()}
    provenance = results["provenance"]
    assert provenance["flags"]["seed"] == 4 and provenance["flags"]["loss"] == "laplace_kl"
    assert {"keras", "tensorflow", "python"} <= provenance["versions"].keys()
    assert "git" in provenance and "--seed=4" in provenance["command"]


def test_says_what_it_does_and_found(run):
    folder, done = run
    assert "Train on 24 synthetic faces." in done.stderr
    for said in ("NME %", "24 synthetic faces", "Crop scale 3", str(folder)):
        assert said in done.stdout
    for noise in ("oneDNN", "cuda", "Traceback", "Warning"):
        assert noise not in done.stderr


def test_help_is_in_groups_with_ranges_and_defaults(run_tool):
    said = run_tool("tools/train.py", "--help").stdout
    headings = [line for line in said.splitlines() if re.fullmatch(r"[A-Z][a-z ]+:", line)]
    assert headings == [
        "Flags:",
        "Training:",
        "Network:",
        "Adversary:",
        "Faces without labels:",
    ]
    assert said.startswith("Trains a landmark localizer") and "--output_dir" in said
    parts = dict(zip(headings, re.split(r"^[A-Z][a-z ]+:$", said, flags=re.M)[1:], strict=True))
    assert "--epochs: Passes over the training faces. (a whole number ≥ 1; default 40)" in said
    assert "default 1/8" in parts["Network:"] and "--dataset" in parts["Flags:"]
    for flag in ("teacher", "unlabeled_batch_size", "unlabeled_dir"):
        assert f"--{flag}:" in parts["Faces without labels:"]


def test_unlabeled_faces_and_tensorboard(run_tool, tmp_path):
    done = run_tool(
        "tools/train.py",
        *SMALL,
        "--labeled_as_unlabeled",
        "--num_unlabeled=20",
        "--discriminator_filters=4",
        "--adversarial_weight=0.01",
        "--tensorboard",
        f"--output_dir={tmp_path}",
    )
    assert "Without labels: 20 of 24 synthetic faces, without their labels." in done.stderr
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["recipe"]["adversary"]["weight"] == 0.01
    assert "without labels 20 of" in results["validation"]["trained_on"]
    assert (tmp_path / "adversarial.keras").exists()
    assert list((tmp_path / "tensorboard").rglob("events.out*"))


def test_a_student_that_begins_with_its_teacher_by_a_flagfile(run, run_tool, tmp_path):
    folder, _ = run
    flagfile = tmp_path / "small.cfg"
    flagfile.write_text("# small\n" + "\n".join(SMALL) + "\n--loss=softargmax\n")
    tmp_path = tmp_path / "run"
    done = run_tool(
        "tools/train.py",
        f"--flagfile={flagfile}",
        f"--teacher={folder / 'model.keras'}",
        f"--initial_model={folder / 'model.keras'}",
        "--num_unlabeled=12",
        "--unlabeled_batch_size=4",
        "--teacher_max_scale=20",
        f"--output_dir={tmp_path}",
    )
    took, of = re.search(r"Begin with (\d+) of (\d+) layers\.", done.stderr).groups()
    assert took == of
    recipe = json.loads((tmp_path / "results.json").read_text())["recipe"]
    assert json.loads((tmp_path / "run.json").read_text())["loss"] == "softargmax"
    assert recipe["teacher"]["max_scale"] == 20 and recipe["adversary"] is None


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--dataset=300w", "--data_dir=x"], "num_synthetic"),
        (["--width=0"], "width"),
        (["--width=1/0"], "such as 1/8"),
        (["--num_unlabeled=3"], "1..3"),
        (["--unlabeled_dir=nowhere"], "nowhere holds no shards"),
        (["--teacher=fpn-eighth-300w"], "--teacher needs faces without labels"),
        (["--teacher_max_scale=2"], "--teacher_max_scale needs --teacher"),
        (["--loss=l2"], "laplace_kl"),
        (["--learning_rat=1"], "learning_rate"),
        (["stray"], "stray"),
    ],
)
def test_bad_flags_end_in_a_plain_error(run_tool, tmp_path, flags, message):
    flags = [*SMALL, f"--output_dir={tmp_path / 'run'}", *flags]
    done = run_tool("tools/train.py", *flags, check=False)
    assert done.returncode == 1
    assert message in done.stdout + done.stderr and "Traceback" not in done.stderr


def test_output_dir_is_required(run_tool):
    done = run_tool("tools/train.py", *SMALL, check=False)
    assert done.returncode == 1 and "output_dir" in done.stderr


@pytest.mark.faces
def test_real_faces_by_a_list_of_stems(run_tool, faces, tmp_path):
    stems = (faces / "300w" / "splits" / "validation.txt").read_text().splitlines()
    (tmp_path / "some.txt").write_text("\n".join(stems[:40]))
    (tmp_path / "other.txt").write_text("\n".join(stems[40:60]))
    done = run_tool(
        "tools/train.py",
        "--dataset=300w",
        f"--data_dir={faces / '300w'}",
        f"--train_split={tmp_path / 'some.txt'}",
        f"--validation_split={tmp_path / 'other.txt'}",
        "--width=0.015625",
        "--epochs=1",
        f"--output_dir={tmp_path / 'run'}",
    )
    assert "Trained on" in done.stdout and "40 " in done.stderr
    assert json.loads((tmp_path / "run/results.json").read_text())["validation"]["faces"] == 20
