"""The photos of a folder, listed in little memory to be handed out shard by shard."""

import hashlib
import itertools
import os
import zlib
from collections.abc import Iterable

import numpy as np

from keras_lapkl._support.stores import AnyPath, State, StoreError, StorePath

_BATCH = 16  # photos that a process takes at once


class Listing:
    """Photos of a folder in their order, each with its size and time; about 15 bytes a photo.

    Args:
        folder: of the photos.
        listed: name below it, and size and time of each; None for these where they must be asked.
        shard_size: photos in a shard, the last one excepted.

    Attributes:
        digest: of all names, sizes and times, in hexadecimal.

    Example:

    >>> photos = Listing(Path("photos"), [("a.jpg", (9300, 1)), ("b.jpg", (8100, 2))], shard_size=1)
    >>> len(photos), photos.names(1), photos.batches(1)
    (2, ['b.jpg'], [[('b.jpg', (8100, 2))]])
    """

    digest: str

    def __init__(
        self, folder: AnyPath, listed: Iterable[tuple[str, State | None]], shard_size: int
    ) -> None:
        self._shards = []
        digest = hashlib.sha256()
        listed = iter(listed)
        while part := list(itertools.islice(listed, shard_size)):
            states = [state or state_of(folder / name) for name, state in part]
            states = np.array(states, "<i8").tobytes()
            joined = b"\0".join(os.fsencode(name) for name, _ in part)
            digest.update(joined + b"\0\0" + states)
            self._shards.append((len(part), zlib.compress(joined, 1), zlib.compress(states, 1)))
        self.digest = digest.hexdigest()

    def __len__(self) -> int:
        return sum(map(self.count, range(len(self._shards))))

    def count(self, shard: int) -> int:
        """Photos of a shard."""
        return self._shards[shard][0]

    def names(self, shard: int) -> list[str]:
        """Names of the photos of a shard."""
        return list(map(os.fsdecode, zlib.decompress(self._shards[shard][1]).split(b"\0")))

    def batches(self, shard: int) -> list[list[tuple[str, State]]]:
        """Lists of (name, (size, time)) of the photos of a shard, each for a process to cut."""
        states = np.frombuffer(zlib.decompress(self._shards[shard][2]), "<i8").reshape(-1, 2)
        photos = list(zip(self.names(shard), map(tuple, states.tolist()), strict=True))
        return [photos[start : start + _BATCH] for start in range(0, len(photos), _BATCH)]


def state_of(path: AnyPath) -> State:
    """Size and time of a file; of one that is not there, none that any file has."""
    try:
        if isinstance(path, StorePath):
            return path.state()
        state = os.stat(path)
    except StoreError:
        raise
    except OSError:
        return -1, -1
    return state.st_size, state.st_mtime_ns
