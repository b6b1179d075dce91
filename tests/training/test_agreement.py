import json
import os
import subprocess
import sys
import zipfile

import pytest

from keras_lapkl.data import datasets
from keras_lapkl.training import agreement, launching
from keras_lapkl.training.recipe import Recipe
from keras_lapkl.training.run_folder import Identity


@pytest.fixture
def gathered(monkeypatch):
    """Has this process be the first of several; the others tell what is put here."""
    others = []
    monkeypatch.setattr(agreement.distributed, "join", object)
    monkeypatch.setattr(agreement.distributed, "all_gather", lambda mine: [mine, *others])
    return others


@pytest.fixture(scope="module")
def identity():
    crops = {
        count: datasets.load("synthetic", split="train", num_synthetic=count, image_size=32)
        for count in (8, 9)
    }

    def make(count=8, **settings):
        return Identity(Recipe(width=1 / 64, **settings), crops[count], crops[8], None)

    return make


def told(identity, command="train"):
    return json.dumps({"command": command, **agreement._settings(identity)}, default=str).encode()


class TestCommand:
    def test_the_same(self, gathered, identity):
        gathered.extend([told(identity()), told(identity())])
        agreement.check_command(identity(), "train")

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"loss": "softargmax"}, 'loss: "laplace_kl" in process 1, 2; "softargmax" in process'),
            ({"seed": 5}, "seed: 0 in process 1, 2; 5 in process 3"),
            ({"epochs": 2}, "epochs: 40 in process 1, 2; 2 in process 3"),
            ({"count": 9}, "digest of training: "),
            ({"command": "label"}, 'command: "train" in process 1, 2; "label" in process 3'),
        ],
    )
    def test_others(self, gathered, identity, change, said):
        command = {"command": change.pop("command")} if "command" in change else {}
        gathered.extend([told(identity()), told(identity(**change), **command)])
        with pytest.raises(ValueError, match="the same command and the same data") as caught:
            agreement.check_command(identity(), "train")
        assert said in str(caught.value)

    def test_faces_in_another_order(self, gathered, identity):
        other = identity()
        object.__setattr__(
            faces := other.data.labeled["training"], "values", faces.values[::-1].copy()
        )
        gathered.append(told(other))
        with pytest.raises(ValueError, match="order of the training faces") as caught:
            agreement.check_command(identity(), "train")
        assert "digest of" not in str(caught.value)

    def test_one_process_is_asked_nothing(self, identity, tmp_path, monkeypatch):
        monkeypatch.setattr(agreement, "_told", lambda mine: 1 / 0)
        agreement.check_command(identity(), "train")
        agreement.check_folder(tmp_path)


class TestFolder:
    @pytest.fixture
    def folders(self, tmp_path):
        """Two with the same run."""
        both = [tmp_path / name for name in ("a", "b")]
        for folder in both:
            folder.mkdir()
            (folder / "run.json").write_text("{}")
            with zipfile.ZipFile(folder / "last.keras", "w") as archive:
                archive.writestr("config.json", "{}")
        return both

    def see(self, folders):
        return [{"folder": str(each), "seen": agreement.seen(each)} for each in folders]

    def test_the_same_by_two_names(self, folders):
        assert agreement.unlike_first(self.see(folders)) == ""

    def test_what_is_not_seen(self, folders):
        a, b = folders
        (b / "run.json").unlink()
        said = agreement.unlike_first(self.see([a, a, b]))
        assert said == f"Process 3 does not see {a}/run.json of the first one: no {b}/run.json."
        assert "sees" in agreement.unlike_first(self.see([b, a]))

    @pytest.mark.parametrize("damaged", [False, True])
    def test_another_checkpoint(self, folders, damaged):
        a, b = folders
        if damaged:
            (b / "last.keras").write_bytes(b"damaged")
        else:
            with zipfile.ZipFile(b / "last.keras", "w") as archive:
                archive.writestr("config.json", "[]")
        said = agreement.unlike_first(self.see(folders))
        assert (
            said == f"Process 2 sees another {b}/last.keras than {a}/last.keras of the first one."
        )

    def test_a_file_that_comes_late(self, folders, gathered, monkeypatch):
        """As on network file systems."""
        a, b = folders
        (b / "run.json").unlink()
        gathered.append(json.dumps(self.see([b])[0]).encode())
        waits = []

        def sleep(seconds):
            waits.append(seconds)
            (b / "run.json").write_text("{}")
            gathered[:] = [json.dumps(self.see([b])[0]).encode()]

        monkeypatch.setattr(agreement.time, "sleep", sleep)
        agreement.check_folder(a)
        assert waits == [1]
        monkeypatch.setattr(agreement.time, "sleep", waits.append)
        (a / "results.json").write_text("{}")
        with pytest.raises(ValueError, match=r"does not see .*results\.json.* that they share"):
            agreement.check_folder(a)
        assert len(waits) == 1 + agreement.PATIENCE


@pytest.mark.slow
@pytest.mark.parametrize(
    ("second", "said"),
    [
        ("--output_dir={0}/run --seed=5", "seed: 0 in process 1; 5 in process 2"),
        ("--output_dir={0}/local", "Process 2 does not see {0}/run/run.json of the first one"),
    ],
)
def test_two_processes_of_which_one_differs(tmp_path, second, said):
    """Both end, with the same words and no status that a scheduler would try again."""
    command = [
        *(sys.executable, "-m", "keras_lapkl", "train", f"--output_dir={tmp_path}/run"),
        *("--num_synthetic=16", "--image_size=32", "--width=1/64", "--epochs=1", "--batch_size=8"),
    ]
    addresses = launching.loopback(2)
    running = [
        subprocess.Popen(
            [*command, *more],
            env={**os.environ, "TF_CONFIG": launching._tf_config(addresses, index)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for index, more in enumerate(([], second.format(tmp_path).split()))
    ]
    for process in running:
        _, words = process.communicate(timeout=300)
        assert process.returncode == 1 and said.format(tmp_path) in words, words
        assert "Traceback" not in words
    assert not list(tmp_path.glob("*/*.keras"))
