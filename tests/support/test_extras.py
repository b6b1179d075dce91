import pathlib
import subprocess
import sys
import tomllib

import pytest

from keras_lapkl._support import extras

ROOT = pathlib.Path(__file__).resolve().parents[2]

BLOCKED = "import sys; sys.modules['keras'] = sys.modules['tensorflow'] = None\n"
"""What a plain install is, as far as imports go."""

STATEMENTS = (
    "keras_lapkl.LandmarkLocalizer",
    "keras_lapkl.losses",
    "from keras_lapkl.losses import LaplaceKL",
    "import keras_lapkl.metrics",
    "import keras_lapkl.heatmaps",
    "import keras_lapkl.optimizers",
    "import keras_lapkl.callbacks",
    "import keras_lapkl.models.rcn",
    "from keras_lapkl import training",
    "import keras_lapkl.training.run",
    "import keras_lapkl.export.conversion",
    "import keras_lapkl.reproduction",
    "keras_lapkl.data.training_batches",
    "keras_lapkl.tflite.convert",
    "keras_lapkl.load_model('fpn-eighth-300w')",
    "keras_lapkl.load_model(pretrained.path('fpn-eighth-300w'))",
    "keras_lapkl.LandmarkDetector.from_pretrained('fpn-eighth-300w.keras', detector=None)",
)


@pytest.mark.slow
def test_training_names_say_which_extra_they_need():
    """In one process: each statement fails as it would alone, since no failed import is kept."""
    code = BLOCKED + (
        "import keras_lapkl\n"
        "from keras_lapkl import pretrained\n"
        f"for statement in {STATEMENTS}:\n"
        "    try:\n"
        "        exec(statement)\n"
        "    except ImportError as error:\n"
        "        print(f'{statement}: {error}')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told = done.stdout.splitlines()
    assert len(told) == len(STATEMENTS)
    for line in told:
        assert line.endswith("needs keras: pip install 'keras_lapkl[train]'"), line
    assert "keras_lapkl.LandmarkLocalizer needs keras" in told[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ("train", "--output_dir=x"),
        ("convert", "--model=fpn-eighth-300w", "--output=x.tflite"),
        ("evaluate", "--model=fpn-eighth-300w.keras", "--output_dir=x"),
        ("demo", "--output_dir=x"),
    ],
)
def test_commands_say_so_in_one_plain_line(words, tmp_path):
    code = BLOCKED + "from keras_lapkl import commands; sys.exit(commands.main())"
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 1
    assert done.stderr.endswith("needs keras: pip install 'keras_lapkl[train]'\n")
    assert len(done.stderr.splitlines()) == 1 and not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("command", ["demo", "reproduce", "heatmaps"])
def test_commands_that_draw_need_matplotlib_before_they_train(command, tmp_path):
    code = "import sys; sys.modules['matplotlib'] = None\n"
    code += "from keras_lapkl import commands; sys.exit(commands.main())"
    words = {"heatmaps": ["--model=x=fpn-eighth-300w", "--output=x.png"]}
    words = [command, *words.get(command, ["--output_dir=x"])]
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 1 and not list(tmp_path.iterdir())
    assert done.stderr.endswith(
        f"lapkl {command} needs matplotlib: pip install 'keras_lapkl[plots]'\n"
    )


def test_each_extra_is_one_of_the_package():
    with open(ROOT / "pyproject.toml", "rb") as file:
        offered = tomllib.load(file)["project"]["optional-dependencies"]
    assert set(extras.EXTRAS.values()) <= offered.keys()


def test_other_missing_packages_stay_as_they_are():
    with (
        pytest.raises(ModuleNotFoundError, match="No module named 'no_such"),
        extras.needed_by("x"),
    ):
        import no_such_package  # noqa: F401
    with extras.needed_by("x"):
        import json  # noqa: F401
    extras.require("x", "keras")
