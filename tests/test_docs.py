"""The Python examples of the documentation run as they stand, one after the other."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent


@pytest.mark.parametrize(
    ("page", "leaves"),
    [
        ("README.md", ["log.csv", "model.keras"]),
        ("docs/unlabeled.md", ["logs/faces", "logs/train", "model.keras"]),
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
