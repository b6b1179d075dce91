"""The models' cards: what was measured, of the files that are shipped, by these commands."""

import json
import pathlib
import re
import shlex
import shutil
import subprocess
import zipfile

import pytest

from keras_lapkl import pretrained
from keras_lapkl._support.files import read_json, write_json
from keras_lapkl.data import datasets
from keras_lapkl.evaluation import model_scores
from keras_lapkl.tflite import TFLiteLocalizer, describe

ROOT = pathlib.Path(__file__).resolve().parent.parent
with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(ROOT / "benchmarks")
    import card_pages
    import card_parts

NAMES = (*pretrained.NAMES, *pretrained.MICRO_NAMES)


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


@pytest.fixture
def found(name):
    return figures(name)


def figures(name):
    return read_json(card_parts.CARDS / f"{name}.json")


def text_of(name):
    return pretrained.path(name, ".md").read_text()


def test_card_is_made_of_the_figures(name, found):
    """Whoever edits a card, or the figures, is sent to the command that makes it."""
    made = card_pages.card(name, found, card_parts.words_of(name))
    assert text_of(name) == made, "python benchmarks/cards.py writes the cards"


def test_figures_are_of_the_files_that_are_shipped(name, found):
    assert card_parts.outdated(name, found["parts"]) == [], (
        f"python benchmarks/cards.py --models={name} --faces_dir=… measures them"
    )


@pytest.mark.parametrize("page", [card_pages.README, card_pages.MODELS_PAGE], ids=lambda p: p.stem)
def test_pages_of_all_models_have_the_figures(page):
    times = card_pages.latencies(read_json(card_pages.TRADEOFF))
    table = card_pages.tables({name: figures(name)["parts"] for name in NAMES}, times)[page]
    assert card_pages.with_table(page.read_text(), table) == page.read_text()


def test_card_has_what_a_user_must_know(name, found):
    card = " ".join(text_of(name).split()).lower()
    for word in ("non-commercial research", "of 3,148 official training faces", "crop scale 3"):
        assert word in card
    for suffix in card_parts.suffixes_of(name):
        if suffix.endswith(".tflite") and name in pretrained.NAMES:
            measured = describe(pretrained.path(name, suffix))["metadata"]["measured"]
            of_card = found["parts"][f"validation{suffix}"]["found"]["nme"]
            assert f"{of_card:.2f}" in card
            # Processors round int8 differently.
            assert measured["nme"] == pytest.approx(of_card, abs=0.02)
    assert len(text_of(name).splitlines()) < 160


@pytest.mark.faces
@pytest.mark.parametrize("suffix", [".tflite", "-int8.tflite"])
@pytest.mark.parametrize("name", pretrained.NAMES)
def test_nme_and_coverage_on_the_common_set(name, suffix, faces):
    model = TFLiteLocalizer(pretrained.path(name, suffix))
    crops = datasets.load("300w", faces / "300w", "common", image_size=model.image_size)
    result, _ = model_scores.evaluate_model(model, crops)
    of_card = figures(name)["parts"][f"common{suffix}"]["found"]
    assert result["nme"] == pytest.approx(of_card["nme"], abs=0.005)
    assert result["nme_interval"] == pytest.approx(of_card["nme_interval"], abs=0.01)
    assert result["confidence"]["coverage"]["0.9"] == pytest.approx(of_card["coverage"], abs=0.002)
    # Faces of the common set are easier than those of the validation set.
    assert 0.88 <= of_card["coverage"] <= 0.925


# ---- Commands


def test_commands_that_made_it_have_these_flags(name, found):
    made = card_parts.commands_of(name)
    assert made == [step["command"] for step in found["training"]]
    block = card_pages.commands(made)
    assert block in text_of(name)
    for command in made:
        _, tool, *arguments = shlex.split(command)
        card_parts.parsed(tool, arguments)


@pytest.mark.parametrize("name", pretrained.NAMES)
def test_convert_on_the_card_is_of_its_training_and_files(name):
    *_, trained, refined, command = card_parts.commands_of(name)
    given = card_parts.parsed("refine", shlex.split(refined)[2:])
    folder = re.search(r"--output_dir=(\S+)", trained).group(1)
    assert given["model"] == f"{folder}/model.keras" and given["dataset"] == "300w"
    made, given = given["output"], card_parts.parsed("convert", shlex.split(command)[2:])
    assert given["model"] == made == f"{folder}/refined.keras"
    assert given["mode"] == "all" and given["dataset"] == "300w"
    for suffix in (".tflite", "-int8.tflite"):
        about = describe(pretrained.path(name, suffix))["metadata"]
        assert given["num_parity"] == about["measured"]["faces"]
        assert given["num_calibration"] == about["calibration"]["faces"]


def test_a_flag_that_is_none_is_refused():
    with pytest.raises(Exception, match="mean_bond"):
        card_parts.parsed("convert", ["--mean_bond=1"])
    with pytest.raises(Exception, match="mode"):
        card_parts.parsed("convert", ["--model=a", "--output=b", "--mode=int3"])


def test_commands_that_measured_it_are_those_of_the_block(name):
    """A shell goes through the loops of the card."""
    block = card_pages.measuring(name)
    assert block in text_of(name)
    say = 'lapkl() { printf "%s\\n" "lapkl $(printf "%q " "$@")"; }\n'
    say += 'python() { printf "%s\\n" "python $(printf "%q " "$@")"; }\n'
    said = subprocess.run(["bash", "-c", say + block], capture_output=True, text=True, check=True)
    ran = [shlex.split(bare(line)) for line in said.stdout.splitlines()]
    wanted = [part.command for part in card_parts.parts_of(name).values() if part.command]
    assert sorted(ran) == sorted(shlex.split(command) for command in wanted)
    for tool, *arguments in (words[1:] for words in ran if words[0] == "lapkl"):
        card_parts.parsed(tool, [each for each in arguments if each.startswith("-")])


def bare(line):
    """What bash's %q has quoted byte by byte, as `$'…'`, in plain quotes."""
    return re.sub(r"\$'([^']*)'", lambda m: shlex.quote(_unescaped(m[1])), line)


def _unescaped(text):
    return text.encode().decode("unicode_escape").encode("latin-1").decode()


# ---- When figures are old


def test_a_new_int8_file_makes_its_parts_old_and_no_other(tmp_path, monkeypatch):
    name = pretrained.NAMES[0]
    found = figures(name)["parts"]
    copy = shutil.copytree(card_parts.weights(), tmp_path / "weights")
    monkeypatch.setattr(card_parts, "weights", lambda: copy)
    assert card_parts.outdated(name, found) == []
    with (copy / f"{name}-int8.tflite").open("ab") as file:
        file.write(b"new")
    int8 = ["validation-int8.tflite", "common-int8.tflite"]
    assert card_parts.outdated(name, found) == ["network", *int8, "elsewhere", "check"]


def test_a_new_command_or_a_part_that_is_missing_is_measured():
    name = pretrained.NAMES[0]
    found = figures(name)["parts"]
    del found["flip"]
    found["lost"]["of"]["command"] += " --times"
    assert card_parts.outdated(name, found) == ["flip", "lost"]


# ---- Training


@pytest.fixture
def runs(tmp_path):
    """Folder with the run of the 1/16 model, as `lapkl train` leaves its record."""
    name = "fpn-sixteenth-300w"
    command = shlex.split(card_parts.commands_of(name)[0])[2:]
    write_json(
        tmp_path / "sixteenth/results.json",
        {
            "seconds_of_training": 600.0,
            "epochs_in_those_seconds": 60,
            "provenance": {
                "flags": card_parts.parsed("train", command),
                "machine": {"cores": 2},
                "versions": {"keras_lapkl": "0.1.0", "tensorflow": "2", "keras": "3"},
                "time": "2026-11-27T08:27:30+00:00",
            },
        },
    )
    return name, tmp_path


def test_time_of_training_is_that_of_the_run(runs):
    """A run that went on after half of its epochs has the time of the others only."""
    name, folder = runs
    steps = card_parts.training(name, [], folder)
    assert steps[0]["seed"] == 0 and steps[0]["epochs"] == 120
    assert steps[0]["run"]["seconds"] == 600 and steps[1]["run"] is None
    assert card_parts.training(name, steps, None) == steps  # it stays
    card = card_pages.card(name, {**figures(name), "training": steps}, card_parts.words_of(name))
    assert "| `runs/sixteenth` | 0 | 120 | 20 min |" in card and "0.3 core-hours" in card


def test_a_run_of_other_settings_is_refused(runs):
    name, folder = runs
    said = read_json(folder / "sixteenth/results.json")
    said["provenance"]["flags"]["epochs"] = 7
    write_json(folder / "sixteenth/results.json", said)
    with pytest.raises(ValueError, match=r"expected the run of the card.*120.*'epochs': 7"):
        card_parts.training(name, [], folder)


def test_what_was_not_recorded_is_said():
    name = "fpn-sixteenth-300w"
    words = card_parts.words_of(name)
    del words["steps"][0]["noted_minutes"]
    card = card_pages.card(name, {**figures(name), "training": _no_runs(name)}, words)
    assert "| not recorded |" in card and "core-hours" not in card


def _no_runs(name):
    return [{**step, "run": None} for step in card_parts.training(name, [], None)]


# ---- The commands in small


@pytest.mark.slow
def test_commands_of_a_card_make_files_of_its_kind(run_tool, tmp_path):
    """Those of the 1/16 model and those that cut it for microcontrollers."""
    name, micro = "fpn-sixteenth-300w", pretrained.MICRO_NAMES[0]
    for command in card_parts.commands_of(name):
        in_small(run_tool, command, tmp_path)
    assert network(tmp_path / "runs/sixteenth/model.keras") == network(pretrained.path(name))
    made = {"-int8.tflite": "int8", ".tflite": "float16"}
    for suffix, mode in made.items():
        file = tmp_path / f"runs/sixteenth/tflite/{mode}.tflite"
        made_here, shipped = kind(file), kind(pretrained.path(name, suffix))
        if mode == "int8":  # with bounds as wide as these no stage stays in float
            floats = [each.pop("float_layers") for each in (shipped, made_here)]
            assert floats == [["decoder1"], []]
            del shipped["operators"], made_here["operators"]
        assert made_here == shipped
    for command in card_parts.commands_of(micro):
        command = command.replace(f"--model={name}", "--model=runs/sixteenth/model.keras")
        in_small(run_tool, command, tmp_path)
    assert kind(tmp_path / f"{micro}.tflite") == kind(pretrained.path(micro, ".tflite"))


SMALL = {
    "train": ("--dataset=synthetic", "--num_synthetic=16", "--epochs=1"),
    "refine": (),  # on the faces of the run
    "convert": (
        *("--dataset=synthetic", "--num_parity=12", "--num_calibration=12"),
        "--num_representative=12",
        *("--mean_bound=80", "--nme_bound=1e6"),
    ),
    "micro": (),
}


def in_small(run_tool, command, folder):
    """A command of a card on a few painted faces, all else as it is."""
    _, tool, *arguments = shlex.split(command)
    kept = [each for each in arguments if not each.startswith(("--data_dir=", "--dataset="))]
    run_tool(f"tools/{tool}.py", *kept, *SMALL[tool], cwd=folder, timeout=600)


def network(file):
    """What a .keras file builds: class and settings of its network, and what its points are."""
    with zipfile.ZipFile(file) as archive:
        config = json.loads(archive.read("config.json"))["config"]
    generator = config["generator"]
    settings = {key: value for key, value in generator["config"].items() if key != "name"}
    settings.setdefault("dtype", "float32")  # what a file that names none builds
    same = ("scheme", "crop_scale", "beta")
    return generator["class_name"], settings, {key: config[key] for key in same}


def kind(file):
    """What two files of one kind have in common: all but numbers that come of the training."""
    about = describe(file)
    metadata = about["metadata"]
    same = ("schema", "mode", "image_size", "num_landmarks", "scheme", "input", "units", "crop")
    same += ("crop_scale", "beta", "flip_average", "float_layers")
    return {
        **{key: about[key] for key in ("signature", "inputs", "outputs", "operators")},
        **{key: metadata[key] for key in same},
        "fields": sorted(metadata),
        "calibration": sorted(metadata["calibration"]),
        "measured": sorted(metadata["measured"] or ()),
    }
