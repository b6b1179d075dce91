"""Files cut for microcontrollers: the same int8 numbers, in fewer operators and less memory."""

import numpy as np
import pytest

from keras_lapkl import load_model, pretrained
from keras_lapkl.data import synthetic_faces
from keras_lapkl.export import flatbuffer_writer, micro
from keras_lapkl.tflite import TFLiteLocalizer, axes, compatibility, describe, flatbuffer, runner

SOURCE = pretrained.path("fpn-eighth-300w", "-int8.tflite")
MIXED = pretrained.path("fpn-sixteenth-300w", "-int8.tflite")
SHIPPED = pretrained.path("fpn-sixteenth-micro", ".tflite")


def test_it_is_small_and_int8_throughout():
    about = describe(SHIPPED)
    assert about["bytes"] <= 64 * 1024
    assert {kind for types in about["operators"].values() for kind in types} == {"int8"}
    assert [(each["name"], each["shape"], each["dtype"]) for each in about["outputs"]] == [
        ("columns", [1, 1, 40, 68], "int8"),
        ("rows", [1, 40, 1, 68], "int8"),
    ]
    assert about["metadata"]["input"]["range"] == [-128, 127]
    assert about["metadata"]["measured"] is None  # it was another file's
    report = compatibility.check(SHIPPED, ["micro", "ethos-u"])
    assert [entry["falls_back"] for entry in report["targets"].values()] == [0, 0]


@pytest.mark.parametrize("name", ["fpn-eighth-300w", "fpn-eighth-112-300w", "fpn-quarter-112-300w"])
def test_the_numbers_are_those_of_the_whole_file(name, tmp_path):
    source = pretrained.path(name, "-int8.tflite")
    cut = tmp_path / "cut.tflite"
    cut.write_bytes(micro.for_micro(source.read_bytes()))
    whole = flatbuffer.read(source)
    pools = [i for i in range(len(whole.subgraphs[0].operators)) if _is_pool(whole, i)]
    signature = whole.signatureDefs[0]
    for entry, index in zip(signature.outputs, pools, strict=True):
        entry.tensorIndex = whole.subgraphs[0].operators[index].outputs[0]
    whole.subgraphs[0].outputs = [entry.tensorIndex for entry in signature.outputs]
    open_file = tmp_path / "open.tflite"
    open_file.write_bytes(flatbuffer_writer.pack(whole))
    size = describe(cut)["metadata"]["image_size"]
    images, _ = synthetic_faces(3, 7, size)
    for image in images:
        assert all(map(np.array_equal, outputs(cut, image), outputs(open_file, image)))


def _is_pool(model, index):
    return micro._kind(model, model.subgraphs[0].operators[index]) == "MAX_POOL_2D"


def outputs(path, image):
    interpreter = runner.load_interpreter(path)
    (given,) = interpreter.get_input_details()
    interpreter.set_tensor(given["index"], runner.as_input(image, given))
    interpreter.invoke()
    return [interpreter.get_tensor(each["index"]) for each in interpreter.get_output_details()]


def test_the_library_reads_it_as_any_other(tmp_path):
    images, _ = synthetic_faces(8, 5, 80)
    path = tmp_path / "cut.tflite"
    path.write_bytes(micro.for_micro(SOURCE.read_bytes()))
    cut, whole = TFLiteLocalizer(path), TFLiteLocalizer(SOURCE)
    assert (cut.image_size, cut.num_landmarks, cut.scheme) == (80, 68, whole.scheme)
    assert cut.calibration == whole.calibration
    model = load_model(pretrained.path("fpn-eighth-300w", ".keras"))
    assert describe(SOURCE)["metadata"]["refined"]
    assert not describe(path)["metadata"]["refined"]
    found, expected = cut.predict(images), whole.predict(images)
    refined = np.asarray(model.refinement(found["landmarks"]))
    # The whole file rounds what lies between two columns to int8, which this one does not.
    apart = np.linalg.norm(refined - expected["landmarks"], axis=-1)
    assert 0 < apart.mean() < 0.15
    assert np.abs(found["scale"] - expected["scale"]).mean() < 0.1
    with pytest.raises(ValueError, match="landmarks and scales alone"):
        cut.predict_heatmaps(images)


@pytest.mark.parametrize(
    ("path", "why"),
    [
        (pretrained.path("fpn-sixteenth-300w", ".tflite"), "one QUANTIZE"),
        (SHIPPED, "does not give"),
        (MIXED, "decoder1 stayed in float.*--mean_bound"),
    ],
    ids=["float16", "cut already", "a stage in float"],
)
def test_another_file_is_refused(path, why):
    with pytest.raises(ValueError, match=f"{path.name} can't be cut .*{why}.*--mode=int8"):
        micro.for_micro(path.read_bytes(), path)


def test_the_shipped_one_is_near_to_its_model():
    images, _ = synthetic_faces(8, 5, 80)
    model = load_model("fpn-sixteenth-300w")
    model.refinement = None
    found, expected = TFLiteLocalizer(SHIPPED).predict(images), model.predict(images, verbose=0)
    apart = np.linalg.norm(found["landmarks"] - expected["landmarks"], axis=-1)
    assert 0 < apart.mean() < 0.3


def test_maps_in_float_are_refused(tmp_path):
    model = flatbuffer.read(SOURCE)
    pool = next(i for i in range(99) if _is_pool(model, i))
    maps = model.subgraphs[0].operators[pool].inputs[0]
    model.subgraphs[0].tensors[maps].type = 0
    with pytest.raises(ValueError, match="int8"):
        micro.for_micro(flatbuffer_writer.pack(model))


def test_its_logits_are_decoded_with_the_beta_of_the_model(monkeypatch):
    """The file has no decoding of its own, and another β gives other landmarks."""
    model = TFLiteLocalizer(SHIPPED)
    crop = np.random.default_rng(0).integers(0, 256, (model.image_size,) * 2 + (3,), np.uint8)
    asked = []
    monkeypatch.setattr(axes, "decode", lambda *_, beta: asked.append(beta))
    model.metadata["beta"] = 0.5
    model(crop)
    del model.metadata["beta"]
    model(crop)
    assert asked == [0.5, 1.0]
