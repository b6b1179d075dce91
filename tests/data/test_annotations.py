import dataclasses
from pathlib import Path

import numpy as np
import pytest

from keras_lapkl.data.annotations import Annotations, objects_of, path_below
from keras_lapkl.schemes import Scheme
from keras_lapkl.training_data import DataSet


@pytest.fixture
def annotations():
    """Four objects in three pictures, of which the last one has a point."""
    visible = np.array([[True, True]] * 3 + [[True, False]])
    paths = tuple(map(Path, ("a.png", "a.png", "b.png", "c.png")))
    source = objects_of("csv pairs", paths, visible)
    points = np.arange(16, dtype=np.float32).reshape(4, 2, 2)
    scheme = Scheme("pair", ("tip", "heel"))
    return Annotations("pairs", scheme, paths, points, visible, source=source)


@pytest.mark.parametrize("name", ["../photos-private/a.jpg", "/x/photos2/a.jpg", "../a.jpg"])
def test_a_folder_whose_name_begins_like_it_is_not_below(name):
    with pytest.raises(ValueError, match="below the folder of the images"):
        path_below("/x/photos", name)


def test_places_go_with_their_pictures(annotations):
    places = tuple(f"line {i}" for i in range(len(annotations)))
    taken = dataclasses.replace(annotations, places=places).take([2, 0])
    assert taken.places == ("line 2", "line 0")


def test_take(annotations):
    some = annotations.take([2, 0])
    assert [path.name for path in some.paths] == ["b.png", "a.png"]
    np.testing.assert_array_equal(some.landmarks, annotations.landmarks[[2, 0]])
    assert len(annotations.take(np.zeros(4, bool))) == 0


def test_the_summary_counts_what_was_taken(annotations):
    assert annotations.take(range(4)).summary == annotations.summary
    assert annotations.take([3, 0]).summary == (
        "csv pairs: 2 objects in 2 images, 1.5 of 2 points labeled on average; taken from 4"
    )
    assert annotations.part([0, 1], "the first two").summary == (
        "csv pairs: 2 objects in 1 images, 2 of 2 points labeled on average; the first two"
    )


def test_the_summary_of_a_part_of_faces(annotations):
    faces = Annotations(
        *("mine", annotations.scheme, annotations.paths, annotations.landmarks),
        annotations.visible,
        source=DataSet("mine", 4),
    )
    assert faces.take([0]).summary == "mine: 1 faces; taken from 4"
