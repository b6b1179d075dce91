import concurrent.futures
import functools
import multiprocessing
import operator
import pickle

import keras
import numpy as np
import pytest

from keras_lapkl import confidence, heatmaps, losses, metrics, schemes
from keras_lapkl.loading import load_model
from keras_lapkl.models import layers
from keras_lapkl.models.localizer import LandmarkLocalizer
from keras_lapkl.models.mobile_fpn import MobileFPN
from keras_lapkl.models.networks import dtype_policy
from keras_lapkl.models.rcn import RCN
from keras_lapkl.registries import LOSSES

SIZE, K = 16, 3


def small(dropout=0.0, loss=None, optimizer=None, network=RCN, **kwargs):
    keras.utils.set_random_seed(0)
    model = LandmarkLocalizer(network(K, 1 / 16, SIZE, dropout), **kwargs)
    model.compile(
        optimizer or keras.optimizers.Adam(3e-3),
        loss or losses.LaplaceKL(),
        metrics=[metrics.NormalizedMeanError(normalizer=SIZE)],
    )
    return model


def two_layers(num_landmarks, width, image_size, dropout):
    """Where any network will do; an RCN takes far longer to trace."""
    return keras.Sequential(
        [
            keras.Input((image_size, image_size, 3)),
            keras.layers.Conv2D(round(64 * width), 3, padding="same", activation="tanh"),
            layers.Dropout(dropout, seed=0),
            keras.layers.Conv2D(num_landmarks, 1),
        ]
    )


@pytest.fixture
def data():
    """Dots of three colors: where each is, is the landmark."""
    rng = np.random.default_rng(0)
    landmarks = rng.integers(2, SIZE - 2, (32, K, 2))
    images = np.zeros((32, SIZE, SIZE, 3), np.uint8)
    for i, points in enumerate(landmarks):
        for k, (x, y) in enumerate(points):
            images[i, y - 1 : y + 2, x - 1 : x + 2, k] = 255
    return images, landmarks.astype(np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("loss", list(LOSSES))
def test_learns_with_each_loss(data, loss):
    model = small(loss=LOSSES[loss](), optimizer=keras.optimizers.Adam(1e-2))
    before = model.evaluate(*data, verbose=0, return_dict=True)
    model.fit(*data, epochs=40, batch_size=8, verbose=0)
    after = model.evaluate(*data, verbose=0, return_dict=True)
    assert after["loss"] < 0.6 * before["loss"]
    assert after["nme"] < 0.6 * before["nme"]


def test_predict_gives_pixels_and_scale(data):
    model = small()
    predicted = model.predict(data[0], batch_size=10, verbose=0)
    assert predicted["landmarks"].shape == predicted["scale"].shape == (32, K, 2)
    location, scale = heatmaps.decode(model(data[0]))
    np.testing.assert_allclose(predicted["landmarks"], location, atol=1e-4)
    np.testing.assert_allclose(predicted["scale"], scale, atol=1e-4)


def test_predict_of_no_images(data):
    model = LandmarkLocalizer(RCN(K, 1 / 16, SIZE))
    found = model.predict(data[0][:0])
    assert found["landmarks"].shape == found["scale"].shape == (0, K, 2)


def test_bfloat16_weights_come_back(data, tmp_path):
    keras.config.set_dtype_policy("bfloat16")
    try:
        model = LandmarkLocalizer(RCN(K, 1 / 16, SIZE))
        model.save(tmp_path / "m.keras")
        again = load_model(tmp_path / "m.keras")
    finally:
        keras.config.set_dtype_policy("float32")
    for a, b in zip(model.get_weights(), again.get_weights(), strict=True):
        assert a.dtype == b.dtype and (a == b).all()


def test_predict_heatmaps(data):
    model = small()
    maps = model.predict_heatmaps(data[0], batch_size=5)
    assert maps.shape == (32, SIZE, SIZE, K) and maps.dtype == np.float32
    np.testing.assert_allclose(maps.sum((1, 2)), 1, rtol=1e-5)
    predicted = model.predict(data[0], verbose=0)
    np.testing.assert_allclose(heatmaps.location(maps), predicted["landmarks"], atol=1e-3)


def test_predicts_with_its_beta(data):
    model = LandmarkLocalizer(two_layers(K, 1 / 16, SIZE, 0.0), beta=0.25)
    model.generator.set_weights([9 * weight for weight in model.generator.get_weights()])
    location, scale = heatmaps.decode(model(data[0]), 0.25)
    predicted = model.predict(data[0], verbose=0)
    np.testing.assert_allclose(predicted["landmarks"], location, atol=1e-4)
    np.testing.assert_allclose(predicted["scale"], scale, atol=1e-4)
    maps = model.predict_heatmaps(data[0])
    np.testing.assert_allclose(heatmaps.location(maps), location, atol=1e-3)


def test_heatmaps_of_floats_above_one_are_refused(data):
    with pytest.raises(ValueError, match="Divide by 255"):
        small().predict_heatmaps(data[0].astype(np.float32))


def test_uint8_equals_float(data):
    model = small()
    np.testing.assert_allclose(
        model(data[0]), model(data[0].astype(np.float32) / 255), rtol=1e-5, atol=1e-6
    )


@pytest.mark.slow
def test_train_step_equals_keras_own(data):
    """The step's gradients and reports are those of the default `keras.Model.train_step`."""

    class Plain(LandmarkLocalizer):
        train_step = keras.Model.train_step

    models = [small(), None]
    keras.utils.set_random_seed(0)
    models[1] = Plain(RCN(K, 1 / 16, SIZE, 0))
    models[1].compile(
        keras.optimizers.Adam(3e-3),
        losses.LaplaceKL(),
        metrics=[metrics.NormalizedMeanError(normalizer=SIZE)],
    )
    logs = [m.fit(*data, epochs=2, batch_size=8, shuffle=False, verbose=0).history for m in models]
    assert logs[0].keys() == logs[1].keys()
    for key in logs[0]:
        np.testing.assert_allclose(logs[0][key], logs[1][key], rtol=1e-5)
    for a, b in zip(*(m.get_weights() for m in models), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


@pytest.mark.slow
def test_sample_weight_zero_is_absence(data):
    images, landmarks = data
    weighted, fewer = (small(optimizer=keras.optimizers.SGD(1e-2)) for _ in range(2))
    weight = np.repeat([2.0, 0.0], 16)
    weighted.fit(images, landmarks, sample_weight=weight, batch_size=32, verbose=0)
    # Keras divides by the faces in the batch, whatever their weights.
    fewer.fit(images[:16], landmarks[:16], batch_size=16, verbose=0)
    for a, b in zip(weighted.get_weights(), fewer.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_keras_round_trip_with_optimizer(tmp_path, data):
    images, landmarks = data
    model = small(
        dropout=0.2,
        scheme={"name": "dots", "names": ["r", "g", "b"]},
        crop_scale=2.5,
        trained_on="32 pictures of dots",
    )
    model.fit(images, landmarks, batch_size=8, verbose=0)
    model.save(tmp_path / "model.keras")
    again = load_model(tmp_path / "model.keras")
    assert again.scheme == model.scheme and again.crop_scale == 2.5
    assert again.trained_on == "32 pictures of dots"
    assert again.training_data == model.training_data
    np.testing.assert_array_equal(again(images), model(images))
    assert int(again.optimizer.iterations) == 4
    for m in (model, again):
        m.fit(images, landmarks, batch_size=8, shuffle=False, verbose=0)
    for a, b in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("before", "after"), [(0.0, 0.2), (0.2, 0.0), (0.2, 0.2)])
def test_weights_cross_over_to_another_dropout(tmp_path, data, before, after):
    model = small(dropout=before)
    model.save_weights(tmp_path / "model.weights.h5")
    other = small(dropout=after)
    other.generator.set_weights([w + 1 for w in other.generator.get_weights()])
    other.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(other(data[0]), model(data[0]))


@pytest.mark.slow
class TestKerasCallbacks:
    def fit(self, data, *callbacks, epochs=2, model=None, **kwargs):
        model = model or small(network=two_layers, **kwargs)
        history = model.fit(
            *data,
            validation_data=data,
            epochs=epochs,
            batch_size=8,
            shuffle=False,
            verbose=0,
            callbacks=list(callbacks),
        )
        return model, history.history

    def test_model_checkpoint(self, data, tmp_path):
        path = tmp_path / "best.keras"
        best = keras.callbacks.ModelCheckpoint(path, monitor="val_nme", save_best_only=True)
        # It learns, and then unlearns.
        rates = keras.callbacks.LearningRateScheduler(lambda epoch: (3e-3, 1.0, -1.0)[epoch])
        _, history = self.fit(data, best, rates, epochs=3)
        first, second, third = history["val_nme"]
        assert second < min(first, third)
        found = load_model(path)
        assert type(found) is LandmarkLocalizer
        logs = found.evaluate(*data, verbose=0, return_dict=True)
        assert logs["nme"] == pytest.approx(second, rel=1e-4)

    def test_backup_and_restore_equals_unbroken(self, data, tmp_path):
        class Stop(keras.callbacks.Callback):
            def on_epoch_begin(self, epoch, logs=None):
                if epoch == 2:
                    raise KeyboardInterrupt

        unbroken, _ = self.fit(data, epochs=4, dropout=0.2)
        backup = tmp_path / "backup"
        with pytest.raises(KeyboardInterrupt):
            self.fit(data, keras.callbacks.BackupAndRestore(backup), Stop(), epochs=4, dropout=0.2)
        resumed, history = self.fit(
            data, keras.callbacks.BackupAndRestore(backup), epochs=4, dropout=0.2
        )
        assert len(history["loss"]) == 2
        assert int(resumed.optimizer.iterations) == int(unbroken.optimizer.iterations) == 16
        for a, b in zip(unbroken.get_weights(), resumed.get_weights(), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-8)

    def test_tensorboard(self, data, tmp_path):
        self.fit(data, keras.callbacks.TensorBoard(tmp_path))
        assert list(tmp_path.rglob("events.out*"))

    def test_csv_logger(self, data, tmp_path):
        self.fit(data, keras.callbacks.CSVLogger(tmp_path / "log.csv"))
        header, *rows = (tmp_path / "log.csv").read_text().splitlines()
        assert header.split(",") == ["epoch", "loss", "nme", "val_loss", "val_nme"]
        assert len(rows) == 2

    def test_swap_ema_weights(self, data):
        ema = keras.optimizers.Adam(3e-3, use_ema=True, ema_momentum=0.9)
        model, _ = self.fit(data, keras.callbacks.SwapEMAWeights(swap_on_epoch=True), optimizer=ema)
        plain, _ = self.fit(data)
        assert not np.allclose(model.get_weights()[0], plain.get_weights()[0])

    def test_terminate_on_nan(self, data):
        model = small(network=two_layers)
        images = np.full_like(data[0], np.nan, np.float32)
        batches = ((images[:8], data[1][:8]) for _ in range(40))  # whose values are not checked
        end = keras.callbacks.TerminateOnNaN()
        history = model.fit(batches, steps_per_epoch=4, epochs=5, verbose=0, callbacks=[end])
        assert len(history.history["loss"]) == 1


def any_size():
    layers_ = [keras.Input((None, None, 3)), keras.layers.Conv2D(K, 3, padding="same")]
    return keras.Sequential(layers_)


def test_a_network_of_any_size_takes_one_after_another(rng):
    model = LandmarkLocalizer(any_size())
    model.compile("sgd", losses.LaplaceKL(), metrics=[metrics.NormalizedMeanError("hull")])
    for height, width in ((12, 20), (17, 9), (8, 8)):
        images = rng.random((2, height, width, 3)).astype(np.float32)
        found = model.predict(images, verbose=0)
        location, scale = heatmaps.decode(model(images))
        np.testing.assert_allclose(found["landmarks"], location, atol=1e-4)
        np.testing.assert_allclose(found["scale"], scale, atol=1e-4)
        labels = rng.uniform(0, 8, (2, K, 2)).astype(np.float32)
        expected = losses.LaplaceKL()(labels, model(images))
        received = model.evaluate(images, labels, verbose=0, return_dict=True)
        assert received["loss"] == pytest.approx(float(expected), rel=1e-4)


def test_heatmaps_of_no_images():
    maps = LandmarkLocalizer(any_size()).predict_heatmaps(np.zeros((0, 12, 20, 3), np.uint8))
    assert maps.shape == (0, 12, 20, K) and maps.dtype == np.float32


def test_losses_and_metrics_of_others_have_their_own_words():
    class SmoothL1(keras.losses.Loss):
        def __init__(self, beta):
            super().__init__()
            self.beta, self.normalizer = beta, "interocular"

        def call(self, y_true, y_pred):
            return keras.ops.mean(y_pred, axis=(1, 2, 3))

    model = LandmarkLocalizer(any_size(), scheme={"name": "toy", "num_landmarks": K})
    model.compile("sgd", SmoothL1(0.5), metrics=[keras.metrics.FBetaScore(beta=2.0)])


@keras.saving.register_keras_serializable("tests")
class Shifted(LandmarkLocalizer):
    """Adds a bias of its own to the generator's logits."""

    def __init__(self, generator, **kwargs):
        super().__init__(generator, **kwargs)
        self.bias = self.add_weight(shape=(K,), initializer="zeros", name="bias")
        self.scaled = keras.layers.Dense(K, use_bias=False)
        self.scaled.build((None, None, None, K))

    def call(self, images, training=False):
        return self.scaled(super().call(images, training=training)) + self.bias


def test_layers_and_weights_of_a_subclass_train_and_come_back(data, tmp_path):
    images, landmarks = (each[:4] for each in data)
    model = Shifted(two_layers(K, 1 / 16, SIZE, 0.5))
    model.compile(keras.optimizers.Adam(0.1), losses.LaplaceKL(), run_eagerly=True)
    before = model.scaled.get_weights()[0].copy()
    model.bias.assign([1.0, 2.0, 3.0])
    model.train_on_batch(images, landmarks)
    assert not np.array_equal(model.scaled.get_weights()[0], before)
    model.save(tmp_path / "m.keras")
    again = load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(again.bias, model.bias)
    for each in (model, again):
        each.run_eagerly = True
        each.train_on_batch(images, landmarks)
    for one, other in zip(model.weights, again.weights, strict=True):
        np.testing.assert_array_equal(one, other)


class TestRefused:
    def test_maps_of_another_size_than_the_image(self):
        strided = keras.layers.Conv2D(K, 3, strides=4, padding="same")
        generator = keras.Sequential([keras.Input((64, 64, 3)), strided])
        with pytest.raises(ValueError, match=r"64, 64, 3\) to \(None, 16, 16, 3\)\. Let its last"):
            LandmarkLocalizer(generator)

    @pytest.mark.parametrize("is_built", [True, False])
    def test_a_network_that_tells_no_shapes(self, is_built):
        class Network(keras.Model):
            def __init__(self):
                super().__init__()
                self.maps = keras.layers.Conv2D(K, 3, padding="same")

            def call(self, images):
                return self.maps(images)

        network, images = Network(), keras.Input((SIZE, SIZE, 3))
        if is_built:
            network(np.zeros((1, SIZE, SIZE, 3), np.float32))
        with pytest.raises(ValueError, match=r"functional or sequential .* Network from None"):
            LandmarkLocalizer(network)
        assert LandmarkLocalizer(keras.Model(images, network(images))).num_landmarks == K

    def test_other_k(self):
        with pytest.raises(ValueError, match="68 landmarks"):
            LandmarkLocalizer(RCN(K, 1 / 16, SIZE), scheme="ibug68")

    @pytest.mark.parametrize(
        ("beta", "readers"),
        [
            (1, {"loss": losses.LaplaceKL(beta=2)}),
            (1, {"loss": [losses.LaplaceKL(beta=2)]}),
            (2, {"loss": losses.laplace_kl}),
            (2, {"metrics": [metrics.HeatmapSpread()]}),
            (2, {"weighted_metrics": [[metrics.NormalizedMeanError("hull")]]}),
        ],
    )
    def test_other_beta(self, beta, readers):
        model = LandmarkLocalizer(RCN(K, 1 / 16, SIZE), beta=beta)
        model.compile(loss=losses.LaplaceKL(beta=beta), metrics=["mae"])
        with pytest.raises(ValueError, match=f"has beta [12].* and the model {beta}"):
            model.compile(**readers)

    def test_other_eyes(self):
        eyes = schemes.Scheme("eyes", "abc", eye_corners=(0, 2))
        others = schemes.Scheme("others", "abc", eye_corners=(0, 1))
        model = LandmarkLocalizer(RCN(K, 1 / 16, SIZE), scheme=eyes)
        model.compile(metrics=[metrics.NormalizedMeanError(scheme=eyes)])
        model.compile(metrics=[metrics.NormalizedMeanError("hull", others)])
        with pytest.raises(ValueError, match="'nme' takes the eyes of scheme 'others'"):
            model.compile(metrics=[metrics.NormalizedMeanError(scheme=others)])

    @pytest.mark.parametrize("change", ["range", "type", "nan", "size", "shares", "validation"])
    def test_arrays_that_predict_would_refuse(self, data, change):
        images, landmarks = data
        x, y, message = {
            "range": (images.astype(np.float32), landmarks, "Divide by 255"),
            "type": (images.astype(np.int64), landmarks, "Expected uint8"),
            "nan": (np.full_like(images, np.nan, np.float32), landmarks, "from nan to nan"),
            "size": (images[:, 1:], landmarks, "RGB crops of shape"),
            "shares": (images, landmarks / SIZE, "labels in pixels"),
            "validation": (images.astype(np.float32), landmarks, "Divide by 255"),
        }[change]
        model = small(network=two_layers)
        calls = [model.fit, model.evaluate, model.train_on_batch]
        if change == "validation":
            calls = [lambda x, y: model.fit(*data, validation_data=(x, y), verbose=0)]
        for call in calls:
            with pytest.raises(ValueError, match=message):
                call(x, y)

    @pytest.mark.slow
    def test_further_inputs_of_a_subclass_are_its_own_matter(self, data):
        class WithDepth(LandmarkLocalizer):
            def train_step(self, data):
                (x, y) = data
                return super().train_step((x["image"], y))

        images, landmarks = data
        model = WithDepth(two_layers(K, 1 / 16, SIZE, 0.0))
        model.compile("sgd", losses.LaplaceKL())
        depth = np.full((len(images), SIZE, SIZE, 1), 5.0, np.float32)
        model.fit({"image": images, "depth": depth}, landmarks, verbose=0)

    def test_labels_of_other_k(self, data):
        with pytest.raises(ValueError, match="Received"):
            small().fit(data[0], data[1][:, :2], verbose=0)

    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("a.keras", None, "no model"),
            ("a.h5", b"", "keras or .tflite"),
            ("b.keras", b"x", "not a Keras model"),
        ],
    )
    def test_files(self, tmp_path, name, content, message):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            load_model(tmp_path / name)


def test_scheme_by_name():
    model = LandmarkLocalizer(RCN(68, 1 / 64, SIZE, 0), scheme="ibug68", crop_scale=3.0)
    assert model.scheme is schemes.IBUG68 and model.num_landmarks == 68 and model.image_size == SIZE


@pytest.fixture(scope="module")
def bare():
    return LandmarkLocalizer(two_layers(K, 1 / 64, SIZE, 0))


def test_a_scheme_or_calibration_of_another_count_is_refused_where_it_is_set(bare):
    five = schemes.Scheme("five", tuple("abcde"), five_points=((0,), (1,), (2,), (3,), (4,)))
    for value in (five, five.to_config(), "ibug68"):
        with pytest.raises(ValueError, match=r"has (5|68) landmarks. Received a generator of 3"):
            LandmarkLocalizer(bare.generator, scheme=value)
        with pytest.raises(ValueError, match=r"has (5|68) landmarks. Received a generator of 3"):
            bare.scheme = value
    known = confidence.Calibration((1.0,), (1.0,), (1.0,) * 5, {}, "", 1)
    with pytest.raises(ValueError, match="calibration is of 5 landmarks"):
        bare.calibration = known
    assert bare.scheme is None and bare.calibration is None
    bare.scheme = {"name": "toy", "num_landmarks": K}
    assert bare.scheme.num_landmarks == K
    bare.scheme = None


def test_beta_and_calibration_go_along(bare, tmp_path):
    known = confidence.Calibration((1.0,), (1.0,), (1.0,) * K, {0.9: (2.0,) * K}, "dots", 9)
    model = LandmarkLocalizer(bare.generator, beta=0.5, calibration=known)
    model.save(tmp_path / "model.keras")
    for each in (model.localizer(), load_model(tmp_path / "model.keras")):
        assert each.beta == 0.5 and each.calibration == known


@pytest.mark.parametrize("name", ["crop_scale", "beta"])
@pytest.mark.parametrize("value", [0, -3.0, float("nan"), float("inf"), "3", [3]])
def test_numbers_that_are_no_scale(bare, name, value):
    message = f"`{name}`(: expected a number above 0 to 10+| must be a number|: expected number)"
    with pytest.raises(ValueError, match=message):
        LandmarkLocalizer(bare.generator, **{name: value})


def test_what_no_file_may_say_is_refused_before(bare):
    """A training ends with a file, and must not find out then."""
    with pytest.raises(ValueError, match="`crop_scale`: expected a number above 0 to 100"):
        bare.crop_scale = 150
    with pytest.raises(ValueError, match="`crop_scale`: expected number or null"):
        LandmarkLocalizer(bare.generator, crop_scale=True)
    with pytest.raises(ValueError, match="`trained_on`: expected characters"):
        LandmarkLocalizer(bare.generator, trained_on="two\nlines")
    with pytest.raises(ValueError, match="`trained_on`: expected characters"):
        bare.training_data = "two\nlines"
    bare.training_data = "my photos"  # as the argument
    assert bare.get_config()["trained_on"]["sets"][0]["name"] == "my photos"
    assert type(LandmarkLocalizer(bare.generator, beta=np.float32(2)).beta) is float


def test_beta_stays_what_the_loss_was_checked_by(bare):
    with pytest.raises(AttributeError, match="beta"):
        bare.beta = 0.5
    assert bare.beta == 1.0


@pytest.mark.parametrize("network", [RCN, MobileFPN])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"width": 4.5}, "`width` must be above 0, such as 1/8, to 4"),
        ({"width": float("nan")}, "`width` must be above 0"),
        ({"num_landmarks": 10_001}, "from 1 to 10000"),
        ({"image_size": 4112}, "at most 4096"),
        ({"dtype": "mixed_bfloat16"}, "set_dtype_policy"),
    ],
)
def test_networks_that_no_file_may_hold(network, arguments, message):
    with pytest.raises(ValueError, match=message):
        network(**arguments)


@pytest.mark.parametrize(("given", "kept"), [(None, None), (True, True), (False, False)])
def test_a_file_says_of_compilation_what_was_given(bare, given, kept):
    """Else a model of a machine with a GPU runs slowly on one without."""
    model = LandmarkLocalizer(bare.generator)
    model.compile(loss=losses.LaplaceKL(), jit_compile=given)
    assert model.get_compile_config()["jit_compile"] is kept


class TestAxes:
    """A generator whose maps are sums of their axes trains and predicts by these alone."""

    @pytest.fixture(params=["rcn", "mobile_fpn"])
    def generator(self, request):
        keras.utils.set_random_seed(0)
        if request.param == "rcn":
            return RCN(K, 1 / 16, SIZE, 0.0, "marginal")
        return MobileFPN(K, 1 / 16, SIZE)

    @pytest.mark.parametrize("loss", list(LOSSES))
    def test_loss_and_gradients_as_by_maps(self, data, generator, loss):
        model = LandmarkLocalizer(generator)
        model.compile(keras.optimizers.SGD(0.1), LOSSES[loss]())
        images, landmarks = data[0][:8], data[1][:8]
        start, found = generator.get_weights(), []
        for forward in (model._scored_forward(), model):
            generator.set_weights(start)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(model, "_scored_forward", lambda forward=forward: forward)
                logs = model.train_step((images, landmarks))
            found.append([logs["loss"], *generator.get_weights()])
            model.reset_metrics()
        assert model._scored_forward() is not model
        for axes, maps in zip(*found, strict=True):
            np.testing.assert_allclose(axes, maps, rtol=1e-3, atol=1e-4)

    def test_predict_and_evaluate_as_by_maps(self, data, generator):
        model = LandmarkLocalizer(generator)
        model.compile("sgd", losses.LaplaceKL(), metrics=[metrics.HeatmapSpread()])
        found = []
        for forward in (model._forward(), model):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(model, "_forward", lambda forward=forward: forward)
                model.make_predict_function(force=True)
                model.make_test_function(force=True)
                logs = model.evaluate(*data, verbose=0, return_dict=True)
                found.append((model.predict(data[0], verbose=0), logs))
        assert model._forward() is not model
        (axes, axes_logs), (maps, maps_logs) = found
        for name in maps:
            np.testing.assert_allclose(axes[name], maps[name], atol=1e-3)
        assert axes_logs == pytest.approx(maps_logs, rel=1e-4)

    @pytest.mark.parametrize("loss", losses.FUNCTIONS)
    def test_of_a_function_as_of_a_class(self, loss):
        model = LandmarkLocalizer(MobileFPN(K, 1 / 16, SIZE))
        model.compile("sgd", loss)
        assert model._scored_forward() is not model

    def test_metrics_as_by_maps(self, rng):
        columns, rows = rng.normal(0, 3, (2, 4, SIZE, K)).astype(np.float32)
        maps = columns[:, None] + rows[:, :, None]
        labels = rng.uniform(0, SIZE, (4, K, 2))
        for kind in metrics.METRICS:
            args = {} if kind is metrics.HeatmapSpread else {"normalizer": SIZE}
            joined = kind(**args)(labels, heatmaps.join_axes(columns, rows))
            assert float(joined) == pytest.approx(float(kind(**args)(labels, maps)), rel=1e-4)

    def test_read_back_it_trains_alike(self, data, tmp_path):
        model = LandmarkLocalizer(MobileFPN(K, 1 / 16, SIZE))
        model.compile("adam", losses.LaplaceKL())
        model.save(tmp_path / "model.keras")
        again = load_model(tmp_path / "model.keras")
        assert again._scored_forward() is not again

    @pytest.mark.parametrize("is_class", [True, False])
    def test_of_a_loss_that_is_registered_later(self, monkeypatch, is_class):
        class Later(losses.LaplaceKL):
            pass

        monkeypatch.setattr(LOSSES, "data", {**LOSSES.data, "function": lambda beta: None})
        LOSSES["later"] = Later if is_class else functools.partial(Later, target_scale=2.0)
        model = LandmarkLocalizer(MobileFPN(K, 1 / 16, SIZE))
        with pytest.raises(ValueError, match=r"has beta 2.* and the model 1"):
            model.compile("sgd", Later(beta=2))
        model.compile("sgd", LOSSES["later"](beta=1))
        assert model._scored_forward() is not model

    @pytest.mark.slow
    def test_what_is_of_others_gets_the_maps(self, data):
        class Loss(losses.LaplaceKL):
            pass

        class Model(LandmarkLocalizer):
            def call(self, images, training=False):
                return super().call(images, training=training)

        generator = MobileFPN(K, 1 / 16, SIZE)
        shapes = []

        def foreign(y_true, y_pred):
            shapes.append(y_pred.shape)
            return keras.ops.zeros(keras.ops.shape(y_true)[:1])

        for kind, loss, others in (
            (LandmarkLocalizer, losses.LaplaceKL(), [foreign]),
            (LandmarkLocalizer, Loss(), []),
            (Model, losses.LaplaceKL(), []),
        ):
            model = kind(generator)
            model.compile("sgd", loss, metrics=others)
            assert model._scored_forward() is model
            model.fit(*data, verbose=0)
        assert shapes and all(shape[1:] == (SIZE, SIZE, K) for shape in shapes)


@pytest.mark.slow
class TestKerasExport:
    def test_saved_model(self, data, tmp_path):
        import tensorflow as tf

        model, images = small(), data[0][:3] / np.float32(255)
        model.fit(*data, epochs=1, verbose=0)
        model.export(tmp_path / "saved", verbose=False)
        saved = tf.saved_model.load(str(tmp_path / "saved"))
        np.testing.assert_allclose(saved.serve(images), model(images), atol=1e-5)

    def test_litert(self, data, tmp_path):
        from ai_edge_litert.interpreter import Interpreter

        model, image = small(), data[0][:1] / np.float32(255)
        path = tmp_path / "model.tflite"
        model.export(path, format="litert", verbose=False)
        interpreter = Interpreter(str(path))
        interpreter.allocate_tensors()
        (given,), (logits,) = interpreter.get_input_details(), interpreter.get_output_details()
        assert given["shape"].tolist() == [1, SIZE, SIZE, 3]
        interpreter.set_tensor(given["index"], image)
        interpreter.invoke()
        np.testing.assert_allclose(interpreter.get_tensor(logits["index"]), model(image), atol=1e-4)


@pytest.fixture(scope="module")
def plain():
    return LandmarkLocalizer(two_layers(K, 1 / 16, SIZE, 0.0), trained_on="nothing")


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (
            np.full((1, SIZE, SIZE, 3), np.nan, np.float32),
            r"\[0, 1\]\. Received: from nan to nan",
        ),
        (np.full((1, SIZE, SIZE, 3), np.inf, np.float32), r"Received: from inf to inf"),
        (np.full((1, SIZE, SIZE, 3), 255.0), r"from 255 to 255\. Divide by 255"),
        (np.full((1, SIZE, SIZE, 3), -0.1), r"Received: from -0.1"),
        (np.zeros((1, SIZE, SIZE, 3), np.int64), "Expected uint8, or float .* Received: int64"),
        (np.zeros((SIZE, SIZE, 3), np.uint8), r"shape \(N, 16, 16, 3\). Received: \(16, 16, 3\)"),
        (np.zeros((1, SIZE + 1, SIZE, 3), np.uint8), r"Received: \(1, 17, 16, 3\)"),
    ],
)
def test_predict_refuses_what_a_tflite_file_refuses(plain, images, message):
    with pytest.raises(ValueError, match=message):
        plain.predict(images, verbose=0)
    with pytest.raises(ValueError, match=message):
        plain.predict(keras.ops.convert_to_tensor(images), verbose=0)


def test_threads_predict_what_one_does(plain, rng):
    images = rng.integers(0, 256, (4, SIZE, SIZE, 3), np.uint8)
    expected = [plain.predict(images[i : i + 1], verbose=0)["landmarks"] for i in range(4)]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda i: plain.predict(images[i : i + 1], verbose=0), range(4)))
    for one, each in zip(expected, found, strict=True):
        np.testing.assert_array_equal(each["landmarks"], one)


def test_a_pickled_model_predicts_the_same(data):
    model = small()
    copy = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(
        copy.predict(data[0], verbose=0)["landmarks"],
        model.predict(data[0], verbose=0)["landmarks"],
    )
    assert type(copy.loss) is type(model.loss)


@pytest.mark.slow
def test_other_processes_know_a_pickled_models_classes():
    """Keras alone does not: it looks for the names of classes that are not imported there."""
    model = small(trained_on="nothing", network=MobileFPN)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(operator.attrgetter("trained_on"), [model]) == ["nothing"]


class TestCompile:
    def test_a_loss_by_its_name_reads_as_the_model_does(self):
        model = LandmarkLocalizer(two_layers(K, 1 / 64, SIZE, 0), beta=2.0)
        model.compile(loss="gaussian_kl")
        assert type(model.loss) is losses.GaussianKL and model.loss.beta == 2

    def test_a_loss_that_reads_no_heatmaps(self, bare):
        with pytest.raises(ValueError, match=r"reads heatmaps, such as .*'laplace_kl'.*'mse'"):
            bare.compile(loss="mse")

    def test_what_is_keras_third_argument_is_not_ours(self, bare):
        with pytest.raises(TypeError, match="positional"):
            bare.compile("adam", losses.LaplaceKL(), [0.5])


@pytest.mark.parametrize("network", [RCN, MobileFPN])
@pytest.mark.parametrize(
    ("made_in", "loaded_in"), [("mixed_float16", "float32"), ("float32", "mixed_bfloat16")]
)
def test_the_precision_is_kept(network, made_in, loaded_in, tmp_path):
    with dtype_policy(made_in):
        model = LandmarkLocalizer(network(K, 1 / 64, SIZE), scheme=None)
        model.save(tmp_path / "m.keras")
    with dtype_policy(loaded_in):
        again = load_model(tmp_path / "m.keras")
        assert keras.config.dtype_policy().name == loaded_in
    for one, other in zip(model.generator.layers, again.generator.layers, strict=True):
        assert one.dtype_policy.name == other.dtype_policy.name
    images = np.random.default_rng(0).random((2, SIZE, SIZE, 3), np.float32)
    for name, found in model.predict(images, verbose=0).items():
        np.testing.assert_array_equal(found, again.predict(images, verbose=0)[name])


def test_a_precision_that_no_file_keeps():
    policy = keras.dtype_policies.DTypePolicyMap(default_policy="mixed_float16")
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        with pytest.raises(ValueError, match="Expected a global precision of"):
            RCN(K, 1 / 64, SIZE)
    finally:
        keras.config.set_dtype_policy(before)


def test_channels_first(monkeypatch):
    monkeypatch.setattr(keras.config, "image_data_format", lambda: "channels_first")
    with pytest.raises(ValueError, match=r"images \(B, H, W, 3\).*channels_last"):
        RCN(K, 1 / 64, SIZE)


def test_images_in_bfloat16(bare):
    """NumPy does not count it among its floats."""
    images = keras.ops.zeros((1, SIZE, SIZE, 3), "bfloat16")
    assert np.isfinite(bare.predict(images, verbose=0)["landmarks"]).all()
