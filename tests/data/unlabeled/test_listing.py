import itertools
import os

import pytest

from keras_lapkl.data.unlabeled.listing import Listing, state_of

PHOTOS = [(f"{n:02d}.png", (100 + n, 10**18 + n)) for n in range(45)]


def test_photos_come_back_by_shard_and_in_their_order(tmp_path):
    photos = Listing(tmp_path, PHOTOS, 40)
    assert len(photos) == 45 and [photos.count(shard) for shard in (0, 1)] == [40, 5]
    assert photos.names(1) == [name for name, _ in PHOTOS[40:]]
    batches = [photos.batches(shard) for shard in (0, 1)]
    assert [len(batch) for batch in batches[0]] == [16, 16, 8]
    assert [*itertools.chain(*batches[0], *batches[1])] == PHOTOS


def test_a_name_of_any_bytes(tmp_path):
    name = os.fsdecode(b"\xff\n.png")
    assert Listing(tmp_path, [(name, (1, 2))], 4).names(0) == [name]


@pytest.mark.parametrize("change", [("x.png", (1, 2)), ("a.png", (2, 2)), ("a.png", (1, 3))])
def test_the_digest_is_of_names_sizes_and_times(tmp_path, change):
    digests = {Listing(tmp_path, [photo], 4).digest for photo in (("a.png", (1, 2)), change)}
    assert len(digests) == 2


def test_what_is_not_told_is_asked(tmp_path):
    (tmp_path / "a.png").write_bytes(b"12345")
    os.utime(tmp_path / "a.png", ns=(7, 7))
    photos = Listing(tmp_path, [("a.png", None), ("gone.png", None)], 4)
    assert photos.batches(0) == [[("a.png", (5, 7)), ("gone.png", (-1, -1))]]
    assert state_of(tmp_path / "gone.png") == (-1, -1)
