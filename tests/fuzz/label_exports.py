"""Tiny exports of labeling programs, each written as its public description says.

All hold the same: two pictures of 96x64 with one object each. `POINTS` are its points in pixels
with centers at whole numbers; a `None` is one that is not labeled.
"""

import json

import cv2
import h5py
import numpy as np

SIZE = WIDTH, HEIGHT = 96, 64
NAMES = ("nose", "left_ear", "right_ear")
POINTS = {
    "a.png": ((10.0, 20.0), (30.5, 40.25), (50.0, 12.0)),
    "b.png": ((5.0, 6.0), None, (70.0, 50.0)),
}
BOX = {"a.png": (8.5, 10.5, 60.5, 50.5), "b.png": (1.5, 2.5, 79.5, 59.5)}


def picture():
    return np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3)).astype(np.uint8)


def write_pictures(folder, names=POINTS):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / name), picture())


def _labeled(points):
    return [(name, *at) for name, at in zip(NAMES, points, strict=True) if at is not None]


def deeplabcut(folder):
    """A project: three header rows, a cell for the path."""
    below = folder / "labeled-data" / "video"
    write_pictures(below)
    (below / "CollectedData_me.csv").write_text(deeplabcut_text("labeled-data/video/"))
    return folder


def deeplabcut_text(before="", heads=("scorer", "bodyparts", "coords")):
    rows = [
        [heads[0], *["me"] * 6],
        [heads[1], *(name for name in NAMES for _ in "xy")],
        [heads[2], *"xyxyxy"],
    ]
    for file, points in POINTS.items():
        cells = [cell for at in points for cell in (("", "") if at is None else at)]
        rows.append([before + file, *cells])
    return "".join(",".join(map(str, row)) + "\n" for row in rows)


def sleap(folder, format_id=1.3, shift=0.0, name="labels.slp", video=0, order=None):
    """Frames of a package, whose pictures are in it; red and blue are swapped before 1.4."""
    swaps = order == "BGR" or (order is None and format_id < 1.4)
    _, png = cv2.imencode(".png", picture()[..., ::-1] if swaps else picture())
    path = folder / name
    frame = [("frame_id", "u8"), ("video", "u4"), ("frame_idx", "u8")]
    frame += [("instance_id_start", "u8"), ("instance_id_end", "u8")]
    instance = [("instance_id", "i8"), ("instance_type", "u1"), ("frame_id", "u8")]
    instance += [("skeleton", "u4"), ("track", "i4"), ("from_predicted", "i8"), ("score", "f4")]
    instance += [("point_id_start", "u8"), ("point_id_end", "u8")]
    point = [("x", "f8"), ("y", "f8"), ("visible", "?"), ("complete", "?")]
    points, instances = [], []
    for i, labeled in enumerate(POINTS.values()):
        instances.append((i, 0, i, 0, -1, -1, 0, 3 * i, 3 * i + 3))
        for at in labeled:
            known = at is not None
            x, y = at if known else (np.nan, np.nan)
            points.append((x + shift, y + shift, known, True))
    instances.append((2, 1, 1, 0, -1, -1, 0.5, 0, 3))  # predicted
    skeleton = {"graph": {"name": "mouse"}, "links": [], "nodes": [{"id": i} for i in (0, 1, 2)]}
    metadata = {"nodes": [{"name": each} for each in NAMES], "skeletons": [skeleton]}
    dataset = f"video{video}/video"
    about = {"filename": ".", "backend": {"type": "HDF5Video", "dataset": dataset}}
    with h5py.File(path, "w") as file:
        file.create_group("metadata").attrs.update(format_id=format_id, json=json.dumps(metadata))
        frames = [(0, video, 4, 0, 1), (1, video, 7, 1, 2)]
        file["frames"] = np.array(frames, frame)
        file["instances"] = np.array(instances, instance)
        file["points"] = np.array(points, point)
        file["videos_json"] = np.array([json.dumps(about).encode()])
        group = file.create_group(f"video{video}")
        group["frame_numbers"] = [4, 7]
        padded = np.concatenate([png.astype(np.int8).ravel(), np.zeros(9, np.int8)])
        group["video"] = np.stack([padded, padded])
        group["video"].attrs["format"] = "png"
        if order is not None:
            group["video"].attrs["channel_order"] = order
    return path


def label_studio(folder):
    write_pictures(folder / "images")
    path = folder / "project.json"
    path.write_text(json.dumps(label_studio_data()))
    return path


def label_studio_data():
    tasks = []
    for i, (file, points) in enumerate(POINTS.items()):
        common = {"original_width": WIDTH, "original_height": HEIGHT, "image_rotation": 0}
        x0, y0, x1, y1 = BOX[file]
        edges = [(x0 + 0.5) / WIDTH, (y0 + 0.5) / HEIGHT, (x1 - x0) / WIDTH, (y1 - y0) / HEIGHT]
        value = {k: 100 * v for k, v in zip(("x", "y", "width", "height"), edges, strict=True)}
        results = [
            {
                **common,
                "id": f"box{i}",
                "type": "rectanglelabels",
                "value": {**value, "rotation": 0, "rectanglelabels": ["mouse"]},
            }
        ]
        for name, x, y in _labeled(points):
            value = {"x": 100 * (x + 0.5) / WIDTH, "y": 100 * (y + 0.5) / HEIGHT, "width": 0.3}
            results.append(
                {
                    **common,
                    "id": f"{name}{i}",
                    "parentID": f"box{i}",
                    "type": "keypointlabels",
                    "value": {**value, "keypointlabels": [name]},
                }
            )
        annotations = [{"id": i, "was_cancelled": False, "result": results}]
        data = {"image": f"/data/upload/3/{file}"}
        tasks.append({"id": i, "annotations": annotations, "data": data})
    return tasks


def labelme(folder):
    write_pictures(folder)
    for file, content in labelme_data().items():
        (folder / file).with_suffix(".json").write_text(json.dumps(content))
    return folder


def labelme_data():
    found = {}
    for file, points in POINTS.items():
        x0, y0, x1, y1 = (edge + 0.5 for edge in BOX[file])
        shapes = [{"label": "mouse", "points": [[x1, y0], [x0, y1]], "shape_type": "rectangle"}]
        for name, x, y in _labeled(points):
            at = [[x + 0.5, y + 0.5]]
            shapes.append({"label": name, "points": at, "group_id": None, "shape_type": "point"})
        found[file] = {
            "version": "5.4.1",
            "flags": {},
            "shapes": shapes,
            "imagePath": file,
            "imageData": None,
            "imageHeight": HEIGHT,
            "imageWidth": WIDTH,
        }
    return found


def cvat(folder):
    write_pictures(folder / "images")
    path = folder / "annotations.xml"
    path.write_text(cvat_text())
    return path


def cvat_text():
    """Skeletons; the right ear is occluded, what is not there is `outside`."""
    labels = "".join(
        f"<label><name>{name}</name><type>points</type><parent>mouse</parent></label>"
        for name in NAMES
    )
    images = ""
    for i, (file, points) in enumerate(POINTS.items()):
        elements = "".join(
            f'<points label="{name}" occluded="{int(name == "right_ear")}" '
            f'outside="{int(at is None)}" points="{(at or (0, 0))[0] + 0.5},'
            f'{(at or (0, 0))[1] + 0.5}"></points>'
            for name, at in reversed(list(zip(NAMES, points, strict=True)))
        )
        x0, y0, x1, y1 = (edge + 0.5 for edge in BOX[file])
        box = f'<box label="mouse" xtl="{x0}" ytl="{y0}" xbr="{x1}" ybr="{y1}"></box>'
        images += (
            f'<image id="{i}" name="{file}" width="{WIDTH}" height="{HEIGHT}">'
            f'<skeleton label="mouse" z_order="0">{elements}</skeleton>{box}</image>'
        )
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version><meta><task>'
        f"<labels><label><name>mouse</name><type>skeleton</type></label>{labels}</labels></task>"
        f"</meta>{images}</annotations>"
    )


YAML = """# Train and validation pictures
path: ../somewhere
train: images/train
val: images/train
kpt_shape: [3, 3]
flip_idx: [0, 2, 1]
names:
  0: mouse
kpt_names:
  0: [nose, left_ear, right_ear]
"""


def ultralytics(folder):
    write_pictures(folder / "images" / "train")
    (folder / "data.yaml").write_text(YAML)
    for file, text in ultralytics_texts().items():
        path = folder / "labels" / "train" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".txt").write_text(text)
    return folder / "data.yaml"


def ultralytics_texts():
    """The right ear is hidden."""
    texts = {}
    for file, points in POINTS.items():
        x0, y0, x1, y1 = (edge + 0.5 for edge in BOX[file])
        values = [(x0 + x1) / 2 / WIDTH, (y0 + y1) / 2 / HEIGHT]
        values += [(x1 - x0) / WIDTH, (y1 - y0) / HEIGHT]
        for name, at in zip(NAMES, points, strict=True):
            if at is None:
                values += [0, 0, 0]
            else:
                seen = 1 if name == "right_ear" else 2
                values += [(at[0] + 0.5) / WIDTH, (at[1] + 0.5) / HEIGHT, seen]
        texts[file] = " ".join(["0", *map(str, values)]) + "\n"
    return texts


def dlib(folder):
    write_pictures(folder)
    path = folder / "training.xml"
    path.write_text(dlib_text())
    return path


def dlib_text():
    images = ""
    for file, points in POINTS.items():
        x0, y0, x1, y1 = BOX[file]
        left, top, width, height = x0 + 0.5, y0 + 0.5, x1 - x0, y1 - y0
        parts = "".join(f"<part name='{n}' x='{x}' y='{y}'/>" for n, x, y in _labeled(points))
        images += (
            f"<image file='{file}'><box top='{top}' left='{left}' width='{width}' "
            f"height='{height}'><label>mouse</label>{parts}</box>"
            "<box top='1' left='1' width='5' height='5' ignore='1'/></image>"
        )
    return (
        "<?xml version='1.0' encoding='ISO-8859-1'?>\n"
        "<?xml-stylesheet type='text/xsl' href='image_metadata_stylesheet.xsl'?>\n"
        f"<dataset><name>x</name><images>{images}</images></dataset>"
    )


def coco(folder):
    write_pictures(folder / "images")
    path = folder / "keypoints.json"
    path.write_text(json.dumps(coco_data()))
    return path


def coco_data():
    images, annotations = [], []
    for i, (file, points) in enumerate(POINTS.items()):
        images.append({"id": i, "file_name": file, "width": WIDTH, "height": HEIGHT})
        x0, y0, x1, y1 = BOX[file]
        keypoints = [value for at in points for value in ((0, 0, 0) if at is None else (*at, 2))]
        bbox = [x0 + 0.5, y0 + 0.5, x1 - x0, y1 - y0]
        annotations.append(
            {"id": i, "image_id": i, "category_id": 1, "keypoints": keypoints, "bbox": bbox}
        )
    category = {"id": 1, "name": "mouse", "keypoints": list(NAMES), "skeleton": []}
    return {"images": images, "annotations": annotations, "categories": [category]}


def own(folder):
    """What `--dataset=csv` takes, in another order of columns."""
    write_pictures(folder / "photos")
    path = folder / "mine.csv"
    heads = [f"{name}_{axis}" for name in NAMES for axis in "xy"]
    rows = [[*heads, "box_x0", "box_y0", "box_x1", "box_y1", "path"]]
    for file, points in POINTS.items():
        cells = [cell for at in points for cell in (("", "") if at is None else at)]
        rows.append([*cells, *BOX[file], f"photos/{file}"])
    path.write_text("".join(",".join(map(str, row)) + "\n" for row in rows))
    return path


def wflw(folder):
    """98 points, whose numbers are all that they have."""
    write_pictures(folder / "WFLW_images", ["0--Parade/a.png"])
    path = folder / "list_98pt_rect_attr_train.txt"
    path.write_text(wflw_text())
    return path


def wflw_points():
    return np.random.default_rng(1).uniform(5, 60, (98, 2)).round(3)


def wflw_text():
    numbers = " ".join(map(str, wflw_points().ravel().tolist()))
    return f"{numbers} 8 10 60 50 0 1 0 0 1 0 0--Parade/a.png\n"


NAMED = {
    "DeepLabCut": deeplabcut,
    "SLEAP": sleap,
    "Label Studio": label_studio,
    "labelme": labelme,
    "CVAT": cvat,
    "Ultralytics": ultralytics,
    "dlib": dlib,
    "COCO": coco,
    "CSV": own,
}
"""Those that name their points, by the tool's name."""
