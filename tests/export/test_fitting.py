import numpy as np
import pytest

import keras_lapkl
from keras_lapkl import pretrained, tflite
from keras_lapkl._support import extras
from keras_lapkl.export import graph, verify
from keras_lapkl.export.choices import CHOICES
from keras_lapkl.tflite import arena, compatibility, inspection, runner

SIZE = 32
WHOLE = [name for name, choices in CHOICES.items() if choices["mode"] == "int8"]


def test_the_arena_of_a_file_for_tflite_micro(monkeypatch):
    """So that `convert --target=micro` prints what `lapkl check` of the same file does."""
    needed = {"version": "1", "total": 9000, "head": 1, "tail": 2}
    monkeypatch.setattr(extras, "installed", lambda package: True)
    monkeypatch.setattr(arena, "needed", lambda content, path: needed)
    found = verify.check_target(pretrained.path("fpn-sixteenth-micro", ".tflite"), "micro")
    assert "arena: 9,000 bytes" in compatibility.page(found)


@pytest.fixture(scope="module")
def mobile_fpn():
    import keras

    keras.utils.set_random_seed(3)
    generator = keras_lapkl.MobileFPN(5, 1 / 16, SIZE)
    maps = generator.get_layer("maps")
    maps.kernel.assign(100 * maps.kernel)
    return keras_lapkl.LandmarkLocalizer(generator, crop_scale=3.0)


def made(model, path, images, target, **kwargs):
    choices = CHOICES[target]
    if choices["mode"] == "int8":
        kwargs["representative_images"] = images[:20]
    return tflite.convert(
        model, path, faces=images[20:24], bounds={"mean": 1.0}, **choices, **kwargs
    )


def test_a_stretched_axis_is_the_same_by_both_sides(mobile_fpn, images):
    axes = mobile_fpn.generator.axis_logits
    square = graph.square_resizes(axes)
    kinds = [type(square.get_layer(name)) for name in ("columns", "rows", "decoder1_up")]
    assert kinds[:2] == [graph.SquareResize] * 2 and kinds[2] is not graph.SquareResize
    faces = images[:2] / np.float32(255)
    for received, expected in zip(square(faces), axes(faces), strict=True):
        np.testing.assert_allclose(received, expected, atol=1e-5)


@pytest.mark.slow
def test_int8_to_the_end_fits_all_that_have_no_floats(mobile_fpn, images, tmp_path):
    path = tmp_path / "whole.tflite"
    report = made(mobile_fpn, path, images, "ethos-u")
    assert report["check"]["model"] == "whole.tflite"
    assert report["check"]["targets"]["ethos-u"]["falls_back"] == 0
    assert report["parity"]["landmarks"]["mean"] > 0
    assert not compatibility.falls_back(compatibility.check(path, ["edgetpu", "micro", "ethos-u"]))
    for target in WHOLE:
        verify.check_target(path, target)
    types = {dtype for counts in report["operators"].values() for dtype in counts}
    assert types == {"int8"}
    described = inspection.describe(path)
    assert [o["dtype"] for o in described["inputs"] + described["outputs"]] == ["int8", "int8"]
    interpreter = runner.load_interpreter(path)
    step, zero = interpreter.get_output_details()[0]["quantization"]
    assert step > 0 and zero == -128  # cut logits begin at 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "target, most", [("gpu", 0), ("nnapi", 0), ("qualcomm", 0), ("xnnpack", 2)]
)
def test_a_float_file_of_a_target_runs_there(mobile_fpn, images, tmp_path, target, most):
    path = tmp_path / f"{target}.tflite"
    report = made(mobile_fpn, path, images, target)
    assert report["mode"] == "float16"
    assert list(report["check"]["targets"]) == [target]
    assert report["check"]["targets"][target]["falls_back"] <= most
    assert tflite.TFLiteLocalizer(path).num_landmarks == 5


@pytest.mark.slow
def test_what_core_ml_leaves_is_told_and_no_file_left(mobile_fpn, images, tmp_path):
    with pytest.raises(tflite.ConversionError, match="does not fit LiteRT Core ML") as error:
        made(mobile_fpn, tmp_path / "phone.tflite", images, "coreml")
    assert "RESIZE_BILINEAR, float32: operator version 3" in str(error.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("mode, decode", [("float16", False), ("int8", True)])
def test_int8_logits_are_of_int8_without_decode(mobile_fpn, images, tmp_path, mode, decode):
    representative = {"representative_images": images[:2]} if mode == "int8" else {}
    with pytest.raises(ValueError, match=r"needs --mode=int8 \(`mode`\) and --no_decode"):
        tflite.convert(
            mobile_fpn,
            tmp_path / "m.tflite",
            mode,
            faces=images[:2],
            output_dtype="int8",
            decode=decode,
            **representative,
        )


def test_a_target_goes_with_no_choice_of_its_own(run_tool, tmp_path):
    words = ["--model=fpn-eighth-300w", f"--output={tmp_path}/m.tflite", "--target=gpu"]
    done = run_tool("tools/convert.py", *words, "--mode=int8", "--no_decode", check=False)
    assert done.returncode == 1
    assert "leave out --mode, --no_decode" in done.stderr
