"""Memory of a listing in Ray Data and Apache Beam, which are no part of this package.

    pip install 'ray[data]' apache-beam psutil
    python benchmarks/listing.py ray 1000000
    python benchmarks/listing.py beam 1000000

A task of the engine lists each folder of 1,000 names, which are not there. Ray hands them to one
process in batches of 4,096; Beam counts them. Memory is of this process and all below it, shared
pages counted once (PSS), twice a second. Ours is `benchmarks/cluster.py --names`. Linux.
"""

import json
import pathlib
import random
import sys
import threading
import time

import psutil

_FOLDER = 1000


def names(folder):
    """Names as a crawl has them."""
    rng = random.Random(folder)
    return [f"crawl/{folder:06d}/{rng.getrandbits(64):016x}.jpg" for _ in range(_FOLDER)]


def with_ray(count):
    import ray

    ray.init(num_cpus=2, object_store_memory=2 << 30, include_dashboard=False, log_to_driver=False)
    folders = ray.data.range(count // _FOLDER)
    listed = folders.flat_map(lambda row: [{"name": name} for name in names(row["id"])])
    return sum(len(batch["name"]) for batch in listed.iter_batches(batch_size=4096))


def with_beam(count):
    import apache_beam

    found = pathlib.Path(f"listing-{time.time():.0f}")
    try:
        with apache_beam.Pipeline() as pipeline:
            (
                pipeline
                | apache_beam.Create(range(count // _FOLDER))
                | apache_beam.FlatMap(names)
                | apache_beam.combiners.Count.Globally()
                | apache_beam.io.WriteToText(str(found), num_shards=1, shard_name_template="")
            )
        return int(found.read_text())
    finally:
        found.unlink(missing_ok=True)


class Peak:
    """The most memory of this process and all below it, while the block lasts."""

    def __enter__(self):
        self.most, self._over = 0, threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join()

    def _watch(self):
        while not self._over.wait(0.5):
            me, total = psutil.Process(), 0
            for process in (me, *me.children(recursive=True)):
                try:
                    total += process.memory_full_info().pss
                except psutil.Error:  # it has ended
                    continue
            self.most = max(self.most, total)


def main(engine, count):
    start = time.monotonic()
    with Peak() as peak:
        counted = {"ray": with_ray, "beam": with_beam}[engine](int(count))
    seconds = time.monotonic() - start
    assert counted == int(count), counted
    print(json.dumps({"names": counted, "s": round(seconds), "most_MB": peak.most >> 20}))


if __name__ == "__main__":
    main(*sys.argv[1:])
