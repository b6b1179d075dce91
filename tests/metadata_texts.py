"""Metadata of .tflite files as texts: what each reader takes, and what each refuses and why.

The package, `mobile/localize.py` and the page are tested on the same ones.
"""

import copy
import json

SOUND = {
    "schema": 1,
    "keras_lapkl": "1.2",
    "mode": "int8",
    "image_size": 80,
    "num_landmarks": 3,
    "input": {"channels": "RGB", "dtype": "uint8", "range": [0, 255]},
    "float_layers": [],
    "flip_average": False,
    "units": "pixels",
    "beta": 1.0,
    "crop_scale": 2.5,
    "crop": None,
    "scheme": {
        "name": "toy",
        "names": ["a", "b", "œ\N{GRINNING FACE}"],
        "flip": [1, 0, 2],
        "eye_corners": [0, 1],
        "five_points": [[0, 1], [2]],
        "edges": [[0, 2]],
        "crop_from": "points",
    },
    "trained_on": "my faces",
    "training_data": {
        "sets": [{"name": "my faces", "count": 3}],
        "teacher": {"sets": [], "initial_model": None},
    },
    "license": None,
    "calibration": {
        "scales": [0.5, 1.0],
        "errors": [1.0, 1.0],
        "factors": [1.0, 1.0, 2],
        "quantiles": {"0.5": [1, 1, 1], "0.9": [2.5, None, 1]},
        "data": "others",
        "faces": 9,
        "lost": 0.1,
        "typical": 1.2,
        "across": 0.4,
        "within": -0.2,
    },
    "measured": None,
}


def changed(*keys, to):
    """The sound ones with another value at a place, as text."""
    data = copy.deepcopy(SOUND)
    at = data
    for key in keys[:-1]:
        at = at[key]
    at[keys[-1]] = to
    return json.dumps(data)


def without(key):
    return json.dumps({name: value for name, value in SOUND.items() if name != key})


def nested(depth):
    data = {"sets": []}
    for _ in range(depth):
        data = {"sets": [], "teacher": data}
    return data


TAKEN = {
    "sound": json.dumps(SOUND),
    "before there were schemas": json.dumps(
        {
            **{name: SOUND[name] for name in ("keras_lapkl", "mode", "image_size")},
            "num_landmarks": 3,
            "input": {"channels": "RGB", "range": [0, 1]},
            "mirror": True,
            "licence": "no sale",
        }
    ),
    "version": changed("keras_lapkl", to="1!2.0rc1.post2.dev3+g12_a-b"),
    "no scheme": changed("scheme", to=None),
    "a key to ignore": changed("color", to=[[["red"]]]),
    "ancestors": changed("training_data", to=nested(20)),
}

REFUSED = {
    "empty": ("", "JSON|Expecting"),
    "no JSON": ("{", "JSON|Expecting"),
    "a list": ("[]", "expected object"),
    "a number": ("3", "expected object"),
    "nothing": ("{}", "lacks a key"),
    "not a number": (changed("beta", to=float("nan")), "NaN|JSON"),
    "infinite": (json.dumps(SOUND).replace('"beta": 1.0', '"beta": 1e999'), "beta: expected"),
    "deep": ("[" * 100_000, "nested|levels|JSON"),
    "levels": (changed("color", to=nested(40)), "at most 32 levels"),
    "long": (changed("color", to="x" * 3_000_000), "at most 1048576 characters"),
    "no size": (without("image_size"), "lacks a key: '?image_size"),
    "version": (changed("keras_lapkl", to="1. */ int x; /*"), "keras_lapkl: expected characters"),
    "no version": (changed("keras_lapkl", to=""), "keras_lapkl: expected characters"),
    "size of text": (changed("image_size", to="80"), "image_size: expected integer"),
    "size of truth": (changed("image_size", to=True), "image_size: expected integer"),
    "size of 0": (changed("image_size", to=0), "image_size: expected a number from 1 to 4096"),
    "huge size": (changed("image_size", to=10**40), "image_size: expected"),
    "no landmarks": (changed("num_landmarks", to=0), "expected"),
    "other count": (changed("num_landmarks", to=4), "expected 4 entries"),
    "input of a list": (changed("input", to=[0, 1]), "input: expected object"),
    "range": (changed("input", "range", to=[255, 0]), "input.range: expected numbers that rise"),
    "range of one": (changed("input", "range", to=[0]), "input.range: expected 2 to 2 entries"),
    "type": (changed("input", "dtype", to="float64"), "input.dtype: expected one of"),
    "crop scale": (changed("crop_scale", to=-3.0), "crop_scale: expected a number above 0 to 100"),
    "crop scale 0": (changed("crop_scale", to=0), "crop_scale: expected"),
    "crop scale of text": (changed("crop_scale", to="3"), "crop_scale: expected number or null"),
    "beta": (changed("beta", to=0), "beta: expected a number above 0"),
    "scheme of text": (changed("scheme", to="ibug68"), "scheme: expected object or null"),
    "five points": (
        changed("scheme", "five_points", to=[[0], [3]]),
        r"scheme\.five_points\[1\]\[0\]: expected a number from 0 to 2. Received: 3",
    ),
    "five points below": (changed("scheme", "five_points", to=[[-1]]), "expected a number from 0"),
    "five points empty": (changed("scheme", "five_points", to=[[]]), "expected 1 to 10000 entries"),
    "five points flat": (changed("scheme", "five_points", to=[0, 1]), "expected array"),
    "names": (changed("scheme", "names", to=["a", "b"]), "scheme.names: expected 3 entries"),
    "a name of numbers": (changed("scheme", "names", to=["a", "b", 3]), "expected string"),
    "edges": (changed("scheme", "edges", to=[[0, 3]]), "scheme.edges"),
    "edge of three": (changed("scheme", "edges", to=[[0, 1, 2]]), "expected 2 to 2 entries"),
    "rule": (changed("scheme", "crop_from", to="moon"), "scheme.crop_from: expected one of"),
    "terminal": (changed("trained_on", to="\x1b[2J"), "trained_on: expected characters"),
    "two lines": (changed("license", to="mine\n"), "license: expected characters"),
    "half a character": (changed("mode", to="\ud800"), "mode: expected characters"),
    "long text": (changed("units", to="x" * 20_000), "units: expected at most 10000 characters"),
    "calibration": (changed("calibration", to={}), "calibration lacks a key"),
    "calibration of a list": (changed("calibration", to=[]), "calibration: expected object or"),
    "knots": (changed("calibration", "scales", to=[1, 0.5]), "expected numbers that rise"),
    "curve": (changed("calibration", "errors", to=[1, 0.5]), "expected none that falls"),
    "knots of two lengths": (changed("calibration", "errors", to=[1]), "of one length"),
    "factors": (changed("calibration", "factors", to=[1.0]), "calibration.factors: expected 3"),
    "quantiles": (changed("calibration", "quantiles", to={"0.9": [1]}), "expected 3 entries"),
    "coverage": (changed("calibration", "quantiles", to={"1.5": [1, 1, 1]}), "characters as in"),
    "lost": (changed("calibration", "lost", to=0), "calibration.lost: expected a number above 0"),
    "typical": (changed("calibration", "typical", to=0), "typical: expected a number above 0"),
    "across": (changed("calibration", "across", to=2), "calibration.across: expected"),
    "within": (changed("calibration", "within", to="much"), "calibration.within: expected number"),
    "training data": (changed("training_data", to={"sets": 3}), "training_data.sets: expected"),
    "set": (changed("training_data", "sets", to=[{"name": "a", "x": 1}]), "unknown key"),
    "measured": (changed("measured", to={"nme": 3}), "measured lacks a key"),
}
