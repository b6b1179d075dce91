"""What a power cut leaves, at any moment of a write.

`strace` records what the package's writers ask of the system, and a disk is played that keeps of it
what it must: the content of a file up to its last fsync, and of a folder the names up to its last
fsync. Of all that came later it may keep any part: each name or not, of a file's content none, half
or all. At each moment each such disk is read.
"""

import itertools
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

from keras_lapkl._support.files import is_whole_zip

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).resolve().parents[2]
CALLS = "openat,write,pwrite64,lseek,ftruncate,close,rename,mkdir,unlink,rmdir,fsync,dup"
WRITER = """
import json, os, pathlib, sys, zipfile
from keras_lapkl._support.files import replacing, write_json
from keras_lapkl.data.pts import write_pts
from keras_lapkl.data.unlabeled import shards

folder = pathlib.Path(sys.argv[1])

def returned(name):
    try:
        os.rmdir(f"/returned/{name}")  # only to be seen in the record
    except OSError:
        pass

for i in range(3):
    write_json(folder / "deep" / "below" / "a.json", 9 * [i])
    returned("deep/below/a.json")
for i in range(3):
    write_pts(folder / "a.pts", [[i, i]])
    returned("a.pts")
for i in range(4):
    with replacing(folder / "last.keras", folder / "last.previous.keras") as temporary:
        with zipfile.ZipFile(temporary, "w") as file:
            file.writestr("weights", 99 * f"{i}")
    returned("last.keras")
cut = shards._Cut([(b"face", (0, 4, 0))], [])
shards._write_shard(folder / "shard.tfrecord", "0", ["a.jpg"], [cut])
returned("shard.npz")
"""


class Disk:
    """Names and contents, those that are safe and those that may be lost."""

    def __init__(self, root, targets):
        self.root = root
        self.watched = {str(above) for t in targets for above in (t, *t.parents)}
        self.names = {}  # path to number of file, or "folder": what programs see
        self.safe_names = {}
        self.pending = []  # (folder, {path: number or None}) not yet synced
        self.content, self.safe_content = {}, {}
        self.open = {}  # handle to [number of file or path of folder, place]

    def change(self, changed):
        self.names.update(changed)
        if kept := {path: what for path, what in changed.items() if path in self.watched}:
            self.pending.append((os.path.dirname(next(iter(kept))), kept))

    def openat(self, path, flags, handle):
        if not path.startswith(self.root):
            return
        if self.names.get(path) is None and "O_CREAT" in flags:
            number = len(self.content)
            self.content[number] = self.safe_content[number] = b""
            self.change({path: number})
        what = self.names.get(path, "folder")
        if "O_TRUNC" in flags and what != "folder":
            self.content[what] = b""
        self.open[handle] = [path if what == "folder" else what, 0]

    def write(self, handle, data, at=None):
        number, place = self.open[handle]
        start = place if at is None else at
        old = self.content[number].ljust(start, b"\0")
        self.content[number] = old[:start] + data + old[start + len(data) :]
        if at is None:
            self.open[handle][1] = start + len(data)

    def fsync(self, handle):
        what, _ = self.open[handle]
        if isinstance(what, int):
            self.safe_content[what] = self.content[what]
            return
        for folder, changed in self.pending:
            if folder == what:
                self.safe_names.update(changed)
        self.pending = [each for each in self.pending if each[0] != what]

    def after_a_cut(self):
        """What each disk that a power cut may leave has at a path: a function for each."""
        for kept in itertools.product((False, True), repeat=len(self.pending)):
            names = dict(self.safe_names)
            for keep, (_, changed) in zip(kept, self.pending, strict=True):
                names.update(changed if keep else {})
            for share in (0, 0.5, 1):

                def read(path, names=names, share=share):
                    above = [str(p) for p in path.parents if str(p).startswith(self.root + "/")]
                    number = names.get(str(path))
                    if number is None or any(names.get(p) is None for p in above):
                        return None
                    safe, content = self.safe_content[number], self.content[number]
                    if safe == content or share == 0:
                        return safe
                    return content[: int(share * len(content))]

                yield read


def text(quoted):
    return bytes.fromhex(quoted.replace("\\x", ""))


def replayed(record, disk):
    """Plays a record to a disk; yields after each call, with what has returned by then."""
    for line in record.splitlines():
        call = re.match(r"\d+ +(\w+)\((.*)\) += (-?\d+)", line)
        if not call:
            continue
        name, arguments, result = call[1], call[2], int(call[3])
        strings = [text(each) for each in re.findall(r'"((?:\\x..)*)"', arguments)]
        first = arguments.partition(",")[0]
        handle = int(first) if first.isdecimal() else None
        paths = [os.fsdecode(each) for each in strings]
        if name == "rmdir" and paths[0].startswith("/returned/"):
            yield paths[0].removeprefix("/returned/")
        if result < 0 or (handle is not None and handle not in disk.open):
            continue
        if name == "openat":
            disk.openat(paths[0], arguments, result)
        elif name == "write":
            disk.write(handle, strings[0])
        elif name == "pwrite64":
            disk.write(handle, strings[0], int(arguments.rsplit(",", 1)[1]))
        elif name == "lseek":
            disk.open[handle][1] = result
        elif name == "ftruncate":
            size = int(arguments.rsplit(",", 1)[1])
            number = disk.open[handle][0]
            disk.content[number] = disk.content[number][:size].ljust(size, b"\0")
        elif name == "close":
            del disk.open[handle]
        elif name == "dup":
            raise AssertionError("handles that share a place are not played")
        elif name == "fsync":
            disk.fsync(handle)
        elif paths[0].startswith(disk.root):
            if name == "mkdir":
                disk.change({paths[0]: "folder"})
            elif name == "rename":
                disk.change({paths[1]: disk.names[paths[0]], paths[0]: None})
            elif name in ("unlink", "rmdir"):
                disk.change({paths[0]: None})
        yield None


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    """What the writers asked of the system, and the folder that they wrote into."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    root = tmp_path_factory.mktemp("cut")
    folder, said = root / "out", root / "record"
    folder.mkdir()
    words = ["strace", "-f", "-xx", "-s", "1000000", "-e", f"trace={CALLS}", "-o", str(said)]
    done = subprocess.run(
        [*words, sys.executable, "-c", WRITER, str(folder)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if "ptrace" in done.stderr:
        pytest.skip("strace may not be used here")
    assert done.returncode == 0, done.stderr
    return said.read_text(), folder


def cuts(record, *names):
    """(times that the first was written by then, contents) of each disk at each moment."""
    said, folder = record
    targets = [folder / name for name in names]
    disk = Disk(str(folder), targets)
    done = 0
    for returned in replayed(said, disk):
        done += returned == names[0]
        for read in disk.after_a_cut():
            yield done, [read(target) for target in targets]


@pytest.mark.parametrize("name", ["deep/below/a.json", "a.pts"])
def test_a_file_is_the_old_or_the_new_one(record, name):
    _, folder = record
    last = (folder / name).read_bytes()
    texts = [None, *(last.replace(b"2", b"%d" % i) for i in (0, 1, 2))]
    if name == "a.pts":  # counted from 1
        texts = [None, *(last.replace(b"3.000000", b"%d.000000" % (i + 1)) for i in range(3))]
    seen = set()
    for done, (content,) in cuts(record, name):
        assert content in texts[done : done + 2]
        seen.add((done, content))
    # All that may be is seen: the old and the new one before the return, and the new one after.
    assert seen == {(i, texts[j]) for i in range(4) for j in (i, i + 1) if j < 4}


def test_a_whole_checkpoint_is_there(record, tmp_path):
    """The last one or the one before, of no epoch that has passed since longer."""
    names = ("last.keras", "last.previous.keras")
    for done, contents in {(done, tuple(contents)) for done, contents in cuts(record, *names)}:
        whole = []
        for name, content in zip(("last", "previous"), contents, strict=True):
            path = tmp_path / name
            path.write_bytes(content or b"")
            if is_whole_zip(path):
                whole.append(content)
            else:
                assert content is None
        epochs = [int(content[content.index(b"weights") + 7 :][:1]) + 1 for content in whole]
        assert not done or max(epochs) in (done, done + 1)


def test_a_shard_with_an_index_is_whole(record):
    seen = {
        (bool(index), shard) for _, (index, shard) in cuts(record, "shard.npz", "shard.tfrecord")
    }
    assert seen == {(False, None), (False, b"face"), (True, b"face")}


def test_the_disk_loses_what_is_not_synced(record, monkeypatch):
    """The test can fail: without fsync of files or of folders it does."""
    said, folder = record
    last = (folder / "a.pts").read_bytes()
    without = "\n".join(line for line in said.splitlines() if "fsync(" not in line)
    assert any(content not in (None, last) for _, (content,) in cuts((without, folder), "a.pts"))
    assert (3, [None]) in [(done, c) for done, c in cuts((without, folder), "a.pts")]
