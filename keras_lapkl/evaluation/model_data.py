"""The labeled data of a model: those that its record names, or others in their place."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from absl import logging

from keras_lapkl._support.types import PathLike
from keras_lapkl.data import datasets, origins
from keras_lapkl.data.crops import Crops
from keras_lapkl.tflite.localizer import Localizer, check_localizer

_SPLITS = {"training": "train", "validation": "validation"}
"""The split of each part where neither argument nor record names one."""


def load_for(
    model: Localizer,
    path: PathLike,
    part: Literal["training", "validation"],
    given: Mapping[str, Any],
    *,
    num_synthetic: int | None = None,
    most_synthetic: int | None = None,
    margin: int = 0,
    split_flag: str = "split",
) -> Crops:
    """The crops of a part of a model's data, cut by its rule.

    What is not given is taken from what was kept beside the model's file when it was trained or
    converted.

    Args:
        model: a `Localizer`.
        path: its file.
        part: whose record is taken where no split is given.
        given: those of `dataset`, `data_dir`, `split`, `category` and `skip_bad` of `datasets.load`
            that take the place of the recorded ones.
        num_synthetic: how many synthetic faces, which are meant where no data are named or known,
            and which other data refuse; None for as many as there were.
        most_synthetic: how many of them will do.
        margin: spare pixels on each side, which synthetic faces have none of.
        split_flag: the flag of the split, for messages.

    Raises:
        ValueError: no data are named, and none are known.

    Example:

    >>> load_for(model, "runs/mine/model.keras", "validation", {"data_dir": "moved"}).name
    'csv validation'
    """
    check_localizer(model)
    crop_scale = datasets.known_crop_scale(model.crop_scale)
    origin = origins.read(path)
    recorded = {} if origin is None else _recorded(origin, part, given)
    arguments = _merged(recorded, given, part, split_flag)
    is_synthetic = model.training_data is not None and model.training_data.is_synthetic
    if "dataset" not in arguments:
        if num_synthetic is None and not is_synthetic:
            raise ValueError(
                f"{path} does not say where the data are that it was trained on "
                f"({_trained_on(model)}): there is no record of them beside it. Name labeled data "
                "by --dataset and --data_dir; --dataset=synthetic is for a try, and its figures "
                "say nothing of others."
            )
        arguments["dataset"] = "synthetic"
    synthetic = arguments["dataset"] == "synthetic"
    if synthetic and not is_synthetic:
        logging.warning(
            "Synthetic faces for a model that was trained on %s: what is measured and calibrated "
            "on them says nothing of real pictures.",
            _trained_on(model),
        )
    if origin is not None and recorded and "data_dir" not in given:
        _tell_recorded(path, origin.file, arguments)
    if num_synthetic is not None:
        arguments["num_synthetic"] = num_synthetic
    elif most_synthetic is not None and synthetic:
        arguments["num_synthetic"] = most_synthetic
    crops = datasets.load(
        **arguments,
        image_size=model.image_size,
        crop_scale=crop_scale,
        margin=0 if synthetic else margin,
        scheme=model.scheme,
    )
    if origin is not None and _differ(crops, origin, part):
        logging.warning(
            "%s: labels, boxes or pictures differ from those that %s was trained on.",
            crops.name,
            path,
        )
    return crops


def _recorded(origin, part, given):
    """What of a part's record holds beside what is given."""
    recorded = dict(origin.loaded.get(part, {}))
    if given.get("dataset", recorded.get("dataset")) != recorded.get("dataset"):
        return {}
    if "split" in given and _is_elsewhere(given["split"], recorded):
        recorded.pop("data_dir", None)
    return recorded


def _merged(recorded, given, part, split_flag):
    """The arguments of `datasets.load`; without `dataset` where it is not known."""
    found = {"split": _SPLITS[part], **recorded, **given}
    if "data_dir" in given and "split" in recorded and "split" not in given:
        found["split"] = _moved(recorded, given["data_dir"], split_flag)
    return found


def _tell_recorded(path, file, arguments):
    """Says where a model's data are by its record; ValueError where they are not there."""
    dataset, folder = arguments["dataset"], arguments.get("data_dir")
    if folder and not os.path.isdir(folder):
        raise ValueError(
            f"{path} was trained on {dataset} data in {folder}, says {file}. That folder is not "
            "there: name it by --data_dir."
        )
    where = f" in {folder}" if folder else ""
    logging.info("Data by %s: %s%s, %s.", file, dataset, where, arguments["split"])


def _trained_on(model):
    return model.trained_on or "data unknown"


def _differ(crops, origin, part):
    """Whether crops of the recorded data are of other labels, boxes or pictures by now."""
    if crops.loaded != origin.loaded.get(part):
        return False
    return origin.digests.get(part) not in (None, crops.digests().total())


def _is_elsewhere(labels, recorded):
    """Whether a file of labels is neither among the recorded pictures nor beside their labels.

    Then its pictures are where the file is, though pictures of the same names may be recorded.
    """
    dataset = recorded.get("dataset")
    if dataset not in datasets.OWN or not datasets.is_own_file(dataset, labels):
        return False
    home, was = Path(os.path.abspath(labels)).parent, Path(recorded.get("split", ""))
    folder = recorded.get("data_dir")
    among = folder is not None and home.is_relative_to(os.path.abspath(folder))
    return not among and home != was.parent


def _moved(recorded, folder, split_flag):
    """The recorded split, of data that are now in this folder: labels stand in the split's file."""
    was = recorded["split"]
    if recorded["dataset"] not in datasets.OWN or not os.path.isabs(was):
        return was
    before = os.path.abspath(recorded.get("data_dir") or os.path.dirname(was))
    if os.path.abspath(folder) == before:
        return was
    below = os.path.relpath(was, before)
    if below.startswith(os.pardir):
        raise ValueError(
            f"Which labels are those of --data_dir={folder}? The model's were in {was}, not among "
            f"its pictures: name them by --{split_flag}."
        )
    return os.path.join(folder, below)
