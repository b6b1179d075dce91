import zipfile

import numpy as np
import pytest

from keras_lapkl._support.folders import owned
from keras_lapkl.training.run_folder import (
    LAST,
    MEANS,
    PREVIOUS,
    last_checkpoint,
    read_means,
    trim_history,
    write_means,
)


def checkpoint(path, text="weights " * 99):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("model.weights.h5", text)
    return path


def flip_a_byte(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-30])


def empty(path):
    path.write_bytes(b"")


class TestLastCheckpoint:
    def test_the_last_whole_one(self, tmp_path):
        assert last_checkpoint(tmp_path) is None
        previous = checkpoint(tmp_path / PREVIOUS)
        assert last_checkpoint(tmp_path) == previous
        last = checkpoint(tmp_path / LAST)
        assert last_checkpoint(tmp_path) == last

    @pytest.mark.parametrize("damage", [flip_a_byte, cut_short, empty])
    def test_the_one_before_a_damaged_one(self, tmp_path, caplog, damage):
        previous, last = checkpoint(tmp_path / PREVIOUS), checkpoint(tmp_path / LAST)
        damage(last)
        assert last_checkpoint(tmp_path) == previous
        assert f"{last} is damaged: going on from the checkpoint before it" in caplog.text
        assert last.exists()

    @pytest.mark.parametrize("damage", [flip_a_byte, cut_short, empty])
    def test_no_whole_one(self, tmp_path, damage):
        damage(checkpoint(tmp_path / LAST))
        with pytest.raises(
            ValueError, match=r"last\.keras and last\.previous\.keras.*delete what is there"
        ):
            last_checkpoint(tmp_path)
        damage(checkpoint(tmp_path / PREVIOUS))
        with pytest.raises(
            ValueError, match=r"last\.keras and last\.previous\.keras.*delete what is there"
        ):
            last_checkpoint(tmp_path)


@pytest.mark.parametrize("end", ["", "2,0.", "2", "\0\0\0\0", "2,0.3\n3,0.4\n"])
def test_history_that_a_kill_or_a_power_cut_left(tmp_path, end):
    path = tmp_path / "history.csv"
    path.write_text("epoch,loss\n0,0.1\n1,0.2\n" + end)
    trim_history(path, 2)
    assert path.read_text().split() == ["epoch,loss", "0,0.1", "1,0.2"]


def test_history_of_a_run_stopped_in_its_first_epoch(tmp_path):
    """An empty line would be taken for the header, and no row would ever be kept."""
    path = tmp_path / "history.csv"
    for content in ("", "\n"):
        path.write_text(content)
        trim_history(path, 0)
        assert not path.exists()


@pytest.mark.parametrize("content", [None, "", "epoch,loss\n0,0.1\n"])
def test_history_that_is_a_link(tmp_path, content):
    """Keras would add to what it leads to."""
    victim, path = tmp_path / "victim.csv", tmp_path / "run" / "history.csv"
    path.parent.mkdir()
    path.symlink_to(victim)
    if content is not None:
        victim.write_text(content)
    with owned(path.parent), pytest.raises(ValueError, match=r"history\.csv is a link"):
        trim_history(path, 0)
    assert (victim.read_text() if victim.exists() else None) == content


def test_means_of_another_step_are_not_read(tmp_path):
    assert read_means(tmp_path, 7) == []
    write_means(tmp_path, 7, [np.float32(3), np.arange(2.0)])
    (total, counts), stored = read_means(tmp_path, 7), tmp_path / MEANS
    assert total == 3 and counts.tolist() == [0, 1]
    assert read_means(tmp_path, 8) == []
    stored.write_bytes(stored.read_bytes()[:-30])
    assert read_means(tmp_path, 7) == []
