import zlib

import cv2
import numpy as np
import pytest
import tensorflow as tf

from keras_lapkl.data.unlabeled import records


@pytest.mark.parametrize(
    ("data", "expected"),
    [  # RFC 3720, B.4
        (b"", 0),
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
    ],
)
def test_known_checksums(data, expected):
    assert records.crc32c(data) == expected


# Around what is taken at once, and with 1 to 3 bytes left over.
@pytest.mark.parametrize("size", [1, 3, 4, 5, 1023, 1024, 1025, 1027, 1028, 5000])
def test_tensorflow_reads_what_is_framed(tmp_path, rng, size):
    """TensorFlow refuses a record with a wrong checksum."""
    contents = [rng.bytes(size), b"", rng.bytes(size)]
    path = tmp_path / "some.tfrecord"
    path.write_bytes(b"".join(map(records.frame, contents)))
    assert [r.numpy() for r in tf.data.TFRecordDataset(str(path))] == contents


def test_the_bytes_are_tensorflows(tmp_path):
    content = b"some record"
    path = tmp_path / "some.tfrecord"
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(content)
    assert path.read_bytes() == records.frame(content)


@pytest.mark.parametrize("length", [0, 1, 127, 128, 20_000])
def test_example(length):
    features = {"image": bytes(length), "name": "ü.jpg".encode(), "square": (1.5, -2, 1e-3)}
    parsed = tf.train.Example.FromString(records.example(features)).features.feature
    assert parsed.keys() == features.keys()
    assert list(parsed["image"].bytes_list.value) == [bytes(length)]
    assert parsed["name"].bytes_list.value[0].decode() == "ü.jpg"
    assert list(parsed["square"].float_list.value) == list(map(np.float32, features["square"]))


def test_order_of_features_does_not_matter():
    assert records.example({"a": b"1", "b": b"2"}) == records.example({"b": b"2", "a": b"1"})


@pytest.mark.parametrize("square", [(1.0, 2.0, 3.0), (1.0, 2.0, 3.0, 0.5)])
def test_a_face_and_where_its_picture_lies(rng, square):
    crop = rng.integers(0, 256, (8, 8, 3), np.uint8)
    framed, (offset, length, crc) = records.face(crop, "a.jpg", square)
    image = framed[offset : offset + length]
    assert zlib.crc32(image) == crc
    np.testing.assert_array_equal(cv2.imdecode(np.frombuffer(image, np.uint8), 1)[..., ::-1], crop)
    features = tf.train.Example.FromString(framed[12:-4]).features.feature
    assert features["source"].bytes_list.value[0] == b"a.jpg"
    assert (*features["square"].float_list.value, *features["angle"].float_list.value) == square
