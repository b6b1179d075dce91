import pytest

from keras_lapkl import pretrained
from keras_lapkl._support import extras
from keras_lapkl.export import micro

INT8 = pretrained.path("fpn-eighth-300w", "-int8.tflite")
MICRO = pretrained.path("fpn-sixteenth-micro", ".tflite")


def test_the_command_cuts_a_shipped_file(run_tool, tmp_path):
    output = tmp_path / "new" / "face.tflite"
    done = run_tool("tools/micro.py", "fpn-eighth-300w-int8", f"--output={output}", fresh=True)
    assert output.read_bytes() == micro.for_micro(INT8.read_bytes())
    left_out = "The refinement is left out: the landmarks are those before it.\n"
    assert done.stdout == f"{left_out}{output}: {output.stat().st_size:,} bytes\n"


@pytest.mark.parametrize("model", [INT8, MICRO], ids=["whole", "cut"])
def test_a_header_of_either_file(model, run_tool, tmp_path):
    output = tmp_path / "my-face.h"
    run_tool("tools/micro.py", model, f"--output={output}", "--arena_bytes=90000")
    text = output.read_text()
    assert "#define MY_FACE_ARENA_BYTES 90000" in text
    size = len(micro.for_micro(INT8.read_bytes())) if model == INT8 else MICRO.stat().st_size
    assert f"#define MY_FACE_MODEL_BYTES {size}\n" in text
    assert [path.name for path in tmp_path.iterdir()] == ["my-face.h"]


@pytest.mark.skipif(extras.installed("tflite_micro"), reason="where TFLite Micro is not installed")
def test_without_the_wheel_a_header_says_what_is_missing(run_tool, tmp_path):
    done = run_tool("tools/micro.py", MICRO, f"--output={tmp_path / 'face.h'}", check=False)
    assert done.returncode == 1
    assert "pip install 'keras_lapkl[micro]', or give --arena_bytes" in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--output=a.h"], "Expected one .tflite file"),
        ([INT8, "--output=a.c"], "must be a .tflite or a .h file"),
        ([INT8, "--output=a.tflite", "--arena_bytes=5"], "--arena_bytes is for a header"),
        ([INT8, "--output=2a.h"], "C identifier"),
        (["fpn-sixteenth-300w", "--output=a.tflite"], "can't be cut"),
        (["bad.tflite", "--output=a.tflite"], "bad.tflite is not a TFLite file"),
        (["bad.tflite", "--output=bad.tflite"], "bad.tflite"),
    ],
)
def test_bad_words_end_in_a_plain_error(words, message, run_tool, tmp_path):
    (tmp_path / "bad.tflite").write_bytes(b"no model")
    done = run_tool("tools/micro.py", *words, check=False, cwd=tmp_path)
    assert done.returncode == 1
    assert message in done.stdout + done.stderr and "Traceback" not in done.stderr
    assert (tmp_path / "bad.tflite").read_bytes() == b"no model"
    assert [path.name for path in tmp_path.iterdir()] == ["bad.tflite"]
