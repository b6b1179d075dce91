import json
import os
import re
import shutil
import signal
import time

import cv2
import numpy as np
import pytest

from keras_lapkl.data import origins

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


def test_another_backend_is_refused_before_data_and_files(run_tool, tmp_path):
    flags = "--dataset=csv", f"--data_dir={tmp_path}/none", f"--output_dir={tmp_path}/run"
    env = {**os.environ, "KERAS_BACKEND": "numpy"}
    done = run_tool("tools/train.py", *flags, check=False, env=env)
    said = "error: Training needs Keras on tensorflow or jax: set KERAS_BACKEND to one of them."
    assert done.returncode == 1 and done.stderr.splitlines()[-1].startswith(said)
    assert "Traceback" not in done.stderr and not list(tmp_path.iterdir())


def test_help_is_in_groups_with_ranges_and_defaults(run_tool):
    said = run_tool("tools/train.py", "--help").stdout
    headings = [line for line in said.splitlines() if re.fullmatch(r"[A-Z][a-z ]+:", line)]
    assert headings == [
        "Flags:",
        "Training:",
        "Network:",
        "Faces without labels:",
        "Adversary:",
        "Mean teacher:",
    ]
    assert said.startswith("Trains a landmark localizer") and "--output_dir" in said
    parts = dict(zip(headings, re.split(r"^[A-Z][a-z ]+:$", said, flags=re.M)[1:], strict=True))
    assert "--batch_size: Labeled faces in a step. (a whole number ≥ 1; faces; default 8)" in said
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
    assert "Without labels: 20 synthetic faces; without their labels; taken from 24." in done.stderr
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["recipe"]["adversary"]["weight"] == 0.01
    assert "without labels 20 synthetic faces" in results["validation"]["trained_on"]
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
        f"--teacher={folder / 'model.keras'},fpn-sixteenth-300w",
        f"--initial_model={folder / 'model.keras'}",
        "--num_unlabeled=12",
        "--unlabeled_batch_size=4",
        "--teacher_max_scale=20",
        f"--output_dir={tmp_path}",
    )
    took, of = re.search(r"Begin with (\d+) of (\d+) layers\.", done.stderr).groups()
    assert took == of
    recipe = json.loads((tmp_path / "results.json").read_text())["recipe"]
    assert json.loads((tmp_path / "run.json").read_text())["settings"]["loss"] == "softargmax"
    assert recipe["teacher"]["max_scale"] == 20 and recipe["adversary"] is None


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--dataset=300w", "--data_dir=x"], "num_synthetic"),
        (["--width=0"], "width"),
        (["--width=1/0"], "such as 1/8"),
        (["--num_unlabeled=3"], "1..3"),
        (["--unlabeled_dir=nowhere"], "Expected a folder of images. There is none at"),
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


@pytest.fixture
def labels(tmp_path):
    """Twelve pictures with a white spot, and a function that writes their CSV with some moved."""
    rng = np.random.default_rng(0)
    points = rng.integers(10, 38, (12, 2, 2))
    for i, places in enumerate(points):
        picture = rng.integers(0, 99, (48, 48, 3)).astype(np.uint8)
        for x, y in places:
            picture[y - 3 : y + 4, x - 3 : x + 4] = 255
        cv2.imwrite(str(tmp_path / f"{i}.png"), picture)

    def write(moved=()):
        rows = ["path,a_x,a_y,b_x,b_y"]
        for i, ((ax, ay), (bx, by)) in enumerate(points):
            rows.append(f"{i}.png,{ax + 2 * (i in moved)},{ay},{bx},{by}")
        (tmp_path / "train.csv").write_text("\n".join(rows))

    write()
    return write


def test_mended_labels_and_what_comes_after(run_tool, labels, tmp_path):
    """Each later step has the data from the run; a model without its run is refused."""
    run = tmp_path / "run"
    flags = ["--dataset=csv", f"--data_dir={tmp_path}", "--crop_from=image", "--image_size=32"]
    flags = ["tools/train.py", *flags, "--width=1/64", "--epochs=1", f"--output_dir={run}"]
    run_tool(*flags)
    before = (run / "model.keras").read_bytes()
    labels(moved=[3, 7])
    done = run_tool(*flags)
    other = f"{run} holds a run on other labels: labels of 2 of 10 training faces differ"
    for said in (done.stderr, done.stdout):
        assert other in said and f"{run}-2" in said and "pictures are the same" in said
    assert (run / "model.keras").read_bytes() == before
    again = run_tool(*flags)
    assert other in again.stderr and f"{run}-2 holds this run, finished" in again.stderr
    assert "Training anew" not in again.stderr

    model, file = tmp_path / "run-2" / "model.keras", tmp_path / "m.tflite"
    bounds = ["--num_parity=2", "--nme_bound=1000"]
    done = run_tool("tools/convert.py", f"--model={model}", f"--output={file}", *bounds)
    assert "NME on 2 faces of csv train (validation)" in done.stdout
    results = tmp_path / "results"
    run_tool("tools/evaluate.py", f"--model={file}", f"--output_dir={results}")
    assert json.loads((results / "results.json").read_text())["faces"] == 2
    labels(moved=[0])
    done = run_tool("tools/evaluate.py", f"--model={model}", f"--output_dir={results}")
    assert "labels, boxes or pictures differ from those" in done.stderr
    alone = tmp_path / "alone.keras"
    model.rename(alone)
    flags = [f"--model={alone}", f"--output={file}"]
    done = run_tool("tools/convert.py", *flags, check=False)
    assert done.returncode == 1 and "Name labeled data by --dataset" in done.stderr
    (tmp_path / "run-2" / "run.json").rename(tmp_path / "run.json")
    model = alone.rename(tmp_path / "model.keras")
    text = (tmp_path / "run.json").read_text().replace(f'"{tmp_path}"', '"/nowhere"')
    (tmp_path / "run.json").write_text(text)
    done = run_tool("tools/evaluate.py", f"--model={model}", f"--output_dir={results}", check=False)
    assert "data in /nowhere" in done.stderr and "name it by --data_dir" in done.stderr
    run_tool(
        "tools/evaluate.py", f"--model={model}", f"--data_dir={tmp_path}", f"--output_dir={results}"
    )


def test_without_settings_the_number_of_labels_decides(warm_python, labels, tmp_path):
    """Of all labels, where others validate. It is stopped, for these are minutes of training."""
    shutil.copy(tmp_path / "train.csv", tmp_path / "other.csv")
    command = ["tools/train.py", "--dataset=csv", f"--data_dir={tmp_path}", "--crop_from=image"]
    command += ["--validation_split=other", f"--output_dir={tmp_path / 'run'}"]
    out = tmp_path / "said"
    out.touch()
    process = warm_python.start(command, out, out)
    until = time.monotonic() + 120
    while "Training laplace_kl" not in out.read_text():
        assert process.poll() is None and time.monotonic() < until, out.read_text()
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert process.wait() == 130
    found = out.read_text()
    for said in (
        "No setting is given: recipe few_labels, for 12 labels.",
        "Never mirrored: scheme",
        "Train on csv train: 12 objects in 12 images",
        "Validate on csv other: 12 objects in 12 images",
        "40 epochs of 100 steps of 8",
    ):
        assert said in found


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--image_size=90"], "--image_size must be a multiple of 16, at most 4096. Received: 90"),
        (["--first_pass=fpn-eighth-300w"], "--first_pass finds faces in --unlabeled_dir"),
        (["--first_pass=x", "--unlabeled_dir={}"], "Whole pictures need no --first_pass"),
        (["--train_split={}/train.csv"], "give --train_split=train, which leaves that tenth out"),
    ],
)
def test_what_does_not_go_together(run_tool, labels, tmp_path, flags, message):
    flags = [flag.format(tmp_path) for flag in flags]
    run = tmp_path / "run"
    command = ["--dataset=csv", f"--data_dir={tmp_path}", "--crop_from=image"]
    done = run_tool("tools/train.py", *command, *flags, f"--output_dir={run}", check=False)
    assert done.returncode == 1 and message in done.stderr and "Traceback" not in done.stderr
    assert not (run / "run.json").exists()


def test_few_labels_and_a_folder_of_pictures_by_one_command(run_tool, labels, tmp_path):
    """Two wider networks label whole pictures for the small one, one of which has seen them."""
    run = tmp_path / "run"
    done = run_tool(
        "tools/train.py",
        *("--recipe=hundreds_of_labels_unlabeled", "--dataset=csv", f"--data_dir={tmp_path}"),
        *("--crop_from=image", f"--unlabeled_dir={tmp_path}", "--image_size=32"),
        *("--epochs=2", "--steps_per_epoch=2", "--width=1/64"),
        *("--teacher_width=1/32", "--teacher_epochs=1", "--supervised_teacher_epochs=1"),
        *("--eye_gain=2", "--tflite", f"--output_dir={run}"),
    )
    assert "are not those of eyes and mouth: --eye_gain." in done.stderr
    assert "12 faces without labels from 12 photos, cropped as whole pictures" in done.stderr
    assert f"2 of the validation pictures lie in {tmp_path}, too" in done.stderr
    assert "0 pictures without labels are few beside 10 labels" in done.stderr
    assert "9 or more validation objects with a point are wanted" in done.stderr
    assert "The teacher labeled 12 faces" in done.stderr
    small, *wide = (
        json.loads((run / name / "results.json").read_text())
        for name in (".", "teacher", "supervised_teacher")
    )
    for each, has_unlabeled in zip(wide, (True, False), strict=True):
        assert small["recipe"]["mean_teacher"]["width"] == each["recipe"]["width"] == 1 / 32
        assert (each["recipe"]["unlabeled_data"] is not None) == has_unlabeled
        assert small["parameters"] < each["parameters"]
    assert small["recipe"]["steps_per_epoch"] == 2
    file = run / "model.tflite"
    assert "convolutions" in done.stdout
    assert origins.read(file).loaded["training"]["dataset"] == "csv"
    flags = [f"--model={file}", f"--input={tmp_path}/0.png", f"--output_dir={tmp_path}/found"]
    done = run_tool("tools/predict.py", *flags, "--detector=yunet", check=False)
    assert done.returncode == 1 and "whole pictures" in done.stderr
    assert "drop --detector." in done.stderr
    run_tool("tools/predict.py", *flags)
    assert (tmp_path / "found" / "predictions.json").exists()
