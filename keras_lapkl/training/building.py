"""A compiled model from a recipe."""

# A recipe has checked its words.
# pyright: reportArgumentType=false

import dataclasses
import inspect

import keras
from absl import logging

from keras_lapkl import metrics
from keras_lapkl.data.crops import Crops
from keras_lapkl.data.unlabeled.crops import UnlabeledCrops
from keras_lapkl.evaluation import model_scores
from keras_lapkl.loading import load_model
from keras_lapkl.models.adversarial import AdversarialLocalizer
from keras_lapkl.models.localizer import LandmarkLocalizer
from keras_lapkl.models.mean_teacher import MeanTeacherLocalizer
from keras_lapkl.models.networks import NETWORKS
from keras_lapkl.models.patch_gan import PatchGAN
from keras_lapkl.registries import LOSSES, OPTIMIZERS
from keras_lapkl.training import distillation
from keras_lapkl.training.batches import steps_per_epoch
from keras_lapkl.training.recipe import Recipe
from keras_lapkl.training.schedules import SCHEDULES
from keras_lapkl.training_data import DataSet, TrainingData, union


def build(
    recipe: Recipe, crops: Crops, unlabeled: UnlabeledCrops | None = None
) -> LandmarkLocalizer:
    """A compiled model for these crops; `recipe.seed` sets every random state.

    Args:
        recipe: a `Recipe`.
        crops: `Crops` to train on: scheme, size and crop rule are the model's.
        unlabeled: `UnlabeledCrops`, which the model's provenance names; or None.

    Returns:
        A `LandmarkLocalizer`; an `AdversarialLocalizer` if the recipe has an adversary, a
        `MeanTeacherLocalizer` if it has a mean teacher.

    Raises:
        ValueError: an initial model that does not fit.

    Example:

    >>> build(Recipe(width=1 / 8), crops).generator.count_params()
    39828
    """
    keras.utils.set_random_seed(recipe.seed)
    scheme = crops.scheme
    generator = NETWORKS[recipe.network].build(
        scheme.num_landmarks, image_size=crops.image_size, **vars(recipe)
    )
    if recipe.initial_model is not None:
        _begin_with(generator, recipe.initial_model, recipe.initial_share, recipe.beta)
    normalizer = model_scores.default_normalizer(scheme)
    common = {"scheme": scheme, "crop_scale": crops.crop_scale, "beta": recipe.beta}
    compiled = {
        "optimizer": OPTIMIZERS[recipe.optimizer](_learning_rate(recipe, crops)),
        "loss": _loss(recipe),
        "metrics": [
            metrics.NormalizedMeanError(
                normalizer=crops.image_size if normalizer == "crop" else normalizer,
                scheme=scheme,
                beta=recipe.beta,
            ),
            metrics.HeatmapSpread(beta=recipe.beta),
        ],
    }
    adversary, mean_teacher = recipe.adversary, recipe.mean_teacher
    trained_on = _training_data(recipe, crops, unlabeled)
    if mean_teacher is not None:
        model = MeanTeacherLocalizer(
            generator,
            decay=mean_teacher.decay,
            consistency_weight=mean_teacher.weight,
            consistency_start=round(mean_teacher.start * _steps(recipe, crops)),
            trained_on=trained_on,
            **common,
        )
        model.compile(**compiled)
        return model
    if adversary is None:
        model = LandmarkLocalizer(generator, trained_on=trained_on, **common)
        model.compile(**compiled)
        return model
    model = AdversarialLocalizer(
        generator,
        PatchGAN(scheme.num_landmarks, adversary.filters, adversary.noise),
        adversary.weight,
        adversary.loss,
        heatmap_gain=adversary.heatmap_gain,
        image_gain=adversary.image_gain,
        trained_on=trained_on,
        **common,
    )
    discriminator_optimizer = keras.optimizers.Adam(adversary.learning_rate, beta_1=0.5)
    model.compile(discriminator_optimizer=discriminator_optimizer, **compiled)
    return model


def _training_data(recipe, crops, unlabeled):
    """All data that a model is derived from."""

    def of(*models):
        return union([load_model(each).training_data or TrainingData() for each in models])

    sets = [crops.source or DataSet(crops.name, len(crops))]
    return TrainingData(
        (*sets, *([] if unlabeled is None else [unlabeled.source])),
        None if recipe.teacher is None else of(*recipe.teacher.models),
        None if recipe.initial_model is None else of(recipe.initial_model),
    )


def check_models(recipe: Recipe, crops: Crops) -> None:
    """Fails at once on a teacher, first weights or a network that won't do.

    To be called before a folder is taken.
    """
    for each in recipe.teacher.models if recipe.teacher is not None else ():
        distillation.check_teacher(load_model(each), crops)
    alone = dict.fromkeys(("adversary", "teacher", "mean_teacher"))
    build(dataclasses.replace(recipe, **alone), crops)


def _check_same_function(source, generator, beta):
    """Equal weights are another function where images or maps are read in another way."""
    theirs = {"beta": source.beta, "normalize": getattr(source.generator, "normalize", None)}
    ours = {"beta": beta, "normalize": getattr(generator, "normalize", None)}
    for name, value in theirs.items():
        if None not in (value, ours[name]) and value != ours[name]:
            raise ValueError(
                f"`initial_model` was trained with `{name}` {value}, and here it is {ours[name]}: "
                f"equal weights would be another function. Give --{name} as it was there."
            )


def _begin_with(generator, name_or_path, share, beta):
    """Gives a network the weights of another model's layers of equal name and shapes."""
    source = load_model(name_or_path)
    if not isinstance(source, LandmarkLocalizer):
        raise ValueError(
            "`initial_model` must be a shipped model's name or a .keras file of a "
            f"LandmarkLocalizer. Received: {name_or_path}, a {type(source).__name__}"
        )
    _check_same_function(source, generator, beta)
    theirs = {layer.name: layer.get_weights() for layer in source.generator.layers}
    layers = [layer for layer in generator.layers if layer.weights]
    fitting = [
        layer
        for layer in layers
        if [w.shape for w in theirs.get(layer.name, ())] == [w.shape for w in layer.weights]
    ]
    if 2 * len(fitting) < len(layers):
        raise ValueError(
            f"`initial_model` is a {type(source.generator).__name__} of which {len(fitting)} of "
            f"the {len(layers)} layers fit this {type(generator).__name__}. Give a model of the "
            "same network and width, with batch normalization if this one has it."
        )
    for layer in fitting:
        layer.set_weights(theirs[layer.name])
    rest = ", ".join(layer.name for layer in layers if layer not in fitting)
    if rest and share:
        raise ValueError(
            f"`initial_share` needs an `initial_model` of which every layer fits. {name_or_path} "
            f"lacks {rest}"
        )
    note = f"; at random: {rest}" if rest else ""
    logging.info("Begin with %d of %d layers%s.", len(fitting), len(layers), note)


def average(generator: keras.Model, recipe: Recipe) -> None:
    """Mixes the weights that a recipe began with into a network's, as `initial_share` says.

    Source: Wortsman et al., Robust fine-tuning of zero-shot models, CVPR 2022.

    Args:
        generator: the trained network, changed.
        recipe: a `Recipe` with an initial model.
    """
    share = recipe.initial_share
    theirs = {layer.name: layer for layer in load_model(recipe.initial_model).generator.layers}
    for layer in generator.layers:
        if layer.weights:
            pairs = zip(theirs[layer.name].get_weights(), layer.get_weights(), strict=True)
            layer.set_weights([share * old + (1 - share) * new for old, new in pairs])


def takes_target_scale(loss: str) -> bool:
    """Whether a loss, by its name in a recipe, draws the label's distribution at a scale."""
    return "target_scale" in inspect.signature(LOSSES[loss]).parameters


def _loss(recipe):
    loss, given = LOSSES[recipe.loss], {"beta": recipe.beta}
    if takes_target_scale(recipe.loss):
        given["target_scale"] = recipe.target_scale
    return loss(**given)


def _learning_rate(recipe, crops):
    return SCHEDULES[recipe.schedule](recipe.learning_rate, _steps(recipe, crops))


def _steps(recipe, crops):
    return recipe.epochs * epoch_steps(recipe, crops)


def epoch_steps(recipe, crops):
    """Steps in an epoch of a run."""
    in_a_pass = steps_per_epoch(crops, recipe.batch_size)
    return recipe.steps_per_epoch or in_a_pass
