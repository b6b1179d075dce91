"""The example for TFLite Micro: compiled, and run with its own sources where these are at hand.

`KERAS_LAPKL_TFLITE_MICRO` names the folder of the clones that mobile/micro/build.sh says. Without,
the example is compiled against headers that have only what it calls.
"""

import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest

from keras_lapkl import pretrained
from keras_lapkl.data import synthetic_faces
from keras_lapkl.tflite import TFLiteLocalizer, axes
from keras_lapkl.tflite.c_header import c_header

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "mobile" / "micro"
MICRO = pretrained.path("fpn-sixteenth-micro", ".tflite")
SOURCES = os.environ.get("KERAS_LAPKL_TFLITE_MICRO")
STUBS = {
    "micro/micro_interpreter.h": """
        #include <cstring>
        enum TfLiteStatus { kTfLiteOk };
        struct TfLiteTensor { struct { int8_t* int8; } data; };
        namespace tflite {
        struct Model;
        inline int8_t memory[3][3 * 80 * 80];
        struct MicroInterpreter {
          template <class R>
          MicroInterpreter(const Model*, R&, uint8_t*, size_t) {}
          TfLiteStatus AllocateTensors() { return kTfLiteOk; }
          size_t arena_used_bytes() { return 7; }
          // Its outputs are the image's bytes.
          TfLiteStatus Invoke() {
            std::memcpy(memory[1], memory[0], 2720);
            std::memcpy(memory[2], memory[0] + 2720, 2720);
            return kTfLiteOk;
          }
          TfLiteTensor tensors[3] = {{{memory[0]}}, {{memory[1]}}, {{memory[2]}}};
          TfLiteTensor* input(int) { return &tensors[0]; }
          TfLiteTensor* output(int i) { return &tensors[1 + i]; }
        };
        }""",
    "micro/micro_mutable_op_resolver.h": """
        namespace tflite {
        template <unsigned n>
        struct MicroMutableOpResolver {
          unsigned left = n;
          TfLiteStatus Add() { return static_cast<TfLiteStatus>(left-- ? 0 : 1); }
          TfLiteStatus AddAdd() { return Add(); }
          TfLiteStatus AddConcatenation() { return Add(); }
          TfLiteStatus AddConv2D() { return Add(); }
          TfLiteStatus AddDepthwiseConv2D() { return Add(); }
          TfLiteStatus AddMaxPool2D() { return Add(); }
          TfLiteStatus AddMul() { return Add(); }
          TfLiteStatus AddResizeBilinear() { return Add(); }
        };
        }""",
    "micro/system_setup.h": "namespace tflite { inline void InitializeTarget() {} }",
    "schema/schema_generated.h": """
        namespace tflite { inline const Model* GetModel(const void*) { return nullptr; } }""",
}


@pytest.fixture
def face_h(tmp_path):
    path = tmp_path / "face.h"
    path.write_text(c_header(MICRO.read_bytes(), "face", 88_000, MICRO))
    return path


@pytest.fixture
def faces():
    return synthetic_faces(3, 5, 80)[0]


def shown(program, faces):
    """Landmarks and scales (N, K, 2) that the program prints, and what it says."""
    done = subprocess.run([program], input=faces.tobytes(), capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    values = np.array([line.split()[1:] for line in done.stdout.splitlines()], np.float32)
    return values.reshape(len(faces), 68, 2, 2).swapaxes(0, 2).swapaxes(1, 2), done.stderr.decode()


def test_it_compiles_and_shows_what_the_outputs_say(face_h, faces, tmp_path):
    if shutil.which("g++") is None:
        pytest.skip("needs g++")
    for name, text in STUBS.items():
        path = tmp_path / "tensorflow" / "lite" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#pragma once\n{text}\n")
    words = ["g++", "-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", f"-I{tmp_path}"]
    program = tmp_path / "face"
    subprocess.run([*words, FOLDER / "main.cc", "-o", program], check=True, timeout=120)
    (landmarks, scale), said = shown(program, faces)
    assert said == "arena: 7 of 88000 bytes\n"
    details = TFLiteLocalizer(MICRO)._outputs
    steps = [details[axis]["quantization"][0] for axis in ("columns", "rows")]
    values = (faces.reshape(3, -1)[:, :5440].astype(np.float32) - 128).reshape(3, 2, 40, 68)
    for i, pair in enumerate(values):
        expected = axes.decode(*(s * v for s, v in zip(steps, pair, strict=True)))
        np.testing.assert_allclose((landmarks[i], scale[i]), expected, atol=5e-3)


def test_the_file_of_one_that_runs_alone_is_refused_in_a_line(tmp_path):
    np.save(tmp_path / "crop.npy", np.zeros((80, 80, 3), np.uint8))
    words = [f"--model={MICRO}", f"--image={tmp_path / 'crop.npy'}"]
    script = FOLDER.parent / "localize.py"
    done = subprocess.run([sys.executable, script, *words], capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert f"{MICRO} is for microcontrollers" in done.stderr


@pytest.mark.skipif(SOURCES is None, reason="needs TFLite Micro's sources, see build.sh")
def test_tflite_micro_finds_what_litert_finds(face_h, faces, tmp_path):
    program = tmp_path / "face"
    subprocess.run([FOLDER / "build.sh", SOURCES, face_h, program], check=True, timeout=1800)
    (landmarks, scale), _ = shown(program, faces)
    expected = TFLiteLocalizer(MICRO).predict(faces)
    # XNNPACK rounds int8 otherwise.
    assert np.linalg.norm(landmarks - expected["landmarks"], axis=-1).mean() < 0.4
    assert np.abs(scale - expected["scale"]).mean() < 0.2
