"""`LandmarkTracker` with a converted file."""

import numpy as np

from keras_lapkl.detection.landmark_detector import LandmarkDetector
from keras_lapkl.detection.tracking import LandmarkTracker
from keras_lapkl.tflite import TFLiteLocalizer


def test_a_converted_file_follows_a_face(converted, images, stub):
    localizer = TFLiteLocalizer(converted["int8"][0])
    frame = np.kron(images[0], np.ones((4, 4, 1), np.uint8))
    detector = LandmarkDetector(localizer, stub.detector((30, 30, 100, 100)))
    tracker = LandmarkTracker(detector, max_scale=99)
    for i in range(3):
        (face,) = tracker(frame, i / 30)
        raw = detector.localize(frame, [face.square / (1, 1, localizer.crop_scale)])[0]
        np.testing.assert_allclose(face.raw, raw.landmarks, atol=1e-4)
        np.testing.assert_allclose(face.scale, raw.scale, atol=1e-4)
        # An untrained network jumps, and so the face may be lost and found: by its number.
        assert face.id == 0 and np.isfinite(face.landmarks).all()
    scale = face.scale.mean() * localizer.image_size / face.square[2]
    assert LandmarkTracker(detector, max_scale=scale / 2)(frame, 0.0) == []
