import pytest

from keras_lapkl.export.choices import CHOICES, INPUTS, check_choices
from keras_lapkl.export.modes import MODES
from keras_lapkl.tflite.targets import TARGETS


@pytest.mark.parametrize("mode", MODES)
def test_what_any_mode_gives(mode):
    for dtype in INPUTS:
        check_choices(mode, input_dtype=dtype)
        check_choices(mode, input_dtype=dtype, with_heatmaps=True)
        check_choices(mode, input_dtype=dtype, decode=False)
        check_choices(mode, input_dtype=dtype, flip_average=True)


def test_there_are_choices_for_each_target_and_they_go_together():
    assert list(CHOICES) == list(TARGETS)
    whole = {name for name, choices in CHOICES.items() if choices["mode"] == "int8"}
    assert whole == {"edgetpu", "micro", "cmsis-nn", "ethos-u"}
    for choices in CHOICES.values():
        check_choices(**choices)


def test_int8_to_the_end():
    check_choices("int8", input_dtype="int8", output_dtype="int8", decode=False)


@pytest.mark.parametrize(
    ("mode", "choices", "message"),
    [
        ("float8", {}, r"`mode` must be one of .*'int8'.*Received: 'float8'"),
        ("int8", {"input_dtype": "int16"}, r"`input_dtype` must be one of .*'uint8'"),
        ("int8", {"output_dtype": "uint8"}, r"`output_dtype` must be one of .*'int8'"),
        (
            "int8",
            {"with_heatmaps": True, "decode": False},
            r"--no_decode \(`decode=False`\) .* drop --heatmaps \(`with_heatmaps`\)",
        ),
        (
            "int8",
            {"flip_average": True, "with_heatmaps": True},
            r"--flip_average \(`flip_average`\) gives .* drop --heatmaps \(`with_heatmaps`\)",
        ),
        (
            "int8",
            {"flip_average": True, "decode": False},
            r"--flip_average .* drop --no_decode, or a --target .* \(`decode=False`\)",
        ),
        ("int8", {"target": "vpu"}, r"`target` must be one of .*'gpu'.* Received: 'vpu'"),
        ("int8", {"output_dtype": "int8"}, "Received: mode 'int8', decode=True"),
        ("float16", {"output_dtype": "int8", "decode": False}, "Received: mode 'float16'"),
    ],
)
def test_what_does_not_go_together(mode, choices, message):
    with pytest.raises(ValueError, match=message):
        check_choices(mode, **choices)
