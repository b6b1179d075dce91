"""Crops from and to a store that speaks S3, on loopback: a process of its own for each reader."""

import csv
import io
import random
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

from keras_lapkl._support import stores
from keras_lapkl.data.synthetic.faces import synthetic_faces
from keras_lapkl.data.unlabeled import shards

pytest.importorskip("s3fs")
server = pytest.importorskip("moto.server")

SCRIPT = "tools/crop.py"
BOX = ("--crop_by=box", "--box=0.3,0.3,0.7,0.7", "--image_size=32", "--shard_size=10")


@pytest.fixture(scope="module")
def s3():
    """A store with an empty bucket; all processes begun meanwhile find it."""
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    running.start()
    host, port = running.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        import s3fs

        files = s3fs.S3FileSystem(use_listings_cache=False, skip_instance_cache=True)
        files.mkdir("bucket")
        yield files
    running.stop()


@pytest.fixture(scope="module")
def photos(s3, tmp_path_factory):
    """A folder of 64 photos, and two that are none; the same is in the bucket."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "a ü").mkdir()
    for i, face in enumerate(synthetic_faces(8, image_size=64)[0]):
        data = cv2.imencode(".png", face[..., ::-1])[1].tobytes()
        for j in range(8):
            name = f"a ü/{j:02d}{i}.png" if j % 2 else f"{j:02d}#{i}%20.png"
            (folder / name).write_bytes(data)
    (folder / "broken.png").write_bytes(b"text")
    (folder / "empty.png").write_bytes(b"")
    for path in folder.rglob("*.png"):
        s3.pipe_file(f"bucket/photos/{path.relative_to(folder)}", path.read_bytes())
    return folder


@pytest.fixture(scope="module")
def local(photos, tmp_path_factory):
    """What one process makes of the folder."""
    out = tmp_path_factory.mktemp("local") / "out"
    words = [SCRIPT, f"--input_dir={photos}", f"--output_dir={out}", *BOX, "--workers=1"]
    subprocess.run([sys.executable, *words], check=True, capture_output=True)
    return {path.name: path.read_bytes() for path in out.iterdir()}


def contents(s3, folder):
    return {name.rpartition("/")[2]: s3.cat_file(name) for name in s3.ls(folder, detail=False)}


def assert_equal(found, local):
    """All but what tells names, sizes and times of the listing, and of that the faces' places."""
    assert found.keys() == local.keys()
    for name in found:
        if name.endswith((".tfrecord", ".csv")):
            assert found[name] == local[name], name
        elif name.endswith(".npz"):
            ours, theirs = (np.load(io.BytesIO(each[name])) for each in (found, local))
            np.testing.assert_array_equal(ours["images"], theirs["images"])


@pytest.fixture
def start(after, tmp_path):
    """Crops what is in the bucket; what it says is in `tool.said`."""

    def begin(out, *more, code=""):
        words = [SCRIPT, "--input_dir=s3://bucket/photos", f"--output_dir={out}", *BOX, *more]
        said = (tmp_path / "said").open("w+")
        tool = subprocess.Popen(after(code, *words), stderr=said)
        tool.said = said
        return tool

    return begin


def ended(tool, status):
    assert tool.wait(200) == status, tool.said.seek(0) or tool.said.read()
    tool.said.seek(0)
    return tool.said.read()


def finished(s3, folder):
    return s3.glob(f"{folder}/*.npz")


def test_killed_and_given_again(start, s3, photos, local):
    """The lock of a process of this machine that was killed is taken over."""
    s3.pipe_file("bucket/killed/", b"")  # as consoles make a folder
    tool = start("s3://bucket/killed", "--workers=1")
    while len(before := finished(s3, "bucket/killed")) < 2:
        assert tool.poll() is None
        time.sleep(0.01)
    tool.kill()
    ended(tool, -9)
    assert s3.exists("bucket/killed/.lapkl-lock") and not s3.exists("bucket/killed/skipped.csv")
    before = {name: s3.info(name)["LastModified"] for name in before}
    time.sleep(1)  # of which S3 counts whole ones
    ended(start("s3://bucket/killed", "--workers=2"), 0)
    s3.rm_file("bucket/killed/")
    assert before == {name: s3.info(name)["LastModified"] for name in before}
    found = contents(s3, "bucket/killed")
    assert_equal(found, local)
    rows = list(csv.reader(found["skipped.csv"].decode().splitlines()))
    assert [row[0] for row in rows] == ["photo", "broken.png", "empty.png"]
    faces = shards.read_shards("s3://bucket/killed")
    assert faces.gather([63, 0, 7]).shape == (3, 44, 44, 3)


def test_by_a_cluster_whose_workers_are_killed(dask_cluster, start, s3, photos, local, tmp_path):
    rng, kills = random.Random(0), 0
    code = "from keras_lapkl._support import cluster; cluster.PIECE = 4"
    slow = dask_cluster.slowed(tmp_path / "slow", 0.05)
    with dask_cluster.running(tmp_path / "dask", PYTHONPATH=slow) as scheduler:
        tool = start("s3://bucket/cluster", f"--scheduler={scheduler}", code=code)
        while tool.poll() is None:
            time.sleep(0.1)
            if len(finished(s3, "bucket/cluster")) > 2 * kills < 4:
                kills += dask_cluster.kill_a_worker(scheduler, rng)
        ended(tool, 0)
    assert kills
    assert_equal(contents(s3, "bucket/cluster"), local)


def test_a_listing_as_only_stores_have(s3, photos):
    s3.pipe({"bucket/odd/a.png/b.png": b"", "bucket/odd/a.png": b"", "bucket/odd//c.png": b""})
    s3.pipe({"bucket/odd/": b"", "bucket/odd/a-.png": b""})
    import collections

    from keras_lapkl.data.images import walk_listed

    passed_by = collections.Counter()
    found = list(walk_listed("s3://bucket/odd", (".png",), passed_by))
    assert [name for name, _ in found] == ["a-.png", "a.png", "a.png/b.png"]
    assert passed_by == {"folders without a name": 1}
    for name, state in found:
        assert (stores.at("s3://bucket/odd") / name).state() == state


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--input_dir=s3://none/photos",), "There is none at s3://none/photos"),
        (("--output_dir=s3://none/out",), "s3://none/out/.lapkl-lock can't be written: there is"),
        (("--input_dir=s3://",), "Expected one address with a bucket"),
        (("--input_dir=gs://bucket/photos",), "gs://bucket/photos needs another package:"),
        (("--output_dir=sftp://host/out",), "a kill may leave half a file on sftp://"),
    ],
)
def test_plain_errors(run_tool, s3, photos, flags, said):
    words = (*BOX, "--input_dir=s3://bucket/photos", "--output_dir=s3://bucket/bad", *flags)
    done = run_tool(SCRIPT, *words, check=False, fresh=True)  # with this environment
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert said in line and "Traceback" not in done.stderr
    assert not s3.exists("bucket/bad")


def test_no_answer(start, s3, photos, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    said = ended(start("s3://bucket/bad", "--workers=1"), 1)
    assert "Traceback" not in said
    (line,) = [line for line in said.splitlines() if line.startswith("error: ")]
    assert "s3://bucket/photos: the store does not answer: Could not connect to" in line
