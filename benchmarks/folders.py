"""Memory and time of a command for photos that lie in a folder each, and for all in one folder.

    python benchmarks/folders.py --photos=1000,10000,100000 --output=folders.json

The photos are links to a few pictures of 16×16 pixels, with two points each. `lists` is what crop,
predict and train do before they open the first picture: find the photos, read their labels, name
the outputs. `evaluate` scores a CSV file of predictions. Each is a process of its own, whose peak
of resident memory is told, less that of the same for 10 photos. Linux.
"""

import os
import pathlib
import subprocess
import sys
import tempfile
import time

import cv2
import numpy as np
from absl import flags

from keras_lapkl._support import app, console

_PHOTOS = flags.DEFINE_list("photos", ["1000", "10000"], "How many, by commas.")
_OUTPUT = flags.DEFINE_string("output", None, "JSON file to write.")

_FEW = 10
_LINKS = 10_000  # file systems count the names of a file, some with 16 bits

_LISTS = """
import sys
from keras_lapkl._support import folders, names
from keras_lapkl.data import datasets, images
photos = images.find_images(sys.argv[1])
stems = names.output_stems(names.names_below(photos, sys.argv[1]))
with folders.owned(sys.argv[2]):
    folders.announce(sys.argv[2], "predict", ((f"{s}.pts", n) for n, s in stems.items()))
datasets.read("csv", sys.argv[1], sys.argv[3])
"""


def main(_):
    from keras_lapkl._support.files import write_json
    from keras_lapkl._support.provenance import run_provenance

    rows = []
    for layout in ("one folder", "a folder each"):
        base = None
        for count in (_FEW, *map(int, _PHOTOS.value)):
            with tempfile.TemporaryDirectory() as folder:
                measured = _measure(pathlib.Path(folder), layout, count)
            if base is None:
                base = measured
                continue
            for name, (mb, seconds) in measured.items():
                row = {"photos": count, "layout": layout, "command": name, "seconds": seconds}
                rows.append({**row, "mb": mb - base[name][0], "base_mb": base[name][0]})
    rows.sort(key=lambda row: (row["command"], row["photos"]))
    print(
        console.aligned(
            [
                ("command", "photos", "layout", "MB more", "seconds"),
                *(
                    (r["command"], f"{r['photos']:,}", r["layout"])
                    + (f"{r['mb']:.0f}", f"{r['seconds']:.1f}")
                    for r in rows
                ),
            ]
        )
    )
    if _OUTPUT.value:
        provenance = run_provenance()
        write_json(_OUTPUT.value, {"rows": rows, "provenance": provenance})


def _measure(folder, layout, count):
    """Peak in MB and seconds of each command."""
    data, out = folder / "data", folder / "out"
    _make(data, layout, count)
    labels = data / "labels.csv"
    evaluate = [
        *("-m", "keras_lapkl", "evaluate", "--dataset=csv", f"--data_dir={data}"),
        *(f"--split={labels}", f"--predictions={labels}", f"--output_dir={out}"),
        "--normalizer=hull_diagonal",
    ]
    lists = ["-c", _LISTS, str(data), str(out), str(labels)]
    return {"evaluate": _run(evaluate), "lists": _run(lists)}


def _make(data, layout, count):
    data.mkdir()
    rng = np.random.default_rng(0)
    with (data / "labels.csv").open("w") as file:
        file.write("path,a_x,a_y,b_x,b_y\n")
        for i in range(count):
            name = f"{i}/photo.png" if layout == "a folder each" else f"{i}.png"
            path = data / name
            path.parent.mkdir(exist_ok=True)
            if i % _LINKS == 0:
                cv2.imwrite(str(path), rng.integers(0, 256, (16, 16, 3)).astype(np.uint8))
                first = path
            else:
                os.link(first, path)
            file.write(f"{name},1,1,12,{i % 10}\n")


def _run(words):
    start = time.monotonic()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen([sys.executable, *words], stdout=said, stderr=said)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            raise ValueError(f"{words} failed: {said.read().decode(errors='replace')[-2000:]}")
    return 1024e-6 * used.ru_maxrss, time.monotonic() - start


if __name__ == "__main__":
    sys.exit(app.run_main(main))
