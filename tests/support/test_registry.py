import math

import pytest

from keras_lapkl._support.registry import Registry, resolved


def test_an_object_by_itself_or_by_where_it_is():
    assert resolved("math:sqrt") is math.sqrt and resolved(math.sqrt) is math.sqrt


def test_names_are_known_before_what_they_stand_for():
    registry = Registry({"root": "math:sqrt", "none": "there_is_no_such_module:name"})
    registry["own"] = abs
    assert list(registry) == ["root", "none", "own"] and "none" in registry and len(registry) == 3
    assert registry["root"] is math.sqrt and registry["own"] is abs
    with pytest.raises(ModuleNotFoundError):
        registry["none"]
    with pytest.raises(KeyError):
        registry["else"]
    del registry["none"]
    assert "none" not in registry
