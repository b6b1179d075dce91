"""What a type checker, and so an editor, knows of the package's names."""

import ast
import functools
import inspect
import json
import os
import pathlib
import pkgutil
import re
import subprocess
import sys

import pytest

import keras_lapkl

ROOT = pathlib.Path(keras_lapkl.__file__).resolve().parent.parent

SNIPPET = """
import numpy as np
import keras_lapkl

photo = np.zeros((100, 100, 3), np.uint8)
faces = keras_lapkl.LandmarkDetector.from_pretrained()(photo)
faces[0].landmarks
faces[0].landmark  # error
model = keras_lapkl.LandmarkLocalizer(keras_lapkl.RCN(68), scheme="ibug68")
keras_lapkl.LandmarkDetector(model, keras_lapkl.detectors.from_name("auto"))
keras_lapkl.LandmarkDetector(keras_lapkl.tflite.TFLiteLocalizer("a.tflite"), "auto")
keras_lapkl.LandmarkDetector(model, lambda photo: [])
keras_lapkl.LandmarkDetector(model, lambda: [])  # error
reveal_type(faces)
reveal_type(model.predict(photo[None]))
reveal_type(keras_lapkl.RCN)
reveal_type(keras_lapkl.load_model("fpn-eighth-300w"))
reveal_type(keras_lapkl.LandmarkTracker(keras_lapkl.LandmarkDetector.from_pretrained())(photo, 0))
reveal_type(keras_lapkl.detectors.from_name)
reveal_type(keras_lapkl.pretrained.path)
reveal_type(keras_lapkl.losses.LaplaceKL)
reveal_type(keras_lapkl.metrics.NormalizedMeanError)
reveal_type(keras_lapkl.heatmaps.decode)
reveal_type(keras_lapkl.data.training_batches)
reveal_type(keras_lapkl.data.read_pts)
reveal_type(keras_lapkl.evaluation.evaluate_model)
reveal_type(keras_lapkl.export.convert)
reveal_type(keras_lapkl.tflite.convert)
reveal_type(keras_lapkl.tflite.describe)
reveal_type(keras_lapkl.tflite.TFLiteLocalizer("a.tflite")(photo))
reveal_type(keras_lapkl.training.train)
"""
LINES = SNIPPET.splitlines()


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What pyright says of the snippet: (severity, line, message) each."""
    pytest.importorskip("pyright")
    file = tmp_path_factory.mktemp("typing") / "snippet.py"
    file.write_text(SNIPPET)
    done = subprocess.run(
        [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, file],
        cwd=file.parent,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        found = json.loads(done.stdout)["generalDiagnostics"]
    except ValueError:
        pytest.skip(f"pyright can't run here: {(done.stderr or done.stdout)[-200:]}")
    return [
        (each["severity"], LINES[each["range"]["start"]["line"]], each["message"]) for each in found
    ]


def test_errors_are_told_and_nothing_else(told):
    """A misspelt attribute, and a face detector that takes no photo."""
    errors = [(line, message) for severity, line, message in told if severity == "error"]
    assert [line for line, _ in errors] == [line for line in LINES if line.endswith("# error")]
    assert '"landmark"' in errors[0][1] and "Face" in errors[0][1]


@pytest.mark.parametrize("line", [line for line in LINES if line.startswith("reveal_type")])
def test_a_public_name_has_a_type(told, line):
    (message,) = (message for severity, at, message in told if at == line)
    revealed = message.partition(" is ")[2]
    assert revealed and not re.search(r"\bUnknown\b", revealed), message


def test_types_of_what_users_hold(told):
    revealed = {line: message for _, line, message in told}
    assert 'is "list[Face]"' in revealed["reveal_type(faces)"]
    assert 'is "dict[str, ndarray' in revealed["reveal_type(model.predict(photo[None]))"]
    (tracked,) = (line for line in LINES if "LandmarkTracker" in line)
    assert 'is "list[TrackedFace]"' in revealed[tracked]


def public_names():
    """What the pages of the API name, and what the packages give, as `keras_lapkl.a.b`."""
    for page in sorted((ROOT / "docs/reference/api").glob("*.md")):
        yield from re.findall(r"^::: (\S+)$", page.read_text(), re.MULTILINE)
    for stub in sorted((ROOT / "keras_lapkl").rglob("*.pyi")):
        package = ".".join(stub.parent.relative_to(ROOT).parts)
        for node in ast.parse(stub.read_text()).body:
            if isinstance(node, ast.ImportFrom):
                yield from (f"{package}.{each.name}" for each in node.names)
            elif isinstance(node, ast.Assign):
                yield f"{package}.{ast.unparse(node.targets[0])}"
    yield from (f"keras_lapkl.reproduction.{name}" for name in keras_lapkl.reproduction.__all__)


def functions(found):
    """A function itself; of a class its methods and properties; of a module both of all it has."""
    if isinstance(found, functools.cached_property):
        found = found.func
    if isinstance(found, property):
        found = found.fget
    if isinstance(found, classmethod | staticmethod):
        found = found.__func__
    if inspect.isfunction(found):
        # Neither those that dataclasses and protocols make, nor defaults of fields.
        if found.__module__.startswith("keras_lapkl") and found.__name__ != "<lambda>":
            yield found
    elif inspect.isclass(found):
        for name, each in vars(found).items():
            if not name.startswith("_") or name in ("__init__", "__call__"):
                yield from () if inspect.isclass(each) else functions(each)
    elif inspect.ismodule(found):
        for name, each in vars(found).items():
            if not name.startswith("_") and getattr(each, "__module__", None) == found.__name__:
                yield from functions(each)


def bare(function):
    """Names of a function's parameters without annotation, and `return` if it has none."""
    signature = inspect.signature(function)
    values = signature.parameters.values()
    found = [each.name for each in values if each.annotation is each.empty]
    if signature.return_annotation is signature.empty and function.__name__ != "__init__":
        found.append("return")
    return [name for name in found if name not in ("self", "cls")]


def test_what_is_bare_is_found():
    def function(a, b: int = 0, *args, **kwargs): ...

    assert bare(function) == ["a", "args", "kwargs", "return"]


def test_every_public_function_is_annotated():
    each = {f for name in public_names() for f in functions(pkgutil.resolve_name(name))}
    assert len(each) > 300
    assert {f"{f.__module__}.{f.__qualname__}": bare(f) for f in each if bare(f)} == {}
