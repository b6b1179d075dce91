import concurrent.futures
import struct
import zlib

import cv2
import numpy as np
import pytest

from keras_lapkl.data.unlabeled.crops import INDEX, InMemory, InShards, UnlabeledCrops
from keras_lapkl.training_data import DataSet

COUNT, SIDE = 50, 24
FACES = np.random.default_rng(0).integers(0, 256, (COUNT, SIDE, SIDE, 3), np.uint8)
ROOM_FOR_TWENTY = 20 * SIDE**2 * 3 / (1 << 20)


def crops(faces):
    source = DataSet("x", COUNT, kind="x", labeled=False)
    return UnlabeledCrops(faces, image_size=16, margin=4, crop_scale=3.0, name="x", source=source)


@pytest.fixture
def files(tmp_path):
    """Two files of PNGs, with the shard and the index entry of each."""
    paths = [tmp_path / "first", tmp_path / "second"]
    shard = np.arange(COUNT) >= 30
    index = np.zeros(COUNT, INDEX)
    for number, path in enumerate(paths):
        with path.open("wb") as stream:
            for i in np.flatnonzero(shard == number):
                stream.write(b"between")
                image = cv2.imencode(".png", FACES[i][..., ::-1])[1].tobytes()
                index[i] = stream.tell(), len(image), zlib.crc32(image)
                stream.write(image)
    return paths, shard.astype(np.uint32), index


@pytest.fixture(params=["memory", "disk", "disk and memory", "disk, then memory"])
def held(request, files):
    """The faces, in every way that they can be held."""
    if request.param == "memory":
        return crops(InMemory(FACES))
    room = {"disk": 0, "disk and memory": ROOM_FOR_TWENTY, "disk, then memory": 1}[request.param]
    return crops(InShards(*files, SIDE, room))


def test_gathers_in_any_order(held, rng):
    assert len(held) == COUNT
    for _ in range(3):
        indices = rng.integers(0, COUNT, 30)
        np.testing.assert_array_equal(held.gather(indices), FACES[indices])
    np.testing.assert_array_equal(held.gather([49, 0, 49]), FACES[[49, 0, 49]])
    assert held.gather(np.array([], int)).shape == (0, SIDE, SIDE, 3)


@pytest.mark.parametrize("indices", [[50], [-1], [0, 99]])
def test_indices_outside(held, indices):
    with pytest.raises(IndexError, match=r"x: expected indices in 0\.\.49"):
        held.gather(indices)


def test_threads_share_it(held, rng):
    wanted = [rng.integers(0, COUNT, 8) for _ in range(200)]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for indices, found in zip(wanted, pool.map(held.gather, wanted), strict=True):
            np.testing.assert_array_equal(found, FACES[indices])


def test_a_smaller_number_is_in_a_larger_one(held):
    few, many = held.take(5), held.take(20)
    np.testing.assert_array_equal(many.gather(np.arange(5)), few.gather(np.arange(5)))
    every = held.take(COUNT).gather(np.arange(COUNT))
    assert (every == FACES).all((1, 2, 3)).sum() < COUNT / 2
    np.testing.assert_array_equal(np.sort(every.reshape(-1)), np.sort(FACES.reshape(-1)))
    assert (held.take(20, seed=1).gather([0]) != many.gather([0])).any()


def test_part_of_a_part(held):
    part = held.take(20)
    inner = part.take(7).gather(np.arange(7))
    chosen = part.gather(np.random.default_rng(0).permutation(20)[:7])
    np.testing.assert_array_equal(inner, chosen)


def test_a_part_says_so(held):
    part = held.take(5)
    assert (part.image_size, part.margin, part.crop_scale, part.name) == (16, 4, 3.0, "x")
    assert part.inner == slice(4, 20)
    assert part.summary == "5 x; taken from 50"
    assert held.take(COUNT).summary == "50 x"


@pytest.mark.parametrize("n", [0, -3, 51])
def test_no_such_number(held, n):
    with pytest.raises(ValueError, match=rf"1\.\.50, which x has. Received: {n}"):
        held.take(n)


def test_what_fits_is_read_once(files):
    faces = crops(InShards(*files, SIDE, ROOM_FOR_TWENTY))
    faces.gather(np.arange(COUNT))
    for path in files[0]:
        path.unlink()
    np.testing.assert_array_equal(faces.gather(np.arange(20)), FACES[:20])
    with pytest.raises(FileNotFoundError):
        faces.gather([20])


@pytest.mark.parametrize("damage", ["cut", "changed"])
def test_damage_is_refused(files, damage):
    paths, _, index = files
    data = bytearray(paths[1].read_bytes())
    entry = index[40]
    if damage == "cut":
        del data[int(entry["offset"]) + 20 :]
    else:
        data[int(entry["offset"]) + 60] ^= 1
    paths[1].write_bytes(data)
    faces = crops(InShards(*files, SIDE, 1))
    np.testing.assert_array_equal(faces.gather(np.arange(40)), FACES[:40])
    with pytest.raises(ValueError, match=rf"second is damaged at byte {entry['offset']}"):
        faces.gather([40])


def replaced(files, content):
    """Faces of which the first one is another file, whose checksum is right."""
    paths, shard, index = files
    paths[0].write_bytes(content)
    index[0] = 0, len(content), zlib.crc32(content)
    return crops(InShards(paths, shard, index, SIDE, 1))


@pytest.mark.parametrize("kind", [".jpg", ".webp", ".png"])
def test_another_format_is_not_decoded(files, kind, monkeypatch):
    """It may have a huge size, and what stands where a PNG has its size may be anything."""
    content = bytearray(cv2.imencode(kind, FACES[0])[1].tobytes())
    if kind == ".png":
        content[12:16] = b"tEXt"
    else:
        content[16:24] = struct.pack(">II", SIDE, SIDE)
    monkeypatch.setattr(cv2, "imdecode", None)
    with pytest.raises(ValueError, match="first is damaged at byte 0"):
        replaced(files, bytes(content)).gather([0])


def test_what_the_decoder_says_of_damage(files, monkeypatch):
    def fails(*args):
        raise cv2.error("too large")

    monkeypatch.setattr(cv2, "imdecode", fails)
    with pytest.raises(ValueError, match="first is damaged"):
        crops(InShards(*files, SIDE, 1)).gather([0])


def test_another_size_is_refused(files):
    with pytest.raises(ValueError, match="first is damaged"):
        crops(InShards(*files, SIDE + 1, 1)).gather([0])


def test_missing_file(files):
    files[0][0].unlink()
    with pytest.raises(FileNotFoundError, match="first"):
        crops(InShards(*files, SIDE, 1)).gather([0])
