"""What a folder says of a run on other data; none is trained here."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from keras_lapkl._support.folders import OtherDataError
from keras_lapkl.data import datasets, origins
from keras_lapkl.data.unlabeled import shards
from keras_lapkl.training import run_data
from keras_lapkl.training.recipe import Recipe, Teacher
from keras_lapkl.training.run_folder import Identity, check_settings, choose_folder

RECIPE = Recipe(width=1 / 64, epochs=3)


@pytest.fixture(scope="module")
def crops():
    made = datasets.load("synthetic", split="train", num_synthetic=6, image_size=16)
    return dataclasses.replace(made, boxes=np.tile([0.0, 0.0, 16.0, 16.0], (6, 1)))


@pytest.fixture(scope="module")
def validation():
    return datasets.load("synthetic", split="validation", num_synthetic=2, image_size=16)


def changed(crops, field, faces=(2,)):
    values = np.array(getattr(crops, field))
    values[list(faces)] = 1 - values[list(faces)] if field == "visible" else values[0] + 1
    return dataclasses.replace(crops, **{field: values})


def claimed(folder, crops, validation, unlabeled=None, recipe=RECIPE):
    folder.mkdir()
    Identity(recipe, crops, validation, unlabeled).claim(folder)
    return folder


class TestChooseFolder:
    def test_the_one_given(self, crops, validation, tmp_path):
        args = RECIPE, crops, validation
        assert choose_folder(tmp_path / "run", *args) == (tmp_path / "run", None)
        claimed(tmp_path / "run", crops, validation)
        assert choose_folder(tmp_path / "run", *args) == (tmp_path / "run", None)
        backwards = crops.take(range(5, -1, -1))
        assert choose_folder(tmp_path / "run", RECIPE, backwards, validation)[1] is None

    @pytest.mark.parametrize(
        ("field", "said"),
        [
            (
                "landmarks",
                "on other labels: labels of 1 of 6 training faces differ from those of the run; "
                "the pictures are the same. One of them: train/2.",
            ),
            ("visible", "on other labels: labels of 1 of 6 training faces"),
            ("boxes", "on other boxes: boxes of 1 of 6 training faces"),
            ("images", "on other pictures: pictures of 1 of 6 training faces differ"),
        ],
    )
    def test_mended_data_get_another(self, field, said, crops, validation, tmp_path):
        folder = claimed(tmp_path / "run", crops, validation)
        other = changed(crops, field)
        found, reason = choose_folder(folder, RECIPE, other, validation)
        assert found == tmp_path / "run-2"
        assert reason.startswith(f"{folder} holds a run {said}")
        assert ("pictures are the same" in reason) == (field != "images")
        claimed(found, other, validation)
        assert choose_folder(folder, RECIPE, other, validation) == (found, reason)
        assert choose_folder(folder, RECIPE, crops, validation) == (folder, None)
        again = changed(other, field, (3, 4))
        assert choose_folder(folder, RECIPE, again, validation)[0] == tmp_path / "run-3"

    def test_folders_of_others_are_passed_over(self, crops, validation, tmp_path):
        folder = claimed(tmp_path / "run", crops, validation)
        claimed(tmp_path / "run-2", crops, validation, recipe=Recipe(epochs=9))
        (tmp_path / "run-3").mkdir()
        (tmp_path / "run-3" / "model.keras").write_text("mine")
        (tmp_path / "run-4").mkdir()
        (tmp_path / "run-4" / "notes.txt").write_text("mine")
        found, _ = choose_folder(folder, RECIPE, changed(crops, "landmarks"), validation)
        assert found == tmp_path / "run-4"

    def test_other_settings_are_no_other_data(self, crops, validation, tmp_path):
        folder = claimed(tmp_path / "run", crops, validation)
        mended = changed(crops, "landmarks")
        with pytest.raises(ValueError, match="epochs: 3 there, 9 now"):
            choose_folder(folder, Recipe(width=1 / 64, epochs=9), mended, validation)

    def test_settings_for_another_number_of_labels(self, crops, validation, tmp_path):
        """Those that the command itself has chosen are no setting of the user."""
        folder = claimed(tmp_path / "run", crops, validation)
        other, more = Recipe(width=1 / 64, epochs=9), changed(crops, "landmarks")
        args = other, more, validation, None, [RECIPE, other]
        assert choose_folder(folder, *args) == (
            tmp_path / "run-2",
            f"{folder} holds a run with the settings for another number of labels than 6.",
        )
        with pytest.raises(ValueError, match="epochs: 3 there, 9 now"):
            choose_folder(folder, other, more, validation, None, [other])

    def test_other_settings_are_told_before_anything_is_cut(self, crops, validation, tmp_path):
        other = Recipe(width=1 / 64, epochs=9)
        check_settings(tmp_path / "run", other, crops)
        folder = claimed(tmp_path / "run", crops, validation)
        check_settings(folder, RECIPE, changed(crops, "landmarks"))
        check_settings(folder, other, crops, [RECIPE, other])
        with pytest.raises(ValueError, match="epochs: 3 there, 9 now"):
            check_settings(folder, other, crops, [other])
        with pytest.raises(ValueError, match=r"crop_scale: 3.0 there, 2.0 now"):
            check_settings(folder, RECIPE, dataclasses.replace(crops, crop_scale=2.0))

    def test_a_run_of_an_earlier_version(self, crops, validation, tmp_path):
        """It has a line on its data alone, among its settings."""
        folder = tmp_path / "run"
        folder.mkdir()
        identity = Identity(RECIPE, crops, validation, None)
        flat = {**identity.settings, **identity.summaries}
        (folder / "run.json").write_text(json.dumps(flat))
        check_settings(folder, RECIPE, crops)
        found, reason = choose_folder(folder, RECIPE, crops, validation)
        assert found == tmp_path / "run-2" and "kept no digests" in reason
        with pytest.raises(ValueError, match="epochs: 3 there, 4 now"):
            choose_folder(folder, Recipe(width=1 / 64, epochs=4), crops, validation)

    @pytest.mark.parametrize("content", ["[]", "7", '{"settings": 3}', "{"])
    def test_a_damaged_record(self, content, crops, validation, tmp_path):
        folder = claimed(tmp_path / "run", crops, validation)
        (folder / "run.json").write_text(content)
        with pytest.raises(ValueError, match=r"run\.json is not .* or delete this one"):
            choose_folder(folder, RECIPE, crops, validation)


def told(folder, *args):
    with pytest.raises(OtherDataError) as error:
        Identity(*args).check(folder)
    return str(error.value)


def test_added_removed_and_of_validation(crops, validation, tmp_path):
    folder = claimed(tmp_path / "run", crops, validation)
    fewer, mended = crops.take(range(5)), changed(validation, "landmarks", (0, 1))
    said = told(folder, RECIPE, fewer, mended, None)
    assert "on other labels and faces: 1 training faces of the run are gone; " in said
    assert "labels of 2 of 2 validation faces differ" in said and "pictures" not in said
    folder = claimed(tmp_path / "fewer", fewer, validation)
    assert "on other faces: 1 of 6 training faces are new" in told(
        folder, RECIPE, crops, validation, None
    )


def test_without_the_digests_of_each_face(crops, validation, tmp_path):
    folder = claimed(tmp_path / "run", crops, validation)
    mended = changed(crops, "landmarks")
    path = folder / run_data.FACES
    for content in (b"", path.read_bytes()[:200]):
        path.write_bytes(content)
        assert "on other faces: the training faces differ" in told(
            folder, RECIPE, mended, validation, None
        )
    shutil.copy(claimed(tmp_path / "other", mended, validation) / run_data.FACES, path)
    assert "the training faces differ" in told(folder, RECIPE, mended, validation, None)
    path.unlink()
    Identity(RECIPE, crops, validation, None).claim(folder)
    assert path.exists()


def test_each_of_several_teachers_counts(crops, validation, tmp_path):
    one, two = tmp_path / "one.keras", tmp_path / "two.keras"
    recipe = dataclasses.replace(RECIPE, teacher=Teacher((str(one), str(two))))
    one.write_bytes(b"one")
    two.write_bytes(b"two")
    faces = shards.from_crops(crops)
    folder = claimed(tmp_path / "run", crops, validation, faces, recipe)
    Identity(recipe, crops, validation, faces).check(folder)
    two.write_bytes(b"another")
    assert "the file of the teacher is another" in told(folder, recipe, crops, validation, faces)


def test_faces_without_labels(crops, validation, tmp_path):
    recipe = dataclasses.replace(RECIPE, teacher=Teacher(str(tmp_path / "teacher.keras")))
    (tmp_path / "teacher.keras").write_bytes(b"one")
    other = changed(crops, "images", (1, 4))
    before, now = shards.from_crops(crops), shards.from_crops(other)
    folder = claimed(tmp_path / "run", crops, validation, before, recipe)
    args = recipe, crops, validation
    Identity(*args, before.take(6, seed=3)).check(folder)
    assert (
        "on other faces without labels: 2 of 6 faces without labels are new, 2 of the run's are "
        "gone." in told(folder, *args, now)
    )
    (tmp_path / "teacher.keras").write_bytes(b"two")
    assert "on other teacher: the file of the teacher is another" in told(folder, *args, before)
    (tmp_path / "teacher.keras").unlink()
    Identity(*args, before).check(folder)


def test_record_of_where_the_data_are(crops, validation, tmp_path):
    crops, validation = crops.spread(6), validation.spread(2)  # copies
    folder = claimed(tmp_path / "run", crops, validation)
    loaded = json.loads((folder / "run.json").read_text())["loaded"]
    assert loaded["validation"] == {
        "dataset": "synthetic",
        "split": "validation",
        "num_synthetic": 2,
    }
    object.__setattr__(validation, "loaded", {**validation.loaded, "split": "moved"})
    Identity(RECIPE, crops, validation, None).claim(folder)
    loaded = json.loads((folder / "run.json").read_text())["loaded"]
    assert loaded["validation"]["split"] == "moved"


def test_no_record_of_where_the_whole_of_a_part_is(crops, validation, tmp_path):
    """Else the model would later be measured on what it was trained on."""
    folder = claimed(tmp_path / "run", crops.take(range(4)), crops.take([4, 5]))
    loaded = json.loads((folder / "run.json").read_text())["loaded"]
    assert loaded == {"training": None, "validation": None}
    assert origins.read(folder / "model.keras").loaded == {}
