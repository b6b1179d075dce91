import dataclasses
import io
import os
import time

import cv2
import numpy as np
import pytest

from keras_lapkl import schemes
from keras_lapkl.data import crops as crops_module
from keras_lapkl.data.annotations import Annotations
from keras_lapkl.data.cropping import (
    apply_transform,
    crop_squares,
    crop_transform,
    invert_transform,
    picture_squares,
)
from keras_lapkl.data.crops import Crops, load_crops
from keras_lapkl.data.images import ImageError
from keras_lapkl.data.readers.w300 import read_300w
from keras_lapkl.training_data import DataSet

NAN = float("nan")
PAIR = schemes.Scheme("pair", ("left", "right"), flip=(1, 0))


@pytest.fixture
def annotations(blob, tmp_path, rng):
    """Five photos of different sizes, each with a bright blob at its first landmark."""
    paths, landmarks = [], []
    for i in range(5):
        shape = (150 + 40 * i, 260 - 20 * i)
        first = rng.uniform(60, 80, 2)
        path = tmp_path / f"photo {i}.png"
        cv2.imwrite(str(path), blob(first, 6, shape))
        paths.append(path)
        landmarks.append([first, first + np.array([40, 10])])
    return Annotations(
        name="blobs",
        scheme=PAIR,
        paths=tuple(paths),
        landmarks=np.array(landmarks, np.float32),
        visible=np.ones((5, 2), bool),
        boxes=np.tile(np.float32([50, 50, 90, 140]), (5, 1)),
        source=DataSet("blobs", 5, kind="blobs"),
    )


class TestWholePictures:
    @pytest.fixture
    def whole(self, annotations):
        scheme = dataclasses.replace(PAIR, crop_from="image")
        return dataclasses.replace(annotations, scheme=scheme)

    def test_squares(self):
        np.testing.assert_array_equal(
            picture_squares([(640, 480), (3, 9)]), [[319.5, 239.5, 640], [1, 4, 9]]
        )

    def test_landmarks_lie_on_their_pixels(self, whole, centroid):
        """The longer edge of the picture fills the crop at crop scale 1, half of it at 2."""
        for scale in (1, 2):
            crops = load_crops(whole, image_size=64, crop_scale=scale, margin=3)
            assert crops.summary == "5 blobs; whole pictures"
            np.testing.assert_array_equal(crops.sizes[:2], [[260, 150], [240, 190]])
            expected = (whole.landmarks[0] - (129.5, 74.5)) * 64 / 260 / scale + 31.5
            np.testing.assert_allclose(crops.landmarks[0], expected, rtol=1e-5)
            for image, landmarks in zip(crops.images, crops.landmarks, strict=True):
                np.testing.assert_allclose(centroid(image) - 3, landmarks[0], atol=0.3)

    def test_cached(self, whole, tmp_path, monkeypatch):
        cache = tmp_path / "crops.npz"
        first = load_crops(whole, 48, 1, cache=cache)
        monkeypatch.setattr(crops_module, "read_image", None)
        again = load_crops(whole, 48, 1, cache=cache)
        np.testing.assert_array_equal(first.images, again.images)
        np.testing.assert_array_equal(first.transforms, again.transforms)
        with pytest.raises(TypeError):  # it reads anew
            load_crops(whole, 48, 1.5, cache=cache)

    def test_unreadable_ones_are_left_out(self, whole):
        whole.paths[1].write_bytes(b"junk")
        crops = load_crops(whole, 48, 1, skip_bad=True)
        assert len(crops) == len(crops.sizes) == 4
        assert crops.summary == "4 blobs; whole pictures; 1 unreadable images left out"

    def test_one_object_each(self, whole):
        with pytest.raises(ValueError, match=r"photo 3\.png: expected one object.*photo 3\.png"):
            load_crops(whole.take([0, 3, 1, 3]))

    @pytest.mark.parametrize("crop_scale", [0, NAN])
    def test_crop_scale(self, whole, crop_scale):
        with pytest.raises(ValueError, match="crop_scale"):
            load_crops(whole, crop_scale=crop_scale)


class TestLoadCrops:
    def test_by_boxes(self, annotations):
        scheme = dataclasses.replace(PAIR, crop_from="box")
        crops = load_crops(dataclasses.replace(annotations, scheme=scheme), 45, crop_scale=1)
        assert crops.summary == "5 blobs; cut by their boxes"
        # Box 40 x 90 about (70, 95), two photo pixels to one.
        expected = (annotations.landmarks - (70, 95)) / 2 + 22
        np.testing.assert_allclose(crops.landmarks, expected, atol=1e-4)

    def test_a_box_beside_the_picture(self, annotations):
        """The second photo has 240x190 pixels."""
        boxes = annotations.boxes.copy()
        boxes[1, [0, 2]] += 400
        scheme = dataclasses.replace(PAIR, crop_from="box")
        beside = dataclasses.replace(annotations, scheme=scheme, boxes=boxes)
        message = r"photo 1\.png.*a square about a part of the picture, which has 240x190 pixels"
        with pytest.raises(ImageError, match=message):
            load_crops(beside)

    def test_size_that_labels_were_made_for(self, annotations, tmp_path):
        sizes = np.array([[260, 150], [0, 0], [190, 220], [200, 270], [180, 310]], np.int32)
        wrong = dataclasses.replace(annotations, sizes=sizes)
        with pytest.raises(ImageError, match=r"photo 2\.png.* 190x220 .* picture of 220x230"):
            load_crops(wrong, cache=tmp_path / "crops.npz")
        sizes[2] = 220, 230
        assert len(load_crops(wrong, cache=tmp_path / "crops.npz")) == 5
        sizes[2] = 0, 1
        assert len(load_crops(wrong.take([2, 1]))) == 2
        sizes[2] = 230, 220
        with pytest.raises(ImageError):
            load_crops(wrong, cache=tmp_path / "crops.npz")

    @pytest.mark.parametrize("margin", [0, 12])
    def test_landmarks_lie_on_their_pixels(self, annotations, centroid, margin):
        crops = load_crops(annotations, image_size=48, crop_scale=4, margin=margin)
        assert crops.images.shape == (5, 48 + 2 * margin, 48 + 2 * margin, 3)
        assert crops.central().shape == (5, 48, 48, 3)
        assert crops.central().base is not None
        assert crops.inner == slice(margin, margin + 48) and crops.crop_from == "points"
        for image, landmarks in zip(crops.images, crops.landmarks, strict=True):
            np.testing.assert_allclose(centroid(image) - margin, landmarks[0], atol=0.1)

    def test_margin_leaves_the_center_as_it_is(self, annotations):
        plain, spare = (load_crops(annotations, 48, margin=margin) for margin in (0, 9))
        np.testing.assert_allclose(plain.images, spare.central().astype(int), atol=1)
        np.testing.assert_array_equal(plain.landmarks, spare.landmarks)
        np.testing.assert_array_equal(plain.transforms, spare.transforms)

    def test_transforms_lead_back_to_the_photo(self, annotations):
        crops = load_crops(annotations, 48, margin=5)
        photo = apply_transform(invert_transform(crops.transforms), crops.landmarks)
        np.testing.assert_allclose(photo, annotations.landmarks, atol=1e-4)

    def test_what_is_carried_over(self, annotations):
        crops = load_crops(annotations, 48, crop_scale=2.5)
        assert crops.names == tuple(map(str, annotations.paths))
        assert (crops.name, crops.summary, crops.scheme) == ("blobs", "5 blobs", PAIR)
        assert (crops.image_size, crops.margin, crops.crop_scale) == (48, 0, 2.5)
        assert crops.skipped == () and len(crops) == 5

    def test_boxes_in_crop_pixels(self, annotations):
        crops = load_crops(annotations, 48, crop_scale=4)  # longer edge 40: 160 px to 48
        sides = np.ptp(crops.cropped_boxes().reshape(-1, 2, 2), axis=1)
        np.testing.assert_allclose(sides, np.tile([12, 27], (5, 1)), rtol=1e-5)
        with pytest.raises(ValueError, match="blobs has no face boxes"):
            dataclasses.replace(crops, boxes=None).cropped_boxes()

    def test_hidden_landmarks(self, annotations):
        scheme = schemes.Scheme("three", ("a", "b", "c"), flip=(0, 1, 2))
        landmarks = np.pad(annotations.landmarks, ((0, 0), (0, 1), (0, 0)), constant_values=NAN)
        visible = np.ones((5, 3), bool)
        visible[0, 0] = False
        landmarks[0, 2] = landmarks[0, 0] + 9
        hidden = dataclasses.replace(
            annotations, scheme=scheme, landmarks=landmarks, visible=visible
        )
        crops = load_crops(hidden, 48)
        np.testing.assert_array_equal(
            crops.visible, [[False, True, True], *[[True, True, False]] * 4]
        )
        assert np.isnan(crops.landmarks[1:, 2]).all()

    def test_spread(self, annotations):
        crops = load_crops(annotations)
        names = crops.names
        assert crops.spread(len(names)).names == crops.spread(99).names == names
        assert crops.spread(1).names == names[:1]
        assert crops.spread(len(names) - 1).names == names[::2]

    def test_how_the_whole_was_loaded_is_not_known_of_a_part(self, annotations):
        """But of a sample that stands for it."""
        crops = load_crops(annotations, loaded={"dataset": "csv"})
        assert crops.take([0, 1]).loaded is crops.take(range(len(crops))).loaded is None
        assert crops.spread(2).loaded == crops.loaded == {"dataset": "csv"}
        assert crops.spread(2).digests().total() == crops.take([0, 3]).digests().total()

    def test_take(self, annotations):
        crops = load_crops(annotations, 48)
        some = crops.take([3, 0])
        assert some.names == (crops.names[3], crops.names[0])
        np.testing.assert_array_equal(some.images, crops.images[[3, 0]])
        np.testing.assert_array_equal(some.boxes, crops.boxes[[3, 0]])
        mask = np.arange(5) > 1
        np.testing.assert_array_equal(crops.take(mask).landmarks, crops.landmarks[2:])
        assert len(crops.take([])) == 0

    def test_shapes_are_checked(self, annotations):
        crops = load_crops(annotations, 48)
        with pytest.raises(ValueError, match=r"blobs: `images`.*48, 48, 3.*Received"):
            dataclasses.replace(crops, images=crops.images[:, 1:])

    def test_none(self, annotations):
        with pytest.raises(ValueError, match=r"blobs.*none"):
            load_crops(annotations.take(np.zeros(5, bool)))


class TestBadImages:
    def test_first_bad_one_stops(self, annotations):
        annotations.paths[3].write_bytes(b"")
        annotations.paths[1].write_bytes(b"junk")
        with pytest.raises(ImageError, match=r"photo 1\.png"):
            load_crops(annotations)

    def test_missing_one_stops(self, annotations):
        annotations.paths[2].unlink()
        with pytest.raises(FileNotFoundError, match=r"photo 2\.png"):
            load_crops(annotations)

    def test_skipped_and_listed(self, annotations):
        annotations.paths[1].write_bytes(b"junk")
        annotations.paths[3].unlink()
        good = load_crops(annotations.take([0, 2, 4]))
        crops = load_crops(annotations, skip_bad=True)
        assert [path for path, _ in crops.skipped] == [str(annotations.paths[i]) for i in (1, 3)]
        assert "junk" in crops.skipped[0][1]
        assert crops.summary == "3 blobs; 2 unreadable images left out"
        assert crops.names == good.names
        for field in ("images", "landmarks", "visible", "transforms", "boxes"):
            np.testing.assert_array_equal(getattr(crops, field), getattr(good, field))

    def test_all_bad_stops_always(self, annotations):
        for path in annotations.paths:
            path.write_bytes(b"junk")
        with pytest.raises(ImageError):
            load_crops(annotations, skip_bad=True)


def array_file(array):
    """Content of a .npy file."""
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


class TestCache:
    @pytest.fixture
    def reads(self, monkeypatch):
        """The photos read so far."""
        paths = []
        read_image = crops_module.read_image

        def counting(path):
            paths.append(path)
            return read_image(path)

        monkeypatch.setattr(crops_module, "read_image", counting)
        return paths

    def test_read_once(self, annotations, tmp_path, reads):
        cache = tmp_path / "new" / "crops.npz"
        first, second = (load_crops(annotations, 48, margin=3, cache=cache) for _ in range(2))
        assert len(reads) == 5
        for field in dataclasses.fields(Crops):
            np.testing.assert_array_equal(getattr(first, field.name), getattr(second, field.name))
        assert os.listdir(cache.parent) == ["crops.npz"]

    def test_skipped_are_remembered(self, annotations, tmp_path, reads):
        annotations.paths[1].write_bytes(b"junk")
        cache = tmp_path / "crops.npz"
        first, second = (load_crops(annotations, cache=cache, skip_bad=True) for _ in range(2))
        assert len(reads) == 5 and first.skipped == second.skipped != ()
        assert first.names == second.names and len(second) == 4
        with pytest.raises(ImageError):
            load_crops(annotations, cache=cache)

    @pytest.mark.parametrize("error", [MemoryError(), OSError("stale handle"), ImportError("heic")])
    def test_what_is_not_the_pictures_fault_is_tried_again(
        self, annotations, tmp_path, monkeypatch, error
    ):
        cache, read_image = tmp_path / "crops.npz", crops_module.read_image

        def failing(path):
            if path == annotations.paths[1]:
                if isinstance(error, ImportError):
                    raise ImageError("no program for it") from error
                raise error
            return read_image(path)

        with monkeypatch.context() as patched:
            patched.setattr(crops_module, "read_image", failing)
            assert len(load_crops(annotations, cache=cache, skip_bad=True)) == 4
        assert len(load_crops(annotations, cache=cache, skip_bad=True)) == 5

    @pytest.mark.parametrize(
        "change", [{"image_size": 40}, {"crop_scale": 2.0}, {"margin": 1}, {"skip_bad": True}]
    )
    def test_other_arguments(self, annotations, tmp_path, reads, change):
        cache = tmp_path / "crops.npz"
        load_crops(annotations, **{"image_size": 48, "cache": cache})
        crops = load_crops(annotations, **{"image_size": 48, "cache": cache, **change})
        assert len(reads) == 10
        plain = load_crops(annotations, **{"image_size": 48, **change})
        np.testing.assert_array_equal(crops.images, plain.images)

    def test_other_labels(self, annotations, tmp_path, reads):
        cache = tmp_path / "crops.npz"
        load_crops(annotations, cache=cache)
        load_crops(
            dataclasses.replace(annotations, landmarks=annotations.landmarks + 1), cache=cache
        )
        assert len(reads) == 10

    def test_other_photo(self, annotations, tmp_path, reads):
        cache = tmp_path / "crops.npz"
        load_crops(annotations, cache=cache)
        cv2.imwrite(str(annotations.paths[2]), np.full((200, 200, 3), 9, np.uint8))
        assert (load_crops(annotations, cache=cache).images[2] == 9).all()

    def test_other_photo_of_the_same_size_and_time(self, annotations, tmp_path, reads):
        """As tools leave them that set a file's time; the system's own can't be set."""
        cache, path = tmp_path / "crops.npz", annotations.paths[2]
        before = load_crops(annotations, cache=cache)
        data, state = bytearray(path.read_bytes()), path.stat()
        other = cv2.imencode(".png", np.full((200, 200, 3), 9, np.uint8))[1].tobytes()
        data[: len(other)] = other  # what follows a PNG's end is not read
        path.write_bytes(data)
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
        now = load_crops(annotations, cache=cache)
        assert (now.images[2] == 9).all()
        assert (before.digests().values != now.digests().values).sum() == 1

    @pytest.mark.parametrize(
        "damage",
        [
            lambda data: b"",
            lambda data: b"junk",
            lambda data: array_file(np.zeros(3)),
            lambda data: data.replace(b"fingerprint", b"fingerXXXXX"),
            lambda data: data[: len(data) // 2],
            lambda data: data[:3000] + b"\x55" * 100 + data[3100:],
        ],
    )
    def test_damaged_is_made_anew(self, annotations, tmp_path, reads, caplog, damage):
        cache = tmp_path / "crops.npz"
        first = load_crops(annotations, cache=cache)
        cache.write_bytes(damage(cache.read_bytes()))
        again = load_crops(annotations, cache=cache)
        np.testing.assert_array_equal(first.images, again.images)
        assert "crops.npz cannot be read" in caplog.text
        load_crops(annotations, cache=cache)
        assert len(reads) == 10


class TestProgress:
    @pytest.fixture
    def slow(self, monkeypatch):
        """A clock that ticks a second each time it is read."""
        ticks = iter(range(1000))
        monkeypatch.setattr(time, "monotonic", lambda: next(ticks))

    def test_slow(self, annotations, slow, capsys):
        load_crops(annotations)
        assert capsys.readouterr().err == "cropped 5 of 5 images\n"

    def test_off(self, annotations, slow, capsys):
        load_crops(annotations, progress=False)
        assert capsys.readouterr().err == ""

    def test_fast(self, annotations, capsys):
        load_crops(annotations)
        assert capsys.readouterr().err == ""


@pytest.mark.faces
@pytest.mark.parametrize(("crop_scale", "low", "high"), [(2, 9, 10), (3, 0.02, 0.06)])
def test_share_of_landmarks_cut_off(faces, crop_scale, low, high):
    annotations = read_300w(faces / "300w", "common")
    boxes = crop_squares(annotations.landmarks, annotations.scheme, crop_scale)
    landmarks = apply_transform(crop_transform(boxes), annotations.landmarks)
    lost = ((landmarks < -0.5) | (landmarks > 79.5)).any(-1)
    assert low < 100 * lost.mean() < high


@pytest.mark.faces
def test_real_faces(faces):
    annotations = read_300w(faces / "300w", "validation").take(range(0, 200, 10))
    crops = load_crops(annotations, margin=8)
    assert crops.images.shape == (20, 96, 96, 3) and crops.images.std() > 20
    # Eyes are darker than the cheeks below them, which lie between the eye and the mouth corner.
    gray = crops.central().mean(-1)
    right_eye, left_eye, _, right_mouth, left_mouth = np.moveaxis(
        crops.scheme.anchor_points(crops.landmarks), 1, 0
    )

    def brightness(points):
        x, y = np.round(points).astype(int).T
        return gray[np.arange(20), y, x]

    for eye, mouth in [(right_eye, right_mouth), (left_eye, left_mouth)]:
        assert (brightness(eye) < brightness((eye + mouth) / 2)).mean() > 0.8


class TestDigests:
    def test_are_of_files_and_labels_wherever_they_lie(self, annotations, tmp_path):
        first = load_crops(annotations, 48, margin=3)
        moved = tmp_path / "moved"
        moved.mkdir()
        paths = tuple(moved / path.name for path in annotations.paths)
        for old, new in zip(annotations.paths, paths, strict=True):
            new.write_bytes(old.read_bytes())
        second = load_crops(dataclasses.replace(annotations, paths=paths), 32)
        assert first.digests() == second.digests()
        kept = second.take([3, 1])
        assert kept.digests() == first.digests().take([3, 1])

    def test_changed_arrays_are_digested_anew(self, annotations):
        """What is in memory is trained on: it can't differ from its digests."""
        crops = load_crops(annotations, 48)
        with pytest.raises(ValueError, match="read-only"):
            crops.landmarks[0] += 1
        other = dataclasses.replace(crops, landmarks=crops.landmarks + 1)
        assert other.digests() != crops.digests()
        assert other.digests() == dataclasses.replace(other).digests()
