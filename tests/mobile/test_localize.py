import dataclasses
import importlib.util
import inspect
import json
import os
import pathlib
import shutil
import struct
import subprocess
import sys
import zlib

import cv2
import numpy as np
import pytest

from keras_lapkl import confidence, pretrained, tflite
from keras_lapkl.data import cropping, images
from keras_lapkl.data.synthetic.faces import synthetic_faces
from keras_lapkl.detection import looks
from keras_lapkl.detection.landmark_detector import LandmarkDetector
from keras_lapkl.export import flatbuffer_writer
from keras_lapkl.tflite import flatbuffer, metadata, metadata_rules

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "mobile" / "localize.py"
MODES = ("float32", "int8")
BOX = (31.5, 20.0, 75.0, 61.5)

# A device has none of these; None in `sys.modules` makes their import fail.
BARE = """
import runpy, sys
sys.modules |= dict.fromkeys(["keras_lapkl", "cv2", "tensorflow", "keras", "absl", *%r])
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def localize():
    spec = importlib.util.spec_from_file_location("localize", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def crop(photo):
    return photo[30:62, 40:72]


@pytest.fixture
def run(tmp_path):
    """Runs a copy of the file as on a device, away from the package."""

    def run(*flags, without=()):
        alone = shutil.copy(SCRIPT, tmp_path / "localize.py")
        return subprocess.run(
            [sys.executable, "-I", "-c", BARE % [*without], alone, *map(str, flags)],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            timeout=60,
        )

    return run


def write_ppm(path, picture):
    height, width = picture.shape[:2]
    path.write_bytes(b"P6\n# a comment\n%d %d\n255\n" % (width, height) + picture.tobytes())
    return path


@pytest.mark.parametrize("mode", [*MODES, "uint8_image"])
def test_crop(mode, files, crop, run, tmp_path):
    np.save(tmp_path / "crop.npy", crop)
    done = run(f"--model={files[mode]}", "--image=crop.npy")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    landmarks, scale = tflite.TFLiteLocalizer(files[mode])(crop)
    np.testing.assert_array_equal(found["landmarks"], landmarks)
    np.testing.assert_array_equal(found["scale"], scale)
    assert found["scheme"] == "toy" and len(found["names"]) == 6


@pytest.mark.parametrize("passes", [1, 2])
def test_photo(passes, files, localize, photo, run, tmp_path):
    flags = (f"--image={write_ppm(tmp_path / 'p.ppm', photo)}", f"--passes={passes}")
    done = run(f"--model={files['float32']}", f"--box={','.join(map(str, BOX))}", *flags)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)

    localizer = tflite.TFLiteLocalizer(files["float32"])
    nothing = np.full((1, 6, 2), np.nan)
    square = cropping.crop_squares(nothing, localizer.scheme, 3.0, boxes=[BOX])[0]
    for i in range(passes):
        transform = cropping.crop_transform(square, 32)
        landmarks, scale = localizer(localize.cut(photo, square, 32))
        points = cropping.apply_transform(cropping.invert_transform(transform), landmarks)
        if i < passes - 1:
            square = cropping.crop_squares(points[None], localizer.scheme, 3.0)[0]
    np.testing.assert_allclose(found["square"], square, atol=1e-6)
    np.testing.assert_allclose(found["landmarks"], points, atol=1e-4)
    np.testing.assert_allclose(found["scale"], scale * square[2] / 32, atol=1e-4)


@pytest.mark.parametrize(
    ("times", "is_taken"), [(0.3, False), (0.4, True), (2.5, True), (4, False)]
)
def test_a_square_of_quite_another_size_is_not_taken(times, is_taken, files, localize, photo):
    localizer = localize.Localizer(files["float32"])
    first = localizer.in_photo(photo, BOX, passes=1)["square"]
    # What makes such a square of the box's: landmarks (n, 2) of a crop of 32 pixels.
    ends = 15.5 + 32 / 3 * times * np.array([[-0.5, -0.5], [0.5, 0.5]])
    found = {"landmarks": ends[[0, 1, 0, 1, 0, 1]], "scale": np.ones((6, 2))}
    localizer._in_pixels = lambda crop, mirrored: dict(found)
    second = localizer.in_photo(photo, BOX, passes=2)["square"]
    np.testing.assert_allclose(second, [*first[:2], (times if is_taken else 1) * first[2]])


@pytest.mark.parametrize(
    ("crop_from", "box", "square"),
    [
        ("image", None, (59.5, 48, 3 * 120)),
        ("box", BOX, (53.25, 40.75, 3 * 43.5)),
    ],
)
def test_photo_by_another_rule(crop_from, box, square, files, localize, photo):
    """Box and picture stay what they are, so that there is one look."""
    localizer = localize.Localizer(files["float32"])
    localizer.crop_from = crop_from
    found = localizer.in_photo(photo, box)
    np.testing.assert_allclose(found["square"], square)
    landmarks = np.array(localizer.in_crop(localize.cut(photo, square, 32))["landmarks"])
    expected = cropping.apply_transform(
        cropping.invert_transform(cropping.crop_transform(square, 32)), landmarks
    )
    np.testing.assert_allclose(found["landmarks"], expected, atol=1e-4)


@pytest.mark.parametrize(("name", "mode"), [("a.tif", "F"), ("a.gif", "P"), ("a.tif", "RGB")])
def test_pictures_that_the_library_does_not_read(name, mode, localize, tmp_path):
    """Floats of 0 to 1 would become black."""
    pillow = pytest.importorskip("PIL.Image")
    pillow.new(mode, (40, 30)).save(tmp_path / name)
    for read in (localize.read_picture, images.read_image):
        with pytest.raises(
            ValueError, match=r"expected a JPEG, PNG, BMP or WebP file\. Received: "
        ):
            read(tmp_path / name)


def test_whole_pictures_have_no_box(files, localize, photo):
    localizer = localize.Localizer(files["float32"])
    localizer.crop_from = "image"
    with pytest.raises(ValueError, match="drop --box"):
        localizer.in_photo(photo, BOX)


@pytest.mark.parametrize("box", [[0.2, 0.3, 0.7, 0.8], [130.0, 5.0, 150.0, 30.0]])
def test_boxes_that_the_library_refuses_too(box, files, localize, photo):
    with pytest.raises(ValueError, match="Expected boxes") as theirs:
        LandmarkDetector(tflite.TFLiteLocalizer(files["float32"]))(photo, [box])
    with pytest.raises(ValueError, match="Expected boxes") as ours:
        localize.Localizer(files["float32"]).in_photo(photo, box)
    assert str(ours.value) == str(theirs.value)


@pytest.mark.parametrize(
    "square",
    [(60, 50, 32), (60.3, 48.9, 20.5), (61, 40, 90), (3, 90, 70), (50, 50, 700), (70, 9, 9000)],
    ids=["same", "enlarged", "shrunk", "over the edge", "beyond all edges", "far beyond"],
)
def test_cut_as_the_library_does(square, localize, photo):
    found = localize.cut(photo, square, 32).astype(int)
    expected = cropping.warp_crop(photo, cropping.crop_transform(square, 32), 32)
    # Both round to whole gray levels, OpenCV also in between.
    assert np.abs(found - expected).max() <= 4
    assert np.abs(found - expected).mean() <= 0.7


@pytest.mark.parametrize("square", [(60.3, 48.9, 20.5), (61, 40, 90), (3, 90, 70)])
@pytest.mark.parametrize("angle", [0.4, -2.0, np.pi])
def test_cut_rotated_as_the_library_does(square, angle, localize, photo):
    found = localize.cut(photo, square, 32, angle).astype(int)
    transform = cropping.crop_transform((*square, angle), 32)
    expected = cropping.warp_crop(photo, transform, 32)
    assert np.abs(found - expected).max() <= 5
    assert np.abs(found - expected).mean() <= 0.8


@pytest.mark.parametrize("square", [(60, 48, 96), (61.2, 50.9, 60), (3, 90, 101), (70, 9, 900)])
@pytest.mark.parametrize("angle", [0.0, 0.4])
def test_cut_of_a_large_face_as_the_library_does(square, angle, localize, photo):
    """From a photo reduced by 2 to 16."""
    found = localize.cut(photo, square, 8, angle).astype(int)
    expected = cropping.warp_crop(photo, cropping.crop_transform((*square, angle), 8), 8)
    assert np.abs(found - expected).max() <= 2


def test_looks_as_the_library_has_them(localize):
    assert localize._RINGS == looks.RINGS
    assert (localize._KEPT, localize._UNSURE) == (looks.KEPT, looks.UNSURE)
    assert (localize._AGREED, localize._MORE) == (looks.AGREED, looks.MORE)
    assert localize._RESIZED == looks.RESIZED
    assert (localize._ENDS, localize._NARROWEST) == (looks.ENDS, looks.NARROWEST)
    assert (localize._BLUR, localize._SHARPNESS) == (looks.BLUR, looks.SHARPNESS)


@pytest.mark.parametrize("levels", [(0, 256), (3, 20), (200, 204), (7, 8), (0, 1)])
def test_a_crop_is_stretched_as_the_library_does(levels, localize, rng):
    crop = rng.integers(*levels, (32, 32, 3)).astype(np.uint8)
    crop[:5] = 0
    np.testing.assert_array_equal(localize._stretched(crop), looks.stretched(crop))


@pytest.mark.parametrize("size", [32, 80, 112])
def test_a_crop_is_sharpened_as_the_library_does(size, localize, rng):
    crop = cv2.GaussianBlur(rng.integers(0, 256, (size, size, 3)).astype(np.uint8), (0, 0), 2)
    found = localize._sharpened(crop).astype(int)
    assert np.abs(found - looks.sharpened(crop)).max() <= 1


@pytest.mark.parametrize(
    "square", [(60, 48, 40), (60.3, 48.9, 20.5), (3, 90, 101), (118, 2, 30), (70, 9, 900)]
)
@pytest.mark.parametrize("angle", [0.0, 0.4])
@pytest.mark.parametrize("size", [8, 32])
def test_specks_are_taken_away_as_the_library_does(square, angle, size, localize, rng):
    """Of noise, from which all medians differ; what is not reduced as in the whole photo."""
    photo = rng.integers(0, 256, (96, 120, 3)).astype(np.uint8)
    found = localize.cut(photo, square, size, angle, despeckle=True).astype(int)
    transform = cropping.crop_transform((*square, angle), size)
    expected = cropping.warp_crop(photo, transform, size, despeckle=True)
    assert np.abs(found - expected).max() <= 2
    if square[2] <= 6 * size:
        whole = cropping.warp_crop(cv2.medianBlur(photo, 3), transform, size).astype(int)
        assert np.abs(expected - whole).max() <= 1


def test_the_square_of_a_face_as_the_library_has_it(localize, rng):
    groups = [[0, 1], [2], [3], [4], [5]]
    landmarks = rng.uniform(0, 100, (6, 2))
    points = np.array([landmarks[group].mean(0) for group in groups])
    found = localize._face_square(landmarks, groups)
    np.testing.assert_allclose(found, cropping.rotated_square(points))


def face_on_gray():
    """A painted face in a photo, and its landmarks there."""
    faces, labels = synthetic_faces(1, image_size=120, seed=4)
    photo = np.full((200, 220, 3), 128, np.uint8)
    photo[40:160, 50:170] = faces[0]
    return photo, labels[0, :, :2] + (50, 40)


@pytest.mark.parametrize("quarters", [0, 1, 2])
def test_a_shipped_model_is_right_at_any_angle_and_else_says_that_it_is_lost(quarters, localize):
    """A painted face on gray; then gray alone."""
    localizer = localize.Localizer(pretrained.resolve("fpn-eighth-300w-int8", (".tflite",)))
    photo, labels = face_on_gray()
    height, width = photo.shape[:2]
    for _ in range(quarters):
        photo = np.ascontiguousarray(np.rot90(photo))
        labels = np.column_stack([labels[:, 1], width - 1 - labels[:, 0]])
        height, width = width, height
    box = (*labels.min(0), *labels.max(0))
    found = localizer.in_photo(photo, box)
    assert not found["lost"]
    distance = np.linalg.norm(np.array(found["landmarks"]) - labels, axis=1)
    assert distance.mean() < 0.1 * np.ptp(labels)
    assert localizer.in_photo(np.full_like(photo, 128), box)["lost"]


def test_a_face_in_the_dark_is_found_in_stretched_gray_levels(localize, monkeypatch):
    localizer = localize.Localizer(pretrained.resolve("fpn-eighth-300w-int8", (".tflite",)))
    photo, labels = face_on_gray()
    box = (*labels.min(0), *labels.max(0))
    dark = (photo * (0.04, 0.02, 0.06)).astype(np.uint8)
    found = localizer.in_photo(dark, box)
    assert not found["lost"]
    distance = np.linalg.norm(np.array(found["landmarks"]) - labels, axis=1)
    assert distance.mean() < 0.1 * np.ptp(labels)
    monkeypatch.setattr(localize, "_stretched", lambda crop: crop)
    assert localizer.in_photo(dark, box)["lost"]


def peppered(photo):
    """A fifth of its pixels black or white."""
    drawn, found = np.random.default_rng(0).random(photo.shape[:2]), photo.copy()
    found[drawn < 0.1], found[drawn > 0.9] = 0, 255
    return found


@pytest.mark.parametrize("spoil", [peppered, lambda photo: cv2.GaussianBlur(photo, (0, 0), 4)])
def test_a_face_under_specks_or_out_of_focus_is_found(spoil, localize, monkeypatch):
    """By the second and the third cut, as in the library; without these it is lost."""
    name = "fpn-eighth-300w-int8"
    localizer = localize.Localizer(pretrained.resolve(name, (".tflite",)))
    photo, labels = face_on_gray()
    box = (*labels.min(0), *labels.max(0))
    photo = spoil(photo)
    found = localizer.in_photo(photo, box)
    (face,) = LandmarkDetector.from_pretrained(name, detector=None)(photo, [box])
    assert not found["lost"] and not face.lost
    for landmarks in (np.array(found["landmarks"]), face.landmarks):
        assert np.linalg.norm(landmarks - labels, axis=1).mean() < 0.05 * np.ptp(labels)
    monkeypatch.setattr(localize, "_CUTS", localize._CUTS[:1])
    assert localizer.in_photo(photo, box)["lost"]


@pytest.mark.parametrize(("degrees", "angle"), [(10, None), (-14, None), (16, 16), (-40, -40)])
def test_the_second_crop_is_rotated_as_the_face_is(degrees, angle, localize):
    localizer = localize.Localizer(pretrained.resolve("fpn-eighth-300w", (".tflite",)))
    labels = synthetic_faces(1, image_size=80, seed=4)[1][0, :, :2]
    eyes = labels[45] - labels[36]
    turn = np.radians(degrees) - np.arctan2(eyes[1], eyes[0])
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    found = {"landmarks": (labels - 39.5) @ rotation.T + 39.5, "scale": np.ones((68, 2))}
    found |= {"error": np.full(68, 1e3), "radius": np.ones(68), "lost": False}  # passes agree
    localizer._in_pixels = lambda crop, mirrored: dict(found)
    localizer.calibration = {**localizer.calibration, "lost": 1e3}
    photo = np.zeros((200, 200, 3), np.uint8)
    found = localizer.in_photo(photo, (60, 60, 140, 140), passes=2)
    assert np.degrees(found.get("angle", 0)) == pytest.approx(angle or 0, abs=6)
    assert ("angle" in found) == (angle is not None)


@pytest.mark.parametrize(("shift", "passes"), [(0, {2}), (12, {3, 4})])
def test_passes_agree_as_in_the_library(shift, passes, localize):
    """From a square that is right, and from one so far off that there are more passes.

    The library rotates by small angles, too: hence a tolerance.
    """
    name = "fpn-eighth-300w"
    localizer = localize.Localizer(pretrained.resolve(name, (".tflite",)))
    detect = LandmarkDetector.from_pretrained(name, detector=None)
    run, ran, predict = localizer._run, [], detect.localizer.predict
    localizer._run = lambda image: ran.append("file") or run(image=image)
    detect.localizer.predict = lambda *args, **kwargs: (
        ran.append("library") or predict(*args, **kwargs)
    )
    photo, labels = face_on_gray()
    x, y, edge, _ = localize._face_square(labels, localizer.scheme["five_points"])
    square = x + shift, y + shift, edge, 0.0
    found = localizer._by_passes(photo, square, 2)
    (face,) = detect.localize(photo, square, passes=2)
    assert {ran.count("file"), ran.count("library")} <= passes
    assert found["lost"] is face.lost is False
    apart = np.linalg.norm(found["landmarks"] - face.landmarks, axis=1)
    assert apart.mean() < 0.3 * np.mean(face.error)
    assert np.linalg.norm(found["landmarks"] - labels, axis=1).mean() < 0.05 * np.ptp(labels)


def test_a_square_has_pixels_as_the_library_has_it(localize, rng):
    places = rng.uniform(-150, 350, (4000, 2))
    squares = np.column_stack([places, rng.uniform(1, 300, 4000), rng.uniform(-4, 4, 4000)])
    squares[:3, 2] = 0, np.nan, np.inf
    found = [localize._has_pixels(*square, 220, 160) for square in squares]
    expected = cropping.covers_picture(squares, 220, 160)
    np.testing.assert_array_equal(found, expected)
    beside = ((places < -0.5) | (places > (219.5, 159.5))).any(1)
    assert (expected & beside).sum() > 500 < (~expected).sum()


def test_looks_around_where_the_middle_of_a_face_is_out_of_the_photo(localize, monkeypatch):
    """It is cut off there: what is beyond the edge is gray in the crop."""
    localizer = localize.Localizer(pretrained.resolve("fpn-eighth-300w-int8", (".tflite",)))
    looked = []

    def in_square(photo, square, cut_out=None, mirrored=False):
        looked.append(square[:2])
        points = np.tile(np.array(square[:2]), (68, 1)) + np.arange(68)[:, None] / 4
        found = {"landmarks": points.tolist(), "scale": np.ones((68, 2)).tolist()}
        return {**found, "error": [99.0] * 68, "lost": True}

    monkeypatch.setattr(localizer, "_in_square", in_square)
    square = (-5.0, 60.0, 40.0, 0.0)
    localizer._look_around(np.zeros((120, 100, 3), np.uint8), square, in_square(None, square))
    shifted, turned = {(-25.0, 60.0), (-5.0, 40.0)}, looked.count(square[:2])
    assert shifted < set(looked) and turned > 7


def test_five_points_by_face_box_as_the_library_has_it(localize):
    assert localize._FIVE_BY_FACE_BOX == cropping.FIVE_BY_FACE_BOX
    assert localize._FIVE_BELOW_FACE_BOX == cropping.FIVE_BELOW_FACE_BOX
    for name in ("_MOST_SHRINK", "_MOST_SAMPLES", "_MAX_SAMPLED_SIDE"):
        assert getattr(localize, name) == getattr(cropping, name)


def test_confidence_as_the_library_has_it(localize, rng):
    scale = rng.uniform(0.5, 4, (3, 2))
    errors = rng.rayleigh(size=(400, 3))
    fitted = confidence.fit(errors, rng.uniform(0.8, 3, (400, 3, 2)))
    fitted = dataclasses.replace(fitted, typical=0.7, across=0.5, within=-0.2)
    landmarks = rng.uniform(0, 32, (3, 2))
    found = localize.confidence(json.loads(json.dumps(fitted.to_config())), scale, landmarks)
    assert "lost" not in found
    relative = confidence.relative_error(landmarks, fitted.error(scale))
    for lost in (0.9 * relative, 1.1 * relative):
        known = dataclasses.replace(fitted, lost=float(lost)).to_config()
        assert localize.confidence(known, scale, landmarks)["lost"] == (lost < relative)
    assert localize.confidence(known, scale, np.ones((3, 2)))["lost"]  # all in one point
    np.testing.assert_allclose(found["error"], fitted.error(scale))
    np.testing.assert_allclose(found["radius"], fitted.radius(scale, 0.9))
    older = fitted.to_config()
    for name in ("typical", "across", "within"):
        del older[name]
    alike = localize.confidence(older, scale, landmarks)
    np.testing.assert_allclose(
        alike["radius"], alike["error"] * np.array(older["quantiles"]["0.9"])
    )
    few = confidence.fit(errors[:5], np.ones((5, 3, 2)))
    assert set(localize.confidence(few.to_config(), scale, landmarks)) == {"error"}
    assert localize.confidence(None, scale, landmarks) == {}
    errors[:, 1] = np.nan  # a point without labels
    part = confidence.fit(errors, rng.uniform(0.8, 3, (400, 3, 2)))
    radius = localize.confidence(json.loads(json.dumps(part.to_config())), scale, landmarks)[
        "radius"
    ]
    assert [r is None for r in radius] == [False, True, False]
    np.testing.assert_allclose(radius[::2], part.radius(scale, 0.9)[::2])


def test_metadata(files, localize):
    for path in files.values():
        text = flatbuffer.read_metadata(flatbuffer.read(path))
        assert localize.read_metadata(path.read_bytes(), path) == json.loads(text)


def test_rules_as_the_library_has_them(localize):
    assert metadata_rules.rules() == localize._RULES
    for name in ("parse_metadata", "check_metadata", "find_problem", "_refuse"):
        theirs, ours = (getattr(module, name) for module in (localize, metadata_rules))
        assert inspect.getsource(theirs) == inspect.getsource(ours)


def test_metadata_that_are_refused(files, localize, metadata_texts, tmp_path):
    model = flatbuffer.read(files["float32"])
    entry = next(entry for entry in model.metadata if entry.name == b"keras_lapkl")
    path = tmp_path / "m.tflite"
    for name in ("empty", "a list", "size of text", "crop scale", "five points", "calibration"):
        text, message = metadata_texts.REFUSED[name]
        model.buffers[entry.buffer].data = text.encode()
        path.write_bytes(flatbuffer_writer.pack(model))
        with pytest.raises(ValueError, match=rf"m\.tflite has metadata .*({message})"):
            localize.Localizer(path)


def test_metadata_fit_the_tensors(files, localize, tmp_path):
    model = flatbuffer.read(files["float32"])
    other = dataclasses.replace(metadata.read(model), image_size=33)
    model.metadata = None
    flatbuffer_writer.add_metadata(model, other)
    (tmp_path / "m.tflite").write_bytes(flatbuffer_writer.pack(model))
    with pytest.raises(ValueError, match=r"m\.tflite has metadata of an image of 33 pixels"):
        localize.Localizer(tmp_path / "m.tflite")


def test_threads_that_end_the_interpreter(files, localize):
    for count in (0, 1025):
        with pytest.raises(ValueError, match="Expected 1 to 1,024 threads"):
            localize.Localizer(files["float32"], count)


def test_files_that_end_the_interpreter(files, photo, run, tmp_path):
    model = flatbuffer.read(files["float32"])
    reshape = flatbuffer.schema().BuiltinOperator.RESHAPE
    operators = model.subgraphs[0].operators
    found = next(each for each in operators if flatbuffer.builtin_code(model, each) == reshape)
    found.inputs = [found.inputs[0], -1]
    (tmp_path / "m.tflite").write_bytes(flatbuffer_writer.pack(model))
    image = write_ppm(tmp_path / "p.ppm", photo)
    done = run("--model=m.tflite", f"--image={image}")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.endswith(
        "error: The interpreter can't run m.tflite: it is damaged (SIGSEGV)\n"
    )
    os.mkfifo(tmp_path / "pipe.tflite")
    done = run("--model=pipe.tflite", f"--image={image}")
    assert "pipe.tflite: expected a regular file" in done.stderr


def test_pictures_by_pillow(localize, photo, tmp_path):
    image = pytest.importorskip("PIL.Image")
    image.fromarray(photo).save(tmp_path / "p.png")
    np.testing.assert_array_equal(localize.read_picture(tmp_path / "p.png"), photo)
    image.fromarray(photo).convert("L").save(tmp_path / "gray.png")
    assert localize.read_picture(tmp_path / "gray.png").shape == photo.shape


@pytest.mark.parametrize("orientation", [*range(10), None])
@pytest.mark.parametrize("name", ["p.png", "p.webp", "p.jpg"])
def test_upright_as_the_library_has_it(localize, name, orientation, tmp_path):
    """By EXIF alone: orientation in XMP, or as text in a PNG, is not the library's."""
    image, info = pytest.importorskip("PIL.Image"), pytest.importorskip("PIL.PngImagePlugin")
    ramp = np.zeros((40, 60, 3), np.uint8)
    ramp[..., 0], ramp[..., 1] = np.arange(60) * 4, np.arange(40)[:, None] * 6
    exif, extra = image.Exif(), {}
    if orientation is not None:
        exif[0x0112] = orientation
        extra = {"exif": exif}
    elif name == "p.png":
        exif[0x0112] = 6
        text = info.PngInfo()
        text.add_text(
            "Raw profile type exif", f"\nexif\n{len(exif.tobytes())}\n{exif.tobytes().hex()}"
        )
        extra = {"pnginfo": text}
    else:
        extra = {"xmp": b'<x:xmpmeta xmlns:x="adobe:ns:meta/" tiff:Orientation="6"/>'}
    image.fromarray(ramp).save(tmp_path / name, lossless=True, quality=95, **extra)
    found = localize.read_picture(tmp_path / name).astype(int)
    np.testing.assert_allclose(found, images.read_image(tmp_path / name), atol=6)
    assert found.shape == ((60, 40, 3) if orientation in (5, 6, 7, 8) else (40, 60, 3))


def test_16_bits_are_scaled_as_the_library_does(localize, tmp_path):
    image = pytest.importorskip("PIL.Image")
    ramp = np.tile(np.linspace(0, 65535, 64).astype(np.uint16), (32, 1))
    image.fromarray(ramp).save(tmp_path / "ramp.png")
    found = localize.read_picture(tmp_path / "ramp.png").astype(int)
    np.testing.assert_allclose(found, images.read_image(tmp_path / "ramp.png"), atol=1)


def test_tflite_runtime_does_too(localize, monkeypatch):
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    monkeypatch.setitem(sys.modules, "tflite_runtime", sys)
    monkeypatch.setitem(sys.modules, "tflite_runtime.interpreter", tflite)
    monkeypatch.setattr(tflite, "Interpreter", "its own", raising=False)
    assert localize._interpreter_class() == "its own"


def test_missing_packages(files, crop, run, tmp_path):
    np.save(tmp_path / "crop.npy", crop)
    (tmp_path / "p.gif").write_bytes(b"GIF89a")
    model = f"--model={files['int8']}"
    done = run(model, "--image=crop.npy", without=["ai_edge_litert", "tflite_runtime"])
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: No interpreter is installed: pip install ai-edge-litert\n"
    done = run(model, "--image=p.gif", without=["PIL"])
    assert done.returncode == 1
    assert "p.gif is not a .npy or binary .ppm: pip install pillow" in done.stderr


def test_wrong_models(files, localize, tmp_path):
    content = files["float32"].read_bytes()
    model = flatbuffer.read(files["float32"])
    model.metadata = None
    wrong = {
        "empty": (b"", "not a TFLite file"),
        "text": (b"This is no model.\n" * 20, "not a TFLite file"),
        "head": (content[:16], "damaged"),
        "foreign": (flatbuffer_writer.pack(model), "lapkl convert"),
        **{f"cut{n}": (content[:n], "damaged|can't run") for n in range(100, len(content), 4999)},
    }
    for name, (damaged, message) in wrong.items():
        path = tmp_path / f"{name}.tflite"
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=rf"{name}\.tflite.*({message})|{message}.*{name}"):
            localize.Localizer(path)


def test_newer_schema(files, localize, tmp_path):
    model = flatbuffer.read(files["float32"])
    newer = dataclasses.replace(metadata.read(model), schema=metadata.SCHEMA + 1)
    model.metadata = None
    flatbuffer_writer.add_metadata(model, newer)
    (tmp_path / "newer.tflite").write_bytes(flatbuffer_writer.pack(model))
    with pytest.raises(
        ValueError, match=r"newer\.tflite has metadata of schema 2; .* up to schema 1"
    ):
        localize.Localizer(tmp_path / "newer.tflite")
    assert localize._SCHEMA == metadata.SCHEMA


def test_files_without_a_schema_number(localize, tmp_path):
    """What was written before there was one."""
    model = flatbuffer.read(pretrained.path("fpn-eighth-112-300w", ".tflite"))
    about = json.loads(flatbuffer.read_metadata(model))
    del about["schema"]
    flatbuffer.metadata_buffer(model).data = json.dumps(about).encode()
    path = tmp_path / "old.tflite"
    path.write_bytes(flatbuffer_writer.pack(model))
    assert "schema" not in localize.read_metadata(path.read_bytes(), path)
    assert localize.Localizer(path).crop_scale == 3


def test_a_picture_that_claims_too_much_is_refused_unopened(localize, tmp_path):
    """With the limit of the package, above what phones take and above Pillow's own."""
    pytest.importorskip("PIL")
    assert localize._MAX_PIXELS == images.MAX_PIXELS
    head = b"IHDR" + struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    chunks = [head, b"IDAT" + zlib.compress(b""), b"IEND"]
    path = tmp_path / "p.png"
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks
        )
    )
    with pytest.raises(ValueError, match=r"at most 200 megapixels\. Received: 20000x20000"):
        localize.read_picture(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not an intact image"),
        (b"hello", "not an intact image"),
        (b"P6\n4 4\n255\n" + bytes(47), "not an intact image: buffer is smaller"),
        (b"P6\n4 4\n65535\n" + bytes(96), "width, height and 255"),
        (b"P6 hello", "width, height and 255"),
        (b"P6 0 4 255 ", r"Received: \(4, 0, 3\) uint8"),
        (b"\x93NUMPY\x01\x00", "not an intact image"),
    ],
)
def test_wrong_pictures(content, message, localize, tmp_path):
    path = tmp_path / "p"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        localize.read_picture(path)


def test_what_is_no_picture_or_too_small(localize, tmp_path):
    with pytest.raises(ValueError, match=rf"{tmp_path}: expected a file. Received: a folder"):
        localize.read_picture(tmp_path)
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(40))
    with pytest.raises(ValueError, match=r"expected a JPEG.*Save it as JPEG or PNG$"):
        localize.read_picture(tmp_path / "a.heic")
    with pytest.raises(ValueError, match=r"at least 16 pixels a side\. Received: 500x1"):
        localize.read_picture(write_ppm(tmp_path / "p.ppm", np.zeros((1, 500, 3), np.uint8)))


def test_a_box_too_far(files, localize, photo):
    with pytest.raises(ValueError, match="Expected boxes within 1000000 pixels"):
        localize.Localizer(files["float32"]).in_photo(photo, [0.0, 0.0, 1e9, 1e9])


@pytest.mark.parametrize(
    "picture",
    [np.zeros((4, 4, 3)), np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8)],
)
def test_wrong_arrays(picture, localize, tmp_path):
    np.save(tmp_path / "p.npy", picture)
    with pytest.raises(ValueError, match=r"expected \(H, W, 3\) uint8. Received"):
        localize.read_picture(tmp_path / "p.npy")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((), "Expected a crop of 32x32 pixels. Received: 120x97"),
        (("--box=1,2,3",), "Expected a box x0,y0,x1,y1"),
        (("--box=9,2,3,5",), "Expected a box x0,y0,x1,y1"),
        (("--box=a,2,3,5",), "could not convert string to float: 'a'"),
        (("--box=1,2,3,4", "--passes=0"), "one pass or more"),
        (("--threads=0",), "Expected 1 to 1,024 threads. Received: 0"),
        (("--image=none.ppm",), "No such file or directory: 'none.ppm'"),
        (("--model=none.tflite",), "No such file or directory: 'none.tflite'"),
    ],
)
def test_plain_errors(flags, message, files, photo, run, tmp_path):
    flags = (f"--model={files['int8']}", f"--image={write_ppm(tmp_path / 'p', photo)}", *flags)
    done = run(*flags)
    assert (done.returncode, done.stdout) == (1, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr
