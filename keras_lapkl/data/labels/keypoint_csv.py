"""The files that `--dataset=csv` takes, to be split or put in order, by the reader that it has."""

from keras_lapkl.data.keypoints import KeypointError
from keras_lapkl.data.labels.found import Labels, Source, from_annotations
from keras_lapkl.data.readers.keypoint_csv import is_csv, read_csv
from keras_lapkl.data.tables import CONVERT


def matches(source: Source) -> bool:
    return not source.is_folder and is_csv(source.path)


def read(source: Source) -> Labels:
    try:
        found = read_csv(source.path, source.images, missing_ok=True)
    except KeypointError as error:
        if CONVERT not in str(error):
            raise
        said = str(error).replace(CONVERT, "It is of no format that is converted.")
        raise KeypointError(said) from error
    return from_annotations(found, source.images or source.folder, "")
