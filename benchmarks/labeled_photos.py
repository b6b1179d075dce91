"""Photos with landmarks of one of their faces, and whether what is found is that face."""

import pathlib

import cv2
import numpy as np

from keras_lapkl.data.pts import read_pts
from keras_lapkl.schemes import IBUG68

OVERLAP = 0.3
"""Intersection over union of a box and the labels' box from which it is that face's."""
_GRAY = 480, 640


def labeled(folder, stems):
    """(image file, landmarks) of each photo."""
    if stems is None:
        files = sorted(folder.glob("**/*.pts"))
    else:
        files = [folder / f"{stem}.pts" for stem in pathlib.Path(stems).read_text().splitlines()]
    found = [
        (file.with_suffix(suffix), read_pts(file))
        for file in files
        for suffix in (".jpg", ".png")
        if file.with_suffix(suffix).is_file()
    ]
    if not found:
        raise ValueError(f"{folder}: expected photos with .pts files. Received: none")
    return found


def shrunk(photo, labels, edge):
    """A photo so small that its labels' box has this edge, on gray 640x480, and the labels."""
    height, width = photo.shape[:2]
    ratio = min(1, edge / np.ptp(labels, axis=0).max())
    size = round(ratio * width), round(ratio * height)
    small = cv2.resize(photo, size, interpolation=cv2.INTER_AREA)[: _GRAY[0], : _GRAY[1]]
    x, y = (_GRAY[1] - small.shape[1]) // 2, (_GRAY[0] - small.shape[0]) // 2
    canvas = np.full((*_GRAY, 3), 128, np.uint8)
    canvas[y : y + small.shape[0], x : x + small.shape[1]] = small
    return canvas, (labels + 0.5) * size / (width, height) - 0.5 + (x, y)


def overlap(box, labels):
    """Intersection over union of a face's box and the labels' box."""
    boxes = np.stack([box, np.concatenate([labels.min(0), labels.max(0)])])
    first, last = np.split(boxes, 2, axis=1)
    common = np.maximum(last.min(0) - first.max(0), 0).prod()
    return common / ((last - first).prod(1).sum() - common)


def nme(landmarks, labels):
    right, left = labels[list(IBUG68.eye_corners)]
    return 100 * np.linalg.norm(landmarks - labels, axis=1).mean() / np.linalg.norm(right - left)
