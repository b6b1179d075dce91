"""The flags by which commands name their labeled data."""

import os
from pathlib import Path
from typing import Any

from absl import flags, logging

from keras_lapkl._support.types import PathLike
from keras_lapkl.data.datasets import OWN, dataset_names, is_own_file

_NAMES = ("dataset", "data_dir", "category", "skip_bad")


def define(module: str, of_model: bool = False, **splits: str) -> None:
    """Defines --dataset, --data_dir, --category, --skip_bad and a flag for each split.

    Args:
        module: `__name__` of the command, whose flags they are.
        of_model: whether the data are those of a model if none are named; else synthetic faces.
        splits: default of each split's flag, by its name.
    """
    own: Any = {"module_name": module}
    dataset = None if of_model else "synthetic"
    default = "; default what the model was trained on, as its run says" if of_model else ""
    flags.DEFINE_enum("dataset", dataset, dataset_names(), f"Labeled data{default}.", **own)
    flags.DEFINE_string("data_dir", None, "Folder of the data; not for synthetic faces.", **own)
    flags.DEFINE_string("category", None, "Which of a COCO file's categories.", **own)
    flags.DEFINE_bool("skip_bad", False, "List unreadable images instead of stopping.", **own)
    for name, default in splits.items():
        flags.DEFINE_string(name, default, "Split, or a file of stems or keypoints.", **own)


def check_image_size(size: int) -> None:
    """Refuses a side of crops that no network takes, before any data is read."""
    from keras_lapkl.models.arguments import LARGEST

    most = LARGEST["image_size"]
    if not 16 <= size <= most or size % 16:
        raise ValueError(f"--image_size must be a multiple of 16, at most {most}. Received: {size}")


def load(split: str, **crop: Any) -> Any:
    """The `Crops` of a split of the data that the flags name.

    Args:
        split: name of the split's flag.
        crop: more arguments of `datasets.load`.
    """
    from keras_lapkl.data import datasets

    values: Any = flags.FLAGS
    return datasets.load(
        values.dataset,
        values.data_dir,
        values[split].value,
        category=values.category,
        skip_bad=values.skip_bad,
        **crop,
    )


def load_for(
    model: Any,
    path: PathLike,
    split: str,
    part: str,
    num_synthetic: int | None = None,
    most_synthetic: int | None = None,
    margin: int = 0,
) -> Any:
    """The `Crops` of a split for a model, cut by its rule.

    What the flags do not name is taken from what was kept beside the model's file when it was
    trained or converted.

    Args:
        model: a `Localizer`.
        path: its file.
        split: name of the split's flag.
        part: `"training"` or `"validation"`, whose record is taken where that flag is not given.
        num_synthetic: how many synthetic faces, which are meant where no data are named or known,
            and which other data refuse; None for as many as there were.
        most_synthetic: how many of them will do.
        margin: spare pixels on each side, which synthetic faces have none of.

    Raises:
        ValueError: no data are named, and none are known.
    """
    from keras_lapkl.data import datasets
    from keras_lapkl.tflite.localizer import check_localizer

    check_localizer(model)
    arguments: dict[str, Any] = {"dataset": "synthetic"}
    origin = None
    if model.crop_scale is None:
        pass  # `load` says so
    else:
        arguments, origin = _arguments(model, path, split, part, num_synthetic is not None)
    if num_synthetic is not None:
        arguments["num_synthetic"] = num_synthetic
    elif most_synthetic is not None and arguments["dataset"] == "synthetic":
        arguments["num_synthetic"] = most_synthetic
    crops = datasets.load(
        **arguments,
        image_size=model.image_size,
        crop_scale=model.crop_scale,
        margin=0 if arguments["dataset"] == "synthetic" else margin,
        scheme=model.scheme,
    )
    if origin is not None and crops.loaded == origin.loaded.get(part):
        digest = origin.digests.get(part)
        if digest not in (None, crops.digests().total()):
            logging.warning(
                "%s: labels, boxes or pictures differ from those that %s was trained on.",
                crops.name,
                path,
            )
    return crops


def _arguments(model, path, split, part, synthetic):
    """Those of `datasets.load`, by flags and the model's record; and the record."""
    from keras_lapkl.data import origins

    values: Any = flags.FLAGS
    given = {name: values[name].value for name in _NAMES if values[name].present}
    origin = origins.read(path)
    recorded = {} if origin is None else dict(origin.loaded.get(part, {}))
    if given.get("dataset", recorded.get("dataset")) != recorded.get("dataset"):
        recorded = {}
    if values[split].present and _is_elsewhere(values[split].value, recorded):
        recorded.pop("data_dir", None)
    found = {**recorded, **given}
    if values[split].present or "split" not in found:
        found["split"] = values[split].value
    elif "data_dir" in given:
        found["split"] = _moved(recorded, given["data_dir"], split)
    trained_on = model.trained_on or "data unknown"
    if "dataset" not in found and (synthetic or _is_synthetic(model)):
        found["dataset"] = "synthetic"
    if "dataset" not in found:
        raise ValueError(
            f"{path} does not say where the data are that it was trained on ({trained_on}): there "
            "is no record of them beside it. Name labeled data by --dataset and --data_dir; "
            "--dataset=synthetic is for a try, and its figures say nothing of others."
        )
    if found["dataset"] == "synthetic" and not _is_synthetic(model):
        logging.warning(
            "Synthetic faces for a model that was trained on %s: what is measured and calibrated "
            "on them says nothing of real pictures.",
            trained_on,
        )
    folder = found.get("data_dir")
    if "data_dir" not in given and folder and not os.path.isdir(folder):
        raise ValueError(
            f"{path} was trained on {found['dataset']} data in {folder}, says {origin.file}. That "  # pyright: ignore[reportOptionalMemberAccess]  it gave the folder
            "folder is not there: name it by --data_dir."
        )
    if origin is not None and recorded and "data_dir" not in given:
        where = f" in {folder}" if folder else ""
        logging.info("Data by %s: %s%s, %s.", origin.file, found["dataset"], where, found["split"])
    return found, origin


def _is_elsewhere(labels, recorded):
    """Whether a file of labels is neither among the recorded pictures nor beside their labels.

    Then its pictures are where the file is, though pictures of the same names may be recorded.
    """
    dataset = recorded.get("dataset")
    if dataset not in OWN or not is_own_file(dataset, labels):
        return False
    home, was = Path(os.path.abspath(labels)).parent, Path(recorded.get("split", ""))
    folder = recorded.get("data_dir")
    among = folder is not None and home.is_relative_to(os.path.abspath(folder))
    return not among and home != was.parent


def _moved(recorded, folder, split):
    """The recorded split, of data that are now in this folder: labels stand in the split's file."""
    was = recorded["split"]
    if recorded["dataset"] not in OWN or not os.path.isabs(was):
        return was
    before = os.path.abspath(recorded.get("data_dir") or os.path.dirname(was))
    if os.path.abspath(folder) == before:
        return was
    below = os.path.relpath(was, before)
    if below.startswith(os.pardir):
        raise ValueError(
            f"Which labels are those of --data_dir={folder}? The model's were in {was}, not among "
            f"its pictures: name them by --{split}."
        )
    return os.path.join(folder, below)


def _is_synthetic(model):
    """Whether all labeled faces that a model had were synthetic."""
    from keras_lapkl.training_data import LICENSES

    sets = model.training_data.labeled if model.training_data else ()
    return bool(sets) and all(each.license == LICENSES["synthetic"] for each in sets)
