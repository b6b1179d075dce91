"""Dataclasses whose fields say what they mean: the one source of flags, help, checks and files.

A field made by `setting` carries its help, unit, range and group. From these come an absl flag
(`define_flags`), a dataclass from the flags' values (`from_flags`), one from a file of flags
(`read_flagfile`) and the check of each value (`check`).
"""

import dataclasses
import math
import typing
from typing import Any

from absl import flags

from keras_lapkl._support.widths import WidthParser, WidthSerializer

flags.disclaim_key_flags()  # they are those of the module that calls

POSITIVE = "(0, inf)"
NOT_NEGATIVE = "[0, inf)"
AT_LEAST_1 = "[1, inf)"


def setting(
    default,
    help,
    *,
    unit=None,
    interval=None,
    choices=None,
    flag=None,
    group=None,
    width=False,
) -> Any:
    """A dataclass field that a flag stands for.

    Args:
        default: of the field and of the flag; `dataclasses.MISSING` for none.
        help: what it means, a sentence.
        unit: of a number, such as `"pixels"`.
        interval: which numbers are right, as mathematics writes it: `"[0, 1)"`.
        choices: a registry or a tuple of the names that are right.
        flag: name of the flag; None for the field's own.
        group: heading of the flag in `--help`.
        width: whether the flag takes 1/8 as well as 0.125.
    """
    metadata = {
        "help": help,
        "unit": unit,
        "interval": interval,
        "choices": choices,
        "flag": flag,
        "group": group,
        "width": width,
    }
    return dataclasses.field(default=default, metadata=metadata)


def settings(cls):
    """The fields of a dataclass that are settings, by the names of their flags."""
    return {
        field.metadata["flag"] or field.name: field
        for field in dataclasses.fields(cls)
        if "help" in field.metadata
    }


def described(cls):
    """A dataclass whose docstring lists its fields by their help."""
    lines = []
    for field in dataclasses.fields(cls):
        if "help" in field.metadata:
            about = ", ".join(_about(field))
            lines.append(f"        {field.name}: {field.metadata['help']}{about and f' ({about})'}")
    cls.__doc__ = "\n".join([(cls.__doc__ or "").rstrip(), "", "    Attributes:", *lines])
    return cls


def check(instance):
    """ValueError if a setting is outside of its range or is none of its choices."""
    for field in settings(type(instance)).values():
        value, interval = getattr(instance, field.name), field.metadata["interval"]
        choices = field.metadata["choices"]
        if value is None:
            continue
        if choices is not None and value not in choices:
            raise ValueError(f"`{field.name}` must be one of {tuple(choices)}. Received: {value!r}")
        if interval is not None and not contains(interval, value):
            or_none = ", or None" if field.default is None else ""
            raise ValueError(
                f"`{field.name}` must be {in_words(interval)}{or_none}. Received: {value}"
            )


def contains(interval, value):
    """Whether a number lies in an interval such as `"[0, 1)"`; a NaN never does."""
    low, high = _ends(interval)
    above = value >= low if interval[0] == "[" else value > low
    return above and (value <= high if interval[-1] == "]" else value < high)


def in_words(interval):
    """An interval as a reader expects it.

    Example:

    >>> in_words("(0, inf)"), in_words("[0, 1)")
    ('> 0', 'in [0, 1)')
    """
    low, high = _ends(interval)
    if math.isinf(high):
        return f"{'≥' if interval[0] == '[' else '>'} {low:g}"
    return f"in {interval}"


def define_flags(classes, flag_values=flags.FLAGS):
    """Defines an absl flag for each setting of some dataclasses; of one name, the first counts.

    Returns:
        dict from the flags' names to their groups.
    """
    fields = {}
    for cls in classes:
        for name, field in settings(cls).items():
            fields.setdefault(name, (field, typing.get_type_hints(cls)[field.name]))
    for name, (field, kind) in fields.items():
        default = None if field.default is dataclasses.MISSING else field.default
        help, choices = field.metadata["help"], field.metadata["choices"]
        kinds = set(typing.get_args(kind) or (kind,)) - {type(None)}
        if choices is not None:
            flags.DEFINE_enum(name, default, list(choices), help, flag_values=flag_values)
        elif kinds == {bool}:
            flags.DEFINE_bool(name, default, help, flag_values=flag_values)
        elif tuple[str, ...] in kinds:
            flags.DEFINE_list(name, default, help, flag_values=flag_values)
        elif kinds == {str}:
            flags.DEFINE_string(name, default, help, flag_values=flag_values)
        else:
            inner = flags.IntegerParser() if kinds == {int} else flags.FloatParser()
            serializer = flags.ArgumentSerializer()
            if field.metadata["width"]:
                inner, serializer = WidthParser(), WidthSerializer()
            parser = _NumberParser(inner, field.metadata["interval"], field.metadata["unit"])
            flags.DEFINE(parser, name, default, help, flag_values, serializer)
    return {name: field.metadata["group"] for name, (field, _) in fields.items()}


def from_flags(cls, flag_values=flags.FLAGS):
    """A dataclass with the flags' values as its settings."""
    return cls(**{f.name: flag_values[name].value for name, f in settings(cls).items()})


def read_flagfile(path, classes, ignored=()):
    """The flags of a file, by absl's own parser, as flag values of their own.

    Args:
        path: a file with a flag a line, as `--flagfile` takes it.
        classes: the dataclasses whose settings may stand in it.
        ignored: names of flags that may stand in it too.

    Returns:
        `flags.FlagValues`, for `from_flags`.

    Raises:
        ValueError: the file can't be read, or a flag or its value is not known.
    """
    found = flags.FlagValues()
    define_flags(classes, found)
    try:
        rest = found(["", f"--flagfile={path}"], known_only=True)[1:]
    except (flags.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: {error}") from error
    unknown = [word for word in rest if word.lstrip("-").partition("=")[0] not in ignored]
    if unknown:
        raise ValueError(
            f"{path}: expected flags among {', '.join(sorted([*found, *ignored]))}. "
            f"Received: {' '.join(unknown)}"
        )
    return found


class _NumberParser(flags.ArgumentParser):
    """Another parser's numbers, if they lie in an interval."""

    def __init__(self, inner, interval, unit):
        self._inner, self._interval = inner, interval
        number = inner.syntactic_help
        if interval is not None:
            whole = "a whole number" if isinstance(inner, flags.IntegerParser) else "a number"
            such = ", such as 1/8 or 0.125" if isinstance(inner, WidthParser) else ""
            number = f"{whole} {in_words(interval)}{such}"
        self.syntactic_help = number if unit is None else f"{number}; {unit}"

    def parse(self, argument):
        value = self._inner.parse(argument)
        if self._interval is not None and not contains(self._interval, value):
            raise ValueError(f"must be {in_words(self._interval)}")
        return value

    def flag_type(self):
        return self._inner.flag_type()


def _ends(interval):
    return [float(end) for end in interval[1:-1].split(",")]


def _about(field):
    """Choices, range and unit of a setting, in words."""
    meta = field.metadata
    if meta["choices"] is not None:
        yield "one of " + ", ".join(map(repr, meta["choices"]))
    if meta["interval"] is not None:
        yield in_words(meta["interval"])
    if meta["unit"] is not None:
        yield meta["unit"]
