import pathlib
import re
import runpy

import keras
import numpy as np
import pytest

import keras_lapkl
from keras_lapkl import tflite
from keras_lapkl.data import datasets
from keras_lapkl.evaluation import model_scores
from keras_lapkl.export import (
    conversion,
    equalization,
    flatbuffer_writer,
    int8,
    micro,
    report as conversion_report,
    rounding,
    verify,
)
from keras_lapkl.models.adversarial import AdversarialLocalizer
from keras_lapkl.models.localizer import to_unit_range
from keras_lapkl.models.mean_teacher import MeanTeacherLocalizer
from keras_lapkl.models.networks import dtype_policy
from keras_lapkl.models.patch_gan import PatchGAN
from keras_lapkl.models.rcn import RCN
from keras_lapkl.models.refinement import ShapeRefinement
from keras_lapkl.tflite import flatbuffer, inspection

ROOT = pathlib.Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.slow

SIZE = 32


def _shared(layers):
    image = layers.Input((SIZE, SIZE, 3))
    x = layers.Conv2D(4, 3, padding="same", activation="relu")(image)
    twice = layers.Conv2D(4, 3, padding="same", activation="relu")
    x = twice(x) + 2 * twice(twice(x))
    return _model(image, layers.Conv2D(2, 3, padding="same")(x))


def _attention(layers):
    image = layers.Input((SIZE, SIZE, 3))
    x = layers.Conv2D(4, 3, padding="same", activation="relu")(image)
    weights = layers.ReLU()(layers.Dense(4)(layers.GlobalAveragePooling2D()(x)))
    x = layers.Multiply()([x, layers.Reshape((1, 1, 4))(weights)])
    x = layers.Add()([x, layers.Conv2D(1, 1)(x)])
    return _model(image, layers.Conv2D(2, 3, padding="same")(x))


def _adapted(layers):
    layer = layers.Normalization()
    layer.adapt(np.random.default_rng(0).uniform(0.2, 0.5, (4, SIZE, SIZE, 3)).astype(np.float32))
    return layer


def _frozen(layers):
    frozen = _sequential(_conv(activation="relu"))(layers)
    frozen.trainable = False
    return frozen


def _of_its_own(layers, whole=False):
    import keras

    class Halved(keras.Model):
        def call(self, inputs):
            return super().call(0.5 * inputs)

    image, x = layers.Input((SIZE, SIZE, 3)), layers.Input((SIZE, SIZE, 3))
    inner = Halved(x, layers.Conv2D(4, 3, padding="same", activation="relu")(x))
    if whole:
        return inner
    return _model(image, layers.Conv2D(2, 3, padding="same")(inner(image)))


def _trained_inside(layers):
    image = layers.Input((SIZE, SIZE, 3))
    inner = _sequential(_conv(), lambda layers: layers.BatchNormalization(momentum=0.5))(layers)
    return _model(image, layers.Conv2D(2, 3, padding="same")(inner(image, training=True)))


def _listed(layers):
    """Both ends in lists, and names that Keras gives again."""
    image = layers.Input((SIZE, SIZE, 3))
    twice = layers.Conv2D(3, 3, padding="same", activation="relu", name="conv2d")
    x = twice(twice(image))
    x = layers.Conv2D(4, 3, padding="same", activation="relu", name="conv2d_copy2")(x)
    return _model([image], [layers.Conv2D(2, 3, padding="same")(x)])


def _model(*ends):
    import keras

    return keras.Model(*ends)


def _sequential(*middle):
    def build(layers):
        import keras

        ends = keras.Input((SIZE, SIZE, 3)), layers.Conv2D(2, 3, padding="same")
        return keras.Sequential([ends[0], *(each(layers) for each in middle), ends[1]])

    return build


def _conv(**settings):
    return lambda layers: layers.Conv2D(4, 3, padding="same", **settings)


OWN = {
    "ReLU6": _sequential(
        _conv(), lambda layers: layers.ReLU(6.0), _conv(), lambda layers: layers.ReLU(6.0)
    ),
    "swish": _sequential(_conv(activation="swish"), _conv(activation="swish")),
    "relu": _sequential(_conv(activation="relu"), _conv(activation="leaky_relu")),
    "groups": _sequential(
        _conv(activation="relu"),
        _conv(groups=2, activation="relu"),
        lambda layers: layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2),
    ),
    "sequential without bias": _sequential(
        _conv(use_bias=False),
        lambda layers: layers.BatchNormalization(),
        lambda layers: layers.ReLU(),
    ),
    "nested": _sequential(_sequential(_conv(activation="relu"))),
    "transposed": _sequential(
        lambda layers: layers.Conv2D(4, 3, strides=2, padding="same", activation="relu"),
        lambda layers: layers.Conv2DTranspose(4, 4, strides=2, padding="same"),
    ),
    "separable": _sequential(
        lambda layers: layers.SeparableConv2D(4, 3, padding="same", activation="relu")
    ),
    "normalized": _sequential(
        lambda layers: layers.Normalization(mean=0.4, variance=0.1),
        _conv(activation="relu"),
    ),
    "adapted": _sequential(lambda layers: _adapted(layers), _conv(activation="relu")),
    "frozen": _sequential(lambda layers: _frozen(layers)),
    "of its own": lambda layers: _of_its_own(layers),
    "of its own as a whole": lambda layers: _of_its_own(layers, whole=True),
    "trained inside": lambda layers: _trained_inside(layers),
    "listed": lambda layers: _listed(layers),
    "shared": _shared,
    "attention": _attention,
}
BODY = {"CONCATENATION", "CONV_2D", "LEAKY_RELU", "MAX_POOL_2D", "RESIZE_BILINEAR"}


def file_of(converted, mode):
    return converted[mode][0]


class TestConvert:
    def test_float32_equals_keras(self, converted):
        parity = converted["float32"][1]["parity"]
        assert parity["landmarks"]["max"] <= 1e-3
        assert parity["scale"]["max"] <= 1e-3
        assert parity["images"] == 20

    def test_parity_is_measured_on_the_file(self, converted, localizer, images):
        path, report = converted["int8"]
        expected = localizer.predict(images[20:], verbose=0)["landmarks"]
        received = tflite.TFLiteLocalizer(path).predict(images[20:])["landmarks"]
        distances = np.linalg.norm(received - expected, axis=-1)
        assert report["parity"]["landmarks"]["mean"] == pytest.approx(distances.mean(), rel=1e-5)
        assert distances.max() > 0

    def test_float32_has_float_operators_only(self, converted):
        counts = converted["float32"][1]["operators"]
        assert counts["CONV_2D"] == {"float32": 17}
        assert not {"QUANTIZE", "DEQUANTIZE"} & set(counts)

    def test_int8_body_and_float_tail(self, converted):
        counts = converted["int8"][1]["operators"]
        assert counts["CONV_2D"] == {"int8": 17}
        assert counts["LEAKY_RELU"] == {"int8": 16}
        assert counts["QUANTIZE"] == {"int8": 1} and counts["DEQUANTIZE"] == {"float32": 1}
        assert {name for name, types in counts.items() if "int8" in types} == BODY | {"QUANTIZE"}
        assert "RELU" not in counts  # fused into the last convolution

    def test_int8_weights_have_a_step_size_for_each_channel(self, converted):
        graph = flatbuffer.read(file_of(converted, "int8")).subgraphs[0]
        tensors = [t for t in graph.tensors if t.shape is not None and len(t.shape) == 4]
        filters = [t for t in tensors if t.buffer and t.quantization.quantizedDimension == 0]
        steps = [(len(t.quantization.scale), t.shape[0]) for t in filters if t.shape[0] > 1]
        assert steps and all(count == channels for count, channels in steps)

    def test_int8_is_smaller(self, converted):
        assert converted["int8"][1]["bytes"] < 0.75 * converted["float32"][1]["bytes"]

    def test_constants_are_aligned(self, converted):
        content = file_of(converted, "int8").read_bytes()
        model = flatbuffer.schema().Model.GetRootAs(content, 0)
        buffers = [model.Buffers(i) for i in range(model.BuffersLength())]
        table = [b._tab for b in buffers if not b.DataIsNone()]
        assert table and {tab.Vector(tab.Offset(4)) % 16 for tab in table} == {0}

    def test_summary(self, converted):
        reports = [report for _, report in converted.values()]
        lines = conversion_report.summary(reports, runs=1).splitlines()
        assert len(lines) == 5
        assert "17 float32" in lines[1] and "17 int8" in lines[4]
        assert lines[0].split("  ")[-1] == "not on XNNPACK" and "PACK" in lines[1]

    def test_user_model_is_untouched(self, converted, make_localizer):
        """The fixture's model, after all conversions."""
        after = np.load(file_of(converted, "int8").parent / "weights_after.npz")
        for a, b in zip(make_localizer().get_weights(), after.values(), strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.fixture
def harmful(monkeypatch):
    """Three stages are said to do harm, without measuring, which takes a conversion for each."""
    harm = {"decoder1": 0.1, "encoder1": 0.2, "logits": 0.3}
    monkeypatch.setattr(
        int8.Int8Converter, "_error_alone", lambda self, stage, *args: harm.get(stage, 0.01)
    )


@pytest.fixture
def unlearned(monkeypatch):
    """How to round is not learned, which takes a minute."""
    monkeypatch.setattr(rounding, "learn_rounding", lambda *args: None)


@pytest.fixture
def searched(harmful, unlearned, monkeypatch):
    """Int8 is too far, also with learned rounding, until two stages are in float."""
    verdicts = iter(["too far", "too far", "too far", None])
    monkeypatch.setattr(verify, "out_of_bounds", lambda measured, bounds: next(verdicts))


def test_int8_spares_the_stages_that_do_most_harm(searched, localizer, images, tmp_path):
    path = tmp_path / "m.tflite"
    report = tflite.convert(
        localizer, path, "int8", faces=images[:2], representative_images=images[:4]
    )
    assert report["float_layers"] == report["metadata"]["float_layers"] == ["logits", "encoder1"]
    assert report["operators"]["CONV_2D"] == {"float32": 2, "int8": 15}
    generator = localizer.generator
    verify.check_operators(path, "int8", int8.int8_layers(generator, report["float_layers"]))
    with pytest.raises(tflite.ConversionError, match="CONV_2D"):
        verify.check_operators(path, "int8", int8.int8_layers(generator))


def test_int8_has_an_int8_stage(localizer, images, unlearned, monkeypatch):
    """Where each stage does harm, all but one are tried in float, and not all."""
    monkeypatch.setattr(int8.Int8Converter, "_error", lambda *args: 1.0)
    monkeypatch.setattr(int8.Int8Converter, "__call__", lambda *args: b"")
    converter = int8.Int8Converter(
        localizer, images[:4], ("landmarks", "scale"), flip_average=False
    )
    spared = [stages for stages, _ in converter.candidates(images[:2], None)]
    assert [len(stages) for stages in spared] == [0, *range(len(converter._stages()))]
    assert {stage.stage for stage in converter.stage_errors} == set(converter._stages())
    assert sum(stage.work for stage in converter.stage_errors) == pytest.approx(1)


@pytest.mark.parametrize("better", [True, False])
def test_learned_rounding_is_kept_where_it_helps(better, localizer, images, harmful, monkeypatch):
    """A file's bytes are here one weight of its network, which learning makes 1 larger."""

    def learn(generator, *args):
        generator.set_weights([w + 1 for w in generator.get_weights()])

    def weight(self, float_layers=()):
        return float(self.generator.get_weights()[0].flat[0])

    monkeypatch.setattr(rounding, "learn_rounding", learn)
    monkeypatch.setattr(int8.Int8Converter, "__call__", weight)
    sign = -1 if better else 1
    monkeypatch.setattr(int8.Int8Converter, "_error", lambda self, content, *args: sign * content)
    converter = int8.Int8Converter(localizer, images[:4], ("landmarks", "scale"), False)
    (_, nearest), (_, learned), *spared = converter.candidates(images[:2], None)
    assert learned == pytest.approx(nearest + 1)
    assert spared and {content for _, content in spared} == {learned if better else nearest}


@pytest.mark.parametrize("whole", [False, True])
def test_int8_takes_brighter_images_than_it_was_calibrated_on(localizer, images, whole):
    outputs = ("logits",) if whole else ("landmarks", "scale")
    converter = int8.Int8Converter(localizer, images[:4] // 2 + 20, outputs, False)
    content = converter.whole() if whole else converter()
    model = flatbuffer.parse(content)
    steps = model.subgraphs[0].tensors[micro._int8_image(model)].quantization
    assert steps.scale[0] == pytest.approx(1 / 255, rel=1e-4) and steps.zeroPoint[0] == -128


def test_harm_of_a_stage_is_measured_with_it_alone_in_int8(localizer, images):
    converter = int8.Int8Converter(
        localizer, images[:4], ("landmarks", "scale"), flip_average=False
    )
    stages = tuple(converter._stages())
    assert stages[:2] == ("encoder1", "encoder2") and stages[-1] == "logits"
    expected = localizer.predict(images[:2], verbose=0)["landmarks"]
    alone = converter._error_alone(stages[-1], stages, images[:2], expected)
    assert 0.001 < alone < converter._error(converter(), images[:2], expected)


class TestRefined:
    @pytest.fixture
    def refined(self, localizer):
        """Takes 0.3 of the differences of neighbors, and moves all by 2 pixels."""
        model = localizer.localizer()
        model.refinement = ShapeRefinement(model.num_landmarks)
        matrix, offset = (np.zeros_like(each) for each in model.refinement.get_weights())
        near = np.arange(len(offset) - 2)
        matrix[near, near + 2], matrix[near, near] = 0.3, -0.3
        model.refinement.set_weights([matrix, offset + 2])
        return model

    @pytest.mark.parametrize(
        ("mode", "bound"), [("float32", 1e-4), ("float16", 0.05), ("dynamic", 1), ("int8", 1)]
    )
    def test_in_each_mode(self, mode, bound, refined, localizer, images, tmp_path, monkeypatch):
        monkeypatch.setattr(flatbuffer_writer, "_TABLE", 16)
        path, more = tmp_path / "m.tflite", {}
        if mode == "int8":
            more["representative_images"] = images[:20]
        tflite.convert(refined, path, mode, faces=images[20:], bounds={"mean": bound}, **more)
        received = tflite.TFLiteLocalizer(path).predict(images[20:])
        expected = refined.predict(images[20:], verbose=0)
        plain = localizer.predict(images[20:], verbose=0)
        assert np.abs(received["landmarks"] - expected["landmarks"]).mean() <= bound
        assert np.abs(received["landmarks"] - plain["landmarks"]).mean() > 1.5 * bound
        assert inspection.describe(path)["metadata"]["refined"]
        if mode == "int8":  # else the table is the larger part of a file
            found = inspection.operators(flatbuffer.read(path))
            assert {o.name for o in found if o.inputs == ("float16",)} == {"DEQUANTIZE"}

    def test_mean_with_the_mirrored_face(self, refined, images, tmp_path):
        path = tmp_path / "m.tflite"
        tflite.convert(refined, path, faces=images[20:], flip_average=True)
        received = tflite.TFLiteLocalizer(path).predict(images[20:])["landmarks"]
        expected = model_scores.predict_flip_averaged(refined, images[20:])["landmarks"]
        np.testing.assert_allclose(received, expected, atol=1e-3)

    def test_logits_alone_come_before_it(self, refined, localizer, images, tmp_path):
        path = tmp_path / "m.tflite"
        about = tflite.convert(refined, path, faces=images[20:], decode=False)
        assert not about["metadata"]["refined"] and refined.refinement is not None
        found = verify.predict_by_file(path, images[20:], refined.beta)["landmarks"]
        expected = localizer.predict(images[20:], verbose=0)["landmarks"]
        np.testing.assert_allclose(found, expected, atol=1e-3)


class TestFailures:
    @pytest.mark.parametrize("mode", ["float32", "dynamic"])
    def test_bounds_of_other_names(self, mode, localizer, images, tmp_path):
        with pytest.raises(ValueError, match=r"by 'mean', 'max' and 'nme'\. Received: {'mean_px'"):
            tflite.convert(
                localizer, tmp_path / "m.tflite", mode, faces=images[:2], bounds={"mean_px": 0.1}
            )

    @pytest.mark.parametrize("shape", [(32, 48, 3), (32, 32, 1)])
    def test_networks_of_other_images(self, shape, images, tmp_path):
        import keras

        layers = [keras.Input(shape), keras.layers.Conv2D(2, 3, padding="same")]
        model = keras_lapkl.LandmarkLocalizer(keras.Sequential(layers))
        with pytest.raises(ValueError, match=r"square RGB images\. Received: "):
            tflite.convert(model, tmp_path / "m.tflite", faces=images[:2])

    def test_parity_out_of_bounds_leaves_nothing(self, localizer, images, tmp_path):
        with pytest.raises(tflite.ConversionError, match=r"at most 1e-12 px\. Received: "):
            tflite.convert(
                localizer, tmp_path / "m.tflite", faces=images[:2], bounds={"max": 1e-12}
            )
        assert not list(tmp_path.iterdir())

    def test_nan_weights_keep_the_existing_file(self, localizer, images, tmp_path):
        path = tmp_path / "m.tflite"
        path.write_bytes(b"precious")
        broken = type(localizer).from_config(localizer.get_config())
        broken.set_weights([np.full_like(w, np.nan) for w in localizer.get_weights()])
        with pytest.raises(tflite.ConversionError, match="nan"):
            tflite.convert(broken, path, faces=images[:2])
        assert path.read_bytes() == b"precious"
        assert list(tmp_path.iterdir()) == [path]

    @pytest.mark.parametrize("written", conversion.MODES)
    @pytest.mark.parametrize("asked", conversion.MODES)
    def test_only_the_types_that_were_asked_for(self, converted, localizer, written, asked):
        def check():
            layers = int8.int8_layers(localizer.generator)
            verify.check_operators(file_of(converted, written), asked, layers)

        if written == asked:
            return check()
        with pytest.raises(tflite.ConversionError, match="Expected"):
            check()

    def test_int8_softmax_is_refused(self, harmful, localizer, images, tmp_path, monkeypatch):
        """All in int8, as TensorFlow does it when nobody tells it what to spare."""
        monkeypatch.setattr(verify, "of_layers", lambda operator, layers: True)
        monkeypatch.setattr(verify, "check_operators", lambda *args: None)
        with pytest.raises(tflite.ConversionError, match=r"at most 0\.15 px"):
            tflite.convert(
                localizer,
                tmp_path / "m.tflite",
                "int8",
                faces=images[:4],
                representative_images=images[:4],
            )
        assert not list(tmp_path.iterdir())

    def test_failure_says_which_layer_loses_how_much(
        self, harmful, unlearned, localizer, images, tmp_path
    ):
        with pytest.raises(tflite.ConversionError) as caught:
            tflite.convert(
                localizer,
                tmp_path / "m.tflite",
                "int8",
                faces=images[:4],
                representative_images=images[:4],
                bounds={"mean": 1e-9},
            )
        assert "--mean_bound" in str(caught.value)
        stages, layers = (
            [line.split() for line in table.splitlines()]
            for table in str(caught.value).partition("\n")[2].split("layer")
        )
        assert stages[0] == ["stage", "alone", "in", "int8", "mean", "px", "%", "of", "the", "work"]
        assert stages[1][:2] == ["encoder1", "0.200"] and 0 < float(stages[1][2]) < 50
        assert layers[0] == ["type", "error", "%"]
        assert layers[1] == ["encoder1", "float32", "0.00"]  # spared in the last attempt
        layer, dtype, error = layers[2]
        assert (layer, dtype) == ("encoder2", "int8") and 0 < float(error) < 100
        assert not list(tmp_path.iterdir())

    def test_custom_operators(self, converted, monkeypatch):
        mine = inspection.Operator("MINE", ("float32",), ("float32",), custom=True)
        convolution = inspection.Operator("CONV_2D", ("float32",) * 3, ("float32",))
        monkeypatch.setattr(inspection, "operators", lambda model: [convolution, mine])
        with pytest.raises(tflite.ConversionError, match="custom MINE"):
            verify.check_operators(file_of(converted, "float32"), "float32")

    def test_no_convolution(self, converted, monkeypatch):
        monkeypatch.setattr(inspection, "operators", lambda model: [])
        with pytest.raises(tflite.ConversionError, match="none"):
            verify.check_operators(file_of(converted, "float32"), "float32")

    def test_wrong_signature(self, converted):
        path, shapes = file_of(converted, "float32"), {"landmarks": (5, 2), "scale": (5, 2)}
        verify.check_signature(path, "float32", 32, shapes)
        for dtype, size in (("float32", 48), ("uint8", 32)):
            with pytest.raises(tflite.ConversionError, match="inputs: expected"):
                verify.check_signature(path, dtype, size, shapes)
        for other in ({"landmarks": (5, 2)}, {**shapes, "scale": (6, 2)}):
            with pytest.raises(tflite.ConversionError, match="outputs: expected"):
                verify.check_signature(path, "float32", 32, other)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"mode": "float8"}, "must be one of"),
            ({"mode": "int8"}, "without them"),
            ({"representative_images": np.zeros((1, 32, 32, 3))}, "with them"),
            ({"faces": np.zeros((0, 32, 32, 3))}, "N > 0"),
            ({"faces": np.zeros((1, 80, 80, 3))}, r"\(N, 32, 32, 3\)"),
            ({"input_dtype": "int16"}, "must be one of"),
            ({"output_dtype": "int8"}, "needs --mode=int8"),
            ({"model": None}, "must be a LandmarkLocalizer"),
        ],
    )
    def test_arguments(self, changes, message, localizer, images, tmp_path):
        kwargs = {"model": localizer, "faces": images[:1], **changes}
        with pytest.raises(ValueError, match=message):
            tflite.convert(path=tmp_path / "m.tflite", **kwargs)
        assert not list(tmp_path.iterdir())

    def test_other_backend(self, localizer, images, tmp_path, monkeypatch):
        monkeypatch.setattr("keras.backend.backend", lambda: "jax")
        with pytest.raises(ValueError, match="KERAS_BACKEND=tensorflow"):
            tflite.convert(localizer, tmp_path / "m.tflite", faces=images[:1])


class TestBytes:
    """Files that take the image as bytes."""

    @pytest.mark.parametrize(("mode", "dtype"), [("float32", "int8"), ("int8", "uint8")])
    def test_answers_as_the_file_that_takes_floats(
        self, mode, dtype, converted, localizer, images, tmp_path
    ):
        path = tmp_path / "m.tflite"
        representative = {"representative_images": images[:20]} if mode == "int8" else {}
        report = tflite.convert(
            localizer,
            path,
            mode,
            faces=images[20:],
            input_dtype=dtype,
            bounds={"mean": 1.0},
            **representative,
        )
        assert report["inputs"][0]["dtype"] == dtype
        low, high = report["metadata"]["input"]["range"]
        assert (low, high) == ((0, 255) if dtype == "uint8" else (-128, 127))
        floats = tflite.TFLiteLocalizer(file_of(converted, mode))
        taking_bytes = tflite.TFLiteLocalizer(path)
        for image in (images[20], images[20] / np.float32(255)):
            found = [localize(image)[0] for localize in (floats, taking_bytes)]
            distance = np.linalg.norm(found[0] - found[1], axis=-1).mean()
            assert distance < (1e-3 if mode == "float32" else 0.5)  # int8 rounds bytes once more

    def test_float_encoder_reads_bytes_too(self, searched, localizer, images, tmp_path):
        report = tflite.convert(
            localizer,
            tmp_path / "m.tflite",
            "int8",
            faces=images[:2],
            representative_images=images[:4],
            input_dtype="uint8",
        )
        assert "encoder1" in report["float_layers"] and report["inputs"][0]["dtype"] == "uint8"
        assert report["parity"]["landmarks"]["mean"] < 1


class TestOutputs:
    def test_heatmaps(self, localizer, images, tmp_path):
        path = tmp_path / "m.tflite"
        report = tflite.convert(localizer, path, faces=images[:2], with_heatmaps=True)
        assert [o["name"] for o in report["outputs"]] == ["heatmaps", "landmarks", "scale"]
        received = tflite.TFLiteLocalizer(path).predict_heatmaps(images[:2])
        np.testing.assert_allclose(received, localizer.predict_heatmaps(images[:2]), atol=1e-5)

    def test_file_without_heatmaps(self, converted, images):
        with pytest.raises(ValueError, match="--heatmaps"):
            tflite.TFLiteLocalizer(file_of(converted, "float32")).predict_heatmaps(images[:1])

    @pytest.mark.parametrize("mode", ["float32", "int8"])
    def test_logits_alone(self, mode, localizer, images, tmp_path):
        path = tmp_path / "m.tflite"
        representative = {"representative_images": images[:4]} if mode == "int8" else {}
        report = tflite.convert(
            localizer, path, mode, faces=images[:2], decode=False, bounds={}, **representative
        )
        assert [(o["name"], o["shape"]) for o in report["outputs"]] == [("logits", [32, 32, 5])]
        assert report["parity"]["landmarks"]["mean"] < (1e-3 if mode == "float32" else 1)
        with pytest.raises(ValueError, match="is not a localizer: it gives no landmarks") as ours:
            tflite.TFLiteLocalizer(path)
        device = runpy.run_path(str(ROOT / "mobile" / "localize.py"))
        with pytest.raises(ValueError, match="without --no_decode") as theirs:
            device["Localizer"](path)
        assert str(ours.value) == str(theirs.value)
        page = (ROOT / "mobile" / "web" / "model.js").read_text()
        page = re.sub(r"[`\"]\s*\+\s*[`\"]", "", page)
        assert str(ours.value).replace(str(path), "${name}") in page

    @pytest.mark.parametrize(
        ("mode", "dtype"), [("float32", "float32"), ("float16", "float32"), ("int8", "uint8")]
    )
    def test_mirrored_too(self, mode, dtype, converted, localizer, images, tmp_path):
        path = tmp_path / "m.tflite"
        representative = {"representative_images": images[:20]} if mode == "int8" else {}
        bounds = {"mean": 1.0} if mode == "int8" else None
        report = tflite.convert(
            localizer,
            path,
            mode,
            faces=images[20:],
            bounds=bounds,
            input_dtype=dtype,
            flip_average=True,
            **representative,
        )
        assert report["metadata"]["flip_average"]
        assert not converted[mode][1]["metadata"]["flip_average"]
        # The weights are there once.
        assert report["bytes"] < converted[mode][1]["bytes"] + 10_000
        found = tflite.TFLiteLocalizer(path).predict(images[20:])
        expected = model_scores.predict_flip_averaged(localizer, images[20:])
        alone = localizer.predict(images[20:], verbose=0)
        for name in ("landmarks", "scale"):
            apart = np.abs(found[name] - expected[name]).mean()
            assert apart < (0.3 if mode == "int8" else 5e-3)
            assert np.abs(alone[name] - expected[name]).mean() > 3 * apart

    def test_mirrored_needs_mirror_pairs(self, localizer, images, tmp_path):
        bare = keras_lapkl.LandmarkLocalizer(localizer.generator, crop_scale=3.0)
        with pytest.raises(ValueError, match="needs a scheme with `flip`"):
            tflite.convert(bare, tmp_path / "m.tflite", faces=images[:1], flip_average=True)


@pytest.fixture(scope="module")
def crops():
    return datasets.load("synthetic", split="validation", num_synthetic=6, image_size=SIZE)


@pytest.fixture(scope="module")
def untrained():
    import keras

    keras.utils.set_random_seed(3)
    return keras_lapkl.LandmarkLocalizer(
        keras_lapkl.RCN(68, 1 / 16, SIZE), "ibug68", 3.0, trained_on="1 synthetic face"
    )


class TestLabels:
    @pytest.mark.parametrize("mirror", [False, True])
    def test_nme_is_measured_and_kept_in_the_file(self, mirror, untrained, crops, tmp_path):
        path = tmp_path / "m.tflite"
        report = tflite.convert(untrained, path, faces=crops, flip_average=mirror)
        localizer = tflite.TFLiteLocalizer(path)
        result, predicted = model_scores.evaluate_model(localizer, crops)
        assert localizer.calibration == model_scores.calibrate(predicted, crops)
        assert report["parity"]["nme"] == pytest.approx(result["nme"])
        about = tflite.describe(path)["metadata"]
        assert about["measured"]["nme"] == pytest.approx(result["nme"])
        assert about["measured"]["faces"] == 6
        assert about["measured"]["normalizer"] == "interocular"
        assert about["license"] == "synthetic faces: none"
        _, expected = model_scores.evaluate_model(untrained, crops, flip_average=mirror)
        np.testing.assert_allclose(predicted["scale"], expected["scale"], atol=1e-3)

    def test_other_faces_to_calibrate_on(self, untrained, crops, tmp_path):
        path, few = tmp_path / "m.tflite", crops.take(range(2))
        tflite.convert(untrained, path, faces=few, calibration_faces=crops)
        localizer = tflite.TFLiteLocalizer(path)
        found = localizer.predict(crops.central())
        assert localizer.calibration == model_scores.calibrate(found, crops)
        assert localizer.metadata["measured"]["faces"] == 2
        tflite.convert(untrained, path, faces=few.central(), calibration_faces=crops)
        assert tflite.TFLiteLocalizer(path).calibration == localizer.calibration
        assert tflite.describe(path)["metadata"]["measured"] is None
        with pytest.raises(ValueError, match="`calibration_faces` must be images of shape"):
            other = datasets.load("synthetic", num_synthetic=1, image_size=SIZE + 16)
            tflite.convert(untrained, path, faces=few, calibration_faces=other)

    def test_calibration_of_one_look_is_not_that_of_two(self, untrained, crops, tmp_path):
        once = model_scores.calibrate(untrained.predict(crops.central(), verbose=0), crops)
        model = keras_lapkl.LandmarkLocalizer(untrained.generator, "ibug68", 3.0, calibration=once)
        for mirror in (False, True):
            path = tmp_path / f"{mirror}.tflite"
            tflite.convert(model, path, faces=crops.central(), flip_average=mirror)
            found = tflite.TFLiteLocalizer(path).calibration
            assert found == (None if mirror else once)

    def test_growth_of_the_nme_is_bounded(self, untrained, crops, tmp_path, monkeypatch):
        scores = iter([{"nme": 10.2}, {"nme": 10.0}])
        monkeypatch.setattr(model_scores, "score", lambda *_, **__: next(scores))
        with pytest.raises(tflite.ConversionError, match=r"1 % above Keras's 10\.000.* 2 % above"):
            tflite.convert(untrained, tmp_path / "m.tflite", faces=crops, bounds={"nme": 0.01})
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("network", ["linear", "marginal", "mobile_fpn"])
def test_other_networks(network, images, tmp_path):
    import keras

    keras.utils.set_random_seed(3)
    if network == "mobile_fpn":
        generator, last = keras_lapkl.MobileFPN(5, 1 / 16, SIZE), ("maps",)
    else:
        normalize = network == "marginal"
        generator = keras_lapkl.RCN(5, 1 / 16, SIZE, head=network, normalize=normalize)
        last = ("logits",) if network == "linear" else ("columns", "rows")
    for name in last:
        generator.get_layer(name).kernel.assign(100 * generator.get_layer(name).kernel)
    scheme = {"name": "toy", "num_landmarks": 5, "flip": [[0, 1]]}
    model = keras_lapkl.LandmarkLocalizer(generator, scheme, crop_scale=3.0)
    for mirror in (False, True):
        path = tmp_path / "float32.tflite"
        report = tflite.convert(model, path, faces=images[20:24], flip_average=mirror)
        assert report["parity"]["landmarks"]["max"] < 1e-3
    path = tmp_path / "int8.tflite"
    report = tflite.convert(
        model,
        path,
        "int8",
        faces=images[20:24],
        representative_images=images[:20],
        bounds={"mean": 1.0},
        layers=True,
    )
    convolutions = [report["operators"].get(name, {}) for name in verify.CONVOLUTIONS]
    assert {dtype for counts in convolutions for dtype in counts} == {"int8"}
    assert len(report["layers"]) == sum(counts.get("int8", 0) for counts in convolutions)
    if network != "linear":  # no map is made
        assert set(report["operators"]["ADD"]) == {"int8"}
        graph = flatbuffer.read(path).subgraphs[0]
        assert not any(list(t.shape) == [1, SIZE, SIZE, 5] for t in graph.tensors)


class TestQuantize:
    def test_equalized_is_the_same_function_with_ranges_of_one(self, localizer, images):
        import keras

        images = np.asarray(to_unit_range(images))
        equal = equalization.equalized(localizer.generator, images)
        expected = np.asarray(localizer.generator(images))
        received = np.asarray(equal(images))
        np.testing.assert_allclose(received, expected, atol=1e-4 * np.abs(expected).max())
        for name in ("encoder1", "encoder4", "bottleneck2", "decoder3_reduce", "decoder1", "head2"):
            values = keras.Model(equal.input, equal.get_layer(name).output)(images)
            np.testing.assert_allclose(np.abs(values).max((0, 1, 2)), 1.0, rtol=1e-3)

    def test_equalized_through_depthwise_convolutions(self, images):
        import keras

        keras.utils.set_random_seed(3)
        generator = keras_lapkl.MobileFPN(5, 1 / 16, SIZE)
        images = np.asarray(to_unit_range(images))
        generator(images, training=True)
        equal = equalization.equalized(generator, images)
        expected = np.asarray(generator(images))
        received = np.asarray(equal(images))
        np.testing.assert_allclose(received, expected, atol=1e-4 * np.abs(expected).max())
        for together in (
            ("encoder1_expand_activation",),
            ("decoder1_depthwise_activation",),
            ("stem_activation", "encoder1_project", "encoder1_residual"),
        ):
            outputs = [equal.get_layer(name).output for name in together]
            values = keras.Model(equal.input, outputs)(images)
            peaks = [np.abs(value).max((0, 1, 2)) for value in values]
            np.testing.assert_allclose(np.max(peaks, axis=0), 1.0, rtol=1e-3)

    def test_maps_are_cut_at_their_floors_where_a_relu_ends_them(self, localizer, images):
        generator = keras_lapkl.MobileFPN(5, 1 / 16, SIZE, batch_norm=False)
        images = np.asarray(to_unit_range(images))
        kernel, bias = generator.get_layer("maps").get_weights()
        generator.get_layer("maps").set_weights([kernel, bias + (0, 50, 0, -90, 7)])
        before = np.asarray(generator(images))
        floors = [np.array([5, 55, -3, 0, 9], np.float32), np.array([6, 54, 2, 0, 9], np.float32)]
        assert equalization.cut_maps(generator, floors)
        after = np.asarray(generator(images))
        lower = 2 * np.array([5, 54, 0, 0, 9])  # of columns and of rows
        # The lowest values, a ReLU's zeros, are those that are cut.
        kept = before - lower > after.max((1, 2), keepdims=True) - 1e-4
        np.testing.assert_allclose(after[kept], (before - lower)[kept], atol=1e-3)
        assert after.min() >= 0
        weights = localizer.generator.get_weights()
        assert not equalization.cut_maps(localizer.generator, floors)
        for kept, now in zip(weights, localizer.generator.get_weights(), strict=True):
            np.testing.assert_array_equal(kept, now)

    def test_helps_where_channels_differ_in_range(self, localizer, images):
        """Halves of the channels in very different units: the same function, hard on int8."""
        generator = type(localizer.generator).from_config(localizer.generator.get_config())
        generator.set_weights(localizer.generator.get_weights())
        units = np.array([1e-3, 1e3, 1.0, 30.0], np.float32)
        kernel, bias = generator.get_layer("encoder1").get_weights()
        generator.get_layer("encoder1").set_weights([kernel * units, bias * units])
        kernel, bias = generator.get_layer("encoder2").get_weights()
        generator.get_layer("encoder2").set_weights([kernel / units[:, None], bias])
        kernel, bias = generator.get_layer("decoder1").get_weights()
        kernel[:, :, 4:] /= units[:, None]  # after the four channels from below
        generator.get_layer("decoder1").set_weights([kernel, bias])

        images = np.asarray(to_unit_range(images))
        received = equalization.equalized(generator, images).get_weights()
        expected = equalization.equalized(localizer.generator, images).get_weights()
        for a, b in zip(received, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-2, atol=1e-3 * np.abs(b).max())

    def test_dead_channels_stay_finite(self, localizer, images):
        generator = type(localizer.generator).from_config(localizer.generator.get_config())
        generator.get_layer("encoder1").set_weights(
            [np.zeros((3, 3, 3, 4)), np.array([0.0, 0.0, 0.0, 1.0])]
        )
        equal = equalization.equalized(generator, np.asarray(to_unit_range(images[:2])))
        assert all(np.isfinite(w).all() for w in equal.get_weights())

    def test_keeps_ranges_before_layers_that_do_not_commute(self, images):
        import keras

        inputs = keras.Input((32, 32, 3))
        x = keras.layers.Conv2D(2, 1, name="free")(inputs)
        x = keras.layers.ReLU()(x)
        x = keras.layers.Conv2D(2, 1, name="kept")(x)
        x = keras.layers.Activation("tanh")(x)
        model = keras.Model(inputs, keras.layers.Conv2D(2, 1, name="last")(x))
        equal = equalization.equalized(model, np.asarray(to_unit_range(images[:2])))
        same = [
            np.array_equal(model.get_layer(n).get_weights()[1], equal.get_layer(n).get_weights()[1])
            and np.allclose(model.get_layer(n).kernel, equal.get_layer(n).kernel)
            for n in ("free", "kept", "last")
        ]
        assert same == [False, False, True]

    @pytest.mark.parametrize("kind", OWN)
    def test_own_networks_are_the_same_function(self, kind, images):
        import keras

        keras.utils.set_random_seed(3)
        generator = OWN[kind](keras.layers)
        images = np.asarray(to_unit_range(images))
        for layer in generator._flatten_layers():  # as after a training: no two channels alike
            if isinstance(layer, keras.layers.Conv2D):
                layer.set_weights([3 * each + 0.1 for each in layer.get_weights()])
        equal = equalization.equalized(generator, images)
        expected = np.asarray(generator(images))
        assert np.ptp(expected) > 0
        if kind in ("relu", "nested", "listed"):
            before, after = (
                {tuple(map(float, np.abs(layer.get_weights()[0]).ravel()[:9]))}
                for layer in (generator.layers[-1], equal.layers[-1])
            )
            assert before != after
        np.testing.assert_allclose(
            np.asarray(equal(images)), expected, atol=1e-5 * np.abs(expected).max()
        )

    @pytest.mark.parametrize("kind", ["sequential without bias", "nested", "transposed", "frozen"])
    def test_own_networks_in_int8(self, kind, images, tmp_path):
        import keras

        keras.utils.set_random_seed(3)
        model = keras_lapkl.LandmarkLocalizer(OWN[kind](keras.layers))
        bounds = {"mean": 5.0}  # of weights that nobody trained
        report = conversion.convert(
            *(model, tmp_path / "own.tflite", "int8"),
            faces=images,
            representative_images=images,
            bounds=bounds,
        )
        assert report["float_layers"] == [] and report["parity"]["landmarks"]["mean"] < 1
        generator = equalization.equalized(model.generator, np.asarray(to_unit_range(images)))
        rounding.learn_rounding(generator, np.asarray(to_unit_range(images[:4])), 1.0, steps=1)

    @pytest.mark.parametrize("made", ["relu", "relu6", "swish"])
    def test_maps_are_cut_where_nothing_else_changes(self, made, images):
        import keras

        layers = keras.layers
        activation = "swish" if made == "swish" else None
        last = [
            keras.Input((SIZE, SIZE, 3)),
            layers.Conv2D(2, 3, padding="same", activation=activation),
            layers.ReLU(6.0 if made == "relu6" else None),
        ]
        generator = keras.Model([last[0]], [last[2](last[1](last[0]))])
        before = generator.get_weights()
        assert equalization.cut_maps(generator, [np.array([3.0, 3.0])]) == (made == "relu")
        moved = generator.get_weights()[1] - before[1]
        np.testing.assert_array_equal(moved, -3 if made == "relu" else 0)

    def test_layers_that_can_not_be_copied_are_named(self, images):
        import keras

        class Strange(keras.layers.Layer):
            def __init__(self, factor, **kwargs):
                super().__init__(**kwargs)
                self.factor = factor

            def call(self, inputs):
                return self.factor * inputs

            def get_config(self):
                return {"name": self.name}

        generator = keras.Sequential([keras.Input((SIZE, SIZE, 3)), Strange(2.0, name="odd")])
        with pytest.raises(
            ValueError, match=r"int8 needs layers that can be copied.*'odd', Strange"
        ):
            equalization.equalized(generator, np.asarray(to_unit_range(images)))

    def test_map_floors(self):
        def readout(images):
            return [images[..., :1] * np.array([1.0, 10.0], np.float32)]

        images = np.zeros((3, 4, 4, 3), np.float32)
        images[:, 1, 2] = np.array([2.0, 3.0, 4.0])[:, None]
        np.testing.assert_allclose(
            equalization.map_floors(readout, images, beta=2.0), [[2 - 12, 20 - 12]]
        )


@pytest.mark.parametrize(
    ("bounds", "scale", "count", "doubts"),
    [
        ({"mean": 0.15, "nme": 0.01}, 1.2, 100, ()),
        ({"mean": 0.15, "nme": 0.01}, 2.5, 100, ("scale is 2.5 px",)),
        ({"mean": 0.15, "nme": 0.01}, 1.2, 18, ("18 faces are too few",)),
        ({"mean": 0.5, "nme": 0.05}, 2.5, 18, ()),
        ({"mean": 50, "nme": 5}, 2.5, 18, ()),
        ({}, 2.5, 18, ()),
    ],
)
def test_bounds_are_told_beforehand(bounds, scale, count, doubts):
    said = conversion._expectation("int8", bounds, scale, count)
    assert f"{bounds['mean']} px" in said if bounds else "any distance" in said
    assert not bounds or f"grows by {100 * bounds['nme']:.0f} %" in said
    assert ("--nme_bound" in said) == bool(doubts) and all(doubt in said for doubt in doubts)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_a_model_in_mixed_precision(policy, tmp_path):
    """The file computes in float32, which the parity is checked of."""
    keras.config.set_dtype_policy(policy)
    try:
        model = keras_lapkl.LandmarkLocalizer(RCN(3, 1 / 64, SIZE))
        functional = keras.Sequential(
            [keras.Input((SIZE, SIZE, 3)), keras.layers.Conv2D(3, 3, padding="same")]
        )
    finally:
        keras.config.set_dtype_policy("float32")
    images = np.random.default_rng(0).random((4, SIZE, SIZE, 3), np.float32)
    report = conversion.convert(model, tmp_path / "m.tflite", "float32", faces=images)
    assert report["parity"]["landmarks"]["max"] < 1e-3
    assert model.generator.compute_dtype != "float32"
    found = tflite.TFLiteLocalizer(tmp_path / "m.tflite").predict(images)["landmarks"]
    np.testing.assert_allclose(found, model.predict(images, verbose=0)["landmarks"], atol=0.2)
    inputs = keras.Input((SIZE, SIZE, 3))
    around = keras.Model(inputs, functional(inputs))
    for network in (functional, around):
        with pytest.raises(ValueError, match=f"Converting needs a model in float32.*{policy}"):
            conversion.convert(
                keras_lapkl.LandmarkLocalizer(network), tmp_path / "f.tflite", faces=images
            )
    assert not (tmp_path / "f.tflite").exists()


@pytest.mark.parametrize("more", ["discriminator", "teacher"])
def test_a_model_of_more_networks_in_mixed_precision(more, tmp_path):
    with dtype_policy("mixed_float16"):
        network = RCN(3, 1 / 64, SIZE)
        model = (
            MeanTeacherLocalizer(network)
            if more == "teacher"
            else AdversarialLocalizer(network, PatchGAN(3, 4))
        )
    images = np.random.default_rng(0).random((4, SIZE, SIZE, 3), np.float32)
    report = conversion.convert(model, tmp_path / "m.tflite", "float32", faces=images)
    assert report["parity"]["landmarks"]["max"] < 1e-3
