"""The README of a wheel: what a package index shows must have absolute links.

REPOSITORY_URL=https://HOST/OWNER/keras_lapkl python -m build

All other metadata is in pyproject.toml.
"""

import os
import pathlib
import re

from setuptools import setup

_LINK = re.compile(r"(!?)\[([^\]]*)\]\((?![a-z]+:|#)([^)]+)\)")


def absolute_links(text, url):
    """Markdown whose relative links lead into a repository; without a URL as it is.

    Example:

    >>> absolute_links("![a](docs/a.png)", "https://host/owner/name")
    '![a](https://host/owner/name/raw/HEAD/docs/a.png)'
    """

    def link(match):
        mark, words, path = match.groups()
        return f"{mark}[{words}]({url}/{'raw' if mark else 'blob'}/HEAD/{path})"

    return _LINK.sub(link, text) if url else text


if __name__ == "__main__":
    readme = pathlib.Path(__file__).with_name("README.md").read_text(encoding="utf-8")
    setup(
        long_description=absolute_links(readme, os.environ.get("REPOSITORY_URL", "").rstrip("/")),
        long_description_content_type="text/markdown",
    )
