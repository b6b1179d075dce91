"""Widths of networks as the paper writes them: 1/8 as well as 0.125."""

import fractions
import math

from absl import flags

flags.disclaim_key_flags()  # they are those of the module that calls


def parse_width(text):
    """A width from a number or its text.

    Raises:
        ValueError: it is not a number > 0.

    Example:

    >>> parse_width("1/8"), parse_width("0.125"), parse_width(1)
    (0.125, 0.125, 1.0)
    """
    try:
        width = float(fractions.Fraction(text))
    except (ValueError, ZeroDivisionError, OverflowError):
        width = math.nan
    if not width > 0:
        raise ValueError(f"A width must be a number > 0, such as 1/8 or 0.125. Received: {text}")
    return width


def fraction(width):
    """A width as the paper writes it.

    Example:

    >>> fraction(0.125), fraction(0.3), fraction(1)
    ('1/8', '3/10', '1')
    """
    near = fractions.Fraction(width).limit_denominator(1024)
    return str(near) if float(near) == width else repr(float(width))


class WidthParser(flags.ArgumentParser):
    """Of a flag that holds one width."""

    syntactic_help = "a number > 0, such as 1/8 or 0.125"

    def parse(self, argument):
        return parse_width(argument)

    def flag_type(self):
        return "float"


class _WidthsParser(flags.ArgumentParser):
    syntactic_help = "a comma separated list of numbers > 0, such as 1/8 or 0.125"

    def parse(self, argument):
        each = argument.split(",") if isinstance(argument, str) else argument
        return [parse_width(text) for text in each]

    def flag_type(self):
        return "comma separated list of widths"


class _WidthsSerializer(flags.ArgumentSerializer):
    def serialize(self, value):
        return ",".join(map(fraction, value))


class WidthSerializer(flags.ArgumentSerializer):
    """As `--help` shows a default."""

    def serialize(self, value):
        return fraction(value)


def define_width(name, default, help, flag_values=flags.FLAGS):
    """Defines a flag of one width, a float."""
    return flags.DEFINE(WidthParser(), name, default, help, flag_values, WidthSerializer())


def define_widths(name, default, help, flag_values=flags.FLAGS):
    """Defines a flag of widths by commas, a list of floats; `default` is one or its text."""
    return flags.DEFINE(_WidthsParser(), name, default, help, flag_values, _WidthsSerializer())
