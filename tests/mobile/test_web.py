"""The page in a real browser, and its server without one."""

import dataclasses
import importlib.util
import json
import pathlib
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request

import cv2
import numpy as np
import pytest

from keras_lapkl.tflite import metadata_rules

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDER = ROOT / "mobile/web"
INSTALLED = (FOLDER / "node_modules/@litertjs/core/dist/index.js").is_file()
NOT_INSTALLED = "no LiteRT.js; npm install --prefix mobile/web"
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",
    "--window-size=390,844",
)


@pytest.fixture(scope="module")
def address(files):
    """Where the page is served with the float32 file, by a Python without TensorFlow."""
    if not INSTALLED:
        pytest.skip(NOT_INSTALLED)
    script = (
        "import runpy, sys; sys.modules.update(tensorflow=None, keras=None); "
        "runpy.run_path('mobile/web/serve.py', run_name='__main__')"
    )
    command = [sys.executable, "-c", script, "--port=0", f"--model={files['float32']}"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        yield server.stdout.readline().strip()
        server.terminate()


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    webdriver = pytest.importorskip("selenium.webdriver")
    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (binary and driver):
        pytest.skip("no chromium and chromedriver on PATH; apt-get install chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options, webdriver.ChromeService(driver))
    browser.set_script_timeout(20)
    yield browser
    browser.quit()


class Page:
    """The page as its user has it."""

    def __init__(self, chromium):
        self.chromium = chromium

    def get(self, expression):
        return self.chromium.execute_script(f"return {expression}")

    def call(self, function, *arguments):
        """What a function of model.js returns."""
        script = "const done = arguments[arguments.length - 1]; import('/model.js').then(%s)"
        call = f"(m) => done(JSON.stringify(({function})(m, ...arguments)))"
        return json.loads(self.chromium.execute_async_script(script % call, *arguments))

    def element(self, name):
        return self.chromium.find_element("id", name)

    def wait(self, expression):
        end = time.monotonic() + 20
        while not self.get(expression):
            assert time.monotonic() < end, (expression, self.message(), self.log())
            time.sleep(0.02)

    def message(self):
        return self.get("document.getElementById('message').textContent")

    def log(self):
        return [e["message"] for e in self.chromium.get_log("browser") if e["level"] == "SEVERE"]

    def choose(self, name, path):
        """Gives a file to the page, which then looks again."""
        looks = self.get("keras_lapkl.looks")
        self.element(name).send_keys(str(path))
        self.wait(f"keras_lapkl.looks > {looks}")

    def fails(self, act):
        """The error that the page shows after an act."""
        self.chromium.execute_script("document.getElementById('message').dataset.kind = ''")
        act()
        self.wait("document.getElementById('message')?.dataset.kind === 'error'")
        return self.message()


@pytest.fixture
def page(chromium, address):
    chromium.get(address)
    page = Page(chromium)
    page.wait("window.keras_lapkl?.found")
    yield page
    assert page.log() == []


def on_face(path):
    """What Python finds on the synthetic face that the server makes."""
    from keras_lapkl.data.synthetic.faces import synthetic_faces
    from keras_lapkl.tflite import TFLiteLocalizer

    localizer = TFLiteLocalizer(path)
    return localizer(synthetic_faces(1, image_size=localizer.image_size)[0][0])


@pytest.mark.parametrize("name, bound", [("float32", 1e-3), ("int8", 0.05), ("uint8_image", 0.05)])
def test_equals_python(page, files, name, bound):
    page.choose("model", files[name])
    found = page.get("keras_lapkl.found")
    for received, expected in zip(
        (found["landmarks"], found["scale"]), on_face(files[name]), strict=True
    ):
        np.testing.assert_allclose(received, expected, atol=bound)
    assert page.message() == ""


def test_threads(page, address, files):
    assert page.get("crossOriginIsolated")
    page.chromium.get(f"{address}?threads=2")
    page.wait("window.keras_lapkl?.found")
    found = page.get("keras_lapkl.found.landmarks")
    np.testing.assert_allclose(found, on_face(files["float32"])[0], atol=1e-3)


@pytest.mark.parametrize("asked, cores", [(99, None), (0, 1), (-2, 1), ("many", 1)])
def test_threads_are_as_many_as_the_device_has(page, address, asked, cores):
    page.chromium.get(f"{address}?threads={asked}")
    page.wait("window.keras_lapkl?.found")
    about = page.element("about").text.split("\n")
    threads = int(about[about.index("Threads") + 1])
    assert threads == (cores or page.get("navigator.hardwareConcurrency"))


@pytest.mark.parametrize(
    "square", [(60.0, 48.0, 32.0), (50.3, 41.7, 77.7), (5.0, 90.0, 61.0), (70.2, 30.1, 19.5)]
)
def test_cuts_as_the_package_does(page, photo, square):
    from keras_lapkl.data.cropping import crop_transform, warp_crop

    height, width, _ = photo.shape
    pixels = np.dstack([photo, np.full((height, width), 255, np.uint8)]).ravel().tolist()
    x, y, side = square
    crop = page.call(
        "(m, data, width, height, square) => [...m.cut({data, width, height}, square, 32)]",
        pixels,
        width,
        height,
        {"x": x, "y": y, "side": side},
    )
    expected = warp_crop(photo, crop_transform(np.array([square]), 32)[0], 32)
    # OpenCV counts in 1/32 of a pixel.
    assert np.abs(np.reshape(crop, expected.shape) - expected.astype(int)).max() <= 2


@pytest.mark.parametrize("angle", [0.4, -2.0, np.pi])
def test_cuts_rotated_as_the_package_does(page, photo, angle):
    from keras_lapkl.data.cropping import crop_transform, warp_crop

    height, width, _ = photo.shape
    pixels = np.dstack([photo, np.full((height, width), 255, np.uint8)]).ravel().tolist()
    x, y, side = 50.3, 41.7, 77.7
    crop = page.call(
        "(m, data, width, height, square) => [...m.cut({data, width, height}, square, 32)]",
        pixels,
        width,
        height,
        {"x": x, "y": y, "side": side, "angle": angle},
    )
    expected = warp_crop(photo, crop_transform([x, y, side, angle], 32), 32).astype(int)
    apart = np.abs(np.reshape(crop, expected.shape) - expected)
    assert apart.max() <= 5 and apart.mean() <= 0.8


@pytest.mark.parametrize("side, angle", [(60.0, 0.0), (96.0, 0.4), (900.0, 0.0)])
@pytest.mark.parametrize("center", [(61.2, 50.9), (3.0, 90.0)])
def test_cuts_large_faces_as_the_package_does(page, photo, center, side, angle):
    """From a picture reduced by 2 to 16."""
    from keras_lapkl.data.cropping import crop_transform, warp_crop

    height, width, _ = photo.shape
    pixels = np.dstack([photo, np.full((height, width), 255, np.uint8)]).ravel().tolist()
    crop = page.call(
        "(m, data, width, height, square) => [...m.cut({data, width, height}, square, 8)]",
        pixels,
        width,
        height,
        {"x": center[0], "y": center[1], "side": side, "angle": angle},
    )
    expected = warp_crop(photo, crop_transform([*center, side, angle], 8), 8).astype(int)
    assert np.abs(np.reshape(crop, expected.shape) - expected).max() <= 2


def test_looks_as_the_library_has_them(page):
    from keras_lapkl.detection import looks

    rings, *others = page.call(
        "(m) => [m.RINGS, m.KEPT, m.UNSURE, m.AGREED, m.MORE, m.RESIZED, "
        "m.ENDS, m.NARROWEST, m.BLUR, m.SHARPNESS]"
    )
    assert others == [
        *(looks.KEPT, looks.UNSURE, looks.AGREED, looks.MORE, looks.RESIZED),
        *(list(looks.ENDS), looks.NARROWEST, looks.BLUR, looks.SHARPNESS),
    ]
    for ring, expected in zip(rings, looks.RINGS, strict=True):
        np.testing.assert_allclose(ring, expected, rtol=1e-15)
    square = {"x": 10.0, "y": 20.0, "side": 30.0, "angle": 0.5}
    found = page.call(
        "(m, square, look) => m.Localizer.prototype.around.call("
        "{metadata: {crop_scale: 3}}, square, look)",
        square,
        [0.5, -0.25, 1.5, 1.0],
    )
    (expected,) = looks.squares_around((10, 20, 10, 0.5), [(0.5, -0.25, 1.5, 1.0)])
    expected[2] *= 3
    np.testing.assert_allclose([found[k] for k in square], expected)


@pytest.fixture
def in_node(tmp_path):
    """Runs code with model.js in Node.js: what that imports of others is left out."""
    if shutil.which("node") is None:
        pytest.skip("no node on PATH")
    text = re.sub(r"^import .*$", "", (FOLDER / "model.js").read_text(), flags=re.M)
    (tmp_path / "model.mjs").write_text(text)

    def run(code):
        (tmp_path / "all.mjs").write_text(code)
        done = subprocess.run(["node", "all.mjs"], cwd=tmp_path, capture_output=True, check=True)
        return json.loads(done.stdout)

    return run


@pytest.mark.parametrize("levels", [(0, 256), (3, 20), (200, 204), (7, 8), (0, 1)])
def test_a_crop_is_stretched_as_the_library_does(in_node, levels, rng):
    from keras_lapkl.detection import looks

    crop = rng.integers(*levels, (32, 32, 3)).astype(np.uint8)
    crop[:5] = 0
    found = in_node(
        'import { stretched } from "./model.mjs";'
        f"const crop = Uint8ClampedArray.from({crop.ravel().tolist()});"
        "console.log(JSON.stringify([...stretched(crop)]));"
    )
    np.testing.assert_array_equal(np.reshape(found, crop.shape), looks.stretched(crop))


@pytest.mark.parametrize("size", [32, 80, 112])
def test_a_crop_is_sharpened_as_the_library_does(in_node, size, rng):
    from keras_lapkl.detection import looks

    crop = cv2.GaussianBlur(rng.integers(0, 256, (size, size, 3)).astype(np.uint8), (0, 0), 2)
    found = in_node(
        'import { sharpened } from "./model.mjs";'
        f"const crop = Uint8ClampedArray.from({crop.ravel().tolist()});"
        "console.log(JSON.stringify([...sharpened(crop)]));"
    )
    assert np.abs(np.reshape(found, crop.shape) - looks.sharpened(crop)).max() <= 1


@pytest.mark.parametrize(
    "square", [(60, 48, 40), (60.3, 48.9, 20.5), (3, 90, 101), (118, 2, 30), (70, 9, 900)]
)
@pytest.mark.parametrize("angle", [0.0, 0.4])
def test_specks_are_taken_away_as_the_library_does(in_node, square, angle, rng):
    from keras_lapkl.data.cropping import crop_transform, warp_crop

    photo = rng.integers(0, 256, (96, 120, 3)).astype(np.uint8)
    x, y, side = square
    given = {
        "picture": {"width": 120, "height": 96},
        "data": np.dstack([photo, photo[..., :1]]).ravel().tolist(),
        "square": {"x": x, "y": y, "side": side, "angle": angle},
    }
    found = in_node(
        'import { cut } from "./model.mjs";'
        f"const {{ picture, data, square }} = {json.dumps(given)};"
        "console.log(JSON.stringify([8, 32].map("
        "(size) => [...cut({ ...picture, data }, square, size, true)])));"
    )
    for crop, size in zip(found, (8, 32), strict=True):
        transform = crop_transform((*square, angle), size)
        expected = warp_crop(photo, transform, size, despeckle=True).astype(int)
        assert np.abs(np.reshape(crop, expected.shape) - expected).max() <= 2


@pytest.mark.parametrize(
    ("move", "times", "lost"),
    [
        ((20, -15), 1, False),
        ((20, -15), 1, True),
        ((-200, 10), 1, True),  # beside the picture
        ((5, 5), 0.4, True),
        ((5, 5), 0.3, False),
        ((5, 5), 3.2, False),
    ],
)
@pytest.mark.parametrize("degrees", [8, 20, 70])
@pytest.mark.parametrize("error", [None, 1, 30])
def test_the_second_pass_is_that_of_localize_py(
    in_node, tmp_path, photo, error, degrees, move, times, lost
):
    """Whether the first one is lost or not; unless its landmarks shrink or explode.

    Without a calibration, and with expected errors by which passes agree, and never do.
    """
    spec = importlib.util.spec_from_file_location("localize", ROOT / "mobile/localize.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    scheme = {"five_points": [[0], [1], [2], [3], [4]], "eye_corners": [0, 1]}
    scheme["flip"] = [1, 0, 2, 4, 3]
    calibration = error and {"scales": [1], "errors": [error], "factors": 5 * [1]}
    calibration = error and {**calibration, "quantiles": {"0.9": 5 * [2]}, "lost": 1e3}
    face = np.array([[-15, -10], [15, -10], [0, 3], [-10, 14], [10, 14]])
    turn = np.radians(degrees)
    rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    found = [times * face @ rotation + 40 + move, face + 40]

    localizer = object.__new__(module.Localizer)
    localizer.__dict__ |= {"image_size": 80, "crop_scale": 3.0, "crop_from": "points"}
    localizer.__dict__ |= {"scheme": scheme, "calibration": calibration}
    localizer.input = {"range": [0, 1]}
    images = []

    def run(image):
        images.append(image)
        return {"landmarks": next(results), "scale": next(scales)}

    localizer._run = run
    # In the third pass the face is turned back by half.
    half = np.array([[np.cos(turn / 2), -np.sin(turn / 2)], [np.sin(turn / 2), np.cos(turn / 2)]])
    less = face @ half
    found = [*found, less + 41, face + 38]
    scale = np.full((4, 5, 2), [[[9 if lost else 1]], *3 * [[[1]]]])
    results, scales = iter(found[:1]), iter(scale)
    first = localizer.in_photo(photo, (31.5, 20.0, 75.0, 61.5), passes=1)["square"]
    results, scales = iter(found), iter(scale)
    expected = localizer.in_photo(photo, (31.5, 20.0, 75.0, 61.5))

    x, y, side = expected["square"]
    crop = module.cut(photo, (x, y, side), 80, expected.get("angle", 0.0))
    seen = np.rint(255 * images[-1][0])
    np.testing.assert_array_equal(seen, crop[:, ::-1] if error and len(images) % 2 else crop)

    height, width, _ = photo.shape
    (tmp_path / "given.json").write_text(
        json.dumps(
            {
                "metadata": {
                    **{"scheme": scheme, "crop_scale": 3, "image_size": 80},
                    "calibration": calibration,
                },
                "width": width,
                "height": height,
                "data": np.dstack([photo, photo[..., :1]]).ravel().tolist(),
                "first": dict(zip(["x", "y", "side"], first, strict=True)),
                "found": [
                    {"landmarks": each.tolist(), "scale": one.tolist()}
                    for each, one in zip(found, scale, strict=True)
                ],
            }
        )
    )
    received = in_node(
        """
        import fs from "node:fs";
        import { Localizer } from "./model.mjs";
        const { found, metadata, first, ...picture } = JSON.parse(fs.readFileSync("given.json"));
        const localizer = new Localizer(null, metadata, "model.tflite", "float32");
        const crops = [];
        localizer.run = async (crop) => {
          crops.push([...crop]);
          return found.shift();
        };
        const last = await localizer.locateFrom(picture, first, 2);
        console.log(JSON.stringify({ ...last, crop: crops.at(-1) }));
        """
    )
    np.testing.assert_allclose(received["landmarks"], expected["landmarks"])
    np.testing.assert_allclose(received["scale"], expected["scale"])
    if error:
        np.testing.assert_allclose(received["error"], expected["error"])
        assert received["lost"] == expected["lost"]
    assert np.abs(np.reshape(received["crop"], seen.shape) - seen).max() <= 2
    square = received["square"]
    np.testing.assert_allclose([square[k] for k in ("x", "y", "side")], expected["square"])
    assert square.get("angle", 0) == pytest.approx(expected.get("angle", 0))


@pytest.mark.parametrize("rule", [{"crop_from": "image"}, {"crop_from": "box"}, {}])
def test_one_pass_where_crops_are_not_by_landmarks(in_node, rule):
    """A whole picture, a box, or no rule: there is no other crop to look at."""
    metadata = {
        "scheme": {"flip": [1, 0], **rule},
        "image_size": 8,
        **({"crop_scale": 1} if rule else {}),
        "calibration": {"scales": [1], "errors": [1], "factors": [1, 1], "lost": 9},
    }
    found = in_node(
        'import { Localizer } from "./model.mjs";'
        f'const localizer = new Localizer(null, {json.dumps(metadata)}, "m.tflite", "float32");'
        "let runs = 0;"
        "localizer.run = async () => (runs++, "
        "{ landmarks: [[2, 3], [6, 5]], scale: [[1, 1], [1, 1]] });"
        "const picture = { width: 8, height: 8, data: new Uint8ClampedArray(256) };"
        "const square = { x: 3.5, y: 3.5, side: 8 };"
        "const { landmarks } = await localizer.locateFrom(picture, square, 2);"
        "console.log(JSON.stringify({ runs, landmarks }));"
    )
    assert found == {"runs": 1, "landmarks": [[2, 3], [6, 5]]}


def test_a_square_has_pixels_as_the_library_has_it(rng, in_node, tmp_path):
    from keras_lapkl.data.cropping import covers_picture

    places, sides = rng.uniform(-150, 350, (4000, 2)), rng.uniform(1, 300, 4000)
    squares = np.column_stack([places, sides, rng.uniform(-4, 4, 4000)])
    (tmp_path / "squares.json").write_text(json.dumps(squares.tolist()))
    received = in_node(
        """
        import fs from "node:fs";
        import { hasPixels } from "./model.mjs";
        const picture = { width: 220, height: 160 };
        const squares = JSON.parse(fs.readFileSync("squares.json"));
        const named = squares.map(([x, y, side, angle]) => ({ x, y, side, angle }));
        console.log(JSON.stringify(named.map((square) => hasPixels(picture, square))));
        """
    )
    np.testing.assert_array_equal(received, covers_picture(squares, 220, 160))


def test_how_sure_it_is_and_the_square_of_a_face_as_the_library_has_them(page, rng):
    from keras_lapkl import confidence
    from keras_lapkl.data.cropping import rotated_square
    from keras_lapkl.schemes import IBUG68

    landmarks = rng.uniform(10, 70, (68, 2))
    fitted = confidence.fit(rng.rayleigh(size=(300, 68)), rng.uniform(0.8, 3, (300, 68, 2)))
    for scale in (rng.uniform(0.5, 4, (68, 2)), np.full((68, 2), 9.0), np.full((68, 2), 0.1)):
        found = page.call(
            "(m, calibration, { landmarks, scale }) => "
            "m.relativeError(landmarks, m.expectedErrors(calibration, scale))",
            fitted.to_config(),
            {"landmarks": landmarks.tolist(), "scale": scale.tolist()},
        )
        expected = confidence.relative_error(landmarks, fitted.error(scale))
        assert found == pytest.approx(float(expected))
    square = page.call(
        "(m, metadata, landmarks) => Object.assign(Object.create(m.Localizer.prototype), "
        "{metadata}).faceSquare(landmarks)",
        {"scheme": IBUG68.to_config(), "crop_scale": 2.5},
        landmarks.tolist(),
    )
    expected = rotated_square(IBUG68.anchor_points(landmarks)) * (1, 1, 2.5, 1)
    np.testing.assert_allclose([square[k] for k in ("x", "y", "side", "angle")], expected)


@pytest.mark.parametrize("quarters", [0, 1, 2, 3])
def test_a_face_at_any_angle(page, tmp_path, quarters):
    """A painted face, turned; then gray, where it says that it is lost."""
    import cv2

    from keras_lapkl import pretrained
    from keras_lapkl.data.synthetic.faces import synthetic_faces

    faces, labels = synthetic_faces(1, image_size=240, seed=4)
    labels = labels[0, :, :2]
    for _ in range(quarters):
        labels = np.column_stack([labels[:, 1], 239 - labels[:, 0]])
    photo = np.rot90(faces[0], quarters)
    cv2.imwrite(str(tmp_path / "face.png"), np.ascontiguousarray(photo[..., ::-1]))
    cv2.imwrite(str(tmp_path / "gray.png"), np.full_like(photo, 128))
    page.choose("model", pretrained.resolve("fpn-eighth-300w-int8", (".tflite",)))
    page.choose("photo", tmp_path / "face.png")
    page.wait("keras_lapkl.found && !keras_lapkl.found.lost")
    found = page.get("keras_lapkl.found")
    apart = np.linalg.norm(np.array(found["landmarks"]) - labels, axis=1)
    assert apart.mean() < 0.1 * np.ptp(labels)
    assert "lost" not in page.get("document.getElementById('readout').textContent")
    page.choose("photo", tmp_path / "gray.png")
    page.wait("keras_lapkl.found.lost")
    assert "lost" in page.get("document.getElementById('readout').textContent")


def test_crop_rule(page, rng):
    from keras_lapkl.data.cropping import crop_squares
    from keras_lapkl.schemes import IBUG68

    landmarks = rng.uniform(10, 70, (68, 2))
    metadata = {"scheme": IBUG68.to_config(), "crop_scale": 2.5}
    square = page.call(
        "(m, metadata, landmarks) => Object.assign(Object.create(m.Localizer.prototype), "
        "{metadata}).square(landmarks)",
        metadata,
        landmarks.tolist(),
    )
    expected = crop_squares(landmarks[None], IBUG68, 2.5)[0]
    np.testing.assert_allclose([square[k] for k in ("x", "y", "side")], expected)


def test_follows_faces_alone(page, rng):
    landmarks = rng.uniform(30, 60, (68, 2)).tolist()
    metadata = {"scheme": None, "crop_scale": 2.0}
    picture = {"width": 90, "height": 70}

    def following(lost=False, **changes):
        return page.call(
            "(m, metadata, found, picture) => "
            "Object.assign(Object.create(m.Localizer.prototype), {metadata}).next(found, picture)",
            {**metadata, **changes.get("metadata", {})},
            {"landmarks": changes.get("landmarks", landmarks), "lost": lost},
            {**picture, **changes.get("picture", {})},
        )

    assert following()["side"] == pytest.approx(2 * np.ptp(landmarks, axis=0).max())
    assert following(lost=True) is None
    assert following(metadata={"crop_scale": None}) is None
    assert following(metadata={"scheme": {"five_points": [], "crop_from": "image"}}) is None
    assert following(picture={"width": 40}) is None
    assert following(landmarks=np.divide(landmarks, 10).tolist()) is None


@pytest.mark.parametrize(("degrees", "last", "angle"), [(10, 0, 0), (-25, 0, -25), (8, 40, 8)])
def test_rotated_faces_are_followed_rotated(page, degrees, last, angle):
    """Up to 15 degrees upright, for these crops are faster; once rotated, until they are lost."""
    scheme = {"five_points": [[0], [1], [2], [3], [4]], "eye_corners": [0, 1]}
    face = np.array([[-15, -10], [15, -10], [0, 3], [-10, 14], [10, 14]])
    turn = np.radians(degrees)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    found = page.call(
        "(m, metadata, found, picture) => "
        "Object.assign(Object.create(m.Localizer.prototype), {metadata}).next(found, picture)",
        {"scheme": scheme, "crop_scale": 2.0},
        {
            "landmarks": (face @ rotation.T + 50).tolist(),
            "lost": False,
            "square": {"x": 50, "y": 50, "side": 60, "angle": float(np.radians(last))},
        },
        {"width": 100, "height": 100},
    )
    assert np.degrees(found.get("angle", 0)) == pytest.approx(angle, abs=1e-6)


@pytest.mark.parametrize(
    ("metadata", "side"),
    [
        ({"scheme": {"crop_from": "image"}, "crop_scale": 1.25}, 112.5),
        ({"scheme": {"crop_from": "image"}, "crop_scale": None}, 90),
        ({"scheme": {"crop_from": "points"}, "crop_scale": 1.25}, None),
        ({"scheme": None, "crop_scale": 2.0}, None),
    ],
)
def test_square_about_a_whole_picture(page, metadata, side):
    found = page.call(
        "(m, metadata) => Object.assign(Object.create(m.Localizer.prototype), {metadata})"
        ".wholePicture({width: 90, height: 70})",
        metadata,
    )
    assert found == (side and {"x": 44.5, "y": 34.5, "side": side})


def test_photo_and_guide(page, photo, tmp_path):
    import cv2
    from selenium.webdriver import ActionChains

    cv2.imwrite(str(tmp_path / "photo.png"), photo)
    page.choose("photo", tmp_path / "photo.png")
    assert np.isfinite(page.get("keras_lapkl.found.landmarks")).all()
    guide, looks = page.get("keras_lapkl.guide"), page.get("keras_lapkl.looks")
    # A finger's width from the middle, to the right.
    actions = ActionChains(page.chromium).click_and_hold(page.element("canvas"))
    actions.move_by_offset(40, 0).release().perform()
    page.wait(f"keras_lapkl.looks > {looks}")
    moved = page.get("keras_lapkl.guide")
    assert moved["x"] > guide["x"] + 5
    assert (moved["y"], moved["side"]) == (pytest.approx(guide["y"]), guide["side"])


def test_the_guide_follows_the_rule_of_a_new_model(page, files, photo, tmp_path):
    """All of the picture for one that was trained on whole pictures, its middle for others."""
    import cv2

    from keras_lapkl.export import flatbuffer_writer
    from keras_lapkl.tflite import flatbuffer, metadata

    model = flatbuffer.parse(files["float32"].read_bytes())
    about = metadata.read(model)
    model.metadata = []
    scheme = {**about.scheme, "crop_from": "image"}
    flatbuffer_writer.add_metadata(model, dataclasses.replace(about, scheme=scheme))
    (tmp_path / "whole.tflite").write_bytes(flatbuffer_writer.pack(model))
    cv2.imwrite(str(tmp_path / "photo.png"), photo)
    page.choose("photo", tmp_path / "photo.png")
    middle = page.get("keras_lapkl.guide")
    page.choose("model", tmp_path / "whole.tflite")
    assert page.get("keras_lapkl.guide.side") == about.crop_scale * max(photo.shape[:2])
    page.choose("model", files["float32"])
    assert page.get("keras_lapkl.guide") == middle


def test_two_fingers_resize_the_guide(page, photo, tmp_path):
    import cv2

    cv2.imwrite(str(tmp_path / "photo.png"), photo)
    page.choose("photo", tmp_path / "photo.png")
    guide, looks = page.get("keras_lapkl.guide"), page.get("keras_lapkl.looks")
    box = page.element("canvas").rect
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    def touch(kind, *offsets):
        points = [{"x": x + dx, "y": y, "id": i} for i, dx in enumerate(offsets)]
        event = {"type": kind, "touchPoints": points}
        page.chromium.execute_cdp_cmd("Input.dispatchTouchEvent", event)

    touch("touchStart", -40)
    touch("touchStart", -40, 40)
    touch("touchMove", -20, 20)
    touch("touchEnd")
    page.wait(f"keras_lapkl.looks > {looks}")
    pinched = page.get("keras_lapkl.guide")
    assert pinched["side"] == pytest.approx(guide["side"] / 2, rel=0.05)
    assert (pinched["x"], pinched["y"]) == (guide["x"], guide["y"])


def test_times(page):
    page.element("time").click()
    page.wait("keras_lapkl.timing")
    timing = page.get("keras_lapkl.timing")
    assert 0 < timing["model"] < timing["frame"]
    assert "frames a second (medians of 100)" in page.message()


def test_frames_have_the_passes_that_are_averaged(page):
    """Two, if the file says how sure it is, by the camera and by the clock."""
    page.call(
        """({ Localizer }) => {
          const { byPasses } = Localizer.prototype;
          window.asked = [];
          Localizer.prototype.byPasses = function (picture, square, passes, ...more) {
            window.localizer = this;
            window.asked.push(passes);
            return byPasses.call(this, picture, square, passes, ...more);
          };
          return null;
        }"""
    )
    page.element("time").click()
    page.wait("keras_lapkl.timing")
    assert page.get("localizer.metadata.calibration == null")
    assert page.get("asked") == [1] * 100
    page.chromium.execute_script(
        """
        const { metadata } = localizer;
        const factors = Array(metadata.num_landmarks).fill(1);
        metadata.calibration = { scales: [1], errors: [1], factors };
        asked.length = 0;
        """
    )
    permit(page, "granted")
    page.element("camera").click()
    page.wait("asked.length > 2")
    assert set(page.get("asked")) == {2}
    page.element("camera").click()


def test_a_face_that_is_followed_is_not_looked_around_for(page):
    """One ring in the dashed square, and once a second; else other cuts where it is lost."""
    page.call(
        """({ Localizer }) => {
          window.rings = [];
          window.lost = false;
          window.now = 5000;
          performance.now = () => window.now;
          Localizer.prototype.byPasses = async function ({ width, height }, square) {
            const landmarks = Array.from({ length: this.metadata.num_landmarks }, (_, i) => [
              width / 2 + 40 * Math.cos(i),
              height / 2 + 40 * Math.sin(i),
            ]);
            const scale = landmarks.map(() => [1, 1]);
            return { landmarks, scale, lost: window.lost, square, milliseconds: 1 };
          };
          Localizer.prototype.lookAround = async (picture, square, found, rings) => {
            window.rings.push(rings.length);
            return found;
          };
          return null;
        }"""
    )
    permit(page, "granted")
    page.element("camera").click()
    page.wait("keras_lapkl.tracking && keras_lapkl.looks > 6")
    assert page.get("rings") == [1]
    page.chromium.execute_script("window.now += 1001; keras_lapkl.looks = 0;")
    page.wait("keras_lapkl.looks > 6")
    assert page.get("rings") == [1, 1]
    page.chromium.execute_script("window.lost = true;")
    page.wait("rings.length > 6")
    assert page.get("rings")[2:5] == [0, 1, 1]  # lost, it is back in the square
    page.element("camera").click()


def test_a_phone_needs_no_sideways_scrolling(page):
    assert page.get("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize(
    "content, said",
    [
        (b"This is no model.\n", "is not a TFLite file: bytes 4 to 7 are not TFL3"),
        (b"", "is not a TFLite file"),
        ("half", "is a damaged TFLite file"),
        ("less", "is the file whole?"),
        ("foreign", "says nothing of crop and landmarks"),
        ("newer", "has metadata of schema 2; this page reads up to schema 1"),
        ("other size", "expected image of 1×33×33×3. Received: 1×32×32×3"),
        ("five points", "scheme.five_points[1][0]: expected a number from 0 to 5. Received: 6"),
    ],
)
def test_bad_models(page, files, tmp_path, content, said):
    from keras_lapkl.export import flatbuffer_writer
    from keras_lapkl.tflite import flatbuffer, metadata

    whole = files["float32"].read_bytes()
    model = flatbuffer.parse(whole)
    about = metadata.read(model)
    written = {
        "foreign": None,
        "newer": dataclasses.replace(about, schema=2),
        "other size": dataclasses.replace(about, image_size=33),
        "five points": dataclasses.replace(
            about, scheme={**about.scheme, "five_points": [[0], [6]]}
        ),
    }
    if content in written:
        model.metadata = []
        if written[content] is not None:
            flatbuffer_writer.add_metadata(model, written[content])
        content = flatbuffer_writer.pack(model)
    contents = {"half": whole[: len(whole) // 2], "less": whole[:-1]}
    path = tmp_path / "chosen.tflite"
    path.write_bytes(contents.get(content, content))
    message = page.fails(lambda: page.element("model").send_keys(str(path)))
    assert message.startswith(("chosen.tflite ", "LiteRT.js can't run chosen.tflite"))
    assert said in message
    # What was loaded before still works.
    page.choose("model", files["int8"])


def test_rules_as_the_library_has_them():
    (table,) = re.findall(
        r"^const RULES = (.*?^\});$", (FOLDER / "rules.js").read_text(), re.M | re.S
    )
    assert json.loads(table) == metadata_rules.rules()


@pytest.mark.skipif(shutil.which("node") is None, reason="no node on PATH")
def test_metadata_by_the_rules_of_the_package(metadata_texts, tmp_path):
    """What the package and `localize.py` take and refuse, without a browser."""
    refused = {name: text for name, (text, _) in metadata_texts.REFUSED.items()}
    (tmp_path / "texts.json").write_text(json.dumps({**metadata_texts.TAKEN, **refused}))
    shutil.copy(FOLDER / "rules.js", tmp_path / "rules.mjs")
    (tmp_path / "all.mjs").write_text(
        """
        import fs from "node:fs";
        import { checkMetadata, parseMetadata } from "./rules.mjs";
        const texts = JSON.parse(fs.readFileSync("texts.json"));
        const said = {};
        for (const [name, text] of Object.entries(texts)) {
          try {
            checkMetadata(parseMetadata(text));
          } catch (error) {
            said[name] = error.message;
          }
        }
        console.log(JSON.stringify(said));
        """
    )
    done = subprocess.run(["node", "all.mjs"], cwd=tmp_path, capture_output=True, check=True)
    said = json.loads(done.stdout)
    assert set(said) == set(refused)
    for name, (_, message) in metadata_texts.REFUSED.items():
        assert re.search(message, said[name]), (name, said[name])


def test_without_webassembly(page):
    script = {"source": "delete window.WebAssembly"}
    added = page.chromium.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", script)
    try:
        message = page.fails(page.chromium.refresh)
    finally:
        page.chromium.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)
    assert message.startswith("LiteRT.js does not start here. It needs a browser with WebAssembly")


def test_bad_photo(page, tmp_path):
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8\xff\xe0 and no more")
    message = page.fails(lambda: page.element("photo").send_keys(str(tmp_path / "photo.jpg")))
    assert message.startswith("photo.jpg is not an image that this browser reads")


def test_tiny_photo(page, tmp_path):
    import cv2

    cv2.imwrite(str(tmp_path / "photo.png"), np.zeros((40, 8, 3), np.uint8))
    message = page.fails(lambda: page.element("photo").send_keys(str(tmp_path / "photo.png")))
    assert message == "photo.png has 8×40 pixels. Expected 16 or more a side."


def permit(page, setting):
    """Answers the question for the camera beforehand."""
    camera = {"permission": {"name": "camera"}, "setting": setting}
    page.chromium.execute_cdp_cmd("Browser.setPermission", camera)


def test_camera(page):
    permit(page, "granted")
    looks = page.get("keras_lapkl.looks")
    page.element("camera").click()
    page.wait(f"keras_lapkl.looks > {looks} + 3")
    assert page.element("camera").get_attribute("aria-pressed") == "true"
    page.wait("document.getElementById('readout').textContent.includes('frames a second')")
    page.element("camera").click()
    page.wait("document.getElementById('camera').ariaPressed === 'false'")


def test_camera_allowed_too_late(page):
    permit(page, "granted")
    page.chromium.execute_script(
        """
        const devices = navigator.mediaDevices;
        const open = devices.getUserMedia.bind(devices);
        const answer = new Promise((allow) => { window.allow = allow; });
        devices.getUserMedia = (wish) => answer.then(() => open(wish)).then((stream) => {
          window.late = stream;
          return stream;
        });
        """
    )
    looks = page.get("keras_lapkl.looks")
    page.element("camera").click()
    page.element("face").click()
    page.wait(f"keras_lapkl.looks > {looks}")
    page.chromium.execute_script("allow()")
    page.wait("window.late?.getTracks().every((track) => track.readyState === 'ended')")
    assert page.element("camera").get_attribute("aria-pressed") == "false"


def test_camera_that_stops(page):
    permit(page, "granted")
    looks = page.get("keras_lapkl.looks")
    page.element("camera").click()
    page.wait(f"keras_lapkl.looks > {looks}")
    track = "document.getElementById('video').srcObject.getVideoTracks()[0]"
    unplug = f"{track}.dispatchEvent(new Event('ended'))"
    message = page.fails(lambda: page.chromium.execute_script(unplug))
    assert message.startswith("The camera stopped. Connect it again")
    assert page.element("camera").get_attribute("aria-pressed") == "false"


def test_camera_refused(page):
    permit(page, "denied")
    message = page.fails(page.element("camera").click)
    assert message.startswith("The camera was refused. Allow it")


# ---- The server


def fetch(address):
    try:
        with urllib.request.urlopen(address, timeout=20) as response:
            return response.status, response.headers, response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, b""


def test_headers(address, files):
    for path, kind in (
        ("", "text/html; charset=utf-8"),
        ("page.js?again", "text/javascript; charset=utf-8"),
        ("node_modules/@litertjs/core/wasm/litert_wasm_internal.wasm", "application/wasm"),
        ("face.png", "image/png"),
    ):
        status, headers, _ = fetch(address + path)
        assert (status, headers["Content-Type"]) == (200, kind)
        assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert headers["Cross-Origin-Embedder-Policy"] == "require-corp"
        policy = headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; ") and "frame-ancestors 'none'" in policy
        assert "unsafe-inline" not in policy and headers["X-Content-Type-Options"] == "nosniff"
    assert fetch(f"{address}model.tflite")[2] == files["float32"].read_bytes()


def test_the_host_is_checked(address):
    other = urllib.request.Request(address, headers={"Host": "rebound.example"})
    assert fetch(other)[0] == 421


@pytest.mark.parametrize(
    "path",
    ["serve.py", "../localize.py", "%2e%2e/localize.py", "/etc/passwd", "node_modules/", "x"],
)
def test_nothing_else_is_served(address, path):
    assert fetch(address + path)[0] == 404


@pytest.mark.skipif(not INSTALLED, reason=NOT_INSTALLED)
@pytest.mark.parametrize(
    "content, said",
    [(None, "There is no model at"), (b"text in place of a model", "is not a TFLite file")],
)
def test_refuses_models(run_tool, tmp_path, content, said):
    path = tmp_path / "model.tflite"
    if content is not None:
        path.write_bytes(content)
    done = run_tool("mobile/web/serve.py", f"--model={path}", "--port=0", check=False)
    assert done.returncode == 1
    assert said in done.stderr and "Traceback" not in done.stderr


@pytest.mark.skipif(not INSTALLED, reason=NOT_INSTALLED)
def test_shipped_models_have_names(run_tool):
    done = run_tool("mobile/web/serve.py", "--model=fpn-tenth-300w", "--port=0", check=False)
    assert done.returncode == 1
    assert "Shipped models: fpn-eighth-300w" in done.stderr and "Traceback" not in done.stderr


def test_without_packages(run_tool, tmp_path):
    copied = shutil.copy(FOLDER / "serve.py", tmp_path)
    done = run_tool(copied, check=False)
    assert done.returncode == 1
    assert "error: The page needs @litertjs/core and @litertjs/wasm-utils" in done.stderr
    assert "npm install --prefix mobile/web" in done.stderr
