"""Trains a landmark localizer; writes model.keras, history.csv and results.json.

    lapkl train --output_dir=runs/synthetic
    lapkl train --flagfile=keras_lapkl/configs/w300.cfg --data_dir=300w \\
        --output_dir=runs/w300
    lapkl train --dataset=csv --data_dir=mine --output_dir=runs/mine

You can stop it at any moment: the same command goes on from the last finished epoch.
"""

import dataclasses

from absl import flags, logging

from keras_lapkl._support import app
from keras_lapkl._support.tensorflow import quiet_tensorflow
from keras_lapkl.data.datasets import DATASETS

_DATASET = flags.DEFINE_enum("dataset", "synthetic", DATASETS, "Training data.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder of the data; not for synthetic faces.")
_TRAIN = flags.DEFINE_string("train_split", "train", "Split, or a file of stems or keypoints.")
_VALIDATION = flags.DEFINE_string("validation_split", "validation", "The same, to measure on.")
_SCHEME = flags.DEFINE_string(
    "scheme",
    None,
    "Names, mirror pairs, edges: a .json file, ibug68 or aflw19; default the data's.",
)
_CROP_FROM = flags.DEFINE_enum(
    "crop_from", None, ["points", "box", "image"], "What keypoints are cropped by; default points."
)
_CATEGORY = flags.DEFINE_string("category", None, "Which of a COCO file's categories.")
_NUM_SYNTHETIC = flags.DEFINE_integer("num_synthetic", None, "Synthetic faces to train on.")
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Folder of this run.", required=True)
_LOSS = flags.DEFINE_enum(
    "loss", "laplace_kl", ["laplace_kl", "gaussian_kl", "softargmax"], "Loss."
)
_NETWORK = flags.DEFINE_enum(
    "network", "rcn", ["rcn", "mobile_fpn"], "The paper's network, or one made for phones."
)
_WIDTH = flags.DEFINE_float("width", 1 / 8, "Fraction of 64 channels.")
_HEAD = flags.DEFINE_enum(
    "head", "paper", ["paper", "linear", "marginal"], "What makes the RCN's maps; see `RCN`."
)
_NORMALIZE = flags.DEFINE_bool("normalize", False, "Normalize the RCN's image; see `RCN`.")
_EPOCHS = flags.DEFINE_integer("epochs", 40, "Passes over the training faces.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 8, "Faces in a step.")
_OPTIMIZER = flags.DEFINE_enum("optimizer", "adam", ["adam", "muon"], "Optimizer.")
_LEARNING_RATE = flags.DEFINE_float("learning_rate", 3e-3, "The optimizer's, at its peak.")
_SCHEDULE = flags.DEFINE_enum("schedule", "cosine", ["constant", "cosine"], "Of the learning rate.")
_DROPOUT = flags.DEFINE_float("dropout", 0.0, "The RCN's rate, in [0, 1).")
_AUGMENT = flags.DEFINE_bool("augment", True, "Turn, scale, shift, mirror, recolor, cover faces.")
_STRENGTH = flags.DEFINE_float("augment_strength", 1.0, "Factor on all of that but mirroring.")
_TARGET_SCALE = flags.DEFINE_float("target_scale", 1.0, "Scale of the labels, pixels (KL losses).")
_BETA = flags.DEFINE_float("beta", 1.0, "Inverse temperature of the softmax.")
_IMAGE_SIZE = flags.DEFINE_integer("image_size", 80, "Side of the crops, a multiple of 16.")
_CROP_SCALE = flags.DEFINE_float(
    "crop_scale",
    None,
    "Crop side / longer edge of what it is cut by. Default: 3 by five points (the paper's is 2), "
    "1.5 by other points, 1.25 by a box, 1 of an image.",
)
_SKIP_BAD = flags.DEFINE_bool("skip_bad", False, "List unreadable images instead of stopping.")
_INITIAL = flags.DEFINE_string(
    "initial_model", None, "A model file or shipped model to begin with: fine-tuning."
)
_TENSORBOARD = flags.DEFINE_bool("tensorboard", False, "Write OUTPUT_DIR/tensorboard.")
_SEED = flags.DEFINE_integer("seed", 0, "Of weights, dropout, noise, order and augmentation.")
_UNLABELED_DIR = flags.DEFINE_string(
    "unlabeled_dir", None, "Faces without labels, for D or a teacher: shards or photos."
)
_FIRST_PASS = flags.DEFINE_string(
    "first_pass", None, "If these are photos: the .tflite model that finds the faces in them."
)
_NUM_UNLABELED = flags.DEFINE_integer("num_unlabeled", None, "How many of them; default all.")
_AS_UNLABELED = flags.DEFINE_bool(
    "labeled_as_unlabeled", False, "Take the labeled faces as those without labels: a control."
)
_UNLABELED_BATCH = flags.DEFINE_integer(
    "unlabeled_batch_size", None, "Unlabeled faces in a step; default as many as labeled ones."
)
_UNLABELED_MEMORY = flags.DEFINE_integer(
    "unlabeled_memory_mb", 4096, "Megabytes of unlabeled faces to hold decoded."
)
_TEACHER = flags.DEFINE_string(
    "teacher", None, "A model to label the unlabeled faces by, instead of the adversarial branch."
)
_TEACHER_SCALE = flags.DEFINE_float(
    "teacher_max_scale", None, "Hide landmarks of a larger scale of the teacher's, its pixels."
)
_ADVERSARIAL_WEIGHT = flags.DEFINE_float("adversarial_weight", 1e-3, "λ of the adversarial loss.")
_ADVERSARIAL_LOSS = flags.DEFINE_enum(
    "adversarial_loss", "minimax", ["minimax", "non_saturating"], "What G descends."
)
_D_RATE = flags.DEFINE_float("discriminator_learning_rate", 2e-4, "Of its Adam, constant.")
_D_FILTERS = flags.DEFINE_integer("discriminator_filters", 64, "Of its first convolution.")
_D_NOISE = flags.DEFINE_float("discriminator_noise", 0.2, "Standard deviation, at each layer.")
_D_GAIN = flags.DEFINE_float("heatmap_gain", 1.0, "The discriminator sees heatmaps times this.")
_D_IMAGE = flags.DEFINE_float("image_gain", 1.0, "The discriminator sees images times this.")


def main(_):
    quiet_tensorflow()
    from keras_lapkl._support.provenance import run_provenance
    from keras_lapkl.data import datasets
    from keras_lapkl.detection import first_pass
    from keras_lapkl.evaluation import model_scores
    from keras_lapkl.training import distributed
    from keras_lapkl.training.recipe import Adversary, Recipe, Teacher
    from keras_lapkl.training.run import train

    distributed.strategy()  # before anything else of TensorFlow

    recipe = Recipe(
        loss=_LOSS.value,
        network=_NETWORK.value,
        width=_WIDTH.value,
        head=_HEAD.value,
        normalize=_NORMALIZE.value,
        epochs=_EPOCHS.value,
        batch_size=_BATCH_SIZE.value,
        optimizer=_OPTIMIZER.value,
        learning_rate=_LEARNING_RATE.value,
        schedule=_SCHEDULE.value,
        dropout=_DROPOUT.value,
        augment=_AUGMENT.value,
        augment_strength=_STRENGTH.value,
        target_scale=_TARGET_SCALE.value,
        beta=_BETA.value,
        seed=_SEED.value,
        initial_model=_INITIAL.value,
    )
    adversary = Adversary(
        weight=_ADVERSARIAL_WEIGHT.value,
        loss=_ADVERSARIAL_LOSS.value,
        learning_rate=_D_RATE.value,
        filters=_D_FILTERS.value,
        noise=_D_NOISE.value,
        heatmap_gain=_D_GAIN.value,
        image_gain=_D_IMAGE.value,
        batch_size=_UNLABELED_BATCH.value,
    )
    common = {
        "image_size": _IMAGE_SIZE.value,
        "category": _CATEGORY.value,
        "skip_bad": _SKIP_BAD.value,
        "cache_dir": f"{_OUTPUT_DIR.value}/crops",
    }
    margin = _IMAGE_SIZE.value // 5 if recipe.augment else 0
    crops = datasets.load(
        _DATASET.value,
        _DATA_DIR.value,
        _TRAIN.value,
        margin=margin,
        crop_scale="auto" if _CROP_SCALE.value is None else _CROP_SCALE.value,
        scheme=_SCHEME.value,
        crop_from=_CROP_FROM.value,
        num_synthetic=_NUM_SYNTHETIC.value,
        **common,
    )
    unlabeled = datasets.load_unlabeled(
        crops,
        _UNLABELED_DIR.value,
        _NUM_UNLABELED.value,
        _AS_UNLABELED.value,
        None if _FIRST_PASS.value is None else first_pass.ByModel(_FIRST_PASS.value),
        common["cache_dir"],
        _UNLABELED_MEMORY.value,
    )
    if _TEACHER.value is None and _TEACHER_SCALE.value is not None:
        raise ValueError("--teacher_max_scale needs --teacher.")
    if _TEACHER.value is not None:
        if unlabeled is None:
            raise ValueError(
                "--teacher needs faces without labels: give --unlabeled_dir, "
                "--labeled_as_unlabeled, or for synthetic ones --num_unlabeled."
            )
        teacher = Teacher(_TEACHER.value, _UNLABELED_BATCH.value, _TEACHER_SCALE.value)
        recipe = dataclasses.replace(recipe, teacher=teacher)
    elif unlabeled is not None:
        recipe = dataclasses.replace(recipe, adversary=adversary)
    if unlabeled is not None:
        logging.info("Without labels: %s.", unlabeled.summary)
    validation = datasets.load(
        _DATASET.value,
        _DATA_DIR.value,
        _VALIDATION.value,
        crop_scale=crops.crop_scale,
        scheme=crops.scheme,
        **common,
    )
    datasets.warn_of_shared(crops, validation)
    if recipe.augment and crops.scheme.flip is None:
        logging.info("Never mirrored: scheme %r has no mirror pairs.", crops.scheme.name)
    logging.info("Train on %s.", crops.summary)
    logging.info("Validate on %s.", validation.summary)
    results = train(
        recipe,
        crops,
        validation,
        _OUTPUT_DIR.value,
        run_provenance(app.resolved_flags()),
        unlabeled,
        _TENSORBOARD.value,
    )
    print(model_scores.table([results["validation"]]))
    print(model_scores.conditions(results["validation"]))
    print(f"Model and results: {_OUTPUT_DIR.value}")
