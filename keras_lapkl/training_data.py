"""What a model was derived from: data sets, their limits, and the models before it.

A `TrainingData` travels with the model, in `.keras` and in `.tflite`; its `str` is the sentence
beside an error. Standard library alone.
"""

import dataclasses
import numbers
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

LICENSES = {
    "300-W": "300-W: non-commercial research only",
    "AFLW": "AFLW: non-commercial research only",
    "synthetic": "synthetic faces: none",
    "unknown": "faces that are not known: unknown",
}
"""Limits that data sets set to the use of a model."""


def _is_text(value):
    return isinstance(value, str)


def _is_count(value):
    return value is None or (isinstance(value, numbers.Integral) and int(value) >= 0)


_FIELDS: dict[str, Callable[[Any], bool]] = {
    "name": _is_text,
    "count": _is_count,
    "total": _is_count,
    "kind": _is_text,
    "labeled": lambda value: isinstance(value, bool),
    "license": lambda value: value is None or _is_text(value),
    "detail": _is_text,
    "notes": lambda value: isinstance(value, tuple) and all(map(_is_text, value)),
}
"""What the fields of a `DataSet` may be, which come from files, too."""


@dataclasses.dataclass(frozen=True)
class DataSet:
    """The images of one origin that a model was trained on.

    Attributes:
        name: of the set and its split, such as `"300-W train"`; or one line of your own.
        count: how many of its faces or objects were used, or None if unknown.
        total: how many the whole set has officially, or None.
        kind: what is counted; not printed apart from the name where it is the name.
        labeled: whether their landmarks were used.
        license: the limit that it sets to a model's use, one line; None if it is not known.
        detail: printed right after the count.
        notes: printed after that, each after a semicolon.

    Raises:
        ValueError: a field of another type.

    Example:

    >>> str(DataSet("300-W train", 1809, 3148, "official training faces"))
    '300-W train: 1,809 of 3,148 official training faces'
    """

    name: str
    count: int | None = None
    total: int | None = None
    kind: str = "faces"
    labeled: bool = True
    license: str | None = None
    detail: str = ""
    notes: tuple[str, ...] = ()

    def __post_init__(self):
        if isinstance(self.notes, (list, tuple)):
            object.__setattr__(self, "notes", tuple(self.notes))
        for name, right in _FIELDS.items():
            if not right(getattr(self, name)):
                raise ValueError(
                    f"`{name}` of a DataSet can't be that. Received: {getattr(self, name)!r:.80}"
                )

    @property
    def is_synthetic(self) -> bool:
        """Whether they are this package's synthetic faces, by the limit that these set."""
        return self.license == LICENSES["synthetic"]

    def __str__(self) -> str:
        if self.count is None:
            return "; ".join([self.name, *self.notes])
        name = "" if self.kind == self.name else f"{self.name}: "
        total = "" if self.total is None else f" of {self.total:,}"
        return "; ".join([f"{name}{self.count:,}{total} {self.kind}{self.detail}", *self.notes])

    def noted(self, *notes: str, count: int | None = None) -> "DataSet":
        """The same set with further notes, and another count if one is given."""
        count = self.count if count is None else count
        return dataclasses.replace(self, count=count, notes=(*self.notes, *notes))

    def taken(self, count: int) -> "DataSet":
        """The same set if all of it is taken; else a part, which says how large the whole was."""
        if self.count is None or count == self.count:
            return self
        return self.noted(f"taken from {self.count:,}", count=count)

    def to_config(self) -> dict[str, Any]:
        """Plain data, without what is as it is anyway."""
        fields = dataclasses.fields(self)
        found = {f.name: getattr(self, f.name) for f in fields}
        kept = {f.name: found[f.name] for f in fields if found[f.name] != f.default}
        return {**kept, **({"notes": list(self.notes)} if self.notes else {})}


@dataclasses.dataclass(frozen=True)
class TrainingData:
    """All data that a model was derived from: their limits are its limits too.

    Attributes:
        sets: the `DataSet`s that it was trained on; none if they are unknown.
        teacher: that of the model which labeled the faces without labels, or None.
        initial_model: that of the model whose weights it began with, or None.

    Example:

    >>> shipped = TrainingData((DataSet("300-W train", 1809, 3148),))
    >>> str(TrainingData((DataSet("my photos", 50),), initial_model=shipped))
    'my photos: 50 faces; begun with a model trained on 300-W train: 1,809 of 3,148 faces'
    """

    sets: tuple[DataSet, ...] = ()
    teacher: "TrainingData | None" = None
    initial_model: "TrainingData | None" = None

    @property
    def labeled(self) -> tuple[DataSet, ...]:
        return tuple(each for each in self.sets if each.labeled)

    @property
    def is_synthetic(self) -> bool:
        """Whether all labeled sets are synthetic faces; not where none is known."""
        return bool(self.labeled) and all(each.is_synthetic for each in self.labeled)

    @property
    def licenses(self) -> tuple[str, ...]:
        """The limits that all these data set to the model's use, each once."""
        found = [each.license for each in self.sets] if self.sets else [LICENSES["unknown"]]
        for parent in (self.teacher, self.initial_model):
            found += () if parent is None else parent.licenses
        return tuple(dict.fromkeys(limit for limit in found if limit is not None))

    @property
    def license(self) -> str | None:
        """`licenses` as one line; None if there are none."""
        return "; ".join(self.licenses) or None

    @property
    def unlabeled(self) -> tuple[DataSet, ...]:
        return tuple(each for each in self.sets if not each.labeled)

    def __str__(self) -> str:
        return self._prose(TrainingData())

    def _prose(self, before):
        """One line; `before` is the data that the reader has just been told of."""
        named = "; ".join(map(str, self.labeled)) or "faces unknown"
        found = _SAME_LABELS if self.labeled and self.labeled == before.labeled else named
        if self.unlabeled:
            same = self.unlabeled == before.unlabeled
            found += _UNLABELED + (_SAME_FACES if same else "; ".join(map(str, self.unlabeled)))
        if self.teacher is not None:
            found += f"{_TEACHER}{self.teacher._prose(self)}"
        if self.initial_model is not None:
            found += f"{_INITIAL}{self.initial_model._prose(self)}"
        return found

    def to_config(self) -> dict[str, Any]:
        """Plain data, from which `get` makes the same again."""
        found: dict[str, Any] = {"sets": [each.to_config() for each in self.sets]}
        for name in ("teacher", "initial_model"):
            parent = getattr(self, name)
            if parent is not None:
                found[name] = parent.to_config()
        return found

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "TrainingData":
        try:
            parents = {name: get(config.get(name)) for name in ("teacher", "initial_model")}
            return cls(tuple(DataSet(**each) for each in config["sets"]), **parents)
        except (RecursionError, TypeError) as error:  # too deep, no list, or unknown fields
            raise ValueError(f"Expected the data of a TrainingData. Received: {error}") from error


TrainingDataLike: TypeAlias = TrainingData | DataSet | Mapping[str, Any] | str


def get(value: TrainingDataLike | None) -> TrainingData | None:
    """A `TrainingData` from itself, its plain data, a `DataSet` or one line; None from None.

    Lines that this package wrote before it kept data are understood: files of that time have them.

    Raises:
        ValueError: it is something else.
    """
    if value is None or isinstance(value, TrainingData):
        return value
    if isinstance(value, DataSet):
        return TrainingData((value,))
    if isinstance(value, str):
        return _read_line(value, TrainingData())
    if isinstance(value, Mapping) and "sets" in value:
        return TrainingData.from_config(value)
    raise ValueError(
        "`trained_on` must be one line on the training faces, a DataSet, a TrainingData or its "
        f"`to_config`. Received: {value!r}"
    )


def union(several: Sequence[TrainingData]) -> TrainingData:
    """All data that several models together were derived from, each once.

    Args:
        several: at least one.
    """

    def of(name):
        parents = [getattr(each, name) for each in several if getattr(each, name) is not None]
        return union(parents) if parents else None

    sets = dict.fromkeys(data for each in several for data in each.sets)
    return TrainingData(tuple(sets), of("teacher"), of("initial_model"))


_SAME_LABELS, _SAME_FACES = "the same labels", "the same faces"
_UNLABELED = "; without labels "
_TEACHER = ", labeled by a model trained on "
_INITIAL = "; begun with a model trained on "
_OFFICIAL = re.compile(
    r"(?P<name>(?P<key>300-W|AFLW) [^:]+): (?P<count>[\d,]+)(?: of (?P<total>[\d,]+))? "
    r"(?P<kind>(?:official )?(?:\w+ )?faces)(?P<detail>[^;]*)(?:; (?P<notes>.*))?"
)
_SYNTHETIC = re.compile(r"(?P<count>[\d,]+) (?P<kind>synthetic faces?)")


def _read_line(line, before):
    """What `str` of a `TrainingData` has printed; `before` as in `_prose`."""
    line, _, initial = line.partition(_INITIAL)
    line, _, teacher = line.partition(_TEACHER)
    line, _, faces = line.partition(_UNLABELED)
    if line == _SAME_LABELS:
        labeled = before.labeled
    else:
        labeled = () if line == "faces unknown" else (_read_set(line),)
    if faces == _SAME_FACES:
        unlabeled = before.unlabeled
    else:
        unlabeled = (DataSet(faces, labeled=False),) if faces else ()
    found = TrainingData((*labeled, *unlabeled))
    return dataclasses.replace(
        found,
        teacher=_read_line(teacher, found) if teacher else None,
        initial_model=_read_line(initial, found) if initial else None,
    )


def _read_set(line):
    if match := _OFFICIAL.fullmatch(line):
        found = match.groupdict()
        return DataSet(
            found["name"],
            _number(found["count"]),
            _number(found["total"]) if found["total"] else None,
            found["kind"],
            license=LICENSES[found["key"]],
            detail=found["detail"],
            notes=tuple(found["notes"].split("; ")) if found["notes"] else (),
        )
    if match := _SYNTHETIC.fullmatch(line):
        count, kind = match.groups()
        return DataSet(kind, _number(count), kind=kind, license=LICENSES["synthetic"])
    return DataSet(line)


def _number(text):
    return int(text.replace(",", ""))
