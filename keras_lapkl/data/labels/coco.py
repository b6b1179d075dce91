"""COCO keypoints, by the reader that `--dataset=coco` has, which says how positions are taken."""

import os

import numpy as np

from keras_lapkl.data.labels.found import SEEN, Labeled, Labels, Source
from keras_lapkl.data.readers.coco import read_coco


def matches(source: Source) -> bool:
    keys = {"images", "annotations", "categories"}
    return isinstance(source.json, dict) and keys <= source.json.keys()


def read(source: Source) -> Labels:
    found = read_coco(source.path, source.images, category=source.category, missing_ok=True)
    folder = source.images or source.folder
    sizes = np.zeros((len(found), 2), int) if found.sizes is None else found.sizes
    boxes = np.full((len(found), 4), np.nan) if found.boxes is None else found.boxes
    objects = [
        Labeled(
            where=found.place(i),
            picture=os.path.relpath(found.paths[i], folder),
            points={
                name: (float(found.landmarks[i, k, 0]), float(found.landmarks[i, k, 1]), SEEN)
                for k, name in enumerate(found.scheme.names)
                if found.known[i, k]
            },
            box=tuple(boxes[i].tolist()) if np.isfinite(boxes[i]).all() else None,
            size=tuple(sizes[i].tolist()) if sizes[i].all() else None,
            category=found.scheme.name,
        )
        for i in range(len(found))
    ]
    notes = found.source.notes if found.source else ()
    return Labels(objects, {found.scheme.name: found.scheme.names}, (folder,), notes=notes)
