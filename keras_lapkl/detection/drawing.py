"""Draws faces into photos."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from keras_lapkl.data.contact_sheets import BLACK, SUBPIXEL, WHITE, draw_text, fixed
from keras_lapkl.detection.face import Face
from keras_lapkl.schemes import Scheme

SURE, UNSURE = 0.007, 0.05
"""Expected errors between which the colors lie, as parts of the side of the model's crop."""

FEW = 24
"""Points up to which the names of a scheme are legible beside them."""

_UNKNOWN = 60, 200, 255
_SUBPIXEL = (cv2.LINE_AA, SUBPIXEL)
"""Line type, and fractional bits of a coordinate."""

_TURNS = np.linspace(0, 2 * np.pi, 16, endpoint=False)
_CIRCLE = np.stack([np.cos(_TURNS), np.sin(_TURNS)], -1)  # OpenCV draws small ones as squares


def draw_faces(
    photo: NDArray[np.uint8],
    faces: Sequence[Face],
    edges: Sequence[tuple[int, int]] = (),
    radii: bool = False,
    names: Sequence[str] = (),
) -> NDArray[np.uint8]:
    """A copy of a photo with the landmarks of faces drawn in, colored by how sure the model is.

    Yellow is an expected error of 0.7 % of the side of the model's crop or less, purple one of 5 %
    or more, by the logarithm between them (the colors of "plasma", which color-blind people can
    tell apart). Landmarks of a model that is not calibrated are light blue.

    Args:
        photo: (H, W, 3) uint8 RGB.
        faces: list of `Face`.
        edges: pairs of landmarks to join.
        radii: whether to draw the radius of each landmark, or of a model that is not calibrated
            its scale.
        names: K names to write beside the landmarks; or none.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    drawn = photo.copy()
    for face in faces:
        points, side = face.landmarks, face.square[2]
        colors = _colors(face)
        for a, b in edges:
            start, end = fixed(points[[a, b]]).tolist()
            cv2.line(drawn, start, end, WHITE, 1, *_SUBPIXEL)
        if radii:
            around = face.scale.mean(-1) if face.radius is None else face.radius
            for point, radius, color in zip(points, around, colors, strict=True):
                if not np.isfinite(radius):  # it is not known
                    continue
                length = round(float(min(radius, side)) * 2**SUBPIXEL)
                cv2.circle(drawn, fixed(point).tolist(), length, color, 1, *_SUBPIXEL)
        dot = max(1.4, side / 110)
        for radius, shades in ((dot + max(0.6, dot / 3), [BLACK] * len(points)), (dot, colors)):
            for point, color in zip(points, shades, strict=True):
                disc = fixed(point + radius * _CIRCLE)
                cv2.fillConvexPoly(drawn, disc, color, *_SUBPIXEL)
        size = float(np.clip(side / 900, 0.35, 1))
        for point, name in zip(points, names, strict=False):
            draw_text(drawn, name, point + (2 * dot, -2 * dot), size, inside=False)
    return drawn


def draw_by_scheme(
    photo: NDArray[np.uint8], faces: Sequence[Face], scheme: Scheme, radii: bool = False
) -> NDArray[np.uint8]:
    """`draw_faces` with the edges of a `Scheme`, and the names of its points if legible."""
    return draw_faces(photo, faces, scheme.edges, radii, names_to_draw(scheme))


def names_to_draw(scheme: Scheme) -> tuple[str, ...]:
    """The names of a scheme of few points, or none of those of a face: everybody knows them."""
    face = scheme.eye_corners is not None or scheme.five_points
    return () if face or scheme.num_landmarks > FEW else scheme.names


def _colors(face):
    """K colors by the expected errors."""
    if face.error is None:
        return [_UNKNOWN] * len(face.landmarks)
    doubt = np.log(np.maximum(face.error / face.square[2], SURE) / SURE) / np.log(UNSURE / SURE)
    # Not the darkest quarter of the scale: it is lost on dark photos.
    levels = np.rint(245 - 180 * np.clip(doubt, 0, 1)).astype(np.uint8)
    return cv2.applyColorMap(levels[:, None], cv2.COLORMAP_PLASMA)[:, 0, ::-1].tolist()
