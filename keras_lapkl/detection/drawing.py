"""Draws faces into photos."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from keras_lapkl.detection.face import Face


def draw_faces(
    photo: NDArray[np.uint8], faces: Sequence[Face], edges: Sequence[tuple[int, int]] = ()
) -> NDArray[np.uint8]:
    """A copy of a photo with landmarks, edges and the radius of each landmark drawn in.

    Args:
        photo: (H, W, 3) uint8 RGB.
        faces: list of `Face`.
        edges: pairs of landmarks to join.
    """
    drawn = photo.copy()
    for face in faces:
        thick = max(1, round(face.square[2] / 300))
        points = face.landmarks
        for a, b in edges:
            cv2.line(drawn, _at(points[a]), _at(points[b]), (255, 255, 255), thick, *_SUBPIXEL)
        radii = face.scale.mean(-1) if face.radius is None else face.radius
        for point, radius in zip(points, radii, strict=True):
            size = round(float(min(radius, face.square[2])) * 2 ** _SUBPIXEL[1])
            cv2.circle(drawn, _at(point), size, (255, 200, 0), thick, *_SUBPIXEL)
            dot = round(max(0.7, face.square[2] / 300) * 2 ** _SUBPIXEL[1])
            cv2.circle(drawn, _at(point), dot, (25, 255, 100), -1, *_SUBPIXEL)
    return drawn


_SUBPIXEL = (cv2.LINE_AA, 4)
"""Line type, and fractional bits of a coordinate."""


def _at(point):
    fraction = 2 ** _SUBPIXEL[1]
    # OpenCV draws with 32-bit coordinates.
    return tuple(int(v) for v in np.clip(np.rint(point * fraction), -(2**28), 2**28))
