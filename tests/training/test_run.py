import contextlib
import csv
import dataclasses
import itertools
import pathlib
import shutil
import signal
import time

import keras
import numpy as np
import pytest

from keras_lapkl import callbacks, schemes
from keras_lapkl._support.app import UnfinishedError
from keras_lapkl._support.files import read_json
from keras_lapkl.data import datasets
from keras_lapkl.data.unlabeled.crops import InMemory
from keras_lapkl.loading import load_model
from keras_lapkl.training import distillation, preemption, run
from keras_lapkl.training.building import build, check_models
from keras_lapkl.training.recipe import Adversary, MeanTeacher, Recipe, Teacher
from keras_lapkl.training.run import label, train
from keras_lapkl.training_data import LICENSES

pytestmark = pytest.mark.slow

TRAIN = pathlib.Path(__file__).resolve().parents[2] / "tools" / "train.py"
FLAGS = [
    "--width=0.015625",
    "--num_synthetic=48",
    "--image_size=32",
    "--dropout=0.2",
    "--learning_rate=1e-3",
]


@pytest.fixture(scope="module")
def crops():
    return datasets.load("synthetic", split="train", num_synthetic=48, image_size=32)


@pytest.fixture(scope="module")
def validation():
    return datasets.load("synthetic", split="validation", num_synthetic=20, image_size=32)


def recipe(**changes):
    return Recipe(
        **{"width": 1 / 64, "epochs": 3, "schedule": "cosine", "augment": True, **changes}
    )


@pytest.fixture(scope="module")
def finished(crops, validation, tmp_path_factory):
    """A finished run and its results; `copy_of` gives a test its own."""
    folder = tmp_path_factory.mktemp("finished")
    return folder, train(recipe(dropout=0.2), crops, validation, folder, {"seed": 0})


def copy_of(finished, tmp_path):
    return pathlib.Path(shutil.copytree(finished[0], tmp_path / "copy"))


def test_writes_model_history_and_results(finished):
    tmp_path, results = finished
    assert read_json(tmp_path / "results.json") == results
    assert results["validation"]["faces"] == 20
    assert results["validation"]["trained_on"] == "48 synthetic faces"
    assert results["recipe"]["width"] == 1 / 64 and results["provenance"] == {"seed": 0}
    with (tmp_path / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["0", "1", "2"]
    assert {"loss", "nme", "spread", "val_nme", "val_spread"} <= rows[0].keys()
    model = load_model(tmp_path / "model.keras")
    assert model.scheme is not None and model.crop_scale == 3.0
    assert model.trained_on == "48 synthetic faces"
    assert not (tmp_path / "last.keras").exists()


def test_one_landmark_of_whole_pictures(crops, validation, tmp_path):
    """It has no hull to divide errors by: the crop's side does."""
    scheme = schemes.Scheme("nose", ("tip",), crop_from="image")
    one, other = (
        dataclasses.replace(
            each,
            landmarks=each.landmarks[:, 30:31],
            visible=each.visible[:, 30:31],
            scheme=scheme,
            crop_scale=1.0,
        )
        for each in (crops, validation)
    )
    results = train(recipe(epochs=1), one, other, tmp_path)
    assert results["validation"]["normalizer"] == "crop"
    model = load_model(tmp_path / "model.keras")
    found = model.predict(other.images, verbose=0)["landmarks"]
    error = 100 * np.linalg.norm(found - other.landmarks, axis=-1).mean() / 32
    assert results["validation"]["nme"] == pytest.approx(error, rel=1e-4)
    with (tmp_path / "history.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert float(row["val_nme"]) == pytest.approx(error, rel=1e-4)
    assert model.scheme == scheme
    mirrored = dataclasses.replace(one, scheme=dataclasses.replace(scheme, flip=(0,)))
    with pytest.raises(ValueError, match=r"other settings.*\n  scheme: .*'flip': None"):
        train(recipe(epochs=1), mirrored, other, tmp_path)


def test_equal_seeds_give_equal_models(finished, crops, validation, tmp_path):
    folders = [finished[0], tmp_path / "again", tmp_path / "other"]
    for folder, seed in zip(folders[1:], (0, 1), strict=True):
        train(recipe(dropout=0.2, seed=seed), crops, validation, folder)
    first, again, other = (load_model(f / "model.keras").get_weights() for f in folders)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])


def test_muon_on_normalized_images_and_calibrated_scales(crops, validation, tmp_path):
    chosen = recipe(optimizer="muon", normalize=True, augment_strength=0.5)
    train(chosen, crops, validation, tmp_path)
    model = load_model(tmp_path / "model.keras")
    assert model.generator.normalize and type(model.optimizer).__name__ == "ConvolutionMuon"
    assert model.calibration.faces == 20 and "synthetic faces" in model.calibration.data


@contextlib.contextmanager
def copied_after(monkeypatch, last, folder, stopped):
    """Copies a run's folder after an epoch: what a run that was killed then leaves behind."""

    def copy(self, epoch, logs):
        original(self, epoch, logs)
        if epoch == last and not stopped.exists():
            shutil.copytree(folder, stopped)

    original = callbacks.ResumableCheckpoint.on_epoch_end
    with monkeypatch.context() as patch:
        patch.setattr(callbacks.ResumableCheckpoint, "on_epoch_end", copy)
        yield
    assert not (stopped / "model.keras").exists()


def test_mobile_fpn_goes_on_to_the_unbroken_run(crops, validation, tmp_path, monkeypatch, caplog):
    """Statistics of batch normalization and both halves of Muon come back from the checkpoint.

    It is the one of the epoch before: the disk has damaged the last one.
    """
    chosen = recipe(network="mobile_fpn", dropout=0, optimizer="muon")
    with copied_after(monkeypatch, 1, tmp_path / "unbroken", tmp_path / "stopped"):
        train(chosen, crops, validation, tmp_path / "unbroken")
    last = tmp_path / "stopped" / "last.keras"
    last.write_bytes(last.read_bytes()[:-1000])
    train(chosen, crops, validation, tmp_path / "stopped")
    assert f"{last} is damaged: going on" in caplog.text
    assert_same_run(tmp_path / "unbroken", tmp_path / "stopped", steps=18)
    assert not list(last.parent.glob("last*"))
    rows = (last.parent / "history.csv").read_text().split()
    assert [row.partition(",")[0] for row in rows] == ["epoch", "0", "1", "2"]


def test_sigterm_keeps_each_step(finished, crops, validation, tmp_path, monkeypatch):
    """Stopped within an epoch, again in its rest, with its last step, and within the next one."""

    @contextlib.contextmanager
    def after(steps):
        asked = itertools.count(1)
        yield lambda: next(asked) >= steps

    chosen = recipe(dropout=0.2), crops, validation
    stops = ((2, "0 and 2"), (1, "0 and 3"), (3, "1 and 0"), (5, "1 and 5"))
    for steps, place in stops:
        with monkeypatch.context() as patch:
            patch.setattr(preemption, "noted", lambda steps=steps: after(steps))
            with pytest.raises(UnfinishedError, match=f"after epoch {place} steps"):
                train(*chosen, tmp_path)
    train(*chosen, tmp_path, {"seed": 0})
    unbroken, _ = finished
    models = [load_model(folder / "model.keras") for folder in (unbroken, tmp_path)]
    for ours, theirs in zip(*(model.variables for model in models), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    histories = [list(csv.reader((f / "history.csv").open())) for f in (unbroken, tmp_path)]
    assert histories[0][0] == histories[1][0] and len(histories[1]) == 4
    np.testing.assert_allclose(*(np.float64(rows[1:]) for rows in histories), rtol=1e-6)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(p.name for p in unbroken.iterdir())


def test_validation_that_no_face_of_can_be_scored_is_refused_first(crops, validation, tmp_path):
    """Not after the training, as where each face shows one eye alone."""
    visible = np.array(validation.known)
    visible[:, validation.scheme.eye_corners[0]] = False
    one_eyed = dataclasses.replace(validation, visible=visible)
    with pytest.raises(ValueError, match=r"No face of .* needs, distance of the outer eye corners"):
        train(recipe(), crops, one_eyed, tmp_path)
    assert not (tmp_path / "run.json").exists()


class TestStopTogether:
    @pytest.fixture
    def stop(self):
        def stop(asked, **kwargs):
            callback = preemption.StopTogether(asked, **kwargs)
            callback.set_params({"epochs": 2, "steps": 3})
            return callback

        return stop

    def test_the_end_of_the_last_epoch_is_one_only_where_more_follows(self, stop):
        for asked in (True, False):
            stop(lambda asked=asked: asked).on_epoch_end(1)
        stop(lambda: False, more_follows=True).on_epoch_end(1)
        with pytest.raises(preemption.PreemptedError):  # also where it came in validation
            stop(lambda: True, more_follows=True).on_epoch_end(1)

    def test_the_end_of_another_epoch(self, stop):
        callback = stop(lambda: True)
        callback.on_train_batch_end(2)
        with pytest.raises(preemption.PreemptedError):
            callback.on_epoch_end(0)


def test_sigterm_is_noted_within_fit_alone():
    before = signal.getsignal(signal.SIGTERM)
    with preemption.noted() as asked:
        assert not asked()
        signal.raise_signal(signal.SIGTERM)
        assert asked()
    assert signal.getsignal(signal.SIGTERM) is before


def test_an_epoch_of_more_steps_than_a_pass(crops, validation, tmp_path, monkeypatch):
    """48 faces are 6 steps; stopped after the first epoch of 9."""
    chosen = recipe(epochs=2, steps_per_epoch=9)
    with copied_after(monkeypatch, 0, tmp_path / "unbroken", tmp_path / "stopped"):
        train(chosen, crops, validation, tmp_path / "unbroken")
    train(chosen, crops, validation, tmp_path / "stopped")
    assert_same_run(tmp_path / "unbroken", tmp_path / "stopped", steps=18)


def test_a_folder_with_another_model_is_refused(crops, validation, tmp_path):
    (tmp_path / "model.keras").write_text("mine")
    with pytest.raises(ValueError, match=r"model\.keras is there already"):
        train(recipe(), crops, validation, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["model.keras"]


def test_finished_run_is_read_not_trained(finished, crops, validation, tmp_path):
    folder = copy_of(finished, tmp_path)
    written = (folder / "model.keras").stat().st_mtime_ns
    for left in ("last.keras", "last.previous.keras"):  # by a kill just before the end
        (folder / left).touch()
    assert train(recipe(dropout=0.2), crops, validation, folder) == finished[1]
    assert (folder / "model.keras").stat().st_mtime_ns == written
    assert not list(folder.glob("last*"))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        *(("results.json", text) for text in (b"", b"[]", b"{}", b'{"validation": {}}')),
        *(("model.keras", content) for content in (None, b"", b"PK")),
    ],
)
def test_a_damaged_finished_run_is_no_result(finished, crops, validation, tmp_path, name, content):
    folder = copy_of(finished, tmp_path)
    (folder / "last.keras").touch()  # by a kill just before the end: it may be needed
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content)
    message = rf"{name}.*Delete .*results\.json, and the same command trains again"
    with pytest.raises(ValueError, match=message):
        train(recipe(dropout=0.2), crops, validation, folder)
    assert (folder / "last.keras").exists()


def test_a_damaged_finished_run_trains_again(finished, crops, validation, tmp_path):
    """When what the message says is done; to the same result."""
    folder = copy_of(finished, tmp_path)
    model = (folder / "model.keras").read_bytes()
    (folder / "model.keras").write_bytes(model[:3000])
    with pytest.raises(ValueError, match=r"model\.keras is damaged or gone"):
        train(recipe(dropout=0.2), crops, validation, folder)
    (folder / "results.json").unlink()
    assert (
        train(recipe(dropout=0.2), crops, validation, folder)["validation"]
        == (finished[1]["validation"])
    )
    assert len((folder / "history.csv").read_text().splitlines()) == 4
    load_model(folder / "model.keras")


def test_a_link_in_the_folder_is_refused_before_the_work(crops, validation, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "_train", None)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model.keras").symlink_to(tmp_path / "elsewhere.keras")
    with pytest.raises(ValueError, match=r"model\.keras is a link"):
        train(recipe(), crops, validation, tmp_path / "run")


def test_folder_of_another_run_is_refused(finished, crops, validation, tmp_path):
    folder = copy_of(finished, tmp_path)
    with pytest.raises(ValueError, match="epochs: 3 there, 5 now"):
        train(recipe(dropout=0.2, epochs=5), crops, validation, folder)


def test_other_image_size_is_another_run(finished, validation, tmp_path):
    folder = copy_of(finished, tmp_path)
    other = datasets.load("synthetic", num_synthetic=48, image_size=48)
    with pytest.raises(ValueError, match="image_size: 32 there, 48 now"):
        train(recipe(dropout=0.2), other, validation, folder)


def test_curves_come_after_their_checkpoint(crops, validation, tmp_path, monkeypatch):
    """A kill between the two would else double a point: the epoch is taken again."""
    steps = []

    class Curves(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            steps.append(int(load_model(tmp_path / "last.keras").optimizer.iterations.numpy()))

    monkeypatch.setattr(run, "_tensorboard", lambda *_: (Curves(),))
    train(recipe(epochs=2), crops, validation, tmp_path, tensorboard=True)
    each = run.epoch_steps(recipe(), crops)
    assert steps == [each, 2 * each]


def test_nan_stops_and_says_so(crops, validation, tmp_path):
    with pytest.raises(FloatingPointError, match="Lower the learning rate"):
        train(recipe(learning_rate=1e30, schedule="constant"), crops, validation, tmp_path)
    assert not (tmp_path / "model.keras").exists()


def test_weights_that_are_nan_are_found_where_the_loss_is_finite(crops, validation, tmp_path):
    """MobileFPN's ReLU makes 0 of NaN, and all maps flat."""
    diverged = recipe(network="mobile_fpn", learning_rate=1e20, schedule="constant")
    with pytest.raises(FloatingPointError, match=r"finite weights.* after epoch 1\. Lower the"):
        train(diverged, crops, validation, tmp_path)
    assert not (tmp_path / "model.keras").exists() and not (tmp_path / "last.keras").exists()


def test_a_model_that_finds_nothing_is_refused(crops, validation, tmp_path, monkeypatch, caplog):
    """Finite weights and a finite loss in training may hide it."""
    predict, lost = run.model_scores.predict, 2

    def blind(*args, **kwargs):
        found = predict(*args, **kwargs)
        return {
            name: np.where(np.arange(len(v))[:, None, None] < lost, np.nan, v)
            for name, v in found.items()
        }

    monkeypatch.setattr(run.model_scores, "predict", blind)
    found = train(recipe(epochs=1), crops, validation, tmp_path / "two")
    assert f"2 of {len(validation)} validation faces have no finite prediction" in caplog.text
    assert np.isfinite(found["validation"]["spread"])
    lost = len(validation)
    with pytest.raises(FloatingPointError, match=r"no prediction is finite\. Lower the learning"):
        train(recipe(epochs=1), crops, validation, tmp_path / "all")
    assert not (tmp_path / "all" / "model.keras").exists()


def test_other_errors_are_no_learning_rates(crops, validation, tmp_path, monkeypatch):
    def fails(*args, **kwargs):
        raise NotImplementedError("no such backend")

    monkeypatch.setattr(run.distributed, "fit", fails)
    with pytest.raises(NotImplementedError, match="no such backend"):
        train(recipe(), crops, validation, tmp_path)


def test_a_size_that_no_network_takes_leaves_the_folder(validation, tmp_path):
    odd = datasets.load("synthetic", split="train", num_synthetic=20, image_size=40)
    with pytest.raises(ValueError, match="multiple of 16"):
        train(recipe(), odd, validation, tmp_path / "run")
    assert not (tmp_path / "run" / "run.json").exists()


class TestTeacher:
    @pytest.fixture(scope="class")
    @classmethod
    def teacher(cls, crops, tmp_path_factory):
        path = tmp_path_factory.mktemp("teacher") / "model.keras"
        build(recipe(), crops).save(path)
        return Teacher(str(path), batch_size=4)

    @pytest.fixture
    def unlabeled(self, crops):
        return datasets.load_unlabeled(crops, num_unlabeled=20)

    def test_goes_on_to_the_unbroken_run_on_the_same_labels(
        self, crops, validation, unlabeled, teacher, tmp_path, monkeypatch
    ):
        args = recipe(teacher=teacher, dropout=0.2), crops, validation
        with copied_after(monkeypatch, 0, tmp_path / "unbroken", tmp_path / "stopped"):
            results = train(*args, tmp_path / "unbroken", unlabeled=unlabeled)
        assert results["recipe"]["teacher"]["batch_size"] == 4
        trained_on = results["validation"]["trained_on"]
        assert trained_on.startswith("48 synthetic faces; without labels 20 ")
        assert trained_on.endswith(", labeled by a model trained on the same labels")
        labels = np.load(tmp_path / "stopped" / "pseudo_labels.npy")["label"]
        assert labels.shape == (20, 68, 3) and (labels[..., 2] == 1).all()
        monkeypatch.setattr(distillation, "write_pseudo_labels", pytest.fail)
        train(*args, tmp_path / "stopped", unlabeled=unlabeled)
        assert_same_run(tmp_path / "unbroken", tmp_path / "stopped", steps=18)

    def test_labels_are_the_mean_of_several_teachers(
        self, crops, validation, unlabeled, teacher, tmp_path
    ):
        other = tmp_path / "other.keras"
        build(recipe(seed=5), crops).save(other)
        labels = {}
        for model in (teacher.model, str(other), (teacher.model, str(other))):
            folder = tmp_path / f"run{len(labels)}"
            chosen = recipe(epochs=1, teacher=dataclasses.replace(teacher, model=model))
            found = train(chosen, crops, validation, folder, unlabeled=unlabeled)
            labels[model] = np.load(folder / "pseudo_labels.npy")["label"]
            again = train(chosen, crops, validation, folder, unlabeled=unlabeled)
            assert again["validation"] == found["validation"]
        one, two, both = labels.values()
        assert np.abs(one - two).max() > 0.1
        np.testing.assert_allclose(both, (one + two) / 2, atol=1e-3)
        assert found["validation"]["trained_on"].endswith("a model trained on the same labels")

    def test_faces_that_come_in_another_order_are_labeled_again(
        self, crops, validation, unlabeled, teacher, tmp_path, monkeypatch, caplog
    ):
        """As where pictures were renamed between two calls of the same run."""
        args = recipe(epochs=1, teacher=teacher), crops, validation, tmp_path
        label(*args, unlabeled=unlabeled)
        images = unlabeled.gather(np.arange(20)[::-1])
        turned = dataclasses.replace(unlabeled, faces=InMemory(images))
        given = []

        def batches(crops, faces, labels, *_, **__):
            given.append(np.array(labels))
            raise KeyboardInterrupt

        monkeypatch.setattr(run, "self_training_batches", batches)
        for faces in (unlabeled, turned):
            with pytest.raises(KeyboardInterrupt):
                train(*args, unlabeled=faces)
        before, now = given
        assert abs(before - before[::-1]).max() > 0.1
        np.testing.assert_allclose(now[::-1], before, atol=1e-3)
        assert caplog.text.count("is damaged, or has labels of faces in another order") == 1

    def test_batches_have_the_teachers_labels(
        self, crops, validation, unlabeled, teacher, tmp_path, monkeypatch
    ):
        given = []

        def label(path, model, faces, max_scale, *_):
            given.append(max_scale)
            rows = np.ones(len(faces), distillation._row_type(68))
            rows["face"] = faces.digests()
            np.save(path, rows)

        def batches(crops, faces, labels, batch_size, unlabeled_batch_size, **kwargs):
            given.extend([labels, batch_size, unlabeled_batch_size])
            raise KeyboardInterrupt

        monkeypatch.setattr(distillation, "write_pseudo_labels", label)
        monkeypatch.setattr(run, "self_training_batches", batches)
        chosen = recipe(epochs=1, batch_size=8, teacher=dataclasses.replace(teacher, max_scale=3.0))
        with pytest.raises(KeyboardInterrupt):
            train(chosen, crops, validation, tmp_path, unlabeled=unlabeled)
        max_scale, labels, *sizes = given
        assert max_scale == 3.0 and labels.shape == (20, 68, 3) and sizes == [8, 4]

    def test_a_link_in_the_folder_is_refused_before_faces_are_labeled(
        self, crops, validation, unlabeled, teacher, tmp_path, monkeypatch
    ):
        monkeypatch.setattr(run, "load_pseudo_labels", None)
        (tmp_path / "pseudo_labels.npy").symlink_to(tmp_path / "elsewhere.npy")
        with pytest.raises(ValueError, match=r"pseudo_labels\.npy is a link"):
            label(recipe(teacher=teacher), crops, validation, tmp_path, unlabeled=unlabeled)

    def test_batches_that_processes_can_not_share(
        self, crops, validation, unlabeled, teacher, tmp_path, monkeypatch
    ):
        """A teacher's faces are in one batch with the labeled ones, an adversary's are not."""
        monkeypatch.setattr(run.distributed, "join", object)
        monkeypatch.setattr(run.distributed, "all_gather", lambda data: [data])
        chosen = recipe(batch_size=8, teacher=dataclasses.replace(teacher, batch_size=4))
        against = recipe(batch_size=8, adversary=Adversary(batch_size=4))
        for each, devices, received in ((chosen, 5, 12), (against, 8, 4), (recipe(), 3, 8)):
            monkeypatch.setattr(run.distributed, "replicas", lambda devices=devices: devices)
            faces = unlabeled if each.takes_unlabeled else None
            with pytest.raises(ValueError, match=f"{devices} devices: .* Received: {received}$"):
                train(each, crops, validation, tmp_path, unlabeled=faces)
            assert not list(tmp_path.iterdir())
        monkeypatch.setattr(run.distributed, "replicas", lambda: 5)
        with pytest.raises(ValueError, match=r"5 devices: .* Received: 12$"):
            label(chosen, crops, validation, tmp_path, unlabeled=unlabeled)
        monkeypatch.setattr(run.distributed, "replicas", lambda: 3)
        run._check_batch_sizes(chosen)

    def test_a_finished_run_is_read_by_any_number_of_processes(
        self, finished, crops, validation, monkeypatch
    ):
        folder, results = finished
        monkeypatch.setattr(run.distributed, "check_batch_size", lambda size: 1 / 0)
        assert train(recipe(dropout=0.2), crops, validation, folder) == results

    def test_refused_before_the_folder_is_taken(
        self, crops, validation, unlabeled, teacher, tmp_path
    ):
        """So that the same folder can be given with the mistake mended."""
        other = dataclasses.replace(
            crops,
            scheme=schemes.Scheme("others", tuple(f"p{i}" for i in range(68))),
        )
        kept = {"unlabeled": unlabeled}
        missing = Teacher("nowhere.keras")
        with pytest.raises(FileNotFoundError, match="nowhere"):
            train(recipe(teacher=missing), crops, validation, tmp_path, **kept)
        with pytest.raises(ValueError, match=r"scheme 'others'.*Received: scheme 'ibug68'"):
            train(recipe(teacher=teacher), other, validation, tmp_path, **kept)
        assert not list(tmp_path.iterdir())

    def test_faces_of_another_crop_scale_are_refused_before_the_folder_is_taken(
        self, crops, validation, unlabeled, teacher, tmp_path
    ):
        unlabeled = dataclasses.replace(unlabeled, crop_scale=2.0)
        with pytest.raises(ValueError, match="Crop them alike"):
            train(recipe(teacher=teacher), crops, validation, tmp_path, unlabeled=unlabeled)
        assert not list(tmp_path.glob("run.json"))

    def test_needs_unlabeled_faces(self, crops, validation, teacher, tmp_path):
        with pytest.raises(ValueError, match="together"):
            train(recipe(teacher=teacher), crops, validation, tmp_path)


def test_eyes_in_the_wrong_order_are_refused_before_the_folder_is_taken(
    crops, validation, tmp_path
):
    first, second, *rest = crops.scheme.five_points
    scheme = dataclasses.replace(crops.scheme, five_points=(second, first, *rest))
    wrong = [dataclasses.replace(each, scheme=scheme) for each in (crops, validation)]
    with pytest.raises(ValueError, match="the eye at the picture's left comes first"):
        train(recipe(), *wrong, tmp_path)
    assert not list(tmp_path.iterdir())


class TestInitialModel:
    @pytest.fixture(scope="class")
    @classmethod
    def start(cls, crops, tmp_path_factory):
        path = tmp_path_factory.mktemp("start") / "model.keras"
        build(recipe(network="mobile_fpn", dropout=0), crops).save(path)
        return path

    def test_begins_with_its_weights(self, crops, start):
        chosen = recipe(network="mobile_fpn", dropout=0, seed=5, initial_model=str(start))
        for a, b in zip(
            build(chosen, crops).generator.get_weights(),
            load_model(start).generator.get_weights(),
            strict=True,
        ):
            np.testing.assert_array_equal(a, b)

    def test_layers_of_another_shape_stay_random(self, crops, start):
        few = dataclasses.replace(
            crops,
            landmarks=crops.landmarks[:, :5],
            visible=crops.visible[:, :5],
            scheme=schemes.Scheme("five", tuple("abcde")),
        )
        chosen = recipe(network="mobile_fpn", dropout=0, seed=5, initial_model=str(start))
        ours = build(chosen, few).generator
        theirs = load_model(start).generator
        assert ours.get_layer("maps").kernel.shape[-1] == 5
        for name in ("stem", "decoder1_project"):
            np.testing.assert_array_equal(
                ours.get_layer(name).get_weights()[0], theirs.get_layer(name).get_weights()[0]
            )

    def test_final_weights_have_its_share(self, crops, validation, start, tmp_path):
        chosen = recipe(network="mobile_fpn", dropout=0, epochs=1, initial_model=str(start))
        for share, folder in ((0.0, "trained"), (0.25, "mixed")):
            mixed = dataclasses.replace(chosen, initial_share=share)
            train(mixed, crops, validation, tmp_path / folder)
        old, new, mean = (
            load_model(file).generator.get_weights()
            for file in (start, tmp_path / "trained/model.keras", tmp_path / "mixed/model.keras")
        )
        assert any((a != b).any() for a, b in zip(old, new, strict=True))
        for a, b, c in zip(old, new, mean, strict=True):
            np.testing.assert_allclose(c, 0.25 * a + 0.75 * b, atol=1e-6)

    def test_share_of_what_does_not_fit(self, crops, start):
        few = dataclasses.replace(
            crops,
            landmarks=crops.landmarks[:, :5],
            visible=crops.visible[:, :5],
            scheme=schemes.Scheme("five", tuple("abcde")),
        )
        changes = {"initial_model": str(start), "initial_share": 0.1}
        with pytest.raises(ValueError, match=r"every layer fits.*lacks maps"):
            build(recipe(network="mobile_fpn", dropout=0, **changes), few)
        with pytest.raises(ValueError, match="`initial_share` is of the weights"):
            recipe(initial_share=0.1)

    def test_owes_to_its_faces_too(self, crops):
        chosen = recipe(
            network="mobile_fpn", dropout=0, width=1 / 8, initial_model="fpn-eighth-300w"
        )
        model = build(chosen, crops)
        assert model.trained_on.startswith(
            "48 synthetic faces; begun with a model trained on 300-W"
        )
        assert model.training_data.licenses == (LICENSES["synthetic"], LICENSES["300-W"])

    def test_the_same_faces_are_named_once(self, crops, start, tmp_path):
        chosen = recipe(network="mobile_fpn", dropout=0, initial_model=str(start))
        again = build(chosen, crops)
        again.save(tmp_path / "again.keras")
        chosen = dataclasses.replace(chosen, initial_model=str(tmp_path / "again.keras"))
        begun = "; begun with a model trained on the same labels"
        assert build(chosen, crops).trained_on == f"48 synthetic faces{begun}{begun}"

    def test_of_no_keras_model(self, crops, validation, tmp_path):
        from keras_lapkl import pretrained

        file = pretrained.path("fpn-eighth-300w", ".tflite")
        with pytest.raises(ValueError, match=r"`initial_model` must be.*TFLiteLocalizer"):
            train(recipe(initial_model=file), crops, validation, tmp_path)
        assert not list(tmp_path.iterdir())

    def test_of_a_network_alone(self, crops, start, tmp_path):
        load_model(start).generator.save(tmp_path / "g.keras")
        teacher = Teacher(model=str(tmp_path / "g.keras"))
        with pytest.raises(ValueError, match=r"Received: a MobileFPN.*Save the LandmarkLocalizer"):
            check_models(recipe(teacher=teacher), crops)

    @pytest.mark.parametrize(
        ("theirs", "ours", "flag"),
        [({"normalize": True}, {}, "normalize"), ({}, {"normalize": True}, "normalize")]
        + [({"beta": 4.0}, {}, "beta")],
    )
    def test_that_reads_in_another_way(self, crops, tmp_path, theirs, ours, flag):
        build(recipe(**theirs), crops).save(tmp_path / "m.keras")
        start = str(tmp_path / "m.keras")
        with pytest.raises(ValueError, match=f"trained with `{flag}` .* Give --{flag} as it was"):
            build(recipe(initial_model=start, **ours), crops)
        build(recipe(initial_model=start, **theirs), crops)

    def test_of_another_network(self, crops, start):
        with pytest.raises(ValueError, match=r"MobileFPN of which 0 of the .* fit this RCN"):
            build(recipe(initial_model=str(start)), crops)


def test_cosine_rises_then_falls_to_zero(crops):
    schedule = build(recipe(epochs=20, learning_rate=0.01), crops).optimizer._learning_rate
    steps = 20 * 6
    rates = np.array([float(schedule(i)) for i in range(steps + 1)])
    assert rates[6] == pytest.approx(0.01, rel=1e-3) and rates.argmax() == 6
    assert rates[0] < 0.001 and rates[-1] == pytest.approx(0, abs=1e-6)


@pytest.fixture
def start(warm_python, tmp_path_factory):
    """Starts `tools/train.py`; what it says is in the process's `said`."""

    def begin(folder, *flags):
        said = tmp_path_factory.mktemp("said") / "said"
        command = [TRAIN, *FLAGS, *flags, f"--output_dir={folder}"]
        process = warm_python.start(command, said, said)
        process.said = said
        return process

    return begin


def modified(path):
    """When it was, None without the file: `LAST` is gone for a moment between two renames."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return None


def assert_same_run(run, other, steps):
    models = [load_model(folder / "model.keras") for folder in (run, other)]
    if (run / "adversarial.keras").exists():
        models = [load_model(folder / "adversarial.keras") for folder in (run, other)]
        counts = [int(m.discriminator_optimizer.iterations) for m in models]
        assert counts == [steps, steps]
        states = [m.discriminator_optimizer.variables for m in models]
        assert_equal_but_for_rounding(*states)
    assert [int(m.optimizer.iterations) for m in models] == [steps, steps]
    assert_equal_but_for_rounding(*(m.variables for m in models))


def assert_equal_but_for_rounding(ours, theirs):
    """Another place in the data, seed or moment moves Adam's weights by far more than this."""
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-7 + 0.01 * np.abs(b).max())


def test_adversarial_run_stopped_at_random_moments_equals_the_unbroken_one(
    tmp_path, run_tool, start, crops, validation
):
    """Weights, both optimizers, dropout, noise, augmentation and the place in both streams.

    It is stopped by Ctrl-C and SIGTERM, which it tells, and killed; another process that begins
    meanwhile is told who has the folder.
    """
    flags = ["--epochs=8", "--num_unlabeled=37", "--discriminator_filters=4"]
    unbroken, stopped = tmp_path / "unbroken", tmp_path / "stopped"
    run_tool("tools/train.py", *FLAGS, *flags, f"--output_dir={unbroken}")
    wait = np.random.default_rng(time.time_ns()).uniform(0, 1)
    print(f"killed after {wait} s")
    last = stopped / "last.keras"
    ends = ((signal.SIGINT, 0), (signal.SIGTERM, 0), (signal.SIGKILL, wait))
    for number, seconds in ends:
        seen = modified(last)
        process = start(stopped, *flags)
        until = time.monotonic() + 120
        while modified(last) in (None, seen):
            assert process.poll() is None, process.said.read_text()
            assert time.monotonic() < until
            time.sleep(0.01)
        if number == signal.SIGINT:
            with pytest.raises(OSError, match=f"written to by process {process.pid} on"):
                train(recipe(), crops, validation, stopped)
        time.sleep(seconds)
        process.send_signal(number)
        status = process.wait()
        said = process.said.read_text()
        if number != signal.SIGKILL:
            assert status == {signal.SIGINT: 130, signal.SIGTERM: 75}[number]
            assert "The same command" in said
            assert ("Stopped by SIGTERM after epoch" in said) == (number == signal.SIGTERM)
            assert not (stopped / "results.json").exists(), "finished before it: train longer"
            assert not list(stopped.glob(".lapkl*"))
        assert "Resuming after epoch" in said or number == signal.SIGINT
    again = run_tool("tools/train.py", *FLAGS, *flags, f"--output_dir={stopped}")
    assert "Resuming after epoch" in again.stderr or "finished" in again.stderr
    assert_same_run(unbroken, stopped, steps=48)
    assert sorted(p.name for p in stopped.iterdir()) == sorted(p.name for p in unbroken.iterdir())
    histories = [
        list(csv.DictReader((folder / "history.csv").open())) for folder in (unbroken, stopped)
    ]
    assert [row["epoch"] for row in histories[1]] == [str(i) for i in range(8)]
    for ours, theirs in zip(*histories, strict=True):
        for name in ours:
            assert float(ours[name]) == pytest.approx(float(theirs[name]), rel=1e-4), name


class TestAdversary:
    @pytest.fixture
    def unlabeled(self, crops):
        return datasets.load_unlabeled(crops, num_unlabeled=20)

    def test_writes_the_localizer_and_all_of_it(self, crops, validation, unlabeled, tmp_path):
        adversary = Adversary(filters=4, batch_size=4)
        results = train(
            recipe(epochs=1, adversary=adversary), crops, validation, tmp_path, None, unlabeled
        )
        model, whole = (load_model(tmp_path / f"{n}.keras") for n in ("model", "adversarial"))
        assert type(model).__name__ == "LandmarkLocalizer"
        assert type(whole).__name__ == "AdversarialLocalizer"
        for a, b in zip(model.get_weights(), whole.generator.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)
        assert "without labels 20 " in model.trained_on
        assert results["parameters"] == model.count_params()
        assert results["recipe"]["adversary"]["filters"] == 4
        with (tmp_path / "history.csv").open() as file:
            header = next(csv.reader(file))
        assert {"discriminator_loss", "localization_loss", "val_nme"} <= set(header)

    def test_a_face_that_cannot_be_read_is_said_in_its_own_words(
        self, crops, validation, unlabeled, tmp_path, monkeypatch
    ):
        """TensorFlow's error has them in the middle of some eighty lines."""
        (tmp_path / "run").mkdir()

        def gather(self, indices):
            raise ValueError("faces-00000 is damaged at byte 34. Delete it.")

        monkeypatch.setattr(type(unlabeled), "gather", gather)
        adversary = recipe(epochs=1, adversary=Adversary(filters=4, batch_size=4))
        with pytest.raises(ValueError, match=r"^faces-00000 is damaged at byte 34\. Delete it\.$"):
            train(adversary, crops, validation, tmp_path / "run", None, unlabeled)

    @pytest.mark.parametrize("adversary", [None, Adversary()])
    def test_goes_with_unlabeled_faces(self, crops, validation, unlabeled, tmp_path, adversary):
        with pytest.raises(ValueError, match="together"):
            train(
                recipe(adversary=adversary),
                crops,
                validation,
                tmp_path,
                unlabeled=None if adversary else unlabeled,
            )

    def test_more_than_there_are_in_a_batch(self, crops, validation, tmp_path):
        few, out = datasets.load_unlabeled(crops, num_unlabeled=3), tmp_path / "run"
        with pytest.raises(ValueError, match=r"1\.\.3.*Lower .*`unlabeled_batch_size`"):
            train(recipe(adversary=Adversary()), crops, validation, out, None, few)
        assert not (out / "run.json").exists()


class TestMeanTeacher:
    @pytest.fixture
    def unlabeled(self, crops):
        return datasets.load_unlabeled(crops, num_unlabeled=20)

    def test_goes_on_to_the_unbroken_run(self, crops, validation, unlabeled, tmp_path, monkeypatch):
        """The teacher's weights come back too; `model.keras` is the student alone."""
        chosen = recipe(mean_teacher=MeanTeacher(start=0.5, batch_size=5))
        with copied_after(monkeypatch, 1, tmp_path / "unbroken", tmp_path / "stopped"):
            results = train(chosen, crops, validation, tmp_path / "unbroken", None, unlabeled)
        last = load_model(tmp_path / "stopped" / "last.keras")
        assert (last.consistency_start, int(last.optimizer.iterations)) == (9, 12)
        train(chosen, crops, validation, tmp_path / "stopped", None, unlabeled)
        model, again = (load_model(tmp_path / n / "model.keras") for n in ("unbroken", "stopped"))
        assert_equal_but_for_rounding(model.variables, again.variables)
        assert type(model).__name__ == "LandmarkLocalizer"
        assert results["parameters"] == model.count_params()
        assert "without labels 20 " in model.trained_on
        assert not (tmp_path / "unbroken" / "adversarial.keras").exists()
        with (tmp_path / "unbroken" / "history.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert all(float(row["consistency_loss"]) > 0 for row in rows)

    def test_a_wider_one_labels_faces_for_the_runs_own(
        self, crops, validation, unlabeled, tmp_path, monkeypatch
    ):
        """It is stopped while the wider one learns."""
        wide = MeanTeacher(start=0.5, batch_size=5, width=1 / 32, epochs=3)
        chosen = recipe(epochs=2, mean_teacher=wide)
        with copied_after(monkeypatch, 0, tmp_path / "unbroken", tmp_path / "stopped"):
            results = train(chosen, crops, validation, tmp_path / "unbroken", None, unlabeled)
        assert [path.name for path in (tmp_path / "stopped").iterdir() if path.is_dir()] == [
            "teacher"
        ]
        train(chosen, crops, validation, tmp_path / "stopped", None, unlabeled)
        model, again = (load_model(tmp_path / n / "model.keras") for n in ("unbroken", "stopped"))
        assert_equal_but_for_rounding(model.variables, again.variables)
        teacher = load_model(tmp_path / "unbroken" / "teacher" / "model.keras")
        assert model.generator.width == 1 / 64 and teacher.generator.width == 1 / 32
        lines = (tmp_path / "unbroken" / "teacher" / "history.csv").read_text().splitlines()
        assert len(lines) == 1 + 3
        assert results["recipe"]["mean_teacher"]["width"] == 1 / 32
        labels = np.load(tmp_path / "unbroken" / "pseudo_labels.npy")["label"]
        assert labels.shape == (20, 68, 3)
        # Finished, it needs its teacher no more.
        shutil.rmtree(tmp_path / "unbroken" / "teacher")
        assert train(chosen, crops, validation, tmp_path / "unbroken", None, unlabeled) == results

    def test_a_second_one_of_labels_alone_labels_beside_it(
        self, crops, validation, unlabeled, tmp_path
    ):
        wide = MeanTeacher(batch_size=5, width=1 / 32, epochs=1, supervised_epochs=2)
        train(recipe(epochs=1, mean_teacher=wide), crops, validation, tmp_path, None, unlabeled)
        teachers = []
        for name, epochs in (("teacher", 1), ("supervised_teacher", 2)):
            assert len((tmp_path / name / "history.csv").read_text().splitlines()) == 1 + epochs
            teachers.append(load_model(tmp_path / name / "model.keras"))
        seen = [" without labels 20 " in each.trained_on for each in teachers]
        assert seen == [True, False]
        found = [distillation.pseudo_labels([each], unlabeled)[..., :2] for each in teachers]
        assert abs(found[0] - found[1]).max() > 0.1
        labels = np.load(tmp_path / "pseudo_labels.npy")["label"][..., :2]
        np.testing.assert_allclose(labels, (found[0] + found[1]) / 2, atol=1e-4)
        model = load_model(tmp_path / "model.keras")
        assert model.generator.width == 1 / 64 and "labeled by" in model.trained_on

    def test_sigterm_in_its_last_epoch_ends_the_run(
        self, crops, validation, unlabeled, tmp_path, monkeypatch
    ):
        """And not only the wider one, behind which the labels and the student are to come."""
        wide = MeanTeacher(batch_size=5, width=1 / 32, epochs=1)
        args = recipe(epochs=1, mean_teacher=wide), crops, validation, tmp_path, None, unlabeled
        asked = itertools.count(1)
        with monkeypatch.context() as patch:
            noted = contextlib.nullcontext(lambda: next(asked) >= 6)  # with the last of 6 steps
            patch.setattr(preemption, "noted", lambda: noted)
            with pytest.raises(UnfinishedError, match="after epoch 1 and 0 steps"):
                train(*args)
        assert not (tmp_path / "pseudo_labels.npy").exists()
        train(*args)
        assert (tmp_path / "model.keras").exists()
        assert len((tmp_path / "teacher" / "history.csv").read_text().splitlines()) == 2

    def test_a_wider_one_has_a_lower_learning_rate_and_no_initial_model(self):
        chosen = recipe(width=1 / 8, learning_rate=2e-2, mean_teacher=MeanTeacher(width=1 / 2))
        wide = recipe(width=1 / 2, learning_rate=1e-2, mean_teacher=MeanTeacher())
        assert chosen.wide == (wide,) and wide.wide == recipe().wide == ()
        with pytest.raises(ValueError, match="drop one of them"):
            dataclasses.replace(chosen, initial_model="fpn-eighth-300w")

    def test_needs_unlabeled_faces(self, crops, validation, tmp_path):
        with pytest.raises(ValueError, match="together"):
            train(recipe(mean_teacher=MeanTeacher()), crops, validation, tmp_path)

    def test_another_backend(self, crops, validation, unlabeled, tmp_path, monkeypatch):
        monkeypatch.setattr(run.keras.backend, "backend", lambda: "jax")
        chosen = recipe(mean_teacher=MeanTeacher())
        with pytest.raises(ValueError, match=r"set KERAS_BACKEND=tensorflow\. Received: jax"):
            train(chosen, crops, validation, tmp_path / "run", None, unlabeled)
        assert not (tmp_path / "run").exists()
