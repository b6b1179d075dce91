import json

import pytest

from keras_lapkl import pretrained
from keras_lapkl.tflite.targets import TARGETS

INT8 = pretrained.path("fpn-eighth-300w", "-int8.tflite")


def test_a_file_on_all_targets(run_tool, tmp_path):
    output = tmp_path / "check.json"
    done = run_tool("tools/check.py", INT8, f"--output={output}", fresh=True)
    lines = done.stdout.splitlines()
    assert lines[0] == f"{INT8.name}: 95 operators"
    rows = {line.split()[0]: line.split()[1:3] for line in lines[3 : 3 + len(TARGETS)]}
    assert set(rows) == set(TARGETS) and rows["micro"] == ["94", "1"]
    (report,) = json.loads(output.read_text())["results"]
    gpu = report["targets"]["gpu"]
    assert rows["gpu"] == [str(gpu["runs"]), str(gpu["falls_back"])]
    assert sum(kind["count"] for kind in gpu["kinds"]) == 95
    assert all(kind["runs"] or kind["reason"] for kind in gpu["kinds"])


@pytest.mark.parametrize(
    ("target", "status"),
    [("nnapi", 0), ("gpu", 0), ("micro", 1), ("edgetpu", 1), ("nnapi,edgetpu", 1)],
)
def test_a_target_fails_if_anything_falls_back(target, status, run_tool):
    done = run_tool("tools/check.py", INT8, f"--target={target}", check=False)
    assert done.returncode == status
    names = target.split(",")
    told = [line.partition(": ")[0] for line in done.stdout.splitlines()]
    assert [name for name in told if name in TARGETS] == names


def test_several_files_make_one_table(run_tool):
    done = run_tool("tools/check.py", "fpn-eighth-300w", INT8, "--target=micro", check=False)
    head, floats, integers, *_ = done.stdout.splitlines()
    assert head.split() == ["falls", "back", "of", "operators", "micro"]
    assert floats.split() == ["fpn-eighth-300w.tflite", "169", "78"]
    assert integers.split() == ["fpn-eighth-300w-int8.tflite", "95", "1"]
    assert done.returncode == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "Expected a .tflite file, or several"),
        (["none.tflite"], "none.tflite"),
        (["bad.tflite"], "bad.tflite is not a TFLite file"),
        ([INT8, "--target=tpu"], "must be some of xnnpack, gpu"),
        ([INT8, "--target="], "must be some of xnnpack, gpu"),
        (["bad.tflite", "--output=bad.tflite"], "bad.tflite"),
    ],
)
def test_bad_words_end_in_a_plain_error(words, message, run_tool, tmp_path):
    (tmp_path / "bad.tflite").write_bytes(b"no model")
    done = run_tool("tools/check.py", *words, check=False, cwd=tmp_path)
    assert done.returncode == 1
    assert message in done.stdout + done.stderr and "Traceback" not in done.stderr
    assert (tmp_path / "bad.tflite").read_bytes() == b"no model"


def test_help_names_the_targets(run_tool):
    said = run_tool("tools/check.py", "--help").stdout
    assert said.startswith("Tells which operators") and all(name in said for name in TARGETS)
