"""Measures the shipped models; writes their cards, and the tables of README and models page.

    python benchmarks/cards.py --faces_dir=faces
    python benchmarks/cards.py --faces_dir=faces --models=fpn-eighth-300w --runs_dir=runs
    python benchmarks/cards.py

--faces_dir has 300-W in `300w` and MTFL in `mtfl`. Each model's figures go to
docs/results/cards/NAME.json, a part after the other: stopped at any moment, the same command goes
on, and measures only what is not there or is of other files or another command. Without
--faces_dir nothing is measured, and the cards are written anew, of what the JSON files and the
TOML files beside them say. With --runs_dir the times of training are read from the runs, which lie
there as the commands of a card call them below `runs`. Measuring needs
`pip install 'keras_lapkl[micro,vela]'`.
"""

import pathlib
import sys
import time

import card_pages
import card_parts
from absl import flags

from keras_lapkl import pretrained
from keras_lapkl._support import app

_NAMES = (*pretrained.NAMES, *pretrained.MICRO_NAMES)

_MODELS = flags.DEFINE_list("models", list(_NAMES), "Shipped models, by commas.")
_FACES_DIR = flags.DEFINE_string("faces_dir", None, "Folder with 300w and mtfl, to measure.")
_RUNS_DIR = flags.DEFINE_string("runs_dir", None, "Folder of the runs that made the models.")


def main(_):
    from keras_lapkl._support.files import read_json, replacing, write_json
    from keras_lapkl._support.tensorflow import quiet_tensorflow

    unknown = [name for name in _MODELS.value if name not in _NAMES]
    if unknown:
        raise ValueError(f"--models: expected some of {_NAMES}. Received: {unknown}")
    quiet_tensorflow()
    faces_dir, runs_dir = map(_folder, (_FACES_DIR, _RUNS_DIR))
    if faces_dir is not None:
        for kept_as in card_parts.FACES.values():
            if not (faces_dir / kept_as).is_dir():
                raise ValueError(f"--faces_dir: expected a folder {kept_as} in {faces_dir}.")
    for name in _MODELS.value:
        path = card_parts.CARDS / f"{name}.json"
        found = read_json(path) if path.is_file() else {"parts": {}, "training": []}
        if faces_dir is not None:
            _measure(name, found, path, faces_dir)
        missing = card_parts.outdated(name, found["parts"])
        if missing:
            raise ValueError(
                f"{path}: {', '.join(missing)} of {name} are not of the files that are shipped. "
                "Measure them: give --faces_dir."
            )
        found["training"] = card_parts.training(name, found["training"], runs_dir)
        write_json(path, found)
        card = card_pages.card(name, found, card_parts.words_of(name))
        with replacing(pretrained.path(name, ".md")) as temporary:
            temporary.write_text(card)
    figures = {
        name: read_json(card_parts.CARDS / f"{name}.json")["parts"]
        for name in _NAMES
        if (card_parts.CARDS / f"{name}.json").is_file()
    }
    if len(figures) == len(_NAMES):
        times = card_pages.latencies(read_json(card_pages.TRADEOFF))
        for page, table in card_pages.tables(figures, times).items():
            text = card_pages.with_table(page.read_text(), table)
            with replacing(page) as temporary:
                temporary.write_text(text)


def _folder(flag):
    if flag.value is None:
        return None
    folder = pathlib.Path(flag.value).resolve()
    if not folder.is_dir():
        raise ValueError(f"--{flag.name}: expected a folder. Received: {flag.value}")
    return folder


def _require_extras():
    """A card tells what TFLite Micro and vela say: without them it would lose that in silence."""
    from keras_lapkl._support import extras

    extras.require("measuring for a card", "tflite_micro", "ethosu")


def _measure(name, found, path, faces_dir):
    from keras_lapkl._support.files import write_json

    titles = card_parts.outdated(name, found["parts"])
    if titles:
        _require_extras()
    wanted = card_parts.parts_of(name)
    for i, title in enumerate(titles):
        start = time.monotonic()
        entry = card_parts.measured(name, title, faces_dir)
        kept = {**found["parts"], title: entry}
        found["parts"] = {each: kept[each] for each in wanted if each in kept}
        write_json(path, found)
        seconds = time.monotonic() - start
        print(f"{name}, {i + 1} of {len(titles)}: {title}, {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    sys.exit(app.run_main(main))
