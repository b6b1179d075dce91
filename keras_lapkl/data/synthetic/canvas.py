"""What synthetic faces are painted on: smooth curves and antialiased shapes."""

import functools

import cv2
import numpy as np


@functools.lru_cache
def _spline_weights(count, closed, steps=4):
    """Catmull-Rom weights (samples, count): a smooth curve that passes through its points."""
    rows = np.eye(count)
    before = rows[-1:] if closed else 2 * rows[:1] - rows[1:2]
    after = rows[:2] if closed else 2 * rows[-1:] - rows[-2:-1]
    rows = np.concatenate([before, rows, after])
    t = np.arange(steps)[:, None] / steps
    basis = np.hstack(
        [-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, t**3 - t**2]
    )
    spans = [basis / 2 @ rows[i : i + 4] for i in range(count if closed else count - 1)]
    return np.concatenate(spans if closed else [*spans, np.eye(count)[-1:]])


def curve(points, closed=False):
    """A smooth curve through points (…, n, d)."""
    return _spline_weights(points.shape[-2], closed) @ points


class Canvas:
    """Paints picture coordinates on an image with `factor` times the picture's pixels."""

    def __init__(self, pixels, factor):
        self.pixels = pixels
        self.factor = factor

    @property
    def size(self):
        """Side of the picture, pixels."""
        return len(self.pixels) / self.factor

    def _fixed(self, points):
        # cv2 takes sixteenths of pixels. Pixel centers are whole numbers at every factor; the last
        # 0.5 makes the cast to integers round.
        return (points * (16 * self.factor) + (8 * (self.factor - 1) + 0.5)).astype(np.int32)

    def fill(self, points, color):
        cv2.fillPoly(self.pixels, [self._fixed(points)], color.tolist(), cv2.LINE_AA, 4)

    def tint(self, points, color, alpha):
        """A see-through `fill`."""
        over = self.pixels.copy()
        cv2.fillPoly(over, [self._fixed(points)], color.tolist(), cv2.LINE_AA, 4)
        cv2.addWeighted(over, alpha, self.pixels, 1 - alpha, 0, self.pixels)

    def stroke(self, points, color, width, closed=False):
        """One line (n, 2), or several (m, n, 2)."""
        lines = self._fixed(points.reshape(-1, *points.shape[-2:]))
        thick = max(round(width * self.factor), 1)
        cv2.polylines(self.pixels, list(lines), closed, color.tolist(), thick, cv2.LINE_AA, 4)
