import subprocess

import pytest

# No test machine has a camera and a window: what they would be given is printed.
PRINTED = """
from keras_lapkl.detection import camera

def watch(tracker, number, radii):
    detector = tracker.detector
    print(detector.localizer.image_size, type(detector.detector).__name__, end=" ")
    print(detector.passes, number, radii)

camera.watch = watch
"""


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ((), "80 BlazeFace 2 0 False"),
        (
            ("--model=fpn-eighth-112-300w", "--detector=yunet", "--passes=1", "--camera=3"),
            "112 YuNet 1 3 False",
        ),
        (("--radii",), "80 BlazeFace 2 0 True"),
    ],
)
def test_what_watch_shows(after, flags, expected):
    words = after(PRINTED, "tools/watch.py", *flags)
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == expected
