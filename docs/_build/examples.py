"""An extension of Griffe: examples in docstrings become blocks of code."""

import re

import griffe

_EXAMPLE = re.compile(r"^Example:\n\n((?:.+\n?)+)", re.MULTILINE)


class Examples(griffe.Extension):
    """Fences what follows `Example:`, which this package does not indent further."""

    def on_object(self, *, obj, **_):
        if obj.docstring:
            obj.docstring.value = fenced(obj.docstring.value)


def fenced(text):
    """A docstring with its example as a block of code.

    Example:

    >>> fenced("Doubles.\\n\\nExample:\\n\\n>>> double(2)\\n4")
    'Doubles.\\n\\n**Example**\\n\\n```pycon\\n>>> double(2)\\n4\\n```\\n'
    """

    def block(match):
        return f"**Example**\n\n```pycon\n{match[1].rstrip()}\n```\n"

    return _EXAMPLE.sub(block, text)
