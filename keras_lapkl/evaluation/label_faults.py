"""Faults put into sound labels on purpose, to see how many of them an audit finds."""

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_lapkl.data.annotations import Annotations

SHIFT = 0.1
"""How far all points of a face are moved, in longer edges of their box."""

FIRST = 0.03
"""Share of a ranking in which faults are looked for."""


@dataclasses.dataclass(frozen=True)
class Fault:
    """What was done to one face.

    Attributes:
        kind: `"shifted"`, `"swapped"` or `"mirrored"`.
        face: its index.
    """

    kind: str
    face: int


def inject(
    annotations: Annotations, share: float = 0.01, seed: int = 0
) -> tuple[Annotations, tuple[Fault, ...]]:
    """Labels with known faults, each in another face: so many of each kind, one at least.

    A shifted face has all points moved by one vector, `SHIFT` of the longer edge of their box in
    any direction; a swapped one has two points exchanged, any two; a mirrored one has the names of
    left and right exchanged, by the scheme's `flip`. Schemes without `flip` get no mirrored ones.

    Args:
        annotations: `Annotations`; what is not annotated stays so.
        share: of the faces, for each kind, in (0, 1/3].
        seed: of the choice of faces, points and directions.

    Returns:
        The faulty `Annotations`, and the faults.

    Raises:
        ValueError: a share out of range, a scheme of one point, or fewer faces with three points
            (of two: with both) than faults.

    Example:

    >>> faulty, faults = inject(annotations, share=0.01)
    >>> len(annotations), len(faults)
    (1809, 54)
    """
    if not 0 < share <= 1 / 3:
        raise ValueError(f"`share` must be in (0, 1/3]. Received: {share}")
    rng = np.random.default_rng(seed)
    known, flip = annotations.known, annotations.scheme.flip
    kinds = {"shifted": _shifted, "swapped": _swapped}
    if flip is not None and flip != tuple(range(len(flip))):
        kinds["mirrored"] = _mirrored
    if known.shape[1] < 2:
        raise ValueError(f"{annotations.name}: one point can't be exchanged with another.")
    each = max(1, round(share * len(annotations)))
    fit = np.flatnonzero(known.sum(1) >= min(3, known.shape[1]))
    if len(fit) < each * len(kinds):
        raise ValueError(
            f"{annotations.name}: expected {each * len(kinds)} faces with three points or more, "
            f"for {each} faults of each kind. Received: {len(fit)}"
        )
    chosen = rng.permutation(fit)[: each * len(kinds)].reshape(len(kinds), each).tolist()
    landmarks, visible = annotations.landmarks.copy(), annotations.visible.copy()
    faults = []
    for (kind, spoil), faces in zip(kinds.items(), chosen, strict=True):
        for face in faces:
            order, moved = spoil(rng, landmarks[face], known[face], flip)
            landmarks[face], visible[face] = landmarks[face, order] + moved, visible[face, order]
            faults.append(Fault(kind, face))
    changed = dataclasses.replace(annotations, landmarks=landmarks, visible=visible)
    return changed, tuple(faults)


def found(faults: tuple[Fault, ...], ranking: NDArray[Any]) -> dict[str, Any]:
    """How many of the faults stand in the first part of a ranking.

    That is `FIRST` of it, or as many places as there are faults, if that is more.

    Args:
        faults: by `inject`.
        ranking: (N,) indices of the faces, the most suspect first.

    Returns:
        dict of plain data: `places`, how many were looked at; `found` and `of`, by kind and `all`.

    Example:

    >>> found((Fault("swapped", 7),), np.array([7, 0, 1, 2, 3, 4, 5, 6]))
    {'places': 1, 'found': {'all': 1, 'swapped': 1}, 'of': {'all': 1, 'swapped': 1}}
    """
    places = max(round(FIRST * len(ranking)), len(faults))
    first = set(ranking[:places].tolist())
    hits, of = {"all": 0}, {"all": 0}
    for fault in faults:
        for name in ("all", fault.kind):
            of[name] = of.get(name, 0) + 1
            hits[name] = hits.get(name, 0) + (fault.face in first)
    return {"places": places, "found": hits, "of": of}


def report(counted: dict[str, Any]) -> str:
    """The dict of `found` as one line."""
    hits, of = counted["found"], counted["of"]
    kinds = ", ".join(f"{hits[kind]:,} of {of[kind]:,} {kind}" for kind in of if kind != "all")
    return (
        f"The first {counted['places']:,} have {hits['all']:,} of {of['all']:,} injected faults, "
        f"{hits['all'] / of['all']:.0%}: {kinds}."
    )


def _shifted(rng, points, known, flip):
    extent = np.ptp(points[known], axis=0).max()
    angle = rng.uniform(0, 2 * np.pi)
    vector = SHIFT * extent * np.array([np.cos(angle), np.sin(angle)])
    return np.arange(len(points)), vector.astype(points.dtype)


def _swapped(rng, points, known, flip):
    one, other = rng.choice(np.flatnonzero(known), 2, replace=False)
    order = np.arange(len(points))
    order[[one, other]] = other, one
    return order, 0


def _mirrored(rng, points, known, flip):
    return np.array(flip), 0
