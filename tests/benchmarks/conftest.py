import cv2
import numpy as np
import pytest

from keras_lapkl.data import synthetic_faces, write_pts


@pytest.fixture(scope="session")
def write_photos():
    """`write_photos(folder, count)`: photos with one painted face each, on gray, and landmarks."""

    def write(folder, count, size=160, shape=(240, 240), corner=(40, 40)):
        x, y = corner
        for i, (face, labels) in enumerate(
            zip(*synthetic_faces(count, image_size=size), strict=True)
        ):
            photo = np.full((*shape, 3), 90, np.uint8)
            photo[y : y + size, x : x + size] = face
            cv2.imwrite(str(folder / f"{i}.png"), photo[..., ::-1])
            write_pts(folder / f"{i}.pts", labels[:, :2] + corner)
        return folder

    return write
