"""SLEAP's .slp: HDF5 tables of frames, instances and points, and names in JSON.

From format 1.1 on, pixel centers are whole numbers; before, 0 was the edge of the first pixel. An
invisible point is one that is not labeled, as SLEAP has it. Instances that a model predicted are
left out. Frames come with their pictures where these are in the file itself, or are files.

Those in the file were mostly written by OpenCV from RGB, which swaps red and blue: `channel_order`
is then "BGR". Before format 1.4, which has it, they always were (github.com/talmolab/sleap-io, pull
request 250). A frame's `video` is a place in the list of videos, or the number in the name of its
dataset (pull requests 266 and 274 there). From format 2.3 on, the points of a video may start from
the corner of a crop, and its pictures are whole.
"""

import collections
import json
import re

import cv2
import numpy as np

from keras_lapkl._support import extras, reading
from keras_lapkl.data.images import MAX_BYTES, ImageError, check_encoded
from keras_lapkl.data.keypoints import KeypointError, shortened
from keras_lapkl.data.labels.found import EDGE, SEEN, Labeled, Labels, Source, number

_MAX_TABLE = 1 << 30
# A file of HDF5 may claim far more than it has: what was never written is read as zeros.
_MAX_RATIO = 20
_SMALL_TABLE, _SMALL_PICTURES = 1 << 26, 1 << 28  # bytes that a file of any size may have
_USER = 0
_MOVED, _MARKED, _UNKNOWN = 1.1, 1.4, 3.0
_DATASET = re.compile(r"/?video(\d+)/video")
_ENCODED = {"png": ".png", "jpg": ".jpg", "jpeg": ".jpg"}


def matches(source: Source) -> bool:
    return source.head.startswith(b"\x89HDF\r\n\x1a\n")


def read(source: Source) -> Labels:
    with extras.needed_by("Reading SLEAP's files"):
        import h5py
    try:
        with reading.open_regular(source.path) as stream, h5py.File(stream, "r") as file:
            return _labels(source, file)
    except KeypointError:
        raise
    # h5py says in many ways that a file is damaged.
    except (
        *(OSError, ValueError, KeyError, RuntimeError, TypeError, IndexError),
        *(MemoryError, cv2.error),
    ) as error:
        said = " ".join(str(error).split()) or type(error).__name__
        raise KeypointError(
            f"{source.path}: expected SLEAP's labels (.slp). Received HDF5 that can't be read so: "
            f"{said}"
        ) from error


def _labels(source, file):
    path = source.path
    if "metadata" not in file:
        raise KeypointError(
            f"{path}: expected SLEAP's labels (.slp). Received: HDF5 of another program. Of "
            "DeepLabCut's labels, give CollectedData_*.csv, which it writes beside its .h5"
        )
    metadata = _member(path, file, "metadata")
    data = _json(path, metadata.attrs["json"])
    names = _skeletons(path, data)
    form = float(metadata.attrs.get("format_id", 1.0))
    if not form < _UNKNOWN:
        raise KeypointError(
            f"{path}: expected SLEAP's format below {_UNKNOWN:g}, which may mean other things by "
            f"the same names. Received: {form:g}. Save it as CSV or COCO, or by an older SLEAP."
        )
    shift = EDGE if form < _MOVED else 0.0
    frames, instances, points = (_table(path, file, k) for k in ("frames", "instances", "points"))
    videos = [_json(path, each) for each in _table(path, file, "videos_json")]
    ids = {int(each) for each in frames["video"]}
    places = _places(videos, ids)
    by_place = {video: videos[place] for video, place in places.items()}
    pictures = _Pictures(path, file, by_place, "BGR" if form < _MARKED else "RGB")
    corners = _corners(path, file)
    by_id = {int(frame["frame_id"]): frame for frame in frames}
    objects, left_out = [], collections.Counter()
    for instance in instances:
        if instance["instance_type"] != _USER:
            left_out["instances that SLEAP predicted"] += 1
            continue
        where = f"{path}, instance {instance['instance_id']}"
        frame = by_id.get(int(instance["frame_id"]))
        skeleton = int(instance["skeleton"])
        first, end = int(instance["point_id_start"]), int(instance["point_id_end"])
        if frame is None or skeleton >= len(names) or end - first != len(names[skeleton][1]):
            raise KeypointError(
                f"{where}: expected a frame, a skeleton and the points of it. Received: "
                f"{shortened(instance)}"
            )
        if not 0 <= first <= end <= len(points):
            raise KeypointError(f"{where}: expected points of the file. Received: {first} to {end}")
        picture = pictures.of(int(frame["video"]), int(frame["frame_idx"]))
        if picture is None:
            left_out["instances in frames of a video, which has to be saved with its pictures"] += 1
            continue
        category, nodes = names[skeleton]
        x, y = corners.get(places[int(frame["video"])], (0.0, 0.0))
        labeled = {
            name: (
                number(where, f"x of {name}", point["x"]) + x - shift,
                number(where, f"y of {name}", point["y"]) + y - shift,
                SEEN,
            )
            for name, point in zip(nodes, points[first:end], strict=True)
            if point["visible"] and not (np.isnan(point["x"]) and np.isnan(point["y"]))
        }
        objects.append(Labeled(where, picture, labeled, category=category))
    if not objects and left_out:
        reasons = "; ".join(f"{count:,} {what}" for what, count in left_out.items())
        raise KeypointError(
            f"{path}: expected instances labeled by hand, in frames with pictures. Received: "
            f"{reasons}. SLEAP saves pictures by `Predict > Export Labels Package` (.pkg.slp)."
        )
    return Labels(
        objects, dict(names), (source.folder,), left_out, embedded=dict(pictures.embedded)
    )


def _skeletons(path, data):
    """(name, its nodes' names) of each."""
    try:
        nodes = [str(node["name"]) for node in data["nodes"]]
        skeletons = [
            (str(each["graph"]["name"]), tuple(nodes[_node(node)] for node in each["nodes"]))
            for each in data["skeletons"]
        ]
    except (KeyError, TypeError, IndexError, ValueError) as error:
        raise KeypointError(
            f"{path}: expected nodes and skeletons in SLEAP's metadata. Received: {error!r}"
        ) from error
    for name, own in skeletons:
        if len(set(own)) != len(own):
            raise KeypointError(f"{path}: expected each node of skeleton {name!r} once")
    return skeletons


def _node(node):
    index = node["id"]
    if type(index) is not int or index < 0:
        raise ValueError(f"a node {index!r}")
    return index


class _Pictures:
    """The pictures of frames: files that the project names, or those in the .slp itself."""

    def __init__(self, path, file, videos, order):
        self.path, self.file, self.order = path, file, order
        self.videos = videos
        self.embedded = {}
        self.places = {}
        self.rows = {}
        self.taken = 0

    def of(self, video, frame):
        """The name of a frame's picture; None if it is but a frame of a video file."""
        if video not in self.videos:
            raise KeypointError(
                f"{self.path}: expected one of {len(self.videos)} videos. Received: {video}"
            )
        about = self.videos[video]
        backend = _backend(about)
        files = backend.get("filenames") or backend.get("filename") or about.get("filename")
        if isinstance(files, list):
            if frame >= len(files) or not isinstance(files[frame], str):
                raise KeypointError(
                    f"{self.path}, video {video}: expected a file for frame {frame}. Received: "
                    f"{len(files)} files"
                )
            return files[frame]
        number = _dataset_number(about)
        if number is None:
            return None
        group = f"video{number}"
        name = f"{group}/{frame:06d}"
        if name not in self.places:
            self.places[name] = self._embed(group, frame, name)
        return self.places[name]

    def _embed(self, group, frame, name):
        members = _member(self.path, self.file, group)
        if group not in self.rows:
            numbers = _table(self.path, members, "frame_numbers").tolist()
            self.rows[group] = {n: row for row, n in reversed(list(enumerate(numbers)))}
        images = _member(self.path, members, "video")
        claimed = np.prod(images.shape[1:], dtype=float) * images.dtype.itemsize
        if claimed > MAX_BYTES:
            raise KeypointError(
                f"{self.path}, {group}: expected pictures of at most {MAX_BYTES} bytes"
            )
        encoding = images.attrs.get("format", "")
        encoding = encoding.decode() if isinstance(encoding, bytes) else str(encoding)
        if encoding not in _ENCODED:
            raise KeypointError(
                f"{self.path}, {group}: expected pictures as {', '.join(_ENCODED)}. Received: "
                f"{encoding!r}. Export the package once more with a newer SLEAP."
            )
        if frame not in self.rows[group]:
            return None
        self._check_size(claimed)
        content = np.asarray(images[self.rows[group][frame]])
        if content.dtype.itemsize == 1:
            # Rows of one length are filled with zeros behind the end, where no format has one.
            content = np.trim_zeros(content.view(np.uint8).ravel(), "b")
        self.taken += content.nbytes
        self._check_size(self.taken)
        order = images.attrs.get("channel_order", self.order)
        order = order.decode() if isinstance(order, bytes) else str(order)
        if order not in ("RGB", "BGR"):
            raise KeypointError(
                f"{self.path}, {group}: expected channels in the order RGB or BGR. Received: "
                f"{order!r}"
            )
        swapped = _swapped(f"{self.path}, {name}", content) if order == "BGR" else None
        if swapped is not None:
            self.embedded[f"{name}.png"] = swapped
            return f"{name}.png"
        self.embedded[name + _ENCODED[encoding]] = content.tobytes()
        return name + _ENCODED[encoding]

    def _check_size(self, taken):
        """Refuses more bytes of pictures than such a file can have, in one row or in all."""
        size = self.file.id.get_filesize()
        most = max(_SMALL_PICTURES, _MAX_RATIO * size)
        if taken > most:
            raise KeypointError(
                f"{self.path}: expected at most {most} bytes of pictures in a file of {size}. "
                "Received: more. Export the package once more, or parts of it"
            )


def _swapped(where, content):
    """A PNG of a picture with red and blue exchanged; None of one without colors, or damaged."""
    content = np.ascontiguousarray(content)
    try:
        check_encoded(where, content.tobytes())
        image = cv2.imdecode(content, cv2.IMREAD_UNCHANGED)
    except (ImageError, cv2.error):
        return None  # what is wrong with it is told where all pictures are read
    if image is None or image.ndim != 3 or image.shape[2] != 3:
        return None
    return cv2.imencode(".png", np.ascontiguousarray(image[..., ::-1]))[1].tobytes()


def _backend(about):
    found = about.get("backend")
    return found if isinstance(found, dict) else {}


def _dataset_number(about):
    """The number in the name of a video's dataset in the file; None of one that is not there."""
    dataset = _backend(about).get("dataset")
    found = _DATASET.fullmatch(dataset) if isinstance(dataset, str) else None
    return found and found.group(1)


def _places(videos, ids):
    """{what frames call a video: its place in the list}."""
    numbers = map(_dataset_number, videos)
    by_number = {int(n): place for place, n in enumerate(numbers) if n is not None}
    if ids != set(range(len(videos))) and ids <= by_number.keys():
        return by_number
    return {place: place for place in range(len(videos))}


def _corners(path, file):
    """{place of a video: x and y in its pictures of the crop that its points start from}."""
    if "video_crops" not in file:
        return {}
    dataset = _member(path, file, "video_crops")
    if getattr(dataset, "shape", None) != () or dataset.dtype.itemsize > _SMALL_TABLE:
        raise KeypointError(f"{path}: expected one text of JSON as video_crops")
    crops, corners = _parsed(path, dataset[()]), {}
    for each in crops if isinstance(crops, list) else [crops]:
        crop = each.get("crop") if isinstance(each, dict) else None
        if not isinstance(crop, list) or len(crop) != 4 or type(each.get("video")) is not int:
            raise KeypointError(
                f"{path}: expected video_crops of a video's number and a crop x1, y1, x2, y2. "
                f"Received: {shortened(each)}"
            )
        corners[each["video"]] = tuple(
            number(f"{path}, video_crops", "a crop", side) for side in crop[:2]
        )
    return corners


def _member(path, group, name):
    """What is in a group itself: a link may lead into another file of this machine."""
    import h5py

    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise KeypointError(f"{path}: expected SLEAP's labels, with {name!r}. Received: none")
    found = group[name]
    if isinstance(found, h5py.Dataset) and (found.is_virtual or found.external):
        raise KeypointError(f"{path}: expected {name!r} in the file itself, not in another one")
    return found


def _table(path, group, name):
    dataset = _member(path, group, name)
    if getattr(dataset, "ndim", None) != 1:
        raise KeypointError(
            f"{path}: expected SLEAP's labels, with a table {name!r}. Received: others"
        )
    most = min(_MAX_TABLE, max(_SMALL_TABLE, _MAX_RATIO * dataset.file.id.get_filesize()))
    kind, total = dataset.dtype, dataset.size * max(dataset.dtype.itemsize, 1)
    if kind.hasobject and kind.kind != "O":
        raise KeypointError(f"{path}: expected numbers in {name!r}. Received: {kind}")
    rows = range(len(dataset)) if kind.hasobject and total <= most else ()
    texts = []
    for row in rows:  # each of any length
        texts.append(dataset[row])
        total += len(texts[-1])
        if total > most:
            break
    if total > most:
        raise KeypointError(f"{path}: expected at most {most} bytes of {name!r}")
    return np.array(texts, object) if kind.hasobject else dataset[()]


def _json(path, text):
    data = _parsed(path, text)
    if not isinstance(data, dict):
        raise KeypointError(f"{path}: expected a JSON object. Received: {shortened(data)}")
    return data


def _parsed(path, text):
    try:
        return json.loads(text.decode() if isinstance(text, bytes) else str(text))
    except (ValueError, RecursionError) as error:
        raise KeypointError(f"{path}: expected JSON in SLEAP's metadata: {error}") from error
