"""Faces without labels, held in memory or read from shards as they are needed."""

import contextlib
import dataclasses
import struct
import zlib

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from keras_lapkl._support.reading import read_part
from keras_lapkl.data.digests import of_arrays
from keras_lapkl.schemes import CropFrom
from keras_lapkl.training_data import DataSet

INDEX = np.dtype([("offset", "<u8"), ("length", "<u4"), ("crc32", "<u4")])
"""Where the PNG of a face lies in its shard, and the checksum of it."""
_MEGABYTE = 1 << 20
_PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"  # what comes before its width and height


@dataclasses.dataclass(frozen=True, eq=False)
class UnlabeledCrops:
    """N faces without labels, cut to one size and read as they are needed.

    `shards.from_crops` and `shards.read_shards` make them.

    Attributes:
        faces: where they are.
        image_size: S.
        margin: m, spare pixels on each side.
        crop_scale: side of the crop in longer edges of the box of the five points, or of what
            else they are cropped from.
        crop_from: what that is, one of `schemes.CROP_FROM`.
        name: what these are, for messages and tables.
        source: how many, where from, how cropped, how many photos skipped, as a `DataSet`.

    Example:

    >>> faces = keras_lapkl.data.read_shards("faces")
    >>> faces.take(1000).gather([0, 5]).shape           # 80 pixels and a margin of 16
    (2, 112, 112, 3)
    """

    faces: "InMemory | InShards"
    image_size: int
    margin: int
    crop_scale: float
    name: str
    source: DataSet
    crop_from: CropFrom = "points"

    @property
    def summary(self) -> str:
        """One line on the faces."""
        return str(self.source)

    @property
    def inner(self) -> slice:
        """Rows and columns of the faces that are no margin."""
        return slice(self.margin, self.margin + self.image_size)

    def __len__(self) -> int:
        return len(self.faces)

    def digests(self) -> NDArray[np.uint64]:
        """Of each face's picture, (N,), to tell whether data are the same.

        Of shards they are length and checksum of each PNG, which the index has: none is read.
        """
        return self.faces.digests()

    def gather(self, indices: ArrayLike) -> NDArray[np.uint8]:
        """The faces at indices (n,) of any order, (n, S+2m, S+2m, 3) uint8; from any thread.

        Raises:
            IndexError: an index outside 0..N-1.
            ValueError: a damaged shard.
            OSError: a shard that can't be opened.
        """
        indices = np.asarray(indices, np.int64)
        if indices.size and not 0 <= indices.min() <= indices.max() < len(self):
            raise IndexError(
                f"{self.name}: expected indices in 0..{len(self) - 1}. Received: "
                f"{indices.min()}..{indices.max()}"
            )
        return self.faces.gather(indices)

    def part(self, start: int, stop: int) -> "UnlabeledCrops":
        """The faces from one index to before another, to be sent to another process.

        Those of shards keep nothing in memory, and are small when pickled.

        Args:
            start, stop: 0 ≤ start ≤ stop ≤ N.
        """
        return dataclasses.replace(self, faces=self.faces.part(start, stop))

    def take(self, n: int, seed: int = 0) -> "UnlabeledCrops":
        """The first n faces of a permutation: what is in a smaller number is in a larger one.

        Raises:
            ValueError: there are fewer, or n is below 1.
        """
        if not 1 <= n <= len(self):
            raise ValueError(
                f"Expected a number of faces in 1..{len(self)}, which {self.name} has. Received: "
                f"{n}"
            )
        chosen = np.random.default_rng(seed).permutation(len(self))[:n]
        return dataclasses.replace(self, faces=self.faces.take(chosen), source=self.source.taken(n))


@dataclasses.dataclass(frozen=True)
class InMemory:
    """Faces of an array, in an order."""

    images: NDArray[np.uint8]
    order: NDArray[np.int64] | None = None

    def __len__(self):
        return len(self.images if self.order is None else self.order)

    def gather(self, indices):
        return self.images[indices if self.order is None else self.order[indices]]

    def digests(self):
        found = of_arrays(self.images)
        return found if self.order is None else found[self.order]

    def take(self, indices):
        return InMemory(self.images, indices if self.order is None else self.order[indices])

    def part(self, start, stop):
        return InMemory(self.gather(np.arange(start, stop)))


class InShards:
    """Faces in shards, the first ones kept in memory once they are read."""

    def __init__(self, files, shard, index, side, memory_mb):
        self._files, self._shard, self._index = files, shard, index
        self._side, self._memory_mb = side, memory_mb
        room = min(len(index), int(memory_mb * _MEGABYTE) // (3 * side**2))
        # Untouched pages of an empty array take no memory.
        self._kept = np.empty((room, side, side, 3), np.uint8)
        self._is_kept = np.zeros(len(index), bool)

    def __len__(self):
        return len(self._index)

    def gather(self, indices):
        faces = np.empty((len(indices), *self._kept.shape[1:]), np.uint8)
        kept = self._is_kept[indices]
        faces[kept] = self._kept[indices[kept]]
        for row in np.flatnonzero(~kept):
            i = indices[row]
            faces[row] = self._read(i)
            if i < len(self._kept):
                # Threads may do this twice, with the same pixels; marked only when they are there.
                self._kept[i] = faces[row]
                self._is_kept[i] = True
        return faces

    def digests(self):
        return self._index["length"].astype(np.uint64) << np.uint64(32) | self._index["crc32"]

    def take(self, indices):
        return InShards(
            self._files, self._shard[indices], self._index[indices], self._side, self._memory_mb
        )

    def part(self, start, stop):
        numbers, shard = np.unique(self._shard[start:stop], return_inverse=True)
        files = [self._files[number] for number in numbers]
        return InShards(files, shard, self._index[start:stop], self._side, 0)

    def _read(self, i):
        file, entry = self._files[self._shard[i]], self._index[i]
        # Opened each time, in some microseconds: there may be more shards than a process may open.
        data = read_part(file, int(entry["offset"]), int(entry["length"]))
        face = None
        # Others than a PNG of this size may take any memory to decode.
        head = _PNG + struct.pack(">II", self._side, self._side)
        if zlib.crc32(data) == entry["crc32"] and data.startswith(head):
            with contextlib.suppress(cv2.error):
                face = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
        if face is None or face.shape != self._kept.shape[1:]:
            raise ValueError(
                f"{file} is damaged at byte {entry['offset']}. Delete it and give the command that "
                "made it again: only what is missing is made."
            )
        return face
