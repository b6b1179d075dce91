"""Names in the cells of CSV files, which a spreadsheet must not take for formulas.

A file's name need not be UTF-8, and a CSV file is; and it may have ends of lines, which cut a line
of a CSV for some readers, and other characters that a terminal obeys. Such a name is written as a
JSON string, in which each byte that is not UTF-8 is `\\udc` and its two digits, as JSON files have
it too.
"""

import json
import os
import re

_CONTROLS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]")
# What OWASP's "CSV injection" lists, wide forms included. The apostrophes before it make a name
# that begins with one come back as it was.
_FORMULA = re.compile(r"'*[=+\-@\t＝＋－＠]")


def quote_name(name: str) -> str:
    """A name as a cell: with an apostrophe in front where a spreadsheet would see a formula.

    One that is not UTF-8, begins with `"`, has a control character but a tab, or a space at an end,
    which readers of tables strip, is a JSON string. Numbers are no names and stay as they are: `-5`
    is quoted here.

    Args:
        name: of a file, a landmark and the like; or a text that begins with one.

    Example:

    >>> quote_name("=1+1.jpg"), quote_name("face.jpg")
    ("'=1+1.jpg", 'face.jpg')
    """
    is_stripped = name.lstrip("\t") != name.strip()  # with a tab in front it is a formula
    if name.startswith('"') or is_stripped or not is_utf8(name) or _CONTROLS.search(name):
        return json.dumps(name).replace("\x7f", "\\u007f")  # which JSON takes for a letter
    return f"'{name}" if _FORMULA.match(name) else name


def is_utf8(name: str | os.PathLike[str]) -> bool:
    """Whether a file's name, as Python has it, is UTF-8 on the disk."""
    try:
        os.fspath(name).encode()
    except UnicodeEncodeError:
        return False
    return True


def read_name(cell: str) -> str:
    """The name that `quote_name` made a cell of; other cells are names already.

    Example:

    >>> read_name("'=1+1.jpg"), read_name("'90s.jpg")
    ('=1+1.jpg', "'90s.jpg")
    """
    if cell.startswith('"'):
        try:
            return str(json.loads(cell))
        except ValueError:
            return cell  # of another program
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell
