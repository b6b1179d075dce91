"""Trains a landmark localizer; writes model.keras, history.csv and results.json.

    python tools/train.py --output_dir=runs/synthetic
    python tools/train.py --flagfile=keras_lapkl/configs/w300.cfg --data_dir=300w \\
        --output_dir=runs/w300

Stopped at any moment, the same command goes on from the last finished epoch.
"""

import sys

from absl import flags, logging

from keras_lapkl import cli
from keras_lapkl.data.sources import DATASETS

_DATASET = flags.DEFINE_enum("dataset", "synthetic", DATASETS, "Training data.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder of the data; not for synthetic faces.")
_TRAIN = flags.DEFINE_string("train_split", "train", "Split, or for 300w a file of stems.")
_VALIDATION = flags.DEFINE_string("validation_split", "validation", "The same, to measure on.")
_NUM_SYNTHETIC = flags.DEFINE_integer("num_synthetic", None, "Synthetic faces to train on.")
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Folder of this run.", required=True)
_LOSS = flags.DEFINE_enum(
    "loss", "laplace_kl", ["laplace_kl", "gaussian_kl", "softargmax"], "Loss."
)
_WIDTH = flags.DEFINE_float("width", 1 / 8, "Fraction of the 64 channels of the full network.")
_EPOCHS = flags.DEFINE_integer("epochs", 40, "Passes over the training faces.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 8, "Faces in a step.")
_LEARNING_RATE = flags.DEFINE_float("learning_rate", 3e-3, "Adam's, at its peak.")
_SCHEDULE = flags.DEFINE_enum("schedule", "cosine", ["constant", "cosine"], "Of the learning rate.")
_DROPOUT = flags.DEFINE_float("dropout", 0.0, "Rate, in [0, 1).")
_AUGMENT = flags.DEFINE_bool("augment", True, "Turn, scale, shift, mirror, recolour, cover faces.")
_TARGET_SCALE = flags.DEFINE_float("target_scale", 1.0, "Scale of the labels, pixels (KL losses).")
_BETA = flags.DEFINE_float("beta", 1.0, "Inverse temperature of the softmax.")
_IMAGE_SIZE = flags.DEFINE_integer("image_size", 80, "Side of the crops, a multiple of 16.")
_CROP_SCALE = flags.DEFINE_float("crop_scale", 3.0, "Crop side / five-point box; the paper's is 2.")
_SKIP_BAD = flags.DEFINE_bool("skip_bad", False, "List unreadable images instead of stopping.")
_SEED = flags.DEFINE_integer("seed", 0, "Of weights, dropout, order and augmentation.")


def main(_):
    cli.quiet_tensorflow()
    from keras_lapkl import evaluation, runs, training
    from keras_lapkl.data import sources

    recipe = training.Recipe(
        loss=_LOSS.value,
        width=_WIDTH.value,
        epochs=_EPOCHS.value,
        batch_size=_BATCH_SIZE.value,
        learning_rate=_LEARNING_RATE.value,
        schedule=_SCHEDULE.value,
        dropout=_DROPOUT.value,
        augment=_AUGMENT.value,
        target_scale=_TARGET_SCALE.value,
        beta=_BETA.value,
        seed=_SEED.value,
    )
    common = {
        "image_size": _IMAGE_SIZE.value,
        "crop_scale": _CROP_SCALE.value,
        "skip_bad": _SKIP_BAD.value,
        "cache_dir": f"{_OUTPUT_DIR.value}/crops",
    }
    margin = _IMAGE_SIZE.value // 5 if recipe.augment else 0
    crops = sources.load(
        _DATASET.value,
        _DATA_DIR.value,
        _TRAIN.value,
        margin=margin,
        num_synthetic=_NUM_SYNTHETIC.value,
        **common,
    )
    validation = sources.load(_DATASET.value, _DATA_DIR.value, _VALIDATION.value, **common)
    logging.info("Train on %s.", crops.summary)
    logging.info("Validate on %s.", validation.summary)
    results = training.train(
        recipe, crops, validation, _OUTPUT_DIR.value, runs.provenance(cli.resolved_flags())
    )
    print(evaluation.table([results["validation"]]))
    print(evaluation.conditions(results["validation"]))
    print(f"Model and results: {_OUTPUT_DIR.value}")


if __name__ == "__main__":
    sys.exit(cli.run(main))
