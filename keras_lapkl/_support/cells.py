"""Names in the cells of CSV files, which a spreadsheet must not take for formulas."""

import re

# What OWASP's "CSV injection" lists, wide forms included. The apostrophes before it make a name
# that begins with one come back as it was.
_FORMULA = re.compile(r"'*[=+\-@\t\r\n＝＋－＠]")


def quote_name(name: str) -> str:
    """A name as a cell: with an apostrophe in front where a spreadsheet would see a formula.

    Numbers are no names and stay as they are: `-5` is quoted here.

    Args:
        name: of a file, a landmark and the like; or a text that begins with one.

    Example:

    >>> quote_name("=1+1.jpg"), quote_name("face.jpg")
    ("'=1+1.jpg", 'face.jpg')
    """
    return f"'{name}" if _FORMULA.match(name) else name


def read_name(cell: str) -> str:
    """The name that `quote_name` made a cell of; other cells are names already.

    Example:

    >>> read_name("'=1+1.jpg"), read_name("'90s.jpg")
    ('=1+1.jpg', "'90s.jpg")
    """
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell
