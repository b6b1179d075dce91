"""Shows a camera's faces with their landmarks in a window; q or Escape ends it.

    lapkl watch

Needs a display, and opencv-python in place of opencv-python-headless, which cannot open windows.
"""

from absl import flags

from keras_lapkl.commands import shared_flags

_CAMERA = flags.DEFINE_integer("camera", 0, "Number of the camera.", 0)
_MODEL = shared_flags.model_to_run(__name__)
_DETECTOR = shared_flags.detector(__name__, "blazeface")
_PASSES = shared_flags.passes(__name__)
_RADII = flags.DEFINE_bool("radii", False, "Draw where the true points lie in 90 % of all cases.")


def main(_):
    from keras_lapkl.detection import landmark_detector, tracking
    from keras_lapkl.detection.camera import watch

    detector = landmark_detector.LandmarkDetector.from_pretrained(
        _MODEL.value, _DETECTOR.value, passes=_PASSES.value
    )
    watch(tracking.LandmarkTracker(detector), _CAMERA.value, _RADII.value)
