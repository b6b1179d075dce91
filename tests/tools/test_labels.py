import shlex

import label_exports
import numpy as np
import pytest

from keras_lapkl.data import read_csv

SCRIPT = "tools/labels.py"


def test_labels(run_tool, tmp_path):
    project = label_exports.deeplabcut(tmp_path / "project")
    done = run_tool(SCRIPT, f"--input={project}", f"--output={tmp_path}/labels.csv")
    assert done.stdout.splitlines() == [
        "DeepLabCut: 2 of 2 objects, in 2 pictures, 3 points each",
        "Gaps: 1 of 6 points are not labeled: left_ear 1",
        f"Labels: {tmp_path}/labels.csv. Look at {tmp_path}/labels.samples.jpg",
        "Training takes other labels to validate on: --validation_share=0.2 makes both. To train "
        f"on all of these: --dataset=csv --data_dir={tmp_path} --train_split={tmp_path}/labels.csv "
        "--validation_split=OTHER.csv",
    ]
    found = read_csv(tmp_path / "labels.csv")
    np.testing.assert_array_equal(found.landmarks[0, 1], [30.5, 40.25])
    assert (tmp_path / "labels.samples.jpg").stat().st_size > 1000


def test_a_tenth_of_a_folders_train_csv_is_held_out_by_itself(run_tool, tmp_path):
    project = label_exports.deeplabcut(tmp_path / "project")
    done = run_tool(SCRIPT, f"--input={project}", f"--output={tmp_path}/train.csv")
    assert done.stdout.splitlines()[-1] == f"To train: --dataset=csv --data_dir={tmp_path}"


def test_parts_to_train_and_to_validate_on(run_tool, tmp_path):
    folder = tmp_path / "my data"
    project = label_exports.deeplabcut(folder / "project")
    flags = (f"--input={project}", f"--output={folder}/l.csv", "--validation_share=0.5")
    done = run_tool(SCRIPT, *flags)
    said = done.stdout.splitlines()[-1].removeprefix("To train: ")
    assert shlex.split(said) == [  # as a shell takes it
        "--dataset=csv",
        f"--data_dir={folder}",
        f"--train_split={folder}/l.train.csv",
        f"--validation_split={folder}/l.validation.csv",
    ]
    parts = [read_csv(folder / f"l.{part}.csv", folder) for part in ("train", "validation")]
    assert [len(part.paths) for part in parts] == [1, 1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected labels of one of these: DeepLabCut"),
        (b"<!DOCTYPE x><dataset/>", "a DOCTYPE"),
        (b"scorer,me", "expected DeepLabCut's header rows"),
    ],
)
def test_refused(run_tool, tmp_path, content, message):
    (tmp_path / "x").write_bytes(content)
    flags = (f"--input={tmp_path}/x", f"--output={tmp_path}/labels.csv")
    done = run_tool(SCRIPT, *flags, check=False)
    assert done.returncode == 1 and message in done.stderr
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
