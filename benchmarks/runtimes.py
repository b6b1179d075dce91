"""Times one face by .tflite files and by the same network in PyTorch and ONNX Runtime, interleaved.

    pip install torch onnxruntime onnx onnxscript
    python benchmarks/runtimes.py --model=model.keras --tflite=float32.tflite,int8.tflite \\
        --threads=1 --dataset=300w --data_dir=300w --output=runtimes.json

Every candidate takes a crop and gives landmarks and scales, decoding included; how far they are
from Keras's, on average over faces, stands beside the times. The PyTorch net has Keras's weights
and the paper's head, so --model must; the .tflite files may be of any other. Milliseconds: median
and quartiles over rounds. Without onnxruntime, onnx and onnxscript these candidates are left out.
"""

import functools
import pathlib
import sys
import tempfile

import numpy as np
from absl import flags, logging

from keras_lapkl._support import app
from keras_lapkl._support.tensorflow import quiet_tensorflow
from keras_lapkl.data.datasets import dataset_names

_MODEL = flags.DEFINE_string("model", None, "A .keras file of the paper's head.", required=True)
_TFLITE = flags.DEFINE_list("tflite", [], "Files of tools/convert.py, by commas.")
_THREADS = flags.DEFINE_integer("threads", 1, "Threads of each candidate.", lower_bound=1)
_ROUNDS = flags.DEFINE_integer("rounds", 100, "Timed rounds.", lower_bound=1)
_DATASET = flags.DEFINE_enum("dataset", "synthetic", dataset_names(), "Faces.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder of the data; not for synthetic faces.")
_FACES = flags.DEFINE_integer("faces", 50, "Faces to compare on, and to fit int8 to.", 1)
_OUTPUT = flags.DEFINE_string("output", None, "JSON file to write.")


_QUANTIZED = ["Conv", "LeakyRelu", "MaxPool", "Concat", "Resize"]
"""Operators of the network itself, as in this package's int8."""


def main(_):
    quiet_tensorflow()
    import timing

    from keras_lapkl import load_model
    from keras_lapkl._support.files import write_json
    from keras_lapkl._support.provenance import run_provenance
    from keras_lapkl.data import datasets

    model = load_model(_MODEL.value)
    crops = datasets.load(
        _DATASET.value,
        _DATA_DIR.value,
        "validation",
        image_size=model.image_size,
        crop_scale=model.crop_scale,
        scheme=model.scheme,
        num_synthetic=_FACES.value if _DATASET.value == "synthetic" else None,
    )
    faces = crops.central()[:: -(-len(crops) // _FACES.value)].astype(np.float32) / 255
    with tempfile.TemporaryDirectory() as folder:
        candidates = dict(_candidates(model, faces, pathlib.Path(folder)))
        expected = model.predict(faces, verbose=0)
        distances = {name: _distance(run, faces, expected) for name, run in candidates.items()}
        work = {
            name: timing.repeated(functools.partial(run, faces[0]), 3)
            for name, run in candidates.items()
        }
        seconds = timing.take_turns(work, _ROUNDS.value)
    results = {name: timing.summary(1e3 * taken) for name, taken in seconds.items()}
    ratios = {name: timing.summary(seconds["torch"] / taken) for name, taken in seconds.items()}
    print(timing.table("ms a face", {f"{_THREADS.value} threads": results, "torch : this": ratios}))
    print("\nMean distance from Keras, px: ", end="")
    print(", ".join(f"{name} {distance:.2g}" for name, distance in distances.items()))
    provenance = run_provenance()
    for name in ("torch", "onnxruntime"):
        if name in sys.modules:
            provenance["versions"][name] = sys.modules[name].__version__
    print(timing.where(provenance, _THREADS.value))
    if _OUTPUT.value:
        found = {"milliseconds": results, "torch_over": ratios, "distance": distances}
        write_json(_OUTPUT.value, {**found, "provenance": provenance})


def _candidates(model, faces, folder):
    """Names and functions from a crop (S, S, 3) to landmarks and scale."""
    from keras_lapkl.tflite import TFLiteLocalizer

    for path in map(pathlib.Path, _TFLITE.value):
        yield "/".join(path.parts[-2:]), TFLiteLocalizer(path, _THREADS.value)

    import torch
    import torch_rcn

    torch.set_num_threads(_THREADS.value)
    net = torch_rcn.Localizer(model.generator).eval()

    def by_torch(net, face):
        with torch.inference_mode():
            return [value.numpy() for value in net(torch.from_numpy(face)[None])]

    yield "torch", functools.partial(by_torch, net)
    compiled = torch.compile(net)
    yield "torch, compiled", functools.partial(by_torch, compiled)
    try:
        import onnx  # noqa: F401
        import onnxruntime
        import onnxscript  # noqa: F401
        from onnxruntime import quantization
    except ImportError as error:
        logging.warning("Without ONNX Runtime: %s", error)
        return
    plain, int8 = folder / "float32.onnx", folder / "int8.onnx"
    shape = (1, model.image_size, model.image_size, 3)
    torch.onnx.export(
        net, (torch.zeros(shape),), plain, dynamo=True, verbose=False, input_names=["image"]
    )
    quantization.quantize_static(
        plain, int8, _Reader(faces), per_channel=True, op_types_to_quantize=_QUANTIZED
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = _THREADS.value
    for name, path in (("onnxruntime", plain), ("onnxruntime, int8", int8)):
        session = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])
        yield name, lambda face, session=session: session.run(None, {"image": face[None]})


class _Reader:
    """Faces as ONNX Runtime's quantization asks for them, one by one."""

    def __init__(self, faces):
        self._left = iter(faces)

    def get_next(self):
        face = next(self._left, None)
        return None if face is None else {"image": face[None]}


def _distance(run, faces, expected):
    found = np.stack([np.reshape(run(face)[0], (-1, 2)) for face in faces])
    return float(np.linalg.norm(found - expected["landmarks"], axis=-1).mean())


if __name__ == "__main__":
    sys.exit(app.run_main(main))
