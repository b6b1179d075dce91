"""Label, box and prediction files whose text is broken."""

import contextlib
import dataclasses
import json
from unittest import mock

import harness
import numpy as np
import scipy.io

from keras_lapkl import configs, schemes
from keras_lapkl._support.files import read_json
from keras_lapkl.data import crops, origins
from keras_lapkl.data.digests import Digests
from keras_lapkl.data.prediction_files import CocoNames, read_predictions
from keras_lapkl.data.readers import aflw
from keras_lapkl.data.readers.coco import read_coco
from keras_lapkl.data.readers.keypoint_csv import read_csv
from keras_lapkl.data.readers.w300 import read_300w
from keras_lapkl.data.unlabeled import records, shards
from keras_lapkl.detection import unfinished
from keras_lapkl.detection.files import read_boxes
from keras_lapkl.training import distillation, run_data
from keras_lapkl.training.recipe import read_recipe
from keras_lapkl.training_data import get as get_training_data

PAIR = schemes.get({"name": "pair", "names": ["left", "right"], "flip": [1, 0]})
HEADER = "path,left_x,left_y,left_visible,right_x,right_y,box_x0,box_y0,box_x1,box_y1\n"
KEYPOINTS = HEADER + "a.png,1.5,2,1,30,40,0,0,50,60\nb.png,,,0,3,4,,,,\n'=c.png,1,2,2,3,4,1,1,9,9\n"
EUROPEAN = "File;X1;Y1;X2;Y2;Box_X0;Box_Y0;Box_X1;Box_Y1\na.png;1,5;2;3,0;4;0;0;50,5;60\n"
PLAIN = "a.png,1.5,2,30,40\nb.png,5,6,7,8\n"
BOXES = 'file,x0,y0,x1,y1\na.jpg,1,2,3,4\n"b,c.jpg",-5,1e1,7,80\n'
PREDICTED = "file,frame,left_x,left_y,right_x,right_y\na.jpg,,1,2,3,4\nb.mp4,7,5,6,7,8\n"
COCO = {
    "images": [
        {"id": 1, "file_name": "a.png", "width": 64, "height": 48},
        {"id": 2, "file_name": "b/c.png"},
    ],
    "categories": [{"id": 1, "name": "pair", "keypoints": ["left", "right"], "skeleton": [[1, 2]]}],
    "annotations": [
        {
            "id": i,
            "image_id": i,
            "category_id": 1,
            "keypoints": [1, 2, 2, 30, 40, 1],
            "bbox": [0, 0, 40, 45],
            "iscrowd": 0,
        }
        for i in (1, 2)
    ],
}
PREDICTIONS = {
    "units": "pixels",
    "scheme": PAIR.to_config(),
    "pictures": [
        {"file": "a.jpg", "faces": [{"landmarks": [[1, 2], [3, 4]], "score": 0.5}]},
        {"file": "b.mp4", "frame": 3, "seconds": 0.1, "faces": []},
    ],
}
TRAINED = {
    "sets": [{"name": "300-W train", "count": 3, "total": 9, "notes": ["one"]}],
    "teacher": {"sets": [{"name": "mine", "count": 1}]},
}
STRANGE = (
    None,
    True,
    -1,
    1.5,
    10**30,
    1e308,
    float("nan"),
    "",
    "=1+1",
    "a/../../b",
    "/etc/b",
    [],
    {},
)


def mutated_data(rng, value):
    """A copy of plain data, somewhere of which stands something else."""
    if rng.random() < 0.15:
        return rng.choice(STRANGE)
    if isinstance(value, dict) and value:
        key = rng.choice(list(value))
        if rng.random() < 0.2:
            return {k: v for k, v in value.items() if k != key}
        return {**value, key: mutated_data(rng, value[key])}
    if isinstance(value, list) and value:
        at = rng.randrange(len(value))
        if rng.random() < 0.2:
            return value[:at] + value[at + 1 :] if rng.random() < 0.5 else [*value, value[at]]
        return [*value[:at], mutated_data(rng, value[at]), *value[at + 1 :]]
    return rng.choice(STRANGE)


def broken_text(rng, path, text, words=()):
    if rng.random() < 0.5:
        path.write_bytes(harness.mutated(rng, text.encode()))
    else:
        path.write_bytes(harness.mutated_text(rng, text, words).encode("utf-8", "surrogatepass"))


def broken_json(rng, path, data):
    if rng.random() < 0.7:
        for _ in range(rng.randint(1, 3)):
            data = mutated_data(rng, data)
        path.write_text(json.dumps(data))
    else:
        broken_text(rng, path, json.dumps(data), ("[" * 5000, "1" * 5000))


def check(annotations):
    known = annotations.landmarks[annotations.known]
    assert np.isfinite(known).all() and (np.abs(known) <= 1e6).all()
    assert annotations.boxes is None or not np.isinf(annotations.boxes).any()


def keypoint_csv(rng, folder):
    text = rng.choice((KEYPOINTS, PLAIN, EUROPEAN))
    broken_text(rng, folder / "x.csv", text, (",", ";", "\t", '"', "\n", "box_x0", "x0", "0,125"))
    check(read_csv(folder / "x.csv", scheme=rng.choice((None, PAIR)), missing_ok=True))


def coco(rng, folder):
    broken_json(rng, folder / "x.json", COCO)
    check(read_coco(folder / "x.json", scheme=rng.choice((None, PAIR)), missing_ok=True))


def boxes(rng, folder):
    broken_text(rng, folder / "x.csv", BOXES, (",", '"', "\n"))
    for found in read_boxes(folder / "x.csv").values():
        assert (np.abs(found) <= 1e6).all() and (found[:, :2] < found[:, 2:]).all()


def predictions_csv(rng, folder):
    text = rng.choice((PREDICTED, PLAIN.replace("png", "jpg")))
    broken_text(rng, folder / "x.csv", text, (",", '"', "\n"))
    found = read_predictions(folder / "x.csv", PAIR)
    assert not (np.abs(found.landmarks) > 1e6).any()


def predictions_json(rng, folder):
    named = {"a.jpg": [[1, 2], [3, 4]], "b.jpg": None, "c.jpg": [[[1, 2], [3, 4]]]}
    broken_json(rng, folder / "x.json", rng.choice((PREDICTIONS, PREDICTIONS["pictures"], named)))
    found = read_predictions(folder / "x.json", PAIR)
    assert not (np.abs(found.landmarks) > 1e6).any()


def coco_results(rng, folder):
    entry = {"image_id": 1, "category_id": 1, "score": 0.5, "keypoints": [1, 2, 0.5, 3, 4, 0.9]}
    broken_json(rng, folder / "x.json", [entry, {**entry, "image_id": "2"}])
    names = CocoNames({"1": "a.png", "2": "b/c.png"}, "1", (1, 0))
    found = read_predictions(folder / "x.json", PAIR, rng.choice((names, None)))
    assert not (np.abs(found.landmarks) > 1e6).any()


def stems(rng, folder):
    """300-W by a list of stems."""
    (folder / "afw").mkdir()
    for stem in ("1", "2"):
        (folder / f"afw/{stem}.jpg").touch()
        points = "\n".join(["1 2"] * 68)
        (folder / f"afw/{stem}.pts").write_text(f"n_points: 68\n{{\n{points}\n}}\n")
    broken_text(rng, folder / "x.txt", "afw/1\nafw/2\n", ("../", "/", "a" * 5000))
    found = read_300w(folder, folder / "x.txt")
    assert all(folder.resolve() in path.resolve().parents for path in found.paths)


def matlab(rng, folder):
    """AFLW's file, of four faces."""
    counts, faces = {"train": 3, "test": 1}, 4
    shapes = {
        key: tuple(faces if side == aflw._FACES else side for side in shape)
        for key, shape in aflw._SHAPES.items()
    }
    content = {key: np.full(shape, 5.0) for key, shape in shapes.items()}
    content["ra"] = np.arange(1.0, 5.0)[None]
    content["nameList"] = np.array([[f"{i}.jpg"] for i in range(faces)], object)
    scipy.io.savemat(folder / "x.mat", content, do_compression=rng.random() < 0.3)
    path = folder / "y.mat"
    path.write_bytes(harness.mutated(rng, (folder / "x.mat").read_bytes()))
    values = {"OFFICIAL_COUNTS": counts, "_FACES": faces, "_SHAPES": shapes}
    with mock.patch.multiple(aflw, **values):
        check(aflw.read_aflw(path, rng.choice(("train", "test"))))


def scheme(rng, folder):
    broken_json(rng, folder / "x.json", schemes.IBUG68.to_config())
    found = schemes.get(folder / "x.json")
    assert len(found.names) == found.num_landmarks


def recipe(rng, folder):
    text = (configs.path("w300_unlabeled")).read_text()
    broken_text(rng, folder / "x.cfg", text, ("--", "=", "\n", "1/0", "--flagfile=x.cfg\n"))
    read_recipe(folder / "x.cfg")


def training_data(rng, folder):
    str(get_training_data(mutated_data(rng, TRAINED)))


def cached_crops(rng, folder):
    path = folder / "crops.npz"
    images, sizes = np.zeros((2, 16, 16, 3), np.uint8), np.full((2, 2), 64, np.int32)
    pictures = np.arange(2, dtype=np.uint64)
    crops._write_cache(path, "print", images, sizes, pictures, np.arange(2), {"a": "why"})
    path.write_bytes(harness.mutated(rng, path.read_bytes()))
    found = crops._read_cache(path, "print")
    assert found is None or len(found) == 5


def data_of_a_run(rng, folder):
    """`run.json` or `faces.npz` broken: other data, or refused, and never taken for the same."""
    faces = Digests(("a", "b"), np.arange(6, dtype=np.uint64).reshape(2, 3))
    loaded = {"dataset": "csv", "data_dir": "/", "split": "train", "category": None}
    data = run_data.RunData({"training": faces, "validation": faces}, None, {}, {})
    other = dataclasses.replace(data, labeled={"training": faces, "validation": faces.take([0])})
    record = {"digests": data.totals(), "loaded": {"training": loaded, "validation": loaded}}
    run_data.write_faces(folder, data)
    if rng.random() < 0.5:
        path = folder / run_data.FACES
        path.write_bytes(harness.mutated(rng, path.read_bytes()))
        assert "validation" in run_data.difference(folder, record["digests"], other)
        return
    broken_json(rng, folder / "run.json", record)
    found = origins.read(folder / "model.keras")
    assert found is None or all(isinstance(part["split"], str) for part in found.loaded.values())
    held = read_json(folder / "run.json")
    held = held.get("digests") if isinstance(held, dict) else None
    assert held == record["digests"] or run_data.difference(folder, held, other)


def shard_folder(rng, folder):
    settings = {"image_size": 16, "margin": 2, "crop_scale": 3.0, "photos": 1, "shard_size": 4}
    settings["locate"] = {"by": "box"}
    about = {"name": "x", "located": "by box", "settings": settings, "faces": 1, "skipped": 0}
    (file,) = shards._shard_files(folder, settings)
    face = records.face(np.zeros((20, 20, 3), np.uint8), "a.jpg", (1.0, 2.0, 3.0))
    shards._write_shard(file, shards._digest(settings), ["a.jpg"], [shards._Cut([face], [])])
    kind = rng.choice((".json", ".npz", ".tfrecord"))
    (folder / shards.SETTINGS).write_text(json.dumps(about))
    if kind == ".json":
        broken_json(rng, folder / shards.SETTINGS, about)
    else:
        path = file.with_suffix(kind)
        path.write_bytes(harness.mutated(rng, path.read_bytes(), most=3))
    found = shards.read_shards(folder, memory_mb=1)
    side = found.image_size + 2 * found.margin
    if len(found):
        assert found.gather([0]).shape == (1, side, side, 3)


def unfinished_predictions(rng, folder):
    """`state.json` broken: what was written is gone on from, or nothing is."""
    record = unfinished.Record(folder, {"model": 1})
    with (
        mock.patch.object(unfinished, "_PAUSE", 0),
        contextlib.suppress(KeyboardInterrupt),
        record.text(folder / "predictions.csv") as text,
    ):
        text.write("a.jpg,1,2\n")
        record.tally.done = 3
        record.tally.counts.update(pictures=2, faces=1)
        record.tally.faces_left_out.update({"small": 1})
        record.tally.skipped.append(("b.jpg", "", "no face"))
        record.keep()
        raise KeyboardInterrupt
    state = folder / unfinished.FOLDER / "state.json"
    written = json.loads(state.read_text())
    broken_json(rng, state, written)
    tally = unfinished.Record(folder, {"model": 1}).tally
    assert not tally.done or json.loads(json.dumps(vars(tally))) == written["tally"]


def labels_of_a_teacher(rng, folder):
    """A part of pseudo-labels broken: what was written, or none."""
    rows = np.zeros(2, distillation._row_type(4))
    rows["face"] = 7, 2**63
    rows["label"] = np.arange(24).reshape(2, 4, 3)
    path = folder / "00000.npz"
    np.savez(path, rows=rows)
    assert (distillation._read(path, rows["face"], rows.dtype) == rows).all()
    content = path.read_bytes()
    if rng.random() < 0.2:
        np.save(folder / "x.npy", rows)
        content = (folder / "x.npy").read_bytes()
    path.write_bytes(harness.mutated(rng, content))
    found = distillation._read(path, rows["face"], rows.dtype)
    assert found is None or (found == rows).all()


ATTACKS = [
    harness.Attack("keypoints, CSV", keypoint_csv, tries=1000),
    harness.Attack("keypoints, COCO", coco, tries=1000),
    harness.Attack("boxes, CSV", boxes, tries=1000),
    harness.Attack("predictions, CSV", predictions_csv, tries=1000),
    harness.Attack("predictions, JSON", predictions_json, tries=1000),
    harness.Attack("predictions, COCO results", coco_results, tries=1000),
    harness.Attack("300-W, list of stems", stems, tries=400),
    harness.Attack("AFLW, .mat", matlab, tries=400),
    harness.Attack("schemes, JSON", scheme, tries=1000),
    harness.Attack("recipes, flags", recipe, tries=400),
    harness.Attack("training data", training_data, tries=1000),
    harness.Attack("crops, .npz", cached_crops, tries=400),
    harness.Attack("data of a run", data_of_a_run, tries=400),
    harness.Attack("shards", shard_folder, tries=400),
    harness.Attack("unfinished predictions", unfinished_predictions, tries=400),
    harness.Attack("parts of pseudo-labels", labels_of_a_teacher, tries=400),
]


def test_reads_or_refuses(figures):
    assert not figures.faults
