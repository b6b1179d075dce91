import json

import numpy as np
import pytest

from keras_lapkl import confidence
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


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--model=none.keras"], "none.keras"),
        (["--dataset=aflw", "--data_dir=/nowhere", "--split=test"], "/nowhere"),
    ],
)
def test_plain_errors(run_tool, model, tmp_path, flags, message):
    flags = [f"--model={model}", "--num_synthetic=5", f"--output_dir={tmp_path / 'x'}", *flags]
    if "--dataset=aflw" in flags:
        flags.remove("--num_synthetic=5")
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
