import keras
import numpy as np
import pytest

from keras_lapkl.optimizers import ConvolutionMuon, muon
from keras_lapkl.registries import OPTIMIZERS


@pytest.fixture
def kernel(rng):
    return keras.Variable(rng.normal(size=(3, 3, 4, 6)).astype(np.float32), name="kernel")


def test_step_of_a_kernel_is_an_orthogonal_matrix(kernel, rng):
    before = keras.ops.convert_to_numpy(kernel)
    optimizer = ConvolutionMuon(0.1)
    # Singular values spread over two orders of magnitude
    gradient = rng.normal(size=(36, 6)) @ np.diag([1, 0.5, 0.2, 0.1, 0.05, 0.02])
    gradient = gradient.reshape(kernel.shape).astype(np.float32)
    optimizer.apply([keras.ops.convert_to_tensor(gradient)], [kernel])
    step = (before - keras.ops.convert_to_numpy(kernel)).reshape(36, 6)
    sizes = np.linalg.svd(step, compute_uv=False)
    # lr · √(longer side) · 0.2 for each direction, as nearly as five Newton-Schulz steps get
    np.testing.assert_allclose(sizes, 0.1 * 6 * 0.2, rtol=0.45)
    assert np.sum(step.ravel() * gradient.ravel()) > 0


def test_biases_and_excluded_layers_get_adams_step(kernel, rng):
    bias = keras.Variable(np.zeros(6, np.float32), name="bias")
    for variable, optimizer in (
        (bias, ConvolutionMuon(0.1)),
        (kernel, ConvolutionMuon(0.1, exclude_layers=["kernel"])),
    ):
        before = keras.ops.convert_to_numpy(variable)
        gradient = rng.normal(size=variable.shape).astype(np.float32)
        optimizer.apply([keras.ops.convert_to_tensor(gradient)], [variable])
        step = before - keras.ops.convert_to_numpy(variable)
        np.testing.assert_allclose(step, 0.1 * np.sign(gradient), rtol=1e-3)


@pytest.mark.parametrize(("pattern", "excluded"), [("decoder[12]/", True), ("^decoder", False)])
def test_layers_are_excluded_by_regular_expressions(pattern, excluded):
    """Of convolutions as of the kernels that Keras's own Muon takes."""
    optimizer = ConvolutionMuon(0.1, exclude_layers=[pattern])
    for layer, shape in (
        (keras.layers.Conv2D(4, 3), (1, 8, 8, 2)),
        (keras.layers.Dense(4), (1, 2)),
    ):
        model = keras.Sequential([keras.Input(shape[1:]), layer], name="net")
        layer.kernel._path = f"net/decoder1/{layer.kernel.name}"
        assert optimizer._should_use_adamw(model.layers[0].kernel) == excluded


def test_schedule_is_asked_once_a_step(kernel, rng):
    class Schedule(keras.optimizers.schedules.LearningRateSchedule):
        asked = 0

        def __call__(self, step):
            Schedule.asked += 1
            return 0.1

    kernels = [kernel, keras.Variable(kernel)]
    gradients = [keras.ops.ones(kernel.shape)] * 2
    optimizer = ConvolutionMuon(Schedule())
    optimizer.build(kernels)
    Schedule.asked = 0
    optimizer.apply(gradients, kernels)
    assert Schedule.asked == 1


def test_muon_leaves_the_ends_of_an_rcn_to_adam():
    from keras_lapkl import RCN

    optimizer = muon(1e-3)
    model = RCN(3, 1 / 16, 16, head="marginal")
    optimizer.build(model.trainable_variables)
    by_adam = {
        variable.path.split("/")[-2]
        for variable in model.trainable_variables
        if len(variable.shape) == 4
        and optimizer.adam_velocities[optimizer._get_variable_index(variable)] is not None
    }
    assert by_adam == {"encoder1", "columns", "rows"}


def test_round_trip():
    optimizer = muon(0.01)
    config = keras.saving.serialize_keras_object(optimizer)
    copy = keras.saving.deserialize_keras_object(config)
    assert type(copy) is ConvolutionMuon
    assert copy.get_config() == optimizer.get_config()
    assert set(OPTIMIZERS) == {"adam", "muon"}
