"""Paints a synthetic face: its colors, nose, mouth, eyes, brows and shades."""

import dataclasses

import cv2
import numpy as np

from keras_lapkl.data.synthetic.canvas import Canvas, curve
from keras_lapkl.data.synthetic.head import EYES, GRID_U, GRID_Y, RELIEF

_SKIN_TONES = [(84, 54, 41), (112, 74, 53), (152, 106, 78), (193, 143, 110), (224, 178, 148)]
_SKINS = np.array([*_SKIN_TONES, (243, 209, 187)])
_HAIR_TONES = [
    (22, 18, 17),
    (30, 23, 20),
    (52, 35, 25),
    (92, 62, 40),
    (120, 62, 35),
    (196, 158, 104),
]
_HAIRS = np.array([*_HAIR_TONES, (150, 148, 146), (214, 211, 206)])
_IRISES = np.array([(52, 32, 20), (80, 52, 30), (96, 92, 58), (82, 112, 132), (60, 92, 60)])

_ANGLES = np.linspace(0, 2 * np.pi, 24, endpoint=False)
CIRCLE = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], -1)


@dataclasses.dataclass(frozen=True)
class _Look:
    """Colors (RGB, 0 to 255) of what the landmarks outline; brow height and gaze (3,) in mm."""

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


# ---- Sampling the look


def sample_color(rng):
    """Cloth, walls and things: any brightness, mostly dull."""
    return np.clip(rng.uniform(0, 255) + rng.standard_normal(3) * rng.uniform(0, 70), 0, 255)


def sample_look(rng):
    """A person's colors; dark skin mostly comes with dark hair and eyes."""
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


# ---- Painting what the landmarks outline, in plain colors


def paint_face(canvas, head, look):
    canvas.fill(curve(head.project(head.rim()), closed=True), look.skin)
    _paint_nose(canvas, head, look)
    _paint_mouth(canvas, head, look)
    _paint_eyes(canvas, head, look)
    _paint_brows(canvas, head, look)


def _paint_nose(canvas, head, look):
    for wing, base, side in ((31, 32, -1), (35, 34, 1)):
        nostril = CIRCLE * (3.2, max(1.6 - 4 * head.pitch, 0.8))
        hole = head.points[base] + np.array((1.5 * side, -2.2, 0))
        canvas.fill(head.facing(hole, nostril), look.skin * 0.45)
        crease = head.points[wing] + np.array(((side, -10, -6), (3.5 * side, -5, -3), (0, 0, 0)))
        canvas.stroke(curve(head.project(crease)), look.skin * 0.68, 0.5)
    canvas.stroke(curve(head.marks[31:36]), look.skin * 0.66, 0.6)


def _paint_mouth(canvas, head, look):
    marks = head.marks
    top, bottom = curve(marks[48:55]), curve(marks[[48, 59, 58, 57, 56, 55, 54]])
    inner_top, inner_bottom = curve(marks[60:65]), curve(marks[[60, 67, 66, 65, 64]])
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
    mask = Canvas(np.zeros(canvas.pixels.shape[:2], np.uint8), canvas.factor)
    balls = Canvas(canvas.pixels.copy(), canvas.factor)
    down = head.axes[1]
    for eye in EYES:
        corners = [eye.start, eye.start + 3]
        upper = curve(head.marks[eye][:4])
        lower = curve(head.marks[eye][[0, 5, 4, 3]])
        opening = np.concatenate([upper, lower[::-1]])
        ball = head.points[eye].mean(0) + look.gaze
        radius = 0.22 * np.linalg.norm(np.subtract(*head.points[corners]))
        mask.fill(opening, np.array(255))
        balls.fill(opening, look.sclera)
        balls.fill(head.facing(ball, CIRCLE * radius), look.iris)
        balls.fill(head.facing(ball, CIRCLE * radius * 0.45), look.iris * 0.2)
        glint = np.array((1.8, -2, 2))
        balls.fill(head.facing(ball + glint, CIRCLE), look.sclera * 1.15)
        canvas.fill(np.concatenate([upper, upper[::-1] - 2.2 * down]), look.brow * 0.5)
        canvas.stroke(upper - 4.5 * down, look.skin * 0.72, 0.5)
        canvas.stroke(lower, look.skin * 0.7, 0.5)
    cv2.copyTo(balls.pixels, mask.pixels, canvas.pixels)


def _paint_brows(canvas, head, look):
    for brow, thinning in ((slice(17, 22), -1), (slice(22, 27), 1)):
        line = curve(head.marks[brow])
        thick = np.linspace(1, 0.35, len(line))[::thinning, None] * look.brow_height * head.axes[1]
        outline = np.concatenate([line - 0.45 * thick, (line + 0.55 * thick)[::-1]])
        canvas.fill(outline, look.brow)


# ---- Light


def shade_surface(shade, head, rng):
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


def shade_details(shade, head, rng):
    """Folds, lids and cheeks, which the facets are too coarse for; softens all shading."""
    soft = Canvas(np.full_like(shade.pixels, 128), shade.factor)
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
        soft.fill(marks[wing] + 28 * right - 2 * down + CIRCLE * 14 * mm, blush)
    cv2.multiply(shade.pixels, soft.pixels, shade.pixels, 1 / 128)
    cv2.GaussianBlur(shade.pixels, (0, 0), 3.5 * mm, shade.pixels)
