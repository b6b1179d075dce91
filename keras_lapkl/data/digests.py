"""Tells data from other data: a digest of each face's labels, of its box and of its picture.

64 bits each, of BLAKE2b. They do not depend on where files lie, in which order they are listed, on
the Python or on the machine: a picture's is that of its file's bytes, the labels' that of the
numbers as they are read, in pixels of the photo.
"""

import collections
import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_lapkl._support.reading import open_regular
from keras_lapkl._support.types import PathLike

KINDS = ("labels", "boxes", "pictures")
_CHUNK = 1 << 20


@dataclasses.dataclass(frozen=True, eq=False)
class Digests:
    """What N faces are.

    Attributes:
        names: N names of the pictures, by which faces are found again of which all has changed.
        values: (N, 3) uint64, of labels, box and picture.

    Raises:
        ValueError: other shapes.
    """

    names: tuple[str, ...]
    values: NDArray[np.uint64]

    def __post_init__(self):
        if self.values.shape != (len(self.names), len(KINDS)) or self.values.dtype != np.uint64:
            raise ValueError(
                f"Expected {len(KINDS)} digests of each of {len(self.names)} faces. Received: "
                f"{self.values.shape} {self.values.dtype}"
            )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Digests):
            return NotImplemented
        return self.names == other.names and np.array_equal(self.values, other.values)

    def take(self, indices: NDArray[Any]) -> "Digests":
        return Digests(tuple(self.names[i] for i in indices), self.values[indices])

    def total(self) -> str:
        """One digest of all, whatever their order: 32 hexadecimal digits."""
        return total(self.values)


def total(values: NDArray[np.uint64], ordered: bool = False) -> str:
    """One digest of rows of digests (N, …), whatever their order: 32 hexadecimal digits.

    Args:
        values: the rows.
        ordered: whether another order gives another digest.
    """
    rows = values.reshape(len(values), -1).astype("<u8")
    rows = rows if ordered else rows[np.lexsort(rows.T)]
    return hashlib.blake2b(f"{rows.shape}".encode() + rows.tobytes(), digest_size=16).hexdigest()


def of_labels(landmarks: NDArray[Any], visible: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """Digests (N,) of landmarks (N, K, 2) in pixels of the photos, and which of them are visible.

    Example:

    >>> points = np.zeros((1, 3, 2), np.float32)
    >>> of_labels(points, np.ones((1, 3), bool)) == of_labels(points + 1, np.ones((1, 3), bool))
    array([False])
    """
    count = len(landmarks)
    values = _plain(landmarks).reshape(count, -1).view(np.uint8)
    return _digests(np.concatenate([values, np.asarray(visible, np.uint8)], axis=1))


def of_boxes(boxes: NDArray[Any] | None, count: int) -> NDArray[np.uint64]:
    """Digests (count,) of boxes (count, 4) in pixels of the photos; of None all are alike."""
    if boxes is None:
        return _digests([b""]).repeat(count)
    return _digests(row.tobytes() for row in _plain(boxes))


def of_arrays(arrays: NDArray[Any]) -> NDArray[np.uint64]:
    """Digests (N,) of the pixels of pictures (N, …), for those that come from no files."""
    return _digests(np.ascontiguousarray(each) for each in arrays)


def of_file(path: PathLike) -> int:
    """The digest of a file's bytes, a megabyte at a time.

    Raises:
        OSError, ValueError: as `open_regular`.
    """
    digest = hashlib.blake2b(digest_size=8)
    with open_regular(path) as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return int.from_bytes(digest.digest(), "little")


def _plain(values):
    """float32, little-endian, with one kind of NaN and of 0."""
    values = np.asarray(values, "<f4") + np.float32(0)  # -0 becomes 0
    return np.where(np.isnan(values), np.float32(np.nan), values).astype("<f4")


def _digests(contents):
    found = [hashlib.blake2b(content, digest_size=8).digest() for content in contents]
    return np.frombuffer(b"".join(found), "<u8").astype(np.uint64)


@dataclasses.dataclass(frozen=True)
class Changes:
    """How faces differ from others.

    Attributes:
        labels, boxes, pictures: how many of those that are in both have others.
        added, removed: how many are in one of the two alone.
        count: how many there are now.
        example: the picture of one of all these; None if nothing differs.
    """

    labels: int = 0
    boxes: int = 0
    pictures: int = 0
    added: int = 0
    removed: int = 0
    count: int = 0
    example: str | None = None


def changes(before: Digests, now: Digests) -> Changes:
    """What is different now; a face that was only moved or renamed is the same.

    Faces are compared as wholes first. Of the others those of one picture are, first by its name,
    then by its content.

    Example:

    >>> changes(digests, digests).example is None
    True
    """
    left, new = _unlike(before, now)
    pairs = []
    for key in (lambda digests, i: digests.names[i], lambda digests, i: digests.values[i, 2]):
        waiting = collections.defaultdict(list)
        for i in reversed(left):
            waiting[key(before, i)].append(i)
        unpaired = []
        for j in new:
            if waiting[key(now, j)]:
                pairs.append((waiting[key(now, j)].pop(), j))
            else:
                unpaired.append(j)
        left = [i for several in waiting.values() for i in several]
        new = unpaired
    differ = [before.values[i] != now.values[j] for i, j in pairs]
    counts = np.sum(differ, axis=0, dtype=int) if differ else np.zeros(len(KINDS), int)
    shown = [now.names[j] for _, j in pairs] + [now.names[j] for j in new]
    shown += [before.names[i] for i in left]
    kinds = dict(zip(KINDS, map(int, counts), strict=True))
    return Changes(
        **kinds,
        added=len(new),
        removed=len(left),
        count=len(now.names),
        example=min(shown, default=None),
    )


def _unlike(before: Digests, now: Digests) -> tuple[Sequence[int], Sequence[int]]:
    """Indices of the faces of each that are not in the other, as often as they are too many."""
    rows = collections.Counter(map(bytes, before.values))
    new = []
    for j, row in enumerate(map(bytes, now.values)):
        if rows[row]:
            rows[row] -= 1
        else:
            new.append(j)
    left = []
    for i in reversed(range(len(before.names))):
        row = bytes(before.values[i])
        if rows[row]:
            rows[row] -= 1
            left.append(i)
    return left[::-1], new
