"""Procedural faces with exact iBUG-68 landmarks: the labeled data set that ships with the package.

A 3-D head (`synthetic_head`) gets an identity, an expression and a pose. Its landmarks are
projected, and the picture is painted through the projected points, so that label and drawing cannot
disagree.
"""

import dataclasses
import functools
import operator

import cv2
import numpy as np

from keras_lapkl.data.synthetic_head import EYES, GRID_U, GRID_Y, RELIEF, sample_head

_SKINS = [(84, 54, 41), (112, 74, 53), (152, 106, 78), (193, 143, 110), (224, 178, 148)]
_SKINS = np.array([*_SKINS, (243, 209, 187)])
_HAIRS = [(22, 18, 17), (30, 23, 20), (52, 35, 25), (92, 62, 40), (120, 62, 35), (196, 158, 104)]
_HAIRS = np.array([*_HAIRS, (150, 148, 146), (214, 211, 206)])
_IRISES = np.array([(52, 32, 20), (80, 52, 30), (96, 92, 58), (82, 112, 132), (60, 92, 60)])
_STYLES = {"short": 0.34, "fringe": 0.14, "long": 0.32, "buzz": 0.08, "bald": 0.08, "veil": 0.04}

_ANGLES = np.linspace(0, 2 * np.pi, 24, endpoint=False)
_CIRCLE = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], -1)


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


# ---- Sampling the look


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
    for eye in EYES:
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
    grid = head.skin(head.height(GRID_Y)[:, None], GRID_U, visible=False)
    grid[..., 2] += RELIEF * head.relief
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
        soft.stroke(marks[EYES[eye]][:4] - 3 * down, dark, 4 * mm)
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
    for eye, side in zip(EYES, (-1, 1), strict=True):
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


def paint_head(head, size, rng):
    """The picture (S, S, 3) of a posed head, before any camera: uint8 RGB.

    A generator in the same state gives the same person, clothes and light under every pose.
    """
    look = _sample_look(rng)
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
    return cv2.resize(canvas.pixels, (size, size), interpolation=cv2.INTER_AREA)


def paint_background(size, rng):
    """What is behind the faces, alone: (S, S, 3) uint8 RGB."""
    canvas = _Canvas(np.empty((2 * size, 2 * size, 3), np.uint8), 2)
    _paint_background(canvas, rng)
    return cv2.resize(canvas.pixels, (size, size), interpolation=cv2.INTER_AREA)


def _render(rng, size):
    """One image (S, S, 3) and its landmarks (68, 2)."""
    head = sample_head(rng, size)
    return _develop(paint_head(head, size, rng), rng), head.marks


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
