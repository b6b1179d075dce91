"""What makes the site and a wheel's README: links, tables of flags, examples of the API pages."""

import importlib.util
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent


def load(path):
    spec = importlib.util.spec_from_file_location(pathlib.Path(path).stem, ROOT / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_links_of_a_wheels_readme_are_absolute():
    absolute_links = load("setup.py").absolute_links
    readme = (ROOT / "README.md").read_text()
    assert absolute_links(readme, "") == readme
    found = absolute_links(readme, "https://host/owner/name")
    assert "](https://host/owner/name/raw/HEAD/docs/predictions.png)" in found
    assert "](https://host/owner/name/blob/HEAD/LICENSE)" in found
    assert "](https://arxiv.org/abs/1903.11633)" in found
    assert not re.findall(r"\]\((?!https://)", found)


def test_table_of_flags():
    def flag(name, help, values="", default=""):
        return {"name": name, "help": help, "values": values, "default": default}

    groups = {
        "Flags": [
            flag("--crop_by", "<box|model>: How the five points are located."),
            flag("--[no]skip_bad", "List them.", default="false"),
        ],
        "Training": [
            flag("--epochs", "Passes.", "a whole number ≥ 1", "40"),
            flag("--seed", "Of all; not -1.", "an integer", "0"),
        ],
    }
    found = load("docs/_build/commands_page.py").section("crop", "Cuts.\n", groups)
    head = "| flag | what it sets | default |\n| --- | --- | --- |\n"
    assert found == (
        f"## lapkl crop\n\nCuts.\n\n{head}"
        "| `--crop_by` | How the five points are located. One of `box`, `model`. |  |\n"
        "| `--[no]skip_bad` | List them. | `false` |\n\n"
        f"**Training**\n\n{head}"
        "| `--epochs` | Passes. (a whole number ≥ 1) | `40` |\n"
        "| `--seed` | Of all; not -1. | `0` |"
    )


@pytest.mark.slow
def test_flags_of_a_command():
    groups = load("docs/_build/commands_page.py").described("train")[1]
    (loss,) = (flag for flag in groups["Training"] if flag["name"] == "--loss")
    assert loss["default"] == "laplace_kl" and "softargmax" in loss["help"]


@pytest.mark.slow
def test_flags_that_cannot_be_read_stop_the_site():
    with pytest.raises(RuntimeError, match="lapkl nothing"):
        load("docs/_build/commands_page.py").described("nothing")


def test_examples_of_docstrings_are_code():
    pytest.importorskip("griffe")
    module = load("docs/_build/examples.py")
    assert module.fenced("A sum.\n\nExample:\n\n>>> 1 + 1\n2\n\nMore.") == (
        "A sum.\n\n**Example**\n\n```pycon\n>>> 1 + 1\n2\n```\n\nMore."
    )
    assert module.fenced("No example.") == "No example."


def test_navigation_has_every_page_and_the_api_every_room():
    navigation = (ROOT / "mkdocs.yml").read_text()
    pages = [page.relative_to(ROOT / "docs").as_posix() for page in ROOT.glob("docs/**/*.md")]
    cards = [page for page in pages if page.startswith("reference/models/")]
    assert {page for page in pages if page not in navigation} == set(cards)
    shipped = {card.stem for card in ROOT.glob("keras_lapkl/weights/*.md")}
    assert {pathlib.Path(card).stem for card in cards} == shipped
    api = "".join(page.read_text() for page in ROOT.glob("docs/reference/api/*.md"))
    rooms = {path.parent.name for path in ROOT.glob("keras_lapkl/*/__init__.pyi")}
    assert not {room for room in rooms if f"::: keras_lapkl.{room}" not in api}
