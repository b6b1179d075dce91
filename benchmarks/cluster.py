"""What a Dask cluster costs: photos a second by workers, beside processes of this machine.

    python benchmarks/cluster.py --input_dir=photos --model=fpn-eighth-300w-int8
    python benchmarks/cluster.py --names=10000000

The first crops the photos by processes of this machine and by workers of a local cluster,
alternately, and compares the shards byte by byte; with --kill_every workers are killed with -9
meanwhile. The engine alone carries results of 9.3 kB that cost nothing. The second lists files that
are not there, as many as --names, and says what memory that takes.
"""

import collections
import contextlib
import filecmp
import itertools
import os
import pathlib
import random
import statistics
import sys
import tempfile
import threading
import time

import psutil
from absl import flags

from keras_lapkl._support import app, cluster, console, workers
from keras_lapkl.data.unlabeled import shards
from keras_lapkl.data.unlabeled.listing import Listing
from keras_lapkl.detection import first_pass

_INPUT_DIR = flags.DEFINE_string("input_dir", None, "Folder of photos.")
_MODEL = flags.DEFINE_string("model", None, "Locates the faces; default the middle of a photo.")
_WORKERS = flags.DEFINE_list("workers", ["1", "2"], "Numbers of workers.")
_ROUNDS = flags.DEFINE_integer("rounds", 3, "How often each is measured.", lower_bound=1)
_KILL_EVERY = flags.DEFINE_float("kill_every", None, "Mean seconds between two kills of workers.")
_ITEMS = flags.DEFINE_integer("items", 20_000, "Results of the engine alone.", lower_bound=1)
_NAMES = flags.DEFINE_integer("names", None, "Lists so many files that are not there.")

_FACE = b"x" * 9300  # a face as it is stored
_FOLDER = 1000  # files in a folder of the simulated listing


def main(_):
    if _NAMES.value is not None:
        print(console.aligned(_listing(_NAMES.value)))
    elif _INPUT_DIR.value is not None:
        print(console.aligned(_photos()))
        print(console.aligned(_engine()))
    else:
        raise ValueError("Give --input_dir, or --names for the listing alone.")


def _photos():
    """Photos a second and processor time a photo, by processes and by a cluster's workers."""
    model = _MODEL.value
    locate = first_pass.ByModel(model) if model else first_pass.ByBox((0.3, 0.3, 0.7, 0.7))
    rows = [("by", "workers", "photos/s", "ms of processors/photo", "kills", "bytes equal")]
    found = collections.defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for turn, number in itertools.product(range(_ROUNDS.value), map(int, _WORKERS.value)):
            for engine in ("processes", "cluster"):
                out = folder / f"{engine}-{number}-{turn}"
                found[engine, number].append((*_crop(engine, number, locate, out), out))
        first = folder / f"processes-{_WORKERS.value[0]}-0"
        for (engine, number), measured in found.items():
            rates, costs, kills, folders = zip(*measured, strict=True)
            equal = all(_are_equal(first, each) for each in folders)
            row = (f"{statistics.median(rates):.1f}", f"{1000 * statistics.median(costs):.2f}")
            rows.append((engine, str(number), *row, str(sum(kills)), "yes" if equal else "NO"))
    return rows


def _crop(engine, number, locate, out):
    """Photos a second, seconds of processors a photo, and kills; without the cluster's start."""
    with contextlib.ExitStack() as stack:
        how = {"workers": number}
        if engine == "cluster":
            how = {"scheduler": stack.enter_context(_local(number))}
        meter, killer = stack.enter_context(_Meter()), stack.enter_context(_Killer(engine))
        start = time.perf_counter()
        about = shards.crop_folder(
            _INPUT_DIR.value, out, locate, shard_size=500, progress=False, **how
        )
        seconds = time.perf_counter() - start
        photos = about["used"] + about["skipped"]
        return photos / seconds, meter.seconds() / photos, killer.kills


@contextlib.contextmanager
def _local(number):
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=number, threads_per_worker=1, dashboard_address=None) as local,
        Client(local, set_as_default=False) as client,
    ):
        client.wait_for_workers(number)
        yield local.scheduler_address


class _Meter:
    """Processor time of this process and all below it, those that ended included."""

    def __enter__(self):
        self._used, self._over = {}, threading.Event()
        self._look()
        self._before = sum(self._used.values())
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join()

    def seconds(self):
        self._look()
        return sum(self._used.values()) - self._before

    def _watch(self):
        while not self._over.wait(0.2):
            self._look()

    def _look(self):
        me = psutil.Process()
        for process in (me, *me.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                self._used[process.pid, process.create_time()] = times.user + times.system


class _Killer:
    """Kills workers of this machine with -9 at random times."""

    def __init__(self, engine):
        self.kills = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._kill, args=(random.Random(0),))

    def __enter__(self):
        if _KILL_EVERY.value:
            self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        if _KILL_EVERY.value:
            self._thread.join()

    def _kill(self, rng):
        while not self._over.wait(rng.expovariate(1 / _KILL_EVERY.value)):
            below = psutil.Process().children(recursive=True)
            with contextlib.suppress(psutil.Error):
                spawned = [each for each in below if "spawn_main" in " ".join(each.cmdline())]
                if spawned:
                    rng.choice(spawned).kill()
                    self.kills += 1


def _are_equal(folder, other):
    names = sorted(os.listdir(folder))
    return names == sorted(os.listdir(other)) and not any(
        filecmp.cmpfiles(folder, other, names, shallow=False)[1:]
    )


def _face(item):
    return [(_FACE, (0, len(_FACE), 0))], []


def _engine():
    """Results a second and processor time a result, where the work itself costs nothing."""
    rows = [("engine alone", "results/s", "ms of processors/result")]

    def batches(count):
        for start in range(0, count, 16):
            yield [(f"{i:09d}.jpg", (12345, 10**18)) for i in range(start, min(start + 16, count))]

    def measured(name, results):
        next(results)  # the start
        with _Meter() as meter:
            start = time.perf_counter()
            count = sum(1 for _ in results)
            seconds = time.perf_counter() - start
            rows.append((name, f"{count / seconds:,.0f}", f"{1000 * meter.seconds() / count:.3f}"))

    items = _ITEMS.value
    measured("processes", workers.map_in_order(_face, batches(items), 1, None))
    with _local(1) as scheduler:
        none = cluster.map_in_order(_face, batches(items), scheduler, None, lambda result: "")
        measured("cluster", none)
    return rows


def _listing(count):
    """Seconds and memory of listing files that are not there, and of handing their names out."""
    before, start = _resident(), time.perf_counter()
    photos = Listing(pathlib.Path("/"), _names(count), 4096)
    listed, most = time.perf_counter() - start, _resident()
    given = 0
    for shard in range(-(-count // 4096)):
        if shard % 20 == 0:
            given += sum(map(len, photos.batches(shard)))
            most = max(most, _resident())
    assert given and len(photos) == count
    return [
        ("names", "list, s", "MB before", "most MB", "bytes a name"),
        (
            f"{count:,}",
            f"{listed:.0f}",
            f"{before / 2**20:.0f}",
            f"{most / 2**20:.0f}",
            f"{(most - before) / count:.1f}",
        ),
    ]


def _resident():
    return psutil.Process().memory_info().rss


def _names(count):
    """Names as a crawl has them, in their order, with sizes and times that look like such."""
    rng, numbers = random.Random(0), itertools.count(1)

    def state():
        mixed = next(numbers) * 0x9E3779B97F4A7C15 % 2**64
        return mixed % 85_000 + 5_000, 10**18 + mixed // 20

    for start in range(0, count, _FOLDER):
        stems = sorted(rng.getrandbits(64) for _ in range(min(_FOLDER, count - start)))
        yield from ((f"crawl/{start // _FOLDER:06d}/{stem:016x}.jpg", state()) for stem in stems)


if __name__ == "__main__":
    sys.exit(app.run_main(main))
