"""A face as it is found in a photo."""

import dataclasses

import numpy as np

COVERAGE = 0.9


@dataclasses.dataclass(frozen=True, eq=False)
class Face:
    """One face of a photo, in pixels of the photo: x first, pixel centers at whole numbers from 0.

    Attributes:
        landmarks: (K, 2) float64.
        scale: (K, 2) float64, the model's Laplace scale b of each coordinate, of the rotated crop
            brought to the photo as standard deviations are: b_x² ← cos² b_x² + sin² b_y².
        square: (3,) float64, center x, center y and side of the crop that the model looked at.
        angle: by which that crop was rotated, radians from the x axis to the y axis.
        error: (K,) float64, the expected distance of each landmark from the true point; None if the
            model is not calibrated.
        radius: (K,) float64, how far around each landmark the true point lies in 90 % of all cases;
            likewise.
        box: (4,) float64, x0, y0, x1, y1 as the detector or the caller gave it, or None.
        score: the detector's confidence, or None.
    """

    landmarks: np.ndarray
    scale: np.ndarray
    square: np.ndarray
    error: np.ndarray | None = None
    radius: np.ndarray | None = None
    box: np.ndarray | None = None
    score: float | None = None
    angle: float = 0.0
