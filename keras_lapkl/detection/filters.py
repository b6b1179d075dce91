"""Filters that remove the flicker of landmarks in a video.

They are objects that take landmarks, their scales and the time, frame by frame.
"""

import math
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

SHORTEST = 1e-3  # s from one frame to the next, for clocks that stand still

# Of `ScaleFilter`: flicker by scale until it is measured, as it is in most made clips.
_FLICKER = 0.11
_LEAST_FLICKER = 0.01
_FLICKER_MEMORY = 2.0  # s
_LEAST_SCALE = 1e-3  # px
_MOTION_DRIFT = 1.0  # of θ, in its units, in the first second
_MAD = 0.6745  # median of |x|, x normal with variance 1


class LandmarkFilter(Protocol):
    """What `LandmarkTracker` asks of the filter of one face.

    Example:

    >>> def unfiltered(landmarks, scale, time):
    ...     return landmarks
    >>> LandmarkTracker(detector, make_filter=lambda: unfiltered)
    """

    def __call__(
        self, landmarks: NDArray[np.float64], scale: NDArray[np.float64], time: float, /
    ) -> NDArray[np.float64]:
        """The filtered landmarks (K, 2) of the next frame: pixels, pixels and seconds."""
        ...


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
    variance R on its own; its own R is `shared`², since neighbors flicker together.
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

    def __init__(
        self, gate: float = 3.0, shared: float = 4.0, drift: float = 0.005, memory: float = 0.05
    ) -> None:
        _check_positive(gate=gate, shared=shared, drift=drift, memory=memory)
        self.gate = gate
        self.shared = shared
        self.drift = drift
        self.memory = memory
        self.flicker = _FLICKER
        self._last = None

    def __call__(
        self, landmarks: ArrayLike, scale: NDArray[Any], time: float
    ) -> NDArray[np.float64]:
        """The filtered landmarks of the next frame.

        Args:
            landmarks: (K, 2) pixels.
            scale: (K, 2) their scales b, pixels.
            time: seconds, not falling.

        Returns:
            (K, 2) float64.
        """
        landmarks = np.array(landmarks, np.float64)  # copies, in and out: callers may write there
        scale = np.maximum(scale, _LEAST_SCALE)
        noise = (self.gate * self.flicker * scale) ** 2
        if self._last is None:
            self._variance, self._motion_variance = noise, np.full(4, self.shared**2)
            self._mean, self._motion_mean = np.zeros_like(landmarks), np.zeros(4)
            self._rest = None
            self._last, self._time = landmarks, time
            return landmarks.copy()
        dt = max(time - self._time, SHORTEST)
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
        return self._last.copy()

    def _measure_flicker(self, rest, scale, dt):
        if self._rest is not None:
            found = np.median(np.abs(rest - self._rest) / scale) / (_MAD * math.sqrt(2))
            self.flicker -= math.expm1(-dt / _FLICKER_MEMORY) * (found - self.flicker)
            self.flicker = max(self.flicker, _LEAST_FLICKER)


def innovation_gain(variance: Any, surprise: Any, noise: Any) -> tuple[Any, Any]:
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


def similarity_modes(landmarks: NDArray[Any], weights: NDArray[Any]) -> NDArray[np.float64]:
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

    def __init__(
        self, min_cutoff: float = 1.0, beta: float = 0.1, derivative_cutoff: float = 1.0
    ) -> None:
        _check_positive(min_cutoff=min_cutoff, derivative_cutoff=derivative_cutoff)
        if not 0 <= beta < math.inf:
            raise ValueError(f"`beta` must be ≥ 0. Received: {beta}")
        self.min_cutoff = min_cutoff
        self.beta = beta
        self.derivative_cutoff = derivative_cutoff
        self._last = None

    def __call__(
        self, landmarks: ArrayLike, scale: NDArray[Any], time: float
    ) -> NDArray[np.float64]:
        """The filtered landmarks of the next frame; arguments as those of `ScaleFilter`."""
        landmarks = np.array(landmarks, np.float64)
        if self._last is None:
            self._speed = np.zeros_like(landmarks)
            self._last, self._time = landmarks, time
            return landmarks.copy()
        dt = max(time - self._time, SHORTEST)
        self._time = time
        change = landmarks - self._last
        self._speed += _low_pass(self.derivative_cutoff, dt) * (change / dt - self._speed)
        cutoff = self.min_cutoff + self.beta * np.abs(self._speed)
        self._last = self._last + _low_pass(cutoff, dt) * change
        return self._last.copy()


def _low_pass(cutoff, dt):
    return 1 / (1 + 1 / (2 * math.pi * cutoff * dt))


def _check_positive(**values):
    for name, value in values.items():
        if not 0 < value < math.inf:
            raise ValueError(f"`{name}` must be positive. Received: {value}")
