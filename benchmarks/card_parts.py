"""What a model's card tells, in parts: the command that measures each, and the files it reads.

A part is measured again where its command or one of its files has changed.
"""

import hashlib
import itertools
import os
import pathlib
import runpy
import shlex
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable
from typing import Any, NamedTuple

from absl import flags

import keras_lapkl
from keras_lapkl import pretrained

ROOT = pathlib.Path(__file__).resolve().parent.parent
CARDS = ROOT / "docs/results/cards"
SPLITS = ("validation", "common")
FACES = {"300w": "300w", "mtfl": "mtfl"}
"""Folders that the commands name, as they are called in `--faces_dir`."""

PHOTOS = (
    "rotation 0°",
    "rotation 180°",
    "noise σ 40",
    "JPEG quality 10",
    "motion blur 10%",
    "gamma 4",
    "box shift 20%",
)
"""Rows of `benchmarks/robustness.py`."""


class Part(NamedTuple):
    """One measurement of a model.

    Attributes:
        command: as the card shows it, in a folder with `300w`, `mtfl` and `benchmarks`; None for
            what this module measures itself.
        files: the shipped files that it reads.
        output: the JSON file that the command leaves.
        pick: function from the content of that file to what the card needs of it.
    """

    command: str | None
    files: tuple[str, ...]
    output: str | None = None
    pick: Callable[[Any], Any] | None = None


def words_of(name: str) -> dict[str, Any]:
    """What a human says of a model: the TOML file beside its figures."""
    with open(CARDS / f"{name}.toml", "rb") as file:
        return tomllib.load(file)


def suffixes_of(name: str) -> tuple[str, ...]:
    """Of the files that are measured: all but the card."""
    micro = name in pretrained.MICRO_NAMES
    all_of_them = pretrained.MICRO_SUFFIXES if micro else pretrained.SUFFIXES
    return tuple(suffix for suffix in all_of_them if suffix != ".md")


def parts_of(name: str) -> dict[str, Part]:
    """All parts of a card but `training`, in the order of their commands on it."""
    suffixes = suffixes_of(name)
    files = [f"{name}{suffix}" for suffix in suffixes]
    float16 = f"{name}.tflite"
    tflite = [file.removesuffix(".tflite") for file in files if file.endswith(".tflite")]
    found = {"network": Part(None, (_keras_file(name), *files))}
    for suffix, split in itertools.product(suffixes, SPLITS):
        found[f"{split}{suffix}"] = Part(
            f"lapkl evaluate --model={name}{suffix} --dataset=300w --data_dir=300w "
            f"--split={split} --output_dir=card/{split}{suffix}",
            (f"{name}{suffix}",),
            f"card/{split}{suffix}/results.json",
            _scores,
        )
    found["flip"] = Part(
        f"lapkl evaluate --model={name}.tflite --dataset=300w --data_dir=300w --split=common "
        "--flip_average --output_dir=card/flip",
        (float16,),
        "card/flip/results.json",
        _scores,
    )
    photos = (
        "python benchmarks/robustness.py --photos_dir=300w --stems=300w/splits/validation.txt "
        f"--models={name} --detectors=blazeface"
    )
    rows = ",".join(PHOTOS)
    found["photos"] = Part(
        f"{photos} --rows='{rows}' --output=card/photos.json",
        (float16,),
        "card/photos.json",
        lambda said: [row for row in said["rows"] if row["by"] == f"{name} blazeface"],
    )
    found["lost"] = Part(
        f"{photos} --lost --output=card/lost.json",
        (float16,),
        "card/lost.json",
        lambda said: said["rows"][0],
    )
    found["crops"] = Part(
        f"python benchmarks/confidence.py --model={name} --data_dir=300w --output=card/crops.json",
        (float16,),
        "card/crops.json",
        lambda said: said["spoiled"],
    )
    found["elsewhere"] = Part(
        f"python benchmarks/elsewhere.py --models={','.join(tflite)} --data_dir=mtfl "
        "--output=card/elsewhere.json",
        tuple(f"{each}.tflite" for each in tflite),
        "card/elsewhere.json",
        lambda said: said["rows"],
    )
    found["check"] = Part(
        f"lapkl check {' '.join(tflite)} --output=card/check.json",
        tuple(f"{each}.tflite" for each in tflite),
        "card/check.json",
        _where_it_runs,
    )
    if name in pretrained.MICRO_NAMES:
        found["micro"] = Part(
            f"python benchmarks/micro.py --model={name} --data_dir=300w --output=card/micro.json",
            (float16,),
            "card/micro.json",
            lambda said: {key: said[key] for key in ("faces", "nme", "apart")},
        )
    return found


def _keras_file(name):
    """The Keras model that the files are compared to: for a cut one that of its origin."""
    return f"{words_of(name).get('cut_from', name)}.keras"


def _scores(said):
    kept = ("nme", "nme_interval", "faces", "missing", "crop_scale", "image_size", "normalizer")
    kept += ("trained_on", "apertures", "cheeks")
    found = {key: said[key] for key in kept}
    if "confidence" in said:
        radius = said["confidence"]["radius"]
        found["coverage"] = said["confidence"]["coverage"]["0.9"]
        found["coverage_of_unsurest_tenth"] = radius["faces_by_expected_error"][-1]
    return found


def _where_it_runs(said):
    return [
        {
            "model": report["model"],
            "operators": report["operators"],
            "falls_back": {name: each["falls_back"] for name, each in report["targets"].items()},
            "arena": report["targets"]["micro"].get("arena"),
            "vela": {
                key: value
                for key, value in report["targets"]["ethos-u"].get("vela", {}).items()
                if key != "left"
            }
            or None,
        }
        for report in said["results"]
    ]


# ---- What is measured, and whether it is of the files that are shipped


def conditions(part: Part) -> dict[str, Any]:
    """What a measurement is of: its command, and each file's SHA-256."""
    return {"command": part.command, "files": {name: sha256(name) for name in part.files}}


def sha256(file: str) -> str:
    """Of a shipped file."""
    return hashlib.sha256((weights() / file).read_bytes()).hexdigest()


def weights() -> pathlib.Path:
    """The folder of the shipped files."""
    return pretrained.path(pretrained.NAMES[0]).parent


def outdated(name: str, found: dict[str, Any]) -> list[str]:
    """Parts that are not there, or are of other files or another command."""
    return [
        title
        for title, part in parts_of(name).items()
        if title not in found or found[title]["of"] != conditions(part)
    ]


def measured(name: str, title: str, faces_dir: pathlib.Path) -> dict[str, Any]:
    """A part: what it is `of`, the `seconds` that it took, and what was `found`."""
    part = parts_of(name)[title]
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        if part.command is None:
            found = _network(name, faces_dir)
        else:
            found = _run(part, pathlib.Path(folder), faces_dir)
    return {
        "of": conditions(part),
        "seconds": round(time.monotonic() - start, 1),
        "found": rounded(found),
    }


def _run(part, folder, faces_dir):
    """What a command finds, run as the card shows it."""
    from keras_lapkl._support.files import read_json

    for name, kept_as in FACES.items():
        (folder / name).symlink_to(faces_dir / kept_as)
    (folder / "benchmarks").symlink_to(ROOT / "benchmarks")
    program, *arguments = shlex.split(part.command)
    program = {"lapkl": ["-m", "keras_lapkl"], "python": []}[program]
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, *program, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=False,
    )
    output = folder / part.output
    if done.returncode or not output.is_file():
        raise ValueError(f"{part.command}\nfailed: {done.stderr.strip()[-2000:]}")
    return part.pick(read_json(output))


def _network(name, faces_dir):
    """Size and cost of a network, and how far its .tflite files are from Keras on each split."""
    import numpy as np

    from keras_lapkl.data import datasets
    from keras_lapkl.evaluation import model_scores
    from keras_lapkl.export.modes import MODES
    from keras_lapkl.models.costs import multiply_adds

    model = keras_lapkl.load_model(_keras_file(name), (".keras",))
    if name in pretrained.MICRO_NAMES:
        model.refinement = None  # where a cut file ends
    folded = model.generator.folded()
    files = {
        suffix: keras_lapkl.load_model(pretrained.path(name, suffix), (".tflite",))
        for suffix in suffixes_of(name)
        if suffix.endswith(".tflite")
    }
    apart, keras_nme = {suffix: {} for suffix in files}, {}
    for split in SPLITS:
        crops = datasets.load(
            "300w",
            faces_dir / FACES["300w"],
            split,
            image_size=model.image_size,
            crop_scale=model.crop_scale,
        )
        expected = model.predict(crops.central(), verbose=0)
        keras_nme[split] = model_scores.score(**expected, crops=crops)["nme"]
        for suffix, file in files.items():
            given = file.predict(crops.central(), verbose=0)["landmarks"]
            distance = np.linalg.norm(given - expected["landmarks"], axis=-1)
            apart[suffix][split] = float(distance.mean())
    return {
        "image_size": model.image_size,
        "landmarks": model.scheme.num_landmarks,
        "crop_scale": model.crop_scale,
        "parameters": folded.count_params(),
        "multiply_adds": sum(map(multiply_adds, folded.layers)),
        "bytes": {
            suffix: pretrained.path(name, suffix).stat().st_size for suffix in suffixes_of(name)
        },
        "keras_nme": keras_nme,
        "apart": apart,
        "bounds": MODES["int8"].bounds_for(model.image_size),
    }


def rounded(value: Any) -> Any:
    """Plain data with at most five digits behind the point: what is written is what is shown."""
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(each) for each in value]
    return round(value, 5) if isinstance(value, float) else value


# ---- How it was made


def training(name: str, before: list[dict[str, Any]], runs: pathlib.Path | None) -> list[Any]:
    """Each command that made the files, with its seed and epochs, and what its run recorded.

    Args:
        name: of the model.
        before: the same as it was; a record stays where its command is as it was.
        runs: folder of the runs, as `runs/…` in the commands, or None.
    """
    known = {step["command"]: step for step in before}
    found = []
    for command in commands_of(name):
        _, tool, *arguments = shlex.split(command)
        step = {"command": command, "run": known.get(command, {}).get("run")}
        if tool == "train":
            given = parsed(tool, arguments)
            step |= {key: given[key] for key in ("seed", "epochs")}
            folder = given["output_dir"].removeprefix("runs/")
            if runs is not None and (runs / folder / "results.json").is_file():
                step["run"] = _record(runs / folder, given)
        found.append(step)
    return found


def commands_of(name: str) -> list[str]:
    """The commands that made a model's files, each in one line."""
    return [" ".join(step["command"].split()) for step in words_of(name)["steps"]]


_LIKE = ("seed", "epochs", "learning_rate", "image_size", "width", "batch_size")


def _record(folder, given):
    """Time and versions of a finished run, which must be of these settings."""
    from keras_lapkl._support.files import read_json

    said = read_json(folder / "results.json")
    had = said["provenance"]["flags"]
    other = {key: had[key] for key in _LIKE if had[key] != given[key]}
    if other:
        raise ValueError(
            f"{folder}: expected the run of the card, { ({key: given[key] for key in other}) }. "
            f"Received one with {other}"
        )
    versions = said["provenance"]["versions"]
    return {
        "seconds": said["seconds_of_training"],
        "epochs": said["epochs_in_those_seconds"],
        "cores": said["provenance"]["machine"]["cores"],
        "versions": {key: versions[key] for key in ("keras_lapkl", "tensorflow", "keras")},
        "time": said["provenance"]["time"],
    }


def parsed(command: str, arguments: list[str]) -> dict[str, Any]:
    """Values of the flags of one of `keras_lapkl.commands`, which needs not be imported for it.

    Raises:
        absl.flags.Error: the command has no such flag, or it does not take that value.
    """
    from keras_lapkl.commands import with_recipes

    if command == "train":
        arguments = with_recipes(arguments)
    others, was_parsed = set(flags.FLAGS), flags.FLAGS.is_parsed()
    path = pathlib.Path(keras_lapkl.__file__).parent / "commands" / f"{command}.py"
    try:
        runpy.run_path(str(path))
        flags.FLAGS([command, *arguments])
        return {name: flags.FLAGS[name].value for name in set(flags.FLAGS) - others}
    finally:
        for name in set(flags.FLAGS) - others:
            delattr(flags.FLAGS, name)
        flags.FLAGS.unparse_flags()
        if was_parsed:
            flags.FLAGS.mark_as_parsed()
