"""Photos and videos of any name, predicted into folders that hold other things."""

import dataclasses
import os
import pathlib

import cv2
import harness
import numpy as np

from keras_lapkl.data.prediction_files import read_predictions
from keras_lapkl.detection.files import find_inputs, predict_files
from keras_lapkl.detection.landmark_detector import LandmarkDetector

stub = harness.load(pathlib.Path(__file__).parent.parent / "stub_localizer.py")
PHOTO = cv2.imencode(".png", stub.ramp())[1].tobytes()
BOXES = (stub.BOX, (60, 30, 130, 120), (65, 35, 125, 115))
STEMS = (
    *("a", "A", "a.face1", "a.face2", "a.png", "a.pts", "clip", "000000", "overlays", "results"),
    *("predictions", "skipped", "written", ".lapkl-lock", "-", "=1+1", "%d", "%03d", "a b", "'"),
    *('"', '"a"', "a\nb", "\r", "\x1b[2J", "\u202e", "é", "e\u0301", "😀", "~", "..", "con", "x,y"),
    *(os.fsdecode(each) for each in (b"\xff", b"\xc3", b"a\xfe\n", b"\xed\xa0\x80")),
)
SUFFIXES = (".png", ".jpg", ".PNG", ".avi", ".pts.png", ".face1.png", ".overlay.jpg")


def a_name(rng):
    if rng.random() < 0.1:
        letter = rng.choice(("x", "é", "😀", os.fsdecode(b"\xff")))
        suffix = rng.choice(SUFFIXES)
        room = 255 - len(suffix)
        return letter * (rng.randint(room - 20, room) // len(os.fsencode(letter))) + suffix
    return rng.choice(STEMS) + rng.choice(SUFFIXES)


def a_video(folder):
    path = folder / "made.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (200, 160))
    for _ in range(2):
        writer.write(np.ascontiguousarray(stub.ramp()[..., ::-1]))
    writer.release()
    content = path.read_bytes()
    path.unlink()
    return content


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def attempt(rng, folder):
    video = a_video(folder)
    root = folder / "in"
    names = {a_name(rng) for _ in range(rng.randint(1, 5))}
    for name in names:
        below = root.joinpath(*rng.sample(("b", "clip", "a.pts", "overlays"), rng.randint(0, 2)))
        below.mkdir(parents=True, exist_ok=True)
        (below / name).write_bytes(video if name.endswith(".avi") else PHOTO)
    form = rng.choice(("json", "csv", "pts"))
    overlays = rng.random() < 0.5
    out = folder / rng.choice(("out", "in", "in/b", os.fsdecode(b"out\xff"), "%d", "a/b"))
    if rng.random() < 0.3:
        out.mkdir(parents=True, exist_ok=True)
        (out / rng.choice(("a.pts", "a.face1.pts", "results.json", "clip", "overlays"))).touch()
    inputs = [root]
    if rng.random() < 0.5:
        photos = [path for path in root.rglob("*") if path.name in names and path.is_file()]
        inputs = [path.parent / ".." / path.parent.name / path.name for path in photos]
    before = contents(folder)
    files = find_inputs(inputs)
    boxes = BOXES[: rng.randint(1, 3)]
    localizer = stub.Localizer(stub.POINTS)  # finds one face; of what is no face each box is given
    localizer.scheme = dataclasses.replace(stub.SCHEME, eye_corners=None)
    detector = LandmarkDetector(localizer, stub.detector(*boxes))
    for _ in range(2):
        try:
            found = predict_files(detector, files, out, form, overlays=overlays)
        finally:
            after = contents(folder)
            assert {path: after.get(path) for path in before} == before, "a file was replaced"
            new = set(after) - set(before)
            assert all(path.is_relative_to(out) for path in new), "outside of the folder"
            assert out / ".lapkl-lock" not in new
    assert not found["skipped"], (out / "skipped.csv").read_bytes()
    if overlays:
        made = [path for path in new if path.is_relative_to(out / "overlays")]
        ends = (".overlay.jpg", ".overlay.avi")
        assert len([path for path in made if path.name.endswith(ends)]) == len(files)
    if form == "pts":
        assert len([path for path in new if path.suffix == ".pts"]) == found["faces"]
    else:
        read = read_predictions(out / f"predictions.{form}", stub.SCHEME)
        assert len(read) == found["faces"]
        ends = {path.name for path in files if path.suffix != ".avi"}
        assert {name.rsplit("/", 1)[-1].strip() for name in read.names} >= {
            each.strip() for each in ends
        }


ATTACKS = [harness.Attack("names of photos and videos", attempt, tries=100)]


def test_stays_below_and_replaces_nothing(figures):
    assert not figures.faults, figures.faults[0]
