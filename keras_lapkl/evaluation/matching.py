"""Which predicted face goes with which labeled one: by the photo's name, then by the place."""

import dataclasses
import itertools
import os
import re
from collections import defaultdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_lapkl._support.names import names_below
from keras_lapkl._support.types import PathLike
from keras_lapkl.data.annotations import Annotations
from keras_lapkl.data.images import IMAGE_SUFFIXES
from keras_lapkl.data.prediction_files import Predictions

_NARROWEST = 0.25
"""Side of a box of points, in its or the other's larger side."""


@dataclasses.dataclass(frozen=True)
class Match:
    """Predictions in the order of N labeled faces.

    Attributes:
        landmarks: (N, K, 2) float64 photo pixels, NaN for a face without prediction.
        missing: how many faces with visible points have none; `not_named` of them are in photos
            that the predictions do not name.
        extra: photos in the predictions that are not labeled.
        several: labeled photos with more predicted faces than labeled ones.
        twice: predicted faces that repeat another one of their photo, number by number.
        elsewhere: faces whose prediction does not overlap them.
    """

    landmarks: NDArray[Any]
    missing: int
    not_named: int
    extra: int
    several: int
    twice: int
    elsewhere: NDArray[np.bool_]


def match(
    annotations: Annotations, predictions: Predictions, folder: PathLike | None = None
) -> Match:
    """Finds the prediction of each labeled face.

    A prediction is of a photo if its name, without the suffix of an image, is the end of the
    photo's path, or ends with the photo's path below `folder`; in whole names of folders. Of the
    faces of a photo, labeled and predicted, those two go together first whose landmarks' boxes
    overlap most (intersection over union), each face once; where none overlap, those whose boxes'
    centers are nearest. The error itself does not decide.

    Args:
        annotations: `Annotations`.
        predictions: `Predictions` of the same scheme.
        folder: where the data is; None for the folder common to all photos.

    Returns:
        `Match`.

    Raises:
        ValueError: no prediction is of a labeled photo, or a name fits several.

    Example:

    >>> match(annotations, predictions).landmarks.shape
    (554, 68, 2)
    """
    photos = list(dict.fromkeys(annotations.paths))
    named = _photos_of(photos, predictions, folder)
    labeled, predicted = defaultdict(list), defaultdict(list)
    for i, path in enumerate(annotations.paths):
        labeled[path].append(i)
    for i, name in enumerate(predictions.names):
        if name in named:
            predicted[named[name]].append(i)

    visible = annotations.known
    landmarks = np.full(annotations.landmarks.shape, np.nan)
    elsewhere = np.zeros(len(annotations), bool)
    several = twice = not_named = 0
    for path in photos:
        truth = [i for i in labeled[path] if visible[i].any()]
        found = predicted.get(path)
        if found is None:
            not_named += len(truth)
            continue
        faces = predictions.landmarks[found]
        faces = faces[np.isfinite(faces).all((1, 2))]
        several += len(faces) > len(truth)
        twice += len(faces) - len({face.tobytes() for face in faces})
        for i, j, apart in _pairs(annotations.landmarks[truth], visible[truth], faces):
            landmarks[truth[i]] = faces[j]
            elsewhere[truth[i]] = apart
    return Match(
        landmarks=landmarks,
        missing=int((np.isnan(landmarks).any((1, 2)) & visible.any(1)).sum()),
        not_named=not_named,
        extra=len(set(predictions.names) - set(named)),
        several=several,
        twice=twice,
        elsewhere=elsewhere,
    )


def _photos_of(photos, predictions, folder):
    """The photo of each name in the predictions that is one's."""
    # By all ends of a name below the folder, for thousands of folders may hold a photo of one name.
    by_end: dict[Any, list[Any]] = defaultdict(list)
    by_name: dict[Any, list[Any]] = defaultdict(list)
    for photo, name in zip(photos, names_below(photos, folder), strict=True):
        whole, suffix = _parts(os.path.abspath(photo))
        short, _ = _parts(name)
        by_name[short].append((photo, whole, suffix))
        for length in range(1, len(short)):
            by_end[short[-length:]].append((photo, whole, suffix))

    candidates = defaultdict(list)
    for name in dict.fromkeys(predictions.names):
        parts, suffix = _parts(name)
        ends = (by_name.get(parts[start:], []) for start in range(len(parts)))
        fitting = [
            ((_common_tail(parts, whole), suffix == own), photo)
            for photo, whole, own in itertools.chain(by_end.get(parts, []), *ends)
        ]
        if fitting:
            fit, photo = _best(fitting, f"{predictions.source}: {name!r} may be", "labeled photos")
            candidates[photo].append((fit, name))
    if not candidates:
        example = f", such as {predictions.names[0]!r}" if len(predictions) else ""
        raise ValueError(
            f"{predictions.source}: expected predictions of the labeled photos, such as "
            f"{names_below(photos, folder)[0]!r}. Received: {len(set(predictions.names)):,} other "
            f"photos{example}"
        )
    question = f"{predictions.source}: the labeled photo {{}} may be"
    return {
        _best(fitting, question.format(photo), "photos of the predictions")[1]: photo
        for photo, fitting in candidates.items()
    }


def _best(fitting, question, what):
    """The (fit, one) of the best fit, which must be one alone."""
    fit = max(fit for fit, _ in fitting)
    best = [one for each, one in fitting if each == fit]
    if len(best) > 1:
        raise ValueError(
            f"{question} any of {len(best)} {what}: {', '.join(map(str, best[:3]))}. Name the "
            "photos with their folders, as they stand in the data."
        )
    return fit, best[0]


def _parts(name):
    """Folders and stem of a name, and the suffix of an image, if it has one, in lower case."""
    parts = [part for part in re.split(r"[/\\]", str(name)) if part not in ("", ".", "..")]
    stem, suffix = os.path.splitext(parts[-1]) if parts else ("", "")
    if suffix.lower() not in IMAGE_SUFFIXES:
        return tuple(parts), ""
    return (*parts[:-1], stem), suffix.lower()


def _common_tail(a, b):
    length = 0
    for one, other in zip(reversed(a), reversed(b), strict=False):
        if one != other:
            break
        length += 1
    return length


def _pairs(truth, visible, faces):
    """(label, face, whether they are apart) of a photo, each label and face at most once.

    Boxes of points in a line are taken as a quarter as wide as long: they would never overlap. Of
    single points nobody can tell.

    Args:
        truth: (T, K, 2) labels.
        visible: (T, K) bool, one or more of each label.
        faces: (F, K, 2) predictions.
    """
    ranked, apart = [], {}
    for i, shown in enumerate(visible):
        first, last = truth[i, shown].min(0), truth[i, shown].max(0)
        lows, highs = faces[:, shown].min(1), faces[:, shown].max(1)
        size = np.maximum((highs - lows).max(-1), (last - first).max())[:, None]
        centers, center = (lows + highs) / 2, (first + last) / 2
        halves, half = (
            np.maximum(each, _NARROWEST * size) / 2 for each in (highs - lows, last - first)
        )
        ends = np.minimum(centers + halves, center + half)
        common = np.maximum(ends - np.maximum(centers - halves, center - half), 0).prod(-1)
        union = (2 * halves).prod(-1) + (2 * half).prod(-1) - common
        overlap = np.divide(common, union, out=np.zeros(len(faces)), where=union > 0)
        distance = np.linalg.norm(centers - center, axis=-1)
        for j, (o, d) in enumerate(zip(overlap, distance, strict=True)):
            ranked.append((-o, d, i, j))
            apart[i, j] = bool(o == 0 and size[j] > 0)
    labels, found = set(), set()
    for _, _, i, j in sorted(ranked):
        if i not in labels and j not in found:
            labels.add(i)
            found.add(j)
            yield i, j, apart[i, j]
