"""Whether memory grows over the frames of a video: resident MB after some of them.

    python benchmarks/frames.py --at=1000,5000,10000 --bound_mb=20

A video of painted faces is read again and again, and they are tracked. With --bound_mb, exits with
1 if the last number is further than that above the first.
"""

import itertools
import pathlib
import sys
import tempfile

import cv2
import numpy as np
from absl import flags

from keras_lapkl import pretrained
from keras_lapkl._support import app, console

_AT = flags.DEFINE_list("at", ["1000", "5000", "10000"], "After how many frames to look.")
_MODEL = flags.DEFINE_string("model", pretrained.NAMES[0], "A shipped model or a .tflite file.")
_DETECTOR = flags.DEFINE_string("detector", "blazeface", "Face detector.")
_BOUND_MB = flags.DEFINE_float("bound_mb", None, "Largest growth, MB.", lower_bound=0)
_OUTPUT = flags.DEFINE_string("output", None, "JSON file to write.")

_LENGTH = 200
"""Frames of the video."""


def main(_):
    import resident

    from keras_lapkl._support.files import write_json
    from keras_lapkl._support.provenance import run_provenance
    from keras_lapkl.detection.landmark_detector import LandmarkDetector
    from keras_lapkl.detection.tracking import LandmarkTracker

    at = sorted({int(frame) for frame in _AT.value})
    tracker = LandmarkTracker(LandmarkDetector.from_pretrained(_MODEL.value, _DETECTOR.value))
    found, faces = {0: resident.resident_mb()}, 0
    with tempfile.TemporaryDirectory() as folder:
        frames = _frames(_video(pathlib.Path(folder, "faces.avi")))
        frames = console.reported(itertools.islice(frames, at[-1]), at[-1], "{} of {} frames")
        for number, photo in enumerate(frames, start=1):
            faces += len(tracker(photo, number / 25))
            if number in at:
                found[number] = resident.resident_mb()
    rows = [["frames", *map(str, found)], ["resident MB", *(f"{mb:.1f}" for mb in found.values())]]
    print(console.aligned(rows))
    print(f"{faces / at[-1]:.2f} faces a frame.")
    if _OUTPUT.value:
        provenance = run_provenance()
        write_json(_OUTPUT.value, {"resident_mb": found, "provenance": provenance})
    growth = found[at[-1]] - found[at[0]]
    if _BOUND_MB.value is not None and growth > _BOUND_MB.value:
        print(f"Memory grew by {growth:.1f} MB.", file=sys.stderr)
        return 1
    return 0


def _video(path):
    """Writes two faces that move over a gray picture."""
    from keras_lapkl.data.synthetic.faces import synthetic_faces

    painted = synthetic_faces(2, image_size=160)[0]
    codec = cv2.VideoWriter_fourcc(*"MJPG")
    video = cv2.VideoWriter(str(path), codec, 25, (480, 320))
    for i in range(_LENGTH):
        photo = np.full((320, 480, 3), 128, np.uint8)
        for k, face in enumerate(painted):
            x = int(60 + 200 * k + 30 * np.sin(i / 20 + k))
            y = int(80 + 30 * np.cos(i / 15 + k))
            photo[y : y + 160, x : x + 160] = face
        video.write(photo[..., ::-1])
    video.release()
    return path


def _frames(path):
    from keras_lapkl.detection.video import read_pictures

    while True:
        for _, _, photo in read_pictures(path, 1):
            yield photo


if __name__ == "__main__":
    sys.exit(app.run_main(main))
