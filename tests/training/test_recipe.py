import dataclasses
import pathlib
import subprocess
import sys

import pytest
from absl import flags

from keras_lapkl import configs
from keras_lapkl._support import settings
from keras_lapkl.models.networks import NETWORKS
from keras_lapkl.registries import LOSSES, OPTIMIZERS
from keras_lapkl.training import recipe as recipes
from keras_lapkl.training.recipe import Adversary, MeanTeacher, Recipe, Teacher, read_recipe


@pytest.fixture
def values():
    """Function from words of a command line to the flags' values."""

    def parse(*words):
        found = flags.FlagValues()
        settings.define_flags(recipes.CLASSES, found)
        found(["train", *words])
        return found

    return parse


def test_flags_that_are_not_given_are_the_recipe_by_default(values):
    """What a beginner trains by `Recipe()` and by the command is the same."""
    assert recipes.recipe_from_flags(flag_values=values()) == Recipe()
    assert recipes.recipe_from_flags(True, values()).adversary == Adversary()


def test_defaults_are_this_projects_own():
    chosen = Recipe()
    assert (chosen.epochs, chosen.learning_rate, chosen.schedule) == (40, 3e-3, "cosine")
    assert chosen.dropout == 0 and chosen.augment


FLAGS = {
    "adversary.batch_size": "unlabeled_batch_size",
    "adversary.filters": "discriminator_filters",
    "adversary.heatmap_gain": "heatmap_gain",
    "adversary.image_gain": "image_gain",
    "adversary.learning_rate": "discriminator_learning_rate",
    "adversary.loss": "adversarial_loss",
    "adversary.noise": "discriminator_noise",
    "adversary.weight": "adversarial_weight",
    "mean_teacher.augment_strength": "unlabeled_augment_strength",
    "mean_teacher.batch_size": "unlabeled_batch_size",
    "mean_teacher.decay": "teacher_decay",
    "mean_teacher.epochs": "teacher_epochs",
    "mean_teacher.start": "consistency_start",
    "mean_teacher.supervised_epochs": "supervised_teacher_epochs",
    "mean_teacher.weight": "consistency_weight",
    "mean_teacher.width": "teacher_width",
    "teacher.batch_size": "unlabeled_batch_size",
    "teacher.max_scale": "teacher_max_scale",
    "teacher.model": "teacher",
}


def test_each_field_has_a_flag_with_help_and_group():
    found = {}
    nested = {"adversary": Adversary, "teacher": Teacher, "mean_teacher": MeanTeacher}
    for name, cls in nested.items():
        found |= {f"{name}.{f.name}": flag for flag, f in settings.settings(cls).items()}
    assert found == FLAGS
    own = settings.settings(Recipe)
    assert set(own) == {field.name for field in dataclasses.fields(Recipe)} - set(nested)
    for cls in recipes.CLASSES:
        for field in settings.settings(cls).values():
            assert field.metadata["help"].endswith(".") and field.metadata["group"]
            assert field.metadata["help"] in cls.__doc__


def test_each_flag_sets_its_field(values):
    given = {
        "loss": ("softargmax", "softargmax"),
        "network": ("rcn", "rcn"),
        "width": ("1/16", 1 / 16),
        "head": ("marginal", "marginal"),
        "epochs": ("3", 3),
        "steps_per_epoch": ("9", 9),
        "batch_size": ("4", 4),
        "optimizer": ("muon", "muon"),
        "learning_rate": ("2e-2", 0.02),
        "schedule": ("constant", "constant"),
        "dropout": ("0.1", 0.1),
        "augment_strength": ("0.5", 0.5),
        "camera_strength": ("1.5", 1.5),
        "openings": ("0.3", 0.3),
        "eye_gain": ("1.5", 1.5),
        "mouth_gain": ("1.2", 1.2),
        "target_scale": ("2", 2.0),
        "beta": ("0.5", 0.5),
        "seed": ("7", 7),
        "initial_model": ("a.keras", "a.keras"),
        "initial_share": ("0.15", 0.15),
    }
    words = [f"--{name}={text}" for name, (text, _) in given.items()]
    found = recipes.recipe_from_flags(flag_values=values(*words, "--normalize"))
    expected = {name: value for name, (_, value) in given.items()}
    assert found == Recipe(**expected, normalize=True)
    assert not recipes.recipe_from_flags(flag_values=values("--noaugment")).augment
    words = ["--adversarial_weight=0.1", "--discriminator_learning_rate=1e-3", "--heatmap_gain=20"]
    words += ["--discriminator_filters=4", "--discriminator_noise=0", "--image_gain=0"]
    words += ["--adversarial_loss=non_saturating", "--unlabeled_batch_size=5"]
    assert recipes.recipe_from_flags(True, values(*words)).adversary == Adversary(
        0.1, "non_saturating", 1e-3, 4, 0.0, 20.0, 0.0, 5
    )
    words = ["--teacher=fpn-eighth-300w", "--teacher_max_scale=2", "--unlabeled_batch_size=5"]
    found = recipes.recipe_from_flags(True, values(*words))
    assert found.teacher == Teacher("fpn-eighth-300w", 5, 2.0) and found.adversary is None
    words = ["--unlabeled_method=mean_teacher", "--teacher_decay=0.9", "--consistency_start=0"]
    words += [
        "--consistency_weight=2",
        "--unlabeled_augment_strength=1",
        "--unlabeled_batch_size=5",
        "--teacher_width=1/4",
        "--teacher_epochs=7",
        "--supervised_teacher_epochs=6",
    ]
    found = recipes.recipe_from_flags(True, values(*words))
    assert found == Recipe(mean_teacher=MeanTeacher(0.9, 2.0, 0.0, 1.0, 1 / 4, 7, 5, 6))


@pytest.mark.parametrize(
    ("has_unlabeled", "words", "message"),
    [
        (False, ["--unlabeled_method=mean_teacher"], "--unlabeled_method needs faces without"),
        (False, ["--teacher=a.keras"], "--teacher needs faces without labels"),
        (True, ["--unlabeled_method=teacher"], "go together"),
        (True, ["--unlabeled_method=mean_teacher", "--teacher=a.keras"], "go together"),
        (True, ["--teacher_max_scale=2"], "needs --teacher"),
        *(
            (
                True,
                ["--unlabeled_method=mean_teacher", flag],
                f"name their teacher_width.*{flag[2:]}",
            )
            for flag in ("--teacher_epochs=2", "--supervised_teacher_epochs=3")
        ),
    ],
)
def test_methods_and_what_they_need(values, has_unlabeled, words, message):
    with pytest.raises(ValueError, match=message):
        recipes.recipe_from_flags(has_unlabeled, values(*words))


def test_help_has_unit_and_range(values):
    text = values().get_help()
    for line in (
        "--width: How wide the network is.\n    (default: '1/8')\n"
        "    (a number in (0, 4], such as 1/8 or 0.125; of 64 channels)",
        "(a number in [0, 1))",
        "(a number > 0; pixels)",
        "(a whole number ≥ 1; faces)",
        "--optimizer: <adam|muon>",
        "--loss: <laplace_kl|gaussian_kl|softargmax>",
        "--network: <rcn|mobile_fpn>",
        "--head: <paper|linear|marginal>",
        "--schedule: <constant|cosine>",
    ):
        assert line in text


@pytest.mark.parametrize(
    "word",
    ["--width=0", "--dropout=1", "--epochs=0", "--epochs=1.5", "--discriminator_noise=-1"],
)
def test_a_flag_refuses_what_the_recipe_refuses(values, word):
    with pytest.raises(flags.IllegalFlagValueError, match=word[2:]):
        values(word)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loss": "l2"}, "laplace_kl"),
        ({"schedule": "step"}, "cosine"),
        ({"network": "vgg"}, "mobile_fpn"),
        ({"optimizer": "sgd"}, "muon"),
        ({"head": "none"}, "marginal"),
        ({"network": "mobile_fpn", "head": "marginal"}, "`head`.*'marginal'"),
        ({"network": "mobile_fpn", "dropout": 0.1}, "`dropout`"),
        ({"network": "mobile_fpn", "normalize": True}, "`normalize`"),
        ({"epochs": 0}, "epochs"),
        ({"learning_rate": -1}, "learning_rate"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"dropout": 1}, "dropout"),
        ({"width": 0}, "width"),
        ({"beta": 0}, "beta"),
        ({"seed": -1}, "seed"),
        ({"adversary": Adversary(), "teacher": Teacher("x.keras")}, "take one of"),
        ({"adversary": Adversary(), "mean_teacher": MeanTeacher()}, "take one of"),
    ],
)
def test_bad_recipe(change, message):
    with pytest.raises(ValueError, match=message):
        Recipe(**change)


def test_bad_adversary_and_teacher():
    for change in ({"weight": -1}, {"loss": "wgan"}, {"filters": 0}, {"heatmap_gain": 0}):
        with pytest.raises(ValueError, match=next(iter(change))):
            Adversary(**change)
    for change in ({"batch_size": 0}, {"max_scale": -1.0}):
        with pytest.raises(ValueError, match=next(iter(change))):
            Teacher("x.keras", **change)
    for model in ("", (), ("a.keras", "")):
        with pytest.raises(ValueError, match="must name a model, or several"):
            Teacher(model)
    for change in ({"decay": 1.0}, {"weight": -1.0}, {"start": 2.0}, {"augment_strength": -1.0}):
        with pytest.raises(ValueError, match=next(iter(change))):
            MeanTeacher(**change)


def test_path_and_text_are_the_same():
    assert Teacher(pathlib.Path("a.keras")) == Teacher("a.keras")
    assert Recipe(initial_model=pathlib.Path("a.keras")) == Recipe(initial_model="a.keras")


def test_several_teachers(values):
    two = Teacher((pathlib.Path("a.keras"), "fpn-eighth-300w"))
    assert two.models == two.model == ("a.keras", "fpn-eighth-300w")
    assert (
        recipes.recipe_from_flags(True, values("--teacher=a.keras,fpn-eighth-300w")).teacher == two
    )
    # Of one it is as it was, and a comma in a path is no border but in the flag.
    one = Teacher(("runs/1,2/a.keras",))
    assert one.models == (one.model,) and one == Teacher("runs/1,2/a.keras")
    assert recipes.recipe_from_flags(True, values('--teacher="runs/1,2/a.keras"')).teacher == one
    taught = Recipe(mean_teacher=MeanTeacher()).taught_by(["runs/1,2/a.keras"])
    assert taught.teacher.models == ("runs/1,2/a.keras",)
    with pytest.raises(ValueError, match="must name a model, or several"):
        recipes.recipe_from_flags(True, values("--teacher="))


def test_files_of_recipes():
    assert configs.names() == [
        *("few_labels", "few_labels_unlabeled", "hundreds_of_labels_unlabeled"),
        *("w300", "w300_mobile", "w300_muon", "w300_paper", "w300_phone", "w300_unlabeled"),
    ]
    assert read_recipe("w300") == Recipe()
    assert read_recipe("w300_paper") == Recipe(
        learning_rate=1e-3, schedule="constant", dropout=0.2, augment=False
    )
    assert read_recipe("w300_mobile") == Recipe(
        network="mobile_fpn",
        epochs=250,
        optimizer="muon",
        learning_rate=2e-2,
        augment_strength=0.75,
    )
    camera = {"camera_strength": 0.4, "openings": 0.3, "eye_gain": 2.5, "mouth_gain": 1.65}
    assert read_recipe("w300_phone") == dataclasses.replace(
        read_recipe("w300_mobile"), epochs=36, learning_rate=7e-3, **camera
    )
    assert read_recipe("few_labels") == dataclasses.replace(
        read_recipe("w300_mobile"), epochs=40, steps_per_epoch=100
    )
    mean_teacher = MeanTeacher(augment_strength=1.0, width=0.5, epochs=40, batch_size=12)
    assert read_recipe("few_labels_unlabeled") == dataclasses.replace(
        read_recipe("few_labels"), epochs=120, mean_teacher=mean_teacher
    )
    both = dataclasses.replace(mean_teacher, supervised_epochs=40)
    assert read_recipe("hundreds_of_labels_unlabeled") == dataclasses.replace(
        read_recipe("few_labels"), epochs=200, mean_teacher=both
    )
    assert read_recipe("w300_unlabeled") == Recipe(
        epochs=12,
        adversary=Adversary(0.03, "non_saturating", 1e-3, 16, 0.02, 20.0, 0.0),
    )


def test_the_papers_file_says_all_that_a_default_could_change():
    """But for the seed, an epoch that is no pass, and how strongly it would augment, if it did."""
    file = pathlib.Path(recipes.__file__).parents[1] / "configs" / "w300_paper.cfg"
    values = settings.read_flagfile(file, recipes.CLASSES, ("dataset",))
    given = {name for name in settings.settings(Recipe) if values[name].present}
    left = {"augment_strength", "camera_strength", "openings", "eye_gain", "mouth_gain"}
    left |= {"initial_model", "initial_share", "seed", "steps_per_epoch"}
    assert set(settings.settings(Recipe)) - given == left


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--learning_rat=1", "learning_rat=1"),
        ("--epochs=0", "epochs"),
        ("--teacher_max_scale=2", "needs --teacher"),
        ("--network=mobile_fpn\n--dropout=0.2", "`dropout`"),
        ("--flagfile=nowhere.cfg", "nowhere.cfg"),
    ],
)
def test_bad_file(line, message, tmp_path):
    (tmp_path / "mine.cfg").write_text(f"# mine\n--dataset=csv\n--epochs=3\n{line}\n")
    with pytest.raises(ValueError, match=message):
        read_recipe(tmp_path / "mine.cfg")


def test_a_file_of_ones_own(tmp_path):
    (tmp_path / "mine.cfg").write_text("# mine\n--dataset=csv\n\n--epochs=3\n--width=1/16\n")
    assert read_recipe(tmp_path / "mine.cfg") == Recipe(epochs=3, width=1 / 16)


def test_each_name_leads_to_what_it_names():
    import keras

    from keras_lapkl import losses, optimizers

    assert LOSSES["laplace_kl"] is losses.LaplaceKL
    for loss in LOSSES.values():
        assert issubclass(loss, keras.losses.Loss) and loss(beta=0.5).beta == 0.5
    assert OPTIMIZERS["muon"] is optimizers.muon
    for make in OPTIMIZERS.values():
        assert isinstance(make(1e-3), keras.optimizers.Optimizer)


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_offer_what_a_generator_must(name):
    from keras_lapkl.models.networks import Generator

    made = NETWORKS[name].build(5, image_size=32, **vars(Recipe(width=1 / 64)))
    assert isinstance(made, Generator)
    assert made.input_shape == (None, 32, 32, 3) and made.output_shape == (None, 32, 32, 5)
    again = type(made).from_config(made.get_config())
    assert [layer.name for layer in again.layers] == [layer.name for layer in made.layers]


@pytest.mark.slow
def test_names_are_known_before_keras_is_imported():
    """`lapkl train --help` answers at once."""
    code = (
        "import sys, keras_lapkl.commands.train; "
        "assert not {'keras', 'tensorflow'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize("change", [{"camera_strength": 1.0}, {"openings": 0.5}, {"eye_gain": 2.0}])
def test_parts_of_augmentation_need_it(change):
    with pytest.raises(ValueError, match="parts of augmentation"):
        Recipe(augment=False, **change)
