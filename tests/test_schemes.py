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


def test_points_by_name():
    scheme = schemes.Scheme.from_config(
        {
            "name": "wing",
            "names": ["tip", "fore", "hind"],
            "flip": [["fore", "hind"]],
            "five_points": [["tip"], ["fore", 2]],
            "eye_corners": ["fore", "hind"],
            "edges": [["tip", "hind"]],
            "crop_from": "box",
        }
    )
    assert scheme == schemes.Scheme(
        "wing", ("tip", "fore", "hind"), (0, 2, 1), (1, 2), ((0,), (1, 2)), ((0, 2),), "box"
    )
    assert schemes.get(json.loads(json.dumps(scheme.to_config()))) == scheme


class TestMirror:
    @pytest.mark.parametrize(
        ("names", "flip"),
        [
            (("nose", "left_ear", "right_ear"), (0, 2, 1)),
            (("ear.L/Left", "ear.L/Right"), (1, 0)),
            (("leftFoot", "rightHand", "rightFoot", "leftHand"), (2, 3, 0, 1)),
            (("left_right", "right_left"), (1, 0)),
            (("only",), (0,)),
            (("tip", "end"), None),
            (("tip", "left_end"), None),
            (("left_end",), None),
            (("bright", "left_end", "right_end"), None),
            (("Left_a", "left_a", "right_a"), None),
        ],
    )
    def test_by_names(self, names, flip):
        assert schemes.mirror_by_names(names) == flip
        assert schemes.Scheme.from_config({"name": "x", "names": names}).flip == flip

    @pytest.mark.parametrize(
        ("names", "flip", "unpaired"),
        [
            (("head", "tail", "left", "right"), [["head", "tail"]], ["left", "right"]),
            (("head", "Left_ear", "right_ear"), [], ["Left_ear", "right_ear"]),
            (("head", "Left_ear", "right_ear"), None, []),
            (("head", "left_ear", "right_ear"), [[1, 2]], []),
            (("leftover", "copyright"), [], []),
        ],
    )
    def test_sides_without_pair(self, names, flip, unpaired):
        scheme = schemes.Scheme.from_config({"name": "x", "names": names, "flip": flip})
        assert schemes.unpaired_sides(scheme) == unpaired

    def test_faces_have_all_pairs(self):
        for scheme in schemes.BUILT_IN:
            assert schemes.unpaired_sides(scheme) == []

    def test_as_coco_has_it(self):
        """The published pairs of its 17 points of a person."""
        sided = ("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")
        names = ("nose", *(f"{side}_{part}" for part in sided for side in ("left", "right")))
        expected = (0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15)
        assert schemes.mirror_by_names(names) == expected

    @pytest.mark.parametrize(("given", "flip"), [(None, None), ([], (0, 1)), ([[0, 1]], (1, 0))])
    def test_what_is_said_stands_before_the_names(self, given, flip):
        config = {"name": "x", "names": ["left", "right"], "flip": given}
        scheme = schemes.Scheme.from_config(config)
        assert scheme.flip == flip
        assert schemes.Scheme.from_config(scheme.to_config()) == scheme


class TestFile:
    def test_by_path(self, tmp_path):
        path = tmp_path / "ears.json"
        path.write_text('\ufeff{"name": "ears", "names": ["left", "right"], "edges": [[0, 1]]}')
        expected = schemes.Scheme("ears", ("left", "right"), (1, 0), edges=((0, 1),))
        assert schemes.get(path) == schemes.get(str(path)) == expected

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "is not valid JSON"),
            ("{", "is not valid JSON"),
            ("[" * 100_000, "is not valid JSON"),
            ("[1]", "expected a JSON object"),
            ('{"name": "x"}', "num_landmarks"),
            ('{"name": "x", "num_landmarks": "5"}', "`num_landmarks` must be an int"),
            ('{"name": "x", "num_landmarks": 1e30}', "`num_landmarks` must be an int"),
            (f'{{"name": "x", "num_landmarks": {10**30}}}', "≥ 1 and ≤ 10000"),
            ('{"name": "x", "names": null}', "`num_landmarks` must be an int"),
            ('{"name": "x", "num_landmarks": 0}', "≥ 1"),
            ('{"name": "x", "names": "ab"}', "`names` must be a list"),
            ('{"name": "x", "names": ["a", 1]}', "`names` must be a list"),
            ('{"name": "x", "names": ["a", ""]}', "`names` must be a list"),
            ('{"name": "x", "names": ["a", "b"], "flip": 1}', "`flip` must be a list"),
            ('{"name": "x", "names": ["a", "b"], "flip": [[0, 1, 1]]}', "2 points"),
            ('{"name": "x", "names": ["a", "b", "c"], "flip": [[0, 1], [1, 2]]}', "two pairs"),
            ('{"name": "x", "names": ["a", "b"], "edges": [["a", "d"]]}', "`edges`.*'d'"),
            ('{"name": "x", "names": ["a", "b"], "edges": [["a", true]]}', "True"),
            ('{"name": "x", "names": ["a", "b"], "edges": {"a": "b"}}', "list of lists"),
            ('{"name": "x", "names": ["a", "b"], "five_points": [[]]}', "`five_points`"),
            ('{"name": "x", "names": ["a", "b"], "eye_corners": [1, 1]}', "two points"),
            ('{"name": "x", "names": ["a"], "crop_from": "face"}', "`crop_from`.*'face'"),
        ],
    )
    def test_malformed(self, tmp_path, text, message):
        path = tmp_path / "a scheme.json"
        path.write_text(text)
        with pytest.raises(ValueError, match=r"a scheme\.json.*" + message):
            schemes.get(path)

    def test_missing(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"none\.json"):
            schemes.get(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({}, "the box of the landmarks"),
        ({"five_points": ((0,),)}, "the box of the five points"),
        ({"crop_from": "box"}, "the box of the object"),
        ({"crop_from": "image"}, "the picture"),
    ],
)
def test_crop_rule_in_words(change, rule):
    scheme = schemes.Scheme("x", ("a",), **change)
    expected = f"square about the center of {rule}, side crop_scale times its longer edge"
    assert scheme.crop_rule == expected


def test_five_points_of_ibug():
    landmarks = np.zeros((68, 2))
    landmarks[36:42] = (10, 20)
    landmarks[42:48] = (30, 20)
    landmarks[[30, 48, 54]] = [(20, 30), (12, 40), (28, 40)]
    expected = [(10, 20), (30, 20), (20, 30), (12, 40), (28, 40)]
    np.testing.assert_array_equal(schemes.IBUG68.anchor_points(landmarks), expected)


def test_five_points_of_aflw():
    """Centers of the eyes, tip of the nose and corners of the mouth are landmarks of their own."""
    found = schemes.AFLW19.anchor_points(np.arange(19)[:, None] * [1, 1])
    assert found[:, 0].tolist() == [7, 10, 13, 15, 17]


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
        ({"name": "x", "names": ["a", "b\x1b[31m"]}, r"no control .*: \['b\\x1b\[31m'\]"),
        ({"name": "x\n", "names": ["a"]}, "no control characters"),
        ({"name": "x", "names": ["a\x9b"]}, "no control characters"),
        ({"name": "x", "names": ["a"], "edges": [[0, 1]]}, "index in 0..0. Received: 1"),
        ({"name": "x", "names": []}, "at least one"),
        ({"name": "x", "names": ["a"], "flip": [[0, 3]]}, "index in 0..0. Received: 3"),
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
