import errno
import os
import pathlib
import re

import numpy as np
import pytest

from keras_lapkl._support import files
from keras_lapkl._support.files import (
    check_outputs,
    read_arrays,
    read_json,
    replacing,
    sweep,
    write_json,
)


def test_replacing_puts_the_whole_file_in_place(tmp_path):
    path = tmp_path / "deep" / "a.txt"
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert not path.exists() and temporary.suffix == ".txt"
    assert path.read_text() == "new"
    assert [p.name for p in path.parent.iterdir()] == ["a.txt"]


def test_replacing_keeps_the_old_file_on_an_error(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_replacing_keeps_the_one_before(tmp_path):
    path, previous = tmp_path / "a.txt", tmp_path / "b.txt"
    for text in ("1", "2", "3"):
        with replacing(path, previous) as temporary:
            temporary.write_text(text)
    assert (path.read_text(), previous.read_text()) == ("3", "2")


def test_replacing_writes_where_a_link_leads(tmp_path):
    (tmp_path / "there").mkdir()
    link = tmp_path / "here.txt"
    link.symlink_to(tmp_path / "there" / "file.txt")
    for content in ("new", "newer"):  # at first the link leads to nothing
        with replacing(link) as temporary:
            temporary.write_text(content)
        assert link.is_symlink()
        assert (tmp_path / "there" / "file.txt").read_text() == content
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["file.txt"]


@pytest.mark.skipif(os.name == "nt", reason="has no named pipes")
def test_pipes_are_not_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(ValueError, match=r"Received: .*pipe, a device"):
        check_outputs([pipe])
    with pytest.raises(ValueError, match=r"Received: .*pipe, a device"), replacing(pipe):
        pass
    assert pipe.is_fifo() and list(tmp_path.iterdir()) == [pipe]


@pytest.mark.parametrize(
    "name", ["x" * 251 + ".txt", "é" * 125 + ".json", os.fsdecode(b"\xff.txt"), "a\nb.txt", "🙂"]
)
def test_replacing_takes_any_name(tmp_path, name):
    with replacing(tmp_path / name) as temporary:
        temporary.write_text("new")
        assert temporary.name.isascii()
    assert (tmp_path / name).read_text() == "new"


class TestErrors:
    """Each tells the file that could not be written."""

    @pytest.mark.parametrize(
        "error",
        [OSError(errno.ENOSPC, "No space left on device"), OSError("Can't synchronously create")],
    )
    def test_of_a_library_that_names_no_file(self, tmp_path, error):
        path = tmp_path / "model.keras"
        with pytest.raises(OSError, match=r"model\.keras") as caught, replacing(path):
            raise error
        assert caught.value.errno == error.errno and not list(tmp_path.iterdir())

    def test_of_the_temporary_file(self, tmp_path):
        with pytest.raises(FileNotFoundError) as caught, replacing(tmp_path / "a.txt"):
            pass  # nothing was written
        assert caught.value.filename == str(tmp_path / "a.txt")

    def test_of_another_file_stay(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="input"), replacing(tmp_path / "a.txt"):
            (tmp_path / "input").read_text()

    def test_of_a_folder_in_its_place(self, tmp_path):
        (tmp_path / "a.txt").mkdir()
        with pytest.raises(OSError, match=r"a\.txt'$"), replacing(tmp_path / "a.txt") as temporary:
            temporary.write_text("new")


class TestSweep:
    def test_removes_what_the_dead_left(self, tmp_path):
        for left in (".lapkl-abcdefgh", "below/.lapkl-12345678"):
            (tmp_path / left).mkdir(parents=True)
            (tmp_path / left / "_.txt").touch()
        sweep(tmp_path, below=False)
        assert [path.name for path in tmp_path.iterdir()] == ["below"]
        sweep(tmp_path)
        assert not list((tmp_path / "below").iterdir())

    def test_leaves_the_living_and_what_is_not_ours(self, tmp_path):
        (tmp_path / ".lapkl-photos").mkdir()
        (tmp_path / "kept").mkdir()
        (tmp_path / ".lapkl-abcdefgh").symlink_to("kept")
        with replacing(tmp_path / "a.txt") as temporary:
            temporary.write_text("new")
            sweep(tmp_path)
        assert (tmp_path / "a.txt").read_text() == "new"
        names = {".lapkl-photos", "kept", ".lapkl-abcdefgh", "a.txt"}
        assert {path.name for path in tmp_path.iterdir()} == names
        assert not list((tmp_path / "kept").iterdir())

    def test_a_writer_that_is_swept_before_its_lock_begins_again(self, tmp_path, monkeypatch):
        make = files.tempfile.mkdtemp

        def make_swept(**kwargs):
            monkeypatch.setattr(files.tempfile, "mkdtemp", make)
            folder = make(**kwargs)
            sweep(tmp_path)
            return folder

        monkeypatch.setattr(files.tempfile, "mkdtemp", make_swept)
        write_json(tmp_path / "a.json", 1)
        assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_inputs_are_no_outputs(tmp_path):
    (tmp_path / "link").symlink_to("a.txt")
    (tmp_path / "a.txt").touch()
    check_outputs([tmp_path / "b.txt"], [tmp_path / "a.txt"])
    with pytest.raises(ValueError, match=r"link is an input"):
        check_outputs([tmp_path / "link"], [tmp_path / "x" / ".." / "a.txt"])
    with pytest.raises(ValueError, match=r"a\.txt is an input"):
        check_outputs([tmp_path / "a.txt"], [tmp_path / "link"])


class TestOutputsAreCheckedFirst:
    def test_a_link_at_a_name_that_no_user_gave(self, tmp_path):
        (tmp_path / "link").symlink_to(tmp_path / "victim")
        check_outputs([tmp_path / "link"])
        with pytest.raises(ValueError, match="link is a link"):
            check_outputs([tmp_path / "link"], links=False)

    def test_nothing_is_made(self, tmp_path):
        check_outputs([tmp_path / "a" / "b" / "c.json", tmp_path / "c.json", "c.json"])
        assert not list(tmp_path.iterdir())

    def test_a_folder(self, tmp_path):
        with pytest.raises(IsADirectoryError, match=re.escape(str(tmp_path))):
            check_outputs([tmp_path])

    def test_behind_a_link(self, tmp_path):
        """What is written there is written in the other folder, which is a file here."""
        (tmp_path / "file").touch()
        (tmp_path / "link").symlink_to(tmp_path / "file" / "a.json")
        with pytest.raises(NotADirectoryError, match=re.escape(str(tmp_path / "file" / "a.json"))):
            check_outputs([tmp_path / "link"])

    @pytest.mark.parametrize("name", ["a.json", "b/a.json"])
    def test_below_a_file(self, tmp_path, name):
        (tmp_path / "file").touch()
        with pytest.raises(NotADirectoryError, match=re.escape(str(tmp_path / "file" / name))):
            check_outputs([tmp_path / "file" / name])

    @pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="may write everywhere")
    def test_without_the_right_to_write(self, tmp_path):
        tmp_path.chmod(0o500)
        with pytest.raises(PermissionError, match=r"c\.json"):
            check_outputs([tmp_path / "b" / "c.json"])
        tmp_path.chmod(0o700)

    def test_in_a_store(self):
        with pytest.raises(ValueError, match="path of this machine"):
            check_outputs(["s3://bucket/a.json"])


def test_json_takes_arrays_and_paths(tmp_path):
    data = {"a": np.float32(1.5), "b": np.arange(3), "c": pathlib.PurePosixPath("x/y")}
    write_json(tmp_path / "a.json", data)
    assert read_json(tmp_path / "a.json") == {"a": 1.5, "b": [0, 1, 2], "c": "x/y"}


def test_json_keeps_names_that_are_not_utf8(tmp_path):
    name = os.fsdecode(b"\xff.jpg")
    write_json(tmp_path / "a.json", name)
    assert (tmp_path / "a.json").read_bytes() == b'"\\udcff.jpg"\n'
    assert read_json(tmp_path / "a.json") == name


def test_broken_json_names_the_file(tmp_path):
    (tmp_path / "a.json").write_text('{"a": ')
    with pytest.raises(ValueError, match=r"a\.json"):
        read_json(tmp_path / "a.json")


@pytest.mark.parametrize(
    ("save", "rows"),
    [(np.savez, np.array([{}], object)), (np.savez_compressed, np.zeros(9))],
    ids=["pickles", "compressed"],
)
def test_arrays_that_we_do_not_write_are_not_read(tmp_path, save, rows):
    save(tmp_path / "a.npz", rows=rows)
    assert read_arrays(tmp_path / "a.npz") is None
    np.savez(tmp_path / "a.npz", rows=np.zeros(9))
    assert list(read_arrays(tmp_path / "a.npz")) == ["rows"]
