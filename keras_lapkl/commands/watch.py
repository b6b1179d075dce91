"""Shows a camera's faces with their landmarks in a window; q or Escape ends it.

    lapkl watch

Needs a display, and opencv-python in place of opencv-python-headless, which cannot open windows.
"""

from absl import flags

from keras_lapkl import pretrained
from keras_lapkl.commands import detector_flag

_CAMERA = flags.DEFINE_integer("camera", 0, "Number of the camera.", 0)
_MODEL = flags.DEFINE_string(
    "model", pretrained.NAMES[0], "A shipped model's name, or a .tflite or .keras file."
)
_DETECTOR = detector_flag.define(__name__, "blazeface")
_RADII = flags.DEFINE_bool("radii", False, "Draw where the true points lie in 90 % of all cases.")


def main(_):
    from keras_lapkl.detection import landmark_detector, tracking
    from keras_lapkl.detection.camera import watch

    detector = landmark_detector.LandmarkDetector.from_pretrained(_MODEL.value, _DETECTOR.value)
    watch(tracking.LandmarkTracker(detector), _CAMERA.value, _RADII.value)
