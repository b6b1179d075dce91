import os

import pytest

from keras_lapkl._support import console


def test_aligned():
    assert console.aligned([("a", "bb"), ("ccc", "d")]) == "  a  bb\nccc   d"


def test_shows_what_was_held_back_only_on_an_error(capfd):
    with console.held_stderr():
        os.write(2, b"chatter")
    assert "chatter" not in capfd.readouterr().err
    with pytest.raises(RuntimeError), console.held_stderr():
        os.write(2, b"the cause")
        raise RuntimeError
    assert "the cause" in capfd.readouterr().err
