"""What every labeled source returns: image files with their landmarks in photo pixels."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from keras_lapkl._support.types import PathLike
from keras_lapkl.data.images import ImageError
from keras_lapkl.schemes import Scheme
from keras_lapkl.training_data import DataSet

_OBJECTS = "objects"


def known_points(landmarks, visible):
    """Which landmarks may be learned and scored: (…, K) bool, visible and finite.

    Args:
        landmarks: (…, K, 2), NaN where not annotated.
        visible: (…, K) bool.
    """
    return visible & np.isfinite(landmarks).all(-1)


def path_below(folder: PathLike, name: str) -> Path:
    """The path of a picture that a file of labels names.

    Such files go from hand to hand, so they may not name what lies elsewhere on this machine: an
    absolute path or `..` may not lead out of the folder. Links in the folder are its owner's, and
    are followed.

    Args:
        folder: of the pictures.
        name: as the file has it.

    Raises:
        ValueError: it is not below the folder.

    Example:

    >>> path_below("photos", "a/../b.jpg")
    PosixPath('photos/a/../b.jpg')
    """
    path, root = Path(folder, name), Path(os.path.abspath(folder))
    if not Path(os.path.abspath(path)).is_relative_to(root):
        raise ValueError(
            f"expected a path below the folder of the images, {root}. Received: {name!r}. Name a "
            "folder that holds all of them; / holds all absolute paths."
        )
    return path


def objects_of(name: str, paths: Sequence[Path], visible: NDArray[np.bool_]) -> DataSet:
    """What a file of keypoints holds, by its N pictures and (N, K) labeled points.

    Example:

    >>> str(objects_of("csv pairs", [Path("a.jpg")] * 2, np.array([[True, True], [True, False]])))
    'csv pairs: 2 objects in 1 images, 1.5 of 2 points labeled on average'
    """
    return DataSet(
        name,
        len(paths),
        kind=_OBJECTS,
        detail=f" in {len(set(paths)):,} images, {visible.sum(1).mean():.3g} of "
        f"{visible.shape[1]} points labeled on average",
    )


@dataclasses.dataclass(frozen=True)
class Annotations:
    """N labeled photos of one scheme.

    Attributes:
        name: what was read, for messages and tables, e.g. `"300-W train"`.
        scheme: which K points these are.
        paths: N image files.
        landmarks: (N, K, 2) float32, photo pixels, x first, 0-based; NaN where not annotated.
        visible: (N, K) bool.
        boxes: (N, 4) float32 face boxes (x0, y0, x1, y1) in photo pixels, or None.
        sizes: (N, 2) int32 width and height of the photos that the labels were made on, 0 where
            that is not known, or None.
        source: what was found, what is missing, and the limit that it sets, as a `DataSet`; or
            None.
        places: N places in the file that was read, for messages; None where each file has one.

    Raises:
        ValueError: arrays that do not fit the number of paths and the scheme.

    Example:

    >>> points, visible = np.zeros((1, 68, 2), np.float32), np.ones((1, 68), bool)
    >>> len(Annotations("mine", IBUG68, (Path("face.jpg"),), points, visible))
    1
    """

    name: str
    scheme: Scheme
    paths: tuple[Path, ...]
    landmarks: NDArray[Any]
    visible: NDArray[np.bool_]
    boxes: NDArray[Any] | None = None
    sizes: NDArray[Any] | None = None
    source: DataSet | None = None
    places: tuple[str, ...] | None = None

    def __post_init__(self):
        check_shapes(self, "images")

    @property
    def summary(self) -> str:
        """One line that says what was found and what is missing."""
        return self.name if self.source is None else str(self.source)

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def known(self) -> NDArray[np.bool_]:
        """(N, K) bool: which landmarks are visible and have finite numbers."""
        return known_points(self.landmarks, self.visible)

    def take(self, indices: Sequence[int] | NDArray[Any]) -> Self:
        """The same annotations, only those at `indices` (a sequence of ints or a bool mask)."""
        indices = np.arange(len(self))[list(indices)]
        found = dataclasses.replace(
            self,
            paths=tuple(self.paths[i] for i in indices),
            landmarks=self.landmarks[indices],
            visible=self.visible[indices],
            boxes=None if self.boxes is None else self.boxes[indices],
            sizes=None if self.sizes is None else self.sizes[indices],
            places=None if self.places is None else tuple(self.places[i] for i in indices),
        )
        return found._of(self.source and self.source.taken(len(indices)))

    def part(self, indices: Sequence[int] | NDArray[Any], *notes: str) -> Self:
        """As `take`, with a `source` that has notes in place of how large the whole was."""
        found = self.take(indices)
        return found._of(self.source and self.source.noted(*notes, count=len(found)))

    def _of(self, source):
        if source and source.kind == _OBJECTS and len(self):
            detail = objects_of(source.name, self.paths, self.visible).detail
            source = dataclasses.replace(source, detail=detail)
        return dataclasses.replace(self, source=source)

    def place(self, index: int) -> str:
        """Where a label is, for messages."""
        return str(self.paths[index]) if self.places is None else self.places[index]

    def check_size(self, index: int, size: Sequence[int] | NDArray[Any]) -> None:
        """Raises `ImageError` unless a photo has the width and height that its labels say."""
        if self.sizes is None or not self.sizes[index].all():
            return
        if tuple(size) != tuple(self.sizes[index]):
            raise ImageError(
                f"{self.paths[index]}: its labels are for {_by(self.sizes[index])} pixels. "
                f"Received: an upright picture of {_by(size)}. Was it scaled, or rotated by its "
                "EXIF orientation?"
            )


def check_shapes(data, what, **more):
    """Raises `ValueError` unless labels, and `more` arrays, have the shapes of N images."""
    n, k = len(data), data.scheme.num_landmarks
    shapes = {"landmarks": (n, k, 2), "visible": (n, k), "boxes": (n, 4), "sizes": (n, 2), **more}
    for field, shape in shapes.items():
        array = getattr(data, field)
        if array is not None and array.shape != shape:
            raise ValueError(
                f"{data.name}: `{field}` must have shape {shape} for {n} {what} and scheme "
                f"{data.scheme.name!r}. Received: {array.shape}"
            )


def _by(size):
    return f"{size[0]}x{size[1]}"
