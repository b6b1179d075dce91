"""The flags by which commands name their labeled data."""

from typing import Any

from absl import flags

from keras_lapkl.data.datasets import DATASETS


def define(module: str, **splits: str) -> None:
    """Defines --dataset, --data_dir, --category, --skip_bad and a flag for each split.

    Args:
        module: `__name__` of the command, whose flags they are.
        splits: default of each split's flag, by its name.
    """
    own: Any = {"module_name": module}
    flags.DEFINE_enum("dataset", "synthetic", DATASETS, "Labeled data.", **own)
    flags.DEFINE_string("data_dir", None, "Folder of the data; not for synthetic faces.", **own)
    flags.DEFINE_string("category", None, "Which of a COCO file's categories.", **own)
    flags.DEFINE_bool("skip_bad", False, "List unreadable images instead of stopping.", **own)
    for name, default in splits.items():
        flags.DEFINE_string(name, default, "Split, or a file of stems or keypoints.", **own)


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
