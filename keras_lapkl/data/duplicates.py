"""Pictures that are the same: copied, written again by another program, or scaled."""

import concurrent.futures
import os
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from keras_lapkl._support import console
from keras_lapkl._support.types import PathLike
from keras_lapkl.data.images import read_image

_SIDE = 32
"""Of the small gray pictures that are compared."""
_BANDS = 4
"""Parts of a hash, of which pictures that may be the same have one in common."""
_NEIGHBORS = 32
"""With how many that share a part of the hash one is compared: thousands of frames of a camera that
stands still may."""
_FARTHEST = 10
"""Gray levels by which no part of a small picture may differ. JPEG at quality 50 changes it by 4; a
paw that moves, by 30."""
_PROPORTION = 0.03


def groups(paths: Sequence[PathLike]) -> NDArray[np.int64]:
    """Numbers the pictures, the same number for those that show the same.

    A hash finds candidates: 64 bits, each says which of two neighboring parts of the picture is
    brighter. Then no part of the pictures in 32×32 gray levels may differ by much, nor their
    proportions. Two frames of a video are the same only if nothing in them has moved. What is the
    same as a picture of a group, but not as the group's first, stays out: from frame to frame a
    slow motion is too small to be seen, and would make one group of the whole video.

    Args:
        paths: N image files, which can be read; the same file may be there several times.

    Returns:
        (N,) the index of the first picture that is the same.

    Raises:
        ImageError, OSError: as `read_image`.

    Example:

    >>> groups(["a.png", "b.png", "a_saved_again.jpg"])
    array([0, 1, 0])
    """
    files = list(dict.fromkeys(map(str, paths)))
    with concurrent.futures.ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        shown = pool.map(_small, files)
        shown = list(console.reported(shown, len(files), "compared {} of {} pictures"))
    small = np.array([picture for picture, _ in shown]).reshape(-1, _SIDE, _SIDE)
    proportions = np.array([proportion for _, proportion in shown])
    parents = np.arange(len(files))
    for pair in _candidates(_hashes(small)):
        low, high = sorted(_root(parents, i) for i in pair)
        alike = low != high and _same(small, proportions, *pair)
        if alike and _same(small, proportions, low, high):
            parents[high] = low
    root = {file: _root(parents, i) for i, file in enumerate(files)}
    first: dict[Any, int] = {}
    return np.array([first.setdefault(root[str(path)], i) for i, path in enumerate(paths)], int)


def _small(path):
    """The picture in few gray levels, and its width by its height."""
    image = read_image(path)
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(gray, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    return small, image.shape[1] / image.shape[0]


def _hashes(small):
    """(N, 4) uint16: 8×8 times whether a part is darker than the one to its right."""
    size = _SIDE // 8
    rows = small.reshape(len(small), 8, size, _SIDE).mean(2)
    # Nine columns that overlap a little have eight differences.
    starts = np.rint(np.linspace(0, _SIDE - size, 9)).astype(int)
    parts = np.stack([rows[..., start : start + size].mean(-1) for start in starts], -1)
    bits = (parts[..., :-1] < parts[..., 1:]).reshape(len(small), 64)
    return np.packbits(bits, axis=1).view(np.uint16).reshape(len(small), _BANDS)


def _candidates(hashes):
    """Pairs of pictures with a part of the hash in common."""
    for band in hashes.T:
        order = np.argsort(band, kind="stable")
        for apart in range(1, min(_NEIGHBORS, len(order) - 1) + 1):
            alike = band[order[apart:]] == band[order[:-apart]]
            yield from zip(order[:-apart][alike], order[apart:][alike], strict=True)


def _same(small, proportions, one, other):
    if abs(proportions[one] / proportions[other] - 1) > _PROPORTION:
        return False
    return np.abs(small[one].astype(int) - small[other]).max() <= _FARTHEST


def _root(parents, i):
    while parents[i] != i:
        parents[i] = parents[parents[i]]
        i = parents[i]
    return int(i)
