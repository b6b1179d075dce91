"""Finds faces and their landmarks in photos and videos, and says how sure they are.

    lapkl predict --input=photos --output_dir=found
    lapkl predict --input='trip/*.jpg',clip.mp4 --output_dir=found --format=csv --overlays

Takes files, folders and globs; faces in a video are tracked from frame to frame. Writes
predictions.json or .csv, or a .pts file for each face; with --overlays copies with the landmarks
drawn in, overlays/x.overlay.jpg of x.jpg; and results.json with counts and times. Files that can't
be used, and parts of them, are listed in skipped.csv with the reason. If it is killed, the same
command goes on where it was. With --scheduler=tcp://HOST:8786
a Dask cluster does the work, and writes the same.
"""

# To a type checker a flag may be None and any text: its parser has seen to that.
# pyright: reportArgumentType=false

import collections
import functools
from typing import Any

from absl import flags

from keras_lapkl import pretrained
from keras_lapkl._support.console import print
from keras_lapkl._support.tensorflow import quiet_tensorflow
from keras_lapkl.commands import shared_flags

_INPUT = flags.DEFINE_list("input", None, "Files, folders and globs.", required=True)
_OUTPUT_DIR = shared_flags.output_dir(__name__)
_MODEL = shared_flags.model_to_run(__name__)
_DETECTOR = shared_flags.detector(__name__)
_BOXES = flags.DEFINE_string("boxes", None, "CSV of file,x0,y0,x1,y1: faces instead of a detector.")
_FORMAT = flags.DEFINE_enum("format", "json", ["json", "csv", "pts"], "Format of the output.")
_OVERLAYS = flags.DEFINE_bool(
    "overlays",
    False,
    "Draw the landmarks into copies, overlays/x.overlay.jpg: yellow where the model is sure, "
    "purple where it is not.",
)
_RADII = flags.DEFINE_bool(
    "radii", False, "With --overlays: circles that hold the true points in 90 % of all cases."
)
_PASSES = shared_flags.passes(__name__)
_EVERY = flags.DEFINE_integer("every", 1, "Use every n-th frame of a video.", 1)
_ANY_ANGLE = flags.DEFINE_bool(
    "any_angle",
    None,
    "Look for faces in copies turned by 90, 180 and 270 degrees as well; default where none is "
    "found, or one that the model is unsure of.",
)
_MAX_SIDE = flags.DEFINE_integer("max_side", None, "Shrink larger photos for the detector.", 1)
_THREADS = flags.DEFINE_integer("threads", 1, "Threads of the localizer.", 1)
_SCHEDULER = shared_flags.scheduler(__name__)
_RESUME = shared_flags.resume(__name__)
_OF_DETECTORS = (_DETECTOR, _MAX_SIDE, _ANY_ANGLE)


def main(_):
    from keras_lapkl._support.provenance import run_provenance
    from keras_lapkl.data import digests
    from keras_lapkl.detection import landmark_detector, tracking
    from keras_lapkl.detection.files import find_inputs, predict_files, read_boxes, summary

    if _RADII.value and not _OVERLAYS.value:
        raise ValueError("--radii are drawn into the copies of --overlays: add it.")
    if _BOXES.value is not None:
        _refuse_flags_of_detectors("No face detector is asked where there are --boxes")
    passed_by = collections.Counter()
    files = find_inputs(_INPUT.value, passed_by)
    boxes = None if _BOXES.value is None else read_boxes(_BOXES.value)
    model = pretrained.resolve(_MODEL.value, (".tflite", ".keras"))
    if model.suffix == ".keras":
        quiet_tensorflow()
    detector = landmark_detector.LandmarkDetector.from_pretrained(
        _MODEL.value,
        _DETECTOR.value if boxes is None else None,
        _THREADS.value,
        passes=_PASSES.value,
        max_side=_MAX_SIDE.value,
        any_angle=_ANY_ANGLE.value,
    )
    # What is not cut out by its landmarks can't be followed by them.
    scheme: Any = detector.localizer.scheme  # a `LandmarkDetector` has one
    follows = scheme.crop_from == "points"
    if not follows and _PASSES.present:
        raise ValueError(
            "--passes cut a face again by its landmarks, and this model's crops are of "
            f"{'whole pictures' if scheme.crop_from == 'image' else 'boxes'}: drop it."
        )
    if scheme.crop_from == "image":
        _refuse_flags_of_detectors("The model takes whole pictures, and no face detector is asked")
    where = detector.detector or _BOXES.value or "the whole picture"
    detected_by = {each.name: each.value for each in (*_OF_DETECTORS, _PASSES)}
    print(f"Find landmarks in {len(files):,} files, faces by {where}.")
    results = predict_files(
        detector,
        files,
        _OUTPUT_DIR.value,
        _FORMAT.value,
        overlays=_OVERLAYS.value,
        radii=_RADII.value,
        boxes=boxes,
        every=_EVERY.value,
        tracker=functools.partial(tracking.LandmarkTracker, detector) if follows else None,
        passed_by=passed_by,
        provenance=run_provenance(),
        scheduler=_SCHEDULER.value,
        settings={**detected_by, "model": digests.of_file(model)},
        resume=_RESUME.value,
    )
    print(summary(results))
    print(f"Results: {_OUTPUT_DIR.value}")


def _refuse_flags_of_detectors(why):
    given = ", ".join(f"--{each.name}" for each in _OF_DETECTORS if each.present)
    if given:
        raise ValueError(f"{why}: drop {given}.")
