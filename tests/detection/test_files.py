import collections
import csv
import dataclasses
import json
import os
import random
import struct
import subprocess
import time
import unicodedata
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from keras_lapkl import confidence
from keras_lapkl._support.csv_names import read_name
from keras_lapkl._support.folders import owned
from keras_lapkl.data import read_pts
from keras_lapkl.data.images import ImageError
from keras_lapkl.data.prediction_files import read_predictions
from keras_lapkl.detection import unfinished
from keras_lapkl.detection.camera import watch
from keras_lapkl.detection.files import find_inputs, predict_files, read_boxes, summary
from keras_lapkl.detection.landmark_detector import LandmarkDetector
from keras_lapkl.detection.tracking import LandmarkTracker
from keras_lapkl.detection.video import read_pictures


@pytest.fixture
def detector(stub):
    return LandmarkDetector(stub.Localizer(stub.POINTS), stub.detector(stub.BOX))


@pytest.fixture
def photos(stub, tmp_path):
    """A folder with two photos, one of them in a folder below."""
    folder = tmp_path / "photos"
    (folder / "below").mkdir(parents=True)
    for name in ("a.png", "below/b.png"):
        cv2.imwrite(str(folder / name), stub.ramp()[..., ::-1])
    return folder


def video(path, frames, rate=10):
    writer = cv2.VideoWriter(
        str(path), cv2.VideoWriter_fourcc(*"MJPG"), rate, frames[0].shape[1::-1]
    )
    for frame in frames:
        writer.write(np.ascontiguousarray(frame[..., ::-1]))
    writer.release()
    return path


def run(detector, inputs, output, **kwargs):
    return predict_files(detector, find_inputs(inputs), output, **kwargs)


def two_boxes(stub, *names):
    """Two faces in each file; a detector's would be told to be one, for their landmarks are."""
    return dict.fromkeys(names, np.array([stub.BOX, (60, 30, 130, 120)]))


def test_json(detector, stub, photos, tmp_path):
    results = run(detector, [photos], tmp_path / "out")
    found = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert [p["file"] for p in found["pictures"]] == ["a.png", "below/b.png"]
    (face,) = found["pictures"][0]["faces"]
    np.testing.assert_allclose(face["landmarks"], stub.POINTS, atol=0.5)
    assert face["box"] == list(stub.BOX) and face["score"] == 0.75
    assert "radius" not in face and found["scheme"]["names"] == list(stub.SCHEME.names)
    assert (results["files"], results["pictures"], results["faces"]) == (2, 2, 2)
    assert set(results["seconds_by_part"]) == {"read", "write", "detect", "crop", "net"}
    assert "2 faces in 2 pictures" in summary(results)
    assert not (tmp_path / "out" / "skipped.csv").exists()


@pytest.mark.parametrize("form", ["json", "csv", "pts"])
def test_faces_that_are_lost_are_counted(detector, photos, tmp_path, monkeypatch, form):
    call = type(detector).__call__

    def said(is_lost):
        def faces(self, photo, boxes=None):
            return [dataclasses.replace(face, lost=is_lost) for face in call(self, photo, boxes)]

        return faces

    assert run(detector, [photos], tmp_path / "out", form=form)["lost"] == 0
    monkeypatch.setattr(type(detector), "__call__", said(False))
    assert run(detector, [photos], tmp_path / "sure", form=form)["lost"] == 0
    monkeypatch.setattr(type(detector), "__call__", said(True))
    results = run(detector, [photos], tmp_path / "lost", form=form)
    assert (results["faces"], results["lost"]) == (2, 2)
    assert "Lost faces: 2. The model is on" in summary(results)


def test_csv(detector, stub, photos, tmp_path):
    run(detector, [photos], tmp_path, form="csv")
    with (tmp_path / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == ["a.png", "below/b.png"]
    assert float(rows[0]["nose_x"]) == pytest.approx(95, abs=0.5)
    assert rows[0]["nose_radius"] == "" and rows[0]["x1"] == "120.0"
    assert rows[0]["lost"] == ""  # the stub is not calibrated


@pytest.mark.parametrize(("lost", "cell"), [(0.5, "0"), (0.01, "1")])
def test_csv_says_what_is_lost(detector, stub, photos, tmp_path, lost, cell):
    detector.localizer.calibration = confidence.Calibration(
        (1.0,), (1.0,), (1.0,) * 5, {0.9: (2.0,) * 5}, "made", 99, lost
    )
    run(detector, [photos / "a.png"], tmp_path, form="csv")
    with (tmp_path / "predictions.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["lost"] == cell


def test_pts(detector, stub, photos, tmp_path):
    boxes = two_boxes(stub, "a.png", "below/b.png")
    run(detector, [photos], tmp_path / "out", form="pts", boxes=boxes)
    for name in ("a.pts", "a.face1.pts", "below/b.pts", "below/b.face1.pts"):
        np.testing.assert_allclose(read_pts(tmp_path / "out" / name), stub.POINTS, atol=0.7)


def test_photos_of_one_stem_do_not_share_a_pts_file(detector, stub, photos, tmp_path):
    cv2.imwrite(str(photos / "a.bmp"), stub.ramp())
    run(detector, [photos], tmp_path / "out", form="pts")
    assert (tmp_path / "out" / "a.png.pts").exists() and (tmp_path / "out" / "a.bmp.pts").exists()


@pytest.mark.parametrize("form", ["json", "csv"])
def test_equal_input_gives_equal_bytes(detector, photos, tmp_path, form):
    for name in ("first", "second"):
        run(detector, [photos], tmp_path / name, form=form)
    first, second = (tmp_path / n / f"predictions.{form}" for n in ("first", "second"))
    assert first.read_bytes() == second.read_bytes()


def test_overlay_shows_the_landmarks(detector, stub, photos, tmp_path):
    run(detector, [photos / "a.png"], tmp_path / "out", overlays=True)
    drawn = cv2.imread(str(tmp_path / "out" / "overlays" / "a.overlay.jpg")).astype(int)
    x, y = stub.POINTS[2].astype(int)
    changed = np.abs(drawn - stub.ramp()[..., ::-1]).sum(-1) > 100
    assert changed[y, x] and not changed[:20].any()


def test_overlays_of_one_stem_keep_their_suffix(detector, stub, photos, tmp_path):
    cv2.imwrite(str(photos / "a.bmp"), stub.ramp())
    cv2.imwrite(str(photos / "a.png.bmp"), stub.ramp())
    run(detector, [photos], tmp_path / "out", overlays=True)
    found = {path.name for path in (tmp_path / "out" / "overlays").iterdir()} - {"below"}
    names = ("a.bmp", "a.png", "a.png.bmp")
    assert found == {f"{name}.overlay.jpg" for name in names}
    assert (tmp_path / "out" / "overlays" / "below" / "b.overlay.jpg").exists()


def test_radii_in_overlays(detector, photos, tmp_path):
    for name, radii in (("plain", False), ("circled", True)):
        run(detector, [photos / "a.png"], tmp_path / name, overlays=True, radii=radii)
    plain, circled = (
        cv2.imread(str(tmp_path / name / "overlays" / "a.overlay.jpg"))
        for name in ("plain", "circled")
    )
    assert (plain != circled).any()


def png_header(width, height):
    """A PNG of a few bytes that claims any size."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + head + body


def test_hostile_files_are_listed_and_stop_nothing(detector, stub, photos, tmp_path):
    whole = cv2.imencode(".jpg", stub.ramp())[1].tobytes()
    hostile = {
        "bomb.png": (png_header(60_000, 60_000), "at most 200 megapixels"),
        "cut.jpg": (whole[: len(whole) // 2], "truncated"),
        "empty.jpg": (b"", "an empty file"),
        "text.jpg": (b"no picture\n", "Received: 11 bytes that begin with"),
        "noframes.avi": (b"RIFF    AVI LIST", "no frame that can be decoded"),
        "text.mp4": (b"no video\n", "no frame that can be decoded"),
    }
    for name, (content, _) in hostile.items():
        (photos / name).write_bytes(content)
    (photos / "folder.jpg").mkdir()
    (photos / "loop.jpg").symlink_to("loop.jpg")
    (photos / "gone.jpg").symlink_to("nowhere.jpg")
    (photos / "below" / "round").symlink_to(photos)
    results = run(detector, [photos], tmp_path / "out", overlays=True)
    assert results["pictures"] == 2 and results["skipped"] == len(hostile) + 2
    with (tmp_path / "out" / "skipped.csv").open(newline="") as file:
        reasons = {row["file"]: row["reason"] for row in csv.DictReader(file)}
    for name, (_, reason) in hostile.items():
        assert reason in reasons[name]
    assert "symbolic links" in reasons["loop.jpg"] and "No such file" in reasons["gone.jpg"]
    json.loads((tmp_path / "out" / "predictions.json").read_text())


def test_pipes_and_devices_stop_nothing(detector, photos, tmp_path):
    for name in ("pipe.jpg", "pipe.mp4"):
        os.mkfifo(photos / name)
    for name in ("zero.jpg", "zero.avi"):
        (photos / name).symlink_to("/dev/zero")
    results = run(detector, [photos], tmp_path / "out", overlays=True)
    assert (results["pictures"], results["skipped"]) == (2, 4)
    skipped = (tmp_path / "out" / "skipped.csv").read_text()
    assert skipped.count("expected a regular file. Received: a named pipe") == 2
    assert skipped.count("expected a regular file. Received: a device") == 2


@pytest.mark.parametrize("error", [MemoryError, cv2.error("Insufficient memory"), ValueError])
def test_a_picture_that_needs_too_much_memory_is_listed(
    detector, photos, tmp_path, monkeypatch, error
):
    """Whether its decoder or a network asks for it."""
    find = detector.detector

    def hungry(photo):
        if len(find.shapes) == 0:
            find.shapes.append(photo.shape)
            raise error
        return find(photo)

    detector.detector = hungry
    results = run(detector, [photos], tmp_path / "out")
    assert (results["pictures"], results["faces"], results["skipped"]) == (1, 1, 1)
    with (tmp_path / "out" / "skipped.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["file"] == "a.png" and row["reason"]


@pytest.mark.parametrize(
    "name", [b"a\xff.avi", b"%03d.avi", b"concat:a.avi", "😀.mp4".encode(), b"a\nb.avi", b"-i.avi"]
)
def test_videos_of_any_name(detector, stub, tmp_path, monkeypatch, name):
    made = video(tmp_path / "clip.avi", [stub.ramp()] * 2)
    file = tmp_path / os.fsdecode(name)
    made.rename(file)
    monkeypatch.chdir(tmp_path)
    for path in (file, file.relative_to(tmp_path)):
        assert [frame for frame, _, _ in read_pictures(path, 1)] == [0, 1]


def test_a_video_is_one_file_whatever_is_in_it(stub, tmp_path):
    """A picture is no sequence of pictures, though its name has digits."""
    for i in range(3):
        (tmp_path / f"{i}.mp4").write_bytes(cv2.imencode(".jpg", stub.ramp())[1].tobytes())
    assert len(list(read_pictures(tmp_path / "0.mp4", 1))) == 1


def test_videos_of_huge_frames_are_refused(stub, tmp_path, monkeypatch):
    monkeypatch.setattr("keras_lapkl.detection.video.MAX_PIXELS", 31_999)
    file = video(tmp_path / "clip.avi", [stub.ramp()])
    with pytest.raises(ImageError, match=r"clip\.avi: expected frames of at most.*200x160"):
        list(read_pictures(file, 1))


def test_unreadable_file(detector, photos, tmp_path):
    (photos / "a.png").chmod(0)
    if os.access(photos / "a.png", os.R_OK):
        pytest.skip("this user may read every file")
    assert run(detector, [photos], tmp_path / "out")["skipped"] == 1


def test_nothing_but_bad_files_is_an_error(detector, tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match=r"None of 1 files.*empty file"):
        run(detector, [tmp_path], tmp_path / "out")


@pytest.mark.parametrize("form", ["json", "csv", "pts"])
def test_nothing_but_bad_files_leaves_the_faces_of_before(detector, photos, tmp_path, form):
    """As where the disk of the photos is not mounted: the same names, and nothing in them."""
    run(detector, [photos], tmp_path / "out", form=form, overlays=True)
    kept = {
        path: path.read_bytes()
        for path in (tmp_path / "out").rglob("*")
        if path.is_file() and path.name != "written.json"
    }
    for path in photos.rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"None of 2 files.*empty file"):
        run(detector, [photos], tmp_path / "out", form=form, overlays=True)
    assert len(kept) == 2 + (2 if form == "pts" else 1) + 1
    for path, content in kept.items():
        assert path.read_bytes() == content
    assert "a.png" in (tmp_path / "out" / "skipped.csv").read_text()
    assert not (tmp_path / "out" / "predict.unfinished").exists()


def test_a_second_run_leaves_no_faces_of_the_first(detector, stub, photos, tmp_path):
    """Fewer faces in one photo, none in another, and fewer frames of a video."""
    video(photos / "clip.avi", [stub.ramp()] * 4)
    out = tmp_path / "out"
    two = two_boxes(stub, "a.png", "below/b.png", "clip.avi")
    run(detector, [photos], out, form="pts", overlays=True, boxes=two)
    (out / "clip" / "notes.txt").write_text("mine")
    assert len(list(out.rglob("*.pts"))) == 2 * (2 + 4)
    boxes = {"a.png": np.array([stub.BOX]), "clip.avi": np.array([stub.BOX])}
    run(detector, [photos], out, form="pts", overlays=True, boxes=boxes, every=2)
    names = {str(path.relative_to(out)) for path in out.rglob("*.pts")}
    assert names == {"a.pts", "clip/000000.pts", "clip/000002.pts"}
    overlays = sorted(path.name for path in (out / "overlays").rglob("*.*"))
    assert overlays == ["a.overlay.jpg", "clip.overlay.avi"]
    assert (out / "clip" / "notes.txt").exists()


def test_video_frames_with_their_times(detector, stub, tmp_path):
    file = video(tmp_path / "clip.avi", [stub.ramp()] * 5)
    results = run(detector, [file], tmp_path / "out", every=2, overlays=True)
    found = json.loads((tmp_path / "out" / "predictions.json").read_text())["pictures"]
    assert [(p["frame"], p["seconds"]) for p in found] == [(0, 0.0), (2, 0.2), (4, 0.4)]
    assert results["pictures"] == results["faces"] == 3
    shown = cv2.VideoCapture(str(tmp_path / "out" / "overlays" / "clip.overlay.avi"))
    assert shown.get(cv2.CAP_PROP_FPS) == 5 and sum(iter(lambda: shown.grab(), False)) == 3


def test_pictures_of_a_long_video_are_counted(detector, stub, tmp_path, capsys, monkeypatch):
    now = iter(range(0, 10_000, 10))
    monkeypatch.setattr("time.monotonic", lambda: next(now))
    file = video(tmp_path / "clip.avi", [stub.ramp()] * 12)
    run(detector, [file], tmp_path / "out")
    said = [line.partition(f", {tmp_path}")[0] for line in capsys.readouterr().err.splitlines()]
    assert said[-1] == "1 of 1 files, 12 pictures"
    assert len(said) == 3 and said[0].startswith("0 of 1 files, ")


def test_each_video_gets_a_tracker_of_its_own(detector, stub, tmp_path):
    made = []

    def tracker():
        made.append([])
        return lambda photo, at: made[-1].append(at) or detector(photo)

    for name in ("a.avi", "b.avi"):
        video(tmp_path / name, [stub.ramp()] * 2)
    cv2.imwrite(str(tmp_path / "c.png"), stub.ramp())
    run(detector, [tmp_path], tmp_path / "out", tracker=tracker, form="pts")
    assert made == [[0.0, 0.1], [0.0, 0.1]]
    assert (tmp_path / "out" / "a" / "000001.pts").exists()


def test_given_boxes(stub, photos, tmp_path):
    boxes = tmp_path / "boxes.csv"
    boxes.write_text("file,x0,y0,x1,y1\nb.png,70,40,120,110\nb.png,60,30,130,120\n")
    detector = LandmarkDetector(stub.Localizer(stub.POINTS))
    results = run(detector, [photos], tmp_path / "out", boxes=read_boxes(boxes))
    assert results["faces"] == 2 and results["skipped"] == 1  # a.png has none


def test_boxes_of_a_model_of_whole_pictures(stub, photos, tmp_path):
    localizer = stub.Localizer(stub.POINTS)
    localizer.scheme = dataclasses.replace(stub.SCHEME, crop_from="image")
    with pytest.raises(ValueError, match="takes whole pictures: drop --boxes"):
        run(LandmarkDetector(localizer), [photos], tmp_path / "out", boxes={"b.png": [stub.BOX]})
    assert not (tmp_path / "out").exists()


def test_boxes_of_a_picture_in_fractions_among_others(stub, photos, tmp_path):
    boxes = {"b.png": np.array([stub.BOX]), "a.png": np.array([(0.2, 0.3, 0.7, 0.8)])}
    detector = LandmarkDetector(stub.Localizer(stub.POINTS))
    results = run(detector, [photos], tmp_path / "out", boxes=boxes)
    assert results["faces"] == 1 and results["skipped"] == 1
    assert "like fractions" in (tmp_path / "out" / "skipped.csv").read_text()


@pytest.mark.parametrize(
    "line",
    [
        "b.png",
        "b.png,1,2,3",
        "b.png,1,2,3,x",
        "b.png,5,5,5,9",
        "b.png,1,2,3,nan",
        "b.png,0,0,1e300,1e300",
        "b.png,1,2,3,4,5,6,7,8",
    ],
)
def test_bad_line_of_boxes(tmp_path, line):
    (tmp_path / "boxes.csv").write_text(f"a.png,1,2,3,4\n{line}\n")
    with pytest.raises(ValueError, match=r"boxes\.csv, line 2: expected file,x0,y0,x1,y1"):
        read_boxes(tmp_path / "boxes.csv")


@pytest.mark.parametrize(
    "text",
    [
        "b.png,60,30,130,120\n",
        "File,X0,Y0,X1,Y1\nb.png,60,30,130,120\n",
        "file;x0;y0;x1;y1\nb.png;60,0;30,0;130;120\n",
        "y0\tx0\ty1\tx1\tscore\timage\n30\t60\t120\t130\t0.5\tb.png\n",
        "path,xmin,ymin,xmax,ymax\nb.png,60,30,130,120\n",
        "path,x1,y1,x2,y2\nb.png,60,30,130,120\n",
        "file,frame,face,score,x0,y0,x1,y1,nose_x,nose_y\nb.png,,0,.9,60,30,130,120,70,80\n",
    ],
)
def test_forms_of_boxes(tmp_path, text):
    (tmp_path / "boxes.csv").write_text(text)
    ((name, boxes),) = read_boxes(tmp_path / "boxes.csv").items()
    assert name == "b.png" and boxes.tolist() == [[60, 30, 130, 120]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,x,y,w,h\nb.png,1,2,3,4\n", "line 1: .*corners.*with h, w: write the other corner"),
        ("file,0,1,2,3\nb.png,1,2,3,4\n", "line 1: this looks like a header"),
        ("x0,y0,x1,y1\n1,2,3,4\n", "line 1: expected a column of pictures' paths"),
        ("b.png,.1,.2,.3,.4\nc.png,0,0,1,1\n", "expected boxes in pixels.*fractions"),
        ("file,frame,x0,y0,x1,y1\nv.mp4,3,1,2,3,4\n", "line 2: .*Received: frame '3'"),
        ("file,x0,y0,x1,X1,y1\nb.png,1,2,3,3,4\n", "line 1: .*once. Received x1 twice"),
        ("file,x0,y0,x1,y1,x2,y2\nb.png,1,2,3,4,5,6\n", "line 1: .*corners, and no points"),
        ("b.png 1 2 3 4\n", "line 1: .*separated by spaces"),
    ],
)
def test_boxes_that_may_mean_other_things(tmp_path, text, message):
    (tmp_path / "boxes.csv").write_text(text)
    with pytest.raises(ValueError, match=r"boxes\.csv.*" + message):
        read_boxes(tmp_path / "boxes.csv")


def test_bad_boxes_files(tmp_path):
    boxes = tmp_path / "boxes.csv"
    boxes.write_bytes(b"\xff\xfea.png,1,2,3,4")
    with pytest.raises(ValueError, match=r"boxes\.csv: expected UTF-8"):
        read_boxes(boxes)
    boxes.write_text('"a.png,1,2,3,4\n')
    with pytest.raises(ValueError, match=r"boxes\.csv, line 1: no CSV"):
        read_boxes(boxes)


def test_boxes_of_names_that_are_quoted_for_spreadsheets(tmp_path):
    (tmp_path / "boxes.csv").write_text("'=1.png,1,2,3,4\n\n'-2.png,-1,2,3,4\n")
    assert list(read_boxes(tmp_path / "boxes.csv")) == ["=1.png", "-2.png"]


def test_boxes_of_names_that_look_alike(detector, stub, tmp_path):
    """macOS decomposes the accents in the names of files."""
    on_disk, given = (unicodedata.normalize(form, "fotó é.png") for form in ("NFD", "NFC"))
    cv2.imwrite(str(tmp_path / on_disk), stub.ramp())
    found = run(detector, [tmp_path], tmp_path / "out", boxes={given: np.array([stub.BOX])})
    assert found["faces"] == 1 and found["boxes_without_file"] == 0


class TestNamesOfBoxes:
    @pytest.fixture
    def two(self, stub, tmp_path, monkeypatch):
        """Photos of one name in two folders, below the working directory."""
        monkeypatch.chdir(tmp_path)
        for folder in ("ph/a", "ph/b"):
            Path(folder).mkdir(parents=True)
            cv2.imwrite(f"{folder}/1.png", stub.ramp())
        return "ph"

    @pytest.fixture
    def given(self, detector, two, stub):
        def found(names, inputs=two):
            boxes = {name: np.array([stub.BOX]) for name in names}
            results = run(detector, [inputs], "out", boxes=boxes)
            pictures = json.loads(Path("out/predictions.json").read_text())["pictures"]
            return [p["file"] for p in pictures if p["faces"]], results["boxes_without_file"]

        return found

    def test_the_box_of_one_photo_is_not_that_of_another(self, given):
        with pytest.raises(
            ValueError, match=r"of '1\.png'.*may be of any of 2 files: a/1\.png, b/1"
        ):
            given(["1.png"])
        assert not Path("out").exists()
        assert given(["1.png"], "ph/b") == (["1.png"], 0)

    def test_any_end_of_the_path(self, given):
        both = ["a/1.png", "b/1.png"]
        assert given(both) == (both, 0)
        assert given([f"ph/{name}" for name in both]) == (both, 0)
        assert given([f"{Path.cwd()}/ph/{name}" for name in both]) == (both, 0)
        assert given(["./ph/a/1.png"]) == (both[:1], 0)
        assert given(["ph/a/1.png"], "ph/a/1.png") == (["1.png"], 0)
        assert given(["ph/../ph/a/1.png"], "ph/../ph/a/1.png") == (["1.png"], 0)

    def test_the_longest_end(self, given):
        assert given(["a/1.png", "1.png"]) == (["a/1.png", "b/1.png"], 0)
        assert given(["a/1.png", "g/1.png"]) == (["a/1.png"], 1)

    def test_of_the_folder_itself(self, given, stub):
        cv2.imwrite("ph/1.png", stub.ramp())
        assert given(["1.png"]) == (["1.png"], 0)


def test_overlays_of_before_are_no_photos(detector, stub, photos, tmp_path):
    """The output folder may lie within the input."""
    first = run(detector, [photos], photos / "found", overlays=True)
    (photos / "mine.overlay.png").write_bytes((photos / "a.png").read_bytes())
    passed_by = collections.Counter()
    inputs = find_inputs([photos], passed_by)
    assert len(inputs) == first["pictures"] + 1 and photos / "mine.overlay.png" in inputs
    assert passed_by["overlays of before"] == first["pictures"] == 2
    assert len(find_inputs([photos / "found" / "overlays"])) == 2  # where they are asked for
    again = predict_files(detector, inputs, photos / "found", overlays=True)
    assert again["pictures"] == 3


def test_a_box_beside_the_photo_is_listed(stub, photos, tmp_path):
    detector = LandmarkDetector(stub.Localizer(stub.POINTS))
    boxes = {"a.png": np.array([[500.0, 0, 600, 50]]), "b.png": np.array([stub.BOX])}
    assert run(detector, [photos], tmp_path / "out", boxes=boxes)["skipped"] == 1
    assert "about a part of the photo" in (tmp_path / "out" / "skipped.csv").read_text()


def test_inputs(photos, tmp_path):
    both = [photos / "a.png", photos / "below" / "b.png"]
    assert find_inputs([photos]) == both
    assert find_inputs([f"{photos}/**/*.png", photos / "a.png"]) == both
    with pytest.raises(FileNotFoundError, match=r"nor a match"):
        find_inputs([f"{photos}/*.gif"])
    with pytest.raises(FileNotFoundError, match=r"matches folders alone, such as .*below"):
        find_inputs([f"{photos}/bel*"])
    (tmp_path / "bare").mkdir()
    with pytest.raises(ImageError, match="Received: none"):
        find_inputs([tmp_path / "bare"])


def test_interrupted_run_leaves_nothing_half_written(detector, photos, tmp_path):
    output = tmp_path / "out"
    run(detector, [photos], output)
    before = (output / "predictions.json").read_bytes()

    def stop(photo):
        raise KeyboardInterrupt

    detector.detector = stop
    with pytest.raises(KeyboardInterrupt):
        run(detector, [photos], output)
    assert (output / "predictions.json").read_bytes() == before
    names = sorted(path.name for path in output.iterdir())
    assert names == ["predictions.json", "results.json", "written.json"]


@pytest.mark.parametrize("name", ["results.json", "predictions.csv", "skipped.csv"])
def test_nothing_is_written_through_links_in_a_strangers_folder(detector, photos, tmp_path, name):
    """Who made it may say in `written.json` what he likes."""
    out, victim = tmp_path / "out", tmp_path / "victim"
    out.mkdir()
    victim.write_text("mine")
    (out / name).symlink_to(victim)
    announced = ["predictions.csv", "results.json", "skipped.csv"]
    (out / "written.json").write_text(json.dumps({"predict": announced}))
    with pytest.raises(ValueError, match=f"{name} is a link"):
        run(detector, [photos], out, form="csv")
    assert victim.read_text() == "mine"


def test_no_unfinished_text_is_written_through_a_link(tmp_path):
    out, victim = tmp_path / "out", tmp_path / "victim"
    out.mkdir()
    victim.mkdir()
    (out / unfinished.FOLDER).symlink_to(victim)
    with owned(out):
        record = unfinished.Record(out, None)
        with pytest.raises(ValueError, match="is a link"), record.text(out / "faces.csv"):
            pass
    assert not list(victim.iterdir())


def test_bad_format(detector, photos, tmp_path):
    with pytest.raises(ValueError, match="`form` must be one of"):
        run(detector, [photos], tmp_path, form="xml")


class Camera:
    """In place of cv2.VideoCapture: a few frames, then none."""

    frames = 0

    def __init__(self, device):
        self.left = self.frames

    def read(self):
        self.left -= 1
        return self.left >= 0, np.full((160, 200, 3), 9, np.uint8)

    def release(self):
        pass


@pytest.fixture
def tracker(detector):
    return LandmarkTracker(detector, max_scale=100)


def test_camera_until_a_key_is_pressed(tracker, monkeypatch):
    shown = []
    monkeypatch.setattr(Camera, "frames", 9)
    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    monkeypatch.setattr(cv2, "imshow", lambda title, picture: shown.append(picture.shape))
    monkeypatch.setattr(cv2, "waitKey", lambda _: ord("q") if len(shown) == 3 else -1)
    monkeypatch.setattr(cv2, "destroyAllWindows", lambda: None)
    watch(tracker)
    assert shown == [(160, 200, 3)] * 3


def test_no_camera_and_no_window(tracker, monkeypatch):
    def imshow(title, picture):
        raise cv2.error("not implemented")

    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    with pytest.raises(OSError, match="camera as device 1"):
        watch(tracker, 1)
    monkeypatch.setattr(Camera, "frames", 9)
    monkeypatch.setattr(cv2, "imshow", imshow)
    with pytest.raises(OSError, match="opencv-python in place of"):
        watch(tracker)


class TestNames:
    """What a file is called decides nothing but the names of what is made of it."""

    def everything(self, folder):
        return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.*")}

    def test_no_name_leads_out_of_the_folder(self, detector, stub, photos, tmp_path):
        for name in ("victim.jpg", "photos/a.jpg"):
            cv2.imwrite(str(tmp_path / name), stub.ramp())
        before = set(tmp_path.rglob("*"))
        paths = [photos / "below" / ".." / ".." / "victim.jpg", photos / "a.jpg"]
        run(detector, paths, tmp_path / "out" / "in", form="pts", overlays=True)
        new = {path.relative_to(tmp_path) for path in set(tmp_path.rglob("*")) - before}
        assert {path.parts[0] for path in new} == {"out"}
        names = {path.name for path in (tmp_path / "out" / "in").rglob("*.pts")}
        assert names == {"victim.pts", "a.pts"}

    @pytest.mark.parametrize(
        "name",
        [b"a\nb.png", "🙂.png".encode(), b"\xff.png", b"x" * 251 + b".png", b"%d.png"],
        ids=["line", "emoji", "bytes", "long", "percent"],
    )
    @pytest.mark.parametrize("form", ["json", "csv", "pts"])
    def test_any_name(self, detector, stub, tmp_path, name, form):
        (tmp_path / "in").mkdir()
        path = tmp_path / "in" / os.fsdecode(name)
        path.write_bytes(cv2.imencode(".png", stub.ramp())[1].tobytes())
        (tmp_path / "in" / os.fsdecode(b"\xffbad.png")).touch()
        run(detector, [tmp_path / "in"], tmp_path / "out", form=form, overlays=True)
        found = read_predictions(
            tmp_path / "out" / ("" if form == "pts" else f"predictions.{form}"), stub.SCHEME
        )
        if len(name) < 255 or form != "pts":
            (read,) = found.names
            assert os.fsencode(read).removesuffix(b".png") == name.removesuffix(b".png")
        with (tmp_path / "out" / "skipped.csv").open(newline="", encoding="utf-8") as file:
            assert read_name(list(csv.reader(file))[1][0]) == os.fsdecode(b"\xffbad.png")
        assert len(list((tmp_path / "out" / "overlays").iterdir())) == 1

    @pytest.mark.parametrize(
        "name", [b"\xff.avi", b"%03d.avi", b"a\nb.avi"], ids=["bytes", "percent", "line"]
    )
    def test_any_name_of_a_video(self, detector, stub, tmp_path, name):
        path = tmp_path / os.fsdecode(name) / os.fsdecode(name)
        path.parent.mkdir()
        video(tmp_path / "clip.avi", [stub.ramp()] * 3).rename(path)
        results = run(detector, [path], path.parent / "out", form="pts", overlays=True)
        assert results["pictures"] == 3
        assert len(list((path.parent / "out" / "overlays").iterdir())) == 1

    def test_a_second_face_beside_a_photo_of_its_name(self, detector, stub, photos, tmp_path):
        cv2.imwrite(str(photos / "a.face1.png"), stub.ramp())
        boxes = two_boxes(stub, "a.png", "a.face1.png")
        run(detector, [photos], tmp_path / "out", form="pts", boxes=boxes)
        names = {path.name for path in (tmp_path / "out").glob("*.pts")}
        assert names == {"a.pts", "a.face1.pts", "a.face1.png.pts", "a.face1.png.face1.pts"}

    def test_frames_beside_their_video(self, detector, stub, photos, tmp_path):
        video(photos / "below.avi", [stub.ramp()] * 2)
        (photos / "below" / "b.png").rename(photos / "below" / "000001.png")
        run(detector, [photos], tmp_path / "out", form="pts")
        names = {str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*.pts")}
        frames = {"below.avi/000000.pts", "below.avi/000001.pts"}
        assert names == {"a.pts", "below/000001.pts", *frames}

    def test_one_file_in_two_ways(self, photos):
        found = find_inputs([photos / "a.png", photos / "below" / ".." / "a.png"])
        assert found == [photos / "a.png"]

    @pytest.mark.parametrize("label", ["a.pts", "a.face1.pts", "below/b.pts"])
    def test_labels_are_not_replaced(self, detector, photos, tmp_path, label):
        (photos / label).write_text("labels")
        before = self.everything(photos)
        with pytest.raises(ValueError, match=f"{label} is there already, and would be replaced"):
            run(detector, [photos], photos, form="pts")
        assert self.everything(photos) == before
        run(detector, [photos], photos)  # which writes no .pts
        assert (photos / label).read_text() == "labels"

    def test_photos_are_not_replaced(self, detector, photos, tmp_path):
        folder = photos / "overlays"
        (photos / "below").rename(folder)
        (folder / "b.png").rename(folder / "a.overlay.jpg")
        before = self.everything(photos)
        with pytest.raises(ValueError, match=r"a\.overlay\.jpg is an input"):
            run(detector, [photos], photos, overlays=True)
        assert self.everything(photos) == before

    @pytest.mark.parametrize("form", ["json", "csv", "pts"])
    def test_the_same_run_again(self, detector, photos, tmp_path, form):
        for _ in range(2):
            run(detector, [photos], tmp_path / "out", form=form, overlays=True)

    def test_two_runs_at_once(self, detector, photos, tmp_path):
        with owned(tmp_path / "out"), pytest.raises(OSError, match="written to by process"):
            run(detector, [photos], tmp_path / "out")
        assert not list((tmp_path / "out").iterdir())

    def test_a_killed_run_again(self, detector, photos, tmp_path, monkeypatch):
        def stop(*_):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr("keras_lapkl.detection.files.write_skipped", stop)
            run(detector, [photos], tmp_path / "out", form="pts")
        run(detector, [photos], tmp_path / "out", form="pts")


@pytest.fixture
def full(tmp_path):
    """`full(kilobytes)` mounts a folder that has no room for more."""
    folder = tmp_path / "full"
    folder.mkdir()
    mounted = []

    def mount(kilobytes):
        words = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
        if subprocess.run(words, capture_output=True, check=False).returncode:
            pytest.skip("no file system may be mounted here")
        mounted.append(folder)
        return folder

    yield mount
    for each in mounted:
        subprocess.run(["umount", "-l", str(each)], check=True)


class TestFullDisk:
    @pytest.fixture
    def noise(self, rng):
        return [rng.integers(0, 256, (160, 200, 3), np.uint8) for _ in range(40)]

    def test_a_video_that_is_cut_off_is_not_put_in_place(self, detector, noise, full, tmp_path):
        file = video(tmp_path / "clip.avi", noise)
        detector.detector = lambda photo: []
        out = full(300)
        with pytest.raises(OSError, match=r"clip\.overlay\.avi: of 40 frames only"):
            run(detector, [file], out, overlays=True)
        assert not list((out / "overlays").iterdir())

    @pytest.mark.parametrize(
        ("flags", "path"),
        [
            ({"form": "pts"}, r"\d\.pts"),
            ({"form": "csv"}, r"predictions\.csv"),
            ({"form": "json"}, r"predictions\.json"),
            ({"overlays": True}, r"\d\.overlay\.jpg"),
        ],
    )
    def test_the_error_tells_the_file(self, detector, noise, full, tmp_path, flags, path):
        (tmp_path / "in").mkdir()
        for i, photo in enumerate(noise):
            cv2.imwrite(str(tmp_path / "in" / f"{i}.png"), photo)
        out = full(12 if flags.get("form") else 64)
        with pytest.raises(OSError, match=f"No space left on device: '.*{path}'"):
            run(detector, [tmp_path / "in"], out, **flags)
        assert not any(name.name.startswith(".lapkl") for name in out.rglob("*"))


@pytest.mark.slow
def test_a_cluster_writes_the_same(dask_cluster, photos, stub, tmp_path):
    """Photos, a video and a broken file; a worker is killed meanwhile."""
    (photos / "broken.png").write_bytes(b"text")
    video(photos / "clip.avi", [stub.ramp()] * 3)
    detector = LandmarkDetector.from_pretrained("fpn-sixteenth-112-300w-int8", None)
    boxes = {name: np.array([[8.0, 8, 40, 40]]) for name in ("a.png", "b.png", "clip.avi")}
    boxes["b.png"] = np.array([[8.0, 8, 40, 40], [500, 500, 600, 600]])
    alone = run(detector, [photos], tmp_path / "alone", boxes=boxes)
    with dask_cluster.running(tmp_path / "dask") as scheduler:
        while not dask_cluster.kill_a_worker(scheduler, random.Random(0)):
            time.sleep(0.1)
        found = run(detector, [photos], tmp_path / "out", boxes=boxes, scheduler=scheduler)
    for name in ("predictions.json", "skipped.csv"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()
    timed = {"seconds", "pictures_per_second", "seconds_by_part"}
    assert {k: v for k, v in found.items() if k not in timed} == {
        k: v for k, v in alone.items() if k not in timed
    }
    assert found["files"] == 4 and found["skipped"] == 1


def test_a_cluster_draws_no_overlays(detector, photos, tmp_path):
    with pytest.raises(ValueError, match=r"drop --overlays"):
        run(detector, [photos], tmp_path / "out", overlays=True, scheduler="tcp://host:1")


class TestGoesOn:
    """A run that was stopped, and the same call again."""

    @pytest.fixture
    def many(self, photos, stub):
        """Five photos, a video and broken files."""
        for i in range(3):
            cv2.imwrite(str(photos / f"{i}.png"), stub.ramp()[..., ::-1])
        (photos / "0broken.png").write_bytes(b"text")
        (photos / "zbroken.png").write_bytes(b"text")
        video(photos / "clip.avi", [stub.ramp()] * 3)
        return photos

    @pytest.fixture
    def stopped(self, detector, many, tmp_path, monkeypatch):
        """`stopped(after)` ends like by Ctrl-C; then `find` counts the pictures looked at."""
        monkeypatch.setattr(unfinished, "_PAUSE", 0.0)
        looked, find = [], detector.detector

        def counted(photo):
            looked.append(photo.shape)
            if len(looked) == counted.stop:
                raise KeyboardInterrupt
            return find(photo)

        counted.stop = None
        detector.detector = counted

        def stop(after, **kwargs):
            looked.clear()
            counted.stop = after + 1
            with pytest.raises(KeyboardInterrupt):
                run(detector, [many], tmp_path / "out", **{"settings": {"model": 1}, **kwargs})
            looked.clear()
            counted.stop = None
            return looked

        return stop

    @pytest.mark.parametrize(("form", "after"), [("json", 1), ("csv", 3), ("json", 6), ("pts", 6)])
    def test_what_is_done_is_not_done_again(self, detector, many, stopped, tmp_path, form, after):
        kwargs = {"form": form, "settings": {"model": 1}}
        whole = run(detector, [many], tmp_path / "whole", **kwargs)
        looked = stopped(after, form=form)
        assert not (tmp_path / "out" / f"predictions.{form}").exists()
        found = run(detector, [many], tmp_path / "out", **kwargs)
        assert len(looked) == whole["pictures"] - min(after, 5)  # a video is begun anew
        timed = {"seconds", "pictures_per_second", "seconds_by_part"}
        assert {k: v for k, v in found.items() if k not in timed} == {
            k: v for k, v in whole.items() if k not in timed
        }
        for folder in (tmp_path / "whole", tmp_path / "out"):
            (folder / "results.json").unlink()
        assert contents(tmp_path / "out") == contents(tmp_path / "whole")

    def test_faces_of_a_run_before_go_as_if_it_had_not_stopped(
        self, detector, photos, stub, tmp_path, monkeypatch
    ):
        """A photo that is broken now is done before the stop, and no picture is used yet."""
        monkeypatch.setattr(unfinished, "_PAUSE", 0.0)
        kwargs = {"form": "pts", "settings": {"model": 1}}
        for folder in ("whole", "out"):
            run(detector, [photos], tmp_path / folder, **kwargs)
            assert (tmp_path / folder / "a.pts").exists()
        (photos / "a.png").write_bytes(b"text")
        run(detector, [photos], tmp_path / "whole", **kwargs)
        find = detector.detector

        def interrupted(photo):
            raise KeyboardInterrupt

        detector.detector = interrupted
        with pytest.raises(KeyboardInterrupt):
            run(detector, [photos], tmp_path / "out", **kwargs)
        detector.detector = find
        run(detector, [photos], tmp_path / "out", **kwargs)
        names = [
            {
                str(path.relative_to(tmp_path / folder))
                for path in (tmp_path / folder).rglob("*.pts")
            }
            for folder in ("whole", "out")
        ]
        assert names == [{"below/b.pts"}] * 2

    @pytest.mark.parametrize(
        ("form", "overlays", "told"),
        [("json", False, True), ("pts", False, False), ("json", True, False)],
    )
    def test_results_of_before_tell_of_nothing_that_is_replaced(
        self, detector, many, stopped, tmp_path, form, overlays, told
    ):
        kwargs = {"form": form, "overlays": overlays}
        run(detector, [many], tmp_path / "out", settings={"model": 0}, **kwargs)
        stopped(3, **kwargs)
        assert (tmp_path / "out" / "results.json").exists() == told

    @pytest.mark.parametrize("change", ["settings", "form", "photo", "damage"])
    def test_another_call_begins_anew(self, detector, many, stopped, tmp_path, change):
        kwargs = {"form": "csv", "settings": {"model": 1}}
        looked = stopped(3, form="csv")
        if change == "settings":
            kwargs["settings"] = {"model": 2}
        elif change == "form":
            kwargs["form"] = "json"
        elif change == "photo":
            os.utime(many / "0.png", (1, 1))
        else:
            (tmp_path / "out" / unfinished.FOLDER / "predictions.csv").write_text("")
        found = run(detector, [many], tmp_path / "out", **kwargs)
        assert len(looked) == found["pictures"]
        run(detector, [many], tmp_path / "whole", **kwargs)
        name = f"predictions.{kwargs['form']}"
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()

    def test_takes_over_from_another_machine(self, detector, photos, tmp_path):
        (tmp_path / "out").mkdir()
        owner = {"host": "lost", "process": 7, "since": "yesterday"}
        (tmp_path / "out" / ".lapkl-lock").write_text(json.dumps(owner))
        with pytest.raises(OSError, match="process 7 on lost"):
            run(detector, [photos], tmp_path / "out")
        assert run(detector, [photos], tmp_path / "out", resume=True)["pictures"] == 2


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.*")}
