"""How many injected faults stand in the first 3 % of an audit, over many draws of the faults.

    lapkl audit --dataset=csv --data_dir=mine --output_dir=runs/audit
    python benchmarks/audit.py --dataset=csv --data_dir=mine --audit_dir=runs/audit

For sets so small that 1 % of them is a single label, of which one draw says nothing. Each draw puts
faults into the labels and ranks all of them by the models of the audit, which were not trained on
the labels that they judge. Unlike with `lapkl audit --inject`, no faults were in what they were
trained on: three labels in a hundred.
"""

import collections
import pathlib
import sys

import numpy as np
from absl import flags

from keras_lapkl._support import app, console
from keras_lapkl._support.tensorflow import quiet_tensorflow
from keras_lapkl.commands import data_flags

data_flags.define(__name__, split="train")
_AUDIT_DIR = flags.DEFINE_string("audit_dir", None, "What lapkl audit has written.", required=True)
_DRAWS = flags.DEFINE_integer("draws", 20, "Draws of the faults.", lower_bound=1)
_OUTPUT = flags.DEFINE_string("output", None, "JSON file to write.")


def main(_):
    quiet_tensorflow()
    from keras_lapkl import load_model
    from keras_lapkl._support.files import read_json, write_json
    from keras_lapkl._support.provenance import run_provenance
    from keras_lapkl.data import datasets, duplicates, keypoints
    from keras_lapkl.evaluation import label_audit, label_faults
    from keras_lapkl.training import cross_validation

    values, folder = flags.FLAGS, pathlib.Path(_AUDIT_DIR.value)
    settings = read_json(folder / "audit.json")["settings"]
    labels = datasets.read(
        *(values.dataset, values.data_dir, values.split), category=values.category
    )
    if values.dataset in datasets.OWN:
        labels = keypoints.croppable(labels)
    names = [str(path) for path in labels.paths]
    same = duplicates.groups(names)
    fold_of = cross_validation.folds(names, settings["folds"], same)
    models = [load_model(path) for path in sorted(folder.glob("fold*/model.keras"))]
    counts = {"found": collections.Counter(), "of": collections.Counter()}
    for seed in range(_DRAWS.value):
        faulty, faults = label_faults.inject(labels, seed=seed)
        crops = datasets.cut(faulty, settings["image_size"])
        predicted = {n: np.zeros((*crops.landmarks.shape,)) for n in ("landmarks", "scale")}
        for fold, model in enumerate(models):
            found = model.predict(crops.central()[fold_of == fold], verbose=0)
            for name, each in predicted.items():
                each[fold_of == fold] = found[name]
        ranking = np.array([each.face for each in label_audit.audit(crops, predicted, same)])
        counted = label_faults.found(faults, ranking)
        for name, each in counts.items():
            each.update(counted[name])
    rows = [("fault", "found", "of", "%")]
    for kind, of in counts["of"].items():
        hits = counts["found"][kind]
        rows.append((kind, f"{hits:,}", f"{of:,}", f"{100 * hits / of:.1f}"))
    print(console.aligned(rows))
    print(f"In the first {counted['places']} of {len(crops):,}, {_DRAWS.value} draws.")
    if _OUTPUT.value:
        provenance = run_provenance()
        write_json(_OUTPUT.value, {**counts, "provenance": provenance})


if __name__ == "__main__":
    sys.exit(app.run_main(main))
