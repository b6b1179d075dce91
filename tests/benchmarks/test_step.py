import json

import pytest

SCRIPT = "benchmarks/step.py"
TINY = ("--landmarks=2", "--image_size=16", "--batch_size=2", "--rounds=2", "--steps=1")
STEPS = ["graph", "half", "fit", "adversarial"]
RATIOS = ["fit/graph", "adversarial/graph", "adversarial/half"]


def checked(found):
    """Names of the summaries of one width, whose numbers are in order."""
    for summary in found.values():
        low, high = summary["range"]
        quarter, three_quarters = summary["quartiles"]
        assert 0 < low <= quarter <= summary["median"] <= three_quarters <= high
    return list(found)


def test_keras_alone(run_tool, tmp_path):
    output = tmp_path / "step.json"
    done = run_tool(SCRIPT, *TINY, "--widths=1/64", "--notorch", f"--output={output}")
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines[0] == ["ms", "an", "image", "width", "1/64"]
    assert [line[0] for line in lines[1:5]] == STEPS
    assert lines[5] == ["ratio", "width", "1/64"]
    assert [line[0] for line in lines[6:9]] == RATIOS
    assert "2 threads; python" in done.stdout
    data = json.loads(output.read_text())
    (found,) = data["widths"].values()
    assert checked(found["ms_an_image"]) == STEPS
    assert checked(found["ratios"]) == RATIOS
    assert data["provenance"]["flags"]["rounds"] == 2


def test_with_torch(run_tool, tmp_path):
    pytest.importorskip("torch")
    output = tmp_path / "step.json"
    done = run_tool(SCRIPT, *TINY, "--widths=1/64", f"--output={output}")
    assert "With Keras's weights PyTorch's net has Keras's logits" in done.stdout
    data = json.loads(output.read_text())
    (found,) = data["widths"].values()
    assert found["torch_differs_by"] < 1e-4
    assert checked(found["ms_an_image"]) == [*STEPS, "torch", "torch_nhwc"]
    assert checked(found["ratios"]) == ["graph/torch", "graph/torch_nhwc", *RATIOS]
    assert data["provenance"]["versions"]["torch"]


def test_profile(run_tool, tmp_path):
    output = tmp_path / "parts.json"
    run_tool(SCRIPT, *TINY, "--widths=1/64", "--profile", f"--output={output}")
    (found,) = json.loads(output.read_text())["widths"].values()
    names = checked(found["ms_an_image"])
    assert {"step", "no_decode_nor_loss", "no_dropout", "adversarial_no_omega"} <= set(names)
    whole = {"step", "adversarial"}
    assert [ratio.split("/")[0] for ratio in checked(found["ratios"])] == [
        name for name in names if name not in whole
    ]


def test_without_torch_says_what_to_do(run_tool, tmp_path):
    (tmp_path / "torch.py").write_text("raise ImportError('none')")
    done = run_tool(SCRIPT, *TINY, "--widths=1/64", check=False, env={"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 1
    assert "error: The comparison with PyTorch needs it: pip install torch" in done.stderr


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--batch_size=3", "must be even"),
        ("--rounds=0", "--rounds"),
        ("--widths=a", "error: A width must be a number > 0"),
        ("stray", "Expected flags only"),
    ],
)
def test_plain_errors(flag, message, run_tool):
    done = run_tool(SCRIPT, flag, check=False)
    assert done.returncode == 1
    assert message in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
