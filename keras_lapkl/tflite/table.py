"""Tables in plain text."""


def aligned(rows):
    """Rows of strings as lines, each column as wide as its widest cell and flush right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    )
