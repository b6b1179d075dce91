"""The C header: compiled as C99 and C++11, its numbers those of the file and of Python."""

import json
import re
import shutil
import subprocess

import numpy as np
import pytest

from keras_lapkl import pretrained
from keras_lapkl.data import synthetic_faces
from keras_lapkl.export import flatbuffer_writer
from keras_lapkl.tflite import TFLiteLocalizer, axes, flatbuffer, runner
from keras_lapkl.tflite.c_header import c_header

MICRO = pretrained.path("fpn-sixteenth-micro", ".tflite")
PROGRAM = """
#include <stdio.h>
#include "face.h"
int main(void) {
  static int8_t in[2][FACE_STEPS * FACE_LANDMARKS];
  static float out[2][FACE_LANDMARKS * 2];
  if ((uintptr_t)face_model % 16) return 2;
  while (fread(in, 1, sizeof in, stdin) == sizeof in) {
    face_decode(in[0], in[1], out[0], out[1]);
    fwrite(out, 1, sizeof out, stdout);
  }
  return 0;
}
"""
COMPILERS = {"c": ("gcc", "-std=c99"), "cc": ("g++", "-std=c++11")}


@pytest.fixture(scope="module")
def header():
    return c_header(MICRO.read_bytes(), "face", 85760, MICRO)


def test_it_holds_the_file_and_its_numbers(header):
    body = re.search(r"face_model\[FACE_MODEL_BYTES\] = \{(.*?)\};", header, re.S)[1]
    assert bytes(int(each, 16) for each in re.findall(r"0x(..)", body)) == MICRO.read_bytes()
    defined = dict(re.findall(r"#define FACE_(\w+) (\S+)", header))
    kept = {k: defined[k] for k in ("IMAGE_SIZE", "LANDMARKS", "STEPS", "ARENA_BYTES")}
    assert kept == {"IMAGE_SIZE": "80", "LANDMARKS": "68", "STEPS": "40", "ARENA_BYTES": "85760"}
    details = runner.load_interpreter(MICRO).get_output_details()
    for detail, axis in zip(details, ("COLUMNS", "ROWS"), strict=True):
        step, zero = detail["quantization"]
        assert np.float32(defined[f"{axis}_SCALE"].rstrip("f")) == np.float32(step)
        assert int(defined[f"{axis}_ZERO_POINT"]) == zero
    assert "non-commercial research only" in header


EVIL = "*/ evil /* ??/ \\"  # ends a comment, begins one, and splices the next line to its own


def with_texts(path_name=MICRO.name, code=None, **texts):
    """The header of a stranger's file, which says what it likes."""
    model = flatbuffer.parse(MICRO.read_bytes())
    about = {**json.loads(flatbuffer.read_metadata(model)), **texts}
    flatbuffer.metadata_buffer(model).data = json.dumps(about).encode()
    if code is not None:
        model.operatorCodes[0].customCode = code.encode()
    return c_header(flatbuffer_writer.pack(model), "face", 85760, path_name)


@pytest.mark.parametrize(
    "texts",
    [
        *({key: EVIL} for key in ("trained_on", "crop", "license", "code")),
        {"path_name": "evil\n*\u202e\udcff\\"},
        {"license": "*** / /** //* evil"},
        {"license": "evil ???/"},
    ],
)
def test_a_strangers_texts_stay_in_their_comments(texts):
    header = with_texts(**texts)
    assert "evil" in header
    seen = header.encode().decode().replace("??/", "\\").replace("\\\n", "")  # as C reads it
    comments = re.findall(r"/\*(.*?)\*/", seen, re.S)
    assert not any("/*" in each for each in comments)  # of which compilers warn
    for each in comments:
        seen = seen.replace(f"/*{each}*/", "")
    assert "evil" not in seen


def test_a_strangers_version_is_refused():
    with pytest.raises(ValueError, match="keras_lapkl: expected characters as in"):
        with_texts(keras_lapkl="0.1.0. */ evil /*")


@pytest.mark.slow
@pytest.mark.parametrize("suffix", COMPILERS)
def test_it_decodes_as_python_does(suffix, tmp_path):
    compiler, standard = COMPILERS[suffix]
    if shutil.which(compiler) is None:
        pytest.skip(f"needs {compiler}")
    texts = dict.fromkeys(("trained_on", "crop", "license"), EVIL)
    (tmp_path / "face.h").write_text(with_texts(**texts))
    source = tmp_path / f"main.{suffix}"
    source.write_text(PROGRAM)
    words = [compiler, standard, "-O1", "-Wall", "-Wextra", "-Werror", "-pedantic"]
    subprocess.run([*words, str(source), "-o", tmp_path / "main", "-lm"], check=True)

    rng = np.random.default_rng(0)
    given = [rng.integers(-128, 128, (2, 40, 68), np.int8) for _ in range(20)]
    given.append(np.full((2, 40, 68), -128, np.int8))  # a blank map: the center, and no NaN
    images, _ = synthetic_faces(5, 3, 80)
    interpreter = runner.load_interpreter(MICRO)
    for image in images:
        (tensor,) = interpreter.get_input_details()
        interpreter.set_tensor(tensor["index"], runner.as_input(image, tensor))
        interpreter.invoke()
        outputs = interpreter.get_output_details()
        given.append(
            np.stack([interpreter.get_tensor(o["index"]).reshape(40, 68) for o in outputs])
        )
    done = subprocess.run(
        [tmp_path / "main"], input=np.stack(given).tobytes(), capture_output=True, check=True
    )
    found = np.frombuffer(done.stdout, np.float32).reshape(len(given), 2, 68, 2)
    steps = [detail["quantization"][0] for detail in interpreter.get_output_details()]
    for values, received in zip(given, found, strict=True):
        logits = [step * axis.astype(np.float32) for step, axis in zip(steps, values, strict=True)]
        np.testing.assert_allclose(received, axes.decode(*logits), atol=2e-3)
    np.testing.assert_allclose(found[20], [np.full((68, 2), 39.5), np.full((68, 2), 20)], atol=1e-3)
    expected = TFLiteLocalizer(MICRO).predict(images)
    np.testing.assert_allclose(found[-5:, 0], expected["landmarks"], atol=2e-3)
    np.testing.assert_allclose(found[-5:, 1], expected["scale"], atol=2e-3)


@pytest.mark.parametrize(
    ("name", "arena", "message"),
    [
        ("2face", 1, "C identifier"),
        ("fa-ce", 1, "C identifier"),
        ("Lapkl_landmarks", 1, "begin with lapkl"),  # whose guard would be the header's own
        ("Lapkl", 1, "begin with lapkl"),
        ("face", 0, "at least 1"),
    ],
)
def test_another_name_or_arena_is_refused(name, arena, message):
    with pytest.raises(ValueError, match=message):
        c_header(MICRO.read_bytes(), name, arena)


def test_another_file_is_refused_with_the_command_that_makes_one():
    path = pretrained.path("fpn-sixteenth-300w", "-int8.tflite")
    with pytest.raises(ValueError, match=f"{path.name} is not .*lapkl micro"):
        c_header(path.read_bytes(), "face", 1, path)
