import json
import pathlib

import pytest

from keras_lapkl import training_data
from keras_lapkl.training_data import LICENSES, DataSet, TrainingData

W300 = DataSet(
    "300-W train",
    1809,
    3148,
    "official training faces",
    license=LICENSES["300-W"],
    detail=" (afw 314 of 337, helen/trainset 770 of 2,000, lfpw/trainset 725 of 811)",
    notes=("200 more held out for validation",),
)
LINE = (
    "300-W train: 1,809 of 3,148 official training faces (afw 314 of 337, helen/trainset 770 of "
    "2,000, lfpw/trainset 725 of 811); 200 more held out for validation"
)
PHOTOS = DataSet("photos", 20, kind="faces without labels", labeled=False)
SYNTHETIC = DataSet("synthetic faces", 48, kind="synthetic faces", license=LICENSES["synthetic"])


def test_a_set_is_printed():
    assert str(W300) == LINE
    assert str(SYNTHETIC) == "48 synthetic faces"
    assert str(DataSet("what I have", notes=("and more",))) == "what I have; and more"


def test_synthetic_are_those_of_which_all_labeled_faces_are():
    assert SYNTHETIC.is_synthetic and not W300.is_synthetic
    assert TrainingData((SYNTHETIC, PHOTOS)).is_synthetic
    for sets in ((), (PHOTOS,), (SYNTHETIC, W300)):
        assert not TrainingData(sets).is_synthetic


def test_a_part_says_what_it_was_taken_from():
    assert str(SYNTHETIC.taken(7)) == "7 synthetic faces; taken from 48"
    assert SYNTHETIC.taken(48) is SYNTHETIC
    assert W300.taken(50).total == 3148


def test_parents_are_printed_and_the_same_labels_once():
    first = TrainingData((W300,))
    teacher = TrainingData((W300,), initial_model=first)
    model = TrainingData((W300, PHOTOS), teacher, TrainingData((SYNTHETIC,)))
    assert str(model) == (
        f"{LINE}; without labels photos: 20 faces without labels, labeled by a model trained on "
        "the same labels; begun with a model trained on the same labels; begun with a model "
        "trained on 48 synthetic faces"
    )
    assert model.labeled == (W300,)


def test_the_same_faces_without_labels_are_printed_once():
    both = TrainingData((W300, PHOTOS))
    assert str(TrainingData((W300, PHOTOS), both)) == (
        f"{LINE}; without labels photos: 20 faces without labels, labeled by a model trained on "
        "the same labels; without labels the same faces"
    )
    other = TrainingData((SYNTHETIC, PHOTOS.taken(7)), both)
    assert str(other).count("photos: ") == 2


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (TrainingData((W300,)), (LICENSES["300-W"],)),
        (TrainingData((DataSet("csv hands", 9, license=None),)), ()),
        (TrainingData((SYNTHETIC, PHOTOS), TrainingData((W300,))), ("synthetic", "300-W")),
        (TrainingData((SYNTHETIC,), None, TrainingData()), ("synthetic", "unknown")),
        (TrainingData((W300, W300), TrainingData((W300,))), ("300-W",)),
    ],
)
def test_licenses_of_all_that_it_was_derived_from(data, expected):
    assert data.licenses == tuple(LICENSES.get(name, name) for name in expected)
    assert data.license == ("; ".join(data.licenses) or None)


def test_union_has_all_data_once():
    one = TrainingData((W300, PHOTOS), initial_model=TrainingData((SYNTHETIC,)))
    two = TrainingData((W300,), TrainingData((PHOTOS,)))
    both = training_data.union([one, two])
    assert both == TrainingData((W300, PHOTOS), TrainingData((PHOTOS,)), TrainingData((SYNTHETIC,)))
    assert training_data.union([one]) == training_data.union([one, one]) == one


def test_plain_data_and_back():
    data = TrainingData((W300, PHOTOS), TrainingData((SYNTHETIC,)), TrainingData())
    config = json.loads(json.dumps(data.to_config()))
    assert config["sets"][1] == {
        "name": "photos",
        "count": 20,
        "kind": "faces without labels",
        "labeled": False,
    }
    assert training_data.get(config) == data


def test_get():
    data = TrainingData((W300,))
    assert training_data.get(None) is None and training_data.get(data) is data
    assert training_data.get(W300) == data
    for wrong in (3, {"name": "x"}):
        with pytest.raises(ValueError, match="Received: "):
            training_data.get(wrong)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (LINE, TrainingData((W300,))),
        (
            f"{LINE}; begun with a model trained on the same labels",
            TrainingData((W300,), initial_model=TrainingData((W300,))),
        ),
        ("48 synthetic faces", TrainingData((SYNTHETIC,))),
        (
            "48 synthetic faces; begun with a model trained on faces unknown",
            TrainingData((SYNTHETIC,), initial_model=TrainingData()),
        ),
        (
            f"{LINE}; without labels photos, labeled by a model trained on the same labels; "
            "without labels the same faces",
            TrainingData(
                (W300, DataSet("photos", labeled=False)),
                TrainingData((W300, DataSet("photos", labeled=False))),
            ),
        ),
        ("300-W and 5 of mine", TrainingData((DataSet("300-W and 5 of mine"),))),
    ],
)
def test_lines_of_old_files(line, expected):
    found = training_data.get(line)
    assert found == expected and str(found) == line


@pytest.mark.parametrize(
    "start", ["csv train: 9 objects", "AFLW train: 9 of 20,000 official faces"]
)
def test_old_lines_keep_the_limits_of_parents(start):
    line = f"{start}; without labels 9 faces, labeled by a model trained on {LINE}"
    found = training_data.get(line)
    assert str(found) == line and LICENSES["300-W"] in found.licenses
    assert (LICENSES["AFLW"] in found.licenses) == start.startswith("AFLW")


def test_lines_of_all_kept_results():
    results = pathlib.Path(__file__).parents[1] / "docs" / "results"
    paths = list(results.glob("*/cell.json"))
    assert len(paths) > 40
    for path in paths:
        line = json.loads(path.read_text())["test"]["trained_on"]
        found = training_data.get(line)
        assert str(found) == line and found.labeled == (W300,), path
