"""From a photo to landmarks: find the faces, cut them out, localize, and map back to the photo."""

import dataclasses

import numpy as np

from keras_lapkl.data.crops import (
    apply_transform,
    crop_box,
    crop_transform,
    invert_transform,
    warp_crop,
)


@dataclasses.dataclass(frozen=True, eq=False)
class Face:
    """One face of a photo; all lengths in pixels of the photo, x first, pixel centres at integers.

    Attributes:
        landmarks: (K, 2) float64.
        scale: (K, 2) float64, the model's Laplace scale b of each coordinate.
        square: (3,) float64, centre x, centre y and side of the crop that the model looked at.
        box: (4,) float64, x0, y0, x1, y1 as the detector gave it; None if it came from a square.
        score: the detector's confidence, or None.
    """

    landmarks: np.ndarray
    scale: np.ndarray
    square: np.ndarray
    box: np.ndarray | None = None
    score: float | None = None


class LandmarkDetector:
    """Faces of a photo with their landmarks.

    Args:
        localizer: a `LandmarkLocalizer` or a `TFLiteLocalizer` that knows its scheme and crop rule.
        detector: callable from a photo (H, W, 3) uint8 RGB to a list of `detectors.Detection`; None
            if boxes or squares are always given.
        rounds: looks at a face, ≥ 1: the first at the crop by the detector's box, each further one
            at the crop by the landmarks of the one before.
    """

    def __init__(self, localizer, detector=None, rounds=2):
        self.localizer = localizer
        self.detector = detector
        self.rounds = rounds

    def localize(self, photo, squares, rounds=1):
        """The faces in known squares.

        Args:
            photo: (H, W, 3) uint8 RGB.
            squares: (n, 3) centre x, centre y and longer edge of the five points' box, photo pixels,
                as `crop_box(…, crop_scale=1)` gives them from landmarks.
            rounds: looks at each face.

        Returns:
            list of n `Face`.
        """
        squares = np.asarray(squares, np.float64).reshape(-1, 3)
        if not len(squares):
            return []
        localizer = self.localizer
        size = localizer.image_size
        for _ in range(rounds):
            boxes = squares * (1, 1, localizer.crop_scale)
            transforms = crop_transform(boxes, size)
            crops = np.stack([warp_crop(photo, each, size) for each in transforms])
            found = localizer.predict(crops, verbose=0)
            landmarks = apply_transform(invert_transform(transforms), found["landmarks"])
            squares = crop_box(landmarks, localizer.scheme, crop_scale=1)
        scale = found["scale"] * (boxes[:, 2] / size)[:, None, None]
        return [Face(*each) for each in zip(landmarks, scale, boxes, strict=True)]
