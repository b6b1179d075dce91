"""Ranks labels by how improbable a model finds them that was not trained on them.

    lapkl audit --dataset=csv --data_dir=mine --output_dir=runs/audit
    lapkl audit --dataset=300w --data_dir=300w --split=train --output_dir=runs/audit
    lapkl audit --model=fpn-eighth-300w --dataset=300w --data_dir=new --output_dir=runs/audit

Points that are far off, sets that are shifted or scaled, names of left and right or of two points
exchanged, and copies of a picture with other labels go to audit.csv, the worst first; audit.png
shows the first 40. Small models are trained for it, each on four fifths of the pictures to judge
the rest: neighbors by name and copies of a picture stay together. Stopped at any moment, the same
command goes on; after labels were mended, it audits anew in OUTPUT_DIR-2 and so on. With --model
nothing is trained: it must not have been trained on these labels. With
--scheduler=tcp://HOST:8786 the workers of a Dask cluster train the models, or run yours.
"""

# To a type checker a flag may be None and any text: its parser has seen to that.
# pyright: reportArgumentType=false

import pathlib

import numpy as np
from absl import flags, logging

from keras_lapkl import pretrained
from keras_lapkl._support import extras
from keras_lapkl._support.console import print
from keras_lapkl._support.tensorflow import quiet_tensorflow
from keras_lapkl.commands import data_flags, shared_flags

data_flags.define(__name__, split="train")
_MODEL = flags.DEFINE_string(
    "model", None, "Judge by this .keras or .tflite file or shipped model, and train nothing."
)
_SCHEME, _CROP_FROM, _IMAGE_SIZE = shared_flags.crops(__name__)
_FOLDS = flags.DEFINE_integer("folds", 5, "Models to train.", lower_bound=2)
_STEPS = flags.DEFINE_integer(
    "steps", None, "Steps of each; default 800 to 1500, by the number of faces.", lower_bound=1
)
_INJECT = flags.DEFINE_bool(
    "inject",
    False,
    "Shift 1 % of the labels, exchange points in 1 %, mirror the names in 1 %, and tell how many "
    "of these stand first: what an audit of this data is worth.",
)
_SCHEDULER = shared_flags.scheduler(__name__, "train the models, or run yours")
_OUTPUT_DIR = shared_flags.output_dir(__name__)

_OF_TRAINING = (_SCHEME, _CROP_FROM, _IMAGE_SIZE, _FOLDS, _STEPS)
_SHOWN = 40
_OUTPUTS = ("audit.csv", "audit.png", "results.json")
_RECORD, _OTHER = "audit.json", "an audit with other settings"


def main(_):
    from keras_lapkl._support.files import check_outputs, write_json
    from keras_lapkl._support.folders import claim, owned

    path = None
    data_flags.check_image_size(_IMAGE_SIZE.value)
    check_outputs((pathlib.Path(_OUTPUT_DIR.value, name) for name in _OUTPUTS), links=False)
    if _SCHEDULER.value:
        extras.require("--scheduler", "distributed")
    if _MODEL.value:
        given = ", ".join(f"--{each.name}" for each in _OF_TRAINING if each.present)
        if given:
            raise ValueError(
                f"A model has its own points and crops, and nothing is trained: drop {given}."
            )
        path = pretrained.resolve(_MODEL.value, (".tflite", ".keras"))
    if path is None or path.suffix == ".keras":
        quiet_tensorflow()
    from keras_lapkl._support.provenance import run_provenance
    from keras_lapkl.data import duplicates
    from keras_lapkl.data.digests import of_file, total
    from keras_lapkl.evaluation import audit_sheet, label_audit, label_faults, model_scores

    model, crops, faults = _data(path)
    print(f"Audit {crops.summary}.")
    provenance = run_provenance()
    # Not the steps that follow from the number of labels: one label more is other data.
    settings = {"model": _MODEL.value, "folds": _FOLDS.value, "steps": _STEPS.value}
    same = duplicates.groups(crops.names)
    fold_of = np.zeros(len(crops), int) if model else _folds(crops, same)
    record = {
        "settings": {**settings, "image_size": crops.image_size},
        # Another name may be another fold's: its models are not of these faces.
        "data": total(np.column_stack([crops.digests().values, fold_of.astype(np.uint64)])),
    }
    if path is not None:  # another file may have its name
        record["data"] += f"-{of_file(path):016x}"
    with owned(_folder(record)) as folder:
        claim(folder / _RECORD, record, _OTHER, _OUTPUTS)
        if model is None:
            predicted = _cross_validated(crops, fold_of, folder, provenance)
        else:
            print(
                f"{_MODEL.value} was trained on {model.trained_on or 'faces unknown'}. If these "
                "labels were among them, it has learned their faults and finds few."
            )
            predicted = model_scores.predict(model, crops.central(), scheduler=_SCHEDULER.value)
        found = label_audit.audit(crops, predicted, same)
        label_audit.write(folder / "audit.csv", crops, found, flags.FLAGS.data_dir)
        audit_sheet.write(folder / "audit.png", crops, predicted, found[:_SHOWN])
        results = label_audit.summary(found)
        if faults:
            ranking = np.array([each.face for each in found])
            results["injected"] = label_faults.found(faults, ranking)
        write_json(folder / "results.json", {**results, "provenance": provenance})
    print(label_audit.report(crops, found))
    if faults:
        print(label_faults.report(results["injected"]))
    print(f"Ranking: {folder / 'audit.csv'}. Look at {folder / 'audit.png'}")


def _data(path):
    """The model or None, the crops, and the faults put into them."""
    from keras_lapkl import load_model
    from keras_lapkl.data import datasets, keypoints
    from keras_lapkl.data.cropping import default_margin
    from keras_lapkl.evaluation import label_faults
    from keras_lapkl.tflite.localizer import check_localizer

    values = flags.FLAGS
    model = None if path is None else load_model(path)
    if model is not None:
        check_localizer(model)
    annotations = datasets.read(
        *(values.dataset, values.data_dir, values.split),
        scheme=_SCHEME.value if model is None else model.scheme,
        crop_from=_CROP_FROM.value,
        category=values.category,
        missing_ok=values.skip_bad,
        hold_out=False,
    )
    if values.dataset in datasets.OWN:
        annotations = keypoints.croppable(annotations)
    faults = ()
    if _INJECT.value:
        annotations, faults = label_faults.inject(annotations)
    size, scale, margin = _IMAGE_SIZE.value, "auto", default_margin(_IMAGE_SIZE.value)
    if model is not None:
        size, scale, margin = model.image_size, model.crop_scale, 0
    crops = datasets.cut(annotations, size, scale, margin, values.skip_bad)
    if faults and crops.skipped:
        raise ValueError(
            f"--inject needs pictures that can all be read. Received: {len(crops.skipped):,} of "
            f"{len(annotations):,} that can't, such as {crops.skipped[0][0]}"
        )
    return model, crops, faults


def _steps(crops):
    return _STEPS.value or int(np.clip(len(crops), 800, 1500))


def _folds(crops, same):
    from keras_lapkl.training import cross_validation

    return cross_validation.folds(crops.names, _FOLDS.value, same)


def _cross_validated(crops, fold_of, folder, provenance):
    """What models have for the faces that they were not trained on."""
    from keras_lapkl.training import cross_validation

    smallest = len(crops) - int(np.bincount(fold_of).max())
    print(cross_validation.cost(_FOLDS.value, _steps(crops)), flush=True)
    logging.info("Held out by blocks of neighbors: %s faces.", np.bincount(fold_of).tolist())
    recipe = cross_validation.small_recipe(smallest, _steps(crops))
    return cross_validation.predict(crops, fold_of, recipe, folder, provenance, _SCHEDULER.value)


def _folder(record):
    """The folder given, or beside it one for labels that were mended."""
    from keras_lapkl._support.folders import compare, first_fitting

    def check(folder, _):
        path = folder / _RECORD
        if not path.exists() or compare(path, record, _OTHER).get("data") == record["data"]:
            return None
        by = " or by another file" if _MODEL.value else ""
        return f"{folder} holds an audit of other labels, pictures or names{by}. It stays as it is."

    folder, reason = first_fitting(_OUTPUT_DIR.value, check)
    if reason is not None:
        print(reason)
    return folder
