import hashlib

import numpy as np
import pytest

from keras_lapkl.data import digests
from keras_lapkl.data.digests import Digests, changes


def faces(*rows):
    """Digests of faces given as name, labels, box and picture."""
    return Digests(tuple(row[0] for row in rows), np.array([row[1:] for row in rows], np.uint64))


BEFORE = faces(("a", 1, 0, 10), ("a", 2, 0, 10), ("b", 3, 0, 11), ("c", 4, 0, 12))


class TestDigests:
    def test_do_not_change_with_versions(self):
        """Runs of the past are told from others by these numbers."""
        points = np.array([[[1.5, -0.0], [np.nan, np.nan]]], np.float32)
        content = np.array([1.5, 0, np.nan, np.nan], "<f4").tobytes() + b"\1\0"
        expected = int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")
        assert digests.of_labels(points, np.array([[True, False]])) == [expected]
        assert BEFORE.total() == "0c437b4166e8e8145a8287ca4f48a358"

    @pytest.mark.parametrize(
        "change",
        [
            lambda points, visible: points.__setitem__((1, 2, 0), points[1, 2, 0] + 1e-3),
            lambda points, visible: visible.__setitem__((1, 0), False),
            lambda points, visible: points.__setitem__((1, 0), np.nan),
        ],
    )
    def test_of_labels(self, change):
        points = np.random.default_rng(0).uniform(0, 50, (3, 4, 2)).astype(np.float32)
        visible = np.ones((3, 4), bool)
        before = digests.of_labels(points, visible)
        np.testing.assert_array_equal(before, digests.of_labels(points.astype(float), visible))
        change(points, visible)
        assert (before != digests.of_labels(points, visible)).tolist() == [False, True, False]

    def test_of_boxes(self):
        boxes = np.array([[0, 1, 2, 3], [np.nan] * 4], np.float32)
        assert len({*digests.of_boxes(boxes, 2), *digests.of_boxes(None, 2)}) == 3

    def test_of_a_file_is_that_of_its_bytes(self, tmp_path):
        content = bytes(range(256)) * 5000  # more than is read at once
        (tmp_path / "a").write_bytes(content)
        found = digests.of_file(tmp_path / "a")
        assert found.to_bytes(8, "little") == hashlib.blake2b(content, digest_size=8).digest()

    def test_order_does_not_matter(self):
        assert BEFORE.take(np.array([2, 0, 3, 1])).total() == BEFORE.total()
        assert BEFORE.take(np.array([0, 1, 2, 2])).total() != BEFORE.total()

    def test_exchanged_labels_are_others(self):
        """Each label and each picture is still there."""
        one = faces(("a", 1, 0, 10), ("b", 2, 0, 11))
        assert one.total() != faces(("a", 2, 0, 10), ("b", 1, 0, 11)).total()

    def test_other_shapes(self):
        with pytest.raises(ValueError, match="3 digests of each of 1 faces"):
            Digests(("a",), np.zeros((1, 2), np.uint64))


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        ([("a", 2, 0, 10), ("c", 4, 0, 12), ("a", 1, 0, 10), ("b", 3, 0, 11)], {}),
        ([("x", 1, 0, 10), ("y", 2, 0, 10), ("z", 3, 0, 11), ("w", 4, 0, 12)], {}),
        (
            [("a", 1, 0, 10), ("a", 9, 0, 10), ("b", 3, 0, 11), ("c", 4, 0, 12)],
            {"labels": 1, "example": "a"},
        ),
        (
            [("a", 9, 0, 10), ("a", 2, 0, 10), ("b", 3, 7, 11), ("c", 4, 0, 99)],
            {"labels": 1, "boxes": 1, "pictures": 1, "example": "a"},
        ),
        # One of two faces of a picture is gone, and the other is not taken for changed.
        (
            [("a", 2, 0, 10), ("b", 3, 0, 11), ("c", 4, 0, 12)],
            {"removed": 1, "count": 3, "example": "a"},
        ),
        # All labels changed, and the pictures are found by content where names did.
        (
            [("p", 5, 0, 10), ("p", 6, 0, 10), ("q", 7, 0, 11), ("r", 8, 0, 12)],
            {"labels": 4, "example": "p"},
        ),
        (
            [("a", 1, 0, 10), ("a", 2, 0, 10), ("b", 3, 0, 11), ("d", 8, 0, 13)],
            {"added": 1, "removed": 1, "example": "c"},
        ),
        # The same face twice is one too many.
        (
            [("a", 1, 0, 10), ("a", 2, 0, 10), ("b", 3, 0, 11), ("c", 4, 0, 12), ("c", 4, 0, 12)],
            {"added": 1, "count": 5, "example": "c"},
        ),
    ],
)
def test_changes(now, expected):
    assert changes(BEFORE, faces(*now)) == digests.Changes(**{"count": 4, **expected})
