import sys

import pytest

from keras_lapkl import commands


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


class TestRecipes:
    def test_is_replaced_by_its_flags_in_place(self):
        found = commands.with_recipes(["lapkl train", "--seed=1", "--recipe=w300", "--epochs=2"])
        assert found[:3] == ["lapkl train", "--seed=1", "--dataset=300w"]
        assert found[-2:] == ["--augment", "--epochs=2"]

    def test_in_two_words(self):
        two, one = (
            commands.with_recipes(["t", *w]) for w in (["--recipe", "w300"], ["--recipe=w300"])
        )
        assert two == one

    def test_one_that_begins_with_another(self):
        found = commands.with_recipes(["t", "--recipe=w300_unlabeled"])
        assert [word for word in found if word.startswith("--epochs")][-1] == "--epochs=12"
        assert "--loss=laplace_kl" in found and not any("flagfile" in word for word in found)

    @pytest.mark.parametrize("name", ["w301", "", "../configs/w300"])
    def test_unknown(self, name, monkeypatch, capsys):
        with pytest.raises(ValueError, match="w300_mobile"):
            commands.with_recipes(["t", f"--recipe={name}"])
        monkeypatch.setattr(sys, "argv", ["lapkl", "train", f"--recipe={name}"])
        assert commands.main() == 1
        assert "error: --recipe must be one of w300" in capsys.readouterr().err
