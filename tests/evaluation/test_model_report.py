import dataclasses

import numpy as np
import pytest

from keras_lapkl import confidence
from keras_lapkl.evaluation import model_report, model_scores


def ones(crops):
    return np.ones_like(crops.landmarks)


def test_table_and_conditions(crops):
    result = model_scores.score(crops.landmarks + (2, 0), ones(crops), crops)
    lines = model_report.table([result, result]).splitlines()
    assert len(lines) == 3 and len({len(line) for line in lines}) == 1
    assert "5.000" in lines[1]
    said = model_report.conditions({**result, "trained_on": "1,809 of 3,148 faces"})
    assert "1,809 of 3,148" in said and "Crop scale 3" in said and "outer eye corners" in said


def test_conditions_name_the_crop(crops):
    result = model_scores.score(crops.landmarks + 1, ones(crops), crops, "crop")
    assert "side of the crop" in model_report.conditions({**result, "trained_on": None})


def test_faces_without_a_finite_prediction_are_told(crops):
    predicted = crops.landmarks.copy()
    predicted[3, 5] = np.nan
    result = model_scores.score(predicted, ones(crops), crops)
    said = model_report.conditions({**result, "trained_on": None})
    assert said.startswith("1 faces have no finite prediction")


def test_faces_that_say_little_are_told(crops):
    landmarks = crops.landmarks.copy()
    landmarks[2] = landmarks[2].mean(0) + (landmarks[2] - landmarks[2].mean(0)) / 5
    crops = dataclasses.replace(crops, landmarks=landmarks)
    crops.visible[3, list(crops.scheme.eye_corners)] = False
    result = model_scores.score(landmarks + 1, ones(crops), crops)
    assert (result["faces"], result["unscored"], result["small_distances"]) == (3, 1, 1)
    first, second, *_ = model_report.conditions({**result, "trained_on": "x"}).splitlines()
    assert first.startswith("1 of the labeled ones can't be scored and are left out")
    assert second.startswith("CAUTION: for 1 of the labeled ones")


def test_points_without_a_label_have_empty_cells(crops):
    crops.visible[:, 1] = False
    rows = model_scores.point_errors(crops.landmarks + (1, 0), crops)
    lines = model_report.point_table(rows[:2]).splitlines()
    assert lines[1].split() == ["jaw_0", "4", "2.000", "2.000", "2.000"]
    assert lines[2].split() == ["jaw_1", "0"]


@pytest.mark.parametrize(("name", "told"), [("four", True), ("others", False)])
def test_confidence_in_lines(crops, rng, name, told):
    predicted = {
        "landmarks": crops.landmarks + rng.normal(0, 1, crops.landmarks.shape),
        "scale": ones(crops),
    }
    calibration = model_scores.calibrate(predicted, crops)
    others = dataclasses.replace(crops, name=name)
    found = model_scores.check_confidence(calibration, predicted, others)
    lines = model_report.confidence_lines({"confidence": found})
    assert ("These are the very faces that are measured here" in lines) == told


def test_groups_of_points_in_lines(crops):
    """Radius 2.2 px: all of the jaw are further off than that."""
    predicted = crops.landmarks + (1, 0)
    predicted[:, :17] += (8, 0)
    calibration = confidence.Calibration(
        (1.0, 2.0), (2.0, 4.0), (1.0,) * 68, {0.5: (0.5,) * 68, 0.9: (1.1,) * 68}, "four", 4
    )
    found = model_scores.check_confidence(
        calibration, {"landmarks": predicted, "scale": ones(crops)}, crops
    )
    lines = model_report.confidence_lines({"confidence": found})
    assert "by group of points from jaw, 0.0%, to" in lines and len(lines.splitlines()) == 5


@pytest.mark.parametrize(("times", "unknown"), [(1, True), (3, False)])
def test_radii_that_are_unknown_are_told(crops, times, unknown):
    some = crops.take(times * [0, 1, 2, 3])
    predicted = {"landmarks": some.landmarks + 1, "scale": ones(some)}
    calibration = model_scores.calibrate(predicted, some)
    found = model_scores.check_confidence(calibration, predicted, some)
    lines = model_report.confidence_lines({"confidence": found})
    assert ("90%: unknown" in lines) == unknown


def test_lines_of_openings_and_cheeks():
    eyes = {"slope": 0.553, "correlation": 0.79, "closed": 16, "closed_true": 0.06}
    found = {
        "apertures": {
            "eyes": eyes | {"closed_found": 0.19},
            "mouth": {"slope": 1, "correlation": None},
        },
        "cheeks": {"nme": [4.0, 3.0, 3.0, 3.0, 2.0], "ratio": 2.0, "ratio_interval": [1.5, 2.5]},
    }
    assert model_report.part_lines(found).splitlines() == [
        "Openings, found against labels: eyes: slope 0.55, correlation 0.79, 16 closed, 0.06 by "
        "the labels, come out at 0.19; mouth: slope 1.00.",
        "NME % from the fifth with the darkest cheeks to the lightest: 4.00, 3.00, 3.00, 3.00, "
        "2.00; ratio 2.00, 95% interval 1.50 to 2.50.",
    ]
    assert model_report.part_lines({"apertures": {}, "cheeks": {}}) == ""
