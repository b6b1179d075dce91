import importlib.metadata
import pickle
import sys
import types

import numpy as np
import pytest

from keras_lapkl import schemes
from keras_lapkl.data import locate
from keras_lapkl.data.crops import crop_box
from keras_lapkl.data.images import ImageError, read_image
from keras_lapkl.data.locate import ByBox, ByDetector, ByModel, FaceError
from keras_lapkl.tflite import runner

CORNERS = schemes.Scheme("corners", ("first", "last"), flip=(1, 0))


def photo(square, shape=(300, 400)):
    """Black, with a white square."""
    x, y, side = square
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    inside = (abs(columns - x) <= side / 2) & (abs(rows - y) <= side / 2)
    return np.repeat(np.uint8(255 * inside)[..., None], 3, axis=2)


class FindsWhite:
    """A localizer whose landmarks are the corners of what is white, unsure where that is cut."""

    image_size = 240
    crop_scale = 3.0
    scheme = CORNERS

    def __init__(self, path):
        self.looks = 0

    def __call__(self, crop):
        self.looks += 1
        found = np.argwhere(crop[..., 0] > 127)[:, ::-1]
        if not len(found):
            return np.full((2, 2), 120.0), np.full((2, 2), 20.0)
        corners = np.stack([found.min(0) - 0.5, found.max(0) + 0.5])
        cut = found.min() == 0 or found.max() == self.image_size - 1
        return corners, np.full((2, 2), 5.0 if cut else 1.0)


@pytest.fixture
def model(monkeypatch, tmp_path):
    """The path of a model that is `FindsWhite`."""
    monkeypatch.setattr(runner, "TFLiteLocalizer", FindsWhite)
    path = tmp_path / "first.tflite"
    path.write_bytes(b"weights")
    return path


class TestByBox:
    def test_edges_of_the_photo_are_half_a_pixel_out(self):
        """x -0.5..99.5, y 24.5..74.5 of 200 x 100 pixels."""
        square = ByBox((0, 0.25, 0.5, 0.75))(np.zeros((100, 200, 3), np.uint8))
        np.testing.assert_allclose(square, [[49.5, 49.5, 100]])

    @pytest.mark.parametrize(
        "box", [(0, 0, 0, 1), (0.5, 0, 0.4, 1), (0, 0, 1, 1.1), (-0.1, 0, 1, 1), (0, 0, 1)]
    )
    def test_no_box(self, box):
        with pytest.raises(ValueError, match=r"x0 < x1 ≤ 1.*Received: "):
            ByBox(box)

    def test_settings(self):
        assert ByBox((0, 0, 1, 1)).settings == ByBox((0.0, 0.0, 1.0, 1.0)).settings
        assert ByBox((0, 0, 1, 1)).settings != ByBox((0, 0, 1, 0.5)).settings
        assert "0,0,1,0.5" in str(ByBox((0, 0, 1, 0.5)))


class TestByModel:
    @pytest.mark.parametrize(
        "square",
        [(199.5, 149.5, 100), (189.5, 139.5, 60), (229.5, 169.5, 80), (149.5, 129.5, 40)],
    )
    def test_goes_where_the_landmarks_are(self, model, square):
        found = ByModel(model, settled=0.02)(photo(square))
        np.testing.assert_allclose(found, [square], atol=0.04 * square[2])

    def test_begins_at_the_box(self, model):
        """Two white squares; which one is found is the box's to say."""
        both = np.maximum(photo((60, 60, 30)), photo((330, 220, 40)))
        first = ByModel(model, box=(0.1, 0.1, 0.2, 0.3))(both)
        last = ByModel(model, box=(0.75, 0.65, 0.9, 0.8))(both)
        np.testing.assert_allclose(first, [(60, 60, 30)], atol=2)
        np.testing.assert_allclose(last, [(330, 220, 40)], atol=2)

    def test_stops_as_soon_as_it_is_settled(self, model):
        square = (199.5, 149.5, 134)
        find = ByModel(model, box=(1 / 3, 5 / 18, 2 / 3, 13 / 18))
        find(photo(square))
        assert find._localizer.looks == 1

    def test_one_in_the_middle_of_a_large_photo(self, model):
        found = ByModel(model)(photo((500, 400, 200), (800, 1000)))
        np.testing.assert_allclose(found, [(500, 400, 200)], atol=8)

    def test_unsure(self, model, monkeypatch):
        monkeypatch.setattr(
            FindsWhite, "__call__", lambda *_: ([[79.5, 79.5], [159.5, 159.5]], [[2.0] * 2])
        )
        with pytest.raises(FaceError, match=r"mean scale 2\.00 px, at most 1\.6 wanted"):
            ByModel(model)(photo((200, 150, 100)))
        ByModel(model, max_scale=2)(photo((200, 150, 100)))

    def test_never_settles(self, model, monkeypatch):
        monkeypatch.setattr(
            FindsWhite, "__call__", lambda *_: ([[99.5, 79.5], [179.5, 159.5]], [[1.0] * 2])
        )
        with pytest.raises(FaceError, match=r"still moves by 0\.2"):
            ByModel(model)(photo((200, 150, 100)))

    def test_nothing_there(self, model):
        with pytest.raises(FaceError, match="all landmarks in one point"):
            ByModel(model)(np.zeros((90, 120, 3), np.uint8))

    def test_not_finite(self, model, monkeypatch):
        nan = np.full((2, 2), np.nan)
        monkeypatch.setattr(FindsWhite, "__call__", lambda *_: (nan, nan))
        with pytest.raises(ImageError):
            ByModel(model)(photo((200, 150, 100)))

    def test_any_number_of_landmarks(self, model, monkeypatch):
        k = 7
        scheme = schemes.Scheme("k", tuple("abcdefg"), tuple(range(k)))
        row = np.column_stack([np.linspace(79.5, 159.5, k), np.full(k, 119.5)])
        monkeypatch.setattr(FindsWhite, "scheme", scheme)
        monkeypatch.setattr(FindsWhite, "__call__", lambda *_: (row, np.ones((k, 2))))
        assert ByModel(model)(photo((200, 150, 100))).shape == (1, 3)

    @pytest.mark.parametrize("missing", ["crop_scale", "scheme"])
    def test_model_without_its_rule(self, model, monkeypatch, missing):
        monkeypatch.setattr(FindsWhite, missing, None)
        with pytest.raises(ValueError, match=r"first\.tflite does not say"):
            ByModel(model)

    @pytest.mark.parametrize("name", ["max_scale", "settled", "rounds"])
    def test_ranges(self, model, name):
        with pytest.raises(ValueError, match=f"`{name}` must be > 0"):
            ByModel(model, **{name: 0})

    def test_missing_file(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"none\.tflite"):
            ByModel(tmp_path / "none.tflite")

    def test_pickles(self, model):
        original = ByModel(model, (0, 0, 1, 1), 3, 0.1, 4)
        copy = pickle.loads(pickle.dumps(original))
        assert copy == original and copy._localizer is not original._localizer

    def test_settings_are_of_the_weights_not_of_the_path(self, model, tmp_path):
        other = tmp_path / "other.tflite"
        other.write_bytes(b"weights")
        assert ByModel(other).settings == ByModel(model).settings
        other.write_bytes(b"other weights")
        assert ByModel(other).settings != ByModel(model).settings
        assert "first.tflite" in str(ByModel(model))


class FakeMTCNN:
    """Answers as mtcnn does with two faces, one of them at the edge, in the photo as given."""

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


class TestByDetector:
    def test_sure_and_large_faces_from_left_to_right(self, mtcnn):
        """At half size: coordinates double about the pixels' edges."""
        detector = ByDetector(min_size=40)
        found = detector(np.zeros((200, 300, 3), np.uint8))
        assert detector._detector.shape == (100, 150, 3)
        # Five points x 2..18, y 30..46 and x 70..90, y 30..50.
        expected = [[20.5, 76.5, 32], [160.5, 80.5, 40], [100.5, 160.5, 20]]
        np.testing.assert_allclose(found, sorted(expected))

    def test_smallest_size(self, mtcnn, monkeypatch):
        found = ByDetector(min_size=100)(np.zeros((500, 500, 3), np.uint8))
        assert len(found) == 3  # at a fifth, 20 pixels are large enough
        smaller = FakeMTCNN.faces.copy()
        smaller[3, 3:5] -= 1
        monkeypatch.setattr(FakeMTCNN, "faces", smaller)
        assert len(ByDetector(min_size=100)(np.zeros((500, 500, 3), np.uint8))) == 2

    def test_too_small_for_its_first_network(self, mtcnn):
        assert ByDetector(min_size=40)(np.zeros((23, 500, 3), np.uint8)).shape == (0, 3)

    def test_nothing_found(self, mtcnn, monkeypatch):
        monkeypatch.setattr(FakeMTCNN, "faces", np.empty((0, 16)))
        assert ByDetector()(np.zeros((200, 300, 3), np.uint8)).shape == (0, 3)

    def test_pickles(self, mtcnn):
        detector = ByDetector(0.9, 50)
        assert pickle.loads(pickle.dumps(detector)) == detector

    def test_settings(self, mtcnn):
        assert ByDetector(min_size=40).settings == ByDetector(min_size=40.0).settings
        assert ByDetector().settings["mtcnn"] == "1.0.0"
        assert ByDetector.default_workers == 1

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [({"min_confidence": 1.1}, "min_confidence"), ({"min_size": 19}, "at least 20")],
    )
    def test_ranges(self, mtcnn, arguments, message):
        with pytest.raises(ValueError, match=message):
            ByDetector(**arguments)

    def test_not_installed(self, monkeypatch):
        def version(name):
            raise importlib.metadata.PackageNotFoundError(name)

        monkeypatch.setattr(importlib.metadata, "version", version)
        with pytest.raises(ImportError, match=r"pip install 'keras_lapkl\[mtcnn\]'"):
            ByDetector()

    @pytest.mark.faces
    def test_agrees_with_labels(self, faces):
        pytest.importorskip("mtcnn", reason="mtcnn is not installed")
        from keras_lapkl.data import read_pts

        detector = ByDetector()
        for path in sorted((faces / "photos").glob("*.jpg"))[:6]:
            points = read_pts(path.with_suffix(".pts"))
            expected = crop_box(points[None], schemes.IBUG68, 1)[0]
            found = detector(read_image(path))
            distances = [locate.distance(expected, square) for square in found]
            assert min(distances) < 0.15, path
