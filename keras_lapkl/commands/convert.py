"""Converts a trained model to .tflite files, and checks each of them against Keras.

    lapkl convert --model=runs/w300/model.keras --output=runs/w300/tflite --mode=all
    lapkl convert --model=runs/w300/model.keras --output=micro.tflite --target=ethos-u

With --mode=all, --output is a folder and gets a file of each mode, all at the end; otherwise it is
the file. A report stands beside each file, as <file>.json. int8 is fitted to training faces, and
every file is compared with Keras and calibrated on validation faces, spread over the split, at most
as many as the three --num_ flags say. These are the data that the model was trained on, which its
run names. A model without its run, such as a shipped one, needs --dataset and --data_dir, and data
that were moved need --data_dir. Times are medians of 50 interleaved runs. A mode whose file is out
of bounds is refused; the exit status is 1.

With --target the file is made to run there, and what `lapkl check` says of it is printed, with
vela's report or TFLite Micro's arena where these are installed; a file of which an operator falls
back is refused, with the table that says which and why. Phones get float16; the Edge TPU, TFLite
Micro and Ethos-U get int8 from the image to the logits, and leave the decoding to the program.
"""

# To a type checker a flag may be None and any text: its parser has seen to that.
# pyright: reportArgumentType=false

import contextlib
import pathlib
import sys

from absl import flags

from keras_lapkl import pretrained
from keras_lapkl._support.console import print
from keras_lapkl._support.tensorflow import quiet_tensorflow
from keras_lapkl.commands import data_flags, shared_flags
from keras_lapkl.export.choices import CHOICES, INPUTS, OUTPUTS, check_choices
from keras_lapkl.export.modes import MODES

_INTEGERS = " and ".join(name for name, mode in MODES.items() if mode.integers)

_MODEL = flags.DEFINE_string(
    "model", None, "A .keras file or a shipped model's name.", required=True
)
_OUTPUT = flags.DEFINE_string("output", None, "A .tflite file, or a folder.", required=True)
_MODE = flags.DEFINE_enum(
    "mode",
    "float32",
    [*MODES, "all"],
    "Numbers in the file. " + "; ".join(f"{n}: {mode.meaning}" for n, mode in MODES.items()) + ".",
)
_INPUT_DTYPE = flags.DEFINE_enum("input_dtype", "float32", list(INPUTS), "Numbers of the image.")
_HEATMAPS = flags.DEFINE_bool("heatmaps", False, "Let the file give the heatmaps as well.")
_OUTPUT_DTYPE = flags.DEFINE_enum(
    "output_dtype", "float32", list(OUTPUTS), "Numbers of the logits of --no_decode in int8."
)
_TARGET = flags.DEFINE_enum(
    "target", None, list(CHOICES), "Make a file that fits this target of `lapkl check`."
)
_NO_DECODE = flags.DEFINE_bool(
    "no_decode", False, "Let the file give only logits, for a decoding of your own."
)
_FLIP_AVERAGE = shared_flags.flip_average(__name__)
_LAYERS = flags.DEFINE_bool("layers", False, "Report what each layer of an int8 file loses.")
data_flags.define(__name__, of_model=True, train_split="train", validation_split="validation")
_NUM_REPRESENTATIVE = flags.DEFINE_integer(
    "num_representative", 200, "Training faces to fit int8 to.", lower_bound=1
)
_NUM_PARITY = flags.DEFINE_integer(
    "num_parity", 100, "Validation faces to compare with Keras on, and to measure.", lower_bound=1
)
_NUM_CALIBRATION = flags.DEFINE_integer(
    "num_calibration", 200, "Validation faces to calibrate the file's scales on.", lower_bound=1
)
_MEAN_BOUND = flags.DEFINE_float(
    "mean_bound",
    None,
    f"Mean distance from Keras that {_INTEGERS} may have, pixels; also that of --mode=float16.",
    0,
)
_NME_BOUND = flags.DEFINE_float(
    "nme_bound", None, "Percent of itself by which the NME may grow; 1 for int8 if not given.", 0
)


def main(_):
    output = pathlib.Path(_OUTPUT.value)
    if _TARGET.value is not None:
        _refuse_own_choices()
    choices = {
        "mode": _MODE.value,
        "input_dtype": _INPUT_DTYPE.value,
        "output_dtype": _OUTPUT_DTYPE.value,
        "decode": not _NO_DECODE.value,
        "with_heatmaps": _HEATMAPS.value,
        "flip_average": _FLIP_AVERAGE.value,
        **(CHOICES[_TARGET.value] if _TARGET.value else {}),
    }
    mode = choices.pop("mode")
    _refuse_what_does_not_go_together(mode, choices, output)
    source = pretrained.resolve(_MODEL.value, (".keras",))
    quiet_tensorflow()
    from keras_lapkl import load_model
    from keras_lapkl._support.files import check_outputs, sweep
    from keras_lapkl._support.provenance import run_provenance
    from keras_lapkl.data import origins
    from keras_lapkl.export import conversion
    from keras_lapkl.export.report import layer_table, summary
    from keras_lapkl.tflite import ConversionError, compatibility

    conversion.check_backend()
    paths = {mode: output}
    if mode == "all":
        paths = {each: output / f"{each}.tflite" for each in MODES}
    check_outputs(paths.values(), [source], links=mode != "all")
    check_outputs((f"{each}.json" for each in paths.values()), [source], links=False)
    if mode != "all":
        origins.check_report(output)
    sweep(output if mode == "all" else output.parent, below=False)
    model = load_model(source)
    count = max(_NUM_PARITY.value, _NUM_CALIBRATION.value)
    held_out = data_flags.load_for(
        model, source, "validation_split", "validation", most_synthetic=count
    )
    validation = held_out.spread(_NUM_PARITY.value)
    calibration = held_out.spread(_NUM_CALIBRATION.value)
    training = None
    if any(MODES[each].calibrated for each in paths):
        count = _NUM_REPRESENTATIVE.value
        training = data_flags.load_for(
            model, source, "train_split", "training", most_synthetic=count
        ).spread(count)
    loaded = _loaded(source, training, held_out)
    reports, refused = [], []
    # Of all modes none is put in place before all are done: a file beside them may be of another
    # model.
    with _whole(output) if mode == "all" else contextlib.nullcontext(output.parent) as folder:
        for each, path in paths.items():
            made = folder / path.name
            try:
                report = conversion.convert(
                    model,
                    made,
                    each,
                    **choices,
                    faces=validation,
                    calibration_faces=calibration,
                    representative_images=training.central() if MODES[each].calibrated else None,  # pyright: ignore[reportOptionalMemberAccess]
                    bounds=_bounds(each, model.image_size, len(paths) == 1),
                    layers=_LAYERS.value,
                )
            except ConversionError as error:
                if len(paths) == 1:
                    raise
                refused.append(f"{each} refused: {error}")
                continue
            report = {**report, "path": str(path)}
            origins.write(made, {**report, "loaded": loaded, "provenance": run_provenance()})
            reports.append(report)
        if not reports:
            raise ConversionError("\n\n".join(refused))
    print(summary(reports))
    print(
        f"NME on {len(validation)} faces of {validation.name}; distances from Keras. Trained on "
        f"{model.trained_on or 'faces unknown'}."
    )
    for report in reports:
        if "layers" in report:
            print(f"\nLayers of {report['path']}:\n{layer_table(report['layers'])}")
        if "check" in report:
            print(f"\n{compatibility.page(report['check'])}")
    for failure in refused:
        print(f"\n{failure}", file=sys.stderr)
    return 1 if refused else 0


def _bounds(mode, image_size, is_only):
    """The mode's own, but for those that are given; --mean_bound is of integers among others."""
    bounds = MODES[mode].bounds_for(image_size)
    applies = MODES[mode].integers or (is_only and "mean" in bounds)
    if applies and _MEAN_BOUND.value is not None:
        bounds["mean"] = _MEAN_BOUND.value
    if _NME_BOUND.value is not None:
        bounds["nme"] = _NME_BOUND.value / 100
    return bounds


@contextlib.contextmanager
def _whole(output):
    """Yields a folder whose files take the place of those of an earlier run, all together."""
    from keras_lapkl._support.folders import announce, owned, replacing_announced

    names = [f"{each}.tflite{end}" for each in MODES for end in ("", ".json")]
    with owned(output):
        announce(output, "convert", ((name, name) for name in names))
        with replacing_announced(output, "convert") as folder:
            yield folder


def _refuse_what_does_not_go_together(mode, choices, output):
    """ValueError before TensorFlow is imported, or any data read."""
    for each in MODES if mode == "all" else (mode,):
        check_choices(each, **choices)
    given = f"--mode={mode}" if _TARGET.value is None else f"--target={_TARGET.value} ({mode})"
    if _LAYERS.value and mode not in ("int8", "all"):
        raise ValueError(f"--layers is of int8 files: drop it. Received: {given}")
    if _MEAN_BOUND.value is not None and mode == "float32":
        raise ValueError(
            "--mean_bound is of integers and float16. Received: --mode=float32, whose bound is of "
            "the farthest landmark"
        )
    if (mode == "all") == (output.suffix == ".tflite"):
        raise ValueError(
            "--output must be a folder for --mode=all, and a .tflite file for one mode. Received: "
            f"{given} --output={output}"
        )


def _refuse_own_choices():
    """ValueError where a flag is given that --target chooses."""
    chosen = ("mode", "input_dtype", "output_dtype", "no_decode", "heatmaps")
    given = [f"--{name}" for name in chosen if flags.FLAGS[name].present]
    if given:
        raise ValueError(
            f"--target chooses the numbers and what the file gives: leave out {', '.join(given)}."
        )


def _loaded(source, training, validation):
    """How the faces were loaded, for those who measure the file."""
    from keras_lapkl.data import origins

    origin = origins.read(source)
    kept = {} if origin is None else origin.loaded
    found = {"validation": validation.loaded}
    if training is not None:
        found["training"] = training.loaded
    elif validation.loaded == kept.get("validation") and "training" in kept:
        found["training"] = kept["training"]
    return found
