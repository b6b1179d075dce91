"""A model's card as Markdown, of measured figures and of a human's words; nothing is measured here.

`found` is the content of docs/results/cards/NAME.json, `words` that of NAME.toml beside it.
"""

import itertools
import re
import textwrap

from card_parts import ROOT, SPLITS, parts_of, suffixes_of

from keras_lapkl import pretrained
from keras_lapkl.evaluation.scoring import NORMALIZER_MEANINGS

README = ROOT / "README.md"
MODELS_PAGE = ROOT / "docs/reference/models.md"
TRADEOFF = ROOT / "docs/tradeoff.json"
BEGIN, END = "<!-- by benchmarks/cards.py -->", "<!-- end -->"

WATTS = 12
"""A busy core's power, for the estimate of energy: Green Algorithms' value for any processor.

Lannelongue, Grealey and Inouye, Green Algorithms, Advanced Science 2021; data/latest/TDP_cpu.csv of
github.com/GreenAlgorithms/green-algorithms-tool.
"""

_WIDTH = 100
_KINDS = {
    ".keras": "`.keras`, float32",
    ".tflite": "`.tflite`, float16 weights, float32 values",
    "-int8.tflite": "`-int8.tflite`, int8, float decoding",
}
_KIND_OF_CUT = "`.tflite`, int8 throughout"
_ONE_SEED = "One run, not a mean over seeds."
_CROPS = (
    "as they are",
    "darkened to 10%",
    "turned by 20 degrees",
    "turned by 45 degrees",
    "covered, a square of 50% of the side",
)
"""Rows of `benchmarks/confidence.py` that stand on a card."""


def card(name, found, words):
    """The text of a card."""
    parts = {title: part["found"] for title, part in found["parts"].items()}
    blocks = [
        f"# {name}",
        f"<!-- By benchmarks/cards.py, from docs/results/cards/{name}.json and .toml. -->",
        _head(parts, words),
        "**Non-commercial research only**: it is trained on 300-W, and inherits its limit.",
        *_accuracy(name, parts, words),
        *_robustness(parts),
        *_faces(parts),
        *_confidence(name, parts),
        *_targets(parts),
        "**Fails** " + _lower(_filled(words["fails"])) + " Not measured: profiles, of which 300-W "
        "has few, and who is in 300-W, photos from the web of before 2013: measure on your own "
        "people before you rely on it.",
        *_made(found["training"], words),
        *_measured(name),
    ]
    return "\n\n".join(_wrapped(block) for block in blocks) + "\n"


# ---- Sections


def _head(parts, words):
    of = parts["network"]
    size = of["image_size"]
    return (
        f"{of['landmarks']} facial landmarks (ibug68) with their scales, from an RGB crop of "
        f"**{size}×{size}**. {_filled(words['what'])} {of['parameters']:,} parameters with batch "
        f"normalization folded, {of['multiply_adds'] / 1e6:.1f} million multiply-adds."
    )


def _accuracy(name, parts, words):
    suffixes, of = suffixes_of(name), parts["network"]
    keras = "" if "cut_from" not in words else f" of {words['cut_from']}"
    rows = [("file", "bytes", "validation NME %", "common NME %", f"px from Keras{keras}")]
    for suffix in suffixes:
        cut = suffix == ".tflite" and len(suffixes) == 1
        apart = of["apart"].get(suffix)
        rows.append(
            (
                _KIND_OF_CUT if cut else _KINDS[suffix],
                f"{of['bytes'][suffix]:,}",
                *(_nme(parts[f"{split}{suffix}"]) for split in SPLITS),
                "" if apart is None else f"{apart['validation']:.2f} / {apart['common']:.2f}",
            )
        )
    said, validated = parts[f"common{suffixes[0]}"], parts[f"validation{suffixes[0]}"]
    held_out = ", held out by photo," if "held out" in said["trained_on"] else ""
    text = (
        f"Trained on {_once(said['trained_on'])}. NME in percent of the "
        f"{NORMALIZER_MEANINGS[said['normalizer']]}; {validated['faces']} validation faces"
        f"{held_out} and the complete common set of {said['faces']}; in brackets the 95 % interval "
        f"over faces. {_filled(words.get('seeds', _ONE_SEED))} px: mean distance in pixels of the "
        f"{of['image_size']}, validation / common. With the mirrored face too, at twice the time, "
        f"the `.tflite` file has {_nme(parts['flip'])} on common."
    )
    crop = (
        f"**Crop**: crop scale {of['crop_scale']:g}, a square of {of['crop_scale']:g} times the "
        "longer edge of the box of the eye centers, nose tip and mouth corners, about its center. "
        "`LandmarkDetector` makes it from any face box in two passes."
    )
    return [_table(rows), text + " " + _gate(parts), crop]


def _gate(parts):
    """How the int8 file stands to the bounds that `lapkl convert` has by itself."""
    of = parts["network"]
    suffix = "-int8.tflite" if "-int8.tflite" in of["apart"] else ".tflite"
    apart = of["apart"][suffix]["validation"]
    growth = parts[f"validation{suffix}"]["nme"] / of["keras_nme"]["validation"] - 1
    within = apart <= of["bounds"]["mean"] and growth <= of["bounds"]["nme"]
    text = (
        f"The int8 file is {apart:.2f} px from Keras on validation, its error {100 * growth:+.1f} %"
    )
    bounds = f"{of['bounds']['mean']:g} px and +{100 * of['bounds']['nme']:g} %"
    where = "within" if within else "outside"
    return f"{text}: {where} `lapkl convert`'s own bounds, {bounds}."


def _robustness(parts):
    rows = [("spoiled photos", "found %", "NME %", "lost %", "NME % not lost", "in 90 % radius, %")]
    for row in parts["photos"]:
        figures = (row[key] for key in ("NME %", "lost %", "NME % not lost", "coverage %"))
        nme, lost, sure, inside = figures
        cells = _number(row["found %"], 1), _number(nme, 2), _number(lost, 1), _number(sure, 2)
        rows.append((row["photos"], *cells, _number(inside, 1)))
    lost = parts["lost"]
    flag = (
        f"`lost` is said of {lost['upright, lost %']:.1f} % of upright faces, of "
        f"{lost['far off, lost %']:.1f} % of those whose points are a quarter of the face away, of "
        f"{lost['crops beside faces, lost %']:.1f} % of crops beside faces and of "
        f"{lost['textures, lost %']:.1f} % of textures."
    )
    crops = [("crops, by the model alone", "NME %", "px", "px expected", "in 90 % radius, %")]
    by_title = {row["faces"]: row for row in parts["crops"]}
    for title in _CROPS:
        row = by_title[title]
        crops.append(
            (
                title,
                f"{row['nme']:.2f}",
                f"{row['measured']:.2f}",
                f"{row['expected']:.2f}",
                f"{100 * row['coverage']:.1f}",
            )
        )
    head = (
        "**Robustness**: the `.tflite` file on the photos of the validation faces, spoiled, faces "
        "found by BlazeFace (of the last row by a wrong box), and on crops of the common set."
    )
    return [head, _table(rows), flag, _table(crops)]


def _faces(parts):
    said = parts["common.tflite"]
    rows = [("opening, common", "slope", "r", "closed", "by the labels", "found")]
    for key, each in said["apertures"].items():
        closed = each.get("closed")
        rows.append(
            (
                key.replace("_", " "),
                f"{each['slope']:.2f}",
                _number(each["correlation"], 2),
                str(closed) if closed else "",
                f"{each['closed_true']:.2f}" if closed else "",
                f"{each['closed_found']:.2f}" if closed else "",
            )
        )
    fifths = said["cheeks"]
    text = (
        "**Fairness**: NME % on common by the brightness of the cheeks, from the darkest fifth to "
        f"the lightest: {', '.join(f'{nme:.2f}' for nme in fifths['nme'])}. The first is "
        f"{_interval(fifths['ratio'], fifths['ratio_interval'])} times the last. It is the "
        "brightness in the picture, of the light as of the skin."
    )
    head = (
        "**Eyes and mouth**: openings found against those of the labels (`docs/guides/blinks.md`)."
    )
    return [head, _table(rows), text]


def _confidence(name, parts):
    shares = [
        f"{100 * parts[f'common{suffix}']['coverage']:.1f} % (`{suffix}`)"
        for suffix in suffixes_of(name)
    ]
    tenth = 100 * parts["common.tflite"]["coverage_of_unsurest_tenth"]
    text = (
        "**Confidence**: calibrated on the validation faces. Of the common set's landmarks "
        f"{_listed(shares)} lie within the radius that is to hold 90 %; in the tenth of the faces "
        f"that the `.tflite` file is least sure of, {tenth:.1f} %. Elsewhere it may be worth less: "
        "nose tip and mouth corners of MTFL's faces, and after `lapkl calibrate` with fifty labels."
    )
    files = list(dict.fromkeys(row["model"] for row in parts["elsewhere"]))
    kinds = " / ".join(f"`{file.removeprefix(name)}.tflite`" for file in files)
    rows = [("faces of", "faces", f"in 90 % radius, %: {kinds}", "after fifty labels, %")]
    for title in dict.fromkeys(row["faces of"] for row in parts["elsewhere"]):
        those = [row for row in parts["elsewhere"] if row["faces of"] == title]
        own = (f"{row['own: within']:.1f}" for row in those)
        after = (f"{row['of 50: within']:.1f}" for row in those)
        rows.append((title, f"{those[0]['faces']:,}", " / ".join(own), " / ".join(after)))
    return [text, _table(rows)]


def _targets(parts):
    targets = list(parts["check"][0]["falls_back"])
    rows = [("file", "operators", *targets, "arena, bytes", "by vela")]
    for each in parts["check"]:
        arena, vela = each["arena"], each["vela"]
        rows.append(
            (
                f"`{each['model']}`",
                str(each["operators"]),
                *(str(each["falls_back"][target]) for target in targets),
                f"{arena['total']:,}" if arena else "–",
                f"{vela['cpu']} of {vela['cpu'] + vela['npu']}" if vela else "–",
            )
        )
    head = "**Runs**: how many operators fall back on each target of `lapkl check`"
    if said := next((each["arena"] for each in parts["check"] if each["arena"]), None):
        head += f"; the arena is TFLite Micro's smallest on a 64-bit PC (its {said['version']})"
    if said := next((each["vela"] for each in parts["check"] if each["vela"]), None):
        head += f"; by vela {said['version']} itself, what {said['accelerator']} leaves to the CPU"
    blocks = [f"{head}.", _table(rows)]
    if "micro" in parts:
        nme = parts["micro"]["nme"]
        blocks.append(
            "By TFLite Micro's reference kernels its NME on validation is "
            f"{nme['TFLite Micro']:.2f} %, by LiteRT {nme['LiteRT']:.2f} %."
        )
    return blocks


def _made(steps, words):
    rows = [("run", "seed", "epochs", "time")]
    minutes, all_known = 0.0, True
    for step, told in zip(steps, words["steps"], strict=True):
        if "seed" not in step:
            continue
        folder = re.search(r"--output_dir=(\S+)", step["command"])[1]
        run, noted = step["run"], told.get("noted_minutes")
        if run is not None:
            took = run["seconds"] / 60 * step["epochs"] / run["epochs"]
            text = f"{took:.0f} min"
        elif noted is not None:
            took, text = noted, f"{noted} min, noted by hand"
        else:
            took, text, all_known = 0.0, "not recorded", False
        minutes += took
        rows.append((f"`{folder}`", str(step["seed"]), str(step["epochs"]), text))
    blocks = ["**Made by**", commands(step["command"] for step in steps)]
    if len(rows) > 1:
        hours = minutes / 60
        energy = (
            f"In all {hours:.1f} core-hours, on one busy core of two: an estimated "
            f"{WATTS * hours / 1000:.3f} kWh at {WATTS} W a core (Green Algorithms' value for any "
            "processor), memory and cooling left out."
        )
        if not all_known:
            energy = energy.replace("In all", "What is recorded:")
        if not minutes:
            energy = "Energy: not recorded."
        blocks += [_table(rows), energy + _on_top(words)]
    else:
        blocks.append("Nothing was trained for it." + _on_top(words))
    return [*blocks, _filled(words["history"])]


def _on_top(words):
    names = [f"[{name}]({name}.md)" for name in words.get("builds_on", ())]
    return f" What {_listed(names)} took comes on top." if names else ""


def _measured(name):
    head = (
        "**Measured by** `benchmarks/cards.py`, which gives these commands, and measures px from "
        "Keras, parameters and multiply-adds itself:"
    )
    return [head, measuring(name)]


def measuring(name):
    """The commands of a card's figures, as its last block of shell."""
    parts = parts_of(name)
    suffixes = suffixes_of(name)
    lines = [
        f"for file in {' '.join(suffixes)}; do for split in {' '.join(SPLITS)}; do",
        f"    lapkl evaluate --model={name}$file --dataset=300w --data_dir=300w \\",
        "        --split=$split --output_dir=card/$split$file",
        "done; done",
    ]
    pairs = {f"{split}{suffix}" for suffix, split in itertools.product(suffixes, SPLITS)}
    others = [p.command for title, p in parts.items() if p.command and title not in pairs]
    return "\n".join(f"    {line}" for line in lines) + "\n" + commands(others)


# ---- The tables of README.md and docs/reference/models.md


def with_table(page, table):
    """The text of a page with a table between its `BEGIN` and `END`."""
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n\n{table}\n\n{END}{rest.split(END)[1]}"


def tables(figures, times):
    """The table of each page that has one.

    Args:
        figures: the parts of each model by its name.
        times: of `latencies`.
    """
    return {README: _few_columns(figures, times), MODELS_PAGE: _models(figures, times)}


def latencies(tradeoff):
    """Milliseconds by file, of the run in docs/tradeoff.json in which all took turns."""
    return {row["name"]: row["ms"] for row in tradeoff["runs"][0]["rows"]}


def _models(figures, times):
    head = ("model and its card", "crop", "training faces", "parameters", "million multiply-adds")
    rows = [(*head, "NME %", "with the mirrored face", "kB", "ms")]
    for name, *cells in _rows(figures, times):
        rows.append((f"[{name}](models/{name}.md)", *cells))
    return _table(rows)


def _few_columns(figures, times):
    """Without the models for microcontrollers; the default is bold."""
    rows = [("model", "crop", "parameters", "error %", "kB", "ms")]
    for name, crop, _, parameters, _, nme, _, size, ms in _rows(figures, times):
        if name in pretrained.NAMES:
            shown = f"**{name}**" if name == pretrained.NAMES[0] else name
            rows.append((shown, crop, parameters, nme, size, ms))
    return _table(rows)


def _rows(figures, times):
    """The cells of each model, the least work first; of two files float16 / int8."""
    for name, parts in sorted(figures.items(), key=lambda each: _cost(each[1])):
        of = parts["network"]["found"]
        suffixes = [suffix for suffix in suffixes_of(name) if suffix.endswith(".tflite")]
        size = of["image_size"]
        took = (times.get(f"{name}, {kind}") for kind in ("float16", "int8"))
        yield (
            name,
            f"{size}×{size}",
            _training_faces(parts["common.tflite"]["found"]["trained_on"]),
            f"{of['parameters']:,}",
            f"{of['multiply_adds'] / 1e6:.1f}",
            " / ".join(f"{parts[f'common{s}']['found']['nme']:.2f}" for s in suffixes),
            f"{parts['flip']['found']['nme']:.2f}",
            " / ".join(f"{of['bytes'][s] / 1e3:.0f}" for s in suffixes),
            " / ".join(f"{ms:.2f}" for ms in took if ms is not None) or "–",
        )


def _once(trained_on):
    """Without what is said twice, of the model that the model began with and of its own."""
    return "; ".join(dict.fromkeys(trained_on.split("; ")))


def _training_faces(trained_on):
    """`1,809 of 3,148`: the official training faces of a model's own words."""
    found = re.search(r"([\d,]+(?: of [\d,]+)?) official training faces", trained_on)
    return "not said" if found is None else found[1]


def _cost(parts):
    of = parts["network"]["found"]
    return of["multiply_adds"], -min(of["bytes"].values())


# ---- Text


def commands(commands):
    """Commands as an indented block, broken between words."""
    lines = []
    for command in commands:
        line = "    "
        for word in re.findall(r"(?:[^\s']|'[^']*')+", command):
            if len(line) + len(word) > _WIDTH - 2 and line.strip():
                lines.append(line.rstrip() + " \\")
                line = " " * 8
            line += word + " "
        lines.append(line.rstrip())
    return "\n".join(lines)


def _table(rows):
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], f"|{' --- |' * len(rows[0])}", *lines[1:]])


def _wrapped(block):
    if block.startswith(("    ", "|", "<!--", "#")):
        return block
    return textwrap.fill(block, _WIDTH, break_long_words=False, break_on_hyphens=False)


def _filled(text):
    return " ".join(text.split())


def _lower(text):
    return text[0].lower() + text[1:]


def _nme(said):
    return _interval(said["nme"], said["nme_interval"])


def _interval(value, ends):
    return f"{value:.2f} ({ends[0]:.2f}–{ends[1]:.2f})"


def _number(value, digits):
    return "–" if value is None else f"{value:.{digits}f}"


def _listed(words):
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))
