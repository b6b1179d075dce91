"""Synthetic video of one moving face, with its landmarks in each frame, to measure trackers.

The face is a synthetic head, which turns, talks and is painted anew for each frame, or a photo with
labels, which is moved as a plane in front of a camera. Both follow a path of two-second motions
with stillness between them, and are seen through a lens by a camera with noise and motion blur.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from keras_lapkl.data.cropping import crop_squares
from keras_lapkl.data.synthetic.faces import paint_head
from keras_lapkl.data.synthetic.head import close_eyes, express, sample_head
from keras_lapkl.schemes import IBUG68, Scheme

STILL = "still"
MOTIONS = ("walk", "jump", "shake", "turn", "zoom", "talk", "blink", "cover")
"""`walk` about, `jump` quickly, `shake` the head, `turn` the picture, come nearer or go (`zoom`),
`talk`, `blink`, and be still while a board passes in front (`cover`)."""

_POSE = ("x", "y", "roll", "yaw", "pitch", "zoom", "talk", "blink")
RIGID = ("walk", "jump", "shake", "turn", "zoom")
_FACIAL = ("talk", "blink")
_LEAST, _MOST = 1.0, 2.0  # s
_EXPOSURE = 1 / 60  # s
_CAMERA = 8.0  # distance from a photo, in sides of its face
_SIDES = 6.2  # of the five points' square, in the frame


@dataclasses.dataclass(frozen=True)
class Clip:
    """A video of one face, its frames made when they are asked for.

    Attributes:
        times: (T,) float64, seconds.
        landmarks: (T, K, 2) float64, pixels of the frame.
        motions: T of `STILL` and `MOTIONS`.
        draw: function from an index to the frame (S, S, 3), uint8 RGB.
        scheme: of the landmarks.

    Example:

    >>> clip = synthetic_clip(size=160, motions=("turn",))
    >>> for seconds, frame in clip.frames():
    ...     faces = tracker(frame, seconds)
    """

    times: NDArray[Any]
    landmarks: NDArray[Any]
    motions: NDArray[Any]
    draw: Callable[[int], np.ndarray]
    scheme: Scheme = IBUG68

    def __len__(self) -> int:
        return len(self.times)

    def frames(self) -> Iterator[tuple[float, NDArray[np.uint8]]]:
        """Yields time and frame, from the first to the last."""
        for i, time in enumerate(self.times):
            yield float(time), self.draw(i)


def synthetic_clip(
    seed: int = 0, size: int = 320, rate: float = 30.0, motions: Sequence[str] = MOTIONS
) -> Clip:
    """A synthetic head in motion.

    Args:
        seed: int ≥ 0. Person, light, path and noise follow from it.
        size: side S of the square frames, pixels. The five points' square has a side of S / 6.2,
            while the head is at its first distance.
        rate: frames a second.
        motions: which motions there are; their order follows from the seed.

    Returns:
        `Clip` with the 68 landmarks of iBUG.

    Raises:
        ValueError: an unknown motion, none, or less than a frame a second.

    Example:

    >>> clip = synthetic_clip(motions=("walk",))
    >>> time, frame = next(clip.frames())
    >>> frame.shape, clip.landmarks[0].shape
    ((320, 320, 3), (68, 2))
    """
    rng = np.random.default_rng([seed, 1])
    head = sample_head(rng, size)
    head = dataclasses.replace(head, yaw=0.5 * head.yaw, pitch=0.5 * head.pitch, roll=0.0)
    silent = head.rows, head.points
    # Some expressions hardly differ from the first; the widest mouth of a few does.
    faces = [_expression(*silent, rng) for _ in range(4)]
    talking = max(faces, key=lambda face: np.abs(face[1] - head.points)[48:, 1].mean())
    times, path, kinds = _path(rng, rate, motions)

    def pose(i):
        now = {name: path[name][i] for name in _POSE}
        rows, points = (a + now["talk"] * (b - a) for a, b in zip(silent, talking, strict=True))
        close_eyes(points, now["blink"])
        posed = dataclasses.replace(
            head,
            rows=rows,
            points=points,
            yaw=head.yaw + now["yaw"],
            pitch=head.pitch + now["pitch"],
            roll=head.roll + now["roll"],
            zoom=zoom * math.exp(now["zoom"]),
            offset=(size - 1) / 2 + side * np.array((now["x"], now["y"] - 0.4)),
        )
        posed.points[:17] = posed.rim()[5:22]
        return posed

    side = size / _SIDES
    zoom = head.zoom
    zoom *= side / crop_squares(pose(0).marks[None], IBUG68, 1)[0, 2] * math.exp(path["zoom"][0])
    landmarks = np.stack([pose(i).marks for i in range(len(times))])
    camera = _Camera(rng, seed, landmarks.mean(1), times, path["cover"], side)
    state = np.random.default_rng([seed, 2]).bit_generator.state

    def draw(i):
        painter = np.random.default_rng()
        painter.bit_generator.state = state
        return camera(i, paint_head(pose(i), size, painter))

    return Clip(times, landmarks, kinds, draw)


def photo_clip(
    photo: NDArray[np.uint8],
    landmarks: ArrayLike,
    scheme: Scheme = IBUG68,
    seed: int = 0,
    size: int = 320,
    rate: float = 30.0,
    motions: Sequence[str] = MOTIONS,
) -> Clip:
    """A photo of a face in motion, as a plane that is moved, turned and tilted.

    Args:
        photo: (H, W, 3) uint8 RGB.
        landmarks: (K, 2) pixels of the photo.
        scheme: `Scheme` of the landmarks.
        seed, size, rate, motions: as those of `synthetic_clip`; a photo neither talks nor blinks.

    Returns:
        `Clip`.

    Raises:
        ValueError: as `synthetic_clip`.

    Example:

    >>> clip = photo_clip(photo, landmarks, motions=("shake", "zoom"))
    >>> sorted(set(clip.motions.tolist()))
    ['shake', 'still', 'zoom']
    """
    rng = np.random.default_rng([seed, 3])
    times, path, kinds = _path(rng, rate, [each for each in motions if each not in _FACIAL])
    side = size / _SIDES
    x, y, edge = crop_squares(np.asarray(landmarks)[None], scheme, 1)[0]
    to_plane = np.array(((1 / edge, 0, -x / edge), (0, 1 / edge, -y / edge), (0, 0, 1)))

    def homography(i):
        now = {name: path[name][i] for name in _POSE}
        (cy, cp, cr), (sy, sp, sr) = (
            f([now["yaw"], now["pitch"], now["roll"]]) for f in (np.cos, np.sin)
        )
        turned = np.array(((cy, 0), (sp * -sy, cp), (-cp * sy, -sp)))
        turned[:2] = np.array(((cr, -sr), (sr, cr))) @ turned[:2]
        flat = np.eye(3)
        flat[:2, :2] = side * math.exp(now["zoom"]) * turned[:2]
        flat[2, :2] = -turned[2] / _CAMERA
        place = np.eye(3)
        place[:2, 2] = (size - 1) / 2 + side * np.array((now["x"], now["y"]))
        return place @ flat @ to_plane

    corners = np.asarray(landmarks, np.float64)
    moved = np.stack([_transformed(homography(i), corners) for i in range(len(times))])
    camera = _Camera(rng, seed, moved.mean(1), times, path["cover"], side)
    behind = cv2.resize(cv2.GaussianBlur(photo, (0, 0), edge / 4), (2 * size, 2 * size))
    double = np.array(((2, 0, 0.5), (0, 2, 0.5), (0, 0, 1)))

    def draw(i):
        frame = behind.copy()
        cv2.warpPerspective(
            photo,
            double @ homography(i),
            frame.shape[:2],
            frame,
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_TRANSPARENT,
        )
        return camera(i, cv2.resize(frame, (size, size), interpolation=cv2.INTER_AREA))

    return Clip(times, moved, kinds, draw, scheme)


def _expression(rows, points, rng):
    rows, points = rows.copy(), points.copy()
    express(rows, points, rng)
    return rows, points


def _path(rng, rate, motions):
    """Times, pose by name, and motion of each frame; positions are in sides of the face."""
    unknown = [each for each in motions if each not in MOTIONS]
    if unknown or not len(motions):
        raise ValueError(f"`motions` must be some of {MOTIONS}. Received: {tuple(motions)}")
    if not 1 <= rate < math.inf:
        raise ValueError(f"`rate` must be at least 1 frame a second. Received: {rate}")
    parts, names = [], []
    pose = np.zeros(len(_POSE))
    for motion in rng.permutation(list(motions)):
        for name in (STILL, motion):
            length = round(rng.uniform(_LEAST, _MOST) * rate)
            part, cover = _part(rng, name, pose, length, length / rate)
            pose = part[-1]
            parts.append(np.column_stack([part, cover]))
            names += length * [str(name)]
    path = np.concatenate(parts)
    times = np.arange(len(path)) / rate
    # Nobody is quite still.
    sway = np.array((0.004, 0.004, 0.002, 0.004, 0.004, 0.001, 0, 0))
    phase, pace = rng.uniform(0, 2 * np.pi, len(_POSE)), rng.uniform(0.2, 0.5, len(_POSE))
    path[:, :-1] += sway * np.sin(phase + 2 * np.pi * pace * times[:, None])
    return times, dict(zip((*_POSE, "cover"), path.T, strict=True)), np.array(names)


def _part(rng, name, pose, length, seconds):
    """Pose (length, 8) of one motion, and where the board is, in sides from the face's middle."""
    s = (np.arange(length) + 1) / length
    part = np.repeat(pose[None], length, 0)
    cover = np.full(length, np.nan)
    column = {each: i for i, each in enumerate(_POSE)}
    # Starts and ends at rest.
    fade = np.minimum(_eased(4 * s), _eased(4 * (1 - s)))
    beat = fade * np.sin(2 * np.pi * rng.uniform(1, 2.5) * seconds * s)
    if name in ("walk", "jump"):
        stops = 2 if name == "walk" else 4
        limits = (0.6, 0.5, 0.15, 0.35, 0.2, 0.1, 0, 0) if name == "walk" else (0.7, 0.5, *6 * (0,))
        pause = 0 if name == "walk" else 0.3
        for i in range(stops):
            target = rng.uniform(-1, 1, len(_POSE)) * limits
            still = np.array(limits) == 0
            target[still] = pose[still]
            moved = _eased((stops * s - i) / (1 - pause))
            now = stops * s > i
            part[now] = (pose + moved[:, None] * (target - pose))[now]
            pose = target
    elif name == "shake":
        part[:, column["yaw"]] += 0.35 * beat
        part[:, column["x"]] += 0.08 * beat
    elif name == "turn":
        part[:, column["roll"]] += rng.choice((-1, 1)) * rng.uniform(0.3, 0.6) * _there_and_back(s)
    elif name == "zoom":
        part[:, column["zoom"]] += rng.choice((-0.35, 0.25)) * _there_and_back(s)
    elif name == "talk":
        part[:, column["talk"]] += fade * (1 - np.cos(2 * np.pi * 3 * seconds * s)) / 2
    elif name == "blink":
        starts = np.arange(0.15, seconds - 0.3, 0.45)
        elapsed = (s * seconds)[:, None] - starts
        part[:, column["blink"]] = (_eased(elapsed / 0.08) - _eased((elapsed - 0.12) / 0.14)).sum(1)
    elif name == "cover":
        cover = rng.choice((-1, 1)) * (4 * s - 2)
    return part, cover


def _eased(s):
    """From 0 to 1 with the least jerk."""
    s = np.clip(s, 0, 1)
    return s**3 * (10 - 15 * s + 6 * s**2)


def _there_and_back(s):
    return _eased(2.5 * s) - _eased(2.5 * s - 1.5)


def _transformed(homography, points):
    flat = points @ homography[:, :2].T + homography[:, 2]
    return flat[:, :2] / flat[:, 2:]


class _Camera:
    """Puts the board in front, blurs by the lens and by the face's motion, adds noise."""

    def __init__(self, rng, seed, middles, times, cover, side):
        self.seed = seed
        self.middles = middles
        self.speeds = np.gradient(middles, times, axis=0)
        self.cover = cover
        self.side = side
        self.color = rng.uniform(20, 230, 3)
        self.lean = rng.uniform(-0.5, 0.5)
        self.focus = rng.uniform(0.4, 0.9)
        self.noise = rng.uniform(2, 6)

    def __call__(self, i, image):
        if np.isfinite(self.cover[i]):
            image = self._covered(i, image)
        image = cv2.GaussianBlur(image.astype(np.float32), (0, 0), self.focus)
        image = self._smeared(self.speeds[i] * _EXPOSURE, image)
        rng = np.random.default_rng([self.seed, 4, i])
        image += self.noise * rng.standard_normal(image.shape, np.float32)
        return np.clip(np.rint(image), 0, 255).astype(np.uint8)

    def _covered(self, i, image):
        board = np.array(((-0.4 - self.lean, -2.5), (0.4 - self.lean, -2.5)))
        board = np.concatenate([board, -board]) + (self.cover[i], 0)
        fixed = np.rint((self.middles[i] + self.side * board) * 16).astype(np.int32)
        return cv2.fillPoly(image.copy(), [fixed], self.color.tolist(), cv2.LINE_AA, 4)

    @staticmethod
    def _smeared(reach, image):
        """The mean of the image over a line of length `reach` (2,) through each place."""
        steps = math.ceil(2 * np.abs(reach).max())
        if steps < 2:
            return image
        total = np.zeros_like(image)
        for part in (np.arange(steps) + 0.5) / steps - 0.5:
            shift = np.column_stack([np.eye(2), part * reach])
            total += cv2.warpAffine(image, shift, image.shape[:2], borderMode=cv2.BORDER_REPLICATE)
        return total / steps
