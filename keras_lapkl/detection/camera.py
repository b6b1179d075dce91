"""Shows the faces that a camera sees."""

import time
from typing import Any

import cv2

from keras_lapkl.detection.drawing import draw_by_scheme
from keras_lapkl.detection.tracking import LandmarkTracker


def watch(tracker: LandmarkTracker, camera: int = 0, radii: bool = False) -> None:
    """Shows the faces that a camera sees in a window, until q or Escape is pressed in it.

    Args:
        tracker: a `tracking.LandmarkTracker`.
        camera: number of the device.
        radii: whether to draw the radius of each landmark, too.

    Raises:
        OSError: there is no camera, no display, or an OpenCV without windows.

    Example:

    >>> watch(LandmarkTracker(LandmarkDetector.from_pretrained()))
    """
    source = cv2.VideoCapture(camera)
    try:
        start = time.monotonic()
        while True:
            there, frame = source.read()
            if not there:
                raise OSError(f"Expected a camera as device {camera}. Received: no picture from it")
            photo: Any = cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
            faces = tracker(photo, time.monotonic() - start)
            scheme: Any = tracker.detector.localizer.scheme  # the detector refuses None
            drawn = draw_by_scheme(photo, faces, scheme, radii)
            try:
                cv2.imshow("keras_lapkl", cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR))
                if cv2.waitKey(1) in (ord("q"), 27):
                    cv2.destroyAllWindows()
                    return
            except cv2.error as error:
                raise OSError(
                    "Showing a camera needs a display, and an OpenCV with windows: install "
                    "opencv-python in place of opencv-python-headless."
                ) from error
    finally:
        source.release()
