"""Trains a landmark localizer; writes model.keras, history.csv and results.json.

    lapkl train --output_dir=runs/synthetic
    lapkl train --recipe=w300 --data_dir=300w --output_dir=runs/w300
    lapkl train --dataset=csv --data_dir=mine --output_dir=runs/mine

Stopped at any moment, the same command goes on from the last finished epoch. SIGTERM, by which
schedulers end a job, is followed by a checkpoint and exit status 75, and the same command goes on
from that step. Several processes train together where TF_CONFIG or SLURM tells of them.

If labels, boxes or pictures have changed meanwhile, it says which, and trains anew in the next free
folder of OUTPUT_DIR-2, OUTPUT_DIR-3 and so on; a second time it goes on there. --recipe=NAME stands
for the flags of a recipe that comes with the package: few_labels (up to 1,000 of anything, tried
with 20 to 1,809), few_labels_unlabeled, hundreds_of_labels_unlabeled, w300, w300_mobile (the best
in one run at 80×80), w300_muon, w300_paper, w300_phone or w300_unlabeled. Other flags change them.
Without a recipe or any other setting, up to 1,000 labels of your own are trained on by few_labels;
with --unlabeled_dir by few_labels_unlabeled, or from 101 labels on by hundreds_of_labels_unlabeled.
"""

# To a type checker a flag may be None and any text: its parser has seen to that.
# pyright: reportArgumentType=false

from absl import flags, logging

from keras_lapkl._support import extras, stores
from keras_lapkl._support.console import print
from keras_lapkl._support.settings import define_flags
from keras_lapkl._support.tensorflow import quiet_tensorflow
from keras_lapkl.commands import data_flags, shared_flags
from keras_lapkl.training import recipe as recipes

data_flags.define(__name__, train_split="train", validation_split="validation")
_SCHEME, _CROP_FROM, _IMAGE_SIZE = shared_flags.crops(__name__)
_NUM_SYNTHETIC = flags.DEFINE_integer("num_synthetic", None, "Synthetic faces to train on.")
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Folder of this run.", required=True)
_CROP_SCALE = flags.DEFINE_float(
    "crop_scale",
    None,
    "Crop side / longer edge of what it is cut by. Default: 3 by five points (the paper's is 2), "
    "1.5 by other points, 1.25 by a box, 1 of an image.",
)
_TFLITE = flags.DEFINE_bool(
    "tflite", False, "Convert the model, too: OUTPUT_DIR/model.tflite, in float16."
)
_TENSORBOARD = flags.DEFINE_bool("tensorboard", False, "Write OUTPUT_DIR/tensorboard.")
_UNLABELED_DIR = flags.DEFINE_string(
    "unlabeled_dir", None, "Faces without labels: shards or photos."
)
_FIRST_PASS = flags.DEFINE_string(
    "first_pass",
    None,
    "If these are photos: the .tflite file or shipped model that finds the faces. By default a "
    "face detector does, for schemes of faces; whole pictures need none.",
)
_NUM_UNLABELED = flags.DEFINE_integer("num_unlabeled", None, "How many of them; default all.")
_AS_UNLABELED = flags.DEFINE_bool(
    "labeled_as_unlabeled", False, "Take the labeled faces as those without labels: a control."
)
_UNLABELED_MEMORY = flags.DEFINE_integer(
    "unlabeled_memory_mb", 4096, "Megabytes of unlabeled faces to hold decoded."
)
_SCHEDULER = shared_flags.scheduler(__name__, "have the teacher label the faces")
_LABEL_ONLY = flags.DEFINE_bool(
    "label_only",
    False,
    "End when the teacher has labeled the faces; the same command without it goes on from there.",
)

GROUPS = define_flags(recipes.CLASSES)
for _flag in (
    _UNLABELED_DIR,
    _FIRST_PASS,
    _NUM_UNLABELED,
    _AS_UNLABELED,
    _UNLABELED_MEMORY,
    _SCHEDULER,
    _LABEL_ONLY,
):
    GROUPS[_flag.name] = recipes.UNLABELED


def main(_):
    quiet_tensorflow()
    from keras_lapkl._support.provenance import run_provenance
    from keras_lapkl.data import datasets
    from keras_lapkl.data.cropping import default_margin
    from keras_lapkl.evaluation import model_report
    from keras_lapkl.training import choice, distributed
    from keras_lapkl.training.run import label, train
    from keras_lapkl.training.run_folder import RUN, check_settings, choose_folder

    distributed.join()  # before anything else of TensorFlow or JAX
    if not distributed.is_chief():
        logging.set_verbosity(logging.WARNING)  # the first process tells what all do

    asked = _UNLABELED_DIR.value, _NUM_UNLABELED.value, _AS_UNLABELED.value
    # What is wrong fails before any data is read.
    recipe = recipes.recipe_from_flags(datasets.is_unlabeled_asked(*asked))
    _check_flags()
    common = {
        "image_size": _IMAGE_SIZE.value,
        "cache_dir": f"{_OUTPUT_DIR.value}/crops",
    }
    margin = default_margin(_IMAGE_SIZE.value) if recipe.augment else 0
    crops = data_flags.load(
        "train_split",
        hold_out=not _validates_by_others(),
        margin=margin,
        crop_scale="auto" if _CROP_SCALE.value is None else _CROP_SCALE.value,
        scheme=_SCHEME.value,
        crop_from=_CROP_FROM.value,
        num_synthetic=_NUM_SYNTHETIC.value,
        **common,
    )
    _refuse_first_pass(crops.scheme)
    is_synthetic = crops.source is not None and crops.source.is_synthetic
    chosen = choice.choose(recipe, len(crops), crops.scheme, is_synthetic)
    recipe = chosen.recipe
    _tell(chosen.notes)
    check_settings(_OUTPUT_DIR.value, recipe, crops, chosen.others)
    _refuse_idle_scheduler(recipe)
    unlabeled = datasets.load_unlabeled(
        crops, *asked, _locate(crops.scheme), common["cache_dir"], _UNLABELED_MEMORY.value
    )
    if unlabeled is not None:
        logging.info("Without labels: %s.", unlabeled.summary)
    validation = data_flags.load(
        "validation_split",
        crop_scale=crops.crop_scale,
        scheme=crops.scheme,
        **common,
    )
    num_unlabeled = 0 if unlabeled is None else len(unlabeled)
    _tell(choice.data_notes(recipe, crops, validation, num_unlabeled, _UNLABELED_DIR.value))
    output_dir, reason = choose_folder(
        _OUTPUT_DIR.value, recipe, crops, validation, unlabeled, chosen.others
    )
    if reason is not None:
        what = "The run on these data is" if (output_dir / RUN).exists() else "Training anew"
        logging.warning("%s It stays as it is. %s in %s.", reason, what, output_dir)
    provenance = run_provenance()
    arguments = recipe, crops, validation, output_dir, provenance, unlabeled
    if _LABEL_ONLY.value:
        label(*arguments, scheduler=_SCHEDULER.value)
        print(f"The faces are labeled: the same command without --label_only trains, {output_dir}")
        return
    results = train(*arguments, tensorboard=_TENSORBOARD.value, scheduler=_SCHEDULER.value)
    if not distributed.is_chief():
        return
    print(model_report.table([results["validation"]]))
    print(model_report.conditions(results["validation"]))
    if reason is not None:
        print(f"{reason} It stays as it is.")
    if _TFLITE.value:
        loaded = {"training": crops.loaded, "validation": validation.loaded}
        _convert(output_dir, validation, {"loaded": loaded, "provenance": provenance})
    print(f"Model and results: {output_dir}")


def _tell(notes):
    for level, line in notes:
        logging.log(level, "%s", line)


def _check_flags():
    """Refuses what no data are needed to refuse."""
    from keras_lapkl.data import datasets

    if _SCHEDULER.value:
        extras.require("--scheduler", "distributed")
    if _TENSORBOARD.value:
        extras.require("--tensorboard", "tensorboard", "matplotlib")
    data_flags.check_image_size(_IMAGE_SIZE.value)
    values = flags.FLAGS
    if not values["validation_split"].present:
        datasets.refuse_all_to_train(values.dataset, values.data_dir, values.train_split)
    if _TFLITE.value:
        from keras_lapkl.export import conversion

        conversion.check_backend()


def _convert(output_dir, validation, record):
    """Writes the float16 file of the run's model, and its report."""
    from keras_lapkl._support.files import check_outputs
    from keras_lapkl.data import origins
    from keras_lapkl.export import conversion
    from keras_lapkl.export.report import summary
    from keras_lapkl.loading import load_model

    path = output_dir / "model.tflite"
    check_outputs((path, f"{path}.json"), links=False)
    report = conversion.convert(
        load_model(output_dir / "model.keras"),
        path,
        "float16",
        faces=validation.spread(100),
        calibration_faces=validation.spread(200),
    )
    origins.write(path, {**report, **record})
    print(summary([report]))


def _validates_by_others():
    """Whether no tenth of the training labels is needed to validate."""
    split = flags.FLAGS["validation_split"]
    return split.present and split.value != "validation"


def _refuse_first_pass(scheme):
    """ValueError where --first_pass is given and nothing is looked for."""
    from keras_lapkl.data.unlabeled import shards

    if _FIRST_PASS.value is None:
        return
    if _UNLABELED_DIR.value is None:
        raise ValueError("--first_pass finds faces in --unlabeled_dir: give that too, or drop it.")
    if scheme.crop_from == "image":
        raise ValueError("Whole pictures need no --first_pass: drop it.")
    if shards.is_shard_folder(_UNLABELED_DIR.value):
        folder = stores.at(_UNLABELED_DIR.value)
        raise ValueError(f"The faces in {folder} are cut out: drop --first_pass.")


def _refuse_idle_scheduler(recipe):
    """ValueError where --scheduler is given and no teacher labels faces."""
    if _SCHEDULER.value and recipe.teacher is None and not recipe.wide:
        raise ValueError(
            "--scheduler has a teacher label faces, and this run has none: give --teacher or "
            "--teacher_width, or drop it."
        )


def _locate(scheme):
    """What finds the faces in photos without labels; None where nothing can, or needs to."""
    from keras_lapkl.data.cropping import is_face
    from keras_lapkl.detection import first_pass

    if _FIRST_PASS.value is not None:
        return first_pass.ByModel(_FIRST_PASS.value)
    if _UNLABELED_DIR.value is not None and is_face(scheme):
        return first_pass.ByDetector()
    return None
