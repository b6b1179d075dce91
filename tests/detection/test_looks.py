import numpy as np
import pytest

from keras_lapkl.data.cropping import crop_transform, invert_transform
from keras_lapkl.detection import looks


def test_rings_are_one_change_each_and_then_a_move_and_a_rotation():
    first, second = (np.array(ring) for ring in looks.RINGS)
    still = np.array([0, 0, 1])
    moved = [(ring[:, :3] != still).any(1) for ring in (first, second)]
    turned = [ring[:, 3] != 0 for ring in (first, second)]
    assert (moved[0] != turned[0]).all() and (moved[1] & turned[1]).all()
    assert len(np.unique(np.concatenate([first, second]), axis=0)) == 47


@pytest.mark.parametrize("angle", [0.0, 0.7, -2.0])
def test_squares_move_along_their_own_axes(angle):
    """Half a side to the right is where the crop's right edge was."""
    square = np.array([30.0, 40.0, 20.0, angle])
    (found,) = looks.squares_around(square, [(0.5, -0.25, 1.5, 0.1)])
    back = invert_transform(crop_transform(square, 80))
    place = back[:, :2] @ [39.5 + 40, 39.5 - 20] + back[:, 2]
    np.testing.assert_allclose(found, [*place, 30, angle + 0.1])
