import dataclasses
import importlib.metadata
import importlib.util
import pickle

import numpy as np
import pytest

from keras_lapkl import schemes
from keras_lapkl.data.cropping import crop_squares
from keras_lapkl.data.images import ImageError
from keras_lapkl.data.synthetic.faces import synthetic_faces
from keras_lapkl.detection import detectors
from keras_lapkl.detection.detections import Detection
from keras_lapkl.detection.first_pass import ByBox, ByDetector, ByModel, FaceError
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
    calibration = None

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
    @pytest.mark.parametrize("crop_from", ["box", "image"])
    def test_of_what_is_not_cropped_by_its_points(self, model, monkeypatch, crop_from):
        scheme = dataclasses.replace(schemes.IBUG68, crop_from=crop_from)
        monkeypatch.setattr(FindsWhite, "scheme", scheme)
        with pytest.raises(ValueError, match=f"crops from the {crop_from}.*cropped by its points"):
            ByModel(model)

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

    @pytest.mark.parametrize("name", ["max_scale", "settled", "passes"])
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


class TestByModelOfFaces:
    """By a shipped model: a painted face that fills most of a photo, at any angle."""

    @pytest.fixture
    def find(self):
        return ByModel("fpn-eighth-300w-int8")

    @pytest.fixture
    def face(self):
        faces, labels = synthetic_faces(1, image_size=160, seed=4)
        return faces[0], labels[..., :2]

    @pytest.mark.parametrize("quarters", [1, 2, 3])
    def test_rotated(self, find, face, quarters):
        photo, labels = face
        (upright,) = find(photo)
        assert upright.shape == (3,)
        np.testing.assert_allclose(upright, crop_squares(labels, schemes.IBUG68, 1)[0], atol=6)
        (found,) = find(np.ascontiguousarray(np.rot90(photo, quarters)))
        x, y = upright[:2]
        place = {1: (y, 159 - x), 2: (159 - x, 159 - y), 3: (159 - y, x)}[quarters]
        np.testing.assert_allclose(found[:3], (*place, upright[2]), atol=4)
        away = found[3] + quarters * np.pi / 2
        assert abs(np.angle(np.exp(1j * away))) <= np.pi / 4 + 1e-9

    def test_no_face(self, find, rng):
        photo = rng.integers(0, 256, (160, 160, 3), np.uint8)
        with pytest.raises(FaceError, match=r"no (sure )?face found"):
            find(photo)


class TestByDetector:
    def test_five_points_squares_from_left_to_right(self, monkeypatch):
        found = [
            Detection((0, 0, 90, 90), 0.97, [(30, 30), (70, 30), (50, 40), (40, 50), (60, 50)]),
            Detection(
                (-40, 2, 8, 50), 0.96, [(-31, 20), (-13, 20), (-22, 25), (-28, 40), (-16, 40)]
            ),
            Detection((10, 30, 60, 80), 0.95, [(20, 40), (40, 40), (30, 50), (25, 60), (35, 60)]),
            Detection((45, 50, 89, 94), 0.95, [(60, 70), (70, 70), (65, 75), (62, 80), (68, 80)]),
        ]
        monkeypatch.setattr(importlib.metadata, "version", lambda name: "9")
        monkeypatch.setattr(detectors.MTCNN, "_look", lambda self, photo: found)
        squares = ByDetector(detector="mtcnn")(np.zeros((100, 100, 3), np.uint8))
        # The third is half of the first face, the fourth a child before it.
        np.testing.assert_allclose(squares, [[-22, 30, 20], [50, 40, 40], [65, 75, 10]])
        assert ByDetector(min_size=95, detector="mtcnn")(
            np.zeros((100, 100, 3), np.uint8)
        ).shape == (0, 3)

    def test_is_the_detector_of_that_name(self, monkeypatch):
        monkeypatch.setattr(importlib.metadata, "version", lambda name: "9")
        first, other = ByDetector(detector="mtcnn"), ByDetector(0.7, 50, "blazeface")
        assert first.settings == {
            "by": "detector",
            "mtcnn": "9",
            "min_confidence": 0.95,
            "min_size": 40.0,
        }
        assert other.settings == {"by": "detector", **detectors.BlazeFace(0.7, 50).settings}
        assert str(first).startswith("by MTCNN where its confidence is ≥ 0.95")
        assert (first.default_workers, other.default_workers) == (1, None)
        assert pickle.loads(pickle.dumps(other)) == other
        assert ByDetector().settings == {
            "by": "detector",
            **detectors.AutoDetector(min_size=40).settings,
        }

    def test_no_such_detector(self):
        with pytest.raises(ValueError, match="Received: 'eye'"):
            ByDetector(detector="eye")

    def test_not_installed(self, monkeypatch):
        def version(name):
            raise importlib.metadata.PackageNotFoundError(name)

        monkeypatch.setattr(importlib.metadata, "version", version)
        with pytest.raises(ImportError, match=r"pip install 'keras_lapkl\[mtcnn\]'"):
            ByDetector(detector="mtcnn")
