import importlib.metadata
import pickle
import subprocess
import sys
import types

import cv2
import numpy as np
import pytest

from keras_lapkl.data.cropping import crop_squares
from keras_lapkl.data.images import read_image
from keras_lapkl.data.pts import read_pts
from keras_lapkl.data.synthetic.faces import synthetic_faces
from keras_lapkl.detection import detections, detectors
from keras_lapkl.detection.detections import Detection
from keras_lapkl.detection.detectors import MTCNN, AutoDetector, BlazeFace, YuNet
from keras_lapkl.detection.first_pass import distance
from keras_lapkl.registries import DETECTORS
from keras_lapkl.schemes import IBUG68, Scheme

POINTS = [[30, 40], [50, 40], [40, 50], [33, 60], [47, 62]]
PAIR = Scheme("pair", ("a", "b"), flip=(1, 0))
BLANK = np.zeros((200, 300, 3), np.uint8)


@pytest.fixture(scope="module")
def crowd():
    """A photo of six painted faces in two rows, and their landmarks."""
    faces, labels = synthetic_faces(6, image_size=120)[:2]
    photo = np.full((300, 420, 3), 128, np.uint8)
    corners = [(20 + 135 * (i % 3) + 7 * (i // 3), 20 + 140 * (i // 3)) for i in range(6)]
    for face, (x, y) in zip(faces, corners, strict=True):
        photo[y : y + 120, x : x + 120] = face
    return photo, labels[..., :2] + np.array(corners)[:, None]


class TestDetection:
    def test_keeps_float64(self):
        found = Detection([1, 2, 3, 4], np.float32(0.5), POINTS)
        assert found.box.dtype == found.points.dtype == np.float64
        assert type(found.score) is float

    @pytest.mark.parametrize(
        "box",
        [
            (0, 0, 0, 9),
            (0, 9, 9, 9),
            (5, 0, 1, 9),
            (0, 0, 9),
            (0, 0, np.nan, 9),
            (0, 0, 1e300, 9),
            None,
        ],
    )
    def test_no_box(self, box):
        with pytest.raises(ValueError, match=r"x0 < x1 and y0 < y1\. Received: "):
            Detection(box)

    def test_no_score(self):
        with pytest.raises(ValueError, match="finite score"):
            Detection((0, 0, 9, 9), np.nan)

    @pytest.mark.parametrize("points", [POINTS[:4], np.full((5, 2), np.inf), 3])
    def test_no_points(self, points):
        with pytest.raises(ValueError, match="five points"):
            Detection((0, 0, 9, 9), points=points)


class TestSquares:
    def test_about_the_points_where_they_are_known(self):
        found = detections.squares([Detection((0, 0, 100, 80), 1, POINTS)], IBUG68)
        np.testing.assert_allclose(found, [[40, 51, 22]])

    def test_in_the_box_otherwise(self):
        """Longer edge 100: center a hundredth up, 0.42 as large, as AFLW's boxes have it."""
        found = detections.squares([Detection((0, 0, 100, 80))], IBUG68, lambda photo: [])
        np.testing.assert_allclose(found, [[50, 39, 42]])

    def test_by_the_detectors_own_proportions(self):
        """Center 0.1 edges down, half as large."""
        own = types.SimpleNamespace(five_by_box=0.5, five_below_box=0.1)
        found = detections.squares([Detection((0, 0, 100, 80))], IBUG68, own)
        np.testing.assert_allclose(found, [[50, 50, 50]])

    def test_the_whole_box_without_five_points(self):
        found = detections.squares([Detection((0, 0, 100, 80), 1, POINTS)], PAIR)
        np.testing.assert_allclose(found, [[50, 40, 100]])

    def test_five_points_in_one_place_are_none(self):
        found = detections.squares([Detection((0, 0, 100, 80), 1, [[9, 9]] * 5)], IBUG68)
        np.testing.assert_allclose(found, [[50, 39, 42]])

    def test_none_found(self):
        assert detections.squares([], IBUG68).shape == (0, 3)
        assert detections.rotated_squares([], IBUG68).shape == (0, 4)

    def test_turned_where_the_points_say_so(self):
        """Eyes 20 apart and the mouth 21 straight below; then a quarter to the right."""
        right = np.array(POINTS)[:, ::-1] * (-1, 1)
        found = [Detection((-90, 0, 10, 80), 1, right), Detection((0, 0, 100, 80))]
        squares = detections.rotated_squares(found, IBUG68)
        np.testing.assert_allclose(squares, [[-51, 40, 22, np.pi / 2], [50, 39, 42, 0]])
        unturned = detections.rotated_squares(found[:1], PAIR)
        np.testing.assert_allclose(unturned, [[-40, 40, 100, 0]])


class TestTurnedBack:
    @pytest.mark.parametrize("quarters", [0, 1, 2, 3])
    def test_undoes_the_turn_exactly(self, quarters):
        """Pixels that are marked in the photo are found in the copy, and come back."""
        photo = np.zeros((30, 50), np.uint8)
        marks = [(7, 5), (21, 6), (13, 14), (9, 20), (22, 19)]
        for i, (x, y) in enumerate(marks):
            photo[y, x] = i + 1
        copy = np.rot90(photo, quarters)
        points = [np.argwhere(copy == i + 1)[0, ::-1] for i in range(5)]
        box = (*np.min(points, 0), *np.max(points, 0))
        found = detections.turned_back(Detection(box, 0.5, points), quarters, 50, 30)
        np.testing.assert_array_equal(found.points, marks)
        np.testing.assert_array_equal(found.box, (7, 5, 22, 20))
        assert found.score == 0.5 and found.angle == quarters * np.pi / 2

    @pytest.mark.parametrize("quarters", [1, 2, 3])
    def test_a_box_without_points_is_rotated_as_its_copy_was(self, quarters):
        """The square lies where it would in the upright copy."""
        (upright,) = detections.rotated_squares([Detection((10, 20, 30, 40))], IBUG68)
        found = detections.turned_back(Detection((10, 20, 30, 40)), quarters, 60, 50)
        (square,) = detections.rotated_squares([found], IBUG68)
        x, y = upright[:2]
        place = {1: (59 - y, x), 2: (59 - x, 49 - y), 3: (y, 49 - x)}[quarters]
        np.testing.assert_allclose(square, [*place, upright[2], quarters * np.pi / 2])


class TestDistinct:
    def test_the_surest_of_boxes_that_overlap(self):
        boxes = np.array([[0, 0, 10, 10], [2, 0, 12, 10], [8, 0, 18, 10], [30, 0, 20, 10]], float)
        np.testing.assert_array_equal(detections.distinct(boxes, np.array([1, 3, 2, 9])), [1, 2])

    def test_a_small_box_in_a_large_one(self):
        # Of the second 16 of 36 in the first, of the last 28; the fourth is a child's face.
        boxes = [[0, 0, 10, 10], [6, 6, 12, 12], [9, 9, 15, 15], [2, 2, 6, 6], [-2, 3, 5, 9]]
        scores = np.array([5, 4, 3, 2, 1])
        kept = detections.distinct(np.array(boxes), scores)
        np.testing.assert_array_equal(kept, [0, 1, 2, 3, 4])
        kept = detections.distinct(np.array(boxes), scores, of_smaller=True)
        np.testing.assert_array_equal(kept, [0, 1, 2, 3])
        assert detections.distinct(np.empty((0, 4)), np.empty(0)).shape == (0,)


class TestFromName:
    def test_unknown(self):
        with pytest.raises(ValueError, match=r"auto, blazeface, yunet, mtcnn\. Received: 'haar'"):
            detectors.from_name("haar")

    def test_settings_that_are_none_are_the_defaults(self, mtcnn):
        found = detectors.from_name("mtcnn", min_confidence=None, min_size=50)
        assert found == MTCNN(min_size=50)

    def test_not_installed(self, monkeypatch):
        def version(name):
            raise importlib.metadata.PackageNotFoundError(name)

        monkeypatch.setattr(importlib.metadata, "version", version)
        with pytest.raises(ImportError, match=r"pip install 'keras_lapkl\[mtcnn\]'"):
            detectors.from_name("mtcnn")

    @pytest.mark.parametrize(
        ("entry", "told"),
        [
            (lambda photo: [], "missing a required argument: 'photo'"),
            (lambda min_size=20: abs, "unexpected keyword argument 'min_confidence'"),
            (lambda min_size=20, min_confidence=0: abs, "without `settings`"),
        ],
    )
    def test_what_can_not_be_chosen_by_its_name(self, monkeypatch, entry, told):
        monkeypatch.setitem(DETECTORS, "mine", entry)
        with pytest.raises(ValueError, match=f"'mine': expected a .*MakesDetector.*{told}"):
            detectors.from_name("mine", min_size=40)


@pytest.mark.parametrize("kind", [AutoDetector, BlazeFace, YuNet])
class TestOnPaintedFaces:
    def test_all_from_left_to_right(self, kind, crowd):
        photo, labels = crowd
        found = kind()(photo)
        true = crop_squares(labels, IBUG68, crop_scale=1)
        assert len(found) in (5, 6)
        for square in detections.squares(found, IBUG68):
            assert min(distance(expected, square) for expected in true) < 0.35
        middles = [each.box[0] + each.box[2] for each in found]
        assert middles == sorted(middles)
        assert all(0.6 <= each.score <= 1 for each in found)

    def test_coordinates_are_of_the_photo_whatever_its_size(self, kind, crowd):
        photo, _ = crowd
        detect = kind()
        large = cv2.resize(photo, None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC)
        found, larger = detect(photo), detect(large)
        assert len(found) == len(larger)
        for name in ("box", "points"):
            moves = [
                (getattr(other, name) + 0.5) / 3 - 0.5 - getattr(one, name)
                for one, other in zip(found, larger, strict=True)
            ]
            assert np.median(np.abs(moves)) < 4
            assert abs(np.median(moves)) < 2

    def test_smallest_size_and_confidence(self, kind, crowd):
        photo, _ = crowd
        found = kind(min_size=100)(photo)
        assert len(found) < len(kind()(photo))
        assert all(np.ptp(each.box.reshape(2, 2), axis=0).max() >= 100 for each in found)
        assert kind(min_size=200)(photo) == []
        assert kind(min_confidence=1)(photo) == []

    def test_a_box_beside_the_photo_is_left_out(self, kind, monkeypatch):
        boxes = [Detection((-90, 5, -20, 75), 0.9), Detection((5, 5, 75, 75), 0.9)]
        monkeypatch.setattr(kind, "_look", lambda self, photo: boxes)
        assert kind()(np.zeros((99, 99, 3), np.uint8)) == [boxes[1]]

    def test_gray(self, kind, crowd):
        gray = np.repeat(crowd[0].mean(2, keepdims=True).astype(np.uint8), 3, axis=2)
        assert len(kind()(gray)) >= 5

    def test_does_not_change_the_photo(self, kind, crowd):
        photo = crowd[0].copy()
        photo.flags.writeable = False
        first, second = (kind()(photo) for _ in range(2))
        np.testing.assert_array_equal(photo, crowd[0])
        np.testing.assert_array_equal([f.box for f in first], [f.box for f in second])

    @pytest.mark.parametrize("shape", [(1, 1), (1, 400), (400, 1), (9, 9), (33, 31)])
    def test_no_face_in_a_photo_of_any_size(self, kind, shape, rng):
        detect = kind()
        assert detect(np.zeros((*shape, 3), np.uint8)) == []
        assert detect(rng.integers(0, 256, (*shape, 3), np.uint8)) == []

    @pytest.mark.parametrize(
        "photo", [np.zeros((9, 9), np.uint8), BLANK.astype(np.float32), BLANK[..., :0], BLANK[:0]]
    )
    def test_bad_photos(self, kind, photo):
        with pytest.raises(ValueError, match="of uint8 in RGB order"):
            kind()(photo)

    def test_a_frame_of_a_mapped_file(self, kind, crowd, tmp_path):
        np.save(tmp_path / "video.npy", crowd[0][None])
        frame = np.load(tmp_path / "video.npy", mmap_mode="r")[0]
        assert str(kind(min_size=50)(frame)) == str(kind(min_size=50)(crowd[0]))

    def test_pictures_of_pillow(self, kind, crowd):
        picture = pytest.importorskip("PIL.Image").fromarray(crowd[0])
        found, again = kind(min_size=50)(crowd[0]), kind(min_size=50)(picture)
        assert str(again) == str(found) != "[]"
        for mode in ("HSV", "YCbCr", "RGBA", "L"):
            with pytest.raises(ValueError, match=rf"of mode {mode}\. Call its convert\('RGB'\)"):
                kind()(picture.convert(mode))

    def test_pickles_with_a_loaded_network(self, kind, crowd):
        detect = kind(min_size=50)
        detect(crowd[0])
        copy = pickle.loads(pickle.dumps(detect))
        assert copy == detect
        assert len(copy(crowd[0])) == len(detect(crowd[0]))

    def test_settings(self, kind):
        detect = kind(min_size=50)
        assert detect.settings == kind(min_size=50.0).settings
        assert detect.settings != kind(min_size=51).settings
        others = {AutoDetector, BlazeFace, YuNet} - {kind}
        assert all(detect.settings != other(min_size=50).settings for other in others)
        assert (
            str(detect) == f"{kind.__name__} where its confidence is ≥ 0.6 and the face ≥ 50 pixels"
        )

    @pytest.mark.slow
    def test_imports_neither_tensorflow_nor_the_package(self, kind):
        code = (
            "import sys, numpy as np\n"
            f"from keras_lapkl.detection.detectors import {kind.__name__} as kind\n"
            "kind()(np.zeros((90, 120, 3), np.uint8))\n"
            "assert not {'tensorflow', 'keras', 'PIL'} & set(sys.modules)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.returncode == 0 and not done.stderr, done.stderr


class TestYuNet:
    def test_points_are_at_pixel_centers(self):
        """A photo and its mirror image: with another zero they would differ by a pixel."""
        face = synthetic_faces(1, image_size=120)[0][0]
        photo = np.full((200, 200, 3), 128, np.uint8)
        photo[40:160, 40:160] = face
        (found,), (mirrored,) = (
            YuNet()(each) for each in (photo, np.ascontiguousarray(photo[:, ::-1]))
        )
        back = 199 - mirrored.box[[2, 0]]
        assert abs((back - found.box[[0, 2]]).mean()) < 0.5

    def test_a_face_that_fills_a_large_photo(self):
        """Its second look sees it: at first 1.5 times what the network takes well."""
        detect = YuNet(min_size=24)
        face, labels = (each[0] for each in synthetic_faces(1, image_size=150)[:2])
        face = cv2.resize(face, None, fx=12, fy=12, interpolation=cv2.INTER_CUBIC)
        found = detections.squares(detect(face), IBUG68)
        expected = crop_squares(((labels[:, :2] + 0.5) * 12 - 0.5)[None], IBUG68, crop_scale=1)[0]
        assert min(distance(expected, square) for square in found) < 0.35

    def test_one_face_in_both_looks_is_one(self):
        detect = YuNet()
        face = synthetic_faces(1, image_size=120)[0][0]
        photo = np.full((1300, 1300, 3), 128, np.uint8)
        photo[300:800, 200:700] = cv2.resize(face, (500, 500), interpolation=cv2.INTER_CUBIC)
        assert len(detect(photo)) == 1


class TestAutoDetector:
    @pytest.fixture
    def looks(self, monkeypatch):
        """What was called, of networks that find what is put into `found`."""
        calls, found = [], {"blazeface": [], "yunet": [], "hidden": []}

        def blazeface(self, photo):
            calls.append("blazeface")
            return found["blazeface"]

        def hidden(self, photo):
            calls.append("hidden")
            return found["hidden"]

        def find_in(self, photo, shrink):
            calls.append(round(shrink * max(photo.shape[:2])))
            return found["yunet"]

        monkeypatch.setattr(BlazeFace, "find_clear", blazeface)
        monkeypatch.setattr(BlazeFace, "find_hidden", hidden)
        monkeypatch.setattr(YuNet, "_find_in", find_in)
        return calls, found

    def test_large_faces_are_blazefaces_alone(self, looks):
        calls, found = looks
        found["blazeface"] = [Detection((10, 10, 49, 46), 0.7), Detection((100, 10, 199, 46), 0.8)]
        assert AutoDetector()(BLANK) == found["blazeface"]
        assert calls == ["blazeface"]  # 36 and 99 pixels are 12 and 33 % of 300

    def test_yunet_where_none_is_large(self, looks):
        calls, found = looks
        found["blazeface"] = [Detection((100, 10, 198, 46), 0.8)]
        found["yunet"] = [Detection((10, 10, 40, 40), 0.7), Detection((101, 10, 198, 46), 0.9)]
        assert AutoDetector()(BLANK) == [found["yunet"][0], found["blazeface"][0]]
        assert calls == ["blazeface", 300]

    @pytest.mark.parametrize(("side", "looked"), [(300, 300), (1280, 1280), (6000, 1280)])
    def test_yunet_where_there_is_none(self, looks, side, looked):
        calls, found = looks
        found["yunet"] = [Detection((10, 10, 40, 40), 0.7)]
        photo = np.zeros((side // 2, side, 3), np.uint8)
        assert AutoDetector()(photo) == found["yunet"]
        assert calls == ["blazeface", looked]

    def test_hidden_faces_where_there_is_no_other(self, looks):
        """A crowd in half size may look like one large face."""
        calls, found = looks
        found["hidden"] = [Detection((10, 10, 200, 200), 0.7)]
        assert AutoDetector()(BLANK) == found["hidden"]
        assert calls == ["blazeface", 300, "hidden"]

    def test_small_faces_are_yunets_and_large_ones_blazefaces(self, looks):
        calls, found = looks
        large, small, only = (10, 10, 120, 90), (130, 100, 160, 130), (200, 100, 230, 130)
        blazeface = [Detection(large, 0.7), Detection(small, 0.9), Detection(only, 0.6)]
        nearly = [np.array(box) + 1 for box in (large, small)]
        other = Detection((170, 150, 190, 170), 0.6)
        yunet = [Detection(nearly[0], 0.99), Detection(nearly[1], 0.8), other]
        found.update(blazeface=blazeface, yunet=yunet)
        assert AutoDetector()(BLANK) == [blazeface[0], yunet[1], other, blazeface[2]]
        assert calls == ["blazeface", 300]

    def test_a_group(self):
        """BlazeFace finds no face of 40 pixels in a photo of 1,600; YuNet in 1,280 does."""
        faces = synthetic_faces(12, image_size=100)[0]
        photo = np.full((1200, 1600, 3), 128, np.uint8)
        for i, face in enumerate(faces):
            x, y = 150 + 400 * (i % 4), 100 + 300 * (i // 4)
            photo[y : y + 100, x : x + 100] = face
        assert len(BlazeFace()(photo)) < 6
        assert len(AutoDetector()(photo)) == 12
        assert AutoDetector(min_size=5)(photo)  # smaller than YuNet takes

    def test_many_boxes_take_no_long_time(self, rng):
        """Of noise, down to any confidence: each would be compared with all others."""
        photo = rng.integers(0, 256, (720, 1280, 3), np.uint8)
        with YuNet(0.0)._networks.borrowed() as network:
            network.setInputSize((1280, 720))
            assert len(network.detect(photo)[1]) <= 1000

    def test_minimum_of_size_and_confidence_are_those_of_both(self):
        detect = AutoDetector(0.7, 64)
        both = {**YuNet(0.7, 64).settings, **BlazeFace(0.7, 64).settings}
        assert detect.settings == both | {"auto": detect._version}


class TestBlazeFace:
    @pytest.mark.parametrize("turn", [cv2.ROTATE_90_CLOCKWISE, cv2.ROTATE_90_COUNTERCLOCKWISE])
    def test_turned_faces(self, turn):
        detect = BlazeFace()
        faces = synthetic_faces(10, image_size=160)[0]
        assert sum(len(detect(cv2.rotate(face, turn))) == 1 for face in faces) >= 8

    @pytest.mark.parametrize("shape", [(200, 200), (160, 310), (311, 160), (400, 400)])
    def test_a_face_under_single_bright_and_dark_pixels(self, shape, rng, monkeypatch):
        """Where it is in the clean photo; both halves are in the photo's pixels."""
        face = synthetic_faces(1, image_size=150, seed=4)[0][0]
        photo = np.full((*shape, 3), 128, np.uint8)
        photo[shape[0] - 155 : shape[0] - 5, shape[1] - 155 : shape[1] - 5] = face
        detect = BlazeFace()
        (clean,) = detect(photo)
        (half,) = detect._find_in_half(*detectors._resized(photo, 256 / max(shape)))
        assert np.abs(half.box - clean.box).max() < 6
        assert np.abs(half.points - clean.points).max() < 10
        photo[rng.random(shape) < 0.06] = 0
        photo[rng.random(shape) < 0.06] = 255
        monkeypatch.setattr(BlazeFace, "_find_in_half", lambda *_: [])
        assert not detect(photo)
        monkeypatch.undo()
        (found,) = detect(photo)
        assert np.abs(found.box - clean.box).max() < 16

    def test_finds_faces_under_strong_noise(self, crowd):
        photo, landmarks = crowd
        detect, rng = BlazeFace(), np.random.default_rng(0)
        noisy = photo + 40 * rng.normal(size=photo.shape)
        noisy = np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
        found = detect(noisy)
        assert len(found) >= 2  # none in the photo as it is
        centers = landmarks.mean(1)
        for each in found:
            middle = (each.box[:2] + each.box[2:]) / 2
            assert np.linalg.norm(centers - middle, axis=1).min() < 30
        assert not detect(BLANK)


class FakeMTCNN:
    """Answers as mtcnn does with faces in the photo as given, two of them at its edges."""

    faces = np.array(
        [
            # photo, box, confidence, five x, five y
            [0, 60, 10, 110, 70, 0.99, 70, 90, 80, 72, 88, 30, 30, 40, 50, 50],
            [0, -5, 20, 25, 55, 0.96, 2, 18, 10, 4, 16, 30, 30, 38, 46, 46],
            [0, 40, 10, 70, 45, 0.90, 45, 65, 55, 47, 63, 20, 20, 28, 36, 36],
            [0, 40, 70, 60, 90, 0.99, 45, 55, 50, 47, 53, 75, 75, 80, 85, 85],
        ]
    )

    def detect_faces(self, image, **arguments):
        assert arguments == {
            "fit_to_image": False,
            "box_format": "xyxy",
            "output_type": "numpy",
        }
        self.shape = image.shape
        return self.faces.copy()


@pytest.fixture
def mtcnn(monkeypatch):
    """A package mtcnn with `FakeMTCNN`."""
    versions = importlib.metadata.version
    monkeypatch.setattr(
        importlib.metadata, "version", lambda name: "1.0.0" if name == "mtcnn" else versions(name)
    )
    monkeypatch.setitem(sys.modules, "mtcnn", types.SimpleNamespace(MTCNN=FakeMTCNN))


class TestMTCNN:
    def test_sure_and_large_faces_from_left_to_right(self, mtcnn):
        """At half size: coordinates double about the pixels' edges."""
        detect = MTCNN(min_size=40)
        found = detect(BLANK)
        with detect._networks.borrowed() as network:
            assert network.shape == (100, 150, 3)
        boxes = [
            (-9.5, 40.5, 50.5, 110.5),
            (80.5, 140.5, 120.5, 180.5),
            (120.5, 20.5, 220.5, 140.5),
        ]
        np.testing.assert_allclose([each.box for each in found], boxes)
        np.testing.assert_allclose(found[0].points[:3], [(4.5, 60.5), (36.5, 60.5), (20.5, 76.5)])
        assert [each.score for each in found] == [0.96, 0.99, 0.99]

    def test_smallest_size(self, mtcnn, monkeypatch):
        photo = np.zeros((500, 500, 3), np.uint8)
        assert len(MTCNN(min_size=100)(photo)) == 3  # at a fifth, 20 pixels are large enough
        smaller = FakeMTCNN.faces.copy()
        smaller[3, 3:5] -= 1
        monkeypatch.setattr(FakeMTCNN, "faces", smaller)
        assert len(MTCNN(min_size=100)(photo)) == 2

    def test_too_small_for_its_first_network(self, mtcnn):
        assert MTCNN(min_size=40)(np.zeros((23, 500, 3), np.uint8)) == []

    def test_nothing_found(self, mtcnn, monkeypatch):
        monkeypatch.setattr(FakeMTCNN, "faces", np.empty((0, 16)))
        assert MTCNN()(BLANK) == []

    def test_pickles(self, mtcnn):
        detect = MTCNN(0.9, 50)
        detect(BLANK)
        assert pickle.loads(pickle.dumps(detect)) == detect

    def test_settings(self, mtcnn):
        assert MTCNN(min_size=40).settings == MTCNN(min_size=40.0).settings
        assert MTCNN().settings == {"mtcnn": "1.0.0", "min_confidence": 0.95, "min_size": 40.0}
        assert MTCNN.default_workers == 1

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"min_confidence": 1.1}, "min_confidence"),
            ({"min_size": 19}, "at least 20"),
            ({"min_size": np.inf}, "at least 20. Received: inf"),
            ({"min_size": np.nan}, "at least 20. Received: nan"),
        ],
    )
    def test_ranges(self, mtcnn, arguments, message):
        with pytest.raises(ValueError, match=message):
            MTCNN(**arguments)


@pytest.mark.faces
@pytest.mark.parametrize("name", DETECTORS)
def test_agrees_with_labels(faces, name):
    if name == "mtcnn":
        pytest.importorskip("mtcnn", reason="mtcnn is not installed")
    detect = detectors.from_name(name)
    for path in sorted((faces / "photos").glob("*.jpg"))[:6]:
        points = read_pts(path.with_suffix(".pts"))
        expected = crop_squares(points[None], IBUG68, 1)[0]
        found = detections.squares(detect(read_image(path)), IBUG68)
        assert min(distance(expected, square) for square in found) < 0.25, path
