"""COCO keypoints, by the reader that `--dataset=coco` has, which says how positions are taken."""

from keras_lapkl.data.labels.found import Labels, Source, from_annotations
from keras_lapkl.data.readers.coco import read_coco


def matches(source: Source) -> bool:
    keys = {"images", "annotations", "categories"}
    return isinstance(source.json, dict) and keys <= source.json.keys()


def read(source: Source) -> Labels:
    found = read_coco(source.path, source.images, category=source.category, missing_ok=True)
    return from_annotations(found, source.images or source.folder, found.scheme.name)
