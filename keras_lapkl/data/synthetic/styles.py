"""Paints what is around a synthetic face: background, body, hair, beard, hat, glasses, covers."""

import cv2
import numpy as np

from keras_lapkl.data.synthetic.canvas import curve
from keras_lapkl.data.synthetic.features import CIRCLE, sample_color
from keras_lapkl.data.synthetic.head import EYES

STYLES = {"short": 0.34, "fringe": 0.14, "long": 0.32, "buzz": 0.08, "bald": 0.08, "veil": 0.04}


# ---- Painting what is around, on and in front of the face


def paint_scene(canvas, rng):
    cells = rng.integers(1, 9, 2)
    tones = sample_color(rng) + rng.standard_normal((*cells, 3)) * rng.uniform(5, 60)
    tones = np.clip(tones, 0, 255).astype(np.uint8)
    filtering = cv2.INTER_CUBIC if rng.random() < 0.8 else cv2.INTER_NEAREST
    cv2.resize(tones, canvas.pixels.shape[:2], canvas.pixels, interpolation=filtering)
    for kind in rng.integers(3, size=rng.integers(7)):
        a, b = rng.uniform(-0.1, 1.1, (2, 2)) * canvas.size
        color = sample_color(rng)
        if kind == 0:
            canvas.stroke(np.stack([a, b]), color, rng.uniform(0.01, 0.15) * canvas.size)
        elif kind == 1:
            canvas.fill(a + CIRCLE * rng.uniform(0.03, 0.3, 2) * canvas.size, color)
        else:
            canvas.fill(np.array((a, (b[0], a[1]), b, (a[0], b[1]))), color)


def paint_body(canvas, shade, head, look, style, rng):
    half, top = rng.uniform((40, 18), (58, 50))
    neck = ((-half, 40), (half, 40), (half + 6, head.chin + 60), (-half - 6, head.chin + 60))
    neck = head.project(np.insert(np.array(neck), 2, -75, axis=1))
    canvas.fill(neck, look.hair if style == "veil" else look.skin)
    shade.fill(neck, np.full(3, rng.uniform(55, 110)))
    right = np.array(((0, 0), (half, -16), (half + 14, -10), (140, 40), (220, 90), (230, 250)))
    body = np.concatenate([right, right[::-1] * (-1, 1)]) + np.array((0, head.chin + top))
    body = head.facing((0, 0, -70), body)
    canvas.fill(body, sample_color(rng))
    shade.fill(body, np.full(3, 128.0))


def _skull(head, margin=0.0):
    """24 points round the skull, `margin` mm outside of it; the first at the right, clockwise."""
    width, height = head.rows[:, 1].max() + 3, -28 - head.rows[0, 0]
    width = np.hypot(width * np.cos(head.yaw), 94 * np.sin(head.yaw))
    return head.facing((0, -34, -80), CIRCLE * (width + margin, height + margin))


def _crown(head, margin):
    """The skull's upper half, 13 points from left to right."""
    skull = _skull(head, margin)
    return np.concatenate([skull[12:], skull[:1]])


def paint_behind(canvas, shade, head, look, style, rng):
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
        center = ear + np.array((3 * side, 0, 4))
        lean = np.array(((1, -0.16 * side), (0.16 * side, 1)))
        canvas.fill(head.facing(center, CIRCLE * (wide, 26) @ lean), look.skin * 0.9)
        canvas.fill(head.facing(center, CIRCLE * (0.4 * wide, 15) @ lean), look.skin * 0.65)


def paint_hair(canvas, head, look, style, rng):
    """Hair or cloth over the forehead and the cheeks."""
    u = np.array((-1, -0.98, -0.85, -0.55, -0.2, 0.2, 0.55, 0.85, 0.98, 1))
    y = np.array((-12, -34, -62, -74, -80, -80, -74, -62, -34, -12)) + rng.normal(0, 4)
    if style == "fringe":
        y[1:-1] = rng.uniform(-58, -26) + rng.normal(0, 5, 8)
    elif style == "veil":
        y[2:-2] = -66
    else:
        y[2:-2] += rng.uniform(-14, 10) * np.array((1, 1, 0.3, 0.3, 1, 1)) + rng.normal(0, 3, 6)
    line = curve(head.project(head.skin(head.height(np.minimum(y, -8)), u)))
    crown = _crown(head, 2 if style == "buzz" else 10)
    canvas.fill(np.concatenate([line, crown[::-1]]), look.hair)
    if style in ("veil", "buzz"):
        return
    k = rng.integers(len(crown), size=10)
    ends = np.stack([crown[k], line[3 * k]])
    bends = ends.mean(0) + rng.normal(0, 5 * head.zoom, ends[0].shape)
    strands = curve(np.stack([ends[0], bends, ends[1]], 1))
    for some, tone in ((strands[:5], rng.uniform(0.5, 0.9)), (strands[5:], rng.uniform(1.1, 1.5))):
        canvas.stroke(some, look.hair * tone, rng.uniform(0.4, 1))
    if style == "long":
        inner, volume = rng.uniform((0.86, 4), (1.04, 24))
        for side in (-1, 1):
            y = head.height(np.array((-70, -30, 10, 50)))
            front = head.project(head.skin(y, np.full(4, side * min(inner, 1))))
            outer = np.array(((volume, head.chin), (volume, -60))) * (side, 1)
            outer = head.facing((76 * side, 0, -60), outer)
            canvas.fill(curve(np.concatenate([front, outer]), closed=True), look.hair * 0.95)


def paint_beard(canvas, head, look, rng):
    marks, color, alpha = head.marks, look.hair * 0.8 + 8, rng.choice((0.25, 0.55, 0.9))
    nose = marks[35:30:-1]
    moustache = np.concatenate([marks[48:55], 0.8 * nose + 0.2 * marks[53:48:-1]])
    canvas.tint(moustache, color, alpha)
    if rng.random() < 0.75:
        ear = rng.integers(1, 6)
        cheeks = head.project(head.skin(head.points[54, 1], np.array((0.62, -0.62))))
        chin = [curve(marks[ear : 17 - ear]), cheeks[:1], marks[54:60], marks[48:49], cheeks[1:]]
        canvas.tint(np.concatenate(chin), color, alpha)


def paint_hat(canvas, head, rng):
    color = sample_color(rng)
    y = np.array((-40, -52, -56, -52, -40)) + rng.uniform(-12, 4)
    brim = head.skin(head.height(y), np.array((-1, -0.7, 0, 0.7, 1)))
    brim = curve(head.project(brim + np.array((0, 0, 6))))
    crown = _crown(head, rng.uniform(8, 18))
    canvas.fill(np.concatenate([brim, crown[::-1]]), color)
    canvas.stroke(brim, color * rng.uniform(0.4, 1.2), rng.uniform(2, 6) * head.zoom)


def paint_glasses(canvas, head, rng):
    color, width = sample_color(rng) * rng.uniform(0, 1), rng.uniform(1.2, 3.5) * head.zoom
    radii = rng.uniform((20, 14), (26, 21))
    rim = np.sign(CIRCLE) * np.abs(CIRCLE) ** rng.uniform(0.5, 1) * radii
    sunny = rng.random() < 0.15
    for eye, side in zip(EYES, (-1, 1), strict=True):
        center = head.points[eye].mean(0) + np.array((side, 3, 14))
        glass = head.project(center + np.insert(rim, 2, -0.15 * side * rim[:, 0], axis=1))
        if sunny:
            canvas.tint(glass, color * 0.4, 0.93)
        canvas.stroke(glass, color, width, closed=True)
        bridge = (0, center[1] - 5, center[2] + 3), center - np.array((side * radii[0], 2, 0))
        hinge = center + np.array((side * radii[0], -4, -5))
        temple = hinge, head.skin(head.rows[5, 0], float(side))
        canvas.stroke(head.project([bridge, temple]), color, width)


def paint_occluder(canvas, head, look, rng):
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
        center = size / 2 + rng.choice((-1, 1), 2) * rng.uniform(0.1, 0.45, 2) * size
        board = np.array(((-1, -1), (1, -1), (1, 1), (-1, 1))) * extent @ turn
        canvas.fill(center + board, sample_color(rng))
    else:
        edge = curve(marks[[1, 3, 29 if rng.random() < 0.4 else 57, 13, 15]])
        low = np.array(((1.2, 1.2), (-0.2, 1.2))) * size
        canvas.fill(np.concatenate([edge, low]), sample_color(rng))
