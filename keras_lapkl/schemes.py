"""Landmark schemes: which K points there are, how they mirror, and what may be measured on them."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Scheme:
    """A named set of K landmarks, in plain data.

    Args:
        name: identifier, stored with models.
        names: K point names.
        flip: K indices; landmark k of the mirrored image is landmark `flip[k]` of the image. An
            involution.
        eye_corners: the two outer eye corners, whose distance is the inter-ocular normaliser, or
            None where the scheme has no eyes.
        five_points: groups of indices; the mean of each group is one point of the crop rule (for
            faces: both eye centres, nose tip, both mouth corners). Empty: all points are used.
        edges: pairs of indices to join in drawings.

    Raises:
        ValueError: an index out of range, or a `flip` that is no involution.

    Example:

    >>> wing = Scheme("wing", ("tip", "left", "right"), flip=(0, 2, 1), edges=((0, 1), (0, 2)))
    >>> wing.num_landmarks
    3
    """

    name: str
    names: tuple[str, ...]
    flip: tuple[int, ...]
    eye_corners: tuple[int, int] | None = None
    five_points: tuple[tuple[int, ...], ...] = ()
    edges: tuple[tuple[int, int], ...] = ()

    def __post_init__(self):
        k = len(self.names)
        if k == 0:
            raise ValueError(f"Scheme {self.name!r}: expected at least one point name.")
        if len(set(self.names)) != k:
            twice = sorted({n for n in self.names if self.names.count(n) > 1})
            raise ValueError(f"Scheme {self.name!r}: point names must differ. Twice: {twice}")
        if sorted(self.flip) != list(range(k)):
            raise ValueError(
                f"Scheme {self.name!r}: `flip` must hold each index 0..{k - 1} once. "
                f"Received: {self.flip}"
            )
        bad = [i for i in range(k) if self.flip[self.flip[i]] != i]
        if bad:
            raise ValueError(
                f"Scheme {self.name!r}: `flip` applied twice must give the identity; it does not "
                f"at {bad}."
            )
        used = [i for group in (*self.five_points, *self.edges) for i in group]
        outside = sorted({i for i in (*used, *(self.eye_corners or ())) if not 0 <= i < k})
        if outside:
            raise ValueError(
                f"Scheme {self.name!r}: indices must be in 0..{k - 1}. Received: {outside}"
            )

    @property
    def num_landmarks(self):
        return len(self.names)

    def to_config(self):
        """Plain data (dict, list, str, int) that `Scheme.from_config` and JSON take back."""
        return {
            "name": self.name,
            "names": list(self.names),
            "flip": list(self.flip),
            "eye_corners": None if self.eye_corners is None else list(self.eye_corners),
            "five_points": [list(g) for g in self.five_points],
            "edges": [list(e) for e in self.edges],
        }

    @classmethod
    def from_config(cls, config: Mapping):
        """A scheme from plain data: `name`, `names` or `num_landmarks`, and optionally the rest.

        Args:
            config: mapping with `name`; `names` (K strings) or `num_landmarks` (an int); and
                optionally `flip` (K indices, or pairs such as `[[0, 1], [4, 5]]`), `eye_corners`,
                `five_points`, `edges`.
        """
        known = {"name", "names", "num_landmarks", "flip", "eye_corners", "five_points", "edges"}
        unknown = sorted(set(config) - known)
        if unknown or "name" not in config or not {"names", "num_landmarks"} & set(config):
            raise ValueError(
                "A scheme needs `name` and either `names` or `num_landmarks`, and may have "
                f"{sorted(known - {'name', 'names', 'num_landmarks'})}. Received keys: "
                f"{sorted(config)}"
            )
        names = config.get("names")
        if names is None:
            names = [f"point_{i}" for i in range(config["num_landmarks"])]
        corners = config.get("eye_corners")
        return cls(
            name=config["name"],
            names=tuple(names),
            flip=_flip_map(config.get("flip", ()), len(names)),
            eye_corners=None if corners is None else tuple(corners),
            five_points=tuple(tuple(g) for g in config.get("five_points", ())),
            edges=tuple(tuple(e) for e in config.get("edges", ())),
        )

    def anchor_points(self, landmarks):
        """The points whose box is the crop's: (…, 5, 2) for faces, from landmarks (…, K, 2)."""
        landmarks = np.asarray(landmarks)
        if not self.five_points:
            return landmarks
        return np.stack([landmarks[..., list(g), :].mean(-2) for g in self.five_points], -2)


def _flip_map(flip: Sequence, k: int):
    """K indices as they are; pairs are filled up with the identity."""
    flip = list(flip)
    if flip and all(isinstance(i, int) for i in flip):
        return tuple(flip)
    full = list(range(k))
    for a, b in flip:
        if not (0 <= a < k and 0 <= b < k):
            raise ValueError(f"Mirror pair {(a, b)} is outside 0..{k - 1}.")
        full[a], full[b] = b, a
    return tuple(full)


def _chain(first, last, closed=False):
    """Edges first–first+1–…–last, joined back to `first` if `closed`."""
    edges = [(i, i + 1) for i in range(first, last)]
    return (*edges, (last, first)) if closed else tuple(edges)


def _ibug68():
    groups = [
        ("jaw", 17),
        ("right_brow", 5),
        ("left_brow", 5),
        ("nose_bridge", 4),
        ("nostril", 5),
        ("right_eye", 6),
        ("left_eye", 6),
        ("outer_lip", 12),
        ("inner_lip", 8),
    ]
    # fmt: off
    flip = (
        *range(16, -1, -1), *range(26, 16, -1), *range(27, 31), *range(35, 30, -1),
        45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40,
        *range(54, 47, -1), *range(59, 54, -1), *range(64, 59, -1), 67, 66, 65,
    )
    # fmt: on
    return Scheme(
        name="ibug68",
        names=tuple(f"{name}_{i}" for name, count in groups for i in range(count)),
        flip=flip,
        eye_corners=(36, 45),
        five_points=(tuple(range(36, 42)), tuple(range(42, 48)), (30,), (48,), (54,)),
        edges=(
            *_chain(0, 16),
            *_chain(17, 21),
            *_chain(22, 26),
            *_chain(27, 30),
            *_chain(31, 35),
            *_chain(36, 41, closed=True),
            *_chain(42, 47, closed=True),
            *_chain(48, 59, closed=True),
            *_chain(60, 67, closed=True),
        ),
    )


def _aflw19():
    # Sides are the picture's: AFLW's "left" eye lies left in an upright photo.
    sides = ("left", "centre", "right")
    return Scheme(
        name="aflw19",
        names=(
            *(f"{brow}_brow_{side}" for brow in ("left", "right") for side in sides),
            *(f"{eye}_eye_{side}" for eye in ("left", "right") for side in sides),
            *(f"nose_{side}" for side in sides),
            *(f"mouth_{side}" for side in sides),
            "chin",
        ),
        flip=(5, 4, 3, 2, 1, 0, 11, 10, 9, 8, 7, 6, 14, 13, 12, 17, 16, 15, 18),
        eye_corners=(6, 11),
        five_points=((7,), (10,), (13,), (15,), (17,)),
        edges=(
            *_chain(0, 2),
            *_chain(3, 5),
            *_chain(6, 8),
            *_chain(9, 11),
            *_chain(12, 14),
            *_chain(15, 17),
        ),
    )


IBUG68 = _ibug68()
AFLW19 = _aflw19()
_SCHEMES = {scheme.name: scheme for scheme in (IBUG68, AFLW19)}


def get(scheme):
    """A `Scheme` from its name (`"ibug68"`, `"aflw19"`), its plain data, or itself."""
    if isinstance(scheme, Scheme):
        return scheme
    if isinstance(scheme, Mapping):
        return Scheme.from_config(scheme)
    if scheme in _SCHEMES:
        return _SCHEMES[scheme]
    raise ValueError(
        f"Unknown scheme. Expected one of {sorted(_SCHEMES)}, a Scheme or a mapping for "
        f"`Scheme.from_config`. Received: {scheme!r}"
    )
