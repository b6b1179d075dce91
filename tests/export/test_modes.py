import pytest

from keras_lapkl.export.modes import MODES


@pytest.mark.parametrize("mode", MODES)
def test_a_mode_says_what_it_is_and_what_it_may_lose(mode):
    bounds = MODES[mode].bounds
    assert MODES[mode].meaning and set(bounds) <= {"mean", "max", "nme"}
    assert bounds["nme"] <= 0.02 and min(bounds.values()) > 0


def test_convert_takes_each_and_says_what_it_means(run_tool):
    said = " ".join(run_tool("tools/convert.py", "--help").stdout.split())
    assert f"--mode: <{'|'.join(MODES)}|all>:" in said
    for name, mode in MODES.items():
        assert f"{name}: {mode.meaning}" in said


def test_pixels_are_allowed_in_proportion_to_large_images():
    bounds, small, larger = (MODES["int8"].bounds_for(size) for size in (80, 32, 112))
    assert bounds == small == MODES["int8"].bounds
    assert larger["mean"] == pytest.approx(1.4 * bounds["mean"])
    assert larger["nme"] == bounds["nme"]
