"""The files that `--dataset=csv` takes, to be split or put in order, by the reader that it has."""

from keras_lapkl.data.labels.found import Labels, Source, from_annotations
from keras_lapkl.data.readers.keypoint_csv import is_csv, read_csv


def matches(source: Source) -> bool:
    return not source.is_folder and is_csv(source.path)


def read(source: Source) -> Labels:
    found = read_csv(source.path, source.images, missing_ok=True)
    return from_annotations(found, source.images or source.folder, "")
