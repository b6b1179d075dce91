import keras
import numpy as np
import pytest

from keras_lapkl import losses
from keras_lapkl.models.adversarial import AdversarialLocalizer
from keras_lapkl.models.patch_gan import PatchGAN
from keras_lapkl.models.rcn import RCN
from keras_lapkl.training.arrays import SemiSupervisedArrays


def numbered(count, size=4):
    """Images whose every pixel says which image it is."""
    return np.broadcast_to(np.arange(count)[:, None, None, None], (count, size, size, 3))


def batches(first_step=0, **kwargs):
    landmarks = np.broadcast_to(np.arange(11)[:, None, None], (11, 2, 2))
    return SemiSupervisedArrays(
        numbered(11), landmarks, numbered(9), 4, 3, first_step=first_step, **kwargs
    )


def drawn(data, epochs):
    """Numbers of the labeled and of the unlabeled images, by step."""
    found = []
    for _ in range(epochs):
        for i in range(data.num_batches):
            (images, unlabeled), landmarks = data[i]
            np.testing.assert_array_equal(images[:, 0, 0, 0], landmarks[:, 0, 0])
            found.append((images[:, 0, 0, 0], unlabeled[:, 0, 0, 0]))
        data.on_epoch_end()
    return [np.array(half) for half in zip(*found, strict=True)]


def test_halves_go_through_epochs_of_their_own():
    labeled, unlabeled = drawn(batches(), 3)
    assert labeled.shape == (6, 4) and unlabeled.shape == (6, 3)
    for epoch in labeled.reshape(3, 8):
        assert len(set(epoch)) == 8
    for epoch in unlabeled.reshape(2, 9):
        assert sorted(epoch) == list(range(9))
    assert (unlabeled[:3] != unlabeled[3:]).any()


def test_begins_at_any_step():
    for whole, rest in zip(drawn(batches(), 4), drawn(batches(4), 2), strict=True):
        np.testing.assert_array_equal(whole[4:], rest)


def test_seed_decides():
    assert any(
        (a != b).any() for a, b in zip(drawn(batches(), 1), drawn(batches(seed=1), 1), strict=True)
    )


@pytest.mark.slow
def test_trains_with_fit():
    rng = np.random.default_rng(0)
    data = SemiSupervisedArrays(
        rng.integers(0, 255, (6, 16, 16, 3), np.uint8),
        rng.uniform(0, 15, (6, 2, 2)),
        rng.integers(0, 255, (5, 16, 16, 3), np.uint8),
        batch_size=3,
        unlabeled_batch_size=2,
    )
    model = AdversarialLocalizer(RCN(2, 1 / 64, 16, 0), PatchGAN(2, 2))
    model.compile(keras.optimizers.Adam(), losses.LaplaceKL(), run_eagerly=True)
    model.fit(data, epochs=2, shuffle=False, verbose=0)
    assert int(model.optimizer.iterations) == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"landmarks": np.zeros((5, 2, 2))}, "landmarks for each image"),
        ({"unlabeled": numbered(9, size=8)}, "one size"),
        ({"batch_size": 12}, "`images`"),
        ({"unlabeled": numbered(3)}, r"1\.\.3, the number of `unlabeled`"),
        ({"unlabeled": numbered(0)}, "`unlabeled`"),
    ],
)
def test_refused(change, message):
    arguments = {
        "images": numbered(6),
        "landmarks": np.zeros((6, 2, 2)),
        "unlabeled": numbered(9),
        "batch_size": 4,
    }
    with pytest.raises(ValueError, match=message):
        SemiSupervisedArrays(**{**arguments, **change})
