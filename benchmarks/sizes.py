"""What networks of each width and head cost: parameters, multiply-adds, bytes, milliseconds.

    python benchmarks/sizes.py --output=sizes.json

The networks are untrained: none of these numbers depends on the weights. Times are medians of
rounds interleaved with one thread, decoding included, and faces a second their inverse. Beside them
stand the frames a second of the paper's Table 3, on other hardware (a 2.8 GHz i7) and another
stack.
"""

import pathlib
import sys
import tempfile

from absl import flags, logging

from keras_lapkl._support import app, console
from keras_lapkl._support.tensorflow import quiet_tensorflow
from keras_lapkl._support.widths import parse_width

_WIDTHS = flags.DEFINE_list("widths", ["1", "1/2", "1/4", "1/8", "1/16"], "Widths, by commas.")
_NETWORKS = flags.DEFINE_list(
    "networks", ["paper", "linear", "marginal", "mobile_fpn"], "Heads of the RCN, or mobile_fpn."
)
_ROUNDS = flags.DEFINE_integer("rounds", 50, "Timed rounds.", lower_bound=1)
_LANDMARKS = flags.DEFINE_integer("landmarks", 68, "K.", lower_bound=1)
_IMAGE_SIZE = flags.DEFINE_integer("image_size", 80, "Side of the images, pixels.")
_OUTPUT = flags.DEFINE_string("output", None, "JSON file to write.")

_PAPER_FPS = {"1": 4.92, "1/2": 11.92, "1/4": 16.77, "1/8": 21.38, "1/16": 26.51}


def main(_):
    quiet_tensorflow()
    import numpy as np

    import keras_lapkl
    from keras_lapkl._support.files import write_json
    from keras_lapkl._support.provenance import run_provenance
    from keras_lapkl.export import conversion
    from keras_lapkl.models.costs import multiply_adds
    from keras_lapkl.tflite import latency

    faces = np.random.default_rng(0).random((4, *2 * (_IMAGE_SIZE.value,), 3), np.float32)
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for width in _WIDTHS.value:
            for network in _NETWORKS.value:
                logging.info("Convert width %s, %s.", width, network)
                size = (_LANDMARKS.value, parse_width(width), _IMAGE_SIZE.value)
                if network == "mobile_fpn":
                    generator = keras_lapkl.MobileFPN(*size).folded()
                else:
                    generator = keras_lapkl.RCN(*size, head=network)
                row = {
                    "width": width,
                    "network": network,
                    "parameters": generator.count_params(),
                    "multiply_adds": sum(map(multiply_adds, generator.layers)),
                }
                for mode in ("float32", "int8"):
                    path = pathlib.Path(folder) / f"{len(found)}-{mode}.tflite"
                    report = conversion.convert(
                        keras_lapkl.LandmarkLocalizer(generator),
                        path,
                        mode,
                        faces=faces[:1],
                        representative_images=faces if mode == "int8" else None,
                        bounds={},
                    )
                    row[f"{mode}_bytes"] = report["bytes"]
                    row[f"{mode}_path"] = report["path"]
                found.append(row)
        paths = [row.pop(f"{mode}_path") for row in found for mode in ("float32", "int8")]
        times = iter(latency.measure_many(paths, (1,), _ROUNDS.value))
        for row in found:
            row |= {f"{mode}_ms": next(times)["median_ms"] for mode in ("float32", "int8")}
    headings = ("width", "network", "parameters", "M multiply-adds", "float32 kB", "int8 kB")
    headings += ("float32 ms", "int8 ms", "int8 faces/s", "paper's faces/s")
    print(console.aligned([headings, *map(_cells, found)]))
    if _OUTPUT.value:
        provenance = run_provenance()
        write_json(_OUTPUT.value, {"rows": found, "provenance": provenance})


def _cells(row):
    return (
        row["width"],
        row["network"],
        f"{row['parameters']:,}",
        f"{row['multiply_adds'] / 1e6:.1f}",
        f"{row['float32_bytes'] / 1e3:.0f}",
        f"{row['int8_bytes'] / 1e3:.0f}",
        f"{row['float32_ms']:.2f}",
        f"{row['int8_ms']:.2f}",
        f"{1e3 / row['int8_ms']:.0f}",
        str(_PAPER_FPS.get(row["width"], "")) if row["network"] == "paper" else "",
    )


if __name__ == "__main__":
    sys.exit(app.run_main(main))
