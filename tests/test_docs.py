"""The documentation: its examples run, its commands have the flags, its links lead somewhere."""

import importlib.util
import itertools
import json
import pathlib
import re
import shlex
import shutil

import numpy as np
import pytest
from absl import flags

from keras_lapkl.commands import with_recipes

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGES = sorted(
    str(page.relative_to(ROOT))
    for page in (
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("mobile/*/*.md"),
        *ROOT.glob("keras_lapkl/weights/*.md"),
    )
)
EXAMPLES = {
    "README.md": [],
    "docs/start/first-photo.md": [],
    "docs/start/first-training.md": ["log.csv", "model.keras"],
    "docs/guides/confidence.md": [],
    "docs/guides/evaluation.md": [],
    "docs/guides/unlabeled.md": ["logs/faces", "logs/train", "model.keras"],
    "docs/guides/detection.md": [],
    "docs/guides/video.md": ["head.avi", "nose.csv"],
}
"""Pages whose Python runs, with the files that it leaves."""

ELSEWHERE = {"CONTRIBUTING.md", "docs/guides/keypoints.md", "docs/reference/preprocessing.md"}
"""Pages whose Python other tests run."""


def examples(page):
    """The blocks of Python of a page."""
    return re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.M | re.S)


@pytest.mark.slow
@pytest.mark.parametrize(("page", "leaves"), EXAMPLES.items())
def test_examples_run(page, leaves, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "docs" / "head.png", "photo.jpg")  # the content decides, not the name
    names = {}
    for example in examples(page):
        exec(compile(example, page, "exec"), names)
    assert all((tmp_path / left).exists() for left in leaves)


def test_no_example_is_left_out():
    assert {page for page in PAGES if examples(page)} == {*EXAMPLES, *ELSEWHERE}


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text().split()) < 700


def commands(page):
    """Commands of a page's indented blocks: scripts with absl flags, and their flags."""
    blocks = re.findall(r"(?:^    .*\n)+", (ROOT / page).read_text(), re.M)
    text = re.sub(r"\s*\\\n\s*", " ", "".join(blocks))
    found = re.findall(r"python ((?:tools|mobile|benchmarks)/\S+\.py)([^\n;|]*)", text)
    named = re.findall(r"\blapkl (\w+)((?: +[^\n;|]+)?)", text)
    found += [(f"keras_lapkl/commands/{name}.py", flags) for name, flags in named]
    return [(script, shlex.split(flags, comments=True)) for script, flags in found]


@pytest.mark.parametrize("page", PAGES)
def test_flags_of_commands_exist(page, monkeypatch):
    monkeypatch.chdir(ROOT)
    for script, arguments in commands(page):
        text = (ROOT / script).read_text()
        module = ROOT / script
        if "commands.run" in text:
            module = ROOT / "keras_lapkl" / "commands" / f"{pathlib.Path(script).stem}.py"
        elif "absl" not in text:
            continue
        # A shell's variables have no value here, and what follows another command is for that one.
        arguments = list(itertools.takewhile(lambda each: each.startswith("-"), arguments))
        names = [
            each[2:].partition("=")[0]
            for each in arguments
            if "$" in each and "--recipe=" not in each
        ]
        arguments = [each for each in arguments if "$" not in each]
        if module.stem == "train":
            arguments = with_recipes(arguments)
        if not script.startswith("keras_lapkl"):
            monkeypatch.syspath_prepend((ROOT / script).parent)
        known = set(flags.FLAGS)
        spec = importlib.util.spec_from_file_location("binary", module)
        try:
            spec.loader.exec_module(importlib.util.module_from_spec(spec))
            for name in names:
                assert name in flags.FLAGS
                if flags.FLAGS[name].flag_type() in ("string", "comma separated list of strings"):
                    # It may be required.
                    arguments.append(f"--{name}=0")
            flags.FLAGS([script, *arguments])
        finally:
            for name in set(flags.FLAGS) - known:
                delattr(flags.FLAGS, name)
            flags.FLAGS.unparse_flags()


def links(page):
    return re.findall(r"\]\(([^)\s]+)\)", (ROOT / page).read_text())


def test_pages_have_links():
    assert sum(len(links(page)) > 0 for page in PAGES) > 20


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    for target in links(page):
        name, _, heading = target.partition("#")
        if "://" not in target:
            path = (ROOT / page).parent / name if name else ROOT / page
            assert path.exists(), target
            assert not heading or heading in headings(path), target


def headings(path):
    """What the headings of a page are called in links."""
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.M | re.S)
    titles = re.findall(r"^#+ (.+)$", text, re.M)
    return {re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", title.lower())) for title in titles}


def test_keypoints_from_drawings_to_tflite(run_tool, tmp_path, monkeypatch):
    """Python and commands of the worked example, in the page's order."""
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs/guides/keypoints.md").read_text()
    example = page[page.index("## A worked example") : page.index("![")]
    names, said = {}, ""
    for code, block in re.findall(
        r"^```python\n(.*?)^```|((?:^ {4}[^\n]+\n)+)", example, re.M | re.S
    ):
        if code:
            exec(compile(code, "docs/guides/keypoints.md", "exec"), names)
        for command in block.replace("\\\n", " ").splitlines():
            _, name, *arguments = shlex.split(command)
            said += run_tool(f"tools/{name}.py", *arguments, cwd=tmp_path).stdout
    assert "csv test" in said and "whole pictures" in said
    measured = json.loads((tmp_path / "scissors/test/results.json").read_text())
    assert measured["faces"] == 100 and measured["nme"] < 6
    metadata = names["localizer"].metadata
    assert metadata["crop"].startswith("square about the center of the picture")
    assert metadata["scheme"]["flip"] == [0, 2, 1, 4, 3] and metadata["scheme"]["edges"]
    assert np.linalg.norm(names["found"] - names["truth"], axis=1).max() < 8
    assert (tmp_path / "scissors/test/predictions.png").exists()
