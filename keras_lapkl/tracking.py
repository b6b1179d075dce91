"""Faces in video: followed from frame to frame by their landmarks, which are filtered over time."""

import dataclasses
import math
from collections.abc import Callable

import numpy as np

from keras_lapkl.data.crops import turned_box
from keras_lapkl.data.locate import distance
from keras_lapkl.detection import Face

_JUMP = 1.0  # sides from one frame to the next; the crop ends 1.5 sides from its middle
_AHEAD = 0.5  # sides that the crop may be ahead of the last landmarks
_SMALLEST = 8.0  # px, side of the five points' square: below it a face is a speck
_REMEMBERED = 1.0  # s that a lost face can come back with its number
_SHORTEST = 1e-3  # s from one frame to the next, for clocks that stand still

# Of `ScaleFilter`: flicker by scale until it is measured, as it is in most made clips.
_FLICKER = 0.11
_LEAST_FLICKER = 0.01
_FLICKER_MEMORY = 2.0  # s
_LEAST_SCALE = 1e-3  # px
_MOTION_DRIFT = 1.0  # of θ, in its units, in the first second
_MAD = 0.6745  # median of |x|, x normal with variance 1


# ---- Filters: objects that take landmarks, their scales and the time, frame by frame


class ScaleFilter:
    """A Kalman filter whose gain follows each landmark's scale, around the motion of the face.

    Two steps a frame. The first moves all landmarks by the part K of the similarity θ (shift, turn
    and change of size) that takes the last output to the new landmarks with the least squares. The
    second moves each coordinate by its own part K of what is left over. With ν for θ or what is
    left over, R the variance of its flicker and P that of the last output, both gains are

        m ← m + α(ν − m)                             α = 1 − exp(−dt / memory)
        S = m²(2 − α)/α                              variance of ν, by what has one sign
        P⁻ = max(P + drift² · dt, S − R)
        K = P⁻ / (P⁻ + R)                            at least 1 − R/S
        P ← (1 − K)P⁻

    For a coordinate R = (gate · f · b)², with its scale b, and S is the mean of x and y. A still
    face has S < R: P falls, and with it K, more so the larger b. A moving one has S ≫ R and K near
    1: no lag. Flicker changes sign and leaves m small; motion does not.
    θ is weighted by 1/R and in the units in which it has variance 1 if each landmark has the
    variance R on its own; its own R is `shared`², since neighbours flicker together.
    The flicker f, in scales, is measured on the way: the median of |change of what is left over|/b
    over all coordinates, as a deviation, averaged over two seconds. A model whose scales are all
    twice as large is filtered alike.

    Args:
        gate: deviations of the flicker that do not count as motion. Larger is smoother, and slower
            to follow lips and lids.
        shared: deviations of θ that do not count as motion.
        drift: what can pass unseen, in widths of the face in the first second.
        memory: seconds over which signs are compared.

    Attributes:
        flicker: f, so far.

    Raises:
        ValueError: an argument out of range.

    Example:

    >>> smooth = ScaleFilter()
    >>> for i, face in enumerate(faces):
    ...     landmarks = smooth(face.landmarks, face.scale, i / 30)

    Source: process noise from the innovations is Mehra's (IEEE Transactions on Automatic Control
    15, 1970); that it is S − R at once, the shared motion and the scale are this package's own.
    """

    def __init__(self, gate=2.5, shared=4.0, drift=0.005, memory=0.05):
        _check_positive(gate=gate, shared=shared, drift=drift, memory=memory)
        self.gate = gate
        self.shared = shared
        self.drift = drift
        self.memory = memory
        self.flicker = _FLICKER
        self._last = None

    def __call__(self, landmarks, scale, time):
        """The filtered landmarks of the next frame.

        Args:
            landmarks: (K, 2) pixels.
            scale: (K, 2) their scales b, pixels.
            time: seconds, not falling.

        Returns:
            (K, 2) float64.
        """
        landmarks = np.asarray(landmarks, np.float64)
        scale = np.maximum(scale, _LEAST_SCALE)
        noise = (self.gate * self.flicker * scale) ** 2
        if self._last is None:
            self._variance, self._motion_variance = noise, np.full(4, self.shared**2)
            self._mean, self._motion_mean = np.zeros_like(landmarks), np.zeros(4)
            self._rest = None
            self._last, self._time = landmarks, time
            return landmarks
        dt = max(time - self._time, _SHORTEST)
        alpha = -math.expm1(-dt / self.memory)
        last, self._time = self._last, time

        weights = 1 / noise.mean(1, keepdims=True)
        modes = similarity_modes(last, weights)
        motion = np.tensordot(modes, weights * (landmarks - last), 2)
        self._motion_mean += alpha * (motion - self._motion_mean)
        gain, self._motion_variance = innovation_gain(
            self._motion_variance + _MOTION_DRIFT**2 * dt,
            self._motion_mean**2 * (2 - alpha) / alpha,
            self.shared**2,
        )
        rest = landmarks - last - np.tensordot(motion, modes, 1)
        moved = last + np.tensordot(gain * motion, modes, 1)

        width = np.ptp(last, axis=0).max()
        self._mean += alpha * (rest - self._mean)
        gain, self._variance = innovation_gain(
            self._variance + (self.drift * width) ** 2 * dt,
            (self._mean**2).mean(1, keepdims=True) * (2 - alpha) / alpha,
            noise,
        )
        self._measure_flicker(rest, scale, dt)
        self._rest = (1 - gain) * rest
        self._last = moved + gain * rest
        return self._last

    def _measure_flicker(self, rest, scale, dt):
        if self._rest is not None:
            found = np.median(np.abs(rest - self._rest) / scale) / (_MAD * math.sqrt(2))
            self.flicker -= math.expm1(-dt / _FLICKER_MEMORY) * (found - self.flicker)
            self.flicker = max(self.flicker, _LEAST_FLICKER)


def innovation_gain(variance, surprise, noise):
    """The gain of a Kalman filter that doubts itself where the innovations are larger than it says.

        P⁻ = max(P, S − R)        K = P⁻ / (P⁻ + R)        P ← (1 − K)P⁻

    Args:
        variance: P of the prediction.
        surprise: S, variance of the innovations as seen.
        noise: R > 0, variance of the measurement.

    Returns:
        K and the new P.

    Example:

    >>> innovation_gain(1.0, 2.0, 3.0), innovation_gain(1.0, 12.0, 3.0)
    ((0.25, 0.75), (0.75, 2.25))
    """
    predicted = np.maximum(variance, surprise - noise)
    gain = predicted / (predicted + noise)
    return gain, (1 - gain) * predicted


def similarity_modes(landmarks, weights):
    """Small shifts in x and y, turn and change of size of a face, orthonormal under weights.

    Args:
        landmarks: (K, 2).
        weights: (K, 1), positive.

    Returns:
        (4, K, 2): Σ weights · modesᵢ · modesⱼ is 1 where i = j, else 0.
    """
    modes = np.zeros((4, *landmarks.shape))
    modes[0, :, 0] = modes[1, :, 1] = 1
    modes[2] = landmarks - (weights * landmarks).sum(0) / weights.sum()
    modes[3] = modes[2][:, ::-1] * (-1, 1)
    lengths = np.sqrt((weights * modes**2).sum((1, 2)))
    return modes / np.maximum(lengths, 1e-12)[:, None, None]


class OneEuroFilter:
    """A low-pass filter of each coordinate whose cut-off rises with its speed.

        α(c) = 1 / (1 + 1 / (2π · c · dt))
        v ← v + α(derivative_cutoff)((x − x′)/dt − v)       x′ is the last output
        y ← y + α(min_cutoff + beta · |v|)(x − y)

    It knows nothing of scales: here to compare `ScaleFilter` with.

    Args:
        min_cutoff: Hz, > 0; smaller is smoother at rest.
        beta: Hz by pixel and second, ≥ 0; larger has less lag in motion. Right for one size of
            faces only.
        derivative_cutoff: Hz, > 0.

    Raises:
        ValueError: an argument out of range.

    Example:

    >>> smooth = OneEuroFilter(min_cutoff=0.3, beta=0.2)
    >>> landmarks = smooth(face.landmarks, face.scale, 0.0)

    Source: Casiez, Roussel and Vogel, CHI 2012, with the output as the last value of the
    derivative, as in their pseudo-code.
    """

    def __init__(self, min_cutoff=1.0, beta=0.1, derivative_cutoff=1.0):
        _check_positive(min_cutoff=min_cutoff, derivative_cutoff=derivative_cutoff)
        if not 0 <= beta < math.inf:
            raise ValueError(f"`beta` must be ≥ 0. Received: {beta}")
        self.min_cutoff = min_cutoff
        self.beta = beta
        self.derivative_cutoff = derivative_cutoff
        self._last = None

    def __call__(self, landmarks, scale, time):
        """The filtered landmarks of the next frame; arguments as those of `ScaleFilter`."""
        landmarks = np.asarray(landmarks, np.float64)
        if self._last is None:
            self._speed = np.zeros_like(landmarks)
            self._last, self._time = landmarks, time
            return landmarks
        dt = max(time - self._time, _SHORTEST)
        self._time = time
        change = landmarks - self._last
        self._speed += _low_pass(self.derivative_cutoff, dt) * (change / dt - self._speed)
        cutoff = self.min_cutoff + self.beta * np.abs(self._speed)
        self._last = self._last + _low_pass(cutoff, dt) * change
        return self._last


def _low_pass(cutoff, dt):
    return 1 / (1 + 1 / (2 * math.pi * cutoff * dt))


def _check_positive(**values):
    for name, value in values.items():
        if not 0 < value < math.inf:
            raise ValueError(f"`{name}` must be positive. Received: {value}")


# ---- The tracker


@dataclasses.dataclass(frozen=True, eq=False)
class TrackedFace(Face):
    """A `Face` of a video. `landmarks` are filtered; all else is of this frame alone.

    Attributes:
        id: a whole number ≥ 0, the same as long as the face is followed, never given twice.
        raw: (K, 2) float64, the landmarks before the filter.
    """

    id: int = 0
    raw: np.ndarray | None = None


class LandmarkTracker:
    """Follows the faces of a video: the next crop is cut by the last landmarks.

    With a filter it is cut where these will be if the face keeps its speed.

    The face detector runs while no face is followed, in the frame in which one is lost, and every
    `find_every` frames to find new ones. A face is lost where the mean scale of its landmarks
    exceeds `max_scale`; where its landmarks are not finite, or jump by a side of the five points'
    square or by a factor e in size; or where that square's centre leaves the frame or its side
    falls below 8 pixels. It comes back with its number if it is found within a second and half a
    side. Of two that have become one, the older goes on. A frame of another size, or an earlier
    time, starts anew.

    Args:
        detector: a `LandmarkDetector`: called with a frame, it finds faces; its `localize` is
            called with a frame and squares.
        make_filter: makes the filter of one face, a callable as `ScaleFilter()`; None for none.
        max_scale: largest mean scale of a face that is followed, pixels of the model's crop. The
            default is for 80-pixel crops; benchmarks/tracking.py measures what it keeps.
        find_every: frames from one search for new faces to the next; None to search only when a
            face is lost or none is followed.

    Raises:
        ValueError: an argument out of range, or a model whose crops are not cut by landmarks.

    Example:

    >>> tracker = LandmarkTracker(LandmarkDetector.from_pretrained())
    >>> for i, frame in enumerate(frames):          # (H, W, 3) uint8 RGB each
    ...     for face in tracker(frame, i / 30):
    ...         print(face.id, face.landmarks[30])
    """

    def __init__(self, detector, make_filter=ScaleFilter, max_scale=2.0, find_every=30):
        if not max_scale > 0:
            raise ValueError(f"`max_scale` must be > 0. Received: {max_scale}")
        if find_every is not None and find_every < 1:
            raise ValueError(f"`find_every` must be at least 1, or None. Received: {find_every}")
        crop_from = detector.localizer.scheme.crop_from
        if crop_from != "points":
            raise ValueError(
                "Faces are followed by their landmarks: expected a model whose crops are cut by "
                f'them (`crop_from="points"`). Received: {crop_from!r}. Detect in each frame.'
            )
        self.detector = detector
        self.make_filter = make_filter
        self.max_scale = max_scale
        self.find_every = find_every
        self._next_id = 0
        self.reset()

    def reset(self):
        """Forgets all faces, as before a new video. Numbers are not given again."""
        self._tracks = []
        self._lost = []
        self._since_search = 0
        self._shape = None
        self._time = -math.inf

    def __call__(self, frame, time):
        """The faces of the next frame.

        Args:
            frame: (H, W, 3) uint8 RGB. OpenCV's functions give BGR: reverse it, `bgr[..., ::-1]`.
            time: seconds, from any start. Frames need not be evenly spaced.

        Returns:
            list of `TrackedFace` by rising `id`.

        Raises:
            ValueError: a time that is not finite, or as `LandmarkDetector`.
        """
        if not math.isfinite(time):
            raise ValueError(f"`time` must be finite, in seconds. Received: {time}")
        frame = np.asarray(frame)
        if frame.shape != self._shape or time < self._time:
            self.reset()
        self._shape, self._time = frame.shape, time

        lost = self._follow(frame, time)
        self._lost = [each for each in self._lost if time - each.time <= _REMEMBERED] + lost
        self._since_search += 1
        due = self.find_every is not None and self._since_search >= self.find_every
        if lost or due or not self._tracks:
            self._since_search = 0
            self._search(frame, time)
        return [track.face for track in self._tracks]

    def _follow(self, frame, time):
        """Moves the tracks to a frame; returns those that are lost."""
        if not self._tracks:
            return []
        squares = np.stack([track.expected(time) for track in self._tracks])
        faces = self.detector.localize(frame, squares)
        kept, lost = [], []
        for track, face in zip(self._tracks, faces, strict=True):
            square = self._checked(face)
            if square is None or distance(track.square, square) > _JUMP:
                lost.append(track)
            elif not any(_is_same(square, other.square) for other in kept):
                self._update(track, face, time)
                kept.append(track)
        self._tracks = kept
        return lost

    def _search(self, frame, time):
        """Begins tracks of the faces that the detector finds where there is none."""
        for face in self.detector(frame):
            square = self._checked(face)
            if square is None or any(_is_same(square, each.square) for each in self._tracks):
                continue
            former = next((each for each in self._lost if _is_same(square, each.square)), None)
            if former is None:
                number = self._next_id
                self._next_id += 1
            else:
                number = former.number
                self._lost.remove(former)
            track = _Track(number, self.make_filter() if self.make_filter else None)
            self._update(track, face, time)
            self._tracks.append(track)
        self._tracks.sort(key=lambda track: track.number)

    def _update(self, track, face, time):
        values = {field.name: getattr(face, field.name) for field in dataclasses.fields(Face)}
        if track.smooth is not None:
            values["landmarks"] = track.smooth(face.landmarks, face.scale, time)
        track.face = TrackedFace(**values, id=track.number, raw=face.landmarks)
        square = turned_box(track.face.landmarks, self.detector.localizer.scheme)
        track.move(square, time)

    def _checked(self, face):
        """The five points' square of a face; None if it is no face that can be followed."""
        localizer = self.detector.localizer
        scale = face.scale.mean() * localizer.image_size / face.square[2]
        if not (np.isfinite(face.landmarks).all() and scale <= self.max_scale):
            return None
        try:
            square = turned_box(face.landmarks, localizer.scheme)
        except ValueError:  # all landmarks in one point
            return None
        height, width = self._shape[:2]
        inside = -0.5 <= square[0] <= width - 0.5 and -0.5 <= square[1] <= height - 0.5
        return square if inside and square[2] >= _SMALLEST else None


@dataclasses.dataclass(eq=False)
class _Track:
    """One face that is followed.

    Attributes:
        number: its id.
        smooth: its filter, or None.
        face: `TrackedFace` of the last frame.
        square: (4,) the five points' square by its landmarks, with its angle.
        speed: (2,) of the square's centre, pixels a second.
        time: of the last frame, seconds.
    """

    number: int
    smooth: Callable | None
    face: TrackedFace | None = None
    square: np.ndarray | None = None
    speed: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(2))
    time: float = 0.0

    def move(self, square, time):
        # Without a filter a speed would be mostly flicker.
        if self.square is not None and self.smooth is not None:
            self.speed = (square[:2] - self.square[:2]) / max(time - self.time, _SHORTEST)
        self.square, self.time = square, time

    def expected(self, time):
        """Where the square is if the face keeps its speed."""
        reach = _AHEAD * self.square[2]
        shift = np.clip(self.speed * (time - self.time), -reach, reach)
        return self.square + np.append(shift, (0, 0))


def _is_same(square, other):
    """Whether the centres of two squares are within half the larger one's side."""
    return np.abs(square[:2] - other[:2]).max() <= max(square[2], other[2]) / 2
