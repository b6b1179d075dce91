import json
import os

import pytest

import keras_lapkl
from keras_lapkl import tflite

SCRIPT = "tools/convert.py"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """An untrained model of 68 landmarks in 32x32 crops: int8 is right to a small error."""
    import keras

    keras.utils.set_random_seed(0)
    generator = keras_lapkl.RCN(68, width=1 / 16, image_size=32)
    path = tmp_path_factory.mktemp("convert") / "model.keras"
    data = keras_lapkl.training_data.get("48 synthetic faces")
    keras_lapkl.LandmarkLocalizer(generator, "ibug68", 3.0, trained_on=data).save(path)
    return path


def test_all_modes(run_tool, model, tmp_path):
    modes = ("float32", "float16", "dynamic", "int8")
    flags = (f"--model={model}", f"--output={tmp_path}", "--mode=all", "--input_dtype=uint8")
    faces = ("--num_representative=8", "--num_parity=4", "--num_calibration=8")
    done = run_tool(SCRIPT, *flags, *faces, "--layers", fresh=True)
    lines = done.stdout.splitlines()
    files = [str(tmp_path / f"{mode}.tflite") for mode in modes]
    assert [line.split()[0] for line in lines[:5]] == ["file", *files]
    assert lines[5].startswith("NME on 4 faces of synthetic validation")
    assert lines[7] == f"Layers of {files[-1]}:" and lines[-1].split()[:2] == ["logits", "int8"]
    for mode in modes:
        path = tmp_path / f"{mode}.tflite"
        assert set(tflite.describe(path)["operators"]["CONV_2D"]) == {
            "int8" if mode == "int8" else "float32"
        }
        assert keras_lapkl.load_model(path).crop_scale == 3.0
        assert tflite.describe(path)["metadata"]["flip_average"] is False
        report = json.loads((tmp_path / f"{mode}.tflite.json").read_text())
        assert report["mode"] == mode and report["parity"]["images"] == 4
        assert report["provenance"]["flags"]["num_parity"] == 4
        assert report["metadata"]["measured"]["faces"] == 4
        assert report["metadata"]["calibration"]["faces"] == 8
        (data,) = report["metadata"]["training_data"]["sets"]
        assert (data["count"], data["license"]) == (48, "synthetic faces: none")
    written = {f"{mode}.tflite{end}" for mode in modes for end in ("", ".json")}
    assert written | {"written.json"} == {each.name for each in tmp_path.glob("[!.]*")}
    assert not any(noise in done.stderr for noise in ("cuda", "fully_quant", "Warning"))


def test_one_refused_mode_does_not_stop_the_others(run_tool, model, tmp_path):
    flags = (f"--model={model}", f"--output={tmp_path}", "--mode=all", "--mean_bound=1e-9")
    faces = ("--num_representative=4", "--num_parity=2", "--num_calibration=2")
    done = run_tool(SCRIPT, *flags, *faces, check=False)
    assert done.returncode == 1
    assert [line.split()[0][-15:] for line in done.stdout.splitlines()[1:3]] == [
        "/float32.tflite",
        "/float16.tflite",
    ]
    for mode in ("dynamic", "int8"):
        assert f"{mode} refused: Parity of landmarks" in done.stderr
        assert not (tmp_path / f"{mode}.tflite").exists()
    assert "Traceback" not in done.stderr
    report = json.loads((tmp_path / "float16.tflite.json").read_text())
    assert report["path"] == str(tmp_path / "float16.tflite")
    # What was refused is not ours: another's file of its name stays.
    (tmp_path / "int8.tflite").write_text("mine")
    done = run_tool(SCRIPT, *flags, *faces, check=False)
    assert done.returncode == 1 and "int8.tflite is there already" in done.stderr
    assert (tmp_path / "int8.tflite").read_text() == "mine"


def test_all_modes_replace_nothing_of_others(run_tool, model, tmp_path):
    (tmp_path / "int8.tflite.json").write_text("mine")
    done = run_tool(SCRIPT, f"--model={model}", f"--output={tmp_path}", "--mode=all", check=False)
    assert done.returncode == 1 and "int8.tflite.json is there already" in done.stderr
    assert (tmp_path / "int8.tflite.json").read_text() == "mine"


def test_one_mode(run_tool, model, tmp_path):
    path = tmp_path / "m.tflite"
    flags = ("--num_parity=2", "--num_calibration=2", "--flip_average")
    run_tool(SCRIPT, f"--model={model}", f"--output={path}", *flags)
    assert keras_lapkl.load_model(path).crop_scale == 3.0
    assert tflite.describe(path)["metadata"]["flip_average"] is True


def test_the_mean_bound_of_one_float16_file(run_tool, model, tmp_path):
    path = tmp_path / "m.tflite"
    flags = (f"--model={model}", f"--output={path}", "--mode=float16", "--mean_bound=1e-9")
    done = run_tool(SCRIPT, *flags, "--num_parity=2", "--num_calibration=2", check=False)
    assert done.returncode == 1 and not path.exists()
    assert "mean distance of at most 1e-09 px" in done.stderr
    assert "wider bounds are given by `bounds`, and by `lapkl convert --mean_bound`" in done.stderr


ONE = ("--model=m.keras", "--output=o.tflite")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((), "--model must have a value"),
        (("--model=m.keras", "--output=o.tflite", "--mode=float8"), "--mode"),
        (("--model=m.keras", "--output=o.tflite", "--mode=all"), "--output must be a folder"),
        (("--model=m.keras", "--output=folder", "--mode=int8"), "--output must be a folder"),
        (("--model=m.tflite", "--output=o.tflite"), "Expected a .keras file, or a shipped"),
        (("--model=m.keras", "--output=o.tflite", "--bogus"), "Unknown command line flag"),
        ((*ONE, "--heatmaps", "--no_decode"), "drop --heatmaps"),
        ((*ONE, "--flip_average", "--no_decode"), "drop --no_decode"),
        ((*ONE, "--mode=int8", "--output_dtype=int8"), "and --no_decode (`decode=False`)"),
        ((*ONE, "--layers"), "--layers is of int8 files: drop it. Received: --mode=float32"),
        ((*ONE, "--mean_bound=0.1"), "--mean_bound is of integers and float16. Received: --mode=f"),
        ((*ONE, "--target=gpu", "--layers"), "drop it. Received: --target=gpu (float16)"),
        ((*ONE, "--target=micro", "--flip_average"), "or a --target that gives logits"),
        ((*ONE[:1], "--output=folder", "--target=gpu"), "Received: --target=gpu (float16) --out"),
    ],
)
def test_plain_errors(flags, message, run_tool, tmp_path):
    done = run_tool(SCRIPT, *flags, check=False, cwd=tmp_path)
    assert done.returncode == 1
    assert message in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_what_a_target_refuses_is_told_without_tensorflow(run_tool, tmp_path):
    """It logs while it is imported; and that takes seconds."""
    env = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    flags = (*ONE, "--target=micro", "--flip_average")
    done = run_tool(SCRIPT, *flags, check=False, cwd=tmp_path, env=env)
    assert done.returncode == 1 and not done.stdout
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: --flip_average (`flip_average`) gives landmarks and scales")


def test_model_without_crop_rule(run_tool, tmp_path):
    path = tmp_path / "model.keras"
    keras_lapkl.LandmarkLocalizer(keras_lapkl.RCN(68, 1 / 16, image_size=32)).save(path)
    done = run_tool(SCRIPT, f"--model={path}", f"--output={tmp_path / 'o.tflite'}", check=False)
    assert done.returncode == 1
    assert "does not say which crop" in done.stderr
    assert list(tmp_path.iterdir()) == [path]
