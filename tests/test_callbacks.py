import contextlib
import inspect
import json
import os
import re
import subprocess
import sys

import cv2
import keras
import numpy as np
import pytest

from keras_lapkl import callbacks, heatmaps, losses
from keras_lapkl._support.settings import settings
from keras_lapkl.models.adversarial import REPORTS, AdversarialLocalizer
from keras_lapkl.models.localizer import LandmarkLocalizer
from keras_lapkl.models.patch_gan import PatchGAN
from keras_lapkl.models.rcn import RCN
from keras_lapkl.registries import ADVERSARIAL_LOSSES
from keras_lapkl.training.recipe import Adversary

SIZE, K = 32, 5


def small(discriminator_optimizer="sgd", noise=0.2, loss=None, **kwargs):
    """A tiny model; eager, since a few steps cost less than tracing one."""
    keras.utils.set_random_seed(0)
    model = AdversarialLocalizer(RCN(K, 1 / 16, SIZE, 0), PatchGAN(K, 8, noise), **kwargs)
    model.compile("sgd", loss or losses.LaplaceKL(), discriminator_optimizer, run_eagerly=True)
    return model


@pytest.fixture(scope="module")
def untrained():
    """For tests that change nothing in it."""
    return small()


@pytest.fixture(scope="module")
def plain():
    keras.utils.set_random_seed(0)
    model = LandmarkLocalizer(RCN(K, 1 / 16, SIZE, 0))
    model.compile("sgd", losses.LaplaceKL(), run_eagerly=True)
    return model


@pytest.fixture
def data(rng):
    images, unlabeled = (rng.random((4, SIZE, SIZE, 3)).astype(np.float32) for _ in range(2))
    return (images, unlabeled), rng.uniform(4, SIZE - 4, (4, K, 2)).astype(np.float32)


def fit(model, data, *added, **kwargs):
    options = {"batch_size": 2, "shuffle": False, "verbose": 0, **kwargs}
    return model.fit(*data, callbacks=list(added), **options).history


@pytest.mark.parametrize(
    ("loss", "real", "fake", "expected"),
    [
        (0.02, 1.0, 0.99, "wins"),
        (0.3, 0.98, 1.0, None),
        (3.1, 1.0, 0.0, "constant"),
        (1.5, 0.005, 1.0, "constant"),
        (1.38, 0.51, 0.5, "chance"),
        (1.50, 0.45, 0.5, "chance"),
        (1.38, 0.6, 0.6, None),
        (0.9, 0.5, 0.5, None),
    ],
)
def test_collapse(loss, real, fake, expected):
    assert callbacks.collapse(loss, real, fake) == expected


@pytest.mark.parametrize("kind", callbacks.COLLAPSES)
def test_advice_is_for_flags_and_arguments_alike(kind):
    quoted = set(re.findall(r"`(\w+)`", callbacks.COLLAPSES[kind])) - set(ADVERSARIAL_LOSSES)
    assert quoted <= set(settings(Adversary))
    assert quoted <= set(inspect.signature(AdversarialLocalizer).parameters)


class TestAdversarialMonitor:
    WINS, FAIR, CONSTANT = (0.01, 1.0, 1.0), (1.0, 0.8, 0.7), (2.0, 0.0, 1.0)
    CHANCE = (1.39, 0.5, 0.5)

    @pytest.fixture
    def told(self, untrained, caplog, monkeypatch):
        """Function of the epochs' reports: the epochs, counted from 1, in which it warned."""

        def run(epochs, weight=1e-3, start=0, **kwargs):
            monkeypatch.setattr(untrained, "adversarial_weight", weight)
            monkeypatch.setattr(untrained, "adversarial_start", start)
            untrained.stop_training = False
            monitor = callbacks.AdversarialMonitor(**kwargs)
            monitor.set_model(untrained)
            monitor.on_train_begin()
            found = []
            for i, values in enumerate(epochs):
                before = len(caplog.messages)
                monitor.on_epoch_end(i, dict(zip(REPORTS, (1.0, -0.7, *values), strict=True)))
                found += [i + 1] * (len(caplog.messages) - before)
            return found

        return run

    def test_lasting_collapse_is_said_once_and_again_after_recovery(self, told, caplog):
        epochs = [self.WINS] * 6 + [self.FAIR] + [self.WINS] * 2 + [self.CONSTANT] * 3
        assert told([*epochs, *[self.WINS] * 3]) == [3, 12, 15]
        first, second, third = caplog.messages
        assert "nearly always" in first and "learning rate" in first and "last 3" in first
        assert "0.010; accuracy on true patches: 1.000" in first
        assert "one answer" in second and "nearly always" in third

    def test_chance_needs_longer(self, told, caplog):
        assert told([self.CHANCE] * 12) == [10]
        assert "heatmap_gain" in caplog.text
        assert told([self.CHANCE] * 3, chance_patience=2) == [2]

    def test_not_judged_while_the_weight_is_zero(self, told):
        assert told([self.WINS] * 5, weight=0.0) == []
        assert told([self.WINS] * 5, start=1) == []

    @pytest.mark.parametrize("stop", [True, False])
    def test_stops_if_asked(self, told, untrained, caplog, stop):
        assert told([self.WINS], patience=1, stop=stop) == [1]
        assert untrained.stop_training == ("Training stops" in caplog.text) == stop

    @pytest.mark.slow
    def test_in_fit(self, data, caplog):
        model = small()
        model.discriminator.get_layer("logits").bias.assign([50.0])
        monitor = callbacks.AdversarialMonitor(patience=2, stop=True)
        assert len(fit(model, data, monitor, epochs=5)["loss"]) == 2
        assert "one answer" in caplog.text

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ((np.nan, np.nan, np.inf), "localization_loss=nan, adversarial_loss=nan, discrimin"),
            ((1.0, -np.inf, 1.4), r"adversarial_loss=-inf in epoch 3 by step 8.* discriminator_o"),
            ((np.inf, -0.7, 1.4), r"Received: localization_loss=inf .* of the optimizer$"),
        ],
    )
    def test_says_what_is_not_finite_and_when(self, values, message):
        monitor = callbacks.AdversarialMonitor()
        monitor.on_epoch_begin(2)
        monitor.on_train_batch_end(6, dict(zip(callbacks.FINITE, (1.0, -0.7, 1.4), strict=True)))
        with pytest.raises(RuntimeError, match=message):
            monitor.on_train_batch_end(7, dict(zip(callbacks.FINITE, values, strict=True)))

    @pytest.mark.slow
    def test_divergence_stops_fit(self, data):
        model = small(discriminator_optimizer=keras.optimizers.SGD(1e30))
        with pytest.raises(RuntimeError, match=r"discriminator_loss=\S+ in epoch 1 by step 2"):
            fit(model, data, callbacks.AdversarialMonitor(), epochs=3)

    def test_refuses_other_models(self, data, plain):
        with pytest.raises(ValueError, match=r"AdversarialLocalizer.*Received: LandmarkLocalizer"):
            fit(plain, (data[0][0], data[1]), callbacks.AdversarialMonitor())

    @pytest.mark.parametrize("argument", [{"patience": 0}, {"chance_patience": 0}, {"win": 2}])
    def test_arguments(self, argument):
        with pytest.raises(ValueError, match=f"{next(iter(argument))}.*Received"):
            callbacks.AdversarialMonitor(**argument)


def sigmoid(logits):
    return 1 / (1 + np.exp(-np.array(logits)[..., 0]))


class TestViews:
    def test_of_an_adversarial_localizer(self, data):
        (images, unlabeled), landmarks = data
        model = small(noise=0, loss=losses.GaussianKL(target_scale=2), heatmap_gain=3.0)
        seen = callbacks.views(model, images[:2], landmarks[:2], unlabeled[:3])
        labeled = seen["labeled"]
        predicted = model.predict(images[:2], verbose=0)["landmarks"]
        np.testing.assert_allclose(labeled["landmarks"], predicted, atol=1e-3)
        maps = model.predict_heatmaps(images[:2])
        np.testing.assert_allclose(labeled["maps"], maps, rtol=1e-4, atol=1e-7)
        omega = heatmaps.render(landmarks[:2], SIZE, SIZE, 2, distribution="gaussian")
        np.testing.assert_allclose(labeled["true_maps"], omega, rtol=1e-5)
        for name, given in (("patches", maps), ("true_patches", omega)):
            pairs = np.concatenate([images[:2], 3 * np.array(given)], -1)
            expected = sigmoid(model.discriminator(pairs, training=True))
            np.testing.assert_allclose(labeled[name], expected, rtol=1e-3)
        assert seen["unlabeled"].keys() == {"images", "landmarks", "maps", "patches"}
        assert seen["unlabeled"]["patches"].shape == (3, 2, 2)

    def test_of_a_plain_localizer(self, data, plain):
        (images, unlabeled), landmarks = data
        seen = callbacks.views(plain, images, landmarks, unlabeled)
        assert seen["unlabeled"].keys() == {"images", "landmarks", "maps"}
        assert seen["labeled"].keys() == {*seen["unlabeled"], "labels", "true_maps"}
        assert callbacks.views(plain, images, landmarks).keys() == {"labeled"}

    def test_hidden_landmarks_are_hidden_from_the_discriminator(self, data):
        (images, unlabeled), landmarks = data
        hidden = np.concatenate([landmarks, np.ones((4, K, 1))], -1)
        hidden[:, 0] = np.nan
        model = small(noise=0)
        seen = callbacks.views(model, images, hidden, unlabeled)
        maps = model.predict_heatmaps(unlabeled)
        maps[..., 0] = 1 / SIZE**2
        pairs = np.concatenate([unlabeled, maps], -1)
        expected = sigmoid(model.discriminator(pairs, training=True))
        np.testing.assert_allclose(seen["unlabeled"]["patches"], expected, rtol=1e-3)
        assert all(np.isfinite(seen["labeled"][k]).all() for k in ("true_maps", "true_patches"))

    def test_changes_no_state(self, data, untrained):
        before = [np.array(v) for v in untrained.variables]
        first, second = (callbacks.views(untrained, data[0][0], data[1]) for _ in range(2))
        for a, b in zip(before, untrained.variables, strict=True):
            np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(first["labeled"]["patches"], second["labeled"]["patches"])

    def test_of_a_discriminator_without_patches(self, data, untrained, monkeypatch):
        pooled = keras.Sequential(
            [keras.Input((SIZE, SIZE, K + 3)), keras.layers.GlobalAveragePooling2D()]
        )
        monkeypatch.setattr(untrained, "discriminator", pooled)
        seen = callbacks.views(untrained, data[0][0], data[1])["labeled"]
        assert seen["patches"].shape == seen["true_patches"].shape == (4, 1, K + 3)


def events(folder):
    """All that TensorBoard finds in a folder's event files."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder), {"images": 0, "tensors": 0})
    found.Reload()
    return found


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_end_the_training(plain, value):
    end = callbacks.TerminateOnNaNWeights()
    end.set_model(plain)
    end.on_epoch_end(0)
    weight = plain.trainable_variables[-1]
    kept, spoiled = weight.numpy(), weight.numpy()
    spoiled.flat[0] = value
    weight.assign(spoiled)
    with pytest.raises(RuntimeError, match=r"Expected finite weights\. Received: .* after epoch 3"):
        end.on_epoch_end(2)
    weight.assign(kept)


class TestResumableCheckpoint:
    @pytest.mark.parametrize("name", ["last.h5", "last.weights.h5", "last", "."])
    def test_names_that_could_not_be_loaded_again(self, name, tmp_path):
        for files in ((tmp_path / name,), (tmp_path / "a.keras", tmp_path / name)):
            with pytest.raises(ValueError, match=r"Expected the name of a \.keras file"):
                callbacks.ResumableCheckpoint(*files)

    def test_makes_the_folder_of_the_one_before(self, plain, tmp_path):
        last, previous = tmp_path / "a/last.keras", tmp_path / "b/previous.keras"
        checkpoint = callbacks.ResumableCheckpoint(last, previous)
        checkpoint.set_model(plain)
        checkpoint.write()
        assert last.exists() and not previous.exists()
        before = last.read_bytes()
        checkpoint.write()
        assert previous.read_bytes() == before

    def test_saves_outside_of_keras_distribution_and_puts_it_back(
        self, plain, tmp_path, monkeypatch
    ):
        now = ["spread"]
        monkeypatch.setattr(keras.distribution, "distribution", lambda: now[-1])
        monkeypatch.setattr(keras.distribution, "set_distribution", now.append)
        seen = []
        monkeypatch.setattr(type(plain), "save", lambda *_: seen.append(now[-1]))
        checkpoint = callbacks.ResumableCheckpoint(tmp_path / "last.keras")
        checkpoint.set_model(plain)
        with contextlib.suppress(OSError):  # nothing was written
            checkpoint.write()
        assert seen == [None] and now[-1] == "spread"


class TestTensorBoardFaces:
    @pytest.mark.slow
    def test_pictures_beside_keras_scalars(self, data, tmp_path):
        (images, unlabeled), landmarks = data
        shown = (images[:2], landmarks[:2]), unlabeled[:1]
        board = lambda: (  # noqa: E731
            keras.callbacks.TensorBoard(tmp_path),
            callbacks.TensorBoardFaces(tmp_path, *shown, every=2),
        )
        model = small()
        fit(model, data, *board(), batch_size=4, epochs=2)
        fit(model, data, *board(), batch_size=4, initial_epoch=2, epochs=4)  # as a resumed run
        assert {f.name for f in tmp_path.iterdir()} == {"train", "faces"}
        written = events(tmp_path / "faces")
        assert written.Tags()["images"] == ["labeled", "unlabeled"]
        for tag, rows, columns in (("labeled", 2, 5), ("unlabeled", 1, 3)):
            pictures = written.Images(tag)
            assert [picture.step for picture in pictures] == [1, 3]
            picture = cv2.imdecode(
                np.frombuffer(pictures[-1].encoded_image_string, np.uint8), cv2.IMREAD_COLOR
            )
            assert picture.shape[:2] == (pictures[-1].height, pictures[-1].width)
            assert picture.shape[1] / picture.shape[0] == pytest.approx(columns / rows, rel=0.05)
            assert picture.std() > 20
        curves = events(tmp_path / "train")
        for name in REPORTS:
            assert [t.step for t in curves.Tensors(f"epoch_{name}")] == [0, 1, 2, 3]

    @pytest.mark.slow
    def test_plain_localizer(self, data, tmp_path, plain):
        (images, _), landmarks = data
        faces = callbacks.TensorBoardFaces(tmp_path, (images[:1], landmarks[:1]))
        fit(plain, (images, landmarks), faces)
        written = events(tmp_path / "faces")
        assert written.Tags()["images"] == ["labeled"]
        (picture,) = written.Images("labeled")
        assert picture.width / picture.height == pytest.approx(3, rel=0.05)

    @pytest.mark.parametrize(
        ("images", "landmarks", "unlabeled", "message"),
        [
            ((2, 16, 16, 3), (2, K, 2), None, r"labeled images.*\(N, 32, 32, 3\).*\(2, 16, 16, 3"),
            ((2, 32, 32), (2, K, 2), None, r"labeled images.*Received shape \(2, 32, 32\)"),
            ((0, 32, 32, 3), (0, K, 2), None, "N ≥ 1"),
            ((2, 32, 32, 3), (2, 68, 2), None, r"\(2, 5, 2\|3\).*Received shape \(2, 68, 2\)"),
            ((2, 32, 32, 3), (3, K, 2), None, r"\(2, 5, 2\|3\).*Received shape \(3, 5, 2\)"),
            ((2, 32, 32, 3), (2, K, 2), (2, 8, 8, 3), r"unlabeled images.*\(2, 8, 8, 3\)"),
        ],
    )
    def test_refuses_faces_before_training(
        self, data, untrained, tmp_path, images, landmarks, unlabeled, message
    ):
        faces = callbacks.TensorBoardFaces(
            tmp_path,
            (np.zeros(images), np.zeros(landmarks)),
            None if unlabeled is None else np.zeros(unlabeled),
        )
        with pytest.raises(ValueError, match=message):
            fit(untrained, data, faces)
        assert int(untrained.optimizer.iterations) == 0 and not list(tmp_path.iterdir())

    def test_refuses_bytes_as_floats(self, data, untrained, tmp_path):
        (images, unlabeled), landmarks = data
        for labeled, other in ((255 * images, unlabeled), (images, 255 * unlabeled)):
            faces = callbacks.TensorBoardFaces(tmp_path, (labeled, landmarks), other)
            with pytest.raises(ValueError, match=r"float values in \[0, 1\]"):
                fit(untrained, data, faces)

    def test_every(self, data):
        with pytest.raises(ValueError, match="every"):
            callbacks.TensorBoardFaces("logs", (data[0][0], data[1]), every=0)

    @pytest.mark.parametrize(
        ("module", "extra"),
        [
            ("tensorboard.summary.writer.event_file_writer", "tensorboard"),
            ("matplotlib.figure", "plots"),
        ],
    )
    def test_missing_extra_is_named(self, data, monkeypatch, module, extra):
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(ImportError, match=rf"keras_lapkl\[{extra}\]"):
            callbacks.TensorBoardFaces("logs", (data[0][0], data[1]))


JAX = """
import json, pathlib, sys
sys.modules["tensorflow"] = None
import keras, numpy as np
from keras_lapkl import AdversarialLocalizer, callbacks, losses
folder = pathlib.Path(sys.argv[1])
rng = np.random.default_rng(0)
images, unlabeled = rng.random((2, 2, 32, 32, 3), np.float32)
landmarks = rng.uniform(4, 28, (2, 5, 2)).astype(np.float32)
faces = callbacks.TensorBoardFaces(folder, (images, landmarks), unlabeled, every=2)
monitor = callbacks.AdversarialMonitor()
# Of one layer each: outside training JAX compiles one by one what it has not met.
generator = keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Conv2D(5, 1)])
discriminator = keras.Sequential([keras.Input((32, 32, 8)), keras.layers.Conv2D(1, 16, 16)])
model = AdversarialLocalizer(generator, discriminator)
model.compile("sgd", losses.LaplaceKL(), "sgd")
data = (images, unlabeled), landmarks
model.fit(*data, batch_size=2, epochs=2, verbose=0, callbacks=[faces, monitor])
model.discriminator.set_weights([np.nan * w for w in model.discriminator.get_weights()])
try:
    model.fit(*data, batch_size=2, epochs=2, verbose=0, callbacks=[monitor])
except RuntimeError as error:
    (folder / "found.json").write_text(json.dumps([keras.backend.backend(), str(error)]))
"""


@pytest.mark.slow
def test_both_under_jax_without_tensorflow(tmp_path):
    pytest.importorskip("jax", reason="needs the extra: pip install 'keras_lapkl[jax]'")
    done = subprocess.run(
        [sys.executable, "-c", JAX, str(tmp_path)],
        env={
            **os.environ,
            "KERAS_BACKEND": "jax",
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": "--xla_backend_optimization_level=0",  # compiles sooner
        },
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    backend, error = json.loads((tmp_path / "found.json").read_text())
    assert backend == "jax" and "discriminator_loss=nan in epoch 1" in error
    assert [picture.step for picture in events(tmp_path / "faces").Images("labeled")] == [1]
