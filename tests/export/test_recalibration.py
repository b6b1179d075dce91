import dataclasses

import numpy as np
import pytest

from keras_lapkl import confidence, load_model, pretrained
from keras_lapkl.data import datasets
from keras_lapkl.export.recalibration import assess, recalibrate
from keras_lapkl.tflite import flatbuffer, metadata

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def crops():
    return datasets.load("synthetic", split="validation", num_synthetic=60)


@pytest.fixture(scope="module")
def path():
    return pretrained.resolve("fpn-sixteenth-300w", (".tflite",))


def test_a_file_keeps_all_but_its_calibration(crops, path, tmp_path):
    found = recalibrate(path, tmp_path / "ours.tflite", crops)
    before, after = load_model(path), load_model(tmp_path / "ours.tflite")
    images = crops.central()[:3]
    for name, value in before.predict(images).items():
        np.testing.assert_array_equal(after.predict(images)[name], value)
    assert after.calibration == found.calibration != before.calibration
    assert after.calibration.data.startswith("60 synthetic faces")
    contents = [flatbuffer.read(file) for file in (path, tmp_path / "ours.tflite")]
    about = [metadata.read(content).to_dict() for content in contents]
    assert {k for k in about[0] if about[0][k] != about[1][k]} == {"calibration"}
    assert len({len(content.metadata) for content in contents}) == 1
    assert found.after[0.9] == pytest.approx(0.9, abs=0.02)
    # Synthetic faces are another world: errors are larger than what 300-W lets expect.
    mended = abs(found.expected_after - found.error)
    assert mended < 0.02 * found.error < abs(found.expected_before - found.error)


def test_a_keras_file(crops, tmp_path):
    source = pretrained.resolve("fpn-sixteenth-300w", (".keras",))
    found = recalibrate(source, tmp_path / "ours.keras", crops.take(range(20)))
    before, after = load_model(source), load_model(tmp_path / "ours.keras")
    assert after.calibration == found.calibration
    # 20 faces do not tell when one is lost, but that more is to be expected of all.
    larger = found.error / found.expected_before
    assert after.calibration.lost == pytest.approx(before.calibration.lost * larger, rel=1e-3)
    for a, b in zip(before.get_weights(), after.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_each_face_is_judged_by_others(monkeypatch):
    """Errors are twice what the model's own calibration expects, of 68 points of 100 faces."""
    fitted, fit = [], confidence.fit

    def counted(errors, *args, **kwargs):
        fitted.append(len(errors))
        return fit(errors, *args, **kwargs)

    crops = datasets.load("synthetic", split="validation", num_synthetic=100)
    rng = np.random.default_rng(0)
    scale = rng.uniform(1, 3, (100, 68, 2)).astype(np.float32)
    away = rng.exponential(scale.mean(-1))[..., None] * np.float32([1, 0])
    own = confidence.fit(away[..., 0] / 2, scale)
    monkeypatch.setattr(confidence, "fit", counted)
    found = assess(own, {"landmarks": crops.landmarks + away, "scale": scale}, crops)
    assert fitted == [80] * 5 + [100]
    assert found.error == pytest.approx(2 * found.expected_before, rel=0.02)
    assert found.expected_after == pytest.approx(found.error, rel=0.02)
    for asked in confidence.COVERAGES:
        assert found.after[asked] == pytest.approx(asked, abs=0.02)
        # Of an exponential distribution P(x > q) = 1 - asked, and P(x > q/2) its root.
        assert found.before[asked] == pytest.approx(1 - (1 - asked) ** 0.5, abs=0.03)


@pytest.mark.parametrize(
    ("count", "output", "message"),
    [(9, "o.tflite", "10 labeled faces or more"), (20, "o.keras", "the same kind")],
)
def test_refused(crops, path, tmp_path, count, output, message):
    with pytest.raises(ValueError, match=message):
        recalibrate(path, tmp_path / output, crops.take(range(count)))
    assert not list(tmp_path.iterdir())


def test_over_itself(crops, path, tmp_path):
    copy = tmp_path / "m.tflite"
    copy.write_bytes(path.read_bytes())
    with pytest.raises(ValueError, match=r"m\.tflite"):
        recalibrate(copy, copy, crops)
    assert copy.read_bytes() == path.read_bytes()


def test_labels_of_some_points(crops, path, tmp_path):
    """Neither eyes nor jaw: no error in percent of the eyes' distance is needed."""
    some = np.arange(68) >= 48
    partly = dataclasses.replace(crops, visible=crops.visible & some)
    own = load_model(path).calibration
    found = recalibrate(path, tmp_path / "ours.tflite", partly)
    assert abs(found.after[0.9] - 0.9) < 0.03
    assert np.all(np.isfinite(found.calibration.quantiles[0.9]) == some)
    assert found.calibration.errors == own.errors
    change = np.array(found.calibration.factors) / own.factors
    assert np.ptp(change[:48]) < 0.01 and change[:48].mean() == pytest.approx(
        found.error / found.expected_before, rel=0.05
    )
