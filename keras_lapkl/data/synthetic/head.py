"""The 3-D head of the synthetic faces: its shape, identity, expression, pose and projection.

Head coordinates are millimetres: x to the picture's right, y down, z towards the camera, origin
between the eyes. Picture coordinates are pixels of the final image, centers at whole numbers.
"""

import dataclasses
import functools
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from keras_lapkl.schemes import IBUG68

# The head is a stack of half ellipses. Per row: height y, half width, z of the mid-line without
# the nose, how far the ends lie behind it. The last nine rows end in the jaw landmarks.
# fmt: off
_ROWS = np.array([
    (-112, 33, -48, 40), (-95, 57, -28, 58), (-72, 70, -13, 70), (-48, 75, -4, 77),
    (-25, 78, 1, 80), (0, 77, -4, 78), (20, 76, -1, 74), (38, 74, 3, 68), (55, 70, 7, 59),
    (73, 62, 8, 48), (90, 49, 6, 36), (103, 35, 6, 25), (112, 18, 5, 12), (115, 0, 3, 0),
], float)
# Landmarks 17 to 67 on the picture's left and on the mid-line; the others mirror them.
_HALF = {
    17: (-60, -12, -34), 18: (-52, -20, -22), 19: (-39, -23, -11), 20: (-26, -22, -3),
    21: (-13, -18, 2),
    27: (0, -1, 2), 28: (0, 11, 10), 29: (0, 23, 20), 30: (0, 35, 30),
    31: (-14, 43, 8), 32: (-7.5, 46, 14), 33: (0, 47.5, 17),
    36: (-46, 1, -22), 37: (-38, -4.5, -14), 38: (-28, -5, -11), 39: (-19, 2, -13),
    40: (-28, 4, -12), 41: (-38, 4, -15),
    48: (-28, 67, -3), 49: (-17, 62.5, 7), 50: (-7, 60, 13), 51: (0, 61.5, 14),
    57: (0, 77.5, 12), 58: (-8, 77, 11), 59: (-17.5, 74, 6),
    60: (-24, 67, -1), 61: (-8, 66.7, 10), 62: (0, 67.3, 12), 66: (0, 67.7, 12), 67: (-8, 67.3, 10),
}
# fmt: on
_BROWS, _NOSE, _MOUTH = slice(17, 27), slice(27, 36), slice(48, 68)
EYES = (slice(36, 42), slice(42, 48))
_UPPER_LIDS, _LOWER_LIDS = [37, 38, 43, 44], [41, 40, 47, 46]
# How much of the lower lip's and of the mouth corners' motion a landmark takes part in.
_LOWER_LIP = {55: 0.75, 56: 1, 57: 1, 58: 1, 59: 0.75, 65: 1, 66: 1, 67: 1}
_CORNERS = {48: 1, 54: 1, 60: 1, 64: 1, 49: 0.5, 53: 0.5, 55: 0.5, 59: 0.5}
# The shaded surface is a grid of facets: heights by fractions of the half width.
GRID_Y = np.array([-112, -80, -48, -28, -14, 0, 14, 25, 35, 43, 51, 63, 78, 97, 115])
GRID_U = np.array([0.12, 0.25, 0.42, 0.62, 0.84, 1])
GRID_U = np.concatenate([-GRID_U[::-1], [0], GRID_U])


def _neutral_landmarks():
    """(68, 3): the average face's landmarks; the jaw's, which depend on the pose, are zeros."""
    points = np.zeros((68, 3))
    for k, point in _HALF.items():
        points[IBUG68.flip[k]] = point * np.array((-1, 1, 1))  # pyright: ignore[reportOptionalSubscript]
        points[k] = point
    return points


def _bell(x, width):
    return np.exp(-((x / width) ** 2))


def _relief():
    """How far nose, brow, lips, chin and sockets stand out of the half ellipses, on the grid."""
    y = GRID_Y[:, None]
    x = GRID_U * np.interp(y, _ROWS[:, 0], _ROWS[:, 1])
    ridge = np.interp(y, (-24, -12, 0, 12, 24, 35, 43, 51, 60), (0, 3, 6, 11, 19, 29, 22, 6, 0))
    nose = ridge * _bell(x, np.interp(y, (-14, 12, 43), (7, 9, 15)))
    socket = _bell(np.abs(x) - 30, 14) * _bell(y + 1, 10)
    brow = _bell(np.abs(x) - 32, 26) * _bell(y + 26, 10)
    lips = _bell(x, 20) * _bell(y - 71, 10)
    chin = _bell(x, 18) * _bell(y - 102, 10)
    return nose - 6 * socket + 4 * brow + 5 * lips + 5 * chin


NEUTRAL, RELIEF = _neutral_landmarks(), _relief()


@dataclasses.dataclass(frozen=True)
class Head:
    """One posed head in front of a camera.

    Attributes:
        rows: (14, 4) as `_ROWS`, of this identity and expression.
        points: (68, 3) landmarks.
        relief: how far the nose stands out; 1 is average.
        yaw, pitch, roll: radians, applied in this order. Positive turns the nose to the picture's
            right, the nose down, the head clockwise.
        distance: from the camera to the origin, mm.
        zoom: picture pixels per mm at the origin.
        offset: (2,) picture position of the origin.
    """

    rows: np.ndarray
    points: np.ndarray
    relief: float
    yaw: float
    pitch: float
    roll: float
    distance: float
    zoom: float = 1.0
    offset: np.ndarray | float = 0.0

    @functools.cached_property
    def rotation(self) -> NDArray[Any]:
        """(3, 3): the head's turn by yaw, pitch and roll."""
        angles = self.yaw, self.pitch, self.roll
        (cy, cp, cr), (sy, sp, sr) = np.cos(angles), np.sin(angles)
        yaw = np.array(((cy, 0, sy), (0, 1, 0), (-sy, 0, cy)))
        pitch = np.array(((1, 0, 0), (0, cp, sp), (0, -sp, cp)))
        roll = np.array(((cr, -sr, 0), (sr, cr, 0), (0, 0, 1)))
        return roll @ pitch @ yaw

    @functools.cached_property
    def marks(self) -> NDArray[Any]:
        """The landmarks in the picture, (68, 2)."""
        return self.project(self.points)

    @functools.cached_property
    def axes(self) -> NDArray[Any]:
        """(2, 2): one mm to the head's right and one mm down, in the picture."""
        c, s = np.cos(self.roll), np.sin(self.roll)
        return self.zoom * np.array(((c, s), (-s, c)))

    @property
    def chin(self) -> float:
        """Height of the lowest row, mm."""
        return self.rows[-1, 0]

    def project(self, points: ArrayLike) -> NDArray[Any]:
        """Picture coordinates (…, 2) of head coordinates (…, 3)."""
        turned = np.asarray(points) @ self.rotation.T
        scale = self.zoom * self.distance / (self.distance - turned[..., 2:])
        return turned[..., :2] * scale + self.offset

    def facing(self, center: ArrayLike, offsets: ArrayLike) -> NDArray[Any]:
        """Picture coordinates of mm `offsets` (…, 2) from a 3-D point, in the picture's plane."""
        return self.project(center) + np.asarray(offsets) @ self.axes

    def height(self, y: NDArray[Any]) -> NDArray[Any]:
        """Where this head has what `_ROWS` has at height `y`."""
        return np.interp(y, _ROWS[:, 0], self.rows[:, 0])

    def skin(
        self, y: NDArray[Any] | float, u: NDArray[Any] | float, visible: bool = True
    ) -> NDArray[Any]:
        """Head coordinates (…, 3) at heights `y` and fractions `u` of the half width.

        `visible` moves what the cheek hides to the cheek's outline, as annotators do. A row is a
        half ellipse, so its outline under a yaw has a closed form, and pitch and roll keep it.
        """
        width, middle, depth = (np.interp(y, self.rows[:, 0], c) for c in self.rows.T[1:])
        if visible:
            hidden = np.maximum(depth * np.sin(self.yaw) * np.sign(u), 0)
            reach = np.sin(np.arctan2(width * np.cos(self.yaw), hidden))
            u = np.clip(u, -reach, reach)
        points = np.empty((*np.broadcast_shapes(np.shape(y), np.shape(u)), 3))
        points[..., 0] = width * u
        points[..., 1] = y
        points[..., 2] = middle - depth * (1 - np.sqrt(1 - u**2))
        return points

    def rim(self) -> NDArray[Any]:
        """The visible ends of all rows (27, 3), down the left, up the right; 5 to 21: the jaw."""
        y = self.rows[:, 0]
        return self.skin(np.concatenate([y, y[-2::-1]]), np.repeat((-1.0, 1.0), (14, 13)))


def _sample_identity(rng):
    """Rows, landmarks and relief of one person's neutral face."""
    rows, points = _ROWS.copy(), NEUTRAL.copy()
    n = np.clip(rng.standard_normal(18), -2.3, 2.3)
    for eye, side in zip(EYES, (-1, 1), strict=True):
        center = points[eye].mean(0)
        points[eye] -= center
        points[eye] *= (1 + 0.06 * n[0], 1 + 0.2 * n[1], 1)
        points[eye, 1] -= 0.05 * side * n[2] * points[eye, 0]
        points[eye] += center
        points[eye, 0] += 1.2 * side * n[3]
    points[_BROWS] *= (1 + 0.04 * n[4], 1 + 0.08 * n[5], 1)
    relief = 1 + 0.15 * n[6]
    points[_NOSE] *= (1 + 0.12 * n[7], 1, relief)
    points[_MOUTH, 0] *= 1 + 0.09 * n[8]
    points[_MOUTH, 1] = 67.5 + (points[_MOUTH, 1] - 67.5) * (1 + 0.2 * n[9])
    low, chin = np.clip(rows[:, 0] / 90, 0, 1), _bell(rows[:, 0] - 106, 16)
    rows[:, 1] *= (1 + 0.05 * n[10]) * (1 + 0.06 * n[11] * low) * (1 + 0.12 * n[12] * chin)
    rows[:, 3] *= 1 + 0.08 * n[13]
    # Forehead, brow-to-eye, nose, upper lip and chin differ in length, with all that is on them.
    heights = np.array((-112, -25, 0, 47, 67.5, 115))
    spans = np.diff(heights) * (1 + np.array((0.04, 0.13, 0.08, 0.13, 0.08)) * n[13:18])
    longer = np.concatenate([[0], np.cumsum(spans)])
    longer -= longer[2]
    rows[:, 0] = np.interp(rows[:, 0], heights, longer)
    points[:, 1] = np.interp(points[:, 1], heights, longer)
    return rows, points, relief


def express(rows: NDArray[Any], points: NDArray[Any], rng: np.random.Generator) -> None:
    """Opens the jaw, smiles, moves brows and lids, in place."""
    n = np.clip(rng.standard_normal(6), -2.2, 2.2)
    smile = 0.35 + 0.5 * n[0]
    parted = rng.random() < 0.55
    jaw = parted * rng.beta(1.2, 3.5)
    lift = 3 * parted * max(smile, 0)

    rows[:, 0] += 24 * jaw * np.clip((rows[:, 0] - points[57, 1] + 40) / 60, 0, 1)
    drop, pull = np.zeros((2, 68))
    drop[list(_LOWER_LIP)] = list(_LOWER_LIP.values())
    pull[list(_CORNERS)] = list(_CORNERS.values())
    points[:, 0] *= 1 + pull * (0.18 * smile - 0.12 * jaw)
    points[:, 1] += drop * (28 * jaw + lift) + pull * (12 * jaw - 5 * smile)
    points[:, 2] -= drop * 5 * jaw + pull * 3 * abs(smile)
    points[50:53, 1] -= 0.5 * lift
    points[61:64, 1] -= 0.8 * lift

    points[_BROWS, 1] -= 2.5 * n[1] + 0.8 * n[2] * np.sign(points[_BROWS, 0])
    points[20:24, 1] -= 2 * n[3]
    points[20:24, 0] *= 1 + 0.08 * n[4]
    lids = np.full(4, 1 + 0.18 * n[5] + 0.1 * n[1] - 0.15 * max(smile, 0))
    wink = rng.random()
    lids[:2] *= not wink < 0.06
    lids[2:] *= not 0.02 < wink < 0.08
    gap = points[_UPPER_LIDS] - points[_LOWER_LIDS]
    points[_UPPER_LIDS] = points[_LOWER_LIDS] + gap * np.maximum(lids, 0.08)[:, None]


def close_eyes(points: NDArray[Any], amount: float) -> None:
    """Brings the upper lids down to the lower ones, in place; 1 closes the eyes."""
    gap = points[_UPPER_LIDS] - points[_LOWER_LIDS]
    points[_UPPER_LIDS] -= 0.92 * amount * gap


def sample_head(rng: np.random.Generator, size: int) -> Head:
    """A posed head, framed for a picture of `size` pixels."""
    rows, points, relief = _sample_identity(rng)
    express(rows, points, rng)
    spread = np.radians((24 if rng.random() < 0.3 else 10, 8, 8))
    limit = np.radians((45, 20, 25))
    pose = np.clip(rng.standard_normal(3) * spread, -limit, limit)
    head = Head(rows, points, relief, *pose, distance=600 * np.exp(1.2 * rng.random()))
    points[:17] = head.rim()[5:22]

    marks = head.project(points)
    five = IBUG68.anchor_points(marks)
    low, high = five.min(0), five.max(0)
    side = 3 * (high - low).max() * rng.uniform(0.9, 1.1)
    center = (low + high) / 2 + side * rng.uniform(-0.04, 0.04, 2)
    # The package's crop can lose a jaw point under a strong yaw; here it grows to keep all 68.
    side = max(side, 2.04 * np.abs(marks - center).max())
    zoom = size / side
    return dataclasses.replace(head, zoom=zoom, offset=(size - 1) / 2 - center * zoom)
