import functools

import keras
import numpy as np
import pytest

from keras_lapkl import heatmaps, metrics, schemes
from keras_lapkl.evaluation import scoring
from keras_lapkl.models.localizer import LandmarkLocalizer
from keras_lapkl.models.rcn import RCN

ERROR_METRICS = [metrics.NormalizedMeanError, metrics.FailureRate, metrics.AreaUnderCED]


def face(error, k=68, eyes=50.0):
    """A face whose outer eye corners are `eyes` apart, and a prediction off by `error` pixels."""
    truth = np.random.default_rng(0).uniform(0, 80, (1, k, 2))
    truth[0, 36], truth[0, 45] = (10, 20), (10 + eyes, 20)
    return truth, truth + (error, 0)


@pytest.fixture
def faces():
    pairs = [face(error) for error in (1.0, 2.0, 4.0, 6.0, 0.0)]
    return tuple(np.concatenate(side) for side in zip(*pairs, strict=True))


def brute_nme(truth, predicted):
    eyes = np.linalg.norm(truth[:, 36] - truth[:, 45], axis=-1)
    return 100 * np.linalg.norm(predicted - truth, axis=-1).mean(1) / eyes


def test_nme_by_hand(faces):
    assert float(metrics.NormalizedMeanError()(*faces)) == pytest.approx(100 * 2.6 / 50)


def test_failure_rate_by_hand(faces):
    assert float(metrics.FailureRate(threshold=5)(*faces)) == pytest.approx(40)


def test_auc_equals_the_integral_of_the_ced(faces):
    nme = brute_nme(*faces)
    levels = np.linspace(0, 10, 100_001)
    ced = (nme[None, :] <= levels[:, None]).mean(1)
    expected = np.trapezoid(ced, levels) / 10
    assert float(metrics.AreaUnderCED(threshold=10)(*faces)) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(("error", "failures", "area"), [(7, 0, 1 / 8), (8, 0, 0), (9, 100, 0)])
def test_threshold_by_default(error, failures, area):
    """8 percent; a face exactly at it has not failed."""
    point = np.zeros((1, 1, 2)), np.array([[[error, 0.0]]])
    assert float(metrics.FailureRate(normalizer=100)(*point)) == failures
    assert float(metrics.AreaUnderCED(normalizer=100)(*point)) == pytest.approx(area)


@pytest.mark.parametrize(
    ("cls", "direction"), list(zip(ERROR_METRICS, ("down", "down", "up"), strict=True))
)
def test_which_way_is_better(cls, direction):
    """Keras's callbacks find it out under `mode="auto"`."""
    model = LandmarkLocalizer(RCN(3, 1 / 64, 16, 0))
    model.compile(loss="laplace_kl", metrics=[cls(normalizer=16, name="error")])
    model.evaluate(np.zeros((1, 16, 16, 3)), np.full((1, 3, 2), 5.0), verbose=0)
    stopping = keras.callbacks.EarlyStopping("val_error", mode="auto")
    stopping.set_model(model)
    stopping.on_train_begin()
    for epoch, value in enumerate((5.0, 4.0, 6.0)):
        stopping.on_epoch_end(epoch, {"val_error": value})
    assert stopping.best == {"down": 4, "up": 6}[direction]


@pytest.mark.parametrize("cls", ERROR_METRICS)
def test_uneven_batches_equal_one_batch(cls, faces):
    whole, parts = cls(), cls()
    whole.update_state(*faces)
    for chosen in (slice(0, 3), slice(3, 4), slice(4, 5)):
        parts.update_state(faces[0][chosen], faces[1][chosen])
    assert float(parts.result()) == pytest.approx(float(whole.result()), rel=1e-6)


@pytest.mark.parametrize("cls", ERROR_METRICS)
def test_sample_weight_is_repetition(cls, faces):
    weighted, repeated = cls(), cls()
    weighted.update_state(*faces, sample_weight=np.array([1, 0, 2, 0, 1]))
    chosen = [0, 2, 2, 4]
    repeated.update_state(faces[0][chosen], faces[1][chosen])
    assert float(weighted.result()) == pytest.approx(float(repeated.result()), rel=1e-6)


@pytest.mark.parametrize("normalizer", ["interocular", "hull"])
def test_equal_to_scoring(normalizer, rng):
    """Metrics of training and `scoring`, which needs no Keras, are one definition."""
    truth = rng.uniform(0, 80, (50, 68, 2)).astype(np.float32)
    visible = rng.random((50, 68)) > 0.02
    found = (truth + rng.normal(0, 4, truth.shape)).astype(np.float32)
    labels = np.concatenate([truth, visible[..., None]], -1).astype(np.float32)
    size = scoring.normalizing_distances(normalizer, truth, visible, schemes.IBUG68)
    errors = scoring.face_errors(found, truth, visible, size)
    expected = {k: np.nanmean(v) for k, v in scoring.statistics(errors).items()}
    common = {"normalizer": normalizer}
    nme = metrics.NormalizedMeanError(**common)(labels, found)
    assert float(nme) == pytest.approx(expected["nme"], rel=1e-5)
    for threshold in scoring.THRESHOLDS:
        rate = metrics.FailureRate(threshold, **common)(labels, found)
        assert float(rate) == pytest.approx(expected[f"failure_rate_{threshold}"], rel=1e-5)
        area = metrics.AreaUnderCED(threshold, **common)(labels, found)
        assert float(area) == pytest.approx(expected[f"auc_{threshold}"], rel=1e-4)


class TestNormalizers:
    truth = np.array([[[0.0, 0.0], [16.0, 9.0], [4.0, 4.0]]])
    predicted = np.array([[[0.0, 0.0], [16.0, 9.0], [4.0, 10.0]]])

    @pytest.mark.parametrize(
        ("normalizer", "expected"),
        [("hull", 100 * 2 / 12), (50, 4.0), (lambda landmarks, visible: visible[:, 0] * 20, 10.0)],
    )
    def test_value(self, normalizer, expected):
        metric = metrics.NormalizedMeanError(normalizer=normalizer)
        assert float(metric(self.truth, self.predicted)) == pytest.approx(expected)

    def test_hull_ignores_hidden(self):
        truth = np.concatenate([self.truth, np.ones((1, 3, 1))], -1)
        truth[0, 1, 2] = 0
        metric = metrics.NormalizedMeanError(normalizer="hull")
        assert float(metric(truth, self.predicted)) == pytest.approx(100 * 3 / 4)

    def test_box_is_given_to_update_state(self):
        metric = metrics.NormalizedMeanError(normalizer="box")
        metric.update_state(self.truth, self.predicted, distance=np.array([25.0]))
        assert float(metric.result()) == pytest.approx(8)
        with pytest.raises(ValueError, match="distance"):
            metric.update_state(self.truth, self.predicted)

    def test_distance_comes_before_the_normalizer(self):
        metric = metrics.NormalizedMeanError(normalizer=50)
        metric.update_state(self.truth, self.predicted, distance=np.array([25.0]))
        assert float(metric.result()) == pytest.approx(8)

    def test_interocular_needs_eyes(self):
        hand = schemes.Scheme("hand", ("a", "b"), (0, 1))
        with pytest.raises(ValueError, match="hull"):
            metrics.NormalizedMeanError(scheme=hand)

    def test_aflw_eye_corners(self):
        truth = np.zeros((1, 19, 2))
        truth[0, 11] = (40, 0)
        metric = metrics.NormalizedMeanError(scheme="aflw19")
        assert float(metric(truth, truth + (4, 0))) == pytest.approx(10)

    def test_unknown(self):
        with pytest.raises(ValueError, match="interocular"):
            metrics.NormalizedMeanError(normalizer="pupils")

    @pytest.mark.parametrize("normalizer", [0, -3.0, float("nan"), float("inf")])
    def test_no_size(self, normalizer):
        with pytest.raises(ValueError, match="must be > 0 pixels"):
            metrics.NormalizedMeanError(normalizer=normalizer)


@pytest.mark.parametrize("cls", ERROR_METRICS)
@pytest.mark.parametrize("corner", [36, 45])
def test_faces_without_the_normalizer_do_not_count(cls, corner, faces):
    truth, predicted = faces
    alone = cls()
    alone.update_state(truth[1:], predicted[1:])
    hidden = truth.copy()
    hidden[0, corner] = np.nan
    metric = cls()
    metric.update_state(hidden, predicted)
    assert float(metric.result()) == pytest.approx(float(alone.result()))


def test_of_no_face_nothing_is_said():
    """0 would be the best error, which `ModelCheckpoint` keeps and `EarlyStopping` waits for."""
    for metric in (metrics.NormalizedMeanError("hull"), metrics.HeatmapSpread()):
        nothing = np.full((2, 3, 2), np.nan), np.ones((2, 3, 2))
        assert np.isnan(float(metric(*nothing)))
        metric.update_state(np.array([[[0.0, 0.0], [3.0, 4.0]]]), np.zeros((1, 2, 2)))
        assert np.isfinite(float(metric.result()))


def test_a_prediction_that_is_not_finite_has_failed():
    truth, found = face(1.0)
    assert float(metrics.FailureRate()(truth, found)) == 0
    assert float(metrics.FailureRate()(truth, found * np.nan)) == 100
    assert float(metrics.AreaUnderCED()(truth, found * np.nan)) == 0
    whole = np.concatenate([truth, truth]), np.concatenate([found, found * np.nan])
    area = float(metrics.AreaUnderCED()(truth, found))
    assert float(metrics.AreaUnderCED()(*whole)) == pytest.approx(area / 2)


def test_distances_in_a_column_are_refused():
    """Broadcast, each face's error would be divided by each face's distance."""
    truth, distance = np.zeros((4, 5, 2)), np.arange(1.0, 5)
    metric = metrics.NormalizedMeanError(10.0)
    metric.update_state(truth, truth + 1, distance=distance)
    for other in (distance[:, None], distance[:1], distance[:3]):
        with pytest.raises(ValueError, match=r"shape \(B,\).*Received: \("):
            metric.update_state(truth, truth + 1, distance=other)
    one = metrics.NormalizedMeanError(lambda *_: 10.0)  # of all faces
    assert float(one(truth, truth + 1)) == pytest.approx(10 * 2**0.5)


def test_eyes_of_another_scheme_are_refused():
    five = np.zeros((1, 5, 2))
    with pytest.raises(ValueError, match="'ibug68', of 68 landmarks, are not those of 5"):
        metrics.NormalizedMeanError()(five, five + 1)
    distance = np.array([100.0])
    assert float(metrics.FailureRate()(five, five + 9, distance=distance)) == 100


@keras.saving.register_keras_serializable("tests")
def ten(landmarks, visible):
    return 0 * landmarks[:, 0, 0] + 10.0


@pytest.mark.parametrize("normalizer", [metrics.hull_size, ten])
def test_a_function_that_keras_knows_is_saved(normalizer, faces):
    metric = metrics.NormalizedMeanError(normalizer)
    again = metrics.NormalizedMeanError.from_config(metric.get_config())
    assert float(again(*faces)) == float(metric(*faces)) > 0


@pytest.mark.parametrize("normalizer", [lambda y, v: y[:, 0, 0], functools.partial(ten)])
def test_a_function_that_no_file_could_name_is_not_saved(normalizer):
    with pytest.raises(ValueError, match="register_keras_serializable"):
        metrics.NormalizedMeanError(normalizer).get_config()


def test_logits_and_landmarks_give_the_same(faces, rng):
    logits = rng.normal(size=(5, 20, 20, 68)).astype(np.float32) * 3
    location, scale = heatmaps.decode(logits)
    for cls in ERROR_METRICS:
        assert float(cls()(faces[0], logits)) == pytest.approx(float(cls()(faces[0], location)))
    spread = metrics.HeatmapSpread()(faces[0], logits)
    assert float(spread) == pytest.approx(float(np.mean(scale)), rel=1e-5)
    assert float(metrics.HeatmapSpread()(faces[0], scale)) == pytest.approx(float(spread), rel=1e-6)


def test_logits_are_read_with_beta(faces, rng):
    logits = rng.normal(size=(5, 20, 20, 68)).astype(np.float32) * 3
    location, scale = heatmaps.decode(logits, 0.5)
    for cls in ERROR_METRICS:
        expected = cls()(faces[0], location)
        assert float(cls(beta=0.5)(faces[0], logits)) == pytest.approx(float(expected), rel=1e-5)
    spread = metrics.HeatmapSpread(beta=0.5)(faces[0], logits)
    assert float(spread) == pytest.approx(float(np.mean(scale)), rel=1e-5)


def test_spread_ignores_hidden():
    truth = np.ones((1, 2, 3))
    truth[0, 1, 2] = 0
    scale = np.array([[[1.0, 2.0], [9.0, 9.0]]])
    assert float(metrics.HeatmapSpread()(truth, scale)) == pytest.approx(1.5)


def test_spread_counts_no_face_with_nothing_visible():
    truth = np.ones((2, 2, 3))
    truth[1, :, 2] = 0
    assert float(metrics.HeatmapSpread()(truth, np.full((2, 2, 2), 3.0))) == pytest.approx(3)


@pytest.mark.parametrize("cls", metrics.METRICS)
def test_sample_weights_of_other_shapes(cls, faces):
    weights = np.array([1, 0, 2, 0, 1], np.float32)
    flat, column = cls(), cls()
    flat.update_state(*faces, sample_weight=weights)
    column.update_state(*faces, sample_weight=weights[:, None])
    assert float(flat.result()) == float(column.result())
    with pytest.raises(ValueError, match=r"`sample_weight` of shape \(B,\), one for each face"):
        cls().update_state(*faces, sample_weight=np.ones((5, 5), np.float32))


def test_spread_by_sample_weight():
    scale = np.array([[[2.0, 2.0]], [[4.0, 4.0]]])
    spread = metrics.HeatmapSpread()(np.ones((2, 1, 2)), scale, sample_weight=np.array([1.0, 0.0]))
    assert float(spread) == pytest.approx(2)


@pytest.mark.parametrize(("distribution", "scale"), [("laplace", 1.2), ("gaussian", 2**0.5)])
def test_spread_of_a_constant_map(distribution, scale):
    spread = metrics.HeatmapSpread(distribution)(np.zeros((1, 1, 2)), np.zeros((1, 5, 5, 1)))
    assert float(spread) == pytest.approx(scale, rel=1e-5)


@pytest.mark.parametrize(
    "metric",
    [
        metrics.NormalizedMeanError(normalizer="hull", beta=0.5, name="x"),
        metrics.FailureRate(threshold=7, scheme="aflw19"),
        metrics.AreaUnderCED(threshold=5, normalizer=40),
        metrics.HeatmapSpread(distribution="gaussian", beta=2),
    ],
    ids=lambda m: type(m).__name__,
)
def test_config_round_trip(metric):
    again = keras.metrics.deserialize(keras.metrics.serialize(metric))
    assert type(again) is type(metric) and again.get_config() == metric.get_config()


def test_beside_a_loss_in_fit(rng):
    from keras_lapkl.losses import LaplaceKL

    model = LandmarkLocalizer(RCN(3, 1 / 16, 16, 0))
    model.compile(
        "sgd",
        LaplaceKL(),
        metrics=[metrics.NormalizedMeanError(normalizer=16), metrics.HeatmapSpread()],
    )
    x, y = rng.random((5, 16, 16, 3), np.float32), rng.uniform(0, 16, (5, 3, 2))
    logs = model.evaluate(x, y, batch_size=2, verbose=0, return_dict=True)
    expected = (
        100 * np.linalg.norm(model.predict(x, verbose=0)["landmarks"] - y, axis=-1).mean() / 16
    )
    assert logs["nme"] == pytest.approx(expected, rel=1e-4)


def test_bad_shapes():
    with pytest.raises(ValueError, match="Received"):
        metrics.NormalizedMeanError(normalizer=1)(np.zeros((2, 3, 2)), np.zeros((2, 3, 3)))
    with pytest.raises(ValueError, match="threshold"):
        metrics.FailureRate(threshold=0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.NormalizedMeanError(np.float32(-3)), "`normalizer` must be > 0 pixels"),
        (lambda: metrics.NormalizedMeanError(10, beta=-1.0), "`beta` must be > 0"),
        (lambda: metrics.HeatmapSpread(beta=0), "`beta` must be > 0"),
        (lambda: metrics.FailureRate(dtype="float16"), "compute in float32"),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()
