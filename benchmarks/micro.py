"""Scores a file for microcontrollers in TFLite Micro's own interpreter, beside LiteRT.

    pip install 'keras_lapkl[micro]'
    python benchmarks/micro.py --model=fpn-sixteenth-micro --data_dir=300w --output=micro.json

Both decode the same way. LiteRT's XNNPACK rounds int8 differently from the reference kernels of
TFLite Micro, so that single landmarks differ. Bytes of the file and of the arena stand beside the
errors.
"""

import sys

import numpy as np
from absl import flags

from keras_lapkl._support import app
from keras_lapkl.data.datasets import dataset_names

_MODEL = flags.DEFINE_string("model", "fpn-sixteenth-micro", "A .tflite file of `lapkl micro`.")
_DATASET = flags.DEFINE_enum("dataset", "300w", dataset_names(), "Faces.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder of the data; not for synthetic faces.")
_SPLIT = flags.DEFINE_string("split", "validation", "Split.")
_NUM_SYNTHETIC = flags.DEFINE_integer("num_synthetic", 50, "Synthetic faces.", lower_bound=1)
_OUTPUT = flags.DEFINE_string("output", None, "JSON file to write.")


def main(_):
    from keras_lapkl import pretrained
    from keras_lapkl._support.files import write_json
    from keras_lapkl._support.provenance import run_provenance
    from keras_lapkl.data import datasets
    from keras_lapkl.evaluation import model_scores
    from keras_lapkl.tflite import TFLiteLocalizer, arena

    path = pretrained.resolve(_MODEL.value, (".tflite",))
    localizer = TFLiteLocalizer(path)
    needed = arena.needed(path.read_bytes(), path)
    crops = datasets.load(
        _DATASET.value,
        _DATA_DIR.value,
        _SPLIT.value,
        image_size=localizer.image_size,
        crop_scale=localizer.crop_scale,
        scheme=localizer.scheme,
        num_synthetic=_NUM_SYNTHETIC.value if _DATASET.value == "synthetic" else None,
    )
    images = crops.central()
    found = {
        "TFLite Micro": by_micro(path, images, localizer.metadata["beta"], needed["total"]),
        "LiteRT": localizer.predict(images),
    }
    scores = {
        name: model_scores.score(each["landmarks"], each["scale"], crops)["nme"]
        for name, each in found.items()
    }
    apart = np.linalg.norm(np.subtract(*(each["landmarks"] for each in found.values())), axis=-1)
    print(f"{path.name}: {path.stat().st_size:,} bytes, arena {needed['total']:,} bytes")
    for name, nme in scores.items():
        print(f"{name}: NME {nme:.3f} % on {len(images)} faces of {crops.name}")
    print(f"apart: {apart.mean():.3f} px on average, at most {apart.max():.2f}")
    if _OUTPUT.value is not None:
        write_json(
            _OUTPUT.value,
            {
                "model": path.name,
                "bytes": path.stat().st_size,
                "arena": needed,
                "faces": len(images),
                "nme": scores,
                "apart": {"mean": float(apart.mean()), "max": float(apart.max())},
                "provenance": run_provenance(),
            },
        )


def by_micro(path, images, beta, arena_bytes):
    """Landmarks and scales of images by TFLite Micro, as `TFLiteLocalizer.predict`."""
    from tflite_micro.python.tflite_micro import runtime

    from keras_lapkl.tflite import axes, runner

    interpreter = runtime.Interpreter.from_file(str(path), arena_size=arena_bytes)
    image = interpreter.get_input_details(0)
    steps = [
        interpreter.get_output_details(i)["quantization_parameters"]["scales"][0] for i in (0, 1)
    ]
    found = []
    for each in images:
        interpreter.set_input(runner.as_input(each, image), 0)
        interpreter.invoke()
        logits = [interpreter.get_output(i).astype(np.float32) * steps[i] for i in (0, 1)]
        found.append(axes.decode(*(each.reshape(-1, each.shape[-1]) for each in logits), beta))
    return dict(zip(runner.OUTPUTS, np.swapaxes(found, 0, 1), strict=True))


if __name__ == "__main__":
    sys.exit(app.run_main(main))
