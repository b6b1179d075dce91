import csv
import dataclasses

import cv2
import numpy as np
import pytest

from keras_lapkl import schemes
from keras_lapkl.data.crops import Crops
from keras_lapkl.evaluation import audit_sheet, label_audit

HAND = schemes.get(
    {
        "name": "hand",
        "names": ["left_thumb", "right_thumb", "left_tip", "right_tip", "middle", "wrist"],
    }
)
PLACES = np.array([[10.0, 30], [70, 30], [20, 10], [60, 10], [40, 5], [40, 70]])
SCALE = 0.5
"""Pixels of the crop in one of the photo."""


def make(labels, scheme=HAND, names=None, sizes=None):
    count = len(labels)
    return Crops(
        images=np.zeros((count, 80, 80, 3), np.uint8),
        landmarks=labels.astype(np.float32),
        visible=np.isfinite(labels).all(-1),
        transforms=np.tile(SCALE * np.eye(2, 3), (count, 1, 1)),
        names=names or tuple(f"photos/{i}.png" for i in range(count)),
        scheme=scheme,
        image_size=80,
        margin=0,
        crop_scale=1.5,
        name="hands",
        sizes=sizes,
    )


@pytest.fixture
def labels(rng):
    return PLACES + rng.normal(0, 3, (200, 6, 2))


@pytest.fixture
def predicted(labels, rng):
    """A model that is right within a pixel, and knows by how much."""
    scale = rng.uniform(0.5, 1.5, labels.shape[:2])[..., None] * [1, 1]
    return {"landmarks": labels + scale * rng.laplace(0, 0.7, labels.shape), "scale": scale}


def spoil(labels):
    """One fault of each kind, in faces 10, 20, …."""
    labels = labels.copy()
    labels[10] = labels[10, list(HAND.flip)]
    labels[20, [4, 5]] = labels[20, [5, 4]]
    labels[30] += (6, -5)
    labels[40] = 1.3 * (labels[40] - labels[40].mean(0)) + labels[40].mean(0)
    labels[50, 2] += (15, 12)
    return labels


KINDS = {10: "mirrored", 20: "swapped", 30: "shifted", 40: "scaled", 50: "point"}


def test_each_kind_is_found_and_told(labels, predicted):
    found = label_audit.audit(make(spoil(labels)), predicted)
    assert len(found) == 200 and {each.face for each in found} == set(range(200))
    assert {each.face: each.kind for each in found[:5]} == KINDS
    assert min(each.score for each in found[:5]) > 2 * found[5].score
    by_face = {each.face: each for each in found}
    assert by_face[20].points == (4, 5) and by_face[20].says == "middle and wrist exchanged"
    assert by_face[50].points == (2,)
    assert not any(each.says.startswith("0 of") for each in found)
    # pixels of the photo, of which two are one of the crop
    assert by_face[50].error == pytest.approx(np.hypot(30, 24), abs=6)
    assert by_face[50].expected < 6
    x, y = by_face[30].says.split("(")[1].split(")")[0].split(", ")
    assert (float(x), float(y)) == (pytest.approx(-12, abs=2), pytest.approx(10, abs=2))
    assert by_face[40].says.startswith("all points 0.7")
    place = by_face[50].says.removeprefix("left_tip at (").removesuffix(")").split(", ")
    np.testing.assert_allclose(
        np.array(place, float), predicted["landmarks"][50, 2] / SCALE, atol=0.06
    )
    assert "5 of 200 labels have a score of 2 or more: 1 point" in label_audit.report(
        make(spoil(labels)), found
    )


def test_faces_that_the_model_is_unsure_of_may_be_further_off(labels, predicted):
    moved = labels.copy()
    moved[[3, 4]] += (6, -5)
    predicted["scale"][3] *= 30
    ranks = [each.face for each in label_audit.audit(make(moved), predicted)]
    assert ranks[0] == 4 and ranks.index(3) > 20


def test_gaps_and_missing_predictions_are_no_faults(labels, predicted):
    labels = spoil(labels)
    labels[7] = np.nan
    labels[8, 1:] = np.nan
    labels[10, 0] = np.nan
    predicted["landmarks"][9, 3] = np.nan
    found = label_audit.audit(make(labels), predicted)
    assert {each.face for each in found[:5]} == set(KINDS)
    by_face = {each.face: each for each in found}
    assert by_face[7].score == 0 and by_face[7].points == () and np.isnan(by_face[7].error)
    assert by_face[8].points == (0,)
    assert 3 not in by_face[9].points


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_faces_and_a_single_point(count, rng):
    scheme = schemes.get({"name": "dot", "num_landmarks": 1})
    labels = rng.uniform(0, 80, (count, 1, 2))
    predicted = {"landmarks": labels + 1, "scale": np.ones_like(labels)}
    found = label_audit.audit(make(labels, scheme), predicted)
    assert len(found) == count and all(np.isfinite(each.score) for each in found)


def test_no_known_landmark(labels, predicted):
    with pytest.raises(ValueError, match="at least one known landmark"):
        label_audit.audit(make(np.full_like(labels, np.nan)), predicted)


def test_copies_with_other_labels(labels, predicted):
    """Face 1 is a copy of 0 at twice its size with other labels, 3 one of 2 with the same."""
    labels[1] = labels[0] + (9, 0)
    labels[3] = labels[2]
    for one, other in ((0, 1), (2, 3)):
        for values in predicted.values():
            values[other] = values[one]
    sizes = np.full((200, 2), 160)
    sizes[1] = 320
    crops = make(labels, sizes=sizes)
    # Its pixel x is pixel x/2 - 1/4 of face 0's picture, whose crop has half of that.
    crops.transforms[1] = [[SCALE / 2, 0, -SCALE / 4], [0, SCALE / 2, -SCALE / 4]]
    same = np.arange(200)
    same[[1, 3]] = 0, 2
    found = label_audit.audit(crops, predicted, same)
    assert found[0].face == 1 and found[0].kind == "shifted"
    assert found[0].says.endswith(", as in 0.png, which shows the same, 36.0 px from here")
    assert not any("shows the same" in each.says for each in found[1:])
    # where the model is too unsure to say it, the copy does
    predicted["scale"][:2] *= 10
    labels[1] = labels[0] + 9 * np.array([[1, 0], [-1, 0], [0, 1], [0, -1], [1, 0], [-1, 0]])
    crops = make(labels, names=crops.names)
    told = {each.face: each for each in label_audit.audit(crops, predicted, same)}
    assert told[1].says.endswith("as in 0.png, which shows the same, 18.0 px from here")


def test_table(labels, predicted, tmp_path):
    names = ["photos/=1.png", *(f"photos/{i}.png" for i in range(1, 199)), "photos/198.png"]
    crops = make(spoil(labels), names=tuple(names))
    crops = dataclasses.replace(crops, names=("photos/=1.png",) * 11 + crops.names[11:])
    found = label_audit.audit(crops, predicted)
    crops = dataclasses.replace(crops, places=tuple(f"a.csv, line {i + 2}" for i in range(200)))
    label_audit.write(tmp_path / "audit.csv", crops, found, "photos")
    with open(tmp_path / "audit.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["rank"]) for row in rows] == list(range(1, 201))
    by_kind = {row["kind"]: row for row in rows[:5]}
    mirrored, swapped = by_kind["mirrored"], by_kind["swapped"]
    assert (mirrored["file"], mirrored["face"], mirrored["points"]) == ("'=1.png", "11", "all")
    assert swapped["points"] == "middle; wrist" and swapped["file"] == "20.png"
    assert swapped["place"] == "line 22"
    assert float(swapped["error_px"]) > 5 * float(swapped["expected_px"])


def test_sheet(labels, predicted, tmp_path):
    path = str(tmp_path / "a.png")
    cv2.imwrite(path, np.full((160, 160, 3), 128, np.uint8))
    crops = make(spoil(labels), names=(path,) * 200)
    found = label_audit.audit(crops, predicted)[:6]
    audit_sheet.write(tmp_path / "audit.png", crops, predicted, found)
    sheet = cv2.imread(str(tmp_path / "audit.png"))[..., ::-1]
    assert sheet.shape == (848, 2132, 3)
    for color in (audit_sheet.LABEL, audit_sheet.MODEL):
        count = np.count_nonzero((np.abs(sheet.astype(int) - color) < 40).all(-1))
        assert 6 * 6 * 10 < count < 6 * 6 * 100  # six faces, six points
