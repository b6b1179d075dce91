import json

import numpy as np
import pytest

from keras_lapkl import schemes


@pytest.mark.parametrize("scheme", [schemes.IBUG68, schemes.AFLW19], ids=lambda s: s.name)
class TestBuiltIn:
    def test_flip_is_an_involution(self, scheme):
        flip = np.array(scheme.flip)
        assert (flip[flip] == np.arange(scheme.num_landmarks)).all()

    def test_flip_swaps_the_names_of_the_sides(self, scheme):
        if scheme.name == "aflw19":
            for name, other in zip(
                scheme.names, np.array(scheme.names)[list(scheme.flip)], strict=True
            ):
                swapped = name.replace("left", "*").replace("right", "left").replace("*", "right")
                assert swapped == other

    def test_flip_keeps_the_anchor_groups(self, scheme):
        groups = {frozenset(g) for g in scheme.five_points}
        assert {frozenset(scheme.flip[i] for i in g) for g in groups} == groups

    def test_flip_keeps_the_edges(self, scheme):
        edges = {frozenset(e) for e in scheme.edges}
        assert {frozenset(scheme.flip[i] for i in e) for e in edges} == edges

    def test_eye_corners_mirror_each_other(self, scheme):
        left, right = scheme.eye_corners
        assert scheme.flip[left] == right

    def test_config_round_trip_through_json(self, scheme):
        config = json.loads(json.dumps(scheme.to_config()))
        assert schemes.Scheme.from_config(config) == scheme
        assert schemes.get(config) == scheme

    def test_by_name(self, scheme):
        assert schemes.get(scheme.name) is scheme


def test_counts():
    assert schemes.IBUG68.num_landmarks == 68
    assert schemes.AFLW19.num_landmarks == 19


def test_ibug_flip_is_the_published_one():
    flip = schemes.IBUG68.flip
    assert (flip[0], flip[8], flip[36], flip[39], flip[48], flip[60], flip[67]) == (
        *(16, 8, 45, 42, 54, 64),
        65,
    )


def test_five_points_of_ibug():
    landmarks = np.zeros((68, 2))
    landmarks[36:42] = (10, 20)
    landmarks[42:48] = (30, 20)
    landmarks[[30, 48, 54]] = [(20, 30), (12, 40), (28, 40)]
    expected = [(10, 20), (30, 20), (20, 30), (12, 40), (28, 40)]
    np.testing.assert_array_equal(schemes.IBUG68.anchor_points(landmarks), expected)


def test_custom_scheme_from_pairs():
    scheme = schemes.Scheme.from_config(
        {"name": "hand", "num_landmarks": 5, "flip": [[1, 2], [3, 4]], "edges": [[0, 1]]}
    )
    assert scheme.flip == (0, 2, 1, 4, 3)
    assert scheme.names[4] == "point_4"
    np.testing.assert_array_equal(scheme.anchor_points(np.ones((5, 2))), np.ones((5, 2)))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"name": "x", "names": ["a", "b"], "flip": [1, 1]}, "each index 0..1 once"),
        ({"name": "x", "names": ["a", "b", "c"], "flip": [1, 2, 0]}, "identity"),
        ({"name": "x", "names": ["a", "a"]}, "must differ"),
        ({"name": "x", "names": ["a"], "edges": [[0, 1]]}, r"\[1\]"),
        ({"name": "x", "names": []}, "at least one"),
        ({"name": "x", "names": ["a"], "flip": [[0, 3]]}, "outside"),
        ({"name": "x"}, "num_landmarks"),
        ({"name": "x", "names": ["a"], "mirror": []}, "mirror"),
    ],
)
def test_bad_schemes_are_refused(config, message):
    with pytest.raises(ValueError, match=message):
        schemes.Scheme.from_config(config)


def test_unknown_name():
    with pytest.raises(ValueError, match="aflw19"):
        schemes.get("ibug86")
