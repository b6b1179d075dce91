"""Procedural faces with exact iBUG-68 landmarks: the labeled data set that ships with the package.

A 3-D head gets an identity, an expression and a pose. Its landmarks are projected, and the picture
is painted through the projected points, so that label and drawing cannot disagree.

Head coordinates are millimetres: x to the picture's right, y down, z towards the camera, origin
between the eyes. Picture coordinates are pixels of the final image, centres at whole numbers.
"""

import dataclasses
import functools
import operator

import cv2
import numpy as np

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
_EYES = (slice(36, 42), slice(42, 48))
_UPPER_LIDS, _LOWER_LIDS = [37, 38, 43, 44], [41, 40, 47, 46]
# How much of the lower lip's and of the mouth corners' motion a landmark takes part in.
_LOWER_LIP = {55: 0.75, 56: 1, 57: 1, 58: 1, 59: 0.75, 65: 1, 66: 1, 67: 1}
_CORNERS = {48: 1, 54: 1, 60: 1, 64: 1, 49: 0.5, 53: 0.5, 55: 0.5, 59: 0.5}
# The shaded surface is a grid of facets: heights by fractions of the half width.
_GRID_Y = np.array([-112, -80, -48, -28, -14, 0, 14, 25, 35, 43, 51, 63, 78, 97, 115])
_GRID_U = np.array([0.12, 0.25, 0.42, 0.62, 0.84, 1])
_GRID_U = np.concatenate([-_GRID_U[::-1], [0], _GRID_U])

_SKINS = [(84, 54, 41), (112, 74, 53), (152, 106, 78), (193, 143, 110), (224, 178, 148)]
_SKINS = np.array([*_SKINS, (243, 209, 187)])
_HAIRS = [(22, 18, 17), (30, 23, 20), (52, 35, 25), (92, 62, 40), (120, 62, 35), (196, 158, 104)]
_HAIRS = np.array([*_HAIRS, (150, 148, 146), (214, 211, 206)])
_IRISES = np.array([(52, 32, 20), (80, 52, 30), (96, 92, 58), (82, 112, 132), (60, 92, 60)])
_STYLES = {"short": 0.34, "fringe": 0.14, "long": 0.32, "buzz": 0.08, "bald": 0.08, "veil": 0.04}

_ANGLES = np.linspace(0, 2 * np.pi, 24, endpoint=False)
_CIRCLE = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], -1)


def _neutral_landmarks():
    """(68, 3): the average face's landmarks; the jaw's, which depend on the pose, are zeros."""
    points = np.zeros((68, 3))
    for k, point in _HALF.items():
        points[IBUG68.flip[k]] = point * np.array((-1, 1, 1))
        points[k] = point
    return points


def _bell(x, width):
    return np.exp(-((x / width) ** 2))


def _relief():
    """How far nose, brow, lips, chin and sockets stand out of the half ellipses, on the grid."""
    y = _GRID_Y[:, None]
    x = _GRID_U * np.interp(y, _ROWS[:, 0], _ROWS[:, 1])
    ridge = np.interp(y, (-24, -12, 0, 12, 24, 35, 43, 51, 60), (0, 3, 6, 11, 19, 29, 22, 6, 0))
    nose = ridge * _bell(x, np.interp(y, (-14, 12, 43), (7, 9, 15)))
    socket = _bell(np.abs(x) - 30, 14) * _bell(y + 1, 10)
    brow = _bell(np.abs(x) - 32, 26) * _bell(y + 26, 10)
    lips = _bell(x, 20) * _bell(y - 71, 10)
    chin = _bell(x, 18) * _bell(y - 102, 10)
    return nose - 6 * socket + 4 * brow + 5 * lips + 5 * chin


_NEUTRAL, _RELIEF = _neutral_landmarks(), _relief()


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


def _curve(points, closed=False):
    """A smooth curve through points (…, n, d)."""
    return _spline_weights(points.shape[-2], closed) @ points


@dataclasses.dataclass(frozen=True)
class _Head:
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
    def rotation(self):
        angles = self.yaw, self.pitch, self.roll
        (cy, cp, cr), (sy, sp, sr) = np.cos(angles), np.sin(angles)
        yaw = np.array(((cy, 0, sy), (0, 1, 0), (-sy, 0, cy)))
        pitch = np.array(((1, 0, 0), (0, cp, sp), (0, -sp, cp)))
        roll = np.array(((cr, -sr, 0), (sr, cr, 0), (0, 0, 1)))
        return roll @ pitch @ yaw

    @functools.cached_property
    def marks(self):
        """The landmarks in the picture, (68, 2)."""
        return self.project(self.points)

    @functools.cached_property
    def axes(self):
        """(2, 2): one mm to the head's right and one mm down, in the picture."""
        c, s = np.cos(self.roll), np.sin(self.roll)
        return self.zoom * np.array(((c, s), (-s, c)))

    @property
    def chin(self):
        return self.rows[-1, 0]

    def project(self, points):
        """Picture coordinates (…, 2) of head coordinates (…, 3)."""
        turned = np.asarray(points) @ self.rotation.T
        scale = self.zoom * self.distance / (self.distance - turned[..., 2:])
        return turned[..., :2] * scale + self.offset

    def facing(self, centre, offsets):
        """Picture coordinates of mm `offsets` (…, 2) from a 3-D point, in the picture's plane."""
        return self.project(centre) + np.asarray(offsets) @ self.axes

    def height(self, y):
        """Where this head has what `_ROWS` has at height `y`."""
        return np.interp(y, _ROWS[:, 0], self.rows[:, 0])

    def skin(self, y, u, visible=True):
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

    def rim(self):
        """The visible ends of all rows (27, 3), down the left, up the right; 5 to 21: the jaw."""
        y = self.rows[:, 0]
        return self.skin(np.concatenate([y, y[-2::-1]]), np.repeat((-1.0, 1.0), (14, 13)))


@dataclasses.dataclass(frozen=True)
class _Look:
    """Colours (RGB, 0 to 255) of what the landmarks outline; brow height and gaze (3,) in mm."""

    skin: np.ndarray
    hair: np.ndarray
    brow: np.ndarray
    lips: np.ndarray
    mouth: np.ndarray
    teeth: np.ndarray
    sclera: np.ndarray
    iris: np.ndarray
    brow_height: float
    gaze: np.ndarray


class _Canvas:
    """Paints picture coordinates on an image with `factor` times the picture's pixels."""

    def __init__(self, pixels, factor):
        self.pixels = pixels
        self.factor = factor

    @property
    def size(self):
        """Side of the picture, pixels."""
        return len(self.pixels) / self.factor

    def _fixed(self, points):
        # cv2 takes sixteenths of pixels. Pixel centres are whole numbers at every factor; the last
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


# ---- Sampling a head and its look


def _sample_identity(rng):
    """Rows, landmarks and relief of one person's neutral face."""
    rows, points = _ROWS.copy(), _NEUTRAL.copy()
    n = np.clip(rng.standard_normal(18), -2.3, 2.3)
    for eye, side in zip(_EYES, (-1, 1), strict=True):
        centre = points[eye].mean(0)
        points[eye] -= centre
        points[eye] *= (1 + 0.06 * n[0], 1 + 0.2 * n[1], 1)
        points[eye, 1] -= 0.05 * side * n[2] * points[eye, 0]
        points[eye] += centre
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


def _express(rows, points, rng):
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


def _sample_head(rng, size):
    """A posed head, framed for a picture of `size` pixels."""
    rows, points, relief = _sample_identity(rng)
    _express(rows, points, rng)
    spread = np.radians((24 if rng.random() < 0.3 else 10, 8, 8))
    limit = np.radians((45, 20, 25))
    pose = np.clip(rng.standard_normal(3) * spread, -limit, limit)
    head = _Head(rows, points, relief, *pose, distance=600 * np.exp(1.2 * rng.random()))
    points[:17] = head.rim()[5:22]

    marks = head.project(points)
    five = IBUG68.anchor_points(marks)
    low, high = five.min(0), five.max(0)
    side = 3 * (high - low).max() * rng.uniform(0.9, 1.1)
    centre = (low + high) / 2 + side * rng.uniform(-0.04, 0.04, 2)
    # The package's crop can lose a jaw point under a strong yaw; here it grows to keep all 68.
    side = max(side, 2.04 * np.abs(marks - centre).max())
    zoom = size / side
    return dataclasses.replace(head, zoom=zoom, offset=(size - 1) / 2 - centre * zoom)


def _sample_color(rng):
    """Cloth, walls and things: any brightness, mostly dull."""
    return np.clip(rng.uniform(0, 255) + rng.standard_normal(3) * rng.uniform(0, 70), 0, 255)


def _sample_look(rng):
    """A person's colours; dark skin mostly comes with dark hair and eyes."""
    tone = rng.uniform(0, len(_SKINS) - 1)
    skin = np.array([np.interp(tone, range(len(_SKINS)), c) for c in _SKINS.T])
    skin = skin * rng.uniform(0.94, 1.06, 3)
    dark = tone < 2.2 and rng.random() < 0.9
    hair = _HAIRS[rng.integers(3 if dark else len(_HAIRS))] * rng.uniform(0.8, 1.2)
    lipstick = np.array((190, 40, 60)) * rng.uniform(0.6, 1.1)
    rouge = 0.7 if rng.random() < 0.2 else rng.uniform(0, 0.2)
    return _Look(
        skin=skin,
        hair=hair,
        brow=0.75 * hair * min(1, 150 / hair.max()) + 0.15 * skin,
        lips=(1 - rouge) * skin * (0.92, 0.68, 0.68) + rouge * lipstick,
        mouth=np.array((50, 16, 18)),
        teeth=np.array((225, 218, 205)) * rng.uniform(0.8, 1.08),
        sclera=np.array((226, 222, 218)) * rng.uniform(0.8, 1),
        iris=_IRISES[rng.integers(2 if dark else len(_IRISES))] * rng.uniform(0.8, 1.2),
        brow_height=rng.uniform(3.5, 8),
        gaze=rng.standard_normal(3) * (2.5, 0.8, 0),
    )


# ---- Painting what the landmarks outline, in plain colours


def _paint_face(canvas, head, look):
    canvas.fill(_curve(head.project(head.rim()), closed=True), look.skin)
    _paint_nose(canvas, head, look)
    _paint_mouth(canvas, head, look)
    _paint_eyes(canvas, head, look)
    _paint_brows(canvas, head, look)


def _paint_nose(canvas, head, look):
    for wing, base, side in ((31, 32, -1), (35, 34, 1)):
        nostril = _CIRCLE * (3.2, max(1.6 - 4 * head.pitch, 0.8))
        hole = head.points[base] + np.array((1.5 * side, -2.2, 0))
        canvas.fill(head.facing(hole, nostril), look.skin * 0.45)
        crease = head.points[wing] + np.array(((side, -10, -6), (3.5 * side, -5, -3), (0, 0, 0)))
        canvas.stroke(_curve(head.project(crease)), look.skin * 0.68, 0.5)
    canvas.stroke(_curve(head.marks[31:36]), look.skin * 0.66, 0.6)


def _paint_mouth(canvas, head, look):
    marks = head.marks
    top, bottom = _curve(marks[48:55]), _curve(marks[[48, 59, 58, 57, 56, 55, 54]])
    inner_top, inner_bottom = _curve(marks[60:65]), _curve(marks[[60, 67, 66, 65, 64]])
    gap = inner_bottom - inner_top
    canvas.fill(np.concatenate([top, bottom[::-1]]), look.lips)
    canvas.fill(np.concatenate([top, inner_top[::-1]]), look.lips * 0.85)
    canvas.fill(np.concatenate([inner_top, inner_bottom[::-1]]), look.mouth)
    if np.abs(gap).max() < 2 * head.zoom:
        canvas.stroke(inner_top, look.mouth, 0.4)
    else:
        teeth = np.concatenate([inner_top[2:-2], (inner_top + 0.55 * gap)[-3:1:-1]])
        tongue = np.concatenate([inner_bottom - 0.25 * gap, inner_bottom[::-1]])
        canvas.fill(teeth, look.teeth)
        canvas.fill(tongue, look.lips * 0.7)


def _paint_eyes(canvas, head, look):
    mask = _Canvas(np.zeros(canvas.pixels.shape[:2], np.uint8), canvas.factor)
    balls = _Canvas(canvas.pixels.copy(), canvas.factor)
    down = head.axes[1]
    for eye in _EYES:
        corners = [eye.start, eye.start + 3]
        upper = _curve(head.marks[eye][:4])
        lower = _curve(head.marks[eye][[0, 5, 4, 3]])
        opening = np.concatenate([upper, lower[::-1]])
        ball = head.points[eye].mean(0) + look.gaze
        radius = 0.22 * np.linalg.norm(np.subtract(*head.points[corners]))
        mask.fill(opening, np.array(255))
        balls.fill(opening, look.sclera)
        balls.fill(head.facing(ball, _CIRCLE * radius), look.iris)
        balls.fill(head.facing(ball, _CIRCLE * radius * 0.45), look.iris * 0.2)
        glint = np.array((1.8, -2, 2))
        balls.fill(head.facing(ball + glint, _CIRCLE), look.sclera * 1.15)
        canvas.fill(np.concatenate([upper, upper[::-1] - 2.2 * down]), look.brow * 0.5)
        canvas.stroke(upper - 4.5 * down, look.skin * 0.72, 0.5)
        canvas.stroke(lower, look.skin * 0.7, 0.5)
    cv2.copyTo(balls.pixels, mask.pixels, canvas.pixels)


def _paint_brows(canvas, head, look):
    for brow, thinning in ((slice(17, 22), -1), (slice(22, 27), 1)):
        line = _curve(head.marks[brow])
        thick = np.linspace(1, 0.35, len(line))[::thinning, None] * look.brow_height * head.axes[1]
        outline = np.concatenate([line - 0.45 * thick, (line + 0.55 * thick)[::-1]])
        canvas.fill(outline, look.brow)


# ---- Light


def _shade_surface(shade, head, rng):
    """Shades the head's facets, the far ones first. They are flat; a later blur rounds them."""
    grid = head.skin(head.height(_GRID_Y)[:, None], _GRID_U, visible=False)
    grid[..., 2] += _RELIEF * head.relief
    x, y = rng.standard_normal(2) * (0.8, 0.4)
    light = np.array((x, y - 0.45, rng.uniform(0.5, 1.5)))
    ambient, gloss, warmth = rng.uniform((0.3, 0, 0), (0.85, 0.5, 0.1))

    def corners(points):
        return points[:-1, :-1], points[:-1, 1:], points[1:, 1:], points[1:, :-1]

    a, b, c, d = corners(grid @ head.rotation.T)
    normal = np.cross(c - a, d - b).reshape(-1, 3)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-9
    lit = np.maximum(normal @ (light / np.linalg.norm(light)), 0)[:, None]
    tint = 1 + warmth * np.array((1, 0, -1)) * (2 * lit - 1)
    colors = 128 * tint * (ambient + (1.15 - ambient) * lit + gloss * lit**16)
    quads = np.rint(np.stack(corners(head.project(grid)), 2) * 16).astype(np.int32)
    quads = quads.reshape(-1, 4, 2)
    order = np.argsort((a + c)[..., 2], axis=None)
    order = order[normal[order, 2] > 0]
    for quad, color in zip(quads[order], colors[order].tolist(), strict=True):
        cv2.fillConvexPoly(shade.pixels, quad, color, cv2.LINE_8, 4)


def _shade_details(shade, head, rng):
    """Folds, lids and cheeks, which the facets are too coarse for; softens all shading."""
    soft = _Canvas(np.full_like(shade.pixels, 128), shade.factor)
    marks, mm, depth = head.marks, head.zoom, rng.uniform(0.3, 1)
    dark = 128 - depth * np.array((32, 40, 40))
    blush = 128 + depth * np.array((14, -7, -7))
    soft.stroke(marks[31:36], dark, 3 * mm)
    soft.stroke(marks[[59, 57, 55]] + 3 * head.axes[1], dark, 3 * mm)
    for side, wing, corner, eye, inner in ((-1, 31, 48, 0, 39), (1, 35, 54, 1, 42)):
        right, down = head.axes * ((side,), (1,))
        fold = marks[[wing, corner]] + np.stack([3 * right, 6 * right])
        soft.stroke(fold, dark, 1.5 * mm)
        soft.stroke(marks[_EYES[eye]][:4] - 3 * down, dark, 4 * mm)
        soft.stroke(np.stack([marks[inner], marks[27] + 6 * right]), dark, 4 * mm)
        soft.fill(marks[wing] + 28 * right - 2 * down + _CIRCLE * 14 * mm, blush)
    cv2.multiply(shade.pixels, soft.pixels, shade.pixels, 1 / 128)
    cv2.GaussianBlur(shade.pixels, (0, 0), 3.5 * mm, shade.pixels)


# ---- Painting what is around, on and in front of the face


def _paint_background(canvas, rng):
    cells = rng.integers(1, 9, 2)
    tones = _sample_color(rng) + rng.standard_normal((*cells, 3)) * rng.uniform(5, 60)
    tones = np.clip(tones, 0, 255).astype(np.uint8)
    filtering = cv2.INTER_CUBIC if rng.random() < 0.8 else cv2.INTER_NEAREST
    cv2.resize(tones, canvas.pixels.shape[:2], canvas.pixels, interpolation=filtering)
    for kind in rng.integers(3, size=rng.integers(7)):
        a, b = rng.uniform(-0.1, 1.1, (2, 2)) * canvas.size
        color = _sample_color(rng)
        if kind == 0:
            canvas.stroke(np.stack([a, b]), color, rng.uniform(0.01, 0.15) * canvas.size)
        elif kind == 1:
            canvas.fill(a + _CIRCLE * rng.uniform(0.03, 0.3, 2) * canvas.size, color)
        else:
            canvas.fill(np.array((a, (b[0], a[1]), b, (a[0], b[1]))), color)


def _paint_body(canvas, shade, head, look, style, rng):
    half, top = rng.uniform((40, 18), (58, 50))
    neck = ((-half, 40), (half, 40), (half + 6, head.chin + 60), (-half - 6, head.chin + 60))
    neck = head.project(np.insert(np.array(neck), 2, -75, axis=1))
    canvas.fill(neck, look.hair if style == "veil" else look.skin)
    shade.fill(neck, np.full(3, rng.uniform(55, 110)))
    right = np.array(((0, 0), (half, -16), (half + 14, -10), (140, 40), (220, 90), (230, 250)))
    body = np.concatenate([right, right[::-1] * (-1, 1)]) + np.array((0, head.chin + top))
    body = head.facing((0, 0, -70), body)
    canvas.fill(body, _sample_color(rng))
    shade.fill(body, np.full(3, 128.0))


def _skull(head, margin=0.0):
    """24 points round the skull, `margin` mm outside of it; the first at the right, clockwise."""
    width, height = head.rows[:, 1].max() + 3, -28 - head.rows[0, 0]
    width = np.hypot(width * np.cos(head.yaw), 94 * np.sin(head.yaw))
    return head.facing((0, -34, -80), _CIRCLE * (width + margin, height + margin))


def _crown(head, margin):
    """The skull's upper half, 13 points from left to right."""
    skull = _skull(head, margin)
    return np.concatenate([skull[12:], skull[:1]])


def _paint_behind(canvas, shade, head, look, style, rng):
    """Skull, ears, and the hair or cloth behind the face."""
    canvas.fill(_skull(head), look.skin)
    shade.fill(_skull(head), np.full(3, 90.0))
    volume = {"bald": -20, "buzz": 1, "long": rng.uniform(8, 26)}.get(style, rng.uniform(4, 16))
    canvas.fill(_skull(head, volume), look.skin if style == "bald" else look.hair)
    if style in ("long", "veil"):
        low = head.chin * (rng.uniform(0.6, 1.6) if style == "long" else 1.8)
        sides = (-80, -40), (80, -40), (82 + volume, low), (-82 - volume, low)
        canvas.fill(head.facing((0, 0, -85), sides), look.hair * 0.85)
    if style == "veil" or (style == "long" and rng.random() < 0.7):
        return
    ears = head.skin(10, np.array((-1.0, 1.0)), visible=False)
    wide = 8 + 18 * abs(np.sin(head.yaw))
    for ear, side in zip(ears, (-1, 1), strict=True):
        centre = ear + np.array((3 * side, 0, 4))
        lean = np.array(((1, -0.16 * side), (0.16 * side, 1)))
        canvas.fill(head.facing(centre, _CIRCLE * (wide, 26) @ lean), look.skin * 0.9)
        canvas.fill(head.facing(centre, _CIRCLE * (0.4 * wide, 15) @ lean), look.skin * 0.65)


def _paint_hair(canvas, head, look, style, rng):
    """Hair or cloth over the forehead and the cheeks."""
    u = np.array((-1, -0.98, -0.85, -0.55, -0.2, 0.2, 0.55, 0.85, 0.98, 1))
    y = np.array((-12, -34, -62, -74, -80, -80, -74, -62, -34, -12)) + rng.normal(0, 4)
    if style == "fringe":
        y[1:-1] = rng.uniform(-58, -26) + rng.normal(0, 5, 8)
    elif style == "veil":
        y[2:-2] = -66
    else:
        y[2:-2] += rng.uniform(-14, 10) * np.array((1, 1, 0.3, 0.3, 1, 1)) + rng.normal(0, 3, 6)
    line = _curve(head.project(head.skin(head.height(np.minimum(y, -8)), u)))
    crown = _crown(head, 2 if style == "buzz" else 10)
    canvas.fill(np.concatenate([line, crown[::-1]]), look.hair)
    if style in ("veil", "buzz"):
        return
    k = rng.integers(len(crown), size=10)
    ends = np.stack([crown[k], line[3 * k]])
    bends = ends.mean(0) + rng.normal(0, 5 * head.zoom, ends[0].shape)
    strands = _curve(np.stack([ends[0], bends, ends[1]], 1))
    for some, tone in ((strands[:5], rng.uniform(0.5, 0.9)), (strands[5:], rng.uniform(1.1, 1.5))):
        canvas.stroke(some, look.hair * tone, rng.uniform(0.4, 1))
    if style == "long":
        inner, volume = rng.uniform((0.86, 4), (1.04, 24))
        for side in (-1, 1):
            y = head.height(np.array((-70, -30, 10, 50)))
            front = head.project(head.skin(y, np.full(4, side * min(inner, 1))))
            outer = np.array(((volume, head.chin), (volume, -60))) * (side, 1)
            outer = head.facing((76 * side, 0, -60), outer)
            canvas.fill(_curve(np.concatenate([front, outer]), closed=True), look.hair * 0.95)


def _paint_beard(canvas, head, look, rng):
    marks, color, alpha = head.marks, look.hair * 0.8 + 8, rng.choice((0.25, 0.55, 0.9))
    nose = marks[35:30:-1]
    moustache = np.concatenate([marks[48:55], 0.8 * nose + 0.2 * marks[53:48:-1]])
    canvas.tint(moustache, color, alpha)
    if rng.random() < 0.75:
        ear = rng.integers(1, 6)
        cheeks = head.project(head.skin(head.points[54, 1], np.array((0.62, -0.62))))
        chin = [_curve(marks[ear : 17 - ear]), cheeks[:1], marks[54:60], marks[48:49], cheeks[1:]]
        canvas.tint(np.concatenate(chin), color, alpha)


def _paint_hat(canvas, head, rng):
    color = _sample_color(rng)
    y = np.array((-40, -52, -56, -52, -40)) + rng.uniform(-12, 4)
    brim = head.skin(head.height(y), np.array((-1, -0.7, 0, 0.7, 1)))
    brim = _curve(head.project(brim + np.array((0, 0, 6))))
    crown = _crown(head, rng.uniform(8, 18))
    canvas.fill(np.concatenate([brim, crown[::-1]]), color)
    canvas.stroke(brim, color * rng.uniform(0.4, 1.2), rng.uniform(2, 6) * head.zoom)


def _paint_glasses(canvas, head, rng):
    color, width = _sample_color(rng) * rng.uniform(0, 1), rng.uniform(1.2, 3.5) * head.zoom
    radii = rng.uniform((20, 14), (26, 21))
    rim = np.sign(_CIRCLE) * np.abs(_CIRCLE) ** rng.uniform(0.5, 1) * radii
    sunny = rng.random() < 0.15
    for eye, side in zip(_EYES, (-1, 1), strict=True):
        centre = head.points[eye].mean(0) + np.array((side, 3, 14))
        glass = head.project(centre + np.insert(rim, 2, -0.15 * side * rim[:, 0], axis=1))
        if sunny:
            canvas.tint(glass, color * 0.4, 0.93)
        canvas.stroke(glass, color, width, closed=True)
        bridge = (0, centre[1] - 5, centre[2] + 3), centre - np.array((side * radii[0], 2, 0))
        hinge = centre + np.array((side * radii[0], -4, -5))
        temple = hinge, head.skin(head.rows[5, 0], float(side))
        canvas.stroke(head.project([bridge, temple]), color, width)


def _paint_occluder(canvas, head, look, rng):
    """A hand, a board, or a cloth over the mouth or the chin."""
    size, marks = canvas.size, head.marks
    kind = rng.integers(3)
    if kind == 0:
        tip = marks[rng.choice((2, 4, 6, 8, 10, 12, 14, 48, 54, 57))]
        along = (tip - size / 2) / size + rng.normal(0, 0.15, 2) + (0, 0.2)
        along *= size / np.linalg.norm(along)
        across = 0.085 * along[::-1] * (-1, 1)
        nails = tip + across * np.arange(-1, rng.integers(1, 4))[:, None]
        wrist = np.broadcast_to(tip + 0.6 * along, nails.shape)
        skin = look.skin * rng.uniform(0.75, 1.05)
        for finger in np.stack([nails, nails + 0.25 * along, wrist], 1):
            canvas.stroke(finger, skin * 0.7, 0.1 * size)
            canvas.stroke(finger, skin, 0.08 * size)
    elif kind == 1:
        angle, extent = rng.uniform(0, np.pi), rng.uniform(0.05, 0.22, 2) * size
        turn = np.array(((np.cos(angle), np.sin(angle)), (-np.sin(angle), np.cos(angle))))
        centre = size / 2 + rng.choice((-1, 1), 2) * rng.uniform(0.1, 0.45, 2) * size
        board = np.array(((-1, -1), (1, -1), (1, 1), (-1, 1))) * extent @ turn
        canvas.fill(centre + board, _sample_color(rng))
    else:
        edge = _curve(marks[[1, 3, 29 if rng.random() < 0.4 else 57, 13, 15]])
        low = np.array(((1.2, 1.2), (-0.2, 1.2))) * size
        canvas.fill(np.concatenate([edge, low]), _sample_color(rng))


def _develop(image, rng):
    """What a camera does: exposure, contrast, cast, grey, blur, noise, compression."""
    size = len(image)
    level = np.linspace(0, 1, 256)[:, None] ** np.exp(rng.normal(0, 0.2))
    level = level * rng.uniform(0.65, 1.25) * (1 + rng.normal(0, 0.06, 3))
    level = 0.4 + (level - 0.4) * rng.uniform(0.75, 1.3) + rng.normal(0, 0.05)
    image = cv2.LUT(image, np.clip(level * 255, 0, 255).astype(np.uint8)[:, None])
    if rng.random() < 0.15:
        image = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    lens = rng.random()
    if lens < 0.45:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.003, 0.013) * size)
    elif lens < 0.53:
        reach = max(round(rng.uniform(1, 2) * size / 80), 1)
        kernel = np.zeros((2 * reach + 1, 2 * reach + 1), np.float32)
        # Through the centre, so that the picture does not move away from its landmarks.
        a = rng.integers(0, 2 * reach + 1, 2)
        cv2.line(kernel, a.tolist(), (2 * reach - a).tolist(), 1.0)
        image = cv2.filter2D(image, -1, kernel / kernel.sum())
    if rng.random() < 0.6:
        noise = rng.standard_normal((size, size, 1), np.float32)
        noise = noise * rng.uniform(1, 9, 3).astype(np.float32)
        image = cv2.add(image, noise, dtype=cv2.CV_8U)
    if rng.random() < 0.15:
        quality = cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 80))
        # cv2 reads and writes BGR, and so gives back the channels in the order that it got.
        image = cv2.imdecode(cv2.imencode(".jpg", image, quality)[1], cv2.IMREAD_COLOR)
    return image


# ---- The data set


def _render(rng, size):
    """One image (S, S, 3) and its landmarks (68, 2)."""
    head, look = _sample_head(rng, size), _sample_look(rng)
    style = rng.choice(list(_STYLES), p=list(_STYLES.values()))
    canvas = _Canvas(np.empty((2 * size, 2 * size, 3), np.uint8), 2)
    shade = _Canvas(np.full((size, size, 3), 128, np.uint8), 1)  # 128: colours stay as they are
    _paint_background(canvas, rng)
    _paint_behind(canvas, shade, head, look, style, rng)
    _paint_body(canvas, shade, head, look, style, rng)
    _paint_face(canvas, head, look)
    if style in ("short", "buzz", "bald") and rng.random() < 0.35:
        _paint_beard(canvas, head, look, rng)
    _shade_surface(shade, head, rng)
    _shade_details(shade, head, rng)
    light = cv2.resize(shade.pixels, canvas.pixels.shape[:2])
    cv2.multiply(canvas.pixels, light, canvas.pixels, 1 / 128)
    if style != "bald":
        _paint_hair(canvas, head, look, style, rng)
    if rng.random() < 0.07:
        _paint_hat(canvas, head, rng)
    if rng.random() < 0.16:
        _paint_glasses(canvas, head, rng)
    if rng.random() < 0.12:
        _paint_occluder(canvas, head, look, rng)
    image = cv2.resize(canvas.pixels, (size, size), interpolation=cv2.INTER_AREA)
    return _develop(image, rng), head.marks


def synthetic_faces(count, seed=0, image_size=80, start=0):
    """Faces `start` to `start + count - 1` of a seeded, endless sequence, with their landmarks.

    Args:
        count: N ≥ 0, how many faces.
        seed: int ≥ 0. Face i of a seed is the same whatever `start` and `count` are.
        image_size: side S ≥ 16 of the square images, pixels.
        start: int ≥ 0, index of the first face.

    Returns:
        images (N, S, S, 3), uint8 RGB; and landmarks (N, 68, 2), float32 pixels in iBUG-68 order,
        x first, 0-based, pixel centres at whole numbers.

    Raises:
        ValueError: an argument is no integer or below its minimum.

    Example:

    >>> images, landmarks = synthetic_faces(2, seed=7)
    >>> images.shape, landmarks.shape
    ((2, 80, 80, 3), (2, 68, 2))
    """
    for name, value, least in (
        ("count", count, 0),
        ("seed", seed, 0),
        ("image_size", image_size, 16),
        ("start", start, 0),
    ):
        try:
            valid = operator.index(value) >= least
        except TypeError:
            valid = False
        if not valid:
            raise ValueError(f"`{name}` must be an integer ≥ {least}. Received: {value!r}")
    images = np.empty((count, image_size, image_size, 3), np.uint8)
    landmarks = np.empty((count, 68, 2), np.float32)
    for i in range(count):
        rng = np.random.default_rng([seed, start + i])
        images[i], landmarks[i] = _render(rng, image_size)
    return images, landmarks
