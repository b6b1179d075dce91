"""Landmark schemes: which K points there are, how they mirror, and what may be measured on them."""

import dataclasses
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from keras_lapkl._support.files import read_json

_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_MOST = 10_000  # landmarks; a network's maps of them would not fit into memory
CropFrom: TypeAlias = Literal["points", "box", "image"]
CROP_FROM: tuple[CropFrom, ...] = get_args(CropFrom)
"""What a crop may be cut by: the landmarks, a given box of the object, or the whole picture."""


@dataclasses.dataclass(frozen=True)
class Scheme:
    """A named set of K landmarks, in plain data.

    Args:
        name: identifier, stored with models.
        names: K point names.
        flip: K indices; landmark k of the mirrored image is landmark `flip[k]` of the image. An
            involution. None where a mirrored image shows no such object, or that is not known:
            training then mirrors nothing.
        eye_corners: the two outer eye corners, whose distance is the inter-ocular normalizer, or
            None where the scheme has no eyes.
        five_points: groups of indices; the mean of each group is one point of the crop rule. For
            faces: the centers of the eye at the picture's left and of the one at its right, in an
            upright photo; nose tip; both corners of the mouth, left and right. Whatever their names
            say: a person's right eye lies left. Empty: all points are used.
        edges: pairs of indices to join in drawings.
        crop_from: one of `CROP_FROM`, what the model's crop is cut by. `"points"` are the five
            points where there are such, else all landmarks.

    Raises:
        ValueError: an index out of range, a `flip` that is not an involution, or an unknown
            `crop_from`.

    Example:

    >>> wing = Scheme("wing", ("tip", "left", "right"), flip=(0, 2, 1), edges=((0, 1), (0, 2)))
    >>> wing.num_landmarks
    3
    """

    name: str
    names: tuple[str, ...]
    flip: tuple[int, ...] | None = None
    eye_corners: tuple[int, int] | None = None
    five_points: tuple[tuple[int, ...], ...] = ()
    edges: tuple[tuple[int, int], ...] = ()
    crop_from: CropFrom = "points"

    def __post_init__(self):
        k = len(self.names)
        if k == 0:
            raise ValueError(f"Scheme {self.name!r}: expected at least one point name.")
        if bad := [name for name in (self.name, *self.names) if _CONTROLS.search(name)]:
            raise ValueError(
                f"Scheme {self.name!r}: names must have no control characters, such as ends of "
                f"lines. Received: {bad}"
            )
        if len(set(self.names)) != k:
            twice = sorted({n for n in self.names if self.names.count(n) > 1})
            raise ValueError(f"Scheme {self.name!r}: point names must differ. Twice: {twice}")
        if self.crop_from not in CROP_FROM:
            raise ValueError(
                f"Scheme {self.name!r}: `crop_from` must be one of {CROP_FROM}. Received: "
                f"{self.crop_from!r}"
            )
        if self.flip is not None:
            self._check_flip(self.flip)
        if self.eye_corners is not None and len(set(self.eye_corners)) < 2:
            raise ValueError(
                f"Scheme {self.name!r}: `eye_corners` must be two points. Received: "
                f"{self.eye_corners}"
            )
        used = [i for group in (*self.five_points, *self.edges) for i in group]
        outside = sorted({i for i in (*used, *(self.eye_corners or ())) if not 0 <= i < k})
        if outside:
            raise ValueError(
                f"Scheme {self.name!r}: indices must be in 0..{k - 1}. Received: {outside}"
            )

    def _check_flip(self, flip: tuple[int, ...]) -> None:
        k = len(self.names)
        if sorted(flip) != list(range(k)):
            raise ValueError(
                f"Scheme {self.name!r}: `flip` must hold each index 0..{k - 1} once. "
                f"Received: {flip}"
            )
        bad = [i for i in range(k) if flip[flip[i]] != i]
        if bad:
            raise ValueError(
                f"Scheme {self.name!r}: `flip` applied twice must give the identity; it does not "
                f"at {bad}."
            )

    @property
    def num_landmarks(self) -> int:
        """K, the number of points."""
        return len(self.names)

    @property
    def crop_rule(self) -> str:
        """The crop in words."""
        points = "the box of the five points" if self.five_points else "the box of the landmarks"
        by = {"points": points, "box": "the box of the object", "image": "the picture"}
        return (
            f"square about the center of {by[self.crop_from]}, side crop_scale times its longer "
            "edge"
        )

    def to_config(self) -> dict[str, Any]:
        """Plain data (dict, list, str, int) that `Scheme.from_config` and JSON take back."""
        return {
            "name": self.name,
            "names": list(self.names),
            "flip": None if self.flip is None else list(self.flip),
            "eye_corners": None if self.eye_corners is None else list(self.eye_corners),
            "five_points": [list(g) for g in self.five_points],
            "edges": [list(e) for e in self.edges],
            "crop_from": self.crop_from,
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """A scheme from plain data: `name`, `names` or `num_landmarks`, and optionally the rest.

        Args:
            config: mapping with `name`; `names` (K strings) or `num_landmarks` (an int); and
                optionally `flip`, `eye_corners`, `five_points`, `edges` and `crop_from`. `flip` is
                K indices, or pairs such as `[[0, 1], [4, 5]]`; left out, it follows from the names
                (`mirror_by_names`). Points are given by index or by name.

        Raises:
            ValueError: an unknown key, a missing one, or a value of another kind.

        Example:

        >>> Scheme.from_config({"name": "arms", "names": ["left_hand", "right_hand"]}).flip
        (1, 0)
        """
        required = ("name", "names", "num_landmarks")
        known = {field.name for field in dataclasses.fields(cls)} | set(required)
        unknown = sorted(set(config) - known)
        if unknown or "name" not in config or not {"names", "num_landmarks"} & set(config):
            raise ValueError(
                "A scheme needs `name` and either `names` or `num_landmarks`, and may have "
                f"{sorted(known - set(required))}. Received keys: {sorted(map(str, config))}"
            )
        names = _names(config)

        corners = config.get("eye_corners")
        return cls(
            name=str(config["name"]),
            names=names,
            flip=_flip_map(config, names),
            eye_corners=None if corners is None else _indices("eye_corners", corners, names, 2),
            five_points=_groups(config, "five_points", names),
            edges=_groups(config, "edges", names, 2),
            crop_from=config.get("crop_from", "points"),
        )

    def anchor_points(self, landmarks: NDArray[Any]) -> NDArray[Any]:
        """The points whose box is the crop's: (…, 5, 2) for faces, from landmarks (…, K, 2)."""
        landmarks = np.asarray(landmarks)
        if not self.five_points:
            return landmarks
        return np.stack([landmarks[..., list(g), :].mean(-2) for g in self.five_points], -2)


SchemeLike: TypeAlias = Scheme | Mapping[str, Any] | str | pathlib.Path
"""What `get` makes a scheme of: itself, its plain data, a built-in name or a .json file."""


def mirror_by_names(names: Sequence[str]) -> tuple[int, ...] | None:
    """The mirror map that point names tell, by "left" and "right" in them, in any case.

    Args:
        names: K point names.

    Returns:
        K indices; None if no name has a side, or one has no counterpart: who mirrors then might
        make objects that do not exist. A single point is its own mirror image.

    Example:

    >>> mirror_by_names(("nose", "left_ear", "right_ear"))
    (0, 2, 1)
    """
    places = {name.lower(): i for i, name in enumerate(names)}
    flip = tuple(places.get(_other_side(name.lower())) for name in names)
    if None in flip or len(places) < len(names):
        return None
    return flip if len(names) == 1 or flip != tuple(range(len(names))) else None  # pyright: ignore[reportReturnType]  none of them is None


def unpaired_sides(scheme: Scheme) -> list[str]:
    """Points that a scheme mirrors onto themselves, although another has their name's other side.

    Example:

    >>> names = ["nose", "left_ear", "right_ear"]
    >>> unpaired_sides(Scheme.from_config({"name": "dog", "names": names, "flip": []}))
    ['left_ear', 'right_ear']
    """
    names = [name.lower() for name in scheme.names]
    return [
        scheme.names[i]
        for i, name in enumerate(names)
        if scheme.flip is not None and scheme.flip[i] == i and _other_side(name) in names
        if _other_side(name) != name
    ]


def _other_side(name):
    return "right".join(part.replace("right", "left") for part in name.split("left"))


def _names(config):
    names = config.get("names")
    if names is None:
        count = config.get("num_landmarks")
        if not isinstance(count, int) or not 1 <= count <= _MOST:
            raise ValueError(
                f"`num_landmarks` must be an int ≥ 1 and ≤ {_MOST}. Received: {count!r}"
            )
        return tuple(f"point_{i}" for i in range(count))
    if not isinstance(names, (list, tuple)) or not all(isinstance(n, str) and n for n in names):
        raise ValueError(f"`names` must be a list of point names. Received: {names!r}")
    return tuple(names)


def _flip_map(config, names):
    """K indices as they are; pairs are filled up with the identity."""
    if "flip" not in config:
        return mirror_by_names(names)
    flip = config["flip"]
    if flip is None:
        return None
    if isinstance(flip, (list, tuple)) and flip and all(isinstance(i, int) for i in flip):
        return tuple(flip)
    full = list(range(len(names)))
    for a, b in _groups(config, "flip", names, 2):
        if full[a] != a or full[b] != b:
            raise ValueError(f"`flip` has {names[a]!r} or {names[b]!r} in two pairs.")
        full[a], full[b] = b, a
    return tuple(full)


def _groups(config, key, names, size=None):
    groups = config.get(key, ())
    if not isinstance(groups, (list, tuple)):
        raise ValueError(f"`{key}` must be a list of lists of points. Received: {groups!r}")
    return tuple(_indices(key, group, names, size) for group in groups)


def _indices(key, points, names, size=None):
    """Indices of points that are given by index or name."""
    right = isinstance(points, (list, tuple)) and len(points) == (size or len(points))
    if not right or not points:
        raise ValueError(
            f"`{key}` must hold {f'{size} points' if size else 'points'} in a list. Received: "
            f"{points!r}"
        )
    found = []
    for point in points:
        index = names.index(point) if point in names else point
        if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < len(names):
            raise ValueError(
                f"`{key}`: points are given by name or by an index in 0..{len(names) - 1}. "
                f"Received: {point!r}"
            )
        found.append(index)
    return tuple(found)


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
    sides = ("left", "center", "right")
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
BUILT_IN = (IBUG68, AFLW19)
_SCHEMES = {scheme.name: scheme for scheme in BUILT_IN}


def get(scheme: SchemeLike) -> Scheme:
    """A `Scheme` from its name (`"ibug68"`, `"aflw19"`), a .json file, its plain data, or itself.

    Args:
        scheme: one of these.

    Raises:
        ValueError: an unknown name, or data that is not a scheme.
        FileNotFoundError: there is no such file.

    Example:

    >>> get("aflw19").num_landmarks
    19
    """
    if isinstance(scheme, Scheme):
        return scheme
    if isinstance(scheme, Mapping):
        return Scheme.from_config(scheme)
    if isinstance(scheme, (str, pathlib.Path)) and str(scheme).endswith(".json"):
        return _read(scheme)
    if isinstance(scheme, str) and scheme in _SCHEMES:
        return _SCHEMES[scheme]
    raise ValueError(
        f"Unknown scheme. Expected one of {sorted(_SCHEMES)}, a .json file, a Scheme or a mapping "
        f"for `Scheme.from_config`. Received: {scheme!r}"
    )


def _read(path):
    content = read_json(path)
    if not isinstance(content, Mapping):
        raise ValueError(f"{path}: expected a JSON object, such as Scheme.to_config gives.")
    try:
        return Scheme.from_config(content)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
