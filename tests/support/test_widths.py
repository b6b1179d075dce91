import pytest
from absl import flags

from keras_lapkl._support import widths


@pytest.mark.parametrize("given", ["1/8", "0.125", "125e-3", 0.125, " 1/8 "])
def test_one_eighth(given):
    assert widths.parse_width(given) == 1 / 8


@pytest.mark.parametrize("given", ["0", "-1/8", "1/0", "nan", "inf", "narrow", "", "1/8/2"])
def test_what_is_no_width_is_refused_by_name(given):
    with pytest.raises(ValueError, match=f"Received: {given}$"):
        widths.parse_width(given)


@pytest.mark.parametrize("width", [1, 1 / 2, 1 / 16, 3 / 16, 0.3, 1 / 3, 2, 1.5, 0.12345678901])
def test_what_is_written_is_read_back(width):
    assert widths.parse_width(widths.fraction(width)) == width


def test_widths_are_written_as_the_paper_does():
    assert [widths.fraction(width) for width in (1, 0.5, 1 / 16)] == ["1", "1/2", "1/16"]


def test_flags_take_both_and_show_fractions():
    values = flags.FlagValues()
    one = widths.define_width("width", 1 / 8, "One.", values)
    some = widths.define_widths("widths", "1,1/2", "Some.", values)
    values(["tool"])
    assert one.value == 1 / 8 and some.value == [1, 1 / 2]
    assert "(default: '1/8')" in values.get_help() and "(default: '1,1/2')" in values.get_help()
    values(["tool", "--width=1/16", "--widths=1/4,0.125"])
    assert one.value == 1 / 16 and some.value == [1 / 4, 1 / 8]
    for word in ("--width=0", "--width=wide", "--widths=1,", "--widths=1/0"):
        with pytest.raises(flags.IllegalFlagValueError, match="such as 1/8"):
            values(["tool", word])
