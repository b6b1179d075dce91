"""A localizer for tests whose answers are known: it reads places from a photo's colors."""

import numpy as np

from keras_lapkl import confidence
from keras_lapkl.schemes import Scheme

SCHEME = Scheme(
    "pentagon",
    ("right_eye", "left_eye", "nose", "right_mouth", "left_mouth"),
    flip=(1, 0, 2, 4, 3),
    eye_corners=(0, 1),
    five_points=((0,), (1,), (2,), (3,), (4,)),
    edges=((0, 1), (3, 4)),
)
SIZE = 40


def ramp(width=200, height=160):
    """A photo whose red is x and whose green is y, (H, W, 3) uint8."""
    photo = np.zeros((height, width, 3), np.uint8)
    photo[..., 0] = np.arange(width)
    photo[..., 1] = np.arange(height)[:, None]
    return photo


class Localizer:
    """Finds `points` (5, 2) of a `ramp` in any crop of it, with the scales 1 and 2."""

    scheme = SCHEME
    crop_scale = 2.0
    image_size = SIZE
    calibration = None
    trained_on = "nothing"
    training_data = None

    def __init__(self, points):
        self.points = np.asarray(points, np.float64)
        self.crops = []

    def predict(self, images, verbose=0):
        self.crops.append(images)
        found = np.stack([self._find(image.astype(np.float64)) for image in images])
        scale = np.broadcast_to([1.0, 2.0], found.shape)
        return {"landmarks": found, "scale": scale}

    def _find(self, crop):
        y, x = np.mgrid[SIZE // 4 : 3 * SIZE // 4, SIZE // 4 : 3 * SIZE // 4].reshape(2, -1)
        colors = crop[y, x, :2]
        affine = np.linalg.lstsq(np.column_stack([x, y, np.ones_like(x)]), colors)[0]
        area = np.linalg.det(affine[:2])
        if abs(area) < 1e-6:
            return np.zeros_like(self.points)
        found = (self.points - affine[2]) @ np.linalg.inv(affine[:2])
        # What is left in a mirror image is called right, as a network does.
        return found if area > 0 else found[list(SCHEME.flip)]


class Leaning(Localizer):
    """A `Localizer` of `POINTS` that finds all 4 pixels of the crop too far to the right.

    Its expected error is the same everywhere, pixels of the crop.
    """

    def __init__(self, error):
        super().__init__(POINTS)
        quantiles = {0.9: (2.0,) * 5}
        self.calibration = confidence.Calibration(
            (1.0,), (error,), (1 / 1.5,) * 5, quantiles, "made", 99, lost=9.0
        )

    def predict(self, images, verbose=0):
        found = super().predict(images)
        return {**found, "landmarks": found["landmarks"] + (4, 0)}


def detector(*boxes, score=0.75):
    """A face detector that finds the same boxes in each photo, and keeps the photos' shapes."""
    from keras_lapkl.detection.detections import Detection

    def detect(photo):
        detect.shapes.append(photo.shape)
        return [Detection(np.array(box, np.float64), score) for box in boxes]

    detect.shapes = []
    return detect


POINTS = np.array([[80.0, 60.0], [110, 60], [95, 75], [84, 90], [106, 90]])
BOX = (70, 40, 120, 110)
