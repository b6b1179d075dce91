import os

import pytest
from hypothesis import given, strategies as st

from keras_lapkl._support.csv_names import quote_name, read_name


@pytest.mark.parametrize("first", "=+-@\t＝")
def test_what_a_spreadsheet_takes_for_a_formula_gets_an_apostrophe(first):
    assert quote_name(f"{first}cmd|' /C calc'!A0.jpg") == f"'{first}cmd|' /C calc'!A0.jpg"


@pytest.mark.parametrize("name", ["", "face.jpg", "a=b.jpg", "'90s.jpg", "ä.jpg", "a\tb.jpg"])
def test_other_names_stay_as_they_are(name):
    assert quote_name(name) == name
    assert read_name(name) == name


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        (os.fsdecode(b"a\xff.jpg"), r'"a\udcff.jpg"'),
        ('"a".jpg', r'"\"a\".jpg"'),
        ("a\rb\n.jpg", r'"a\rb\n.jpg"'),
        ("a\x1b[31m\x7f\x9b.jpg", r'"a\u001b[31m\u007f\u009b.jpg"'),
        (" lead.jpg", '" lead.jpg"'),
        ("trail ", '"trail "'),
    ],
)
def test_names_that_are_no_text_or_more_than_a_line_are_json(name, cell):
    assert quote_name(name) == cell
    assert read_name(cell) == name
    assert read_name('"cut') == '"cut'


@given(st.text("'=a-", max_size=5) | st.text())
def test_names_come_back(name):
    assert read_name(quote_name(name)) == name
