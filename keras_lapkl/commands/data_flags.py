"""The flags by which commands name their labeled data."""

from typing import Any

from absl import flags

from keras_lapkl._support.types import PathLike
from keras_lapkl.data.datasets import dataset_names

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


def load_for(model: Any, path: PathLike, split: str, part: Any, **more: Any) -> Any:
    """The `Crops` of a split for a model: where flags name no data, those that it had.

    Args:
        model, path, part: as in `model_data.load_for`.
        split: name of the split's flag.
        more: more arguments of `model_data.load_for`.
    """
    from keras_lapkl.evaluation import model_data

    values: Any = flags.FLAGS
    given = {name: values[name].value for name in _NAMES if values[name].present}
    if values[split].present:
        given["split"] = values[split].value
    return model_data.load_for(model, path, part, given, split_flag=split, **more)
