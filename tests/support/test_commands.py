import ast
import collections
import pathlib
import subprocess
import sys

import pytest
from absl import flags

from keras_lapkl import commands
from keras_lapkl._support import settings
from keras_lapkl.training import recipe


def test_every_command_is_told_in_a_line_of_plain_length():
    lines = commands.overview().splitlines()
    for name in commands.COMMANDS:
        assert any(line.split()[:1] == [name] for line in lines)
        assert 20 < len(commands._summary(name)) <= 90


@pytest.mark.parametrize(
    ("word", "said"), [("trian", "Did you mean train?"), ("xyzzy", "no command xyzzy. Commands:")]
)
def test_unknown_command(word, said, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["lapkl", word])
    assert commands.main() == 2
    assert said in capsys.readouterr().err


def test_a_flag_of_several_commands_is_defined_once():
    defined = collections.defaultdict(list)
    for path in pathlib.Path(commands.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("flags.DEFINE_"):
                defined[ast.unparse(node)].append(path.stem)
    assert len(defined) > 50
    assert not {flag: names for flag, names in defined.items() if len(names) > 1}


@pytest.mark.slow
def test_shared_flags_are_light():
    """Commands that need none of these answer --help at once."""
    code = (
        "import sys, keras_lapkl.commands.shared_flags; "
        "assert not {'cv2', 'keras', 'numpy', 'tensorflow'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "number", "status"),
    [("train", "SIGTERM", 75), ("predict", "SIGTERM", 143), ("predict", "SIGINT", 130)],
)
def test_signals_while_a_command_is_imported(name, number, status):
    """That may take seconds; and a scheduler is to start a training again."""
    code = (
        "import importlib, os, signal, sys, time; from keras_lapkl import commands\n"
        "def import_module(name):\n"
        f"    os.kill(os.getpid(), signal.{number})\n"
        "    time.sleep(60)\n"
        "importlib.import_module = import_module\n"
        f"sys.argv = ['lapkl', '{name}']\n"
        "sys.exit(commands.main())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50)
    assert done.returncode == status
    assert done.stderr.strip().endswith("The same command starts or goes on again.")
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [("evaluate", "--output_dir=s3://b/r"), ("labels", "--input=x", "--output=gs://b/l.csv")],
)
def test_stores_are_refused_before_the_work(words):
    """With the address as it was given, whose slashes a path would lose."""
    done = subprocess.run(
        [sys.executable, "-m", "keras_lapkl", *words], capture_output=True, text=True
    )
    assert done.returncode == 1
    said = done.stdout + done.stderr
    assert f"{words[-1]}: expected a path of this machine" in said and "Traceback" not in said


class TestRecipes:
    def test_other_flags_count_before_it_and_after(self):
        words = ["--seed=1", "--dropout=0.5", "--recipe=w300", "--epochs=2"]
        file, *others = commands.with_recipes(words)
        assert file.endswith("w300.cfg")
        assert others == ["--seed=1", "--dropout=0.5", "--epochs=2"]
        values = flags.FlagValues()
        settings.define_flags(recipe.CLASSES, values)
        values(["lapkl train", file, *others], known_only=True)
        expected = recipe.Recipe(seed=1, epochs=2, dropout=0.5)
        assert settings.from_flags(recipe.Recipe, values) == expected

    def test_of_two_the_second_counts(self):
        words = ["--recipe=w300", "--seed=1", "--recipe=w300_mobile"]
        first, second, _ = commands.with_recipes(words)
        assert first.endswith("w300.cfg") and second.endswith("w300_mobile.cfg")

    def test_in_two_words(self):
        two, one = (commands.with_recipes(w) for w in (["--recipe", "w300"], ["--recipe=w300"]))
        assert two == one

    @pytest.mark.parametrize("name", ["w301", "", "../configs/w300"])
    def test_unknown(self, name, monkeypatch, capsys):
        with pytest.raises(ValueError, match="w300_mobile"):
            commands.with_recipes([f"--recipe={name}"])
        monkeypatch.setattr(sys, "argv", ["lapkl", "train", f"--recipe={name}"])
        assert commands.main() == 1
        assert "error: --recipe must be one of few_labels, " in capsys.readouterr().err
