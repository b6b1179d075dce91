import dataclasses

import numpy as np
import pytest
from hypothesis import given, strategies as st

from keras_lapkl.data import datasets
from keras_lapkl.training import Recipe, cross_validation


def test_blocks_of_neighbors():
    names = [f"video/img{i}.png" for i in range(90)]
    found = cross_validation.folds(names, 5)
    np.testing.assert_array_equal(found, np.repeat(range(5), 18))
    many = cross_validation.folds([f"{i}.png" for i in range(1000)], 4)
    assert np.bincount(many).tolist() == [250] * 4
    assert np.count_nonzero(np.diff(many)) == 39  # 40 blocks of 25


def test_numbers_in_names_are_numbers_and_the_order_given_is_kept():
    names = ["img2.png", "img10.png", "img1.png", "img11.png"]
    assert cross_validation.folds(names, 2).tolist() == [0, 1, 0, 1]


def test_faces_of_a_picture_and_copies_stay_together():
    names = [f"{i}.png" for i in range(40) for _ in range(2)]
    found = cross_validation.folds(names, 4)
    assert (found[::2] == found[1::2]).all()
    groups = np.arange(80) // 2
    groups[groups == 39] = 0  # the last picture is a copy of the first
    found = cross_validation.folds(names, 4, groups)
    assert found[0] == found[1] == found[78] == found[79]


@pytest.mark.parametrize("large", ["first", "last"])
def test_most_pictures_being_copies_leaves_no_fold_without_others(large):
    names = [f"{i:02}.png" for i in range(40)]
    groups = np.arange(40)
    groups[:36] = 0
    if large == "last":
        groups = groups[::-1]
    found = cross_validation.folds(names, 5, groups)
    assert np.bincount(found).min() >= 1 and found.max() >= 1


@pytest.mark.parametrize(
    ("pictures", "faces", "count"), [(10, 50, 2), (10, 125, 5), (30, 63, 5), (30, 125, 5)]
)
def test_pictures_of_many_faces_go_to_all_folds(pictures, faces, count):
    """Each is larger than several blocks."""
    found = cross_validation.folds(
        [f"{i}.png" for i in range(pictures) for _ in range(faces)], count
    )
    assert np.bincount(found).tolist() == [pictures * faces // count] * count


@given(st.lists(st.integers(1, 90), min_size=2, max_size=40), st.integers(2, 9))
def test_no_fold_is_empty(sizes, count):
    names = [f"{i}.png" for i, size in enumerate(sizes) for _ in range(size)]
    count = min(count, len(sizes))
    found = cross_validation.folds(names, count)
    assert np.bincount(found, minlength=count).min() > 0 and found.max() < count
    assert len(set(zip(names, found.tolist(), strict=True))) == len(sizes)


@pytest.mark.parametrize(("count", "groups"), [(1, None), (4, None), (2, [0, 0, 0])])
def test_too_few(count, groups):
    with pytest.raises(ValueError, match="Expected 2 folds or more, and at most one for each"):
        cross_validation.folds(["a.png", "b.png", "c.png"], count, groups)


@pytest.mark.parametrize(
    ("faces", "steps", "batch", "epochs", "of"), [(1600, 1500, 8, 15, 100), (3, 2, 3, 1, 2)]
)
def test_small_recipe(faces, steps, batch, epochs, of):
    recipe = cross_validation.small_recipe(faces, steps)
    assert (recipe.network, recipe.optimizer, recipe.width) == ("mobile_fpn", "muon", 1 / 8)
    assert (recipe.batch_size, recipe.epochs, recipe.steps_per_epoch) == (batch, epochs, of)


@pytest.mark.slow
def test_each_face_is_predicted_by_the_model_that_has_not_seen_it(tmp_path):
    crops = datasets.load("synthetic", num_synthetic=6, image_size=32)
    recipe = Recipe(width=1 / 64, epochs=1, batch_size=2, augment=False)
    fold_of = np.array([0, 0, 1, 1, 0, 1])
    found = cross_validation.predict(crops, fold_of, recipe, tmp_path)
    assert np.isfinite(found["landmarks"]).all() and found["scale"].shape == (6, 68, 2)
    # Labels of a fold are nothing to its own model, but are to the other's.
    other = crops.landmarks.copy()
    other[fold_of == 0] += 9
    changed = dataclasses.replace(crops, landmarks=other)
    again = cross_validation.predict(changed, fold_of, recipe, tmp_path / "again")
    same = (found["landmarks"] == again["landmarks"]).all((1, 2))
    np.testing.assert_array_equal(same, fold_of == 0)
    written = {path: path.stat().st_mtime_ns for path in tmp_path.glob("fold*/model.keras")}
    resumed = cross_validation.predict(crops, fold_of, recipe, tmp_path)
    np.testing.assert_array_equal(resumed["landmarks"], found["landmarks"])
    assert written == {path: path.stat().st_mtime_ns for path in written} and len(written) == 2
