"""The documentation: its examples run, its commands have the flags, its links lead somewhere."""

import importlib.util
import itertools
import json
import pathlib
import re
import shlex

import numpy as np
import pytest
from absl import flags

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGES = sorted(
    str(page.relative_to(ROOT))
    for page in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("mobile/*/*.md"))
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("page", "leaves"),
    [
        ("README.md", ["log.csv", "model.keras"]),
        ("docs/confidence.md", []),
        ("docs/evaluation.md", []),
        ("docs/unlabeled.md", ["logs/faces", "logs/train", "model.keras"]),
        ("docs/detection.md", []),
        ("docs/video.md", ["head.avi", "nose.csv"]),
    ],
)
def test_examples_run(page, leaves, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    examples = re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.M | re.S)
    names = {}
    for example in examples:
        if "demo/" in example:  # `make demo` writes that model; tests/tools/test_demo.py runs it
            continue
        exec(compile(example, page, "exec"), names)
    assert all((tmp_path / left).exists() for left in leaves)


def commands(page):
    """Commands of a page's indented blocks that start a binary with absl flags."""
    blocks = re.findall(r"(?:^    .*\n)+", (ROOT / page).read_text(), re.M)
    text = re.sub(r"\s*\\\n\s*", " ", "".join(blocks))
    found = re.findall(r"python ((?:tools|mobile|benchmarks)/\S+\.py)([^\n;|]*)", text)
    return [(script, shlex.split(flags)) for script, flags in found]


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
        # A shell's variables have no value here, and what follows a second script is for that one.
        arguments = list(itertools.takewhile(lambda each: not each.endswith(".py"), arguments))
        names = [
            each[2:].partition("=")[0]
            for each in arguments
            if "$" in each and "flagfile" not in each
        ]
        arguments = [each for each in arguments if "$" not in each]
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


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", (ROOT / page).read_text()):
        if not target.startswith("http"):
            assert ((ROOT / page).parent / target).exists(), target


def test_keypoints_from_drawings_to_tflite(run_tool, tmp_path, monkeypatch):
    """Python and commands of the worked example, in the page's order."""
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs/keypoints.md").read_text()
    example = page[page.index("## A worked example") : page.index("![")]
    names, said = {}, ""
    for code, block in re.findall(
        r"^```python\n(.*?)^```|((?:^ {4}[^\n]+\n)+)", example, re.M | re.S
    ):
        if code:
            exec(compile(code, "docs/keypoints.md", "exec"), names)
        for command in block.replace("\\\n", " ").splitlines():
            _, script, *arguments = shlex.split(command)
            said += run_tool(ROOT / script, *arguments, cwd=tmp_path).stdout
    assert "csv test" in said and "whole pictures" in said
    measured = json.loads((tmp_path / "scissors/test/results.json").read_text())
    assert measured["faces"] == 100 and measured["nme"] < 6
    metadata = names["localizer"].metadata
    assert metadata["crop"].startswith("square about the center of the picture")
    assert metadata["scheme"]["flip"] == [0, 2, 1, 4, 3] and metadata["scheme"]["edges"]
    assert np.linalg.norm(names["found"] - names["truth"], axis=1).max() < 8
    assert (tmp_path / "scissors/test/predictions.png").exists()
