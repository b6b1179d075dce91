"""Packages that add to this one: `lapkl` imports what they name as entry points."""

import hashlib
import pickle
import sys

import pytest

from keras_lapkl import commands
from keras_lapkl._support import extensions
from keras_lapkl.training import cross_validation


@pytest.fixture
def install(tmp_path, monkeypatch):
    """`install(code)` installs a distribution that names a module of this code; its name."""

    def install(code):
        name = f"added_{tmp_path.name}".replace("-", "_").lower()
        (tmp_path / f"{name}.py").write_text(code)
        about = tmp_path / f"{name}-0.3.dist-info"
        about.mkdir()
        about.joinpath("METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.3\n"
        )
        about.joinpath("entry_points.txt").write_text(f"[{extensions.GROUP}]\nadds = {name}\n")
        monkeypatch.syspath_prepend(tmp_path)
        return name

    return install


def test_is_imported(install):
    name = install("loaded = True")
    extensions.load()
    assert sys.modules[name].loaded


BROKEN = "raise KeyError('first\\n second')"


def test_a_broken_one_is_told_by_its_name_in_one_line(install, monkeypatch, capsys):
    name = install(BROKEN)
    monkeypatch.setattr(sys, "argv", ["lapkl", "check", "--help"])
    assert commands.main() == 1
    said = capsys.readouterr().err
    assert said.startswith(f"error: the extension {name} 0.3 can't be loaded, its entry point adds")
    assert "KeyError: 'first" in said and said.count("\n") == 1


def test_the_overview_needs_none(install, monkeypatch, capsys):
    install(BROKEN)
    monkeypatch.setattr(sys, "argv", ["lapkl", "--help"])
    assert commands.main() == 0 and "train" in capsys.readouterr().out


def test_in_the_process_that_trains_for_a_cluster(install, tmp_path, monkeypatch):
    name = install(BROKEN)
    monkeypatch.setattr(cross_validation, "quiet_tensorflow", lambda: None)
    faces, error = tmp_path / "faces", tmp_path / "error"
    faces.write_bytes(b"faces")
    sha256 = hashlib.sha256(b"faces").hexdigest()
    cross_validation._train_fold(faces, sha256, "0", tmp_path / "run", error)
    assert f"the extension {name} 0.3 can't be loaded" in str(pickle.loads(error.read_bytes()))
