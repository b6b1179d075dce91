import pytest

from keras_lapkl.models.costs import multiply_adds
from keras_lapkl.models.mobile_fpn import MobileFPN
from keras_lapkl.models.rcn import RCN


@pytest.mark.parametrize(
    ("model", "total"), [(MobileFPN(68, 1 / 8), 13_004_000), (RCN(68, 1 / 16), 77_337_200)]
)
def test_multiply_adds(model, total):
    assert sum(map(multiply_adds, model.layers)) == total


def test_by_hand():
    model = MobileFPN(7, 1 / 64, 32)
    assert multiply_adds(model.get_layer("stem")) == 16 * 16 * 3 * 3 * 3 * 2
    assert multiply_adds(model.get_layer("encoder1_depthwise")) == 16 * 16 * 3 * 3 * 4
    assert multiply_adds(model.get_layer("maps")) == 16 * 16 * 2 * 7
    assert multiply_adds(model.get_layer("maps_activation")) == 0
