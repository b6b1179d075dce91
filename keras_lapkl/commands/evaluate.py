"""Measures a model, or predictions from any program, on labeled faces.

    lapkl evaluate --model=runs/w300/model.keras --dataset=300w --data_dir=300w \\
        --split=common --output_dir=runs/w300/common
    lapkl evaluate --predictions=theirs.csv,ours=runs/w300/common/predictions.json \\
        --dataset=300w --data_dir=300w --split=common --output_dir=compared

A model is a .keras file, a .tflite file, which needs no TensorFlow, or a shipped model's name, for
its .tflite file. Without --dataset it is measured on the validation data of its training, which its
run names, or the report beside a .tflite file. Faces are cropped by the rule that stands in the
file, and its landmarks go to predictions.json. Predictions are folders of .pts files, CSV or JSON
files, in pixels of the photos. Pictures are drawn where matplotlib is installed. With
--scheduler=tcp://HOST:8786 the workers of a Dask cluster run the model; the results are the same.
"""

# To a type checker a flag may be None and any text: its parser has seen to that.
# pyright: reportArgumentType=false

import contextlib
import pathlib
import sys

import numpy as np
from absl import flags

from keras_lapkl import pretrained
from keras_lapkl._support import extras
from keras_lapkl._support.console import print
from keras_lapkl._support.tensorflow import quiet_tensorflow
from keras_lapkl.commands import data_flags, shared_flags
from keras_lapkl.evaluation import scoring

_MODEL = flags.DEFINE_string("model", None, "A .keras or .tflite file, or a shipped model's name.")
_PREDICTIONS = flags.DEFINE_list(
    "predictions",
    None,
    "Instead of a model: FILE or TITLE=FILE, by commas; the first is compared to.",
)
data_flags.define(__name__, of_model=True, split="validation")
_SCHEME = flags.DEFINE_string(
    "scheme",
    None,
    "With --predictions of keypoints: a .json file, ibug68 or aflw19.",
)
_NUM_SYNTHETIC = flags.DEFINE_integer("num_synthetic", None, "Synthetic faces to measure on.")
_NORMALIZER = flags.DEFINE_enum(
    "normalizer",
    None,
    list(scoring.NORMALIZERS),
    "Default: interocular where there are eyes, else hull; of a model, crop for one or two points.",
)
_FLIP_AVERAGE = shared_flags.flip_average(__name__)
_BY_SUBSET = flags.DEFINE_bool(
    "by_subset", False, "With --predictions: also score the faces of each folder of the data."
)
_SCHEDULER = shared_flags.scheduler(__name__, "run the model")
_OUTPUT_DIR = shared_flags.output_dir(__name__)
_MOST_POINTS = 30
"""Of which each has a line in what is printed; `results.json` has all."""


def main(_):
    if (_MODEL.value is None) == (not _PREDICTIONS.value):
        raise ValueError("Give either --model or --predictions.")
    if _MODEL.value and _SCHEME.value:
        raise ValueError("A model has its own scheme: drop --scheme.")
    if _PREDICTIONS.value and _FLIP_AVERAGE.value:
        raise ValueError("--flip_average needs a model: drop it.")
    if _PREDICTIONS.value and _SCHEDULER.value:
        raise ValueError("Predictions are compared on this machine: drop --scheduler.")
    for name in ("num_synthetic", "skip_bad"):
        if _PREDICTIONS.value and flags.FLAGS[name].present:
            raise ValueError(f"--predictions need no pictures: drop --{name}.")
    if _SCHEDULER.value:
        extras.require("--scheduler", "distributed")
    if _MODEL.value and _BY_SUBSET.value:
        raise ValueError(
            "--by_subset needs --predictions: give it the predictions.json of this model."
        )
    if _PREDICTIONS.value:
        return _score_predictions()
    path = pretrained.resolve(_MODEL.value, (".tflite", ".keras"))
    if path.suffix == ".keras":
        quiet_tensorflow()
    from keras_lapkl import load_model
    from keras_lapkl._support.files import check_outputs
    from keras_lapkl.evaluation import model_scores

    model = load_model(path)
    outputs = ("results.json", "predictions.json", "predictions.png", "confidence.png")
    check_outputs((pathlib.Path(_OUTPUT_DIR.value, name) for name in outputs), [path], links=False)
    crops = data_flags.load_for(
        model, path, "split", "validation", num_synthetic=_NUM_SYNTHETIC.value
    )
    if _NORMALIZER.value is not None:
        model_scores.check_normalizer(_NORMALIZER.value, crops)
    print(f"Evaluate {_MODEL.value} on {crops.summary}.")
    with _output_dir("evaluate", outputs) as output_dir:
        _score(model, crops, output_dir)
    print(f"Results: {output_dir}")


def _score(model, crops, output_dir):
    """Writes the results, and tells of them: also if they can't be written."""
    from keras_lapkl._support.files import write_json
    from keras_lapkl._support.folders import replacing_announced
    from keras_lapkl._support.names import names_below
    from keras_lapkl._support.provenance import run_provenance
    from keras_lapkl.data.prediction_files import write_predictions
    from keras_lapkl.evaluation import model_scores, plots

    result, predicted = model_scores.evaluate_model(
        model, crops, _NORMALIZER.value, _FLIP_AVERAGE.value, _SCHEDULER.value
    )
    points = model_scores.point_errors(predicted["landmarks"], crops)
    landmarks = model_scores.in_photos(predicted["landmarks"], crops)
    names = names_below(crops.names, crops.loaded.get("data_dir"))
    told = {"points": points, "model": _MODEL.value, "provenance": run_provenance()}
    try:
        with replacing_announced(output_dir, "evaluate") as folder:
            write_predictions(folder / "predictions.json", crops.scheme, names, landmarks)
            write_json(folder / "results.json", {**result, **told})
            with _optional_pictures():
                plots.predictions(
                    crops.central()[:16],
                    predicted["landmarks"],
                    folder / "predictions.png",
                    labels=np.where(crops.known[..., None], crops.landmarks, np.nan),
                    edges=crops.scheme.edges,
                )
                if "confidence" in result:
                    plots.confidence(result["confidence"], folder / "confidence.png")
    finally:
        print(_report(result, points))


def _report(result, points):
    """Lines of text."""
    from keras_lapkl.evaluation import model_report

    lines = [model_report.table([result]), model_report.conditions(result)]
    if "confidence" in result:
        lines.append(model_report.confidence_lines(result))
    lines.append(model_report.part_lines(result))
    if len(points) <= _MOST_POINTS:
        lines.append(f"In pixels of the pictures:\n{model_report.point_table(points)}")
    return "\n".join(filter(None, lines))


@contextlib.contextmanager
def _output_dir(task, outputs):
    """The folder of the results, in which a task of this command writes these."""
    from keras_lapkl._support.folders import announce, owned

    folder = pathlib.Path(_OUTPUT_DIR.value)
    with owned(folder):
        announce(folder, task, ((name, name) for name in outputs))
        yield folder


@contextlib.contextmanager
def _optional_pictures():
    """Results without pictures are results too: what fails, as without matplotlib, is told."""
    try:
        yield
    except ImportError as error:
        print(error, file=sys.stderr)
    except Exception as error:  # matplotlib raises all kinds, by its own settings too
        print(f"Pictures are left out: {error}", file=sys.stderr)


def _score_predictions():
    from keras_lapkl._support.files import check_outputs, write_json
    from keras_lapkl._support.folders import replacing_announced
    from keras_lapkl._support.provenance import run_provenance
    from keras_lapkl.data import datasets
    from keras_lapkl.evaluation import comparison, plots

    if flags.FLAGS.dataset is None:
        raise ValueError("--predictions need the data that they are of: name them by --dataset.")
    annotations = datasets.read(
        flags.FLAGS.dataset,
        flags.FLAGS.data_dir,
        flags.FLAGS.split,
        scheme=_SCHEME.value,
        category=flags.FLAGS.category,
    )
    names = None
    if flags.FLAGS.dataset == "coco":
        names = datasets.coco_names(
            flags.FLAGS.data_dir, flags.FLAGS.split, annotations.scheme, flags.FLAGS.category
        )
    predictions = comparison.read_sets(_PREDICTIONS.value, annotations.scheme, names)
    outputs = ("results.json", "errors.csv", "ced.png")
    sources = [each.source for each in predictions.values()]
    check_outputs((pathlib.Path(_OUTPUT_DIR.value, name) for name in outputs), sources, links=False)
    data_dir = flags.FLAGS.data_dir
    results, errors = comparison.compare(
        annotations, predictions, data_dir, _NORMALIZER.value, _BY_SUBSET.value
    )
    normalizer = results["normalizer"]
    curves = {title: errors[title, normalizer] for title in predictions}
    # Not "evaluate": the results of a model are not to be replaced by those of predictions.
    task = "evaluate --predictions"
    try:
        with (
            _output_dir(task, outputs) as output_dir,
            replacing_announced(output_dir, task) as folder,
        ):
            comparison.write_errors(folder / "errors.csv", annotations, errors, data_dir)
            told = {**results, "provenance": run_provenance()}
            write_json(folder / "results.json", told)
            with _optional_pictures():
                plots.ced(curves, folder / "ced.png", scoring.NORMALIZER_MEANINGS[normalizer])
    finally:
        print(f"Truth: {annotations.summary}.")
        print(comparison.report(results))
    print(f"Results, errors of each face and their distribution: {output_dir}")
