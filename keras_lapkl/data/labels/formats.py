"""Which tool a file or folder of labels is from, by its content, and what is in it."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

from keras_lapkl._support.types import PathLike
from keras_lapkl.data.keypoints import KeypointError
from keras_lapkl.data.labels import (
    coco,
    cvat,
    deeplabcut,
    dlib,
    keypoint_csv,
    label_studio,
    labelme,
    sleap,
    ultralytics,
    wflw,
)
from keras_lapkl.data.labels.found import Labels, Source


@dataclasses.dataclass(frozen=True)
class Format:
    """A format of labels.

    Attributes:
        name: of the tool.
        files: what it writes, for messages.
        matches: whether a source is of it.
        read: what a source holds.
    """

    name: str
    files: str
    matches: Callable[[Source], bool]
    read: Callable[[Source], Labels]


FORMATS = (
    Format(
        "DeepLabCut",
        "CollectedData_*.csv, or a project folder",
        deeplabcut.matches,
        deeplabcut.read,
    ),
    Format("SLEAP", ".slp with pictures", sleap.matches, sleap.read),
    Format("Label Studio", "JSON or JSON-MIN", label_studio.matches, label_studio.read),
    Format("labelme", "a JSON file, or a folder of them", labelme.matches, labelme.read),
    Format("CVAT", "`CVAT for images 1.1` XML", cvat.matches, cvat.read),
    Format("Ultralytics", "data.yaml with kpt_shape", ultralytics.matches, ultralytics.read),
    Format("dlib", "imglab's XML", dlib.matches, dlib.read),
    Format("WFLW", "a list of numbers and a path a line", wflw.matches, wflw.read),
    Format("COCO", "keypoints JSON", coco.matches, coco.read),
    Format("CSV", "what --dataset=csv takes", keypoint_csv.matches, keypoint_csv.read),
)


def recognize(
    path: PathLike, category: str | None = None, images: Path | None = None
) -> tuple[Format, Source] | None:
    """The format of a file or folder by its content, and the source to read; None if of none.

    Args:
        path: of the file or folder.
        category, images: as `Source` has them.

    Raises:
        KeypointError: it begins as JSON or XML and is not.
        OSError: there is no such file.

    Example:

    >>> recognize("project/labeled-data/video/CollectedData_me.csv")[0].name
    'DeepLabCut'
    """
    source = Source(Path(path), category, images)
    return next(((each, source) for each in FORMATS if each.matches(source)), None)


def known(
    path: PathLike, category: str | None = None, images: Path | None = None
) -> tuple[Format, Source]:
    """As `recognize`, or a KeypointError that lists the formats that are read.

    A .csv file of no format is taken as that of `--dataset=csv`: reading it tells what is wrong.
    """
    found = recognize(path, category, images)
    if found is None and (path := Path(path)).suffix.lower() == ".csv" and not path.is_dir():
        return FORMATS[-1], Source(path, category, images)
    if found is None:
        listed = "; ".join(f"{each.name} ({each.files})" for each in FORMATS)
        raise KeypointError(f"{path}: expected labels of one of these: {listed}. Received: others")
    return found
