"""A face as it is found in a photo."""

import dataclasses
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

COVERAGE = 0.9
_DIGITS = 3


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Face:
    """One face of a photo, in pixels of the photo: x first, pixel centers at whole numbers from 0.

    Attributes:
        landmarks: (K, 2) float64.
        scale: (K, 2) float64, the model's Laplace scale b of each coordinate, of the rotated crop
            brought to the photo as standard deviations are: b_x² ← cos² b_x² + sin² b_y².
        square: (3,) float64, center x, center y and side of the crop that the model looked at. Its
            side is the model's `crop_scale` times that of the squares that
            `LandmarkDetector.localize` takes.
        angle: by which that crop was rotated, radians from the x axis to the y axis.
        error: (K,) float64, the expected distance of each landmark from the true point; None if the
            model is not calibrated.
        radius: (K,) float64, how far around each landmark the true point lies in 90 % of all cases;
            likewise.
        box: (4,) float64, x0, y0, x1, y1 as the detector or the caller gave it, or None.
        score: the detector's confidence, or None.
        lost: whether the landmarks are lost, on what is no face or not where it is; None if the
            model's calibration does not tell.

    Example:

    >>> face = Face(np.zeros((68, 2)), scale=np.ones((68, 2)), square=np.array([30.0, 40, 50]))
    >>> face
    Face(68 landmarks, crop of 50 px about (30, 40))
    >>> sorted(face.to_dict())
    ['landmarks', 'scale', 'square']
    """

    landmarks: NDArray[np.float64]
    scale: NDArray[np.float64]
    square: NDArray[np.float64]
    error: NDArray[np.float64] | None = None
    radius: NDArray[np.float64] | None = None
    box: NDArray[np.float64] | None = None
    score: float | None = None
    angle: float = 0.0
    lost: bool | None = None

    def __repr__(self) -> str:
        """One line, without the arrays."""
        return f"{type(self).__name__}({', '.join(self._summary())})"

    def _summary(self) -> list[str]:
        parts = [f"{len(self.landmarks)} landmarks"]
        if self.box is not None:
            x0, y0, x1, y1 = self.box
            center = f"({(x0 + x1) / 2:.0f}, {(y0 + y1) / 2:.0f})"
            parts.append(f"box of {x1 - x0:.0f}x{y1 - y0:.0f} px about {center}")
        else:
            x, y, side = self.square
            parts.append(f"crop of {side:.0f} px about ({x:.0f}, {y:.0f})")
        if self.score is not None:
            parts.append(f"score {self.score:.2f}")
        if self.error is not None:
            parts.append(f"expected error {np.mean(self.error):.2f} px")
        if self.lost:
            parts.append("lost")
        return parts

    def to_dict(self) -> dict[str, Any]:
        """The face as plain data for JSON; what is None, and an angle of 0, is left out.

        An error or a radius that is not known, since too few faces were there to calibrate it, is
        None; where none is known, all are left out.

        Returns:
            dict of `score`, `box`, `square`, `landmarks`, `scale`, `error`, `radius` and `angle`:
            lists of floats, lengths rounded to a thousandth of a pixel, the others to 4 digits; and
            of `lost`, a bool.
        """
        data: dict[str, Any] = {}
        if self.score is not None:
            data["score"] = round(float(self.score), 4)
        for field in ("box", "square", "landmarks", "scale", "error", "radius"):
            value = getattr(self, field)
            if value is None or not np.isfinite(value).any():
                continue
            data[field] = np.round(value, _DIGITS).tolist()
            if field in ("error", "radius"):
                data[field] = [each if math.isfinite(each) else None for each in data[field]]
        if self.angle:
            data["angle"] = round(self.angle, 4)
        if self.lost is not None:
            data["lost"] = bool(self.lost)
        return data
