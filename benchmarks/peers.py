"""Other people's landmark models that run offline, on the same faces and interleaved with ours.

    pip install dlib-bin face_recognition_models
    pip download --no-deps mediapipe==0.10.21 && unzip mediapipe-*.whl '*/face_landmark.tflite'
    npm install --prefix face-api @vladmandic/face-api @tensorflow/tfjs \\
        @tensorflow/tfjs-backend-wasm
    python benchmarks/peers.py --tflite=float32.tflite,int8.tflite --data_dir=300w \\
        --mediapipe=mediapipe/modules/face_landmark/face_landmark.tflite --face_api=face-api

NME on 300-W's common set in percent of the distance of the outer eye corners, and milliseconds a
face with one thread: median and quartiles. Only the landmarks are timed, from a crop or a box, as
for ours; a detector comes before all of them. face-api's tiny network answers from a Node.js of its
own, in its turn, and is timed in there, on one thread of WebAssembly: the pipe is not counted. The
crop or box that suits a peer best is chosen on validation faces. Peers may have seen any of these
faces in training: dlib's model was trained on 300-W, as its author says, and neither MediaPipe's
nor face-api's data are public. MediaPipe has 468 points of a mesh of its own; the 68 taken here lie
near, not on, those of 300-W, the jaw least of all.

With --predictions_dir what each finds is written there, in pixels of the photos, for
`lapkl evaluate --predictions`.
"""

import contextlib
import importlib.util
import json
import pathlib
import shutil
import subprocess
import sys

import numpy as np
from absl import flags, logging

from keras_lapkl._support import app
from keras_lapkl._support.tensorflow import quiet_tensorflow

_TFLITE = flags.DEFINE_list("tflite", None, "Files of tools/convert.py, by commas.", required=True)
_MEDIAPIPE = flags.DEFINE_string("mediapipe", None, "MediaPipe's face_landmark.tflite.")
_FACE_API = flags.DEFINE_string("face_api", None, "Folder whose node_modules has face-api.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder of 300-W.", required=True)
_ROUNDS = flags.DEFINE_integer("rounds", 200, "Timed rounds.", lower_bound=1)
_OUTPUT = flags.DEFINE_string("output", None, "JSON file to write.")
_PREDICTIONS_DIR = flags.DEFINE_string("predictions_dir", None, "Folder for what each finds.")

# Points of the mesh nearest to those of 300-W, in the latter's order.
_MESH = (
    *(162, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 389),
    *(71, 63, 105, 66, 107, 336, 296, 334, 293, 301),
    *(168, 197, 5, 4, 75, 97, 2, 326, 305),
    *(33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380),
    *(61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181),
    *(78, 82, 13, 312, 308, 317, 14, 87),
)
_DLIB_SIZE, _MESH_SIZE, _FACE_API_SIZE = 240, 192, 112
_SPARE = 16  # pixels about face-api's crop, to move it in
_STEPS = 3  # faces a round


def main(_):
    import timing

    from keras_lapkl._support.files import write_json
    from keras_lapkl._support.provenance import run_provenance
    from keras_lapkl.tflite import TFLiteLocalizer

    measured, work = {}, {}
    for path in map(pathlib.Path, _TFLITE.value):
        localizer = TFLiteLocalizer(path)
        name = "/".join(path.parts[-2:])
        crops = _load("common", localizer.image_size, localizer.crop_scale)
        measured[name] = _measure(name, lambda crop, run=localizer: run(crop)[0], crops)
        work[name] = _work(localizer, crops.central()[0])
    for name, make in (("dlib", _dlib), ("MediaPipe", _mediapipe), ("face-api", _face_api)):
        try:
            found = make()
        except ImportError as error:
            logging.warning("Without %s: %s", name, error)
            continue
        if found is not None:
            run, crops, setting = found
            measured[f"{name} ({setting})"] = _measure(name, run, crops)
            work[f"{name} ({setting})"] = _work(run, crops.central()[0])
    seconds = timing.take_turns(work, _ROUNDS.value)
    times = {name: timing.summary(1e3 * taken) for name, taken in seconds.items()}
    print(timing.table("ms a face", {"1 thread": times}))
    print("\nNME % on 554 faces of 300-W common: ", end="")
    print(", ".join(f"{name} {nme:.2f}" for name, nme in measured.items()))
    provenance = run_provenance()
    print(timing.where(provenance, 1))
    if _OUTPUT.value:
        found = {"milliseconds": times, "nme": measured, "provenance": provenance}
        write_json(_OUTPUT.value, found)


def _work(run, crop):
    """Work for `timing.take_turns`, by the `seconds` of the last call where `run` tells them."""
    import timing

    def told():
        run(crop)
        return run.seconds

    def work():
        told()  # not counted, as in `timing.repeated`
        return np.mean([told() for _ in range(_STEPS)])

    return work if hasattr(run, "seconds") else timing.repeated(lambda: run(crop), _STEPS)


def _dlib():
    """dlib's shape predictor on a box about the center of a crop, the best on validation."""
    import dlib

    # Not imported: that needs a setuptools which is gone.
    package = importlib.util.find_spec("face_recognition_models")
    if package is None:
        raise ImportError("No module named 'face_recognition_models'")
    models = pathlib.Path(package.origin).parent / "models"
    predictor = dlib.shape_predictor(str(models / "shape_predictor_68_face_landmarks.dat"))
    edge = _DLIB_SIZE / 3  # the longer edge of the five points' box, at crop scale 3

    def runner(side, down):
        half, x, y = side * edge / 2, _DLIB_SIZE / 2, _DLIB_SIZE / 2 + down * edge
        box = dlib.rectangle(*(round(v) for v in (x - half, y - half, x + half, y + half)))

        def run(crop):
            return np.array([(p.x, p.y) for p in predictor(crop, box).parts()], np.float32)

        return run

    validation = _load("validation", _DLIB_SIZE, 3.0)
    settings = [(side, down) for side in (1.6, 1.8, 2.0, 2.2) for down in (-0.1, 0.0, 0.1, 0.2)]
    errors = {setting: _nme(runner(*setting), validation) for setting in settings}
    side, down = best = min(errors, key=errors.get)
    return runner(*best), _load("common", _DLIB_SIZE, 3.0), f"box {side:g}, {down:+g}"


def _mediapipe():
    """MediaPipe's mesh on crops of the scale that is best on validation; None if not given."""
    if _MEDIAPIPE.value is None:
        return None
    from keras_lapkl.tflite.runner import load_interpreter

    interpreter = load_interpreter(_MEDIAPIPE.value)
    image = interpreter.get_input_details()[0]["index"]
    points = max(interpreter.get_output_details(), key=lambda o: np.prod(o["shape"]))["index"]

    def run(crop):
        interpreter.set_tensor(image, crop[None].astype(np.float32) / 255)
        interpreter.invoke()
        mesh = interpreter.get_tensor(points).reshape(-1, 3)[:, :2]
        return mesh[list(_MESH)] - 0.5  # it counts pixels by their corners

    scales = (2.0, 2.5, 3.0, 3.5, 4.0)
    errors = {m: _nme(run, _load("validation", _MESH_SIZE, m)) for m in scales}
    best = min(errors, key=errors.get)
    return run, _load("common", _MESH_SIZE, best), f"crop scale {best:g}"


def _face_api():
    """face-api's tiny network on the crop that is best on validation; None if not given."""
    if _FACE_API.value is None:
        return None
    ask = _node(_FACE_API.value, _FACE_API_SIZE)
    framed = _FACE_API_SIZE + 2 * _SPARE

    def load(split, crop_scale):
        return _load(split, framed, crop_scale * framed / _FACE_API_SIZE)

    def runner(crop_scale, down):
        x, y = _SPARE, _SPARE + round(down * _FACE_API_SIZE / crop_scale)

        def run(frame):
            found = ask(frame[y : y + _FACE_API_SIZE, x : x + _FACE_API_SIZE])
            run.seconds = found["milliseconds"] / 1e3
            points = np.reshape(found["points"], (-1, 2)) - 0.5  # it counts pixels by their corners
            return (points + [x, y]).astype(np.float32)

        run.seconds = None
        return run

    scales, downs = (2.0, 2.25, 2.5, 2.75, 3.0), (0.0, 0.1, 0.2)
    errors = {}
    for crop_scale in scales:
        validation = load("validation", crop_scale)
        errors |= {(crop_scale, down): _nme(runner(crop_scale, down), validation) for down in downs}
    crop_scale, down = best = min(errors, key=errors.get)
    return runner(*best), load("common", crop_scale), f"crop scale {crop_scale:g}, {down:+g}"


def _node(folder, size):
    """A function from crops to the answers of face_api.cjs in a Node.js of its own."""
    if shutil.which("node") is None:
        raise OSError("face-api needs Node.js, and no node is on PATH: apt-get install nodejs")
    script = pathlib.Path(__file__).with_name("face_api.cjs")
    command = ["node", script, folder, str(size)]
    node = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(crop):
        with contextlib.suppress(BrokenPipeError):  # then it gives no answer
            node.stdin.write(crop.tobytes())
            node.stdin.flush()
        answer = node.stdout.readline()
        if not answer:
            raise OSError(
                f"node ended with exit status {node.wait()}, having said why. The packages it "
                "needs stand at the head of benchmarks/peers.py."
            )
        return json.loads(answer)

    return ask


def _load(split, size, crop_scale):
    from keras_lapkl.data import datasets

    return datasets.load("300w", _DATA_DIR.value, split, image_size=size, crop_scale=crop_scale)


def _measure(name, run, crops):
    """`_nme`, having written what was found."""
    from keras_lapkl._support.names import names_below
    from keras_lapkl.data import prediction_files
    from keras_lapkl.evaluation import model_scores

    found = _find(run, crops)
    if _PREDICTIONS_DIR.value:
        path = pathlib.Path(_PREDICTIONS_DIR.value) / f"{name.replace('/', '-')}.json"
        names = names_below(crops.names, _DATA_DIR.value)
        prediction_files.write_predictions(
            path, crops.scheme, names, model_scores.in_photos(found, crops)
        )
    return _mean(found, crops)


def _nme(run, crops):
    """Mean error of landmarks by `run` from each crop, percent."""
    return _mean(_find(run, crops), crops)


def _find(run, crops):
    return np.stack([run(crop) for crop in crops.central()])


def _mean(found, crops):
    from keras_lapkl.evaluation import model_scores

    return float(np.nanmean(model_scores.face_errors(found, crops, "interocular")))


if __name__ == "__main__":
    quiet_tensorflow()
    sys.exit(app.run_main(main))
