import contextlib
import importlib.util
import json
import os
import pathlib
import pickle
import socket
import subprocess
import sys

import pytest

from keras_lapkl._support import files, folders, locks, reading, stores

fsspec = pytest.importorskip("fsspec")


def answered(code, status, said, kind=OSError):
    """As s3fs raises what S3 answers: botocore's error is the cause of one of Python's."""

    response = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    error = kind(said)
    error.__cause__ = named("ClientError", said, response=response)
    return error


def named(name, said, **attributes):
    """An error of another package, told by its name."""
    error = type(name, (Exception,), {})(said)
    vars(error).update(attributes)
    return error


@pytest.fixture
def bucket():
    """A store in this process's memory, with three objects."""
    memory = fsspec.filesystem("memory")
    memory.pipe({"/bucket/a.txt": b"abc", "/bucket/b/c.txt": b"c", "/bucket/empty": b""})
    yield stores.at("memory://bucket")
    memory.rm("/bucket", recursive=True)


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ("photos", pathlib.Path("photos")),
        ("/a:/b", pathlib.Path("/a:/b")),
        (pathlib.Path("s3:/bucket"), pathlib.Path("s3:/bucket")),
        ("file:///data/x", pathlib.Path("/data/x")),
        ("s3://bucket/photos/", stores.StorePath("s3://bucket/photos")),
        ("S3://Bucket", stores.StorePath("s3://Bucket")),
    ],
)
def test_what_is_a_store(given, path):
    assert stores.at(given) == path


@pytest.mark.parametrize("given", ["s3://", "s3:///", "zip://a::s3://bucket/b.zip"])
def test_one_address_with_a_bucket(given):
    with pytest.raises(ValueError, match="Expected one address with a bucket"):
        stores.at(given)


def test_names_are_no_part_of_a_url(bucket):
    for name in ("a#b?c=d", "a%20b", "a::b", "ü b", "a.b/c.d"):
        path = bucket / name
        path.write(b"x")
        assert path.read(0, 1) == b"x" and str(path) == f"memory://bucket/{name}"
        assert pickle.loads(pickle.dumps(path)) == path
    assert (bucket / "x.y/z").suffix == "" and (bucket / "x/z.npz").suffix == ".npz"
    assert bucket / "x" / "z" == (bucket / "x/z.npz").parent / "z"
    assert (bucket / "x/z.tfrecord").with_suffix(".npz") == bucket / "x/z.npz"


def test_reading(bucket):
    path = bucket / "a.txt"
    assert reading.read_bytes(path, 3) == b"abc" and reading.read_part(path, 1, 9) == b"bc"
    assert reading.byte_size(path) == 3 and reading.open_regular(path).read() == b"abc"
    assert reading.read_bytes(bucket / "empty", 3) == b""
    with pytest.raises(ValueError, match=r"a.txt: expected at most 2 bytes. Received: 3"):
        reading.read_bytes(path, 2)
    for missing in (bucket / "b", bucket / "d.txt", stores.at("memory://no/a.txt")):
        assert not missing.exists()
        with pytest.raises(FileNotFoundError, match=str(missing)):
            reading.read_bytes(missing, 3)


def test_a_file_is_whole_or_not_there(bucket):
    with pytest.raises(ZeroDivisionError), files.replacing(bucket / "new.json") as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert not (bucket / "new.json").exists() and not temporary.exists()
    files.write_json(bucket / "new.json", [1])
    assert files.read_json(bucket / "new.json") == [1]


def test_a_state_changes_with_the_content(bucket):
    path = bucket / "a.txt"
    listed = {name: state for name, _, state in bucket.scan()}
    assert listed["a.txt"] == path.state() and listed["a.txt"][0] == 3
    path.write(b"xyz")
    assert listed["a.txt"] != path.state()


def test_a_listing(bucket):
    found = sorted((name, is_folder) for name, is_folder, _ in bucket.scan())
    assert found == [("a.txt", False), ("b", True), ("empty", False)]
    assert list(bucket.glob("*.txt")) == [bucket / "a.txt"]
    assert list((bucket / "none").glob("*")) == []


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("ftp://me:S3CRET@host:21/photos", "ftp://***@host:21/photos"),
        ("ftp://S3CRET@host", "ftp://***@host"),
        ("--input_dir=s3://key:S3/CR+ET@bucket/a", "--input_dir=s3://***@bucket/a"),
        ("ftp://me:S3@CR?ET@host/a", "ftp://***@host/a"),
        ("ftp://me:S3 CRET@host/a", "ftp://***@host/a"),
        (
            "abfss://photos@account.dfs.core.windows.net/a",
            "abfss://photos@account.dfs.core.windows.net/a",
        ),
        ("s3://bucket/what?/b=c@d", "s3://bucket/what?/b=c@d"),
        ("copy s3://bucket, or mail me@home", "copy s3://bucket, or mail me@home"),
        ("https://host/a?token=S3CRET&b=S3CRET", "https://host/a?token=***&b=***"),
        ("get 'https://host/a?S3CRET': no", "get 'https://host/a?***': no"),
        ("s3://bucket/photos@2x/me@home", "s3://bucket/photos@2x/me@home"),
        ("tcp://host:8786/me@home", "tcp://host:8786/me@home"),
        ("me@home: is it /data/a?b=c", "me@home: is it /data/a?b=c"),
    ],
)
def test_no_secret_is_shown(text, shown):
    assert stores.redacted(text) == shown


def test_a_store_with_a_password_is_opened_by_it_and_does_not_show_it(monkeypatch):
    """Packages take an address apart, and tell of its parts."""
    given = []

    def fail(address):
        given.append(address)
        raise OSError(f"no bucket 'me:S3CRET@bucket' (S3CRET) at {address}")

    monkeypatch.setattr("fsspec.core.url_to_fs", fail)
    path = stores.at("s3://me:S3CRET@bucket/photos?key=S3CRET") / "a?b=c.jpg"
    assert str(path) == "s3://***@bucket/photos?key=***/a?b=c.jpg" and path.name == "a?b=c.jpg"
    assert "S3CRET" not in repr(path) + path.parent.name
    assert pickle.loads(pickle.dumps(path)) == path
    with pytest.raises(stores.StoreError) as caught:
        path.state()
    assert given == ["s3://me:S3CRET@bucket/photos?key=S3CRET"]
    assert "S3CRET" not in str(caught.value) and "bucket" in str(caught.value)
    with pytest.raises(ValueError, match="Expected one address") as caught:
        stores.at("zip://a::ftp://me:S3CRET@host/b.zip")
    assert "S3CRET" not in str(caught.value)


class TestErrors:
    @pytest.mark.parametrize(
        ("raised", "said"),
        [
            (PermissionError("Forbidden"), "a.txt: the store refuses: Forbidden. Have its cred"),
            (RuntimeError("no\nroute"), "a.txt: the store does not answer: no route. When it does"),
            (TimeoutError(), "a.txt: the store does not answer: TimeoutError. When it does"),
            (
                answered("ExpiredToken", 400, "It has expired.", PermissionError),
                "a.txt: the store refuses: It has expired. Have its credentials expired? May they "
                "list and read there?",
            ),
            (answered("SlowDown", 503, "Wait."), "does not answer: Wait. When it does"),
            (answered("InternalError", 500, "Oh."), "does not answer: Oh. When it does"),
            (named("HttpError", "quota", code=429), "does not answer: quota. When it does"),
            (named("ServiceError", "busy", status_code=503), "does not answer: busy. When it"),
        ],
    )
    def test_of_any_kind_name_the_object(self, bucket, monkeypatch, raised, said):
        def fail(*args, **kwargs):
            raise raised

        monkeypatch.setattr(type(fsspec.filesystem("memory")), "cat_file", fail)
        with pytest.raises(stores.StoreError) as caught:
            (bucket / "a.txt").read(0, 3)
        assert said in str(caught.value)

    @pytest.mark.parametrize(
        ("raised", "said"),
        [
            (answered("PermanentRedirect", 301, "Elsewhere."), "says: Elsewhere. The bucket is in"),
            (answered("301", 301, "Moved Permanently"), "says: Moved Permanently. The bucket is"),
            (
                answered("RequestTimeTooSkewed", 403, "Too large.", PermissionError),
                "says: Too large. Set the clock of this machine.",
            ),
            (
                answered("NotImplemented", 501, "No.", lambda said: OSError(38, said)),
                "the store says: No.",
            ),
            (answered("InvalidRequest", 400, "Bad."), "the store says: Bad."),
            (named("HttpError", "gone", code=410), "the store says: gone."),
            (ValueError("Bad Request"), "the package of the store says: Bad Request."),
            (
                named("NoCredentialsError", "Unable to locate credentials"),
                "the package of the store has no credentials: Unable to locate credentials. ",
            ),
        ],
    )
    def test_what_will_not_change_is_not_waited_for(self, bucket, monkeypatch, raised, said):
        def fail(*args, **kwargs):
            raise raised

        monkeypatch.setattr(type(fsspec.filesystem("memory")), "cat_file", fail)
        with pytest.raises(stores.StoreError) as caught:
            (bucket / "a.txt").read(0, 3)
        assert said in str(caught.value) and "When it does" not in str(caught.value)
        assert ".." not in str(caught.value)

    def test_credentials_of_each_store(self):
        error = named("NoCredentialsError", "none")
        for url, word in (("s3://b", "AWS_PROFILE"), ("gs://b", "GOOGLE_APPLICATION_CREDENTIALS")):
            assert word in str(stores.at(url)._failed(error, "write", False))

    def test_a_store_that_puts_without_conditions(self, bucket, monkeypatch):
        def fail(*args, **kwargs):
            raise answered("NotImplemented", 501, "A header is not implemented.")

        monkeypatch.setattr(type(fsspec.filesystem("memory")), "pipe_file", fail)
        said = r"lock: the store says: A header is not implemented\. .*\(If-None-Match\)"
        with pytest.raises(stores.StoreError, match=said), folders.owned(bucket):
            pass

    @pytest.mark.parametrize(
        ("operation", "act", "right"),
        [
            ("cat_file", lambda path: path.read(0, 3), "list and read"),
            ("pipe_file", lambda path: path.write(b""), "write"),
            ("rm_file", lambda path: path.remove(), "delete"),
        ],
    )
    def test_the_right_that_is_missing(self, bucket, monkeypatch, operation, act, right):
        def fail(*args, **kwargs):
            raise PermissionError("Access Denied")

        monkeypatch.setattr(type(fsspec.filesystem("memory")), operation, fail)
        with pytest.raises(stores.StoreError, match=f"May they {right} there"):
            act(bucket / "a.txt")

    def test_no_bucket_to_write_to(self, bucket, monkeypatch):
        def fail(*args, **kwargs):
            raise FileNotFoundError

        monkeypatch.setattr(type(fsspec.filesystem("memory")), "pipe_file", fail)
        with pytest.raises(stores.StoreError, match=r"d.txt can't be written: there is no such"):
            (bucket / "d.txt").write(b"")

    def test_the_missing_package_is_named(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "gcsfs", None)
        with pytest.raises(ModuleNotFoundError, match=r"gs://bucket needs another.* gcsfs"):
            stores.at("gs://bucket").exists()
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
        with pytest.raises(ModuleNotFoundError, match=r"fsspec: pip install .*\[stores\]"):
            stores.at("s3://bucket").exists()

    def test_no_such_kind(self):
        with pytest.raises(ValueError, match=r"Received: s4://bucket \(Protocol not known: s4"):
            stores.at("s4://bucket").exists()

    def test_a_store_without_sizes(self, bucket, monkeypatch):
        entries = [{"name": "bucket/a.png", "type": "file", "size": None}]
        monkeypatch.setattr(
            type(fsspec.filesystem("memory")), "ls", lambda *args, **kwargs: list(entries)
        )
        with pytest.raises(ValueError, match="memory:// tells no sizes"):
            list(bucket.scan())

    def test_other_commands_write_to_folders(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        for path in ("s3://bucket/out", pathlib.Path("s3://bucket/out")):
            with pytest.raises(ValueError, match=r"path of this machine.*Received: s3:/"):
                files.write_json(os.path.join(path, "x.json"), [])
        assert not list(tmp_path.iterdir())
        files.make_folder(tmp_path / "s3:" / "x")


class TestOwner:
    @pytest.fixture
    def lock(self, bucket):
        return bucket / locks.LOCK

    def left_by(self, lock, **about):
        about = {"host": socket.gethostname(), "process": 1, "since": "today", **about}
        lock.write(json.dumps(about).encode())

    def test_one_at_a_time(self, bucket, lock):
        with folders.owned(bucket):
            assert lock.exists()
            who = f"process {os.getpid()} on {socket.gethostname()} since 2"
            with (
                pytest.raises(OSError, match=f"memory://bucket is being written to by {who}"),
                folders.owned(bucket),
            ):
                pass
        assert not lock.exists()

    def test_one_of_this_machine_that_has_ended(self, bucket, lock):
        process = subprocess.Popen(["true"])
        process.wait()
        for left in ({"process": process.pid}, {"process": os.getpid()}):
            self.left_by(lock, **left)
            with folders.owned(bucket):
                assert json.loads(lock.read(0, 999))["process"] == os.getpid()

    @pytest.mark.parametrize(
        "left",
        [
            {"host": "elsewhere"},
            {"host": "elsewhere", "process": 2**22 + 1},  # here no process has that number
            {"process": os.getppid()},
            {"process": "x"},
        ],
    )
    def test_others_by_resume_alone(self, bucket, lock, left):
        self.left_by(lock, **left)
        with pytest.raises(OSError, match="add --resume"), folders.owned(bucket):
            pass
        with folders.owned(bucket, resume=True):
            self.left_by(lock, host="elsewhere")  # which has taken it over
        assert lock.exists()

    def test_the_same_job(self, bucket, lock, monkeypatch):
        monkeypatch.setenv("SLURM_JOB_ID", "7")
        self.left_by(lock, host="elsewhere", job="7")
        with folders.owned(bucket):
            pass

    @pytest.mark.parametrize("operation", ["rm_file", "info"])
    def test_a_lock_that_stays(self, bucket, lock, monkeypatch, caplog, operation):
        """It is told, and hides neither a result nor an error."""

        def fail(*args, **kwargs):
            raise PermissionError("Access Denied")

        kind = type(fsspec.filesystem("memory"))
        for error in (None, ZeroDivisionError):
            caplog.clear()
            expected = contextlib.nullcontext() if error is None else pytest.raises(error)
            with expected, folders.owned(bucket):
                monkeypatch.setattr(kind, operation, fail)
                if error is not None:
                    raise error
            monkeypatch.undo()
            assert lock.exists()
            (line,) = caplog.messages
            assert "lapkl-lock: the store refuses: Access Denied" in line
            assert line.endswith("the next run of another machine needs --resume.")
            with folders.owned(bucket):  # of this machine, it is taken over
                pass

    def test_another_object_in_the_place_of_the_lock(self, bucket, lock, caplog):
        with folders.owned(bucket):
            lock.write(b"x" * 9999)
        assert lock.exists() and "The lock stays" in caplog.text

    def test_a_damaged_lock(self, bucket, lock):
        lock.write(b"[")
        with pytest.raises(OSError, match="by another process"), folders.owned(bucket):
            pass

    def test_stores_whose_files_may_be_halves(self):
        folder = stores.at("sftp://host/out")
        with pytest.raises(ValueError, match=r"half a file on sftp://.* s3"), folders.owned(folder):
            pass
