"""A compiled model from a recipe."""

import dataclasses

import keras
from absl import logging

from keras_lapkl import losses, metrics
from keras_lapkl.evaluation import model_scores
from keras_lapkl.models.adversarial import AdversarialLocalizer
from keras_lapkl.models.loading import load_model
from keras_lapkl.models.localizer import LandmarkLocalizer
from keras_lapkl.models.mobile_fpn import MobileFPN
from keras_lapkl.models.patch_gan import PatchGAN
from keras_lapkl.models.rcn import RCN
from keras_lapkl.optimizers import OPTIMIZERS
from keras_lapkl.training import distillation
from keras_lapkl.training.batches import steps_per_epoch

WARMUP = 0.05
"""Share of a cosine run in which the learning rate rises to its peak."""


def build(recipe, crops, unlabeled=None):
    """A compiled model for these crops; `recipe.seed` sets every random state.

    Returns:
        A `LandmarkLocalizer`, or an `AdversarialLocalizer` if the recipe has an adversary.
    """
    keras.utils.set_random_seed(recipe.seed)
    scheme = crops.scheme
    size = scheme.num_landmarks, recipe.width, crops.image_size
    if recipe.network == "rcn":
        generator = RCN(*size, recipe.dropout, recipe.head, recipe.normalize)
    else:
        generator = MobileFPN(*size)
    if recipe.initial_model is not None:
        _begin_with(generator, recipe.initial_model)
    normalizer = model_scores.default_normalizer(scheme)
    common = {"scheme": scheme, "crop_scale": crops.crop_scale, "beta": recipe.beta}
    scale = {} if recipe.loss == "softargmax" else {"target_scale": recipe.target_scale}
    compiled = {
        "optimizer": OPTIMIZERS[recipe.optimizer](_learning_rate(recipe, crops)),
        "loss": losses.LOSSES[recipe.loss](beta=recipe.beta, **scale),
        "metrics": [
            metrics.NormalizedMeanError(
                normalizer=crops.image_size if normalizer == "crop" else normalizer,
                scheme=scheme,
                beta=recipe.beta,
            ),
            metrics.HeatmapSpread(beta=recipe.beta),
        ],
    }
    adversary = recipe.adversary
    trained_on = _trained_on(recipe, crops, unlabeled)
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


def _trained_on(recipe, crops, unlabeled):
    """One line on all data that a model was derived from: their limits are its limits too."""

    def source(name_or_path):
        theirs = load_model(name_or_path).trained_on or "faces unknown"
        if f"{theirs};".startswith(f"{crops.summary};"):
            return f"the same labels{theirs.removeprefix(crops.summary)}"
        return theirs

    found = crops.summary
    if unlabeled is not None:
        found += f"; without labels {unlabeled.summary}"
    if recipe.teacher is not None:
        found += f", labeled by a model trained on {source(recipe.teacher.model)}"
    if recipe.initial_model is not None:
        found += f"; begun with a model trained on {source(recipe.initial_model)}"
    return found


def check_models(recipe, crops):
    """Fails at once on a teacher or first weights that won't do, before the folder is taken."""
    if recipe.teacher is not None:
        distillation.check_teacher(load_model(recipe.teacher.model), crops)
    if recipe.initial_model is not None:
        build(dataclasses.replace(recipe, adversary=None, teacher=None), crops)


def _begin_with(generator, name_or_path):
    """Gives a network the weights of another model's layers of equal name and shapes."""
    source = load_model(name_or_path)
    if not isinstance(source, LandmarkLocalizer):
        raise ValueError(
            "`initial_model` must be a shipped model's name or a .keras file of a "
            f"LandmarkLocalizer. Received: {name_or_path}, a {type(source).__name__}"
        )
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
    note = f"; at random: {rest}" if rest else ""
    logging.info("Begin with %d of %d layers%s.", len(fitting), len(layers), note)


def _learning_rate(recipe, crops):
    if recipe.schedule == "constant":
        return recipe.learning_rate
    steps = recipe.epochs * steps_per_epoch(crops, recipe.batch_size)
    warmup = max(1, round(WARMUP * steps))
    return keras.optimizers.schedules.CosineDecay(
        recipe.learning_rate / 100,
        decay_steps=max(1, steps - warmup),
        warmup_target=recipe.learning_rate,
        warmup_steps=warmup,
    )
