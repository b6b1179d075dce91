"""The `.pts` format of 300-W and menpo. Files count from 1, memory from 0; converted only here.

    version: 1
    n_points: 68
    {
    64.847 87.433
    ...
    }

The header and the braces may be missing.
"""

import re

import numpy as np
from numpy.typing import ArrayLike, NDArray

from keras_lapkl._support.files import replacing
from keras_lapkl._support.pixels import FARTHEST
from keras_lapkl._support.reading import read_bytes
from keras_lapkl._support.types import PathLike

_MAX_BYTES = 1 << 20
_FIRST_PIXEL = 1  # what files call the pixel at index 0
_HEADER = re.compile(r"([A-Za-z]\w*)\s*:\s*(.*)")


def read_pts(path: PathLike, num_landmarks: int | None = None) -> NDArray[np.float32]:
    """Reads landmarks from a `.pts` file.

    Header lines may be missing, in any order and case; numbers are separated by spaces, tabs or a
    comma. Byte-order marks, any line ends and blank lines are fine.

    Args:
        path: file to read.
        num_landmarks: how many points it must hold; None takes any number.

    Returns:
        (K, 2) float32, pixels, x first, 0-based: the file's numbers less one.

    Raises:
        ValueError: with file, line, what was expected and what is there.
        OSError: the file can't be opened.

    Example:

    >>> _ = Path("two.pts").write_text("1 1\\n64.847 87.433\\n")
    >>> read_pts("two.pts")
    array([[ 0.   ,  0.   ],
           [63.847, 86.433]], dtype=float32)
    """
    text = read_bytes(path, _MAX_BYTES).decode("utf-8-sig", errors="replace")
    points, declared = _parse(path, text)
    if declared not in (None, len(points)):
        raise ValueError(f"{path}: expected {declared} points, as n_points says. {_count(points)}")
    if not points or num_landmarks not in (None, len(points)):
        raise ValueError(
            f"{path}: expected {num_landmarks or 'one or more'} points. {_count(points)}"
        )
    return (np.array(points) - _FIRST_PIXEL).astype(np.float32)


def write_pts(path: PathLike, landmarks: ArrayLike) -> None:
    """Writes landmarks as a `.pts` file that `read_pts` gives back to 1e-6 px or float32 accuracy.

    The file is whole or not there: it is renamed into place when complete.

    Args:
        path: file to write; missing folders are made.
        landmarks: (K, 2) finite pixels, x first, 0-based.

    Raises:
        ValueError: another shape, no points, or numbers that are not finite in float32.

    Example:

    >>> write_pts("face.pts", [[0.0, 0.0], [9.5, 4.0]])
    >>> read_pts("face.pts")
    array([[0. , 0. ],
           [9.5, 4. ]], dtype=float32)
    """
    landmarks = np.asarray(landmarks, np.float64)
    if landmarks.ndim != 2 or landmarks.shape[1] != 2 or not len(landmarks):
        raise ValueError(
            f"{path}: `landmarks` must have shape (K, 2), K at least 1. Received: {landmarks.shape}"
        )
    if not _is_float32(landmarks).all():
        bad = np.flatnonzero(~_is_float32(landmarks).all(1))
        raise ValueError(
            f"{path}: expected finite landmarks; the format has no missing points. Received: "
            f"{landmarks[bad[0]].tolist()} at {bad[0]}, {len(bad)} such in all"
        )
    lines = [f"{x:.6f} {y:.6f}" for x, y in landmarks + _FIRST_PIXEL]
    header = ["version: 1", f"n_points: {len(lines)}", "{"]
    with replacing(path) as temporary:
        temporary.write_text("\n".join([*header, *lines, "}", ""]), encoding="ascii")


def _parse(path, text):
    """Points as pairs of floats as they are in the file, and what `n_points` says or None."""
    points, declared = [], None
    opened = closed = False
    for number, line in enumerate(re.split(r"\r\n|\r|\n", text), start=1):
        line = line.strip()
        header = _HEADER.fullmatch(line)
        if not line:
            continue
        if closed:
            raise _error(path, number, "nothing after '}'", line)
        if header and not opened and not points:
            if header[1].lower() == "n_points":
                declared = _parse_count(path, number, header[2])
        elif line == "{" and not opened and not points:
            opened = True
        elif line == "}" and opened:
            closed = True
        else:
            points.append(_parse_point(path, number, line))
    if opened and not closed:
        raise ValueError(f"{path}: expected '}}' as the last line. {_count(points)}, then the end")
    return points, declared


def _parse_count(path, number, text):
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise _error(path, number, "a whole number for n_points", text)
    return int(text)


def _parse_point(path, number, line):
    try:
        point = [float(word) for word in re.split(r"\s*,\s*|\s+", line)]
    except ValueError:
        point = []
    if len(point) != 2:
        raise _error(path, number, "two numbers, x and y", line)
    if not (np.abs(point) <= FARTHEST).all():
        raise _error(path, number, f"finite numbers, none further than {FARTHEST:.0f} pixels", line)
    return point


def _is_float32(values):
    with np.errstate(over="ignore"):
        return np.isfinite(np.asarray(values).astype(np.float32))


def _error(path, number, expected, received):
    return ValueError(f"{path}, line {number}: expected {expected}. Received: {received[:80]!r}")


def _count(points):
    return f"Received: {len(points)}"
