import csv
import dataclasses
import json
import os
import pathlib
import shutil
import unittest.mock

import cv2
import numpy as np
import pytest

from keras_lapkl._support import stores
from keras_lapkl._support.csv_names import read_name
from keras_lapkl._support.folders import owned
from keras_lapkl.data.annotations import Annotations
from keras_lapkl.data.cropping import crop_transform, warp_crop
from keras_lapkl.data.crops import load_crops
from keras_lapkl.data.images import ImageError, read_image
from keras_lapkl.data.synthetic.faces import synthetic_faces
from keras_lapkl.data.unlabeled import shards
from keras_lapkl.data.unlabeled.listing import state_of
from keras_lapkl.detection.first_pass import ByBox
from keras_lapkl.schemes import Scheme


@pytest.fixture(autouse=True)
def here(request, monkeypatch):
    """Does the work in this process, to save time, unless a test is about the processes."""
    if "processes" not in request.fixturenames:
        monkeypatch.setattr(
            shards,
            "map_in_order",
            lambda cut, batches, workers, died: (
                cut(photo) for batch in batches for photo in batch
            ),
        )


@pytest.fixture
def processes(monkeypatch):
    """Lets worker processes import this module, by whatever command pytest was begun."""
    monkeypatch.syspath_prepend(pathlib.Path(__file__).parents[3])


LOCATE = ByBox((0.3, 0.3, 0.7, 0.7))
SMALL = {"image_size": 32, "margin": 6, "shard_size": 5, "workers": 1, "progress": False}


@dataclasses.dataclass(frozen=True)
class Turned:
    """The middle of each photo, rotated by an angle."""

    angle: float

    default_workers = 1

    @property
    def settings(self):
        return {"by": "turned", "angle": self.angle}

    def __call__(self, photo):
        return np.array([[23.5, 23.5, 16.0, self.angle]])


@dataclasses.dataclass(frozen=True)
class FromPixels:
    """As many faces as the first pixel says; the process dies, or a bug strikes, as it says."""

    default_workers = None
    settings = {"by": "pixels"}  # noqa: RUF012

    def __call__(self, photo):
        said = int(photo[0, 0, 0])
        if said == 250:
            os.abort()
        if said == 251:
            raise ZeroDivisionError("a bug")
        return np.array([[20 + 5 * i, 30, 15] for i in range(said)], float).reshape(-1, 3)

    def __str__(self):
        return "by pixels"


@pytest.fixture(scope="module")
def pictures():
    return synthetic_faces(12, image_size=48)[0]


@pytest.fixture
def folder(tmp_path, pictures):
    """Twelve faces in PNG files, in folders whose names are no ASCII, in the order of names."""
    folder = tmp_path / "photos ü"
    (folder / "a b").mkdir(parents=True)
    for i, face in enumerate(pictures):
        name = f"a b/{i:02d}.png" if i < 7 else f"é{i:02d}.png"
        write(folder / name, face)
    return folder


def write(path, image):
    path.write_bytes(cv2.imencode(".png", image[..., ::-1])[1].tobytes())


def crop(folder, output, locate=LOCATE, **changes):
    return shards.crop_folder(folder, output, locate, **{**SMALL, **changes})


def contents(folder):
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}


def skipped(folder):
    with (folder / "skipped.csv").open(newline="") as stream:
        header, *rows = csv.reader(stream)
    assert header == ["photo", "part", "reason"]
    return {photo: f"{part}: {reason}" if part else reason for photo, part, reason in rows}


class TestRoundTrip:
    def test_faces_are_cut_by_the_rule(self, folder, pictures, tmp_path):
        crop(folder, tmp_path / "out")
        found = shards.read_shards(tmp_path / "out")
        assert len(found) == 12
        assert (found.image_size, found.margin, found.crop_scale) == (32, 6, 3.0)
        (square,) = LOCATE(pictures[0])
        transform = crop_transform(square * (1, 1, 3.0), 32, 6)
        expected = np.stack([warp_crop(face, transform, 44) for face in pictures])
        np.testing.assert_array_equal(found.gather(np.arange(12)), expected)

    def test_whole_pictures_are_cut_as_labeled_ones(self, pictures, tmp_path):
        paths = tuple(tmp_path / "in" / f"{i}.png" for i in range(3))
        paths[0].parent.mkdir()
        for path, picture in zip(paths, pictures, strict=False):
            write(path, picture[:30])
        crop(tmp_path / "in", tmp_path / "out", shards.WholePictures(), crop_scale=1.0)
        found = shards.read_shards(tmp_path / "out")
        assert found.crop_from == found.take(2).crop_from == "image"
        points = np.full((3, 1, 2), 9, np.float32)
        scheme = Scheme("one", ("point",), crop_from="image")
        labels = Annotations("labeled", scheme, paths, points, np.ones((3, 1), bool))
        crops = load_crops(labels, image_size=32, crop_scale=1.0, margin=6)
        np.testing.assert_array_equal(found.gather(range(3)), crops.images)
        assert shards.from_crops(crops).crop_from == "image"

    def test_summary(self, folder, tmp_path):
        (folder / "bad.jpg").touch()
        crop(folder, tmp_path / "out")
        found = shards.read_shards(tmp_path / "out")
        assert found.name == "photos ü"
        assert found.summary == (
            "photos ü: 12 faces without labels from 13 photos, cropped by the box "
            "0.3,0.3,0.7,0.7 of each photo; 1 photos skipped"
        )

    def test_tensorflow_reads_the_records(self, folder, tmp_path):
        import tensorflow as tf  # not above: the workers import this module

        features = {
            "image": tf.io.FixedLenFeature([], tf.string),
            "source": tf.io.FixedLenFeature([], tf.string),
            "square": tf.io.FixedLenFeature([3], tf.float32),
        }
        crop(folder, tmp_path / "out")
        files = sorted(map(str, (tmp_path / "out").glob("*.tfrecord")))
        assert [os.path.basename(file) for file in files] == [
            f"faces-{i:05d}-of-00003.tfrecord" for i in range(3)
        ]
        found = shards.read_shards(tmp_path / "out")
        for i, record in enumerate(tf.data.TFRecordDataset(files)):
            parsed = tf.io.parse_single_example(record, features)
            image = tf.io.decode_png(parsed["image"]).numpy()
            np.testing.assert_array_equal(image, found.gather([i])[0])
            name = f"a b/{i:02d}.png" if i < 7 else f"é{i:02d}.png"
            assert parsed["source"].numpy().decode() == name
            np.testing.assert_allclose(parsed["square"], [23.5, 23.5, 0.4 * 48], rtol=1e-6)
        assert i == 11

    def test_rotated_crops_say_their_angle(self, tmp_path):
        (tmp_path / "in").mkdir()
        photo = np.arange(48 * 48, dtype=np.uint16).reshape(48, 48, 1) % 251
        write(tmp_path / "in" / "a.png", np.repeat(photo, 3, axis=2).astype(np.uint8))
        for name in ("upright", "turned"):
            crop(tmp_path / "in", tmp_path / name, Turned(0.0 if name == "upright" else np.pi))
        upright, turned = (
            shards.read_shards(tmp_path / n).gather([0])[0] for n in ("upright", "turned")
        )
        np.testing.assert_array_equal(turned, upright[::-1, ::-1])
        (record,) = (tmp_path / "turned").glob("*.tfrecord")
        assert b"angle" in record.read_bytes()

    def test_many_faces_in_a_photo_and_none(self, tmp_path):
        (tmp_path / "in").mkdir()
        for i, count in enumerate((2, 0, 3)):
            write(tmp_path / "in" / f"{i}.png", np.full((40, 60, 3), count, np.uint8))
        about = crop(tmp_path / "in", tmp_path / "out", FromPixels())
        assert (about["faces"], about["skipped"]) == (5, 1)
        found = shards.read_shards(tmp_path / "out").gather(np.arange(5))
        assert (found[:, 0, 0, 0] == [2, 2, 3, 3, 3]).all()
        assert skipped(tmp_path / "out") == {"1.png": "no face found"}

    def test_a_shard_may_be_empty(self, folder, tmp_path):
        for path in (folder / "a b").glob("*"):
            path.write_bytes(b"")
        crop(folder, tmp_path / "out")
        assert (tmp_path / "out" / "faces-00000-of-00003.tfrecord").stat().st_size == 0
        assert len(shards.read_shards(tmp_path / "out")) == 5

    def test_relative_folders(self, folder, tmp_path, monkeypatch):
        crop(folder, tmp_path / "out")
        monkeypatch.chdir(folder)
        crop(".", "../other")
        assert contents(tmp_path / "other") == contents(tmp_path / "out")

    def test_from_crops(self, folder):
        from keras_lapkl.data import datasets

        crops = datasets.load("synthetic", num_synthetic=4, image_size=32)
        found = shards.from_crops(crops)
        assert (len(found), found.image_size, found.margin, found.crop_scale) == (4, 32, 0, 3.0)
        assert found.summary == "4 synthetic faces; without their labels"
        np.testing.assert_array_equal(found.gather([3, 1]), crops.images[[3, 1]])


class TestSameResult:
    def test_whatever_the_number_of_workers(self, processes, folder, tmp_path):
        (folder / "bad.jpg").write_bytes(b"text")
        crop(folder, tmp_path / "one", workers=1)
        crop(folder, tmp_path / "three", workers=3)
        assert contents(tmp_path / "one") == contents(tmp_path / "three")
        assert len(contents(tmp_path / "one")) == 3 * 2 + 2

    def test_again_is_nothing_to_do(self, folder, tmp_path, monkeypatch):
        about = crop(folder, tmp_path / "out")
        before = contents(tmp_path / "out")
        monkeypatch.setattr(shards, "_write_shard", None)
        assert crop(folder, tmp_path / "out") == about
        assert contents(tmp_path / "out") == before

    @pytest.mark.parametrize("missing", ["tfrecord", "npz"])
    def test_only_what_is_missing_is_made(self, folder, tmp_path, missing):
        out = tmp_path / "out"
        crop(folder, out)
        before = contents(out)
        kept = out / "faces-00000-of-00003.tfrecord"
        inode = kept.stat().st_ino
        (out / f"faces-00001-of-00003.{missing}").unlink()
        with pytest.raises(ValueError, match=r"faces-00001-of-00003\.tfrecord is damaged"):
            shards.read_shards(out)
        crop(folder, out)
        assert contents(out) == before and kept.stat().st_ino == inode

    def test_a_cluster_needs_its_extra(self, folder, tmp_path, monkeypatch):
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        with pytest.raises(ModuleNotFoundError, match=r"pip install 'keras_lapkl\[cluster\]'"):
            crop(folder, tmp_path / "out", workers=None, scheduler="tcp://host:8786")
        assert not (tmp_path / "out").exists()

    def test_a_cluster_has_its_own_workers(self, folder, tmp_path):
        with pytest.raises(ValueError, match=r"`scheduler` has its own: drop one"):
            crop(folder, tmp_path / "out", workers=2, scheduler="tcp://host:8786")

    def test_what_a_machine_cannot_read_is_in_doubt(self, folder):
        """And not what is wrong with the photo itself."""
        (folder / "text.png").write_bytes(b"text")
        names = ("gone.png", "text.png")
        gone, text = (
            shards._cut(folder, LOCATE, 32, 6, 3.0, (name, state_of(folder / name)))
            for name in names
        )
        assert gone.doubt == f"{folder / 'gone.png'}: No such file or directory"
        assert text.doubt == "" and not text.faces and text.left_out

    def test_what_could_not_be_read_is_told_each_time(self, folder, tmp_path, monkeypatch, caplog):
        read, about = shards.read_image, []

        def denied(path):
            if path.name == "00.png":
                raise PermissionError(13, "Permission denied")
            return read(path)

        monkeypatch.setattr(shards, "read_image", denied)
        for _ in range(2):
            caplog.clear()
            about.append(crop(folder, tmp_path / "out"))
            said = f"1, such as a b/00.png: Permission denied. To try them again, delete {tmp_path}"
            assert said in caplog.text
        assert about[0] == about[1] and about[0]["skipped"] == 1
        monkeypatch.setattr(shards, "read_image", read)
        shutil.rmtree(tmp_path / "out")
        caplog.clear()
        assert crop(folder, tmp_path / "out")["skipped"] == 0
        assert "try them again" not in caplog.text

    def test_where_none_could_be_read_the_same_call_tries_again(
        self, folder, tmp_path, monkeypatch
    ):
        def denied(path):
            raise ImageError(f"{path}: HEIC needs an extra") from ModuleNotFoundError("pillow_heif")

        with monkeypatch.context() as patch:
            patch.setattr(shards, "read_image", denied)
            with pytest.raises(ValueError, match=r"No face in any .*HEIC needs an extra"):
                crop(folder, tmp_path / "out")
        assert crop(folder, tmp_path / "out")["faces"] == 12

    def test_two_calls_at_once(self, folder, tmp_path):
        with owned(tmp_path / "out"), pytest.raises(OSError, match="written to by process"):
            crop(folder, tmp_path / "out")
        assert not list((tmp_path / "out").iterdir())

    @pytest.mark.parametrize("name", ["skipped.csv", "results.json", "faces-00000-of-00009.npz"])
    def test_files_of_something_else_stay(self, folder, tmp_path, name):
        (tmp_path / name).write_text("mine")
        with pytest.raises(ValueError, match=f"{name} is there already"):
            crop(folder, tmp_path)
        assert (tmp_path / name).read_text() == "mine"

    def test_what_a_killed_run_left_is_removed(self, folder, tmp_path):
        left = tmp_path / "out" / ".lapkl-abcdefgh"
        left.mkdir(parents=True)
        (left / "_.tfrecord").touch()
        crop(folder, tmp_path / "out")
        assert not left.exists()


@dataclasses.dataclass(frozen=True)
class OneBeside:
    """Two faces in each photo, one of them beside it."""

    settings = {"by": "two"}  # noqa: RUF012
    default_workers = 1

    def __call__(self, photo):
        return np.array([[20.0, 20, 10], [5000, 5000, 10]])


class TestBadPhotos:
    def test_are_listed_with_the_reason(self, folder, pictures, tmp_path):
        whole = (folder / "é07.png").read_bytes()
        bad = {
            "0 empty.png": (b"", "an empty file"),
            "1 text.jpg": (b"hello", "expected a JPEG, PNG, BMP or WebP file"),
            "2 cut.png": (whole[:500], "truncated"),
            "3 bomb.png": (whole[:16] + b"\x00\x00\xff\xff" * 2 + whole[24:], "megapixels"),
        }
        for name, (data, _) in bad.items():
            (folder / name).write_bytes(data)
        os.symlink(folder / "nowhere.png", folder / "4 link.png")
        bad["4 link.png"] = (b"", "No such file")
        about = crop(folder, tmp_path / "out")
        assert (about["faces"], about["skipped"]) == (12, 5)
        reasons = skipped(tmp_path / "out")
        assert reasons.keys() == bad.keys()
        for name, (_, reason) in bad.items():
            assert reason in reasons[name] and str(tmp_path) not in reasons[name]

    def test_other_files_are_counted_and_named(self, folder, tmp_path):
        (folder / "a.TIF").write_bytes(b"II*\0" + bytes(20))
        for name in ("a.txt", "b.TXT", "clip.mp4", ".hidden.png", "README"):
            (folder / name).touch()
        about = crop(folder, tmp_path / "out")
        assert (about["used"], about["skipped"], about["settings"]["photos"]) == (12, 1, 13)
        others = {".txt": 2, ".mp4": 1, "hidden": 1, "no suffix": 1}
        assert about["passed_by"] == others
        assert "Save it as JPEG or PNG" in skipped(tmp_path / "out")["a.TIF"]

    def test_overlays_are_no_photos(self, folder, tmp_path):
        """Else the dots that are drawn on them are learned."""
        overlays = folder / "found/overlays"
        (overlays / "below").mkdir(parents=True)
        photo = next(folder.glob("*.png"))
        for name in ("a.overlay.jpg", "below/b.overlay.jpg", "c.jpg"):
            shutil.copy(photo, overlays / name)
        shutil.copy(photo, folder / "d.overlay.jpg")
        about = crop(folder, tmp_path / "out")
        assert about["passed_by"] == {"overlays of lapkl predict": 2}
        assert about["used"] == 14
        crop(overlays, tmp_path / "those", workers=1)  # asked for by name
        for file in folder.rglob("*.*"):
            if file.is_file() and ("overlays" not in file.parts or file.name == "c.jpg"):
                file.unlink()
        with pytest.raises(ValueError, match="Received: overlays of lapkl predict"):
            crop(folder, tmp_path / "none")

    def test_one_face_beside_the_photo_costs_no_other(self, folder, tmp_path):
        about = crop(folder, tmp_path / "out", OneBeside())
        assert (about["faces"], about["used"], about["skipped"]) == (12, 12, 0)
        reasons = skipped(tmp_path / "out")
        assert len(reasons) == 12
        assert all(each.startswith("face 2 of 2: Expected a square") for each in reasons.values())

    def test_gone_or_changed_after_listing(self, folder, tmp_path, monkeypatch):
        def claim(*arguments):
            """Comes after listing."""
            (folder / "é08.png").unlink()
            shutil.copy(folder / "a b" / "03.png", folder / "é09.png")

        monkeypatch.setattr(shards, "claim", claim)
        (tmp_path / "out").mkdir()
        crop(folder, tmp_path / "out")
        assert skipped(tmp_path / "out") == {
            "é08.png": "No such file or directory",
            "é09.png": "changed after it was listed",
        }

    def test_a_bug_or_a_dead_process_costs_one_photo(self, processes, tmp_path):
        (tmp_path / "in").mkdir()
        for i, said in enumerate((1, 250, 251, 1)):
            write(tmp_path / "in" / f"{i}.png", np.full((40, 60, 3), said, np.uint8))
        about = crop(tmp_path / "in", tmp_path / "out", FromPixels())
        assert about["faces"] == 2
        assert skipped(tmp_path / "out") == {
            "1.png": "the process that read it died",
            "2.png": "ZeroDivisionError: a bug",
        }

    def test_all_bad(self, tmp_path):
        (tmp_path / "in").mkdir()
        for i in range(7):
            (tmp_path / "in" / f"{i}.jpg").touch()
        match = r"No face in any of 7 photos; .*skipped\.csv lists them.*0\.jpg: .*empty"
        with pytest.raises(ValueError, match=match):
            crop(tmp_path / "in", tmp_path / "out")
        with pytest.raises(ValueError, match="not finished"):
            shards.read_shards(tmp_path / "out")

    def test_names_that_are_no_text(self, folder, tmp_path, pictures):
        name = os.fsdecode(b"\xff\xfe.png")
        write(folder / name, pictures[0])
        (folder / f"bad{name}").touch()
        assert crop(folder, tmp_path / "out")["faces"] == 13
        with (tmp_path / "out" / "skipped.csv").open(newline="", encoding="utf-8") as stream:
            assert read_name(list(csv.reader(stream))[1][0]) == f"bad{name}"

    def test_links_in_a_circle(self, folder, tmp_path):
        os.symlink(folder, folder / "a b" / "again")
        assert crop(folder, tmp_path / "out")["faces"] == 12


class TestClaim:
    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"image_size": 48}, "image_size: 32 there, 48 now"),
            ({"margin": 0}, "margin: 6 there, 0 now"),
            ({"crop_scale": 2}, "crop_scale: 3.0 there, 2.0 now"),
            ({"shard_size": 6}, "shard_size"),
            ({"locate": ByBox((0, 0, 1, 1))}, "locate"),
        ],
    )
    def test_other_settings(self, folder, tmp_path, change, said):
        crop(folder, tmp_path / "out")
        before = contents(tmp_path / "out")
        with pytest.raises(ValueError, match="other photos or settings") as error:
            crop(folder, tmp_path / "out", **change)
        assert said in str(error.value)
        assert contents(tmp_path / "out") == before

    def test_other_photos(self, folder, tmp_path, pictures):
        crop(folder, tmp_path / "out")
        os.utime(folder / "é09.png", (1, 1))
        with pytest.raises(
            ValueError, match=r"out holds faces of other photos: .*12 there, 12 now"
        ):
            crop(folder, tmp_path / "out")
        write(folder / "more.png", pictures[0])
        with pytest.raises(ValueError, match="12 there, 13 now"):
            crop(folder, tmp_path / "out")

    def test_equal_settings_of_other_types(self, folder, tmp_path):
        crop(folder, tmp_path / "out", crop_scale=3)
        crop(folder, tmp_path / "out", crop_scale=3.0)

    def test_a_moved_folder_is_the_same(self, folder, tmp_path):
        crop(folder, tmp_path / "out")
        moved = folder.rename(tmp_path / "moved")
        crop(moved, tmp_path / "out")

    def test_a_shard_of_another_run(self, folder, tmp_path):
        crop(folder, tmp_path / "out")
        crop(folder, tmp_path / "other", ByBox((0.2, 0.3, 0.6, 0.7)))
        for suffix in (".tfrecord", ".npz"):
            name = f"faces-00002-of-00003{suffix}"
            shutil.copy(tmp_path / "other" / name, tmp_path / "out" / name)
        with pytest.raises(ValueError, match=r"faces-00002-of-00003\.tfrecord is damaged"):
            shards.read_shards(tmp_path / "out")


class TestReading:
    def test_what_is_a_folder_of_shards(self, folder, tmp_path):
        assert not shards.is_shard_folder(folder)
        assert not shards.is_shard_folder(tmp_path / "nowhere")
        crop(folder, tmp_path / "out")
        assert shards.is_shard_folder(tmp_path / "out")

    def test_photos_are_no_shards(self, folder):
        with pytest.raises(FileNotFoundError, match=r"no shards\.json.*lapkl crop"):
            shards.read_shards(folder)

    def test_unfinished(self, folder, tmp_path):
        crop(folder, tmp_path / "out")
        path = tmp_path / "out" / "shards.json"
        about = json.loads(path.read_text())
        del about["faces"]
        path.write_text(json.dumps(about))
        with pytest.raises(ValueError, match="out is not finished"):
            shards.read_shards(tmp_path / "out")
        crop(folder, tmp_path / "out")
        assert len(shards.read_shards(tmp_path / "out")) == 12

    @pytest.mark.parametrize("content", [b"", b"{", b"PK\x03\x04 no zip"])
    @pytest.mark.parametrize("name", ["faces-00001-of-00003.npz", "shards.json"])
    def test_damaged_index(self, folder, tmp_path, name, content):
        crop(folder, tmp_path / "out")
        (tmp_path / "out" / name).write_bytes(content)
        with pytest.raises(ValueError, match=name.removesuffix(".npz")):
            shards.read_shards(tmp_path / "out")

    @pytest.mark.parametrize(
        "settings",
        [
            {"photos": 10**12},
            {"shard_size": 0},
            {"image_size": 10**9},
            {"margin": -1},
            {"crop_scale": None},
            {"photos": "12"},
        ],
    )
    def test_damaged_settings(self, folder, tmp_path, settings):
        crop(folder, tmp_path / "out")
        path = tmp_path / "out" / "shards.json"
        about = json.loads(path.read_text())
        path.write_text(json.dumps({**about, "settings": {**about["settings"], **settings}}))
        with pytest.raises(ValueError, match=r"shards\.json is damaged"):
            shards.read_shards(tmp_path / "out")

    def test_an_index_that_leads_out_of_its_shard(self, folder, tmp_path):
        crop(folder, tmp_path / "out")
        path = tmp_path / "out" / "faces-00001-of-00003.npz"
        stored = dict(np.load(path))
        stored["images"]["length"][0] = 2**32 - 1
        np.savez(path, **stored)
        with pytest.raises(ValueError, match=r"faces-00001-of-00003\.tfrecord is damaged"):
            shards.read_shards(tmp_path / "out")

    def test_cut_shard(self, folder, tmp_path):
        crop(folder, tmp_path / "out")
        path = tmp_path / "out" / "faces-00001-of-00003.tfrecord"
        path.write_bytes(path.read_bytes()[:-1])
        with pytest.raises(ValueError, match=path.name):
            shards.read_shards(tmp_path / "out")

    def test_changed_byte(self, folder, tmp_path):
        crop(folder, tmp_path / "out")
        path = tmp_path / "out" / "faces-00001-of-00003.tfrecord"
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
        found = shards.read_shards(tmp_path / "out")
        with pytest.raises(ValueError, match=f"{path.name} is damaged at byte"):
            found.gather(np.arange(12))


class TestStores:
    """Photos or shards in an object store, here this process's memory."""

    @pytest.fixture
    def store(self):
        memory = pytest.importorskip("fsspec").filesystem("memory")
        memory.pipe_file("/bucket/keep", b"")
        yield memory
        memory.rm("/bucket", recursive=True)

    @pytest.fixture
    def photos(self, store, folder):
        """The photos of `folder`, and bad ones, there and in the store."""
        (folder / "bad.png").write_bytes(b"text")
        (folder / "empty.png").write_bytes(b"")
        (folder / "notes.txt").write_bytes(b"")
        (folder / "a b" / ".hidden.png").write_bytes(b"")
        (folder / "a b" / "50% #1?.png").write_bytes(next(folder.glob("é*")).read_bytes())
        for path in filter(pathlib.Path.is_file, folder.rglob("*")):
            store.pipe_file(f"/bucket/photos/{path.relative_to(folder)}", path.read_bytes())
        return "memory://bucket/photos"

    def contents(self, store, folder):
        return {name.rpartition("/")[2]: store.cat(name) for name in store.ls(folder, detail=False)}

    def test_shards_are_those_of_local_files(self, store, photos, folder, tmp_path):
        about = crop(folder, tmp_path / "out")
        crop(folder, "memory://bucket/out")
        assert self.contents(store, "/bucket/out") == contents(tmp_path / "out")
        assert crop(photos, "memory://bucket/both")["passed_by"] == about["passed_by"]
        crop(photos, tmp_path / "from")
        assert self.contents(store, "/bucket/both") == contents(tmp_path / "from")
        ours, theirs = contents(tmp_path / "from"), contents(tmp_path / "out")
        assert len(theirs) == 8
        for name in theirs:  # the others tell names, sizes and times of what was listed
            if not name.endswith((".npz", ".json")):
                assert ours[name] == theirs[name], name
        found = [shards.read_shards(each) for each in ("memory://bucket/both", tmp_path / "out")]
        np.testing.assert_array_equal(*(each.gather(range(13)) for each in found))
        np.testing.assert_array_equal(*(each.part(3, 9).digests() for each in found))
        assert shards.is_shard_folder("memory://bucket/both")
        assert not shards.is_shard_folder(photos)

    def test_only_what_is_missing_is_made(self, store, photos):
        crop(photos, "memory://bucket/out")
        first = self.contents(store, "/bucket/out")
        store.rm("/bucket/out/faces-00001-of-00003.npz")
        store.pipe_file("/bucket/out/faces-00002-of-00003.tfrecord", b"damaged")
        put, real = [], stores.StorePath.put
        with unittest.mock.patch.object(
            stores.StorePath, "put", lambda self, file: put.append(self) or real(self, file)
        ):
            crop(photos, "memory://bucket/out")
        assert self.contents(store, "/bucket/out") == first
        made = {path.name for path in put}
        assert len(made) == 6 and not any("00000" in name for name in made)

    def test_gone_or_changed_after_listing(self, store, photos, monkeypatch):
        original = type(store).cat_file

        def cat(memory, path, start=None, end=None):
            if path.endswith("a b/01.png"):
                store.rm(path)
            if path.endswith("a b/02.png"):
                store.pipe_file(path, original(memory, "/bucket/photos/a b/03.png"))
            return original(memory, path, start, end)

        monkeypatch.setattr(type(store), "cat_file", cat)
        crop(photos, "memory://bucket/out")
        monkeypatch.undo()
        rows = store.cat("/bucket/out/skipped.csv").decode().splitlines()
        assert "a b/01.png,,No such file or directory" in rows
        assert "a b/02.png,,changed after it was listed" in rows
        with pytest.raises(ValueError, match="holds faces of other photos"):
            crop(photos, "memory://bucket/out")

    def test_one_that_does_not_answer_leaves_nothing_out(self, store, photos, monkeypatch):
        original = type(store).cat_file

        def cat(memory, path, start=None, end=None):
            if path.endswith("a b/06.png"):
                raise RuntimeError("connection reset")
            return original(memory, path, start, end)

        with monkeypatch.context() as patch:
            patch.setattr(type(store), "cat_file", cat)
            with pytest.raises(stores.StoreError, match=r"06.png: the store does not answer"):
                crop(photos, "memory://bucket/out")
        assert sorted(self.contents(store, "/bucket/out")) == [
            "faces-00000-of-00003.npz",
            "faces-00000-of-00003.tfrecord",
            "shards.json",
        ]
        assert crop(photos, "memory://bucket/out")["used"] == 13

        def fail(*args, **kwargs):
            raise RuntimeError("connection reset")

        monkeypatch.setattr(type(store), "cat_file", fail)  # damage is another thing
        with pytest.raises(stores.StoreError, match="the store does not answer"):
            shards.read_shards("memory://bucket/out")
        with pytest.raises(stores.StoreError, match="the store does not answer"):
            crop(photos, "memory://bucket/out")

    def test_other_settings_and_other_files(self, store, photos):
        crop(photos, "memory://bucket/out")
        with pytest.raises(ValueError, match="image_size: 32 there, 16 now"):
            crop(photos, "memory://bucket/out", image_size=16)
        store.pipe_file("/bucket/mine/skipped.csv", b"")
        with pytest.raises(ValueError, match=r"memory://bucket/mine/skipped.csv is there already"):
            crop(photos, "memory://bucket/mine")

    def test_no_photos(self, store, tmp_path):
        with pytest.raises(NotADirectoryError, match="none at memory://bucket/none"):
            crop("memory://bucket/none", tmp_path / "out")
        with pytest.raises(ImageError, match=r"memory://bucket: expected files .*1 no suffix"):
            crop("memory://bucket", tmp_path / "out")
        assert not (tmp_path / "out").exists()


class TestArguments:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"image_size": 0}, "`image_size` must be at least 1"),
            ({"margin": -1}, "`margin` must be at least 0"),
            ({"shard_size": 0}, "`shard_size`"),
            ({"workers": 0}, "`workers`"),
            ({"crop_scale": 0}, "`crop_scale`"),
            ({"crop_scale": float("nan")}, "`crop_scale`"),
        ],
    )
    def test_ranges(self, folder, tmp_path, change, message):
        with pytest.raises(ValueError, match=message):
            crop(folder, tmp_path / "out", **change)
        assert not (tmp_path / "out").exists()

    def test_no_photos(self, tmp_path):
        with pytest.raises(NotADirectoryError):
            crop(tmp_path / "nowhere", tmp_path / "out")
        with pytest.raises(ImageError, match="none"):
            crop(tmp_path, tmp_path / "out")


def test_progress(capsys, monkeypatch):
    now = iter(range(100))
    monkeypatch.setattr("time.monotonic", lambda: next(now))
    results = [(["face"], []), ([], [("", "bad")]), (["face"], [("face 2 of 2", "bad")])]
    assert list(shards._watched(iter(results), 3)) == results
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("cropped 3 of 3 photos, 1 skipped, 0.") and last.endswith("0:00:00 left")


@pytest.mark.faces
def test_real_faces(faces, tmp_path):
    folder = tmp_path / "in"
    for name in ("utkface", "lfw"):
        (folder / name).mkdir(parents=True)
        for path in sorted((faces / "unlabeled" / name).iterdir())[:20]:
            os.symlink(path, folder / name / path.name)
    crop(folder, tmp_path / "out", shard_size=16, image_size=80, margin=16)
    found = shards.read_shards(tmp_path / "out")
    assert found.gather(np.arange(40)).shape == (40, 112, 112, 3)
    first = read_image(sorted((folder / "lfw").iterdir())[0])
    (square,) = LOCATE(first)
    expected = warp_crop(first, crop_transform(square * (1, 1, 3), 80, 16), 112)
    np.testing.assert_array_equal(found.gather([0])[0], expected)
