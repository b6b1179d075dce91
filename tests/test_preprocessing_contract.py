"""The page for those who port the preprocessing: its code does what the package does."""

import contextlib
import dataclasses
import io
import pathlib
import re

import numpy as np
import pytest

from keras_lapkl import confidence
from keras_lapkl.data import cropping
from keras_lapkl.detection import detections
from keras_lapkl.detection.detections import Detection
from keras_lapkl.detection.landmark_detector import LandmarkDetector
from keras_lapkl.schemes import IBUG68

PAGE = pathlib.Path(__file__).parents[1] / "docs" / "reference" / "preprocessing.md"
SQUARES = (
    (90, 70, 60, 0.0),
    (101.3, 98.7, 211, 0.3),
    (4, 7, 400, -1.2),
    (120, 100, 31, 3.0),
    (120, 90, 500, 0.2),  # from the photo reduced by 2, and so on
    (233, 12, 1900, 0.0),
    (120, 100, 1920, 0.0),  # ratios that are whole numbers, such as that of a Full HD picture
    (120, 100, 1920, 0.3),
    (120, 100, 160, 0.3),
    (120, 100, 80, 0.3),
    (110, 90, 7000, -0.4),
    (120, 100, 60_000, 0.0),  # no further than the photo's shorter edge
)


@pytest.fixture(scope="module")
def contract():
    """The names that the page's code defines, and what it prints."""
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.M | re.S)
    names, printed = {}, io.StringIO()
    with contextlib.redirect_stdout(printed):
        for block in blocks:
            exec(compile(block, PAGE.name, "exec"), names)
    return {**names, "printed": printed.getvalue()}


def test_numbers_of_the_page(contract):
    (expected,) = re.findall(r"^```text\n(.*?)^```", PAGE.read_text(), re.M | re.S)
    assert contract["printed"] == expected


def test_code_is_short_enough_to_port():
    code = re.search(r"^```python\n(.*?)^```", PAGE.read_text(), re.M | re.S)[1]
    assert len([line for line in code.splitlines() if line.strip()]) <= 38
    assert re.findall(r"import (\w+)", code) == ["numpy"]


@pytest.mark.parametrize(("by", "below"), [(0.42, -0.01), (0.47, 0.01)])
def test_square_of_a_box(contract, by, below):
    class Detector:
        five_by_box, five_below_box = by, below

    box = (50, 40, 170, 180)
    (expected,) = detections.squares([Detection(box)], IBUG68, Detector())
    *found, angle = contract["square_of_box"](*box, by, below)
    np.testing.assert_allclose(found, expected)
    assert angle == 0


def test_defaults_are_the_packages(contract):
    (expected,) = detections.squares([Detection((0, 0, 100, 80))], IBUG68)
    np.testing.assert_allclose(contract["square_of_box"](0, 0, 100, 80)[:3], expected)


@pytest.mark.parametrize("seed", range(4))
def test_square_of_points(contract, seed):
    five = np.random.default_rng(seed).uniform(20, 80, (5, 2))
    expected = cropping.rotated_square(five)
    np.testing.assert_allclose(contract["square_of_points"](five), expected)


@pytest.fixture
def leaning(stub):
    """The stub, but all that it finds lies 4 pixels too far to the right; calibrated."""

    class Leaning(stub.Localizer):
        calibration = confidence.Calibration(
            (1.0, 2.0), (9.0, 30.0), (0.5, 0.6, 0.7, 0.8, 0.9), {}, "made", 99, lost=0.7
        )

        def predict(self, images, verbose=0):
            found = super().predict(images)
            return {**found, "landmarks": found["landmarks"] + (4, 0)}

    return Leaning(stub.POINTS)


@pytest.mark.parametrize("scale", [0.2, 1.0, 1.3, 2.0, 9.0])
def test_errors(contract, leaning, scale):
    scale = np.full((5, 2), scale) * (0.9, 1.1)
    known = leaning.calibration
    error = contract["expected_errors"](scale, known.to_config())
    np.testing.assert_allclose(error, known.error(scale))
    for landmarks in (np.eye(5, 2) * 40, np.eye(5, 2) * 9, np.ones((5, 2))):
        expected = not confidence.relative_error(landmarks, error) <= known.lost
        assert contract["is_lost"](landmarks, error, known.to_config()) == expected


@pytest.mark.parametrize("times", [0.5, 1.0])
def test_the_mean_of_two_passes(contract, leaning, stub, times):
    """Whether they agree or never do."""
    errors = tuple(times * each for each in leaning.calibration.errors)
    leaning.calibration = dataclasses.replace(leaning.calibration, errors=errors)
    runs = []

    def run(crop):
        runs.append(crop)
        found = leaning.predict(crop[None])
        return found["landmarks"][0], found["scale"][0]

    about = {
        "image_size": leaning.image_size,
        "crop_scale": leaning.crop_scale,
        "scheme": stub.SCHEME.to_config(),
        "calibration": leaning.calibration.to_config(),
    }
    photo, square = stub.ramp(), (95.0, 75.0, 30.0, 0.0)
    landmarks, error, lost = contract["find"](photo, square, run, about)
    assert len(runs) == (2 if times == 1 else 4)
    (face,) = LandmarkDetector(leaning).localize(photo, square, passes=2)
    np.testing.assert_allclose(face.landmarks, landmarks, atol=0.6)  # colors are whole numbers
    np.testing.assert_allclose(face.error, error, rtol=0.02)
    assert lost == face.lost


@pytest.mark.parametrize("coverage", [0.5, 0.9])
def test_radius(contract, coverage):
    known = confidence.Calibration(
        *((1.0, 2.0), (2.0, 5.0), (0.5, 0.6, 0.7, 0.8, 0.9)),
        {0.5: (1.0, 1.1, 1.2, 1.3, 1.4), 0.9: (2.0, 2.1, 2.2, 2.3, 2.4)},
        *("made", 99),
        typical=1.5,
        across=0.4,
        within=-0.2,
    )
    scale = np.random.default_rng(0).uniform(0.5, 2.5, (5, 2))
    found = contract["radius"](known.error(scale), known.to_config(), str(coverage))
    np.testing.assert_allclose(found, known.radius(scale, coverage))


@pytest.mark.parametrize("square", SQUARES)
def test_crop_and_landmarks(contract, square):
    photo = contract["photo"]
    transform = cropping.crop_transform(square, 80)
    expected = cropping.warp_crop(photo, transform, 80)
    found = contract["cut"](photo, *square, 80)
    assert np.abs(found.astype(int) - expected).max() <= 2
    points = np.array([[0.0, 0.0], [79.0, 3.5], [40.25, 61.0]])
    expected = cropping.apply_transform(cropping.invert_transform(transform), points)
    np.testing.assert_allclose(contract["to_photo"](points, *square, 80), expected, atol=0.05)


def test_scales(contract, stub):
    square = (95.0, 75.0, 30.0, 0.4)
    localizer = stub.Localizer(stub.POINTS)  # its scales are 1 and 2, its crop scale 2
    (face,) = LandmarkDetector(localizer).localize(stub.ramp(), [square])
    found = contract["scale_to_photo"]([1.0, 2.0], 60.0, 0.4, localizer.image_size)
    np.testing.assert_allclose(face.scale[0], found)
