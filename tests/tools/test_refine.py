import pytest

from keras_lapkl import load_model, schemes
from keras_lapkl.data.synthetic.faces import synthetic_faces
from keras_lapkl.models import LandmarkLocalizer, MobileFPN

SCRIPT = "tools/refine.py"
MODEL = "--model=fpn-sixteenth-300w"


@pytest.fixture(scope="module")
def labeled(tmp_path_factory, write_labels):
    folder = tmp_path_factory.mktemp("labeled")
    pictures, landmarks = synthetic_faces(24, seed=7)
    write_labels(folder / "train.csv", landmarks[:12], pictures[:12])
    write_labels(folder / "validation.csv", landmarks[12:], pictures[12:], first=12)
    return folder


def data(folder):
    return (
        *("--dataset=csv", f"--data_dir={folder}"),
        *(f"--train_split={folder}/train.csv", f"--validation_split={folder}/validation.csv"),
    )


@pytest.mark.slow
def test_a_model_with_its_refinement(run_tool, labeled, tmp_path):
    output = tmp_path / "refined.keras"
    done = run_tool(SCRIPT, MODEL, *data(labeled), f"--output={output}", fresh=True)
    table = [line.split() for line in done.stdout.splitlines()]
    (before,) = (float(row[4]) for row in table if row[:3] == ["as", "it", "was"])
    (after,) = (float(row[2]) for row in table if row[:1] == ["refined"])
    assert after < before and f"Refined: {output}" in done.stdout
    assert load_model(output).refinement is not None
    assert [path.name for path in tmp_path.iterdir()] == ["refined.keras"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--output=a.tflite"], "--output must end in .keras. Received: a.tflite"),
        (["--output=file/a.keras"], "Not a directory: 'file/a.keras'"),
        (["--output=a.keras", "--eye_gain=4"], "eye_gain"),
    ],
)
def test_refused_at_the_start(run_tool, tmp_path, flags, message):
    (tmp_path / "file").write_text("mine")
    done = run_tool(SCRIPT, MODEL, *flags, check=False, cwd=tmp_path)
    assert done.returncode == 1 and message in done.stdout + done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_gains_of_points_that_are_no_eyes_are_refused(run_tool, tmp_path):
    other = schemes.Scheme("five", tuple("abcde"), crop_from="image")
    model = LandmarkLocalizer(MobileFPN(5, 1 / 16, image_size=32), other, 1.0)
    model.save(tmp_path / "m.keras")
    flags = (f"--model={tmp_path}/m.keras", "--output=a.keras", "--eye_gain=2")
    done = run_tool(SCRIPT, *flags, check=False, cwd=tmp_path)
    assert done.returncode == 1 and "not those of eyes and mouth: drop --eye_gain." in done.stderr
