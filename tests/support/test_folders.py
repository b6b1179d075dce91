import contextlib
import errno
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading

import pytest

from keras_lapkl._support import folders, locks
from keras_lapkl._support.files import write_json
from keras_lapkl._support.folders import announce, claim, first_fitting, owned

HOLD = """
import sys, time
from keras_lapkl._support.folders import owned
with owned(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """A process that holds `tmp_path / "out"`."""
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "out")],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": root},
    ) as process:
        assert process.stdout.readline() == b"held\n"
        yield process
        process.kill()


@pytest.mark.slow
def test_the_second_process_is_told_who_holds_it(holder, tmp_path):
    with pytest.raises(OSError) as caught, owned(tmp_path / "out"):
        pass
    who = f"process {holder.pid} on {socket.gethostname()} since 2"
    assert str(caught.value).startswith(f"{tmp_path / 'out'} is being written to by {who}")
    assert "name another folder" in str(caught.value)


@pytest.mark.slow
def test_a_process_may_wait_for_its_turn(holder, tmp_path):
    threading.Timer(0.2, holder.kill).start()
    with owned(tmp_path / "out", wait=True):
        assert holder.wait() == -signal.SIGKILL


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_dead_owners_folder_is_taken_over(holder, tmp_path, how):
    holder.send_signal(how)
    holder.wait()
    left = tmp_path / "out" / locks.LOCK
    assert how == signal.SIGINT or left.exists()
    with owned(tmp_path / "out"):
        assert json.loads(left.read_text())["process"] == os.getpid()
    assert not list((tmp_path / "out").iterdir())


def test_one_process_owns_it_once(tmp_path):
    with owned(tmp_path), pytest.raises(OSError, match=f"process {os.getpid()}"), owned(tmp_path):
        pass
    with owned(tmp_path):
        pass


def test_the_first_folder_that_fits(tmp_path):
    """The reason is why the given folder does not fit, and each check after it knows it."""
    told = []

    def check(folder, given):
        told.append((folder.name, given))
        return {"a": "it is full", "a-2": "so is this"}.get(folder.name)

    assert first_fitting(tmp_path / "a", check) == (tmp_path / "a-3", "it is full")
    assert told == [("a", None), ("a-2", "it is full"), ("a-3", "it is full")]
    assert first_fitting(tmp_path / "b", check) == (tmp_path / "b", None)


def test_a_check_that_raises_ends_the_search(tmp_path):
    def check(folder, given):
        raise ValueError(folder.name)

    with pytest.raises(ValueError, match=r"^a$"):
        first_fitting(tmp_path / "a", check)


def test_another_machines_lock_is_not_taken_over(tmp_path):
    about = {"host": "elsewhere", "process": 1, "since": "2026-01-01"}
    (tmp_path / locks.LOCK).write_text(json.dumps(about))
    message = r"process 1 on elsewhere since 2026-01-01\. If .* ended, delete .*\.lapkl-lock"
    with pytest.raises(OSError, match=message), owned(tmp_path):
        pass
    assert json.loads((tmp_path / locks.LOCK).read_text()) == about


def test_a_job_that_slurm_started_anew_takes_its_own_lock_over(tmp_path, monkeypatch):
    about = {"host": "elsewhere", "process": 1, "since": "2026-01-01", "job": "42"}
    (tmp_path / locks.LOCK).write_text(json.dumps(about))
    monkeypatch.setenv("SLURM_JOB_ID", "43")
    with pytest.raises(OSError, match="process 1 on elsewhere"), owned(tmp_path):
        pass
    monkeypatch.setenv("SLURM_JOB_ID", "42")
    with owned(tmp_path):
        assert json.loads((tmp_path / locks.LOCK).read_text())["job"] == "42"


def test_a_lost_machine_is_followed_by_another(tmp_path):
    about = {"host": "elsewhere", "process": 1, "since": "2026-01-01"}
    (tmp_path / locks.LOCK).write_text(json.dumps(about))
    with owned(tmp_path, resume=True):
        held = json.loads((tmp_path / locks.LOCK).read_text())
        assert held["host"] == socket.gethostname()
        # That one lives.
        with pytest.raises(OSError, match="is being written"), owned(tmp_path, resume=True):
            pass
    assert not (tmp_path / locks.LOCK).exists()


@pytest.mark.parametrize("content", [b"", b'{"ho', b'{"host": 1}', b'{"host": "a"\0\0', b"\0" * 99])
def test_a_lock_that_a_crash_cut_is_taken_over(tmp_path, content):
    (tmp_path / locks.LOCK).write_bytes(content)
    with owned(tmp_path):
        assert json.loads((tmp_path / locks.LOCK).read_text())["process"] == os.getpid()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"\xff", b"[]", b"my notes", b"\0" * 9999])
def test_a_file_that_is_no_lock_is_not_written_over(tmp_path, content):
    (tmp_path / locks.LOCK).write_bytes(content)
    with pytest.raises(OSError, match=r"\.lapkl-lock, a file with something else"), owned(tmp_path):
        pass
    assert (tmp_path / locks.LOCK).read_bytes() == content


@pytest.mark.parametrize(
    ("how", "content"),
    [*((os.symlink, each) for each in (None, b"", b"notes")), (os.link, b""), (os.link, b"notes")],
)
def test_a_lock_that_leads_elsewhere_is_left_alone(tmp_path, how, content):
    """A folder of someone else's may have it: what it leads to is not the folder's."""
    victim, out = tmp_path / "victim", tmp_path / "out"
    if content is not None:
        victim.write_bytes(content)
    out.mkdir()
    how(victim, out / locks.LOCK)
    message = r"\.lapkl-lock, a (link|file with another name too), which .* Remove it, or name"
    with pytest.raises(OSError, match=message), owned(out):
        pass
    assert (victim.read_bytes() if victim.exists() else None) == content
    assert os.path.lexists(out / locks.LOCK)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_a_lock_that_is_no_file(tmp_path, make):
    make(tmp_path / locks.LOCK)
    with pytest.raises(OSError, match=r"\.lapkl-lock"), owned(tmp_path):
        pass
    assert (tmp_path / locks.LOCK).exists()


def test_a_longer_lock_is_overwritten_whole(tmp_path):
    about = {"host": socket.gethostname(), "process": 1, "since": "x" * 500}
    (tmp_path / locks.LOCK).write_text(json.dumps(about))
    with owned(tmp_path):
        assert json.loads((tmp_path / locks.LOCK).read_text())["process"] == os.getpid()


def test_a_file_system_without_locks(tmp_path, monkeypatch, caplog):
    def refuse(handle, how):
        raise OSError("no locks")

    monkeypatch.setattr(locks.fcntl, "flock", refuse)
    with owned(tmp_path):
        with owned(tmp_path):  # as another process may
            assert "knows no locks" in caplog.text
            # The root logger's own functions would give the application a handler.
            assert {record.name for record in caplog.records} == {"absl"}
        write_json(tmp_path / "a.json", 1)


@pytest.mark.parametrize("again", [False, True])
def test_a_folder_taken_from_its_owner_is_not_written_to(tmp_path, again):
    """Removed while its process lived; another one may have made it anew."""
    folder = tmp_path / "out"
    with contextlib.ExitStack() as stack, owned(folder):
        write_json(folder / "below" / "a.json", 1)
        shutil.rmtree(folder)
        if again:
            folder.mkdir()
            (folder / locks.LOCK).write_bytes(b"another's")
        stack.enter_context(pytest.raises(OSError, match=f"{folder} was removed, or its"))
        write_json(folder / "below" / "a.json", 2)
    assert not (folder / "below").exists()
    assert (folder / locks.LOCK).exists() == again
    write_json(folder / "a.json", 3)


@pytest.mark.parametrize("has_locks", [True, False])
@pytest.mark.parametrize("name", ["link.json", "below/a.json", "dangling.json"])
def test_nothing_is_written_through_a_link_in_an_owned_folder(
    tmp_path, monkeypatch, name, has_locks
):
    """Whoever made the folder: results are handed on."""
    if not has_locks:
        monkeypatch.setattr(locks, "fcntl", None)
    real, out, victim = tmp_path / "real", tmp_path / "out", tmp_path / "else" / "a.json"
    for folder in (real, victim.parent):
        folder.mkdir()
    out.symlink_to(real)  # the folder itself may be one, for the user has named it
    victim.write_text("mine")
    (out / "link.json").symlink_to(victim)
    (out / "below").symlink_to(victim.parent)
    (out / "dangling.json").symlink_to(tmp_path / "new.json")
    (out / "own").mkdir()
    (out / "inside").symlink_to(out / "own")
    with owned(out):
        write_json(out / "right.json", 1)
        write_json(out / "inside" / "a.json", 1)  # which leads nowhere else
        with pytest.raises(ValueError, match=f"out/{name.split('/')[0]} is a link, .* remove"):
            write_json(out / name, 1)
    assert victim.read_text() == "mine" and not (tmp_path / "new.json").exists()
    write_json(out / "link.json", 1)  # as an output that the user has named
    assert victim.read_text() == "1\n" and (out / "link.json").is_symlink()


def test_a_full_disk_leaves_no_lock(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match=r"No space left.*\.lapkl-lock"), owned(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


def test_a_lock_that_stays_hides_no_error(tmp_path, monkeypatch, caplog):
    def fail(*args, **kwargs):
        raise PermissionError("not permitted")

    with pytest.raises(ZeroDivisionError), folders.owned(tmp_path):
        monkeypatch.setattr(type(tmp_path), "unlink", fail)
        raise ZeroDivisionError
    monkeypatch.undo()
    assert f"{tmp_path / locks.LOCK} stays: not permitted" in caplog.text
    with folders.owned(tmp_path):  # of this machine, it is taken over
        pass
    assert not (tmp_path / locks.LOCK).exists()


def test_what_kills_left_is_cleared_away(tmp_path):
    (tmp_path / "below" / ".lapkl-abcdefgh").mkdir(parents=True)
    with owned(tmp_path):
        assert not list((tmp_path / "below").iterdir())


def test_a_left_folder_whose_lock_is_a_link_is_left_alone(tmp_path):
    left = tmp_path / "out" / ".lapkl-abcdefgh"
    left.mkdir(parents=True)
    (left / "lock").symlink_to(tmp_path / "victim")
    with owned(tmp_path / "out"):
        assert not (tmp_path / "victim").exists()
    assert left.exists()


def _replace(out, command, *names):
    with folders.replacing_announced(out, command) as folder:
        for name in names:
            (folder / name).write_text("new")


class TestClaim:
    def test_other_settings(self, tmp_path):
        claim(tmp_path / "run.json", {"a": 1}, "a run")
        claim(tmp_path / "run.json", {"a": 1}, "a run")
        with pytest.raises(ValueError, match=r"holds a run; .*\n  a: 1 there, 2 now"):
            claim(tmp_path / "run.json", {"a": 2}, "a run")

    def test_a_tuple_is_the_list_that_a_file_keeps(self, tmp_path):
        for _ in range(2):
            folders.claim(tmp_path / "run.json", {"a": {"b": (1, "c")}}, "a run")
        with pytest.raises(ValueError, match="holds a run"):
            folders.claim(tmp_path / "run.json", {"a": {"b": (1, "d")}}, "a run")

    def test_a_setting_that_came_later(self, tmp_path):
        """It is None where it is not given, at any depth."""
        path = tmp_path / "run.json"
        path.write_text('{"teacher": {"width": 0.25}}')
        folders.compare(path, {"teacher": {"width": 0.25, "epochs": None}, "more": None}, "a run")
        with pytest.raises(ValueError, match="'epochs': 3"):
            folders.compare(path, {"teacher": {"width": 0.25, "epochs": 3}}, "a run")

    def test_files_of_something_else(self, tmp_path):
        (tmp_path / "model.keras").touch()
        with pytest.raises(ValueError, match=r"model\.keras is there already"):
            claim(tmp_path / "run.json", {}, "a run", ("*.keras",))
        assert [path.name for path in tmp_path.iterdir()] == ["model.keras"]


class TestAnnounce:
    """Outputs are (name, source)."""

    OUTPUTS = (("a.pts", "a.jpg"), ("clip/", "clip.mp4"), ("results.json", "results"))

    @pytest.mark.parametrize(
        "there", ["a.pts", "a.face1.pts", "a.face12.pts", "clip/000000.pts", "results.json", "clip"]
    )
    def test_a_file_of_something_else(self, tmp_path, there):
        (tmp_path / there).parent.mkdir(exist_ok=True)
        (tmp_path / there).write_text("mine")
        with pytest.raises(ValueError, match=f"{there} is there already, and would be replaced"):
            announce(tmp_path, "predict", self.OUTPUTS)
        assert not (tmp_path / folders.WRITTEN).exists()

    def test_links_lead_out_of_the_folder(self, tmp_path):
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "below").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(ValueError, match="below is there already"):
            announce(tmp_path / "out", "predict", [("below/a.pts", "a.jpg")])

    def test_files_of_an_earlier_run_and_others(self, tmp_path):
        (tmp_path / "b.pts").touch()
        announce(tmp_path, "predict", self.OUTPUTS)
        for name in ("a.pts", "a.face1.pts", "results.json"):
            (tmp_path / name).touch()
        announce(tmp_path, "predict", self.OUTPUTS)
        announce(tmp_path, "predict", [*self.OUTPUTS, ("c.pts", "c.jpg")])
        with pytest.raises(ValueError, match=r"results\.json is there already"):
            announce(tmp_path, "evaluate", [("results.json", "results")])
        with pytest.raises(ValueError, match=r"b\.pts is there already"):
            announce(tmp_path, "predict", [("b.pts", "b.jpg")])
        noted = json.loads((tmp_path / folders.WRITTEN).read_text())
        assert noted == {"predict": ["a.pts", "c.pts", "clip/", "results.json"]}

    @pytest.mark.parametrize("name", ["written.json", ".lapkl-lock"])
    def test_our_own_files(self, tmp_path, name):
        with pytest.raises(ValueError, match="would both be written"):
            announce(tmp_path, "predict", [(f"{name}/", f"{name}.avi")])

    @pytest.mark.parametrize(
        "name", ["../mine.txt", "{}/mine.txt", "x/../../mine.txt", "link/mine.txt"]
    )
    def test_a_record_that_leads_out_of_the_folder_removes_nothing(self, tmp_path, name):
        """Whoever made the folder: results are handed on."""
        out = tmp_path / "out"
        out.mkdir()
        (out / "link").symlink_to(tmp_path)
        (tmp_path / "mine.txt").touch()
        record = {"predict": ["results.json", name.format(tmp_path)]}
        (out / folders.WRITTEN).write_text(json.dumps(record))
        for call in (
            lambda: _replace(out, "predict"),
            lambda: announce(out, "predict", self.OUTPUTS),
        ):
            with pytest.raises(ValueError, match=r"written\.json is not as lapkl writes it"):
                call()
        assert (tmp_path / "mine.txt").exists()

    @pytest.mark.parametrize("name", ["results.json", "a.pts", folders.WRITTEN])
    @pytest.mark.parametrize("is_there", [True, False])
    def test_an_announced_name_that_is_a_link(self, tmp_path, name, is_there):
        """Of a stranger's folder; before anything is done."""
        victim, out = tmp_path / "victim.json", tmp_path / "out"
        out.mkdir()
        (out / folders.WRITTEN).write_text('{"predict": ["a.pts", "results.json"]}')
        if is_there:
            (out / folders.WRITTEN).replace(victim) if name == folders.WRITTEN else victim.touch()
        (out / name).unlink(missing_ok=True)
        (out / name).symlink_to(victim)
        before = victim.read_bytes() if is_there else None
        with pytest.raises(ValueError, match=f"{name} is a link"):
            announce(out, "predict", self.OUTPUTS)
        assert (victim.read_bytes() if victim.exists() else None) == before

    def test_what_was_announced_is_removed_by_whatever_name_the_folder_has(self, tmp_path):
        (tmp_path / "real").mkdir()
        out = tmp_path / "link"
        out.symlink_to(tmp_path / "real")
        announce(out, "evaluate", [("sub/a.png", "a"), ("results.json", "b")])
        (out / "sub").mkdir()
        (out / "sub" / "a.png").touch()
        _replace(out, "evaluate")
        assert not (tmp_path / "real" / "sub" / "a.png").exists()

    def test_what_is_new_takes_the_place_of_all_that_was_announced(self, tmp_path):
        announce(tmp_path, "evaluate", [(name, name) for name in ("a.png", "b", "results.json")])
        for name in ("a.png", "b", "results.json", "mine"):
            (tmp_path / name).write_text("old")
        _replace(tmp_path, "evaluate", "b", "results.json")
        left = {each.name: each.read_text() for each in tmp_path.glob("[!w.]*")}
        assert left == {"b": "new", "results.json": "new", "mine": "old"}
        # What is not there any more may be another's one day.
        assert folders.announced(tmp_path, "evaluate") == {"b", "results.json"}
        (tmp_path / "a.png").write_text("another's")
        with pytest.raises(ValueError, match=r"a\.png is there already"):
            announce(tmp_path, "evaluate", [("a.png", "a.png")])

    def test_what_was_not_announced_is_not_put_in_place(self, tmp_path):
        announce(tmp_path, "evaluate", [("b", "b"), ("results.json", "results.json")])
        (tmp_path / "results.json").write_text("old")
        (tmp_path / "mine").write_text("old")
        with pytest.raises(ValueError, match=r"evaluate has not announced \['mine'\]"):
            _replace(tmp_path, "evaluate", "b", "mine")
        assert (tmp_path / "mine").read_text() == (tmp_path / "results.json").read_text() == "old"

    def test_after_an_error_all_is_as_it_was(self, tmp_path):
        announce(tmp_path, "evaluate", [("b", "b"), ("results.json", "results.json")])
        (tmp_path / "results.json").write_text("old")
        with (
            pytest.raises(OSError, match="full"),
            folders.replacing_announced(tmp_path, "evaluate") as folder,
        ):
            (folder / "b").write_text("new")
            raise OSError("full")
        assert {each.name for each in tmp_path.iterdir()} == {"results.json", folders.WRITTEN}
        assert (tmp_path / "results.json").read_text() == "old"

    @pytest.mark.parametrize("content", ["[]", '{"predict": 3}', "no JSON", '{"predict": [3]}'])
    def test_a_record_of_something_else(self, tmp_path, content):
        (tmp_path / folders.WRITTEN).write_text(content)
        with pytest.raises(ValueError, match=r"written\.json is not"):
            announce(tmp_path, "predict", self.OUTPUTS)
