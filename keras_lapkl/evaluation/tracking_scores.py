"""How well a tracker follows the faces of a synthetic video."""

import math

import numpy as np
from numpy.typing import ArrayLike

from keras_lapkl.data.synthetic.clips import RIGID, STILL, Clip


def evaluate(clip: Clip, found: ArrayLike) -> dict[str, float]:
    """How steady, how late and how right the landmarks are that were found in a clip.

    Args:
        clip: `Clip`.
        found: (T, K, 2) pixels; NaN in frames without a face, which count nowhere but in `missed`.

    Returns:
        dict; lengths in percent of the mean distance of the outer eye corners:
        `flicker`, RMS change of the error from one frame to the next while the face is still;
        `jitter`, RMS second difference of the error divided by √3 while it moves, which is the
        flicker if that is white noise; `lag`, milliseconds by which the truth must be delayed to
        fit best while the face moves; `nme`, mean error, `moving_nme`, `covered_nme`; `talk`,
        `blink`, the part of the motions of lips and lids that is left, 1 if all is; `missed`, the
        share of frames without a face. NaN where the clip has no such motion.

    Raises:
        ValueError: landmarks of another shape, or a scheme without eye corners.
    """
    found = np.asarray(found, np.float64)
    if found.shape != clip.landmarks.shape:
        raise ValueError(f"Expected landmarks {clip.landmarks.shape}. Received: {found.shape}")
    if clip.scheme.eye_corners is None:
        raise ValueError(
            f"The scheme {clip.scheme.name!r} has no eye corners to measure errors by."
        )
    eyes = clip.landmarks[:, list(clip.scheme.eye_corners)]
    unit = np.linalg.norm(eyes[:, 1] - eyes[:, 0], axis=-1).mean() / 100
    error = (found - clip.landmarks) / unit
    length = np.linalg.norm(error, axis=-1).mean(-1)
    still = clip.motions == STILL
    moving = np.isin(clip.motions, RIGID)

    def rms(difference, mask, order):
        mask = np.all([mask[i : len(mask) - order + i] for i in range(order + 1)], 0)
        return float(np.sqrt(_mean((difference[mask] ** 2).sum(-1))))

    return {
        "flicker": rms(np.diff(error, axis=0), still, 1),
        "jitter": rms(np.diff(error, 2, axis=0), moving, 2) / math.sqrt(3),
        "lag": 1e3 * _lag(clip, found, moving & np.isfinite(length)),
        "nme": _mean(length),
        "moving_nme": _mean(length[moving]),
        "covered_nme": _mean(length[clip.motions == "cover"]),
        "talk": _response(clip, found, "talk"),
        "blink": _response(clip, found, "blink"),
        "missed": float(np.mean(~np.isfinite(length))),
    }


def _mean(values):
    """The mean of those that are finite; NaN if there are none."""
    values = values[np.isfinite(values)]
    return float(values.mean()) if values.size else math.nan


def _lag(clip, found, mask):
    """Seconds by which the truth is delayed where it fits best, each landmark's bias left out."""
    if not mask.any():
        return math.nan
    times, truth = clip.times, clip.landmarks
    speeds = np.gradient(truth, times, axis=0)
    last = len(times) - 1
    lag = 0.0
    for _ in range(5):  # Gauss-Newton
        places = np.clip(np.interp(times[mask] - lag, times, np.arange(last + 1)), 0, last)
        before = np.minimum(places.astype(int), last - 1)
        part = (places - before)[:, None, None]
        delayed, speed = (
            (1 - part) * each[before] + part * each[before + 1] for each in (truth, speeds)
        )
        rest = found[mask] - delayed
        rest, speed = rest - rest.mean(0), speed - speed.mean(0)
        lag -= (rest * speed).sum() / (speed**2).sum()
    return float(lag)


def _response(clip, found, motion):
    """Slope of what was found by the truth, of the landmarks' distances from their means."""
    mask = (clip.motions == motion) & np.isfinite(found).all((1, 2))
    if not mask.any():
        return math.nan
    truth, found = (each[mask] - each[mask].mean(0) for each in (clip.landmarks, found))
    return float((truth * found).sum() / (truth**2).sum())
