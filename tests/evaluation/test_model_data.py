import json
import types

import cv2
import numpy as np
import pytest

from keras_lapkl.evaluation.model_data import load_for
from keras_lapkl.training_data import LICENSES, DataSet, TrainingData


def model_of(**of_data):
    known = {"trained_on": None, "training_data": None, **of_data}
    return types.SimpleNamespace(image_size=32, crop_scale=1.5, scheme=None, **known)


@pytest.fixture
def model():
    return model_of(trained_on="my photos")


@pytest.fixture
def path(tmp_path):
    """That of a model which was trained on three pictures and validated on a part of them."""
    folder = tmp_path / "mine"
    folder.mkdir()
    points = np.random.default_rng(0).uniform(8, 40, (3, 6)).round(1)
    for name, count in (("train", 3), ("validation", 2)):
        rows = [",".join([f"{i}.png", *map(str, points[i])]) for i in range(count)]
        text = "\n".join(["path,a_x,a_y,left_x,left_y,right_x,right_y", *rows])
        (folder / f"{name}.csv").write_text(text)
    for i in range(3):
        cv2.imwrite(str(folder / f"{i}.png"), np.full((48, 48, 3), 50 * i, np.uint8))
    common = {"dataset": "csv", "data_dir": str(folder), "category": None, "skip_bad": False}
    loaded = {
        "training": {**common, "split": str(folder / "train.csv")},
        "validation": {**common, "split": "validation"},
    }
    (tmp_path / "run").mkdir()
    digests = {"validation": "others"}
    (tmp_path / "run" / "run.json").write_text(json.dumps({"loaded": loaded, "digests": digests}))
    return tmp_path / "run" / "model.keras"


def test_the_recorded_data_by_its_rule(model, path, caplog):
    crops = load_for(model, path, "training", {}, margin=4)
    assert len(crops) == 3 and (crops.image_size, crops.margin, crops.crop_scale) == (32, 4, 1.5)
    assert "differ from those" not in caplog.text
    assert len(load_for(model, path, "validation", {})) == 2
    assert "labels, boxes or pictures differ from those" in caplog.text


def test_what_is_given_takes_the_place_of_the_record(model, path):
    other = path.parents[1] / "mine" / "validation.csv"
    assert len(load_for(model, path, "training", {"split": other})) == 2
    model.crop_scale = 3.0
    crops = load_for(model, path, "training", {"dataset": "synthetic"}, most_synthetic=2)
    assert len(crops) == 2 and crops.name == "synthetic train"


def test_data_that_were_moved(model, path):
    there = path.parents[1] / "mine"
    moved = there.rename(there.with_name("moved"))
    with pytest.raises(ValueError, match=r"mine, says .*run\.json\. That folder is not there"):
        load_for(model, path, "training", {})
    crops = load_for(model, path, "training", {"data_dir": str(moved)})
    assert len(crops) == 3 and crops.loaded["split"] == str(moved / "train.csv")


def test_labels_that_were_not_among_the_moved_pictures(model, path):
    record = path.with_name("run.json")
    record.write_text(record.read_text().replace("mine/train.csv", "train.csv"))
    with pytest.raises(ValueError, match=r"those of --data_dir=/other\? .* by --train_split\."):
        load_for(model, path, "training", {"data_dir": "/other"}, split_flag="train_split")


def test_unknown_data_are_asked_for(model, tmp_path, caplog):
    path = tmp_path / "model.keras"
    with pytest.raises(ValueError, match=r"trained on \(my photos\): there is no record"):
        load_for(model, path, "validation", {})
    sets = TrainingData((DataSet("synthetic faces", 9, license=LICENSES["synthetic"]),))
    synthetic = model_of(training_data=sets)
    synthetic.crop_scale = model.crop_scale = 3.0
    assert len(load_for(synthetic, path, "validation", {}, most_synthetic=3)) == 3
    assert not caplog.text
    assert len(load_for(model, path, "validation", {}, num_synthetic=2)) == 2
    assert "Synthetic faces for a model that was trained on my photos" in caplog.text


def test_a_model_that_does_not_say_its_crop(model, path):
    model.crop_scale = None
    with pytest.raises(ValueError, match="`crop_scale` is not known"):
        load_for(model, path, "training", {})
