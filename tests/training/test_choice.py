import dataclasses

import numpy as np
import pytest
from absl import flags, logging

from keras_lapkl import configs, schemes
from keras_lapkl._support import settings
from keras_lapkl.data.crops import Crops
from keras_lapkl.training import choice, recipe as recipes
from keras_lapkl.training.recipe import Adversary, Recipe

SPOTS = schemes.Scheme.from_config({"name": "spots", "names": ["left", "right"]})

FEW_LABELS = [f"--flagfile={configs.path('few_labels')}", "--undefok=dataset"]


@pytest.fixture
def choose():
    """Function from words of a command line, a number of labels and facts to a `Choice`."""

    def chosen(words, num_labels, has_unlabeled=False, scheme=schemes.IBUG68, synthetic=False):
        found = flags.FlagValues()
        settings.define_flags(recipes.CLASSES, found)
        found(["train", *words])
        recipe = recipes.recipe_from_flags(has_unlabeled, found)
        return choice.choose(recipe, num_labels, scheme, synthetic, found)

    return chosen


def said(chosen, level):
    return "\n".join(line for each, line in chosen.notes if each == level)


@pytest.mark.parametrize(
    ("count", "has_unlabeled", "name"),
    [
        (1000, False, "few_labels"),
        (20, True, "few_labels_unlabeled"),
        (100, True, "few_labels_unlabeled"),
        (101, True, "hundreds_of_labels_unlabeled"),
        (1000, True, "hundreds_of_labels_unlabeled"),
    ],
)
def test_without_settings_the_number_of_labels_decides(choose, count, has_unlabeled, name):
    found = choose(["--seed=3"], count, has_unlabeled)
    assert found.recipe == dataclasses.replace(recipes.read_recipe(name), seed=3)
    assert said(found, logging.INFO) == f"No setting is given: recipe {name}, for {count} labels."
    assert not said(found, logging.WARNING)


@pytest.mark.parametrize("has_unlabeled", [False, True])
def test_of_many_labels_the_defaults_are(choose, has_unlabeled):
    found = choose(["--seed=3"], 1001, has_unlabeled)
    assert found.recipe == Recipe(seed=3, adversary=Adversary() if has_unlabeled else None)
    names = ["few_labels"]
    if has_unlabeled:
        names = ["few_labels_unlabeled", "hundreds_of_labels_unlabeled"]
    few = [dataclasses.replace(recipes.read_recipe(name), seed=3) for name in names]
    assert found.others == (*few, found.recipe)


@pytest.mark.parametrize(
    "words", [["--epochs=40"], ["--noaugment"], ["--teacher_width=1/2"], FEW_LABELS]
)
def test_any_setting_is_the_users_choice(choose, words):
    found = choose(words, 50)
    assert not found.others


def test_a_recipe_for_so_few_is_told_of(choose):
    told = "50 labels: --recipe=few_labels is made for so few; add it."
    for facts in ({}, {"synthetic": True}):
        assert said(choose(["--epochs=2"], 50, **facts), logging.INFO) == told
    for words in (["--network=mobile_fpn"], FEW_LABELS):
        assert not choose(words, 50).notes
    assert not choose(["--epochs=2"], 1001).notes
    assert choose([], 50, synthetic=True).recipe == Recipe()


@pytest.mark.parametrize(
    ("count", "line"),
    [
        (1001, "1,001 labels: with so many no method that was measured lowered LaplaceKL's error."),
        (
            50,
            "With so few labels (50) that lowered no error, but "
            "--recipe=few_labels_unlabeled does.",
        ),
    ],
)
@pytest.mark.parametrize("words", [["--epochs=2"], FEW_LABELS])
def test_an_adversary_that_nobody_asked_for(choose, count, line, words):
    assert said(choose(words, count, True), logging.WARNING).endswith(f" is given. {line}")
    methods = ("--unlabeled_method=adversarial", "--unlabeled_method=mean_teacher")
    for method in (*methods, "--adversarial_weight=1"):
        assert not said(choose([*words, method], count, True), logging.WARNING)


def test_flags_that_are_not_used_are_named(choose):
    words = ["--teacher_width=1/2", "--adversarial_weight=1", "--unlabeled_batch_size=4"]
    assert said(choose(words, 5000, True), logging.WARNING).endswith("of: --teacher_width.")
    alone = said(choose(words, 5000), logging.WARNING)
    assert alone.endswith("of: --adversarial_weight, --teacher_width, --unlabeled_batch_size.")
    words = ["--loss=softargmax", "--target_scale=2", "--eye_gain=2", "--openings=0.5"]
    scale = "Not used, for --loss=softargmax has no scale: --target_scale."
    assert said(choose(words, 5000), logging.WARNING) == scale
    assert said(choose(words, 5000, scheme=SPOTS), logging.WARNING).splitlines() == [
        scale,
        "Not used, for the points of scheme 'spots' are not those of eyes and mouth: "
        "--openings, --eye_gain.",
    ]


def test_a_strength_of_no_augmentation_is_not_used(choose):
    words = ["--noaugment", "--augment_strength=2"]
    told = said(choose(words, 5000), logging.WARNING)
    assert told == "Not used, for faces are not augmented: --augment_strength."
    assert not said(choose(words[1:], 5000), logging.WARNING)


def crops_of(names, scheme=SPOTS):
    n = len(names)
    return Crops(
        images=np.zeros((n, 16, 16, 3), np.uint8),
        landmarks=np.ones((n, 2, 2), np.float32),
        visible=np.ones((n, 2), bool),
        transforms=np.tile(np.eye(2, 3), (n, 1, 1)),
        names=tuple(map(str, names)),
        scheme=scheme,
        image_size=16,
        margin=0,
        crop_scale=1.0,
        name="spots",
    )


def test_what_is_told_of_the_data(tmp_path):
    train, held = (tmp_path / name for name in ("a.png", "b.png"))
    crops, validation = crops_of([train]), crops_of([train, held])
    told = [line for _, line in choice.data_notes(Recipe(), crops, validation, 3, tmp_path)]
    expected = [
        "1 images of spots are among those of spots",
        f"2 of the validation pictures lie in {tmp_path}, too",
        "0 pictures without labels are few beside 1 labels",
        "Train on spots.",
        "Validate on spots.",
        "9 or more validation objects",
    ]
    assert [line[: len(begin)] for line, begin in zip(told, expected, strict=True)] == expected
    validation = crops_of(range(9))
    assert choice.data_notes(Recipe(), crops, validation) == [
        (logging.INFO, "Train on spots."),
        (logging.INFO, "Validate on spots."),
    ]


def test_points_that_are_not_mirrored_are_told():
    alone = schemes.Scheme.from_config({"name": "dots", "names": ["a", "b"]})
    own = schemes.Scheme.from_config({"name": "spots", "names": ["left", "right"], "flip": []})
    validation = crops_of(range(9))
    level, line = choice.data_notes(Recipe(), crops_of(["a"], alone), validation)[0]
    assert level == logging.INFO and line == "Never mirrored: scheme 'dots' has no mirror pairs."
    level, line = choice.data_notes(Recipe(), crops_of(["a"], own), validation)[0]
    assert level == logging.WARNING and "that they are left or right: left, right." in line
    assert len(choice.data_notes(Recipe(augment=False), crops_of(["a"], own), validation)) == 2
